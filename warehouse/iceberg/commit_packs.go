package iceberg

import (
	"context"
	"fmt"

	"github.com/apache/iceberg-go"

	"github.com/expunge/expunge/warehouse"
)

// A pack is one output that replaces several sources. It stands only as long
// as each of them does: when one has vanished, or has deletes that its result
// does not know, the output holds rows that the head has not. Then the others
// are scanned one by one, and the output is not used.

// addPack notes a packed result's source under its output.
func (c *committer) addPack(key pathKey, s *source, r warehouse.Result) {
	if r.Packed == nil {
		return
	}
	s.pack = keyOf(r.Output.Path)
	p := c.packs[s.pack]
	if p == nil {
		p = &pack{files: r.Packed.Files, rows: r.Output.Rows}
		c.packs[s.pack] = p
	}
	p.sources = append(p.sources, key)
}

// pack is an output with the sources that it replaces.
type pack struct {
	files   int   // sources that there have to be
	rows    int64 // of the output
	sources []pathKey
}

// checkPacks demands that each packed output is accounted for, row by row.
func (c *committer) checkPacks() error {
	for _, p := range c.packs {
		var rows int64
		for _, k := range p.sources {
			rows += c.sources[k].rowsOut
		}
		if len(p.sources) != p.files || rows != p.rows {
			return fmt.Errorf("a packed output has %d rows of %d files, its results give it %d of %d", p.rows, p.files, rows, len(p.sources))
		}
	}
	return nil
}

// whole says whether a pack can be committed: all of its sources are live and
// still stand for it.
func (c *committer) whole(p *pack, id pathKey, live map[pathKey]bool) bool {
	for _, k := range p.sources {
		if s := c.sources[k]; s == nil || s.pack != id || !live[k] {
			return false
		}
	}
	return true
}

// broken lists the live files of packs that cannot be committed as they are.
// stale are the sources that will be scanned again anyway.
func (c *committer) broken(live map[pathKey]bool, stale pathSet) pathSet {
	out := pathSet{}
	for id, p := range c.packs {
		gone := !c.whole(p, id, live)
		for _, k := range p.sources {
			gone = gone || stale.has(k)
		}
		if !gone {
			continue
		}
		for _, k := range p.sources {
			if s := c.sources[k]; s != nil && s.pack == id && live[k] && !stale.has(k) {
				out.add(k)
			}
		}
	}
	return out
}

// unpack makes tasks of the live files of broken packs, with the deletes of this head.
func (c *committer) unpack(ctx context.Context, list []iceberg.ManifestFile, index *headDeletes, again []warehouse.Task) ([]warehouse.Task, error) {
	if len(c.packs) == 0 {
		return again, nil
	}
	live, err := c.liveSources(list)
	if err != nil {
		return nil, err
	}
	stale := pathSet{}
	for i := range again {
		again[i].Pack = nil
		stale.add(keyOf(again[i].File.Path))
	}
	open := c.broken(live, stale)
	for _, m := range list {
		u := c.data[m.FilePath()]
		if u == nil || len(open) == 0 {
			continue
		}
		for e, err := range iceberg.EntriesWithProjection(c.t.fs(ctx), m, true, iceberg.ManifestEntryProjection{}) {
			if err != nil {
				return nil, fmt.Errorf("read manifest: %w", hide(err))
			}
			if key := keyOf(e.DataFile().FilePath()); open.has(key) {
				delete(open, key)
				again = append(again, c.newTask(e, key, index))
			}
		}
	}
	return again, nil
}

// packEntry is what a packed output's entry takes from all of its sources: the
// partition that they share, and the highest sequence number up to which
// deletes are folded in, which is the planned snapshot's for each.
func (c *committer) packEntry(s *source) (seq int64, err error) {
	seq = max(s.seq, s.entrySeq)
	if s.pack == (pathKey{}) {
		return seq, nil
	}
	for _, k := range c.packs[s.pack].sources {
		o := c.sources[k]
		if o.part != s.part || (o.firstRow == nil) != (s.firstRow == nil) || o.seq < o.entrySeq || o.seq != s.seq {
			return 0, fmt.Errorf("packed files are not of one partition and plan: %w", warehouse.ErrUnsupported)
		}
	}
	return seq, nil
}
