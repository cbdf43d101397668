package review

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/review/reviewtest"
)

// TestTenThousandRunsStayUsable: the first page comes while the manifests are
// still read; then each page is short and quick, and nothing that is known is
// read again.
func TestTenThousandRunsStayUsable(t *testing.T) {
	n := 10_000
	if testing.Short() {
		n = 500
	}
	counted := &counting{}
	s := newSite(t, reviewtest.Options{Runs: n, Jobs: 3, Logged: 2}, func(c *Config) { counted.Store, c.Store = c.Store, counted })
	for code := 503; code == 503; { // a browser looks again by itself
		code, _ = s.get("/")
	}
	s.settle()
	s.must("/", fmt.Sprintf("Runs %s %s with a manifest", number(n), number(n)))
	opened := counted.opened.Load()
	for _, target := range []string{"/", "/runs", "/runs?page=7", "/runs?job=nightly-1&page=2", "/runs?result=PARTIAL", "/deadlines", "/residue", "/targets", "/metrics"} {
		began := time.Now()
		body := s.must(target)
		took := time.Since(began)
		t.Logf("%-30s sent %6d bytes, %s", target, len(body), took.Round(time.Millisecond))
		if took > 5*time.Second { // a busy machine is slow; what counts is read and sent below
			t.Errorf("%s took %s", target, took)
		}
		if len(body) > 200<<10 {
			t.Errorf("%s has %d bytes", target, len(body))
		}
	}
	if again := counted.opened.Load() - opened; again > 20 {
		t.Errorf("pages over a bucket that has not changed opened %d objects", again)
	}
	seen := map[string]bool{}
	pages := (n + perPage - 1) / perPage
	for _, p := range []int{1, 2, pages} {
		for _, l := range links(s.must(fmt.Sprintf("/runs?page=%d", p))) {
			if strings.HasPrefix(l, "/runs/") {
				if seen[l] {
					t.Errorf("%s is on two pages", l)
				}
				seen[l] = true
			}
		}
	}
	if len(seen) != 3*perPage {
		t.Errorf("%d runs on three pages", len(seen))
	}
	if code, _ := s.get(fmt.Sprintf("/runs?page=%d", pages+1)); code != 404 {
		t.Errorf("beyond the last page: %d", code)
	}
}

// settle waits until every manifest was read.
func (s *site) settle() {
	s.t.Helper()
	for range 600 {
		s.server.index.mu.Lock()
		idle := s.server.index.running == nil && s.server.index.view != nil && s.server.index.view.Unread == 0
		s.server.index.mu.Unlock()
		if idle {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.t.Fatal("the index is not ready")
}

// reload makes the next request read the bucket.
func (s *site) reload() {
	s.settle()
	s.server.index.mu.Lock()
	s.server.index.view.At, s.server.index.notUntil = time.Time{}, time.Time{}
	s.server.index.mu.Unlock()
	s.server.logs.mu.Lock()
	s.server.logs.looked, s.server.logs.now.Checked = time.Time{}, time.Time{}
	s.server.logs.mu.Unlock()
}

// counting counts opened objects and the bytes read of them.
type counting struct {
	storage.Store
	opened, bytes atomic.Int64
}

func (c *counting) Open(ctx context.Context, path string) (storage.Object, error) {
	c.opened.Add(1)
	o, err := c.Store.Open(ctx, path)
	if err != nil {
		return nil, err
	}
	return countingObject{o, c}, nil
}

type countingObject struct {
	storage.Object
	c *counting
}

func (o countingObject) ReadAt(p []byte, off int64) (int, error) {
	n, err := o.Object.ReadAt(p, off)
	o.c.bytes.Add(int64(n))
	return n, err
}

// TestFilesArePagedFromTheSidecar: a page of records of a large manifest reads
// a small part of the evidence, and a walk over all pages sees each record once.
func TestFilesArePagedFromTheSidecar(t *testing.T) {
	const n = 80_000
	counted := &counting{}
	s := newSite(t, reviewtest.Options{Runs: 1, Files: n}, func(c *Config) { counted.Store, c.Store = c.Store, counted })
	base := "/manifests/" + s.bucket.Newest + "-run"
	s.must(base, "Browse 80,000 records")
	info, err := storage.Stat(t.Context(), s.store, root+base+sidecarSuffix)
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{base, base + "/files", base + "/files?from=75000", base + "/files/57777", base + "/files?status=rewritten&from=50000", base + "/files?kind=delete", base + "/files?target=lake.none"} {
		before := counted.bytes.Load()
		s.must(target)
		// The store is read in blocks; a selection may read its columns in full.
		if read := counted.bytes.Load() - before; read > info.Size/2 {
			t.Errorf("%s read %d of the sidecar's %d bytes", target, read, info.Size)
		}
	}
	s.must(base+"/files/57777", "00057777.parquet", "leaf 57,777 of 80,000")
	s.must(base+"/files?q=00066660.parquet", "00066660.parquet", "66,660")
	seen := 0
	for target := base + "/files?erased=1&q=day%3D2026-05-"; target != ""; {
		body := s.must(target)
		target = ""
		for _, l := range links(body) {
			if strings.HasPrefix(l, base+"/files/") {
				seen++
			} else if strings.Contains(l, "from=") {
				target = l
			}
		}
		if i := strings.Index(body, `rel="next"`); i < 0 {
			target = ""
		}
	}
	want := 0
	for i := range n {
		if i%10 == 0 && i%12 == 4 {
			want++
		}
	}
	if seen != want {
		t.Errorf("%d records were shown, want %d", seen, want)
	}
	for _, bad := range []string{"/files/80000", "/files/-1", "/files/x"} {
		if code, _ := s.get(base + bad); code != 404 {
			t.Errorf("%s: %d", bad, code)
		}
	}
	if code, _ := s.get(base + "/files?from=x"); code != 400 {
		t.Errorf("from=x: %d", code)
	}
}

// TestPagesSayWhatIsTrue over a bucket whose contents are known.
func TestPagesSayWhatIsTrue(t *testing.T) {
	s := newSite(t, reviewtest.Options{Runs: 12, Files: 80, Logged: 12}, nil)
	s.must("/")
	s.settle()
	v, err := s.server.index.get(clock.With(t.Context(), func() time.Time { return now }))
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for _, r := range v.Runs {
		counts[r.Result()]++
	}
	total := 0
	for result, n := range counts {
		total += n
		s.must("/runs?result="+result, fmt.Sprintf("%d runs, the newest first", n))
	}
	if total != 12 || counts["PARTIAL"] == 0 || counts["ERASED_PENDING"] == 0 || counts["ERASED"] == 0 {
		t.Fatalf("the bucket has %v", counts)
	}
	overdue := 0
	for _, d := range v.Deadlines {
		if d.open() && now.AddDate(0, 0, nearDays).After(*d.Deadline) {
			overdue++
		}
	}
	if overdue > 0 {
		s.must("/", fmt.Sprintf("within %d days of the deadline", nearDays))
	}
	s.must("/residue", "within grace", "replaced files and history", "old copies, kept for the grace")
	s.must("/targets", "lake.sales.orders", "surfaces passed, control holds")
	s.must("/deadlines", "2026-12-", "in time")
	base := "/manifests/" + s.bucket.Newest + "-run"
	s.must(base, "Verified just now; the evidence file was not read", "RDS backups", "What was not covered", "Check it yourself")
	s.must(base+"?check=complete", "Verified just now, its evidence included")
	s.awaitLog()
	s.must("/log", "Every entry, tile and the checkpoint agree", "12", "every manifest is in it", "none is missing")
	metrics := s.must("/metrics")
	for _, want := range []string{`expunge_runs{job="nightly-0",outcome="PARTIAL"} ` + fmt.Sprint(counts["PARTIAL"]), "expunge_state_up 1", "expunge_log_verified 1", "expunge_log_entries 12", `expunge_residue_items{job="nightly-0"}`, "go_goroutines"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	for name, want := range map[string]string{"manifest": "payloadType", "proof": "c2sp.org/tlog-proof", "evidence": "PAR1", "report": "<!doctype html>"} {
		resp := s.request("GET", base+"/download/"+name, nil)
		b, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != http.StatusOK || !strings.Contains(string(b), want) || !strings.HasPrefix(resp.Header.Get("Content-Disposition"), "attachment") {
			t.Errorf("%s: status %d, %d bytes, %v", name, resp.StatusCode, len(b), resp.Header)
		}
	}
	if code, _ := s.get(base + "/download/secret"); code != 404 {
		t.Errorf("unknown download: %d", code)
	}
}

func (s *site) awaitLog() {
	s.t.Helper()
	for range 200 {
		s.get("/log")
		s.server.logs.mu.Lock()
		running := s.server.logs.running
		s.server.logs.mu.Unlock()
		if !running {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.t.Fatal("the log was not read")
}

// TestTamperingShows: a changed manifest, evidence and log are each named on their page.
func TestTamperingShows(t *testing.T) {
	s := newSite(t, reviewtest.Options{Runs: 3, Files: 60, Logged: 3}, nil)
	base := "/manifests/" + s.bucket.Newest + "-run"
	flip := func(name string, change func([]byte) []byte) func() {
		old, err := storage.ReadAll(t.Context(), s.store, root+name)
		if err != nil {
			t.Fatal(err)
		}
		put := func(b []byte) {
			if err := storage.WriteAll(t.Context(), s.store, root+name, b, storage.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		put(change(append([]byte(nil), old...)))
		return func() { put(old) }
	}
	s.must(base, "Verified just now")
	undo := flip(base+proofSuffix, func(b []byte) []byte { b[40] ^= 1; return b })
	s.must(base, "This manifest does not verify", "log inclusion")
	undo()
	undo = flip(base+sidecarSuffix, func(b []byte) []byte { b[300] ^= 1; return b })
	s.must(base+"?check=complete", "This manifest does not verify")
	undo()
	s.awaitLog()
	s.must("/log", "Every entry")
	undo = flip("/log/tile/0/000.p/3", func(b []byte) []byte { b[5] ^= 1; return b })
	s.server.logs.seen = ""
	s.reload()
	s.awaitLog()
	s.must("/log", "The log does not verify")
	s.must("/", "The log does not verify")
	if m := s.must("/metrics"); !strings.Contains(m, "expunge_log_verified 0") {
		t.Error("metrics do not say that the log is broken")
	}
	undo()
}

// TestRunningJobShowsItsProgress, and one that died says so.
func TestRunningJobShowsItsProgress(t *testing.T) {
	s := newSite(t, reviewtest.Options{Runs: 2}, nil)
	put := func(updated time.Time, step string, counters map[string]int64) {
		st := state.Status{Run: "live-20261125T115900Z-aa", Job: "live", State: "running", Step: step, Started: now.Add(-5 * time.Minute), Updated: updated, Counters: counters}
		raw, err := json.Marshal(st)
		if err != nil {
			t.Fatal(err)
		}
		if err := storage.WriteAll(t.Context(), s.store, root+"/status/"+st.Run+".json", raw, storage.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	put(now.Add(-3*time.Second), "scan", map[string]int64{"files_done": 1234, "files_total": 5000})
	s.must("/", "Running now", "1,234 of 5,000 files", "Last sign of life 2026-11-25 11:59:57")
	body := s.must("/runs/live-20261125T115900Z-aa", "1,234 of 5,000 files")
	if !strings.Contains(body, "data-live") || !strings.Contains(body, `aria-current="step"`) {
		t.Error("the page of a running job does not follow it")
	}
	if m := s.must("/metrics"); !strings.Contains(m, `expunge_run_files_done_ratio{job="live"} 0.2468`) || !strings.Contains(m, `expunge_runs_active{job="live"} 1`) {
		t.Error("metrics do not show the progress")
	}
	put(now.Add(-time.Hour), "verify", map[string]int64{"tables_verified": 1, "tables_total": 4})
	s.reload()
	s.must("/", "1 of 4 targets", "gives no sign of life", "No sign of life since 2026-11-25 11:00:00")
}

// TestNewManifestsAppear without a restart, a later manifest of a run takes
// the earlier one's place, and damage is counted, not hidden.
func TestNewManifestsAppear(t *testing.T) {
	s := newSite(t, reviewtest.Options{Runs: 2}, nil)
	s.must("/", "Runs 2")
	if _, err := reviewtest.Make(t.Context(), s.store, root, reviewtest.Options{Runs: 5, Now: now.Add(time.Minute)}); err != nil {
		t.Fatal(err)
	}
	if err := storage.WriteAll(t.Context(), s.store, root+"/manifests/broken-run.intoto.jsonl", []byte("{}"), storage.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	s.reload()
	s.must("/", "Runs 7", "1 object of the state bucket cannot be read")
}

// TestRequestsStandAgainstTheirDeadlines: open ones first, the late ones named.
func TestRequestsStandAgainstTheirDeadlines(t *testing.T) {
	yes, no := true, false
	d := func(days int) time.Time { return now.AddDate(0, 0, days) }
	list := []Request{
		{ID: "T-done", Status: "erased", Received: d(-40), Deadline: d(-10), Done: d(-12), Met: &yes, Keys: 1, Found: 1, Targets: []string{"lake.a"}},
		{ID: "T-late", Status: "erased", Received: d(-50), Deadline: d(-20), Done: d(-12), Met: &no},
		{ID: "T-far", Status: "pending", Received: d(-2), Deadline: d(28), Until: d(5)},
		{ID: "T-near", Status: "pending", Received: d(-25), Deadline: d(5), Until: d(4)},
		{ID: "T-missed", Status: "not covered", Received: d(-35), Deadline: d(-5), Met: &no, Missed: []string{"lake.b"}},
		{ID: "T-held", Status: "held", Received: d(-35), Deadline: d(-5)},
		{ID: "T-open", Status: "running"},
		{ID: "T-part", Status: "part held", Keys: 2, Held: 1, Found: 2},
		{ID: "T-past", Status: "erased from history", Keys: 1, History: 1},
	}
	var fail error
	s := newSite(t, reviewtest.Options{Runs: 1}, func(c *Config) {
		c.Requests = func(context.Context) ([]Request, int, error) { return list, 2, fail }
	})
	await := func() {
		for range 200 {
			s.get("/requests")
			s.server.book.mu.Lock()
			running := s.server.book.running
			s.server.book.mu.Unlock()
			if !running {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	await()
	body := text(s.must("/requests", "9 requests, 4 of them open", "1 of 3 keys held", "erased from history", "2 runs are sealed", "not covered: lake.b", "5 days ago", "in 5 days", "done late"))
	at := -1
	for _, id := range []string{"T-missed", "T-near", "T-far", "T-open", "T-late", "T-done", "T-held", "T-part", "T-past"} {
		i := strings.Index(body, id)
		if i <= at {
			t.Errorf("%s is out of its place", id)
		}
		at = i
	}
	s.must("/", "1 request is past the deadline", "1 request is within 14 days", "T-near")
	metrics := s.must("/metrics")
	for _, want := range []string{`expunge_requests{status="pending"} 2`, "expunge_requests_deadline_missed 1"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	fail = fmt.Errorf("secret-4711")
	s.server.book.next, s.server.book.from = time.Time{}, time.Time{}
	await()
	if body := s.must("/requests", "could not be read"); strings.Contains(body, "4711") {
		t.Error("an error of the store is shown")
	}
}

// TestCertificatesComeFromTheirFolderOnly, and nothing else of that folder is served.
func TestCertificatesComeFromTheirFolderOnly(t *testing.T) {
	key, err := manifests.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := fstest.MapFS{"other.txt": {Data: []byte("secret-4711")}, "private.pem": {Data: []byte("secret-4711")}, "sub/x.jsonl": {Data: []byte("secret-4711")}}
	s := newSite(t, reviewtest.Options{Runs: 1, Logged: 1}, func(c *Config) { c.Certificates = dir })
	env, err := storage.ReadAll(t.Context(), s.store, root+"/manifests/"+s.bucket.Newest+"-run"+envelopeSuffix)
	if err != nil {
		t.Fatal(err)
	}
	run, err := manifests.Certify(env, nil, "users", manifests.KeyProof{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := manifests.SignCertificate(t.Context(), &manifests.Certificate{ID: "certificate-1", Issued: now, Request: "DSAR-1001", Runs: []manifests.CertifiedRun{*run}}, key)
	if err != nil {
		t.Fatal(err)
	}
	dir["anna.intoto.jsonl"] = &fstest.MapFile{Data: cert}
	s.must("/certificates", "DSAR-1001", "certificate-1", "erased")
	if body := s.must("/certificates/anna.intoto.jsonl/signed"); body != string(cert) {
		t.Error("the signed file is another one")
	}
	s.must("/certificates/anna.intoto.jsonl/page", "Certificate of erasure", "DSAR-1001")
	for _, bad := range []string{"other.txt/signed", "private.pem/signed", "private.pem/page", "sub%2fx.jsonl/signed", "..%2fx/signed", "anna.intoto.jsonl/other", "none/signed"} {
		if code, body := s.get("/certificates/" + bad); code != 404 || strings.Contains(body, "4711") {
			t.Errorf("%s: status %d", bad, code)
		}
	}
	if code, _ := newSite(t, reviewtest.Options{Runs: 1}, nil).get("/certificates"); code != 404 {
		t.Errorf("without a folder: %d", code)
	}
}

// TestWithoutTrustNothingLooksVerified.
func TestWithoutTrustNothingLooksVerified(t *testing.T) {
	s := newSite(t, reviewtest.Options{Runs: 1, Files: 9, Logged: 1}, func(c *Config) { c.Trust = nil })
	body := text(s.must("/manifests/"+s.bucket.Newest+"-run", "Not verified", "Nothing was verified when this page was made"))
	if strings.Contains(body, "Verified just now") {
		t.Error("an unverified manifest looks verified")
	}
	s.must("/log", "Not checked")
	if strings.Contains(s.must("/metrics"), "expunge_log_verified") {
		t.Error("metrics speak of a check that nobody made")
	}
}

// TestOnlyTheNewestAuditCounts: what an audit finds is still stored until a
// later audit of the job no longer finds it.
func TestOnlyTheNewestAuditCounts(t *testing.T) {
	audit := func(id string, end time.Time, residue int) *summary {
		return &summary{ID: id, Run: id, Job: "nightly", Kind: manifests.KindAudit, Result: manifests.Partial, End: end, Residue: make([]manifests.Residue, residue)}
	}
	of := func(list ...*summary) *view {
		all := map[string]*summary{}
		runs := map[string]state.Status{}
		for _, s := range list {
			all[s.ID], runs[s.Run] = s, state.Status{Run: s.Run, Job: s.Job, Started: s.End}
		}
		return newView(now, runs, all, 0, 0)
	}
	found, later, clean := audit("a", now, 2), audit("b", now.Add(time.Hour), 1), audit("c", now.Add(2*time.Hour), 0)
	for want, v := range []*view{of(found, later, clean), of(found, later), of(found)} {
		if len(v.Residue) != want {
			t.Errorf("%d entries, want %d", len(v.Residue), want)
		}
	}
}

// TestOutcomesByDay: each run is on its day, and none is lost.
func TestOutcomesByDay(t *testing.T) {
	v := &view{}
	for i := range 40 {
		v.Runs = append(v.Runs, newRunView(state.Status{Run: fmt.Sprint(i), Started: now.AddDate(0, 0, -i), Outcome: []string{"ERASED", "PARTIAL", "", "ERASED_PENDING"}[i%4]}, nil))
	}
	days := v.days(now, overDays)
	if len(days) != overDays || dayOf(days[0].Date) != "2026-10-27" || dayOf(days[overDays-1].Date) != "2026-11-25" {
		t.Fatalf("%d days from %s", len(days), dayOf(days[0].Date))
	}
	for i, d := range days {
		want := [4]int{}
		want[[]int{0, 2, 3, 1}[(overDays-1-i)%4]] = 1
		if d.Counts != want {
			t.Errorf("%s: %v, want %v", dayOf(d.Date), d.Counts, want)
		}
	}
	if p := newPicture(days); p.Most != 1 || len(p.Columns) != overDays || p.Totals != [4]int{8, 7, 8, 7} {
		t.Errorf("picture: %+v", p.Totals)
	}
}

// BenchmarkMillionFiles serves pages of a manifest of a million files.
func BenchmarkMillionFiles(b *testing.B) {
	s := newSite(b, reviewtest.Options{Runs: 1, Files: 1_000_000}, nil)
	base := "/manifests/" + s.bucket.Newest + "-run"
	s.must(base)
	for name, target := range map[string]string{"manifest": base, "first": base + "/files", "middle": base + "/files?from=500000", "record": base + "/files/765432",
		"rewritten": base + "/files?status=rewritten&from=700000", "rare": base + "/files?kind=delete", "path": base + "/files?q=00999999.parquet", "report": base + "/download/report"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				s.must(target)
			}
		})
	}
}

// TestRunsSayWhatRequestsCannot: where no request can be read, or not all of
// them, the deadlines that manifests state still count.
func TestRunsSayWhatRequestsCannot(t *testing.T) {
	late := now.AddDate(0, 0, -1)
	v := &view{Deadlines: []*summary{{ID: "a", Result: manifests.Partial, Deadline: &late}}}
	done := Request{ID: "T", Status: "erased"}
	for i, o := range []requestState{{}, {At: now}, {At: now, List: []Request{done}, Unread: 1}} {
		if n := notices(v, now, overviewData{Requests: o}); len(n) != 1 || n[0].Tone != "bad" || n[0].Link != "/deadlines" {
			t.Errorf("%d: %v", i, n)
		}
	}
	if n := notices(v, now, overviewData{Requests: requestState{At: now, List: []Request{done}}}); len(n) != 0 {
		t.Errorf("every request is done, and yet: %v", n)
	}
}

// TestAPageReadsWhatItShows: of a manifest of many files the report and the
// pages read a few blocks of the evidence, never all of it. EXPUNGE_SCALE says
// of how many files; the log says what each page reads and takes.
func TestAPageReadsWhatItShows(t *testing.T) {
	n := int64(100_000)
	if s := os.Getenv("EXPUNGE_SCALE"); s != "" {
		var err error
		if n, err = strconv.ParseInt(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	counted := &counting{}
	s := newSite(t, reviewtest.Options{Runs: 1, Files: n}, func(c *Config) { counted.Store, c.Store = c.Store, counted })
	base := "/manifests/" + s.bucket.Newest + "-run"
	s.must(base)
	info, err := storage.Stat(t.Context(), s.store, root+base+sidecarSuffix)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d records, %d bytes", n, info.Size)
	for _, p := range []struct {
		what, target string
		most         int64 // bytes, whatever the number of files
	}{
		{"manifest", base, 64 << 10},
		{"first records", base + "/files", 1 << 20},
		{"records of the middle", base + fmt.Sprintf("/files?from=%d", n/2), 1 << 20},
		{"one record", base + fmt.Sprintf("/files/%d", n*3/4), 1 << 20},
		{"removals, of which there are none", base + "/files?kind=delete", 1 << 20},
		{"by part of the path, the last one", base + fmt.Sprintf("/files?q=%08d.parquet", n-1), info.Size / 2},
		{"report, as a download", base + "/download/report", info.Size / 2},
	} {
		before, began := counted.bytes.Load(), time.Now()
		body := s.must(p.target)
		read := counted.bytes.Load() - before
		t.Logf("%-35s read %9d bytes of the bucket, sent %6d, %s", p.what, read, len(body), time.Since(began).Round(time.Millisecond))
		if read > p.most {
			t.Errorf("%s read %d of the evidence's %d bytes", p.what, read, info.Size)
		}
		if len(body) > 256<<10 {
			t.Errorf("%s has %d bytes", p.what, len(body))
		}
	}
}
