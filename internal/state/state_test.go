package state

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/storage"
)

func TestMain(m *testing.M) {
	if os.Getenv("EXPUNGE_TEST_HOLD") != "" {
		holdLease()
		return
	}
	if root := os.Getenv("EXPUNGE_TEST_CONTEND"); root != "" {
		if err := contend(root); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func open(t *testing.T, opts ...Option) *State {
	t.Helper()
	return openOn(t, storage.New(nil), t.TempDir(), opts...)
}

func openOn(t *testing.T, store storage.Store, root string, opts ...Option) *State {
	t.Helper()
	s, err := Open(t.Context(), store, root, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newRun(t *testing.T, s *State, id string) *Run {
	t.Helper()
	r, err := s.NewRun(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

type rec struct {
	N    int    `json:"n"`
	Text string `json:"text"`
}

func records(n int) iter.Seq2[rec, error] {
	return func(yield func(rec, error) bool) {
		for i := range n {
			if !yield(rec{i, strings.Repeat("<&>", i%50)}, nil) {
				return
			}
		}
	}
}

func TestRecordsStreamBackAsTheyWent(t *testing.T) {
	r := newRun(t, open(t), "run-1")
	n, err := WriteRecords(t.Context(), r, "plan/shard-1", records(5000))
	if err != nil || n != 5000 {
		t.Fatalf("%d, %v", n, err)
	}
	i := 0
	for got, err := range ReadRecords[rec](t.Context(), r, "plan/shard-1") {
		if err != nil {
			t.Fatal(err)
		}
		if got.N != i || got.Text != strings.Repeat("<&>", i%50) {
			t.Fatalf("record %d is %+v", i, got)
		}
		i++
	}
	if i != 5000 {
		t.Fatalf("%d records", i)
	}
	for range ReadRecords[rec](t.Context(), r, "plan/shard-1") {
		break // must not leak or hang
	}
	for _, err := range ReadRecords[rec](t.Context(), r, "plan/none") {
		if !storage.IsNotExist(err) {
			t.Fatal(err)
		}
	}
}

func TestFailingProducerLeavesNoFile(t *testing.T) {
	r := newRun(t, open(t), "run-1")
	boom := errors.New("boom")
	_, err := WriteRecords(t.Context(), r, "x", func(yield func(rec, error) bool) {
		_ = yield(rec{}, nil) && yield(rec{}, boom)
	})
	if !errors.Is(err, boom) {
		t.Fatal(err)
	}
	if ok, err := r.Exists(t.Context(), "x"); ok || err != nil {
		t.Fatal(ok, err)
	}
}

func TestNothingButTheAllowedIsInClear(t *testing.T) {
	root := t.TempDir()
	s := openOn(t, storage.New(nil), root)
	r := newRun(t, s, "run-1")
	const key = "jane@example.com"
	if err := r.WriteBytes(t.Context(), "keys/users", bytes.Repeat([]byte(key), 100)); err != nil {
		t.Fatal(err)
	}
	j, err := r.Journal(t.Context(), "main")
	if err != nil {
		t.Fatal(err)
	}
	ev, err := NewEvent("plan", "t1", map[string]string{"who": key})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Append(t.Context(), ev); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if bytes.Contains(data, []byte("jane")) {
			t.Errorf("%s holds the key", path)
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		if st.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, st.Mode().Perm())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestSealedFileOpensUnderItsOwnNameAndRunOnly(t *testing.T) {
	s := open(t)
	a, b := newRun(t, s, "a"), newRun(t, s, "b")
	if err := a.WriteBytes(t.Context(), "x", []byte("secret")); err != nil {
		t.Fatal(err)
	}
	data, err := storage.ReadAll(t.Context(), s.store, a.Path("x"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{a.Path("y"), b.Path("x")} {
		if err := storage.WriteAll(t.Context(), s.store, path, data, storage.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.ReadBytes(t.Context(), "y"); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
	if _, err := b.ReadBytes(t.Context(), "x"); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
}

func TestRunIdsAreUniqueAndNamesStayInside(t *testing.T) {
	s := open(t)
	r := newRun(t, s, "a")
	if _, err := s.NewRun(t.Context(), "a"); !errors.Is(err, ErrRunExists) {
		t.Error(err)
	}
	if _, err := s.OpenRun(t.Context(), "b"); !errors.Is(err, ErrNoRun) {
		t.Error(err)
	}
	for _, id := range []string{"", ".", "..", "a/b", "../a", "-x", strings.Repeat("x", 129)} {
		if _, err := s.NewRun(t.Context(), id); !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", id, err)
		}
	}
	for _, name := range []string{"", "/x", "../x", "a/../x", "a//b", "a/"} {
		if _, err := r.Create(t.Context(), name); !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestCreateKeepsTheFirstReplaceTakesTheLast(t *testing.T) {
	r := newRun(t, open(t), "a")
	for i := range 2 {
		f, err := r.Create(t.Context(), "x")
		if err == nil {
			_, _ = fmt.Fprint(f, i)
			err = f.Close()
		}
		if i == 0 && err != nil || i == 1 && !errors.Is(err, storage.ErrExists) {
			t.Fatal(i, err)
		}
	}
	if got, err := r.ReadBytes(t.Context(), "x"); err != nil || string(got) != "0" {
		t.Fatalf("%q %v", got, err)
	}
	if err := r.WriteBytes(t.Context(), "x", []byte("2")); err != nil {
		t.Fatal(err)
	}
	if got, err := r.ReadBytes(t.Context(), "x"); err != nil || string(got) != "2" {
		t.Fatalf("%q %v", got, err)
	}
}

func TestDestroyedSecretClosesTheRunForGood(t *testing.T) {
	root := t.TempDir()
	s := openOn(t, storage.New(nil), root)
	r := newRun(t, s, "a")
	if err := r.WriteBytes(t.Context(), "x", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if err := r.SetStatus(t.Context(), Status{State: "done", Outcome: "ERASED"}); err != nil {
		t.Fatal(err)
	}
	plain, err := r.CreatePlain(t.Context(), "manifest.intoto.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = plain.Write([]byte("{}"))
	if err := plain.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // it can be repeated
		if err := r.DestroySecret(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "secrets", "a")); !os.IsNotExist(err) {
		t.Fatal(err)
	}
	again, err := s.OpenRun(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	for _, run := range []*Run{r, again} {
		if _, err := run.Open(t.Context(), "x"); !errors.Is(err, ErrSealed) {
			t.Error(err)
		}
		if _, err := run.Create(t.Context(), "y"); !errors.Is(err, ErrSealed) {
			t.Error(err)
		}
		if _, err := run.Derive("x"); !errors.Is(err, ErrSealed) || run.Secret() != nil || !run.Sealed() {
			t.Error(err)
		}
	}
	st, err := again.Status(t.Context())
	if err != nil || !st.Sealed || st.Outcome != "ERASED" {
		t.Errorf("%+v %v", st, err)
	}
	f, err := again.OpenPlain(t.Context(), "manifest.intoto.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if data, err := io.ReadAll(f); err != nil || string(data) != "{}" {
		t.Errorf("%q %v", data, err)
	}
	if _, err := s.NewRun(t.Context(), "a"); !errors.Is(err, ErrRunExists) {
		t.Error(err)
	}
}

func TestWrappedSecretNeedsItsIdentity(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	store := storage.New(nil)
	writer := openOn(t, store, root, WithWrapper(&Age{Recipients: []age.Recipient{id.Recipient()}}))
	r := newRun(t, writer, "a")
	if err := r.WriteBytes(t.Context(), "x", []byte("1")); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(root, "secrets", "a"))
	if err != nil || bytes.Contains(raw, r.Secret()) {
		t.Fatal("secret is stored as it is", err)
	}
	reader := openOn(t, store, root, WithWrapper(&Age{Identities: []age.Identity{id}}))
	got, err := reader.OpenRun(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if data, err := got.ReadBytes(t.Context(), "x"); err != nil || string(data) != "1" {
		t.Fatalf("%q %v", data, err)
	}
	for _, other := range []*State{openOn(t, store, root), writer} {
		r, err := other.OpenRun(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.ReadBytes(t.Context(), "x"); err == nil || errors.Is(err, ErrSealed) {
			t.Errorf("without identity: %v", err)
		}
		if st, err := r.Status(t.Context()); err != nil || st.State != "new" {
			t.Errorf("%+v %v", st, err)
		}
	}
}

func TestRunsListsStatusInOrder(t *testing.T) {
	s := open(t)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ctx := clock.With(t.Context(), func() time.Time { return at })
	for _, id := range []string{"b", "a", "a-2"} {
		r, err := s.NewRun(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.SetStatus(ctx, Status{State: "running", Counters: map[string]int64{"rows": 3}}); err != nil {
			t.Fatal(err)
		}
		if err := r.WriteBytes(ctx, "x", nil); err != nil {
			t.Fatal(err)
		}
	}
	var ids []string
	for st, err := range s.Runs(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if st.Updated != at || st.Counters["rows"] != 3 {
			t.Errorf("%+v", st)
		}
		ids = append(ids, st.Run)
	}
	if diff := cmp.Diff([]string{"a-2", "a", "b"}, ids); diff != "" {
		t.Error(diff)
	}
}

func TestStopIsSeenAndWithdrawn(t *testing.T) {
	s := open(t)
	r := newRun(t, s, "a")
	if _, stop, err := r.StopRequested(t.Context()); stop || err != nil {
		t.Fatal(stop, err)
	}
	other, err := s.OpenRun(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if err := other.RequestStop(t.Context(), "operator"); err != nil {
		t.Fatal(err)
	}
	if reason, stop, err := r.StopRequested(t.Context()); !stop || reason != "operator" || err != nil {
		t.Fatal(reason, stop, err)
	}
	if err := r.ClearStop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, stop, err := r.StopRequested(t.Context()); stop || err != nil {
		t.Fatal(stop, err)
	}
}

func replay(ctx context.Context, j *Journal) ([]Event, error) {
	var out []Event
	for e, err := range j.Replay(ctx) {
		if err != nil {
			return out, err
		}
		out = append(out, e)
	}
	return out, nil
}

func TestJournalReplaysWhatWasAppended(t *testing.T) {
	r := newRun(t, open(t), "a")
	var want []Event
	for range 3 { // reopened in between
		j, err := r.Journal(t.Context(), "main")
		if err != nil {
			t.Fatal(err)
		}
		for range 4 {
			e, err := j.Append(t.Context(), Event{Step: "s", Key: "k", Data: json.RawMessage(`{"n":1}`)})
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, e)
		}
	}
	j, err := r.Journal(t.Context(), "main")
	if err != nil {
		t.Fatal(err)
	}
	got, err := replay(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" || len(got) != 12 || got[11].Seq != 12 {
		t.Fatal(diff)
	}
}

func TestSecondJournalWriterIsRefused(t *testing.T) {
	r := newRun(t, open(t), "a")
	one, err := r.Journal(t.Context(), "main")
	if err != nil {
		t.Fatal(err)
	}
	two, err := r.Journal(t.Context(), "main")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := two.Append(t.Context(), Event{Step: "two"}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := one.Append(t.Context(), Event{Step: "one"}); !errors.Is(err, ErrConflict) {
			t.Fatal(err)
		}
	}
	if _, err := two.Append(t.Context(), Event{Step: "two"}); err != nil {
		t.Fatal(err)
	}
	if got, err := replay(t.Context(), two); err != nil || len(got) != 2 || got[0].Step != "two" {
		t.Fatal(got, err)
	}
}

func TestDamagedJournalIsNoticed(t *testing.T) {
	damage := map[string]func(r *Run) error{
		"gap":     func(r *Run) error { return r.Remove(t.Context(), "journal/main/000000000002") },
		"no head": func(r *Run) error { return r.Remove(t.Context(), "journal/main/000000000001") },
		"foreign": func(r *Run) error { return r.WriteBytes(t.Context(), "journal/main/000000000004", []byte("{}")) },
		"rewritten": func(r *Run) error {
			data, err := r.ReadBytes(t.Context(), "journal/main/000000000002")
			if err != nil {
				return err
			}
			return r.WriteBytes(t.Context(), "journal/main/000000000002", bytes.Replace(data, []byte(`"s1"`), []byte(`"s9"`), 1))
		},
	}
	for name, hurt := range damage {
		t.Run(name, func(t *testing.T) {
			r := newRun(t, open(t), "a")
			j, err := r.Journal(t.Context(), "main")
			if err != nil {
				t.Fatal(err)
			}
			for i := range 3 {
				if _, err := j.Append(t.Context(), Event{Step: fmt.Sprintf("s%d", i)}); err != nil {
					t.Fatal(err)
				}
			}
			if err := hurt(r); err != nil {
				t.Fatal(err)
			}
			if _, err := replay(t.Context(), j); !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
		})
	}
}

// FuzzDecodeEntry: no entry is accepted under another number than its own.
func FuzzDecodeEntry(f *testing.F) {
	f.Add([]byte(`{"seq":1,"step":"a","writer":"w","id":"i","prev":""}`), int64(1))
	f.Add([]byte(`{"seq":2,"step":"a","prev":"00"}`), int64(2))
	f.Add([]byte(`{"seq":1,"prev":"00"}`), int64(1))
	f.Add([]byte(`null`), int64(0))
	f.Fuzz(func(t *testing.T, data []byte, seq int64) {
		var e entry
		if decodeEntry(data, seq, &e) == nil && (e.Seq != seq || (seq == 1) != (e.Prev == "")) {
			t.Fatalf("accepted %+v as %d", e, seq)
		}
	})
}
