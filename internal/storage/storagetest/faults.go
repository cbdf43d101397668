package storagetest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/expunge/expunge/internal/storage"
)

// WholeOrAbsent writes objects while one operation in five fails, before or
// after its effect or half way, with and without retries. Whatever happened,
// what is stored under a name is all of what was written there, or nothing;
// success means that it is there.
func WholeOrAbsent(t *testing.T, s storage.Store, root string, rounds, size int) {
	t.Helper()
	r := rand.New(rand.NewPCG(uint64(size), uint64(rounds)))
	actions := []storage.Action{storage.FailBefore, storage.FailAfter, storage.Truncate}
	faulty := storage.WithFaults(s, &storage.Faults{Pick: func(int64, storage.Call) *storage.Fault {
		if r.IntN(5) > 0 {
			return nil
		}
		return &storage.Fault{Action: actions[r.IntN(len(actions))]}
	}})
	retried := storage.WithRetry(faulty, storage.RetryPolicy{Attempts: 3, Base: time.Microsecond})
	written, failed := 0, 0
	for i := range rounds {
		path := fmt.Sprintf("%s%d-%d", root, size, i)
		data := random(1 + r.IntN(size))
		store := faulty
		if i%2 == 0 {
			store = retried
		}
		err := storage.WriteAll(t.Context(), store, path, data, storage.CreateOptions{IfNotExists: true})
		got, readErr := storage.ReadAll(t.Context(), s, path)
		switch {
		case err == nil && (readErr != nil || !bytes.Equal(got, data)):
			t.Fatalf("written: %d bytes of %d are there, %v", len(got), len(data), readErr)
		case readErr == nil && !bytes.Equal(got, data):
			t.Fatalf("failed with %v: %d bytes of %d are there", err, len(got), len(data))
		case readErr != nil && !storage.IsNotExist(readErr):
			t.Fatal(readErr)
		case errors.Is(err, storage.ErrExists):
			t.Fatalf("the writer met itself: %v", err)
		}
		if err == nil {
			written++
		} else {
			failed++
		}
	}
	if written == 0 || failed == 0 {
		t.Errorf("%d written, %d failed: the faults missed", written, failed)
	}
}
