package parquet

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	pgo "github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/internal/pq/writers"
	"github.com/expunge/expunge/rewriter"
)

// FuzzRewrite: a damaged file is an error or a file that can be read again;
// it never panics, and what it costs is bounded by its size.
func FuzzRewrite(f *testing.F) {
	f.Add(smallFile(f, 1), uint64(7), uint16(3))
	f.Add(smallFile(f, 2), uint64(1), uint16(11))
	for i, w := range writers.Files() {
		f.Add(w.Data, uint64(i), uint16(5))
	}
	f.Fuzz(func(t *testing.T, data []byte, seed uint64, k uint16) {
		file, err := pq.Open(t.Context(), bytes.NewReader(data), int64(len(data)))
		if err != nil || file.Rows() > 1<<16 {
			return
		}
		erase := roaring64.New()
		r := rand.New(rand.NewPCG(seed, 1))
		for range k % 64 {
			if file.Rows() > 0 {
				erase.Add(r.Uint64N(uint64(file.Rows())))
			}
		}
		out, res, err := rewrite(data, rewriter.Edit{Erase: erase}, rewriter.Options{Engine: rewriter.Surgical})
		if err != nil || res.RowsOut == 0 && res.RowsIn > 0 {
			return
		}
		again, err := pq.Open(t.Context(), bytes.NewReader(out), int64(len(out)))
		if err != nil {
			t.Fatalf("own output cannot be opened: %v", err)
		}
		if again.Rows() != res.RowsOut {
			t.Fatalf("%d rows, want %d", again.Rows(), res.RowsOut)
		}
	})
}

// smallFile has few bytes, so that a fuzzer's change hits something.
func smallFile(t testing.TB, version int) []byte {
	type row struct {
		ID   int64    `parquet:"id,delta,snappy"`
		Name string   `parquet:"name,dict,zstd"`
		Tags []string `parquet:"tags,list"`
	}
	var buf bytes.Buffer
	w := pgo.NewGenericWriter[row](&buf, pgo.PageBufferSize(100), pgo.MaxRowsPerRowGroup(12), pgo.DataPageVersion(version),
		pgo.BloomFilters(pgo.SplitBlockFilter(8, "id")))
	for i := range 20 {
		if _, err := w.Write([]row{{int64(i), string(rune('a' + i%4)), []string{"x", "y"}[:i%3]}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// FuzzEditPage: the level editor agrees with a row-by-row one on any levels
// that a column can have.
func FuzzEditPage(f *testing.F) {
	f.Add([]byte{0, 1, 2, 0, 3, 1, 1, 0}, []byte{3, 3, 1, 0, 2, 3, 3, 3}, uint64(5), uint64(9))
	f.Add([]byte{1, 0, 0}, []byte{3, 2, 3}, uint64(1), uint64(0))
	f.Fuzz(func(t *testing.T, rep, def []byte, erase, touch uint64) {
		n := min(len(rep), len(def))
		if n == 0 {
			return
		}
		group := &pq.Node{Name: "g", Def: 1, Repetition: format.Optional}
		list := &pq.Node{Name: "l", Def: 2, Rep: 1, Repetition: format.Repeated, Parent: group}
		node := &pq.Node{Name: "v", Def: 3, Rep: 1, Repetition: format.Optional, Parent: list}
		leaf := &leafPlan{column: &pq.Column{Node: node, MaxDef: 3, MaxRep: 1}}
		src := levels{n: n}
		for i := range n {
			src.rep = append(src.rep, rep[i]%2)
			d := def[i] % 4
			if src.rep[i] == 1 && d < 2 {
				d = 2 // inside a list there is a list
			}
			src.def = append(src.def, d)
		}
		rows := bytes.Count(src.rep, []byte{0})
		if src.rep[0] != 0 {
			rows++
		}
		touched, elements := roaring64.New(), roaring64.New()
		w := rowWork{leaf: leaf}
		for i := range min(rows, 64) {
			if erase>>i&1 != 0 {
				w.erased = mergeSpans(w.erased, []span{{i, i + 1}})
			} else if touch>>i&1 != 0 {
				touched.Add(uint64(i))
				elements.Add(rewriter.ElementKey(uint64(i), uint32(touch>>40%3)))
				w.touched = mergeSpans(w.touched, []span{{i, i + 1}})
			}
		}
		leaf.removal = []removal{{elements: elements, list: list}}
		leaf.redact = []redaction{{rows: touched, group: []*pq.Node{group, node}[touch>>60%2]}}
		got := editPage(src, w)
		wantRep, wantDef, wantValues := slowEdit(src, w)
		var values []int
		for _, o := range got.list.ops {
			for v := o.from; v < o.to; v++ {
				values = append(values, v)
			}
		}
		if !bytes.Equal(got.rep, wantRep) || !bytes.Equal(got.def, wantDef) || !equalInts(values, wantValues) || got.n != len(wantDef) {
			t.Fatalf("rep %v def %v erased %v touched %v\ngot  %v %v %v\nwant %v %v %v", src.rep, src.def, w.erased, w.touched,
				got.rep, got.def, values, wantRep, wantDef, wantValues)
		}
	})
}

func equalInts(a, b []int) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// slowEdit edits one row at a time with the reference's functions.
func slowEdit(src levels, w rowWork) (rep, def []uint8, values []int) {
	gone := func(row int) bool {
		for _, s := range w.erased {
			if row >= s.from && row < s.to {
				return true
			}
		}
		return false
	}
	value, row := 0, -1
	var current []cell
	flush := func() {
		if row >= 0 && !gone(row) {
			for _, c := range slowRow(current, w.leaf, uint64(row)) {
				rep, def = append(rep, c.rep), append(def, c.def)
				if c.value >= 0 {
					values = append(values, c.value)
				}
			}
		}
		current = current[:0]
	}
	for i := range src.n {
		if src.rep[i] == 0 || i == 0 {
			flush()
			row++
		}
		c := cell{src.rep[i], src.def[i], -1}
		if c.def == 3 {
			c.value = value
			value++
		}
		current = append(current, c)
	}
	flush()
	return rep, def, values
}

type cell struct {
	rep, def uint8
	value    int
}

// slowRow knows the shape of the fuzzed column: an optional list of optional values.
func slowRow(in []cell, leaf *leafPlan, row uint64) (out []cell) {
	var kept []cell
	hasElements := in[0].def >= 2
	for i, c := range in {
		if hasElements && leaf.removal[0].elements.Contains(rewriter.ElementKey(row, uint32(i))) {
			continue
		}
		kept = append(kept, c)
	}
	if len(kept) == 0 {
		kept = []cell{{0, 1, -1}}
	}
	kept[0].rep = in[0].rep
	red := leaf.redact[0]
	if !red.rows.Contains(row) {
		return kept
	}
	for _, c := range kept {
		switch {
		case red.group.Rep == 0 && c.rep > 0:
			continue
		case red.group.Rep == 0 && c.def >= 1:
			c = cell{c.rep, 0, -1}
		case red.group.Rep == 1 && c.def == 3:
			c = cell{c.rep, 2, -1}
		}
		out = append(out, c)
	}
	return out
}

// FuzzCut: every cutter gives the encoding of the values that the edit list names.
func FuzzCut(f *testing.F) {
	f.Add([]byte("some bytes that are values of all types, cut in pieces"), uint64(0b1011), uint8(0))
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, uint64(1), uint8(4))
	kinds := []struct {
		t   format.Type
		enc format.Encoding
	}{
		{format.ByteArray, format.Plain}, {format.ByteArray, format.DeltaLengthByteArray}, {format.ByteArray, format.DeltaByteArray},
		{format.Int32, format.Plain}, {format.Int32, format.DeltaBinaryPacked}, {format.Int32, format.ByteStreamSplit},
		{format.Int64, format.Plain}, {format.Int64, format.DeltaBinaryPacked}, {format.FixedLenByteArray, format.DeltaByteArray},
		{format.FixedLenByteArray, format.ByteStreamSplit}, {format.Int96, format.Plain}, {format.Boolean, format.Plain}, {format.Boolean, format.RLE},
	}
	f.Fuzz(func(t *testing.T, raw []byte, keep uint64, kind uint8) {
		k := kinds[int(kind)%len(kinds)]
		col := &pq.Column{Type: k.t, TypeLength: 3, Node: &pq.Node{}}
		c := &chunkJob{col: col}
		var values [][]byte
		for len(raw) > 0 && len(values) < 64 {
			size := valueWidth(col)
			switch k.t {
			case format.ByteArray:
				size = int(raw[0]) % 9
			case format.Boolean:
				size = 1
			}
			if len(raw) <= size {
				break
			}
			v := raw[1 : 1+size]
			if k.t == format.Boolean {
				v = []byte{v[0] & 1}
			}
			values = append(values, v)
			raw = raw[1+size:]
		}
		page := func(vs [][]byte) (*pageJob, []byte) {
			// The encoding of literals alone is the cutter's own; their PLAIN form is the start.
			list := &editList{}
			for _, v := range vs {
				list.put(v, 1)
			}
			j := &pageJob{chunk: c, page: pq.Page{Header: pq.PageHeader{Encoding: k.enc}}}
			empty := decoded{vals: &pq.Values{Type: k.t, Width: valueWidth(col), Offsets: []uint32{0}}, view: view{width: valueWidth(col), offsets: []uint32{0}}}
			var a assembly
			if err := j.cut(&a, &empty, list); err != nil {
				t.Fatal(err)
			}
			return j, a.buf
		}
		j, encoded := page(values)
		var vals pq.Values
		var starts []uint32
		v, dec, err := j.values(encoded, len(values), false, &vals, &starts)
		if err != nil {
			t.Fatalf("%v %v: own encoding: %v", k.t, k.enc, err)
		}
		list := &editList{}
		var want [][]byte
		for i := range values {
			if keep>>(i%64)&1 != 0 {
				list.keep(i, i+1)
				want = append(want, values[i])
			}
		}
		d := decoded{view: v, vals: dec, values: len(values)}
		d.body.Values = encoded
		var a assembly
		if err := j.cut(&a, &d, list); err != nil {
			t.Fatal(err)
		}
		got, _, err := j.values(a.buf, len(want), false, new(pq.Values), new([]uint32))
		if err != nil {
			t.Fatalf("%v %v: cut values: %v", k.t, k.enc, err)
		}
		for i := range want {
			if !bytes.Equal(got.at(i), want[i]) {
				t.Fatalf("%v %v: value %d differs", k.t, k.enc, i)
			}
		}
	})
}

// Damage to any byte of a file is refused or leaves a readable file; the
// errors say that the input is at fault.
func TestDamagedFilesAreRefusedOrRead(t *testing.T) {
	r := rand.New(rand.NewPCG(33, 34))
	s := goSample(t, r, "damaged", 40)
	for range 400 {
		data := bytes.Clone(s.data)
		data[r.IntN(len(data))] ^= 1 << r.IntN(8)
		_, _, err := rewrite(data, rewriter.Edit{Erase: bitmap(1, 20, 39)}, rewriter.Options{})
		if err != nil && !errors.Is(err, rewriter.ErrCorrupt) && !errors.Is(err, rewriter.ErrUnsupported) {
			t.Fatalf("neither corrupt nor unsupported: %v", err)
		}
	}
}
