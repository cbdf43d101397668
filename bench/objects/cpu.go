package main

import (
	"bufio"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/expunge/expunge/bench/process"
	"github.com/expunge/expunge/internal/storage"
)

// repeats is how often each program runs; the runs of one round stand next to
// each other, so that what else the machine does hits all of them.
const repeats = 3

const pythonScript = `
import sys, gzip, json
src, dst = sys.argv[1:3]
users = set(range(0, 90000, 97))
op = gzip.open if src.endswith(".gz") else open
with op(src, "rt") as i, op(dst, "wt") as o:
    for line in i:
        if json.loads(line)["user"]["id"] not in users:
            o.write(line)
`

const duckScript = `
import sys, duckdb
src, dst, what = sys.argv[1:4]
c = duckdb.connect(config={"threads": 1})
c.execute("create table u as select i*97 id from range(928) t(i)")
if what == "scan":
    c.execute(f"select count(*) from read_ndjson('{src}') where \"user\".id in (select id + 1000000 from u)").fetchall()
elif what == "csv":
    c.execute(f"copy (select * from read_csv('{src}') where user_id not in (select id from u)) to '{dst}' (header)")
else:
    c.execute(f"copy (select * from read_ndjson('{src}') where \"user\".id not in (select id from u)) to '{dst}' (format json)")
`

// eraseChild is the program's own part of cpu, in a process of its own.
func eraseChild(ctx context.Context, args []string) error {
	prefix, format, column, offset := args[0], args[1], args[2], 0
	if len(args) > 3 {
		offset = 1_000_000 // keys that no record has
	}
	var ids []int
	for i := range 928 {
		ids = append(ids, 97*i+offset)
	}
	users, err := keysOf(ids)
	if err != nil {
		return err
	}
	done, err := erasure(ctx, storage.New(nil), prefix, format, column, users, 1)
	if err == nil {
		fmt.Println(done.RowsErased)
	}
	return err
}

func (b *bench) cpu(ctx context.Context, lines int) error {
	rng := rand.New(rand.NewPCG(1, 2))
	json := func(w io.Writer, i int) {
		fmt.Fprintf(w, `{"ts":"2026-01-%02dT%02d:%02d:11Z","user":{"id":%d,"country":"DE"},"page":"/catalog/%d","agent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36","ms":%d,"ok":true}`+"\n",
			1+i%28, i%24, i%60, rng.IntN(90000), rng.IntN(4000), rng.IntN(977))
	}
	csv := func(w io.Writer, i int) {
		if i == 0 {
			fmt.Fprintln(w, "ts,user_id,page,agent,ms")
		}
		fmt.Fprintf(w, "2026-01-%02d,%d,/catalog/%d,\"Mozilla/5.0 (X11; Linux x86_64)\",%d\n", 1+i%28, rng.IntN(90000), rng.IntN(4000), rng.IntN(977))
	}
	ndgz, nd, cs := filepath.Join(b.dir, "x.ndjson.gz"), filepath.Join(b.dir, "x.ndjson"), filepath.Join(b.dir, "x.csv")
	for file, line := range map[string]func(io.Writer, int){ndgz: json, nd: json, cs: csv} {
		if err := write(file, lines, line); err != nil {
			return err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	out := filepath.Join(b.dir, "out")
	type program struct {
		name string
		args []string
	}
	own := func(file, format, column string, more ...string) program {
		return program{"expunge", append([]string{self, "erase", filepath.Join(b.dir, "own"), format, column}, more...)}
	}
	duck := func(file, dst, what string) program {
		return program{"DuckDB", []string{b.python(), "-c", duckScript, file, dst, what}}
	}
	for _, c := range []struct {
		what, file string
		programs   []program
	}{
		{"NDJSON gzip, 1 % of records erased", ndgz, []program{own(ndgz, "ndjson", "user.id"),
			{"Python", []string{b.python(), "-c", pythonScript, ndgz, out + ".ndjson.gz"}}, duck(ndgz, out+".json.gz", "json")}},
		{"NDJSON plain, nothing matches", nd, []program{own(nd, "ndjson", "user.id", "none"), duck(nd, "", "scan")}},
		{"CSV plain, 1 % of records erased", cs, []program{own(cs, "csv", "user_id"), duck(cs, out+".csv", "csv")}},
	} {
		seconds := map[string][]float64{}
		for range repeats {
			for _, p := range c.programs {
				if p.name == "expunge" {
					if err := fresh(c.file, filepath.Join(b.dir, "own")); err != nil {
						return err
					}
				}
				cmd := exec.CommandContext(ctx, p.args[0], p.args[1:]...)
				cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
				if msg, err := cmd.CombinedOutput(); err != nil {
					return fmt.Errorf("%s: %w\n%s", p.name, err, msg)
				}
				seconds[p.name] = append(seconds[p.name], (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds())
			}
		}
		st, err := os.Stat(c.file)
		if err != nil {
			return err
		}
		fmt.Printf("cpu: %s, %d MB\n", c.what, st.Size()>>20)
		base := process.Median(seconds["expunge"])
		for _, p := range c.programs {
			s := process.Median(seconds[p.name])
			fmt.Printf("  %-8s %6.2f CPU-s  %4.1f ×\n", p.name, s, s/base)
		}
	}
	return nil
}

func write(file string, lines int, line func(io.Writer, int)) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := bufio.NewWriterSize(f, 1<<20)
	var out io.Writer = buf
	if filepath.Ext(file) == ".gz" {
		z := gzip.NewWriter(buf)
		defer func() { _ = buf.Flush() }()
		defer z.Close()
		out = z
	}
	for i := range lines {
		line(out, i)
	}
	if out == buf {
		return buf.Flush()
	}
	return nil
}

// fresh makes a folder that holds a copy of one file.
func fresh(file, dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.Link(file, filepath.Join(dir, filepath.Base(file)))
}
