package parquet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/rewriter"
)

// span is a half-open range [from, to) of rows, level entries or values.
type span struct{ from, to int }

func (s span) len() int { return s.to - s.from }

// plan is an edit resolved against a file's schema.
type plan struct {
	erase   *roaring64.Bitmap
	leaves  []leafPlan // one a leaf column
	lineage *lineage
	wipe    bool // rewriter.Edit.Wipe
}

// leafPlan is what happens to one leaf column beside erasure.
type leafPlan struct {
	column  *pq.Column
	redact  []redaction
	removal []removal
}

// redaction sets group (an optional node, the leaf or one above it) to null,
// or the leaf's present values to a literal: PLAIN bytes without a length.
type redaction struct {
	rows    *roaring64.Bitmap
	group   *pq.Node
	literal []byte // nil = null
}

// removal takes elements of a repeated node out.
type removal struct {
	elements *roaring64.Bitmap
	list     *pq.Node // the repeated node
}

func resolve(s *pq.Schema, e rewriter.Edit) (*plan, error) {
	p := &plan{erase: e.Erase, leaves: make([]leafPlan, len(s.Columns)), wipe: e.Wipe, lineage: (*lineage)(e.Lineage)}
	if p.erase == nil {
		p.erase = roaring64.New()
	}
	for i, n := range s.Columns {
		p.leaves[i].column = n
	}
	for _, r := range e.Redact {
		if err := p.addRedaction(s, r); err != nil {
			return nil, fmt.Errorf("redact: %w", err)
		}
	}
	for _, r := range e.Remove {
		if err := p.addRemoval(s, r); err != nil {
			return nil, fmt.Errorf("remove elements: %w", err)
		}
	}
	return p, nil
}

// Check says whether the file's schema takes an edit, before its rows are
// known: rewriter.ErrColumn where it lacks a column, ErrConstant or an
// UnsupportedError where the edit would be refused.
func Check(ctx context.Context, in Input, e rewriter.Edit) error {
	e.Redact = slices.Clone(e.Redact)
	for i := range e.Redact {
		e.Redact[i].Rows = roaring64.BitmapOf(0) // without a row nothing would be refused
	}
	f, err := pq.Open(ctx, &cachedInput{Input: in}, in.Size)
	if err == nil {
		_, err = resolve(f.Schema, e)
	}
	return translate(err)
}

func (p *plan) addRedaction(s *pq.Schema, r rewriter.Redaction) error {
	n, err := find(s, r.Column)
	if err != nil {
		if r.Column.AllowMissing && errors.Is(err, rewriter.ErrColumn) {
			return nil
		}
		return err
	}
	if r.Rows == nil || r.Rows.IsEmpty() {
		return nil
	}
	red := redaction{rows: r.Rows, group: n}
	if r.Constant != nil {
		if n.Column == nil {
			return fmt.Errorf("column %s: %w", nodeName(n), &rewriter.UnsupportedError{What: "constant for a group"})
		}
		if red.literal, err = parseConstant(n.Column, *r.Constant); err != nil {
			return fmt.Errorf("column %s: %w", nodeName(n), err)
		}
	} else if n.Repetition != format.Optional {
		return fmt.Errorf("column %s: %w", nodeName(n), &rewriter.UnsupportedError{What: "null in a column that is not optional"})
	}
	for i := range p.leaves {
		if under(p.leaves[i].column.Node, n) {
			p.leaves[i].redact = append(p.leaves[i].redact, red)
		}
	}
	return nil
}

func (p *plan) addRemoval(s *pq.Schema, r rewriter.Removal) error {
	n, err := find(s, r.Column)
	if err != nil {
		if r.Column.AllowMissing && errors.Is(err, rewriter.ErrColumn) {
			return nil
		}
		return err
	}
	list := n.RepeatedNode()
	if list == nil {
		return fmt.Errorf("column %s: %w", nodeName(n), &rewriter.UnsupportedError{What: "element removal from a column that is no list or map"})
	}
	if r.Elements == nil || r.Elements.IsEmpty() {
		return nil
	}
	for i := range p.leaves {
		if under(p.leaves[i].column.Node, list) {
			p.leaves[i].removal = append(p.leaves[i].removal, removal{elements: r.Elements, list: list})
		}
	}
	return nil
}

// spansIn returns the rows of [from, to) that are in the set, as spans relative to from.
func spansIn(set *roaring64.Bitmap, from, to int64) []span {
	if set == nil || set.IsEmpty() {
		return nil
	}
	var out []span
	it := set.Iterator()
	it.AdvanceIfNeeded(uint64(from))
	for it.HasNext() {
		v := it.Next()
		if v >= uint64(to) {
			break
		}
		r := int(int64(v) - from)
		if n := len(out); n > 0 && out[n-1].to == r {
			out[n-1].to++
		} else {
			out = append(out, span{r, r + 1})
		}
	}
	return out
}

// mergeSpans unites two sorted lists.
func mergeSpans(a, b []span) []span {
	if len(a) == 0 {
		return b
	}
	if len(b) == 0 {
		return a
	}
	all := append(append(make([]span, 0, len(a)+len(b)), a...), b...)
	sort.Slice(all, func(i, j int) bool { return all[i].from < all[j].from })
	out := all[:1]
	for _, s := range all[1:] {
		if last := &out[len(out)-1]; s.from <= last.to {
			last.to = max(last.to, s.to)
		} else {
			out = append(out, s)
		}
	}
	return out
}

// total is the number of rows that spans cover.
func total(ss []span) int {
	n := 0
	for _, s := range ss {
		n += s.len()
	}
	return n
}

// clip returns the part of sorted spans inside [from, to), relative to from.
func clip(ss []span, from, to int) []span {
	i := sort.Search(len(ss), func(i int) bool { return ss[i].to > from })
	var out []span
	for ; i < len(ss) && ss[i].from < to; i++ {
		out = append(out, span{max(ss[i].from, from) - from, min(ss[i].to, to) - from})
	}
	return out
}

// overlaps says whether sorted spans reach into [from, to).
func overlaps(ss []span, from, to int) bool {
	i := sort.Search(len(ss), func(i int) bool { return ss[i].to > from })
	return i < len(ss) && ss[i].from < to
}

// invert returns the gaps of sorted spans in [0, n).
func invert(ss []span, n int) []span {
	out := make([]span, 0, len(ss)+1)
	at := 0
	for _, s := range ss {
		if s.from > at {
			out = append(out, span{at, s.from})
		}
		at = s.to
	}
	if at < n {
		out = append(out, span{at, n})
	}
	return out
}

// rows are the rows of [from, to) that the leaf is edited in, relative to from.
func (l *leafPlan) rows(from, to int64) (out []span) {
	for _, r := range l.redact {
		out = mergeSpans(out, spansIn(r.rows, from, to))
	}
	for _, r := range l.removal {
		it := r.elements.Iterator()
		it.AdvanceIfNeeded(rewriter.ElementKey(uint64(from), 0))
		var rows []span
		for it.HasNext() {
			row, _ := rewriter.SplitElement(it.Next())
			if int64(row) >= to {
				break
			}
			i := int(int64(row) - from)
			if n := len(rows); n > 0 && rows[n-1].to >= i {
				rows[n-1].to = max(rows[n-1].to, i+1)
			} else {
				rows = append(rows, span{i, i + 1})
			}
		}
		out = mergeSpans(out, rows)
	}
	return out
}

// subtract returns a without what b covers; both are sorted.
func subtract(a, b []span) []span {
	if len(a) == 0 || len(b) == 0 {
		return a
	}
	var out []span
	for _, s := range a {
		for len(b) > 0 && b[0].to <= s.from {
			b = b[1:]
		}
		at := s.from
		for _, d := range b {
			if d.from >= s.to {
				break
			}
			if d.from > at {
				out = append(out, span{at, d.from})
			}
			at = max(at, d.to)
		}
		if at < s.to {
			out = append(out, span{at, s.to})
		}
	}
	return out
}
