package parquet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	arrowparquet "github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	pgo "github.com/parquet-go/parquet-go"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/internal/thriftpatch"
	"github.com/expunge/expunge/rewriter"
)

// failingWriter fails, or does something else, at its n-th byte.
type failingWriter struct {
	left int
	then func() error
}

func (w *failingWriter) Write(b []byte) (int, error) {
	if w.left -= len(b); w.left < 0 {
		if err := w.then(); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// A write error or a cancellation at any point ends the work with that error;
// no goroutine stays (TestMain looks).
func TestStoppingAnywhereEndsCleanly(t *testing.T) {
	s := goSample(t, rand.New(rand.NewPCG(41, 42)), "stop", 200)
	e := rewriter.Edit{Erase: randomRows(rand.New(rand.NewPCG(1, 1)), 200, 40)}
	full := errors.New("disk full")
	for _, engine := range []string{rewriter.Surgical, rewriter.Reference} {
		whole, _ := mustRewrite(t, s.data, e, rewriter.Options{Engine: engine})
		for at := 0; at < len(whole); at += len(whole)/37 + 1 {
			ctx, cancel := context.WithCancel(t.Context())
			in := Input{bytes.NewReader(s.data), int64(len(s.data))}
			_, err := RewriteTo(ctx, in, Output{Writer: &failingWriter{at, func() error { return full }}}, e, rewriter.Options{Engine: engine, Workers: 3})
			if !errors.Is(err, full) {
				t.Fatalf("%s, write error at %d: %v", engine, at, err)
			}
			_, err = RewriteTo(ctx, in, Output{Writer: &failingWriter{at, func() error { cancel(); return nil }}}, e, rewriter.Options{Engine: engine, Workers: 3})
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Fatalf("%s, cancelled at %d: %v", engine, at, err)
			}
			if _, err := RewriteTo(ctx, in, Output{Writer: io.Discard}, e, rewriter.Options{Engine: engine}); !errors.Is(err, context.Canceled) {
				t.Fatalf("%s, cancelled before: %v", engine, err)
			}
			cancel()
		}
	}
}

// failingReader fails beyond its first reads, whichever goroutine makes them.
type failingReader struct {
	io.ReaderAt
	left atomic.Int64
	err  error
}

func (r *failingReader) ReadAt(b []byte, off int64) (int, error) {
	if r.left.Add(-1) < 0 {
		return 0, r.err
	}
	return r.ReaderAt.ReadAt(b, off)
}

// A read error is reported as it is: it does not make the file corrupt.
func TestReadErrorsAreNotCorruption(t *testing.T) {
	s := goSample(t, rand.New(rand.NewPCG(43, 44)), "read", 200)
	lost := errors.New("connection reset")
	e := rewriter.Edit{Erase: bitmap(1, 100, 199)}
	for n := range 200 {
		r := &failingReader{ReaderAt: bytes.NewReader(s.data), err: lost}
		r.left.Store(int64(n))
		_, err := RewriteTo(t.Context(), Input{r, int64(len(s.data))}, Output{Writer: io.Discard}, e, rewriter.Options{})
		if err == nil {
			return // more reads than it takes
		}
		if !errors.Is(err, lost) || errors.Is(err, rewriter.ErrCorrupt) {
			t.Fatalf("read %d: %v", n, err)
		}
	}
	t.Fatal("never read through")
}

// What cannot be kept is refused, with what and where, before a byte is written.
func TestUnsupportedFilesAreRefused(t *testing.T) {
	s := goSample(t, rand.New(rand.NewPCG(45, 46)), "refused", 60)
	f, err := pq.Open(t.Context(), bytes.NewReader(s.data), int64(len(s.data)))
	if err != nil {
		t.Fatal(err)
	}
	patched := func(patch func(footer *thriftpatch.Struct, chunk *thriftpatch.Struct)) []byte {
		footer := openFooter(t, s.data)
		groups, _ := footer.List(fileRowGroups)
		g, _ := groups.Struct(0)
		columns, _ := g.List(groupColumns)
		c, _ := columns.Struct(0)
		patch(footer, c)
		columns.Values[0] = c.Append(nil)
		g.SetList(groupColumns, columns)
		groups.Values[0] = g.Append(nil)
		footer.SetList(fileRowGroups, groups)
		return appendFooter(bytes.Clone(s.data[:f.FooterOffset]), footer)
	}
	meta := func(patch func(m *thriftpatch.Struct)) func(_, c *thriftpatch.Struct) {
		return func(_, c *thriftpatch.Struct) {
			m, _ := c.Struct(chunkMeta)
			patch(m)
			c.SetStruct(chunkMeta, m)
		}
	}
	encryptedTail := bytes.Clone(s.data)
	copy(encryptedTail[len(encryptedTail)-4:], "PARE")
	for name, data := range map[string][]byte{
		"encrypted footer":  encryptedTail,
		"signed footer":     patched(func(f, _ *thriftpatch.Struct) { f.SetStruct(fileEncryption, &thriftpatch.Struct{}) }),
		"encrypted column":  patched(func(_, c *thriftpatch.Struct) { c.SetBytes(9, []byte("sealed")) }),
		"legacy lz4":        patched(meta(func(m *thriftpatch.Struct) { m.SetInt(4, thriftpatch.I32, 5) })),
		"unknown codec":     patched(meta(func(m *thriftpatch.Struct) { m.SetInt(4, thriftpatch.I32, 77) })),
		"chunk elsewhere":   patched(func(_, c *thriftpatch.Struct) { c.SetBytes(1, []byte("other.parquet")) }),
		"chunk out of file": patched(meta(func(m *thriftpatch.Struct) { m.SetInt(metaCompressed, thriftpatch.I64, 1<<40) })),
	} {
		for _, engine := range []string{"", rewriter.Surgical, rewriter.Reference} {
			out, _, err := rewrite(data, rewriter.Edit{Erase: bitmap(3)}, rewriter.Options{Engine: engine})
			if !errors.Is(err, rewriter.ErrUnsupported) && !errors.Is(err, rewriter.ErrCorrupt) {
				t.Errorf("%s, engine %q: %v", name, engine, err)
			}
			if len(out) > 0 {
				t.Errorf("%s, engine %q: %d bytes written", name, engine, len(out))
			}
		}
	}
}

// Files without rows, and row groups without rows, come through.
func TestEmptyFilesAndRowGroups(t *testing.T) {
	var buf bytes.Buffer
	w := pgo.NewGenericWriter[goRow](&buf)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var arrowBuf bytes.Buffer
	aw, err := pqarrow.NewFileWriter(arrowSchema, &arrowBuf, arrowparquet.NewWriterProperties(), pqarrow.DefaultWriterProps())
	if err != nil {
		t.Fatal(err)
	}
	empty := arrowRecord(rand.New(rand.NewPCG(1, 2)), 0)
	full := arrowRecord(rand.New(rand.NewPCG(1, 2)), 10)
	defer empty.Release()
	defer full.Release()
	if err := errors.Join(aw.Write(empty), aw.Write(full), aw.Write(empty), aw.Close()); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"go": buf.Bytes(), "arrow": arrowBuf.Bytes()} {
		e := rewriter.Edit{Lineage: &rewriter.Lineage{FirstRowID: 7, Sequence: 1}}
		rows := len(arrowRows(t, data))
		if rows > 0 {
			e.Erase = bitmap(2)
		}
		out, res := mustRewrite(t, data, e, rewriter.Options{Engine: rewriter.Surgical})
		if got := arrowRows(t, out); len(got) != int(res.RowsOut) || int(res.RowsIn) != rows {
			t.Fatalf("%s: %d rows, %+v", name, len(got), res)
		}
	}
}

// Copy is asked for exactly the ranges that are copied, and the file is the same.
func TestRangeCopyGivesTheSameFile(t *testing.T) {
	s := goSample(t, rand.New(rand.NewPCG(47, 48)), "copy", 300)
	e := rewriter.Edit{Erase: bitmap(5)}
	want, res := mustRewrite(t, s.data, e, rewriter.Options{})
	var out bytes.Buffer
	copied := int64(0)
	dst := Output{Writer: &out, Copy: func(off, n int64) error {
		copied += n
		out.Write(s.data[off : off+n])
		return nil
	}}
	got, err := RewriteTo(t.Context(), Input{bytes.NewReader(s.data), int64(len(s.data))}, dst, e, rewriter.Options{SkipDigest: true})
	if err != nil || !bytes.Equal(out.Bytes(), want) {
		t.Fatalf("files differ: %v", err)
	}
	if copied == 0 || copied != res.BytesCopied || got.Size != int64(len(want)) || got.SHA256 != [32]byte{} {
		t.Fatalf("%d bytes copied, %+v", copied, got)
	}
}
