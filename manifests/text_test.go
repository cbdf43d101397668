package manifests

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func shown(t *testing.T, kind string) string {
	t.Helper()
	b, tr, _ := signed(t)
	m, checks := Verify(context.Background(), b, tr)
	var out bytes.Buffer
	var err error
	if kind == "text" {
		err = Text(&out, m, checks)
	} else {
		err = HTML(&out, m, checks)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestTextMatchesGolden(t *testing.T) {
	got := shown(t, "text")
	path := filepath.Join("testdata", "golden", "show.txt")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("text differs from the golden:\n%s", got)
	}
}

// TestWhatIsNotCoveredIsShown: outcome first, exclusions and residue never left out.
func TestWhatIsNotCoveredIsShown(t *testing.T) {
	for _, kind := range []string{"text", "html"} {
		s := shown(t, kind)
		for _, want := range []string{"ERASED_PENDING until 2026-11-09", "RDS backups", "within grace", "lake.sales.orders", "positive control", Claim} {
			if !strings.Contains(strings.ToLower(s), strings.ToLower(want)) {
				t.Errorf("%s does not show %q", kind, want)
			}
		}
	}
	if s := shown(t, "text"); !strings.HasPrefix(s, "ERASED_PENDING") {
		t.Error("the outcome is not the first line")
	}
}

// TestReportIsSelfContained: nothing is loaded, nothing runs.
func TestReportIsSelfContained(t *testing.T) {
	s := shown(t, "html")
	if m := regexp.MustCompile(`(?i)<script|<link|<img|<iframe|\ssrc=|url\(|@import|javascript:|https?://`).FindString(s); m != "" {
		t.Errorf("the report refers to something outside itself: %q", m)
	}
	if len(s) > 100<<10 {
		t.Errorf("the report has %d bytes", len(s))
	}
}

// TestReportEscapes: names from a job or catalog cannot become markup.
func TestReportEscapes(t *testing.T) {
	m, _ := sample(t, "run-1")
	evil := `<script>alert(1)</script>"><b>`
	m.Targets[0].Name, m.Job, m.Scope.Excluded[0].What, m.Policy.Controller = evil, evil, evil, evil
	m.Verification.Surfaces[0].Note = evil
	m.Outcome = Decide(m)
	var out bytes.Buffer
	if err := HTML(&out, m, nil); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "<script>") || strings.Contains(out.String(), "<b>") {
		t.Error("markup came through")
	}
}

func TestUnverifiedIsSaid(t *testing.T) {
	m, _ := sample(t, "run-1")
	m.Outcome = Decide(m)
	var text, html bytes.Buffer
	if err := Text(&text, m, nil); err != nil {
		t.Fatal(err)
	}
	if err := HTML(&html, m, nil); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text.String(), "Nothing of this was verified") || !strings.Contains(html.String(), "Nothing was verified when") {
		t.Error("an unverified manifest looks verified")
	}
}

func TestNumbersForPeople(t *testing.T) {
	for in, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1234: "-1,234", -123: "-123"} {
		if got := group(in); got != want {
			t.Errorf("group(%d) = %s, want %s", in, got, want)
		}
	}
	for in, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 5 << 30: "5.0 GiB"} {
		if got := size(in); got != want {
			t.Errorf("size(%d) = %s, want %s", in, got, want)
		}
	}
	for in, want := range map[int64]string{1000000: "100 %", 999999: "99.9999 %", 50000: "5 %", 0: "0 %"} {
		if got := percent(in); got != want {
			t.Errorf("percent(%d) = %s, want %s", in, got, want)
		}
	}
}
