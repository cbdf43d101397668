//go:build interop

package interop

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/review/reviewtest"
)

// looked is what py/pages.py says.
type looked struct {
	Problems []string       `json:"problems"`
	Slowest  map[string]int `json:"slowest"` // milliseconds a page, browser included
	Visited  int            `json:"visited"`
}

// serving starts expunge serve and returns its address.
func serving(t *testing.T, args ...string) string {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	base := fmt.Sprintf("http://127.0.0.1:%d", port)
	probe := func() error {
		resp, err := http.Get(base + "/healthz")
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	server(t, probe, nil, bin, append([]string{"serve", "--listen", fmt.Sprintf("127.0.0.1:%d", port)}, args...)...)
	return base
}

// largeBucket writes a bucket of ten thousand runs, the newest of them with a
// million files, onto the disk, and its trust file.
func largeBucket(t *testing.T, dir string) (*reviewtest.Bucket, string) {
	t.Helper()
	mem := storage.NewMem()
	b, err := reviewtest.Make(t.Context(), mem, "s", reviewtest.Options{Runs: 10_000, Files: 1_000_000, Logged: 40, Jobs: 4, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	for info, err := range mem.List(t.Context(), "s/") {
		if err != nil {
			t.Fatal(err)
		}
		data, err := storage.ReadAll(t.Context(), mem, info.Path)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, strings.TrimPrefix(info.Path, "s/"))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := b.Trust.JSON()
	if err != nil {
		t.Fatal(err)
	}
	trust := filepath.Join(t.TempDir(), "trust.json")
	if err := os.WriteFile(trust, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	return b, trust
}

// TestPagesInChromium: every page of expunge serve, over a real run and over
// ten thousand runs with a million files, and the report, in a real browser:
// no console message, keyboard alone, readable contrast in light and dark,
// nothing wider than the window, progress that moves. Screenshots go to
// .cache/pages.
func TestPagesInChromium(t *testing.T) {
	lake, bucket := t.TempDir(), t.TempDir()
	if _, out, code := expunge(t, "demo", "--dir", filepath.Join(lake, "demo"), "--rows", "40000"); code != 0 {
		t.Fatal(tail(out, 4000))
	}
	job := filepath.Join(lake, "demo/job.yaml")
	report := filepath.Join(lake, "report.html")
	s, out, code := expunge(t, "manifest", "report", "last", "--job", job, "-o", report)
	if code != 0 {
		t.Fatal(tail(out, 4000))
	}
	big, trust := largeBucket(t, bucket)
	small, large := serving(t, "--job", job), serving(t, "--state", bucket, "--trust", trust)
	ready(t, large)

	live := "live-20261125T115900Z-aabbcc"
	status := filepath.Join(bucket, "status", live+".json")
	doc := fmt.Sprintf(`{"run":%q,"job":"live","state":"running","step":"scan","started":%q,"updated":%q,"counters":{"files_done":10,"files_total":5000}}`,
		live, time.Now().UTC().Format(time.RFC3339), time.Now().UTC().Format(time.RFC3339))
	if err := os.WriteFile(status, []byte(doc), 0o644); err != nil {
		t.Fatal(err)
	}
	shots := filepath.Join(cache, "pages")
	m := "/manifests/" + s.RunID + "-run"
	bm := "/manifests/" + big.Newest + "-run"
	var got looked
	python(t, "pages.py", "look", map[string]any{"shots": shots, "patience": 10, "sites": []map[string]any{
		{"name": "demo", "base": small, "journey": s.RunID, "keyboard": []string{"overview", "manifest", "files", "runs", "log"},
			"pages": map[string]string{"overview": "/", "runs": "/runs", "run": "/runs/" + s.RunID, "manifest": m, "checked": m + "?check=complete", "files": m + "/files", "file": m + "/files/0",
				"deadlines": "/deadlines", "residue": "/residue", "targets": "/targets", "log": "/log"}},
		{"name": "large", "base": large, "keyboard": []string{"overview"}, "live": map[string]string{"file": status, "run": live},
			"pages": map[string]string{"overview": "/", "runs": "/runs", "older": "/runs?page=150", "partial": "/runs?result=PARTIAL&job=nightly-1", "manifest": bm, "files": bm + "/files?from=700000",
				"found": bm + "/files?q=00999990.parquet", "file": bm + "/files/999999", "deadlines": "/deadlines", "residue": "/residue", "targets": "/targets", "log": "/log"}},
	}, "reports": map[string]string{"report": report}}, &got)
	for _, p := range got.Problems {
		t.Error(p)
	}
	t.Logf("%d pages, milliseconds with the browser: %v", got.Visited, got.Slowest)
	if got.Visited < 24 {
		t.Errorf("only %d pages were looked at", got.Visited)
	}
}

// ready waits until the server has read every manifest.
func ready(t *testing.T, base string) {
	t.Helper()
	began := time.Now()
	for range 600 {
		resp, err := http.Get(base + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(body), "expunge_index_unread_manifests 0") {
			t.Logf("10,000 runs were read in %s", time.Since(began).Round(time.Millisecond))
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	t.Fatal("the index is not ready")
}
