package scanner_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/internal/pq/writers"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/scanner"
)

// FuzzParquet: a scan of whatever bytes gives hits inside the file, or an error
// of a known kind, and never a panic; reading columns too.
func FuzzParquet(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for version := 1; version <= 2; version++ {
		f.Add(writeRows(f, makeRows(r, 40), parquet.DataPageVersion(version), parquet.PageBufferSize(300), parquet.Compression(&parquet.Snappy)))
	}
	f.Add(writeAs(f, sortedRows(50, 2), 20, parquet.PageBufferSize(50), parquet.BloomFilters(parquet.SplitBlockFilter(10, "k"))))
	for _, w := range writers.Files() {
		f.Add(w.Data)
	}
	reqs := []scanner.Request{single(intSet(f, 1, 2, 3, 400), "k")}
	for _, c := range cases(f, r, 20) {
		reqs = append(reqs, scanner.Request{Match: []scanner.Match{c.match}})
	}
	members := ref("members")
	reqs = append(reqs, scanner.Request{Match: single(intSet(f, 1), "members", "[*]", "id").Match, Options: scanner.Options{Elements: &members}})
	known := []error{pq.ErrCorrupt, pq.ErrUnsupported, pq.ErrAmbiguous, pq.ErrNotLeaf, pq.ErrNotFound, keyset.ErrType, scanner.ErrStructure, scanner.ErrRepeated}
	f.Fuzz(func(t *testing.T, b []byte) {
		check := func(err error) {
			for _, k := range known {
				if errors.Is(err, k) {
					return
				}
			}
			if err != nil {
				t.Fatalf("error of no known kind: %v", err)
			}
		}
		for _, req := range reqs {
			res, err := scanner.ParquetAt(context.Background(), bytes.NewReader(b), int64(len(b)), req)
			check(err)
			if err == nil && !res.Hits.IsEmpty() && int64(res.Hits.Maximum()) >= res.Rows {
				t.Fatalf("hit at row %d of %d", res.Hits.Maximum(), res.Rows)
			}
		}
		check(scanner.ReadColumnsAt(context.Background(), bytes.NewReader(b), int64(len(b)),
			[]scanner.ColumnRef{ref("k"), ref("contact", "email"), ref("device")}, func(*scanner.Batch) error { return nil }))
	})
}
