package jobs_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
)

// objectLake is a folder of objects with a job on it. Users 7 and 13 go.
type objectLake struct {
	dir  string
	want map[string]string // content of each object after the job; gone ones are not in it
}

func (l *objectLake) put(t *testing.T, name, before, after string) {
	t.Helper()
	path := filepath.Join(l.dir, "data", name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pack(name, before), 0o644); err != nil {
		t.Fatal(err)
	}
	if after != "" {
		l.want[name] = after
	}
}

func pack(name, text string) []byte {
	if !strings.HasSuffix(name, ".gz") {
		return []byte(text)
	}
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.Bytes()
}

func unpack(t *testing.T, name string, raw []byte) string {
	t.Helper()
	if !strings.HasSuffix(name, ".gz") {
		return string(raw)
	}
	r, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// contents reads every object that is not hidden.
func (l *objectLake) contents(t *testing.T) map[string]string {
	t.Helper()
	got := map[string]string{}
	root := filepath.Join(l.dir, "data")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		if d.IsDir() && strings.HasPrefix(d.Name(), ".expunge") {
			return fs.SkipDir
		}
		if d.IsDir() {
			return nil
		}
		if strings.HasPrefix(d.Name(), ".expunge-tmp-") {
			return nil // of a writer that broke: the store's to clean up, and never listed
		}
		raw, err := os.ReadFile(path)
		got[filepath.ToSlash(name)] = unpack(t, name, raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// own counts what runs keep for themselves.
func (l *objectLake) own(t *testing.T) (n int) {
	t.Helper()
	_ = filepath.WalkDir(filepath.Join(l.dir, "data", ".expunge"), func(_ string, d fs.DirEntry, err error) error {
		// A temporary file whose writer broke is the store's to clean up.
		if err == nil && !d.IsDir() && !strings.HasPrefix(d.Name(), ".expunge-tmp-") {
			n++
		}
		return nil
	})
	return n
}

func newObjectLake(t *testing.T) *objectLake {
	t.Helper()
	l := &objectLake{dir: t.TempDir(), want: map[string]string{}}
	if err := os.WriteFile(filepath.Join(l.dir, "users.csv"), []byte("user_id\n7\n13\n9007199254740993\n0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *objectLake) job(t *testing.T, grace, targets string) *configs.Job {
	t.Helper()
	text := fmt.Sprintf(`version: 1
name: objects
state: state
grace: %s
limits: {share: 100%%}
keysets: {users: {source: users.csv, key: {user_id: int64}}}
targets:
%s`, grace, targets)
	return loadJob(t, l.dir, text)
}

const ndjsonTarget = "  - {prefix: data, format: ndjson, match: [{users: user.id}], action: delete}\n"

// fill puts NDJSON objects of many shapes.
func (l *objectLake) fill(t *testing.T) {
	t.Helper()
	l.put(t, "a/clean.ndjson", "{\"user\":{\"id\":1}}\n", "{\"user\":{\"id\":1}}\n")
	l.put(t, "a/hit.ndjson", "{\"user\":{\"id\":1}}\r\n\n{ \"user\" : {\"id\":7} }\n{\"user\":{\"id\":8},\"x\":1.50}", "{\"user\":{\"id\":1}}\r\n\n{\"user\":{\"id\":8},\"x\":1.50}")
	l.put(t, "a/packed.ndjson.gz", "{\"user\":{\"id\":9007199254740992}}\n{\"user\":{\"id\":9007199254740993}}\n", "{\"user\":{\"id\":9007199254740992}}\n")
	l.put(t, "b/zero.json", "{\"user\":{\"id\":0}}\n{\"user\":{\"id\":null}}\n{\"user\":{\"id\":\"7\"}}\n{}\n{\"user\":{\"id\":1e0}}", "{\"user\":{\"id\":null}}\n{\"user\":{\"id\":\"7\"}}\n{}\n{\"user\":{\"id\":1e0}}")
	l.put(t, "b/all.ndjson", "{\"user\":{\"id\":13}}\n{\"user\":{\"id\":7}}\n", "")
	l.put(t, "_SUCCESS", "", "")
	l.want["_SUCCESS"] = ""
	l.put(t, "_tmp/x.ndjson", "{\"user\":{\"id\":7}}\n", "{\"user\":{\"id\":7}}\n")
}

func TestObjectsLoseExactlyTheErasedRecords(t *testing.T) {
	l := newObjectLake(t)
	l.fill(t)
	j := open(t, l.job(t, "0s", ndjsonTarget), jobs.Env{})
	sum, err := j.Run(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(l.want, l.contents(t)); diff != "" {
		t.Error(diff)
	}
	if sum.Outcome != string(manifests.Erased) {
		t.Errorf("outcome %s: %v", sum.Outcome, sum.Reasons)
	}
	if c := sum.Targets[0].Committed; c == nil || c.RowsErased != 5 || c.FilesReplaced != 3 || c.FilesDropped != 1 {
		t.Errorf("committed %+v", c)
	}
	if n := l.own(t); n != 0 {
		t.Errorf("%d objects of the run's own are left", n)
	}
	again, err := open(t, l.job(t, "0s", ndjsonTarget), jobs.Env{}).Run(t.Context(), jobs.RunOptions{})
	if err != nil || again.Outcome != string(manifests.NothingToErase) {
		t.Errorf("second run: %v, %v", again, err)
	}
}

func TestObjectsAreKeptForTheGraceThenPurged(t *testing.T) {
	l := newObjectLake(t)
	l.fill(t)
	before := l.contents(t)
	cfg := l.job(t, "7d", ndjsonTarget)
	j := open(t, cfg, jobs.Env{})
	sum, err := j.Run(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if sum.Outcome != string(manifests.ErasedPending) {
		t.Errorf("outcome %s: %v", sum.Outcome, sum.Reasons)
	}
	if n := l.own(t); n != 4 {
		t.Errorf("%d protected copies, want 4", n)
	}
	back, err := j.Restore(t.Context(), sum.RunID, nil, false)
	if err != nil || back.Outcome != string(manifests.Reverted) {
		t.Fatalf("%+v, %v", back, err)
	}
	if diff := cmp.Diff(before, l.contents(t)); diff != "" {
		t.Error(diff)
	}
	sum, err = j.Run(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	due, err := j.PurgeDue(later(t, 8*24*time.Hour), false)
	if err != nil || len(due) != 1 || due[0].Outcome != string(manifests.Erased) {
		t.Fatalf("%+v, %v", due, err)
	}
	if diff := cmp.Diff(l.want, l.contents(t)); diff != "" {
		t.Error(diff)
	}
	_ = sum
}

// TestARestoreUndoesNobodysChange: an object that was changed after the run
// stays, and the erased records come back beside it.
func TestARestoreUndoesNobodysChange(t *testing.T) {
	l := newObjectLake(t)
	l.put(t, "x.ndjson", "{\"user\":{\"id\":7}}\n{\"user\":{\"id\":8}}\n", "")
	j := open(t, l.job(t, "7d", ndjsonTarget), jobs.Env{})
	sum, err := j.Run(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	l.put(t, "x.ndjson", "{\"user\":{\"id\":99}}\n", "")
	if _, err := j.Restore(t.Context(), sum.RunID, nil, false); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"x.ndjson": "{\"user\":{\"id\":99}}\n", "x.restored-" + sum.RunID + ".ndjson": "{\"user\":{\"id\":7}}\n"}
	if diff := cmp.Diff(want, l.contents(t)); diff != "" {
		t.Error(diff)
	}
}

func TestFormatsPartitionsAndPoliciesOfObjects(t *testing.T) {
	for name, c := range map[string]struct {
		target  string
		objects [][3]string // name, before, after
		outcome manifests.Result
		erased  int64
	}{
		"csv": {"{prefix: data, format: csv, match: [{users: user id}]}", [][3]string{
			{"x.csv", "\ufeff\"user id\",note\r\n1,\"a\r\nb\"\r\n7,\"say \"\"7\"\"\"\r\n\r\n13,x\r\n14,\"7\"", "\ufeff\"user id\",note\r\n1,\"a\r\nb\"\r\n\r\n14,\"7\""},
			{"gone.csv.gz", "user id,note\n7,a\n", ""},
		}, manifests.Erased, 3},
		"csv kept empty": {"{prefix: data, format: csv, match: [{users: user_id}], policy: {emptied: keep}}", [][3]string{
			{"x.csv.gz", "user_id,note\n7,a\n", "user_id,note\n"},
		}, manifests.Erased, 1},
		"tsv by position": {"{prefix: data, format: tsv, match: [{users: \"#2\"}]}", [][3]string{
			{"x.tsv", "a\t7\nb\t8\n", "b\t8\n"},
		}, manifests.Erased, 1},
		"partition": {"{prefix: data, format: ndjson, match: [{users: user_id}]}", [][3]string{
			{"user_id=7/x.ndjson", "{\"a\":1}\n{\"a\":2}\n", ""},
			{"user_id=8/x.ndjson", "{\"a\":1}\n", "{\"a\":1}\n"},
			{"user_id=__HIVE_DEFAULT_PARTITION__/x.ndjson", "{\"a\":1}\n", "{\"a\":1}\n"},
		}, manifests.Erased, 2},
		"malformed stops that object": {"{prefix: data, format: ndjson, match: [{users: user.id}]}", [][3]string{
			{"bad.ndjson", "{\"user\":{\"id\":7}}\n{\"user\":{\"id\"\n", "{\"user\":{\"id\":7}}\n{\"user\":{\"id\"\n"},
			{"good.ndjson", "{\"user\":{\"id\":7}}\n{}\n", "{}\n"},
		}, manifests.Partial, 1},
		"malformed is kept": {"{prefix: data, format: ndjson, match: [{users: user.id}], policy: {malformed: keep}}", [][3]string{
			{"bad.ndjson", "{\"user\":{\"id\":7}}\n{\"user\":{\"id\"\n", "{\"user\":{\"id\"\n"},
		}, manifests.Erased, 1},
		"elements": {"{prefix: data, format: ndjson, match: [{users: \"$.members[*].id\"}], action: {remove_element: members}}", [][3]string{
			{"x.ndjson", "{\"members\": [ {\"id\":7}, {\"id\":1} , {\"id\":13}]}\n{\"members\":[{\"id\":7}]}\n{\"members\":[{\"id\":2}]}\n", "{\"members\": [ {\"id\":1} ]}\n{\"members\":[]}\n{\"members\":[{\"id\":2}]}\n"},
		}, manifests.Erased, 0},
		"redaction": {"{prefix: data, format: ndjson, match: [{users: user.id}], action: {redact: {user.name: null, city: GONE, n: \"0\"}}}", [][3]string{
			{"x.ndjson", "{\"user\":{\"id\":7,\"name\":\"J\"},\"city\":\"X\",\"n\":5}\n{\"user\":{\"id\":8,\"name\":\"K\"}}\n", "{\"user\":{\"id\":7,\"name\":null},\"city\":\"GONE\",\"n\":0}\n{\"user\":{\"id\":8,\"name\":\"K\"}}\n"},
		}, manifests.Erased, 0},
		"another format is no silence": {"{prefix: data, format: ndjson, match: [{users: user.id}]}", [][3]string{
			{"x.ndjson", "{\"user\":{\"id\":7}}\n{}\n", "{}\n"},
			{"y.csv", "id\n7\n", "id\n7\n"},
		}, manifests.Partial, 1},
		"globs": {"{prefix: data, glob: [\"**/*.log\", \"_in/*\"], format: ndjson, match: [{users: user.id}]}", [][3]string{
			{"deep/er/x.log", "{\"user\":{\"id\":7}}\n{}\n", "{}\n"},
			{"_in/x", "{\"user\":{\"id\":7}}\n{}\n", "{}\n"},
			{"y.ndjson", "{\"user\":{\"id\":7}}\n", "{\"user\":{\"id\":7}}\n"},
		}, manifests.Erased, 2},
		"strings are no numbers": {"{prefix: data, format: ndjson, match: [{users: user.id}]}", [][3]string{
			{"x.ndjson", "{\"user\":{\"id\":\"7\"}}\n", "{\"user\":{\"id\":\"7\"}}\n"},
		}, manifests.Partial, 0},
		"bzip2 is read and not written": {"{prefix: data, format: csv, match: [{users: user_id}]}", [][3]string{
			{"x.csv.bz2", bzipped, bzipped},
		}, manifests.Partial, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newObjectLake(t)
			for _, o := range c.objects {
				l.put(t, o[0], o[1], o[2])
			}
			target := "  - " + c.target + "\n"
			if !strings.Contains(target, "action:") {
				target = strings.Replace(target, "}\n", ", action: delete}\n", 1)
			}
			j := open(t, l.job(t, "0s", target), jobs.Env{})
			sum, err := j.Run(t.Context(), jobs.RunOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(l.want, l.contents(t)); diff != "" {
				t.Error(diff)
			}
			if sum.Outcome != string(c.outcome) || sum.Targets[0].Committed == nil || sum.Targets[0].Committed.RowsErased != c.erased {
				t.Errorf("outcome %s (%v), want %s; %+v", sum.Outcome, sum.Reasons, c.outcome, sum.Targets[0].Committed)
			}
		})
	}
}

// bzipped is "user_id,note\n7,a\n".
const bzipped = "BZh91AY&SY\xdc\xfb\xbe\xe7\x00\x00\x08[\x80\x00\x10\x00\x04\x00\x80\x00\x00\xa6!\x9e\x00 \x001\x00\x00\ni\xb4\xd2=\x08`\x10\x8fn\xd0\xaa\xcc_\x17rE8P\x90\xdc\xfb\xbe\xe7"

func TestATablesFilesAreNoObjects(t *testing.T) {
	for _, mark := range []string{"_delta_log/00.json", "x/.hoodie/hoodie.properties", "t/metadata/v1.metadata.json", "../_delta_log/00.json"} {
		l := newObjectLake(t)
		l.put(t, "x.ndjson", "{\"user\":{\"id\":7}}\n", "")
		l.put(t, mark, "{}", "")
		j := open(t, l.job(t, "0s", ndjsonTarget), jobs.Env{})
		if _, err := j.Run(t.Context(), jobs.RunOptions{}); err == nil || !strings.Contains(err.Error(), "table") {
			t.Errorf("%s: %v", mark, err)
		}
	}
}

func TestAnUnusableSelectionOfObjectsIsAnError(t *testing.T) {
	l := newObjectLake(t)
	l.put(t, "x.csv", "id\n7\n", "id\n7\n")
	for _, target := range []string{
		"  - {prefix: data, format: ndjson, match: [{users: user.id}], action: delete}\n",
		"  - {prefix: nowhere, format: csv, match: [{users: id}], action: delete}\n",
		"  - {prefix: data, format: csv, match: [{users: usr}], action: delete}\n",
		"  - {prefix: data, format: csv, match: [{users: id}], action: {redact: {id: null}}}\n",
	} {
		j := open(t, l.job(t, "0s", target), jobs.Env{})
		if sum, err := j.Run(t.Context(), jobs.RunOptions{}); err == nil {
			t.Errorf("%s: %s", target, sum.Outcome)
		}
	}
	if diff := cmp.Diff(l.want, l.contents(t)); diff != "" {
		t.Error(diff)
	}
}

func TestDryRunsOfObjectsWriteNothing(t *testing.T) {
	l := newObjectLake(t)
	l.fill(t)
	before := l.contents(t)
	j := open(t, l.job(t, "0s", ndjsonTarget), jobs.Env{ReadOnly: true})
	sum, err := j.Run(t.Context(), jobs.RunOptions{DryRun: true})
	if err != nil || sum.Targets[0].Scan.Erased != 5 {
		t.Fatalf("%+v, %v", sum, err)
	}
	if diff := cmp.Diff(before, l.contents(t)); diff != "" || l.own(t) != 0 {
		t.Error(diff)
	}
}

func TestOneJobMixesPrefixes(t *testing.T) {
	l := newObjectLake(t)
	l.put(t, "x.ndjson", "{\"id\":7}\n{\"id\":1}\n", "{\"id\":1}\n")
	l.put(t, "y.csv", "id\n7\n1\n", "id\n1\n")
	j := open(t, l.job(t, "0s", `  - {prefix: data, format: ndjson, glob: ["*.ndjson"], match: [{users: id}], action: delete}
  - {prefix: data, format: csv, glob: ["*.csv"], match: [{users: id}], action: delete}
`), jobs.Env{})
	sum, err := j.Run(t.Context(), jobs.RunOptions{})
	if err != nil || sum.Outcome != string(manifests.Erased) {
		t.Fatalf("%+v, %v", sum, err)
	}
	if diff := cmp.Diff(l.want, l.contents(t)); diff != "" {
		t.Error(diff)
	}
	names := map[string]bool{}
	for _, target := range sum.Targets {
		names[target.Name] = true
	}
	if len(names) != 2 {
		t.Errorf("targets %v", slices.Collect(maps.Keys(names)))
	}
}

// The empty string is a key only where the job says so; then it matches "" and neither null nor absence.
func TestAnEmptyKeyIsRefusedUnlessDeclared(t *testing.T) {
	const lines = "{\"user\":{\"id\":\"\"}}\n{\"user\":{\"id\":null}}\n{}\n{\"user\":{\"id\":\"0\"}}\n{\"user\":{\"id\":\" \"}}\n"
	for allowed, want := range map[bool]string{false: lines, true: "{\"user\":{\"id\":null}}\n{}\n{\"user\":{\"id\":\"0\"}}\n{\"user\":{\"id\":\" \"}}\n"} {
		l := newObjectLake(t)
		l.put(t, "x.ndjson", lines, want)
		if err := os.WriteFile(filepath.Join(l.dir, "users.csv"), []byte("user_id\nnobody\n\"\"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		cfg := l.job(t, "0s", ndjsonTarget)
		k := cfg.Keysets["users"]
		k.Key[0].Type, k.AllowEmptyKey = "string", allowed
		cfg.Keysets["users"] = k
		_, err := open(t, cfg, jobs.Env{}).Run(t.Context(), jobs.RunOptions{})
		if (err == nil) != allowed || err != nil && !strings.Contains(err.Error(), "keyset users") {
			t.Errorf("allowed %v: %v", allowed, err)
		}
		if diff := cmp.Diff(l.want, l.contents(t)); diff != "" {
			t.Error(diff)
		}
	}
}
