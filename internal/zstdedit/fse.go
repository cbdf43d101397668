package zstdedit

import (
	"math/bits"
	"sync"
)

// The three kinds of symbols of a sequence, in the order of their tables.
const (
	ofLits = iota
	ofOffset
	ofMatch
)

const (
	minMatch  = 3
	maxLog    = 9
	maxSymbol = 64 // 53, rounded up: an index that is masked needs no check
)

// base and extra say what a symbol means (RFC 8878, 3.1.1.3.2.1.1): a base
// value and how many bits are added to it. An offset's symbol is its own width.
var (
	base, extra [3][maxSymbol]uint32
	symbols     = [3]int{36, 29, 53}
	logs        = [3]uint8{9, 8, 9}
	litsSymbol  [64]uint8
	matchSymbol [128]uint8 // by length - minMatch
)

var predefined = sync.OnceValue(func() (t [3]*table) {
	for i, d := range [3]struct {
		log  uint8
		norm []int16
	}{
		{6, []int16{4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1}},
		{5, []int16{1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1}},
		{6, []int16{1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1}},
	} {
		t[i] = &table{mode: modePredefined, log: d.log, n: len(d.norm)}
		copy(t[i].norm[:], d.norm)
		t[i].spread(i)
		t[i].encoder()
	}
	return t
})

func init() {
	fill := func(kind, from int, value uint32, widths []uint32) {
		for i, w := range widths {
			base[kind][from+i], extra[kind][from+i] = value, w
			value += 1 << w
		}
	}
	fill(ofLits, 0, 0, make([]uint32, 16))
	fill(ofLits, 16, 16, []uint32{1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16})
	fill(ofMatch, 0, minMatch, make([]uint32, 32))
	fill(ofMatch, 32, 32+minMatch, []uint32{1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16})
	for s := range symbols[ofOffset] {
		base[ofOffset][s], extra[ofOffset][s] = 1<<s, uint32(s)
	}
	number := func(kind int, least uint32, to []uint8) {
		for s := range symbols[kind] {
			for v := range uint32(1) << extra[kind][s] {
				if at := base[kind][s] + v - least; at < uint32(len(to)) {
					to[at] = uint8(s)
				}
			}
		}
	}
	number(ofLits, 0, litsSymbol[:])
	number(ofMatch, minMatch, matchSymbol[:])
}

func litsSymbolOf(n uint32) uint8 {
	if n < 64 {
		return litsSymbol[n]
	}
	return uint8(bits.Len32(n)) + 18
}

func matchSymbolOf(n uint32) uint8 {
	n -= minMatch
	if n < 128 {
		return matchSymbol[n]
	}
	return uint8(bits.Len32(n)) + 35
}

// The modes of a table (RFC 8878, 3.1.1.3.2.1).
const (
	modePredefined = iota
	modeRLE
	modeFSE
	modeRepeat
)

// table is an FSE table: a distribution, and what is made of it.
type table struct {
	mode   uint8
	log    uint8
	n      int // symbols
	norm   [maxSymbol]int16
	desc   []byte // as stored: a description, or the symbol
	used   uint64 // symbols that have a probability
	decode [1 << maxLog]step
	order  [1 << maxLog]uint8 // symbol of each state

	coded  bool // the rest is made
	state  [1 << maxLog]uint16
	change [maxSymbol]change
}

// step is one state's decoding.
type step struct {
	base  uint32
	next  uint16 // added to bits
	bits  uint8
	extra uint8
}

// change is one symbol's coding: bits to write are (state+bits)>>16.
type change struct {
	find int32
	bits uint32
}

// read parses a description (RFC 8878, 4.1.1) and returns its length.
func (t *table) read(b []byte, kind int) (int, bool) {
	var at, used uint
	take := func(n uint) uint32 {
		var v uint32
		for i := range n {
			if k := (at + i) >> 3; k < uint(len(b)) {
				v |= uint32(b[k]>>((at+i)&7)&1) << i
			}
		}
		return v
	}
	t.log = uint8(take(4)) + 5
	at += 4
	if t.log > logs[kind] {
		return 0, false
	}
	t.n = 0
	left := int(1)<<t.log + 1
	for left > 1 {
		if t.n >= symbols[kind] {
			return 0, false
		}
		width := uint(bits.Len(uint(left))) // left < 1<<width
		limit := 1 << (width - 1)
		few := 2*limit - 1 - left
		v := int(take(width - 1))
		if v < few {
			at += width - 1
		} else {
			if v = int(take(width)); v >= limit {
				v -= few
			}
			at += width
		}
		v--
		t.norm[t.n] = int16(v)
		t.n++
		if v < 0 {
			left--
		} else {
			left -= v
		}
		for more := v == 0; more; {
			zeros := int(take(2))
			at += 2
			more = zeros == 3
			for range zeros {
				if t.n >= symbols[kind] {
					return 0, false
				}
				t.norm[t.n] = 0
				t.n++
			}
		}
	}
	used = (at + 7) / 8
	if left != 1 || used > uint(len(b)) {
		return 0, false
	}
	t.mode, t.desc, t.coded = modeFSE, b[:used], false
	t.spread(kind)
	return int(used), true
}

// describe is the inverse of read.
func (t *table) describe(b []byte) []byte {
	var acc uint64
	var have uint
	put := func(v, n uint) {
		for acc, have = acc|uint64(v)<<have, have+n; have >= 8; acc, have = acc>>8, have-8 {
			b = append(b, byte(acc))
		}
	}
	put(uint(t.log)-5, 4)
	left := int(1)<<t.log + 1
	for s := 0; s < t.n && left > 1; {
		n := int(t.norm[s])
		s++
		width := uint(bits.Len(uint(left)))
		limit := 1 << (width - 1)
		few := 2*limit - 1 - left
		switch v := n + 1; {
		case v < few:
			put(uint(v), width-1)
		case v >= limit:
			put(uint(v+few), width)
		default:
			put(uint(v), width)
		}
		left -= max(n, -n)
		if n != 0 {
			continue
		}
		zeros := 0
		for s < t.n && t.norm[s] == 0 {
			zeros++
			s++
		}
		for ; zeros >= 3; zeros -= 3 {
			put(3, 2)
		}
		put(uint(zeros), 2)
	}
	if have > 0 {
		b = append(b, byte(acc))
	}
	return b
}

// single makes a table of one symbol.
func (t *table) single(symbol uint8, b []byte, kind int) bool {
	if int(symbol) >= symbols[kind] {
		return false
	}
	t.mode, t.log, t.desc, t.used, t.coded = modeRLE, 0, b, 1<<symbol, false
	t.order[0] = symbol
	t.decode[0] = step{base: base[kind][symbol], extra: uint8(extra[kind][symbol])}
	return true
}

// spread places the symbols and builds the decoding steps (RFC 8878, 4.1.1).
func (t *table) spread(kind int) {
	size := 1 << t.log
	high := size - 1
	t.used = 0
	for s, n := range t.norm[:t.n] {
		if n != 0 {
			t.used |= 1 << s
		}
		if n < 0 {
			t.order[high] = uint8(s)
			high--
		}
	}
	at, stride := 0, size>>1+size>>3+3
	for s, n := range t.norm[:t.n] {
		for range n {
			t.order[at] = uint8(s)
			for at = (at + stride) & (size - 1); at > high; {
				at = (at + stride) & (size - 1)
			}
		}
	}
	var next [maxSymbol]uint16
	for s, n := range t.norm[:t.n] {
		next[s] = uint16(max(n, -n))
	}
	for i, s := range t.order[:size] {
		x := next[s]
		next[s]++
		n := t.log - uint8(bits.Len16(x)-1)
		t.decode[i] = step{base: base[kind][s], extra: uint8(extra[kind][s]), bits: n, next: x<<n - uint16(size)}
	}
}

// encoder builds the coding side.
func (t *table) encoder() {
	if t.coded {
		return
	}
	t.coded = true
	if t.mode == modeRLE {
		t.state[0], t.change[t.order[0]] = 0, change{} // no bits, and no other state
		return
	}
	size := 1 << t.log
	var at [maxSymbol + 1]int
	sum := 0
	for s, n := range t.norm[:t.n] {
		at[s] = sum
		count := int(max(n, -n))
		switch {
		case count == 1:
			t.change[s] = change{int32(sum - 1), uint32(t.log)<<16 - uint32(size)}
		case count > 1:
			most := uint32(t.log) - uint32(bits.Len(uint(count-1))-1)
			t.change[s] = change{int32(sum - count), most<<16 - uint32(count)<<most}
		}
		sum += count
	}
	for i, s := range t.order[:size] {
		t.state[at[s]] = uint16(size + i)
		at[s]++
	}
}

// start is the first state, which yields the symbol without a bit.
func (t *table) start(symbol uint8) uint32 {
	c := t.change[symbol]
	n := (c.bits + 1<<15) >> 16
	return uint32(t.state[int32((n<<16-c.bits)>>n)+c.find])
}
