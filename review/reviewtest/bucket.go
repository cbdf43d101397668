// Package reviewtest makes state buckets for tests of the pages over them: as
// many runs as asked for, with signed manifests, evidence and a log, of which
// nothing was really erased.
package reviewtest

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/manifests"
)

// Options say what a bucket holds.
type Options struct {
	Runs   int       // nightly runs, the last of them on the day of Now
	Now    time.Time // the newest run started an hour before
	Files  int64     // records in the evidence of the newest run; the others have three
	Logged int       // so many of the newest manifests are in the log
	Jobs   int       // runs are spread over so many jobs; 0 = 1
}

// Bucket is what was made.
type Bucket struct {
	Trust  *manifests.Trust
	Newest string // id of the newest run
	Log    string // the log's origin
}

var outcomes = []manifests.Result{manifests.Erased, manifests.Erased, manifests.Erased, manifests.ErasedPending, manifests.NothingToErase, manifests.Partial}

// Make fills root in the store, which need not be empty.
func Make(ctx context.Context, store storage.Store, root string, o Options) (*Bucket, error) {
	root = strings.TrimSuffix(root, "/") + "/"
	key, err := manifests.GenerateKey(bytes.NewReader(bytes.Repeat([]byte{7}, 32)))
	if err != nil {
		return nil, err
	}
	trusted, err := manifests.Trusted(key.Public(), "reviewtest", manifests.RoleExecutor, manifests.RoleVerifier, manifests.RoleLog)
	if err != nil {
		return nil, err
	}
	b := &Bucket{Log: "expunge/reviewtest"}
	if b.Trust, err = manifests.NewTrust(trusted); err != nil {
		return nil, err
	}
	b.Trust.Logs = []manifests.TrustedLog{{Origin: b.Log, KeyIDs: []string{trusted.ID}}}
	log, err := manifests.OpenLog(logStore{store, root + "log/"}, b.Log, key)
	if err != nil {
		return nil, err
	}
	w := &writer{store: store, root: root, key: key, log: log, rng: rand.New(rand.NewPCG(3, 4)), o: o}
	for i := range o.Runs {
		if b.Newest, err = w.run(ctx, i); err != nil {
			return nil, fmt.Errorf("run %d: %w", i, err)
		}
	}
	return b, nil
}

type writer struct {
	store storage.Store
	root  string
	key   *manifests.Key
	log   *manifests.Log
	rng   *rand.Rand
	o     Options

	small         []byte
	smallEvidence manifests.Evidence
}

// smallRun is how many records the evidence of a run has, the newest one's aside.
const smallRun = 3

func (w *writer) put(ctx context.Context, name string, data []byte) error {
	return storage.WriteAll(ctx, w.store, w.root+name, data, storage.CreateOptions{})
}

// run writes run i of all: its status, manifest, evidence and, for the newest ones, its place in the log.
func (w *writer) run(ctx context.Context, i int) (string, error) {
	ago := w.o.Runs - 1 - i
	start := w.o.Now.Add(-time.Hour - time.Duration(ago)*6*time.Hour).UTC().Truncate(time.Second)
	job := fmt.Sprintf("nightly-%d", i%max(1, w.o.Jobs))
	id := fmt.Sprintf("%s-%s-%06x", job, start.Format("20060102T150405Z"), i)
	files := int64(smallRun)
	if ago == 0 && w.o.Files > 0 {
		files = w.o.Files
	}
	side, ev, err := w.evidence(files)
	if err != nil {
		return "", err
	}
	want := outcomes[w.rng.IntN(len(outcomes))]
	if ago == 0 {
		want = manifests.Erased
	}
	m := w.manifest(id, job, start, want)
	m.Evidence = ev
	m.Evidence.Name = manifests.SidecarName(m.ID)
	t := &m.Targets[0]
	t.RowsErased, t.RowsIn, t.RowsOut = ev.Totals.RowsErased, ev.Totals.RowsIn, ev.Totals.RowsOut
	if want == manifests.NothingToErase {
		m.Evidence, *t = manifests.Evidence{}, manifests.Target{Name: t.Name, Status: manifests.TargetClean, RowsTotal: 5_000_000, FilesTotal: 40}
		side = nil
	}
	m.Outcome = manifests.Decide(m)
	envelope, err := manifests.Sign(ctx, m, w.key)
	if err != nil {
		return "", err
	}
	st := state.Status{Run: id, Job: job, State: "finished", Outcome: string(m.Outcome.Result), Started: start, Updated: m.Times.End, Ended: m.Times.End,
		Counters: map[string]int64{"rows_erased": t.RowsErased, "files_total": files, "files_done": files}}
	if m.Times.PurgeDue != nil {
		st.PurgeDue = *m.Times.PurgeDue
	}
	raw, err := json.Marshal(st)
	if err != nil {
		return "", err
	}
	if len(side) > 0 {
		if err := w.put(ctx, "manifests/"+manifests.SidecarName(m.ID), side); err != nil {
			return "", err
		}
	}
	if ago < w.o.Logged {
		proof, err := w.log.Append(ctx, envelope)
		if err != nil {
			return "", err
		}
		if err := w.put(ctx, "manifests/"+manifests.ProofName(m.ID), proof); err != nil {
			return "", err
		}
	}
	return id, errors.Join(w.put(ctx, "manifests/"+manifests.EnvelopeName(m.ID), envelope), w.put(ctx, "status/"+id+".json", raw))
}

// evidence makes a sidecar of n records: most files were read and hold no key.
// The small ones are all the same one.
func (w *writer) evidence(n int64) ([]byte, manifests.Evidence, error) {
	if n == smallRun && w.small != nil {
		return w.small, w.smallEvidence, nil
	}
	var out bytes.Buffer
	ev, err := w.writeEvidence(&out, n)
	if n == smallRun {
		w.small, w.smallEvidence = out.Bytes(), ev
	}
	return out.Bytes(), ev, err
}

func (w *writer) writeEvidence(out *bytes.Buffer, n int64) (manifests.Evidence, error) {
	sw, err := manifests.NewSidecarWriter(out)
	if err != nil {
		return manifests.Evidence{}, err
	}
	var digest [32]byte
	for i := range n {
		for k := range 4 {
			v := w.rng.Uint64()
			for j := range 8 {
				digest[k*8+j] = byte(v >> (8 * j))
			}
		}
		r := manifests.Record{Kind: manifests.RecordFile, Target: "lake.sales.orders", Path: fmt.Sprintf("s3://lake/sales/orders/data/day=2026-%02d-%02d/%08d.parquet", 1+i%12, 1+i%28, i),
			Status: manifests.StatusClean, Method: manifests.MethodScanned, Format: "parquet", SizeBefore: 64<<20 + w.rng.Int64N(1<<20), RowsIn: 100_000, RowsOut: 100_000, BytesRead: 900_000, ETag: hex.EncodeToString(digest[:16])}
		if i%10 == 0 {
			r.Status, r.Method, r.RowsErased, r.RowsOut = manifests.StatusRewritten, manifests.MethodRewritten, 1+i%7, 100_000-1-i%7
			r.NewPath, r.SizeAfter, r.Verified, r.Rewriter = fmt.Sprintf("s3://lake/sales/orders/data/new/%08d.parquet", i), r.SizeBefore-100, true, "surgical"
			r.BytesCopied, r.BytesEncoded, r.DigestAfter = 63<<20, 1<<20, hex.EncodeToString(digest[:])
		}
		if err := sw.Write(r); err != nil {
			return manifests.Evidence{}, err
		}
	}
	return sw.Close()
}

func (w *writer) manifest(id, job string, start time.Time, want manifests.Result) *manifests.Manifest {
	at := func(d time.Duration) *time.Time { t := start.Add(d); return &t }
	const table, size = "lake.sales.orders", int64(120)
	met := true
	m := &manifests.Manifest{SchemaVersion: manifests.SchemaVersion, ID: id + "-run", RunID: id, Kind: manifests.KindRun, Job: job,
		Policy: manifests.Policy{Controller: "Example GmbH", LegalBasis: "GDPR Art. 17", PolicyID: "DP-7", Requests: size,
			EarliestRequest: at(-15 * 24 * time.Hour), Deadline: at(15 * 24 * time.Hour), DeadlineMet: &met, Grace: "168h0m0s"},
		Tool: manifests.Tool{Name: "expunge", Version: "reviewtest", Verifier: "arrow-go", VerifierVersion: "v18"},
		Keysets: []manifests.Keyset{{Name: "users", Parts: []manifests.KeyPart{{Name: "user_id", Type: "int64"}}, Sources: []manifests.KeySource{},
			Commitment: manifests.Commitment{Scheme: manifests.CommitmentScheme, Root: strings.Repeat("5a", 32), Band: "10-99"}}},
		Scope: manifests.Scope{Included: []manifests.Included{{Target: table, Location: "s3://lake/sales/orders", FormatVersion: 2, Refs: []string{"branch main"}, Match: []string{"users: customer.id"}, Action: "delete"}},
			Excluded: []manifests.Exclusion{{What: "RDS backups", Reason: "rolling", Owner: "dba", GoneBy: "2027-01-31", Declared: true}}, Claim: manifests.Claim},
		Targets: []manifests.Target{{Name: table, Status: manifests.TargetDone, FilesTotal: 40, FilesScanned: 40, FilesRewritten: 4, RowsTotal: 4_000_000,
			BytesRead: 36 << 20, BytesCopied: 250 << 20, BytesEncoded: 4 << 20, Groups: 1, Attempts: 1}},
		Verification: manifests.Verification{Mode: "rewritten", Controls: []manifests.Control{{Target: table, Files: 4, Before: true}}},
		Residue:      []manifests.Residue{},
		Times:        manifests.Times{Start: start, End: *at(9 * time.Minute), Commit: at(5 * time.Minute), Verified: at(8 * time.Minute)},
	}
	for _, s := range []string{"survivors of replaced files", "live rows", "history", "data pages", "dictionary pages", "statistics", "manifest bounds"} {
		m.Verification.Surfaces = append(m.Verification.Surfaces, manifests.Surface{Target: table, Surface: s, Result: manifests.Pass, Objects: 40, BytesRead: 1 << 20, CoveragePPM: 1_000_000})
	}
	switch want {
	case manifests.ErasedPending:
		m.Times.PurgeDue = at(7 * 24 * time.Hour)
		m.Residue = append(m.Residue, manifests.Residue{Target: table, Surface: "replaced files and history", Count: 4, State: "within grace", GoneBy: m.Times.PurgeDue, Owner: "expunge"})
	case manifests.Partial:
		m.Scope.Excluded = append(m.Scope.Excluded, manifests.Exclusion{What: "data files of an unsupported kind", Target: table, Reason: "unsupported codec", Count: 2})
	}
	return m
}

// logStore keeps the log in the store.
type logStore struct {
	store storage.Store
	root  string
}

func (l logStore) Read(ctx context.Context, name string) ([]byte, string, error) {
	info, err := storage.Stat(ctx, l.store, l.root+name)
	if err != nil {
		return nil, "", err
	}
	b, err := storage.ReadAll(ctx, l.store, l.root+name)
	return b, info.ETag, err
}

func (l logStore) Write(ctx context.Context, name string, data []byte, version string) error {
	err := storage.WriteAll(ctx, l.store, l.root+name, data, storage.CreateOptions{IfNotExists: version == "", IfMatch: version})
	if errors.Is(err, fs.ErrExist) || errors.Is(err, storage.ErrPrecondition) {
		return fmt.Errorf("%w: %w", manifests.ErrLogConflict, err)
	}
	return err
}

func (l logStore) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for info, err := range l.store.List(ctx, l.root+prefix) {
			if !yield(strings.TrimPrefix(info.Path, l.root), err) || err != nil {
				return
			}
		}
	}
}
