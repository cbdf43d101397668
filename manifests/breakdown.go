package manifests

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"
)

// Breakdown is what a report says beyond the manifest: rows erased by
// partition, and the files that were left as they were. It comes from the
// sidecar and has the sidecar's words only.
type Breakdown struct {
	Partitions []Partition // most erased rows first within a target
	Left       []Record    // failed and excluded files, the first leftMax of them
	LeftAll    int64       // how many there are in all
}

// Partition sums the files of one partition of one target.
type Partition struct {
	Target    string
	Name      string // "day=2026-05-01/region=eu"; "" = the paths name none
	Keyed     bool   // paths are keyed digests: the partition may be a key and is not told
	Files     int64
	Rewritten int64 // dropped ones included
	Erased    int64
}

// Bounds of a breakdown's memory, whatever the sidecar's size.
const (
	partitionMax = 10000 // further partitions are summed up under otherPartitions
	leftMax      = 100
)

const otherPartitions = "all others"

// Breakdown reads the columns that it needs, in one pass.
func (s *SidecarReader) Breakdown() (b *Breakdown, err error) {
	defer rescue(&err)
	b = &Breakdown{}
	sums := map[[2]string]*Partition{}
	base := int64(0)
	var left []int64
	for _, g := range s.file.RowGroups() {
		rows, err := s.facets(g)
		if err != nil {
			return nil, fmt.Errorf("read evidence: %w", err)
		}
		for i := range rows {
			f := &rows[i]
			if f.kind != RecordFile {
				continue
			}
			if f.status == StatusFailed || f.status == StatusExcluded {
				if b.LeftAll++; len(left) < leftMax {
					left = append(left, base+int64(i))
				}
			}
			f.addTo(sums)
		}
		base += g.NumRows()
	}
	for _, p := range sums {
		b.Partitions = append(b.Partitions, *p)
	}
	slices.SortFunc(b.Partitions, func(x, y Partition) int {
		return cmp.Or(cmp.Compare(x.Target, y.Target), cmp.Compare(y.Erased, x.Erased), cmp.Compare(x.Name, y.Name))
	})
	for _, i := range left {
		recs, err := s.Page(i, 1)
		if err != nil {
			return nil, err
		}
		b.Left = append(b.Left, recs...)
	}
	return b, nil
}

// facet is what the breakdown needs of a record.
type facet struct {
	kind, target, status, partition string
	keyed                           bool
	erased                          int64
}

func (f *facet) addTo(sums map[[2]string]*Partition) {
	k := [2]string{f.target, f.partition}
	p := sums[k]
	if p == nil && len(sums) >= partitionMax {
		k[1] = otherPartitions
		p = sums[k]
	}
	if p == nil {
		p = &Partition{Target: f.target, Name: k[1], Keyed: f.keyed}
		sums[k] = p
	}
	p.Files++
	if f.status == StatusRewritten || f.status == StatusDropped {
		p.Rewritten++
		p.Erased += f.erased
	}
}

func (s *SidecarReader) facets(g parquet.RowGroup) ([]facet, error) {
	out := make([]facet, g.NumRows())
	interned := map[string]string{}
	intern := func(b []byte) string {
		t, ok := interned[string(b)]
		if !ok {
			t = string(b)
			interned[t] = t
		}
		return t
	}
	columns := []struct {
		name string
		set  func(f *facet, v parquet.Value)
	}{
		{"kind", func(f *facet, v parquet.Value) { f.kind = intern(v.ByteArray()) }},
		{"target", func(f *facet, v parquet.Value) { f.target = intern(v.ByteArray()) }},
		{"status", func(f *facet, v parquet.Value) { f.status = intern(v.ByteArray()) }},
		{"keyed", func(f *facet, v parquet.Value) { f.keyed = v.Boolean() }},
		{"rows_erased", func(f *facet, v parquet.Value) { f.erased = v.Int64() }},
		{"path", func(f *facet, v parquet.Value) {
			if !f.keyed {
				f.partition = intern([]byte(partitionOf(string(v.ByteArray()))))
			}
		}},
	}
	for _, c := range columns {
		if err := eachValue(s.chunk(g, c.name), func(row int, v parquet.Value) { c.set(&out[row], v) }); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// partitionOf is the part of a path that names a partition in Hive's way
// (day=1/region=eu), which Iceberg writers and object prefixes use.
func partitionOf(path string) string {
	dir, _, _ := cutLast(path, "/")
	var parts []string
	for seg := range strings.SplitSeq(dir, "/") {
		if name, _, ok := strings.Cut(seg, "="); ok && name != "" {
			parts = append(parts, seg)
		}
	}
	return strings.Join(parts, "/")
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return "", s, false
}
