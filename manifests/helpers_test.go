package manifests

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// testKey is a key from a fixed seed, so that goldens hold.
func testKey(t testing.TB, seed byte) *Key {
	t.Helper()
	k, err := GenerateKey(bytes.NewReader(bytes.Repeat([]byte{seed}, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func at(s string) time.Time {
	v, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		panic(err)
	}
	return v
}

func ptr[T any](v T) *T { return &v }

var secret = []byte("a run's secret of 32 bytes or so")

// testSidecar writes records and returns the file and its evidence.
func testSidecar(t testing.TB, id string, records ...Record) ([]byte, Evidence) {
	t.Helper()
	var b bytes.Buffer
	w, err := NewSidecarWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	e, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	e.Name = SidecarName(id)
	return b.Bytes(), e
}

func fileRecord(path string, erased int64) Record {
	r := Record{
		Kind: RecordFile, Target: "lake.sales.orders", Path: path, Status: StatusRewritten, Method: MethodRewritten,
		Format: "parquet", SizeBefore: 1000, SizeAfter: 900, RowsIn: 100, RowsOut: 97 - erased, RowsErased: erased, RowsDeleted: 3,
		DigestBefore: strings.Repeat("ab", 32), DigestAfter: strings.Repeat("cd", 32), Rewriter: "surgical", Verified: true,
	}
	if erased == 0 {
		r.Status, r.Method, r.RowsOut, r.RowsDeleted, r.RowsIn = StatusClean, MethodScanned, 0, 0, 0
		r.DigestAfter, r.SizeAfter, r.Verified = "", 0, false
	}
	return r
}

// sample is a manifest of a run that erased five rows, with its sidecar.
func sample(t testing.TB, id string) (*Manifest, []byte) {
	t.Helper()
	side, ev := testSidecar(t, id, fileRecord("s3://lake/orders/a.parquet", 2), fileRecord("s3://lake/orders/b.parquet", 3), fileRecord("s3://lake/orders/c.parquet", 0))
	c, err := Commit(secret, "users", "int64", testKeys(250), nil)
	if err != nil {
		t.Fatal(err)
	}
	m := &Manifest{
		SchemaVersion: SchemaVersion, ID: id, RunID: "run-2026-11-02", Kind: KindRun, Job: "gdpr-nightly",
		Policy: Policy{Controller: "Example GmbH", LegalBasis: "GDPR Art. 17", PolicyID: "DP-7", Requests: 250,
			EarliestRequest: ptr(at("2026-10-20T08:00:00Z")), Deadline: ptr(at("2026-11-19T08:00:00Z")), DeadlineMet: ptr(true), Grace: "7d"},
		Actors: []Actor{{Role: RoleApprover, Name: "Privacy office", KeyID: "ed25519:" + strings.Repeat("55", 16), Time: ptr(at("2026-11-02T04:00:00Z")), StatementSHA256: strings.Repeat("66", 32)}},
		Tool:   Tool{Name: "expunge", Version: "v0.1.0", ConfigSHA256: strings.Repeat("11", 32), Verifier: "arrow-go", VerifierVersion: "v18.8.0", Engine: "local"},
		Keysets: []Keyset{{Name: "users", Parts: []KeyPart{{Name: "user_id", Type: "int64"}}, Commitment: c, Held: 2,
			Sources: []KeySource{{Name: "approved.csv.zst", KeyedDigest: strings.Repeat("22", 32), Bytes: 4096}},
			Filter:  &Filter{Kind: "split block bloom", Bits: 4000, Hashes: 8, DesignPPM: 1300}}},
		Scope: Scope{
			Included: []Included{{Target: "lake.sales.orders", UUID: "8f7d5a0e-0000-4000-8000-000000000001", Location: "s3://lake/orders", FormatVersion: 2, Refs: []string{"main"}, Match: []string{"users: customer.id"}, Action: "delete"}},
			Excluded: []Exclusion{{What: "RDS backups", Reason: "rolling", Owner: "dba", GoneBy: "2027-01-31", Declared: true}},
			Claim:    Claim,
		},
		Targets: []Target{{
			Name: "lake.sales.orders", Status: TargetDone,
			Before:     &Version{SnapshotID: "3051729675574597004", SequenceNumber: 41, MetadataLocation: "s3://lake/orders/metadata/41.json", MetadataSHA256: strings.Repeat("33", 32)},
			After:      &Version{SnapshotID: "8235728923571190023", SequenceNumber: 42, MetadataLocation: "s3://lake/orders/metadata/42.json", MetadataSHA256: strings.Repeat("44", 32)},
			FilesTotal: 40, FilesScanned: 3, FilesRewritten: 2, RowsTotal: 4000, RowsIn: 200, RowsOut: 189, RowsErased: 5, RowsDeleted: 6,
			Skipped:   []Skipped{{Reason: MethodPruned, Files: 37, Rows: 3700, Bytes: 37000}},
			PerMatch:  []MatchResult{{Keyset: "users", Columns: []string{"customer.id"}, Rows: 5}},
			BytesRead: 12000, BytesCopied: 1700, BytesEncoded: 100, Groups: 1, Attempts: 1,
		}},
		Evidence: ev,
		Verification: Verification{Mode: "full", RequiredPPM: 1000000,
			Surfaces: []Surface{
				{Target: "lake.sales.orders", Surface: "live rows", Result: Pass, Objects: 40, BytesRead: 12000, CoveragePPM: 1000000},
				{Target: "lake.sales.orders", Surface: "dictionary pages", Result: Pass, Objects: 80, BytesRead: 3000, CoveragePPM: 1000000},
				{Target: "lake.sales.orders", Surface: "history", Result: Found, Objects: 2, CoveragePPM: 1000000, Findings: 2},
			},
			Controls: []Control{{Target: "lake.sales.orders", Files: 2, Before: true, After: false}}},
		Residue: []Residue{{Target: "lake.sales.orders", Surface: "history", Count: 2, State: "within grace", GoneBy: ptr(at("2026-11-09T04:20:00Z")), Owner: "expunge"}},
		Times: Times{Start: at("2026-11-02T04:15:00Z"), End: at("2026-11-02T04:20:00Z"), Commit: ptr(at("2026-11-02T04:18:00Z")),
			Verified: ptr(at("2026-11-02T04:19:00Z")), PurgeDue: ptr(at("2026-11-09T04:20:00Z"))},
	}
	return m, side
}

// testKeys are n canonical int64 keys.
func testKeys(n int) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for i := range n {
			if !yield(fmt.Appendf(nil, "%08d", 1000+i*7)) {
				return
			}
		}
	}
}

// memLog is a log's storage in memory.
type memLog struct {
	mu      sync.Mutex
	objects map[string]memObject
	clock   int
	before  func(name string) error // called before each write
}

type memObject struct {
	data    []byte
	version string
}

func newMemLog() *memLog { return &memLog{objects: map[string]memObject{}} }

func (m *memLog) Read(_ context.Context, name string) ([]byte, string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.objects[name]
	if !ok {
		return nil, "", fs.ErrNotExist
	}
	return bytes.Clone(o.data), o.version, nil
}

func (m *memLog) Write(_ context.Context, name string, data []byte, version string) error {
	if m.before != nil {
		if err := m.before(name); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.objects[name].version != version {
		return ErrLogConflict
	}
	m.clock++
	m.objects[name] = memObject{bytes.Clone(data), fmt.Sprint(m.clock)}
	return nil
}

func (m *memLog) List(_ context.Context, prefix string) iter.Seq2[string, error] {
	m.mu.Lock()
	names := slices.Sorted(maps.Keys(m.objects))
	m.mu.Unlock()
	return func(yield func(string, error) bool) {
		for _, n := range names {
			if strings.HasPrefix(n, prefix) && !yield(n, nil) {
				return
			}
		}
	}
}

const testOrigin = "log.example.com/expunge"

// testTrust trusts the keys as executor, verifier and log key.
func testTrust(t testing.TB, executor, verifier *Key) *Trust {
	t.Helper()
	a, err := Trusted(executor.Public(), "executor", RoleExecutor, RoleLog)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Trusted(verifier.Public(), "verifier", RoleVerifier)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := NewTrust(a, b)
	if err != nil {
		t.Fatal(err)
	}
	tr.Logs = []TrustedLog{{Origin: testOrigin, KeyIDs: []string{a.ID}}}
	return tr
}

func testLog(t testing.TB, s LogStorage, k *Key) *Log {
	t.Helper()
	l, err := OpenLog(s, testOrigin, k)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// failedChecks lists the names of failed checks.
func failedChecks(checks []Check) (out []string) {
	for _, c := range checks {
		if !c.OK && !c.Skipped {
			out = append(out, c.Name+": "+c.Reason)
		}
	}
	return out
}
