package scanner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/sourcegraph/conc/pool"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/keyset"
)

// ColumnRef names a column by Iceberg field id or by path; see pq.Ref.
type ColumnRef = pq.Ref

// ParseColumn reads a written path: "a.list.element.b", "a.element.b",
// "$.a[*].b", "$['a.b'].c".
func ParseColumn(path string) (ColumnRef, error) {
	p, err := pq.ParsePath(path)
	return ColumnRef{Path: p}, err
}

// Match says which columns hold a keyset's keys, one a key part.
type Match struct {
	Keys    *keyset.Set
	Columns []ColumnRef
	// Consts are, by column, the canonical value that every row has where the
	// file lacks the column; nil, or nil for a column = NULL.
	Consts [][]byte
}

// Options tune a scan. The zero value is right for most.
type Options struct {
	// Workers is how many row groups are scanned at a time; 0 = GOMAXPROCS.
	Workers int
	// Window is how many bytes one read asks for at most, unless a page is
	// larger; 0 = 1 MiB.
	Window int
	// Gap is how many unneeded bytes between two pages are read rather than
	// starting another request; 0 = none, object stores want about 256 KiB.
	Gap int64
	// Elements, if set, names a list or map around the matches' columns: the
	// result then also says which of its elements hold the hits.
	Elements *ColumnRef
	// NoPruning reads every page of the key columns.
	NoPruning bool
	// Residue looks for keys that no row has everywhere in the key columns, at the
	// cost of reading all of their pages, and not only where the scan comes by.
	// It needs Keys, and is of single columns.
	Residue bool
	// Keys asks for the numbers of the keys that were found, by match.
	Keys bool
}

// Request is what to look for: a row is hit when any of the matches hits it.
type Request struct {
	Match []Match
	Options
}

// Method says how a file's result came about.
type Method string

// The methods.
const (
	MethodPruned Method = "pruned by statistics" // no data page was read
	MethodClean  Method = "scanned clean"
	MethodHits   Method = "hits"
	MethodAbsent Method = "key columns absent"
)

// Result is what a scan found.
type Result struct {
	Rows     int64             // rows of the file
	Hits     *roaring64.Bitmap // file row positions
	PerMatch []int64           // rows hit by each match; a row can be hit by several
	Elements []ElementHits     // by match, when Options.Elements is set
	// Keys are the numbers (keyset.Set.Number) of the keys that were found, by
	// match, when Options.Keys is set; nil = none of that match's.
	Keys []*roaring64.Bitmap
	// Stale says, by match, that a key is left where no row has it, in a
	// dictionary, a bound or a bloom filter. Only with Options.Keys.
	Stale  []bool
	Method Method
	// BytesRead is all that was read, KeyBytesRead the part of it that was
	// column chunk bytes.
	BytesRead, KeyBytesRead int64
	Pruning                 Pruning
	// KeyColumnsAbsent says that no match has all its columns in the file.
	KeyColumnsAbsent bool
}

// Pruning counts what was skipped and why, summed over the matches.
type Pruning struct {
	RowGroups             int // row groups times matches
	ByStatistics, ByBloom int // row groups skipped
	ByPageIndex           int // row groups skipped because no page can match
	ByDictionary          int // row groups whose dictionary has no key
	Pages, PagesRead      int // data pages of the key columns seen, and decoded
}

func (p *Pruning) add(o Pruning) {
	p.RowGroups += o.RowGroups
	p.ByStatistics += o.ByStatistics
	p.ByBloom += o.ByBloom
	p.ByPageIndex += o.ByPageIndex
	p.ByDictionary += o.ByDictionary
	p.Pages += o.Pages
	p.PagesRead += o.PagesRead
}

// ElementHits are one match's hits inside rows, ascending and distinct.
type ElementHits struct {
	Rows []int64 // file row positions, repeated for several elements of a row
	// Index is the ordinal of the element in its row, from 0, in storage order,
	// across all instances of the list where that lies in a list itself.
	Index []uint32
}

// Source is a file to scan.
type Source interface {
	io.ReaderAt
	Info() storage.Info
}

// Parquet finds the rows of a Parquet file that hold a key. Errors of the file
// wrap pq.ErrCorrupt or pq.ErrUnsupported; a column that cannot be compared
// with its key part gives keyset.ErrType.
func Parquet(ctx context.Context, src Source, req Request) (*Result, error) {
	return ParquetAt(ctx, src, src.Info().Size, req)
}

// ParquetAt is Parquet for any io.ReaderAt.
func ParquetAt(ctx context.Context, r io.ReaderAt, size int64, req Request) (*Result, error) {
	if len(req.Match) == 0 {
		return nil, errors.New("scan: nothing to match")
	}
	counter := &countingReader{r: r}
	f, err := pq.Open(ctx, counter, size)
	if err != nil {
		return nil, fmt.Errorf("scan: %w", err)
	}
	res := &Result{
		Rows: f.Rows(), Hits: roaring64.New(), PerMatch: make([]int64, len(req.Match)),
		Elements: make([]ElementHits, len(req.Match)), Stale: make([]bool, len(req.Match)),
	}
	if req.Keys {
		res.Keys = make([]*roaring64.Bitmap, len(req.Match))
	}
	matches, err := bind(f, req)
	if err != nil {
		return nil, fmt.Errorf("scan: %w", err)
	}
	if len(matches) == 0 {
		res.KeyColumnsAbsent, res.Method, res.BytesRead = true, MethodAbsent, counter.n.Load()
		return res, nil
	}
	found, err := scanRowGroups(ctx, f, matches, req.Options)
	if err != nil {
		return nil, fmt.Errorf("scan: %w", err)
	}
	for _, g := range found {
		res.merge(g)
	}
	res.BytesRead = counter.n.Load()
	res.Method = res.method()
	if req.Elements == nil {
		res.Elements = nil
	}
	return res, nil
}

func (r *Result) method() Method {
	switch {
	case !r.Hits.IsEmpty():
		return MethodHits
	case r.Pruning.PagesRead == 0:
		return MethodPruned
	}
	return MethodClean
}

// scanRowGroups scans the row groups on a bounded number of goroutines. Results
// are in file order.
func scanRowGroups(ctx context.Context, f *pq.File, matches []*boundMatch, o Options) ([]*groupResult, error) {
	workers := o.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	found := make([]*groupResult, len(f.RowGroups))
	if workers == 1 || len(f.RowGroups) == 1 {
		w := newWorker(o)
		for i, g := range f.RowGroups {
			var err error
			if found[i], err = w.rowGroup(ctx, g, matches); err != nil {
				return nil, err
			}
		}
		return found, nil
	}
	p := pool.New().WithContext(ctx).WithCancelOnError().WithFirstError().WithMaxGoroutines(min(workers, max(1, len(f.RowGroups))))
	idle := make(chan *worker, workers)
	for i, g := range f.RowGroups {
		p.Go(func(ctx context.Context) error {
			var w *worker
			select {
			case w = <-idle:
			default:
				w = newWorker(o)
			}
			var err error
			found[i], err = w.rowGroup(ctx, g, matches)
			select {
			case idle <- w:
			default:
			}
			return err
		})
	}
	if err := p.Wait(); err != nil {
		return nil, err
	}
	return found, nil
}

// groupResult is what one row group gave.
type groupResult struct {
	firstRow int64
	matches  []matchResult
	pruning  Pruning
	keyBytes int64
}

// matchResult holds positions in the row group, ascending; a row is repeated
// when several of its elements match.
type matchResult struct {
	match    int // index in the request
	rows     []int64
	elements []uint32          // beside rows, when asked for
	keys     *roaring64.Bitmap // numbers of the keys, when asked for
	stale    bool              // a key is left that no row has
}

func (r *Result) merge(g *groupResult) {
	r.Pruning.add(g.pruning)
	r.KeyBytesRead += g.keyBytes
	batch := make([]uint64, 0, 1024)
	for _, m := range g.matches {
		r.Stale[m.match] = r.Stale[m.match] || m.stale
		last := int64(-1)
		for _, row := range m.rows {
			if row == last {
				continue
			}
			last = row
			r.PerMatch[m.match]++
			if batch = append(batch, uint64(g.firstRow+row)); len(batch) == cap(batch) {
				r.Hits.AddMany(batch)
				batch = batch[:0]
			}
		}
		r.Hits.AddMany(batch)
		batch = batch[:0]
		if m.keys != nil && r.Keys[m.match] == nil {
			r.Keys[m.match] = m.keys
		} else if m.keys != nil {
			r.Keys[m.match].Or(m.keys)
		}
		e := &r.Elements[m.match]
		for i, index := range m.elements {
			row := g.firstRow + m.rows[i]
			if n := len(e.Rows); n > 0 && e.Rows[n-1] == row && e.Index[n-1] == index {
				continue // a list inside the element has several hits
			}
			e.Rows, e.Index = append(e.Rows, row), append(e.Index, index)
		}
	}
}

// countingReader counts the bytes that were read.
type countingReader struct {
	r io.ReaderAt
	n atomic.Int64
}

func (c *countingReader) ReadAt(b []byte, off int64) (int, error) {
	n, err := c.r.ReadAt(b, off)
	c.n.Add(int64(n))
	return n, err
}
