package keyset

import (
	"fmt"
	"runtime"
	"slices"
)

// Subtract returns the keys of s that are not in holds. A key that goes counts
// as held in the requests that named it.
func Subtract(s, holds *Set) (*Set, error) {
	return filtered(s, holds, func(key []byte) bool { return !holds.Contains(key) }, true)
}

// Intersect returns the keys of s that are also in other: what a later hold
// would have kept, say.
func Intersect(s, other *Set) (*Set, error) {
	return filtered(s, other, other.Contains, false)
}

func sameTypes(a, b *Set) error {
	if !a.schema.Equal(b.schema) {
		return fmt.Errorf("%w: keyset %q and keyset %q have different key types", ErrType, a.name, b.name)
	}
	return nil
}

// filtered returns the keys of s that keep wants.
func filtered(s, other *Set, keep func([]byte) bool, held bool) (*Set, error) {
	if err := sameTypes(s, other); err != nil {
		return nil, err
	}
	defer runtime.KeepAlive(s)
	if held && other.Len() == 0 {
		return s, nil
	}
	requests := slices.Clone(s.asked.requests)
	var b keyBuf
	i, width := 0, setWidth(s)
	for key := range s.All() {
		if keep(key) {
			b.add(key, width, s.askedCode(i))
		} else if held {
			for _, r := range s.asked.at(i) {
				requests[r].Held++
			}
		}
		i++
	}
	return s.derive(b, requests)
}

// derive makes a set of some of s's keys, whose codes are askedCode's.
func (s *Set) derive(b keyBuf, requests []Request) (*Set, error) {
	out, err := setFromSorted(s.name, s.schema, b, s.seed, runtime.GOMAXPROCS(0))
	if err != nil || s.asked.of == nil {
		return out, err
	}
	for len(b.codes) < b.n {
		b.codes = append(b.codes, 0)
	}
	out.asked = finishAsked(requests, s.askedLists(), b.codes)
	return out, nil
}

func setWidth(s *Set) int {
	if len(s.schema) == 1 {
		return s.schema[0].Type.width()
	}
	return 0
}

// askedCode is a key's requests in listTable's code.
func (s *Set) askedCode(i int) uint32 {
	if s.asked.of == nil {
		return 0
	}
	c := s.asked.of[i]
	if n := uint32(len(s.asked.requests)); c > n {
		return c - n - 1 | listBit
	}
	return c
}

func (s *Set) askedLists() [][]uint32 {
	out := make([][]uint32, len(s.asked.lists))
	for i, l := range s.asked.lists {
		for _, r := range l {
			out[i] = append(out[i], r+1)
		}
	}
	return out
}

// Union returns the keys of either, with the requests of both. Name and schema
// are a's.
func Union(a, b *Set) (*Set, error) {
	if err := sameTypes(a, b); err != nil {
		return nil, err
	}
	c := newCollector(a.name, a.schema, runtime.GOMAXPROCS(0))
	held := map[string]int{}
	for _, s := range []*Set{a, b} {
		codes := make([]uint32, len(s.asked.requests))
		for i, r := range s.asked.requests {
			codes[i] = c.requests.add(r.ID, r.Received)
			held[requestKey(&r)] += r.Held
		}
		var buf keyBuf
		i := 0
		for key := range s.All() {
			var mine []uint32
			for _, r := range s.asked.at(i) {
				mine = append(mine, codes[r])
			}
			buf.add(key, c.width, c.requests.lists.merge(mine))
			i++
		}
		c.add(buf)
	}
	out, err := c.build(a.seed)
	if err != nil {
		return nil, err
	}
	for i := range out.asked.requests {
		out.asked.requests[i].Held = held[requestKey(&out.asked.requests[i])]
	}
	return out, nil
}

func requestKey(r *Request) string {
	if r.ID != "" {
		return r.ID
	}
	return dateKey(r.Received)
}

// Equal reports whether both sets hold the same keys of the same types.
func Equal(a, b *Set) bool {
	if !a.schema.Equal(b.schema) || a.Len() != b.Len() {
		return false
	}
	for key := range a.All() {
		if !b.Contains(key) {
			return false
		}
	}
	return true
}
