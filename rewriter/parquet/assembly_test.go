package parquet

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/parquet-go/bitpack"

	"github.com/expunge/expunge/internal/pq"
)

// randomStream makes runs of every kind: repeated values, packed groups, a last
// group with or without its padding, bytes behind the last run.
func randomStream(r *rand.Rand, width int) (src []byte, values []uint32) {
	for range 1 + r.IntN(8) {
		if r.IntN(3) == 0 {
			v, n := r.Uint32N(1<<width), 1+r.IntN(40)
			src = binary.AppendUvarint(src, uint64(n)<<1)
			for i := range (width + 7) / 8 {
				src = append(src, byte(v>>(8*i)))
			}
			values = append(values, slices.Repeat([]uint32{v}, n)...)
			continue
		}
		groups := 1 + r.IntN(70)
		packed := make([]uint32, groups*8)
		for i := range packed {
			packed[i] = r.Uint32N(1 << width)
		}
		src = binary.AppendUvarint(src, uint64(groups)<<1|1)
		b := make([]byte, groups*width+bitpack.PaddingInt32)
		bitpack.Pack(b, packed, uint(width))
		src = append(src, b[:groups*width]...)
		values = append(values, packed...)
	}
	values = values[:len(values)-r.IntN(min(40, len(values)))] // the last run may announce more
	if r.IntN(3) == 0 {
		src = append(src, bytes.Repeat([]byte{3, 0xEE}, 1+r.IntN(30))...)
	}
	return src, values
}

// randomList cuts holes into n values and puts new ones in.
func randomList(r *rand.Rand, n int, literals bool) *editList {
	list := &editList{}
	for at := 0; at < n; {
		size := 1 + r.IntN(1+n/3)
		to := min(n, at+size)
		switch r.IntN(5) {
		case 0:
		case 1:
			if literals {
				list.put([]byte{byte(r.IntN(2))}, to-at)
				break
			}
			fallthrough
		default:
			list.keep(at, to)
		}
		at = to
	}
	return list
}

// streamValues decodes n values, and says how many bytes are left.
func streamValues(src []byte, width, n int) (out []uint32, rest int, err error) {
	runs := pq.NewRuns(src, width, n)
	for {
		run, ok, err := runs.Next()
		if err != nil || !ok {
			return out, runs.Rest(), err
		}
		if run.Packed == nil {
			out = append(out, slices.Repeat([]uint32{run.Value}, run.Count)...)
			continue
		}
		var scratch []byte
		part := make([]uint32, run.Count, run.Count+8)
		pq.Unpack(part, run.Packed, width, &scratch)
		out = append(out, part...)
	}
}

// announced is how many values the runs' headers announce.
func announced(src []byte, width int) (n int) {
	for len(src) > 0 {
		head, k := binary.Uvarint(src)
		if head&1 == 1 {
			n += int(head>>1) * 8
			src = src[k+int(head>>1)*width:]
			continue
		}
		n += int(head >> 1)
		src = src[k+(width+7)/8:]
	}
	return n
}

// FuzzCutHybrid: whatever decodes is cut to what the edit says; the rest is
// refused without a panic.
func FuzzCutHybrid(f *testing.F) {
	r := rand.New(rand.NewPCG(73, 74))
	for range 20 {
		width := 1 + r.IntN(20)
		src, values := randomStream(r, width)
		f.Add(src, uint8(width), uint16(len(values)), r.Uint64())
	}
	f.Fuzz(func(t *testing.T, src []byte, width uint8, n uint16, seed uint64) {
		w := int(width)%32 + 1
		values, _, err := streamValues(src, w, int(n))
		if err != nil {
			values = make([]uint32, n)
		}
		list := randomList(rand.New(rand.NewPCG(seed, 1)), int(n), false)
		var a assembly
		if cutHybrid(&a, hybridStream[uint32]{src, 0, w, values}, list, nil) != nil {
			if err == nil {
				t.Fatal("a sound stream is refused")
			}
			return
		}
		if err != nil {
			return
		}
		var want []uint32
		for _, o := range list.ops {
			want = append(want, values[o.from:o.to]...)
		}
		got, _, err := streamValues(a.buf, w, len(want))
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("cut to other values: %v", err)
		}
	})
}

// A stream that was cut decodes to the edit, is told byte by byte where it
// comes from, and keeps none of the bytes that stand behind the last run.
func TestStreamsAreCutInTheirBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(71, 72))
	for range 3000 {
		width := 1 + r.IntN(20)
		src, values := randomStream(r, width)
		list := randomList(r, len(values), true)
		var want []uint32
		for _, o := range list.ops {
			if o.literal != nil {
				want = append(want, slices.Repeat([]uint32{uint32(o.literal[0])}, o.to-o.from)...)
			} else {
				want = append(want, values[o.from:o.to]...)
			}
		}
		const base = 1000
		a := assembly{buf: []byte("levels"), start: 6}
		if err := cutHybrid(&a, hybridStream[uint32]{src, base, width, values}, list, func(b []byte) uint32 { return uint32(b[0]) }); err != nil {
			t.Fatal(err)
		}
		out := a.buf[6:]
		got, rest, err := streamValues(out, width, len(want))
		if err != nil {
			t.Fatalf("width %d: %v", width, err)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("width %d, %d values: cut to other values", width, len(values))
		}
		if n := announced(out, width); rest != 0 || n >= len(want)+8 {
			t.Fatalf("width %d: %d bytes behind the last run, %d values announced for %d", width, rest, n, len(want))
		}
		at := 0
		for _, o := range a.ops {
			if o.At != at || o.From >= 0 && !bytes.Equal(out[at:at+o.Size], src[o.From-base:o.To-base]) {
				t.Fatalf("op %+v: not what stands in the stream at %d", o, at)
			}
			at += o.Size
		}
		if at != len(out) {
			t.Fatalf("ops make %d of %d bytes", at, len(out))
		}
	}
}

// Damaged streams give an error.
func TestADamagedStreamIsNotCut(t *testing.T) {
	list := &editList{}
	list.keep(0, 100)
	var a assembly
	if err := cutHybrid(&a, hybridStream[uint8]{[]byte{3, 1}, 0, 1, make([]uint8, 100)}, list, nil); err == nil {
		t.Fatal("no error")
	}
}
