package parquet

import (
	"encoding/binary"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/internal/zstdedit"
)

// An assembly is a page's new body in the making, and where its bytes come
// from, so that a codec can edit the compressed page instead of compressing anew.
type assembly struct {
	buf   []byte
	start int           // of the part that is compressed
	ops   []zstdedit.Op // that part, in bytes of the source's uncompressed body
}

// keep appends bytes [from, to) of a part of the source's body that begins at base.
func (a *assembly) keep(part []byte, base, from, to int) {
	if from >= to {
		return
	}
	at := len(a.buf) - a.start
	a.buf = append(a.buf, part[from:to]...)
	if k := len(a.ops); k > 0 && a.ops[k-1].To == base+from && a.ops[k-1].From >= 0 {
		a.ops[k-1].To += to - from
		a.ops[k-1].Size += to - from
		return
	}
	a.ops = append(a.ops, zstdedit.Op{From: base + from, To: base + to, Size: to - from, At: at})
}

// fresh says that the bytes behind at are new.
func (a *assembly) fresh(at int) {
	n := len(a.buf) - at
	if n <= 0 {
		return
	}
	if k := len(a.ops); k > 0 && a.ops[k-1].From < 0 {
		a.ops[k-1].Size += n
		return
	}
	a.ops = append(a.ops, zstdedit.Op{From: -1, Size: n, At: at - a.start})
}

// put appends new bytes.
func (a *assembly) put(b ...byte) {
	at := len(a.buf)
	a.buf = append(a.buf, b...)
	a.fresh(at)
}

// run appends a run of RLE hybrid that repeats a value.
func (a *assembly) run(value uint32, n, width int) {
	at := len(a.buf)
	a.buf = binary.AppendUvarint(a.buf, uint64(n)<<1)
	for i := range (width + 7) / 8 {
		a.buf = append(a.buf, byte(value>>(8*i)))
	}
	a.fresh(at)
}

// A hybridStream is a stream of the RLE/bit-packing hybrid in a page (Encodings.md).
type hybridStream[T uint8 | uint32] struct {
	src    []byte // the runs
	base   int    // where src begins in the source's body
	width  int
	values []T // what src decodes to
}

// looseBytes is how many bytes of a stream there must be to each hole: with
// more holes the runs that a hole leaves behind would make the stream larger
// than encoding it anew.
const looseBytes = 256

// cuttable says whether a stream is better cut than encoded anew.
func (h *hybridStream[T]) cuttable(list *editList) bool {
	return h.width > 0 && len(list.ops)*looseBytes <= len(h.src)
}

// hybridCutter cuts values out of a stream and leaves the others where they
// are in their bytes: whole runs and packed groups of eight are kept; what is
// left of a group beside a hole becomes runs. New values become runs too.
type hybridCutter[T uint8 | uint32] struct {
	hybridStream[T]
	out *assembly

	runs       pq.Runs
	run        pq.Run
	first      int // value with which the run starts
	head, tail int // its bytes in src, the header included

	value T // a run that is not written yet
	n     int
}

// cutHybrid applies an edit list to a stream. fresh is the value of a literal.
func cutHybrid[T uint8 | uint32](out *assembly, h hybridStream[T], list *editList, fresh func(literal []byte) T) error {
	c := hybridCutter[T]{hybridStream: h, out: out, runs: pq.NewRuns(h.src, h.width, len(h.values))}
	for _, o := range list.ops {
		if o.literal != nil {
			c.loose(fresh(o.literal), o.to-o.from)
			continue
		}
		if err := c.keep(o.from, o.to); err != nil {
			return err
		}
	}
	c.flush()
	return nil
}

// keep keeps values [from, to), which lie behind those that were kept before.
func (c *hybridCutter[T]) keep(from, to int) error {
	for from < to {
		for c.first+c.run.Count <= from {
			c.first += c.run.Count
			c.head = c.tail
			var ok bool
			var err error
			if c.run, ok, err = c.runs.Next(); err != nil || !ok {
				return corrupt("run-length data ends early")
			}
			c.tail = len(c.src) - c.runs.Rest()
		}
		end := min(to, c.first+c.run.Count)
		c.part(from-c.first, end-c.first)
		from = end
	}
	return nil
}

// part keeps values [from, to) of the current run.
func (c *hybridCutter[T]) part(from, to int) {
	whole := from == 0 && to == c.run.Count
	if whole && c.first+to == len(c.values) {
		// The last run may announce more than the page has, or bytes may follow.
		whole = c.run.Packed != nil && len(c.run.Packed) <= (to+7)/8*c.width
	}
	switch {
	case c.run.Packed == nil && !(whole && c.n == 0):
		c.loose(c.values[c.first+from], to-from)
		return
	case whole:
		c.flush()
		c.out.keep(c.src, c.base, c.head, c.tail)
		return
	}
	a, b := (from+7)/8, to/8
	if to == c.run.Count {
		b = (to + 7) / 8 // the page's last group may be padded
	}
	if a >= b {
		c.each(from, to)
		return
	}
	c.each(from, a*8)
	c.flush()
	c.out.put(binary.AppendUvarint(nil, uint64(b-a)<<1|1)...)
	data := c.tail - len(c.run.Packed)
	c.out.keep(c.src, c.base, data+a*c.width, min(data+b*c.width, c.tail))
	c.each(b*8, to)
}

// each writes values of the current run as runs of their own.
func (c *hybridCutter[T]) each(from, to int) {
	for i := from; i < to; i++ {
		c.loose(c.values[c.first+i], 1)
	}
}

func (c *hybridCutter[T]) loose(v T, n int) {
	if c.n > 0 && c.value != v {
		c.flush()
	}
	c.value = v
	c.n += n
}

func (c *hybridCutter[T]) flush() {
	if c.n > 0 {
		c.out.run(uint32(c.value), c.n, c.width)
		c.n = 0
	}
}

// levels appends a stream of levels, behind its length where asked for: the
// source's bytes without the entries that went where cut is set and that is
// better, the levels as they became encoded anew otherwise.
func (a *assembly) levels(h hybridStream[uint8], became []uint8, cut bool, entries *editList, prefix bool) error {
	at, ops := len(a.buf), len(a.ops)
	if cut && h.cuttable(entries) {
		a.put(0, 0, 0, 0)
		if err := cutHybrid(a, h, entries, nil); err != nil {
			return err
		}
		n := len(a.buf) - at - 4
		binary.LittleEndian.PutUint32(a.buf[at:], uint32(n))
		if n <= len(became) { // fastparquet reads no more bytes of levels than there are levels
			return nil
		}
		a.buf, a.ops = a.buf[:at], a.ops[:ops]
	}
	var err error
	a.buf, err = appendLevels(a.buf, became, h.width, prefix)
	a.fresh(at)
	return err
}

// keptOps is how many of ops keep something, and whether new bytes lie
// together in such a number that they should be compressed.
func keptOps(ops []zstdedit.Op) (kept int, fresh bool) {
	for _, o := range ops {
		if o.From >= 0 {
			kept++
		} else {
			fresh = fresh || o.Size > freshBytes
		}
	}
	return kept, fresh
}
