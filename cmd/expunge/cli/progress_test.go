package cli

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestBarsEndWhateverWasReported(t *testing.T) {
	defer goleak.VerifyNone(t)
	a := &app{io: Stdio{Err: &bytes.Buffer{}, ErrTTY: true}, out: &output{}}
	p := a.progress()
	if _, ok := p.(*bars); !ok {
		t.Fatalf("a terminal gets %T", p)
	}
	for step := range 3 {
		for i := range 300 {
			e := Event{Type: "progress", Step: fmt.Sprint("step", step), Target: fmt.Sprint("t", i), Unit: "files"}
			for _, done := range []int64{0, 5, 10, 10, 3} { // past its end and back, as after a resume
				e.Done, e.Total = done, 10
				if i%3 == 0 {
					e.Total = 0 // unknown
				}
				p.Report(e)
			}
		}
		p.Report(Event{Type: "note", Message: "between"})
		p.Report(Event{Type: "step", Step: "next"})
	}
	ended := make(chan struct{})
	go func() { p.Close(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("Close does not return")
	}
}

func TestPlainLinesAreFewAndShowTheEnd(t *testing.T) {
	var out bytes.Buffer
	a := &app{io: Stdio{Err: &out}, out: &output{}}
	p := a.progress()
	for i := range int64(10_001) {
		p.Report(Event{Type: "progress", Step: "scan", Target: "a", Done: i, Total: 10_000, Unit: "files"})
	}
	p.Close()
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) > 4 || lines[len(lines)-1] != "scan a: 10,000 of 10,000 files" {
		t.Errorf("%d lines, the last %q", len(lines), lines[len(lines)-1])
	}
}
