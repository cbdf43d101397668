package objects

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"

	"github.com/expunge/expunge/internal/redact"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/rewriter"
	"github.com/expunge/expunge/warehouse"
)

// Work says for which run an object is looked at.
type Work struct {
	RunID  string
	Secret []byte // keys the digests in names
	KeyID  string // of the keysets
	Dry    bool   // scan only
	Select warehouse.Selection
	Bound  []warehouse.BoundMatch
}

// spliceSize is from when on a digest of the new content is not worth having
// all of its bytes pass through the process.
const spliceSize = 8 << 20

// tries bounds how often an object that keeps changing is scanned again.
const tries = 5

// errChanging: an object changed again whenever it was looked at.
var errChanging = fmt.Errorf("object keeps changing: %w", storage.ErrPrecondition)

// Process scans one object and writes its new content, if it needs one, below
// the run's folder. The object itself is not touched. An object that is not the
// one that was planned is taken as it is now; one that is gone needs nothing.
func (t *Target) Process(ctx context.Context, w Work, task warehouse.Task) (warehouse.Result, error) {
	for range tries {
		res, err := t.processOnce(ctx, w, task)
		if !errors.Is(err, storage.ErrPrecondition) && !errors.Is(err, fs.ErrNotExist) {
			return res, err
		}
		info, err := storage.Stat(ctx, t.store, task.File.Path)
		if errors.Is(err, fs.ErrNotExist) {
			return warehouse.Result{Task: task, Status: warehouse.Clean, Method: "object is gone"}, nil
		}
		if err != nil {
			return res, fmt.Errorf("look at the object again: %w", err)
		}
		task.File.ETag, task.File.Size = info.ETag, info.Size
	}
	return warehouse.Result{Task: task}, errChanging
}

func (t *Target) processOnce(ctx context.Context, w Work, task warehouse.Task) (warehouse.Result, error) {
	res := warehouse.Result{Task: task, Status: warehouse.Clean, Method: "scanned clean"}
	if task.File.Size == 0 {
		return res, nil // it was emptied since
	}
	m, err := t.fix(task.File.Path, w.Bound)
	if err != nil {
		return res, err
	}
	if len(m.match) == 0 && len(m.every) == 0 {
		res.Method = "pruned by partition"
		return res, nil
	}
	src, err := storage.OpenKnown(ctx, t.store, infoOf(task))
	if err != nil {
		return res, fmt.Errorf("open: %w", err)
	}
	defer src.Close()
	f, err := scan(ctx, t.cfg.Format, src, t.request(m, w.Select))
	if err != nil {
		return res, fmt.Errorf("scan: %w", err)
	}
	t.count(&res, f, m, w)
	if f.hits.IsEmpty() {
		return res, nil
	}
	if res.Keys, err = warehouse.KeyNumbers(m.keys(f.keys, len(w.Bound))); err != nil {
		return res, err
	}
	a, err := storage.GetAttributes(ctx, t.store, task.File.Path)
	if err != nil {
		return res, fmt.Errorf("read attributes: %w", err)
	}
	if err := admit(a); err != nil {
		return res, err
	}
	res.Status, res.Method = warehouse.Rewritten, "rewritten"
	if res.RowsOut == 0 && t.cfg.Emptied != "keep" {
		res.Status, res.Method = warehouse.Dropped, "dropped"
	}
	if w.Dry {
		return res, nil
	}
	if err := warehouse.DigestSource(src, &res); err != nil || res.Status == warehouse.Dropped {
		return res, err
	}
	return res, t.stage(ctx, w, f, &res)
}

func infoOf(task warehouse.Task) storage.Info {
	return storage.Info{Path: task.File.Path, Size: task.File.Size, ETag: task.File.ETag}
}

func (t *Target) request(m *objectMatch, sel warehouse.Selection) request {
	return request{match: m.match, every: len(m.every) > 0, action: sel.Action, malformed: t.cfg.Malformed == "keep"}
}

// count fills in what the scan saw.
func (t *Target) count(res *warehouse.Result, f *found, m *objectMatch, w Work) {
	res.RowsIn, res.RowsOut, res.BytesRead = f.rows, f.rows, f.bytesRead
	res.Task.File.Rows = f.rows
	res.Method = f.method
	n := int64(f.hits.GetCardinality())
	if f.malformed > 0 {
		res.Reason = fmt.Sprintf("%d malformed records kept", f.malformed)
	}
	res.PerMatch = make([]int64, len(w.Bound))
	for i, k := range m.index {
		res.PerMatch[k] = f.perMatch[i]
	}
	for _, k := range m.every {
		res.PerMatch[k] = f.rows
	}
	if (request{action: w.Select.Action}).deletes() {
		res.Erased, res.RowsOut = n, f.rows-n
	} else {
		res.Changed = n
	}
}

// admit refuses an object that the store would not let go, and one whose
// replacement would not be what it was.
func admit(a *storage.Attributes) error {
	switch {
	case a.Locked != "":
		return &rewriter.UnsupportedError{What: storage.ErrLocked.Error() + ": " + a.Locked}
	case a.Archived:
		return &rewriter.UnsupportedError{What: storage.ErrArchived.Error()}
	case a.Unkept != "":
		return &rewriter.UnsupportedError{What: "a replacement could not keep " + a.Unkept}
	}
	return nil
}

// Refusal says in the words of results why the store, or what an object is,
// keeps a run from changing it; "" = another kind of error.
func Refusal(err error) string {
	var u *rewriter.UnsupportedError
	switch {
	case errors.As(err, &u):
		return u.What
	case errors.Is(err, storage.ErrLocked):
		return storage.ErrLocked.Error()
	case errors.Is(err, storage.ErrArchived):
		return storage.ErrArchived.Error()
	case errors.Is(err, fs.ErrPermission):
		return "access denied"
	}
	return ""
}

// spliced says for the evidence what the store copied by itself, and what made
// it stop.
func spliced(dst storage.Writer, size int64) (s string) {
	n, refused := storage.Spliced(dst)
	if n > 0 {
		s = ", spliced in the store"
		if copied, uploaded := storage.Parts(dst); copied > 0 {
			s += fmt.Sprintf(": %d parts copied, %d uploaded", copied, uploaded)
		}
	}
	if refused != "" && (n > 0 || size >= spliceSize) {
		s += ", streamed: " + refused
	}
	return s
}

// stage writes the new content. The name follows from run, object and keys, so
// that a second try writes the same object again.
func (t *Target) stage(ctx context.Context, w Work, f *found, res *warehouse.Result) error {
	file := res.Task.File
	digest := redact.Digest(w.Secret, file.Path+"\x00"+file.ETag+"\x00"+w.KeyID)[:16]
	out := &warehouse.Output{Path: t.OutputPath(w.RunID, res.Task, digest), Rows: res.RowsOut}
	if res.RowsOut == 0 {
		content, err := f.empty()
		if err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		out.Size, out.SHA256 = int64(len(content)), hex.EncodeToString(sum[:])
		res.BytesEncoded, res.Output = out.Size, out
		return storage.WriteAll(ctx, t.store, out.Path, content, storage.CreateOptions{})
	}
	dst, err := t.store.Create(ctx, out.Path, storage.CreateOptions{})
	if err != nil {
		return fmt.Errorf("write new content: %w", err)
	}
	done, err := f.rewrite(ctx, dst, rewriter.Options{SkipDigest: file.Size >= spliceSize})
	if err != nil {
		_ = dst.Abort()
		return fmt.Errorf("rewrite: %w", err)
	}
	if err := dst.Close(); err != nil {
		_ = dst.Abort()
		return fmt.Errorf("write new content: %w", err)
	}
	out.Size = done.Size
	if done.SHA256 != [32]byte{} {
		out.SHA256 = hex.EncodeToString(done.SHA256[:])
	}
	res.Rewriter = done.Engine
	if done.Fallback != "" {
		res.Rewriter += " (" + done.Fallback + ")"
	}
	res.Rewriter += spliced(dst, file.Size)
	res.BytesCopied, res.BytesEncoded, res.Output = done.BytesCopied, done.BytesReencoded, out
	return nil
}
