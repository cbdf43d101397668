package jobs

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/warehouse"
)

// progress is a journal replayed: what a run has done so far. A fresh run and
// a resumed one go through the same code, which skips what is here.
type progress struct {
	resumes   int64
	keysets   *keysetsRecord
	planned   *planRecord
	approved  *approvedRecord
	shards    map[int]map[int]ShardResult // slot, shard
	scanned   *scannedRecord
	stopped   *stopRecord
	committed map[int]commitRecord
	failed    map[int]failRecord
	orphans   map[int]orphanRecord
	verified  map[int]verifyRecord
	intents   map[int]struct{} // purges that have begun
	history   map[int][]historyRecord
	purged    map[int]purgeRecord
	reverted  map[int]warehouse.Committed
	manifests []manifestRecord
	ended     *endRecord
	closed    bool      // the run's manifest was written after it ended
	commitAt  time.Time // of the last commit
	last      time.Time
}

func put[V any](m *map[int]V, e state.Event) error {
	slot, err := strconv.Atoi(e.Key)
	if err != nil {
		return fmt.Errorf("slot %q: %w", e.Key, err)
	}
	var v V
	if err := json.Unmarshal(e.Data, &v); err != nil {
		return err
	}
	if *m == nil {
		*m = map[int]V{}
	}
	(*m)[slot] = v
	return nil
}

func set[V any](p **V, e state.Event) error {
	v := new(V)
	if err := json.Unmarshal(e.Data, v); err != nil {
		return err
	}
	*p = v
	return nil
}

func (p *progress) apply(e state.Event) error {
	p.last = e.Time
	switch e.Step {
	case evCreated:
		return nil
	case evResumed:
		p.resumes++
		return nil
	case evKeysets:
		return set(&p.keysets, e)
	case evPlanned:
		return set(&p.planned, e)
	case evApproved:
		return set(&p.approved, e)
	case evReplanned:
		return p.replan(e)
	case evShard:
		var r ShardResult
		if err := json.Unmarshal(e.Data, &r); err != nil {
			return err
		}
		p.addShard(r)
		return nil
	case evScanned:
		return set(&p.scanned, e)
	case evStopped:
		return set(&p.stopped, e)
	case evCommitted:
		p.commitAt = e.Time
		if err := put(&p.committed, e); err != nil {
			return err
		}
		// A retry that succeeds takes back an earlier failure.
		slot, _ := strconv.Atoi(e.Key)
		delete(p.failed, slot)
		return nil
	case evFailed:
		return put(&p.failed, e)
	case evOrphans:
		return put(&p.orphans, e)
	case evVerified:
		return put(&p.verified, e)
	case evIntent:
		return put(&p.intents, e)
	case evHistory:
		return p.addHistory(e)
	case evPurged:
		return put(&p.purged, e)
	case evReverted:
		return put(&p.reverted, e)
	case evManifest:
		var m manifestRecord
		if err := json.Unmarshal(e.Data, &m); err != nil {
			return err
		}
		p.manifests = append(p.manifests, m)
		if m.Kind == string(manifests.KindRun) {
			p.closed = true
			if p.ended != nil {
				p.ended.Outcome = m.Outcome
			}
		}
		return nil
	case evEnded:
		p.closed = false
		return set(&p.ended, e)
	default:
		return fmt.Errorf("step %q is unknown: the run was written by a newer version", e.Step)
	}
}

// addHistory takes in what a look into a slot's history has found so far: each
// record of one look takes the place of the one before.
func (p *progress) addHistory(e state.Event) error {
	slot, err := strconv.Atoi(e.Key)
	if err != nil {
		return fmt.Errorf("slot %q: %w", e.Key, err)
	}
	var rec historyRecord
	if err := json.Unmarshal(e.Data, &rec); err != nil {
		return err
	}
	if p.history == nil {
		p.history = map[int][]historyRecord{}
	}
	all := p.history[slot]
	if n := len(all); n > 0 && all[n-1].Files == rec.Files {
		all = all[:n-1]
	}
	p.history[slot] = append(all, rec)
	return nil
}

// replan puts a target's new plan in the place of the old one.
func (p *progress) replan(e state.Event) error {
	var pt planTarget
	if err := json.Unmarshal(e.Data, &pt); err != nil {
		return err
	}
	if p.planned == nil || pt.Slot < 0 || pt.Slot >= len(p.planned.Targets) {
		return fmt.Errorf("replanned slot %d is not in the plan", pt.Slot)
	}
	p.planned.Targets[pt.Slot] = pt
	delete(p.shards, pt.Slot)
	delete(p.failed, pt.Slot)
	p.scanned, p.ended = nil, nil
	return nil
}

func (p *progress) addShard(r ShardResult) {
	if p.planned != nil && r.Slot < len(p.planned.Targets) && r.Gen != p.planned.Targets[r.Slot].Gen {
		return // of a plan that was replaced
	}
	if p.shards == nil {
		p.shards = map[int]map[int]ShardResult{}
	}
	if p.shards[r.Slot] == nil {
		p.shards[r.Slot] = map[int]ShardResult{}
	}
	p.shards[r.Slot][r.Index] = r
}

// totals adds up the finished shards of a slot.
func (p *progress) totals(slot int) scanTotals {
	t := scanTotals{Slot: slot}
	for _, r := range p.shards[slot] {
		t.add(r)
	}
	return t
}

// refs are the winning result files of a slot, in shard order.
func (p *progress) refs(slot int) []string {
	var refs []string
	for _, i := range sortedKeys(p.shards[slot]) {
		refs = append(refs, p.shards[slot][i].Ref)
	}
	return refs
}

// committedSlots are the slots whose commit changed the table.
func (p *progress) committedSlots() []int {
	var slots []int
	for _, s := range sortedKeys(p.committed) {
		if !p.committed[s].NoChange {
			slots = append(slots, s)
		}
	}
	return slots
}

// purgedAt is when the last purge of a target was done.
func (p *progress) purgedAt() (at time.Time) {
	for _, pu := range p.purged {
		if pu.Time.After(at) {
			at = pu.Time
		}
	}
	return at
}

// purgeSlots are the slots that a purge has work in: those that the run changed,
// and those where it had no row to erase but history still holds a key, because
// another tool erased it from the head. A slot whose rows were added back has
// nothing to purge.
func (p *progress) purgeSlots() []int {
	var slots []int
	for _, s := range sortedKeys(p.committed) {
		if _, back := p.reverted[s]; back {
			continue
		}
		if !p.committed[s].NoChange || p.verified[s].Purge {
			slots = append(slots, s)
		}
	}
	return slots
}

// manifest returns the last manifest of a kind.
func (p *progress) manifest(kind string) (manifestRecord, bool) {
	for i := len(p.manifests) - 1; i >= 0; i-- {
		if p.manifests[i].Kind == kind {
			return p.manifests[i], true
		}
	}
	return manifestRecord{}, false
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	return slices.Sorted(maps.Keys(m))
}
