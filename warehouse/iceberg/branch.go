package iceberg

import (
	"fmt"

	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/warehouse"
)

// Branch is the same table seen from one of its branches: what is planned,
// committed, purged and restored is the branch's, and its head moves instead of
// main's. Refs, history and files are the whole table's all the same.
func (t *Table) Branch(name string) *Table {
	return &Table{cat: t.cat, ident: t.ident, store: t.store, name: t.name + "@" + name, deletes: newDeleteCache(), branch: name}
}

// headRef is the branch whose head is the table's current snapshot here.
func (t *Table) headRef() string {
	if t.branch == "" {
		return table.MainBranch
	}
	return t.branch
}

// view is metadata as it is seen from the branch.
func (t *Table) view(meta table.Metadata) (table.Metadata, error) {
	if t.branch == "" {
		return meta, nil
	}
	head := meta.SnapshotByName(t.branch)
	if head == nil {
		return nil, fmt.Errorf("load table %s: the branch is gone: %w", t.name, warehouse.ErrNotFound)
	}
	return branchMetadata{meta, head}, nil
}

// branchMetadata is a table's metadata with a branch's head for the current snapshot.
type branchMetadata struct {
	table.Metadata
	head *table.Snapshot
}

// CurrentSnapshot is the branch's head.
func (m branchMetadata) CurrentSnapshot() *table.Snapshot { return m.head }

// setHead moves a branch and keeps the retention settings that the ref has.
func setHead(meta table.Metadata, branch string, id int64) table.Update {
	var refAge, snapAge int64
	var keep int
	for name, ref := range meta.Refs() {
		if name != branch {
			continue
		}
		if ref.MaxRefAgeMs != nil {
			refAge = *ref.MaxRefAgeMs
		}
		if ref.MaxSnapshotAgeMs != nil {
			snapAge = *ref.MaxSnapshotAgeMs
		}
		if ref.MinSnapshotsToKeep != nil {
			keep = *ref.MinSnapshotsToKeep
		}
	}
	return table.NewSetSnapshotRefUpdate(branch, id, table.BranchRef, refAge, snapAge, keep)
}
