//go:build interop

package interop

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	icebergo "github.com/apache/iceberg-go"
)

// TestCompactedTablesReadTheSame compacts tables of Spark's that hold position
// deletes, deletion vectors and equality deletes. Spark, PyIceberg and DuckDB
// see the same rows before and after, with their row ids where the format has
// them. A reader that could not read a table for its deletes must be able to
// afterwards, and agree with the others.
func TestCompactedTablesReadTheSame(t *testing.T) {
	l := localLake(t)
	tables := map[string]any{}
	for _, v := range []int{2, 3} {
		for _, kind := range []string{"mor", "eq"} {
			tables[fmt.Sprintf("%s_v%d", kind, v)] = map[string]any{"column": "tailnum", "lineage": v == 3}
		}
	}
	cfg := l.sparkConfig(tables, 2, 3)
	cfg["equality"] = []int{2, 3}
	python(t, "spark.py", "make", cfg, nil)
	for _, v := range []int{2, 3} {
		deleteEqual(t, l, fmt.Sprintf("eq_v%d", v), "flight", `[{"flight":1545},{"flight":1714},{"flight":461}]`)
	}
	before, was := l.readAll(t, cfg, tables), map[string][2]int{}
	targets := map[string][]string{}
	for name := range tables {
		was[name], targets[name] = l.files(t, name), []string{"tailnum"}
		if was[name][1] == 0 {
			t.Fatalf("%s has no delete files", name)
		}
	}
	if s, out, code := expunge(t, "compact", l.writeJob(t, targets, ""), "--yes"); code != 0 || s.Outcome != "ERASED" {
		t.Fatalf("expunge compact: exit code %d, outcome %q\n%s", code, s.Outcome, tail(out, 6000))
	}
	after := l.readAll(t, cfg, tables)
	for _, name := range slices.Sorted(maps.Keys(tables)) {
		is := l.files(t, name)
		if is[1] != 0 || is[0] >= was[name][0] {
			t.Errorf("%s: %d data and %d delete files, before %d and %d", name, is[0], is[1], was[name][0], was[name][1])
		}
		for _, reader := range []string{"spark", "duckdb", "pyiceberg"} {
			b, could := before[name][reader]
			a, can := after[name][reader]
			switch {
			case !can && (could || reader == "spark" || name == "mor_v2"):
				t.Errorf("%s: %s cannot read it any more", name, reader)
			case !can:
				t.Logf("%-7s %-10s reads neither the table before nor after", name, reader)
			case could && a != b:
				t.Errorf("%s: %s sees %+v, before %+v", name, reader, a, b)
			case !could && a != after[name]["duckdb"]: // they share a hash function
				t.Errorf("%s: %s, which could not read it before, sees %+v, DuckDB %+v", name, reader, a, after[name]["duckdb"])
			default:
				t.Logf("%-7s %-10s %6d rows, %2d → %d data files, %2d → 0 delete files, read before: %v", name, reader, a.Hits+a.Survivors, was[name][0], is[0], was[name][1], could)
			}
		}
	}
}

// files counts a table's live data and delete files.
func (l *lake) files(t *testing.T, name string) (n [2]int) {
	t.Helper()
	tbl := l.load(t, name)
	fs, err := tbl.FS(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	list, err := tbl.CurrentSnapshot().Manifests(fs)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		for _, err := range m.Entries(fs, true) {
			if err != nil {
				t.Fatal(err)
			}
			if m.ManifestContent() == icebergo.ManifestContentDeletes {
				n[1]++
			} else {
				n[0]++
			}
		}
	}
	return n
}
