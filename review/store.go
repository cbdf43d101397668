package review

import (
	"context"
	"fmt"
	"io/fs"
	"iter"
	"strings"

	"github.com/expunge/expunge/internal/storage"
)

// shown are the folders of a state bucket that hold no key and no secret.
var shown = []string{"manifests/", "log/", "status/", "leases/"}

// readable is a store that opens and lists what is shown, and refuses
// everything else.
type readable struct {
	store storage.Store
	root  string // ends in "/"
}

func (r readable) allows(path string) error {
	rest, ok := strings.CutPrefix(path, r.root)
	for seg := range strings.SplitSeq(rest, "/") {
		ok = ok && seg != ".." && seg != "."
	}
	for _, dir := range shown {
		if ok && strings.HasPrefix(rest, dir) {
			return nil
		}
	}
	return fmt.Errorf("not served: %w", fs.ErrPermission)
}

// Open opens what is shown.
func (r readable) Open(ctx context.Context, path string) (storage.Object, error) {
	if err := r.allows(path); err != nil {
		return nil, err
	}
	return r.store.Open(ctx, path)
}

// Create refuses.
func (r readable) Create(context.Context, string, storage.CreateOptions) (storage.Writer, error) {
	return nil, fmt.Errorf("read only: %w", fs.ErrPermission)
}

// Remove refuses.
func (r readable) Remove(context.Context, string) error {
	return fmt.Errorf("read only: %w", fs.ErrPermission)
}

// List lists what is shown.
func (r readable) List(ctx context.Context, prefix string) iter.Seq2[storage.Info, error] {
	if err := r.allows(prefix); err != nil {
		return func(yield func(storage.Info, error) bool) { yield(storage.Info{}, err) }
	}
	return r.store.List(ctx, prefix)
}

// logReader reads the log for manifests.VerifyLog.
type logReader struct {
	store storage.Store
	root  string // ends in "/log/"
}

func (l logReader) Read(ctx context.Context, name string) ([]byte, string, error) {
	b, err := storage.ReadAll(ctx, l.store, l.root+name)
	return b, "", err
}

func (l logReader) Write(context.Context, string, []byte, string) error {
	return fmt.Errorf("read only: %w", fs.ErrPermission)
}

func (l logReader) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for info, err := range l.store.List(ctx, l.root+prefix) {
			if !yield(strings.TrimPrefix(info.Path, l.root), err) || err != nil {
				return
			}
		}
	}
}
