// Command evidence measures what evidence and manifest add to a run. The same
// job runs on the same lakehouse with and without them, in turns, each run in a
// process of its own; CPU seconds are user and system time of the process, all
// threads together, and the ratio is the median over the rounds. What a run
// without evidence leaves out is said by package internal/bare; everything else
// it does: keys, plan, scan, rewriting, commit, verification, purge, journal.
//
// Both must erase the rows that the lakehouse's maker put there. It ends with 1
// where evidence adds more than the goal.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"github.com/expunge/expunge/bench/process"
	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/engine/local"
	"github.com/expunge/expunge/internal/bare"
	"github.com/expunge/expunge/internal/demo"
	"github.com/expunge/expunge/jobs"
	_ "github.com/expunge/expunge/warehouse/iceberg/catalogs/sql"
)

// goal is the most that evidence may add to a run's CPU.
const goal = 0.05

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	dir := flag.String("dir", ".cache/bench-evidence", "where the lakehouse lives")
	rows := flag.Int64("rows", 3_000_000, "rows of the lakehouse")
	rounds := flag.Int("rounds", 15, "runs of each kind; with five the median still moves by three percent")
	only := flag.String("only", "", "measure only the cases whose name holds this")
	job := flag.String("run", "", "run this job and print what came of it (a round)")
	without := flag.Bool("without", false, "of -run: without evidence")
	flag.Parse()
	err := error(nil)
	if *job != "" {
		err = round(ctx, *job, *without)
	} else {
		err = measure(ctx, *dir, *only, *rows, *rounds)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// came is what came of a round.
type came struct {
	Outcome  string           `json:"outcome"`
	Reasons  []string         `json:"reasons,omitempty"`
	Erased   map[string]int64 `json:"erased"`
	Manifest bool             `json:"manifest"`
}

func round(ctx context.Context, file string, without bool) error {
	cfg, err := configs.Load(file)
	if err != nil {
		return err
	}
	env := jobs.Env{Engine: local.Engine{Workers: 2}, Version: "bench", Log: slog.New(slog.DiscardHandler)}
	if without {
		ctx = bare.Run(ctx)
	} else if env.BinarySHA256, err = ownDigest(); err != nil {
		return err
	}
	stop, err := process.Profile()
	if err != nil {
		return err
	}
	defer stop()
	j, err := jobs.Open(ctx, cfg, env)
	if err != nil {
		return err
	}
	defer j.Close()
	sum, err := j.Run(ctx, jobs.RunOptions{})
	if err != nil {
		return err
	}
	if sum.Verification != nil { // of a run with a manifest: what it is not content with
		for _, r := range sum.Residue {
			sum.Reasons = append(sum.Reasons, fmt.Sprintf("%s: %s: %d", r.Target, r.Surface, r.Count))
		}
	}
	out := came{Outcome: sum.Outcome, Reasons: sum.Reasons, Erased: map[string]int64{}, Manifest: sum.Manifest != ""}
	for _, t := range sum.Targets {
		out.Erased[t.Name] = t.Committed.RowsErased
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

// ownDigest is the program's, which every command reads for the manifest.
func ownDigest() (string, error) {
	name, err := os.Executable()
	if err != nil {
		return "", err
	}
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}

// lakehouse is the untouched one and the place where the runs find a copy of it.
type lakehouse struct {
	*demo.Lakehouse
	self, made, place string
}

func measure(ctx context.Context, dir, only string, rows int64, rounds int) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	l := &lakehouse{made: filepath.Join(dir, "made"), place: filepath.Join(dir, "lake")}
	if l.self, err = os.Executable(); err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return err
	}
	if l.Lakehouse, err = demo.Make(ctx, demo.Options{Dir: l.place, Rows: rows}); err != nil {
		return err
	}
	if err := os.Rename(l.place, l.made); err != nil {
		return err
	}
	fmt.Println("| run | without, CPU-s | with, CPU-s | added | goal | reached |\n|---|---|---|---|---|---|")
	missed := false
	for _, c := range []struct {
		what string
		keys int
		goal bool
	}{{"the demo's job", 0, true}, {"with 20,000 more keys that no row has", 20_000, true}, {"with 1,000,000 more keys that no row has", 1_000_000, false}} {
		if !strings.Contains(c.what, only) {
			continue
		}
		if err := l.moreKeys(c.keys); err != nil {
			return err
		}
		var without, with, added []float64
		for i := range rounds {
			var used [2]float64
			for k := range 2 { // each goes first in every other round
				kind := (k + i) % 2
				if used[kind], err = l.run(ctx, kind == 0); err != nil {
					return fmt.Errorf("%s: %w", c.what, err)
				}
			}
			without, with, added = append(without, used[0]), append(with, used[1]), append(added, used[1]/used[0]-1)
		}
		m, want, reached := process.Median(added), fmt.Sprintf("≤ %.0f %%", 100*goal), "yes"
		switch {
		case !c.goal: // more keys than such a lake has people: what a key costs
			want, reached = "–", "–"
		case m > goal:
			reached, missed = "no", true
		}
		fmt.Printf("| %s | %.2f | %.2f | %+.1f %% (%+.1f to %+.1f) | %s | %s |\n", c.what, process.Median(without), process.Median(with), 100*m, 100*slices.Min(added), 100*slices.Max(added), want, reached)
	}
	if missed {
		return errors.New("a goal was missed")
	}
	return os.RemoveAll(dir)
}

// run lets a process run the job on a copy of the lakehouse.
func (l *lakehouse) run(ctx context.Context, without bool) (float64, error) {
	if err := os.RemoveAll(l.place); err != nil {
		return 0, err
	}
	if err := exec.CommandContext(ctx, "cp", "-r", l.made, l.place).Run(); err != nil {
		return 0, err
	}
	var got came
	u, err := process.Run(ctx, &got, l.self, "-run", filepath.Join(l.place, filepath.Base(l.Job)), fmt.Sprintf("-without=%t", without))
	if err != nil {
		return 0, err
	}
	if got.Outcome != "ERASED" || got.Manifest == without {
		return 0, fmt.Errorf("outcome %s (%s), a manifest: %t", got.Outcome, strings.Join(got.Reasons, "; "), got.Manifest)
	}
	for _, t := range l.Tables {
		if got.Erased[t.Name] != t.ToErase {
			return 0, fmt.Errorf("%s: %d rows erased, want %d", t.Name, got.Erased[t.Name], t.ToErase)
		}
	}
	return u.CPU, nil
}

// moreKeys adds keys to the key file that no row has.
func (l *lakehouse) moreKeys(n int) error {
	f, err := os.OpenFile(filepath.Join(l.made, "keys.csv"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	for i := range n {
		if _, err := fmt.Fprintf(f, "%d,nobody%d@example.org,DSAR-%d,2026-11-01\n", 1<<50+i*7919, i, 9000+i/2); err != nil {
			return err
		}
	}
	return f.Close()
}
