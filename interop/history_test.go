//go:build interop

package interop

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAPersonOfOldVersionsIsErasedFromHistory: on a versioned bucket one person
// is in a live object, one in a noncurrent version only, one nowhere; what
// became of each is said, and the second's certificate names the version that went.
func TestAPersonOfOldVersionsIsErasedFromHistory(t *testing.T) {
	for _, grace := range []string{"0s", "1h"} {
		t.Run("grace "+grace, func(t *testing.T) {
			b := &lakeBucket{t: t, name: "lake", dir: t.TempDir()}
			b.endpoint, b.c = versionedS3(t, b.name)
			b.put("raw/a.ndjson", "{\"user\":{\"id\":13}}\n{\"user\":{\"id\":1}}\n")
			b.put("raw/a.ndjson", "{\"user\":{\"id\":7}}\n{\"user\":{\"id\":1}}\n")
			job := b.job(grace, b.s3Props(), `  - {prefix: "s3://lake/raw/", glob: ["*.ndjson"], format: ndjson, match: [{users: user.id}], action: delete}`)
			raw, err := os.ReadFile(job)
			if err != nil {
				t.Fatal(err)
			}
			text := strings.Replace(string(raw), "key: {user_id: int64}}", "key: {user_id: int64}, request: {id: ticket}}", 1)
			for name, body := range map[string]string{job: text, filepath.Join(b.dir, "users.csv"): "user_id,ticket\n7,T7\n13,T13\n99,T99\n"} {
				if err := os.WriteFile(name, []byte(body), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want := map[string]string{"T7": "erased", "T13": "erased from history", "T99": "nothing found"}
			if grace != "0s" {
				want["T7"], want["T13"] = "pending", "pending"
			}
			if _, out, got := expunge(t, "run", job, "--yes"); got != 0 {
				t.Fatalf("exit %d: %s", got, tail(out, 3000))
			}
			_, out, _ := expunge(t, "requests", "--job", job)
			for line := range strings.Lines(out) {
				var r struct {
					Type, ID, Status string
					Found, History   int
				}
				if json.Unmarshal([]byte(line), &r) != nil || r.Type != "request" {
					continue
				}
				if r.Status != want[r.ID] || r.Found != map[string]int{"T7": 1}[r.ID] || r.History != map[string]int{"T13": 1}[r.ID] {
					t.Errorf("%+v, want %s", r, want[r.ID])
				}
				delete(want, r.ID)
			}
			if len(want) > 0 {
				t.Errorf("no word of %v: %s", want, out)
			}
			if grace != "0s" {
				return
			}
			subject := filepath.Join(b.dir, "subject.csv")
			if err := os.WriteFile(subject, []byte("user_id\n13\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			_, out, got := expunge(t, "certificate", "issue", "--subject-file", subject, "-o", filepath.Join(b.dir, "c.jsonl"), "--job", job)
			if got != 0 || !strings.Contains(out, `"files":1`) {
				t.Errorf("certificate: exit %d, %s", got, tail(out, 2000))
			}
		})
	}
}
