//go:build interop

package interop

import (
	"path/filepath"
	"slices"
	"testing"
)

// TestLeakMatrix: tables of PyIceberg and DuckDB that leak, one a surface; the
// verifier finds it, the job cleans it, the verifier passes, no byte of an erased
// row is left, and both read the survivors as before.
func TestLeakMatrix(t *testing.T) {
	l := localLake(t)
	python(t, "leaks.py", "make", l.pyConfig(), nil)
	var before, after reading
	python(t, "leaks.py", "read", l.pyConfig(), &before)
	leaks := map[string][]string{
		"py_delete":      {"history"},
		"py_overwrite":   {"history"},
		"py_tag":         {"history"},
		"py_expired":     {"orphan files"},
		"py_property":    {"table metadata files"},
		"py_keyed":       {"partition values", "file paths"},
		"arrow_filtered": {"dictionary pages"},
		"duck_live":      {"live rows"},
		"duck_filtered":  nil,
	}
	var tables []string
	for name := range leaks {
		tables = append(tables, name)
	}
	slices.Sort(tables)
	job := residueJob(t, l, tables...)
	found, code := leftOn(t, job)
	if code != 4 {
		t.Errorf("expunge verify ends with %d, want 4", code)
	}
	for name, want := range leaks {
		got := found["lake.air."+name]
		for _, s := range want {
			if !slices.Contains(got, s) {
				t.Errorf("%s: nothing was found on %q, only on %q", name, s, got)
			}
		}
		if want == nil && len(got) > 0 {
			t.Errorf("%s: found on %q, but there is nothing", name, got)
		}
	}
	mustErase(t, job)
	if left, code := leftOn(t, job); code != 0 || len(left) > 0 {
		t.Errorf("after expunge run: exit code %d, left %v", code, left)
	}
	python(t, "leaks.py", "read", l.pyConfig(), &after)
	for name, readers := range before {
		for reader, b := range readers {
			if a := after[name][reader]; a.Hits != 0 || a.Survivors != b.Survivors || a.Checksum != b.Checksum || b.Survivors == 0 {
				t.Errorf("%s: %s sees %+v after, %+v before", name, reader, a, b)
			}
		}
		folder := filepath.Join(l.dir, "warehouse", "air", name)
		searchBytes(t, folder)
		var d decodedFiles
		python(t, "leaks.py", "decoded", map[string]any{"folder": folder}, &d)
		if len(d.Bad)+len(d.Loose) > 0 || d.Files == 0 {
			t.Errorf("%s: %d files; erased values in %v, entries that no row refers to in %v", name, d.Files, d.Bad, d.Loose)
		}
	}
}
