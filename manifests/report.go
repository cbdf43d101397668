package manifests

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"
)

var (
	//go:embed report.html
	reportHTML string
	//go:embed report.css
	reportCSS string
)

// StyleSheet is the report's CSS, for pages that show a report's Body.
func StyleSheet() string { return reportCSS }

// StyleHash is the source expression that allows exactly the report's own
// style in a Content-Security-Policy.
func StyleHash() string {
	sum := sha256.Sum256([]byte(reportCSS))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

var reportTemplate = template.Must(template.New("report").Funcs(template.FuncMap{
	"stamp": stamp, "day": day, "group": group, "size": size, "percent": percent, "yes": yes, "join": strings.Join,
	"count": count, "met": met, "meaning": SurfaceMeaning, "sign": sign, "tone": tone, "words": words, "status": statusWords, "counted": func(n int, one, many string) string { return count(int64(n), one, many) },
	"css": func() template.CSS { return template.CSS(reportCSS) },
	"csp": func() string { return "default-src 'none'; style-src " + StyleHash() },
}).Parse(reportHTML))

// Report is a manifest made readable for people who do not run it: one HTML
// file without scripts, fonts or network, for screen and print, in dark and
// light, and without colour.
type Report struct {
	Manifest  *Manifest
	Checks    []Check    // what was verified just now; nil = nothing, and the report says so
	Breakdown *Breakdown // from the sidecar; nil = the report says that it was not read
	Digest    string     // the envelope's SHA-256 in hex, where known
	// Files, when set, gives the address at which a target's file records can be read.
	Files func(target string) string
}

// HTML writes the report of a manifest without its sidecar.
func HTML(w io.Writer, m *Manifest, checks []Check) error {
	return Report{Manifest: m, Checks: checks}.HTML(w)
}

// HTML writes the whole file.
func (r Report) HTML(w io.Writer) error {
	if err := reportTemplate.ExecuteTemplate(w, "file", r.view()); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// Body is the report without head and style, for a page of another program.
func (r Report) Body() (template.HTML, error) {
	var b strings.Builder
	if err := reportTemplate.ExecuteTemplate(&b, "body", r.view()); err != nil {
		return "", fmt.Errorf("write report: %w", err)
	}
	return template.HTML(b.String()), nil
}

// reportView is what the template shows.
type reportView struct {
	Report
	M                        *Manifest
	OK                       bool
	Skipped                  []string
	Headline, Title, Explain string
	Tone                     string
	Envelope, Sidecar, Proof string
	Facts                    []fact
	Reasons                  []string
	Targets                  []targetView
	Charts                   []chart
	Steps, Clock             chart
	Matrix                   []matrix
	Odd                      []Surface // surfaces that did not just pass
	Crowded                  []surfaceSum
}

// fact is one of the figures under the outcome.
type fact struct{ Label, Value, Note, Tone string }

// targetView is a target with its scope.
type targetView struct {
	Target
	Scope Included
	Link  string
}

func (r Report) view() reportView {
	m := r.Manifest
	v := reportView{Report: r, M: m, Headline: Headline(m), Title: title(m), Explain: Explain(m), Tone: tone(string(m.Outcome.Result)),
		Charts: charts(m, r.Breakdown), Steps: steps(m), Clock: clock(m)}
	for _, why := range m.Outcome.Reasons {
		if !strings.Contains(v.Explain, why) {
			v.Reasons = append(v.Reasons, why)
		}
	}
	v.OK, v.Skipped = Verified(r.Checks)
	v.Envelope, v.Sidecar, v.Proof = EnvelopeName(m.ID), SidecarName(m.ID), ProofName(m.ID)
	scope := map[string]Included{}
	for _, s := range m.Scope.Included {
		scope[s.Target] = s
	}
	for i := range m.Targets {
		t := targetView{Target: m.Targets[i], Scope: scope[m.Targets[i].Name]}
		if r.Files != nil {
			t.Link = r.Files(t.Name)
		}
		v.Targets = append(v.Targets, t)
	}
	v.Facts = keyFacts(m)
	v.Matrix, v.Crowded, v.Odd = surfaceViews(m)
	return v
}

// keyFacts are the figures that answer what a reader asks first.
func keyFacts(m *Manifest) []fact {
	rows, tables := m.erased()
	out := []fact{{Label: "Rows erased", Value: group(rows), Note: "from " + count(tables, "target", "targets")}}
	if m.Policy.Requests > 0 {
		f := fact{Label: "Requests", Value: group(m.Policy.Requests)}
		if m.Policy.EarliestRequest != nil {
			f.Note = "the first of " + day(*m.Policy.EarliestRequest)
		}
		out = append(out, f)
	}
	out = append(out, coverageFact(m), deadlineFact(m), residueFact(m), verifiedFact(m))
	return out
}

func coverageFact(m *Manifest) fact {
	var reached int64
	for i := range m.Targets {
		switch m.Targets[i].Status {
		case TargetDone, TargetClean, TargetPurged, TargetRestored:
			reached++
		}
	}
	f := fact{Label: "Targets dealt with", Value: fmt.Sprintf("%s of %s", group(reached), group(int64(len(m.Targets)))), Tone: "good"}
	if reached < int64(len(m.Targets)) {
		f.Tone = "bad"
	}
	undeclared := 0
	for _, e := range m.Scope.Excluded {
		if !e.Declared {
			undeclared++
		}
	}
	switch n := int64(len(m.Scope.Excluded)); {
	case undeclared > 0:
		f.Note, f.Tone = fmt.Sprintf("%s not covered, %d of them not declared by the job", count(n, "thing", "things"), undeclared), "bad"
	case n > 0:
		f.Note = count(n, "declared exclusion", "declared exclusions")
	default:
		f.Note = "no exclusions listed"
	}
	return f
}

func deadlineFact(m *Manifest) fact {
	d := m.Policy.Deadline
	if d == nil {
		return fact{Label: "Deadline", Value: "none stated", Note: "the job or its requests name none"}
	}
	f := fact{Label: "Deadline", Value: day(*d)}
	switch {
	case m.Policy.DeadlineMet == nil:
	case *m.Policy.DeadlineMet:
		f.Note, f.Tone = "met", "good"
		if left := d.Sub(m.Times.End); left > 0 {
			f.Note = "met, " + span(left) + " before it"
		}
	default:
		f.Note, f.Tone = "MISSED", "bad"
	}
	return f
}

func residueFact(m *Manifest) fact {
	if len(m.Residue) == 0 {
		return fact{Label: "Still stored", Value: "nothing found", Note: "on the surfaces that were checked", Tone: "good"}
	}
	var n int64
	f := fact{Label: "Still stored", Tone: "wait", Note: "every item has a date"}
	for _, r := range m.Residue {
		n += r.Count
		if r.GoneBy == nil {
			f.Tone, f.Note = "bad", "at least one item has no date"
		}
	}
	f.Value = count(n, "item", "items")
	if m.Outcome.Pending != nil && f.Tone == "wait" {
		f.Note = "until " + day(*m.Outcome.Pending)
	}
	return f
}

func verifiedFact(m *Manifest) fact {
	v := &m.Verification
	if len(v.Surfaces) == 0 {
		return fact{Label: "Verification", Value: "none", Note: "nobody re-read the data", Tone: "bad"}
	}
	f := fact{Label: "Verification", Value: "passed", Tone: "good", Note: "independent code re-read the data"}
	for _, s := range v.Surfaces {
		switch s.Result {
		case Pass, NotPresent:
		case Found, NotChecked:
			if f.Tone == "good" {
				f.Value, f.Tone, f.Note = "with remarks", "wait", "see the surfaces below"
			}
		default:
			f.Value, f.Tone, f.Note = "FAILED", "bad", "see the surfaces below"
		}
	}
	for _, c := range v.Controls {
		if !c.Before || c.After {
			f.Value, f.Tone, f.Note = "FAILED", "bad", "a control did not hold"
		}
	}
	return f
}

// span writes a duration in the largest unit that fits a calendar.
func span(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return count(int64(d/(24*time.Hour)), "day", "days")
	case d >= 2*time.Hour:
		return count(int64(d/time.Hour), "hour", "hours")
	case d >= 2*time.Minute:
		return count(int64(d/time.Minute), "minute", "minutes")
	case d >= 10*time.Second:
		return count(int64(d/time.Second), "second", "seconds")
	}
	return d.Round(time.Millisecond).String()
}
