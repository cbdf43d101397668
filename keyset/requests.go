package keyset

import (
	"encoding/binary"
	"slices"
	"sync"
	"time"
)

// Request is one erasure request that named keys of a set.
type Request struct {
	ID       string    `json:"id,omitempty"`      // "" when the sources give dates only
	Received time.Time `json:"received,omitzero"` // the earliest date seen for it, UTC
	Keys     int       `json:"keys"`              // keys of the set that it names
	Held     int       `json:"held"`              // keys that it named and a hold took out
}

// asked says which requests named which key. Most keys have one request, so a
// key costs four bytes: 0 is none, up to len(requests) is that request, and
// beyond it a list of several.
type asked struct {
	requests []Request
	of       []uint32 // by key number; nil when no request is known
	lists    [][]uint32
}

// Requests returns the requests that named keys, held ones included, ordered by
// id and date. It must not be changed.
func (s *Set) Requests() []Request { return s.asked.requests }

// RequestsOf returns indexes into Requests: who asked for the canonical key.
func (s *Set) RequestsOf(canonical []byte) []int {
	n := s.number(canonical)
	if n < 0 || s.asked.of == nil {
		return nil
	}
	var out []int
	for _, r := range s.asked.at(n) {
		out = append(out, int(r))
	}
	return out
}

// RequestsAt is RequestsOf for the key of a number.
func (s *Set) RequestsAt(number int) []int {
	if number < 0 || number >= len(s.asked.of) {
		return nil
	}
	var out []int
	for _, r := range s.asked.at(number) {
		out = append(out, int(r))
	}
	return out
}

// at returns the requests of key number n.
func (a *asked) at(n int) []uint32 {
	if a.of == nil {
		return nil
	}
	return a.expand(a.of[n])
}

func (a *asked) expand(code uint32) []uint32 {
	switch c := int(code); {
	case c == 0:
		return nil
	case c <= len(a.requests):
		return []uint32{code - 1}
	default:
		return a.lists[c-len(a.requests)-1]
	}
}

func (a *asked) bytes() int64 {
	n := int64(len(a.of)) * 4
	for _, r := range a.requests {
		n += int64(len(r.ID)) + 56
	}
	for _, l := range a.lists {
		n += int64(len(l))*4 + 24
	}
	return n
}

// interner numbers requests while sources are read. It is safe for concurrent
// use; a reader keeps its own askedCache in front.
type interner struct {
	mu       sync.Mutex
	byKey    map[string]uint32
	requests []Request
	lists    listTable
}

func newInterner() *interner {
	return &interner{byKey: make(map[string]uint32)}
}

// add returns the request's number + 1. Without an id, the date identifies it.
func (in *interner) add(id string, received time.Time) uint32 {
	key := id
	if id == "" {
		if received.IsZero() {
			return 0
		}
		key = dateKey(received)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	n, ok := in.byKey[key]
	if !ok {
		in.requests = append(in.requests, Request{ID: id, Received: received})
		n = uint32(len(in.requests))
		in.byKey[key] = n
		return n
	}
	if r := &in.requests[n-1]; r.Received.IsZero() || !received.IsZero() && received.Before(r.Received) {
		r.Received = received
	}
	return n
}

// dateKey cannot be an id: ids come from text, which holds no such byte.
func dateKey(t time.Time) string {
	b := []byte{0xff}
	b = binary.BigEndian.AppendUint64(b, uint64(t.Unix()))
	return string(binary.BigEndian.AppendUint32(b, uint32(t.Nanosecond())))
}

// askedCache spares the interner a lock for repeated requests.
type askedCache struct {
	in   *interner
	last map[string]cachedRequest
}

type cachedRequest struct {
	n        uint32
	received time.Time
}

const askedCacheSize = 1 << 12

func (c *askedCache) add(id []byte, received time.Time) uint32 {
	if e, ok := c.last[string(id)]; ok && len(id) > 0 && e.received.Equal(received) {
		return e.n
	}
	n := c.in.add(string(id), received)
	if len(id) > 0 {
		if c.last == nil || len(c.last) >= askedCacheSize {
			c.last = make(map[string]cachedRequest)
		}
		c.last[string(id)] = cachedRequest{n, received}
	}
	return n
}

// listTable interns sorted lists of request numbers. A code with listBit is a
// list; without it, a request's number + 1.
type listTable struct {
	byKey map[string]uint32
	lists [][]uint32 // request number + 1
}

const listBit = 1 << 31

// merge returns the code of all requests of the codes.
func (t *listTable) merge(codes []uint32) uint32 {
	var all []uint32
	for _, c := range codes {
		switch {
		case c&listBit != 0:
			all = append(all, t.lists[c&^listBit]...)
		case c != 0:
			all = append(all, c)
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	switch len(all) {
	case 0:
		return 0
	case 1:
		return all[0]
	}
	var key []byte
	for _, r := range all {
		key = binary.BigEndian.AppendUint32(key, r)
	}
	if n, ok := t.byKey[string(key)]; ok {
		return n | listBit
	}
	if t.byKey == nil {
		t.byKey = make(map[string]uint32)
	}
	n := uint32(len(t.lists))
	t.lists = append(t.lists, all)
	t.byKey[string(key)] = n
	return n | listBit
}

// finish orders the requests by id and date, renumbers the codes of the keys in
// place and counts the keys of each request.
func (in *interner) finish(codes []uint32) asked {
	return finishAsked(in.requests, in.lists.lists, codes)
}

// finishAsked is finish for lists of request number + 1.
func finishAsked(requests []Request, lists [][]uint32, codes []uint32) asked {
	order := make([]uint32, len(requests))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(x, y uint32) int { return compareRequests(&requests[x], &requests[y]) })
	place := make([]uint32, len(requests))
	a := asked{requests: make([]Request, len(requests)), of: codes, lists: make([][]uint32, len(lists))}
	for to, from := range order {
		place[from] = uint32(to)
		a.requests[to] = requests[from]
		a.requests[to].Keys = 0
	}
	for i, l := range lists {
		out := make([]uint32, len(l))
		for j, r := range l {
			out[j] = place[r-1]
		}
		slices.Sort(out)
		a.lists[i] = out
	}
	for i, c := range codes {
		switch {
		case c&listBit != 0:
			codes[i] = uint32(len(requests)) + 1 + c&^listBit
		case c != 0:
			codes[i] = place[c-1] + 1
		}
		switch {
		case c&listBit != 0:
			for _, r := range a.expand(codes[i]) {
				a.requests[r].Keys++
			}
		case c != 0:
			a.requests[codes[i]-1].Keys++
		}
	}
	return a
}

func compareRequests(x, y *Request) int {
	switch {
	case x.ID != y.ID && x.ID < y.ID:
		return -1
	case x.ID != y.ID:
		return 1
	}
	return x.Received.Compare(y.Received)
}
