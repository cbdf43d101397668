package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/engine/local"
	"github.com/expunge/expunge/jobs"
)

// makeLedger writes n files of ten lines; user u of file f is "user-f-u".
func makeLedger(t *testing.T, grace string, n int) (job, root string) {
	t.Helper()
	dir := t.TempDir()
	root = filepath.Join(dir, "lake/pay/ledger") + "/"
	if err := os.MkdirAll(root+"data", 0o755); err != nil {
		t.Fatal(err)
	}
	c := current{Version: 1}
	for f := range n {
		var b strings.Builder
		for u := range 10 {
			fmt.Fprintf(&b, "user-%d-%d\tpaid %d\n", f, u, 7*f+u)
		}
		path := fmt.Sprintf("%sdata/%d.lines", root, f)
		write(t, path, b.String())
		c.Files = append(c.Files, file{Path: path, Size: int64(b.Len()), Rows: 10})
	}
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	write(t, root+"CURRENT", string(raw))
	write(t, filepath.Join(dir, "keys.csv"), "user\nuser-0-3\nuser-2-0\nuser-2-9\nuser-9-9\n")
	job = filepath.Join(dir, "job.yaml")
	write(t, job, fmt.Sprintf(`version: 1
name: ledgers
state: %s/state
grace: %s
limits: {share: 20%%}
catalogs:
  lake: {type: custom, warehouse: %q}
keysets:
  users: {source: keys.csv, key: {user: string}}
targets:
  - {table: lake.pay.ledger, match: [{users: user}]}
`, dir, grace, filepath.Join(dir, "lake")))
	return job, root
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// content is every line that the pointer reaches, sorted, and every stored byte.
func content(t *testing.T, root string) (live []string, stored string) {
	t.Helper()
	raw, err := os.ReadFile(root + "CURRENT")
	if err != nil {
		t.Fatal(err)
	}
	var c current
	if err := json.Unmarshal(raw, &c); err != nil {
		t.Fatal(err)
	}
	for _, f := range c.Files {
		b, err := os.ReadFile(f.Path)
		if err != nil {
			t.Fatal(err)
		}
		live = append(live, strings.SplitAfter(strings.TrimSuffix(string(b), "\n"), "\n")...)
	}
	all, err := filepath.Glob(root + "data/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range all {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		stored += string(b)
	}
	slices.Sort(live)
	return live, stored
}

func lacks(text string) bool {
	return !strings.Contains(text, "user-0-3\t") && !strings.Contains(text, "user-2-0\t") && !strings.Contains(text, "user-2-9\t")
}

func TestALedgerIsErasedVerifiedAndPurged(t *testing.T) {
	job, root := makeLedger(t, "0s", 4)
	before, _ := content(t, root)
	var out strings.Builder
	if err := run(t.Context(), &out, job); err != nil {
		t.Fatal(err)
	}
	if out.String() != "lake.pay.ledger: 3 lines erased\nERASED\n" {
		t.Error(out.String())
	}
	after, stored := content(t, root)
	if len(before) != 40 || len(after) != 37 || !lacks(stored) {
		t.Errorf("%d lines before, %d after; a key is stored: %v", len(before), len(after), !lacks(stored))
	}
	out.Reset()
	if err := run(t.Context(), &out, job); err != nil || !strings.Contains(out.String(), "NOTHING_TO_ERASE") {
		t.Error(out.String(), err)
	}
}

func TestALedgerIsRestoredWithinTheGrace(t *testing.T) {
	job, root := makeLedger(t, "7d", 4)
	before, _ := content(t, root)
	cfg, err := configs.Load(job)
	if err != nil {
		t.Fatal(err)
	}
	j, err := jobs.Open(t.Context(), cfg, jobs.Env{Engine: local.Engine{}, OpenTarget: openLedger, Formats: map[string]jobs.Format{ledgerFormat: lines{}}})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	sum, err := j.Run(t.Context(), jobs.RunOptions{})
	if err != nil || sum.Outcome != "ERASED_PENDING" {
		t.Fatal(sum, err)
	}
	if after, _ := content(t, root); len(after) != 37 {
		t.Errorf("%d lines are left", len(after))
	}
	if _, err := j.Restore(t.Context(), sum.RunID, nil, false); err != nil {
		t.Fatal(err)
	}
	after, _ := content(t, root)
	for i := range after { // the last line of a file may have come before its newline went
		after[i], before[i] = strings.TrimSpace(after[i]), strings.TrimSpace(before[i])
	}
	slices.Sort(after)
	slices.Sort(before)
	if !slices.Equal(before, after) {
		t.Error("the restored ledger differs")
	}
}

// A rewriter that forgets a line, or keeps one, is found by the ledger's own check.
func TestAWrongFormatIsFoundBeforeThePurge(t *testing.T) {
	job, root := makeLedger(t, "0s", 4)
	cfg, err := configs.Load(job)
	if err != nil {
		t.Fatal(err)
	}
	j, err := jobs.Open(t.Context(), cfg, jobs.Env{Engine: local.Engine{}, OpenTarget: openLedger, Formats: map[string]jobs.Format{ledgerFormat: wrong{}}})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	sum, err := j.Run(t.Context(), jobs.RunOptions{})
	if err == nil {
		t.Fatalf("outcome %s", sum.Outcome)
	}
	if _, stored := content(t, root); lacks(stored) {
		t.Error("the replaced files were purged")
	}
}

// An example is what a reader outside this module can write.
func TestExamplesImportNothingInternal(t *testing.T) {
	files, err := filepath.Glob("../*/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(f, "_test.go") && strings.Contains(string(raw), "expunge/internal/") {
			t.Errorf("%s imports an internal package", f)
		}
	}
}
