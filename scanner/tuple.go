package scanner

import (
	"fmt"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/expunge/expunge/keyset"
)

// MaxLists is how many lists a key column may lie in.
const MaxLists = 4

// Place says in which elements of the lists around it a value lies, the
// outermost first; -1 is no list.
type Place [MaxLists]int32

// NoPlace is outside of every list.
var NoPlace = Place{-1, -1, -1, -1}

// joins says whether two values may belong to one key: they lie in the same
// elements, as far as both lie in lists.
func (p Place) joins(q Place) bool {
	for i := range p {
		if p[i] >= 0 && q[i] >= 0 && p[i] != q[i] {
			return false
		}
	}
	return true
}

func (p Place) merge(q Place) Place {
	for i := range p {
		p[i] = max(p[i], q[i])
	}
	return p
}

// Tuples collects one record's key values and says which matches they hit. A
// value that is a whole key is looked up at once; the parts of a composite key
// are kept until the record is complete.
type Tuples struct {
	sets  []*keyset.Set
	parts [][]KeyPart
	vals  [][]partValue // by match and part, composite keys only
	at    [][2]int      // slot to match and part
	first []int         // match to its first slot
	arena []byte
	hit   []bool // by match
	// Places are the places of the hits, where wanted.
	Places      []Place
	WantPlaces  bool
	present     []uint64 // by match: parts seen
	Any         bool     // some match has hit
	composite   bool     // some keys have several parts
	Values      int64
	Foreign     int64
	HavePresent bool // a record had all columns of a match
	// Keys are, by match, the numbers (keyset.Set.Number) of the keys of all
	// finished records; nil = none of that match's.
	Keys  []*roaring64.Bitmap
	found []foundKey // of the record: it may turn out to be malformed
}

type foundKey struct{ match, number int }

type partValue struct {
	from, to int // in arena
	place    Place
}

// NewTuples binds the matches' keysets.
func NewTuples(matches []Match) (*Tuples, error) {
	t := &Tuples{hit: make([]bool, len(matches)), present: make([]uint64, len(matches)), Keys: make([]*roaring64.Bitmap, len(matches))}
	for m, x := range matches {
		parts, err := NewKeyParts(x.Keys)
		if err != nil {
			return nil, err
		}
		if len(parts) != len(x.Columns) || len(parts) > 64 {
			return nil, fmt.Errorf("keyset %s has %d key parts, the match %d columns: %w", x.Keys.Name(), len(parts), len(x.Columns), keyset.ErrType)
		}
		t.sets, t.parts = append(t.sets, x.Keys), append(t.parts, parts)
		t.composite = t.composite || len(parts) > 1
		t.first = append(t.first, len(t.at))
		for p := range parts {
			t.at = append(t.at, [2]int{m, p})
			t.vals = append(t.vals, nil)
		}
	}
	return t, nil
}

// Slots is the number of key columns; Part is the part behind a slot, in the
// order of matches and their columns.
func (t *Tuples) Slots() int { return len(t.at) }

// Part is the key part of a slot.
func (t *Tuples) Part(slot int) *KeyPart { return &t.parts[t.at[slot][0]][t.at[slot][1]] }

// Reset begins a record.
func (t *Tuples) Reset() {
	if t.HavePresent && !t.Any && !t.composite {
		return // nothing was kept
	}
	t.arena, t.Any, t.Places = t.arena[:0], false, t.Places[:0]
	t.found = t.found[:0]
	for i := range t.vals {
		t.vals[i] = t.vals[i][:0]
	}
	clear(t.hit)
	clear(t.present)
}

// Seen notes that the record has a slot's column, whatever its value.
func (t *Tuples) Seen(slot int) {
	if t.HavePresent {
		return
	}
	m := t.at[slot][0]
	t.present[m] |= 1 << t.at[slot][1]
	t.HavePresent = t.present[m] == 1<<len(t.parts[m])-1
}

// Arena is where canonical forms are appended before Add.
func (t *Tuples) Arena() []byte { return t.arena }

// Add takes a value, as a KeyPart appended it to Arena.
func (t *Tuples) Add(slot int, grown []byte, ok, comparable bool, place Place) {
	t.Values++
	if !comparable {
		t.Foreign++
	}
	if !ok {
		return
	}
	from := len(t.arena)
	m := t.at[slot][0]
	if len(t.parts[m]) == 1 {
		t.arena = grown[:from]
		t.note(m, t.sets[m].Number(grown[from:]), place)
		return
	}
	t.arena = grown
	t.vals[slot] = append(t.vals[slot], partValue{from, len(grown), place})
}

// IsInt64 says whether a slot's keys are one int64 each: AddInt64 takes them.
func (t *Tuples) IsInt64(slot int) bool {
	parts := t.parts[t.at[slot][0]]
	return len(parts) == 1 && parts[0].typ.Kind == keyset.KindInt64
}

// AddInt64 takes a value of a slot that IsInt64.
func (t *Tuples) AddInt64(slot int, v int64, place Place) {
	t.Values++
	m := t.at[slot][0]
	if n := t.sets[m].NumberInt64(v); n >= 0 {
		t.note(m, n, place)
	}
}

// AddText takes a value without a type, outside of any list.
func (t *Tuples) AddText(slot int, text []byte) {
	if t.IsInt64(slot) {
		if v, ok := smallInt(text); ok {
			t.AddInt64(slot, v, NoPlace)
			return
		}
	}
	out, ok, comparable := t.Part(slot).Text(t.arena, text)
	t.Add(slot, out, ok, comparable, NoPlace)
}

// note takes in a key by its number; -1 is none.
func (t *Tuples) note(m, number int, place Place) {
	if number < 0 {
		return
	}
	t.hit[m], t.Any = true, true
	t.found = append(t.found, foundKey{m, number})
	if t.WantPlaces {
		t.Places = append(t.Places, place)
	}
}

// Finish joins the parts of composite keys; it returns which matches hit.
func (t *Tuples) Finish() []bool {
	if !t.Any && !t.composite {
		return t.hit
	}
	for m, parts := range t.parts {
		if len(parts) > 1 {
			t.join(m, 0, NoPlace, make([][]byte, len(parts)))
		}
	}
	for _, f := range t.found {
		if t.Keys[f.match] == nil {
			t.Keys[f.match] = roaring64.New()
		}
		t.Keys[f.match].Add(uint64(f.number))
	}
	return t.hit
}

func (t *Tuples) join(m, part int, place Place, chosen [][]byte) {
	if part == len(chosen) {
		t.note(m, t.sets[m].Number(t.sets[m].Schema().AppendTuple(nil, chosen...)), place)
		return
	}
	for _, v := range t.vals[t.first[m]+part] {
		if !place.joins(v.place) {
			continue
		}
		chosen[part] = t.arena[v.from:v.to]
		t.join(m, part+1, place.merge(v.place), chosen)
	}
}
