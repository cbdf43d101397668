package zstdedit

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"
)

var decoder, _ = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))

func compress(level zstd.EncoderLevel, content []byte, o ...zstd.EOption) []byte {
	e, err := zstd.NewWriter(nil, append(o, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1), zstd.WithZeroFrames(true))...)
	if err != nil {
		panic(err)
	}
	return e.EncodeAll(content, nil)
}

// rows makes text of rows that resemble one another, with a random part each.
func rows(r *rand.Rand, n, entropy int) []byte {
	var b []byte
	for i := range n {
		x := make([]byte, entropy)
		for k := range x {
			x[k] = byte(r.Uint32())
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(i))
		b = append(b, `{"session":"`...)
		b = append(b, hex.EncodeToString(x)...)
		b = fmt.Appendf(b, `","path":"/api/v1/items/%d","agent":"Mozilla/5.0 build %d","q":"lorem ipsum %d"}`, r.IntN(5000), r.IntN(30), r.IntN(9000))
	}
	return b
}

// contents are of all kinds of blocks: compressed, plain, one repeated byte, few literals.
func contents(r *rand.Rand) map[string][]byte {
	random := make([]byte, 300_000)
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	ids := make([]byte, 0, 800_000)
	for i := range 100_000 {
		ids = binary.LittleEndian.AppendUint64(ids, uint64(r.Uint32())|uint64(i)<<40)
	}
	return map[string][]byte{
		"rows": rows(r, 6000, 8), "random": random, "ids": ids, "zeros": make([]byte, 400_000),
		"mixed": bytes.Join([][]byte{rows(r, 800, 4), random[:200_000], make([]byte, 200_000), rows(r, 800, 20), ids[:300_000]}, nil),
		"small": rows(r, 3, 4), "repeated": bytes.Repeat([]byte("abcdefgh"), 40_000),
	}
}

// edit makes ops of cuts, and new bytes here and there, and the new content.
func edit(old []byte, cuts []int, fresh func() []byte) (ops []Op, body []byte) {
	at := 0
	keep := func(to int) {
		if to > at {
			ops = append(ops, Op{From: at, To: to, At: len(body), Size: to - at})
			body = append(body, old[at:to]...)
		}
	}
	for i := 0; i+1 < len(cuts); i += 2 {
		keep(cuts[i])
		at = max(at, cuts[i+1])
		if f := fresh(); len(f) > 0 {
			ops = append(ops, Op{From: -1, Size: len(f), At: len(body)})
			body = append(body, f...)
		}
	}
	keep(len(old))
	return ops, body
}

func checkSplice(t interface{ Fatalf(string, ...any) }, e *Editor, frame []byte, ops []Op, body []byte) (out []byte, ok bool) {
	if out, ok = e.Splice([]byte("front"), frame, ops, body); !ok {
		return nil, false
	}
	got, err := decoder.DecodeAll(out[5:], nil)
	if err != nil || !bytes.Equal(got, body) || string(out[:5]) != "front" {
		t.Fatalf("spliced frame of %d bytes does not hold its content of %d (%d): %v", len(out), len(body), len(got), err)
	}
	return out[5:], true
}

var levels = []zstd.EncoderLevel{zstd.SpeedFastest, zstd.SpeedDefault, zstd.SpeedBetterCompression, zstd.SpeedBestCompression}

// TestSplice: whatever is cut out and put in, the frame holds the new content.
func TestSplice(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	e := new(Editor)
	for name, old := range contents(r) {
		tried, spliced := 0, 0
		for _, level := range levels {
			frame := compress(level, old)
			for round := range 12 {
				var cuts []int
				for range r.IntN(1 + round*4) {
					from := r.IntN(len(old))
					cuts = append(cuts, from, min(len(old), from+1+r.IntN(1+len(old)/(20+round))))
				}
				sortPairs(cuts)
				ops, body := edit(old, cuts, func() []byte {
					if r.IntN(3) > 0 {
						return nil
					}
					return old[:min(len(old), r.IntN(40))]
				})
				if len(body) == 0 {
					continue
				}
				tried++
				if _, ok := checkSplice(t, e, frame, ops, body); ok {
					spliced++
				}
			}
		}
		if name != "repeated" && name != "small" && spliced < tried*3/4 {
			t.Errorf("%s: %d of %d edits were spliced", name, spliced, tried)
		}
	}
}

// sortPairs makes ascending cuts that do not overlap.
func sortPairs(cuts []int) {
	for i := 2; i < len(cuts); i += 2 {
		for k := i; k > 0 && cuts[k] < cuts[k-2]; k -= 2 {
			cuts[k], cuts[k-2], cuts[k+1], cuts[k-1] = cuts[k-2], cuts[k], cuts[k-1], cuts[k+1]
		}
	}
	for i := 2; i < len(cuts); i += 2 {
		cuts[i] = max(cuts[i], cuts[i-1])
		cuts[i+1] = max(cuts[i+1], cuts[i])
	}
}

// TestUntouched: blocks that the edit does not concern are copied.
func TestUntouched(t *testing.T) {
	old := rows(rand.New(rand.NewPCG(3, 4)), 6000, 8)
	frame := compress(zstd.SpeedDefault, old)
	ops, body := edit(old, []int{len(old) - 100, len(old)}, func() []byte { return nil })
	out, ok := checkSplice(t, new(Editor), frame, ops, body)
	if !ok || !bytes.Contains(out, frame[20:len(frame)/2]) {
		t.Fatal("the blocks in front of the cut changed")
	}
}

// TestSpliceProperty is TestSplice on any cuts of any small content.
func TestSpliceProperty(t *testing.T) {
	e := new(Editor)
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		old := rows(r, rapid.IntRange(1, 400).Draw(t, "rows"), rapid.IntRange(0, 30).Draw(t, "entropy"))
		cuts := rapid.SliceOfN(rapid.IntRange(0, len(old)), 0, 60).Draw(t, "cuts")
		cuts = cuts[:len(cuts)/2*2]
		for i := 0; i < len(cuts); i += 2 {
			cuts[i], cuts[i+1] = min(cuts[i], cuts[i+1]), max(cuts[i], cuts[i+1])
		}
		sortPairs(cuts)
		fresh := rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, "fresh")
		ops, body := edit(old, cuts, func() []byte { return fresh })
		if len(body) == 0 {
			return
		}
		frame := compress(rapid.SampledFrom(levels).Draw(t, "level"), old, zstd.WithEncoderCRC(rapid.Bool().Draw(t, "crc")), zstd.WithWindowSize(rapid.SampledFrom([]int{1 << 10, 1 << 14, 1 << 20}).Draw(t, "window")))
		checkSplice(t, e, frame, ops, body)
	})
}

// FuzzSplice: frames that are no frames are refused, and never panic.
func FuzzSplice(f *testing.F) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, c := range contents(r) {
		f.Add(compress(zstd.SpeedDefault, c[:min(len(c), 3000)]), uint16(10), uint16(50))
	}
	e := new(Editor)
	f.Fuzz(func(t *testing.T, frame []byte, from, to uint16) {
		if len(frame) > 1<<16 {
			return
		}
		small, _ := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(1<<20))
		defer small.Close()
		old, err := small.DecodeAll(frame, nil)
		if err != nil {
			old = make([]byte, 70_000)
		}
		if from > to || int(to) > len(old) {
			return
		}
		ops, body := edit(old, []int{int(from), int(to)}, func() []byte { return []byte("new") })
		out, ok := e.Splice(nil, frame, ops, body)
		if !ok || err != nil {
			return
		}
		if got, err := small.DecodeAll(out, nil); err != nil || !bytes.Equal(got, body) {
			t.Fatalf("spliced frame does not hold its content: %v", err)
		}
	})
}

// BenchmarkSplice takes a few rows out of a page of 1 MiB, beside compressing it.
func BenchmarkSplice(b *testing.B) {
	old := rows(rand.New(rand.NewPCG(7, 8)), 7000, 16)[:1<<20]
	frame := compress(zstd.SpeedFastest, old)
	ops, body := edit(old, []int{0, 7, 200_000, 200_170, 500_000, 500_170, 900_000, 900_170}, func() []byte { return nil })
	b.Run("splice", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		e := new(Editor)
		var out []byte
		for b.Loop() {
			out, _ = e.Splice(out[:0], frame, ops, body)
		}
		b.ReportMetric(float64(len(out))/float64(len(frame)), "size")
	})
	b.Run("compress", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		z, _ := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithAllLitEntropyCompression(true))
		var out []byte
		for b.Loop() {
			out = z.EncodeAll(body, out[:0])
		}
		b.ReportMetric(float64(len(out))/float64(len(frame)), "size")
	})
	b.Run("decompress", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		out := make([]byte, 0, 2<<20)
		for b.Loop() {
			out, _ = decoder.DecodeAll(frame, out[:0])
		}
	})
}

// Blocks that new bytes make larger than a block may be are split.
func TestFullBlocksTakeNewBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	e := new(Editor)
	refused := 0 // where the frame would grow too much
	for name, old := range contents(r) {
		if len(old) < 2*maxBlock || name == "random" || name == "zeros" || name == "repeated" {
			continue // stored plain, or of one sequence
		}
		for _, level := range levels {
			cut := maxBlock/2 + r.IntN(1000)
			ops, body := edit(old, []int{cut, cut + 1}, func() []byte { return []byte("more than was cut out") })
			if _, ok := checkSplice(t, e, compress(level, old), ops, body); !ok {
				refused++
			}
		}
	}
	if refused > 1 {
		t.Errorf("%d of 12 edits were refused", refused)
	}
}
