package verifier

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	iceberg "github.com/apache/iceberg-go"
	iceio "github.com/apache/iceberg-go/io"
	"go.uber.org/goleak"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/internal/testlake"
	"github.com/expunge/expunge/warehouse"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("database/sql.(*DB).connectionOpener"))
}

// TestAbsentKeysPassEverySurface: nothing is found where nothing is.
func TestAbsentKeysPassEverySurface(t *testing.T) {
	l := newLake(t, "2", nil, nil)
	l.Append(ids(1000, 1100)...)
	l.Append(ids(2000, 2100)...)
	l.DeleteByKey(1005)
	r := l.verify(t, append(onID(keysOf(t, "int64", "5000", "6000"), 1, "id"), onID(keysOf(t, "string", mail(5000)), 2, "email")...), Options{Files: true, Workers: 2})
	if got := leaks(r); got != "" {
		t.Errorf("leaks on %s: %+v", got, r.Findings)
	}
	for _, s := range r.Surfaces {
		if s.Result == NotChecked || s.CoveragePPM != full {
			t.Errorf("%+v", s)
		}
	}
	if r.RowsRead != 200 || r.SnapshotID == 0 {
		t.Errorf("%+v", r)
	}
}

// TestLeakMatrix: for each surface of Iceberg, a table that leaks there is found out.
func TestLeakMatrix(t *testing.T) {
	key := keysOf(t, "int64", "1042")
	byID := onID(key, 1, "id")
	region := iceberg.NewPartitionSpec(iceberg.PartitionField{SourceIDs: []int{1}, FieldID: 1000, Name: "id", Transform: iceberg.IdentityTransform{}})
	for _, tc := range []struct {
		name    string
		version string
		spec    *iceberg.PartitionSpec
		props   iceberg.Properties
		plant   func(l *lake)
		match   []warehouse.BoundMatch
		want    string // surfaces with findings
		not     string // a surface that has none
	}{
		{name: "live row", version: "2", plant: func(l *lake) { l.Append(ids(1000, 1100)...) }, match: byID, want: LiveRows, not: History},
		{name: "position delete", version: "2", plant: func(l *lake) { l.Append(ids(1000, 1100)...); l.DeleteByPosition(l.Files()[0], 42) },
			match: byID, want: TombstonedRows, not: LiveRows},
		{name: "equality delete", version: "2", plant: func(l *lake) { l.Append(ids(1000, 1100)...); l.DeleteByKey(1042) },
			match: byID, want: TombstonedRows + ", " + EqualityDeletes, not: LiveRows},
		{name: "deletion vector", version: "3", plant: func(l *lake) { l.Append(ids(1000, 1100)...); l.DeleteByVector(l.Files()[0], 42) },
			match: byID, want: TombstonedRows, not: LiveRows},
		{name: "later row under an earlier equality delete", version: "2", plant: func(l *lake) { l.DeleteByKey(1042); l.Append(1042) },
			match: byID, want: LiveRows + ", " + EqualityDeletes, not: TombstonedRows},
		{name: "old snapshot", version: "2", plant: func(l *lake) { l.Append(ids(1000, 1100)...); l.Replace(1000, 1099) }, match: byID, want: History, not: LiveRows},
		{name: "bounds", version: "2", plant: func(l *lake) { l.Append(1042, 1050); l.Replace(1050) }, match: byID, want: ManifestBounds, not: LiveRows},
		{name: "string bounds", version: "2", props: iceberg.Properties{"write.metadata.metrics.default": "full"},
			plant: func(l *lake) { l.Append(1042, 1050); l.Replace(1050) }, match: onID(keysOf(t, "string", mail(1042)), 2, "email"), want: ManifestBounds, not: LiveRows},
		{name: "partition values, ranges and paths", version: "2", spec: &region, plant: func(l *lake) { l.Append(1041, 1042) },
			match: byID, want: PartitionValues + ", " + ListSummaries + ", " + Paths, not: Orphans},
		{name: "orphan", version: "2", plant: func(l *lake) {
			l.Append(ids(1000, 1100)...)
			raw, err := os.ReadFile(strings.TrimPrefix(l.Files()[0].FilePath(), "file://"))
			if err != nil {
				t.Fatal(err)
			}
			l.Replace(1050)
			if err := os.WriteFile(l.Dir+"/db/t/data/left.parquet", raw, 0o644); err != nil {
				t.Fatal(err)
			}
		}, match: byID, want: Orphans, not: LiveRows},
		{name: "orphan of an unknown form", version: "2", plant: func(l *lake) {
			l.Append(1050)
			if err := os.WriteFile(l.Dir+"/db/t/data/part.tmp", []byte("xx"+mail(1042)+"yy"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, match: onID(keysOf(t, "string", mail(1042)), 2, "email"), want: Orphans, not: LiveRows},
		{name: "table property", version: "2", props: iceberg.Properties{"note": "ask " + mail(1042)}, plant: func(l *lake) { l.Append(1050) },
			match: onID(keysOf(t, "string", mail(1042)), 2, "email"), want: TableMetadata, not: LiveRows},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLake(t, tc.version, tc.spec, tc.props)
			tc.plant(l)
			r := l.verify(t, tc.match, Options{Files: true})
			got := leaks(r)
			for _, w := range strings.Split(tc.want, ", ") {
				if !strings.Contains(got, w) {
					t.Errorf("not found on %s, only on %q", w, got)
				}
			}
			if strings.Contains(got, tc.not) {
				t.Errorf("found on %s: %q", tc.not, got)
			}
			if s := surface(t, r, LiveRows); (s.Findings > 0) != (s.Result == Fail) {
				t.Errorf("%+v", s)
			}
			for _, f := range r.Findings {
				if strings.Contains(f.State+f.Column, "1042") {
					t.Errorf("a key in a finding: %+v", f)
				}
			}
		})
	}
}

// TestDeletedEntriesStayInManifests: the case that facts/iceberg-go.md measured.
func TestDeletedEntriesStayInManifests(t *testing.T) {
	l := newLake(t, "2", nil, nil)
	l.Append(1042, 1050)
	l.Replace(1050)
	r := l.verify(t, onID(keysOf(t, "int64", "1042"), 1, "id"), Options{})
	found := false
	for _, f := range r.Findings {
		found = found || f.Surface == ManifestBounds && strings.HasPrefix(f.State, "DELETED entry")
	}
	if !found {
		t.Errorf("%+v", r.Findings)
	}
}

// TestSampleIsDrawnBySeed: the same seed reads the same files, and the coverage says how many.
func TestSampleIsDrawnBySeed(t *testing.T) {
	l := newLake(t, "2", nil, nil)
	for i := range 12 {
		l.Append(ids(i*100, i*100+10)...)
	}
	m := onID(keysOf(t, "int64", "999999"), 1, "id")
	a := l.verify(t, m, Options{Mode: ModeSample, SamplePPM: 500000, Seed: 7})
	b := l.verify(t, m, Options{Mode: ModeSample, SamplePPM: 500000, Seed: 7, Workers: 3})
	sa, sb := surface(t, a, LiveRows), surface(t, b, LiveRows)
	if sa.Objects != sb.Objects || sa.BytesRead != sb.BytesRead || sa.Objects == 0 || sa.Objects == 12 {
		t.Errorf("%+v %+v", sa, sb)
	}
	if want := sa.Objects * full / 12; sa.CoveragePPM != want || sa.Total != 12 || a.Seed != 7 {
		t.Errorf("coverage %d, want %d", sa.CoveragePPM, want)
	}
	if none := surface(t, l.verify(t, m, Options{Mode: ModeRewritten}), LiveRows); none.Result != NotChecked {
		t.Errorf("nothing was picked, and yet %+v", none)
	}
}

// TestUnreadableFileLowersCoverage: it is never a pass.
func TestUnreadableFileLowersCoverage(t *testing.T) {
	l := newLake(t, "2", nil, nil)
	l.Append(1, 2, 3)
	l.Append(4, 5, 6)
	if err := os.WriteFile(strings.TrimPrefix(l.Files()[0].FilePath(), "file://"), []byte("PAR1 no longer PAR1"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := surface(t, l.verify(t, onID(keysOf(t, "int64", "99"), 1, "id"), Options{}), LiveRows)
	if s.CoveragePPM != full/2 || s.Objects != 1 || s.Total != 2 || !strings.Contains(s.Note, "1 could not be read") {
		t.Errorf("%+v", s)
	}
}

func TestRowsThatCameAfterTheCommitAreResidueButNoFailure(t *testing.T) {
	l := newLake(t, "2", nil, nil)
	l.Append(1, 2, 3)
	since := l.Tbl.CurrentSnapshot().SequenceNumber
	l.Append(99)
	m := onID(keysOf(t, "int64", "99"), 1, "id")
	s := surface(t, l.verify(t, m, Options{Since: since}), LiveRows)
	if s.Result != Residue || s.States[stateLater] != 1 {
		t.Errorf("a row that came later: %+v, want residue", s)
	}
	for _, o := range []Options{{}, {Since: since + 1}} {
		if s = surface(t, l.verify(t, m, o), LiveRows); s.Result != Fail {
			t.Errorf("a row that was there: %+v, want a failure", s)
		}
	}
}

func TestWrongColumnTypeIsNotAPass(t *testing.T) {
	l := newLake(t, "2", nil, nil)
	l.Append(1, 2, 3)
	s := surface(t, l.verify(t, onID(keysOf(t, "int64", "99"), 2, "email"), Options{}), LiveRows)
	if s.Result == Pass {
		t.Errorf("%+v", s)
	}
}

func TestMissingMetadataIsAnError(t *testing.T) {
	_, err := VerifyTable(context.Background(), storage.NewMem(), Target{MetadataLocation: "mem://b/x.metadata.json"}, nil, Options{})
	if !storage.IsNotExist(err) {
		t.Errorf("%v", err)
	}
}

// TestUnreadableManifestLowersCoverage: files that nobody can list were not looked at.
func TestUnreadableManifestLowersCoverage(t *testing.T) {
	l := newLake(t, "2", nil, nil)
	l.Append(1, 2, 3)
	l.Append(4, 5, 6)
	list, err := l.Tbl.CurrentSnapshot().Manifests(iceio.LocalFS{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(strings.TrimPrefix(list[0].FilePath(), "file://"), []byte("Obj\x01no"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := l.verify(t, onID(keysOf(t, "int64", "99"), 1, "id"), Options{})
	for _, name := range []string{LiveRows, History, ManifestBounds} {
		if s := surface(t, r, name); s.CoveragePPM == full || !strings.Contains(s.Note, "could not be read") {
			t.Errorf("%+v", s)
		}
	}
}

// TestPartitionPathsWithSpecialCharactersAreNoOrphans: one file, two spellings.
func TestPartitionPathsWithSpecialCharactersAreNoOrphans(t *testing.T) {
	spec := iceberg.NewPartitionSpec(iceberg.PartitionField{SourceIDs: []int{2}, FieldID: 1000, Name: "email", Transform: iceberg.IdentityTransform{}})
	l := newLake(t, "2", &spec, nil)
	l.Append(1, 2, 3) // e-mails hold an @
	s := surface(t, l.verify(t, onID(keysOf(t, "string", mail(2)), 2, "email"), Options{}), Orphans)
	if s.Objects != 0 || s.Findings != 0 {
		t.Errorf("%+v", s)
	}
	r := l.verify(t, onID(keysOf(t, "string", mail(2)), 2, "email"), Options{})
	for _, name := range []string{LiveRows, PartitionValues, Paths} {
		if surface(t, r, name).Findings == 0 {
			t.Errorf("not found on %s", name)
		}
	}
}

// A young file that nothing refers to may be a writer's, unless a run knows that it replaced it.
func TestYoungFilesAreInFlightUnlessTheyWereReplaced(t *testing.T) {
	l := newLake(t, "2", nil, nil)
	l.Append(ids(1000, 1100)...)
	raw, err := os.ReadFile(testlake.Local(l.Files()[0].FilePath()))
	if err != nil {
		t.Fatal(err)
	}
	l.Replace(1050)
	left := l.Dir + "/db/t/data/left.parquet"
	if err := os.WriteFile(left, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	match := onID(keysOf(t, "int64", "1042"), 1, "id")
	o := Options{OrphanAge: time.Hour}
	if s := surface(t, l.verify(t, match, o), Orphans); s.Findings != 0 || s.Possible == 0 || s.GoneBy.IsZero() {
		t.Errorf("a young file: %+v", s)
	}
	o.Replaced = func(path string) bool { return path == left || testlake.Local(path) == left }
	if s := surface(t, l.verify(t, match, o), Orphans); s.Findings == 0 || s.Result != Residue || !s.GoneBy.IsZero() {
		t.Errorf("a replaced file: %+v", s)
	}
}

// TestPathSetIsSmall: a million objects are known in bounded memory.
func TestPathSetIsSmall(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s := pathSet{}
	for i := range 1_000_000 {
		s.add(fmt.Sprintf("s3://lake/warehouse/sales/orders/data/order_month=2026-%02d/part-%08d-0000.parquet", i%12+1, i))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if mb := (after.HeapAlloc - before.HeapAlloc) >> 20; mb > 100 {
		t.Errorf("%d MiB", mb)
	}
	if !s.has("s3a://lake/warehouse/sales/orders/data/order_month=2026-01/part-00000000-0000.parquet") || s.has("s3://lake/x") {
		t.Error("the set is wrong")
	}
}
