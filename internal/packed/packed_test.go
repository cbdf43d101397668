package packed_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"

	"github.com/expunge/expunge/internal/packed"
	"github.com/expunge/expunge/internal/storage"
)

// pack compresses pieces, each as a frame of its own where the kind has frames.
func pack(t require, kind packed.Kind, pieces ...[]byte) []byte {
	var out bytes.Buffer
	switch kind {
	case packed.Plain:
		out.Write(bytes.Join(pieces, nil))
	case packed.Gzip:
		for _, p := range pieces {
			w := gzip.NewWriter(&out)
			w.Name = "part"
			must(t, w, p)
		}
	case packed.Zstd:
		for i, p := range pieces {
			w, err := zstd.NewWriter(&out, zstd.WithEncoderCRC(i%2 == 0), zstd.WithZeroFrames(true))
			if err != nil {
				t.Fatal(err)
			}
			must(t, w, p)
			if i == 0 {
				out.Write([]byte{0x51, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 'a', 'b', 'c'})
			}
		}
	case packed.Snappy:
		for _, p := range pieces {
			must(t, snappy.NewBufferedWriter(&out), p)
		}
	case packed.Hadoop:
		for _, p := range pieces {
			out.Write(binary.BigEndian.AppendUint32(nil, uint32(len(p))))
			for len(p) > 0 {
				n := min(len(p), 1000)
				c := snappy.Encode(nil, p[:n])
				out.Write(binary.BigEndian.AppendUint32(nil, uint32(len(c))))
				out.Write(c)
				p = p[n:]
			}
		}
	}
	return out.Bytes()
}

type require interface{ Fatal(...any) }

func must(t require, w io.WriteCloser, p []byte) {
	if _, err := w.Write(p); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func put(t require, s storage.Store, path string, data []byte) storage.Object {
	if err := storage.WriteAll(context.Background(), s, path, data, storage.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	o, err := s.Open(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func content(t require, o storage.Object, kind packed.Kind) ([]byte, []packed.Frame) {
	r := packed.NewReader(o, kind)
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data, r.Frames()
}

func detect(o storage.Object) (packed.Kind, error) {
	r, err := packed.Open(o)
	if err != nil {
		return packed.Plain, err
	}
	defer r.Close()
	return r.Kind(), nil
}

func apply(data []byte, edits []packed.Edit) []byte {
	var out []byte
	at := int64(0)
	for _, e := range edits {
		out = append(append(out, data[at:e.Off]...), e.With...)
		at = e.Off + e.Len
	}
	return append(out, data[at:]...)
}

var kinds = []packed.Kind{packed.Plain, packed.Gzip, packed.Zstd, packed.Snappy, packed.Hadoop}

// TestRewriteEditsTheContentAndNothingElse: any content in any frames, any
// edits, frames crossed or not, empty ones included.
func TestRewriteEditsTheContentAndNothingElse(t *testing.T) {
	s := storage.NewMem()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		kind := rapid.SampledFrom(kinds).Draw(t, "kind")
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		var pieces [][]byte
		for range rapid.IntRange(1, 5).Draw(t, "frames") {
			p := make([]byte, rng.IntN(5000))
			for i := range p {
				p[i] = "abc\n"[rng.IntN(4)]
			}
			pieces = append(pieces, p)
		}
		src := put(t, s, fmt.Sprintf("mem://b/%d.snappy", n), pack(t, kind, pieces...))
		if found, err := detect(src); kind != packed.Plain && len(bytes.Join(pieces, nil)) > 0 && (found != kind || err != nil) {
			t.Fatalf("detected %q, %v; want %q", found, err, kind)
		}
		data, frames := content(t, src, kind)
		if !bytes.Equal(data, bytes.Join(pieces, nil)) {
			t.Fatalf("content differs")
		}
		var edits []packed.Edit
		for at := 0; at < len(data); {
			at += rng.IntN(len(data)/2 + 1)
			k := min(rng.IntN(len(data)/3+1), len(data)-at)
			if k <= 0 {
				at++
				continue
			}
			e := packed.Edit{Off: int64(at), Len: int64(k)}
			if rng.IntN(3) == 0 {
				e.With = []byte("new")
			}
			edits = packed.AddEdit(edits, e)
			at += k
		}
		dst, err := s.Create(context.Background(), fmt.Sprintf("mem://b/%d.out", n), storage.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		stats, err := packed.Rewrite(context.Background(), src, dst, kind, frames, edits)
		if err != nil {
			t.Fatal(err)
		}
		if err := dst.Close(); err != nil {
			t.Fatal(err)
		}
		out, err := s.Open(context.Background(), fmt.Sprintf("mem://b/%d.out", n))
		if err != nil {
			t.Fatal(err)
		}
		if out.Info().Size != stats.Copied+stats.Encoded {
			t.Fatalf("size %d, stats %+v", out.Info().Size, stats)
		}
		if got, _ := content(t, out, kind); !bytes.Equal(got, apply(data, edits)) {
			t.Fatalf("edits %v: got %d bytes, want %d", edits, len(got), len(apply(data, edits)))
		}
		if len(edits) == 0 && stats.Encoded > 0 {
			t.Fatal("frames without an edit were encoded anew")
		}
	})
}

// TestCleanFramesAreCopied: of many members only the one with the edit changes.
func TestCleanFramesAreCopied(t *testing.T) {
	s := storage.NewMem()
	for _, kind := range kinds[1:] {
		var pieces [][]byte
		for i := range 50 {
			pieces = append(pieces, bytes.Repeat([]byte(fmt.Sprintf("row %d\n", i)), 300))
		}
		raw := pack(t, kind, pieces...)
		src := put(t, s, "mem://b/"+string(kind), raw)
		_, frames := content(t, src, kind)
		at := int64(len(bytes.Join(pieces[:20], nil)))
		dst, _ := s.Create(t.Context(), "mem://b/out", storage.CreateOptions{})
		stats, err := packed.Rewrite(t.Context(), src, dst, kind, frames, []packed.Edit{{Off: at + 10, Len: 7}})
		if err != nil || stats.FramesTouched != 1 || stats.Encoded > int64(len(raw))/20 {
			t.Errorf("%s: %+v, %v", kind, stats, err)
		}
		if err := dst.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCutStreamsAreCorrupt: a file cut anywhere is never taken for a whole one.
func TestCutStreamsAreCorrupt(t *testing.T) {
	s := storage.NewMem()
	for _, kind := range kinds[1:] {
		raw := pack(t, kind, bytes.Repeat([]byte("some text "), 50), []byte("second"))
		whole, frames := content(t, put(t, s, "mem://b/x", raw), kind)
		ends := map[int64]bool{0: true}
		for _, f := range frames {
			ends[f.Off+f.Len] = true
		}
		for cut := range raw {
			r := packed.NewReader(put(t, s, "mem://b/x", raw[:cut]), kind)
			got, err := io.ReadAll(r)
			r.Close()
			if ends[int64(cut)] {
				if err != nil {
					t.Errorf("%s: cut between frames at %d: %v", kind, cut, err)
				}
				continue
			}
			if !errors.Is(err, packed.ErrCorrupt) || bytes.Equal(got, whole) && err == nil {
				t.Errorf("%s: cut at %d of %d: %v", kind, cut, len(raw), err)
			}
		}
	}
}

// TestSizeFollowsTheSourcesLevel: what is encoded anew is at most 2 % larger
// for each byte that stays.
func TestSizeFollowsTheSourcesLevel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var text bytes.Buffer
	for i := range 40_000 {
		fmt.Fprintf(&text, `{"user":{"id":%d},"page":"/catalog/%d","agent":"Mozilla/5.0 (X11; Linux x86_64)","ms":%d}`+"\n", rng.IntN(90000), rng.IntN(400), i%977)
	}
	data := text.Bytes()
	s := storage.NewMem()
	pack := map[string]func(io.Writer) io.WriteCloser{
		"gzip 6": func(w io.Writer) io.WriteCloser { z, _ := gzip.NewWriterLevel(w, 6); return z },
		"gzip 9": func(w io.Writer) io.WriteCloser { z, _ := gzip.NewWriterLevel(w, 9); return z },
		"gzip 1": func(w io.Writer) io.WriteCloser { z, _ := gzip.NewWriterLevel(w, 1); return z },
		"zstd": func(w io.Writer) io.WriteCloser {
			z, _ := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedDefault))
			return z
		},
	}
	for name, open := range pack {
		var raw bytes.Buffer
		must(t, open(&raw), data)
		src := put(t, s, "mem://b/y", raw.Bytes())
		kind, err := detect(src)
		if err != nil {
			t.Fatal(err)
		}
		_, frames := content(t, src, kind)
		dst, _ := s.Create(t.Context(), "mem://b/out", storage.CreateOptions{})
		stats, err := packed.Rewrite(t.Context(), src, dst, kind, frames, []packed.Edit{{Off: 1000, Len: 5000}})
		if err != nil {
			t.Fatal(err)
		}
		_ = dst.Close()
		was := float64(raw.Len()) / float64(len(data))
		is := float64(stats.Encoded) / float64(len(data)-5000)
		t.Logf("%s: %.4f before, %.4f after (%+.2f %%)", name, was, is, 100*(is/was-1))
		if is > was*1.02 {
			t.Errorf("%s: %.4f bytes a byte before, %.4f after", name, was, is)
		}
	}
}

func TestKnownAndUnreadIsNamed(t *testing.T) {
	for name, head := range map[string]string{"a.xz": "\xfd7zXZ\x00", "b": "\x04\x22\x4d\x18", "c.json.lzo": "{}"} {
		if kind, err := packed.Detect([]byte(head), name); !errors.Is(err, packed.ErrUnsupported) {
			t.Errorf("%s: %q, %v", name, kind, err)
		}
	}
	if kind, err := packed.Detect([]byte("BZhello,world"), "x.csv"); kind != packed.Plain || err != nil {
		t.Errorf("text that begins like bzip2: %q, %v", kind, err)
	}
	_, err := packed.Empty(packed.Bzip2, nil)
	if !errors.Is(err, packed.ErrUnsupported) {
		t.Errorf("bzip2 is written: %v", err)
	}
}
