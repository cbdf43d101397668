package state

import (
	"errors"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/expunge/expunge/internal/storage"
	_ "github.com/expunge/expunge/internal/storage/s3"
)

// s3Store is an S3 server in this process, or the one whose address is in
// EXPUNGE_TEST_S3 and that has a bucket "state".
func s3Store(t *testing.T) storage.Store {
	t.Helper()
	endpoint := os.Getenv("EXPUNGE_TEST_S3")
	if endpoint == "" {
		back := s3mem.New()
		if err := back.CreateBucket("state"); err != nil {
			t.Fatal(err)
		}
		srv := httptest.NewServer(gofakes3.New(back, gofakes3.WithTimeSkewLimit(0)).Server())
		t.Cleanup(srv.Close)
		t.Cleanup(srv.CloseClientConnections)
		endpoint = srv.URL
	}
	return storage.WithRetry(storage.New(map[string]string{
		"s3.endpoint": endpoint, "s3.access-key-id": "id", "s3.secret-access-key": "secret",
	}), storage.DefaultRetry)
}

// TestStateWorksOnS3: compare and swap by if-match and if-none-match, sealed
// files in parts, and the destruction of a secret.
func TestStateWorksOnS3(t *testing.T) {
	store, root := s3Store(t), "s3://state"+t.TempDir()
	s := openOn(t, store, root)
	one := acquire(t, s, "one", 20*time.Second)
	if _, err := s.Acquire(t.Context(), "lake.sales.orders", "two", 20*time.Second); !errors.Is(err, ErrLeaseHeld) {
		t.Error(err)
	}
	for range 3 {
		if err := one.renew(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := one.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if err := one.Release(t.Context()); err != nil {
		t.Error(err)
	}
	two := acquire(t, s, "two", 20*time.Second)
	if two.Epoch() != one.Epoch()+1 {
		t.Errorf("epoch %d after %d", two.Epoch(), one.Epoch())
	}
	if err := two.Release(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := work(t.Context(), store, root); err != nil {
		t.Fatal(err)
	}
	checkFinal(t, store, root, 0)
	r, err := s.OpenRun(t.Context(), "run")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.WriteBytes(t.Context(), "big", make([]byte, 20<<20)); err != nil {
		t.Fatal(err)
	}
	if data, err := r.ReadBytes(t.Context(), "big"); err != nil || len(data) != 20<<20 {
		t.Error(len(data), err)
	}
	a, err := r.Journal(t.Context(), "main")
	if err != nil {
		t.Fatal(err)
	}
	b, err := r.Journal(t.Context(), "main")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Append(t.Context(), Event{Step: "a"}); err != nil {
		t.Error(err)
	}
	if _, err := b.Append(t.Context(), Event{Step: "b"}); !errors.Is(err, ErrConflict) {
		t.Error(err)
	}
	if err := r.DestroySecret(t.Context()); err != nil {
		t.Error(err)
	}
}
