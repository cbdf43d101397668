package verifier

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/expunge/expunge/warehouse"
)

// FileOptions say how deep CheckFile looks.
type FileOptions struct {
	// AllColumns looks for leftovers in every column and not only the key
	// columns: dictionary entries that no row refers to and bounds that no row
	// has. Such a value may be part of an erased row: its e-mail leaks as well as
	// its id.
	AllColumns bool
}

// FileReport is what CheckFile saw. Findings name columns, never values.
type FileReport struct {
	Rows      int64     `json:"rows"`
	Hits      int64     `json:"hits"` // rows that carry a key
	Surfaces  []Surface `json:"surfaces"`
	Findings  []Finding `json:"findings"`
	BytesRead int64     `json:"bytes_read"`

	bloom bloomCount
}

// CheckFile decodes every page, dictionary, bound and filter of a Parquet file
// and says on which surface an erased key is still stored. It works on any
// Parquet file. name is what findings call it.
func CheckFile(ctx context.Context, r io.ReaderAt, size int64, name string, matches []warehouse.BoundMatch, o FileOptions) (*FileReport, error) {
	f, err := newParquet(r, size)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return checkFile(ctx, f, size, name, matches, o)
}

// Rows finds the rows of a Parquet file that carry a key, by their positions:
// the verifier's re-scan of the key columns, which trusts no statistics. A file
// that cannot be read is an error.
func Rows(ctx context.Context, r io.ReaderAt, size int64, matches []warehouse.BoundMatch) (*roaring64.Bitmap, error) {
	f, err := newParquet(r, size)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	bound, err := bindFile(f, matches)
	if err != nil {
		return nil, err
	}
	return scanKeys(ctx, f, bound)
}

// fileCheck collects what is seen of one file.
type fileCheck struct {
	ctx    context.Context
	f      *parquetFile
	size   int64
	name   string
	o      FileOptions
	cols   []fileColumn
	bound  []*boundKeys
	hits   *roaring64.Bitmap    // rows with a key; nil = not scanned yet
	single map[int][]*boundKeys // leaf column → matches of one part on it
	tally  tally
	rep    *FileReport
}

func checkFile(ctx context.Context, f *parquetFile, size int64, name string, matches []warehouse.BoundMatch, o FileOptions) (*FileReport, error) {
	bound, err := bindFile(f, matches)
	if err != nil {
		return nil, err
	}
	return checkBound(ctx, f, size, name, bound, nil, o)
}

// checkBound is checkFile for a file whose keys are bound, and whose rows with
// a key may be known already.
func checkBound(ctx context.Context, f *parquetFile, size int64, name string, bound []*boundKeys, hits *roaring64.Bitmap, o FileOptions) (*FileReport, error) {
	c := &fileCheck{ctx: ctx, f: f, size: size, name: name, o: o, bound: bound, hits: hits, cols: columnsOf(f.MetaData().Schema),
		single: map[int][]*boundKeys{}, rep: &FileReport{Rows: f.NumRows()}}
	for _, b := range bound {
		if b != nil && len(b.cols) == 1 && b.cols[0] != absent {
			c.single[b.cols[0]] = append(c.single[b.cols[0]], b)
		}
	}
	for _, step := range []func() error{c.rows, c.chunks, c.tuples, c.blooms, c.footerText, c.gaps} {
		before := f.read()
		if err := step(); err != nil {
			return nil, err
		}
		c.tally.bytes(f.read() - before)
	}
	c.rep.Surfaces, c.rep.Findings = c.tally.surfaces, c.tally.findings
	c.rep.BytesRead = f.read()
	return c.rep, nil
}

// tally counts per surface.
type tally struct {
	surfaces []Surface
	findings []Finding
}

// look starts or continues a surface.
func (t *tally) look(name string, objects int64) *Surface {
	for i := range t.surfaces {
		if t.surfaces[i].Name == name {
			t.surfaces[i].Objects += objects
			t.surfaces[i].Total += objects
			return &t.surfaces[i]
		}
	}
	t.surfaces = append(t.surfaces, Surface{Name: name, Result: Pass, Objects: objects, Total: objects, CoveragePPM: full})
	return &t.surfaces[len(t.surfaces)-1]
}

// full is 100 % in parts per million.
const full = 1000000

// found adds a finding to its surface.
func (t *tally) found(f Finding) {
	s := t.look(f.Surface, 0)
	if f.Certain {
		s.Findings += f.Count
		s.Result = Residue
	} else {
		s.Possible += f.Count
	}
	if s.States == nil {
		s.States = map[string]int64{}
	}
	s.States[f.State] += f.Count
	t.findings = append(t.findings, f)
}

// bytes adds to the surface that was looked at last.
func (t *tally) bytes(n int64) {
	if len(t.surfaces) > 0 {
		t.surfaces[len(t.surfaces)-1].BytesRead += n
	}
}

// rows reads every value of the key columns.
func (c *fileCheck) rows() error {
	c.tally.look(DataPages, int64(c.f.NumRowGroups()))
	if c.hits == nil {
		var err error
		if c.hits, err = scanKeys(c.ctx, c.f, c.bound); err != nil {
			return err
		}
	}
	if c.rep.Hits = int64(c.hits.GetCardinality()); c.rep.Hits > 0 {
		c.tally.found(Finding{Surface: DataPages, Object: c.name, Count: c.rep.Hits, Certain: true, State: "rows of a key"})
	}
	return nil
}

// chunks looks at dictionaries and bounds, column by column.
func (c *fileCheck) chunks() error {
	for _, s := range []string{Dictionaries, Statistics, PageIndexes} {
		c.tally.look(s, 0)
	}
	for i, info := range c.cols {
		keys := c.single[i]
		if len(keys) == 0 && !c.o.AllColumns {
			continue
		}
		for rg := range c.f.NumRowGroups() {
			if err := c.ctx.Err(); err != nil {
				return err
			}
			if err := c.chunk(rg, i, info, keys); err != nil {
				return fmt.Errorf("column %s: %w", pathOf(info), err)
			}
		}
	}
	return nil
}

func (c *fileCheck) chunk(rg, col int, info fileColumn, keys []*boundKeys) error {
	b, err := c.footerBounds(rg, col)
	if err != nil {
		return err
	}
	stale := newOpenBounds(c.f.MetaData().Schema.Column(col).PhysicalType())
	var v pageVisitor
	if c.o.AllColumns && stale.usable {
		stale.add(b.stats)
		stale.add(b.index)
		v = pageVisitor{header: stale.add, value: stale.see, done: stale.done}
	}
	p, err := walkChunk(c.ctx, c.f, rg, col, v)
	if err != nil {
		return err
	}
	b.stats = append(b.stats, p.bounds...)
	at := Finding{Object: c.name, Column: pathOf(info), Certain: true}
	if p.dict != nil {
		c.tally.look(Dictionaries, 1)
		c.dictionary(p, keys, at)
	}
	c.tally.look(Statistics, int64(len(b.stats)))
	c.tally.look(PageIndexes, int64(len(b.index)))
	c.boundKeys(Statistics, b.stats, keys, at)
	c.boundKeys(PageIndexes, b.index, keys, at)
	if v.value == nil || stale.done() {
		return nil
	}
	return c.staleBounds(rg, col, stale, b, at)
}

// dictionary looks for entries that no value refers to. One whose value another,
// referenced entry has too tells nothing, nor does a blank: that is how wiped
// entries look.
func (c *fileCheck) dictionary(p *chunkPages, keys []*boundKeys, at Finding) {
	if p.used.IsEmpty() && len(p.dict) == 1 && isZero(p.dict[0]) {
		return // a column of nulls keeps one blank entry: there is none to copy from
	}
	var orphans [][]byte
	inUse := map[string]bool{}
	if int(p.used.GetCardinality()) < len(p.dict) {
		for i, v := range p.dict {
			if p.used.Contains(uint64(i)) {
				inUse[string(v)] = true
			} else {
				orphans = append(orphans, v)
			}
		}
	}
	at.Surface = Dictionaries
	var certain, possible int64
	for _, v := range orphans {
		switch {
		case isKey(keys, v):
			certain++
		case !inUse[string(v)] && !isBlank(v):
			possible++
		}
	}
	var referenced int64
	for _, v := range p.dict {
		if len(keys) > 0 && isKey(keys, v) {
			referenced++
		}
	}
	if certain > 0 {
		at.Count, at.State = certain, "key in an entry that no row refers to"
		c.tally.found(at)
	}
	if referenced > certain {
		at.Count, at.State = referenced-certain, "key in an entry in use"
		c.tally.found(at)
	}
	if possible > 0 && c.o.AllColumns {
		at.Count, at.Certain, at.State = possible, false, "value in an entry that no row refers to"
		c.tally.found(at)
	}
}

// isBlank says that a value is made of control characters only.
func isBlank(v []byte) bool {
	return len(v) > 0 && !slices.ContainsFunc(v, func(b byte) bool { return b == 0 || b >= ' ' })
}

func isZero(v []byte) bool { return len(bytes.Trim(v, "\x00")) == 0 }

// isKey says whether a stored value is a key of any of the matches.
func isKey(keys []*boundKeys, v []byte) bool {
	var buf [64]byte
	for _, k := range keys {
		if b, ok := k.conv[0].append(buf[:0], v); ok && k.keys.Contains(b) {
			return true
		}
	}
	return false
}
