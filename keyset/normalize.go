package keyset

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Rules are the normalisations that a Part can declare. They apply to strings;
// trim also applies to the text forms of other types, whose letter case never
// matters. hex, base64 and base64url say how text stands for binary.
var Rules = []string{"trim", "lowercase", "uppercase", "nfc", "nfkc", "hex", "base64", "base64url"}

// textCodec says how text stands for binary values.
type textCodec uint8

const (
	codecNone textCodec = iota
	codecHex
	codecBase64
	codecBase64URL
)

// rules is a part's normalisation, compiled.
type rules struct {
	steps []func(dst, src []byte) []byte // each appends the changed src to dst
	trim  bool
	codec textCodec
	// ascii is set when every step leaves pure ASCII to trim and case alone, so
	// that the common value needs no Unicode tables.
	lower, upper bool
}

// any reports whether strings change under the rules.
func (r *rules) any() bool { return len(r.steps) > 0 }

func compileRules(p Part) (*rules, error) {
	r := &rules{}
	for _, name := range p.Normalize {
		switch name {
		case "trim":
			r.trim = true
			r.steps = append(r.steps, func(dst, src []byte) []byte { return append(dst, bytes.TrimSpace(src)...) })
		case "lowercase":
			r.lower, r.upper = true, false
			r.steps = append(r.steps, func(dst, src []byte) []byte { return appendCase(dst, src, unicode.ToLower) })
		case "uppercase":
			r.lower, r.upper = false, true
			r.steps = append(r.steps, func(dst, src []byte) []byte { return appendCase(dst, src, unicode.ToUpper) })
		case "nfc":
			r.steps = append(r.steps, func(dst, src []byte) []byte { return norm.NFC.Append(dst, src...) })
		case "nfkc":
			r.steps = append(r.steps, func(dst, src []byte) []byte { return norm.NFKC.Append(dst, src...) })
		case "hex", "base64", "base64url":
			if r.codec != codecNone {
				return nil, fmt.Errorf("%w: more than one text encoding for binary", ErrType)
			}
			r.codec = map[string]textCodec{"hex": codecHex, "base64": codecBase64, "base64url": codecBase64URL}[name]
		default:
			return nil, fmt.Errorf("%w: unknown normalisation %q (want one of %v)", ErrType, name, Rules)
		}
	}
	return r, nil
}

// appendString appends src, normalised, to dst. dst must not overlap src.
func (r *rules) appendString(dst, src []byte) []byte {
	if len(r.steps) == 0 {
		return append(dst, src...)
	}
	start := len(dst)
	trimmed := src
	if r.trim {
		trimmed = bytes.TrimSpace(src)
	}
	// Of pure ASCII only case and space change.
	if out, ok := r.appendASCII(dst, trimmed); ok {
		return out
	}
	for i, step := range r.steps {
		if i > 0 {
			src = append([]byte(nil), dst[start:]...)
			dst = dst[:start]
		}
		dst = step(dst, src)
	}
	return dst
}

// text prepares text of a part that is not a string for parsing.
func (r *rules) text(src []byte) []byte {
	if r.trim {
		return bytes.TrimSpace(src)
	}
	return src
}

// appendASCII appends src in the rules' case, eight bytes at a time; false when
// src is not ASCII.
func (r *rules) appendASCII(dst, src []byte) ([]byte, bool) {
	from, flip := byte('A'), byte(0) // the first of 26 letters, and what changes their case
	if r.lower || r.upper {
		flip = 0x20
	}
	if r.upper {
		from = 'a'
	}
	start := len(dst)
	dst = append(dst, src...)
	out := dst[start:]
	above := uint64(0x80-from) * eightOnes
	past := uint64(0x7f-(from+25)) * eightOnes
	for len(out) >= 8 {
		w := binary.LittleEndian.Uint64(out)
		if w&eightTops != 0 {
			return dst[:start], false
		}
		letters := (w + above) &^ (w + past) & eightTops
		binary.LittleEndian.PutUint64(out, w^letters>>7*uint64(flip))
		out = out[8:]
	}
	for i, c := range out {
		if c >= utf8.RuneSelf {
			return dst[:start], false
		}
		if c-from < 26 {
			out[i] = c ^ flip
		}
	}
	return dst, true
}

// appendCase maps runes one to one. Bytes that are not UTF-8 stay as they are:
// replacing them, as bytes.ToLower does, would make different values equal.
func appendCase(dst, src []byte, to func(rune) rune) []byte {
	for len(src) > 0 {
		c, n := utf8.DecodeRune(src)
		if c == utf8.RuneError && n <= 1 {
			dst = append(dst, src[0])
			src = src[1:]
			continue
		}
		dst = utf8.AppendRune(dst, to(c))
		src = src[n:]
	}
	return dst
}

// appendDecoded appends the bytes that text stands for.
func (c textCodec) appendDecoded(dst, text []byte) ([]byte, bool) {
	var err error
	var out []byte
	switch c {
	case codecHex:
		out, err = hex.AppendDecode(dst, text)
	case codecBase64, codecBase64URL:
		enc := base64.StdEncoding
		if c == codecBase64URL {
			enc = base64.URLEncoding
		}
		if len(text)%4 != 0 {
			enc = enc.WithPadding(base64.NoPadding)
		}
		// Newlines are skipped by the decoder and stray bits ignored: two texts
		// must not mean one value by accident.
		if bytes.ContainsAny(text, "\r\n") {
			return dst, false
		}
		out, err = enc.Strict().AppendDecode(dst, text)
	default:
		return dst, false
	}
	if err != nil {
		return dst, false
	}
	return out, true
}
