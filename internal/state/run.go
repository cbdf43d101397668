package state

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/storage"
)

// Run is one run's folder.
type Run struct {
	s      *State
	id     string
	secret []byte
	closed error // why there is no secret
}

// NewRun makes a run and its secret; ErrRunExists if there is one of that id.
func (s *State) NewRun(ctx context.Context, id string) (*Run, error) {
	if !runID.MatchString(id) {
		return nil, fmt.Errorf("new run: %w: run ids have letters, digits, dot, dash and underscore", ErrName)
	}
	if _, err := storage.Stat(ctx, s.store, s.sealedMark(id)); err == nil {
		return nil, fmt.Errorf("new run %s: %w", id, ErrRunExists)
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails since Go 1.24
	if err := s.storeSecret(ctx, id, secret); err != nil {
		if errors.Is(err, storage.ErrExists) {
			err = ErrRunExists
		}
		return nil, fmt.Errorf("new run %s: %w", id, err)
	}
	r := &Run{s: s, id: id, secret: secret}
	if err := r.SetStatus(ctx, Status{State: "new", Started: clock.Now(ctx)}); err != nil {
		return nil, fmt.Errorf("new run %s: %w", id, err)
	}
	return r, nil
}

// OpenRun opens a run. Where the secret was destroyed, or can't be unwrapped
// here, the run opens all the same and what is in clear can be read; sealed
// files then fail with the reason (ErrSealed).
func (s *State) OpenRun(ctx context.Context, id string) (*Run, error) {
	if !runID.MatchString(id) {
		return nil, fmt.Errorf("open run: %w", ErrName)
	}
	r := &Run{s: s, id: id}
	if _, err := storage.Stat(ctx, s.store, s.sealedMark(id)); err == nil {
		r.closed = ErrSealed
		return r, nil
	} else if !storage.IsNotExist(err) {
		return nil, fmt.Errorf("open run %s: %w", id, err)
	}
	secret, err := s.loadSecret(ctx, id)
	switch {
	case err == nil:
		r.secret = secret
	case errors.Is(err, errUnwrap):
		r.closed = err
	case storage.IsNotExist(err):
		if _, err := s.readStatus(ctx, id); err != nil {
			if storage.IsNotExist(err) {
				err = ErrNoRun
			}
			return nil, fmt.Errorf("open run %s: %w", id, err)
		}
		r.closed = ErrSealed
	default:
		return nil, fmt.Errorf("open run %s: %w", id, err)
	}
	return r, nil
}

// OpenVault opens a place for sealed files that is no run: it has a secret of
// its own and no status, so that sealing a run leaves it alone. create makes it
// when there is none; otherwise that is ErrNoRun.
func (s *State) OpenVault(ctx context.Context, name string, create bool) (*Run, error) {
	if !runID.MatchString(name) {
		return nil, fmt.Errorf("open vault: %w", ErrName)
	}
	secret, err := s.loadSecret(ctx, name)
	if storage.IsNotExist(err) && create {
		fresh := make([]byte, 32)
		_, _ = rand.Read(fresh) // never fails since Go 1.24
		if err = s.storeSecret(ctx, name, fresh); err == nil {
			return &Run{s: s, id: name, secret: fresh}, nil
		}
		if errors.Is(err, storage.ErrExists) { // another process was faster
			secret, err = s.loadSecret(ctx, name)
		}
	}
	if storage.IsNotExist(err) {
		err = ErrNoRun
	}
	if err != nil {
		return nil, fmt.Errorf("open vault %s: %w", name, err)
	}
	return &Run{s: s, id: name, secret: secret}, nil
}

// RemoveVault removes a vault's secret, which makes its files unreadable for
// good, and then the files.
func (s *State) RemoveVault(ctx context.Context, name string) error {
	if !runID.MatchString(name) {
		return fmt.Errorf("remove vault: %w", ErrName)
	}
	if err := s.removeSecret(ctx, name); err != nil {
		return fmt.Errorf("remove vault %s: %w", name, err)
	}
	r := &Run{s: s, id: name}
	for file, err := range r.List(ctx, "") {
		if err == nil {
			err = r.Remove(ctx, file)
		}
		if err != nil {
			return fmt.Errorf("remove vault %s: %w", name, err)
		}
	}
	return nil
}

// ID is the run's id.
func (r *Run) ID() string { return r.id }

// Secret is the run's secret, nil where it is gone. Callers derive from it
// (see Derive) and never store it.
func (r *Run) Secret() []byte { return r.secret }

// Sealed says whether the secret is gone, or can't be unwrapped here.
func (r *Run) Sealed() bool { return r.closed != nil }

// Derive returns a 32-byte key for one purpose. Different purposes give
// unrelated keys, and none of them gives away the secret.
func (r *Run) Derive(purpose string) ([]byte, error) {
	if r.closed != nil {
		return nil, r.closed
	}
	return hkdf.Key(sha256.New, r.secret, nil, "expunge derive v1\x00"+r.id+"\x00"+purpose, 32)
}

// Path is the full path of one of the run's files.
func (r *Run) Path(name string) string { return r.s.root + "runs/" + r.id + "/" + name }

func (s *State) sealedMark(id string) string { return s.root + "runs/" + id + "/sealed.json" }

// Create starts a sealed file. It is durable when Close returned nil; Abort
// drops it. A file of that name that is there already is storage.ErrExists.
func (r *Run) Create(ctx context.Context, name string) (storage.Writer, error) {
	return r.create(ctx, name, storage.CreateOptions{IfNotExists: true, Private: true})
}

// Replace is Create for a file that may be there already: its content changes
// in one step when Close returns nil.
func (r *Run) Replace(ctx context.Context, name string) (storage.Writer, error) {
	return r.create(ctx, name, storage.CreateOptions{Private: true})
}

func (r *Run) create(ctx context.Context, name string, o storage.CreateOptions) (storage.Writer, error) {
	if r.closed != nil {
		return nil, fmt.Errorf("create %s: %w", name, r.closed)
	}
	if err := checkName(name); err != nil {
		return nil, fmt.Errorf("create %s: %w", name, err)
	}
	w, err := r.s.store.Create(ctx, r.Path(name), o)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", name, err)
	}
	sealed, err := NewSealer(w, r.secret, r.label(name))
	if err != nil {
		_ = w.Abort()
		return nil, fmt.Errorf("create %s: %w", name, err)
	}
	return &sealedFile{Sealer: sealed, w: w, name: name}, nil
}

// label binds a sealed file to its run and name: it opens under no other.
func (r *Run) label(name string) string { return r.id + "\x00" + name }

// sealedFile closes the stream and then the object.
type sealedFile struct {
	*Sealer
	w    storage.Writer
	name string
	done bool
	err  error
}

func (f *sealedFile) Close() error {
	if f.done {
		return f.err
	}
	f.done = true
	err := f.Sealer.Close()
	if err == nil {
		err = f.w.Close()
	}
	if err != nil {
		_ = f.w.Abort()
		f.err = fmt.Errorf("close %s: %w", f.name, err)
	}
	return f.err
}

func (f *sealedFile) Abort() error {
	f.done = true
	return f.w.Abort()
}

// Open opens a sealed file for reading. Every byte it yields is authentic, and
// io.EOF means that the file is complete; anything else is ErrCorrupt.
func (r *Run) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	if r.closed != nil {
		return nil, fmt.Errorf("open %s: %w", name, r.closed)
	}
	body, err := r.OpenPlain(ctx, name)
	if err != nil {
		return nil, err
	}
	u, err := NewUnsealer(body, r.secret, r.label(name))
	if err != nil {
		body.Close()
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return struct {
		io.Reader
		io.Closer
	}{u, body}, nil
}

// CreatePlain starts a file in clear, for manifests and evidence; it replaces
// one of the same name when Close returns nil.
func (r *Run) CreatePlain(ctx context.Context, name string) (storage.Writer, error) {
	if err := checkName(name); err != nil {
		return nil, fmt.Errorf("create %s: %w", name, err)
	}
	w, err := r.s.store.Create(ctx, r.Path(name), storage.CreateOptions{Private: true})
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", name, err)
	}
	return w, nil
}

// OpenPlain opens a file that was written in clear.
func (r *Run) OpenPlain(ctx context.Context, name string) (io.ReadCloser, error) {
	if err := checkName(name); err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	o, err := r.s.store.Open(ctx, r.Path(name))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return storage.Stream(o), nil
}

// Exists says whether there is a file of that name, sealed or not.
func (r *Run) Exists(ctx context.Context, name string) (bool, error) {
	_, err := storage.Stat(ctx, r.s.store, r.Path(name))
	if storage.IsNotExist(err) {
		return false, nil
	}
	return err == nil, err
}

// Remove removes a file; that it is not there is no error.
func (r *Run) Remove(ctx context.Context, name string) error {
	if err := checkName(name); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	if err := r.s.store.Remove(ctx, r.Path(name)); err != nil && !storage.IsNotExist(err) {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// List yields the names of the run's files that start with prefix, sorted.
func (r *Run) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		base := r.Path("")
		for info, err := range r.s.store.List(ctx, base+prefix) {
			if err != nil {
				yield("", fmt.Errorf("list files of run %s: %w", r.id, err))
				return
			}
			if !yield(strings.TrimPrefix(info.Path, base), nil) {
				return
			}
		}
	}
}

// DestroySecret makes everything sealed unreadable for good. It says first
// that it will, so that a crash half way leaves a run that counts as sealed
// and a call that can be repeated; it ends by looking that the secret is gone,
// older versions of the object included.
func (r *Run) DestroySecret(ctx context.Context) error {
	mark, err := json.Marshal(struct {
		Sealed time.Time `json:"sealed"`
	}{clock.Now(ctx)})
	if err != nil {
		return fmt.Errorf("seal run %s: %w", r.id, err)
	}
	if err := storage.WriteAll(ctx, r.s.store, r.s.sealedMark(r.id), mark, storage.CreateOptions{Private: true}); err != nil {
		return fmt.Errorf("seal run %s: %w", r.id, err)
	}
	if err := r.s.removeSecret(ctx, r.id); err != nil {
		return fmt.Errorf("seal run %s: %w", r.id, err)
	}
	clear(r.secret)
	r.secret, r.closed = nil, ErrSealed
	st, err := r.Status(ctx)
	if err != nil {
		return fmt.Errorf("seal run %s: %w", r.id, err)
	}
	st.Sealed = true
	return r.SetStatus(ctx, st)
}
