package iceberg

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/internal/storage"
)

// intent says which snapshots a purge expires. It is written to the table's
// metadata folder before the swap that forgets them: should the process die
// between the swap and the last removal, a later call finds their manifest
// lists in it, and through those every file that is still to be removed. It
// holds paths of manifest lists and statistics files only, never a key.
type intent struct {
	Version   int            `json:"version"`
	Snapshots []goneSnapshot `json:"snapshots"`
	Stats     []goneStats    `json:"statistics,omitempty"`
}

// goneSnapshot is an expired snapshot's entry to its files.
type goneSnapshot struct {
	ID        int64    `json:"id"`
	List      string   `json:"manifest_list,omitempty"`
	Manifests []string `json:"manifests,omitempty"` // embedded, in format 1
}

type goneStats struct {
	Snapshot int64  `json:"snapshot"`
	Path     string `json:"path"`
}

func intentPath(meta table.Metadata, runID string) string {
	return metadataDir(meta) + "/" + runPrefix(runID) + "purge.json"
}

// readIntent returns what a former call wrote down, or an empty intent.
func (t *Table) readIntent(ctx context.Context, meta table.Metadata, runID string) (*intent, error) {
	in := &intent{Version: 1}
	raw, err := storage.ReadAll(ctx, t.store, intentPath(meta, runID))
	if errors.Is(err, fs.ErrNotExist) {
		return in, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read purge intent: %w", err)
	}
	if err := json.Unmarshal(raw, in); err != nil || in.Version != 1 {
		return nil, fmt.Errorf("purge intent of the run is unreadable; remove it to have its files left as orphans")
	}
	return in, nil
}

func (t *Table) writeIntent(ctx context.Context, meta table.Metadata, runID string, in *intent) error {
	raw, err := json.Marshal(in)
	if err != nil {
		return err
	}
	if err := storage.WriteAll(ctx, t.store, intentPath(meta, runID), raw, storage.CreateOptions{}); err != nil {
		return fmt.Errorf("write purge intent: %w", err)
	}
	return nil
}

// add takes snapshots in and says whether that changed anything.
func (in *intent) add(meta table.Metadata, snaps []table.Snapshot) bool {
	have := map[int64]bool{}
	for _, s := range in.Snapshots {
		have[s.ID] = true
	}
	fresh := map[int64]bool{}
	for _, s := range snaps {
		if have[s.SnapshotID] {
			continue
		}
		fresh[s.SnapshotID] = true
		g := goneSnapshot{ID: s.SnapshotID, List: s.ManifestList}
		if s.ManifestList == "" {
			g.Manifests = s.ManifestLocations
		}
		in.Snapshots = append(in.Snapshots, g)
	}
	for s := range meta.Statistics() {
		if fresh[s.SnapshotID] {
			in.Stats = append(in.Stats, goneStats{Snapshot: s.SnapshotID, Path: s.StatisticsPath})
		}
	}
	for s := range meta.PartitionStatistics() {
		if fresh[s.SnapshotID] {
			in.Stats = append(in.Stats, goneStats{Snapshot: s.SnapshotID, Path: s.StatisticsPath})
		}
	}
	return len(fresh) > 0
}

// expired drops what the metadata still has: a swap that never happened, or a
// snapshot that came back.
func (in *intent) expired(meta table.Metadata) *intent {
	out := &intent{Version: in.Version}
	for _, s := range in.Snapshots {
		if meta.SnapshotByID(s.ID) == nil {
			out.Snapshots = append(out.Snapshots, s)
		}
	}
	for _, s := range in.Stats {
		if meta.SnapshotByID(s.Snapshot) == nil {
			out.Stats = append(out.Stats, s)
		}
	}
	return out
}

// snapshot is a goneSnapshot as the library wants it.
func (g goneSnapshot) snapshot() table.Snapshot {
	return table.Snapshot{SnapshotID: g.ID, ManifestList: g.List, ManifestLocations: g.Manifests}
}
