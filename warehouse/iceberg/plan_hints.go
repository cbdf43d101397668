package iceberg

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/warehouse"
)

// blockers lists the refs other than main: each may pin data that a run erases.
// What is done about them is the selection's policy.
func blockers(meta table.Metadata) []warehouse.Blocker {
	var out []warehouse.Blocker
	head := meta.CurrentSnapshot()
	for name, ref := range meta.Refs() {
		if name == table.MainBranch {
			continue
		}
		reason := "pins a snapshot that may hold rows to be erased"
		if ref.SnapshotRefType == table.BranchRef {
			reason = "is a branch of its own, whose rows a run on main does not touch"
		}
		if head != nil && ref.SnapshotID == head.SnapshotID {
			reason = "pins the head as it is before the run"
		}
		out = append(out, warehouse.Blocker{Ref: name, Type: string(ref.SnapshotRefType), SnapshotID: ref.SnapshotID, Reason: reason})
	}
	slices.SortFunc(out, func(a, b warehouse.Blocker) int { return strings.Compare(a.Ref, b.Ref) })
	return out
}

// streamWindow is how far back commits are looked at for signs of streaming.
const streamWindow = 24 * time.Hour

// warnings tell what a run may disturb, as far as metadata gives it away. An
// overwrite snapshot stops readers that follow a table's appends (Spark wants
// streaming-skip-overwrite-snapshots, Flink refuses it).
func warnings(ctx context.Context, meta table.Metadata) []string {
	var out []string
	props := meta.Properties()
	if strings.EqualFold(props["gc.enabled"], "false") {
		out = append(out, "gc.enabled is false: the table's owner does not want files removed, and a purge removes some")
	}
	if strings.EqualFold(props["write.wap.enabled"], "true") {
		out = append(out, "write.wap.enabled is true: staged snapshots that are published later may bring erased rows back")
	}
	engines := map[string]bool{}
	since := clock.Now(ctx).Add(-streamWindow).UnixMilli()
	appends := 0
	for _, s := range meta.Snapshots() {
		if s.TimestampMs < since || s.Summary == nil {
			continue
		}
		if s.Summary.Operation == table.OpAppend {
			appends++
		}
		for k := range s.Summary.Properties {
			switch {
			case strings.HasPrefix(k, "flink."):
				engines["Flink"] = true
			case strings.HasPrefix(k, "kafka.connect.") || strings.HasPrefix(k, "kafka-connect"):
				engines["Kafka Connect"] = true
			case strings.HasPrefix(k, "spark.sql.streaming.") || strings.Contains(k, "streaming.epochId"):
				engines["Spark Structured Streaming"] = true
			}
		}
	}
	for _, e := range sortedKeys(engines) {
		out = append(out, e+" streams into the table: its commits and the run's may conflict, which costs attempts and loses nothing")
	}
	if appends >= 24 {
		out = append(out, fmt.Sprintf("%d appends in 24 hours: readers that follow the appends meet an overwrite snapshot and may have to be told to skip it", appends))
	}
	return out
}
