package jobs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/warehouse"
	"github.com/expunge/expunge/warehouse/iceberg"
)

// plan streams each target's tasks into shards of the run's folder. Only the
// shard that is being filled is in memory.
func (r *Run) plan(ctx context.Context) (*planRecord, error) {
	rec := &planRecord{}
	var kept []*boundTarget
	for _, t := range r.targets {
		t.slot = len(kept)
		pt, err := r.planTarget(ctx, t, 0)
		if errors.Is(err, warehouse.ErrUnsupported) { // seen only once its files are listed
			r.excluded = append(r.excluded, warehouse.Excluded{What: t.name, Reason: reasonOf(err)})
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("plan %s: %w", t.name, err)
		}
		kept = append(kept, t)
		rec.Targets = append(rec.Targets, *pt)
		r.job.env.Reporter.Report(Event{Type: "progress", Step: StepPlan, Target: t.name,
			Done: pt.Plan.TotalFiles, Total: pt.Plan.TotalFiles, Unit: "files"})
		for _, w := range pt.Plan.Warnings {
			r.job.env.Reporter.Report(Event{Type: "warning", Step: StepPlan, Target: t.name, Message: w})
		}
	}
	r.targets, rec.Excluded = kept, r.excluded
	var err error
	rec.Digest, err = r.planDigest(rec)
	return rec, err
}

// planDigest binds job, keysets and every task: what run --plan executes and
// an approval signs. It is keyed with the run's secret, since one key could be
// guessed from a plain digest.
func (r *Run) planDigest(rec *planRecord) (string, error) {
	var b strings.Builder
	b.WriteString("expunge plan v1\x00" + r.frozen.Digest + "\x00" + keysetsID(r.progress.keysets) + "\x00")
	for _, t := range rec.Targets {
		d := t.Plan.Description
		fmt.Fprintf(&b, "%s\x00%s\x00%d\x00", t.Name, d.UUID, d.SnapshotID)
		for _, s := range t.Shards {
			b.WriteString(s.SHA256 + "\x00")
		}
	}
	return r.keyed("plan digest", b.String())
}

func (r *Run) planTarget(ctx context.Context, t *boundTarget, gen int) (*planTarget, error) {
	pt := &planTarget{Slot: t.slot, Gen: gen, Config: t.config, Name: t.name, Group: t.group, LiveFile: planDir(t.slot, gen) + "live"}
	s := &sharder{ctx: ctx, run: r.st, slot: t.slot, gen: gen,
		maxFiles: max(1, r.job.cfg.Engine.ShardFiles), maxBytes: int64(r.job.cfg.Engine.ShardSize)}
	live, err := newLines(ctx, r.st, pt.LiveFile)
	if err != nil {
		return nil, err
	}
	x, err := r.openIndex(ctx, t)
	if err != nil {
		_ = live.close()
		return nil, fmt.Errorf("key index: %w", err)
	}
	if x != nil && r.indexes == nil {
		r.indexes = map[int]*iceberg.FileIndex{}
	}
	if x != nil {
		r.indexes[t.slot] = x
	}
	plan, err := t.target.Plan(ctx, t.sel, s.add, live.add)
	if err == nil {
		err = s.flush()
	}
	if cerr := live.close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	plan.Blockers = withoutErased(t, plan.Blockers)
	pt.Plan, pt.Shards = *plan, s.shards
	return pt, nil
}

// packID is the pack that a task belongs to, -1 = none.
func packID(t warehouse.Task) int {
	if t.Pack == nil {
		return -1
	}
	return t.Pack.ID
}

// sharder cuts a stream of tasks into bounded shards.
type sharder struct {
	ctx      context.Context
	run      *state.Run
	slot     int
	gen      int
	maxFiles int
	maxBytes int64

	pack   int // of the tasks in cur, -1: none
	out    *lines
	cur    planShard
	shards []planShard
}

func (s *sharder) add(t warehouse.Task) error {
	if s.out != nil && s.pack != packID(t) {
		// A pack is a shard of its own: it is done as a whole.
		if err := s.flush(); err != nil {
			return err
		}
	}
	s.pack = packID(t)
	if s.out != nil && t.Pack == nil && (s.cur.Tasks >= s.maxFiles || s.maxBytes > 0 && s.cur.Bytes+t.File.Size > s.maxBytes) {
		if err := s.flush(); err != nil {
			return err
		}
	}
	if s.out == nil {
		out, err := newLines(s.ctx, s.run, shardFile(s.slot, s.gen, len(s.shards)))
		if err != nil {
			return err
		}
		s.out, s.cur = out, planShard{}
	}
	s.cur.Tasks++
	s.cur.Rows += t.File.Rows
	s.cur.Bytes += t.File.Size
	return s.out.encode(t)
}

func (s *sharder) flush() error {
	if s.out == nil {
		return nil
	}
	err := s.out.close()
	s.cur.SHA256 = s.out.digest()
	s.shards = append(s.shards, s.cur)
	s.out = nil
	return err
}

// lines writes JSON lines into a sealed file and digests them.
type lines struct {
	w   io.WriteCloser
	h   hash.Hash
	enc *json.Encoder
}

// newLines replaces what a crashed planning may have left under the name:
// nothing refers to a plan before the journal says that it is whole.
func newLines(ctx context.Context, run *state.Run, name string) (*lines, error) {
	w, err := run.Replace(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("write plan: %w", err)
	}
	l := &lines{w: w, h: sha256.New()}
	l.enc = json.NewEncoder(io.MultiWriter(l.w, l.h))
	return l, nil
}

func (l *lines) add(s string) error { return l.enc.Encode(s) }
func (l *lines) encode(v any) error { return l.enc.Encode(v) }
func (l *lines) digest() string     { return hex.EncodeToString(l.h.Sum(nil)) }
func (l *lines) close() error       { return l.w.Close() }
