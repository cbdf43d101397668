package jobs_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"
	"github.com/twmb/avro"
	"github.com/twmb/avro/ocf"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/internal/testlake"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
)

// event is a record of the Parquet and Avro objects.
type event struct {
	ID   int64  `parquet:"id"`
	Mail string `parquet:"email"`
	N    int64  `parquet:"n"`
}

func events(ids ...int) (out []event) {
	for i, id := range ids {
		out = append(out, event{int64(id), testlake.Mail(id), int64(i)})
	}
	return out
}

func parquetOf(t *testing.T, ids ...int) string {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[event](&b, parquet.MaxRowsPerRowGroup(3), parquet.Compression(&parquet.Snappy))
	if _, err := w.Write(events(ids...)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func avroOf(t *testing.T, ids ...int) string {
	t.Helper()
	s, err := avro.Parse(`{"type":"record","name":"Event","fields":[{"name":"id","type":"long"},{"name":"email","type":"string"},{"name":"n","type":"long"}]}`)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w, err := ocf.NewWriter(&b, s, ocf.WithBlockCount(3))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events(ids...) {
		if err := w.Encode(map[string]any{"id": e.ID, "email": e.Mail, "n": e.N}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// recordIDs reads the objects of Parquet and Avro with other libraries than the run's scanner.
func recordIDs(t *testing.T, name, raw string) (out []int) {
	t.Helper()
	if strings.HasSuffix(name, ".parquet") {
		rows, err := parquet.Read[event](strings.NewReader(raw), int64(len(raw)))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			out = append(out, int(r.ID))
		}
		return out
	}
	r, err := ocf.NewReader(strings.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for {
		var v map[string]any
		if r.Decode(&v) != nil {
			return out
		}
		out = append(out, int(v["id"].(int64)))
	}
}

// mixture is a table and a prefix of each format. Person 1001 is in the table
// only, 1002 to 1007 in one prefix each, 1008 in the table and the Parquet
// prefix, 1009 nowhere.
type mixture struct {
	*objectLake
	table *testlake.Lake
}

func newMixture(t *testing.T) *mixture {
	t.Helper()
	m := &mixture{table: testlake.New(t, "2", nil, nil)}
	m.objectLake = &objectLake{dir: m.table.Dir, want: map[string]string{}}
	m.table.Append(1000, 1001, 1008)
	m.put(t, "nd/a.ndjson.gz", "{\"id\":1002}\n{\"id\":1}\n", "")
	m.put(t, "nd/clean.ndjson", "{\"id\":1}\n", "")
	m.put(t, "csv/a.csv", "id\n1003\n1\n", "")
	m.put(t, "pq/a.parquet", parquetOf(t, 1, 2, 3, 1004, 1008, 4), "")
	m.put(t, "pq/b.parquet", parquetOf(t, 1, 2, 3, 1004), "")
	m.put(t, "av/a.avro", avroOf(t, 1, 2, 3, 4, 1005, 5), "")
	m.put(t, "part/id=1006/x.ndjson", "{\"a\":1}\n", "")
	m.put(t, "part/id=5/x.ndjson", "{\"a\":1}\n", "")
	m.put(t, "dev/tenant=t1/x.ndjson", "{\"device\":\"d7\"}\n{\"device\":\"d1\"}\n", "")
	m.put(t, "dev/tenant=t2/x.ndjson", "{\"device\":\"d7\"}\n", "")
	return m
}

func (m *mixture) open(t *testing.T, grace string) *jobs.Job {
	t.Helper()
	file := filesIn(t, m.dir)
	users := "id,ticket\n"
	for id := 1001; id <= 1009; id++ {
		if id != 1007 {
			users += fmt.Sprintf("%d,T%d\n", id, id)
		}
	}
	file("users.csv", users)
	file("devices.csv", "tenant,device,ticket\nt0,d0,T0\nt1,d7,T1007\nt3,d9,T3\n")
	cfg, err := configs.Load(file("job.yaml", fmt.Sprintf(`version: 1
name: mixed
state: state
grace: %s
limits: {share: 100%%}
audit: {keep: 365d}
catalogs:
  lake: {type: sql, uri: "sqlite:///%s/catalog.db", warehouse: "file://%s"}
keysets:
  users: {source: users.csv, key: {id: int64}, request: {id: ticket}}
  devices: {source: devices.csv, key: {tenant: string, device: string}, request: {id: ticket}}
targets:
  - {table: lake.db.t, match: [{users: id}], action: delete}
  - {prefix: data/nd, format: ndjson, match: [{users: id}], action: delete}
  - {prefix: data/csv, format: csv, match: [{users: id}], action: delete}
  - {prefix: data/pq, format: parquet, match: [{users: id}], action: delete}
  - {prefix: data/av, format: avro, match: [{users: id}], action: delete}
  - {prefix: data/part, format: ndjson, match: [{users: id}], action: delete}
  - {prefix: data/dev, format: ndjson, match: [{devices: [tenant, device]}], action: delete}
`, grace, m.dir, m.dir)))
	if err != nil {
		t.Fatal(err)
	}
	return open(t, cfg, jobs.Env{})
}

// where is in which objects each ticket's person is; "t" is the table.
var where = map[string][]string{
	"T1001": {"t"}, "T1002": {"nd/a.ndjson.gz"}, "T1003": {"csv/a.csv"}, "T1004": {"pq/a.parquet", "pq/b.parquet"}, "T1005": {"av/a.avro"},
	"T1006": {"part/id=1006/x.ndjson"}, "T1007": {"dev/tenant=t1/x.ndjson"}, "T1008": {"t", "pq/a.parquet"},
}

func (m *mixture) wantRequests(t *testing.T, j *jobs.Job, status string, now time.Time) {
	t.Helper()
	got, _ := requests(t, j, now)
	for ticket, places := range where {
		q := got[ticket]
		targets := map[string]bool{}
		for _, p := range places {
			if dir, _, ok := strings.Cut(p, "/"); ok {
				targets[filepath.Join(m.dir, "data", dir)] = true
			} else {
				targets["lake.db.t"] = true
			}
		}
		if q.Status != status || q.Found != 1 || !slices.Equal(q.Targets, slices.Sorted(maps.Keys(targets))) {
			t.Errorf("%s: %+v, want %s in %v", ticket, q, status, places)
		}
	}
	for _, nobody := range []string{"T1009", "T0", "T3"} {
		if q := got[nobody]; q.Status != jobs.RequestNothing || q.Found != 0 {
			t.Errorf("%s: %+v", nobody, q)
		}
	}
}

// TestPrefixesNameTheKeysThatTheyHeld: requests, certificates and audits speak
// of persons in prefixes of every format as they do of persons in tables.
func TestPrefixesNameTheKeysThatTheyHeld(t *testing.T) {
	m := newMixture(t)
	j := m.open(t, "7d")
	before := m.contents(t)
	copied := snapshotDir(t, filepath.Join(m.dir, "data"))
	sum, err := j.Run(t.Context(), jobs.RunOptions{})
	if err != nil || sum.Outcome != string(manifests.ErasedPending) {
		t.Fatalf("%+v, %v", sum, err)
	}
	m.wantRequests(t, j, jobs.RequestPending, time.Now())
	m.wantCertificates(t.Context(), t, j, sum)

	if back, err := j.Restore(t.Context(), sum.RunID, nil, false); err != nil || back.Outcome != string(manifests.Reverted) {
		t.Fatalf("%+v, %v", back, err)
	}
	if diff := cmp.Diff(before, m.contents(t)); diff != "" {
		t.Fatal(diff)
	}
	if sum, err = j.Run(t.Context(), jobs.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	if v, err := j.Verify(t.Context(), sum.RunID, jobs.VerifyOptions{}); err != nil || slices.ContainsFunc(v.Surfaces, func(s manifests.Surface) bool { return s.Result == manifests.Fail }) {
		t.Fatalf("%+v, %v", v, err)
	}
	after := later(t, 8*day)
	if due, err := j.PurgeDue(after, false); err != nil || len(due) != 1 || due[0].Outcome != string(manifests.Erased) {
		t.Fatalf("%d runs purged, %+v, %v", len(due), due[0], err)
	}
	m.wantRequests(t, j, jobs.RequestErased, time.Now().Add(8*day))
	m.wantCertificates(after, t, j, sum)
	for name, want := range map[string][]int{"pq/a.parquet": {1, 2, 3, 4}, "pq/b.parquet": {1, 2, 3}, "av/a.avro": {1, 2, 3, 4, 5}} {
		if got := recordIDs(t, name, m.contents(t)[name]); !slices.Equal(got, want) {
			t.Errorf("%s: ids %v, want %v", name, got, want)
		}
	}

	clean, err := j.Audit(after)
	if err != nil || clean.CameBack || len(clean.Findings) > 0 {
		t.Fatalf("an audit of clean targets: %+v, %v", clean, err)
	}
	restoreDir(t, copied, filepath.Join(m.dir, "data")) // a backup of the prefixes is put back
	back, err := j.Audit(after)
	if err != nil || !back.CameBack {
		t.Fatalf("%+v, %v", back, err)
	}
	m.wantFindings(t, j, back, sum.RunID)
}

// wantCertificates issues everybody's and compares the files that they name.
func (m *mixture) wantCertificates(ctx context.Context, t *testing.T, j *jobs.Job, sum *jobs.Summary) {
	t.Helper()
	for ticket, places := range where {
		file := filepath.Join(t.TempDir(), "subject.csv")
		text := "tenant,device\nt1,d7\n"
		if ticket != "T1007" {
			text = "id\n" + ticket[1:] + "\n"
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := j.Certify(ctx, jobs.CertificateRequest{Subject: file, Runs: []string{sum.RunID}})
		if err != nil {
			t.Fatalf("%s: %v", ticket, err)
		}
		got := 0
		for _, f := range c.Certificate.Runs[0].Files {
			if f.Record.RowsErased == 0 {
				t.Errorf("%s: a certificate names a file that lost nothing: %+v", ticket, f.Record)
			}
			if !f.Record.Keyed && !slices.ContainsFunc(places, func(p string) bool {
				return strings.HasSuffix(f.Record.Path, "/data/"+p) || p == "t" && strings.Contains(f.Record.Path, "/db/t/")
			}) {
				t.Errorf("%s: names %s", ticket, f.Record.Path)
			}
			got++
		}
		if got != len(places) {
			t.Errorf("%s: %d files in the certificate, want %v", ticket, got, places)
		}
	}
}

func (m *mixture) wantFindings(t *testing.T, j *jobs.Job, a *jobs.AuditSummary, run string) {
	t.Helper()
	want := map[string]int{}
	for _, p := range []string{"nd", "csv", "pq", "pq", "av", "part", "dev"} {
		want[filepath.Join(m.dir, "data", p)]++
	}
	got := map[string]int{}
	for _, f := range a.Findings {
		got[f.Target]++
		if f.State != "live" || f.Count == 0 || !slices.Equal(f.Runs, []string{run}) {
			t.Errorf("finding %+v", f)
		}
		if strings.Contains(f.File, "id=1006") {
			t.Errorf("the finding's path holds the key: %s", f.File)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n := len(evidenceOf(t, j, a.Manifest)); n != len(a.Findings) {
		t.Errorf("%d records of %d findings", n, len(a.Findings))
	}
}
