package objects_test

import (
	"context"
	"fmt"
	"iter"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/warehouse"
	"github.com/expunge/expunge/warehouse/objects"
)

// endless is a store that lists n objects of a prefix and has none of them in memory.
type endless struct {
	storage.Store
	n int
}

func (e endless) List(_ context.Context, prefix string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		if !strings.HasPrefix(prefix, "mem://b/raw/") {
			return
		}
		for i := range e.n {
			if !yield(storage.Info{Path: fmt.Sprintf("mem://b/raw/dt=%05d/part-%09d.ndjson", i/1000, i), Size: 100, ETag: strconv.Itoa(i)}, nil) {
				return
			}
		}
	}
}

// TestPlanningStreams: the memory of a plan does not grow with the number of
// objects; EXPUNGE_SCALE measures another number of them.
func TestPlanningStreams(t *testing.T) {
	n := 100_000
	if v, err := strconv.Atoi(os.Getenv("EXPUNGE_SCALE")); err == nil {
		n = v
	}
	b, err := keyset.NewBuilder("users", keyset.Schema{{Name: "id", Type: keyset.Type{Kind: keyset.KindInt64}}})
	if err != nil {
		t.Fatal(err)
	}
	set, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	target := objects.Open(endless{n: n}, objects.Config{Name: "raw", Prefix: "mem://b/raw", Format: "ndjson"})
	sel := warehouse.Selection{Match: []warehouse.Match{{Keyset: "users", Keys: set, Columns: []string{"id"}}}}
	var peak, base uint64
	seen, live := 0, 0
	plan, err := target.Plan(t.Context(), sel, func(warehouse.Task) error {
		if seen++; seen%(n/10) == 0 {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			if base == 0 {
				base = m.HeapAlloc
			}
			peak = max(peak, m.HeapAlloc)
		}
		return nil
	}, func(string) error { live++; return nil })
	if err != nil || plan.Tasks != int64(n) || live != n {
		t.Fatalf("%+v, %v", plan, err)
	}
	t.Logf("%d objects, %d KiB more at the end than after a tenth", n, (peak-base)/1024)
	if peak > base+1<<20 {
		t.Errorf("memory grew from %d to %d bytes", base, peak)
	}
}
