package jobs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/sourcegraph/conc/pool"
	"github.com/zeebo/xxh3"

	"github.com/expunge/expunge/internal/bare"
	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/warehouse"
)

// historian is a target that can name the files which only its history reaches.
type historian interface {
	History(ctx context.Context, sel warehouse.Selection, visit func(warehouse.File) error) error
}

// historyRecord says which keys only history holds: rows of old snapshots, or
// noncurrent versions of objects. Requests and certificates tell of them.
type historyRecord struct {
	Keys  [][]byte `json:"keys"`            // by match, as warehouse.Result has them
	Files string   `json:"files,omitempty"` // sealed list of warehouse.Held
}

// heldKeys collects what history holds of a slot. The journal has every key
// before the copy that holds it may be removed; the list of files is written
// beside it, and a crash may cut it short.
type heldKeys struct {
	r    *Run
	slot int
	file string
	out  *lines

	mu    sync.Mutex
	noted bool                // the journal names the list
	known []*roaring64.Bitmap // by match: in the journal
	seen  []*roaring64.Bitmap // by match: in this look
}

// historyOf opens the collection of a slot.
func (r *Run) historyOf(ctx context.Context, t *boundTarget) (*heldKeys, error) {
	h := &heldKeys{r: r, slot: t.slot, file: fmt.Sprintf("history/%d/%03d", t.slot, len(r.progress.history[t.slot]))}
	var err error
	if h.known, err = r.progress.heldIn(t.slot, len(t.sel.Match)); err != nil {
		return nil, err
	}
	for range t.sel.Match {
		h.seen = append(h.seen, roaring64.New())
	}
	h.out, err = newLines(ctx, r.st, h.file)
	return h, err
}

// found takes in a copy with keys, before it is removed.
func (h *heldKeys) found(ctx context.Context, held warehouse.Held) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.out.encode(held); err != nil {
		return fmt.Errorf("note what history holds: %w", err)
	}
	fresh := false
	for i, raw := range held.Keys {
		b, err := numbersOf(raw)
		if err != nil {
			return err
		}
		if b == nil || i >= len(h.known) {
			continue
		}
		before := h.known[i].GetCardinality()
		h.known[i].Or(b)
		h.seen[i].Or(b)
		fresh = fresh || h.known[i].GetCardinality() > before
	}
	if h.noted && !fresh {
		return nil
	}
	h.noted = true
	keys, err := warehouse.KeyNumbers(h.known)
	if err != nil {
		return err
	}
	return h.r.note(ctx, evHistory, fmt.Sprint(h.slot), historyRecord{Keys: keys, Files: h.file})
}

func (h *heldKeys) close() error { return h.out.close() }

// heldIn unites what the journal says of a slot's history.
func (p *progress) heldIn(slot, matches int) ([]*roaring64.Bitmap, error) {
	out := make([]*roaring64.Bitmap, matches)
	for i := range out {
		out[i] = roaring64.New()
	}
	for _, rec := range p.history[slot] {
		for i, raw := range rec.Keys {
			b, err := numbersOf(raw)
			if err != nil {
				return nil, err
			}
			if b != nil && i < matches {
				out[i].Or(b)
			}
		}
	}
	return out, nil
}

// numbersOf reads key numbers; nil = there are none.
func numbersOf(raw []byte) (*roaring64.Bitmap, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	b := roaring64.New()
	if _, err := b.ReadFrom(bytes.NewReader(raw)); err != nil {
		return nil, fmt.Errorf("key numbers: %w", state.ErrCorrupt)
	}
	return b, nil
}

// lookIntoHistory notes, before a purge or where none follows at once, which
// keys the data files of old snapshots hold that the run has not replaced: other
// tools erased those rows from the head. Objects are asked one by one, by the
// purge or the verification that reads them anyway.
func (r *Run) lookIntoHistory(ctx context.Context, t *boundTarget) error {
	target, ok := t.target.(historian)
	if !ok || len(t.bound) == 0 || bare.Is(ctx) {
		return nil
	}
	replaced, err := r.replaced(ctx, t.slot)
	if err != nil {
		return err
	}
	h, err := r.historyOf(ctx, t)
	if err != nil {
		return err
	}
	p := pool.New().WithMaxGoroutines(r.job.workers()).WithContext(ctx).WithCancelOnError().WithFirstError()
	err = target.History(ctx, t.sel, func(f warehouse.File) error {
		if !replaced[xxh3.HashString(storage.Canonical(f.Path))] {
			p.Go(func(ctx context.Context) error { return h.scan(ctx, t, f) })
		}
		return ctx.Err()
	})
	if err := errors.Join(p.Wait(), err, h.close()); err != nil {
		return fmt.Errorf("look into history: %w", err)
	}
	return nil
}

// scan looks for keys in one file. What cannot be read is not told: the purge
// does not wait for it.
func (h *heldKeys) scan(ctx context.Context, t *boundTarget, f warehouse.File) error {
	format, ok := h.r.job.format(f.Format)
	if !ok {
		return nil
	}
	store, err := h.r.job.targetStore(ctx, t.name)
	if err != nil {
		return err
	}
	res, err := scanFile(ctx, store, format, t, f)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			h.r.job.env.Log.WarnContext(ctx, "a file of an old snapshot cannot be told from others in requests", "target", t.name, "class", errorClass(err))
		}
		return nil
	}
	if res.Hits.IsEmpty() {
		return nil
	}
	keys, err := warehouse.KeyNumbers(res.Keys)
	if err != nil {
		return err
	}
	return h.found(ctx, warehouse.Held{Path: f.Path, Keys: keys})
}

func scanFile(ctx context.Context, store storage.Store, format Format, t *boundTarget, f warehouse.File) (*ScanResult, error) {
	src, err := store.Open(ctx, f.Path)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	return format.Scan(ctx, src, f.Bind(t.bound))
}

// heldFiles streams the copies that history held of a slot.
func (r *Run) heldFiles(ctx context.Context, slot int, visit func(warehouse.Held)) error {
	seen := map[string]bool{}
	for _, rec := range r.progress.history[slot] {
		if rec.Files == "" || seen[rec.Files] {
			continue
		}
		seen[rec.Files] = true
		for h, err := range state.ReadRecords[warehouse.Held](ctx, r.st, rec.Files) {
			if errors.Is(err, fs.ErrNotExist) {
				break // a crash lost the list; the journal has the keys
			}
			if err != nil {
				return fmt.Errorf("read what history held: %w", err)
			}
			visit(h)
		}
	}
	return nil
}
