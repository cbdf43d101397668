package iceberg

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/warehouse"
)

// Equality delete files name the values whose rows they hide: where a key
// column is among theirs, they are keys. One stays live as long as an older
// file of its partition does, although that file may hold none of its rows.
//
// A purge takes the run's keys out of those that the run's commit found. That
// brings no row back: a tuple leaves only when none of the live files that the
// delete file applies to holds it, which is read from their columns wherever
// bounds leave room for a key. Delete files newer than the commit stay: they
// may hide rows that arrived after it.

// strip is a delete file that names keys.
type strip struct {
	*deleteEntry
	spec  int32
	ids   []int // sorted
	hits  map[string]bool
	group *stripGroup
}

// leaves says whether a tuple is taken out.
func (s *strip) leaves(tuple []byte) bool {
	return s.hits[string(tuple)] && !s.group.needed[string(tuple)]
}

// equalityCache keeps between attempts what was read of immutable files, so
// that the time between loading a head and replacing it stays short.
type equalityCache struct {
	parts   *partitions
	groups  map[string]*stripGroup
	deletes map[pathKey]*strip // nil: names no key
	data    pathSet            // data files whose tuples were noted
}

// stripGroup is what delete files of the same columns share.
type stripGroup struct {
	fields []field
	needed map[string]bool // tuples that a live file still holds
}

// keyDeletes finds the equality delete files to strip, and whether some tuple
// has to stay.
func (p *purge) keyDeletes(ctx context.Context, meta table.Metadata, l *line) (strips []*strip, stay bool, err error) {
	head := meta.CurrentSnapshot()
	if meta.Version() < 2 || len(p.req.Selection.Match) == 0 || p.req.Selection.Action.Kind == warehouse.Redact {
		// A redaction refuses columns that equality deletes compare, and leaves the keys of others in the table.
		return nil, false, nil
	}
	bound, err := p.t.bind(meta, p.req.Selection)
	if errors.Is(err, warehouse.ErrNotFound) || errors.Is(err, warehouse.ErrType) {
		return nil, false, nil // the columns are gone by now: the verification says what is left
	}
	if err != nil {
		return nil, false, err
	}
	list, err := head.Manifests(p.t.fs(ctx))
	if err != nil {
		return nil, false, fmt.Errorf("read manifest list: %w", hide(err))
	}
	if p.eq == nil {
		p.eq = &equalityCache{parts: newPartitions(), groups: map[string]*stripGroup{}, deletes: map[pathKey]*strip{}, data: pathSet{}}
	}
	for _, m := range list {
		if m.ManifestContent() != iceberg.ManifestContentDeletes {
			continue
		}
		spec := meta.PartitionSpecByID(int(m.PartitionSpecID()))
		for e, err := range p.t.entries(ctx, m, iceberg.ManifestEntryProjection{}) {
			if err != nil {
				return nil, false, err
			}
			if e.DataFile().ContentType() != iceberg.EntryContentEqDeletes || e.SequenceNum() > l.seq {
				continue
			}
			d := newDeleteEntry(e, p.eq.parts, spec == nil || spec.IsUnpartitioned())
			s, read := p.eq.deletes[d.key]
			if !read {
				if s, err = p.namesKeys(ctx, d, bound); err != nil {
					return nil, false, err
				}
				p.eq.deletes[d.key] = s
				if s != nil {
					clear(p.eq.data) // data files were read without its tuples in mind
				}
			}
			if s != nil {
				s.spec = m.PartitionSpecID()
				strips = append(strips, s)
			}
		}
	}
	if len(strips) == 0 {
		return nil, false, nil
	}
	if err := p.stillNeeded(ctx, meta, list, strips); err != nil {
		return nil, false, err
	}
	strips, stay = withoutKept(strips)
	return strips, stay, nil
}

// withoutKept leaves out what has to stay as it is.
func withoutKept(strips []*strip) (out []*strip, stay bool) {
	for _, s := range strips {
		leaving := 0
		for tuple := range s.hits {
			if s.leaves([]byte(tuple)) {
				leaving++
			}
		}
		if leaving > 0 {
			out = append(out, s)
		}
		stay = stay || leaving < len(s.hits)
	}
	return out, stay
}

// namesKeys reads a delete file's tuples; nil when none holds a key.
func (p *purge) namesKeys(ctx context.Context, d *deleteEntry, bound []binding) (*strip, error) {
	ids := slices.Sorted(slices.Values(d.file.EqualityIDs))
	var tests []binding
	for _, b := range bound {
		if !slices.ContainsFunc(b.fields, func(f field) bool { return !slices.Contains(ids, f.leaf().ID) }) {
			tests = append(tests, b)
		}
	}
	if len(tests) == 0 {
		return nil, nil
	}
	g := p.eq.groups[idsKey(ids)]
	if g == nil {
		fields, err := p.t.equalityFields(ctx, ids)
		if err != nil {
			return nil, err
		}
		g = &stripGroup{fields: fields, needed: map[string]bool{}}
		p.eq.groups[idsKey(ids)] = g
	}
	s := &strip{deleteEntry: d, ids: ids, hits: map[string]bool{}, group: g}
	err := p.t.eachEquality(ctx, d.file, g.fields, func(tuple []byte) error {
		for _, b := range tests {
			if isKey(b, g.fields, tuple) {
				s.hits[string(tuple)] = true
				break
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(s.hits) == 0 {
		return nil, nil
	}
	return s, nil
}

// isKey says whether the tuple's values in the match's columns are a key.
func isKey(b binding, fields []field, tuple []byte) bool {
	values := make(map[int][]byte, len(fields))
	for _, f := range fields {
		v, rest, ok := cutTupleBytes(tuple)
		if !ok {
			if len(tuple) == 0 {
				return false
			}
			v, rest = nil, tuple[1:] // NULL, which is no key
		}
		values[f.leaf().ID], tuple = v, rest
	}
	var key []byte
	for i, f := range b.fields {
		v := values[f.leaf().ID]
		if v == nil {
			return false
		}
		var n int64
		switch f.leaf().Type.(type) {
		case iceberg.Int32Type, iceberg.Int64Type, iceberg.DateType:
			if len(v) != 8 {
				return false
			}
			n, v = int64(binary.BigEndian.Uint64(v)), nil
		case iceberg.DecimalType:
			if len(v) == 0 || len(v) > 16 {
				return false
			}
			wide := signExtend(v)
			v = wide[:]
		}
		var ok bool
		if key, ok = b.matcher.AppendPart(key, i, n, v); !ok {
			return false
		}
	}
	return b.matcher.Contains(key)
}

// stillNeeded notes the tuples that a live file holds which one of the delete
// files applies to. Files whose bounds or partition leave no room for a key
// are not opened.
func (p *purge) stillNeeded(ctx context.Context, meta table.Metadata, list []iceberg.ManifestFile, strips []*strip) error {
	sel := p.req.Selection
	sel.Time = nil
	pl, err := p.t.newPlanner(meta, sel)
	if err != nil {
		return err
	}
	var newest int64
	for _, s := range strips {
		newest = max(newest, s.file.Sequence)
	}
	for _, m := range list {
		if m.ManifestContent() != iceberg.ManifestContentData || m.MinSequenceNum() >= newest {
			continue
		}
		spec := pl.specs[m.PartitionSpecID()]
		if spec == nil {
			return fmt.Errorf("manifest follows partition spec %d, which the table does not have", m.PartitionSpecID())
		}
		for e, err := range p.t.entries(ctx, m, iceberg.ManifestEntryProjection{IncludePruningStats: true}) {
			if err != nil {
				return err
			}
			df := e.DataFile()
			var apply []*strip
			for _, s := range strips {
				if s.file.Sequence > e.SequenceNum() && (s.global || s.part == p.eq.parts.of(df)) {
					apply = append(apply, s)
				}
			}
			key := keyOf(df.FilePath())
			if len(apply) == 0 || p.eq.data.has(key) || pl.prune(df, spec, spec.projected(df.Partition())) != "" {
				continue
			}
			if err := p.noteNeeded(ctx, df, apply); err != nil {
				return err
			}
			p.eq.data.add(key)
		}
	}
	return nil
}

func (p *purge) noteNeeded(ctx context.Context, df iceberg.DataFile, apply []*strip) error {
	if df.FileFormat() != iceberg.ParquetFile {
		for _, s := range apply { // unreadable here: everything has to stay
			for tuple := range s.hits {
				s.group.needed[tuple] = true
			}
		}
		return nil
	}
	f, err := openColumns(ctx, p.t.store, df.FilePath())
	if err != nil {
		return fmt.Errorf("read data file for equality deletes: %w", err)
	}
	defer f.Close()
	done := map[*stripGroup]bool{}
	for _, s := range apply {
		if done[s.group] {
			continue
		}
		done[s.group] = true
		cols, err := f.tupleColumns(s.group.fields, true)
		if err != nil {
			return err
		}
		err = f.eachTuple(ctx, cols, nil, func(_ int64, tuple []byte) error {
			for _, o := range apply {
				if o.group == s.group && o.hits[string(tuple)] {
					s.group.needed[string(tuple)] = true
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("read data file for equality deletes: %w", err)
		}
	}
	return nil
}

// lists says whether a delete manifest lists one of the delete files.
func (t *Table) lists(ctx context.Context, m iceberg.ManifestFile, keys pathSet) (bool, error) {
	for e, err := range t.entries(ctx, m, iceberg.ManifestEntryProjection{}) {
		if err != nil {
			return false, err
		}
		if keys.has(keyOf(e.DataFile().FilePath())) {
			return true, nil
		}
	}
	return false, nil
}
