package jobs

import (
	"context"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/rewriter"
	rewriteparquet "github.com/expunge/expunge/rewriter/parquet"
	"github.com/expunge/expunge/scanner"
	"github.com/expunge/expunge/verifier"
	"github.com/expunge/expunge/warehouse"
)

// ScanResult is what a scan of one file found.
type ScanResult struct {
	Rows      int64
	Hits      *roaring64.Bitmap // row positions that carry a key
	Elements  *roaring64.Bitmap // rewriter.ElementKeys of the elements that do, where they were asked for
	PerMatch  []int64
	Method    string
	BytesRead int64
	// Stale says that a key is left in the file that none of its rows has, where it
	// is to go: by match, nil = no.
	Stale []bool
	// Keys are the numbers (keyset.Set.Number) of the keys that were found, by
	// match: what requests and certificates are answered from.
	Keys []*roaring64.Bitmap
}

// Format scans and rewrites the files of one format. Implementations must be
// safe for concurrent use.
type Format interface {
	// Scan finds the rows that carry a key of any of the matches.
	Scan(ctx context.Context, src storage.Object, m []warehouse.BoundMatch) (*ScanResult, error)
	// Rewrite writes the survivors of an edit. It neither closes nor aborts dst.
	Rewrite(ctx context.Context, src storage.Object, dst storage.Writer, e rewriter.Edit, o rewriter.Options) (*rewriter.Result, error)
}

// Checked is a target that brings along the code which verifies it: package verifier
// reads Iceberg tables of Parquet files. The code must share nothing with the Format
// that scanned and rewrote, or it repeats its mistakes.
type Checked interface {
	warehouse.Target
	// Compare reads a replaced file and its replacement (none where r.New is empty) and says
	// whether the survivors are equal, how many rows went, and whether a key is found in each.
	Compare(ctx context.Context, r verifier.Rewrite) (*verifier.RewriteReport, error)
	// Look searches all that is stored of the target, history included where o.Metadata asks
	// for it, and reports one surface for each kind of place, found or not. o.Mode and o.Only
	// say which live files to read; a finding on verifier.LiveRows is verifier.Fail, others verifier.Residue.
	Look(ctx context.Context, m []warehouse.BoundMatch, o verifier.Options) (*verifier.Report, error)
}

// actionFormat is a Format whose rows can also be changed: redacted, or freed
// of elements. Without it only delete is possible.
type actionFormat interface {
	// ScanElements is Scan that also says which elements of a list or map carry the keys.
	ScanElements(ctx context.Context, src storage.Object, m []warehouse.BoundMatch, list warehouse.ColumnRef) (*ScanResult, error)
	// Pending returns those of the redactions' rows that do not yet hold what they are to be set to.
	Pending(ctx context.Context, src storage.Object, r []rewriter.Redaction) (*roaring64.Bitmap, error)
}

// parquetFormat is the format of Iceberg tables that expunge can rewrite.
type parquetFormat struct {
	residue bool // look for keys that no row has in all of the key columns
}

func (f parquetFormat) Scan(ctx context.Context, src storage.Object, m []warehouse.BoundMatch) (*ScanResult, error) {
	res, err := scanner.Parquet(ctx, src, scanner.Request{Match: scanMatches(m), Options: scanner.Options{Keys: true, Residue: f.residue}})
	if err != nil {
		return nil, err
	}
	return &ScanResult{Rows: res.Rows, Hits: res.Hits, PerMatch: res.PerMatch, Method: string(res.Method), BytesRead: res.BytesRead, Keys: res.Keys, Stale: res.Stale}, nil
}

func (parquetFormat) Rewrite(ctx context.Context, src storage.Object, dst storage.Writer, e rewriter.Edit, o rewriter.Options) (*rewriter.Result, error) {
	return rewriteparquet.Rewrite(ctx, src, dst, e, o)
}

func (f parquetFormat) ScanElements(ctx context.Context, src storage.Object, m []warehouse.BoundMatch, list warehouse.ColumnRef) (*ScanResult, error) {
	ref := refOf(list)
	res, err := scanner.Parquet(ctx, src, scanner.Request{Match: scanMatches(m), Options: scanner.Options{Elements: &ref, Keys: true}})
	if err != nil {
		return nil, err
	}
	out := &ScanResult{Rows: res.Rows, Hits: res.Hits, Elements: roaring64.New(), PerMatch: res.PerMatch, Method: string(res.Method),
		BytesRead: res.BytesRead, Keys: res.Keys, Stale: res.Stale}
	for _, e := range res.Elements {
		for i, row := range e.Rows {
			out.Elements.Add(rewriter.ElementKey(uint64(row), e.Index[i]))
		}
	}
	return out, nil
}

func (parquetFormat) Pending(ctx context.Context, src storage.Object, r []rewriter.Redaction) (*roaring64.Bitmap, error) {
	return rewriteparquet.Pending(ctx, rewriteparquet.Input{ReaderAt: src, Size: src.Info().Size}, r)
}

func scanMatches(m []warehouse.BoundMatch) []scanner.Match {
	out := make([]scanner.Match, len(m))
	for i, b := range m {
		cols, consts := make([]scanner.ColumnRef, len(b.Columns)), make([][]byte, len(b.Columns))
		for k, c := range b.Columns {
			cols[k], consts[k] = refOf(c), c.Const
		}
		out[i] = scanner.Match{Keys: b.Keys, Columns: cols, Consts: consts}
	}
	return out
}

// everywhere says that the job looks for residue in every file, as its
// verification does, and not only in those that it reads for their rows.
func (j *Job) everywhere() bool { return j.cfg.Verify.Mode == string(verifier.ModeFull) }

func (j *Job) format(name string) (Format, bool) {
	if f, ok := j.env.Formats[name]; ok {
		return f, true
	}
	if name == "parquet" {
		return parquetFormat{residue: j.everywhere()}, true
	}
	return nil, false
}

func refOf(c warehouse.ColumnRef) scanner.ColumnRef {
	return scanner.ColumnRef{FieldID: int32(c.FieldID), Path: c.Path, Names: c.Names}
}
