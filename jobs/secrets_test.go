package jobs_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/jobs"
)

// TestSecretsLieWrappedAndApart: a process with the recipient alone can erase;
// only one with the identity can purge; sealing removes the secret where it is.
func TestSecretsLieWrappedAndApart(t *testing.T) {
	lake, cfg := smallLake(t, "7d")
	cfg.Targets = slices.DeleteFunc(cfg.Targets, func(t configs.Target) bool { return t.Table != ordersName })
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	apart := t.TempDir()
	idFile := filepath.Join(t.TempDir(), "identity.txt")
	if err := os.WriteFile(idFile, []byte(id.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Secrets = &configs.Secrets{Location: apart, Wrap: configs.Strings{id.Recipient().String()}}
	sum, err := open(t, cfg, jobs.Env{}).Run(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(apart, sum.RunID))
	if err != nil || !strings.Contains(string(raw), `"wrap":"age"`) {
		t.Fatalf("the secret: %q, %v", raw, err)
	}
	if _, err := os.Stat(filepath.Join(lake.Dir, "state", "secrets", sum.RunID)); !os.IsNotExist(err) {
		t.Errorf("a copy in the state bucket: %v", err)
	}
	if _, err := open(t, cfg, jobs.Env{}).Purge(later(t, 8*day), sum.RunID, false); err == nil || !strings.Contains(err.Error(), "unwrapped") {
		t.Fatalf("purged without the identity: %v", err)
	}
	cfg.Secrets.Identity = "file:" + idFile
	j := open(t, cfg, jobs.Env{})
	if p, err := j.Purge(later(t, 8*day), sum.RunID, false); err != nil || p.Totals.FilesRemoved == 0 {
		t.Fatalf("purge with the identity: %+v, %v", p, err)
	}
	if _, err := j.Seal(t.Context(), sum.RunID); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(apart, "*")); err != nil || len(left) > 0 {
		t.Errorf("after the seal: %v, %v", left, err)
	}
}
