package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/expunge/expunge/bench/process"
)

// used is what a peer took: seconds, bytes.
type used struct {
	Wall float64 `json:"wall"`
	CPU  float64 `json:"cpu"`
	RSS  int64   `json:"rss,omitempty"`
}

// seen is what a delete-aware reader sees, and how many files it reads.
type seen struct {
	Rows    int64  `json:"rows"`
	Digest  string `json:"digest"`
	Files   int    `json:"files"`
	Deletes int    `json:"deletes"`
	Bytes   int64  `json:"bytes"`
}

type compacted struct {
	used
	After seen `json:"after"`
}

type scanned struct {
	CPU    float64 `json:"cpu"`
	Rows   int64   `json:"rows"`
	Digest string  `json:"digest"`
}

type results struct {
	Table struct {
		Files       int   `json:"files"`
		Bytes       int64 `json:"bytes"`
		DeleteFiles int   `json:"delete_files"`
		Hidden      int64 `json:"hidden"`
	} `json:"table"`
	Before  seen                 `json:"before"`
	Expunge compacted            `json:"expunge"`
	Spark   compacted            `json:"spark"`
	Scans   []map[string]scanned `json:"scans"`
}

// check refuses figures of peers that did not do the same.
func (r *results) check() error {
	for name, c := range map[string]compacted{"expunge": r.Expunge, "Spark": r.Spark} {
		if c.After.Rows != r.Before.Rows || c.After.Digest != r.Before.Digest {
			return fmt.Errorf("%s changed the table: %d rows, before %d", name, c.After.Rows, r.Before.Rows)
		}
		if c.After.Deletes != 0 {
			return fmt.Errorf("%s left %d delete files", name, c.After.Deletes)
		}
	}
	for _, s := range r.Scans {
		for name, x := range s {
			if x.Rows != r.Before.Rows || x.Digest != r.Before.Digest {
				return fmt.Errorf("the data files of %s hold %d rows, want %d", name, x.Rows, r.Before.Rows)
			}
		}
	}
	return nil
}

// scanRatio is the median over the rounds of expunge's table's scan over Spark's.
func (r *results) scanRatio() (ratio, ours, theirs float64) {
	var ratios, a, b []float64
	for _, s := range r.Scans {
		x, y := s["expunge"].CPU, s["spark"].CPU
		ratios, a, b = append(ratios, x/y), append(a, x), append(b, y)
	}
	return process.Median(ratios), process.Median(a), process.Median(b)
}

const (
	markStart = "<!-- bench-compact: from here on written by make bench-compact -->"
	markEnd   = "<!-- bench-compact: end -->"
)

func (b *bench) write(r *results) error {
	if err := r.check(); err != nil {
		return err
	}
	ratio, ours, theirs := r.scanRatio()
	cpu := r.Spark.CPU / r.Expunge.CPU
	var s strings.Builder
	fmt.Fprintf(&s, "%s\n\n", markStart)
	fmt.Fprintf(&s, "%.2f GB in %d files, %d of %d rows hidden by %d position delete files.\n\n", float64(r.Table.Bytes)/1e9, r.Table.Files, r.Table.Hidden, r.Before.Rows+r.Table.Hidden, r.Table.DeleteFiles)
	fmt.Fprintf(&s, "| | CPU-s | s | files after | GB after | DuckDB scans it in, CPU-s |\n|---|---|---|---|---|---|\n")
	for _, x := range []struct {
		name string
		c    compacted
		scan float64
	}{{"expunge compact, verification, purge and manifest included", r.Expunge, ours}, {"Spark: rewrite_data_files, rewrite_position_delete_files; JVM start left out", r.Spark, theirs}} {
		fmt.Fprintf(&s, "| %s | %.1f | %.1f | %d | %.2f | %.2f |\n", x.name, x.c.CPU, x.c.Wall, x.c.After.Files, float64(x.c.After.Bytes)/1e9, x.scan)
	}
	fmt.Fprintf(&s, "\nSpark ÷ expunge in CPU: %.1f (goal ≥ 5: %s). The clean table's scan ÷ that of a table without deletes: %.3f (goal ≤ 1.05: %s), median of %d rounds.\n\n%s\n",
		cpu, reached(cpu >= 5), ratio, reached(ratio <= 1.05), len(r.Scans), markEnd)
	fmt.Print(s.String())
	page, err := os.ReadFile(b.report)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(page), markStart)
	if !found {
		return fmt.Errorf("%s has no mark %s", b.report, markStart)
	}
	_, after, _ := strings.Cut(rest, markEnd+"\n")
	return os.WriteFile(b.report, []byte(before+s.String()+after), 0o644)
}

func reached(ok bool) string {
	if ok {
		return "reached"
	}
	return "not reached"
}
