// Command compact measures expunge compact beside Spark's rewrite_data_files
// and rewrite_position_delete_files on the same table: version 2, 200 small
// files, a tenth of the rows hidden by position deletes.
//
// table.py has Spark write the table. Each peer gets a copy of it at the same
// place, made of links to the same data files. CPU seconds are user and system
// time of expunge's process, its verification, purge and manifest included, and
// of the JVM between the first call and the end of the last, its start left
// out. DuckDB reads both results with their Iceberg metadata and must see the
// same rows; then it scans the data files of both in turns, since a clean
// table must not be slower to read than one that never had deletes, which is
// what Spark wrote.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"github.com/expunge/expunge/bench/process"
)

type bench struct {
	ctx                  context.Context
	dir, python, tool    string
	script, report       string
	rows, files, rounds  int
	results, folder, was string // the JSON file; where a peer works; the untouched table
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	b := &bench{ctx: ctx}
	phases := flag.String("phases", "make,expunge,spark,scan", "what to do, in this order; each goes on where the last one ended")
	flag.StringVar(&b.dir, "dir", ".cache/bench-compact", "where the tables live (10 GB)")
	flag.StringVar(&b.python, "python", ".cache/interop/venv/bin/python", "Python with pyspark and duckdb")
	flag.StringVar(&b.tool, "tool", "bin/expunge", "the expunge command")
	flag.StringVar(&b.script, "script", "bench/compact/table.py", "Spark's and DuckDB's side")
	flag.StringVar(&b.report, "report", "docs/benchmarks.md", "report to write the table into")
	flag.IntVar(&b.rows, "rows", 24_000_000, "rows of the table")
	flag.IntVar(&b.files, "files", 200, "files of the table")
	flag.IntVar(&b.rounds, "rounds", 5, "scans of each table")
	flag.Parse()
	if err := b.run(strings.Split(*phases, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (b *bench) run(phases []string) error {
	dir, err := filepath.Abs(b.dir)
	if err != nil {
		return err
	}
	b.dir, b.folder, b.was = dir, filepath.Join(dir, "lake"), filepath.Join(dir, "made")
	b.results = filepath.Join(dir, "results.json")
	r := &results{}
	if raw, err := os.ReadFile(b.results); err == nil {
		if err := json.Unmarshal(raw, r); err != nil {
			return err
		}
	}
	steps := map[string]func(*results) error{"make": b.make, "expunge": b.expunge, "spark": b.spark, "scan": b.scan}
	for _, p := range phases {
		step := steps[p]
		if step == nil {
			return fmt.Errorf("no phase %q", p)
		}
		fmt.Fprintln(os.Stderr, "==", p)
		if err := step(r); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		raw, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(b.results, raw, 0o644); err != nil {
			return err
		}
	}
	if len(r.Scans) == 0 {
		return nil
	}
	return b.write(r)
}

// make writes the table and puts it aside.
func (b *bench) make(r *results) error {
	if err := os.RemoveAll(b.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(b.folder, 0o755); err != nil {
		return err
	}
	*r = results{}
	if _, err := b.do(&r.Table, b.python, b.script, "make", b.folder, fmt.Sprint(b.rows), fmt.Sprint(b.files)); err != nil {
		return err
	}
	if _, err := b.do(&r.Before, b.python, b.script, "digest", b.folder); err != nil {
		return err
	}
	return os.Rename(b.folder, b.was)
}

// peer lets a peer work on a copy of the table and keeps what comes out of it.
func (b *bench) peer(name string, after *seen, work func() error) error {
	if err := errors.Join(os.RemoveAll(b.folder), os.RemoveAll(filepath.Join(b.dir, name))); err != nil {
		return err
	}
	if err := exec.CommandContext(b.ctx, "cp", "-rl", b.was, b.folder).Run(); err != nil {
		return err
	}
	// The catalog is changed in place, so it is no link.
	db := filepath.Join(b.folder, "catalog.db")
	raw, err := os.ReadFile(db)
	if err == nil {
		err = errors.Join(os.Remove(db), os.Remove(filepath.Join(b.folder, "live.json")), os.WriteFile(db, raw, 0o644))
	}
	if err == nil {
		err = work()
	}
	if err != nil {
		return err
	}
	if _, err := b.do(after, b.python, b.script, "digest", b.folder); err != nil {
		return err
	}
	return os.Rename(b.folder, filepath.Join(b.dir, name))
}

func (b *bench) expunge(r *results) error {
	job := filepath.Join(b.dir, "job.yaml")
	keys := filepath.Join(b.dir, "keys.csv")
	text := fmt.Sprintf("version: 1\nname: bench\nstate: %q\ngrace: 0s\nlimits: {share: 100%%}\nengine: {workers: 2}\ncatalogs:\n"+
		"  lake: {type: sql, uri: \"sqlite:///%s/catalog.db\", warehouse: \"file://%s/warehouse\"}\n"+
		"keysets:\n  users: {source: %q, key: {user_id: int64}}\ntargets:\n  - {table: lake.db.t, match: [{users: user_id}], action: delete}\n"+
		"compact: {delete_files: 1, small_files: 384MiB}\n", filepath.Join(b.dir, "state"), b.folder, b.folder, keys)
	err := errors.Join(os.WriteFile(job, []byte(text), 0o644), os.WriteFile(keys, []byte("user_id\n1\n"), 0o644), os.RemoveAll(filepath.Join(b.dir, "state")))
	if err != nil {
		return err
	}
	return b.peer("by-expunge", &r.Expunge.After, func() (err error) {
		r.Expunge.used, err = b.do(nil, b.tool, "compact", job, "--yes", "--json")
		return err
	})
}

func (b *bench) spark(r *results) error {
	return b.peer("by-spark", &r.Spark.After, func() error {
		_, err := b.do(&r.Spark.used, b.python, b.script, "spark", b.folder)
		return err
	})
}

func (b *bench) scan(r *results) error {
	r.Scans = nil
	tables := []string{"expunge=" + filepath.Join(b.dir, "by-expunge"), "spark=" + filepath.Join(b.dir, "by-spark")}
	for range b.rounds {
		var s map[string]scanned
		if _, err := b.do(&s, b.python, b.script, "scan", tables[0], tables[1]); err != nil {
			return err
		}
		r.Scans = append(r.Scans, s)
		slices.Reverse(tables)
	}
	return nil
}

// do runs a command and decodes the last line that it prints.
func (b *bench) do(answer any, name string, args ...string) (used, error) {
	u, err := process.Run(b.ctx, answer, name, args...)
	return used(u), err
}
