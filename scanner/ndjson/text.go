package ndjson

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// Eight bytes at a time: the top bit of each lane.
const (
	lanes = 0x0101010101010101
	tops  = 0x8080808080808080
)

// special has, at its lowest set bit, the first of eight bytes at which the
// inside of a string is not just passed: a quote, a backslash, a control
// character. Above it other bits may be set by borrows.
func special(x uint64) uint64 {
	quote := x ^ '"'*lanes
	slash := x ^ '\\'*lanes
	return ((quote-lanes)&^quote | (slash-lanes)&^slash | (x-0x20*lanes)&^x) & tops
}

// passText passes what needs no look: it returns the first position at or behind
// i of a quote, a backslash or a control character, or the end.
func passText(b []byte, i int) int {
	if n := len(b) - i; useAVX2 && n >= 32 {
		k := passAVX2(&b[i], n)
		if i += k; k < n&^31 {
			return i
		}
	}
	for i+16 <= len(b) {
		m, n := special(binary.LittleEndian.Uint64(b[i:])), special(binary.LittleEndian.Uint64(b[i+8:]))
		if m != 0 {
			return i + bits.TrailingZeros64(m)>>3
		}
		if n != 0 {
			return i + 8 + bits.TrailingZeros64(n)>>3
		}
		i += 16
	}
	for i < len(b) && b[i] != '"' && b[i] != '\\' && b[i] >= 0x20 {
		i++
	}
	return i
}

// skipString passes a string, from its opening quote at i to behind its closing one.
func skipString(b []byte, i int) (end int, escaped bool, err error) {
	for i++; ; {
		i = passText(b, i)
		if i >= len(b) {
			return i, false, errSyntax
		}
		switch b[i] {
		case '"':
			return i + 1, escaped, nil
		case '\\':
			escaped = true
			if i+1 >= len(b) {
				return i, false, errSyntax
			}
			switch b[i+1] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
				i += 2
			case 'u':
				if _, ok := hex4(b[i+2:]); !ok {
					return i, false, errSyntax
				}
				i += 6
			default:
				return i, false, errSyntax
			}
		default:
			return i, false, errSyntax // a control character
		}
	}
}

func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// unescape writes a checked string's text. Half a surrogate pair becomes bytes
// that no UTF-8 text has, so that it equals no key.
func (w *walker) unescape(s []byte) []byte {
	out := w.text[:0]
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			out = append(out, s[i])
			i++
			continue
		}
		c := s[i+1]
		i += 2
		switch c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r, _ := hex4(s[i:])
			i += 4
			if utf16.IsSurrogate(r) {
				low := rune(-1)
				if i+6 <= len(s) && s[i] == '\\' && s[i+1] == 'u' {
					low, _ = hex4(s[i+2:])
				}
				pair := utf16.DecodeRune(r, low)
				if pair == utf8.RuneError {
					out = append(out, 0xed, 0xa0|byte(r>>6&0x1f), 0x80|byte(r&0x3f))
					continue
				}
				r, i = pair, i+6
			}
			out = utf8.AppendRune(out, r)
			continue
		}
		out = append(out, c)
	}
	w.text = out
	return out
}
