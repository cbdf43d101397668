package main

import (
	"bytes"
	"context"

	"github.com/expunge/expunge/rewriter"
	"github.com/expunge/expunge/storage"
)

// wrong changes a survivor and reports all as well.
type wrong struct{ lines }

func (w wrong) Rewrite(ctx context.Context, src storage.Object, dst storage.Writer, e rewriter.Edit, o rewriter.Options) (*rewriter.Result, error) {
	return w.lines.Rewrite(ctx, src, upper{dst}, e, o)
}

type upper struct{ storage.Writer }

func (u upper) Write(p []byte) (int, error) { return u.Writer.Write(bytes.ToUpper(p)) }
