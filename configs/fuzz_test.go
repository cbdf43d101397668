package configs

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// FuzzParse: any input is a valid job or an ErrInvalid, and a valid job reads
// the same again.
func FuzzParse(f *testing.F) {
	names, err := filepath.Glob("examples/*.yaml")
	if err != nil || len(names) == 0 {
		f.Fatalf("examples: %v, %v", names, err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, s := range []string{small, "", "a", "[]", "- - -", "? a", "&a *a", "!!binary x", "version: |\n  1", "a: {b: [c, {d: e}]}", "\x00", "\xff\xfe", "<<: {a: b}", "targets: [{action: {redact: {a: ~}}}]", "a:\n\t- b", "%YAML 1.2\n---\na: b", "\"", "'", "a: !!int \"1\"", "keysets: {a: {key: {b: c, d: e}}}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		j, err := Parse(data)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		if err := j.Validate(); err != nil {
			t.Fatalf("a parsed job is invalid: %v", err)
		}
		a, err := j.Digest()
		if err != nil {
			t.Fatal(err)
		}
		again, err := j.Freeze().Thaw()
		if err != nil {
			t.Fatalf("the same bytes again: %v", err)
		}
		if b, err := again.Digest(); err != nil || a != b {
			t.Fatalf("the digest differs: %s %s %v", a, b, err)
		}
	})
}
