package jobs_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/internal/demo"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
)

// layout is what the head of a table is made of.
type layout struct {
	data, deletes int
	small         int // data files below 16 MiB that have a neighbour of their partition
}

func layoutOf(t *testing.T, lake *demo.Lakehouse, name string) layout {
	t.Helper()
	tbl := loadTable(t, lake, name)
	fs, err := tbl.FS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var l layout
	parts := map[string]int{}
	list, err := tbl.CurrentSnapshot().Manifests(fs)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		for e, err := range m.Entries(fs, true) {
			if err != nil {
				t.Fatal(err)
			}
			if e.DataFile().ContentType() != 0 {
				l.deletes++
				continue
			}
			l.data++
			parts[fmt.Sprint(e.DataFile().SpecID(), e.DataFile().Partition())]++
		}
	}
	for _, n := range parts {
		if n > 1 {
			l.small += n
		}
	}
	return l
}

// lineageOf maps a row's text to its row id and the sequence number of its last change.
func lineageOf(t *testing.T, lake *demo.Lakehouse, name string) map[string]string {
	t.Helper()
	arrow, err := loadTable(t, lake, name).Scan(table.WithRowLineage()).ToArrowTable(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer arrow.Release()
	out := map[string]string{}
	n := int(arrow.NumCols())
	for c := range n {
		if f := arrow.Schema().Field(c); f.Name == "_row_id" {
			for _, chunk := range arrow.Column(c).Data().Chunks() {
				ids := chunk.(*array.Int64)
				for i := range ids.Len() {
					if ids.IsNull(i) {
						t.Fatal("a row has no id")
					}
					out[fmt.Sprint(ids.Value(i))] = ""
				}
			}
		}
	}
	tr := newRowText(arrow)
	i := 0
	for tr.next() {
		line := tr.text()
		out["line "+line] = line
		i++
	}
	return out
}

// compacted is a lakehouse after expunge compact alone.
func TestCompactFoldsPacksAndChangesNoRow(t *testing.T) {
	lake, cfg := smallLake(t, "0s")
	before := allContents(t, lake)
	lineage := lineageOf(t, lake, "lake.events.logins")
	was := map[string]layout{}
	for _, table := range lake.Tables {
		was[table.Name] = layoutOf(t, lake, table.Name)
	}
	j := open(t, cfg, jobs.Env{})
	sum, err := j.Compact(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if sum.Outcome != string(manifests.Erased) {
		t.Errorf("outcome %s: %s", sum.Outcome, sum.Reasons)
	}
	if after := allContents(t, lake); !maps.Equal(before, after) {
		t.Error("compaction changed rows")
	}
	if !maps.Equal(lineage, lineageOf(t, lake, "lake.events.logins")) {
		t.Error("compaction changed row lineage")
	}
	packed := 0
	for _, table := range lake.Tables {
		is := layoutOf(t, lake, table.Name)
		if is.deletes > 0 || is.small > 0 {
			t.Errorf("%s: %+v is left of %+v", table.Name, is, was[table.Name])
		}
		if is.data < was[table.Name].data {
			packed++
		}
	}
	if packed < 2 {
		t.Errorf("%d tables were packed: the lakehouse shows nothing", packed)
	}
	var folded int64
	for i, target := range sum.Targets {
		if target.Committed == nil || target.Committed.RowsErased > 0 {
			t.Fatalf("%s: %+v", target.Name, target.Committed)
		}
		folded += target.Committed.RowsAlreadyDeleted
		if want := lake.Tables[i]; target.Name == want.Name && target.Committed.RowsAlreadyDeleted != want.Deleted {
			t.Errorf("%s: %d rows folded in, want %d", target.Name, target.Committed.RowsAlreadyDeleted, want.Deleted)
		}
	}
	if folded == 0 {
		t.Error("no tombstone was folded in")
	}
	// Once more: there is nothing left to do.
	again, err := j.Compact(t.Context(), jobs.RunOptions{})
	if err != nil || again.Outcome != string(manifests.NothingToErase) {
		t.Errorf("again: %+v, %v", again, err)
	}
	// The keys are still there, and erasable.
	if sum, err = j.Run(t.Context(), jobs.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	wantErased(t, lake, sum)
}

func TestRunCompactsInTheSameCommit(t *testing.T) {
	lake, cfg := smallLake(t, "0s")
	plainLake, plain := smallLake(t, "0s")
	if _, err := open(t, plain, jobs.Env{}).Run(t.Context(), jobs.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	cfg.Compact = configs.DefaultCompact()
	sum, err := open(t, cfg, jobs.Env{}).Run(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wantErased(t, lake, sum)
	if sum.Outcome != string(manifests.Erased) {
		t.Errorf("outcome %s: %s", sum.Outcome, sum.Reasons)
	}
	if want := allContents(t, plainLake); !maps.Equal(allContents(t, lake), want) {
		t.Error("compaction beside erasing changed other rows")
	}
	for _, table := range lake.Tables {
		if is := layoutOf(t, lake, table.Name); is.deletes > 0 || is.small > 0 {
			t.Errorf("%s: %+v", table.Name, is)
		}
	}
}

// A file below the thresholds stays, with its deletes.
func TestThresholdsDecide(t *testing.T) {
	lake, cfg := smallLake(t, "0s")
	cfg.Compact = &configs.Compact{DeletedRows: configs.Whole / 2}
	before := map[string]layout{}
	for _, table := range lake.Tables {
		before[table.Name] = layoutOf(t, lake, table.Name)
	}
	sum, err := open(t, cfg, jobs.Env{}).Compact(t.Context(), jobs.RunOptions{})
	if err != nil || sum.Outcome != string(manifests.NothingToErase) {
		t.Fatalf("%+v, %v", sum, err)
	}
	for _, table := range lake.Tables {
		if is := layoutOf(t, lake, table.Name); is != before[table.Name] {
			t.Errorf("%s: %+v, was %+v", table.Name, is, before[table.Name])
		}
	}
}

func TestACompactionWithinItsGraceKeepsWhatItReplaced(t *testing.T) {
	lake, cfg := smallLake(t, "7d")
	j := open(t, cfg, jobs.Env{})
	before := allContents(t, lake)
	dry, err := j.Compact(t.Context(), jobs.RunOptions{DryRun: true})
	if err != nil || dry.Targets[0].Scan.Rewritten == 0 {
		t.Fatalf("%+v, %v", dry, err)
	}
	old := map[string]bool{}
	for _, f := range filesContaining(t, lake.Dir+"/warehouse", "PAR1") {
		old[f] = true
	}
	if len(old) == 0 {
		t.Fatal("no files")
	}
	sum, err := j.Compact(t.Context(), jobs.RunOptions{})
	if err != nil || sum.Outcome != string(manifests.ErasedPending) {
		t.Fatalf("%+v, %v", sum, err)
	}
	now := filesContaining(t, lake.Dir+"/warehouse", "PAR1")
	for f := range old {
		if !slices.Contains(now, f) {
			t.Errorf("%s was removed within the grace", f)
		}
	}
	if _, err := j.Restore(t.Context(), sum.RunID, nil, false); err == nil {
		t.Error("a compaction was restored")
	}
	due, err := j.PurgeDue(later(t, 8*24*time.Hour), false)
	if err != nil || len(due) != 1 || due[0].Outcome != string(manifests.Erased) {
		for _, d := range due {
			t.Logf("%+v", d)
		}
		t.Fatalf("purge: %v", err)
	}
	if !maps.Equal(before, allContents(t, lake)) {
		t.Error("rows differ after the purge")
	}
	for _, f := range filesContaining(t, lake.Dir+"/warehouse", "PAR1") {
		if old[f] && strings.Contains(f, "deletes") {
			t.Errorf("%s outlived the purge", f)
		}
	}
}
