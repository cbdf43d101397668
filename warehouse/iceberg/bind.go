package iceberg

import (
	"context"
	"errors"
	"fmt"
	"strings"

	icebergo "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/warehouse"
)

// Bind resolves the selection's columns against the table's current schema.
// Errors name the column and wrap warehouse.ErrNotFound or warehouse.ErrType.
func (t *Table) Bind(ctx context.Context, sel warehouse.Selection) ([]warehouse.BoundMatch, error) {
	tbl, err := t.load(ctx)
	if err != nil {
		return nil, err
	}
	bound, err := t.bind(tbl.Metadata(), sel)
	if err != nil {
		return nil, err
	}
	out := make([]warehouse.BoundMatch, len(bound))
	for i, b := range bound {
		out[i] = b.BoundMatch
	}
	return out, nil
}

// binding is a match with what pruning needs to know of its columns.
type binding struct {
	warehouse.BoundMatch
	fields  []field
	matcher *keyset.Matcher
}

func (t *Table) bind(meta table.Metadata, sel warehouse.Selection) ([]binding, error) {
	if len(sel.Match) == 0 && sel.Compact == nil {
		return nil, fmt.Errorf("table %s: the selection has no match: %w", t.name, warehouse.ErrNotFound)
	}
	out := make([]binding, 0, len(sel.Match))
	for _, m := range sel.Match {
		b, err := bindMatch(meta, m)
		if err != nil {
			return nil, fmt.Errorf("table %s: match %s: %w", t.name, m.Keyset, err)
		}
		out = append(out, b)
	}
	return out, nil
}

func bindMatch(meta table.Metadata, m warehouse.Match) (binding, error) {
	b := binding{BoundMatch: warehouse.BoundMatch{Keys: m.Keys}}
	if m.Keys == nil {
		return b, fmt.Errorf("keyset is not loaded: %w", warehouse.ErrNotFound)
	}
	parts := m.Keys.Schema()
	if len(parts) != len(m.Columns) {
		return b, fmt.Errorf("a key has %d parts but %d columns are named: %w", len(parts), len(m.Columns), warehouse.ErrType)
	}
	cols := make([]keyset.Column, len(parts))
	for i, path := range m.Columns {
		f, err := locate(meta, path)
		if err != nil {
			return b, err
		}
		if cols[i], err = storedAs(f.leaf().Type); err != nil {
			return b, typeError(path, f, parts[i], err)
		}
		b.fields = append(b.fields, f)
		b.Columns = append(b.Columns, warehouse.ColumnRef{
			FieldID:  f.leaf().ID,
			Path:     f.path,
			Names:    mappedPaths(meta.NameMapping(), f),
			Repeated: f.repeated(),
		})
	}
	if err := sameList(m.Columns, b.fields); err != nil {
		return b, err
	}
	var err error
	if b.matcher, err = keyset.NewMatcher(m.Keys, cols); err != nil {
		return b, columnTypeError(m, b.fields, err)
	}
	return b, bindDefaults(m, b)
}

func locate(meta table.Metadata, path string) (field, error) {
	f, err := findField(meta.CurrentSchema(), path)
	if err != nil {
		if hint := formerName(meta.Schemas(), meta.CurrentSchema(), path); hint != "" {
			return f, fmt.Errorf("column %q: %s: %w", path, hint, warehouse.ErrNotFound)
		}
	}
	return f, err
}

// sameList refuses a composite key whose columns lie in different lists or
// maps: which elements belong together is not defined then.
func sameList(paths []string, fields []field) error {
	if len(fields) < 2 {
		return nil
	}
	first := listOf(fields[0])
	for i, f := range fields[1:] {
		if listOf(f) != first {
			return fmt.Errorf("columns %q and %q are not repeated together: %w", paths[0], paths[i+1], warehouse.ErrType)
		}
	}
	return nil
}

// listOf is the id of the innermost list or map that a path leads through, 0 = none.
func listOf(f field) int {
	id := 0
	for _, n := range f.chain[:len(f.chain)-1] {
		switch n.Type.(type) {
		case *icebergo.ListType, *icebergo.MapType:
			id = n.ID
		}
	}
	return id
}

func typeError(path string, f field, part keyset.Part, err error) error {
	return fmt.Errorf("column %q is %s, key part %q is %s: %w: %w", path, f.leaf().Type, part.Name, part.Type, err, warehouse.ErrType)
}

// columnTypeError finds out which of the columns the matcher refused.
func columnTypeError(m warehouse.Match, fields []field, err error) error {
	if !errors.Is(err, keyset.ErrType) {
		return err
	}
	var all []string
	for i, part := range m.Keys.Schema() {
		all = append(all, fmt.Sprintf("column %q is %s, key part %q is %s", m.Columns[i], fields[i].leaf().Type, part.Name, part.Type))
	}
	return fmt.Errorf("%s: %w: %w", strings.Join(all, "; "), err, warehouse.ErrType)
}
