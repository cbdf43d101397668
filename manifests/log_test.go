package manifests

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// small is a signed envelope with nothing much in it.
func small(t testing.TB, id string, k *Key, prev *Checkpoint) []byte {
	t.Helper()
	m := &Manifest{SchemaVersion: SchemaVersion, ID: id, RunID: "r", Kind: KindSeal, Job: "j", Tool: Tool{Name: "expunge", Version: "v"},
		Verification: Verification{Mode: "none"}, Times: Times{Start: at("2026-01-01T00:00:00Z"), End: at("2026-01-01T00:00:01Z")}}
	m.Continuity.PreviousCheckpoint = prev
	env, err := Sign(context.Background(), m, k)
	if err != nil {
		t.Fatal(err)
	}
	return env
}

func verifyLog(s LogStorage, tr *Trust, since *Checkpoint) (*LogReport, error) {
	return VerifyLog(context.Background(), s, tr, testOrigin, since, nil)
}

// TestLogGrowsAcrossTiles: 600 entries span three bundles; every proof holds
// and every earlier checkpoint is a beginning of the log.
func TestLogGrowsAcrossTiles(t *testing.T) {
	ctx := context.Background()
	k := testKey(t, 1)
	tr := testTrust(t, k, testKey(t, 2))
	s := newMemLog()
	l := testLog(t, s, k)
	var kept []Checkpoint
	const n = 600
	for i := range n {
		env := small(t, fmt.Sprintf("m%d", i), k, nil2(kept, i))
		proof, err := l.Append(ctx, env)
		if err != nil {
			t.Fatal(i, err)
		}
		c, index, err := tr.checkInclusion(proof, entry{fmt.Sprintf("m%d", i), Digest(env)})
		if err != nil || index != int64(i) || c.Size != int64(i+1) {
			t.Fatal(i, index, c, err)
		}
		kept = append(kept, *c)
	}
	for _, size := range []int{0, 1, 254, 255, 256, 300, 511, 512, 598, 599} {
		since := kept[size]
		if _, err := verifyLog(s, tr, &since); err != nil {
			t.Errorf("since %d: %v", since.Size, err)
		}
		path, now, err := l.Consistency(ctx, since.Size)
		if err != nil {
			t.Fatal(err)
		}
		if err := CheckConsistency(path, since, *now); err != nil {
			t.Errorf("consistency since %d: %v", since.Size, err)
		}
		since.Root = strings.Repeat("ab", 32)
		if _, err := verifyLog(s, tr, &since); !errors.Is(err, ErrForked) {
			t.Errorf("another root at %d: %v", since.Size, err)
		}
	}
}

// nil2 names the checkpoint of some entries ago, or none at the beginning.
func nil2(kept []Checkpoint, i int) *Checkpoint {
	if i < 3 {
		return nil
	}
	return &kept[i-3]
}

// TestConcurrentWritersCannotFork: many writers, one history, each entry once.
func TestConcurrentWritersCannotFork(t *testing.T) {
	ctx := context.Background()
	k := testKey(t, 1)
	tr := testTrust(t, k, testKey(t, 2))
	s := newMemLog()
	const writers, each = 8, 20
	var wg sync.WaitGroup
	var mu sync.Mutex
	indexes := map[int64]bool{}
	for w := range writers {
		wg.Go(func() {
			l := testLog(t, s, k)
			for i := range each {
				id := fmt.Sprintf("w%d-%d", w, i)
				env := small(t, id, k, nil)
				proof, err := l.Append(ctx, env)
				if err != nil {
					t.Error(err)
					return
				}
				_, index, err := tr.checkInclusion(proof, entry{id, Digest(env)})
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				if indexes[index] {
					t.Errorf("index %d twice", index)
				}
				indexes[index] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	r, err := verifyLog(s, tr, nil)
	if err != nil || r.Checkpoint.Size != writers*each || len(indexes) != writers*each || r.Pending != 0 {
		t.Errorf("%+v %v", r, err)
	}
}

// TestAppendSurvivesAFaultAtEveryWrite: whatever write fails, before or after
// its effect, trying again gives the log that no fault gives.
func TestAppendSurvivesAFaultAtEveryWrite(t *testing.T) {
	ctx := context.Background()
	k := testKey(t, 1)
	tr := testTrust(t, k, testKey(t, 2))
	want := newMemLog()
	envs := make([][]byte, 5)
	for i := range envs {
		envs[i] = small(t, fmt.Sprintf("m%d", i), k, nil)
		if _, err := testLog(t, want, k).Append(ctx, envs[i]); err != nil {
			t.Fatal(err)
		}
	}
	clean, err := verifyLog(want, tr, nil)
	if err != nil {
		t.Fatal(err)
	}
	boom := errors.New("storage fault")
	for after := range 2 {
		for fault := 1; ; fault++ {
			s := &faultyLog{memLog: newMemLog(), at: fault, after: after == 1, err: boom}
			failed := false
			for _, env := range envs {
				_, err := testLog(t, s, k).Append(ctx, env)
				if err != nil {
					failed = true
					if !errors.Is(err, boom) {
						t.Fatal(err)
					}
					if _, err := testLog(t, s, k).Append(ctx, env); err != nil {
						t.Fatalf("fault %d: again: %v", fault, err)
					}
				}
			}
			r, err := verifyLog(s, tr, nil)
			if err != nil || r.Checkpoint != clean.Checkpoint {
				t.Fatalf("fault %d: %+v, want %+v: %v", fault, r, clean, err)
			}
			if !failed {
				if fault < 10 {
					t.Fatalf("only %d writes", fault)
				}
				break
			}
		}
	}
}

// faultyLog fails one write, before or after its effect.
type faultyLog struct {
	*memLog
	at    int
	after bool
	err   error
	n     int
}

func (f *faultyLog) Write(ctx context.Context, name string, data []byte, version string) error {
	f.n++
	if f.n == f.at && !f.after {
		return f.err
	}
	err := f.memLog.Write(ctx, name, data, version)
	if f.n == f.at {
		return f.err
	}
	return err
}

// TestClaimOfADeadWriterIsCompleted by whoever comes next.
func TestClaimOfADeadWriterIsCompleted(t *testing.T) {
	ctx := context.Background()
	k := testKey(t, 1)
	tr := testTrust(t, k, testKey(t, 2))
	s := newMemLog()
	dead := small(t, "dead", k, nil)
	if _, err := testLog(t, s, k).claim(ctx, 0, entry{"dead", Digest(dead)}); err != nil {
		t.Fatal(err)
	}
	env := small(t, "next", k, nil)
	proof, err := testLog(t, s, k).Append(ctx, env)
	if err != nil {
		t.Fatal(err)
	}
	if _, index, err := tr.checkInclusion(proof, entry{"next", Digest(env)}); err != nil || index != 1 {
		t.Error(index, err)
	}
	if proof, err = testLog(t, s, k).Append(ctx, dead); err != nil {
		t.Fatal(err)
	}
	if _, index, err := tr.checkInclusion(proof, entry{"dead", Digest(dead)}); err != nil || index != 0 {
		t.Error(index, err)
	}
}

func TestSameIDWithOtherContentIsRefused(t *testing.T) {
	ctx := context.Background()
	k, other := testKey(t, 1), testKey(t, 3)
	s := newMemLog()
	if _, err := testLog(t, s, k).Append(ctx, small(t, "m", k, nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := testLog(t, s, k).Append(ctx, small(t, "m", other, nil)); !errors.Is(err, ErrReplayed) {
		t.Errorf("a re-signed manifest: %v", err)
	}
}

// TestEveryLogByteFlipIsCaught: in checkpoint, tiles and bundles.
func TestEveryLogByteFlipIsCaught(t *testing.T) {
	ctx := context.Background()
	k := testKey(t, 1)
	tr := testTrust(t, k, testKey(t, 2))
	s := newMemLog()
	for i := range 4 {
		if _, err := testLog(t, s, k).Append(ctx, small(t, fmt.Sprintf("m%d", i), k, nil)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := verifyLog(s, tr, nil); err != nil {
		t.Fatal(err)
	}
	for name, o := range s.objects {
		if strings.HasPrefix(name, claimPrefix) {
			continue // of no meaning once integrated
		}
		for i := range o.data {
			flipped := bytes.Clone(o.data)
			flipped[i] ^= 4
			s.objects[name] = memObject{flipped, o.version}
			if _, err := verifyLog(s, tr, nil); err == nil {
				t.Fatalf("%s: flip at byte %d went unnoticed", name, i)
			}
		}
		s.objects[name] = o
	}
}

// TestForgeriesOfTheLogAreNamed.
func TestForgeriesOfTheLogAreNamed(t *testing.T) {
	ctx := context.Background()
	k := testKey(t, 1)
	tr := testTrust(t, k, testKey(t, 2))
	build := func(ids ...string) (*memLog, []Checkpoint) {
		s := newMemLog()
		var kept []Checkpoint
		for _, id := range ids {
			if _, err := testLog(t, s, k).Append(ctx, small(t, id, k, nil)); err != nil {
				t.Fatal(err)
			}
			c, err := testLog(t, s, k).Head(ctx)
			if err != nil {
				t.Fatal(err)
			}
			kept = append(kept, *c)
		}
		return s, kept
	}
	_, kept := build("a", "b", "c")
	cut, _ := build("a", "b")
	forked, _ := build("a", "x", "c", "d")
	if _, err := verifyLog(cut, tr, &kept[2]); !errors.Is(err, ErrTruncated) {
		t.Errorf("a removed manifest: %v", err)
	}
	if _, err := verifyLog(forked, tr, &kept[2]); !errors.Is(err, ErrForked) {
		t.Errorf("a forked log: %v", err)
	}
	if _, err := verifyLog(newMemLog(), tr, &kept[2]); !errors.Is(err, ErrTruncated) {
		t.Errorf("a removed log: %v", err)
	}
	// A manifest that names a checkpoint of another history cannot be logged.
	if _, err := testLog(t, forked, k).Append(ctx, small(t, "e", k, &kept[2])); !errors.Is(err, ErrForked) {
		t.Errorf("append to a fork: %v", err)
	}
	if _, err := testLog(t, cut, k).Append(ctx, small(t, "e", k, &kept[2])); !errors.Is(err, ErrTruncated) {
		t.Errorf("append to a cut log: %v", err)
	}
	// Another key's checkpoint is not believed.
	stranger := testKey(t, 9)
	s, _ := build("a")
	if _, err := OpenLog(s, testOrigin, stranger); err != nil {
		t.Fatal(err)
	}
	if _, err := testLog(t, s, stranger).Head(ctx); err == nil {
		t.Error("a stranger's checkpoint was believed")
	}
}

// TestTreeMatchesReference: our streaming tree, its proofs and tlog's agree.
func TestTreeMatchesReference(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(0, 300).Draw(rt, "leaves")
		var stored []tlog.Hash
		r := tlog.HashReaderFunc(func(ix []int64) (out []tlog.Hash, err error) {
			for _, i := range ix {
				out = append(out, stored[i])
			}
			return out, nil
		})
		want := rapid.IntRange(0, max(0, n-1)).Draw(rt, "leaf")
		tr := newTree(int64(want))
		for i := range n {
			h := tlog.RecordHash(fmt.Append(nil, i))
			hs, err := tlog.StoredHashesForRecordHash(int64(i), h, r)
			if err != nil {
				rt.Fatal(err)
			}
			stored = append(stored, hs...)
			tr.add(h)
		}
		root, paths := tr.finish()
		ref, err := tlog.TreeHash(int64(n), r)
		if n == 0 {
			ref = emptyRoot
		}
		if err != nil || root != ref {
			rt.Fatal("root", err)
		}
		if n == 0 {
			return
		}
		proof, err := tlog.ProveRecord(int64(n), int64(want), r)
		if err != nil || !slices.Equal(proof, paths[0]) {
			rt.Fatal("path", err)
		}
	})
}

func TestTilePathsFollowTheSpecification(t *testing.T) {
	for n, want := range map[int64]string{0: "000", 67: "067", 999: "999", 1000: "x001/000", 1234067: "x001/x234/067"} {
		if got := indexPath(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
	if got := tileName(tlog.Tile{H: 8, L: 1, N: 3, W: 7}); got != "tile/1/003.p/7" {
		t.Error(got)
	}
	if got := entriesName(3, 256); got != "tile/entries/003" {
		t.Error(got)
	}
}

func FuzzParseProof(f *testing.F) {
	b, tr, _ := signed(f)
	f.Add(b.Proof)
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := parseProof(raw)
		if err == nil && !bytes.Equal(formatProof(p.index, p.path, p.checkpoint), raw) {
			t.Error("accepted another spelling")
		}
		tr.checkInclusion(raw, entry{"x", strings.Repeat("0", 64)})
	})
}
