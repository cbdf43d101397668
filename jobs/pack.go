package jobs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/expunge/expunge/internal/redact"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/rewriter"
	rewriteparquet "github.com/expunge/expunge/rewriter/parquet"
	"github.com/expunge/expunge/warehouse"
)

// methodFolded and methodPacked are how compaction rewrites a file.
const (
	methodLeft   = "not compacted"
	methodFolded = "deletes folded in"
	methodWiped  = "residue wiped" // no row goes, but what was left of some that went before
	methodPacked = "packed with others"
)

// concatenator is a Format that can put several files into one.
type concatenator interface {
	// Kind identifies files that can be put together.
	Kind(ctx context.Context, src storage.Object, lineage bool) ([sha256.Size]byte, error)
	Concat(ctx context.Context, sources []rewriteparquet.Source, dst storage.Writer, o rewriter.Options) (*rewriteparquet.Concatenated, error)
}

func (parquetFormat) Kind(ctx context.Context, src storage.Object, lineage bool) ([sha256.Size]byte, error) {
	return rewriteparquet.Kind(ctx, src, lineage)
}

func (parquetFormat) Concat(ctx context.Context, sources []rewriteparquet.Source, dst storage.Writer, o rewriter.Options) (*rewriteparquet.Concatenated, error) {
	return rewriteparquet.Concat(ctx, sources, dst, o)
}

// folds says whether compaction rewrites a file for its deletes. Delete files
// of its partition that say nothing of it do not count (trap S7).
func (f fileWork) folds(ctx context.Context, deleted *roaring64.Bitmap) (bool, error) {
	c := f.t.sel.Compact
	n := int64(deleted.GetCardinality())
	if c == nil || n == 0 {
		return false, nil
	}
	files := len(f.task.File.Deletes)
	if c.DeleteFiles > 1 && files >= c.DeleteFiles {
		files = 0
		for _, d := range f.task.File.Deletes {
			one := f.task
			one.File.Deletes = []warehouse.DeleteFile{d}
			hidden := deleted
			if d.Kind == "position" {
				var err error
				if hidden, err = f.t.target.Deleted(ctx, one); err != nil {
					return false, fmt.Errorf("read tombstones: %w", err)
				}
			}
			if !hidden.IsEmpty() {
				files++
			}
		}
	}
	return c.Reached(f.task.File.Rows, n, files), nil
}

// packed is a file of a pack, looked at.
type packed struct {
	res  warehouse.Result
	file *inspected
	kind [sha256.Size]byte
}

// pack writes the survivors of small files into as few files as their schemas
// allow. A file that cannot be packed is dealt with by itself.
func (w *Worker) pack(ctx context.Context, t *boundTarget, tasks []warehouse.Task) ([]warehouse.Result, error) {
	all := make([]*packed, len(tasks))
	defer func() {
		for _, p := range all {
			if p != nil && p.file != nil {
				p.file.src.Close()
			}
		}
	}()
	groups := map[[sha256.Size]byte][]*packed{}
	var kinds [][sha256.Size]byte
	for i, task := range tasks {
		p := &packed{res: warehouse.Result{Task: task, RowsIn: task.File.Rows}}
		all[i] = p
		join, err := w.guard(ctx, t, &p.res, func() error { return w.lookAt(ctx, t, p) })
		if err != nil {
			return nil, err
		}
		if !join || p.file == nil || p.res.Status != warehouse.Rewritten || p.res.Output != nil {
			continue
		}
		if len(groups[p.kind]) == 0 {
			kinds = append(kinds, p.kind)
		}
		groups[p.kind] = append(groups[p.kind], p)
	}
	if !w.dry {
		for _, k := range kinds {
			if err := w.packGroup(ctx, t, groups[k]); err != nil {
				return nil, err
			}
		}
	}
	out := make([]warehouse.Result, len(all))
	for i, p := range all {
		out[i] = p.res
	}
	return out, nil
}

// lookAt finds the survivors of a file and what it can be packed with.
func (w *Worker) lookAt(ctx context.Context, t *boundTarget, p *packed) (err error) {
	format, ok := w.job.format(p.res.Task.File.Format)
	if !ok {
		return fmt.Errorf("format %s: %w", p.res.Task.File.Format, warehouse.ErrUnsupported)
	}
	work := fileWork{Worker: w, t: t, task: p.res.Task, format: format}
	if p.file, err = work.inspect(ctx, &p.res, true); err != nil {
		return err
	}
	if p.res.Status != warehouse.Rewritten || w.dry {
		return nil
	}
	c, ok := format.(concatenator)
	if !ok || p.res.Changed > 0 || p.file.stale {
		return p.file.finish(ctx, &p.res) // rows that change, and files to be wiped, are written by themselves
	}
	if p.kind, err = c.Kind(ctx, p.file.src, p.res.Task.File.FirstRowID != nil); err != nil {
		return p.file.spare(ctx, &p.res, err)
	}
	return nil
}

// packGroup puts files of one kind together. When they turn out not to go
// together, and for one alone, each is rewritten only for reasons of its own.
func (w *Worker) packGroup(ctx context.Context, t *boundTarget, group []*packed) error {
	if c, ok := group[0].file.format.(concatenator); ok && len(group) > 1 {
		err := w.concat(ctx, t, c, group)
		if err == nil || ctx.Err() != nil || runLevel(err) {
			return err
		}
		w.job.env.Log.WarnContext(ctx, "small files left apart", "target", t.name, "files", len(group), "class", errorClass(err), "error", err)
	}
	for _, p := range group {
		if _, err := w.guard(ctx, t, &p.res, func() error { return p.file.finish(ctx, &p.res) }); err != nil {
			return err
		}
	}
	return nil
}

func (w *Worker) concat(ctx context.Context, t *boundTarget, c concatenator, group []*packed) error {
	var id strings.Builder
	sources := make([]rewriteparquet.Source, len(group))
	for i, p := range group {
		sources[i] = rewriteparquet.Source{Object: p.file.src, Edit: p.file.edit}
		id.WriteString(p.file.outputID(&p.res) + "\x00")
	}
	first := group[0]
	path := t.target.OutputPath(w.run.ID(), first.res.Task, redact.Digest(w.run.Secret(), id.String())[:16])
	var rows []int64
	out, err := first.file.make(ctx, first.file.store, path, func(dst storage.Writer) (*rewriter.Result, error) {
		res, err := c.Concat(ctx, sources, dst, rewriter.Options{Workers: 1})
		if err != nil {
			return nil, err
		}
		rows = res.Rows
		return &res.Result, nil
	})
	if err != nil {
		return err
	}
	for i, p := range group {
		if rows[i] != p.res.RowsOut {
			return fmt.Errorf("%w: file %d of a pack gives %d rows", errRowCount, i, rows[i])
		}
	}
	metrics, err := t.target.Metrics(ctx, path)
	if err != nil {
		return fmt.Errorf("read metrics of the packed file: %w", err)
	}
	at := int64(0)
	for i, p := range group {
		if err := warehouse.DigestSource(p.file.src, &p.res); err != nil {
			return err
		}
		o := warehouse.Output{Path: path, Size: out.Size, Rows: out.RowsOut, SHA256: hex.EncodeToString(out.SHA256[:])}
		if i == 0 { // the others' would be the same
			o.Metrics = metrics
			p.res.BytesCopied, p.res.BytesEncoded = out.BytesCopied, out.BytesReencoded
		}
		p.res.Output, p.res.Packed = &o, &warehouse.Packed{FirstRow: at, Files: len(group)}
		p.res.Method, p.res.Rewriter = methodPacked, out.Engine
		at += p.res.RowsOut
	}
	return nil
}

var errNoPack = errors.New("the tasks of a pack do not follow each other")
