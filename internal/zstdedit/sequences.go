package zstdedit

import (
	"encoding/binary"
	"math/bits"
)

// sequence is so many literals, then a copy of match bytes from offset back.
type sequence struct{ lits, match, offset uint32 }

// codes are a sequence's symbols, and its offset as stored: a value that may
// stand for a recent distance.
type codes struct {
	lits, match, offset uint8
	value               uint32
}

// table is a free table of the editor.
func (e *Editor) table() *table {
	if e.nTables == len(e.tables) {
		e.tables = append(e.tables, new(table))
	}
	e.nTables++
	return e.tables[e.nTables-1]
}

// decodeSequences reads a sequences section into e.seqs, with the distances
// that offsets come to, and returns its modes.
func (e *Editor) decodeSequences(b []byte) (modes byte, ok bool) {
	e.seqs = e.seqs[:0]
	if len(b) < 1 {
		return 0, false
	}
	n := int(b[0])
	switch {
	case n == 0:
		return 0, len(b) == 1
	case n < 128:
		b = b[1:]
	case n < 255:
		if len(b) < 2 {
			return 0, false
		}
		n, b = (n-128)<<8|int(b[1]), b[2:]
	default:
		if len(b) < 3 {
			return 0, false
		}
		n, b = int(b[1])|int(b[2])<<8+0x7F00, b[3:]
	}
	if len(b) < 1 || n > maxBlock/minMatch+1 {
		return 0, false
	}
	modes, b = b[0], b[1:]
	for kind := range e.source.tables {
		if b, ok = e.openTable(b, kind, modes>>(6-2*kind)&3); !ok {
			return 0, false
		}
	}
	return modes, e.decode(b, n)
}

func (e *Editor) openTable(b []byte, kind int, mode byte) ([]byte, bool) {
	switch mode {
	case modePredefined:
		e.source.tables[kind] = predefined()[kind]
	case modeRLE:
		t := e.table()
		if len(b) < 1 || !t.single(b[0], b[:1], kind) {
			return nil, false
		}
		e.source.tables[kind], b = t, b[1:]
	case modeFSE:
		t := e.table()
		n, ok := t.read(b, kind)
		if !ok {
			return nil, false
		}
		e.source.tables[kind], b = t, b[n:]
	default:
		return b, e.source.tables[kind] != nil
	}
	return b, true
}

// decode reads n sequences from a bit stream, which runs backwards.
func (e *Editor) decode(b []byte, n int) bool {
	if len(b) == 0 || b[len(b)-1] == 0 {
		return false
	}
	at := 8*len(b) - 9 + bits.Len8(b[len(b)-1]) // bits left
	// Room before and behind the stream: a read may reach over either end.
	e.stream = append(append(append(e.stream[:0], make([]byte, 8)...), b...), make([]byte, 8)...)
	stream := e.stream
	load := func(at int) uint64 { // the bits from at on
		at += 64
		return binary.LittleEndian.Uint64(stream[at>>3:]) >> (at & 7)
	}
	lt, ot, mt := e.source.tables[ofLits], e.source.tables[ofOffset], e.source.tables[ofMatch]
	at -= int(lt.log) + int(ot.log) + int(mt.log)
	if at < 0 {
		return false
	}
	w := load(at)
	ms := w & (1<<mt.log - 1)
	w >>= mt.log
	os := w & (1<<ot.log - 1)
	ls := w >> ot.log & (1<<lt.log - 1)
	if cap(e.seqs) < n {
		e.seqs = make([]sequence, n, 2*n)
	}
	e.seqs = e.seqs[:n]
	r := e.source.reps
	for i := range e.seqs {
		l, o, m := lt.decode[ls&(1<<maxLog-1)], ot.decode[os&(1<<maxLog-1)], mt.decode[ms&(1<<maxLog-1)]
		at -= int(o.extra) + int(m.extra)
		if at < -56 {
			return false
		}
		w := load(at)
		match := m.base + uint32(w)&(1<<m.extra-1)
		value := o.base + uint32(w>>m.extra)&(1<<o.extra-1)
		last := i == len(e.seqs)-1
		at -= int(l.extra)
		if !last {
			at -= int(l.bits) + int(m.bits) + int(o.bits)
		}
		if at < -56 {
			return false
		}
		w = load(at)
		if !last {
			os = uint64(o.next) + w&(1<<o.bits-1)
			w >>= o.bits
			ms = uint64(m.next) + w&(1<<m.bits-1)
			w >>= m.bits
			ls = uint64(l.next) + w&(1<<l.bits-1)
			w >>= l.bits
		}
		lits := l.base + uint32(w)&(1<<l.extra-1)
		e.seqs[i] = sequence{lits, match, distance(&r, value, lits)}
	}
	e.source.reps = r
	return at == 0
}

// distance is what an offset's value stands for; r are the three most recent
// distances (RFC 8878, 3.1.1.5).
func distance(r *[3]uint32, value, lits uint32) uint32 {
	if value > 3 {
		d := value - 3
		r[0], r[1], r[2] = d, r[0], r[1]
		return d
	}
	if lits == 0 {
		value++
	}
	switch value {
	case 1:
	case 2:
		r[0], r[1] = r[1], r[0]
	case 3:
		r[0], r[1], r[2] = r[2], r[0], r[1]
	default:
		r[0], r[1], r[2] = r[0]-1, r[0], r[1]
	}
	return r[0]
}

// valueOf is the inverse of distance. Values that the table has no symbol for
// are not made where there is a choice: known has the symbols' bits.
func valueOf(r *[3]uint32, d, lits uint32, known uint64) uint32 {
	shift := uint32(0)
	if lits == 0 {
		shift = 1
	}
	switch {
	case d == r[0] && shift == 0 && known&1 != 0:
		return 1
	case known&2 == 0 && known&(1<<(bits.Len32(d+3)-1)) != 0:
	case d == r[1]:
		r[0], r[1] = r[1], r[0]
		return 2 - shift
	case d == r[2]:
		r[0], r[1], r[2] = r[2], r[0], r[1]
		return 3 - shift
	case shift == 1 && d == r[0]-1:
		r[0], r[1], r[2] = d, r[0], r[1]
		return 3
	}
	r[0], r[1], r[2] = d, r[0], r[1]
	return d + 3
}

// appendSequences codes e.edited under the tables of the source block, with
// the symbols added that these do not know.
func (e *Editor) appendSequences(b []byte) ([]byte, bool) {
	n := len(e.edited)
	switch {
	case n == 0:
		return append(b, 0), true
	case n < 128:
		b = append(b, byte(n))
	case n < 0x7F00:
		b = append(b, byte(n>>8)+128, byte(n))
	default:
		b = append(b, 255, byte(n-0x7F00), byte((n-0x7F00)>>8))
	}
	used := e.encodeSymbols()
	at := len(b)
	b = append(b, 0)
	for kind, t := range e.source.tables {
		if t == nil || used[kind]&^t.used != 0 {
			var ok bool
			if t, ok = e.extend(t, used[kind], kind); !ok {
				return b, false
			}
		}
		mode := t.mode
		if mode == modeFSE && e.written.tables[kind] == t {
			mode = modeRepeat
		}
		if mode == modeRLE || mode == modeFSE {
			b = append(b, t.desc...)
		}
		e.written.tables[kind] = t
		b[at] |= mode << (6 - 2*kind)
		t.encoder()
	}
	return e.encode(b), true
}

// extend makes a table that has more symbols than one of the source: each takes
// a part from the most frequent one. A table of one symbol, or none, makes way
// for the predefined one.
func (e *Editor) extend(t *table, used uint64, kind int) (*table, bool) {
	if p := predefined()[kind]; t == nil || t.mode != modeFSE {
		return p, used&^p.used == 0
	}
	x := e.table()
	x.mode, x.coded, x.log, x.n, x.norm = modeFSE, false, t.log, t.n, t.norm
	for s := range x.norm {
		if s >= t.n {
			x.norm[s] = 0
		}
		if used>>s&1 == 0 || x.norm[s] != 0 {
			continue
		}
		most := 0
		for k, n := range x.norm[:x.n] {
			if n > x.norm[most] {
				most = k
			}
		}
		if s >= symbols[kind] || x.norm[most] < 2 {
			return nil, false
		}
		x.norm[most]--
		x.norm[s] = -1
		x.n = max(x.n, s+1)
	}
	x.spread(kind)
	x.desc = x.describe(nil)
	return x, true
}

// encodeSymbols finds the symbols of all sequences, and which there are.
func (e *Editor) encodeSymbols() (used [3]uint64) {
	if cap(e.codes) < len(e.edited) {
		e.codes = make([]codes, 2*len(e.edited))
	}
	e.codes = e.codes[:len(e.edited)]
	r, known := e.written.reps, ^uint64(0)
	if t := e.source.tables[ofOffset]; t != nil {
		known = t.used
	}
	for i, s := range e.edited {
		v := valueOf(&r, s.offset, s.lits, known)
		c := codes{litsSymbolOf(s.lits), matchSymbolOf(s.match), uint8(bits.Len32(v) - 1), v}
		e.codes[i] = c
		used[ofLits] |= 1 << (c.lits & 63)
		used[ofOffset] |= 1 << (c.offset & 63)
		used[ofMatch] |= 1 << (c.match & 63)
	}
	e.written.reps = r
	return used
}

// encode writes the bit stream, last sequence first (RFC 8878, 4.1).
func (e *Editor) encode(b []byte) []byte {
	lt, ot, mt := e.written.tables[ofLits], e.written.tables[ofOffset], e.written.tables[ofMatch]
	// A sequence takes 86 bits at most.
	at := len(b)
	need := at + len(e.codes)*11 + 16
	if cap(b) < need {
		b = append(make([]byte, 0, 2*need), b...)
	}
	out := b[:need]
	// Locals, and no closures over them: they stay in registers.
	var acc uint64
	var have uint32
	last := len(e.codes) - 1
	c := &e.codes[last]
	ms, os, ls := mt.start(c.match), ot.start(c.offset), lt.start(c.lits)
	for i := last; ; i-- {
		c, s := &e.codes[i], &e.edited[i]
		if i < last {
			ch := ot.change[c.offset&63]
			n := (os + ch.bits) >> 16
			acc |= uint64(os&(1<<n-1)) << have
			have += n
			os = uint32(ot.state[int32(os>>n)+ch.find])
			ch = mt.change[c.match&63]
			n = (ms + ch.bits) >> 16
			acc |= uint64(ms&(1<<n-1)) << have
			have += n
			ms = uint32(mt.state[int32(ms>>n)+ch.find])
			ch = lt.change[c.lits&63]
			n = (ls + ch.bits) >> 16
			acc |= uint64(ls&(1<<n-1)) << have
			have += n
			ls = uint32(lt.state[int32(ls>>n)+ch.find])
		}
		acc |= uint64(s.lits-base[ofLits][c.lits&63]) << have
		have += extra[ofLits][c.lits&63]
		binary.LittleEndian.PutUint64(out[at:], acc)
		at += int(have >> 3)
		acc >>= have &^ 7
		have &= 7
		acc |= uint64(s.match-base[ofMatch][c.match&63]) << have
		have += extra[ofMatch][c.match&63]
		acc |= uint64(c.value&(1<<(c.offset&31)-1)) << have
		have += uint32(c.offset)
		binary.LittleEndian.PutUint64(out[at:], acc)
		at += int(have >> 3)
		acc >>= have &^ 7
		have &= 7
		if i == 0 {
			break
		}
	}
	for _, x := range [3]struct{ state, log uint32 }{{ms, uint32(mt.log)}, {os, uint32(ot.log)}, {ls, uint32(lt.log)}} {
		acc |= uint64(x.state&(1<<x.log-1)) << have
		have += x.log
	}
	acc |= 1 << have
	binary.LittleEndian.PutUint64(out[at:], acc)
	return out[:at+int(have>>3)+1]
}
