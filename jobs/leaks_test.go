package jobs_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	icebergo "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/internal/testlake"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/verifier"
)

// leaver is the person whom the leak matrix erases: an id and an e-mail, both
// unique to rows of theirs.
const leaver = 1042

// filesIn writes files of a folder and returns their paths.
func filesIn(t *testing.T, dir string) func(name, text string) string {
	return func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
}

// loadJob writes the job file of a folder and loads it.
func loadJob(t *testing.T, dir, text string) *configs.Job {
	t.Helper()
	cfg, err := configs.Load(filesIn(t, dir)("job.yaml", text))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// leakJob is a job over a lake's table that erases the leaver. extra goes into
// the target.
func leakJob(t *testing.T, l *testlake.Lake, grace, extra string) *configs.Job {
	t.Helper()
	file := filesIn(t, l.Dir)
	file("ids.csv", fmt.Sprintf("id\n%d\n", leaver))
	file("mails.csv", "email\n"+testlake.Mail(leaver)+"\n")
	cfg := loadJob(t, l.Dir, fmt.Sprintf(`version: 1
name: leaks
state: state
grace: %s
limits: {share: 100%%}
verify: {mode: full}
orphans: {remove: true, min_age: 24h}
catalogs:
  lake: {type: sql, uri: "sqlite:///%s/catalog.db", warehouse: "file://%s"}
keysets:
  users: {source: ids.csv, key: {id: int64}}
  mails: {source: mails.csv, key: {email: string}}
targets:
  - {table: lake.db.t, match: [{users: id}, {mails: email}]%s}
`, grace, l.Dir, l.Dir, extra))
	return cfg
}

// leaking lists the surfaces on which a verification found something certain.
func leaking(v *jobs.VerifyReport) (out []string) {
	for _, s := range v.Surfaces {
		if s.Result == manifests.Fail || s.Result == manifests.Found {
			out = append(out, s.Surface)
		}
	}
	return out
}

func verifyAll(t *testing.T, j *jobs.Job) *jobs.VerifyReport {
	t.Helper()
	v, err := j.Verify(t.Context(), "", jobs.VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// rowIDs are the ids that a scan of a ref shows, sorted.
func rowIDs(t *testing.T, l *testlake.Lake, ref string) []int {
	t.Helper()
	l.Reload()
	scan := l.Tbl.Scan(table.WithSnapshotID(l.Tbl.Metadata().SnapshotByName(ref).SnapshotID))
	arrow, err := scan.ToArrowTable(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer arrow.Release()
	var out []int
	for _, chunk := range arrow.Column(0).Data().Chunks() {
		for _, v := range chunk.(*array.Int64).Int64Values() {
			out = append(out, int(v))
		}
	}
	slices.Sort(out)
	return out
}

type leak struct {
	name    string
	version string
	spec    *icebergo.PartitionSpec
	props   icebergo.Properties
	plant   func(l *testlake.Lake)
	extra   string   // of the job's target
	found   []string // surfaces that the verifier names before the run
	keep    []int    // ids after it; nil: 1000 to 1099 without the leaver
}

// leaks is the leak matrix: for each surface on which an erased value can stay,
// a table where it does.
func leaks() []leak {
	const day = 24 * time.Hour
	some := func(l *testlake.Lake) { l.Append(testlake.IDs(1000, 1100)...) }
	byID := icebergo.NewPartitionSpec(icebergo.PartitionField{SourceIDs: []int{1}, FieldID: 1000, Name: "id", Transform: icebergo.IdentityTransform{}})
	full := icebergo.Properties{"write.metadata.metrics.default": "full"}
	two := func(l *testlake.Lake) { l.Append(leaver, 1050) }
	return []leak{
		{name: "live rows", version: "2", plant: some, found: []string{verifier.LiveRows}},
		{name: "live rows of a version 1 table", version: "1", plant: some, found: []string{verifier.LiveRows}},
		{name: "position deletes", version: "2", plant: func(l *testlake.Lake) { some(l); l.DeleteByPosition(l.Files()[0], 42) },
			found: []string{verifier.TombstonedRows}},
		{name: "position deletes with the row", version: "2", plant: func(l *testlake.Lake) { some(l); l.DeleteRowByPosition(l.Files()[0], 42, leaver) },
			found: []string{verifier.TombstonedRows, verifier.PositionDeletes}},
		{name: "equality deletes", version: "2", plant: func(l *testlake.Lake) { some(l); l.DeleteByKey(leaver) },
			found: []string{verifier.TombstonedRows, verifier.EqualityDeletes}},
		{name: "deletion vectors", version: "3", plant: func(l *testlake.Lake) { some(l); l.DeleteByVector(l.Files()[0], 42) },
			found: []string{verifier.TombstonedRows}},
		{name: "equality delete of a row that is gone", version: "2", plant: func(l *testlake.Lake) { l.Append(1050); l.DeleteByKey(leaver) },
			found: []string{verifier.EqualityDeletes}, keep: []int{1050}},
		{name: "old snapshots", version: "2", plant: func(l *testlake.Lake) { some(l); l.Replace(1000, 1099) },
			found: []string{verifier.History}, keep: []int{1000, 1099}},
		{name: "old snapshots of a version 1 table", version: "1", plant: func(l *testlake.Lake) { some(l); l.Replace(1000, 1099) },
			found: []string{verifier.History}, keep: []int{1000, 1099}},
		{name: "DELETED entries after everything was expired", version: "2", props: full,
			plant: func(l *testlake.Lake) { two(l); l.Replace(1050); l.Expire(true) },
			found: []string{verifier.ManifestBounds}, keep: []int{1050}},
		{name: "partition values, ranges and paths", version: "2", spec: &byID, plant: func(l *testlake.Lake) { l.Append(1041, leaver) },
			found: []string{verifier.LiveRows, verifier.PartitionValues, verifier.ListSummaries, verifier.Paths}, keep: []int{1041}},
		{name: "partition statistics", version: "2", spec: &byID, plant: func(l *testlake.Lake) { l.Append(1041, leaver); l.PartitionStatistics(leaver) },
			found: []string{verifier.PartitionValues}, keep: []int{1041}},
		{name: "a tag", version: "2", plant: func(l *testlake.Lake) { some(l); l.Ref("audit", table.TagRef); l.Replace(1000) }, extra: ", refs: drop",
			found: []string{verifier.History}, keep: []int{1000}},
		{name: "a branch", version: "2", plant: func(l *testlake.Lake) { some(l); l.Ref("dev", table.BranchRef); l.Replace(1000) }, extra: ", refs: drop",
			found: []string{verifier.History}, keep: []int{1000}},
		{name: "Puffin statistics", version: "2", plant: func(l *testlake.Lake) { some(l); l.Statistics([]byte("1: " + testlake.Mail(leaver))) },
			found: []string{verifier.Puffin}},
		{name: "a table property of old", version: "2", plant: func(l *testlake.Lake) {
			l.Update(table.NewSetPropertiesUpdate(icebergo.Properties{"note": "ask " + testlake.Mail(leaver)}))
			l.Update(table.NewRemovePropertiesUpdate([]string{"note"}))
			some(l)
		}, found: []string{verifier.TableMetadata}},
		{name: "a table property of young", version: "2", plant: young, found: []string{verifier.TableMetadata}, keep: []int{1050}},
		{name: "a table property of the same millisecond", version: "2", plant: func(l *testlake.Lake) { young(l); sameTime(l) },
			found: []string{verifier.TableMetadata}, keep: []int{1050}},
		{name: "an orphan data file", version: "2", plant: func(l *testlake.Lake) {
			some(l)
			raw, err := os.ReadFile(testlake.Local(l.Files()[0].FilePath()))
			if err != nil {
				panic(err)
			}
			l.Write("data/lost.parquet", raw, 2*day)
		}, found: []string{verifier.Orphans}},
		{name: "orphans of an expiry that removed nothing", version: "2", plant: func(l *testlake.Lake) {
			some(l)
			l.Replace(1000)
			l.Expire(false)
			for path := range l.Stored() {
				l.Age(path, 2*day)
			}
		}, found: []string{verifier.Orphans}, keep: []int{1000}},
		{name: "a dictionary entry that no row has", version: "2", plant: func(l *testlake.Lake) { l.AppendStaleEntry(leaver, 1050, 1051); l.Append(1060) },
			found: []string{verifier.Dictionaries}, keep: []int{1050, 1051, 1060}},
		{name: "a dictionary entry beside rows", version: "2", plant: func(l *testlake.Lake) { l.AppendStaleEntry(leaver, 1050, 1051); some(l) },
			found: []string{verifier.LiveRows, verifier.Dictionaries}, keep: append(slices.DeleteFunc(testlake.IDs(1000, 1050), func(id int) bool { return id == leaver }),
				append([]int{1050, 1050, 1051, 1051}, testlake.IDs(1052, 1100)...)...)},
		{name: "a bound that no row has", version: "2", plant: func(l *testlake.Lake) { l.AppendStaleBound(leaver, 1050, 1060); l.Append(1070) },
			found: []string{verifier.Statistics}, keep: []int{1050, 1060, 1070}},
		{name: "a bloom filter of a row that is gone", version: "2", plant: func(l *testlake.Lake) { l.AppendStaleBloom(leaver, 1050, 1060); l.Append(1070) },
			keep: []int{1050, 1060, 1070}},
		{name: "an orphan of an unknown form", version: "2", plant: func(l *testlake.Lake) {
			l.Append(1050)
			l.Write("data/part.tmp", []byte("xx"+testlake.Mail(leaver)+"yy"), 2*day)
		}, found: []string{verifier.Orphans}, keep: []int{1050}},
	}
}

// young leaves the leaver in metadata versions behind the last snapshot.
func young(l *testlake.Lake) {
	l.Append(1050)
	l.Update(table.NewSetPropertiesUpdate(icebergo.Properties{"note": "ask " + testlake.Mail(leaver)}))
	l.Update(table.NewRemovePropertiesUpdate([]string{"note"}))
}

// sameTime makes all metadata versions say that they were written when the last one was.
func sameTime(l *testlake.Lake) {
	updated := regexp.MustCompile(`"last-updated-ms":(\d+)`)
	versions, last := map[string][]byte{}, ""
	for path, raw := range l.Stored() {
		if m := updated.FindSubmatch(raw); m != nil && strings.HasSuffix(path, ".metadata.json") {
			versions[path] = raw
			last = max(last, string(m[1]))
		}
	}
	for path, raw := range versions {
		if err := os.WriteFile(testlake.Local(path), updated.ReplaceAll(raw, []byte(`"last-updated-ms":`+last)), 0o600); err != nil {
			panic(err)
		}
	}
}

// TestLeakMatrix: for each surface, the verifier finds the leak, the job cleans
// it, the verifier passes, and no survivor is lost.
func TestLeakMatrix(t *testing.T) {
	for _, tc := range leaks() {
		t.Run(tc.name, func(t *testing.T) {
			l := testlake.New(t, tc.version, tc.spec, tc.props)
			tc.plant(l)
			j := open(t, leakJob(t, l, "0s", tc.extra), jobs.Env{})
			want := tc.keep
			if want == nil {
				want = slices.DeleteFunc(testlake.IDs(1000, 1100), func(id int) bool { return id == leaver })
			}
			cleansLeak(t, l, j, tc.found, want)
			if n := l.KnownToBlooms(leaver); n > 0 {
				t.Errorf("%d bloom filters know the e-mail", n)
			}
		})
	}
}

// cleansLeak lets the verifier find a leak on some surfaces and the job clean it:
// then the verifier passes, rows are those to keep, and nothing stored has the e-mail.
func cleansLeak(t *testing.T, l *testlake.Lake, j *jobs.Job, found []string, keep []int) {
	t.Helper()
	before := leaking(verifyAll(t, j))
	for _, s := range found {
		if !slices.Contains(before, s) {
			t.Errorf("the verifier did not find it on %q, only on %q", s, before)
		}
	}
	sum, err := j.Run(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if sum.Outcome != string(manifests.Erased) {
		t.Errorf("outcome %s: %s", sum.Outcome, sum.Reasons)
	}
	wantClean(t, j)
	if got := rowIDs(t, l, table.MainBranch); !slices.Equal(got, keep) {
		t.Errorf("rows %v, want %v", got, keep)
	}
	for path, raw := range l.Stored() {
		if bytes.Contains(raw, []byte(testlake.Mail(leaver))) {
			t.Errorf("%s holds the e-mail", filepath.Base(path))
		}
	}
}

// Composite keys are residue where they are stored whole; the job cleans that,
// and leaves what it can only take for other people's data.
func TestLeakMatrixOfCompositeKeys(t *testing.T) {
	byID := testlake.ByID()
	full := icebergo.Properties{"write.metadata.metrics.default": "full"}
	for _, tc := range []struct {
		name  string
		spec  *icebergo.PartitionSpec
		props icebergo.Properties
		plant func(l *testlake.Lake)
		found []string
		keep  []int
	}{
		{name: "live rows", plant: func(l *testlake.Lake) { l.Append(1041, leaver, 1043) }, found: []string{verifier.LiveRows}, keep: []int{1041, 1043}},
		{name: "position deletes with the row", plant: func(l *testlake.Lake) { l.Append(1041, leaver); l.DeleteRowByPosition(l.Files()[0], 1, leaver) },
			found: []string{verifier.TombstonedRows, verifier.PositionDeletes}, keep: []int{1041}},
		{name: "equality deletes of the key", plant: func(l *testlake.Lake) { l.Append(1041, leaver); l.DeleteByKeys([]int{1, 2}, leaver) },
			found: []string{verifier.TombstonedRows, verifier.EqualityDeletes}, keep: []int{1041}},
		{name: "an equality delete of a row that is gone", plant: func(l *testlake.Lake) { l.Append(1050); l.DeleteByKeys([]int{1, 2}, leaver, 1049) },
			found: []string{verifier.EqualityDeletes}, keep: []int{1050}},
		{name: "an old snapshot and DELETED entries", props: full, plant: func(l *testlake.Lake) { l.Append(leaver); l.Replace(1050) },
			found: []string{verifier.History, verifier.ManifestBounds}, keep: []int{1050}},
		{name: "a part in the partition", spec: byID, props: full, plant: func(l *testlake.Lake) { l.Append(1041, leaver) },
			found: []string{verifier.LiveRows, verifier.ManifestBounds}, keep: []int{1041}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := testlake.New(t, "2", tc.spec, tc.props)
			tc.plant(l)
			cfg := leakJob(t, l, "0s", "")
			cfg.Keysets = map[string]configs.Keyset{"pairs": {
				Source: configs.Strings{write(t, fmt.Sprintf("id,email\n%d,%s\n", leaver, testlake.Mail(leaver)))},
				Key:    configs.KeyParts{{Name: "id", Type: "int64"}, {Name: "email", Type: "string"}},
			}}
			cfg.Targets[0].Match = []configs.Match{{Keyset: "pairs", Columns: []string{"id", "email"}}}
			j := open(t, cfg, jobs.Env{})
			cleansLeak(t, l, j, tc.found, tc.keep)
		})
	}
}

// wantClean demands a verification that looked at everything, could have found
// something, and found nothing.
func wantClean(t *testing.T, j *jobs.Job) {
	t.Helper()
	v := verifyAll(t, j)
	if left := leaking(v); len(left) > 0 {
		t.Errorf("left on %q", left)
		for _, s := range v.Surfaces {
			if s.Findings > 0 {
				t.Logf("%s: %d, %s", s.Surface, s.Findings, s.Note)
			}
		}
	}
	for _, s := range v.Surfaces {
		if s.Result == manifests.NotChecked || s.Result != manifests.NotPresent && s.CoveragePPM != 1e6 {
			t.Errorf("%+v", s)
		}
	}
	if len(v.Controls) == 0 || !v.Controls[0].Before {
		t.Errorf("controls %+v", v.Controls)
	}
	if text := fmt.Sprintf("%+v", v); strings.Contains(text, fmt.Sprint(leaver)) || strings.Contains(text, testlake.Mail(leaver)) {
		t.Error("the report names a key")
	}
}
