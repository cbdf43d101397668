package jobs_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"

	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/warehouse"
)

type roomMember struct {
	ID   int64  `parquet:"id"`
	Nick string `parquet:"nick"`
}

// room is a row of the Parquet objects of actions.
type room struct {
	ID      int64        `parquet:"id"`
	Name    *string      `parquet:"name,optional,dict"`
	City    string       `parquet:"city"`
	Members []roomMember `parquet:"members,list"`
}

func text(s string) *string { return &s }

func roomsOf(t *testing.T, rows ...room) string {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[room](&b, parquet.MaxRowsPerRowGroup(2), parquet.Compression(&parquet.Zstd))
	if _, err := w.Write(rows); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func (l *objectLake) rooms(t *testing.T, name string) []room {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(l.dir, "data", name))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := parquet.Read[room](bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func members(ids ...int64) (out []roomMember) {
	for _, id := range ids {
		out = append(out, roomMember{id, "n"})
	}
	return out
}

// TestActionsOnRawParquet: values are redacted and elements removed below Hive
// partitions as in tables; what is done is not done again, and can be undone.
func TestActionsOnRawParquet(t *testing.T) {
	rows := []room{{1, text("A"), "X", members(7, 1)}, {7, text("B"), "Y", members(2, 13, 7)}, {7, nil, "Z", nil}, {13, text("C"), "X", members(7)}, {8, text("B"), "Y", members(3)}}
	for name, c := range map[string]struct {
		target string
		want   []room
	}{
		"redaction": {"{prefix: data, format: parquet, match: [{users: id}], action: {redact: {name: null, city: GONE}}}",
			[]room{{1, text("A"), "X", members(7, 1)}, {7, nil, "GONE", members(2, 13, 7)}, {7, nil, "GONE", nil}, {13, nil, "GONE", members(7)}, {8, text("B"), "Y", members(3)}}},
		"redaction in elements": {"{prefix: data, format: parquet, match: [{users: id}], action: {redact: {\"members[*].nick\": gone}}}",
			[]room{{1, text("A"), "X", members(7, 1)}, {7, text("B"), "Y", []roomMember{{2, "gone"}, {13, "gone"}, {7, "gone"}}}, {7, nil, "Z", nil}, {13, text("C"), "X", []roomMember{{7, "gone"}}}, {8, text("B"), "Y", members(3)}}},
		"elements": {"{prefix: data, format: parquet, match: [{users: \"members[*].id\"}], action: {remove_element: members}}",
			[]room{{1, text("A"), "X", members(1)}, {7, text("B"), "Y", members(2)}, {7, nil, "Z", nil}, {13, text("C"), "X", nil}, {8, text("B"), "Y", members(3)}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newObjectLake(t)
			l.put(t, "dt=2026-01-01/a.parquet", roomsOf(t, rows...), "")
			l.put(t, "dt=2026-01-02/clean.parquet", roomsOf(t, rows[4]), "")
			before := l.contents(t)
			j := open(t, l.job(t, "7d", "  - "+c.target+"\n"), jobs.Env{})
			sum, err := j.Run(t.Context(), jobs.RunOptions{})
			if err != nil || sum.Outcome != string(manifests.ErasedPending) {
				t.Fatalf("%+v, %v", sum, err)
			}
			got := l.rooms(t, "dt=2026-01-01/a.parquet")
			if diff := cmp.Diff(c.want, got, cmp.Transformer("empty", func(m []roomMember) []roomMember { return append([]roomMember{}, m...) })); diff != "" {
				t.Error(diff)
			}
			if l.contents(t)["dt=2026-01-02/clean.parquet"] != before["dt=2026-01-02/clean.parquet"] {
				t.Error("an object without a hit was changed")
			}
			if again, err := open(t, l.job(t, "7d", "  - "+c.target+"\n"), jobs.Env{}).Run(later(t, time.Hour), jobs.RunOptions{}); err != nil || again.Targets[0].Committed.RowsChanged != 0 {
				t.Errorf("a second run: %+v, %v", again, err)
			}
			if _, err := j.Restore(t.Context(), sum.RunID, nil, false); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, l.contents(t)); diff != "" {
				t.Error("the restore did not give back what was there")
			}
		})
	}
}

// TestActionsThatParquetDoesNotTake are refused while the run is planned.
func TestActionsThatParquetDoesNotTake(t *testing.T) {
	for action, want := range map[string]error{
		"{redact: {id: null}}":        warehouse.ErrAction, // required
		"{redact: {id: many}}":        warehouse.ErrAction, // no number
		"{redact: {nowhere: null}}":   warehouse.ErrNotFound,
		"{redact: {members: some}}":   warehouse.ErrAction, // a constant for a list
		"{remove_element: name}":      warehouse.ErrAction,
		"{remove_element: strangers}": warehouse.ErrNotFound,
	} {
		l := newObjectLake(t)
		l.put(t, "a.parquet", roomsOf(t, room{7, text("A"), "X", members(7)}), "")
		before := l.contents(t)
		match := "id"
		if _, list, ok := strings.Cut(strings.Trim(action, "{}"), "remove_element: "); ok {
			match = list + ".element.id"
		}
		j := open(t, l.job(t, "0s", "  - {prefix: data, format: parquet, match: [{users: "+match+"}], action: "+action+"}\n"), jobs.Env{})
		if _, err := j.Run(t.Context(), jobs.RunOptions{}); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", action, err, want)
		}
		if diff := cmp.Diff(before, l.contents(t)); diff != "" || l.own(t) != 0 {
			t.Errorf("%s: something was written", action)
		}
	}
}
