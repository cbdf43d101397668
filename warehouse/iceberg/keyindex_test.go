package iceberg

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/warehouse"
)

func TestFiltersHoldWhatTheyWereMadeOf(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		hashes := rapid.SliceOfN(rapid.OneOf(rapid.Uint64(), rapid.SampledFrom([]uint64{0, 1, 1 << 63, 1<<64 - 1})), 0, 300).Draw(rt, "hashes")
		slices.Sort(hashes)
		hashes = slices.Compact(hashes)
		f := encodeFilter(hashes)
		for _, h := range hashes {
			if ok, err := f.mayHold([]uint64{h}); err != nil || !ok {
				rt.Fatalf("a hash is not found: %v", err)
			}
		}
		other := rapid.Uint64().Draw(rt, "other")
		_, in := slices.BinarySearch(hashes, other)
		if ok, err := f.mayHold([]uint64{other}); err != nil || (in && !ok) {
			rt.Fatal(ok, err)
		}
		if len(f.data) > 0 {
			cut := keyFilter{n: f.n, data: f.data[:rapid.IntRange(0, len(f.data)-1).Draw(rt, "cut")]}
			_, _ = cut.mayHold(hashes[len(hashes)-1:]) // must end
		}
	})
}

func TestFiltersExcludeAlmostEverythingElse(t *testing.T) {
	hasher, err := newKeyHasher(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	h := hasher.state()
	hash := func(from, n int) []uint64 {
		var out []uint64
		for i := range n {
			out = append(out, h.sum64(strconv.AppendInt(nil, int64(from+i), 10)))
		}
		slices.Sort(out)
		return out
	}
	f := encodeFilter(hash(0, 100000))
	if perKey := float64(8*len(f.data)) / 100000; perKey > 28 {
		t.Errorf("%.1f bits a key, want at most 28", perKey)
	}
	wrong := 0
	for night := range 200 {
		if hit, err := f.mayHold(hash(1000000+night*1000, 1000)); err != nil {
			t.Fatal(err)
		} else if hit {
			wrong++
		}
	}
	if wrong > 3 { // 200,000 strange keys at 2^-26: 0.003 expected
		t.Errorf("%d nights of 200 read the file for nothing", wrong)
	}
}

// openIndex opens the index of a table for a selection and makes planning use it.
func (l *planLake) openIndex(tbl *Table, sel warehouse.Selection) *FileIndex {
	l.t.Helper()
	x, err := OpenFileIndex(l.ctx, l.store, l.cat.props["warehouse"]+"-state/keyindex", bytes.Repeat([]byte{7}, 32), tbl, sel)
	if err != nil {
		l.t.Fatal(err)
	}
	tbl.UseKeyIndex(x)
	return x
}

func TestIndexedFilesThatAreSkippedNeverHoldAKey(t *testing.T) {
	l := newPlanLake(t)
	tables, skipped := 0, int64(0)
	fewer(t, 25, func(rt *rapid.T) {
		tables++
		name := fmt.Sprintf("t%d", tables)
		// Without bounds, only the index can prune.
		l.create(name, 2, planSchema(), nil, "write.metadata.metrics.default", "none")
		for range 3 {
			some := map[string][]string{}
			for _, d := range keyDomains {
				at := rapid.IntRange(0, len(d.values)-1).Draw(rt, "domain start")
				some[d.column] = d.values[at : at+1]
			}
			l.append(name, drawRow(rt, some), drawRow(rt, some))
		}
		for range 4 {
			sel, want := drawSelection(rt)
			for night := range 2 {
				tbl := l.open(name)
				x := l.openIndex(tbl, sel)
				plan, todo, live := l.plan(tbl, sel)
				listed := map[string]bool{}
				for _, task := range todo {
					listed[task.File.Path] = true
					if err := x.Add(l.ctx, task.File.Path, task.File.Size); err != nil {
						rt.Fatal(err)
					}
				}
				if err := x.Close(l.ctx); err != nil {
					rt.Fatal(err)
				}
				for _, path := range live {
					holds := fileHolds(rt, path, want)
					if !listed[path] && holds {
						rt.Fatalf("a skipped file holds a key; columns %v", sel.Match)
					}
					if night == 1 && listed[path] && !holds && indexable(want) {
						rt.Fatalf("an indexed file without a key is read again; columns %v", want)
					}
				}
				for _, s := range plan.Skipped {
					if s.Reason == reasonIndex {
						skipped += s.Files
					}
				}
			}
		}
	})
	if skipped == 0 {
		t.Error("the index skipped nothing: the test proves nothing")
	}
}

func indexable(want []wanted) bool {
	return !slices.ContainsFunc(want, func(w wanted) bool {
		return len(w.columns) > 1 && slices.ContainsFunc(w.columns, func(c string) bool { return strings.Contains(c, "tags") || strings.Contains(c, "scores") })
	})
}

func TestTheIndexForgetsFilesThatAreGone(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, planSchema(), nil, "write.metadata.metrics.default", "none")
	for i := range 4 {
		l.append("t", idRow(i))
	}
	sel := selection(int64Keys(t, "77"), "id")
	night := func() (known, tasks int) {
		tbl := l.open("t")
		x := l.openIndex(tbl, sel)
		known = x.Known()
		_, todo, _ := l.plan(tbl, sel)
		for _, task := range todo {
			if err := x.Add(l.ctx, task.File.Path, task.File.Size); err != nil {
				t.Fatal(err)
			}
		}
		if err := x.Close(l.ctx); err != nil {
			t.Fatal(err)
		}
		return known, len(todo)
	}
	expect := func(what string, known, tasks int) {
		t.Helper()
		if k, n := night(); k != known || n != tasks {
			t.Errorf("%s: %d files known and %d read, want %d and %d", what, k, n, known, tasks)
		}
	}
	expect("first night", 0, 4)
	expect("second night", 4, 0)
	l.append("t", idRow(9))
	expect("a new file", 4, 1)
	// Everything is replaced by one new file: its old filters go.
	tbl := l.raw("t")
	rec := l.records(tbl, idRow(1))
	if err := overwriteAll(l, tbl, rec); err != nil {
		t.Fatal(err)
	}
	expect("after a rewrite", 5, 1)
	expect("the night after", 1, 0)
	// A damaged segment costs a scan and nothing else.
	for info, err := range l.store.List(l.ctx, l.cat.props["warehouse"]+"-state/") {
		if err != nil {
			t.Fatal(err)
		}
		data, err := storage.ReadAll(l.ctx, l.store, info.Path)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(data, []byte("parquet")) {
			t.Error("a segment holds a path in clear")
		}
		data[len(data)-1] ^= 1
		if err := storage.WriteAll(l.ctx, l.store, info.Path, data, storage.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	tbl2 := l.open("t")
	x := l.openIndex(tbl2, sel)
	if _, todo, _ := l.plan(tbl2, sel); len(todo) > 1 {
		t.Errorf("%d files read", len(todo))
	}
	if err := x.Close(l.ctx); err != nil {
		t.Error(err)
	}
}

func TestAFilterIsOnlyAskedAboutItsOwnColumnAndNormalisation(t *testing.T) {
	l := newPlanLake(t)
	l.create("t", 2, planSchema(), nil, "write.metadata.metrics.default", "none")
	l.append("t", `{"sid":"Ada@X.org ","customer":{"mail":"bob@x.org"}}`)
	plain := planKeys(t, keyset.Schema{part(t, "string")}, "bob@x.org")
	lower := planKeys(t, keyset.Schema{part(t, "string", "trim", "lowercase")}, "ada@x.org")
	for _, sel := range []warehouse.Selection{selection(plain, "sid"), selection(plain, "customer.mail"), selection(lower, "sid"), selection(lower, "customer.mail")} {
		want := 1
		if sel.Match[0].Keys == plain && sel.Match[0].Columns[0] == "sid" || sel.Match[0].Keys == lower && sel.Match[0].Columns[0] != "sid" {
			want = 0
		}
		for night := range 2 {
			tbl := l.open("t")
			x := l.openIndex(tbl, sel)
			_, todo, _ := l.plan(tbl, sel)
			if night == 1 && len(todo) != want {
				t.Errorf("%v: %d files, want %d", sel.Match[0].Columns, len(todo), want)
			}
			for _, task := range todo {
				if err := x.Add(l.ctx, task.File.Path, task.File.Size); err != nil {
					t.Fatal(err)
				}
			}
			if err := x.Close(l.ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestTheSecondNightReadsOnlyWhatIsNew measures a table whose file bounds prune nothing.
func TestTheSecondNightReadsOnlyWhatIsNew(t *testing.T) {
	files, rows := 40, 500
	if n, err := strconv.Atoi(envScale()); err == nil {
		files = n
	}
	l := newPlanLake(t)
	l.create("t", 2, planSchema(), nil)
	fill := func(from, to int) {
		for i := from; i < to; i++ {
			var all []string
			for r := range rows {
				all = append(all, idRow(int(uint32(i*rows+r)*2654435761)&^1, fmt.Sprintf(`"sid":"user-%d"`, r)))
			}
			l.append("t", all...)
		}
	}
	fill(0, files)
	var keys []string
	for i := range 1000 {
		keys = append(keys, strconv.Itoa(i*4294966+1)) // odd: in no file
	}
	sel := selection(int64Keys(t, keys...), "id")
	for night := range 3 {
		counters := &storage.Counters{}
		plain := l.store
		l.store = storage.WithCounters(plain, counters)
		start := time.Now()
		tbl := l.open("t")
		x := l.openIndex(tbl, sel)
		plan, todo, _ := l.plan(tbl, sel)
		planned := time.Since(start)
		var read int64
		for _, task := range todo {
			read += task.File.Size
			if err := x.Add(l.ctx, task.File.Path, task.File.Size); err != nil {
				t.Fatal(err)
			}
		}
		if err := x.Close(l.ctx); err != nil {
			t.Fatal(err)
		}
		l.store = plain
		t.Logf("night %d: %d of %d files read, planned in %v, in all %v, %+v", night+1, len(todo), plan.TotalFiles,
			planned.Round(time.Millisecond), time.Since(start).Round(time.Millisecond), counters.Snapshot())
		switch {
		case night == 0 && len(todo) == 0:
			t.Fatal("bounds prune everything: the test proves nothing")
		case night == 1 && len(todo) != 0:
			t.Errorf("the second night reads %d files", len(todo))
		case night == 2 && len(todo) != 2:
			t.Errorf("the third night reads %d files, want the 2 new ones", len(todo))
		}
		if night == 1 {
			fill(files, files+2)
		}
	}
}
