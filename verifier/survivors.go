package verifier

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/warehouse"
)

// survivors compares leaf column by leaf column. A row is its leaves' levels
// and values (Dremel encoding), so equal streams in every leaf, with the
// excluded rows left out of the old one, are equal rows in equal order, nested
// ones included.
func survivors(ctx context.Context, store storage.Store, r Rewrite) (*RewriteReport, error) {
	old, err := openParquet(ctx, store, r.Old.Path)
	if err != nil {
		return nil, fmt.Errorf("old file: %w", err)
	}
	defer old.Close()
	c := comparison{ctx: ctx, r: &r, old: old, rep: &RewriteReport{RowsOld: old.NumRows()}}
	if err := c.excluded(store); err != nil {
		return nil, err
	}
	if r.New == "" {
		c.dropped()
		c.rep.BytesRead = old.read()
		return c.rep, nil
	}
	if c.new, err = openParquet(ctx, store, r.New); err != nil {
		return nil, fmt.Errorf("new file: %w", err)
	}
	defer c.new.Close()
	c.rep.RowsNew = c.new.NumRows()
	if err := c.controlAfter(); err != nil {
		return nil, err
	}
	if err := c.compare(); err != nil {
		return nil, err
	}
	c.rep.BytesRead = old.read() + c.new.read()
	return c.rep, nil
}

type comparison struct {
	ctx      context.Context
	r        *Rewrite
	old, new *parquetFile
	rep      *RewriteReport
	gone     *roaring64.Bitmap // positions of old rows that may not be in the new file
	hits     *roaring64.Bitmap // rows that match and are not deleted already
	redacted []redactedLeaf    // of the old file
}

// excluded finds, with this package's own code, which rows of the old file
// have to be missing in the new one.
func (c *comparison) excluded(store storage.Store) error {
	bound, err := bindFile(c.old, c.r.Matches)
	if err != nil {
		return err
	}
	if c.hits, err = scanKeys(c.ctx, c.old, bound); err != nil {
		return fmt.Errorf("old file: %w", err)
	}
	deleted, err := deletedRows(c.ctx, store, c.old, c.r.Old.Path, c.r.Old.Deletes)
	if err != nil {
		return err
	}
	if c.redacted, err = redactedLeaves(c.old, c.r.Action); err != nil {
		return err
	}
	todo, err := c.todo(c.old, c.redacted, c.hits)
	if err != nil {
		return fmt.Errorf("old file: %w", err)
	}
	c.rep.ControlBefore = !todo.IsEmpty()
	rows := uint64(c.rep.RowsOld)
	deleted.RemoveRange(rows, 1<<62) // a stale delete may point past the end
	c.rep.AlreadyDeleted = int64(deleted.GetCardinality())
	c.hits.AndNot(deleted)
	todo.AndNot(deleted)
	c.gone = deleted
	if !c.deletes() {
		c.rep.Changed = int64(todo.GetCardinality())
		return nil
	}
	c.rep.Erased = int64(c.hits.GetCardinality())
	c.gone.Or(c.hits)
	return nil
}

// todo are the matching rows of a file that the action is still to be carried out on.
func (c *comparison) todo(f *parquetFile, leaves []redactedLeaf, hits *roaring64.Bitmap) (*roaring64.Bitmap, error) {
	if c.r.Action == nil || c.r.Action.Kind != warehouse.Redact {
		return hits.Clone(), nil
	}
	return pendingRows(c.ctx, f, leaves, hits)
}

// deletes says whether matching rows go; otherwise they stay, redacted or with
// fewer elements.
func (c *comparison) deletes() bool { return c.r.Action == nil || c.r.Action.Kind == warehouse.Delete }

func (c *comparison) differ(format string, args ...any) {
	if c.rep.Difference == "" {
		c.rep.Difference = fmt.Sprintf(format, args...)
	}
}

func (c *comparison) dropped() {
	left := c.rep.RowsOld - int64(c.gone.GetCardinality())
	if c.rep.Equal = left == 0; !c.rep.Equal {
		c.differ("the file was dropped with %d surviving rows", left)
	}
}

// controlAfter looks for the keys in the new file, by the same code.
func (c *comparison) controlAfter() error {
	bound, err := bindFile(c.new, c.r.Matches)
	if err != nil {
		return err
	}
	found, err := scanKeys(c.ctx, c.new, bound)
	if err != nil {
		return fmt.Errorf("new file: %w", err)
	}
	leaves, err := redactedLeaves(c.new, c.r.Action)
	if err != nil {
		return err
	}
	todo, err := c.todo(c.new, leaves, found)
	if err != nil {
		return fmt.Errorf("new file: %w", err)
	}
	c.rep.ControlAfter = !todo.IsEmpty()
	return nil
}

func (c *comparison) compare() error {
	want := c.rep.RowsOld - int64(c.gone.GetCardinality())
	if c.rep.RowsNew != want {
		c.differ("%d rows, want %d survivors", c.rep.RowsNew, want)
		return nil
	}
	lineage := c.footers()
	if c.rep.Difference != "" {
		return nil
	}
	oldCols, newCols := columnsOf(c.old.MetaData().Schema), columnsOf(c.new.MetaData().Schema)
	// Lineage columns are compared by a rule of their own: old values may be inherited ones.
	other := func(f fileColumn) bool { return slices.Contains(lineage, f.id) }
	was, is := slices.DeleteFunc(slices.Clone(oldCols), other), slices.DeleteFunc(slices.Clone(newCols), other)
	var list *elements
	if c.r.Action != nil && c.r.Action.Kind == warehouse.RemoveElement {
		var err error
		if list, err = c.removed(); err != nil {
			return err
		}
	}
	for n, info := range was { // as many as in is: the schemas are equal
		var err error
		if list != nil && list.holds(info) {
			err = c.elementColumn(info, is[n].index, list)
		} else if i := slices.IndexFunc(c.redacted, func(r redactedLeaf) bool { return r.col.index == info.index }); i >= 0 {
			err = c.redactedColumn(info, is[n].index, &c.redacted[i])
		} else {
			err = c.column(info, is[n].index)
		}
		if err != nil {
			return err
		}
		if c.rep.Difference != "" {
			return nil
		}
		c.rep.Columns++
	}
	for _, id := range lineage {
		if err := c.lineage(oldCols, newCols, id); err != nil {
			return err
		}
	}
	c.rep.Equal = c.rep.Difference == ""
	return nil
}

// column compares one leaf. Pages that are equal as stored, and hold no row
// that had to go, are skipped on both sides; all others are decoded.
func (c *comparison) column(info fileColumn, j int) error {
	b, err := newSurvivorStream(c.ctx, c.new, j, nil)
	if err != nil {
		return fmt.Errorf("new file: %w", err)
	}
	defer b.s.close()
	return c.follow(info, b, true)
}

// follow compares one leaf of the old file with what comes next in the new
// one. last says that nothing may come after it.
func (c *comparison) follow(info fileColumn, b *survivorStream, last bool) error {
	a, err := newSurvivorStream(c.ctx, c.old, info.index, c.gone)
	if err != nil {
		return fmt.Errorf("old file: %w", err)
	}
	defer a.s.close()
	pair := pagePair{a: a.s, b: b.s, ofA: -1}
	for {
		x, y := a.span(), b.span()
		if n := min(x.n, y.n); n > 0 {
			if !equalEntries(x, y, n, a.s.l.maxDef()) {
				c.differ("column %s differs near row %d of the new file", pathOf(info), max(0, b.rowAt))
				return nil
			}
			a.skip(n)
			b.skip(n)
			continue
		}
		if x.n == 0 && y.n == 0 && a.atBoundary() && b.atBoundary() {
			skipped, done, err := c.samePages(&pair, a, b)
			if err != nil || done {
				return err
			}
			if skipped {
				continue
			}
		}
		if x.n == 0 {
			more, err := a.more()
			if err != nil {
				return fmt.Errorf("old file: %w", err)
			}
			if more {
				continue
			}
			if !last {
				return nil // the next file's rows follow
			}
		}
		moved := false
		if b.span().n == 0 {
			if moved, err = b.more(); err != nil {
				return fmt.Errorf("new file: %w", err)
			}
		}
		if !moved {
			if a.span().n != b.span().n {
				c.differ("column %s: one file has more entries", pathOf(info))
			}
			return nil
		}
	}
}

// samePages skips the next pages of both files when they are equal as stored.
// done means that both have ended.
func (c *comparison) samePages(pair *pagePair, a, b *survivorStream) (skipped, done bool, err error) {
	x, err := a.s.page()
	if err != nil {
		return false, false, fmt.Errorf("old file: %w", err)
	}
	y, err := b.s.page()
	if err != nil {
		return false, false, fmt.Errorf("new file: %w", err)
	}
	if x == nil || y == nil {
		return false, x == nil && y == nil, nil
	}
	same, err := pair.same(x, y)
	if err != nil || !same {
		return false, false, err
	}
	ok, err := a.pass(x)
	if err != nil || !ok {
		return false, false, err
	}
	b.s.skip()
	b.rowAt = a.rowAt // of no meaning but for messages
	c.rep.PagesSame++
	return true, false, nil
}

// span is a run of level entries within a batch, none of them excluded.
type span struct {
	b     *batch
	at, n int // entries
	v     int // index of the first entry's value
}

// survivorStream yields a leaf's entries without those of excluded rows.
type survivorStream struct {
	s     *pageStream
	gone  excludedRows
	b     *batch
	at, v int   // next entry and value of b
	end   int   // entries of b before this one survive
	rowAt int64 // row of the last entry looked at
}

func newSurvivorStream(ctx context.Context, f *parquetFile, col int, gone *roaring64.Bitmap) (*survivorStream, error) {
	p, err := newPageStream(ctx, f, col)
	if err != nil {
		return nil, err
	}
	p.raw = true
	s := &survivorStream{s: p, rowAt: -1}
	s.gone.open(gone)
	return s, nil
}

// span is the present run; its n is 0 when there is none before more.
func (s *survivorStream) span() span {
	if s.b == nil {
		return span{}
	}
	return span{s.b, s.at, s.end - s.at, s.v}
}

// atBoundary says whether all of the pages taken so far was consumed.
func (s *survivorStream) atBoundary() bool { return s.s.left == 0 && (s.b == nil || s.at == s.b.n) }

// more moves on: to the next run, batch or page. False: the column has ended.
func (s *survivorStream) more() (bool, error) {
	if s.b == nil || s.at == s.b.n {
		s.b = nil
		if s.s.left == 0 {
			p, err := s.s.page()
			if err != nil || p == nil {
				return false, err
			}
			s.s.decode()
		}
		b, err := s.s.batch()
		if err != nil {
			return false, err
		}
		s.b, s.at, s.v, s.end = b, 0, 0, 0
	}
	s.extend()
	return true, nil
}

// pass skips a page that has no excluded row; false: it has one, or may have.
func (s *survivorStream) pass(p *rawPage) (bool, error) {
	if s.gone.next == noRow {
		s.s.skip()
		return true, nil
	}
	n, continues, err := s.s.rows(p)
	if err != nil {
		return false, err
	}
	first := s.rowAt + 1
	if continues {
		first--
	}
	if first < 0 {
		return false, errCorrupt
	}
	if s.gone.from(first) <= s.rowAt+n {
		return false, nil
	}
	s.rowAt += n
	s.s.skip()
	return true, nil
}

// extend finds the next run of entries that survive, skipping those that do not.
func (s *survivorStream) extend() {
	b := s.b
	for ; s.at < b.n; s.at++ { // leave out excluded entries
		if s.startsRow(s.at) {
			s.rowAt++
		}
		if s.gone.from(s.rowAt) != s.rowAt {
			break
		}
		if s.hasValue(s.at) {
			s.v++
		}
	}
	s.end = s.at
	if s.at == b.n {
		return
	}
	s.end++
	next := s.gone.next
	if next == noRow {
		s.rest()
		return
	}
	if b.rep == nil {
		n := min(int64(b.n-s.end), next-s.rowAt-1)
		s.end, s.rowAt = s.end+int(n), s.rowAt+n
		return
	}
	for ; s.end < b.n; s.end++ {
		if s.startsRow(s.end) {
			if s.rowAt+1 == next {
				return
			}
			s.rowAt++
		}
	}
}

// rest takes all that is left of the batch.
func (s *survivorStream) rest() {
	if s.b.rep == nil {
		s.rowAt += int64(s.b.n - s.end)
	} else {
		for _, r := range s.b.rep[s.end:] {
			if r == 0 {
				s.rowAt++
			}
		}
	}
	s.end = s.b.n
}

func (s *survivorStream) startsRow(i int) bool { return s.b.rep == nil || s.b.rep[i] == 0 }

func (s *survivorStream) hasValue(i int) bool { return s.b.def == nil || s.b.def[i] == s.s.l.maxDef() }

// excludedRows walks the positions of excluded rows in order.
type excludedRows struct {
	next int64 // the first that was not passed; noRow at the end
	it   roaring64.ManyIntIterable64
	buf  []uint64
	left []uint64
}

const noRow = math.MaxInt64

func (e *excludedRows) open(rows *roaring64.Bitmap) {
	if e.next = noRow; rows == nil || rows.IsEmpty() {
		return
	}
	e.it, e.buf = rows.ManyIterator(), make([]uint64, 512)
	e.advance()
}

func (e *excludedRows) advance() {
	if len(e.left) == 0 {
		e.left = e.buf[:e.it.NextMany(e.buf)]
	}
	if len(e.left) == 0 {
		e.next = noRow
		return
	}
	e.next, e.left = int64(e.left[0]), e.left[1:]
}

// from is the first excluded row at or behind one.
func (e *excludedRows) from(row int64) int64 {
	for e.next < row {
		e.advance()
	}
	return e.next
}

// skip consumes n entries of the present run.
func (s *survivorStream) skip(n int) {
	if s.b.def == nil {
		s.v += n
	} else {
		s.v += countLevel(s.b.def[s.at:s.at+n], s.s.l.maxDef())
	}
	s.at += n
}

// equalEntries compares the first n entries of two runs: levels and values.
func equalEntries(x, y span, n int, maxDef int16) bool {
	values := n
	if x.b.def != nil {
		if !slices.Equal(x.b.def[x.at:x.at+n], y.b.def[y.at:y.at+n]) {
			return false
		}
		values = countLevel(x.b.def[x.at:x.at+n], maxDef)
	}
	if x.b.rep != nil && !slices.Equal(x.b.rep[x.at:x.at+n], y.b.rep[y.at:y.at+n]) {
		return false
	}
	if w := x.b.width; w > 0 && w == y.b.width {
		return bytes.Equal(x.b.fixed[x.v*w:(x.v+values)*w], y.b.fixed[y.v*w:(y.v+values)*w])
	}
	if x.b.starts != nil && y.b.starts != nil { // the lengths are among the bytes
		return bytes.Equal(x.b.raw[x.b.starts[x.v]:x.b.starts[x.v+values]], y.b.raw[y.b.starts[y.v]:y.b.starts[y.v+values]])
	}
	for i := range values {
		if !bytes.Equal(x.b.value(x.v+i), y.b.value(y.v+i)) {
			return false
		}
	}
	return true
}

// lineage checks a row lineage column of the new file: the old file's value
// where it has one, otherwise what the row inherited (Iceberg specification,
// "Row Lineage").
func (c *comparison) lineage(oldCols, newCols []fileColumn, id int) error {
	j := resolve(newCols, warehouse.ColumnRef{FieldID: id})
	if j == absent {
		c.differ("the new file lacks row lineage column %d", id)
		return nil
	}
	fresh := newPairs(c.new.leaf(c.ctx, j))
	defer fresh.l.close()
	return c.followLineage(fresh, oldCols, id)
}

// followLineage compares a lineage column of the old file with what comes next in the new one's.
func (c *comparison) followLineage(fresh *pairs, oldCols []fileColumn, id int) error {
	var stored *pairs
	if i := resolve(oldCols, warehouse.ColumnRef{FieldID: id}); i != absent {
		stored = newPairs(c.old.leaf(c.ctx, i))
		defer stored.l.close()
	}
	for row := range c.rep.RowsOld {
		want, known, err := c.inherited(stored, id, row)
		if err != nil {
			return err
		}
		if c.gone.Contains(uint64(row)) {
			continue
		}
		v, ok, err := fresh.next()
		if err != nil {
			return fmt.Errorf("new file: %w", err)
		}
		if !ok || known && (len(v) != 8 || int64(binary.LittleEndian.Uint64(v)) != want) || !known && v != nil {
			c.differ("row lineage column %d differs at row %d of the old file", id, row)
			return nil
		}
	}
	c.rep.Columns++
	return nil
}

// inherited is a row's lineage value before the rewrite; false: it had none.
func (c *comparison) inherited(stored *pairs, id int, row int64) (int64, bool, error) {
	if stored != nil {
		v, ok, err := stored.next()
		if err != nil || !ok {
			return 0, false, joinOK(err, ok)
		}
		if len(v) == 8 {
			return int64(binary.LittleEndian.Uint64(v)), true, nil
		}
	}
	switch {
	case id == idLastSequence && c.r.Old.FirstRowID != nil:
		return c.r.Old.DataSequence, true, nil
	case id == idRowID && c.r.Old.FirstRowID != nil:
		return *c.r.Old.FirstRowID + row, true, nil
	}
	return 0, false, nil
}

// joinOK is for readers of columns that have to have one more entry.
func joinOK(err error, ok bool) error {
	if err == nil && !ok {
		return errCorrupt
	}
	return err
}
