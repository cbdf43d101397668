package iceberg

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"

	icebergo "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/expunge/expunge/warehouse"
)

// The kinds of warehouse.DeleteFile.
const (
	deletePosition = "position"
	deleteEquality = "equality"
	deleteVector   = "dv"
)

// filePathField is the reserved id of file_path in position delete files.
const filePathField = 2147483546

// deleteIndex finds the delete files that apply to a data file
// (specification, "Scan Planning"). It holds one small entry a delete file.
type deleteIndex struct {
	dvs      map[string]indexedDelete   // by referenced data file
	byPath   map[string][]indexedDelete // position deletes by the only path they name
	lengths  []int                      // of the keys of byPath, distinct
	byTuple  map[string][]indexedDelete // position deletes by partition
	equality map[string][]indexedDelete // by partition
	global   []indexedDelete            // equality deletes of unpartitioned specs
	whole    map[int32]bool             // specs that do not partition
}

type indexedDelete struct {
	file         warehouse.DeleteFile
	lower, upper string // bounds of file_path in a position delete file
	bad          string // why it cannot be read, "" = it can
}

// indexDeletes reads the delete manifests of a snapshot.
func (t *Table) indexDeletes(ctx context.Context, meta table.Metadata, manifests []icebergo.ManifestFile) (*deleteIndex, error) {
	x := newDeleteIndex(meta)
	for _, m := range manifests {
		if m.ManifestContent() != icebergo.ManifestContentDeletes {
			continue
		}
		for e, err := range t.entries(ctx, m, icebergo.ManifestEntryProjection{IncludePruningStats: true}) {
			if err != nil {
				return nil, fmt.Errorf("index delete files: %w", err)
			}
			if err := x.add(e); err != nil {
				return nil, err
			}
		}
	}
	x.seal()
	return x, nil
}

func newDeleteIndex(meta table.Metadata) *deleteIndex {
	whole := map[int32]bool{}
	for _, spec := range meta.PartitionSpecs() {
		whole[int32(spec.ID())] = spec.IsUnpartitioned()
	}
	return &deleteIndex{
		whole:    whole,
		dvs:      map[string]indexedDelete{},
		byPath:   map[string][]indexedDelete{},
		byTuple:  map[string][]indexedDelete{},
		equality: map[string][]indexedDelete{},
	}
}

// isDV says whether a delete file is a deletion vector.
func isDV(df icebergo.DataFile) bool {
	return df.ContentType() == icebergo.EntryContentPosDeletes && strings.EqualFold(string(df.FileFormat()), string(icebergo.PuffinFile))
}

// deleteFileOf is the part of a manifest entry that reading its deletes needs.
func deleteFileOf(e icebergo.ManifestEntry) warehouse.DeleteFile {
	df := e.DataFile()
	d := warehouse.DeleteFile{Path: df.FilePath(), Size: df.FileSizeBytes(), Sequence: e.SequenceNum()}
	switch {
	case isDV(df):
		d.Kind = deleteVector
		if off := df.ContentOffset(); off != nil {
			d.ContentOffset = *off
		}
		if n := df.ContentSizeInBytes(); n != nil {
			d.ContentSize = *n
		}
	case df.ContentType() == icebergo.EntryContentEqDeletes:
		d.Kind = deleteEquality
		d.EqualityIDs = df.EqualityFieldIDs()
	default:
		d.Kind = deletePosition
	}
	if d.Sequence < 0 {
		// Not known: it has to be taken as applying, or rows come back.
		d.Sequence = math.MaxInt64
	}
	return d
}

func (x *deleteIndex) add(e icebergo.ManifestEntry) error {
	df := e.DataFile()
	d := indexedDelete{file: deleteFileOf(e)}
	switch {
	case len(df.KeyMetadata()) > 0:
		d.bad = "its delete files are encrypted"
	case d.file.Kind != deleteVector && !strings.EqualFold(string(df.FileFormat()), string(icebergo.ParquetFile)):
		d.bad = "delete files of format " + strings.ToLower(string(df.FileFormat())) + " are not supported"
	}
	switch d.file.Kind {
	case deleteVector:
		ref := df.ReferencedDataFile()
		if ref == nil || *ref == "" {
			return fmt.Errorf("deletion vector without a referenced data file")
		}
		if _, dup := x.dvs[*ref]; dup {
			return fmt.Errorf("two deletion vectors for one data file")
		}
		x.dvs[*ref] = d
	case deleteEquality:
		if len(d.file.EqualityIDs) == 0 {
			return fmt.Errorf("equality delete file without equality ids")
		}
		if x.whole[df.SpecID()] {
			x.global = append(x.global, d)
			break
		}
		k := tupleKey(df)
		x.equality[k] = append(x.equality[k], d)
	default:
		x.addPosition(df, d)
	}
	return nil
}

// addPosition files a position delete file under the one path it names, or
// under its partition. Equal bounds name one path, but they may have been cut
// to a prefix of it: look up by length finds those as well.
func (x *deleteIndex) addPosition(df icebergo.DataFile, d indexedDelete) {
	if ref := df.ReferencedDataFile(); ref != nil && *ref != "" {
		x.byPath[*ref] = append(x.byPath[*ref], d)
		return
	}
	d.lower = string(df.LowerBoundValues()[filePathField])
	d.upper = string(df.UpperBoundValues()[filePathField])
	if d.lower != "" && d.lower == d.upper {
		x.byPath[d.lower] = append(x.byPath[d.lower], d)
		return
	}
	k := tupleKey(df)
	x.byTuple[k] = append(x.byTuple[k], d)
}

// seal sorts each list by sequence number.
func (x *deleteIndex) seal() {
	lengths := map[int]bool{}
	for path, list := range x.byPath {
		lengths[len(path)] = true
		sortBySequence(list)
	}
	for n := range lengths {
		x.lengths = append(x.lengths, n)
	}
	slices.Sort(x.lengths)
	for _, m := range []map[string][]indexedDelete{x.byTuple, x.equality} {
		for _, list := range m {
			sortBySequence(list)
		}
	}
	sortBySequence(x.global)
}

func sortBySequence(list []indexedDelete) {
	slices.SortStableFunc(list, func(a, b indexedDelete) int { return cmp.Compare(a.file.Sequence, b.file.Sequence) })
}

// from is the tail of a sorted list with sequence numbers of at least seq.
func from(list []indexedDelete, seq int64) []indexedDelete {
	return list[sort.Search(len(list), func(i int) bool { return list[i].file.Sequence >= seq }):]
}

// applying are the delete files of one data file.
type applying struct {
	files []warehouse.DeleteFile
	bad   string // why one of them cannot be read, "" = all can
}

func (a *applying) add(d *indexedDelete) {
	a.files = append(a.files, d.file)
	if d.bad != "" {
		a.bad = d.bad
	}
}

// forFile finds the delete files that apply to a data file of sequence seq:
// position deletes and deletion vectors of the same sequence or later, equality
// deletes of later ones only. Position delete files of the same partition whose
// bounds leave room for the path are listed; only their rows tell. Where a
// deletion vector applies, position deletes do not (specification, "Scan Planning").
func (x *deleteIndex) forFile(df icebergo.DataFile, seq int64) applying {
	var out applying
	path := df.FilePath()
	if dv, ok := x.dvs[path]; ok && dv.file.Sequence >= seq {
		out.add(&dv)
	} else {
		x.positions(&out, df, path, seq)
	}
	for _, d := range from(x.global, seq+1) {
		out.add(&d)
	}
	if len(x.equality) > 0 {
		for _, d := range from(x.equality[tupleKey(df)], seq+1) {
			out.add(&d)
		}
	}
	return out
}

func (x *deleteIndex) positions(out *applying, df icebergo.DataFile, path string, seq int64) {
	for _, n := range x.lengths {
		if n > len(path) {
			break
		}
		for _, d := range from(x.byPath[path[:n]], seq) {
			out.add(&d)
		}
	}
	if len(x.byTuple) == 0 {
		return
	}
	for _, d := range from(x.byTuple[tupleKey(df)], seq) {
		if d.lower != "" && path < d.lower {
			continue
		}
		if d.upper != "" && path > d.upper && !strings.HasPrefix(path, d.upper) {
			continue
		}
		out.add(&d)
	}
}

// tupleKey identifies a partition: the spec and the tuple's values. Values that
// are equal but decoded into different Go types give the same key.
func tupleKey(df icebergo.DataFile) string {
	partition := df.Partition()
	ids := make([]int, 0, len(partition))
	for id := range partition {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	b := strconv.AppendInt(make([]byte, 0, 64), int64(df.SpecID()), 10)
	for _, id := range ids {
		b = append(strconv.AppendInt(append(b, '|'), int64(id), 10), '=')
		b = appendTupleValue(b, partition[id])
	}
	return string(b)
}

func appendTupleValue(b []byte, v any) []byte {
	if n, ok := asInt(v); ok {
		return strconv.AppendInt(append(b, 'i'), n, 10)
	}
	switch v := v.(type) {
	case nil:
		return append(b, 'n')
	case bool:
		return strconv.AppendBool(append(b, 'b'), v)
	case float32:
		return strconv.AppendUint(append(b, 'f'), math.Float64bits(float64(v)), 16)
	case float64:
		return strconv.AppendUint(append(b, 'f'), math.Float64bits(v), 16)
	case string:
		b = strconv.AppendInt(append(b, 's'), int64(len(v)), 10)
		return append(append(b, ':'), v...)
	case []byte:
		return hex.AppendEncode(append(b, 'x'), v)
	case [16]byte:
		return hex.AppendEncode(append(b, 'x'), v[:])
	case uuid.UUID:
		return hex.AppendEncode(append(b, 'x'), v[:])
	case icebergo.Decimal:
		return v.Val.BigInt().Append(append(b, 'd'), 10)
	case icebergo.DecimalLiteral:
		return v.Val.BigInt().Append(append(b, 'd'), 10)
	}
	return fmt.Appendf(append(b, '?'), "%v", v)
}
