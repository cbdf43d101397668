package manifests

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"
)

//go:embed report.html
var reportHTML string

var reportTemplate = template.Must(template.New("report").Funcs(template.FuncMap{
	"stamp": stamp, "day": day, "group": group, "size": size, "percent": percent, "yes": yes,
	"words": func(s string) string { return strings.ReplaceAll(s, "_", " ") },
	"join":  strings.Join, "met": met, "count": count,
}).Parse(reportHTML))

// HTML writes the report: one self-contained file without scripts, fonts or
// network, readable in print and without colour, in dark and light. checks may
// be nil when nothing was verified; the report then says so.
func HTML(w io.Writer, m *Manifest, checks []Check) error {
	v := reportView{M: m, Checks: checks, Headline: Headline(m), Explain: Explain(m), Bars: bars(m), Bytes: byteBars(m), Timeline: timeline(m)}
	v.Good = m.Outcome.Result == Erased || m.Outcome.Result == ErasedPending || m.Outcome.Result == NothingToErase
	v.OK, v.Skipped = Verified(checks)
	v.Envelope, v.Sidecar, v.Proof = EnvelopeName(m.ID), SidecarName(m.ID), ProofName(m.ID)
	v.Scope = map[string]Included{}
	for _, s := range m.Scope.Included {
		v.Scope[s.Target] = s
	}
	if err := reportTemplate.Execute(w, v); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

type reportView struct {
	M                        *Manifest
	Checks                   []Check
	OK, Good                 bool
	Skipped                  []string
	Headline, Explain        string
	Envelope, Sidecar, Proof string
	Scope                    map[string]Included
	Bars, Bytes              []bar
	Timeline                 []mark
}

// bar is one bar of a chart: widths in thousandths of the chart.
type bar struct {
	Label, Value string
	A, B         int64
}

// maxBars bounds a chart; the tables below it have every target.
const maxBars = 20

// bars shows erased rows by target.
func bars(m *Manifest) []bar {
	var top int64
	for i := range m.Targets {
		top = max(top, m.Targets[i].RowsErased)
	}
	var out []bar
	for i := range m.Targets {
		if t := &m.Targets[i]; t.RowsErased > 0 && len(out) < maxBars {
			out = append(out, bar{Label: t.Name, Value: group(t.RowsErased), A: max(1, t.RowsErased*1000/top)})
		}
	}
	return out
}

// byteBars shows bytes copied as they were against bytes encoded anew.
func byteBars(m *Manifest) []bar {
	var out []bar
	for i := range m.Targets {
		t := &m.Targets[i]
		sum := t.BytesCopied + t.BytesEncoded
		if sum == 0 || len(out) == maxBars {
			continue
		}
		a := int64(float64(t.BytesCopied) / float64(sum) * 1000)
		out = append(out, bar{Label: t.Name, Value: size(t.BytesCopied) + " copied, " + size(t.BytesEncoded) + " encoded", A: a, B: 1000 - a})
	}
	return out
}

// mark is a moment on the timeline, which runs from 20 to 1020.
type mark struct {
	Label, Time string
	X           int64
}

func timeline(m *Manifest) []mark {
	t := m.Times
	span := t.End.Sub(t.Start)
	out := []mark{{Label: "start", Time: stamp(t.Start), X: 20}}
	at := func(label string, when *time.Time) {
		if when == nil {
			return
		}
		place := int64(1000)
		if span > 0 {
			place = min(1000, max(0, int64(when.Sub(t.Start)*1000/span)))
		}
		out = append(out, mark{Label: label, Time: stamp(*when), X: 20 + place})
	}
	at("committed", t.Commit)
	at("verified", t.Verified)
	at("purged", t.Purged)
	at("end", &t.End)
	return out
}
