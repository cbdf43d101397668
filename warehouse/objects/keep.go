package objects

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/warehouse"
)

// retention remembers what the bucket keeps of replaced objects.
type retention struct {
	mu sync.Mutex
	storage.Retention
	known  bool
	untold bool // the store cannot tell, or does not tell us
}

// Retention is what the bucket keeps of objects that are replaced or removed, as
// seen at one of them; "" looks for one. A store that cannot tell keeps, as far
// as this program can know, nothing: protected copies are made then.
func (t *Target) Retention(ctx context.Context, path string) (storage.Retention, error) {
	t.keep.mu.Lock()
	defer t.keep.mu.Unlock()
	if t.keep.known {
		return t.keep.Retention, nil
	}
	if path == "" {
		path = t.prefix
		for info, err := range t.store.List(ctx, t.prefix) {
			if err != nil {
				return storage.Retention{}, err
			}
			path = info.Path
			break
		}
	}
	keep, err := storage.GetRetention(ctx, t.store, path)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrPermission) {
		return keep, err
	}
	t.keep.Retention, t.keep.known, t.keep.untold = keep, true, err != nil
	return keep, nil
}

// keptPath is the protected copy of a task's old content. It follows from the
// run and the object's state; its name carries neither path nor key.
func (t *Target) keptPath(runID string, task warehouse.Task) string {
	sum := sha256.Sum256([]byte(runID + "\x00" + task.File.Path + "\x00" + task.File.ETag))
	return t.runFolder(runID) + "old/" + hex.EncodeToString(sum[:16])
}

// protect makes the old content outlive its replacement. On a versioned bucket
// the store does that.
func (t *Target) protect(ctx context.Context, runID string, task warehouse.Task, like *storage.Attributes) error {
	keep, err := t.Retention(ctx, task.File.Path)
	if err != nil {
		return fmt.Errorf("ask the bucket what it keeps: %w", err)
	}
	if keep.Versioned {
		return nil
	}
	src, err := storage.OpenKnown(ctx, t.store, infoOf(task))
	if err != nil {
		return err
	}
	defer src.Close()
	err = t.copyTo(ctx, src, t.keptPath(runID, task), storage.CreateOptions{IfNotExists: true, Like: like})
	if errors.Is(err, storage.ErrExists) {
		return nil // a former try made it: objects are whole or absent
	}
	return err
}

// copyTo copies a whole object, inside the store where that is possible.
func (t *Target) copyTo(ctx context.Context, src storage.Object, path string, o storage.CreateOptions) error {
	dst, err := t.store.Create(ctx, path, o)
	if err != nil {
		return err
	}
	if err := storage.CopyRange(dst, src, 0, src.Info().Size); err != nil {
		_ = dst.Abort()
		return err
	}
	if err := dst.Close(); err != nil {
		_ = dst.Abort()
		return err
	}
	return nil
}

// Old opens the content that a task's object had before a run replaced it: the
// protected copy, or the version. fs.ErrNotExist when it is gone.
func (t *Target) Old(ctx context.Context, runID string, task warehouse.Task) (storage.Object, error) {
	obj, err := t.store.Open(ctx, t.keptPath(runID, task))
	if err == nil {
		return &renamed{Object: obj, path: task.File.Path}, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	keep, err := t.Retention(ctx, task.File.Path)
	if err != nil {
		return nil, err
	}
	if !keep.Versioned {
		return nil, fmt.Errorf("protected copy: %w", fs.ErrNotExist)
	}
	for v, err := range storage.Versions(ctx, t.store, task.File.Path) {
		if err != nil {
			return nil, fmt.Errorf("list versions: %w", err)
		}
		if v.Path != task.File.Path {
			break // another key with this one as its prefix
		}
		if !v.DeleteMarker && v.ETag == task.File.ETag {
			return storage.OpenVersion(ctx, t.store, v)
		}
	}
	return nil, fmt.Errorf("version: %w", fs.ErrNotExist)
}

// renamed is an object under the path that it had: paths hold partition values.
type renamed struct {
	storage.Object
	path string
}

// Info describes the object, but for its path.
func (r *renamed) Info() storage.Info {
	i := r.Object.Info()
	i.Path = r.path
	return i
}

// Unwrap is the object itself.
func (r *renamed) Unwrap() storage.Object { return r.Object }

// sameContent compares two objects byte by byte.
func sameContent(a, b storage.Object) (bool, error) {
	if a.Info().Size != b.Info().Size {
		return false, nil
	}
	x, err := digest(a)
	if err != nil {
		return false, err
	}
	y, err := digest(b)
	return x == y, err
}

func digest(o storage.Object) (string, error) {
	h := sha256.New()
	if _, err := io.CopyBuffer(h, io.NewSectionReader(o, 0, o.Info().Size), make([]byte, 1<<20)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
