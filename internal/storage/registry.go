package storage

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"sync"
)

// Factory opens the back end of one bucket. Paths that it gets later are full
// URIs of that bucket.
type Factory func(ctx context.Context, at Location, props map[string]string) (Store, error)

var (
	factoriesMu sync.RWMutex
	factories   = map[string]Factory{
		"":     func(context.Context, Location, map[string]string) (Store, error) { return localStore, nil },
		"file": func(context.Context, Location, map[string]string) (Store, error) { return localStore, nil },
		"mem": func(_ context.Context, at Location, _ map[string]string) (Store, error) {
			return sharedMem(at.Bucket), nil
		},
	}
)

// Register adds a back end for a URI scheme; the last one wins.
func Register(scheme string, f Factory) {
	factoriesMu.Lock()
	defer factoriesMu.Unlock()
	factories[scheme] = f
}

// Schemes lists the registered URI schemes.
func Schemes() []string {
	factoriesMu.RLock()
	defer factoriesMu.RUnlock()
	var out []string
	for s := range factories {
		out = append(out, s)
	}
	return out
}

// New returns a Store that sends each path to the back end of its scheme.
// The properties have PyIceberg's names ("s3.endpoint"); what they leave open
// comes from the cloud's default credential chain. Buckets are opened on first
// use, so a missing back end or credential is an error of the first operation.
func New(props map[string]string) Store {
	return &dispatcher{props: maps.Clone(props), open: map[string]Store{}}
}

type dispatcher struct {
	props map[string]string
	mu    sync.Mutex
	open  map[string]Store
}

// at returns the back end for a path.
func (d *dispatcher) at(ctx context.Context, op, p string) (Store, error) {
	loc := ParseLocation(p)
	name := loc.Scheme + "://" + loc.Bucket
	d.mu.Lock()
	defer d.mu.Unlock()
	if s, ok := d.open[name]; ok {
		return s, nil
	}
	factoriesMu.RLock()
	f, ok := factories[loc.Scheme]
	factoriesMu.RUnlock()
	if !ok {
		return nil, fmt.Errorf("%s %q: %w", op, loc.Scheme+"://", ErrScheme)
	}
	// A back end outlives the operation that happened to open it.
	s, err := f(context.WithoutCancel(ctx), loc, d.props)
	if err != nil {
		return nil, fmt.Errorf("open %s bucket: %w", loc.Scheme, err)
	}
	d.open[name] = s
	return s, nil
}

func (d *dispatcher) Open(ctx context.Context, p string) (Object, error) {
	s, err := d.at(ctx, "open", p)
	if err != nil {
		return nil, err
	}
	return s.Open(ctx, p)
}

func (d *dispatcher) Create(ctx context.Context, p string, o CreateOptions) (Writer, error) {
	s, err := d.at(ctx, "create", p)
	if err != nil {
		return nil, err
	}
	return s.Create(ctx, p, o)
}

func (d *dispatcher) Remove(ctx context.Context, p string) error {
	s, err := d.at(ctx, "remove", p)
	if err != nil {
		return err
	}
	return s.Remove(ctx, p)
}

func (d *dispatcher) List(ctx context.Context, prefix string) iter.Seq2[Info, error] {
	s, err := d.at(ctx, "list", prefix)
	if err != nil {
		return failed[Info](err)
	}
	return s.List(ctx, prefix)
}

func (d *dispatcher) Stat(ctx context.Context, p string) (Info, error) {
	s, err := d.at(ctx, "stat", p)
	if err != nil {
		return Info{}, err
	}
	return Stat(ctx, s, p)
}

func (d *dispatcher) OpenKnown(ctx context.Context, known Info) (Object, error) {
	s, err := d.at(ctx, "open", known.Path)
	if err != nil {
		return nil, err
	}
	return OpenKnown(ctx, s, known)
}

func (d *dispatcher) RemoveIf(ctx context.Context, p, etag string) error {
	s, err := d.at(ctx, "remove", p)
	if err != nil {
		return err
	}
	return RemoveIf(ctx, s, p, etag)
}

// RemoveAll splits the paths by bucket.
func (d *dispatcher) RemoveAll(ctx context.Context, paths []string) []error {
	errs := make([]error, len(paths))
	groups := map[Store][]int{}
	for i, p := range paths {
		s, err := d.at(ctx, "remove", p)
		if err != nil {
			errs[i] = err
			continue
		}
		groups[s] = append(groups[s], i)
	}
	for s, idx := range groups {
		part := make([]string, len(idx))
		for j, i := range idx {
			part[j] = paths[i]
		}
		for j, err := range RemoveAll(ctx, s, part) {
			errs[idx[j]] = err
		}
	}
	return errs
}

func (d *dispatcher) Attributes(ctx context.Context, p string) (*Attributes, error) {
	s, err := d.at(ctx, "stat", p)
	if err != nil {
		return nil, err
	}
	return GetAttributes(ctx, s, p)
}

func (d *dispatcher) VersionAttributes(ctx context.Context, v Version) (*Attributes, error) {
	s, err := d.at(ctx, "stat", v.Path)
	if err != nil {
		return nil, err
	}
	return VersionAttributes(ctx, s, v)
}

func (d *dispatcher) Retention(ctx context.Context, p string) (Retention, error) {
	s, err := d.at(ctx, "stat", p)
	if err != nil {
		return Retention{}, err
	}
	return GetRetention(ctx, s, p)
}

func (d *dispatcher) Versions(ctx context.Context, prefix string) iter.Seq2[Version, error] {
	s, err := d.at(ctx, "list", prefix)
	if err != nil {
		return failed[Version](err)
	}
	return Versions(ctx, s, prefix)
}

func (d *dispatcher) RemoveVersion(ctx context.Context, v Version) error {
	s, err := d.at(ctx, "remove", v.Path)
	if err != nil {
		return err
	}
	return RemoveVersion(ctx, s, v)
}

func (d *dispatcher) OpenVersion(ctx context.Context, v Version) (Object, error) {
	s, err := d.at(ctx, "open", v.Path)
	if err != nil {
		return nil, err
	}
	return OpenVersion(ctx, s, v)
}

func (d *dispatcher) Unfinished(ctx context.Context, prefix string) iter.Seq2[Upload, error] {
	s, err := d.at(ctx, "list", prefix)
	if err != nil {
		return failed[Upload](err)
	}
	return Unfinished(ctx, s, prefix)
}

func (d *dispatcher) RemoveUnfinished(ctx context.Context, u Upload) error {
	s, err := d.at(ctx, "remove", u.Path)
	if err != nil {
		return err
	}
	return RemoveUnfinished(ctx, s, u)
}

// failed is an iterator that only reports err.
func failed[T any](err error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		yield(zero, err)
	}
}
