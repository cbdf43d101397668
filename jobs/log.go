package jobs

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/internal/witness"
	"github.com/expunge/expunge/manifests"
)

// logOrigin names the log of the state bucket in checkpoints. All jobs of a
// bucket write one log, so the name is the bucket's: the first writer fixes it.
func (j *Job) logOrigin(ctx context.Context, create bool) (string, error) {
	where := j.statePath("log", "origin")
	raw, err := storage.ReadAll(ctx, j.stateStore, where)
	if errors.Is(err, fs.ErrNotExist) {
		raw, err = j.firstOrigin(ctx, where, create)
	}
	if err != nil {
		return "", fmt.Errorf("origin of the log: %w", err)
	}
	origin := strings.TrimSuffix(string(raw), "\n")
	if l := j.cfg.Log; l != nil && l.Origin != "" && l.Origin != origin {
		return "", fmt.Errorf("the log of this state bucket is named %q, the job file says %q: %w", origin, l.Origin, ErrUsage)
	}
	return origin, nil
}

func (j *Job) firstOrigin(ctx context.Context, where string, create bool) ([]byte, error) {
	origin := "expunge/" + j.cfg.Name
	if l := j.cfg.Log; l != nil && l.Origin != "" {
		origin = l.Origin
	}
	// A log that was begun without the object is named by its checkpoint.
	head, err := storage.ReadAll(ctx, j.stateStore, j.statePath("log", "checkpoint"))
	if err == nil {
		origin, _, _ = strings.Cut(string(head), "\n")
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if !create {
		return []byte(origin), nil
	}
	err = storage.WriteAll(ctx, j.stateStore, where, []byte(origin+"\n"), storage.CreateOptions{IfNotExists: true})
	if errors.Is(err, fs.ErrExist) { // another writer was faster
		return storage.ReadAll(ctx, j.stateStore, where)
	}
	return []byte(origin), err
}

// log opens the log for appending, with the signers of a manifest. Checkpoints
// of earlier keys, and of other jobs' keys, count where the trust file lists them.
func (j *Job) log(ctx context.Context) (*manifests.Log, []manifests.Signer, error) {
	signers, err := j.signers(ctx)
	if err != nil {
		return nil, nil, err
	}
	origin, err := j.logOrigin(ctx, true)
	if err != nil {
		return nil, nil, err
	}
	known, err := j.logKeys(ctx, origin)
	if err != nil {
		return nil, nil, err
	}
	log, err := manifests.OpenLog(logStorage{j.stateStore, j.statePath("log")}, origin, signers[0], known...)
	if err != nil {
		return nil, nil, fmt.Errorf("open log: %w", err)
	}
	if l := j.cfg.Log; l != nil {
		var ws []manifests.Witness
		for _, w := range l.Witnesses {
			ws = append(ws, witness.New(w.URL, w.Key))
		}
		log.Witnessed(func(w manifests.Witness, err error) {
			name, _, _ := strings.Cut(w.Key(), "+")
			j.env.Reporter.Report(Event{Type: "warning", Step: StepManifest, Message: fmt.Sprintf("witness %s: %v", name, err)})
		}, ws...)
	}
	return log, signers, nil
}

func (j *Job) logKeys(ctx context.Context, origin string) ([]ed25519.PublicKey, error) {
	if j.cfg.Signing.Trust == "" {
		return nil, nil
	}
	t, err := j.Trust(ctx)
	if err != nil {
		return nil, err
	}
	return t.LogKeys(origin), nil
}

// LogStatus is what reading the whole log and the manifests beside it showed.
type LogStatus struct {
	manifests.LogReport
	Origin    string
	Manifests int64    // in the log
	Missing   []string // ids of manifests that the log has and the bucket has not
	Changed   []string // ids of manifests that are others than the log says
	Unlogged  []string // ids of manifests that the log has not, such as one that is being written
}

// OK says whether the log has one history and every manifest is the one that was logged.
func (s *LogStatus) OK() bool { return len(s.Missing)+len(s.Changed) == 0 }

// VerifyLog reads the log of the state bucket: every entry, tile and checkpoint,
// and each manifest that it names. since is a checkpoint that the reader kept
// (a signed note, or a log proof); nil = none, and then nothing can be said
// about a log that was cut and signed anew.
func (j *Job) VerifyLog(ctx context.Context, t *manifests.Trust, since []byte) (*LogStatus, error) {
	var kept *manifests.Checkpoint
	var err error
	if since != nil {
		if kept, err = manifests.ReadCheckpoint(since, t); err != nil {
			return nil, fmt.Errorf("kept checkpoint: %w", err)
		}
	}
	out := &LogStatus{}
	if out.Origin, err = j.logOrigin(ctx, false); err != nil {
		return nil, err
	}
	logged := map[string]bool{}
	r, err := manifests.VerifyLog(ctx, logStorage{j.stateStore, j.statePath("log")}, t, out.Origin, kept, func(_ int64, id, digest string) error {
		logged[id] = true
		raw, err := storage.ReadAll(ctx, j.stateStore, j.statePath("manifests", manifests.EnvelopeName(id)))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			out.Missing = append(out.Missing, id)
		case err != nil:
			return fmt.Errorf("read manifest %s: %w", id, err)
		case manifests.Digest(raw) != digest:
			out.Changed = append(out.Changed, id)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out.LogReport, out.Manifests = *r, int64(len(logged))
	for id, err := range j.manifestIDs(ctx) {
		if err != nil {
			return nil, err
		}
		if !logged[id] {
			out.Unlogged = append(out.Unlogged, id)
		}
	}
	slices.Sort(out.Unlogged)
	return out, nil
}

// Checkpoint is the log's signed head, for keeping elsewhere: it is what makes
// a later removal provable.
func (j *Job) Checkpoint(ctx context.Context) ([]byte, error) {
	raw, err := storage.ReadAll(ctx, j.stateStore, j.statePath("log", "checkpoint"))
	if err != nil {
		return nil, fmt.Errorf("read checkpoint: %w", err)
	}
	return raw, nil
}

// manifestIDs yields the ids of the manifests in the bucket.
func (j *Job) manifestIDs(ctx context.Context) func(yield func(string, error) bool) {
	return func(yield func(string, error) bool) {
		prefix := j.statePath("manifests") + "/"
		for info, err := range j.stateStore.List(ctx, prefix) {
			if err != nil {
				yield("", fmt.Errorf("list manifests: %w", err))
				return
			}
			id, ok := strings.CutSuffix(strings.TrimPrefix(info.Path, prefix), manifests.EnvelopeName(""))
			if ok && !yield(id, nil) {
				return
			}
		}
	}
}
