package objects

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/expunge/expunge/internal/storage"
)

// uploadFolder holds a mark for every multipart upload that the run begins in
// an object's place, made before the upload stores anything. A mark's name
// follows from the upload's id, which the store made up: it holds no key.
const uploadFolder = "uploads/"

// options are those of a write in an object's place.
func (t *Target) options(runID string, o storage.CreateOptions) storage.CreateOptions {
	o.OnUpload = func(ctx context.Context, id string) error {
		return storage.WriteAll(ctx, t.store, t.runFolder(runID)+uploadFolder+uploadMark(id), nil, storage.CreateOptions{})
	}
	return o
}

func uploadMark(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:16])
}

// uploads aborts what the run began and did not finish: everything in its own
// folder, and in objects' places what it has marked as its own. Uploads of
// others stay, whatever their age.
func (r *remover) uploads(ctx context.Context, runID string) error {
	marks := map[string]bool{}
	for info, err := range r.t.store.List(ctx, r.t.runFolder(runID)+uploadFolder) {
		if err != nil {
			return fmt.Errorf("list the run's marks: %w", err)
		}
		marks[path.Base(info.Path)] = true
	}
	for u, err := range storage.Unfinished(ctx, r.t.store, r.t.prefix) {
		if errors.Is(err, errors.ErrUnsupported) {
			return nil
		}
		if errors.Is(err, fs.ErrPermission) {
			r.block(kindUpload, err)
			return nil
		}
		if err != nil {
			return fmt.Errorf("list unfinished uploads: %w", err)
		}
		own := strings.HasPrefix(u.Path, r.t.runFolder(runID)) || marks[uploadMark(u.ID)] || leftover(u, runID)
		if !own {
			continue
		}
		if err := storage.RemoveUnfinished(ctx, r.t.store, u); err != nil {
			return fmt.Errorf("abort an unfinished upload: %w", err)
		}
		if err := r.removed(ctx, kindUpload, storage.Info{Path: u.Path, Version: u.ID}); err != nil {
			return err
		}
	}
	return nil
}

// leftover says whether an upload is a temporary file on a local disk, which
// only this program makes, whose writer died since the run began.
func leftover(u storage.Upload, runID string) bool {
	began, known := runStart(runID)
	return known && strings.HasPrefix(path.Base(u.Path), storage.TempPrefix) && !u.Started.Before(began)
}

// runStart reads the time that a run's id holds.
func runStart(runID string) (time.Time, bool) {
	parts := strings.Split(runID, "-")
	if len(parts) < 2 {
		return time.Time{}, false
	}
	at, err := time.Parse("20060102T150405Z", parts[len(parts)-2])
	return at, err == nil
}
