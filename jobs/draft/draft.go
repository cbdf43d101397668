// Package draft writes a first job file from a catalog, for a person to correct.
package draft

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	icebergo "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/internal/storage/icebergio"
	"github.com/expunge/expunge/warehouse"
	"github.com/expunge/expunge/warehouse/iceberg"
)

// Request says what to draft from.
type Request struct {
	Name    string        // of the job
	Catalog string        // its name in the job
	Props   configs.Props // its properties
	Tables  []string      // patterns below the catalog, "sales.*"; none = all
	Column  string        // the key column, by path or last name; "" = one that looks like a person's id
	Keys    string        // the key source to name; "" = a placeholder
}

// Table is a table that was looked at.
type Table struct {
	Name   string // catalog.namespace.table
	Column string // "" = none was found
	Type   string // key type of the column
	Nested bool   // the column lies in a list or map
	Reason string // why the draft leaves it out
}

// Draft is a job file's text and what it was made from.
type Draft struct {
	YAML   string
	Tables []Table
}

// guesses are names of columns that identify a person, the likeliest first.
var guesses = []string{"user_id", "userid", "customer_id", "customerid", "person_id", "subject_id", "account_id", "member_id", "client_id",
	"user.id", "customer.id", "person.id", "account.id", "uid", "email", "email_address"}

// New reads the catalog. It writes nothing.
func New(ctx context.Context, r Request) (*Draft, error) {
	props, err := r.Props.Reveal()
	if err != nil {
		return nil, err
	}
	cat, err := iceberg.OpenCatalog(ctx, r.Catalog, props)
	if err != nil {
		return nil, err
	}
	defer cat.Close()
	idents, err := resolve(ctx, cat, r)
	if err != nil {
		return nil, err
	}
	ctx = icebergio.With(ctx, storage.WithRetry(storage.New(props), storage.DefaultRetry))
	d := &Draft{}
	for _, id := range idents {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		t := Table{Name: r.Catalog + "." + strings.Join(id, ".")}
		tbl, err := cat.LoadTable(ctx, id)
		if err != nil {
			t.Reason = "it cannot be read as a table"
		} else {
			look(&t, tbl.Schema(), r.Column)
		}
		d.Tables = append(d.Tables, t)
	}
	kind := agree(d.Tables)
	d.YAML = write(r, d.Tables, kind)
	return d, nil
}

// resolve lists the tables of the patterns, two and three levels deep by default.
func resolve(ctx context.Context, cat *iceberg.Catalog, r Request) ([]table.Identifier, error) {
	patterns := r.Tables
	if len(patterns) == 0 {
		patterns = []string{"*.*", "*.*.*"}
	}
	var all []table.Identifier
	var missing error
	for _, p := range patterns {
		ids, err := cat.Resolve(ctx, r.Catalog+"."+p)
		if errors.Is(err, warehouse.ErrNotFound) && len(r.Tables) == 0 {
			missing = err
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, ids...)
	}
	if len(all) == 0 {
		return nil, missing
	}
	slices.SortFunc(all, func(a, b table.Identifier) int { return slices.Compare(a, b) })
	return slices.CompactFunc(all, func(a, b table.Identifier) bool { return slices.Equal(a, b) }), nil
}

// leaf is a column that could be a key.
type leaf struct {
	path, kind string
	nested     bool
}

// leaves lists the columns of key types.
func leaves(prefix string, fields []icebergo.NestedField, nested bool) []leaf {
	var out []leaf
	for _, f := range fields {
		path := prefix + f.Name
		switch t := f.Type.(type) {
		case *icebergo.StructType:
			out = append(out, leaves(path+".", t.FieldList, nested)...)
		case *icebergo.ListType:
			out = append(out, leaves(path+".", []icebergo.NestedField{t.ElementField()}, true)...)
		case *icebergo.MapType:
			out = append(out, leaves(path+".", []icebergo.NestedField{t.KeyField(), t.ValueField()}, true)...)
		case icebergo.Int32Type, icebergo.Int64Type:
			out = append(out, leaf{path, "int64", nested})
		case icebergo.StringType:
			out = append(out, leaf{path, "string", nested})
		case icebergo.UUIDType:
			out = append(out, leaf{path, "uuid", nested})
		}
	}
	return out
}

// look finds the key column of a table.
func look(t *Table, schema *icebergo.Schema, wanted string) {
	names := guesses
	if wanted != "" {
		names = []string{strings.ToLower(wanted)}
	}
	all := leaves("", schema.Fields(), false)
	for _, name := range names {
		for _, l := range all {
			path := strings.ToLower(strings.ReplaceAll(l.path, ".element", ""))
			if path == name || strings.HasSuffix(path, "."+name) || strings.ToLower(l.path) == name {
				t.Column, t.Type, t.Nested = l.path, l.kind, l.nested
				return
			}
		}
	}
	t.Reason = "no column looks like a person's id"
	if wanted != "" {
		t.Reason = "it has no such column"
	}
}

// agree chooses the key type of most tables; the others are left out.
func agree(tables []Table) string {
	count := map[string]int{}
	for _, t := range tables {
		if t.Column != "" {
			count[t.Type]++
		}
	}
	best := "int64"
	for _, kind := range slices.Sorted(maps.Keys(count)) {
		if count[kind] > count[best] {
			best = kind
		}
	}
	for i := range tables {
		if t := &tables[i]; t.Column != "" && t.Type != best {
			t.Reason = fmt.Sprintf("its column %s is of type %s, which needs a keyset of its own", t.Column, t.Type)
			t.Column = ""
		}
	}
	return best
}

// write makes the job file's text.
func write(r Request, tables []Table, kind string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	keys := r.Keys
	if keys == "" {
		keys = "keys.csv"
	}
	line("# A draft. Read every line; then: expunge check, expunge plan, expunge run --dry-run.")
	line("version: 1")
	line("name: %s", r.Name)
	line("policy: {controller: \"\", id: \"\", basis: GDPR Art. 17, deadline: 30d}   # fill in: it is part of every manifest")
	line("state: expunge-state                # a folder, or a bucket such as s3://acme-privacy/expunge")
	line("grace: 7d                           # how long a run can be undone")
	line("limits: {share: 1%%}                 # of one table's rows; a run that would pass it commits nothing")
	line("catalogs:")
	line("  %s:", r.Catalog)
	props := r.Props.Written(r.Catalog)
	for _, name := range slices.Sorted(maps.Keys(props)) {
		line("    %s: %s", name, strconv.Quote(props[name]))
	}
	line("keysets:")
	line("  users:")
	line("    source: %s", strconv.Quote(keys))
	line("    key: {user_id: %s}", kind)
	line("    # holds: [holds.csv]              # keys under legal hold are never erased")
	line("targets:")
	for _, t := range tables {
		switch {
		case t.Column == "":
			line("  # %s: %s", t.Name, t.Reason)
		case t.Nested:
			line("  - {table: %s, match: [{users: %s}], action: delete}   # the whole row goes; or {remove_element: …}", strconv.Quote(t.Name), strconv.Quote(t.Column))
		default:
			line("  - {table: %s, match: [{users: %s}], action: delete}", strconv.Quote(t.Name), strconv.Quote(t.Column))
		}
	}
	line("# What people must know is not covered: backups, exports, other systems.")
	line("# excluded:")
	line("#   - {what: database backups, reason: rolling, owner: dba, gone_by: 2027-01-31}")
	return b.String()
}
