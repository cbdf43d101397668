package manifests

import (
	"fmt"
	"slices"
	"time"
)

// chart is a picture made of bars, one a row; every bar's figures stand beside
// it in words.
type chart struct {
	Title, Note string
	Legend      []legend
	Rows        []bar
	More        string // what the picture leaves out
}

type legend struct{ Class, Text string }

// bar is a row of a chart.
type bar struct {
	Label, Sub, Value string
	Parts             []part
}

// part is a piece of a bar, in thousandths of the chart's width.
type part struct {
	X, W  int64
	Class string // "full" or "open": told apart without colour
}

// maxBars bounds a chart; the tables have every target.
const maxBars = 15

func charts(m *Manifest, b *Breakdown) []chart {
	var out []chart
	for _, c := range []chart{erasedByTarget(m), erasedByPartition(b), bytesMoved(m)} {
		if len(c.Rows) > 0 {
			out = append(out, c)
		}
	}
	return out
}

// scaled is n as a part of top, at least a hair where n is not zero.
func scaled(n, top int64) int64 {
	if n <= 0 || top <= 0 {
		return 0
	}
	return min(1000, max(3, int64(float64(n)/float64(top)*1000)))
}

func erasedByTarget(m *Manifest) chart {
	c := chart{Title: "Rows erased, by target"}
	order := make([]*Target, 0, len(m.Targets))
	for i := range m.Targets {
		if m.Targets[i].RowsErased > 0 {
			order = append(order, &m.Targets[i])
		}
	}
	slices.SortStableFunc(order, func(x, y *Target) int { return int(max(-1, min(1, y.RowsErased-x.RowsErased))) })
	for i, t := range order {
		if i == maxBars {
			c.More = fmt.Sprintf("%s more targets are in the table.", group(int64(len(order)-maxBars)))
			break
		}
		c.Rows = append(c.Rows, bar{t.Name, "", group(t.RowsErased), []part{{0, scaled(t.RowsErased, order[0].RowsErased), "full"}}})
	}
	return c
}

// erasedByPartition shows the partitions with the most erased rows. Partition
// values that may be keys are not in the evidence and so not here.
func erasedByPartition(b *Breakdown) chart {
	c := chart{Title: "Rows erased, by partition"}
	if b == nil {
		return c
	}
	var list []Partition
	hidden := map[string]bool{}
	for _, p := range b.Partitions {
		if p.Keyed {
			hidden[p.Target] = true
		} else if p.Name != "" && p.Erased > 0 {
			list = append(list, p)
		}
	}
	slices.SortStableFunc(list, func(x, y Partition) int { return int(max(-1, min(1, y.Erased-x.Erased))) })
	var rest int64
	for i, p := range list {
		if i >= maxBars {
			rest += p.Erased
			continue
		}
		c.Rows = append(c.Rows, bar{p.Name, p.Target, group(p.Erased), []part{{0, scaled(p.Erased, list[0].Erased), "full"}}})
	}
	if rest > 0 {
		c.More = fmt.Sprintf("%s rows in %s more partitions.", group(rest), group(int64(len(list)-maxBars)))
	}
	if len(hidden) > 0 {
		c.Note = fmt.Sprintf("The partition values of %s may themselves be keys: they are in the evidence as keyed digests only, and not shown.",
			count(int64(len(hidden)), "further target", "further targets"))
	}
	return c
}

func bytesMoved(m *Manifest) chart {
	c := chart{Title: "Bytes of the rewritten files", Note: "Whatever no erased row touches is copied as it was, byte for byte.",
		Legend: []legend{{"full", "copied as they were"}, {"open", "encoded anew"}}}
	for i := range m.Targets {
		t := &m.Targets[i]
		sum := t.BytesCopied + t.BytesEncoded
		if sum == 0 {
			continue
		}
		if len(c.Rows) == maxBars {
			c.More = "More targets are in the table."
			break
		}
		a := int64(float64(t.BytesCopied) / float64(sum) * 1000)
		c.Rows = append(c.Rows, bar{t.Name, "", size(t.BytesCopied) + " copied, " + size(t.BytesEncoded) + " encoded anew",
			[]part{{0, a, "full"}, {a, 1000 - a, "open"}}})
	}
	return c
}

// moment is a named point in time.
type moment struct {
	name string
	at   *time.Time
}

// steps is the run's own timeline: what followed what, and how long it took.
func steps(m *Manifest) chart {
	c := chart{Title: "The run, step by step"}
	t := m.Times
	first := "Find and rewrite, then commit"
	if m.Kind != KindRun {
		first = "Commit"
	}
	last, total := t.Start, t.End.Sub(t.Start)
	if total <= 0 {
		return c
	}
	all := []moment{{first, t.Commit}, {"Verify independently", t.Verified}, {"Remove old copies", t.Purged}, {"Close and sign", &t.End}}
	slices.SortStableFunc(all, func(x, y moment) int {
		if x.at == nil || y.at == nil {
			return 0
		}
		return x.at.Compare(*y.at)
	})
	for _, p := range all {
		if p.at == nil || p.at.Before(last) || p.at.After(t.End) {
			continue
		}
		took := p.at.Sub(last)
		x := int64(float64(last.Sub(t.Start)) / float64(total) * 1000)
		c.Rows = append(c.Rows, bar{p.name, "", fmt.Sprintf("%s, until %s", span(took), p.at.UTC().Format("15:04:05")), []part{{min(x, 997), scaled(int64(took), int64(total)), "full"}}})
		last = *p.at
	}
	c.Note = fmt.Sprintf("From %s to %s.", stamp(t.Start), stamp(t.End))
	return c
}

// clock is the calendar: from the first request to the deadline.
func clock(m *Manifest) chart {
	c := chart{Title: "From the first request"}
	p, t := m.Policy, m.Times
	if p.EarliestRequest == nil {
		return c
	}
	from, to := *p.EarliestRequest, t.End
	for _, at := range []*time.Time{p.Deadline, t.PurgeDue} {
		if at != nil && at.After(to) {
			to = *at
		}
	}
	total := to.Sub(from)
	if total <= 0 {
		return c
	}
	row := func(label, class string, a, b time.Time) {
		x := int64(float64(a.Sub(from)) / float64(total) * 1000)
		w := scaled(int64(b.Sub(a)), int64(total))
		c.Rows = append(c.Rows, bar{label, "", fmt.Sprintf("%s, %s to %s", span(b.Sub(a)), day(a), day(b)), []part{{min(x, 1000-w), w, class}}})
	}
	if p.Deadline != nil {
		row("Time allowed", "open", from, *p.Deadline)
	}
	row("Request to the end of this step", "full", from, t.End)
	if t.PurgeDue != nil && t.PurgeDue.After(t.End) {
		row("Old copies kept so that the run can be undone", "open", t.End, *t.PurgeDue)
	}
	return c
}
