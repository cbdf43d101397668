package jobs

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/iceberg-go"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/warehouse"
	icebergtables "github.com/expunge/expunge/warehouse/iceberg"
)

// DraftRequest asks for a job file over a catalog's tables.
type DraftRequest struct {
	Name    string
	Catalog string // the catalog's name in the job
	Props   configs.Props
	Tables  []string // patterns below the catalog; none = all
	Column  string   // key column to look for; "" = guess
	Keys    string   // source of the keys
}

// DraftTable is a table that a draft names or leaves out.
type DraftTable struct {
	Table, Column, Type string
	Reason              string // why it was left out
}

// keyNames are column names that usually hold a person's id, likeliest first.
var keyNames = []string{"user_id", "customer_id", "account_id", "person_id", "subject_id", "member_id", "client_id", "userid", "customerid", "uid", "email", "e_mail", "mail"}

// keyGroups are structs whose "id" is a person's.
var keyGroups = []string{"user", "customer", "account", "person", "member", "client", "subject"}

// Draft reads a catalog and drafts a job file for people to finish: which
// tables have a column that looks like a person's key. It writes nothing.
func Draft(ctx context.Context, r DraftRequest) (yaml string, tables []DraftTable, err error) {
	props, err := r.Props.Reveal()
	if err != nil {
		return "", nil, fmt.Errorf("catalog %s: %w", r.Catalog, err)
	}
	cat, err := icebergtables.OpenCatalog(ctx, r.Catalog, props)
	if err != nil {
		return "", nil, err
	}
	defer cat.Close()
	patterns := r.Tables
	if len(patterns) == 0 {
		patterns = []string{"*.*"}
	}
	for _, p := range patterns {
		idents, err := cat.Resolve(ctx, r.Catalog+"."+p)
		if err != nil {
			return "", nil, err
		}
		for _, id := range idents {
			d := DraftTable{Table: r.Catalog + "." + strings.Join(id, ".")}
			tbl, err := cat.LoadTable(ctx, id)
			if err != nil {
				d.Reason = "cannot be loaded"
			} else if d.Column, d.Type = guessKey(tbl.Schema(), r.Column); d.Column == "" {
				d.Reason = "no column looks like a key"
			}
			tables = append(tables, d)
		}
	}
	if !slices.ContainsFunc(tables, func(d DraftTable) bool { return d.Column != "" }) {
		return "", tables, fmt.Errorf("no table has a column to match; name one with --column: %w", warehouse.ErrNotFound)
	}
	return draftYAML(r, tables), tables, nil
}

// candidate is a leaf that may hold keys; a lower rank is likelier.
type candidate struct {
	path, typ string
	rank      int
}

// guessKey returns the likeliest key column and its key type.
func guessKey(s *iceberg.Schema, want string) (path, typ string) {
	var found []candidate
	collectKeys(s.Fields(), "", want, &found)
	if len(found) == 0 {
		return "", ""
	}
	best := slices.MinFunc(found, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(len(a.path), len(b.path)), cmp.Compare(a.path, b.path))
	})
	return best.path, best.typ
}

func collectKeys(fields []iceberg.NestedField, prefix, want string, out *[]candidate) {
	for _, f := range fields {
		path := prefix + f.Name
		switch t := f.Type.(type) {
		case *iceberg.StructType:
			collectKeys(t.FieldList, path+".", want, out)
		case *iceberg.ListType:
			collectKeys([]iceberg.NestedField{t.ElementField()}, path+".", want, out)
		case *iceberg.MapType:
			collectKeys([]iceberg.NestedField{t.KeyField(), t.ValueField()}, path+".", want, out)
		default:
			if typ, ok := keyTypeOf(t); ok {
				if rank, ok := keyRank(path, f.Name, want); ok {
					*out = append(*out, candidate{path, typ, rank})
				}
			}
		}
	}
}

func keyRank(path, name, want string) (int, bool) {
	if want != "" {
		return 0, path == want || name == want
	}
	low := strings.ToLower(name)
	if i := slices.Index(keyNames, low); i >= 0 {
		return i, true
	}
	parts := strings.Split(strings.ToLower(path), ".")
	if low == "id" && len(parts) > 1 && slices.Contains(keyGroups, parts[len(parts)-2]) {
		return 1, true
	}
	return 0, false
}

func keyTypeOf(t iceberg.Type) (string, bool) {
	switch t := t.(type) {
	case iceberg.Int32Type, iceberg.Int64Type:
		return "int64", true
	case iceberg.StringType:
		return "string", true
	case iceberg.UUIDType:
		return "uuid", true
	case iceberg.BinaryType, iceberg.FixedType:
		return "binary", true
	case iceberg.DecimalType:
		return fmt.Sprintf("decimal(%d,%d)", t.Precision(), t.Scale()), true
	}
	return "", false
}

// draftYAML writes the job: one keyset a key type, since one source file may
// hold the id and the address of a person side by side.
func draftYAML(r DraftRequest, tables []DraftTable) string {
	var b strings.Builder
	keys := r.Keys
	if keys == "" {
		keys = "keys.csv"
	}
	fmt.Fprintf(&b, "# Drafted from catalog %s. Read every line before you run it: expunge check, then expunge plan.\nversion: 1\nname: %s\n", r.Catalog, r.Name)
	b.WriteString("policy: {controller: \"\", basis: GDPR Art. 17}\nstate: expunge-state\ngrace: 7d\nlimits: {share: 1%}\n")
	fmt.Fprintf(&b, "catalogs:\n  %s:\n", r.Catalog)
	for _, k := range sortedKeys(r.Props) {
		v := r.Props[k]
		text := v.String()
		if v.Sensitive() {
			text = "${env:" + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(r.Catalog+"_"+k)) + "}"
		}
		fmt.Fprintf(&b, "    %s: %q\n", k, text)
	}
	sets := map[string]string{}
	for _, t := range tables {
		if t.Column != "" {
			sets[setName(t)] = t.Type
		}
	}
	b.WriteString("keysets:\n")
	for _, name := range sortedKeys(sets) {
		fmt.Fprintf(&b, "  %s: {source: %q, key: {%s: %q}}\n", name, keys, name, sets[name])
	}
	b.WriteString("targets:\n")
	for _, t := range tables {
		if t.Column == "" {
			fmt.Fprintf(&b, "  # %s: %s\n", t.Table, t.Reason)
			continue
		}
		fmt.Fprintf(&b, "  - {table: %q, match: [{%s: %q}], action: delete}\n", t.Table, setName(t), t.Column)
	}
	return b.String()
}

// setName names a keyset after the last parts of a column: customer.id is customer_id.
func setName(t DraftTable) string {
	parts := strings.Split(t.Column, ".")
	name := parts[len(parts)-1]
	if strings.EqualFold(name, "id") && len(parts) > 1 {
		name = parts[len(parts)-2] + "_" + name
	}
	return strings.ToLower(name) + "_" + strings.NewReplacer("(", "_", ")", "", ",", "_").Replace(t.Type)
}
