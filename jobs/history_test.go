package jobs_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/testlake"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
)

// historyLake is a table where another tool took people out of the head: 1001 is
// in an old snapshot only, 1002 in the head, 1009 was never there.
func historyLake(t *testing.T) *testlake.Lake {
	t.Helper()
	l := testlake.New(t, "2", nil, nil)
	l.Append(1000, 1001, 1003)
	l.Ref("audit", table.TagRef)
	l.Replace(1000, 1003)
	l.Append(1002, 1004)
	return l
}

// pastJob erases those people, each by a ticket of their own.
func pastJob(t *testing.T, l *testlake.Lake, grace, refs string, ids ...int) *jobs.Job {
	t.Helper()
	file := filesIn(t, l.Dir)
	users := "id,ticket\n"
	for _, id := range ids {
		users += fmt.Sprintf("%d,T%d\n", id, id)
	}
	file("users.csv", users)
	cfg := loadJob(t, l.Dir, fmt.Sprintf(`version: 1
name: past
state: state
grace: %s
limits: {share: 100%%}
catalogs:
  lake: {type: sql, uri: "sqlite:///%s/catalog.db", warehouse: "file://%s"}
keysets: {users: {source: users.csv, key: {id: int64}, request: {id: ticket}}}
targets: [{table: lake.db.t, match: [{users: id}], action: delete, refs: %s}]
`, grace, l.Dir, l.Dir, refs))
	return open(t, cfg, jobs.Env{})
}

func wantRequest(t *testing.T, got map[string]jobs.RequestStatus, id, status string, found, history int) {
	t.Helper()
	q := got[id]
	if q.Status != status || q.Found != found || q.History != history || (len(q.Targets) > 0) != (found+history > 0) {
		t.Errorf("%s: %+v, want %s, %d found, %d in history", id, q, status, found, history)
	}
}

// TestAPersonOfOldSnapshotsIsSaidToBeErasedFromHistory: the request and the
// certificate say what the purge removed, though no live row had the key.
func TestAPersonOfOldSnapshotsIsSaidToBeErasedFromHistory(t *testing.T) {
	for name, ids := range map[string][]int{"beside a person of the head": {1001, 1002, 1009}, "alone": {1001, 1009}} {
		for _, grace := range []string{"0s", "7d"} {
			t.Run(name+", grace "+grace, func(t *testing.T) {
				l := historyLake(t)
				j := pastJob(t, l, grace, "drop", ids...)
				sum, err := j.Run(t.Context(), jobs.RunOptions{})
				if err != nil {
					t.Fatal(err)
				}
				ctx := t.Context()
				if grace != "0s" {
					got, _ := requests(t, j, time.Now())
					wantRequest(t, got, "T1001", jobs.RequestPending, 0, 1)
					wantRequest(t, got, "T1009", jobs.RequestNothing, 0, 0)
					ctx = later(t, 8*day)
					if due, err := j.PurgeDue(ctx, false); err != nil || len(due) != 1 || due[0].Outcome != string(manifests.Erased) {
						t.Fatalf("%+v, %v", due, err)
					}
				}
				got, _ := requests(t, j, clock.Now(ctx))
				wantRequest(t, got, "T1001", jobs.RequestHistory, 0, 1)
				wantRequest(t, got, "T1009", jobs.RequestNothing, 0, 0)
				if len(ids) == 3 {
					wantRequest(t, got, "T1002", jobs.RequestErased, 1, 0)
				}
				wantHistoryCertificate(ctx, t, j, sum.RunID)
				for path, raw := range l.Stored() {
					if bytes.Contains(raw, []byte(testlake.Mail(1001))) {
						t.Errorf("%s holds the e-mail", filepath.Base(path))
					}
				}
			})
		}
	}
}

// wantHistoryCertificate: 1001's names the old data file's removal, 1009's no file.
func wantHistoryCertificate(ctx context.Context, t *testing.T, j *jobs.Job, run string) {
	t.Helper()
	for id, want := range map[int]bool{1001: true, 1009: false} {
		file := filepath.Join(t.TempDir(), "subject.csv")
		if err := os.WriteFile(file, fmt.Appendf(nil, "id\n%d\n", id), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := j.Certify(ctx, jobs.CertificateRequest{Subject: file, Runs: []string{run}})
		if err != nil {
			t.Fatal(err)
		}
		removed := 0
		for _, r := range c.Certificate.Runs {
			for _, f := range r.Files {
				if f.Record.Kind != manifests.RecordDelete || f.Record.Object != "data" || f.Record.Response != "deleted" {
					t.Errorf("the certificate of %d names %+v", id, f.Record)
				}
				removed++
			}
		}
		if (removed == 1) != want || removed > 1 {
			t.Errorf("the certificate of %d names %d removed files", id, removed)
		}
	}
}

// TestHistoryThatIsPinnedIsNotCalledErased: a tag keeps the old snapshot.
func TestHistoryThatIsPinnedIsNotCalledErased(t *testing.T) {
	j := pastJob(t, historyLake(t), "0s", "report", 1001, 1002, 1009)
	if sum, err := j.Run(t.Context(), jobs.RunOptions{}); err != nil || sum.Outcome != string(manifests.Partial) {
		t.Fatalf("%+v, %v", sum, err)
	}
	got, _ := requests(t, j, time.Now())
	wantRequest(t, got, "T1001", jobs.RequestNotCovered, 0, 1)
	wantRequest(t, got, "T1009", jobs.RequestNothing, 0, 0)
}
