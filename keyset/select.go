package keyset

import (
	"encoding/binary"
	"fmt"
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
	if b.isWord() {
		var buf wordBuf
		for at := 0; at < len(vals); at += batch {
			part := vals[at:min(at+batch, len(vals))]
			dst = m.selectWords(dst, at, fillWords(&buf, part, b.form), &buf)
		}
		return dst
	}
	var g gather
	for i, v := range vals {
		if g.add(b, i, int64(v), nil) {
			dst = m.selectGathered(dst, &g)
		}
	}
	return m.selectGathered(dst, &g)
}

// wordBuf is one batch of canonical words on the stack.
type wordBuf struct {
	vals   [batch]uint64
	hashes [batch]uint64
	sel    [batch]int32
}

func fillWords[T int32 | int64](buf *wordBuf, part []T, f form) int {
	if f == formUint32 {
		for i, v := range part {
			buf.vals[i] = uint64(uint32(v)) ^ signFlip
		}
		return len(part)
	}
	// An unsigned value of the upper half becomes a negative number here, which
	// selectWords drops again.
	for i, v := range part {
		buf.vals[i] = uint64(int64(v)) ^ signFlip
	}
	return len(part)
}

// selectWords appends at+i for the first n words of buf that are in the set.
func (m *Matcher) selectWords(dst []int32, at, n int, buf *wordBuf) []int32 {
	upper := m.bind[0].form == formUint64
	vals := buf.vals[:n]
	if st, ok := m.set.st.(*bitmapStore); ok {
		for _, i := range buf.sel[:st.selectWords(buf.sel[:n], vals)] {
			if !upper || vals[i]&signFlip != 0 {
				dst = append(dst, int32(at)+i)
			}
		}
		return dst
	}
	st, x := m.set.st.(*wordStore), m.set.ix
	for i, v := range vals {
		buf.hashes[i] = hashWord(v, x.flip)
	}
	for _, i := range buf.sel[:x.selectHits(buf.sel[:n], buf.hashes[:n])] {
		if x.findWord(buf.hashes[i], st, vals[i]) >= 0 && (!upper || vals[i]&signFlip != 0) {
			dst = append(dst, int32(at)+i)
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
	st, x := m.set.st.(*bytesStore), m.set.ix
	for at := 0; at < len(offsets)-1; at += batch {
		off := offsets[at:min(at+batch+1, len(offsets))]
		n := len(off) - 1
		for i := range n {
			hashes[i] = hashBytes(data[off[i]:off[i+1]], x.seed)
		}
		for _, i := range sel[:x.selectHits(sel[:n], hashes[:n])] {
			if x.find(hashes[i], st, data[off[i]:off[i+1]]) >= 0 {
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
	if b.form == formUUIDRaw && width == 16 {
		return m.selectUUIDs(dst, data)
	}
	var g gather
	for i := range len(data) / width {
		if g.add(b, i, 0, data[i*width:(i+1)*width]) {
			dst = m.selectGathered(dst, &g)
		}
	}
	return m.selectGathered(dst, &g)
}

// selectUUIDs selects values of 16 bytes.
func (m *Matcher) selectUUIDs(dst []int32, data []byte) []int32 {
	var hashes [batch]uint64
	var sel [batch]int32
	st, x := m.set.st.(*wideStore), m.set.ix
	for at := 0; at < len(data)/16; at += batch {
		part := data[at*16 : min((at+batch)*16, len(data)/16*16)]
		n := len(part) / 16
		for i := range n {
			v := part[i*16 : i*16+16]
			hashes[i] = hashWide(binary.BigEndian.Uint64(v), binary.BigEndian.Uint64(v[8:]), x.seed)
		}
		for _, i := range sel[:x.selectHits(sel[:n], hashes[:n])] {
			if x.findWide(hashes[i], st, wideOf(part[i*16:])) >= 0 {
				dst = append(dst, int32(at)+i)
			}
		}
	}
	return dst
}

// gather holds a batch of canonical values that had to be converted.
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
		switch v := g.value(i); width {
		case 8:
			hashes[i] = hashWord(binary.BigEndian.Uint64(v), x.flip)
		case 16:
			hashes[i] = hashWide(binary.BigEndian.Uint64(v), binary.BigEndian.Uint64(v[8:]), x.seed)
		default:
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
