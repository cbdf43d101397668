package verifier

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"strings"

	iceberg "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/puffin"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/warehouse"
)

// metadataFiles searches every version of the table's metadata that is known
// or stored beside the current one.
func (v *tableCheck) metadataFiles() error {
	if !v.o.Metadata {
		return nil
	}
	seen := pathSet{}
	check := func(loc string, raw []byte) error {
		if !seen.add(loc) {
			return nil
		}
		if raw == nil {
			var err error
			if raw, err = storage.ReadAll(v.ctx, v.store, loc); isNotExist(err) {
				return nil // logged and already removed
			} else if err != nil {
				v.sum.leave(TableMetadata, true)
				return v.ctx.Err()
			}
		}
		v.sum.looked(TableMetadata, 1, int64(len(raw)))
		v.searchJSON(TableMetadata, loc, raw)
		return nil
	}
	if err := check(v.inv.loc, v.inv.raw); err != nil {
		return err
	}
	for e := range v.inv.meta.PreviousFiles() {
		if err := check(e.MetadataFile, nil); err != nil {
			return err
		}
	}
	dir := strings.TrimSuffix(v.inv.loc, path.Base(v.inv.loc))
	for info, err := range v.store.List(v.ctx, dir) {
		if err != nil {
			return fmt.Errorf("list metadata: %w", err)
		}
		if isMetadataFile(info.Path) {
			if err := check(info.Path, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

func isMetadataFile(p string) bool {
	return strings.HasSuffix(p, ".metadata.json") || strings.HasSuffix(p, ".metadata.json.gz") || strings.HasSuffix(p, ".gz.metadata.json")
}

// searchJSON looks for keys in the strings of a JSON document. Numbers there
// are counts, ids and times.
func (v *tableCheck) searchJSON(surface, loc string, raw []byte) {
	if z, err := gzip.NewReader(bytes.NewReader(raw)); err == nil {
		if plain, err := io.ReadAll(io.LimitReader(z, 1<<30)); err == nil {
			raw = plain
		}
	}
	s := *v.meta.search
	s.certain = true
	var hits int64
	var doc any
	if json.Unmarshal(raw, &doc) == nil {
		eachString(doc, func(t string) { hits += v.meta.inText(&s, t) })
	} else {
		hits = s.strings(raw)
	}
	if hits > 0 {
		v.sum.found(Finding{Surface: surface, Object: loc, Count: hits, Certain: s.certain, State: "key in text"})
	}
}

func eachString(v any, visit func(string)) {
	switch v := v.(type) {
	case string:
		visit(v)
	case []any:
		for _, e := range v {
			eachString(e, visit)
		}
	case map[string]any:
		for k, e := range v {
			visit(k)
			eachString(e, visit)
		}
	}
}

// deleteFiles reads every delete file that any snapshot reaches: equality
// deletes are keys, position deletes may carry whole rows.
func (v *tableCheck) deleteFiles() error {
	if !v.o.Metadata {
		return nil
	}
	seen := pathSet{}
	for _, f := range v.removal {
		if f.FileFormat() == iceberg.PuffinFile || !seen.add(f.FilePath()) {
			continue // deletion vectors hold positions; their files are read with the Puffin files
		}
		if err := v.deleteFile(f); err != nil {
			return err
		}
	}
	return nil
}

func (v *tableCheck) deleteFile(f iceberg.DataFile) error {
	surface, state := PositionDeletes, "key in a row of a position delete"
	if f.ContentType() == iceberg.EntryContentEqDeletes {
		surface, state = EqualityDeletes, "key in an equality delete"
	}
	hits, read, err := v.scanAny(f.FilePath())
	if err != nil {
		if v.ctx.Err() != nil {
			return v.ctx.Err()
		}
		v.sum.leave(surface, true)
		return nil
	}
	v.sum.looked(surface, 1, read)
	if hits > 0 {
		v.sum.found(Finding{Surface: surface, Object: f.FilePath(), Count: hits, Certain: true, State: state})
	}
	if surface == PositionDeletes {
		return v.deletedPaths(f.FilePath())
	}
	return nil
}

// deletedPaths looks at the paths that a position delete file names: where a
// table is partitioned by a key, they hold it long after the files are gone.
func (v *tableCheck) deletedPaths(loc string) error {
	f, err := openParquet(v.ctx, v.store, loc)
	if err != nil {
		return nil // counted as unread already
	}
	defer f.Close()
	col := resolve(columnsOf(f.MetaData().Schema), warehouse.ColumnRef{FieldID: idDeletePath, Path: []string{"file_path"}})
	if col == absent {
		return nil
	}
	paths := newPairs(f.leaf(v.ctx, col))
	defer paths.l.close()
	at := Finding{Surface: Paths, Object: loc, Certain: true, State: "key in a path that a position delete names"}
	last := ""
	for {
		p, ok, err := paths.next()
		if err != nil {
			v.sum.leave(Paths, true)
			return v.ctx.Err()
		}
		if !ok {
			break
		}
		if string(p) == last {
			continue
		}
		last = string(p)
		n, certain := v.meta.inPath(last)
		at.Count, at.Certain = at.Count+n, at.Certain && (n == 0 || certain)
	}
	v.sum.looked(Paths, 1, f.read())
	if at.Count > 0 {
		v.sum.found(at)
	}
	return nil
}

// scanAny scans a Parquet file of any kind for keys.
func (v *tableCheck) scanAny(loc string) (hits, read int64, err error) {
	f, err := openParquet(v.ctx, v.store, loc)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	bound, err := bindFile(f, v.keyed)
	if err != nil {
		return 0, 0, err
	}
	rows, err := scanKeys(v.ctx, f, bound)
	if err != nil {
		return 0, 0, err
	}
	return int64(rows.GetCardinality()), f.read(), nil
}

// puffins looks at Puffin files: statistics and deletion vectors. Vectors hold
// positions only; sketches hold hashes of values, which is possible residue.
func (v *tableCheck) puffins() error {
	if !v.o.Metadata {
		return nil
	}
	v.sum.looked(Puffin, 0, 0)
	var locs []string
	for s := range v.inv.meta.Statistics() {
		locs = append(locs, s.StatisticsPath)
	}
	seen := pathSet{}
	for _, f := range v.removal {
		if f.FileFormat() == iceberg.PuffinFile && seen.add(f.FilePath()) {
			locs = append(locs, f.FilePath())
		}
	}
	for _, loc := range locs {
		if err := v.puffin(loc); err != nil {
			if v.ctx.Err() != nil {
				return v.ctx.Err()
			}
			v.sum.leave(Puffin, true)
		}
	}
	return nil
}

func (v *tableCheck) puffin(loc string) error {
	obj, err := v.store.Open(v.ctx, loc)
	if err != nil {
		return fmt.Errorf("open puffin file: %w", err)
	}
	defer obj.Close()
	return v.puffinObject(loc, obj, obj.Info().Size)
}

func (v *tableCheck) puffinObject(loc string, r io.ReaderAt, size int64) (err error) {
	defer guard(&err)
	src := &counted{ReaderAt: r}
	p, err := puffin.NewReader(io.NewSectionReader(src, 0, size))
	if err != nil {
		return errCorrupt
	}
	s := *v.meta.search
	s.certain = true
	var hits, sketches int64
	text := func(m map[string]string) {
		for k, val := range m {
			hits += v.meta.inText(&s, k) + v.meta.inText(&s, val)
		}
	}
	text(p.Properties())
	for i, b := range p.Blobs() {
		text(b.Properties)
		switch b.Type {
		case puffin.BlobTypeDeletionVector:
		case puffin.BlobTypeDataSketchesTheta:
			if v.meta.sketched(b.Fields) {
				sketches++
			}
		default:
			blob, err := p.ReadBlob(i)
			if err != nil {
				return errCorrupt
			}
			hits += s.raw(blob.Data)
		}
	}
	v.sum.looked(Puffin, 1, src.n.Load())
	if hits > 0 {
		v.sum.found(Finding{Surface: Puffin, Object: loc, Count: hits, Certain: s.certain, State: "key in a blob or its properties"})
	}
	if sketches > 0 {
		v.sum.found(Finding{Surface: Puffin, Object: loc, Count: sketches, State: "sketch of a key column: hashes of values"})
	}
	return nil
}

// partitionStatistics reads the files of statistics by partition: where a table
// is partitioned by a key, they are a list of keys (specification, "Partition
// Statistics").
func (v *tableCheck) partitionStatistics() error {
	if !v.o.Metadata {
		return nil
	}
	seen := pathSet{}
	for s := range v.inv.meta.PartitionStatistics() {
		if !seen.add(s.StatisticsPath) {
			continue
		}
		if err := v.partitionFile(s.StatisticsPath, s.SnapshotID); err != nil {
			if v.ctx.Err() != nil {
				return v.ctx.Err()
			}
			v.sum.leave(PartitionValues, true)
		}
	}
	return nil
}

func (v *tableCheck) partitionFile(loc string, snapshot int64) error {
	f, err := openParquet(v.ctx, v.store, loc)
	if err != nil {
		return err
	}
	defer f.Close()
	bound, err := bindFile(f, v.meta.partitionColumns())
	if err != nil {
		return err
	}
	rows, err := scanKeys(v.ctx, f, bound)
	if err != nil {
		return err
	}
	v.sum.looked(PartitionValues, 1, f.read())
	v.foundIn(PartitionValues, Finding{Object: loc, Snapshot: snapshot, State: "key in partition statistics"}, int64(rows.GetCardinality()), true)
	return nil
}

// partitionColumns are the columns of partition values that are keys.
func (m *metaCheck) partitionColumns() (out []warehouse.BoundMatch) {
	for _, spec := range m.inv.meta.PartitionSpecs() {
		for _, k := range m.single {
			for _, pf := range spec.Fields() {
				if identityOf(pf, k.id) {
					out = append(out, warehouse.BoundMatch{Keys: k.keys, Columns: []warehouse.ColumnRef{partitionColumn(pf)}})
				}
			}
		}
		for i := range m.tuples {
			if cols := m.tuples[i].columns(&spec); cols != nil {
				out = append(out, warehouse.BoundMatch{Keys: m.tuples[i].keys, Columns: cols})
			}
		}
	}
	return out
}

// sketched says whether a sketch is about a key column.
func (m *metaCheck) sketched(fields []int32) bool {
	for _, f := range fields {
		for _, k := range m.single {
			if int(f) == k.id {
				return true
			}
		}
	}
	return false
}
