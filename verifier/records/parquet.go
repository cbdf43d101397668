package records

import (
	"context"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/verifier"
	"github.com/expunge/expunge/warehouse"
)

// twoFiles is a store that has the two contents of one object under names of
// their own, for package verifier, which knows paths only.
type twoFiles struct {
	storage.Store
	objects map[string]storage.Object
}

const oldName, newName = "old content", "new content"

// Open opens one of the two; closing it closes nothing.
func (t twoFiles) Open(_ context.Context, path string) (storage.Object, error) {
	if o, ok := t.objects[path]; ok {
		return unclosed{o}, nil
	}
	return nil, storage.NewError("open", path, nil, "", nil)
}

type unclosed struct{ storage.Object }

func (unclosed) Close() error { return nil }

// logical says a written path as package verifier knows columns: without the
// groups that only encode lists and maps. "[*]" is the element of a list, or an
// entry of a map.
func logical(path []string) warehouse.ColumnRef {
	var list, entry []string
	for i, s := range path {
		switch {
		case s == "key_value" || s == "list" && i+1 < len(path) && path[i+1] == "element":
		case s == "[*]":
			list = append(list, "element")
		default:
			list, entry = append(list, s), append(entry, s)
		}
	}
	return warehouse.ColumnRef{Path: path, Names: [][]string{list, entry}}
}

// matches are those of the rules with such columns.
func (r *Rules) matches() []warehouse.BoundMatch {
	out := make([]warehouse.BoundMatch, len(r.Matches))
	for i, m := range r.Matches {
		out[i] = warehouse.BoundMatch{Keys: m.Keys, Columns: make([]warehouse.ColumnRef, len(m.Columns))}
		for k, c := range m.Columns {
			out[i].Columns[k] = logical(c.Path)
		}
	}
	return out
}

// bound is the action with its columns as package verifier finds them: by their paths.
func (r *Rules) bound() *warehouse.BoundAction {
	if r.deletes() {
		return nil
	}
	b := &warehouse.BoundAction{Kind: r.Action.Kind}
	column := func(path string) warehouse.ColumnRef { return logical(steps(path)) }
	for _, c := range r.Action.Null {
		b.Redact = append(b.Redact, warehouse.BoundRedaction{Column: column(c)})
	}
	for c, v := range r.Action.Redact {
		b.Redact = append(b.Redact, warehouse.BoundRedaction{Column: column(c), Constant: &v})
	}
	if r.Action.Element != "" {
		b.Element = column(r.Action.Element)
	}
	return b
}

// compareParquet leaves the comparison to package verifier.
func compareParquet(ctx context.Context, old, now storage.Object, r Rules) (*verifier.RewriteReport, error) {
	s := twoFiles{objects: map[string]storage.Object{oldName: old}}
	rw := verifier.Rewrite{Old: warehouse.File{Path: oldName, Size: old.Info().Size}, Matches: r.matches(), Action: r.bound()}
	if now != nil {
		s.objects[newName] = now
		rw.New, rw.NewSize = newName, now.Info().Size
	}
	if !r.Every {
		return verifier.Survivors(ctx, s, rw)
	}
	// Every row had to go, so there can be no new content.
	rep := &verifier.RewriteReport{Equal: now == nil, ControlBefore: true}
	n, err := countParquet(ctx, old, r)
	if err != nil {
		return nil, err
	}
	rep.RowsOld, rep.Erased, rep.BytesRead = n.Rows, n.Rows, n.BytesRead
	return rep, nil
}

func countParquet(ctx context.Context, obj storage.Object, r Rules) (*Counted, error) {
	s := twoFiles{objects: map[string]storage.Object{oldName: obj}}
	rep, err := verifier.Survivors(ctx, s, verifier.Rewrite{Old: warehouse.File{Path: oldName, Size: obj.Info().Size}, Matches: r.matches(), Action: r.bound()})
	if err != nil {
		return nil, err
	}
	n := &Counted{Rows: rep.RowsOld, Hits: rep.Erased + rep.Changed, BytesRead: rep.BytesRead}
	if r.Every {
		n.Hits = n.Rows
	}
	return n, nil
}
