package manifests

import (
	"bytes"
	"fmt"
	"html"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"
)

// manyRecords are n records of a few targets, kinds, statuses and partitions,
// in the order in which runs write them: by target.
func manyRecords(n int) []Record {
	rng := rand.New(rand.NewPCG(7, 9))
	out := make([]Record, n)
	for i := range out {
		erased := max(0, rng.Int64N(40)-30)
		r := fileRecord(fmt.Sprintf("s3://lake/t%d/data/day=2026-05-%02d/%08d.parquet", i*3/n, 1+i%28, i), erased)
		r.Target = fmt.Sprintf("lake.t%d", i*3/n)
		r.DigestBefore = fmt.Sprintf("%016x%016x%016x%016x", rng.Uint64(), rng.Uint64(), rng.Uint64(), rng.Uint64())
		switch rng.IntN(200) {
		case 0:
			r = Record{Kind: RecordDelete, Target: r.Target, Path: r.Path, Object: "data", Response: "deleted", Time: at("2026-11-02T04:19:00.123456Z")}
		case 1:
			r.Status, r.Method, r.Reason = StatusExcluded, "excluded", "unsupported codec"
		case 2:
			r.Keyed, r.Path = true, strings.Repeat("ab", 31)+fmt.Sprintf("%02x", i%256)
		}
		if erased > 0 && r.Status == StatusRewritten {
			r.NewPath = fmt.Sprintf("s3://lake/new/%d.parquet", i)
		}
		out[i] = r
	}
	return out
}

// countingReader counts the bytes that are read.
type countingReader struct {
	r io.ReaderAt
	n atomic.Int64
}

func (c *countingReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.r.ReadAt(p, off)
	c.n.Add(int64(n))
	return n, err
}

// TestSidecarPagesAreTheRecords: any page and any selection are what reading
// the whole sidecar gives, across row groups.
func TestSidecarPagesAreTheRecords(t *testing.T) {
	want := manyRecords(sidecarRowGroup + 3000)
	side, _ := testSidecar(t, "run-1", want...)
	in := &countingReader{r: bytes.NewReader(side)}
	s, err := OpenSidecar(in, int64(len(side)))
	if err != nil {
		t.Fatal(err)
	}
	n := int64(len(want))
	if s.Records() != n {
		t.Fatalf("%d records, want %d", s.Records(), n)
	}
	for _, first := range []int64{0, 49, 5000, sidecarRowGroup - 10, sidecarRowGroup, n - 7, n, n + 5, -1} {
		before := in.n.Load()
		got, err := s.Page(first, 50)
		if err != nil {
			t.Fatal(err)
		}
		var exp []Record
		if first >= 0 && first < n {
			exp = want[first:min(n, first+50)]
		}
		if diff := cmp.Diff(exp, got); diff != "" {
			t.Fatalf("page at %d: %s", first, diff)
		}
		if read := in.n.Load() - before; read > int64(len(side))/10 {
			t.Errorf("page at %d read %d of %d bytes", first, read, len(side))
		}
	}
	for _, q := range []Select{{}, {Kind: RecordDelete}, {Target: "lake.t2"}, {Target: "lake.t1", Status: StatusExcluded}, {Erased: true, Target: "lake.t0"},
		{Path: "day=2026-05-07/"}, {Path: "new/123"}, {Target: "lake.none"}, {Target: "zzz"}, {Status: StatusExcluded, Path: "05.parquet"}} {
		var exp []int64
		for i, r := range want {
			if (q.Kind == "" || r.Kind == q.Kind) && (q.Target == "" || r.Target == q.Target) && (q.Status == "" || r.Status == q.Status) &&
				(!q.Erased || r.RowsErased > 0) && (strings.Contains(r.Path, q.Path) || strings.Contains(r.NewPath, q.Path)) {
				exp = append(exp, int64(i))
			}
		}
		var got []int64
		step := max(50, len(exp)/5)
		for at := int64(0); ; {
			found, next, err := s.Find(q, at, step)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, found...)
			if next == 0 {
				break
			}
			at = next
		}
		if !slices.Equal(got, exp) {
			t.Errorf("%+v: %d records, want %d", q, len(got), len(exp))
		}
	}
}

// TestBreakdownAddsUp: sums by partition are those of the records, and keyed
// paths give away no partition.
func TestBreakdownAddsUp(t *testing.T) {
	recs := manyRecords(5000)
	side, ev := testSidecar(t, "run-1", recs...)
	s, err := OpenSidecar(bytes.NewReader(side), int64(len(side)))
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Breakdown()
	if err != nil {
		t.Fatal(err)
	}
	var files, erased, left int64
	for _, p := range b.Partitions {
		files += p.Files
		erased += p.Erased
		if p.Keyed && p.Name != "" {
			t.Errorf("a keyed path gave the partition %q", p.Name)
		}
		if !p.Keyed && !strings.HasPrefix(p.Name, "day=2026-05-") {
			t.Errorf("partition %q", p.Name)
		}
	}
	for _, r := range recs {
		if r.Status == StatusExcluded {
			left++
		}
	}
	if files != ev.Totals.Files || erased != ev.Totals.RowsErased || b.LeftAll != left || int64(len(b.Left)) != min(left, leftMax) {
		t.Errorf("%d files, %d rows, %d left alone; the sidecar has %+v and %d", files, erased, b.LeftAll, ev.Totals, left)
	}
	m, _ := sample(t, "run-1")
	m.Outcome = Decide(m)
	var page bytes.Buffer
	if err := (Report{Manifest: m, Breakdown: b, Digest: strings.Repeat("ef", 32)}).HTML(&page); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"day=2026-05-", "unsupported codec", "keyed digests only", strings.Repeat("ef", 32)} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the report does not show %q", want)
		}
	}
}

// TestSidecarReaderSurvivesDamage: every cut and many flips are an error or
// give records, never a panic.
func TestSidecarReaderSurvivesDamage(t *testing.T) {
	side, _ := testSidecar(t, "run-1", manyRecords(300)...)
	try := func(b []byte) {
		s, err := OpenSidecar(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		_, _ = s.Page(10, 20)
		_, _, _ = s.Find(Select{Target: "lake.t1", Erased: true, Path: "a"}, 0, 20)
		_, _ = s.Breakdown()
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		b := bytes.Clone(side)
		b[rng.IntN(len(b))] ^= byte(1 + rng.IntN(255))
		try(b)
		try(side[:rng.IntN(len(side))])
	}
}

func TestReportOfManyTargetsStaysReadable(t *testing.T) {
	m, _ := sample(t, "run-1")
	one, scope, surfaces := m.Targets[0], m.Scope.Included[0], m.Verification.Surfaces
	m.Targets, m.Scope.Included, m.Verification.Surfaces = nil, nil, nil
	for i := range 200 {
		tt, sc := one, scope
		tt.Name = fmt.Sprintf("lake.many.t%03d", i)
		sc.Target = tt.Name
		m.Targets, m.Scope.Included = append(m.Targets, tt), append(m.Scope.Included, sc)
		for _, s := range surfaces {
			s.Target = tt.Name
			m.Verification.Surfaces = append(m.Verification.Surfaces, s)
		}
	}
	m.Outcome = Decide(m)
	var b bytes.Buffer
	if err := HTML(&b, m, nil); err != nil {
		t.Fatal(err)
	}
	if b.Len() > 1<<20 || !strings.Contains(b.String(), "lake.many.t199") || !strings.Contains(b.String(), "185 more targets") {
		t.Errorf("%d bytes", b.Len())
	}
}

// TestReportStyleIsAllowedByItsHash: the policy names the hash of exactly the style in the page.
func TestReportStyleIsAllowedByItsHash(t *testing.T) {
	s := shown(t, "html")
	_, style, ok := strings.Cut(s, "<style>")
	style, _, ok2 := strings.Cut(style, "</style>")
	if !ok || !ok2 || style != StyleSheet() {
		t.Error("the style in the page is not the style sheet")
	}
	if !strings.Contains(html.UnescapeString(s), "style-src "+StyleHash()) {
		t.Error("the policy does not name the style's hash")
	}
	if strings.Contains(s, "unsafe-inline") || strings.Contains(s, " style=") {
		t.Error("inline styles besides the hashed one")
	}
}

func TestSpans(t *testing.T) {
	for d, want := range map[time.Duration]string{475 * time.Millisecond: "475ms", 17 * time.Second: "17 seconds", 3 * time.Minute: "3 minutes", 5 * time.Hour: "5 hours", 49 * time.Hour: "2 days"} {
		if got := span(d); got != want {
			t.Errorf("span(%s) = %s, want %s", d, got, want)
		}
	}
}

// oldSidecar has the columns of before rows_changed, and n records.
func oldSidecar(t *testing.T, n int) []byte {
	t.Helper()
	type Record struct { // before rows_changed
		Kind         string    `parquet:"kind,dict"`
		Target       string    `parquet:"target,dict"`
		Path         string    `parquet:"path"`
		Keyed        bool      `parquet:"keyed"`
		Status       string    `parquet:"status,dict"`
		Method       string    `parquet:"method,dict"`
		Reason       string    `parquet:"reason,dict"`
		Format       string    `parquet:"format,dict"`
		SizeBefore   int64     `parquet:"size_before"`
		SizeAfter    int64     `parquet:"size_after"`
		DigestBefore string    `parquet:"digest_before"`
		DigestAfter  string    `parquet:"digest_after"`
		KeyedDigest  bool      `parquet:"keyed_digest"`
		ETag         string    `parquet:"etag"`
		Version      string    `parquet:"version"`
		NewPath      string    `parquet:"new_path"`
		RowsIn       int64     `parquet:"rows_in"`
		RowsOut      int64     `parquet:"rows_out"`
		RowsErased   int64     `parquet:"rows_erased"`
		RowsDeleted  int64     `parquet:"rows_already_deleted"`
		BytesRead    int64     `parquet:"bytes_read"`
		BytesCopied  int64     `parquet:"bytes_copied"`
		BytesEncoded int64     `parquet:"bytes_encoded"`
		Rewriter     string    `parquet:"rewriter,dict"`
		Verified     bool      `parquet:"verified"`
		Object       string    `parquet:"object,dict"`
		Response     string    `parquet:"response,dict"`
		Time         time.Time `parquet:"time,optional,timestamp(microsecond)"`
	}
	var raw bytes.Buffer
	w := parquet.NewGenericWriter[Record](&raw, parquet.KeyValueMetadata("format", sidecarFormat))
	for i := range n {
		if _, err := w.Write([]Record{{Kind: RecordFile, Target: "lake.t", Path: fmt.Sprintf("p/day=1/%d", i), Status: StatusRewritten, Method: MethodRewritten, RowsIn: 5, RowsOut: 4, RowsErased: 1}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return raw.Bytes()
}

// TestEvidenceWithoutLaterColumnsIsPaged: sidecars of before a column came are
// read page by page as they are read whole.
func TestEvidenceWithoutLaterColumnsIsPaged(t *testing.T) {
	raw := oldSidecar(t, 100)
	s, err := OpenSidecar(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	page, err := s.Page(40, 20)
	if err != nil {
		t.Fatal(err)
	}
	var whole []Record
	for rec, err := range ReadSidecar(bytes.NewReader(raw), int64(len(raw))) {
		if err != nil {
			t.Fatal(err)
		}
		whole = append(whole, rec)
	}
	if diff := cmp.Diff(whole[40:60], page); diff != "" {
		t.Error(diff)
	}
	if b, err := s.Breakdown(); err != nil || len(b.Partitions) != 1 || b.Partitions[0].Erased != 100 {
		t.Errorf("%+v, %v", b, err)
	}
}
