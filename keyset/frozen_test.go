package keyset

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"
)

func freeze(t interface{ Fatal(...any) }, s *Set) []byte {
	var b bytes.Buffer
	n, err := s.WriteTo(&b)
	if err != nil || n != int64(b.Len()) {
		t.Fatal(n, b.Len(), err)
	}
	return b.Bytes()
}

func frozenGen() *rapid.Generator[*Set] {
	return rapid.Custom(func(t *rapid.T) *Set {
		schema := schemaGen().Draw(t, "schema")
		b, err := NewBuilder("users", schema)
		if err != nil {
			t.Fatal(err)
		}
		ids := rapid.SampledFrom([]string{"", "", "T1", "T2", "T3"})
		days := rapid.IntRange(0, 3)
		for _, k := range rapid.SliceOfN(tupleGen(schema), 0, 50).Draw(t, "keys") {
			var at time.Time
			if d := days.Draw(t, "day"); d > 0 {
				at = time.Date(2026, 1, d, 0, 0, 0, 5, time.UTC)
			}
			if err := b.AddRequested([]byte(k), ids.Draw(t, "id"), at); err != nil {
				t.Fatal(err)
			}
		}
		s, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func TestFrozenSetIsTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := frozenGen().Draw(t, "set")
		frozen := freeze(t, s)
		back, err := Read(iotest.HalfReader(bytes.NewReader(frozen)))
		if err != nil {
			t.Fatal(err)
		}
		if back.Name() != s.Name() || !Equal(back, s) || !slices.Equal(collect(back.All()), collect(s.All())) {
			t.Fatal("set differs")
		}
		if !slices.Equal(back.Requests(), s.Requests()) {
			t.Fatalf("requests differ: %v %v", back.Requests(), s.Requests())
		}
		for k := range s.All() {
			if !slices.Equal(back.RequestsOf(k), s.RequestsOf(k)) {
				t.Fatal("requests of a key differ")
			}
		}
		if !bytes.Equal(freeze(t, back), frozen) {
			t.Fatal("frozen again differs")
		}
	})
}

func TestDamagedFrozenSetIsMalformed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		frozen := freeze(t, frozenGen().Draw(t, "set"))
		bad := slices.Clone(frozen)
		if rapid.Bool().Draw(t, "cut") {
			bad = bad[:rapid.IntRange(0, len(bad)-1).Draw(t, "at")]
		} else {
			bad[rapid.IntRange(0, len(bad)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		}
		if _, err := Read(bytes.NewReader(bad)); !errors.Is(err, ErrMalformed) {
			t.Fatal(err)
		}
		if _, err := Read(bytes.NewReader(append(frozen, 0))); !errors.Is(err, ErrMalformed) {
			t.Fatal(err)
		}
	})
}

func TestReadErrorOfFrozenSetIsNotMalformed(t *testing.T) {
	frozen := freeze(t, buildSet(t, schemaOf(t, "id int64"), nil))
	_, err := Read(iotest.TimeoutReader(iotest.OneByteReader(bytes.NewReader(frozen))))
	if !errors.Is(err, iotest.ErrTimeout) || errors.Is(err, ErrMalformed) {
		t.Fatal(err)
	}
}

func FuzzRead(f *testing.F) {
	for _, s := range []Schema{schemaOf(f, "id int64"), schemaOf(f, "a string", "b uuid"), schemaOf(f, "m decimal(5,2)")} {
		b, _ := NewBuilder("k", s)
		var parts [][]byte
		for _, p := range s {
			if p.Type.Kind == KindDecimal {
				parts = append(parts, p.Type.AppendInt64(nil, 7))
			} else {
				parts = append(parts, make([]byte, p.Type.width()))
			}
		}
		if err := b.AddRequested(s.AppendTuple(nil, parts...), "T", time.Unix(5, 0)); err != nil {
			f.Fatal(err)
		}
		set, err := b.Build()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(freeze(f, set))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Read(bytes.NewReader(data))
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if back, err := Read(bytes.NewReader(freeze(t, s))); err != nil || !Equal(back, s) {
			t.Fatal("what was read does not freeze", err)
		}
	})
}
