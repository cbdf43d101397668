package csv

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"
)

// Most fields end at the next delimiter or line end, or at the next quote if
// they begin with one. Delimiters and line ends are found by bitmaps, a bit a
// byte, of 64 bytes at a time. A record with doubled quotes, or that is malformed
// or empty, is left to cut, which knows all rules.

// plain is what is known of the 64 bytes around the position.
type plain struct {
	block int    // position of the 64 bytes
	ends  uint64 // delimiters and line ends
	cells []cell // of the record
}

// cell is where the text of a field is.
type cell struct {
	from, to int
	quoted   bool
}

// bitmaps marks the delimiters and line ends of 64 bytes, or as many as there are.
func bitmaps(b []byte, comma byte) (ends uint64) {
	if len(b) >= 64 {
		if useAVX2 {
			return endsAVX2(&b[0], comma)
		}
		c := uint64(comma) * lanes
		for i := 0; i < 64; i += 8 {
			x := binary.LittleEndian.Uint64(b[i:])
			ends |= gather(zero(x^c)|zero(x^'\n'*lanes)) << i
		}
		return ends
	}
	for i, x := range b {
		if x == comma || x == '\n' {
			ends |= 1 << i
		}
	}
	return ends
}

const (
	lanes = 0x0101010101010101
	lows  = 0x7f7f7f7f7f7f7f7f
)

// zero has the top bit of every byte of x that is 0, and no other bit.
func zero(x uint64) uint64 { return ^((x&lows + lows) | x | lows) }

// gather moves the top bits of eight bytes to the lowest eight bits.
func gather(x uint64) uint64 { return x >> 7 * 0x0102040810204080 >> 56 }

// plainRecords decides on records from pos on for as long as they are whole and
// need no second look; it returns the position of the first that does.
func (s *scan) plainRecords(buf []byte, pos int) int {
	p := &s.plain
	p.block, p.ends = pos, bitmaps(buf[pos:], s.comma)
	for pos < len(buf) {
		end := p.record(buf, pos, s.comma)
		if end < 0 || len(p.cells) != s.fields || s.fields == 1 && end-pos <= 2 {
			return pos
		}
		s.plainRecord(buf, pos, end)
		pos = end
	}
	return pos
}

// record finds the fields of the record at pos and its end; -1 when it needs
// another look.
func (p *plain) record(buf []byte, pos int, comma byte) int {
	p.cells = p.cells[:0]
	for pos < len(buf) {
		c := cell{from: pos}
		if buf[pos] == '"' {
			end := p.quoted(buf, pos, comma)
			if end < 0 {
				return -1
			}
			c = cell{from: pos + 1, to: end - 1, quoted: true}
			if buf[end] == '\r' {
				end++
			}
			p.seek(buf, end, comma)
		}
		for p.ends == 0 {
			if p.block += 64; p.block >= len(buf) {
				return -1
			}
			p.ends = bitmaps(buf[p.block:], comma)
		}
		end := p.block + bits.TrailingZeros64(p.ends)
		p.ends &= p.ends - 1
		last := buf[end] == '\n'
		if pos = end + 1; !c.quoted {
			if c.to = end; last && end > c.from && buf[end-1] == '\r' {
				c.to--
			}
		}
		p.cells = append(p.cells, c)
		if last {
			return pos
		}
	}
	return -1
}

// quoted finds the end of a field without doubled quotes: the position behind
// its closing one, where a delimiter or a line end is; -1 otherwise.
func (p *plain) quoted(buf []byte, pos int, comma byte) int {
	k := bytes.IndexByte(buf[pos+1:], '"')
	end := pos + 2 + k
	if k < 0 || end >= len(buf) {
		return -1
	}
	if c := buf[end]; c == comma || c == '\n' || c == '\r' && end+1 < len(buf) && buf[end+1] == '\n' {
		return end
	}
	return -1
}

// seek forgets delimiters and line ends before a position.
func (p *plain) seek(buf []byte, pos int, comma byte) {
	if pos < p.block+64 {
		p.ends &= ^uint64(0) << (pos - p.block)
		return
	}
	p.block, p.ends = pos, bitmaps(buf[pos:], comma)
}

// plainRecord decides on a record whose fields are known.
func (s *scan) plainRecord(buf []byte, from, to int) {
	s.cells = slices.Grow(s.cells[:0], s.fields)[:s.fields]
	s.quoted = slices.Grow(s.quoted[:0], s.fields)[:s.fields]
	for _, i := range s.keyFields {
		c := s.plain.cells[i]
		s.cells[i], s.quoted[i] = buf[c.from:c.to], c.quoted
	}
	s.decide(from, to)
}
