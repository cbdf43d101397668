package parquet

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/snappy"

	"github.com/expunge/expunge/internal/zstdedit"
)

// spliceCase cuts random ranges out of a compressible body and puts new bytes in.
func spliceCase(old []byte, r *rand.Rand, holes int) (ops []zstdedit.Op, body []byte) {
	if levels := r.IntN(600); levels > 0 {
		body = bytes.Repeat([]byte{7, 9}, levels)[:levels]
		ops = append(ops, zstdedit.Op{From: -1, Size: levels})
	}
	at := 0
	for range holes {
		from := at + r.IntN(max(1, (len(old)-at)/2))
		if from > at {
			ops = append(ops, zstdedit.Op{From: at, To: from, Size: from - at, At: len(body)})
			body = append(body, old[at:from]...)
		}
		if r.IntN(3) == 0 {
			lit := bytes.Repeat([]byte("new"), 1+r.IntN(200))
			ops = append(ops, zstdedit.Op{From: -1, Size: len(lit), At: len(body)})
			body = append(body, lit...)
		}
		at = min(len(old), from+1+r.IntN(300))
	}
	if at < len(old) {
		ops = append(ops, zstdedit.Op{From: at, To: len(old), Size: len(old) - at, At: len(body)})
		body = append(body, old[at:]...)
	}
	return ops, body
}

func checkSplice(t *testing.T, old, compressed []byte, r *rand.Rand, holes int) {
	t.Helper()
	ops, body := spliceCase(old, r, holes)
	out := spliceSnappy(nil, compressed, ops, body)
	if out == nil {
		t.Fatal("not spliced")
	}
	got, err := s2.Decode(nil, out)
	if err != nil || !bytes.Equal(got, body) {
		t.Fatalf("%d ops: decodes to other bytes: %v", len(ops), err)
	}
}

// A spliced block decodes to the edited body, whatever encoder wrote the source.
func TestSpliceDecodesToTheEdit(t *testing.T) {
	r := rand.New(rand.NewPCG(61, 62))
	for i := range 300 {
		old := compressible(r, 1+r.IntN(200_000))
		var compressed []byte
		switch i % 3 {
		case 0:
			compressed = s2.EncodeSnappy(nil, old)
		case 1:
			compressed = s2.EncodeSnappyBest(nil, old)
		default:
			compressed = snappy.Encode(nil, old)
		}
		checkSplice(t, old, compressed, r, r.IntN(12))
	}
}

// compressible mixes short repeats, long ones, runs and noise.
func compressible(r *rand.Rand, n int) []byte {
	var b []byte
	for len(b) < n {
		switch r.IntN(4) {
		case 0:
			b = append(b, randomBytes(r, 1+r.IntN(30))...)
		case 1:
			b = append(b, bytes.Repeat([]byte{byte(r.IntN(4))}, 1+r.IntN(100))...)
		default:
			if from := max(0, len(b)-1-r.IntN(60_000)); len(b) > 0 {
				b = append(b, b[from:min(len(b), from+1+r.IntN(80))]...)
			}
		}
	}
	return b[:n]
}

// FuzzSplice: damaged blocks are refused or spliced to something; no panic,
// and a sound block always decodes to the edit.
func FuzzSplice(f *testing.F) {
	r := rand.New(rand.NewPCG(63, 64))
	old := compressible(r, 500)
	f.Add(old, s2.EncodeSnappy(nil, old), uint64(1), true)
	f.Add(old, []byte{200, 1, 0xF0, 1, 2, 0xFE, 9, 0, 0, 0}, uint64(2), false)
	f.Fuzz(func(t *testing.T, old, block []byte, seed uint64, sound bool) {
		r := rand.New(rand.NewPCG(seed, 1))
		if sound && len(old) > 0 {
			checkSplice(t, old, s2.EncodeSnappy(nil, old), r, int(seed%7))
			return
		}
		ops, body := spliceCase(old, r, int(seed%7))
		spliceSnappy(nil, block, ops, body)
	})
}
