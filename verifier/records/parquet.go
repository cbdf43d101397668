package records

import (
	"context"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/verifier"
	"github.com/expunge/expunge/warehouse"
)

// twoFiles is a store that has the two contents of one object under names of
// their own, for package verifier, which knows paths only.
type twoFiles struct {
	storage.Store
	objects map[string]storage.Object
}

const oldName, newName = "old content", "new content"

// Open opens one of the two; closing it closes nothing.
func (t twoFiles) Open(_ context.Context, path string) (storage.Object, error) {
	if o, ok := t.objects[path]; ok {
		return unclosed{o}, nil
	}
	return nil, storage.NewError("open", path, nil, "", nil)
}

type unclosed struct{ storage.Object }

func (unclosed) Close() error { return nil }

// compareParquet: records of Parquet objects can be deleted only.
func compareParquet(ctx context.Context, old, now storage.Object, r Rules) (*verifier.RewriteReport, error) {
	s := twoFiles{objects: map[string]storage.Object{oldName: old}}
	rw := verifier.Rewrite{Old: warehouse.File{Path: oldName, Size: old.Info().Size}, Matches: r.Matches}
	if now != nil {
		s.objects[newName] = now
		rw.New, rw.NewSize = newName, now.Info().Size
	}
	if !r.Every {
		return verifier.Survivors(ctx, s, rw)
	}
	// Every row had to go, so there can be no new content.
	rep := &verifier.RewriteReport{Equal: now == nil, ControlBefore: true}
	n, err := countParquet(ctx, old, r)
	if err != nil {
		return nil, err
	}
	rep.RowsOld, rep.Erased, rep.BytesRead = n.Rows, n.Rows, n.BytesRead
	return rep, nil
}

func countParquet(ctx context.Context, obj storage.Object, r Rules) (*Counted, error) {
	s := twoFiles{objects: map[string]storage.Object{oldName: obj}}
	rep, err := verifier.Survivors(ctx, s, verifier.Rewrite{Old: warehouse.File{Path: oldName, Size: obj.Info().Size}, Matches: r.Matches})
	if err != nil {
		return nil, err
	}
	n := &Counted{Rows: rep.RowsOld, Hits: rep.Erased, BytesRead: rep.BytesRead}
	if r.Every {
		n.Hits = n.Rows
	}
	return n, nil
}
