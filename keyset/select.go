package keyset

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
)

// batch is how many values are hashed and probed at a time: their hashes stay
// in the first-level cache.
const batch = 1024

// SelectInt32 appends the indexes i for which vals[i] is in the set (single
// part, int32 column).
func (m *Matcher) SelectInt32(dst []int32, vals []int32) []int32 {
	m.want(PhysInt32)
	return selectInts(m, dst, vals)
}

// SelectInt64 is SelectInt32 for an int64 column.
func (m *Matcher) SelectInt64(dst []int32, vals []int64) []int32 {
	m.want(PhysInt64)
	return selectInts(m, dst, vals)
}

// want guards against a caller that reads the column as something else: silently
// matching nothing would be an omission.
func (m *Matcher) want(p Physical) {
	if len(m.bind) != 1 || m.bind[0].col.Physical != p {
		panic(fmt.Sprintf("keyset: %s values selected from a matcher of %d columns, the first %s",
			Column{Physical: p}, len(m.bind), m.bind[0].col))
	}
}

func selectInts[T int32 | int64](m *Matcher, dst []int32, vals []T) []int32 {
	if m.set.Len() == 0 {
		return dst
	}
	defer runtime.KeepAlive(m)
	b := &m.bind[0]
	switch st := m.set.st.(type) {
	case *bitmapStore:
		if b.isWord() {
			return selectDense(b, st, dst, vals)
		}
	case *wordStore:
		if b.isWord() {
			return selectWords(b, st, m.set.ix, dst, vals)
		}
	case *wideStore:
		var w wideBuf
		for i, v := range vals {
			if w.add(b, i, int64(v), nil) {
				dst = w.hits(dst, st, m.set.ix)
			}
		}
		return w.hits(dst, st, m.set.ix)
	}
	var g gather
	for i, v := range vals {
		if g.add(b, i, int64(v), nil) {
			dst = m.selectGathered(dst, &g)
		}
	}
	return m.selectGathered(dst, &g)
}

// wordMask keeps, of an integer widened to 64 bits, the bits that the column means.
func wordMask(f form) uint64 {
	if f == formUint32 {
		return math.MaxUint32
	}
	return math.MaxUint64
}

// selectWords selects integers by filter and index.
func selectWords[T int32 | int64](b *binding, st *wordStore, x *index, dst []int32, vals []T) []int32 {
	var hashes [batch]uint64
	var sel [batch]int32
	var cand [batch]uint32
	mask, upper, flip := wordMask(b.form), b.form == formUint64, x.flip
	for at := 0; at < len(vals); at += batch {
		part := vals[at:min(at+batch, len(vals))]
		for i, v := range part {
			hashes[i] = hashWord(uint64(int64(v))&mask^signFlip, flip)
		}
		hits := sel[:x.selectHits(sel[:len(part)], hashes[:len(part)])]
		x.candidates(cand[:], hits, hashes[:])
		for j, i := range hits {
			v := uint64(int64(part[i]))&mask ^ signFlip
			if upper && v&signFlip == 0 { // an unsigned value above every int64
				continue
			}
			if c := cand[j]; c != noKey && (st.vals[c] == v || x.findWord(hashes[i], st, v) >= 0) {
				dst = append(dst, int32(at)+i)
			}
		}
	}
	return dst
}

// selectDense selects integers by a bitmap.
func selectDense[T int32 | int64](b *binding, st *bitmapStore, dst []int32, vals []T) []int32 {
	var words [batch]uint64
	var sel [batch]int32
	mask, upper := wordMask(b.form), b.form == formUint64
	for at := 0; at < len(vals); at += batch {
		part := vals[at:min(at+batch, len(vals))]
		for i, v := range part {
			words[i] = uint64(int64(v))&mask ^ signFlip
		}
		for _, i := range sel[:st.selectWords(sel[:len(part)], words[:len(part)])] {
			if !upper || int64(part[i]) >= 0 {
				dst = append(dst, int32(at)+i)
			}
		}
	}
	return dst
}

// SelectBytes is SelectInt32 for a byte array column, of values
// data[offsets[i]:offsets[i+1]].
func (m *Matcher) SelectBytes(dst []int32, data []byte, offsets []uint32) []int32 {
	m.want(PhysBytes)
	if m.set.Len() == 0 || len(offsets) < 2 {
		return dst
	}
	defer runtime.KeepAlive(m)
	b := &m.bind[0]
	if b.form == formRaw {
		return m.selectRaw(dst, data, offsets)
	}
	if st, ok := m.set.st.(*wideStore); ok {
		var w wideBuf
		from := offsets[0]
		for i, to := range offsets[1:] {
			if w.add(b, i, 0, data[from:to]) {
				dst = w.hits(dst, st, m.set.ix)
			}
			from = to
		}
		return w.hits(dst, st, m.set.ix)
	}
	var g gather
	for i := range len(offsets) - 1 {
		if g.add(b, i, 0, data[offsets[i]:offsets[i+1]]) {
			dst = m.selectGathered(dst, &g)
		}
	}
	return m.selectGathered(dst, &g)
}

// selectRaw selects byte strings that are their own canonical form.
func (m *Matcher) selectRaw(dst []int32, data []byte, offsets []uint32) []int32 {
	var hashes [batch]uint64
	var sel [batch]int32
	var cand [batch]uint32
	st, x := m.set.st.(*bytesStore), m.set.ix
	for at := 0; at < len(offsets)-1; at += batch {
		off := offsets[at:min(at+batch+1, len(offsets))]
		n := len(off) - 1
		for i := range n {
			hashes[i] = hashBytes(data[off[i]:off[i+1]], x.seed)
		}
		hits := sel[:x.selectHits(sel[:n], hashes[:n])]
		x.candidates(cand[:], hits, hashes[:])
		for j, i := range hits {
			v := data[off[i]:off[i+1]]
			if c := cand[j]; c != noKey && (bytes.Equal(st.at(int(c)), v) || x.find(hashes[i], st, v) >= 0) {
				dst = append(dst, int32(at)+i)
			}
		}
	}
	return dst
}

// SelectFixed is SelectInt32 for a column of values of width bytes each.
func (m *Matcher) SelectFixed(dst []int32, data []byte, width int) []int32 {
	m.want(PhysFixed)
	if m.set.Len() == 0 || width <= 0 {
		return dst
	}
	defer runtime.KeepAlive(m)
	b := &m.bind[0]
	if st, ok := m.set.st.(*wideStore); ok {
		var w wideBuf
		for i := range len(data) / width {
			if w.add(b, i, 0, data[i*width:(i+1)*width]) {
				dst = w.hits(dst, st, m.set.ix)
			}
		}
		return w.hits(dst, st, m.set.ix)
	}
	var g gather
	for i := range len(data) / width {
		if g.add(b, i, 0, data[i*width:(i+1)*width]) {
			dst = m.selectGathered(dst, &g)
		}
	}
	return m.selectGathered(dst, &g)
}

// wideBuf holds a batch of canonical values of 16 bytes and the rows they are of.
type wideBuf struct {
	n    int
	rows [batch]int32
	hi   [batch]uint64
	lo   [batch]uint64
}

// add converts row i's value, unless no key can equal it, and reports whether
// the batch is full.
func (w *wideBuf) add(b *binding, i int, v int64, raw []byte) (full bool) {
	hi, lo, ok := b.wide(v, raw)
	if !ok {
		return false
	}
	w.hi[w.n], w.lo[w.n], w.rows[w.n] = hi, lo, int32(i)
	w.n++
	return w.n == batch
}

// hits appends the rows whose values are in the set and empties w.
func (w *wideBuf) hits(dst []int32, st *wideStore, x *index) []int32 {
	var hashes [batch]uint64
	var sel [batch]int32
	for i, hi := range w.hi[:w.n] {
		hashes[i] = hashWide(hi, w.lo[i], x.seed)
	}
	var cand [batch]uint32
	hits := sel[:x.selectHits(sel[:w.n], hashes[:w.n])]
	x.candidates(cand[:], hits, hashes[:])
	for j, i := range hits {
		v := [2]uint64{w.hi[i], w.lo[i]}
		if c := cand[j]; c != noKey && (st.vals[c] == v || x.findWide(hashes[i], st, v) >= 0) {
			dst = append(dst, w.rows[i])
		}
	}
	w.n = 0
	return dst
}

// gather holds a batch of canonical values of 8 bytes or of any length that had
// to be converted.
type gather struct {
	arena []byte
	n     int
	rows  [batch]int32
	ends  [batch]int
}

// add converts row i's value, unless no key can equal it, and reports whether
// the batch is full.
func (g *gather) add(b *binding, i int, v int64, raw []byte) (full bool) {
	out, ok := b.append(g.arena, v, raw)
	if !ok {
		return false
	}
	g.arena = out
	g.rows[g.n] = int32(i)
	g.ends[g.n] = len(out)
	g.n++
	return g.n == batch
}

func (g *gather) value(i int) []byte {
	from := 0
	if i > 0 {
		from = g.ends[i-1]
	}
	return g.arena[from:g.ends[i]]
}

// selectGathered appends the rows whose values are in the set and empties g.
func (m *Matcher) selectGathered(dst []int32, g *gather) []int32 {
	var hashes [batch]uint64
	var sel [batch]int32
	n, x := g.n, m.set.ix
	if x == nil { // a bitmap
		for i := range n {
			if m.set.Contains(g.value(i)) {
				dst = append(dst, g.rows[i])
			}
		}
		g.n, g.arena = 0, g.arena[:0]
		return dst
	}
	width := setWidth(m.set)
	for i := range n {
		if v := g.value(i); width == 8 {
			hashes[i] = hashWord(binary.BigEndian.Uint64(v), x.flip)
		} else {
			hashes[i] = hashBytes(v, x.seed)
		}
	}
	for _, i := range sel[:x.selectHits(sel[:n], hashes[:n])] {
		if x.find(hashes[i], m.set.st, g.value(int(i))) >= 0 {
			dst = append(dst, g.rows[i])
		}
	}
	g.n, g.arena = 0, g.arena[:0]
	return dst
}
