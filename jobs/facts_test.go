package jobs_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
)

// TestTheManifestStatesWhatWasReadAndAsked: the digest of every replaced file,
// the filter as it was built and measured, and sources without their names.
func TestTheManifestStatesWhatWasReadAndAsked(t *testing.T) {
	for name, c := range map[string]struct {
		keys   func(i int) int
		n      int
		filter string // "" = none
	}{
		"few keys":        {func(i int) int { return 7 + i }, 20, ""},
		"a dense set":     {func(i int) int { return 7 + i }, 5000, "bitmap"},
		"a scattered set": {func(i int) int { return 7 + i*1_000_003 }, 5000, "split-block bloom"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newObjectLake(t)
			big := strings.Repeat("{\"user\":{\"id\":-1}}\n", 5000)
			before := map[string]string{"small.ndjson": "{\"user\":{\"id\":7}}\n{}\n", "big.ndjson": "{\"user\":{\"id\":7}}\n" + big, "gone.ndjson": "{\"user\":{\"id\":7}}\n", "clean.ndjson": "{}\n"}
			for name, text := range before {
				l.put(t, name, text, "")
			}
			cfg := l.job(t, "0s", ndjsonTarget)
			text := "user_id\n"
			for i := range c.n {
				text += fmt.Sprintf("%d\n", c.keys(i))
			}
			jane := filepath.Join(l.dir, "jane.doe@example.org.csv")
			if err := os.WriteFile(jane, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			ks := cfg.Keysets["users"]
			ks.Source = []string{jane}
			cfg.Keysets["users"] = ks
			j := open(t, cfg, jobs.Env{})
			sum, err := j.Run(t.Context(), jobs.RunOptions{})
			if err != nil {
				t.Fatal(err)
			}
			run, err := j.State().OpenRun(t.Context(), sum.RunID)
			if err != nil {
				t.Fatal(err)
			}
			for _, rec := range evidenceOf(t, j, sum.Manifest) {
				if rec.Kind != manifests.RecordFile {
					continue
				}
				text := before[filepath.Base(rec.Path)]
				sum := sha256.Sum256([]byte(text))
				want := hex.EncodeToString(sum[:])
				if len(text) < 64<<10 {
					if want, err = manifests.KeyedDigest(run.Secret(), sum[:]); err != nil {
						t.Fatal(err)
					}
				}
				if rec.Status == manifests.StatusClean {
					want = ""
				}
				if rec.DigestBefore != want || rec.KeyedDigest != (want != "" && len(text) < 64<<10) {
					t.Errorf("%s: digest before %q, keyed %v; want %q", rec.Path, rec.DigestBefore, rec.KeyedDigest, want)
				}
			}
			raw, err := os.ReadFile(sum.Manifest)
			if err != nil {
				t.Fatal(err)
			}
			m, err := manifests.Read(raw)
			if err != nil {
				t.Fatal(err)
			}
			if s := m.Keysets[0].Sources; len(s) != 1 || strings.Contains(s[0].Name, "jane") || !strings.HasSuffix(s[0].Name, ".csv") || s[0].Bytes == 0 {
				t.Errorf("sources %+v", s)
			}
			checkFilter(t, m.Keysets[0].Filter, c.filter)
		})
	}
}

func checkFilter(t *testing.T, f *manifests.Filter, kind string) {
	t.Helper()
	switch {
	case kind == "" && f == nil:
	case kind == "" || f == nil || f.Kind != kind || f.Bits == 0:
		t.Errorf("filter %+v, want %q", f, kind)
	case kind == "bitmap" && (f.DesignPPM != 0 || f.MeasuredPPM != nil):
		t.Errorf("a bitmap is exact: %+v", f)
	case kind != "bitmap" && (f.MeasuredPPM == nil || f.Probes == 0 || *f.MeasuredPPM < f.DesignPPM/2 || *f.MeasuredPPM > f.DesignPPM*2 || f.DesignPPM == 0):
		t.Errorf("measured %v of %+v", f.MeasuredPPM, f)
	}
}
