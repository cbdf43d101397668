package iceberg

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/warehouse"
)

// defaultAttempts is how often a swap is tried when the request does not say.
const defaultAttempts = 10

// roundsPerAttempt is how many rounds of work on files that keep arriving
// count as an attempt.
const roundsPerAttempt = 5

// Commit replaces files of the table in one atomic step.
//
// Each attempt loads the fresh head and works out what changed since the plan:
// files that arrived are scanned (rule 2 of the contract), sources that
// vanished are withdrawn, and sources with new position deletes or deletion
// vectors are scanned again. What that finds is written at once, manifests
// included, and then the head is looked at anew: what lies between looking at a
// head for the last time and swapping it is one list and the catalog's own
// work, so that a stream of commits of others cannot starve a run. Nothing else forces work to be repeated: appends,
// compactions and equality deletes of others stay as they are, because the
// replacements carry the sequence number up to which deletes are folded in, so
// that later equality deletes still apply to them. The swap asserts the very
// head that was looked at. When the outcome of a swap is unknown, the run id
// in the snapshot summaries tells.
//
// The order is: outputs durable (checked), manifests durable, fence, swap.
// Files of the snapshot before are left alone; Purge removes them.
func (t *Table) Commit(ctx context.Context, req warehouse.CommitRequest) (*warehouse.Committed, error) {
	c := newCommitter(t, req)
	if err := c.loadSources(ctx); err != nil {
		return nil, fmt.Errorf("commit to %s: %w", t.name, err)
	}
	done, err := c.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("commit to %s: %w", t.name, err)
	}
	return done, nil
}

// committer is one Commit.
type committer struct {
	t   *Table
	req warehouse.CommitRequest

	sources  map[pathKey]*source // what the commit replaces or drops, by source path
	extra    []warehouse.Result  // results that Rescan gave
	related  pathSet             // position delete files that planned tasks list
	resolved pathSet             // files of new manifests that are planned or scanned already
	origin   map[pathKey]string  // which manifest a file that arrived was met in
	nextTask int
	packs    map[pathKey]*pack // outputs that replace several sources, by output path

	planned        map[string]bool // manifests of the planned snapshot
	plannedDeletes int             // how many of them are delete manifests
	data           map[string]*dataUnit
	dels           map[string]*deleteUnit
	parts          *partitions
	specs          map[int32]*specPruner // by spec, once a file arrived
	covered        pathSet               // data files that position deletes and DVs name
	eqMax          eqReach

	meta    table.Metadata
	author  *author
	version int
	added   addedManifests
	lastDel map[string]bool // delete manifests of the list that sources were last checked against

	attempts, conflicts int
	rounds              int  // of work before an attempt
	unsettled           bool // a swap was sent and not plainly refused
	began               time.Time
}

// source is a file that the commit replaces or drops.
type source struct {
	status                   warehouse.Status
	seq                      int64 // deletes up to this sequence number are folded into the output
	rows, rowsOut, bytes     int64
	erased, changed, deleted int64
	outBytes                 int64
	pack                     pathKey // the output that it shares; zero: none
	extra                    int     // index into committer.extra, -1: among the request's results
	part                     int32   // partition, once its manifest was rewritten
	sortOrder                *int
	firstRow                 *int64
	entrySeq                 int64
	listed                   bool // its manifest entry was met
}

func newCommitter(t *Table, req warehouse.CommitRequest) *committer {
	if req.Attempts <= 0 {
		req.Attempts = defaultAttempts
	}
	return &committer{
		t: t, req: req,
		sources: map[pathKey]*source{}, related: pathSet{}, resolved: pathSet{}, origin: map[pathKey]string{},
		nextTask: int(req.Plan.Tasks), packs: map[pathKey]*pack{},
		data: map[string]*dataUnit{}, dels: map[string]*deleteUnit{}, parts: newPartitions(),
	}
}

// run makes attempts until one succeeds or patience is used up.
func (c *committer) run(ctx context.Context) (*warehouse.Committed, error) {
	c.began = clock.Now(ctx)
	for {
		done, again, err := c.attempt(ctx)
		switch {
		case err == nil && done != nil:
			done.Attempts, done.Conflicts = c.attempts, c.conflicts
			return done, nil
		case err == nil && again:
			// More work turned up and was done: look at the head again.
			if c.rounds++; c.spent(ctx) {
				return nil, fmt.Errorf("files keep arriving faster than they are scanned: %w", warehouse.ErrConflict)
			}
			continue
		}
		var swap *swapError
		if !errors.As(err, &swap) || ctx.Err() != nil {
			return c.settle(ctx, err)
		}
		c.conflicts++
		if c.attempts >= c.req.Attempts && (!swap.conflict() || c.spent(ctx)) {
			if swap.conflict() {
				err = fmt.Errorf("the table kept changing; run it again: %w", warehouse.ErrConflict)
			}
			return c.settle(ctx, fmt.Errorf("%d attempts: %w", c.attempts, err))
		}
		if err := pause(ctx, c.attempts, swap.conflict()); err != nil {
			return c.settle(ctx, err)
		}
	}
}

// spent says that it was tried often enough and for long enough.
func (c *committer) spent(ctx context.Context) bool {
	return c.attempts+c.rounds/roundsPerAttempt >= c.req.Attempts && clock.Now(ctx).Sub(c.began) >= c.req.Patience
}

// settle ends a commit that failed. Where a swap was sent that was not plainly
// refused, the table tells whether it has happened all the same: nobody may be
// told that a table was left as it was when it was not.
func (c *committer) settle(ctx context.Context, failed error) (*warehouse.Committed, error) {
	if !c.unsettled {
		return nil, failed
	}
	tbl, err := c.t.load(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", warehouse.ErrUnsettled, failed)
	}
	snap := ourCommit(tbl.Metadata(), c.req.RunID, c.req.Group)
	if snap == nil {
		return nil, failed
	}
	done, err := c.adopt(ctx, tbl, snap)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", warehouse.ErrUnsettled, err)
	}
	done.Attempts, done.Conflicts = c.attempts, c.conflicts
	return done, nil
}

// attempt looks at the head, does what is missing, and swaps. again says that
// something was missing, so that the head must be looked at anew.
func (c *committer) attempt(ctx context.Context) (done *warehouse.Committed, again bool, err error) {
	tbl, err := c.t.load(ctx)
	if err != nil {
		return nil, false, err
	}
	if err := c.enter(tbl.Metadata()); err != nil {
		return nil, false, err
	}
	if snap := ourCommit(c.meta, c.req.RunID, c.req.Group); snap != nil {
		done, err := c.adopt(ctx, tbl, snap)
		return done, false, err
	}
	head := c.meta.CurrentSnapshot()
	if head == nil {
		done, err := c.nothing(ctx, tbl)
		return done, false, err
	}
	list, err := head.Manifests(c.t.fs(ctx))
	if err != nil {
		return nil, false, fmt.Errorf("read manifest list: %w", hide(err))
	}
	if err := c.loadPlanned(ctx); err != nil {
		return nil, false, err
	}
	if err := c.loadUnits(ctx, list); err != nil {
		return nil, false, err
	}
	for d := range c.liveDeletes(list) {
		if redefines(c.req.Redefined, d.file) {
			return nil, false, errEqualityColumn
		}
	}
	tasks, err := c.changed(ctx, head, list)
	if err != nil {
		return nil, false, err
	}
	if len(tasks) > 0 {
		if err := c.scan(ctx, head, tasks); err != nil {
			return nil, false, err
		}
		// Manifests of what was found are written now rather than on the way to the swap.
		if err := c.loadUnits(ctx, list); err != nil {
			return nil, false, err
		}
	}
	live, err := c.liveSources(list)
	if err != nil {
		return nil, false, err
	}
	if len(live) == 0 && (!c.req.Dangling || len(c.removable(list, live)) == 0) {
		if len(tasks) > 0 {
			return nil, true, nil
		}
		done, err := c.nothing(ctx, tbl)
		return done, false, err
	}
	before := c.author.files.Load()
	out, d, err := c.draft(ctx, head, list, live)
	if err != nil {
		return nil, false, err
	}
	if len(tasks) > 0 || c.author.files.Load() > before && c.rounds <= roundsPerAttempt*c.attempts {
		return nil, true, nil
	}
	done, err = c.write(ctx, tbl, head, list, live, out, d)
	return done, false, err
}

// enter takes over freshly loaded metadata.
func (c *committer) enter(meta table.Metadata) error {
	if want := c.req.Plan.Description.UUID; want != "" && want != meta.TableUUID().String() {
		return fmt.Errorf("the table was replaced by another of the same name since the plan: %w", warehouse.ErrNotFound)
	}
	if err := supported(meta); err != nil {
		return err
	}
	if c.author == nil || c.version != meta.Version() {
		// An upgraded table wants manifests of the new format.
		c.author = c.t.newAuthor(meta, c.req.RunID, fmt.Sprintf("g%d", c.req.Group))
		c.version = meta.Version()
		c.forgetAll()
	}
	c.meta, c.author.meta = meta, meta
	return nil
}

// forgetAll drops everything that was read and written for former heads.
func (c *committer) forgetAll() {
	clear(c.data)
	clear(c.dels)
	c.covered, c.added, c.eqMax, c.lastDel = nil, addedManifests{}, eqReach{}, nil
}

// loadPlanned reads which manifests the planned snapshot lists. Where that
// snapshot is gone already, every manifest counts as new and is compared file
// by file.
func (c *committer) loadPlanned(ctx context.Context) error {
	if c.planned != nil {
		return nil
	}
	c.planned = map[string]bool{}
	snap := c.meta.SnapshotByID(c.req.Plan.Description.SnapshotID)
	if snap == nil {
		return nil
	}
	list, err := snap.Manifests(c.t.fs(ctx))
	if err != nil {
		// Its list may have been expired; an unreadable one only costs time.
		return ctx.Err()
	}
	for _, m := range list {
		c.planned[m.FilePath()] = true
		if m.ManifestContent() == iceberg.ManifestContentDeletes {
			c.plannedDeletes++
		}
	}
	return nil
}

// liveSources says which sources the head still lists. One that is listed
// twice cannot be replaced without changing what readers see.
func (c *committer) liveSources(list []iceberg.ManifestFile) (map[pathKey]bool, error) {
	live := make(map[pathKey]bool, len(c.sources))
	for _, m := range list {
		u := c.data[m.FilePath()]
		if u == nil || m.ManifestContent() != iceberg.ManifestContentData {
			continue
		}
		for _, k := range u.sources {
			if live[k] {
				return nil, fmt.Errorf("a data file is listed twice by the same snapshot: %w", warehouse.ErrUnsupported)
			}
			live[k] = true
		}
	}
	return live, nil
}

// nothing is the outcome when no source is left to replace.
func (c *committer) nothing(ctx context.Context, tbl *table.Table) (*warehouse.Committed, error) {
	d, err := c.t.describe(ctx, tbl)
	if err != nil {
		return nil, err
	}
	d.KeyPartitioned = c.req.Plan.Description.KeyPartitioned
	out := &warehouse.Committed{RunID: c.req.RunID, Group: c.req.Group, Before: d, After: d, NoChange: true, Results: c.standing(nil)}
	out.Withdrawn, err = c.withdrawn(ctx, nil)
	return out, err
}

// withdrawn lists the planned results that were not used.
func (c *committer) withdrawn(ctx context.Context, live map[pathKey]bool) ([]string, error) {
	var out []string
	for r, err := range c.req.Results(ctx) {
		if err != nil {
			return nil, fmt.Errorf("read results: %w", err)
		}
		if r.Status != warehouse.Rewritten && r.Status != warehouse.Dropped {
			continue
		}
		k := keyOf(r.Task.File.Path)
		if s := c.sources[k]; s == nil || s.extra >= 0 || !live[k] {
			out = append(out, r.Task.File.Path)
		}
	}
	return out, nil
}

// standing are the results of Rescan that the commit stands on. A file may have
// been scanned in several attempts, and have vanished since: only the last
// result of a file that was replaced counts, beside those that changed nothing.
func (c *committer) standing(live map[pathKey]bool) []warehouse.Result {
	var out []warehouse.Result
	for i, r := range c.extra {
		k := keyOf(r.Task.File.Path)
		changed := r.Status == warehouse.Rewritten || r.Status == warehouse.Dropped
		if s := c.sources[k]; !changed || s != nil && s.extra == i && live[k] {
			out = append(out, r)
		}
	}
	return out
}

// swapError is a failed CommitTable.
type swapError struct{ err error }

func (e *swapError) Error() string { return "swap the table's metadata: " + cleanError(e.err).Error() }
func (e *swapError) Unwrap() error { return e.err }

// conflict says that the catalog refused because the table had moved. The sql,
// glue and hive catalogs return a failed requirement as plain text (trap S5).
func (e *swapError) conflict() bool {
	return errors.Is(e.err, table.ErrCommitFailed) ||
		strings.Contains(strings.ToLower(e.err.Error()), "requirement failed")
}

// pause backs off between attempts. After a conflict it is short, because what
// others commit meanwhile is more to look at; a catalog that fails gets longer.
// It is all jitter, so that two who retry do not stay in step.
func pause(ctx context.Context, attempt int, conflict bool) error {
	limit := 2 * time.Second
	if conflict {
		limit = limit / 4
	}
	timer := time.NewTimer(rand.N(min(10*time.Millisecond<<min(attempt, 8), limit)))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
