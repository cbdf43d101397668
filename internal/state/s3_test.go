package state

import (
	"errors"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/expunge/expunge/internal/storage"
	_ "github.com/expunge/expunge/internal/storage/s3"
)

// TestStateWorksOnS3: compare and swap by if-match and if-none-match, sealed
// files in parts, and the destruction of a secret.
func TestStateWorksOnS3(t *testing.T) {
	back := s3mem.New()
	if err := back.CreateBucket("state"); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(gofakes3.New(back, gofakes3.WithTimeSkewLimit(0)).Server())
	defer srv.Close()
	store := storage.WithRetry(storage.New(map[string]string{
		"s3.endpoint": srv.URL, "s3.access-key-id": "id", "s3.secret-access-key": "secret",
	}), storage.DefaultRetry)
	defer srv.CloseClientConnections()
	s := openOn(t, store, "s3://state/expunge")
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
	if _, err := work(t.Context(), store, "s3://state/expunge"); err != nil {
		t.Fatal(err)
	}
	checkFinal(t, store, "s3://state/expunge", 0)
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
