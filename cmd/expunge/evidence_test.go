package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/expunge/expunge/cmd/expunge/cli"
)

// want runs a command and checks its exit code; it returns the summary.
func want(t *testing.T, code int, args ...string) map[string]any {
	t.Helper()
	got, out, errs := expunge(t, append(args, "--json")...)
	if got != code {
		t.Fatalf("%v: exit %d, want %d: %s%s", args, got, code, out, errs)
	}
	if code == 64 {
		return nil
	}
	return summaryOf(t, out)
}

// lines are the JSON lines of a kind.
func linesOf(t *testing.T, kind string, args ...string) (out []map[string]any) {
	t.Helper()
	_, text, _ := expunge(t, append(args, "--json")...)
	for l := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		var v map[string]any
		if err := json.Unmarshal([]byte(l), &v); err != nil {
			t.Fatal(err)
		}
		if v["type"] == kind {
			out = append(out, v)
		}
	}
	return out
}

// TestEvidenceFromApprovalToSeal walks the commands about evidence over one
// lakehouse: keys and trust file, approval, run, offline check, requests,
// certificate, audit, log and seal.
func TestEvidenceFromApprovalToSeal(t *testing.T) {
	l := lakehouse(t)
	in := func(name string) string { return filepath.Join(l.Dir, name) }
	trust := in("trust.json")
	run := want(t, 0, "keygen", "-o", in("run.key"), "--trust", trust, "--name", "run")
	want(t, 0, "keygen", "-o", in("alice.key"), "--trust", trust, "--role", "approver")
	edit(t, l.Job, "grace:", "signing: {executor: \"file:run.key\", trust: trust.json}\napproval: {count: 1}\naudit: {keep: 90d}\ngrace:")
	want(t, 64, "run", l.Job)
	want(t, 0, "plan", l.Job, "-o", in("erase.plan"))
	want(t, 64, "run", "--plan", in("erase.plan"))
	want(t, 64, "approve", in("erase.plan"), "--key", in("run.key"))
	if a := want(t, 0, "approve", in("erase.plan"), "--key", in("alice.key"), "--name", "Alice"); a["missing"] != 0.0 {
		t.Errorf("approval %v", a)
	}
	sum := want(t, 0, "run", "--plan", in("erase.plan"))
	manifest := sum["manifest"].(string)

	// Offline, on copies of the files alone, with nothing but the public key.
	away := t.TempDir()
	for _, ext := range []string{".intoto.jsonl", ".tlog-proof", ".evidence.parquet"} {
		raw, err := os.ReadFile(strings.TrimSuffix(manifest, ".intoto.jsonl") + ext)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(away, "m"+ext), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	checks := linesOf(t, "check", "manifest", "verify", filepath.Join(away, "m.intoto.jsonl"), "--key", in("run.key.pub"))
	if len(checks) < 7 {
		t.Errorf("%d checks", len(checks))
	}
	for _, c := range checks {
		if detail, _ := c["detail"].(string); c["ok"] != true || strings.Contains(detail, "not checked") {
			t.Errorf("offline: %v", c)
		}
	}
	want(t, 4, "manifest", "verify", filepath.Join(away, "m.intoto.jsonl"), "--key", in("alice.key.pub"))
	want(t, 0, "manifest", "verify", "last", "--job", l.Job, "--against-data")
	want(t, 0, "log", "checkpoint", "-o", in("kept"), "--job", l.Job)
	if r := linesOf(t, "request", "requests", "DSAR-1001", "--job", l.Job); len(r) != 1 || r[0]["status"] != "erased" {
		t.Errorf("request: %v", r)
	}
	subject := in("anna.csv")
	if err := os.WriteFile(subject, fmt.Appendf(nil, "user_id\n%d\n", l.Erased[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	want(t, 0, "certificate", "issue", "--subject-file", subject, "-o", in("anna.jsonl"), "--job", l.Job)
	if page, err := os.ReadFile(in("anna.jsonl.html")); err != nil || !strings.Contains(string(page), "<html") {
		t.Errorf("page: %v", err)
	}
	want(t, 0, "certificate", "verify", in("anna.jsonl"), "--subject-file", subject, "--key", in("run.key.pub"))
	want(t, 0, "certificate", "verify", in("anna.jsonl"), "--subject-file", subject, "--trust", trust, "--manifest", manifest)
	if err := os.WriteFile(subject, fmt.Appendf(nil, "user_id\n%d\n", l.Erased[1]), 0o600); err != nil {
		t.Fatal(err)
	}
	want(t, 4, "certificate", "verify", in("anna.jsonl"), "--subject-file", subject, "--key", in("run.key.pub"))
	if a := want(t, 0, "audit", l.Job); a["came_back"] != false || a["keys"] == 0.0 {
		t.Errorf("audit: %v", a)
	}
	id := sum["run_id"].(string)
	want(t, 0, "manifest", "seal", id, "--job", l.Job)
	want(t, 0, "manifest", "verify", id, "--job", l.Job)
	want(t, 0, "manifest", "verify", id, "--trust", trust, "--state", in("state"))
	if code, _, errs := expunge(t, "manifest", "verify", id, "--state", in("state")); code != 1 || !strings.Contains(errs, "--trust") {
		t.Errorf("a sealed run without anybody to trust: exit %d, %s", code, errs)
	}
	skipped := ""
	for _, c := range linesOf(t, "check", "manifest", "verify", manifest, "--trust", trust, "--job", l.Job, "--against-data") {
		if detail, _ := c["detail"].(string); strings.Contains(detail, "not checked") {
			skipped += detail
		}
		if c["ok"] != true {
			t.Errorf("a sealed run against its data: %v", c)
		}
	}
	if !strings.Contains(skipped, "sealed") {
		t.Errorf("keys that are gone were looked for: %q", skipped)
	}
	want(t, 1, "certificate", "issue", "--subject-file", subject, "-o", in("late.jsonl"), "--job", l.Job)
	if v := want(t, 0, "log", "verify", "--job", l.Job, "--since", in("kept")); v["manifests"].(float64) < 3 || v["since"] != 1.0 {
		t.Errorf("log: %v", v)
	}
	// The key is rotated; the old manifests still verify, and the log goes on.
	want(t, 0, "keygen", "-o", in("next.key"), "--trust", trust, "--replaces", run["key_id"].(string))
	edit(t, l.Job, "file:run.key", "file:next.key")
	if a := want(t, 0, "audit", l.Job); a["outcome"] != cli.NothingToErase {
		t.Errorf("audit with the new key: %v", a)
	}
	want(t, 0, "log", "verify", "--job", l.Job, "--since", in("kept"))
	want(t, 0, "manifest", "verify", manifest, "--trust", trust)
	wantReplayNamed(t, l.Job, manifest, id)
	if err := os.Remove(manifest); err != nil {
		t.Fatal(err)
	}
	if v := want(t, 4, "log", "verify", "--job", l.Job); fmt.Sprint(v["missing"]) == "[]" {
		t.Errorf("a removed manifest is not named: %v", v)
	}
}

// wantReplayNamed puts a run's genuine manifest, with its proof and evidence, in
// the place of the one that sealed it.
func wantReplayNamed(t *testing.T, job, manifest, id string) {
	t.Helper()
	for _, ext := range []string{".intoto.jsonl", ".tlog-proof", ".evidence.parquet"} {
		raw, err := os.ReadFile(strings.TrimSuffix(manifest, ".intoto.jsonl") + ext)
		if err != nil {
			t.Fatal(err)
		}
		place := filepath.Join(filepath.Dir(manifest), id+"-seal"+ext)
		was, err := os.ReadFile(place)
		defer func() {
			if err == nil {
				err = os.WriteFile(place, was, 0o600)
			} else {
				err = os.Remove(place)
			}
			if err != nil {
				t.Error(err)
			}
		}()
		if err := os.WriteFile(place, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	named := ""
	for _, c := range linesOf(t, "check", "manifest", "verify", id, "--job", job) {
		if c["ok"] != true {
			named += fmt.Sprint(c["detail"])
		}
	}
	if named != "replayed: this is manifest "+id+"-run, put in the place of "+id+"-seal" {
		t.Errorf("a replayed manifest: %q", named)
	}
}
