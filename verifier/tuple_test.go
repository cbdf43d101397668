package verifier

import (
	"fmt"
	"strings"
	"testing"

	iceberg "github.com/apache/iceberg-go"

	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/warehouse"
)

// onPairs binds keys of an id and an e-mail, each of a person of its own.
func onPairs(t testing.TB, keys ...[2]int) []warehouse.BoundMatch {
	t.Helper()
	schema := keyset.Schema{{Name: "id", Type: keyset.Type{Kind: keyset.KindInt64}}, {Name: "email", Type: keyset.Type{Kind: keyset.KindString}}}
	var rows [][]string
	for _, k := range keys {
		rows = append(rows, []string{fmt.Sprint(k[0]), mail(k[1])})
	}
	return []warehouse.BoundMatch{{Keys: compositeKeys(t, schema, rows...), Columns: []warehouse.ColumnRef{{FieldID: 1, Path: []string{"id"}}, {FieldID: 2, Path: []string{"email"}}}}}
}

// TestCompositeKeysAreFoundWhole: for each surface, a table in which all parts of a
// key are stored together is found out, and one that holds the parts
// of it apart is not.
func TestCompositeKeysAreFoundWhole(t *testing.T) {
	identity := func(id, field int, name string) iceberg.PartitionField {
		return iceberg.PartitionField{SourceIDs: []int{id}, FieldID: field, Name: name, Transform: iceberg.IdentityTransform{}}
	}
	byID := iceberg.NewPartitionSpec(identity(1, 1000, "id"))
	byBoth := iceberg.NewPartitionSpec(identity(1, 1000, "id"), identity(2, 1001, "email"))
	full := iceberg.Properties{"write.metadata.metrics.default": "full"}
	for _, tc := range []struct {
		name     string
		spec     *iceberg.PartitionSpec
		props    iceberg.Properties
		plant    func(l *lake)
		key      [2]int
		want     string // surfaces with findings that are certain
		possible string // a surface with others
	}{
		{name: "a live row", plant: func(l *lake) { l.Append(ids(1000, 1100)...) }, key: [2]int{1042, 1042}, want: LiveRows},
		{name: "parts of two rows", plant: func(l *lake) { l.Append(ids(1000, 1100)...) }, key: [2]int{1042, 1043}},
		{name: "a hidden row", plant: func(l *lake) { l.Append(ids(1000, 1100)...); l.DeleteByPosition(l.Files()[0], 42) }, key: [2]int{1042, 1042}, want: TombstonedRows},
		{name: "a position delete with the row", plant: func(l *lake) { l.Append(ids(1000, 1100)...); l.DeleteRowByPosition(l.Files()[0], 42, 1042) },
			key: [2]int{1042, 1042}, want: TombstonedRows + ", " + PositionDeletes},
		{name: "an equality delete of the key", plant: func(l *lake) { l.Append(1050); l.DeleteByKeys([]int{1, 2}, 1042) }, key: [2]int{1042, 1042}, want: EqualityDeletes},
		{name: "an equality delete of a part", plant: func(l *lake) { l.Append(1050); l.DeleteByKey(1042) }, key: [2]int{1042, 1042}},
		{name: "an old snapshot", plant: func(l *lake) { l.Append(ids(1000, 1100)...); l.Replace(1000, 1099) }, key: [2]int{1042, 1042}, want: History},
		{name: "equal bounds of a file", props: full, plant: func(l *lake) { l.Append(1042); l.Replace(1050) }, key: [2]int{1042, 1042}, want: ManifestBounds},
		{name: "bounds that lie apart", props: full, plant: func(l *lake) { l.Append(1042, 1050); l.Replace(1050) }, key: [2]int{1042, 1050}, possible: ManifestBounds},
		{name: "bounds that were cut short", plant: func(l *lake) { l.Append(1042); l.Replace(1050) }, key: [2]int{1042, 1042}, want: History, possible: ManifestBounds},
		{name: "a bound of one part", props: full, plant: func(l *lake) { l.Append(1042); l.Replace(1050) }, key: [2]int{1042, 7}},
		{name: "a partition value and bounds", spec: &byID, props: full, plant: func(l *lake) { l.Append(1042) }, key: [2]int{1042, 1042}, want: ManifestBounds},
		{name: "partition values, ranges and paths", spec: &byBoth, plant: func(l *lake) { l.Append(1041); l.Append(1042) }, key: [2]int{1042, 1042},
			want: PartitionValues + ", " + ListSummaries + ", " + Paths},
		{name: "partition values of two files", spec: &byBoth, plant: func(l *lake) { l.Append(1041, 1042) }, key: [2]int{1041, 1042}, possible: ListSummaries},
		{name: "an entry that no row has, beside the other part", plant: func(l *lake) { l.AppendStaleEntry(1042, 1050, 1051) }, key: [2]int{1050, 1042}, possible: Dictionaries},
		{name: "an entry that no row has, without the other part", plant: func(l *lake) { l.AppendStaleEntry(1042, 1050, 1051) }, key: [2]int{1042, 1042}},
		{name: "a bound that no row has, beside the other part", plant: func(l *lake) { l.AppendStaleBound(1042, 1050, 1060) }, key: [2]int{1042, 1060}, possible: Statistics},
		{name: "a bound that no row has, without the other part", plant: func(l *lake) { l.AppendStaleBound(1042, 1050, 1060) }, key: [2]int{1042, 1042}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLake(t, "2", tc.spec, tc.props)
			tc.plant(l)
			r := l.verify(t, onPairs(t, tc.key, [2]int{7, 8}), Options{Files: true, Only: func(string) bool { return false }})
			got := leaks(r)
			for _, w := range strings.Split(tc.want, ", ") {
				if !strings.Contains(got, w) {
					t.Errorf("not found on %s, only on %q", w, got)
				}
			}
			if tc.want == "" && got != "" {
				t.Errorf("found on %s: %+v", got, r.Findings)
			}
			for _, s := range r.Surfaces {
				if s.Name == tc.possible && s.Possible == 0 {
					t.Errorf("nothing possible on %s", s.Name)
				}
			}
		})
	}
}
