package manifests

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestSidecarRoundTrip: what is read is what was written, and the root is the same.
func TestSidecarRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(0, 40).Draw(rt, "records")
		var b bytes.Buffer
		w, err := NewSidecarWriter(&b)
		if err != nil {
			rt.Fatal(err)
		}
		var want []Record
		for range n {
			r := genRecord(rt)
			if err := w.Write(r); err != nil {
				if !errors.Is(err, ErrRecord) {
					rt.Fatal(err)
				}
				continue
			}
			want = append(want, r)
		}
		e, err := w.Close()
		if err != nil {
			rt.Fatal(err)
		}
		in := bytes.NewReader(b.Bytes())
		i := 0
		for got, err := range ReadSidecar(in, in.Size()) {
			if err != nil {
				rt.Fatal(err)
			}
			if got != want[i] {
				rt.Fatalf("record %d: %+v, want %+v", i, got, want[i])
			}
			i++
		}
		if i != len(want) || e.Records != int64(i) {
			rt.Fatalf("%d records, want %d", i, len(want))
		}
		if err := VerifySidecar(in, in.Size(), e); err != nil {
			rt.Fatal(err)
		}
		if i == 0 {
			return
		}
		k := rapid.Int64Range(0, int64(i-1)).Draw(rt, "proved")
		p, err := ProveRecord(in, in.Size(), k)
		if err != nil {
			rt.Fatal(err)
		}
		if err := p.Check(e); err != nil {
			rt.Fatal(err)
		}
		if p.Record.RowsErased++; p.Check(e) == nil {
			rt.Fatal("a changed record was proved")
		}
	})
}

func TestImpossibleRecordsAreRefused(t *testing.T) {
	good := fileRecord("s3://b/x", 3)
	for name, change := range map[string]func(*Record){
		"rows do not add up":  func(r *Record) { r.RowsOut++ },
		"negative":            func(r *Record) { r.RowsOut, r.RowsErased = -1, r.RowsErased+r.RowsOut+1 },
		"no method":           func(r *Record) { r.Method = "" },
		"no path":             func(r *Record) { r.Path = "" },
		"bad digest":          func(r *Record) { r.DigestAfter = "xyz" },
		"unknown kind":        func(r *Record) { r.Kind = "else" },
		"delete without time": func(r *Record) { r.Kind, r.Response = RecordDelete, "deleted" },
	} {
		r := good
		change(&r)
		w, err := NewSidecarWriter(io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(r); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
}

// TestFalseTotalsAreFound: the manifest cannot say less than its evidence.
func TestFalseTotalsAreFound(t *testing.T) {
	side, e := testSidecar(t, "x", fileRecord("a", 2), fileRecord("b", 0))
	for name, change := range map[string]func(*Evidence){
		"totals": func(e *Evidence) { e.Totals.RowsErased = 1 }, "records": func(e *Evidence) { e.Records++ },
		"root": func(e *Evidence) { e.Root = e.SHA256 }, "size": func(e *Evidence) { e.Bytes++ },
	} {
		f := e
		change(&f)
		if VerifySidecar(bytes.NewReader(side), int64(len(side)), f) == nil {
			t.Errorf("false %s went unnoticed", name)
		}
	}
}

// TestSidecarOfAMillionRecordsStaysSmallInMemory writes and verifies one.
func TestSidecarOfAMillionRecordsStaysSmallInMemory(t *testing.T) {
	n := 1_000_000
	if testing.Short() || os.Getenv("EXPUNGE_LARGE") == "" {
		n = 60_000 // the shape of it; EXPUNGE_LARGE=1 for all
	}
	path := filepath.Join(t.TempDir(), "e.parquet")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := NewSidecarWriter(f)
	if err != nil {
		t.Fatal(err)
	}
	var peak uint64
	sample := func(i int) {
		if i%20000 == 0 {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapInuse)
		}
	}
	start := time.Now()
	r := fileRecord("", 0)
	for i := range n {
		r.Path = fmt.Sprintf("s3://lake/warehouse/sales/orders/data/order_month=2026-%02d/part-%08d-0000.parquet", i%12+1, i)
		r.DigestBefore = fmt.Sprintf("%064x", i*2654435761)
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
		sample(i)
	}
	e, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	wrote := time.Since(start)
	if err := VerifySidecar(f, e.Bytes, e); err != nil {
		t.Fatal(err)
	}
	sample(0)
	t.Logf("%d records, %d bytes, written in %v, verified in %v, heap at most %d MiB", n, e.Bytes, wrote, time.Since(start)-wrote, peak>>20)
	if peak > 256<<20 {
		t.Errorf("heap %d MiB", peak>>20)
	}
}

func BenchmarkSidecarWrite(b *testing.B) {
	w, err := NewSidecarWriter(io.Discard)
	if err != nil {
		b.Fatal(err)
	}
	r := fileRecord("s3://lake/warehouse/sales/orders/data/order_month=2026-01/part-00000001-0000.parquet", 0)
	b.ReportAllocs()
	for b.Loop() {
		if err := w.Write(r); err != nil {
			b.Fatal(err)
		}
	}
}
