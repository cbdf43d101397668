package iceberg

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/warehouse"
)

// purgeAttempts and purgePatience bound how often and for how long the expiry
// is tried against other writers; it is given up when both are used up.
const (
	purgeAttempts = 20
	purgePatience = 5 * time.Minute
)

// Purge removes what history still holds of a committed run. The order is
// fixed, so that a crash at any point leaves nothing that a second call does
// not find:
//
//  1. Work out which snapshots hold erased values and which refs pin them.
//  2. Write down, durably, which snapshots are about to go (see intent).
//  3. In one swap: a new head without tombstones, the refs that may go
//     dropped, the snapshots expired. The library never deletes files here.
//  4. Remove the files that only those snapshots reached: data and delete
//     files before the manifests that name them, manifests before their
//     lists, lists and statistics before old metadata, the intent last.
//
// A snapshot holds erased values when it is not the run's commit or one after
// it, because any older file may hold an erased row; or when its manifests
// carry DELETED entries from before the commit. Refs that pin one are blockers
// under the policies "block" and "report" and dropped under "drop", except
// tags that protect the grace of another run: those stay blockers. Branches
// that the run erased too (PurgeRequest.Also) have a commit of their own from
// which on they hold none; each has its own Purge, and neither they nor main
// are ever dropped. A ref whose own max-ref-age-ms is over goes under "block" as
// well, as in every expiry (specification, "Snapshot Retention Policy").
func (t *Table) Purge(ctx context.Context, req warehouse.PurgeRequest) (*warehouse.Purged, error) {
	p := &purge{t: t, req: req}
	out, err := p.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("purge %s: %w", t.name, err)
	}
	return out, nil
}

// purge is one Purge.
type purge struct {
	t   *Table
	req warehouse.PurgeRequest
	out warehouse.Purged

	resumed bool    // a former call began: it may have removed files
	since   int64   // when the table's present history begins, in ms: at the run's commit, or else at the purge's own snapshot
	earlier pathSet // metadata versions before that, whatever their time says

	// What attempts have in common, so that the time between loading a head and
	// replacing it stays short.
	eq     *equalityCache
	held   heldCache
	author *author
	clean  cleanCache
}

func (p *purge) run(ctx context.Context) (*warehouse.Purged, error) {
	tbl, err := p.t.load(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.admit(ctx, tbl.Metadata()); err != nil {
		return nil, err
	}
	if b := forbidden(tbl.Metadata()); b != nil {
		p.out.Blockers = append(p.out.Blockers, *b)
		p.out.After, err = p.t.describe(ctx, tbl)
		return &p.out, err
	}
	if p.req.DryRun {
		return p.dryRun(ctx, tbl)
	}
	tbl, gone, err := p.expire(ctx, tbl)
	if err != nil {
		return nil, err
	}
	if err := p.removeFiles(ctx, tbl, gone); err != nil {
		return nil, err
	}
	// Swaps that lost have left manifests and lists.
	r := &remover{t: p.t, fence: p.req.Fence, record: p.req.Record}
	if _, err := p.t.cleanMetadata(ctx, tbl.Metadata(), p.req.RunID, r); err != nil {
		return nil, err
	}
	if p.out.After, err = p.t.describe(ctx, tbl); err != nil {
		return nil, err
	}
	p.out.After.KeyPartitioned = p.req.Committed.After.KeyPartitioned
	return &p.out, nil
}

// admit refuses a table that is not the one committed to, or whose files may
// belong to somebody else.
func (p *purge) admit(ctx context.Context, meta table.Metadata) error {
	if want := p.req.Committed.After.UUID; want != "" && want != meta.TableUUID().String() {
		return fmt.Errorf("the table was replaced by another of the same name since the commit: %w", warehouse.ErrNotFound)
	}
	if err := p.t.whole(ctx, meta); err != nil {
		return err
	}
	return nil
}

// forbidden says why no file of the table may be removed: with gc.enabled =
// false its files may be in use by other tables or catalog branches
// (specification of table properties; snapshot procedure; Nessie).
func forbidden(meta table.Metadata) *warehouse.Blocker {
	if v, ok := meta.Properties()["gc.enabled"]; ok && !strings.EqualFold(v, "true") {
		return &warehouse.Blocker{Ref: "gc.enabled", Type: "property", Reason: "the table's files may belong to other tables as well"}
	}
	return nil
}

// expire swaps in the clean head and expires history, against other writers.
// It returns the table after that and every snapshot whose files may go.
func (p *purge) expire(ctx context.Context, tbl *table.Table) (*table.Table, *intent, error) {
	gone, err := p.t.readIntent(ctx, tbl.Metadata(), p.req.RunID)
	if err != nil {
		return nil, nil, err
	}
	p.resumed = len(gone.Snapshots) > 0
	began := clock.Now(ctx)
	prepared := false
	for attempt := 1; ; attempt++ {
		h, err := p.history(ctx, tbl.Metadata())
		if err != nil {
			return nil, nil, err
		}
		if !prepared && h.newHead() {
			// The long part, once and before the head is looked at for the last time.
			prepared = true
			if _, err := p.cleanDraft(ctx, tbl.Metadata(), h); err != nil {
				return nil, nil, err
			}
			if tbl, err = p.t.load(ctx); err != nil {
				return nil, nil, err
			}
			if h, err = p.history(ctx, tbl.Metadata()); err != nil {
				return nil, nil, err
			}
		}
		if h.settled() {
			p.out.Blockers = append(p.out.Blockers, h.blockers...)
			return tbl, gone, nil
		}
		if gone.add(tbl.Metadata(), h.expire) {
			if err := p.t.writeIntent(ctx, tbl.Metadata(), p.req.RunID, gone); err != nil {
				return nil, nil, err
			}
		}
		after, dropped, err := p.swapHistory(ctx, tbl, h)
		if err == nil {
			p.out.Blockers = append(p.out.Blockers, h.blockers...)
			for _, s := range h.expire {
				p.out.SnapshotsExpired = append(p.out.SnapshotsExpired, s.SnapshotID)
			}
			p.out.TombstonesDropped += dropped
			return after, gone, nil
		}
		var swap *swapError
		if !errors.As(err, &swap) || ctx.Err() != nil {
			return nil, nil, err
		}
		if attempt >= purgeAttempts && (!swap.conflict() || clock.Now(ctx).Sub(began) >= purgePatience) {
			if swap.conflict() {
				return nil, nil, fmt.Errorf("%d attempts, the table kept changing; run it again: %w", attempt, warehouse.ErrConflict)
			}
			return nil, nil, err
		}
		if err := pause(ctx, attempt, swap.conflict()); err != nil {
			return nil, nil, err
		}
		if tbl, err = p.t.load(ctx); err != nil {
			return nil, nil, err
		}
	}
}

// swapHistory is the one swap of a purge. The head becomes a snapshot with the
// same files and without tombstones, of operation "replace": no row changes,
// and readers of streams skip it.
func (p *purge) swapHistory(ctx context.Context, tbl *table.Table, h *history) (*table.Table, int64, error) {
	meta := tbl.Metadata()
	head := meta.CurrentSnapshot()
	reqs := []table.Requirement{
		table.AssertTableUUID(meta.TableUUID()),
		table.AssertRefSnapshotID(p.t.headRef(), &head.SnapshotID),
	}
	var updates []table.Update
	var dropped int64
	if h.newHead() {
		snap, n, err := p.cleanHead(ctx, meta, head, h)
		if err != nil {
			return nil, 0, err
		}
		dropped = n
		updates = append(updates, table.NewAddSnapshotUpdate(snap), setHead(meta, p.t.headRef(), snap.SnapshotID))
	}
	for _, name := range h.dropRefs {
		for ref, r := range meta.Refs() {
			if ref == name {
				reqs = append(reqs, table.AssertRefSnapshotID(name, &r.SnapshotID))
			}
		}
		updates = append(updates, table.NewRemoveSnapshotRefUpdate(name))
	}
	if len(h.expire) > 0 {
		ids := make([]int64, len(h.expire))
		for i, s := range h.expire {
			ids[i] = s.SnapshotID
		}
		updates = append(updates, withoutStatisticsOf(meta, ids)...)
		updates = append(updates, table.NewRemoveSnapshotsUpdate(ids, false))
	}
	after, err := p.t.swap(ctx, reqs, updates, p.req.Fence)
	return after, dropped, err
}

// cleanHead writes the new head: the same live files, less tombstones, and
// equality delete files without the run's keys.
func (p *purge) cleanHead(ctx context.Context, meta table.Metadata, head *table.Snapshot, h *history) (*table.Snapshot, int64, error) {
	d, err := p.cleanDraft(ctx, meta, h)
	if err != nil {
		return nil, 0, err
	}
	snap, err := p.author.writeList(ctx, meta, head, d.draft)
	return snap, d.dropped, err
}

// cleaned is a draft without tombstones, and how many it leaves out.
type cleaned struct {
	draft
	dropped int64
}

// cleanDraft writes the manifests of the new head, or takes those that an
// earlier attempt wrote in place of the same ones.
func (p *purge) cleanDraft(ctx context.Context, meta table.Metadata, h *history) (*cleaned, error) {
	// A new author, with names and a snapshot id of its own, for other contents,
	// and when a swap whose answer was lost has used up the old one's.
	if !p.clean.holds(h.strips) || p.author.meta.Version() != meta.Version() || meta.SnapshotByID(p.author.snapID) != nil {
		p.author, p.clean = p.t.newAuthor(meta, p.req.RunID, "purge"), newCleanCache(h.strips)
	}
	p.author.meta = meta
	list, dropped, err := p.author.clean(ctx, meta.CurrentSnapshot(), h.strips, &p.clean)
	if err != nil {
		return nil, err
	}
	d := &cleaned{draft: draft{op: table.OpReplace, props: map[string]string{propPurged: p.req.RunID}}, dropped: dropped}
	if len(h.strips) > 0 && !p.clean.stripped {
		stats := changes{}
		p.clean.added, err = p.author.stripped(ctx, p.req.RunID, h.strips, p.clean.left, &stats)
		if err != nil {
			return nil, err
		}
		p.clean.stats, p.clean.stripped = stats, true
	}
	d.stats = p.clean.stats
	d.manifests = slices.Concat(list, p.clean.added)
	return d, nil
}

// withoutStatisticsOf drops statistics files together with their snapshots,
// for catalogs that do not do so themselves.
func withoutStatisticsOf(meta table.Metadata, ids []int64) []table.Update {
	gone := map[int64]bool{}
	for _, id := range ids {
		gone[id] = true
	}
	var updates []table.Update
	seen := map[int64]bool{}
	for s := range meta.Statistics() {
		if gone[s.SnapshotID] && !seen[s.SnapshotID] {
			seen[s.SnapshotID] = true
			updates = append(updates, table.NewRemoveStatisticsUpdate(s.SnapshotID))
		}
	}
	clear(seen)
	for s := range meta.PartitionStatistics() {
		if gone[s.SnapshotID] && !seen[s.SnapshotID] {
			seen[s.SnapshotID] = true
			updates = append(updates, table.NewRemovePartitionStatisticsUpdate(s.SnapshotID))
		}
	}
	return updates
}
