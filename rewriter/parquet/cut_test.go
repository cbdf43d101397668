package parquet

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
)

// Levels and dictionary indexes come back as they went in, in runs of at least
// one value, and levels take no more bytes than there are levels: fastparquet
// stops reading there.
func TestHybridRuns(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for width := range 8 {
		for n := 1; n < 60; n++ {
			levels, indexes := make([]uint8, n), make([]int32, n)
			for i := range levels {
				if i > 0 && r.IntN(3) == 0 {
					levels[i], indexes[i] = levels[i-1], indexes[i-1]
					continue
				}
				indexes[i] = r.Int32N(1 << width)
				levels[i] = uint8(indexes[i])
			}
			enc, err := appendIndexes(nil, indexes, width)
			if err != nil {
				t.Fatal(err)
			}
			if got := hybridValues(t, enc[1:], width, n); !slices.Equal(got, indexes) {
				t.Fatalf("width %d: indexes %v became %v", width, indexes, got)
			}
			if width == 0 {
				continue
			}
			enc, err = appendLevels(nil, levels, width, false)
			if err != nil {
				t.Fatal(err)
			}
			got, err := pq.DecodeLevels(nil, enc, format.RLE, 1<<width-1, n)
			if err != nil || !slices.Equal(got, levels) {
				t.Fatalf("width %d: levels %v became %v (%v)", width, levels, got, err)
			}
			if width == 1 && n > 1 && len(enc) > n {
				t.Errorf("%d levels of one bit in %d bytes", n, len(enc))
			}
		}
	}
}

// hybridValues decodes by the specification (Encodings.md, "RLE/Bit-Packing
// Hybrid") and takes no run of nothing.
func hybridValues(t *testing.T, b []byte, width, n int) (out []int32) {
	t.Helper()
	for len(b) > 0 {
		head, k := binary.Uvarint(b)
		if k <= 0 || head>>1 == 0 {
			t.Fatalf("run header %d", head)
		}
		b = b[k:]
		if head&1 == 0 {
			v := int32(0)
			for i := range (width + 7) / 8 {
				v |= int32(b[i]) << (8 * i)
			}
			b = b[(width+7)/8:]
			out = append(out, slices.Repeat([]int32{v}, int(head>>1))...)
			continue
		}
		for i := range int(head>>1) * 8 {
			v := int32(0)
			for bit := range width {
				at := i*width + bit
				v |= int32(b[at/8]>>(at%8)&1) << bit
			}
			out = append(out, v)
		}
		b = b[int(head>>1)*width:]
	}
	if len(out) < n || len(out) > n+7 {
		t.Fatalf("%d values for %d", len(out), n)
	}
	return out[:n]
}
