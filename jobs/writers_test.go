package jobs_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	icebergo "github.com/apache/iceberg-go"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/internal/testlake"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
)

// traffic is other writers of a table, who take turns while a job works on it:
// they append rows with and without keys, delete by equality, by position or
// deletion vector, and compact. No clock decides when: every so many storage
// operations of the job it stands still while one of them commits, and so it
// does between its last look at the head and its swap, as often as clash says.
type traffic struct {
	lake   *testlake.Lake
	vector bool    // deletes are deletion vectors
	keys   []int64 // what the job erases
	every  int     // a turn before each so-manieth operation of the job; 0 = peace
	left   int     // turns that are left in the job's present step
	clash  int     // how many swaps of the job are lost to a writer from now on

	mu      sync.Mutex
	ops     int
	fresh   int // the next id of a new row
	step    jobs.Step
	turns   map[string]int
	steps   map[jobs.Step]int // turns by the job's step
	added   []int64
	deleted map[int64]bool
	late    int64 // sequence number of the newest commit that added a row of a key
}

// wrap lets the writers in between the operations of a job on the table's files.
func (tr *traffic) wrap(role string, s storage.Store) storage.Store {
	if role != "lake" {
		return s
	}
	return storage.WithFaults(s, &storage.Faults{Pick: func(_ int64, c storage.Call) *storage.Fault {
		if !tr.next(c) {
			return nil
		}
		return &storage.Fault{Action: storage.CallBefore, Do: tr.turn}
	}})
}

// next says whether it is a writer's turn.
func (tr *traffic) next(c storage.Call) bool {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if tr.every == 0 {
		return false
	}
	if tr.clash > 0 && c.Op == storage.OpCreate && strings.Contains(filepath.Base(c.Path), "-list") {
		tr.clash--
		return true
	}
	tr.ops++
	if tr.left == 0 || tr.ops%tr.every != 0 {
		return false
	}
	tr.left--
	return true
}

// turnsPerStep is how often others write during one step of a run. A stream
// without an end, at the pace of the job's own operations, may starve it.
const turnsPerStep = 5

// Report gives the writers new turns with every step of the job.
func (tr *traffic) Report(e jobs.Event) {
	if e.Type != "step" {
		return
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.left = turnsPerStep
	tr.step = e.Step
}

// turn is one commit of one writer.
func (tr *traffic) turn() {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.lake.Reload()
	n := 0
	for _, count := range tr.turns {
		n += count
	}
	writers := []string{"append a key", "delete by equality", "delete", "append", "delete by equality", "append a key", "delete", "compact"}
	who := writers[n%len(writers)]
	tr.turns[who]++
	tr.steps[tr.step]++
	switch who {
	case "append":
		tr.append(tr.fresh, tr.fresh+1)
		tr.fresh += 2
	case "append a key":
		tr.append(int(tr.keys[n%len(tr.keys)]), tr.fresh)
		tr.fresh++
		tr.late = tr.lake.Tbl.CurrentSnapshot().SequenceNumber
	case "delete":
		tr.hide()
	case "delete by equality":
		tr.remove(tr.lake.Files(), func(_ icebergo.DataFile, _, id int64) { tr.lake.DeleteByKey(int(id)) })
	case "compact":
		var ids []int
		for _, id := range tr.lake.Rows() {
			ids = append(ids, int(id))
		}
		tr.lake.Replace(ids...)
		if slices.ContainsFunc(tr.lake.Rows(), tr.key) {
			tr.late = tr.lake.Tbl.CurrentSnapshot().SequenceNumber
		}
	}
}

func (tr *traffic) append(ids ...int) {
	tr.lake.Append(ids...)
	for _, id := range ids {
		tr.added = append(tr.added, int64(id))
	}
}

// hide deletes a row by its place in its file.
func (tr *traffic) hide() {
	tr.remove(tr.lake.Unhidden(), func(f icebergo.DataFile, pos, _ int64) {
		if tr.vector {
			tr.lake.DeleteByVector(f, pos)
		} else {
			tr.lake.DeleteByPosition(f, pos)
		}
	})
}

// remove deletes a visible row that the job has nothing to do with, from a file
// that the job is to rewrite where there is one.
func (tr *traffic) remove(files []icebergo.DataFile, del func(f icebergo.DataFile, pos, id int64)) {
	visible := tr.lake.Rows()
	stored := make([][]int64, len(files))
	for i, f := range files {
		stored[i] = tr.lake.IDsIn(f)
	}
	for _, keyed := range []bool{true, false} {
		for i, f := range files {
			if keyed && !slices.ContainsFunc(stored[i], tr.key) {
				continue
			}
			for pos, id := range stored[i] {
				if !tr.key(id) && slices.Contains(visible, id) {
					del(f, int64(pos), id)
					tr.deleted[id] = true
					return
				}
			}
		}
	}
}

func (tr *traffic) key(id int64) bool { return slices.Contains(tr.keys, id) }

// want are the rows that must be there once no row of a key is left.
func (tr *traffic) want(base []int) []int64 {
	var out []int64
	for _, id := range base {
		out = append(out, int64(id))
	}
	out = slices.DeleteFunc(append(out, tr.added...), func(id int64) bool { return tr.deleted[id] || tr.key(id) })
	slices.Sort(out)
	return out
}

// afterGrace is short, because a writer's clock must not be behind the last snapshot's.
const afterGrace = 2 * time.Second

// loud panics where a test ends its goroutine: writers work on the job's.
type loud struct{ testing.TB }

func (l loud) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

// TestWritersDuringRunsAreNeverUndoneAndNoKeySurvives runs a job twice
// while others write before every few of its storage operations, purges
// included, then once in peace. What is left is what was there, plus what was
// appended, less what was deleted, less every row of a key.
func TestWritersDuringRunsAreNeverUndoneAndNoKeySurvives(t *testing.T) {
	if testing.Short() {
		t.Skip("some seconds of writing, minutes with the race detector")
	}
	for _, c := range []struct{ name, version, grace string }{
		{"position deletes", "2", "0s"},
		{"deletion vectors and row ids", "3", "0s"},
		{"a purge after the grace", "2", "1s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			lake := testlake.New(loud{t}, c.version, nil, nil)
			base := testlake.IDs(1000, 1200)
			for part := range slices.Chunk(base, 60) {
				lake.Append(part...)
			}
			tr := &traffic{lake: lake, vector: c.version == "3", keys: []int64{leaver}, fresh: 5000,
				turns: map[string]int{}, steps: map[jobs.Step]int{}, deleted: map[int64]bool{}}
			cfg := leakJob(t, lake, c.grace, "")
			for _, every := range []int{7, 3} {
				tr.disturb(t, cfg, every)
			}
			tr.every = 0
			tr.settle(t, cfg)
			lake.Reload()
			got := lake.Rows()
			slices.Sort(got)
			if want := tr.want(base); !slices.Equal(got, want) {
				t.Errorf("%d rows are left, want %d: %v and %v", len(got), len(want), got, want)
			}
			for path, raw := range lake.Stored() {
				if strings.Contains(string(raw), testlake.Mail(leaver)) {
					t.Errorf("%s holds what was erased", filepath.Base(path))
				}
			}
			t.Logf("turns %v in steps %v, deleted %d", tr.turns, tr.steps, len(tr.deleted))
		})
	}
}

// disturb runs the job, and purges it where it has a grace, among the writers.
// Only rows of a key that came after the commit may be left.
func (tr *traffic) disturb(t *testing.T, cfg *configs.Job, every int) {
	t.Helper()
	before := len(tr.added)
	tr.every, tr.clash = every, 3
	j := open(t, cfg, jobs.Env{WrapStore: tr.wrap, Reporter: tr})
	sum, err := j.Run(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	done := sum.Targets[0].Committed
	if done == nil {
		t.Fatalf("not committed: %s", sum.Targets[0].Reason)
	}
	if done.Conflicts == 0 || done.RowsErased == 0 {
		t.Errorf("%d conflicts, %d rows erased: the run met nobody", done.Conflicts, done.RowsErased)
	}
	t.Logf("every %d operations: %s (%v) after %d attempts, %d conflicts", every, sum.Outcome, sum.Reasons, done.Attempts, done.Conflicts)
	logSurfaces(t, sum)
	if cfg.Grace > 0 {
		due, err := j.PurgeDue(later(t, afterGrace), false)
		if err != nil || len(due) != 1 {
			t.Fatalf("purge: %v, %v; want one run", due, err)
		}
		t.Logf("purge: %s", due[0].Outcome)
	}
	tr.every = 0
	if len(tr.added) == before {
		t.Error("nobody wrote")
	}
	tr.lake.Reload()
	if left := slices.Contains(tr.lake.Rows(), leaver); left && tr.late <= done.After.SequenceNumber {
		t.Errorf("a row of a key survived the commit: it came with sequence number %d, the commit has %d", tr.late, done.After.SequenceNumber)
	}
}

// settle runs the job with nobody about: nothing may be left of the keys.
func (tr *traffic) settle(t *testing.T, cfg *configs.Job) {
	t.Helper()
	j := open(t, cfg, jobs.Env{})
	sum, err := j.Run(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	outcome := sum.Outcome
	if cfg.Grace > 0 {
		due, err := j.PurgeDue(later(t, afterGrace), false)
		if err != nil || len(due) != 1 {
			t.Fatalf("purge: %v, %v; want one run", due, err)
		}
		outcome = due[0].Outcome
	}
	if outcome != string(manifests.Erased) && outcome != string(manifests.NothingToErase) {
		t.Errorf("outcome %s (%v)", outcome, sum.Reasons)
	}
	if left := leaking(verifyAll(t, j)); len(left) > 0 {
		t.Errorf("residue on %v", left)
	}
}
