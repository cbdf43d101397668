// Package filetool erases from, checks and describes a single Parquet file,
// without a catalog, a job or a state bucket. It is what expunge file does, and
// it shows how the steps are used as a library: a keyset is loaded, the scanner
// finds rows, the rewriter writes the survivors, the verifier looks for what is
// left.
package filetool

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/rewriter"
	"github.com/expunge/expunge/rewriter/parquet"
	"github.com/expunge/expunge/scanner"
	"github.com/expunge/expunge/verifier"
	"github.com/expunge/expunge/warehouse"
)

// ErrKeys: the keys or columns cannot be used as given.
var ErrKeys = errors.New("keys or columns cannot be used")

// keysError is an error that is ErrKeys too, without saying so twice.
type keysError struct{ error }

func (keysError) Is(target error) bool { return target == ErrKeys }
func (e keysError) Unwrap() error      { return e.error }

// Request names a file and what to look for in it.
type Request struct {
	Input   string
	Columns []string // one a key part: "a.list.element.b", "$.a[*].b"
	Keys    string   // source of the keys: file, glob or prefix
	Format  string   // of the keys; "" = by the file's name
	Types   []string // of the key parts; none = the columns' own
}

// EraseOptions say how Erase works.
type EraseOptions struct {
	Engine  string // "", "surgical", "reference"
	Workers int    // row groups at a time; 0 = one
	NoCheck bool   // leave out the decode of rewritten pages
	Digest  bool   // compute the output's SHA-256; copied ranges then pass through the process
}

// Erased says what Erase did.
type Erased struct {
	rewriter.Result
	Keys      int
	BytesRead int64  // by the scan
	Digest    string // SHA-256 of the output in hex; "" where it was not asked for
	// Empty: every row was erased, and no file was written.
	Empty bool
}

// opened is an input with its keys bound to its columns.
type opened struct {
	object storage.Object
	file   *pq.File
	keys   *keyset.Set
	refs   []pq.Ref
	paths  [][]string // logical paths of the same columns, as the verifier knows them
}

// open resolves the columns and loads the keys. A column that the file does not
// have is an error: nothing would be found in it.
func open(ctx context.Context, store storage.Store, r Request) (*opened, error) {
	obj, err := store.Open(ctx, r.Input)
	if err != nil {
		return nil, fmt.Errorf("open input: %w", err)
	}
	o := &opened{object: obj}
	if err := o.bind(ctx, store, r); err != nil {
		obj.Close()
		return nil, err
	}
	return o, nil
}

func (o *opened) bind(ctx context.Context, store storage.Store, r Request) (err error) {
	if o.file, err = pq.Open(ctx, o.object, o.object.Info().Size); err != nil {
		return fmt.Errorf("read footer: %w", err)
	}
	if len(r.Types) > 0 && len(r.Types) != len(r.Columns) || len(r.Columns) == 0 {
		return keysError{fmt.Errorf("%d types for %d columns", len(r.Types), len(r.Columns))}
	}
	spec := keyset.Spec{Name: "keys", Sources: []string{r.Keys}, Format: r.Format}
	for i, name := range r.Columns {
		col, path, err := resolve(o.file, name)
		if err != nil {
			return err
		}
		text := ""
		if len(r.Types) > 0 {
			text = r.Types[i]
		}
		t, err := typeOf(col, text)
		if err != nil {
			return fmt.Errorf("column %s: %w", name, err)
		}
		o.refs = append(o.refs, pq.Ref{Path: col.Path})
		o.paths = append(o.paths, logicalPath(col.Node))
		spec.Schema = append(spec.Schema, keyset.Part{Name: path[len(path)-1], Type: t})
		spec.Columns = append(spec.Columns, sourceColumn(r, i, path[len(path)-1]))
	}
	if o.keys, _, err = keyset.Load(ctx, storage.Opener(store), spec); err != nil {
		return fmt.Errorf("load keys: %w", err)
	}
	return nil
}

func resolve(f *pq.File, name string) (*pq.Column, []string, error) {
	path, err := pq.ParsePath(name)
	if err != nil {
		return nil, nil, keysError{err}
	}
	col, err := f.Schema.Resolve(pq.Ref{Path: path})
	if err != nil {
		return nil, nil, keysError{fmt.Errorf("column %w", err)}
	}
	return col, path, nil
}

// logicalPath is a leaf's path without the groups that only encode lists and
// maps (LogicalTypes.md, Nested Types): a.list.item.b is a.element.b.
func logicalPath(n *pq.Node) []string {
	if n.Parent == nil {
		return nil
	}
	above := logicalPath(n.Parent)
	switch p, gp := n.Parent, n.Parent.Parent; {
	case p.IsMap(): // the repeated key_value group
		return above
	case gp != nil && gp.IsMap():
		return append(above, []string{"key", "value"}[min(slices.Index(p.Children, n), 1)])
	case p.IsList():
		if n.Column != nil || len(n.Children) != 1 || n.Name == "array" || n.Name == p.Name+"_tuple" {
			return append(above, "element") // two levels: the repeated node is the element
		}
		return above
	case gp != nil && gp.IsList() && p.Repetition == format.Repeated && len(p.Children) == 1 && p.Name != "array" && p.Name != gp.Name+"_tuple":
		return append(above, "element")
	}
	return append(above, n.Name)
}

// sourceColumn names the key source's column: by position where a format has
// positions, so that a header may say what it likes, else by the column's name.
func sourceColumn(r Request, part int, name string) string {
	if r.Format == "ndjson" {
		return name
	}
	return fmt.Sprintf("#%d", part+1)
}

// typeOf is the key type that a column is compared by.
func typeOf(col *pq.Column, text string) (keyset.Type, error) {
	if text != "" {
		t, err := keyset.ParseType(text)
		if err != nil {
			return t, keysError{err}
		}
		return t, nil
	}
	stored, err := scanner.KeyColumn(col)
	if err != nil {
		return keyset.Type{}, err
	}
	l := stored.Logical
	switch l.Kind {
	case keyset.LogicalString:
		return keyset.Type{Kind: keyset.KindString}, nil
	case keyset.LogicalUUID:
		return keyset.Type{Kind: keyset.KindUUID}, nil
	case keyset.LogicalDate:
		return keyset.Type{Kind: keyset.KindDate}, nil
	case keyset.LogicalDecimal:
		return keyset.Type{Kind: keyset.KindDecimal, Precision: l.Precision, Scale: l.Scale}, nil
	case keyset.LogicalInt:
		return keyset.Type{Kind: keyset.KindInt64}, nil
	case keyset.LogicalNone:
		switch stored.Physical {
		case keyset.PhysInt32, keyset.PhysInt64:
			return keyset.Type{Kind: keyset.KindInt64}, nil
		case keyset.PhysBytes, keyset.PhysFixed:
			// Bytes without an annotation are text in older files and anything in others.
			return keyset.Type{}, keysError{errors.New("bytes without a logical type: name the key type, string or binary")}
		}
	}
	return keyset.Type{}, fmt.Errorf("the column's type cannot be a key: %w", keyset.ErrType)
}

// Erase writes a copy of the input without the rows of the keys. The output
// must not exist. When every row goes, nothing is written.
func Erase(ctx context.Context, store storage.Store, r Request, output string, opts EraseOptions) (*Erased, error) {
	in, err := open(ctx, store, r)
	if err != nil {
		return nil, err
	}
	defer in.object.Close()
	scan, err := scanner.Parquet(ctx, in.object, scanner.Request{Match: []scanner.Match{{Keys: in.keys, Columns: in.refs}}, Options: scanner.Options{Workers: opts.Workers}})
	if err != nil {
		return nil, err
	}
	dst, err := store.Create(ctx, output, storage.CreateOptions{IfNotExists: true})
	if err != nil {
		return nil, fmt.Errorf("create output: %w", err)
	}
	res, err := parquet.Rewrite(ctx, in.object, dst, rewriter.Edit{Erase: scan.Hits},
		rewriter.Options{Workers: opts.Workers, Engine: opts.Engine, SkipCheck: opts.NoCheck, SkipDigest: !opts.Digest})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("rewrite: %w", err), dst.Abort())
	}
	out := &Erased{Result: *res, Keys: in.keys.Len(), BytesRead: scan.BytesRead}
	if opts.Digest {
		out.Digest = hex.EncodeToString(res.SHA256[:])
	}
	if res.RowsIn > 0 && res.RowsOut == 0 {
		out.Empty, out.Digest = true, ""
		return out, dst.Abort()
	}
	if err := dst.Close(); err != nil {
		return nil, errors.Join(fmt.Errorf("write output: %w", err), dst.Abort())
	}
	return out, nil
}

// Check looks for the keys on every surface of the file, with the verifier's
// own reader. Findings name columns, never values.
func Check(ctx context.Context, store storage.Store, r Request) (*verifier.FileReport, error) {
	in, err := open(ctx, store, r)
	if err != nil {
		return nil, err
	}
	defer in.object.Close()
	bound := warehouse.BoundMatch{Keys: in.keys}
	for _, path := range in.paths {
		bound.Columns = append(bound.Columns, warehouse.ColumnRef{Path: path})
	}
	return verifier.CheckFile(ctx, in.object, in.object.Info().Size, r.Input, []warehouse.BoundMatch{bound}, verifier.FileOptions{AllColumns: true})
}
