package jobs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/internal/bare"
	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/manifests"
)

// keysetSpec is a job's keyset as the loader takes it.
func keysetSpec(name string, k configs.Keyset) (keyset.Spec, error) {
	spec := keyset.Spec{
		Name: name, Sources: k.Source, Format: k.Format, Holds: k.Holds,
		AllowEmpty: true, // an empty set is judged once holds and past keys are in
		AllowNull:  k.AllowNull, AllowNoMatch: k.AllowEmpty, EmptyKeys: k.AllowEmptyKey,
	}
	for _, p := range k.Key {
		t, err := keyset.ParseType(p.Type)
		if err != nil {
			return spec, fmt.Errorf("keyset %s: column %s: %w", name, p.Name, err)
		}
		spec.Schema = append(spec.Schema, keyset.Part{Name: p.Name, Type: t, Normalize: k.Normalize})
		spec.Columns = append(spec.Columns, p.Name)
	}
	if k.Request != nil {
		spec.RequestID, spec.ReceivedAt = k.Request.ID, k.Request.ReceivedAt
	}
	return spec, nil
}

// loadKeysets reads every keyset of the job, less its holds, plus the retained
// keysets of the runs in keysFrom, whose holds are read anew too.
func (j *Job) loadKeysets(ctx context.Context, keysFrom []string) (map[string]*keyset.Set, map[string]*keyset.Report, error) {
	sets, reports := map[string]*keyset.Set{}, map[string]*keyset.Report{}
	for _, name := range slices.Sorted(maps.Keys(j.cfg.Keysets)) {
		k := j.cfg.Keysets[name]
		spec, err := keysetSpec(name, k)
		if err != nil {
			return nil, nil, err
		}
		set, rep, err := keyset.Load(ctx, storage.Opener(j.keys), spec)
		if err != nil {
			return nil, nil, fmt.Errorf("keyset %s: %w", name, err)
		}
		for _, id := range keysFrom {
			past, err := j.retainedKeyset(ctx, id, name)
			if err != nil {
				return nil, nil, fmt.Errorf("keyset %s of run %s: %w", name, id, err)
			}
			if set, err = keyset.Union(set, past); err != nil {
				return nil, nil, fmt.Errorf("keyset %s of run %s: %w", name, id, err)
			}
		}
		if len(keysFrom) > 0 && len(k.Holds) > 0 {
			holds, err := j.loadHolds(ctx, spec)
			if err != nil {
				return nil, nil, err
			}
			if set, err = keyset.Subtract(set, holds); err != nil {
				return nil, nil, fmt.Errorf("keyset %s: %w", name, err)
			}
		}
		if set.Len() == 0 && !k.AllowEmpty {
			return nil, nil, fmt.Errorf("keyset %s: %w", name, keyset.ErrEmpty)
		}
		sets[name], reports[name] = set, rep
		j.env.Reporter.Report(Event{Type: "progress", Step: StepKeysets, Target: name, Done: int64(set.Len()), Total: int64(set.Len()), Unit: "keys"})
	}
	return sets, reports, nil
}

// loadHolds reads the hold files of a keyset as a set of their own.
func (j *Job) loadHolds(ctx context.Context, spec keyset.Spec) (*keyset.Set, error) {
	holds, _, err := keyset.LoadHolds(ctx, storage.Opener(j.keys), spec)
	if err != nil {
		return nil, fmt.Errorf("holds of keyset %s: %w", spec.Name, err)
	}
	return holds, nil
}

func (j *Job) retainedKeyset(ctx context.Context, runID, name string) (*keyset.Set, error) {
	past, err := j.state.OpenRun(ctx, runID)
	if err != nil {
		return nil, err
	}
	return readKeyset(ctx, past, dirKeysets+name)
}

func readKeyset(ctx context.Context, r *state.Run, file string) (*keyset.Set, error) {
	in, err := r.Open(ctx, file)
	if err != nil {
		return nil, fmt.Errorf("open frozen keyset: %w", err)
	}
	defer in.Close()
	set, err := keyset.Read(in)
	if err != nil {
		return nil, fmt.Errorf("read frozen keyset: %w", err)
	}
	return set, nil
}

// freezeKeysets stores the sets sealed, so that a resumed run erases exactly
// what it set out to, and commits to them.
func (r *Run) freezeKeysets(ctx context.Context, sets map[string]*keyset.Set, reports map[string]*keyset.Report) (*keysetsRecord, error) {
	rec := &keysetsRecord{}
	for _, name := range slices.Sorted(maps.Keys(sets)) {
		set := sets[name]
		file := dirKeysets + name
		digest, err := r.freeze(ctx, file, set)
		if err != nil {
			return nil, fmt.Errorf("freeze keyset %s: %w", name, err)
		}
		c, err := r.commitKeys(ctx, name, set)
		if err != nil {
			return nil, fmt.Errorf("commit to keyset %s: %w", name, err)
		}
		raw, err := json.Marshal(c)
		if err != nil {
			return nil, fmt.Errorf("commit to keyset %s: %w", name, err)
		}
		rec.Keysets = append(rec.Keysets, keysetRecord{Name: name, File: file, Digest: digest,
			Keys: int64(set.Len()), Report: reports[name], Commitment: raw, Filter: filterFacts(ctx, set, c)})
	}
	return rec, nil
}

// filterProbes are enough for a share of a tenth of a percent to be told within a tenth of it.
const filterProbes = 1 << 18

// filterFacts describe the filter in front of the exact keys. Of a small set
// they are not stated: the filter's size would tell the set's, which is banded.
func filterFacts(ctx context.Context, set *keyset.Set, c manifests.Commitment) *manifests.Filter {
	f := set.Filter()
	if f.Bits == 0 || c.Band != "" || bare.Is(ctx) {
		return nil
	}
	out := &manifests.Filter{Kind: f.Kind, Bits: f.Bits, Hashes: f.Hashes, DesignPPM: int64(f.DesignFP * 1e6)}
	if !f.Exact {
		measured := int64(math.Round(set.MeasureFilter(filterProbes, 1) * 1e6))
		out.MeasuredPPM, out.Probes = &measured, filterProbes
	}
	return out
}

// leavesFile holds what a certificate's inclusion proof needs later.
func leavesFile(name string) string { return dirKeysets + name + ".leaves" }

func (r *Run) commitKeys(ctx context.Context, name string, set *keyset.Set) (manifests.Commitment, error) {
	if bare.Is(ctx) {
		return manifests.Commitment{}, nil
	}
	out, err := r.st.Replace(ctx, leavesFile(name))
	if err != nil {
		return manifests.Commitment{}, err
	}
	c, err := manifests.Commit(r.st.Secret(), name, keyType(set.Schema()), set.All(), out)
	if err != nil {
		_ = out.Close()
		return c, err
	}
	return c, out.Close()
}

func (r *Run) freeze(ctx context.Context, file string, set *keyset.Set) (string, error) {
	// A crash may have left the file of an earlier try; the sources may have
	// changed since, and nothing has used it, so it is replaced.
	out, err := r.st.Replace(ctx, file)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	if _, err := set.WriteTo(io.MultiWriter(out, h)); err != nil {
		out.Close()
		return "", err
	}
	if err := out.Close(); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// thawKeysets reads the frozen sets back and checks their digests.
func (r *Run) thawKeysets(ctx context.Context, rec *keysetsRecord) (map[string]*keyset.Set, error) {
	sets := map[string]*keyset.Set{}
	for _, k := range rec.Keysets {
		in, err := r.st.Open(ctx, k.File)
		if err != nil {
			return nil, fmt.Errorf("open frozen keyset %s: %w", k.Name, err)
		}
		h := sha256.New()
		set, err := keyset.Read(io.TeeReader(in, h))
		if err == nil {
			_, err = io.Copy(h, in)
		}
		in.Close()
		if err != nil {
			return nil, fmt.Errorf("read frozen keyset %s: %w", k.Name, err)
		}
		if got := hex.EncodeToString(h.Sum(nil)); got != k.Digest {
			return nil, fmt.Errorf("frozen keyset %s: digest differs from the journal's: %w", k.Name, state.ErrCorrupt)
		}
		sets[k.Name] = set
	}
	return sets, nil
}

// checkDeadline refuses a grace that would end after a request's deadline.
func (j *Job) checkDeadline(ctx context.Context, reports map[string]*keyset.Report) error {
	return j.cfg.CheckDeadline(clock.Now(ctx), earliestRequest(reports))
}

func earliestRequest(reports map[string]*keyset.Report) time.Time {
	var earliest time.Time
	for _, rep := range reports {
		if rep == nil || rep.EarliestReceived.IsZero() {
			continue
		}
		if earliest.IsZero() || rep.EarliestReceived.Before(earliest) {
			earliest = rep.EarliestReceived
		}
	}
	return earliest
}

// checkHolds reads every hold file again and refuses when a key of the run is
// held by now: what was erased must then be restored, not purged.
func (r *Run) checkHolds(ctx context.Context) error {
	for _, k := range r.progress.keysets.Keysets {
		cfg, ok := r.job.cfg.Keysets[k.Name]
		if !ok || len(cfg.Holds) == 0 {
			continue
		}
		spec, err := keysetSpec(k.Name, cfg)
		if err != nil {
			return err
		}
		holds, err := r.job.loadHolds(ctx, spec)
		if err != nil {
			return err
		}
		set := r.sets[k.Name]
		var held int
		for key := range holds.All() {
			if set.Contains(key) {
				held++
			}
		}
		if held > 0 {
			return fmt.Errorf("%d keys of keyset %s: %w", held, k.Name, ErrHeld)
		}
	}
	return nil
}

// keysetsID names the frozen keysets together.
func keysetsID(rec *keysetsRecord) string {
	var b bytes.Buffer
	for _, k := range rec.Keysets {
		b.WriteString(k.Name + "\x00" + k.Digest + "\x00")
	}
	sum := sha256.Sum256(b.Bytes())
	return hex.EncodeToString(sum[:])
}

var errNoKeysets = errors.New("run has no frozen keysets")

// keyType is a schema's one-line form, as commitments use it: "int64", "string,uuid".
func keyType(s keyset.Schema) string {
	types := make([]string, len(s))
	for i, p := range s {
		types[i] = p.Type.String()
	}
	return strings.Join(types, ",")
}
