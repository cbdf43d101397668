package cli

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// printer collects text for people.
type printer struct{ bytes.Buffer }

// line writes one line.
func (p *printer) line(format string, args ...any) {
	fmt.Fprintf(p, format+"\n", args...)
}

// field writes a labelled line; nothing when the value is empty.
func (p *printer) field(label, format string, args ...any) {
	if v := fmt.Sprintf(format, args...); v != "" {
		fmt.Fprintf(p, "%-11s %s\n", label, v)
	}
}

// table writes rows in columns under a head; columns whose head starts with > are numbers, set right.
func (p *printer) table(head []string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	widths := make([]int, len(head))
	right := make([]bool, len(head))
	for i, h := range head {
		name, isRight := strings.CutPrefix(h, ">")
		head[i], right[i], widths[i] = name, isRight, len([]rune(name))
	}
	for _, r := range rows {
		for i := range min(len(r), len(widths)) {
			widths[i] = max(widths[i], len([]rune(r[i])))
		}
	}
	w := tabwriter.NewWriter(p, 0, 0, 2, ' ', 0)
	write := func(cells []string) {
		for i, c := range cells {
			if i < len(right) && right[i] {
				c = strings.Repeat(" ", widths[i]-len([]rune(c))) + c
			}
			if i > 0 {
				fmt.Fprint(w, "\t")
			}
			fmt.Fprint(w, c)
		}
		fmt.Fprint(w, "\n")
	}
	write(head)
	for _, r := range rows {
		write(r)
	}
	_ = w.Flush()
	trimmed := trimLines(p.String())
	p.Reset()
	p.WriteString(trimmed)
}

func trimLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}

// number writes 1234567 as 1,234,567.
func number(n int64) string {
	s := strconv.FormatInt(n, 10)
	start := 0
	if n < 0 {
		start = 1
	}
	for i := len(s) - 3; i > start; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// bytesOf writes a size with three digits: 41.3 MiB.
func bytesOf(n int64) string {
	if n < 1024 {
		return strconv.FormatInt(n, 10) + " B"
	}
	v, unit := float64(n)/1024, 0
	for v >= 1000 && unit < 4 {
		v /= 1024
		unit++
	}
	digits := 1
	if v >= 100 {
		digits = 0
	}
	return strconv.FormatFloat(v, 'f', digits, 64) + " " + []string{"KiB", "MiB", "GiB", "TiB", "PiB"}[unit]
}

// count writes a number with its noun.
func count(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if stem, ok := strings.CutSuffix(noun, "y"); ok && !strings.HasSuffix(noun, "key") {
		return number(n) + " " + stem + "ies"
	}
	return number(n) + " " + noun + "s"
}

// moment writes a time to the minute, in UTC.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04 UTC")
}

func day(t *time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.DateOnly)
}

// took writes how long something lasted.
func took(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d < time.Hour:
		return d.Round(time.Second).String()
	}
	return d.Round(time.Minute).String()
}

// percent writes a part of a whole.
func percent(part, whole int64) string {
	if whole <= 0 {
		return ""
	}
	return strconv.FormatFloat(100*float64(part)/float64(whole), 'f', 2, 64) + " %"
}
