package iceberg

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"

	icebergo "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"golang.org/x/sync/errgroup"

	"github.com/expunge/expunge/warehouse"
)

const (
	// manifestWorkers decode manifests ahead of the one being consumed.
	manifestWorkers = 2
	// manifestAhead bounds the decided files that wait, a manifest.
	manifestAhead = 512
	// manifestBuffer is the size of a range read of a manifest.
	manifestBuffer = 1 << 20
)

// planner decides about the data files of one snapshot.
type planner struct {
	t              *Table
	meta           table.Metadata
	schemaID       int
	matches        []matchPruner
	timeRange      *timeBound
	specs          map[int32]*specPruner
	deletes        *deleteIndex
	index          KeyIndex
	compact        *compactor
	residue        bool // Selection.Residue
	keyPartitioned bool
	redefined      []int // columns that the action gives new values
}

func (t *Table) newPlanner(meta table.Metadata, sel warehouse.Selection) (*planner, error) {
	p := &planner{t: t, meta: meta, schemaID: meta.CurrentSchema().ID, index: t.keyIndex, compact: newCompactor(meta, sel.Compact), residue: sel.Residue}
	bound, err := t.bind(meta, sel)
	if err != nil {
		return nil, err
	}
	for _, b := range bound {
		p.matches = append(p.matches, newMatchPruner(b))
	}
	action, err := bindAction(meta, sel)
	if err != nil {
		return nil, fmt.Errorf("table %s: %w", t.name, err)
	}
	p.redefined = action.Redefined
	if sel.Time != nil {
		if p.timeRange, err = newTimeBound(meta, *sel.Time); err != nil {
			return nil, fmt.Errorf("table %s: %w", t.name, err)
		}
	}
	p.specs = map[int32]*specPruner{}
	for _, spec := range meta.PartitionSpecs() {
		s := newSpecPruner(spec, p.matches)
		p.specs[int32(spec.ID())] = s
		p.keyPartitioned = p.keyPartitioned || s.keyed
	}
	return p, nil
}

// eachFile calls visit for every live data file of the manifests, in order.
// Workers decode up to manifestWorkers manifests ahead; each holds at most
// manifestAhead files, so memory does not grow with the table.
func (p *planner) eachFile(ctx context.Context, manifests []icebergo.ManifestFile, visit func(planned) error) error {
	manifests = slices.DeleteFunc(slices.Clone(manifests), func(m icebergo.ManifestFile) bool {
		return m.ManifestContent() != icebergo.ManifestContentData
	})
	g, ctx := errgroup.WithContext(ctx)
	queues := make(chan chan planned, manifestWorkers)
	g.Go(func() error { return p.decodeAll(ctx, manifests, queues) })
	g.Go(func() error {
		for q := range queues {
			for f := range q {
				if err := visit(f); err != nil {
					return err
				}
			}
		}
		return ctx.Err()
	})
	return g.Wait()
}

// decodeAll starts one worker a manifest, at most manifestWorkers at a time,
// and hands their queues over in the manifests' order.
func (p *planner) decodeAll(ctx context.Context, manifests []icebergo.ManifestFile, queues chan<- chan planned) error {
	defer close(queues)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(manifestWorkers)
	for _, m := range manifests {
		if ctx.Err() != nil {
			break
		}
		q := make(chan planned, manifestAhead)
		g.Go(func() error {
			defer close(q)
			return p.decode(ctx, m, q)
		})
		select {
		case queues <- q:
		case <-ctx.Done():
		}
	}
	return g.Wait()
}

// decode decides about each live entry of a data manifest.
func (p *planner) decode(ctx context.Context, m icebergo.ManifestFile, q chan<- planned) error {
	spec := p.specs[m.PartitionSpecID()]
	if spec == nil {
		return fmt.Errorf("manifest follows partition spec %d, which the table does not have", m.PartitionSpecID())
	}
	// A manifest whose partitions are all out of reach needs no statistics.
	pruned := !spec.mayMatchSummaries(m.Partitions())
	stats := icebergo.ManifestEntryProjection{IncludePruningStats: !pruned}
	for e, err := range p.t.entries(ctx, m, stats) {
		if err != nil {
			return err
		}
		f := p.decide(e, spec, pruned)
		select {
		case q <- f:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// decide says what becomes of one live data file.
func (p *planner) decide(e icebergo.ManifestEntry, spec *specPruner, pruned bool) planned {
	df := e.DataFile()
	f := planned{file: warehouse.File{
		Path:         df.FilePath(),
		Format:       strings.ToLower(string(df.FileFormat())),
		Size:         df.FileSizeBytes(),
		Rows:         df.Count(),
		SpecID:       df.SpecID(),
		DataSequence: e.SequenceNum(),
		FirstRowID:   df.FirstRowID(),
	}}
	if len(p.matches) > 0 && !pruned {
		f.file.Projected = spec.projected(df.Partition())
	}
	switch {
	case len(p.matches) == 0:
		f.reason = reasonCompact
	case p.residue && f.file.Format == "parquet" && len(df.KeyMetadata()) == 0:
		if p.timeRange != nil && p.timeRange.outside(statsOf(df)) {
			f.reason = reasonTime
		}
	case pruned:
		f.reason = reasonPartition
	default:
		f.reason = p.prune(df, spec, f.file.Projected)
	}
	if f.reason != "" && (p.compact == nil || f.reason == reasonTime) {
		return f
	}
	switch {
	case f.file.Format != "parquet":
		f.excluded = "data files of format " + f.file.Format + " are not supported"
	case len(df.KeyMetadata()) > 0:
		f.excluded = "encrypted data files are not supported"
	case f.file.DataSequence < 0:
		f.excluded = "the manifest gives the data file no sequence number"
	default:
		deletes := p.deletes.forFile(df, f.file.DataSequence)
		f.file.Deletes, f.excluded = deletes.files, deletes.bad
	}
	switch {
	case f.reason != "" && f.excluded != "":
		f.excluded = "" // no key can be in it, and compaction leaves it as it is
	case p.compact != nil && f.excluded == "":
		p.compact.look(df, &f)
	}
	return f
}

// prune returns why no row of the file can be asked for, or "".
func (p *planner) prune(df icebergo.DataFile, spec *specPruner, projected []warehouse.Projected) string {
	partition := df.Partition()
	stats := statsOf(df)
	byPartition := true
	for i := range p.matches {
		m := &p.matches[i]
		// What the file lacks is in none of its statistics, nor in the index.
		given := m.defaulted || slices.ContainsFunc(projected, func(p warehouse.Projected) bool { return p.Match == i })
		switch {
		case !spec.mayMatch(i, partition):
		case !given && !m.mayMatch(stats):
			byPartition = false
		case !given && p.index != nil && p.index.Excludes(df.FilePath(), df.FileSizeBytes(), i):
			byPartition = false
			stats.indexed = true
		default:
			if p.timeRange != nil && p.timeRange.outside(stats) {
				return reasonTime
			}
			return ""
		}
	}
	switch {
	case byPartition:
		return reasonPartition
	case stats.indexed:
		return reasonIndex
	}
	return reasonBounds
}

// entries streams the live entries of a manifest. Its bytes are read in pieces.
func (t *Table) entries(ctx context.Context, m icebergo.ManifestFile, stats icebergo.ManifestEntryProjection) iter.Seq2[icebergo.ManifestEntry, error] {
	return func(yield func(icebergo.ManifestEntry, error) bool) {
		obj, err := t.store.Open(ctx, m.FilePath())
		if err != nil {
			yield(nil, fmt.Errorf("open manifest: %w", cleanError(err)))
			return
		}
		defer obj.Close()
		in := bufio.NewReaderSize(io.NewSectionReader(obj, 0, obj.Info().Size), int(min(manifestBuffer, max(obj.Info().Size, 16))))
		r, err := icebergo.NewManifestReaderWithProjection(m, in, stats)
		if err != nil {
			yield(nil, fmt.Errorf("read manifest: %w", cleanError(err)))
			return
		}
		defer r.Close()
		for {
			e, err := r.ReadEntry()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(nil, fmt.Errorf("read manifest entry: %w", cleanError(err)))
				return
			}
			if e.Status() != icebergo.EntryStatusDELETED && !yield(e, nil) {
				return
			}
		}
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
