package jobs_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
)

// keyFile writes a private key and returns its reference.
func keyFile(t *testing.T) (*manifests.Key, string) {
	t.Helper()
	k, err := manifests.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := k.PEM()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "run.key")
	if err := os.WriteFile(name, pem, 0o600); err != nil {
		t.Fatal(err)
	}
	return k, "file:" + name
}

// TestJobsOfOneBucketShareALogAndKeysRotate: two jobs with two keys write one
// history; without the other's key in the trust file the second is refused; a
// removed and a changed manifest are named, and so is a log that was cut.
func TestJobsOfOneBucketShareALogAndKeysRotate(t *testing.T) {
	_, cfg := smallLake(t, "0s")
	cfg.Targets = slices.DeleteFunc(cfg.Targets, func(t configs.Target) bool { return t.Table != ordersName })
	first, firstRef := keyFile(t)
	second, secondRef := keyFile(t)
	cfg.Signing.Executor = firstRef
	ctx := t.Context()
	a := open(t, cfg, jobs.Env{})
	one, err := a.Run(ctx, jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	kept, err := a.Checkpoint(ctx)
	if err != nil {
		t.Fatal(err)
	}
	other := *cfg
	other.Name, other.Signing.Executor = "another-job", secondRef
	if _, err := open(t, &other, jobs.Env{}).Run(ctx, jobs.RunOptions{}); err == nil {
		t.Fatal("a key that nobody announced continued the log")
	}
	var keys []manifests.TrustedKey
	for _, k := range []*manifests.Key{first, second} {
		tk, err := manifests.Trusted(k.Public(), "", manifests.RoleExecutor, manifests.RoleLog)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, tk)
	}
	trust, err := manifests.NewTrust(keys...)
	if err != nil {
		t.Fatal(err)
	}
	trust.Logs = []manifests.TrustedLog{{Origin: "expunge/" + cfg.Name, KeyIDs: []string{keys[0].ID, keys[1].ID}}}
	raw, err := trust.JSON()
	if err != nil {
		t.Fatal(err)
	}
	other.Signing.Trust = filepath.Join(t.TempDir(), "trust.json")
	if err := os.WriteFile(other.Signing.Trust, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	b := open(t, &other, jobs.Env{})
	two, err := b.Run(ctx, jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	st, err := b.VerifyLog(ctx, trust, kept)
	if err != nil || !st.OK() || st.Manifests < 2 || st.Since == 0 {
		t.Fatalf("%+v, %v", st, err)
	}
	tamper(t, b, trust, kept, one, two)
}

func tamper(t *testing.T, j *jobs.Job, trust *manifests.Trust, kept []byte, one, two *jobs.Summary) {
	t.Helper()
	ctx := t.Context()
	good, err := os.ReadFile(one.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	bad, err := os.ReadFile(two.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(one.Manifest, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	if st, err := j.VerifyLog(ctx, trust, kept); err != nil || st.OK() || !slices.Equal(st.Changed, []string{readManifest(t, good).ID}) {
		t.Errorf("a manifest in the place of another: %+v, %v", st, err)
	}
	if err := os.WriteFile(one.Manifest, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(two.Manifest); err != nil {
		t.Fatal(err)
	}
	if st, err := j.VerifyLog(ctx, trust, kept); err != nil || st.OK() || len(st.Missing) != 1 {
		t.Errorf("a removed manifest: %+v, %v", st, err)
	}
	// The log is cut back to the first checkpoint: nobody who kept a later one is fooled.
	now, err := j.Checkpoint(ctx)
	if err != nil {
		t.Fatal(err)
	}
	head := filepath.Join(filepath.Dir(filepath.Dir(one.Manifest)), "log", "checkpoint")
	if err := os.WriteFile(head, kept, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := j.VerifyLog(ctx, trust, now); !errors.Is(err, manifests.ErrTruncated) {
		t.Errorf("a log that was cut: %v", err)
	}
}

func readManifest(t *testing.T, envelope []byte) *manifests.Manifest {
	t.Helper()
	m, err := manifests.Read(envelope)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
