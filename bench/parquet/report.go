package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A report is written between marks, so that the page around it can be edited.
const (
	markStart = "<!-- bench-parquet: from here on written by make bench-parquet -->"
	markEnd   = "<!-- bench-parquet: end -->"
)

func writeReport(o options, all *results) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\nMeasured on %s.\n\n", markStart, all.Machine)
	rewriteTable(&b, all)
	fmt.Fprint(&b, "![Cost against the share of touched pages](img/bench-share.svg)\n\n")
	scanTable(&b, all)
	costTable(&b, all)
	sizeTable(&b, all)
	fmt.Fprintf(&b, "%s\n", markEnd)
	if err := writePictures(o.images, all); err != nil {
		return err
	}
	return splice(o.report, b.String())
}

// splice replaces what stands between the marks, or appends.
func splice(path, part string) error {
	page, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	before, rest, found := strings.Cut(string(page), markStart)
	after := ""
	if found {
		_, after, _ = strings.Cut(rest, markEnd+"\n")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(before+part+after), 0o644)
}

func rewriteTable(b *strings.Builder, all *results) {
	fmt.Fprint(b, "| case | pages touched | cp, s | rewrite, s / CPU-s / MB of memory | with keys, scan and SHA-256, s / CPU-s | DuckDB default, s / CPU-s | DuckDB best, s / CPU-s | × cp | default ÷ rewrite, wall / CPU | best ÷ rewrite, wall / CPU | goal | reached |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range all.of(kindRewrite) {
		fmt.Fprintf(b, "| %s | %.1f %% | %.2f | %s | %s | %s | %s | %.1f | %s | %s | %s | %s |\n",
			r.Title, r.share(), r.mid(peerCp, wall), r.three(peerOurs), r.two(peerCommand), r.two(peerDuck), r.two(peerBest),
			r.ratio(peerOurs, peerCp, wall), r.times(peerDuck), r.times(peerBest), r.Goal, r.verdict())
	}
	fmt.Fprintln(b)
}

func (r *result) two(peer string) string {
	if len(r.Peers[peer]) == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f / %.2f", r.mid(peer, wall), r.mid(peer, cpu))
}

// times is how many times what the rewrite takes a peer takes.
func (r *result) times(peer string) string {
	if len(r.Peers[peer]) == 0 {
		return "–"
	}
	return fmt.Sprintf("%.1f / %.1f", r.ratio(peer, peerOurs, wall), r.ratio(peer, peerOurs, cpu))
}

// String is the goal in words.
func (g goal) String() string {
	var s []string
	add := func(v float64, text string) {
		if v != 0 {
			s = append(s, fmt.Sprintf(text, v))
		}
	}
	add(g.MaxCp, "≤ %g × cp")
	add(g.Wall, "≥ %g × default in wall")
	add(g.CPU, "≥ %g × default in CPU")
	add(g.BestCPU, "≥ %g × best in CPU")
	add(g.Growth, "growth ≤ %g %%")
	add(g.Share, "≤ %g %% of the key column")
	return strings.Join(s, ", ")
}

// verdict says which of the goals were missed.
func (r *result) verdict() string {
	var missed []string
	check := func(ok bool, text string, v float64) {
		if !ok {
			missed = append(missed, fmt.Sprintf(text, v))
		}
	}
	g := r.Goal
	if g.MaxCp > 0 {
		v := r.ratio(peerOurs, peerCp, wall)
		check(v <= g.MaxCp, "%.1f × cp", v)
	}
	if g.Wall+g.CPU > 0 && len(r.Peers[peerDuck]) == 0 {
		return "DuckDB's default was not run"
	}
	if g.Wall > 0 {
		v := r.ratio(peerDuck, peerOurs, wall)
		check(v >= g.Wall, "%.1f × default in wall", v)
	}
	if g.CPU > 0 {
		v := r.ratio(peerDuck, peerOurs, cpu)
		check(v >= g.CPU, "%.1f × default in CPU", v)
	}
	if g.BestCPU > 0 {
		v := r.ratio(peerBest, peerOurs, cpu)
		check(v >= g.BestCPU, "%.2f × best in CPU", v)
	}
	if g.Growth > 0 {
		check(r.growth() <= g.Growth, "growth %.1f %%", r.growth())
	}
	if g.Share > 0 {
		check(r.keyShare() <= g.Share, "%.1f %%", r.keyShare())
	}
	if len(missed) > 0 {
		return "no: " + strings.Join(missed, ", ")
	}
	return "yes"
}

// growth is by how many percent the output is larger than the input.
func (r *result) growth() float64 {
	return 100 * (float64(r.Sizes[peerOurs])/float64(max(1, r.Source)) - 1)
}

// keyShare is how many percent of the key column a scan read.
func (r *result) keyShare() float64 {
	return 100 * float64(r.Scanned.Key) / float64(max(1, r.Scanned.Column))
}

func scanTable(b *strings.Builder, all *results) {
	fmt.Fprint(b, "| scan | M rows/CPU-s | DuckDB semi-join | ratio | share of the key column read | goal | reached |\n|---|---|---|---|---|---|---|\n")
	for _, k := range []kind{kindScan, kindPruned} {
		for _, r := range all.of(k) {
			m := float64(r.Rows) / 1e6
			fmt.Fprintf(b, "| %s | %.1f | %.1f | %.2f | %.2f %% | %s | %s |\n", r.Title, m/r.mid(peerOurs, cpu), m/r.mid(peerBest, cpu),
				r.ratio(peerBest, peerOurs, cpu), r.keyShare(), r.Goal, r.verdict())
		}
	}
	fmt.Fprintln(b)
}

func costTable(b *strings.Builder, all *results) {
	fmt.Fprint(b, "| what it costs | without, CPU-s | with, CPU-s | more |\n|---|---|---|---|\n")
	for _, r := range all.of(kindCost) {
		fmt.Fprintf(b, "| %s | %.2f | %.2f | %+.0f %% |\n", r.Title, r.mid(peerWithout, cpu), r.mid(peerOurs, cpu), 100*(r.ratio(peerOurs, peerWithout, cpu)-1))
	}
	fmt.Fprintln(b)
}

func sizeTable(b *strings.Builder, all *results) {
	if len(all.of(kindSize)) == 0 {
		return
	}
	fmt.Fprint(b, "| file, MB | cp, s | one row, s / CPU-s / MB of memory | a fifth of the pages, s / CPU-s / MB of memory |\n|---|---|---|---|\n")
	for _, r := range all.of(kindSize) {
		fmt.Fprintf(b, "| %.0f | %.2f | %s | %s |\n", float64(r.Source)/1e6, r.mid(peerCp, wall), r.three(peerOne), r.three(peerShare))
	}
	fmt.Fprint(b, "\n![Cost against the file's size](img/bench-size.svg)\n\n")
}

func (r *result) three(peer string) string {
	return fmt.Sprintf("%.2f / %.2f / %.0f", r.mid(peer, wall), r.mid(peer, cpu), r.mid(peer, rss)/(1<<20))
}
