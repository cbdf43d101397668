//go:build interop

package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestReadersAgreeOnWhatIsLeft: DuckDB, pandas and fastavro find in files of odd
// records, after an erasure, what they themselves would have kept.
func TestReadersAgreeOnWhatIsLeft(t *testing.T) {
	for seed := range 3 {
		dir := t.TempDir()
		before, after := filepath.Join(dir, "before"), filepath.Join(dir, "after")
		python(t, "differential.py", "make", map[string]any{"dir": before, "seed": seed}, nil)
		if err := os.CopyFS(after, os.DirFS(before)); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{
			"ids.ndjson":   "{\"id\":0}\n{\"id\":7}\n{\"id\":13}\n{\"id\":-5}\n{\"id\":9007199254740993}\n",
			"names.ndjson": "{\"name\":\"\"}\n{\"name\":\"q\\\"x\"}\n{\"name\":\"a,b\"}\n{\"name\":\"zo\\u00eb\"}\n{\"name\":\"two\\nlines\"}\n",
		} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		job := filepath.Join(dir, "job.yaml")
		text := `version: 1
name: differential
state: state
grace: 0s
limits: {share: 100%}
keysets:
  users: {source: ids.ndjson, key: {id: int64}}
  names: {source: names.ndjson, key: {name: string}, allow_empty_key: true}
targets:
`
		for _, format := range []string{"ndjson", "csv", "avro", "parquet"} {
			text += fmt.Sprintf("  - {prefix: \"after/%s/\", format: %s, match: [{users: id}, {names: name}], action: delete}\n", format, format)
		}
		if err := os.WriteFile(job, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		mustErase(t, job)
		var files []struct {
			File, Reader, First string
			Before, Kept, Found int
			Equal               bool
		}
		python(t, "differential.py", "check", map[string]any{"before": before, "after": after}, &files)
		if len(files) != 20 {
			t.Errorf("%d comparisons", len(files))
		}
		for _, f := range files {
			if !f.Equal || f.Kept == 0 || f.Kept == f.Before {
				t.Errorf("%s by %s: of %d records %d should be left, %d are; first difference %s", f.File, f.Reader, f.Before, f.Kept, f.Found, f.First)
			}
		}
	}
}
