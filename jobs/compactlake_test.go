package jobs_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"
	icebergo "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/catalog"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/internal/testlake"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
)

// everything is a compact section that leaves nothing as it is.
const everything = "{delete_files: 1, small_files: 128MiB}"

// compactLake is a lake whose merge-on-read deletes and retries are set as the
// tests of compaction need them.
func compactLake(t *testing.T, version string, spec *icebergo.PartitionSpec, props icebergo.Properties, more ...catalog.CreateTableOpt) *testlake.Lake {
	t.Helper()
	all := icebergo.Properties{"write.delete.mode": "merge-on-read", "commit.retry.num-retries": "0"}
	for k, v := range props {
		all[k] = v
	}
	return testlake.New(t, version, spec, all, more...)
}

// compactJob is a job over a lake's table with a compact section. Its keyset
// holds the leaver.
func compactJob(t *testing.T, l *testlake.Lake, section string) *configs.Job {
	t.Helper()
	file := filesIn(t, l.Dir)
	file("ids.csv", fmt.Sprintf("id\n%d\n", leaver))
	cfg := loadJob(t, l.Dir, fmt.Sprintf(`version: 1
name: compacts
state: state
grace: 0s
limits: {share: 100%%}
orphans: {remove: true, min_age: 24h}
catalogs:
  lake: {type: sql, uri: "sqlite:///%s/catalog.db", warehouse: "file://%s"}
keysets:
  users: {source: ids.csv, key: {id: int64}}
targets:
  - {table: lake.db.t, match: [{users: id}], action: delete}
compact: %s
`, l.Dir, l.Dir, section))
	return cfg
}

// compact compacts a lake's table, in the presence of whatever env brings.
func compact(t *testing.T, l *testlake.Lake, section string, env jobs.Env) *jobs.Summary {
	t.Helper()
	sum, err := open(t, compactJob(t, l, section), env).Compact(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if o := sum.Outcome; o != string(manifests.Erased) && o != string(manifests.NothingToErase) {
		t.Fatalf("outcome %s: %s; residue %+v", o, sum.Reasons, sum.Residue)
	}
	l.Reload()
	return sum
}

// at is an environment in which something happens right before the n-th (from
// 1) storage operation of a kind on a path that contains a text: what another
// writer does meanwhile.
func at(op storage.Op, text string, n int64, do func()) jobs.Env {
	var met atomic.Int64
	return jobs.Env{WrapStore: func(_ string, st storage.Store) storage.Store {
		return storage.WithFaults(st, &storage.Faults{Pick: func(_ int64, c storage.Call) *storage.Fault {
			if c.Op != op || !strings.Contains(c.Path, text) || met.Add(1) != n {
				return nil
			}
			return &storage.Fault{Action: storage.CallBefore, Do: do}
		}})
	}}
}

// Moments of a run for at.
const (
	writesOutput = "/data/expunge-" // closing it: the plan stands, nothing is committed
	writesList   = "-list"          // closing it: the head was looked at for the last time
)

// shown are the rows that a scan of the head shows, as text, sorted; from
// version 3 on with their ids and the number of their last change.
func shown(t *testing.T, l *testlake.Lake) []string {
	t.Helper()
	l.Reload()
	var opts []table.ScanOption
	if l.Tbl.Metadata().Version() >= 3 {
		opts = append(opts, table.WithRowLineage())
	}
	arrow, err := l.Tbl.Scan(opts...).ToArrowTable(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer arrow.Release()
	var out []string
	for tr := newRowText(arrow); tr.next(); {
		out = append(out, tr.text())
	}
	slices.Sort(out)
	return out
}

func wantShown(t *testing.T, l *testlake.Lake, want []string) {
	t.Helper()
	if got := shown(t, l); !slices.Equal(got, want) {
		t.Fatalf("the table shows %d rows, want %d:\n%s\nwant\n%s", len(got), len(want), strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// without takes the rows of ids out of what shown gave.
func without(rows []string, ids ...int) []string {
	return slices.DeleteFunc(slices.Clone(rows), func(row string) bool {
		return slices.ContainsFunc(ids, func(id int) bool { return strings.HasPrefix(row, fmt.Sprintf("%d|", id)) })
	})
}

// wantNoDeletes demands that the head has no delete file.
func wantNoDeletes(t *testing.T, l *testlake.Lake) {
	t.Helper()
	for _, e := range l.Entries(true) {
		t.Errorf("a delete file is left: %s", filepath.Base(e.FilePath()))
	}
}

// idsOf reads the ids that are stored in a data file, in their order.
func idsOf(t *testing.T, path string) []int64 {
	t.Helper()
	rec := readFile(t, path)
	defer rec.Release()
	var out []int64
	for _, c := range rec.Column(rec.Schema().FieldIndices("id")[0]).Data().Chunks() {
		ids := c.(*array.Int64)
		for i := range ids.Len() {
			if ids.IsValid(i) {
				out = append(out, ids.Value(i))
			}
		}
	}
	return out
}

// logSurfaces says what stands behind an outcome that was not expected.
func logSurfaces(t *testing.T, sum *jobs.Summary) {
	t.Helper()
	for _, r := range sum.Residue {
		t.Logf("residue: %+v", r)
	}
	for _, s := range sum.Verification.Surfaces {
		if s.Result != manifests.Pass && s.Result != manifests.NotPresent {
			t.Logf("%s: %s: %s, %d of %d ppm, %d found %s", s.Target, s.Surface, s.Result, s.Objects, s.CoveragePPM, s.Findings, s.Note)
		}
	}
}
