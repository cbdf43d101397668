package parquet

import (
	"github.com/expunge/expunge/internal/pq"
)

// Reads of the source are joined where the answers will all be needed: a
// request to an object store costs as much as a megabyte of transfer.
const (
	readAhead = 8 << 20   // most bytes of pages that one read asks for
	readGap   = 256 << 10 // unneeded bytes between two pages that are read along
	indexSpan = 16 << 20  // largest region of page indexes that is read at once
)

// cachedInput answers reads inside one region from memory.
type cachedInput struct {
	Input
	off    int64
	region []byte
}

// ReadAt implements io.ReaderAt.
func (c *cachedInput) ReadAt(b []byte, off int64) (int, error) {
	if off >= c.off && off+int64(len(b)) <= c.off+int64(len(c.region)) {
		return copy(b, c.region[off-c.off:]), nil
	}
	return c.Input.ReadAt(b, off)
}

// cacheIndexes reads the file's page indexes in one go, where they lie
// together: they are small, many, and all needed.
func (c *cachedInput) cacheIndexes(f *pq.File) error {
	lo, hi, sum := f.Size(), int64(0), int64(0)
	add := func(off int64, n int32) {
		if off <= 0 || n <= 0 || off > f.FooterOffset-int64(n) {
			return
		}
		lo, hi, sum = min(lo, off), max(hi, off+int64(n)), sum+int64(n)
	}
	for i := range f.Meta.RowGroups {
		for k := range f.Meta.RowGroups[i].Columns {
			e := &f.Meta.RowGroups[i].Columns[k]
			add(e.OffsetIndexOffset, e.OffsetIndexLength)
			add(e.ColumnIndexOffset, e.ColumnIndexLength)
		}
	}
	if sum == 0 || hi-lo > indexSpan || hi-lo > 4*sum {
		return nil
	}
	region := make([]byte, hi-lo)
	if err := readFull(c.Input, region, lo); err != nil {
		return err
	}
	c.off, c.region = lo, region
	return nil
}

// load reads page i into memory that nobody writes to, along with neighbours
// that will be needed too.
func (c *chunkJob) load(i int) (pq.Page, error) {
	e := &c.table.pages[i]
	if e.offset < c.aheadAt || e.offset+e.size > c.aheadAt+int64(len(c.ahead)) {
		end := e.offset + e.size
		for k := i + 1; k < len(c.table.pages); k++ {
			n := &c.table.pages[k]
			if n.offset+n.size-e.offset > readAhead || n.offset-end > readGap {
				break
			}
			if n.job == nil && (c.bloom != nil || c.needs(n)) {
				end = n.offset + n.size
			}
		}
		c.ahead, c.aheadAt = make([]byte, end-e.offset), e.offset
		if err := readFull(c.eng.in, c.ahead, e.offset); err != nil {
			return pq.Page{}, err
		}
	}
	from := e.offset - c.aheadAt
	raw := c.ahead[from : from+e.size : from+e.size]
	return c.parse(raw, e.offset)
}

// needs says whether the edit concerns a page.
func (c *chunkJob) needs(e *pageEntry) bool {
	return overlaps(c.erased, e.first, e.first+e.rows) || overlaps(c.touched, e.first, e.first+e.rows)
}
