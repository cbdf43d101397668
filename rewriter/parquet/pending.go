package parquet

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/rewriter"
)

// Pending returns the rows that the redactions would change: those of theirs
// in which a column does not yet hold what it is to be set to. A file whose
// rows were all redacted by an earlier run needs no rewriting. It reads the
// pages of the redacted columns that hold such rows, and no others.
func Pending(ctx context.Context, in Input, redact []rewriter.Redaction) (*roaring64.Bitmap, error) {
	src := &cachedInput{Input: in}
	f, err := pq.Open(ctx, src, in.Size)
	if err != nil {
		return nil, translate(err)
	}
	p, err := resolve(f.Schema, rewriter.Edit{Redact: redact})
	if err != nil {
		return nil, translate(err)
	}
	out := roaring64.New()
	for i := range p.leaves {
		for _, g := range f.RowGroups {
			leaf := &p.leaves[i]
			if len(leaf.redact) == 0 || len(leaf.rows(g.FirstRow, g.FirstRow+g.Rows)) == 0 {
				continue
			}
			s := pendingScan{ctx: ctx, leaf: leaf, first: g.FirstRow, out: out}
			if err := s.chunk(g); err != nil {
				return nil, translate(err)
			}
		}
	}
	return out, nil
}

// pendingScan looks at one column chunk.
type pendingScan struct {
	ctx   context.Context
	leaf  *leafPlan
	first int64 // file position of the row group's first row
	out   *roaring64.Bitmap
}

func (s *pendingScan) chunk(g *pq.RowGroup) error {
	c, err := g.Chunk(s.leaf.column)
	if err != nil {
		return err
	}
	o := pq.ReadOptions{}
	if o.Index, err = c.OffsetIndex(); err != nil {
		return err
	}
	rows := s.leaf.rows(g.FirstRow, g.FirstRow+g.Rows)
	if x := o.Index; x != nil {
		o.Select = []int{}
		for i, l := range x.PageLocations {
			end := g.Rows
			if i+1 < len(x.PageLocations) {
				end = x.PageLocations[i+1].FirstRowIndex
			}
			if overlaps(rows, int(l.FirstRowIndex), int(end)) {
				o.Select = append(o.Select, i)
			}
		}
	}
	r, dec := c.Pages(s.ctx, o), c.NewDecoder()
	defer r.Close()
	var data pq.PageData
	var dict *view
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if p.Header.Type == format.DictionaryPage {
			if err := dec.SetDictionary(p); err != nil {
				return err
			}
			v := viewOf(dec.Dict, nil)
			dict = &v
			continue
		}
		if err := dec.Decode(p, &data); err != nil {
			return err
		}
		v := viewOf(&data.Values, dict)
		s.page(&data, &v)
	}
}

// page walks the entries of a page and compares those of the redacted rows.
func (s *pendingScan) page(d *pq.PageData, v *view) {
	row, value, maxDef := d.FirstRow-1, 0, uint8(s.leaf.column.MaxDef)
	for e := range d.Entries {
		if d.Rep == nil || d.Rep[e] == 0 {
			row++
		}
		def := maxDef
		if d.Def != nil {
			def = d.Def[e]
		}
		var at []byte
		if def == maxDef {
			at = v.at(value)
			value++
		}
		position := uint64(s.first + row)
		for _, r := range s.leaf.redact {
			if r.rows.Contains(position) && !r.done(def, maxDef, at) {
				s.out.Add(position)
			}
		}
	}
}

// done says whether an entry holds what the redaction makes of it. A null
// above the redacted column stays, and a constant replaces values only.
func (r *redaction) done(def, maxDef uint8, value []byte) bool {
	if r.literal == nil {
		return int(def) < r.group.Def
	}
	return def < maxDef || bytes.Equal(value, r.literal)
}
