package jobs_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/internal/s3test"
	"github.com/expunge/expunge/internal/storage"
	_ "github.com/expunge/expunge/internal/storage/s3"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/warehouse"
)

// bucketLake is a bucket of an S3 server in this process with a job on it.
// Users 7 and 13 go.
type bucketLake struct {
	*s3test.Server
	dir string
}

func newBucketLake(t *testing.T) *bucketLake {
	t.Helper()
	b := &bucketLake{Server: s3test.New(t), dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(b.dir, "users.csv"), []byte("user_id\n7\n13\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return b
}

const bucketTarget = "  - {prefix: \"s3://lake/raw/\", format: ndjson, match: [{users: id}], action: delete}\n"

// job writes and loads the job; where it is said twice it is the same one.
func (b *bucketLake) job(t *testing.T, grace, targets string) *configs.Job {
	t.Helper()
	text := fmt.Sprintf(`version: 1
name: objects
state: state
grace: %s
limits: {share: 100%%}
storage: {s3.endpoint: "%s", s3.access-key-id: id, s3.secret-access-key: "${env:S3TEST_SECRET}"}
keysets: {users: {source: users.csv, key: {user_id: int64}}}
targets:
%s`, grace, b.URL, targets)
	t.Setenv("S3TEST_SECRET", "secret")
	return loadJob(t, b.dir, text)
}

func (b *bucketLake) run(t *testing.T, j *jobs.Job) *jobs.Summary {
	t.Helper()
	sum, err := j.Run(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// lines are NDJSON records of users.
func lines(ids ...int) (s string) {
	for _, id := range ids {
		s += fmt.Sprintf("{\"id\":%d}\n", id)
	}
	return s
}

// reasons are, by object name, why the evidence says that it was left.
func reasons(t *testing.T, j *jobs.Job, manifest string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, rec := range evidenceOf(t, j, manifest) {
		if rec.Status == string(warehouse.LeftAlone) {
			out[strings.TrimPrefix(rec.Path, "s3://lake/raw/")] = rec.Reason
		}
	}
	return out
}

// stated are the exclusions that the manifest states for files left alone.
func stated(m *manifests.Manifest) map[string]int64 {
	out := map[string]int64{}
	for _, e := range m.Scope.Excluded {
		if !e.Declared {
			out[e.Reason] = e.Count
		}
	}
	return out
}

// TestWhatTheStoreKeepsIsExcluded: locks, holds, archives and refusals keep an
// object out, each with its reason; the others are erased, and the outcome is PARTIAL.
func TestWhatTheStoreKeepsIsExcluded(t *testing.T) {
	b := newBucketLake(t)
	b.Versioned = true
	day := time.Now().AddDate(0, 0, 9).UTC()
	for _, name := range []string{"ok", "governance", "compliance", "hold", "over", "glacier", "deep", "restored", "noread", "nowrite", "gone"} {
		header := []string{}
		switch name {
		case "glacier", "restored":
			header = []string{"x-amz-storage-class", "GLACIER"}
		case "deep":
			header = []string{"x-amz-storage-class", "DEEP_ARCHIVE"}
		}
		content := lines(1, 7)
		if name == "gone" {
			content = lines(7)
		}
		b.Put("raw/"+name+".ndjson", content, header...)
	}
	b.Put("raw/clean-hold.ndjson", lines(1))
	at := func(name string) *s3test.Version { return b.Latest("raw/" + name + ".ndjson") }
	at("governance").Retain, at("governance").Mode = day, "GOVERNANCE"
	at("compliance").Retain, at("compliance").Mode = day, "COMPLIANCE"
	at("over").Retain, at("over").Mode = time.Now().AddDate(0, 0, -1), "COMPLIANCE"
	at("hold").Hold, at("clean-hold").Hold = true, true
	at("restored").Header.Set("x-amz-restore", `ongoing-request="false", expiry-date="Fri, 21 Dec 2029 00:00:00 GMT"`)
	b.SetHook(func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		kind, key := s3test.Kind(r), s3test.Key(r)
		if kind == "GET" && key == "raw/noread.ndjson" || kind == "PUT" && key == "raw/nowrite.ndjson" || kind == "DELETE" && key == "raw/gone.ndjson" {
			s3test.Fail(w, http.StatusForbidden, "AccessDenied")
			return
		}
		serve(w, r)
	})
	j := open(t, b.job(t, "7d", bucketTarget), jobs.Env{})
	sum := b.run(t, j)
	if sum.Outcome != string(manifests.Partial) {
		t.Errorf("outcome %s: %v", sum.Outcome, sum.Reasons)
	}
	on := day.Format(time.DateOnly)
	want := map[string]string{
		"governance.ndjson": "locked by the store: retention until " + on + " (GOVERNANCE)", "compliance.ndjson": "locked by the store: retention until " + on + " (COMPLIANCE)",
		"hold.ndjson": "locked by the store: legal hold", "glacier.ndjson": "archived storage class", "deep.ndjson": "archived storage class",
		"noread.ndjson": "access denied", "nowrite.ndjson": "access denied", "gone.ndjson": "access denied",
	}
	if diff := cmp.Diff(want, reasons(t, j, sum.Manifest)); diff != "" {
		t.Error(diff)
	}
	counts := map[string]int64{}
	for _, reason := range want {
		counts[reason]++
	}
	if diff := cmp.Diff(counts, stated(manifestOf(t, sum.Manifest))); diff != "" {
		t.Error(diff)
	}
	for name, v := range map[string]string{"ok": lines(1), "over": lines(1), "restored": lines(1), "hold": lines(1, 7), "compliance": lines(1, 7), "glacier": lines(1, 7),
		"noread": lines(1, 7), "nowrite": lines(1, 7), "gone": lines(7), "clean-hold": lines(1)} {
		if got := at(name); got == nil || string(got.Data) != v {
			t.Errorf("%s: %+v, want %q", name, got, v)
		}
	}
}

// TestALockedVersionIsResidueWithItsDate: what the store does not let go at
// the purge stays in the manifest with its date, and a later run of the job
// removes it; a hold has none.
func TestALockedVersionIsResidueWithItsDate(t *testing.T) {
	b := newBucketLake(t)
	b.Versioned = true
	until := time.Now().AddDate(0, 0, 30).UTC().Truncate(time.Second)
	b.Put("raw/a.ndjson", lines(1, 7))
	b.Put("raw/b.ndjson", lines(1, 7))
	b.Put("raw/gone.ndjson", lines(7))
	b.Delete("raw/gone.ndjson")
	for _, key := range []string{"raw/a.ndjson", "raw/gone.ndjson"} { // locked for long, and replaced since
		b.Versions(key)[0].Retain, b.Versions(key)[0].Mode = until, "COMPLIANCE"
	}
	b.Put("raw/a.ndjson", lines(1, 2, 7))
	cfg := b.job(t, "7d", bucketTarget)
	j := open(t, cfg, jobs.Env{})
	sum := b.run(t, j)
	m := manifestOf(t, sum.Manifest)
	if sum.Outcome != string(manifests.ErasedPending) || !m.Outcome.Pending.Equal(until) {
		t.Errorf("outcome %s %v until %v, want %v", sum.Outcome, sum.Reasons, m.Outcome.Pending, until)
	}
	due, err := j.PurgeDue(later(t, 8*day), false)
	if err != nil || len(due) != 1 {
		t.Fatalf("%+v, %v", due, err)
	}
	m = manifestOf(t, due[0].Manifest)
	want := []manifests.Residue{{Surface: "noncurrent versions", Count: 2, State: "locked by the store: retention", GoneBy: &until, Owner: "the store"}}
	if diff := cmp.Diff(want, m.Residue, cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Target" }, cmp.Ignore())); diff != "" {
		t.Error(diff)
	}
	if due[0].Outcome != string(manifests.ErasedPending) {
		t.Errorf("outcome %s %v", due[0].Outcome, m.Outcome.Reasons)
	}
	left := []string{"raw/a.ndjson " + lines(1, 2), "raw/a.ndjson " + lines(1, 7), "raw/b.ndjson " + lines(1), "raw/gone.ndjson marker", "raw/gone.ndjson " + lines(7)}
	if diff := cmp.Diff(left, b.Stored("")); diff != "" {
		t.Error(diff)
	}
	for _, key := range []string{"raw/a.ndjson", "raw/gone.ndjson"} {
		b.Versions(key)[0].Retain = time.Now().Add(-time.Second)
	}
	b.Versions("raw/a.ndjson")[0].Hold = true
	again := b.run(t, open(t, b.job(t, "0s", bucketTarget), jobs.Env{}))
	m = manifestOf(t, again.Manifest)
	if again.Outcome != string(manifests.Partial) || len(m.Residue) != 1 || m.Residue[0].State != "locked by the store: legal hold" || m.Residue[0].GoneBy != nil {
		t.Errorf("under a hold: %s, residue %+v", again.Outcome, m.Residue)
	}
	if v := b.Versions("raw/gone.ndjson"); len(v) != 0 {
		t.Errorf("a version whose retention is over is left: %d", len(v))
	}
	b.Versions("raw/a.ndjson")[0].Hold = false
	if last := b.run(t, open(t, b.job(t, "0s", bucketTarget), jobs.Env{})); last.Outcome != string(manifests.Erased) {
		t.Errorf("without the hold: %s %v", last.Outcome, last.Reasons)
	}
	if diff := cmp.Diff([]string{"raw/a.ndjson " + lines(1, 2), "raw/b.ndjson " + lines(1)}, b.Stored("")); diff != "" {
		t.Error(diff)
	}
}

// TestAKeyThatALockedVersionHoldsIsNotCovered: a request is not called erased
// while the store keeps a version with its key, and others are not held up by it.
func TestAKeyThatALockedVersionHoldsIsNotCovered(t *testing.T) {
	b := newBucketLake(t)
	filesIn(t, b.dir)("users.csv", "user_id,ticket\n7,T7\n13,T13\n")
	b.Versioned = true
	b.Put("raw/a.ndjson", lines(1, 7))
	b.Versions("raw/a.ndjson")[0].Retain, b.Versions("raw/a.ndjson")[0].Mode = time.Now().AddDate(0, 0, 30).UTC(), "COMPLIANCE"
	b.Put("raw/a.ndjson", lines(1, 2, 7))
	b.Put("raw/b.ndjson", lines(1, 13))
	cfg := b.job(t, "7d", bucketTarget)
	users := cfg.Keysets["users"]
	users.Request = &configs.RequestColumns{ID: "ticket"}
	cfg.Keysets["users"] = users
	j := open(t, cfg, jobs.Env{})
	b.run(t, j)
	if due, err := j.PurgeDue(later(t, 8*day), false); err != nil || len(due) != 1 {
		t.Fatalf("%+v, %v", due, err)
	}
	got, _ := requests(t, j, time.Now().Add(8*day))
	wantRequest(t, got, "T7", jobs.RequestNotCovered, 1, 0)
	wantRequest(t, got, "T13", jobs.RequestErased, 1, 0)
}

// TestAHoldBetweenPlanAndCommit: an object that is locked while the run is at
// work is left as it was.
func TestAHoldBetweenPlanAndCommit(t *testing.T) {
	b := newBucketLake(t)
	b.Versioned = true
	b.Put("raw/a.ndjson", lines(1, 7))
	b.Put("raw/b.ndjson", lines(1, 7))
	j := open(t, b.job(t, "7d", bucketTarget), jobs.Env{})
	b.SetHook(func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		serve(w, r)
		if s3test.Kind(r) == "PUT" && strings.Contains(s3test.Key(r), "/new/") { // the scan is over
			b.Versions("raw/a.ndjson")[0].Hold = true
		}
	})
	sum := b.run(t, j)
	if sum.Outcome != string(manifests.Partial) {
		t.Errorf("outcome %s: %v", sum.Outcome, sum.Reasons)
	}
	if diff := cmp.Diff(map[string]string{"a.ndjson": "locked by the store: legal hold"}, reasons(t, j, sum.Manifest)); diff != "" {
		t.Error(diff)
	}
	if got := string(b.Latest("raw/a.ndjson").Data) + string(b.Latest("raw/b.ndjson").Data); got != lines(1, 7, 1) {
		t.Errorf("%q", got)
	}
}

// TestWhatAPurgeMayNotRemove: a refused removal of a version, or of a delete
// marker, is named and stops nothing else.
func TestWhatAPurgeMayNotRemove(t *testing.T) {
	b := newBucketLake(t)
	b.Versioned = true
	for _, key := range []string{"raw/a.ndjson", "raw/b.ndjson", "raw/all.ndjson"} {
		b.Put(key, lines(7))
	}
	refused := b.Versions("raw/a.ndjson")[0].ID
	b.SetHook(func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		if s3test.Kind(r) == "DELETE version" && r.URL.Query().Get("versionId") == refused {
			s3test.Fail(w, http.StatusForbidden, "AccessDenied")
			return
		}
		serve(w, r)
	})
	sum := b.run(t, open(t, b.job(t, "0s", bucketTarget), jobs.Env{}))
	m := manifestOf(t, sum.Manifest)
	if sum.Outcome != string(manifests.Partial) || len(m.Targets[0].Blockers) != 1 || m.Targets[0].Blockers[0].Reason != "access denied" {
		t.Errorf("%s, blockers %+v", sum.Outcome, m.Targets[0].Blockers)
	}
	if diff := cmp.Diff([]string{"raw/a.ndjson marker", "raw/a.ndjson " + lines(7)}, b.Stored("")); diff != "" {
		t.Error(diff)
	}
}

// softStore is a local disk that keeps what is removed for a while.
type softStore struct {
	storage.Store
	keep storage.Retention
	err  error
}

func (s softStore) Retention(context.Context, string) (storage.Retention, error) {
	return s.keep, s.err
}

// TestASoftDeleteWindowIsResidueWithADate: Azure's and Google's soft delete.
func TestASoftDeleteWindowIsResidueWithADate(t *testing.T) {
	l := newObjectLake(t)
	l.put(t, "x.ndjson", "{\"user\":{\"id\":7}}\n{}\n", "{}\n")
	j := open(t, l.job(t, "0s", ndjsonTarget), jobs.Env{WrapStore: func(role string, s storage.Store) storage.Store {
		if role != "objects" {
			return s
		}
		return softStore{Store: s, keep: storage.Retention{SoftDelete: 7 * day}}
	}})
	before := time.Now()
	sum, err := j.Run(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m := manifestOf(t, sum.Manifest)
	if sum.Outcome != string(manifests.ErasedPending) || len(m.Residue) != 1 {
		t.Fatalf("%s, %+v", sum.Outcome, m.Residue)
	}
	r := m.Residue[0]
	if r.Surface != "soft-deleted objects" || r.State != "soft deleted" || r.GoneBy == nil || r.GoneBy.Before(before.Add(7*day)) || r.GoneBy.After(time.Now().Add(7*day)) || r.Owner != "the store" {
		t.Errorf("%+v", r)
	}
	if diff := cmp.Diff(l.want, l.contents(t)); diff != "" {
		t.Error(diff)
	}
}
