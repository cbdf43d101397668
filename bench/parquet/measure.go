package main

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"github.com/expunge/expunge/bench/process"
	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/internal/storage"
)

// measure runs a case and checks its answers.
func (m *machine) measure(c benchCase) (*result, error) {
	if c.Kind == kindSize {
		return m.measureSize(c)
	}
	src, err := m.need(c.Data)
	if err != nil {
		return nil, err
	}
	keys, err := m.keys(c.Keys, c.Data.Rows)
	if err != nil {
		return nil, err
	}
	r := &result{Case: c.Name, Title: c.Title, Kind: c.Kind, Goal: c.Goal}
	if err := warm(src); err != nil {
		return nil, err
	}
	switch c.Kind {
	case kindRewrite:
		return r, m.measureRewrite(c, r, src, keys)
	case kindCost:
		return r, m.measureCost(c, r, src, keys)
	}
	return r, m.measureScan(c, r, src, keys)
}

// The peers of a rewrite.
const (
	peerCp      = "cp"
	peerOurs    = "expunge rewrite" // the rows are known
	peerCommand = "expunge file erase"
	peerDuck    = "DuckDB default"
	peerBest    = "DuckDB best"
	peerWithout = "without"
)

// rewritePeers are run in turns. All write the same file.
func (m *machine) rewritePeers(c benchCase, src, keys, rows, out string) []peer {
	duck := func(setting string) func(any) (used, error) {
		return func(any) (used, error) { return m.duck(nil, "rewrite", src, keys, out, c.Data.Codec, setting) }
	}
	peers := []peer{
		{peerCp, func(any) (used, error) { return m.copyFile(src, out) }},
		{peerOurs, func(a any) (used, error) { return m.self(a, childRewrite, src, rows, out) }},
		{peerCommand, func(any) (used, error) {
			return m.process(nil, m.tool, "file", "erase", src, "-o", out, "--column", "user_id", "--keys", keys, "--workers", strconv.Itoa(workers), "--sha256", "-q")
		}},
	}
	if c.Data.Codec == "zstd" {
		peers = append(peers, peer{peerDuck, duck("default")})
	}
	return append(peers, peer{peerBest, duck("best")})
}

// copyFile is cp with the same fsync.
func (m *machine) copyFile(src, out string) (used, error) {
	return m.process(nil, "sh", "-c", `cp --reflink=never "$0" "$1" && sync "$1"`, src, out)
}

type peer struct {
	name string
	run  func(answer any) (used, error)
}

// rounds runs the peers in turns, each onto a fresh output.
func (m *machine) turns(r *result, peers []peer, out string, after func(round int, p peer) error) error {
	for round := range m.rounds {
		for _, p := range peers {
			if err := os.RemoveAll(out); err != nil {
				return err
			}
			var answer any
			if p.name == peerOurs {
				answer = &r.Rewritten
			}
			u, err := p.run(answer)
			if err != nil {
				return err
			}
			fmt.Fprintf(os.Stderr, "   %-20s %7.2f s %7.2f CPU-s %5d MB\n", p.name, u.Wall, u.CPU, u.RSS>>20)
			r.add(p.name, u)
			if st, err := os.Stat(out); err == nil {
				r.Sizes[p.name] = st.Size()
			}
			if err := after(round, p); err != nil {
				return err
			}
		}
	}
	return os.RemoveAll(out)
}

func (m *machine) measureRewrite(c benchCase, r *result, src, keys string) error {
	rows, out := m.path("rows.bin"), m.path("out.parquet")
	if _, err := m.self(nil, childRows, src, keys, rows, "0"); err != nil {
		return err
	}
	defer os.Remove(rows)
	var want, got digest
	if _, err := m.duck(&want, "digest", src, keys); err != nil {
		return err
	}
	check := func(round int, p peer) error {
		if round > 0 || p.name != peerOurs && p.name != peerBest {
			return nil
		}
		if _, err := m.duck(&got, "digest", out); err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("%s: answer differs: %+v, DuckDB's own %+v", p.name, got, want)
		}
		return nil
	}
	if err := m.turns(r, m.rewritePeers(c, src, keys, rows, out), out, check); err != nil {
		return err
	}
	r.Checked, r.Digest = true, want.Digest
	return m.source(r, src)
}

// digest is DuckDB's, over all columns in their order.
type digest struct {
	Rows   int64
	Digest string
}

func (m *machine) source(r *result, src string) error {
	st, err := os.Stat(src)
	if err == nil {
		r.Source = st.Size()
	}
	return err
}

// measureCost runs the rewriter with and without something.
func (m *machine) measureCost(c benchCase, r *result, src, keys string) error {
	rows, out := m.path("rows.bin"), m.path("out.parquet")
	if _, err := m.self(nil, childRows, src, keys, rows, "0"); err != nil {
		return err
	}
	defer os.Remove(rows)
	other := peer{peerWithout, nil}
	with := peer{peerOurs, func(a any) (used, error) { return m.self(a, childRewrite, src, rows, out) }}
	switch c.Name {
	case "cost-check":
		other.run = func(any) (used, error) { return m.self(nil, childRewrite, src, rows, out, "nocheck") }
	case "cost-digest":
		other.run = with.run
		with.run = func(a any) (used, error) { return m.self(a, childRewrite, src, rows, out, "digest") }
	default:
		plain, err := m.need(plainFile)
		if err != nil {
			return err
		}
		if err := warm(plain); err != nil {
			return err
		}
		other.run = func(any) (used, error) { return m.self(nil, childRewrite, plain, rows, out) }
	}
	if err := m.turns(r, []peer{with, other}, out, func(int, peer) error { return nil }); err != nil {
		return err
	}
	return m.source(r, src)
}

// measureScan compares CPU time inside two processes that have the keys in
// memory already.
func (m *machine) measureScan(c benchCase, r *result, src, keys string) error {
	for range m.rounds {
		var ours, theirs scanned
		if _, err := m.self(&ours, childScan, src, keys, c.Column, "3"); err != nil {
			return err
		}
		if _, err := m.duck(&theirs, "scan", src, keys, c.Column, "3"); err != nil {
			return err
		}
		if ours.Found != theirs.Found {
			return fmt.Errorf("found %d rows, DuckDB %d", ours.Found, theirs.Found)
		}
		r.add(peerOurs, used{CPU: process.Median(ours.CPU)})
		r.add(peerBest, used{CPU: process.Median(theirs.CPU)})
		r.Scanned = ours
		fmt.Fprintf(os.Stderr, "   %7.3f CPU-s, DuckDB %7.3f, %d rows\n", process.Median(ours.CPU), process.Median(theirs.CPU), ours.Found)
	}
	r.Checked = true
	r.Rows = int64(c.Data.Rows)
	return m.source(r, src)
}

// measureSize erases one row, and users in about a fifth of the pages, of a
// file of one size.
func (m *machine) measureSize(c benchCase) (*result, error) {
	src, err := m.need(c.Data)
	if err != nil {
		return nil, err
	}
	if c.Data.Times > 1 {
		defer os.Remove(src)
	}
	of := c.Data.Rows / max(1, c.Data.Times)
	keys, err := m.keys(fmt.Sprintf("n%d", max(1, of/700_000)), of)
	if err != nil {
		return nil, err
	}
	r := &result{Case: c.Name, Title: c.Title, Kind: c.Kind}
	out := m.path("out.parquet")
	peers := []peer{{peerCp, func(any) (used, error) { return m.copyFile(src, out) }}}
	for _, p := range []struct{ name, limit string }{{peerOne, "1"}, {peerShare, "0"}} {
		rows := m.path("rows-" + p.limit + ".bin")
		if _, err := m.self(nil, childRows, src, keys, rows, p.limit); err != nil {
			return nil, err
		}
		defer os.Remove(rows)
		peers = append(peers, peer{p.name, func(any) (used, error) { return m.self(&r.Rewritten, childRewrite, src, rows, out) }})
	}
	if err := warm(src); err != nil {
		return nil, err
	}
	if err := m.turns(r, peers, out, func(int, peer) error { return nil }); err != nil {
		return nil, err
	}
	return r, m.source(r, src)
}

const (
	peerOne   = "one row"
	peerShare = "a fifth of the pages"
)

// columnBytes is the size of a column's chunks.
func columnBytes(ctx context.Context, obj storage.Object, column string) (int64, error) {
	f, err := pq.Open(ctx, obj, obj.Info().Size)
	if err != nil {
		return 0, err
	}
	path, err := pq.ParsePath(column)
	if err != nil {
		return 0, err
	}
	col, err := f.Schema.Resolve(pq.Ref{Path: path})
	if err != nil {
		return 0, err
	}
	var n int64
	for _, g := range f.RowGroups {
		n += g.Meta.Columns[col.Index].MetaData.TotalCompressedSize
	}
	return n, nil
}
