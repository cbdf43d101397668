package jobs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/internal/redact"
	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/rewriter"
	"github.com/expunge/expunge/warehouse"
)

// Worker runs shards of one run. Everything it needs is in the run's folder,
// so any process that can read the state bucket can be a worker.
type Worker struct {
	job     *Job
	run     *state.Run
	targets []*boundTarget
	keyID   string // digest of the keysets: part of output names
	dry     bool   // scan only: write nothing to a target
}

func planDir(slot, gen int) string { return fmt.Sprintf("plan/%d/%d/", slot, gen) }

func shardFile(slot, gen, index int) string {
	return fmt.Sprintf("%sshard-%06d", planDir(slot, gen), index)
}

// RunShard processes the tasks of one shard and stores their results.
func (w *Worker) RunShard(ctx context.Context, s Shard) (ShardResult, error) {
	if s.Slot < 0 || s.Slot >= len(w.targets) {
		return ShardResult{}, fmt.Errorf("shard names target %d of %d: %w", s.Slot, len(w.targets), ErrUsage)
	}
	t := w.targets[s.Slot]
	sum := ShardResult{Slot: s.Slot, Gen: s.Gen, Index: s.Index}
	results := func(yield func(warehouse.Result, error) bool) {
		for task, err := range state.ReadRecords[warehouse.Task](ctx, w.run, shardFile(s.Slot, s.Gen, s.Index)) {
			if err != nil {
				yield(warehouse.Result{}, fmt.Errorf("read shard: %w", err))
				return
			}
			res, err := w.file(ctx, t, task)
			if err != nil {
				yield(warehouse.Result{}, err)
				return
			}
			sum.count(res)
			if !yield(res, nil) {
				return
			}
		}
	}
	ref, err := w.store(ctx, s, results)
	if err != nil {
		return ShardResult{}, fmt.Errorf("shard %d of %s: %w", s.Index, t.name, err)
	}
	sum.Ref = ref
	return sum, nil
}

// store writes results under the first attempt's name that is free: a run that
// died after writing and before journaling leaves one behind.
func (w *Worker) store(ctx context.Context, s Shard, results iter.Seq2[warehouse.Result, error]) (string, error) {
	attempt := 1
	dir := fmt.Sprintf("%s%d/%d/%06d/", dirResults, s.Slot, s.Gen, s.Index)
	for _, err := range w.run.List(ctx, dir) {
		if err != nil {
			return "", fmt.Errorf("list results: %w", err)
		}
		attempt++
	}
	for ; ; attempt++ {
		ref := fmt.Sprintf("%s%03d.jsonl", dir, attempt)
		_, err := state.WriteRecords(ctx, w.run, ref, results)
		if errors.Is(err, fs.ErrExist) && attempt < 1000 {
			continue
		}
		return ref, err
	}
}

func (r *ShardResult) count(res warehouse.Result) {
	r.Files++
	switch res.Status {
	case warehouse.Clean:
		r.Clean++
	case warehouse.Rewritten:
		r.Rewritten++
	case warehouse.Dropped:
		r.Dropped++
	case warehouse.Failed:
		r.Failed++
	case warehouse.LeftAlone:
		r.LeftAlone++
	}
	r.Rows += res.RowsIn
	r.Erased += res.Erased
	r.Changed += res.Changed
	r.BytesRead += res.BytesRead
	r.Copied += res.BytesCopied
	r.Encoded += res.BytesEncoded
}

// file processes one task. What is wrong with the file is a result; only what
// is wrong with the run (a lost context, a state bucket that fails) is an error.
func (w *Worker) file(ctx context.Context, t *boundTarget, task warehouse.Task) (res warehouse.Result, err error) {
	res = warehouse.Result{Task: task, RowsIn: task.File.Rows}
	defer func() {
		if r := recover(); r != nil {
			// The value of a panic may quote data, so only its class is kept.
			res, err = failed(res, "internal error"), nil
		}
	}()
	if t.prefix() != nil {
		return w.object(ctx, t, task)
	}
	format, ok := w.job.format(task.File.Format)
	if !ok {
		res.Status, res.Reason = warehouse.LeftAlone, "unsupported format"
		return res, nil
	}
	work := fileWork{Worker: w, t: t, task: task, format: format}
	if err := work.do(ctx, &res); err != nil {
		if ctx.Err() != nil {
			return res, context.Cause(ctx)
		}
		class := errorClass(err)
		w.job.env.Log.WarnContext(ctx, "file left as it was", "target", t.name, "task", task.Index, "class", class, "error", err)
		if class == "unsupported" {
			res.Status, res.Reason = warehouse.LeftAlone, "unsupported: "+unsupportedWhat(err)
			return res, nil
		}
		if runLevel(err) {
			return res, err
		}
		return failed(res, class), nil
	}
	return res, nil
}

func failed(res warehouse.Result, class string) warehouse.Result {
	res.Status, res.Reason, res.Output = warehouse.Failed, class, nil
	return res
}

// runLevel errors are about the whole run, not about one file.
func runLevel(err error) bool {
	return errors.Is(err, storage.ErrNoSpace) || errors.Is(err, storage.ErrReadOnly) ||
		errors.Is(err, warehouse.ErrFenced)
}

// errorClass names an error for a manifest without quoting it.
func errorClass(err error) string {
	switch {
	case errors.Is(err, rewriter.ErrUnsupported), errors.Is(err, pq.ErrUnsupported), errors.Is(err, warehouse.ErrUnsupported):
		return "unsupported"
	case errors.Is(err, rewriter.ErrCorrupt), errors.Is(err, pq.ErrCorrupt):
		return "corrupt file"
	case errors.Is(err, fs.ErrNotExist):
		return "file is missing"
	case errors.Is(err, fs.ErrPermission):
		return "access denied"
	case errors.Is(err, storage.ErrThrottled), errors.Is(err, storage.ErrTransient):
		return "store unavailable"
	case errors.Is(err, storage.ErrNoSpace):
		return "store is full"
	case errors.Is(err, storage.ErrReadOnly):
		return "store is read-only"
	case errors.Is(err, errRowCount):
		return "row counts do not add up"
	case errors.Is(err, warehouse.ErrConflict):
		return "conflicts used up"
	case errors.Is(err, warehouse.ErrFenced):
		return "lease lost"
	case errors.Is(err, warehouse.ErrLimit):
		return "limit"
	case errors.Is(err, ErrVerification):
		return "verification failed"
	default:
		return "error"
	}
}

func unsupportedWhat(err error) string {
	var u *rewriter.UnsupportedError
	if errors.As(err, &u) {
		return u.What
	}
	return "file feature"
}

// errRowCount: rows in are not survivors + erased + already deleted (contract rule 2).
var errRowCount = errors.New("rows in do not equal survivors + erased + already deleted")

// fileWork is one file on its way through scan and rewrite.
type fileWork struct {
	*Worker
	t      *boundTarget
	task   warehouse.Task
	format Format
	src    storage.Object // the data file, while it is worked on
}

func (f fileWork) do(ctx context.Context, res *warehouse.Result) error {
	store, err := f.job.targetStore(ctx, f.t.name)
	if err != nil {
		return err
	}
	src, err := store.Open(ctx, f.task.File.Path)
	if err != nil {
		return fmt.Errorf("open data file: %w", err)
	}
	defer src.Close()
	res.Task.File.ETag, res.Task.File.Version = src.Info().ETag, src.Info().Version
	if n := src.Info().Size; n != f.task.File.Size {
		return fmt.Errorf("data file has %d bytes and the table lists %d: %w", n, f.task.File.Size, rewriter.ErrCorrupt)
	}
	f.src = src
	scan, err := f.scan(ctx)
	if err != nil {
		return fmt.Errorf("scan: %w", err)
	}
	res.Method, res.BytesRead, res.PerMatch = scan.Method, scan.BytesRead, scan.PerMatch
	pending, err := f.pending(ctx, scan)
	if err != nil {
		return fmt.Errorf("look for rows that are redacted already: %w", err)
	}
	if pending.IsEmpty() {
		if !scan.Hits.IsEmpty() {
			res.Method = manifests.MethodScanned
		}
		res.Status = warehouse.Clean
		return nil
	}
	if res.Keys, err = keyNumbers(scan.Keys); err != nil {
		return err
	}
	c, err := f.change(ctx, scan, pending)
	if err != nil {
		return err
	}
	res.Erased = int64(c.erased.GetCardinality())
	res.Changed = int64(c.changed.GetCardinality())
	res.AlreadyDeleted = int64(c.alreadyDeleted.GetCardinality())
	res.RowsOut = res.RowsIn - int64(c.edit.Erase.GetCardinality())
	res.Status = warehouse.Rewritten
	if res.RowsOut == 0 {
		res.Status = warehouse.Dropped
	}
	if f.dry || res.Status == warehouse.Dropped {
		return nil
	}
	return f.rewrite(ctx, store, c, res)
}

// rewrite writes the survivors under a name that follows from run, task and
// content, so that a second attempt finds the first one's file and adopts it.
func (f fileWork) rewrite(ctx context.Context, store storage.Store, c *change, res *warehouse.Result) error {
	id := f.task.File.Path + "\x00" + res.Task.File.ETag + "\x00" + f.keyID + "\x00" + c.id()
	digest := redact.Digest(f.run.Secret(), id)[:16]
	path := f.t.target.OutputPath(f.run.ID(), f.task, digest)
	out, err := f.write(ctx, store, path, f.src, c.edit)
	if err != nil {
		return err
	}
	if out.RowsIn != res.RowsIn || out.RowsOut != res.RowsOut {
		return fmt.Errorf("%w: file has %d rows, the table lists %d", errRowCount, out.RowsIn, res.RowsIn)
	}
	metrics, err := f.t.target.Metrics(ctx, path)
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

// write makes the file durable. Where the name is taken, a former attempt of
// this run wrote it: the file is computed again and must be the same.
func (f fileWork) write(ctx context.Context, store storage.Store, path string, src storage.Object, e rewriter.Edit) (*rewriter.Result, error) {
	opts := rewriter.Options{Workers: 1}
	dst, err := store.Create(ctx, path, storage.CreateOptions{IfNotExists: true})
	if err == nil {
		var out *rewriter.Result
		if out, err = f.format.Rewrite(ctx, src, dst, e, opts); err != nil {
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
	return f.adopt(ctx, store, path, src, e, opts)
}

func (f fileWork) adopt(ctx context.Context, store storage.Store, path string, src storage.Object, e rewriter.Edit, o rewriter.Options) (*rewriter.Result, error) {
	out, err := f.format.Rewrite(ctx, src, discard{}, e, o)
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
	h := sha256.New()
	if _, err := io.CopyBuffer(h, io.NewSectionReader(obj, 0, obj.Info().Size), make([]byte, 1<<20)); err != nil {
		return sum, err
	}
	h.Sum(sum[:0])
	return sum, nil
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
