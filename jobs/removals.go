package jobs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"time"

	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/warehouse"
)

// removals is one attempt's list of physical deletes.
type removals struct {
	out *lines
}

func removalFile(dir string, attempt int) string { return fmt.Sprintf("%sattempt-%03d", dir, attempt) }

func (r *Run) openRemovals(ctx context.Context, dir string) (*removals, error) {
	for attempt := 1; ; attempt++ {
		in, err := r.st.Open(ctx, removalFile(dir, attempt))
		if err == nil {
			in.Close()
			continue
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("list removals: %w", err)
		}
		out, err := newLines(context.WithoutCancel(ctx), r.st, removalFile(dir, attempt))
		if err != nil {
			return nil, err
		}
		return &removals{out: out}, nil
	}
}

func (d *removals) record(_ context.Context, del warehouse.PhysicalDelete) error {
	return d.out.encode(del)
}

func (d *removals) close() error { return d.out.close() }

// deleteCounts sums up a list of removals.
type deleteCounts struct {
	Objects     int64            `json:"objects"`
	AlreadyGone int64            `json:"already_gone"`
	Kinds       map[string]int64 `json:"kinds,omitempty"`
	Stores      map[string]int64 `json:"stores,omitempty"` // by bucket
	First       time.Time        `json:"first,omitzero"`
	Last        time.Time        `json:"last,omitzero"`
}

func (c *deleteCounts) add(d warehouse.PhysicalDelete) {
	c.Objects++
	if d.Response == "already gone" {
		c.AlreadyGone++
	}
	if c.Kinds == nil {
		c.Kinds, c.Stores = map[string]int64{}, map[string]int64{}
	}
	c.Kinds[d.Kind]++
	c.Stores[storeOf(d.Path)]++
	if c.First.IsZero() || d.Time.Before(c.First) {
		c.First = d.Time
	}
	if d.Time.After(c.Last) {
		c.Last = d.Time
	}
}

// storeOf names the store of a path: its bucket, or the local disk.
func storeOf(path string) string {
	l := storage.ParseLocation(path)
	if l.Bucket == "" {
		return "local disk"
	}
	return l.Scheme + "://" + l.Bucket
}

func (c deleteCounts) addTo(m *manifests.Deletes) {
	m.Objects += c.Objects
	m.AlreadyGone += c.AlreadyGone
	m.ByKind = addCounts(m.ByKind, c.Kinds, func(o *manifests.KindCount) (*string, *int64) { return &o.Kind, &o.Objects })
	m.Stores = addCounts(m.Stores, c.Stores, func(o *manifests.StoreCount) (*string, *int64) { return &o.Store, &o.Objects })
	if f := optional(c.First); f != nil && (m.First == nil || f.Before(*m.First)) {
		m.First = f
	}
	if l := optional(c.Last); l != nil && (m.Last == nil || l.After(*m.Last)) {
		m.Last = l
	}
}

// addCounts adds counts to a list by name; names that it does not have yet come
// at its end, sorted.
func addCounts[T any](list []T, counts map[string]int64, of func(*T) (name *string, n *int64)) []T {
	for _, name := range sortedKeys(counts) {
		i := slices.IndexFunc(list, func(o T) bool { has, _ := of(&o); return *has == name })
		if i < 0 {
			var o T
			has, _ := of(&o)
			*has = name
			list = append(list, o)
			i = len(list) - 1
		}
		_, n := of(&list[i])
		*n += counts[name]
	}
	return list
}

// mergeRemovals joins the attempts' lists. A crash in a removal loses the list
// of its attempt: those objects are then listed as already gone by the next one.
func (r *Run) mergeRemovals(ctx context.Context, dir, file string) (counts deleteCounts, err error) {
	out, err := newLines(ctx, r.st, file)
	if err != nil {
		return counts, err
	}
	for d, err := range r.attemptRemovals(ctx, dir) {
		if err == nil {
			err = out.encode(d)
		}
		if err != nil {
			_ = out.close()
			return counts, err
		}
		counts.add(d)
	}
	return counts, out.close()
}

func (r *Run) attemptRemovals(ctx context.Context, dir string) iter.Seq2[warehouse.PhysicalDelete, error] {
	return func(yield func(warehouse.PhysicalDelete, error) bool) {
		for attempt := 1; ; attempt++ {
			name := removalFile(dir, attempt)
			for d, err := range state.ReadRecords[warehouse.PhysicalDelete](ctx, r.st, name) {
				if errors.Is(err, fs.ErrNotExist) {
					return
				}
				if !yield(d, err) || err != nil {
					return
				}
			}
			if in, err := r.st.Open(ctx, name); err != nil {
				return
			} else {
				in.Close()
			}
		}
	}
}
