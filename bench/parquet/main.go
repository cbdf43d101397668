// Command parquet measures the rewriting and scanning of Parquet files beside
// cp and DuckDB, and writes a table, a JSON file and pictures.
//
// data.py makes the files, deterministically; duck.py is DuckDB's side, and
// judges both sides' answers. Every measurement is a process of its own, whose
// CPU seconds (user and system, of all its threads) and peak memory come from
// the kernel when it ends; the peers of a case run in turns, and ratios are
// medians over the rounds. Both sides have two threads and fsync what they
// wrote. Results are merged into the JSON file, so that cases can be measured
// one by one (-only) and the report always shows all of them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
)

// options are the command's flags.
type options struct {
	dir, python, tool, scripts string
	json, report, images       string
	rounds                     int
	only                       *regexp.Regexp
	keep                       bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if len(os.Args) > 1 && os.Args[1] == "child" {
		exit(child(ctx, os.Args[2:]))
	}
	o, err := parseFlags()
	if err == nil {
		err = run(ctx, o)
	}
	exit(err)
}

func exit(err error) {
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func parseFlags() (o options, err error) {
	f := flag.NewFlagSet("parquet", flag.ContinueOnError)
	f.StringVar(&o.dir, "dir", ".cache/bench", "where the data files live (up to 12 GB)")
	f.StringVar(&o.python, "python", ".cache/interop/venv/bin/python", "Python with duckdb, numpy and pyarrow")
	f.StringVar(&o.tool, "tool", "bin/expunge", "the expunge command")
	f.StringVar(&o.scripts, "scripts", "bench/parquet", "where data.py and duck.py are")
	f.StringVar(&o.json, "json", "docs/benchmarks.json", "results: read, merged, written")
	f.StringVar(&o.report, "report", "docs/benchmarks.md", "report to write")
	f.StringVar(&o.images, "images", "docs/img", "folder of the pictures")
	f.IntVar(&o.rounds, "rounds", 3, "rounds of each case")
	f.BoolVar(&o.keep, "keep", true, "keep the data files; the large ones of the size series always go")
	only := f.String("only", "", "measure the cases whose name matches this regular expression; - for none, to write the report again")
	if err := f.Parse(os.Args[1:]); err != nil {
		return o, flag.ErrHelp
	}
	o.only, err = regexp.Compile(*only)
	return o, err
}

// run measures the chosen cases one after the other; each is in the JSON file
// before the next one starts.
func run(ctx context.Context, o options) error {
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return err
	}
	all, err := readResults(o.json)
	if err != nil {
		return err
	}
	m := &machine{options: o, ctx: ctx}
	if err := m.describe(all); err != nil {
		return err
	}
	for _, c := range cases() {
		if !o.only.MatchString(c.Name) {
			continue
		}
		fmt.Fprintln(os.Stderr, "==", c.Name, "·", c.Title)
		r, err := m.measure(c)
		if err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
		all.put(r)
		if err := all.write(o.json); err != nil {
			return err
		}
	}
	if err := writeReport(o, all); err != nil {
		return err
	}
	if !o.keep {
		return os.RemoveAll(o.dir)
	}
	return nil
}

// path is a file in the data folder.
func (m *machine) path(name string) string { return filepath.Join(m.dir, name) }
