package keyset

import (
	"testing"

	"pgregory.net/rapid"
)

// What is left of a set, put together with what was given, is exactly the keys
// of the set that have the given parts, under their own numbers.
func TestGivenIsTheKeysThatHaveTheValues(t *testing.T) {
	num, err := ParseType("int64")
	if err != nil {
		t.Fatal(err)
	}
	str, err := ParseType("string")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(rt *rapid.T) {
		schema := Schema{{Name: "a", Type: num}, {Name: "b", Type: str}, {Name: "c", Type: num}}
		b, err := NewBuilder("x", schema)
		if err != nil {
			rt.Fatal(err)
		}
		for range rapid.IntRange(1, 40).Draw(rt, "keys") {
			digit := rapid.StringMatching("[1-3]")
			if err := b.AddText(digit.Draw(rt, "a"), rapid.StringMatching("x{1,3}").Draw(rt, "b"), digit.Draw(rt, "c")); err != nil {
				rt.Fatal(err)
			}
		}
		s, err := b.Build()
		if err != nil {
			rt.Fatal(err)
		}
		given := make([][]byte, 3)
		for i, text := range []string{"2", "xx", "1"} {
			if rapid.Bool().Draw(rt, "given") {
				if given[i], err = schema[i].Type.AppendText(nil, []byte(text)); err != nil {
					rt.Fatal(err)
				}
			}
		}
		rest, numbers, err := s.Given(given)
		if err != nil {
			rt.Fatal(err)
		}
		got := map[int]bool{}
		for _, n := range numbers {
			got[n] = true
		}
		i, want := 0, 0
		for key := range s.All() {
			parts, err := schema.SplitTuple(nil, key)
			if err != nil {
				rt.Fatal(err)
			}
			fits := true
			var left [][]byte
			for p := range parts {
				if given[p] == nil {
					left = append(left, parts[p])
				} else if string(given[p]) != string(parts[p]) {
					fits = false
				}
			}
			if got[i] != fits {
				rt.Fatalf("key %d: %t, want %t", i, got[i], fits)
			}
			if fits {
				want++
				if rest != nil {
					if n := rest.Number(rest.Schema().AppendTuple(nil, left...)); n < 0 || numbers[n] != i {
						rt.Fatalf("key %d is not where its number says", i)
					}
				}
			}
			i++
		}
		if want != len(numbers) {
			rt.Fatalf("%d keys, want %d", len(numbers), want)
		}
	})
}
