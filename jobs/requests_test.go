package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
)

const day = 24 * time.Hour

// requests are the state bucket's, by id.
func requests(t *testing.T, j *jobs.Job, now time.Time) (map[string]jobs.RequestStatus, int) {
	t.Helper()
	list, unread, err := jobs.Requests(t.Context(), j.State(), now, jobs.RequestsOptions{})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]jobs.RequestStatus{}
	for _, q := range list {
		out[q.ID] = q
	}
	return out, unread
}

// subject writes one person's file, as the key source has it.
func subject(t *testing.T, id int64) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "subject.csv")
	if err := os.WriteFile(name, fmt.Appendf(nil, "user_id\n%d\n", id), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// evidenceOf reads all records of a run's sidecar.
func evidenceOf(t *testing.T, j *jobs.Job, manifest string) []manifests.Record {
	t.Helper()
	obj, err := storage.New(nil).Open(t.Context(), strings.TrimSuffix(manifest, ".intoto.jsonl")+".evidence.parquet")
	if err != nil {
		t.Fatal(err)
	}
	defer obj.Close()
	var out []manifests.Record
	for rec, err := range manifests.ReadSidecar(obj, obj.Info().Size) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, rec)
	}
	return out
}

// TestAPersonsStoryFromRequestToSeal: the request's status, the certificate
// with exactly the files concerned, and the end of both with the secret.
func TestAPersonsStoryFromRequestToSeal(t *testing.T) {
	lake, cfg := smallLake(t, "7d")
	cfg.Policy.Deadline = configs.Duration(10_000 * day)
	j := open(t, cfg, jobs.Env{})
	sum, err := j.Run(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// Two keys a ticket: 23 that are erased, 2 that are held, 2 that are in no table.
	got, _ := requests(t, j, time.Now())
	for id, want := range map[string]struct {
		status            string
		keys, held, found int
	}{
		"DSAR-1001": {jobs.RequestPending, 2, 0, 2},
		"DSAR-1012": {jobs.RequestPending, 1, 1, 1},
		"DSAR-1013": {jobs.RequestPartHeld, 1, 1, 0},
		"DSAR-1014": {jobs.RequestNothing, 1, 0, 0},
	} {
		q := got[id]
		if q.Status != want.status || q.Keys != want.keys || q.Held != want.held || q.Found != want.found || q.Deadline.IsZero() {
			t.Errorf("%s: %+v, want %+v", id, q, want)
		}
		if (q.Status == jobs.RequestPending) != q.Until.Equal(sum.PendingUntil) || len(q.Missed) > 0 || (len(q.Targets) > 0) != (q.Found > 0) {
			t.Errorf("%s: until %v, targets %v, missed %v", id, q.Until, q.Targets, q.Missed)
		}
	}
	if _, err := j.Seal(t.Context(), sum.RunID); !errors.Is(err, jobs.ErrUsage) {
		t.Fatalf("sealed before its purge: %v", err)
	}
	certificates(t, j, lake.Erased, lake.Held[0], sum)

	after := later(t, 8*day)
	if _, err := j.PurgeDue(after, false); err != nil {
		t.Fatal(err)
	}
	got, _ = requests(t, j, clock.Now(after))
	if q := got["DSAR-1001"]; q.Status != jobs.RequestErased || q.Met == nil || !*q.Met || q.Done.Before(clock.Now(after).Add(-time.Hour)) {
		t.Errorf("after the purge: %+v", q)
	}
	// A request of which a key is held is never erased outright.
	if q := got["DSAR-1012"]; q.Status != jobs.RequestPartHeld || q.Closed() || q.Keys != 1 || q.Held != 1 || q.Found != 1 || q.Met == nil || !*q.Met {
		t.Errorf("a request with a held key, after the purge: %+v", q)
	}
	c, err := j.Certify(after, jobs.CertificateRequest{Subject: subject(t, lake.Erased[0])})
	if err != nil || len(c.Certificate.Runs) != 2 || c.Certificate.Runs[1].Kind != manifests.KindPurge || len(c.Certificate.Runs[1].Files) == 0 {
		t.Fatalf("a certificate after the purge names run and purge, and the removed files: %+v, %v", c, err)
	}
	sealed(t, j, lake.Erased[0], sum)
}

// certificates issues one for every person and compares the files that they
// name with those that the run replaced.
func certificates(t *testing.T, j *jobs.Job, people []int64, held int64, sum *jobs.Summary) {
	t.Helper()
	trust, err := j.Trust(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	store := storage.New(nil)
	concerned := map[string]bool{}
	var previous []byte
	for _, id := range people {
		file := subject(t, id)
		c, err := j.Certify(t.Context(), jobs.CertificateRequest{Subject: file, Request: "DSAR-7"})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range c.Certificate.Runs[0].Files {
			concerned[f.Record.Path] = true
		}
		_, checks, err := jobs.CheckCertificate(t.Context(), store, c.Envelope, file, trust, nil)
		if ok, _ := manifests.Verified(checks); err != nil || !ok {
			t.Fatalf("%v: %v", checks, err)
		}
		if previous != nil {
			_, checks, err := jobs.CheckCertificate(t.Context(), store, previous, file, trust, nil)
			if ok, _ := manifests.Verified(checks); err != nil || ok {
				t.Fatalf("another person's certificate holds: %v", err)
			}
		}
		previous = c.Envelope
	}
	replaced := 0
	for _, rec := range evidenceOf(t, j, sum.Manifest) {
		if rec.RowsErased == 0 {
			continue
		}
		if replaced++; !concerned[rec.Path] {
			t.Errorf("%s lost rows and is in nobody's certificate", rec.Path)
		}
	}
	if replaced == 0 || len(concerned) < replaced {
		t.Fatalf("%d files replaced, %d in certificates", replaced, len(concerned))
	}
	for _, stranger := range []int64{held, 1} {
		if _, err := j.Certify(t.Context(), jobs.CertificateRequest{Subject: subject(t, stranger)}); !errors.Is(err, jobs.ErrNoSubject) {
			t.Errorf("a certificate for somebody whose key no run had: %v", err)
		}
	}
}

func sealed(t *testing.T, j *jobs.Job, person int64, sum *jobs.Summary) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	s, err := j.Seal(ctx, sum.RunID)
	if err != nil || s.Already {
		t.Fatal(s, err)
	}
	if again, err := j.Seal(ctx, sum.RunID); err != nil || !again.Already || again.Manifest != s.Manifest {
		t.Errorf("sealed again: %+v, %v", again, err)
	}
	if _, err := j.Certify(ctx, jobs.CertificateRequest{Subject: subject(t, person)}); !errors.Is(err, jobs.ErrNoSubject) || !strings.Contains(err.Error(), "sealed") {
		t.Errorf("a certificate after the seal: %v", err)
	}
	if q, unread := requests(t, j, time.Now()); len(q) != 0 || unread != 1 {
		t.Errorf("requests after the seal: %v, %d unread", q, unread)
	}
	run, err := j.State().OpenRun(ctx, sum.RunID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := run.ReadBytes(ctx, "job.json"); !errors.Is(err, state.ErrSealed) {
		t.Errorf("a sealed run is readable: %v", err)
	}
	trust, err := j.Trust(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{sum.Manifest, s.Manifest} { // both stay valid
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		proof, err := os.ReadFile(strings.TrimSuffix(name, ".intoto.jsonl") + ".tlog-proof")
		if err != nil {
			t.Fatal(err)
		}
		m, checks := manifests.Verify(ctx, manifests.Bundle{Envelope: raw, Proof: proof}, trust)
		if ok, _ := manifests.Verified(checks); !ok {
			t.Errorf("%s: %v", name, checks)
		}
		if m.Kind == manifests.KindSeal && (m.Continuity.Continues == "" || !slices.Equal(m.Outcome.Reasons, []string{"the run's secret was destroyed"})) {
			t.Errorf("the seal says %+v, %+v", m.Continuity, m.Outcome)
		}
	}
}

func TestSecretsAreSealedWhenTheirRetentionEnds(t *testing.T) {
	_, cfg := smallLake(t, "0s")
	cfg.Retain.Secrets = configs.Duration(30 * day)
	j := open(t, cfg, jobs.Env{})
	sum, err := j.Run(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if due, err := j.SealDue(later(t, 29*day)); err != nil || len(due) != 0 {
		t.Fatalf("too early: %v, %v", due, err)
	}
	if due, err := j.SealDue(later(t, 31*day)); err != nil || len(due) != 1 || due[0].RunID != sum.RunID {
		t.Fatalf("when it is due: %v, %v", due, err)
	}
	if due, err := j.SealDue(later(t, 31*day)); err != nil || len(due) != 0 {
		t.Fatalf("a second time: %v, %v", due, err)
	}
}

// TestARestoredRequestIsNotCovered, and one that a later run erases again is.
func TestARestoredRequestIsNotCovered(t *testing.T) {
	_, cfg := smallLake(t, "7d")
	j := open(t, cfg, jobs.Env{})
	sum, err := j.Run(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Restore(t.Context(), sum.RunID, nil, false); err != nil {
		t.Fatal(err)
	}
	got, _ := requests(t, j, time.Now())
	if q := got["DSAR-1001"]; q.Status != jobs.RequestNotCovered || len(q.Missed) == 0 {
		t.Errorf("restored: %+v", q)
	}
	if _, err := j.Run(t.Context(), jobs.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	got, _ = requests(t, j, time.Now())
	if q := got["DSAR-1001"]; q.Status != jobs.RequestPending || q.Found != 2 || len(q.Runs) != 2 {
		t.Errorf("erased again: %+v", q)
	}
}
