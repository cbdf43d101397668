package verifier

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/keyset"
)

// search looks for keys in bytes of no known structure: text of metadata,
// gaps of files, unknown blobs. Keys too short to be told from noise are not
// searched; what is found is possible unless the keys are long.
type search struct {
	sets    []needle
	certain bool // every hit so far is of a long key
}

// needle is a keyset of one part in a form that can be searched for.
type needle struct {
	keys    *keyset.Set
	kind    keyset.Kind
	lengths []int // distinct lengths of string and binary keys
}

// Shorter keys are found everywhere by chance.
const (
	minNeedle     = 4
	certainNeedle = 8
	minDigits     = 5
	maxLengths    = 64 // more distinct lengths than this are searched up to the 64 shortest
)

func newSearch(sets []*keyset.Set) *search {
	s := &search{certain: true}
	for _, k := range sets {
		if len(k.Schema()) != 1 {
			continue // a part alone is no key
		}
		n := needle{keys: k, kind: k.Schema()[0].Type.Kind}
		if n.kind == keyset.KindString || n.kind == keyset.KindBinary {
			for key := range k.Part(0) {
				if len(key) >= minNeedle && !slices.Contains(n.lengths, len(key)) && len(n.lengths) < maxLengths {
					n.lengths = append(n.lengths, len(key))
				}
			}
		}
		s.sets = append(s.sets, n)
	}
	return s
}

func (s *search) longest() (n int) {
	n = 36
	for _, x := range s.sets {
		for _, l := range x.lengths {
			n = max(n, l)
		}
	}
	return n
}

// text counts keys in text: strings and UUIDs anywhere, numbers where a run of
// digits is one.
func (s *search) text(b []byte) (hits int64) {
	for _, n := range s.sets {
		switch n.kind {
		case keyset.KindString, keyset.KindBinary:
			hits += s.windows(n, b)
		case keyset.KindUUID:
			hits += uuids(n, b)
		case keyset.KindInt64:
			h := numbers(n, b)
			if h > 0 {
				s.certain = false // a count or an id may be the same number
			}
			hits += h
		}
	}
	return hits
}

// strings is text without numbers: for places full of numbers that are no keys.
func (s *search) strings(b []byte) (hits int64) {
	for _, n := range s.sets {
		switch n.kind {
		case keyset.KindString, keyset.KindBinary:
			hits += s.windows(n, b)
		case keyset.KindUUID:
			hits += uuids(n, b)
		}
	}
	return hits
}

// raw counts keys in binary data: also fixed-width encodings at any offset.
func (s *search) raw(b []byte) (hits int64) {
	for _, n := range s.sets {
		switch n.kind {
		case keyset.KindString, keyset.KindBinary:
			hits += s.windows(n, b)
		case keyset.KindUUID:
			for i := 0; i+16 <= len(b); i++ {
				if n.keys.Contains(b[i : i+16]) {
					hits++
				}
			}
			hits += uuids(n, b)
		case keyset.KindInt64:
			hits += s.integers(n, b)
		}
	}
	return hits
}

// integers looks for 8-byte little-endian integers; small ones are not told
// from lengths and offsets, so they count as possible only.
func (s *search) integers(n needle, b []byte) (hits int64) {
	var key [8]byte
	for i := 0; i+8 <= len(b); i++ {
		v := binary.LittleEndian.Uint64(b[i:])
		binary.BigEndian.PutUint64(key[:], v^1<<63)
		if v>>16 != 0 && n.keys.Contains(key[:]) {
			hits++
			s.certain = s.certain && v>>32 != 0
		}
	}
	return hits
}

func (s *search) windows(n needle, b []byte) (hits int64) {
	for _, l := range n.lengths {
		for i := 0; i+l <= len(b); i++ {
			if n.keys.Contains(b[i : i+l]) {
				hits++
				s.certain = s.certain && l >= certainNeedle
			}
		}
	}
	return hits
}

func uuids(n needle, b []byte) (hits int64) {
	for i := 0; i+36 <= len(b); i++ {
		if b[i+8] != '-' || b[i+13] != '-' || b[i+18] != '-' || b[i+23] != '-' {
			continue
		}
		digits := bytes.ReplaceAll(b[i:i+36], []byte("-"), nil)
		var id [16]byte
		if m, err := hex.Decode(id[:], digits); err == nil && m == 16 && n.keys.Contains(id[:]) {
			hits++
		}
	}
	return hits
}

func numbers(n needle, b []byte) (hits int64) {
	var buf [8]byte
	for i := 0; i < len(b); i++ {
		if b[i] < '0' || b[i] > '9' || i > 0 && (isWord(b[i-1]) || b[i-1] == '.') {
			continue
		}
		end := i
		for end < len(b) && b[end] >= '0' && b[end] <= '9' {
			end++
		}
		if end-i >= minDigits && (end == len(b) || !isWord(b[end])) {
			from := i
			if i > 0 && b[i-1] == '-' {
				from--
			}
			t := keyset.Type{Kind: keyset.KindInt64}
			if k, err := t.AppendText(buf[:0], b[from:end]); err == nil && n.keys.Contains(k) {
				hits++
			}
		}
		i = end
	}
	return hits
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
}

func asStorage(err error, se **storage.Error) bool { return errors.As(err, se) }
