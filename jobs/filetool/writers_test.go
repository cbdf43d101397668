package filetool

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/expunge/expunge/internal/pq/writers"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/rewriter"
	"github.com/expunge/expunge/verifier"
	"github.com/expunge/expunge/warehouse"
)

// Rows go from files of six writers, by the surgical engine, and nothing of
// them is found afterwards; before, it is.
func TestFilesOfOtherWriters(t *testing.T) {
	ctx, dir, store := t.Context(), t.TempDir(), storage.New(nil)
	r := rand.New(rand.NewPCG(3, 3))
	for i, f := range writers.Files() {
		in := put(t, dir, f.Name+".parquet", string(f.Data))
		gone := r.Perm(writers.Rows)[:1+i%(writers.Rows-1)]
		var keys strings.Builder
		keys.WriteString("id\n")
		for _, row := range gone {
			fmt.Fprintln(&keys, writers.ID(row))
		}
		req := Request{Input: in, Columns: []string{"id"}, Keys: put(t, dir, f.Name+".csv", keys.String())}
		before, err := Check(ctx, store, req)
		if err != nil || before.Hits != int64(len(gone)) {
			t.Errorf("%s: the input's check says %+v (%v)", f.Name, before, err)
			continue
		}
		done, err := Erase(ctx, store, req, in+".out", EraseOptions{Workers: 2})
		if err != nil {
			t.Errorf("%s: %v", f.Name, err)
			continue
		}
		if done.Engine != rewriter.Surgical || done.RowsOut != int64(writers.Rows-len(gone)) {
			t.Errorf("%s: %d rows are left, by the %s engine: %s", f.Name, done.RowsOut, done.Engine, done.Fallback)
		}
		req.Input = in + ".out"
		after, err := Check(ctx, store, req)
		if err != nil {
			t.Errorf("%s: check: %v", f.Name, err)
			continue
		}
		same, err := verifier.Survivors(ctx, store, verifier.Rewrite{Old: warehouse.File{Path: in}, New: req.Input,
			Matches: []warehouse.BoundMatch{{Keys: keysOf(t, store, req), Columns: []warehouse.ColumnRef{{Path: []string{"id"}}}}}})
		if err != nil || !same.Equal || same.Erased != int64(len(gone)) {
			t.Errorf("%s: the verifier compares: %+v (%v)", f.Name, same, err)
		}
		for _, x := range after.Findings {
			if x.Certain {
				t.Errorf("%s: left behind: %+v", f.Name, x)
			}
		}
	}
}

func keysOf(t *testing.T, store storage.Store, r Request) *keyset.Set {
	t.Helper()
	o, err := open(t.Context(), store, r)
	if err != nil {
		t.Fatal(err)
	}
	defer o.object.Close()
	return o.keys
}
