package parquet

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/internal/thriftpatch"
	"github.com/expunge/expunge/rewriter"
)

// Input is a file to rewrite: random reads and its size in bytes.
type Input struct {
	io.ReaderAt
	Size int64
}

// Output receives the new file from its first byte to its last. Copy, when
// set, appends the range [off, off+n) of the input without the bytes passing
// through this process.
type Output struct {
	io.Writer
	Copy func(off, n int64) error
}

// Rewrite applies an edit to src and writes the result to dst, which it
// neither closes nor aborts: close it on success, abort it on an error and
// when the Result says that no row is left.
func Rewrite(ctx context.Context, src storage.Object, dst storage.Writer, e rewriter.Edit, o rewriter.Options) (*rewriter.Result, error) {
	out := Output{Writer: dst}
	if c, ok := dst.(storage.RangeCopier); ok {
		out.Copy = func(off, n int64) error { return c.CopyRange(src, off, n) }
	}
	return RewriteTo(ctx, Input{src, src.Info().Size}, out, e, o)
}

// RewriteTo is Rewrite on plain readers and writers.
func RewriteTo(ctx context.Context, in Input, out Output, e rewriter.Edit, o rewriter.Options) (*rewriter.Result, error) {
	j, err := newJob(ctx, in, e, o)
	if err != nil {
		return nil, translate(err)
	}
	if j.res.RowsIn > 0 && j.plan.erase.GetCardinality() == uint64(j.res.RowsIn) {
		j.res.RowGroupsDropped = len(j.file.RowGroups)
		j.res.Engine = rewriter.Surgical
		return j.res, nil
	}
	s := newSink(ctx, in, out, !o.SkipDigest)
	defer s.close()
	if err := j.run(s); err != nil {
		return nil, translate(err)
	}
	j.res.BytesCopied, j.res.BytesReencoded = s.copied, s.encoded
	j.res.Size, j.res.SHA256 = s.pos, s.sum()
	return j.res, nil
}

// job is one rewrite: the open file, its footer as bytes to patch, the edit
// resolved against its schema.
type job struct {
	ctx    context.Context
	in     *cachedInput
	file   *pq.File
	footer *thriftpatch.Struct
	plan   *plan
	opts   rewriter.Options
	res    *rewriter.Result
}

func newJob(ctx context.Context, in Input, e rewriter.Edit, o rewriter.Options) (*job, error) {
	j := &job{ctx: ctx, in: &cachedInput{Input: in}, opts: o, res: &rewriter.Result{}}
	var err error
	if j.file, err = pq.Open(ctx, j.in, in.Size); err != nil {
		return nil, err
	}
	if j.footer, err = parseFooter(j.file); err != nil {
		return nil, err
	}
	if j.plan, err = resolve(j.file.Schema, e); err != nil {
		return nil, err
	}
	if err := j.plan.lineage.check(j.file.Schema); err != nil {
		return nil, err
	}
	j.res.RowsIn = j.file.Rows()
	if !j.plan.erase.IsEmpty() && j.plan.erase.Maximum() >= uint64(j.res.RowsIn) {
		return nil, fmt.Errorf("rows to erase lie beyond the file's %d rows", j.res.RowsIn)
	}
	return j, nil
}

// run picks the engine. Falling back is possible only while nothing is written,
// so the surgical path refuses before its first byte.
func (j *job) run(s *sink) error {
	if j.opts.Engine != rewriter.Reference {
		err := translate(runSurgical(j, s))
		var refused *rewriter.UnsupportedError
		if j.opts.Engine == rewriter.Surgical || s.pos > 0 || !errors.As(err, &refused) {
			j.res.Engine = rewriter.Surgical
			return err
		}
		*j.res = rewriter.Result{RowsIn: j.res.RowsIn, Fallback: refused.Error()}
	}
	j.res.Engine = rewriter.Reference
	return runReference(j, s)
}
