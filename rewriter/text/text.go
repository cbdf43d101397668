// Package text rewrites files of records that are text, NDJSON and CSV, by
// their bytes: the scan has said which ranges of the content go or are
// replaced, and everything else comes out as it went in. Compressed frames
// without an edit are copied as they are stored.
package text

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"

	"github.com/expunge/expunge/internal/packed"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/rewriter"
)

// Layout is what a scan of the file found.
type Layout struct {
	Kind   packed.Kind
	Frames []packed.Frame
	Edits  []packed.Edit // sorted, apart from each other
}

// Rewrite writes src with the edits made to dst, which it neither closes nor
// aborts. Of the options it heeds SkipDigest: without a digest, ranges are
// copied by the store where it can. Row counts are the caller's to fill in.
func Rewrite(ctx context.Context, src storage.Object, dst storage.Writer, l Layout, o rewriter.Options) (*rewriter.Result, error) {
	res := &rewriter.Result{Engine: rewriter.Surgical}
	var h hash.Hash
	if !o.SkipDigest {
		h = sha256.New()
		dst = &hashing{dst, h}
	}
	stats, err := packed.Rewrite(ctx, src, dst, l.Kind, l.Frames, l.Edits)
	switch {
	case errors.Is(err, packed.ErrUnsupported):
		return nil, &rewriter.UnsupportedError{What: string(l.Kind) + " compression is read and not written"}
	case errors.Is(err, packed.ErrCorrupt):
		return nil, fmt.Errorf("%w: %w", rewriter.ErrCorrupt, err)
	case err != nil:
		return nil, err
	}
	res.BytesCopied, res.BytesReencoded = stats.Copied, stats.Encoded
	res.Size = stats.Copied + stats.Encoded
	if h != nil {
		h.Sum(res.SHA256[:0])
	}
	return res, nil
}

// hashing digests what is written. It does not copy ranges, so that all bytes
// pass.
type hashing struct {
	storage.Writer
	h hash.Hash
}

func (w *hashing) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	w.h.Write(p[:n])
	return n, err
}
