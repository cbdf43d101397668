package cli

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/expunge/expunge/internal/clock"
)

// progress is a Reporter with an end.
type progress interface {
	Reporter
	Close()
}

// progress chooses how progress is shown: JSON objects, nothing, bars on a terminal, or plain lines.
func (a *app) progress() progress {
	switch {
	case a.json:
		return eventLines{a.out}
	case a.quiet:
		return warningsOnly{a.io.Err}
	case a.io.ErrTTY && !a.noProgress:
		return &bars{w: mpb.New(mpb.WithOutput(a.io.Err), mpb.WithWidth(48), mpb.WithRefreshRate(150*time.Millisecond)), open: map[string]*mpb.Bar{}}
	}
	return &plainLines{w: a.io.Err, last: map[string]time.Time{}, started: map[string]bool{}}
}

// eventLines writes every event as a JSON line.
type eventLines struct{ out *output }

func (e eventLines) Report(ev Event) {
	kind := ev.Type
	if kind == "" {
		kind = "progress"
	}
	ev.Type = ""
	e.out.emit(kind, struct {
		Event
		Type string `json:"type,omitempty"` // hides the embedded one
	}{Event: ev})
}

func (eventLines) Close() {}

// warningsOnly is --quiet.
type warningsOnly struct{ w io.Writer }

func (q warningsOnly) Report(e Event) {
	if e.Type == "warning" {
		fmt.Fprintln(q.w, "warning:", e.Message)
	}
}

func (warningsOnly) Close() {}

// plainLines is for logs: a line when a step starts, and one every few seconds within it.
type plainLines struct {
	mu      sync.Mutex
	w       io.Writer
	last    map[string]time.Time
	started map[string]bool
}

// lineEvery is the least time between two progress lines of one step.
const lineEvery = 10 * time.Second

func (l *plainLines) Report(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch e.Type {
	case "warning":
		fmt.Fprintln(l.w, "warning:", subject(e)+e.Message)
	case "note":
		fmt.Fprintln(l.w, subject(e)+e.Message)
	case "step":
		fmt.Fprintln(l.w, label(e))
	default:
		key := e.Step + "\x00" + e.Target
		ends := e.Total > 0 && e.Done >= e.Total
		if t, ok := l.last[key]; ok && !ends && clock.Now(context.Background()).Sub(t) < lineEvery {
			return
		}
		if ends && l.started[key] {
			return
		}
		l.last[key] = clock.Now(context.Background())
		l.started[key] = ends
		fmt.Fprintf(l.w, "%s: %s\n", label(e), amount(e))
	}
}

func (*plainLines) Close() {}

func label(e Event) string {
	if e.Target == "" {
		return e.Step
	}
	return e.Step + " " + e.Target
}

func subject(e Event) string {
	if e.Target == "" {
		return ""
	}
	return e.Target + ": "
}

func amount(e Event) string {
	show := number
	unit := " " + e.Unit
	if e.Unit == "bytes" {
		show, unit = bytesOf, ""
	}
	if e.Total > 0 {
		return show(e.Done) + " of " + show(e.Total) + unit
	}
	return show(e.Done) + unit
}

// bars draws one bar a target of the current step on a terminal. A bar goes when
// it is full or the next step begins: a job may have thousands of targets.
type bars struct {
	mu   sync.Mutex
	w    *mpb.Progress
	step string
	open map[string]*mpb.Bar
}

func (b *bars) Report(e Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e.Type {
	case "warning":
		fmt.Fprintln(b.w, "warning:", subject(e)+e.Message)
		return
	case "note":
		fmt.Fprintln(b.w, subject(e)+e.Message)
		return
	case "step":
		if e.Message != "" {
			fmt.Fprintln(b.w, label(e)+": "+e.Message)
		}
		return
	}
	if e.Step != b.step {
		b.drop()
		b.step = e.Step
	}
	key := e.Step + "\x00" + e.Target
	bar, ok := b.open[key]
	if ok && bar.Completed() {
		return // one that comes again, on a resume
	}
	if !ok {
		bar = b.bar(e)
		b.open[key] = bar
	}
	if e.Total > 0 {
		bar.SetTotal(e.Total, false)
	}
	bar.SetCurrent(e.Done)
	if e.Total > 0 && e.Done >= e.Total {
		bar.SetTotal(e.Total, true)
	}
}

func (b *bars) bar(e Event) *mpb.Bar {
	counters := decor.CountersNoUnit("%d / %d "+e.Unit, decor.WCSyncSpace)
	if e.Unit == "bytes" {
		counters = decor.CountersKibiByte("% .1f / % .1f", decor.WCSyncSpace)
	}
	return b.w.AddBar(e.Total,
		mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name(label(e), decor.WCSyncSpaceR)),
		mpb.AppendDecorators(counters, decor.OnComplete(decor.AverageETA(decor.ET_STYLE_GO, decor.WCSyncSpace), "")),
	)
}

// drop removes the bars that are not full yet.
func (b *bars) drop() {
	for key, bar := range b.open {
		if !bar.Completed() {
			bar.Abort(true)
		}
		delete(b.open, key)
	}
}

// Close clears the bars from the screen.
func (b *bars) Close() {
	b.mu.Lock()
	b.drop()
	b.mu.Unlock()
	b.w.Wait()
}
