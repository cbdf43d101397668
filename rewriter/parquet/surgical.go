package parquet

import (
	"context"
	"fmt"
	"sync"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/internal/thriftpatch"
)

// The surgical path. A planner goroutine a touched column chunk finds the
// pages and gives page jobs to the workers; the emitter takes the chunks in
// file order and is the only one that writes. At most chunksAhead chunks are
// planned; of each, itemsAhead pieces and, but for a page that is larger
// itself, pagesAhead MiB of stored pages are in memory.
const (
	chunksAhead = 3
	itemsAhead  = 6
	pagesAhead  = 16
)

type engine struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	job    *job
	in     Input
	sink   *sink
	jobs   chan *pageJob
	slots  chan struct{}
	wg     sync.WaitGroup

	groups []*groupJob
	out    []outGroup
	index  []pendingIndex
}

// groupJob is one row group's share of the edit.
type groupJob struct {
	src     *pq.RowGroup
	erased  []span
	redact  map[int][]span // by leaf: rows it is edited in, without erased ones
	meta    *thriftpatch.Struct
	columns *thriftpatch.List
	chunks  []*chunkJob      // nil where the chunk is copied
	lineage []*lineageColumn // by leaf: a stored lineage column whose nulls are filled
	drop    bool
}

func (g *groupJob) touchedBy(leaf int) []span { return g.redact[leaf] }

// outGroup is a row group of the new footer; its chunks' metadata is encoded
// already, but for the places of page indexes.
type outGroup struct {
	meta    *thriftpatch.Struct
	columns [][]byte
}

// pendingIndex is a page index to be written behind the last row group.
type pendingIndex struct {
	group, column       int
	columnIndex, offset []byte // produced, or
	src                 *pq.Chunk
	in                  Input // of src
	shift               int64
}

func runSurgical(j *job, s *sink) error {
	e, cancel := newEngine(j, s)
	defer cancel(nil)
	if err := j.in.cacheIndexes(j.file); err != nil {
		return err
	}
	if err := e.prepare(); err != nil {
		return err
	}
	e.start()
	err := e.emit()
	cancel(err)
	e.wg.Wait()
	return err
}

func newEngine(j *job, s *sink) (*engine, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(j.ctx)
	return &engine{ctx: ctx, cancel: cancel, job: j, in: Input{j.in, j.in.Size}, sink: s,
		jobs: make(chan *pageJob), slots: make(chan struct{}, chunksAhead)}, cancel
}

// start sets the workers and the planners going.
func (e *engine) start() {
	for range max(1, e.job.opts.Workers) {
		e.wg.Add(1)
		go e.work()
	}
	e.wg.Add(1)
	go e.launch()
}

// prepare resolves the edit by row group and refuses what this path cannot
// do, before anything is written.
func (e *engine) prepare() error {
	groups, err := e.job.footer.List(fileRowGroups)
	if err != nil || groups == nil || len(groups.Values) != len(e.job.file.RowGroups) {
		return corrupt("footer: row groups")
	}
	for i, src := range e.job.file.RowGroups {
		g := &groupJob{src: src}
		if g.meta, err = groups.Struct(i); err != nil {
			return corrupt("row group %d: %w", i, err)
		}
		if g.columns, err = g.meta.List(groupColumns); err != nil || g.columns == nil {
			return corrupt("row group %d: columns", i)
		}
		g.erased = spansIn(e.job.plan.erase, src.FirstRow, src.FirstRow+src.Rows)
		g.drop = int64(total(g.erased)) == src.Rows // an empty row group goes too
		if err := e.prepareChunks(g); err != nil {
			return err
		}
		e.groups = append(e.groups, g)
	}
	return nil
}

func (e *engine) prepareChunks(g *groupJob) error {
	g.chunks = make([]*chunkJob, len(e.job.file.Schema.Columns))
	g.lineage = make([]*lineageColumn, len(g.chunks))
	if g.drop {
		return nil
	}
	g.redact = map[int][]span{}
	for leaf := range g.chunks {
		touched := e.job.plan.leaves[leaf].rows(g.src.FirstRow, g.src.FirstRow+g.src.Rows)
		if touched = subtract(touched, g.erased); len(touched) > 0 {
			g.redact[leaf] = touched
		}
		c, err := e.newChunk(g, leaf)
		if err != nil {
			return err
		}
		if len(e.job.plan.leaves[leaf].removal) > 0 && len(touched) > 0 && !c.src.HasOffsetIndex() {
			return unsupportedAt(c.src.Where(), "element removal without an offset index")
		}
		if g.lineage[leaf] = e.fills(c, leaf); g.lineage[leaf] != nil {
			continue
		}
		gaps, err := c.gaps()
		if err != nil {
			return err
		}
		if c.foreign = e.job.plan.wipe; len(g.erased) > 0 || len(touched) > 0 || gaps || c.foreign {
			g.chunks[leaf] = c
		}
	}
	return nil
}

// gaps says whether the chunk holds bytes of no page: then its pages are
// copied one by one, even without an edit.
func (c *chunkJob) gaps() (bool, error) {
	if c.src.Start == c.src.End {
		return false, nil
	}
	x, err := c.src.OffsetIndex()
	if err != nil || x == nil {
		return false, err
	}
	return !seamless(c.src, x), nil
}

// launch starts the planners of touched chunks in file order.
func (e *engine) launch() {
	defer e.wg.Done()
	for _, g := range e.groups {
		for _, c := range g.chunks {
			if c == nil {
				continue
			}
			select {
			case e.slots <- struct{}{}:
			case <-e.ctx.Done():
				return
			}
			e.wg.Add(1)
			go func() {
				defer e.wg.Done()
				defer close(c.items)
				if c.err = c.plan(); c.err != nil {
					e.cancel(c.err)
				}
			}()
		}
	}
}

func (e *engine) work() {
	defer e.wg.Done()
	s := &scratch{}
	for {
		select {
		case <-e.ctx.Done():
			return
		case j := <-e.jobs:
			if err := j.run(s); err != nil {
				j.err = fmt.Errorf("%s, page at %d: %w", j.chunk.src.Where(), j.page.Offset, err)
			}
			// The source bytes are done with; bounds in the header lie in them too.
			j.page.Body, j.page.RawHeader, j.stored = nil, nil, nil
			j.page.Header.Statistics = pq.PageStatistics{}
			close(j.done)
		}
	}
}

// failure prefers what stopped the pipeline over the cancellation it caused.
func (e *engine) failure(err error) error {
	if cause := context.Cause(e.ctx); cause != nil && e.job.ctx.Err() == nil {
		return cause
	}
	return err
}

func (e *engine) emit() error {
	if _, err := e.sink.Write([]byte("PAR1")); err != nil {
		return err
	}
	res := e.job.res
	for _, g := range e.groups {
		if g.drop {
			res.RowGroupsDropped++
			continue
		}
		if err := e.emitGroup(g); err != nil {
			return e.failure(fmt.Errorf("row group %d: %w", g.src.Index, err))
		}
		res.RowsOut += g.src.Rows - int64(total(g.erased))
	}
	if err := e.emitIndexes(); err != nil {
		return err
	}
	return e.emitFooter()
}

func (e *engine) emitFooter() error {
	out := e.job.footer.Clone()
	out.SetInt(fileNumRows, thriftpatch.I64, e.job.res.RowsOut)
	groups := &thriftpatch.List{Elem: thriftpatch.Record}
	for _, g := range e.out {
		g.meta.SetList(groupColumns, &thriftpatch.List{Elem: thriftpatch.Record, Values: g.columns})
		groups.AddStruct(g.meta)
	}
	out.SetList(fileRowGroups, groups)
	if err := e.job.plan.lineage.extend(out, e.job.file.Schema); err != nil {
		return err
	}
	_, err := e.sink.Write(appendFooter(nil, out))
	return err
}
