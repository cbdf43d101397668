package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/expunge/expunge/cmd/expunge/cli"
	"github.com/expunge/expunge/internal/demo"
)

// expunge runs a command line against the real back ends.
func expunge(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = cli.Main(t.Context(), args, cli.Stdio{In: strings.NewReader(""), Out: &out, Err: &errs}, backend())
	return code, out.String(), errs.String()
}

// summaryOf returns the last line of --json.
func summaryOf(t *testing.T, stdout string) map[string]any {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	var v map[string]any
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &v); err != nil || v["type"] != "summary" {
		t.Fatalf("the last line is no summary: %s", lines[len(lines)-1])
	}
	return v
}

func lakehouse(t *testing.T) *demo.Lakehouse {
	t.Helper()
	l, err := demo.Make(context.Background(), demo.Options{Dir: t.TempDir(), Rows: 15_000})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// picture is a digest of every file of the tables and of what the catalog says.
func picture(t *testing.T, l *demo.Lakehouse) string {
	t.Helper()
	h := sha256.New()
	err := filepath.WalkDir(filepath.Join(l.Dir, "warehouse"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		h.Write([]byte(path))
		h.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// edit replaces text in a file.
func edit(t *testing.T, path, old, text string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), old) {
		t.Fatalf("%s does not contain %q", path, old)
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(b), old, text)), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestTheDemoEndsErasedAndItsEvidenceIsValid(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "demo")
	code, out, errs := expunge(t, "demo", "--dir", dir, "--rows", "20k", "--json")
	if code != 0 {
		t.Fatalf("exit %d: %s%s", code, out, errs)
	}
	sum := summaryOf(t, out)
	if sum["outcome"] != cli.Erased {
		t.Fatalf("outcome %v", sum["outcome"])
	}
	job := filepath.Join(dir, "job.yaml")
	for _, args := range [][]string{
		{"verify", "last", "--job", job},
		{"verify", job, "--mode", "full"},
		{"manifest", "verify", "last", "--job", job},
		{"manifest", "show", "last", "--job", job},
		{"manifest", "report", "last", "--job", job, "-o", filepath.Join(dir, "report.html")},
		{"status", "last", "--job", job},
		{"runs", "--job", job},
		{"check", job},
	} {
		if code, out, errs := expunge(t, append(args, "--json")...); code != 0 || summaryOf(t, out)["exit"] != 0.0 {
			t.Errorf("%v: exit %d: %s%s", args, code, out, errs)
		}
	}
	if b, err := os.ReadFile(sum["manifest"].(string)); err != nil || len(b) == 0 {
		t.Errorf("manifest: %d bytes, %v", len(b), err)
	}
	if b, err := os.ReadFile(sum["report"].(string)); err != nil || len(b) == 0 {
		t.Errorf("report: %d bytes, %v", len(b), err)
	}
	noKeyOnAnyPage(t, dir)
}

func TestDryRunsAndPlansWriteNothingToTheTables(t *testing.T) {
	l := lakehouse(t)
	before := picture(t, l)
	for _, args := range [][]string{{"check", l.Job}, {"plan", l.Job}, {"run", l.Job, "--dry-run"}, {"verify", l.Job, "--mode", "full"}, {"init", "--set", "type=sql", "--set", "uri=" + l.Catalog["uri"]}} {
		code, out, errs := expunge(t, append(args, "--quiet")...)
		if want := map[bool]int{true: cli.ExitVerify}[args[0] == "verify"]; code != want {
			t.Errorf("%v: exit %d, want %d: %s%s", args, code, want, out, errs)
		}
	}
	if picture(t, l) != before {
		t.Error("the tables changed")
	}
}
