package jobs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/expunge/expunge/internal/bare"
	"github.com/expunge/expunge/internal/redact"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/rewriter"
	"github.com/expunge/expunge/warehouse"
)

// fileWork is one file on its way through scan and rewrite.
type fileWork struct {
	*Worker
	t      *boundTarget
	task   warehouse.Task
	format Format
	src    storage.Object // the data file, while it is worked on
}

func (f fileWork) do(ctx context.Context, res *warehouse.Result) error {
	in, err := f.inspect(ctx, res, false)
	if in != nil {
		defer in.src.Close()
	}
	if err != nil || res.Status == warehouse.Clean {
		return err
	}
	return in.finish(ctx, res)
}

// inspected is an open file with what is to become of its rows.
type inspected struct {
	fileWork
	store storage.Store
	*change
	hit   bool // a row is erased or changed for its key
	stale bool // a key is left in it that no row has
	folds bool // compaction has a reason to rewrite the file by itself
}

// inspect finds the rows of a file that carry a key, and those that are
// deleted already. A file with neither a key nor a reason for compaction is
// clean, unless it is to be packed. The caller closes the source.
func (f fileWork) inspect(ctx context.Context, res *warehouse.Result, pack bool) (*inspected, error) {
	store, err := f.job.targetStore(ctx, f.t.name)
	if err != nil {
		return nil, err
	}
	if f.src, err = store.Open(ctx, f.task.File.Path); err != nil {
		return nil, fmt.Errorf("open data file: %w", err)
	}
	in := &inspected{fileWork: f, store: store}
	res.Task.File.ETag, res.Task.File.Version = f.src.Info().ETag, f.src.Info().Version
	if n := f.src.Info().Size; n != f.task.File.Size {
		return in, fmt.Errorf("data file has %d bytes and the table lists %d: %w", n, f.task.File.Size, rewriter.ErrCorrupt)
	}
	scan := &ScanResult{Hits: roaring64.New(), Method: methodLeft}
	if len(f.t.bound) > 0 {
		if scan, err = f.scan(ctx); err != nil {
			return in, fmt.Errorf("scan: %w", err)
		}
	}
	res.Method, res.BytesRead, res.PerMatch = scan.Method, scan.BytesRead, scan.PerMatch
	res.Status = warehouse.Clean
	pending, err := f.pending(ctx, scan)
	if err != nil {
		return in, fmt.Errorf("look for rows that are redacted already: %w", err)
	}
	if in.hit = !pending.IsEmpty(); !in.hit && !scan.Hits.IsEmpty() {
		res.Method = manifests.MethodScanned
	}
	in.stale = f.stale(scan)
	if !in.hit && !in.stale && !pack && (f.t.sel.Compact == nil || len(f.task.File.Deletes) == 0) {
		return in, nil
	}
	if in.hit {
		if res.Keys, err = warehouse.KeyNumbers(scan.Keys); err != nil {
			return in, err
		}
	}
	if in.change, err = f.change(ctx, scan, pending); err != nil {
		return in, in.spare(ctx, res, err)
	}
	in.edit.Wipe = in.stale
	if in.folds, err = f.folds(ctx, in.alreadyDeleted); err != nil {
		return in, in.spare(ctx, res, err)
	}
	if !in.hit && !in.stale && !pack && !in.folds {
		return in, nil
	}
	res.Erased = int64(in.erased.GetCardinality())
	res.Changed = int64(in.changed.GetCardinality())
	res.AlreadyDeleted = int64(in.alreadyDeleted.GetCardinality())
	res.RowsOut = res.RowsIn - int64(in.edit.Erase.GetCardinality())
	res.Status = warehouse.Rewritten
	if res.RowsOut == 0 {
		res.Status = warehouse.Dropped
	}
	return in, nil
}

// spare leaves a file of an erasing run as it is when only compaction failed:
// no key is in it.
func (in *inspected) spare(ctx context.Context, res *warehouse.Result, err error) error {
	if in.hit || in.stale || len(in.t.bound) == 0 || ctx.Err() != nil || runLevel(err) {
		return err
	}
	in.job.env.Log.WarnContext(ctx, "file not compacted", "target", in.t.name, "task", in.task.Index, "class", errorClass(err), "error", err)
	left(res, warehouse.Clean, "not compacted: "+errorClass(err))
	return nil
}

// finish rewrites an inspected file by itself.
func (in *inspected) finish(ctx context.Context, res *warehouse.Result) error {
	if !in.hit && !in.stale && !in.folds && res.Status == warehouse.Rewritten {
		left(res, warehouse.Clean, "") // of a pack that came to nothing
		return nil
	}
	if in.dry {
		return nil
	}
	if !bare.Is(ctx) {
		if err := warehouse.DigestSource(in.src, res); err != nil {
			return err
		}
	}
	if res.Status == warehouse.Dropped {
		return nil
	}
	if err := in.rewrite(ctx, res); err != nil {
		return in.spare(ctx, res, err)
	}
	switch {
	case in.hit:
	case in.stale:
		res.Method = methodWiped
	default:
		res.Method = methodFolded
	}
	return nil
}

// stale says that a key which is to go is left in the file although no row has
// it. A redaction leaves the keys where they are, unless it is of them.
func (f fileWork) stale(scan *ScanResult) bool {
	for i, yes := range scan.Stale {
		if yes && (f.t.action.Kind != warehouse.Redact || redefines(f.t, i)) {
			return true
		}
	}
	return false
}

// redefines says that the action gives a column of a match new values.
func redefines(t *boundTarget, match int) bool {
	return slices.ContainsFunc(t.bound[match].Columns, func(c warehouse.ColumnRef) bool { return slices.Contains(t.action.Redefined, c.FieldID) })
}

// outputID is what an output's name follows from.
func (in *inspected) outputID(res *warehouse.Result) string {
	return in.task.File.Path + "\x00" + res.Task.File.ETag + "\x00" + in.keyID + "\x00" + in.id()
}

// rewrite writes the survivors under a name that follows from run, task and
// content, so that a second attempt finds the first one's file and adopts it.
func (in *inspected) rewrite(ctx context.Context, res *warehouse.Result) error {
	digest := redact.Digest(in.run.Secret(), in.outputID(res))[:16]
	path := in.t.target.OutputPath(in.run.ID(), in.task, digest)
	out, err := in.write(ctx, in.store, path, in.src, in.edit)
	if err != nil {
		return err
	}
	if out.RowsIn != res.RowsIn || out.RowsOut != res.RowsOut {
		return fmt.Errorf("%w: file has %d rows, the table lists %d", errRowCount, out.RowsIn, res.RowsIn)
	}
	metrics, err := in.t.target.Metrics(ctx, path)
	if err != nil {
		return fmt.Errorf("read metrics of the rewritten file: %w", err)
	}
	res.Method, res.Rewriter = "rewritten", out.Engine
	if out.Fallback != "" {
		res.Rewriter += " (" + out.Fallback + ")"
	}
	res.BytesCopied, res.BytesEncoded = out.BytesCopied, out.BytesReencoded
	res.Output = &warehouse.Output{Path: path, Size: out.Size, Rows: out.RowsOut, SHA256: hex.EncodeToString(out.SHA256[:]), Metrics: metrics}
	return nil
}

// write writes the survivors of one file.
func (f fileWork) write(ctx context.Context, store storage.Store, path string, src storage.Object, e rewriter.Edit) (*rewriter.Result, error) {
	return f.make(ctx, store, path, func(dst storage.Writer) (*rewriter.Result, error) {
		return f.format.Rewrite(ctx, src, dst, e, rewriter.Options{Workers: 1, SkipDigest: bare.Is(ctx)})
	})
}

// make makes a new file durable. Where the name is taken, a former attempt of
// this run wrote it: the file is computed again and must be the same.
func (f fileWork) make(ctx context.Context, store storage.Store, path string, fill func(storage.Writer) (*rewriter.Result, error)) (*rewriter.Result, error) {
	dst, err := store.Create(ctx, path, storage.CreateOptions{IfNotExists: true})
	if err == nil {
		var out *rewriter.Result
		if out, err = fill(dst); err != nil {
			_ = dst.Abort()
			return nil, fmt.Errorf("rewrite: %w", err)
		}
		if err = dst.Close(); err == nil {
			return out, nil
		}
		_ = dst.Abort()
	}
	if !errors.Is(err, fs.ErrExist) && !errors.Is(err, storage.ErrUnknownOutcome) {
		return nil, fmt.Errorf("write rewritten file: %w", err)
	}
	return f.adopt(ctx, store, path, fill)
}

func (f fileWork) adopt(ctx context.Context, store storage.Store, path string, fill func(storage.Writer) (*rewriter.Result, error)) (*rewriter.Result, error) {
	out, err := fill(discard{})
	if err != nil {
		return nil, fmt.Errorf("rewrite: %w", err)
	}
	sum, err := objectSHA256(ctx, store, path)
	if err != nil {
		return nil, fmt.Errorf("read an earlier attempt: %w", err)
	}
	if sum != out.SHA256 {
		return nil, fmt.Errorf("an earlier attempt wrote another file under the same name: %w", rewriter.ErrCorrupt)
	}
	return out, nil
}

func objectSHA256(ctx context.Context, store storage.Store, path string) (sum [32]byte, err error) {
	obj, err := store.Open(ctx, path)
	if err != nil {
		return sum, err
	}
	defer obj.Close()
	return storage.SHA256(obj)
}

// bitmapDigest names a set of rows.
func bitmapDigest(b *roaring64.Bitmap) string {
	h := sha256.New()
	if _, err := b.WriteTo(h); err != nil {
		return ""
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// discard is a storage.Writer that keeps nothing.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Close() error                { return nil }
func (discard) Abort() error                { return nil }
