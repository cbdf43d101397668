package jobs

import (
	"context"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/expunge/expunge/rewriter"
	"github.com/expunge/expunge/warehouse"
)

// change is what the target's action makes of one file: which rows go, which
// stay and change, and the edit that does it.
type change struct {
	edit           rewriter.Edit
	erased         *roaring64.Bitmap // live rows that go
	changed        *roaring64.Bitmap // live rows that stay and change
	alreadyDeleted *roaring64.Bitmap
}

// id names the change in an output's name: other rows give another name.
func (c *change) id() string {
	id := bitmapDigest(c.edit.Erase) + bitmapDigest(c.changed)
	if c.edit.Wipe {
		id += "wipe"
	}
	for _, r := range c.edit.Remove {
		id += bitmapDigest(r.Elements)
	}
	return id
}

// scan finds the matching rows, and with them the elements to remove.
func (f fileWork) scan(ctx context.Context) (*ScanResult, error) {
	if f.t.action.Kind != warehouse.RemoveElement {
		return f.format.Scan(ctx, f.src, f.task.File.Bind(f.t.bound))
	}
	a, err := f.actions()
	if err != nil {
		return nil, err
	}
	return a.ScanElements(ctx, f.src, f.task.File.Bind(f.t.bound), f.t.action.Element)
}

func (f fileWork) actions() (actionFormat, error) {
	a, ok := f.format.(actionFormat)
	if !ok {
		return nil, &rewriter.UnsupportedError{What: "action " + f.t.action.Kind + " in this format"}
	}
	return a, nil
}

// pending narrows a scan to the rows that are left to do. A redaction keeps
// the key, so that the next run finds the row again: one that already holds
// what it is to be set to is done.
func (f fileWork) pending(ctx context.Context, scan *ScanResult) (*roaring64.Bitmap, error) {
	if f.t.action.Kind != warehouse.Redact || scan.Hits.IsEmpty() {
		return scan.Hits, nil
	}
	a, err := f.actions()
	if err != nil {
		return nil, err
	}
	return a.Pending(ctx, f.src, f.t.redactions(scan.Hits))
}

// change works out what becomes of a file with matching rows. Tombstoned rows
// go whatever the action: nobody reads them, and they hold the same values.
func (f fileWork) change(ctx context.Context, scan *ScanResult, pending *roaring64.Bitmap) (*change, error) {
	deleted, err := f.t.target.Deleted(ctx, f.task)
	if err != nil {
		return nil, fmt.Errorf("read tombstones: %w", err)
	}
	live := roaring64.AndNot(pending, deleted)
	c := &change{edit: rewriter.Edit{Erase: deleted}, erased: roaring64.New(), changed: roaring64.New(), alreadyDeleted: deleted}
	switch f.t.action.Kind {
	case warehouse.Redact:
		c.changed = live
		c.edit.Redact = f.t.redactions(live)
	case warehouse.RemoveElement:
		c.changed = live
		c.edit.Remove = []rewriter.Removal{{Column: column(f.t.action.Element), Elements: scan.Elements}}
	default:
		c.erased = live
		c.edit.Erase = roaring64.Or(pending, deleted)
	}
	if id := f.task.File.FirstRowID; id != nil {
		c.edit.Lineage = &rewriter.Lineage{FirstRowID: *id, Sequence: f.task.File.DataSequence}
	}
	return c, nil
}

// redactions are the action's columns in the given rows.
func (t *boundTarget) redactions(rows *roaring64.Bitmap) []rewriter.Redaction {
	out := make([]rewriter.Redaction, len(t.action.Redact))
	for i, r := range t.action.Redact {
		out[i] = rewriter.Redaction{Rows: rows, Column: column(r.Column), Constant: r.Constant}
	}
	return out
}

// column is a column that an older file may lack: it reads as null there.
func column(c warehouse.ColumnRef) rewriter.Column {
	return rewriter.Column{FieldID: int32(c.FieldID), Path: c.Path, Names: c.Names, AllowMissing: true}
}

// explicitAction refuses to delete rows for a match inside a list or map where
// the job file does not say so: it may mean the element. The job file's check
// sees the path only; the schema knows.
func explicitAction(t *boundTarget) error {
	if !t.cfg.Action.Implied {
		return nil
	}
	for i, m := range t.bound {
		for k, c := range m.Columns {
			if c.Repeated {
				return fmt.Errorf("table %s: match column %q lies in a list or map: say with action whether the row goes (delete), the element (remove_element) or values (redact): %w",
					t.name, t.sel.Match[i].Columns[k], ErrUsage)
			}
		}
	}
	return nil
}

// onlyDeletes refuses to restore what no forward commit can bring back: changed
// rows of tables. Objects are restored as wholes.
func (r *Run) onlyDeletes(slots []int) error {
	i := slices.IndexFunc(slots, func(s int) bool { return r.targets[s].prefix() == nil && !r.targets[s].sel.Action.Deletes() })
	if i < 0 {
		return nil
	}
	t := r.targets[slots[i]]
	what := "redacted values"
	if t.action.Kind == warehouse.RemoveElement {
		what = "removed elements"
	}
	c := r.progress.committed[t.slot]
	return fmt.Errorf("%s: restore adds erased rows back; %s belong to rows that stayed, and that others may have changed since. "+
		"Until the grace ends they can be read at snapshot %d and merged by hand: %w", t.name, what, c.Before.SnapshotID, ErrUsage)
}
