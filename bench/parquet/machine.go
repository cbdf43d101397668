package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/expunge/expunge/bench/process"
)

// machine runs the peers of a case as processes.
type machine struct {
	options
	ctx context.Context
}

// used is what one process took.
type used = process.Used

// process runs a command to its end and decodes the last line that it prints,
// if answer is not nil.
func (m *machine) process(answer any, name string, args ...string) (used, error) {
	return process.Run(m.ctx, answer, name, args...)
}

func (m *machine) duck(answer any, args ...string) (used, error) {
	return m.process(answer, m.python, append([]string{filepath.Join(m.scripts, "duck.py")}, args...)...)
}

// self runs this program again, to do one thing as a process of its own.
func (m *machine) self(answer any, args ...string) (used, error) {
	exe, err := os.Executable()
	if err != nil {
		return used{}, err
	}
	return m.process(answer, exe, append([]string{"child"}, args...)...)
}

// need makes a data file unless it is there.
func (m *machine) need(d data) (string, error) {
	path := m.path(d.File)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if d.Times > 1 {
		src, err := m.need(zstdFile)
		if err == nil {
			err = repeat(m.ctx, src, path, d.Times)
		}
		return path, err
	}
	args := []string{filepath.Join(m.scripts, "data.py"), path, "--rows", strconv.Itoa(d.Rows), "--codec", d.Codec}
	if d.Sorted {
		args = append(args, "--sorted")
	}
	if d.Bloom {
		args = append(args, "--bloom")
	}
	_, err := m.process(nil, m.python, args...)
	return path, err
}

// keys makes a file of keys for a file of so many rows unless it is there.
func (m *machine) keys(name string, rows int) (string, error) {
	path := m.path(fmt.Sprintf("keys-%d-%s.parquet", rows, name))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	_, err := m.process(nil, m.python, filepath.Join(m.scripts, "data.py"), path, "--rows", strconv.Itoa(rows), "--keys", name)
	return path, err
}

// warm reads a file, so that every peer finds it in the page cache.
func warm(path string) error {
	return exec.Command("cp", path, "/dev/null").Run()
}

// describe notes on what the results were measured.
func (m *machine) describe(all *results) error {
	var versions struct{ Duckdb, Pyarrow string }
	if _, err := m.duck(&versions, "versions"); err != nil {
		return err
	}
	all.Machine = fmt.Sprintf("%d CPUs (%s), %s/%s, Go %s, DuckDB %s; files written by pyarrow %s",
		runtime.NumCPU(), cpuModel(), runtime.GOOS, runtime.GOARCH, strings.TrimPrefix(runtime.Version(), "go"), versions.Duckdb, versions.Pyarrow)
	return nil
}

func cpuModel() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}
