package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const golden = "../../manifests/testdata/golden"

// run verifies a copy of a golden bundle after spoiling it.
func run(t *testing.T, version string, spoil func(dir string)) (bool, string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(golden, version))); err != nil {
		t.Fatal(err)
	}
	if spoil != nil {
		spoil(dir)
	}
	var out bytes.Buffer
	ok, err := verify(&out, filepath.Join(dir, "run.intoto.jsonl"), filepath.Join(dir, "trust.json"), time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	return ok, out.String()
}

func flip(t *testing.T, name string, at int) {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	raw[(at+len(raw))%len(raw)] ^= 1
	if err := os.WriteFile(name, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestGoldensHoldAndTamperedOnesDoNot(t *testing.T) {
	for _, version := range []string{"v1.0", "v1.1"} {
		if ok, out := run(t, version, nil); !ok || !strings.Contains(out, "ERASED_PENDING") || !strings.Contains(out, "not covered: RDS backups") {
			t.Errorf("%s: %s", version, out)
		}
		for name, at := range map[string]int{"run.intoto.jsonl": 2000, "run.evidence.parquet": 100, "run.tlog-proof": -20} {
			if ok, out := run(t, version, func(dir string) { flip(t, filepath.Join(dir, name), at) }); ok || !strings.Contains(out, "FAILS") {
				t.Errorf("%s: a changed %s went unnoticed: %s", version, name, out)
			}
		}
		if ok, out := run(t, version, func(dir string) { os.Remove(filepath.Join(dir, "run.tlog-proof")) }); ok || !strings.Contains(out, "not checked") {
			t.Errorf("%s: a missing proof passed: %s", version, out)
		}
	}
}

// TestItImportsManifestsAlone: of this module nothing but the manifests package, at any depth.
func TestItImportsManifestsAlone(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dep := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(dep, "github.com/expunge/expunge/") && !strings.HasSuffix(dep, "/manifests") && !strings.HasSuffix(dep, "/examples/verify") {
			t.Errorf("it depends on %s", dep)
		}
	}
}
