package verifier

import (
	"fmt"
	"strings"

	iceberg "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/warehouse"
)

// metaCheck knows where in Iceberg's metadata a key can stand.
type metaCheck struct {
	inv    *inventory
	single []metaKey // matches of one part: their values are keys by themselves
	tuples []metaTuple
	search *search
	types  map[int]iceberg.Type // field id → type, in any schema
}

// metaKey is a keyset of one part and the field that holds it.
type metaKey struct {
	keys *keyset.Set
	id   int
	conv *converter
}

func newMetaCheck(inv *inventory, matches []warehouse.BoundMatch) (*metaCheck, error) {
	m := &metaCheck{inv: inv, types: map[int]iceberg.Type{}}
	for _, s := range inv.meta.Schemas() {
		ids, err := iceberg.IndexByID(s)
		if err != nil {
			return nil, fmt.Errorf("index schema: %w", err)
		}
		for id, f := range ids {
			m.types[id] = f.Type
		}
	}
	if cur := inv.meta.CurrentSchema(); cur != nil { // the current type goes first
		if ids, err := iceberg.IndexByID(cur); err == nil {
			for id, f := range ids {
				m.types[id] = f.Type
			}
		}
	}
	var sets []*keyset.Set
	for _, b := range matches {
		sets = append(sets, b.Keys)
		if len(b.Columns) > 1 {
			t, err := newMetaTuple(b)
			if err != nil {
				return nil, err
			}
			if t.parts != nil {
				m.tuples = append(m.tuples, t)
			}
			continue
		}
		if b.Columns[0].FieldID == 0 {
			continue
		}
		c := &converter{part: b.Keys.Schema()[0]}
		if err := c.rules(); err != nil {
			return nil, err
		}
		m.single = append(m.single, metaKey{b.Keys, b.Columns[0].FieldID, c})
	}
	m.search = newSearch(sets)
	return m, nil
}

// project binds a match to a file that lacks a column, by the identity
// partition value that stands for it; nil when there is none.
func (m *metaCheck) project(f *parquetFile, match warehouse.BoundMatch, df iceberg.DataFile) (*boundKeys, error) {
	cols := columnsOf(f.MetaData().Schema)
	parts := match.Keys.Schema()
	b := &boundKeys{keys: match.Keys, consts: make([][]byte, len(parts))}
	for p, ref := range match.Columns {
		if c := resolve(cols, ref); c != absent {
			conv, err := newConverter(parts[p], f.MetaData().Schema.Column(c))
			if err != nil {
				return nil, err
			}
			b.cols, b.conv, b.info = append(b.cols, c), append(b.conv, conv), append(b.info, cols[c])
			continue
		}
		v, ok := m.partitionConst(parts[p], ref.FieldID, df)
		if !ok {
			return nil, nil
		}
		b.setConst(p, len(parts), v)
	}
	return b, nil
}

func (m *metaCheck) partitionConst(p keyset.Part, id int, df iceberg.DataFile) ([]byte, bool) {
	spec := m.inv.meta.PartitionSpecByID(int(df.SpecID()))
	if spec == nil || id == 0 {
		return nil, false
	}
	c := &converter{part: p}
	if c.rules() != nil {
		return nil, false
	}
	values := df.Partition()
	for _, f := range spec.Fields() {
		if identityOf(f, id) {
			return icebergValue(c, values[f.FieldID])
		}
	}
	return nil, false
}

func sourceID(f iceberg.PartitionField) int {
	if len(f.SourceIDs) > 0 {
		return f.SourceIDs[0]
	}
	return 0
}

// listSummaries looks at the partition ranges of a manifest in its list.
func (v *tableCheck) listSummaries(s table.Snapshot, m iceberg.ManifestFile) {
	certain, possible := v.meta.inRanges(m)
	at := Finding{Object: s.ManifestList, Snapshot: s.SnapshotID, State: "key in a partition range"}
	v.foundIn(ListSummaries, at, certain, true)
	v.foundIn(ListSummaries, at, possible, false)
}

// inRanges counts the keys in the partition ranges that a list has of a manifest.
func (m *metaCheck) inRanges(f iceberg.ManifestFile) (certain, possible int64) {
	spec := m.inv.meta.PartitionSpecByID(int(f.PartitionSpecID()))
	if spec == nil {
		return 0, 0
	}
	for i, sum := range f.Partitions() {
		for _, b := range []*[]byte{sum.LowerBound, sum.UpperBound} {
			if i < spec.NumFields() && b != nil && m.partitionBytes(spec.Field(i), *b) {
				certain++
			}
		}
	}
	for i := range m.tuples {
		c, p := m.tuples[i].inRanges(m, spec, f.Partitions())
		certain, possible = certain+c, possible+p
	}
	return certain, possible
}

// partitionBytes says whether a serialised partition value is a key.
func (m *metaCheck) partitionBytes(f iceberg.PartitionField, v []byte) bool {
	if _, ok := f.Transform.(iceberg.IdentityTransform); !ok {
		return false
	}
	for _, k := range m.single {
		if k.id != sourceID(f) || m.types[k.id] == nil {
			continue
		}
		if c, ok := icebergBound(k.conv, m.types[k.id], v); ok && k.keys.Contains(c) {
			return true
		}
	}
	return false
}

// entry looks at one manifest entry, whatever its status: a DELETED one keeps
// bounds and partition values as long as its manifest lives.
func (v *tableCheck) entry(s table.Snapshot, m iceberg.ManifestFile, e iceberg.ManifestEntry) {
	f := e.DataFile()
	state := "live entry"
	if e.Status() == iceberg.EntryStatusDELETED {
		state = "DELETED entry"
	} else if v.inv.head == nil || s.SnapshotID != v.inv.head.SnapshotID {
		state = "entry in history"
	}
	if f.ContentType() != iceberg.EntryContentData {
		state += " of a delete file"
	}
	at := Finding{Object: m.FilePath(), Snapshot: s.SnapshotID, State: state}
	certain, possible := v.meta.inBounds(f)
	v.foundIn(ManifestBounds, at, certain, true)
	v.foundIn(ManifestBounds, at, possible, false)
	v.foundIn(PartitionValues, at, v.meta.inPartition(f), true)
	v.path(f, at)
}

func (v *tableCheck) foundIn(surface string, at Finding, n int64, certain bool) {
	if n > 0 {
		at.Surface, at.Count, at.Certain = surface, n, certain
		v.sum.found(at)
	}
}

// inBounds counts the bounds of a manifest entry that are keys, and those cut
// short that a key begins with. The path bounds of a position delete file are
// paths of data files.
func (m *metaCheck) inBounds(f iceberg.DataFile) (certain, possible int64) {
	for _, bounds := range []map[int][]byte{f.LowerBoundValues(), f.UpperBoundValues()} {
		for _, k := range m.single {
			b := bounds[k.id]
			if b == nil || m.types[k.id] == nil {
				continue
			}
			if c, ok := icebergBound(k.conv, m.types[k.id], b); ok && k.keys.Contains(c) {
				certain++
			} else if cutKey(k.keys, b) {
				possible++
			}
		}
		if b := bounds[idDeletePath]; f.ContentType() == iceberg.EntryContentPosDeletes && b != nil {
			n, sure := m.inPath(string(b))
			if sure {
				certain += n
			} else {
				possible += n
			}
		}
	}
	for i := range m.tuples {
		c, p := m.tuples[i].inBounds(m, f)
		certain, possible = certain+c, possible+p
	}
	return certain, possible
}

// inPartition counts the partition values of a manifest entry that are keys.
func (m *metaCheck) inPartition(f iceberg.DataFile) (n int64) {
	spec := m.inv.meta.PartitionSpecByID(int(f.SpecID()))
	if spec == nil {
		return 0
	}
	values := f.Partition()
	for _, pf := range spec.Fields() {
		if _, ok := pf.Transform.(iceberg.IdentityTransform); !ok {
			continue
		}
		for _, k := range m.single {
			if k.id != sourceID(pf) {
				continue
			}
			if c, ok := icebergValue(k.conv, values[pf.FieldID]); ok && k.keys.Contains(c) {
				n++
			}
		}
	}
	for i := range m.tuples {
		n += m.tuples[i].inPartition(m, f)
	}
	return n
}

// path looks for keys in a file's path: partition directories by name, long
// keys anywhere.
func (v *tableCheck) path(f iceberg.DataFile, at Finding) {
	v.sum.looked(Paths, 1, 0)
	if n, certain := v.meta.inPath(f.FilePath()); n > 0 {
		at.Surface, at.Object, at.Count, at.Certain = Paths, f.FilePath(), n, certain
		v.sum.found(at)
	}
}

// inPath counts keys in a path. "name=value" of a partition field is exact.
func (m *metaCheck) inPath(path string) (n int64, certain bool) {
	for name, val := range segments(path) {
		for _, k := range m.single {
			if !m.partitionName(name, k.id) {
				continue
			}
			if c, err := k.conv.part.Type.AppendText(nil, k.conv.normalized([]byte(val))); err == nil && k.keys.Contains(c) {
				n++
			}
		}
	}
	for i := range m.tuples {
		if m.tuples[i].inPath(m, path) {
			n++
		}
	}
	if n > 0 {
		return n, true
	}
	s := *m.search // shared by workers
	s.certain = true
	n = s.strings([]byte(path))
	return n, n > 0 && s.certain
}

// inText counts keys in one string of metadata. Partition values stand there
// as in paths: Spark's snapshot summaries have "partitions.id=42".
func (m *metaCheck) inText(s *search, t string) int64 {
	if strings.Contains(t, "=") {
		n, certain := m.inPath(strings.TrimPrefix(t, "partitions."))
		s.certain = s.certain && (n == 0 || certain)
		return n
	}
	return s.strings([]byte(t))
}

// partitionName says whether an identity partition field of the source has this name.
func (m *metaCheck) partitionName(name string, source int) bool {
	for _, spec := range m.inv.meta.PartitionSpecs() {
		for _, f := range spec.Fields() {
			if f.Name == name && identityOf(f, source) {
				return true
			}
		}
	}
	return false
}
