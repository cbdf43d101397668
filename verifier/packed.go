package verifier

import (
	"context"
	"fmt"
	"slices"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/warehouse"
)

// Pack is a new file that replaces several old ones: it holds their survivors,
// file by file, in this order.
type Pack struct {
	Olds    []warehouse.File
	New     string                 // path
	Action  *warehouse.BoundAction // nil = delete
	Matches []warehouse.BoundMatch
	// Lineage: the new file carries _row_id and _last_updated_sequence_number as columns.
	Lineage bool
}

// PackReport is the result of comparing the files of a pack with their
// replacement. Files has one report an old file; what concerns the new file is
// in each of them the same.
type PackReport struct {
	Files      []RewriteReport
	Equal      bool
	Difference string
	BytesRead  int64
}

// Packed compares old files less erased and already deleted rows with the one
// file that replaces them: every column, in order, in bounded memory.
func Packed(ctx context.Context, store storage.Store, p Pack) (*PackReport, error) {
	fresh, err := openParquet(ctx, store, p.New)
	if err != nil {
		return nil, fmt.Errorf("new file: %w", err)
	}
	defer fresh.Close()
	k := packing{ctx: ctx, lineage: p.Lineage, new: fresh}
	defer k.close()
	for i, f := range p.Olds {
		if err := k.open(store, p, f); err != nil {
			return nil, fmt.Errorf("file %d: %w", i, err)
		}
	}
	if err := k.compare(); err != nil {
		return nil, err
	}
	return k.report(), nil
}

type packing struct {
	ctx     context.Context
	lineage bool
	new     *parquetFile
	files   []*comparison
}

func (k *packing) close() {
	for _, c := range k.files {
		c.old.Close()
	}
}

func (k *packing) open(store storage.Store, p Pack, f warehouse.File) error {
	old, err := openParquet(k.ctx, store, f.Path)
	if err != nil {
		return fmt.Errorf("old file: %w", err)
	}
	c := &comparison{ctx: k.ctx, old: old, new: k.new, rep: &RewriteReport{RowsOld: old.NumRows()},
		r: &Rewrite{Old: f, New: p.New, Action: p.Action, Lineage: p.Lineage, Matches: p.Matches}}
	k.files = append(k.files, c)
	if err := c.excluded(store); err != nil {
		return err
	}
	c.rep.RowsNew = c.rep.RowsOld - int64(c.gone.GetCardinality())
	if c.rep.Changed > 0 {
		c.differ("a file whose rows change cannot be packed")
	}
	if len(k.files) > 1 {
		c.rep.ControlAfter = k.files[0].rep.ControlAfter
		return nil
	}
	return c.controlAfter()
}

// difference is the first one that any file has.
func (k *packing) difference() string {
	for _, c := range k.files {
		if c.rep.Difference != "" {
			return c.rep.Difference
		}
	}
	return ""
}

func (k *packing) compare() error {
	var rows int64
	for _, c := range k.files {
		rows += c.rep.RowsNew
		c.footers()
	}
	first := k.files[0]
	if rows != k.new.NumRows() {
		first.differ("%d rows, want %d survivors", k.new.NumRows(), rows)
	}
	if k.difference() != "" {
		return nil
	}
	newCols := columnsOf(k.new.MetaData().Schema)
	var lineage []int
	if k.lineage {
		lineage = []int{idRowID, idLastSequence}
	}
	other := func(f fileColumn) bool { return slices.Contains(lineage, f.id) }
	is := slices.DeleteFunc(slices.Clone(newCols), other)
	was := make([][]fileColumn, len(k.files))
	for i, c := range k.files {
		was[i] = slices.DeleteFunc(columnsOf(c.old.MetaData().Schema), other)
	}
	for n, info := range is {
		if err := k.column(was, n, info); err != nil || k.difference() != "" {
			return err
		}
	}
	for _, id := range lineage {
		if err := k.lineageColumn(newCols, id); err != nil || k.difference() != "" {
			return err
		}
	}
	return nil
}

func (k *packing) column(was [][]fileColumn, n int, info fileColumn) error {
	b, err := newSurvivorStream(k.ctx, k.new, info.index, nil)
	if err != nil {
		return fmt.Errorf("new file: %w", err)
	}
	defer b.s.close()
	for i, c := range k.files {
		if err := c.follow(was[i][n], b, i == len(k.files)-1); err != nil {
			return fmt.Errorf("file %d: %w", i, err)
		}
		if c.rep.Difference != "" {
			return nil
		}
		c.rep.Columns++
	}
	return nil
}

func (k *packing) lineageColumn(newCols []fileColumn, id int) error {
	j := resolve(newCols, warehouse.ColumnRef{FieldID: id})
	if j == absent {
		k.files[0].differ("the new file lacks row lineage column %d", id)
		return nil
	}
	fresh := newPairs(k.new.leaf(k.ctx, j))
	defer fresh.l.close()
	for i, c := range k.files {
		if err := c.followLineage(fresh, columnsOf(c.old.MetaData().Schema), id); err != nil {
			return fmt.Errorf("file %d: %w", i, err)
		}
		if c.rep.Difference != "" {
			return nil
		}
	}
	return nil
}

func (k *packing) report() *PackReport {
	out := &PackReport{Difference: k.difference(), BytesRead: k.new.read()}
	out.Equal = out.Difference == ""
	for _, c := range k.files {
		c.rep.Equal, c.rep.BytesRead = out.Equal, c.old.read()
		out.BytesRead += c.rep.BytesRead
		out.Files = append(out.Files, *c.rep)
	}
	return out
}
