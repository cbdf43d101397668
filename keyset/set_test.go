package keyset

import (
	"bytes"
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func mustType(t testing.TB, s string) Type {
	t.Helper()
	typ, err := ParseType(s)
	if err != nil {
		t.Fatal(err)
	}
	return typ
}

// canonicalGen draws canonical values of a type, close together often enough
// that duplicates, neighbours and shared prefixes occur.
func canonicalGen(typ Type) *rapid.Generator[string] {
	ints := rapid.OneOf(rapid.Int64Range(-40, 200), rapid.Int64(), rapid.Int64Range(1<<53-3, 1<<53+3))
	return rapid.Custom(func(t *rapid.T) string {
		switch typ.Kind {
		case KindInt64:
			return string(typ.AppendInt64(nil, ints.Draw(t, "int")))
		case KindDate:
			return string(typ.AppendInt64(nil, int64(int32(ints.Draw(t, "days")))))
		case KindDecimal:
			limit := int64(99999)
			return string(typ.AppendInt64(nil, rapid.Int64Range(-limit, limit).Draw(t, "unscaled")))
		case KindUUID:
			b := make([]byte, 16)
			binary.BigEndian.PutUint64(b[8:], uint64(ints.Draw(t, "low")))
			b[0] = rapid.Byte().Draw(t, "high")
			return string(b)
		}
		return rapid.OneOf(
			rapid.StringMatching(`user-000[0-9]{0,9}`),
			rapid.StringN(0, 20, -1),
			rapid.SampledFrom([]string{"", "\x00", "a", "a\x00", "a\x00\x00b", "\xff", "\xff\xff", "\xff\xfe"}),
		).Draw(t, "text")
	})
}

func schemaGen() *rapid.Generator[Schema] {
	names := []string{"a", "b", "c"}
	return rapid.Custom(func(t *rapid.T) Schema {
		var s Schema
		for i := range rapid.SampledFrom([]int{1, 1, 1, 2, 3}).Draw(t, "parts") {
			kind := rapid.SampledFrom([]string{"int64", "string", "uuid", "decimal(5,2)", "date", "binary"}).Draw(t, "type")
			typ, _ := ParseType(kind)
			s = append(s, Part{Name: names[i], Type: typ})
		}
		return s
	})
}

func tupleGen(s Schema) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		var parts [][]byte
		for _, p := range s {
			parts = append(parts, []byte(canonicalGen(p.Type).Draw(t, p.Name)))
		}
		return string(s.AppendTuple(nil, parts...))
	})
}

func buildSet(t testing.TB, schema Schema, keys []string) *Set {
	t.Helper()
	b, err := NewBuilder("k", schema)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if err := b.Add([]byte(k)); err != nil {
			t.Fatal(err)
		}
	}
	s, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func collect(seq func(func([]byte) bool)) (out []string) {
	for k := range seq {
		out = append(out, string(k))
	}
	return out
}

func sortedUnique(keys []string) []string {
	keys = slices.Clone(keys)
	slices.Sort(keys)
	return slices.Compact(keys)
}

func TestSetEqualsModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		schema := schemaGen().Draw(rt, "schema")
		keys := rapid.SliceOfN(tupleGen(schema), 0, 120).Draw(rt, "keys")
		s := buildSet(t, schema, keys)
		want := sortedUnique(keys)
		if got := collect(s.All()); !slices.Equal(got, want) || s.Len() != len(want) {
			rt.Fatalf("All: %d keys, Len %d, want %d", len(got), s.Len(), len(want))
		}
		model := map[string]bool{}
		for _, k := range keys {
			model[k] = true
		}
		for _, p := range append(rapid.SliceOfN(tupleGen(schema), 0, 40).Draw(rt, "probes"), keys...) {
			if s.Contains([]byte(p)) != model[p] {
				rt.Fatalf("Contains differs: want %v", model[p])
			}
		}
		for i, part := range schema {
			var vals []string
			for k := range model {
				parts, err := schema.SplitTuple(nil, []byte(k))
				if err != nil {
					rt.Fatal(err)
				}
				vals = append(vals, string(parts[i]))
			}
			vals = sortedUnique(vals)
			if got := collect(s.Part(i)); !slices.Equal(got, vals) || s.PartLen(i) != len(vals) {
				rt.Fatalf("Part(%d): %d values, want %d", i, len(got), len(vals))
			}
			bound := rapid.OneOf(canonicalGen(part.Type), rapid.StringN(0, 18, -1))
			lo, hi := []byte(bound.Draw(rt, "lo")), []byte(bound.Draw(rt, "hi"))
			if rapid.Bool().Draw(rt, "open") {
				lo = nil
			}
			var in []string
			for _, v := range vals {
				if bytes.Compare([]byte(v), lo) >= 0 && bytes.Compare([]byte(v), hi) <= 0 {
					in = append(in, v)
				}
			}
			if got := collect(s.PartRange(i, lo, hi)); !slices.Equal(got, in) || s.CountIn(i, lo, hi) != len(in) || s.Overlaps(i, lo, hi) != (len(in) > 0) {
				rt.Fatalf("PartRange(%d): %d values, want %d", i, len(got), len(in))
			}
		}
	})
}

func TestSetOperationsEqualModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		schema := schemaGen().Draw(rt, "schema")
		pool := rapid.SliceOfN(tupleGen(schema), 1, 60).Draw(rt, "pool")
		some := rapid.SliceOfN(rapid.SampledFrom(pool), 0, 60)
		ak, bk := some.Draw(rt, "a"), some.Draw(rt, "b")
		a, b := buildSet(t, schema, ak), buildSet(t, schema, bk)
		var minus, both []string
		for _, k := range sortedUnique(ak) {
			if slices.Contains(bk, k) {
				both = append(both, k)
			} else {
				minus = append(minus, k)
			}
		}
		check := func(name string, f func(a, b *Set) (*Set, error), want []string) {
			s, err := f(a, b)
			if err != nil {
				rt.Fatal(name, err)
			}
			if got := collect(s.All()); !slices.Equal(got, want) {
				rt.Fatalf("%s: %d keys, want %d", name, len(got), len(want))
			}
		}
		check("Subtract", Subtract, minus)
		check("Intersect", Intersect, both)
		check("Union", Union, sortedUnique(append(slices.Clone(ak), bk...)))
	})
}

// Every path of the parallel builder, at a size that uses several regions.
func TestLargeSetFindsEveryKeyAndOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	const n = 150_000
	for _, kind := range []string{"int64", "uuid", "string", "date", "decimal(18,2)"} {
		t.Run(kind, func(t *testing.T) {
			typ := mustType(t, kind)
			keys := make([]string, n)
			for i := range keys {
				switch typ.Kind {
				case KindUUID:
					keys[i] = string(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, r.Uint64()), r.Uint64()))
				case KindString:
					keys[i] = string(binary.BigEndian.AppendUint64([]byte("user-"), r.Uint64()>>r.IntN(60)))
				case KindDate:
					keys[i] = string(typ.AppendInt64(nil, int64(r.IntN(n*5)-n)))
				default:
					keys[i] = string(typ.AppendInt64(nil, r.Int64N(1e15)))
				}
			}
			s := buildSet(t, Schema{{Name: "k", Type: typ}}, keys)
			want := sortedUnique(keys)
			if got := collect(s.All()); !slices.Equal(got, want) {
				t.Fatal("order differs")
			}
			for i, k := range want {
				if s.number([]byte(k)) != i {
					t.Fatalf("key %d is not found", i)
				}
			}
			if kind == "date" && s.Filter().Kind != "bitmap" {
				t.Fatal("dense keys should use a bitmap")
			}
			if kind == "int64" {
				if fp := s.MeasureFilter(1_000_000, 1); fp < 0.0008 || fp > 0.0020 {
					t.Fatalf("false positives %f", fp)
				}
			}
		})
	}
}

func TestRequestsFollowTheirKeys(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		typ := mustType(t, rapid.SampledFrom([]string{"int64", "string", "uuid"}).Draw(rt, "type"))
		schema := Schema{{Name: "k", Type: typ}}
		type ask struct{ key, id string }
		asks := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) ask {
			return ask{canonicalGen(typ).Draw(t, "key"), rapid.SampledFrom([]string{"", "T1", "T2", "T3"}).Draw(t, "id")}
		}), 0, 60).Draw(rt, "asks")
		b, _ := NewBuilder("k", schema)
		model := map[string]map[string]bool{}
		first := map[string]time.Time{}
		for i, a := range asks {
			at := time.Date(2026, 1, 60-i, 0, 0, 0, 0, time.UTC)
			if a.id == "" {
				at = time.Time{}
			}
			if err := b.AddRequested([]byte(a.key), a.id, at); err != nil {
				rt.Fatal(err)
			}
			if model[a.key] == nil {
				model[a.key] = map[string]bool{}
			}
			if a.id != "" {
				model[a.key][a.id] = true
				first[a.id] = at
			}
		}
		s, err := b.Build()
		if err != nil {
			rt.Fatal(err)
		}
		holds := buildSet(t, schema, rapid.SliceOfN(rapid.SampledFrom(append(slices.Collect(maps.Keys(model)), string(make([]byte, typ.width())))), 0, 10).Draw(rt, "holds"))
		left, err := Subtract(s, holds)
		if err != nil {
			rt.Fatal(err)
		}
		again, err := Union(left, left)
		if err != nil {
			rt.Fatal(err)
		}
		for name, set := range map[string]*Set{"built": s, "subtracted": left, "union": again} {
			keys, held := map[string]int{}, map[string]int{}
			for k, ids := range model {
				gone := name != "built" && holds.Contains([]byte(k))
				for id := range ids {
					if gone {
						held[id]++
					} else {
						keys[id]++
					}
				}
				var want, got []string
				if !gone {
					want = slices.Sorted(maps.Keys(ids))
				}
				for _, r := range set.RequestsOf([]byte(k)) {
					got = append(got, set.Requests()[r].ID)
				}
				if !slices.Equal(got, want) {
					rt.Fatalf("%s: requests %v, want %v", name, got, want)
				}
			}
			factor := 1
			if name == "union" {
				factor = 2 // both sides report what they held
			}
			for _, r := range set.Requests() {
				if r.Keys != keys[r.ID] || r.Held != factor*held[r.ID] || !r.Received.Equal(first[r.ID]) {
					rt.Fatalf("%s: request %+v, want %d keys, %d held, %v", name, r, keys[r.ID], held[r.ID], first[r.ID])
				}
			}
			if len(set.Requests()) != len(first) {
				rt.Fatalf("%s: %d requests, want %d", name, len(set.Requests()), len(first))
			}
		}
	})
}

func TestBuilderFindsALostKey(t *testing.T) {
	var b keyBuf
	for i := range 5000 {
		b.add(Type{Kind: KindInt64}.AppendInt64(nil, int64(i)<<32), 8, 0)
	}
	st := storeOf(b, 8)
	x, err := newIndex(st, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	block := &x.blocks[x.block(hashWord(st.(*wordStore).vals[77], x.flip))]
	for i, w := range block {
		block[i] = w & (w - 1) // one bit of each word
	}
	if err := x.check(st, 2); err == nil {
		t.Fatal("a filter without bits of its keys passed the check")
	}
	if x, err = newIndex(st, 1, 2); err != nil {
		t.Fatal(err)
	}
	x.entries[100] = x.entries[101]
	if err := x.check(st, 2); err == nil {
		t.Fatal("an index without one of its keys passed the check")
	}
}

// Dropping duplicates on the way must not change the set, its requests or the counts.
func TestCompactionOnTheWayChangesNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		schema := schemaGen().Draw(rt, "schema")
		keys := rapid.SliceOfN(tupleGen(schema), 1, 30).Draw(rt, "keys")
		every := rapid.IntRange(1, 5).Draw(rt, "every")
		requests := rapid.Bool().Draw(rt, "requests")
		build := func(compact bool) *Set {
			c := newCollector("k", schema, 2)
			for i := range 4 * len(keys) {
				var buf keyBuf
				code := uint32(0)
				if requests {
					code = c.requests.add([]string{"", "A", "B", "C"}[i%4], time.Unix(int64(i), 0))
				}
				buf.add([]byte(keys[i*7%len(keys)]), c.width, code)
				c.add(buf)
				if compact && i%every == 0 {
					c.compact()
				}
			}
			if c.rows != int64(4*len(keys)) {
				rt.Fatal("rows", c.rows)
			}
			s, err := c.build(1)
			if err != nil {
				rt.Fatal(err)
			}
			return s
		}
		a, b := build(false), build(true)
		if !bytes.Equal(freeze(rt, a), freeze(rt, b)) {
			// Lists of requests may be interned in another order.
			if !Equal(a, b) || !slices.Equal(a.Requests(), b.Requests()) {
				rt.Fatal("sets differ")
			}
			for k := range a.All() {
				if !slices.Equal(a.RequestsOf(k), b.RequestsOf(k)) {
					rt.Fatal("requests differ")
				}
			}
		}
	})
}

// A big set's arrays are mapped: iterators and lookups keep them alive, and they
// go once nobody refers to the set.
func TestMappedMemoryLivesAsLongAsItsUsers(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	b, _ := NewBuilder("k", Schema{{Name: "k", Type: Type{Kind: KindInt64}}})
	for range 300_000 {
		if err := b.Add(Type{Kind: KindInt64}.AppendInt64(nil, int64(r.Uint64()))); err != nil {
			t.Fatal(err)
		}
	}
	s, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	m, err := NewMatcher(s, []Column{{Physical: PhysInt64}})
	if err != nil {
		t.Fatal(err)
	}
	n, vals := 0, []int64(nil)
	for k := range s.All() { // the last use of s
		if n++; n%50_000 == 0 {
			runtime.GC()
			vals = append(vals, Type{Kind: KindInt64}.Int64(k))
		}
	}
	if n < 299_000 {
		t.Fatal(n)
	}
	for range 20 {
		runtime.GC()
		if got := m.SelectInt64(nil, vals); len(got) != len(vals) {
			t.Fatal(got)
		}
	}
}
