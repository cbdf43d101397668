package iceberg

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/iceberg-go/table"
)

// protectRef names the tag that protects the snapshot before a run's commit.
func protectRef(runID string, group int) string {
	if group == 0 {
		return "expunge-" + runID
	}
	return "expunge-" + runID + ".g" + strconv.Itoa(group)
}

var protectSuffix = regexp.MustCompile(`^(\.g\d+)?(\.s\d+)?$`)

// protectsRun says whether a ref is a protecting tag of the run, of any group.
func protectsRun(name string, ref table.SnapshotRef, runID string) bool {
	rest, ok := strings.CutPrefix(name, protectRef(runID, 0))
	return ok && ref.SnapshotRefType == table.TagRef && protectSuffix.MatchString(rest)
}

// isProtectRef tells tags of ours from those of people.
func isProtectRef(name string, ref table.SnapshotRef) bool {
	return ref.SnapshotRefType == table.TagRef && strings.HasPrefix(name, "expunge-")
}

// ancestors walks from a snapshot to the oldest one that the metadata still
// has. complete says that it ended at a snapshot without a parent and not at
// one whose parent was expired.
func ancestors(meta table.Metadata, from *table.Snapshot) (chain []*table.Snapshot, complete bool) {
	for s := from; s != nil; {
		chain = append(chain, s)
		if s.ParentSnapshotID == nil || len(chain) > len(meta.Snapshots()) {
			return chain, true
		}
		s = meta.SnapshotByID(*s.ParentSnapshotID)
	}
	return chain, false
}

// onMain says that the snapshot belongs to the history of main's head. Where
// history between the two was expired, the order of sequence numbers (or of
// times, in format 1) has to do.
func onMain(meta table.Metadata, snap *table.Snapshot) bool {
	return leadsTo(meta, snap, meta.CurrentSnapshot())
}

// leadsTo is onMain for any head.
func leadsTo(meta table.Metadata, snap, head *table.Snapshot) bool {
	chain, complete := ancestors(meta, head)
	if slices.ContainsFunc(chain, func(s *table.Snapshot) bool { return s.SnapshotID == snap.SnapshotID }) {
		return true
	}
	if complete || len(chain) == 0 {
		return false
	}
	return older(snap, chain[len(chain)-1])
}

// older orders two snapshots of one table.
func older(a, b *table.Snapshot) bool {
	if a.SequenceNumber != b.SequenceNumber {
		return a.SequenceNumber < b.SequenceNumber
	}
	return a.TimestampMs < b.TimestampMs
}

// marked finds the snapshot of main's history whose summary has all the properties.
func marked(meta table.Metadata, props map[string]string) *table.Snapshot {
	for _, s := range meta.Snapshots() {
		if s.Summary == nil {
			continue
		}
		all := true
		for k, v := range props {
			all = all && s.Summary.Properties[k] == v
		}
		if all && onMain(meta, &s) {
			return meta.SnapshotByID(s.SnapshotID)
		}
	}
	return nil
}

// ourCommit finds the snapshot that a run's group has committed already. One
// that was rolled back does not count: its sources are live again.
func ourCommit(meta table.Metadata, runID string, group int) *table.Snapshot {
	return marked(meta, map[string]string{propRun: runID, propGroup: strconv.Itoa(group)})
}
