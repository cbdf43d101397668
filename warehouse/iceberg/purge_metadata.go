package iceberg

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"strings"

	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/internal/storage"
)

// removeOldVersions removes metadata.json versions from before the run's commit,
// and those that mention a snapshot which this purge expired: their properties,
// statistics and snapshot summaries may tell of erased values (Spark writes
// "partitions.id=42" there, and its expiry keeps the versions), and their lists
// of snapshots only mislead now. Versions that an attempt of this run wrote and
// could not commit go as well.
//
// The version that the catalog points to is never touched, nor is one of
// another table, nor a later one that mentions only remaining snapshots. A writer that
// prepares a commit on top of expired history writes such a file too; its
// commit fails then as it would anyway, since the head has moved. Entries of
// the metadata log that name removed versions stay, since no metadata update
// edits the log and no table property may be changed; the specification allows
// logs to be trimmed and nothing that reads a table opens them.
func (p *purge) removeOldVersions(ctx context.Context, r *remover, tbl *table.Table, in *intent) error {
	gone := map[int64]bool{}
	for _, s := range in.Snapshots {
		gone[s.ID] = true
	}
	outdated := func(id int64, summary map[string]string) bool {
		if gone[id] {
			return true
		}
		return tbl.Metadata().SnapshotByID(id) == nil &&
			(summary[propRun] == p.req.RunID || summary[propPurged] == p.req.RunID)
	}
	// The table may have moved on since: what is current now must stay.
	now, err := p.t.load(ctx)
	if err != nil {
		return err
	}
	current := map[string]bool{canonical(now.MetadataLocation()): true, canonical(tbl.MetadataLocation()): true}
	uuid := tbl.Metadata().TableUUID().String()
	check := func(path string) error {
		if current[canonical(path)] {
			return nil
		}
		since := p.since
		if p.earlier.has(keyOf(canonical(path))) {
			since = math.MaxInt64
		}
		mentions, err := p.t.mentions(ctx, path, uuid, since, outdated)
		if err != nil || !mentions {
			return err
		}
		return r.remove(ctx, path, kindMetadata, func() { p.out.FilesRemoved++ })
	}
	seen := pathSet{}
	for e := range tbl.Metadata().PreviousFiles() {
		seen.add(keyOf(canonical(e.MetadataFile)))
		if err := check(e.MetadataFile); err != nil {
			return err
		}
	}
	for info, err := range p.t.store.List(ctx, metadataDir(tbl.Metadata())+"/") {
		if err != nil {
			return fmt.Errorf("list metadata versions: %w", hide(err))
		}
		if !isMetadataFile(info.Path) || seen.has(keyOf(canonical(info.Path))) {
			continue
		}
		if err := check(info.Path); err != nil {
			return err
		}
	}
	return r.flush(ctx)
}

func isMetadataFile(path string) bool {
	return strings.HasSuffix(path, ".metadata.json") || strings.HasSuffix(path, ".metadata.json.gz")
}

// foundClean is when the version that a run left as it was had been written: its
// rows hold no key, and what older versions tell of somebody may, however young
// their last snapshot is. Those that its log names were written before it, if only
// in the same millisecond.
func (p *purge) foundClean(ctx context.Context, since int64) (int64, error) {
	c := p.req.Committed
	if !c.NoChange || c.After.MetadataLocation == "" {
		return since, nil
	}
	raw, err := storage.ReadAll(ctx, p.t.store, c.After.MetadataLocation)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, storage.ErrUnsupported) || errors.Is(err, storage.ErrScheme) {
		return since, nil // removed since, or an address of the catalog's own
	}
	if err != nil {
		return since, fmt.Errorf("read metadata version: %w", hide(err))
	}
	md, ok := parseVersion(raw)
	if !ok || !strings.EqualFold(md.UUID, c.After.UUID) {
		return since, nil
	}
	p.earlier = pathSet{}
	for _, e := range md.Log {
		p.earlier.add(keyOf(canonical(e.File)))
	}
	return max(since, md.Updated), nil
}

// mentions says whether a metadata file of this table lists a snapshot of the
// kind asked for, or was written before a time (in ms). One that is missing or
// unreadable does not.
func (t *Table) mentions(ctx context.Context, path, uuid string, before int64, kind func(id int64, summary map[string]string) bool) (bool, error) {
	raw, err := storage.ReadAll(ctx, t.store, path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read metadata version: %w", hide(err))
	}
	md, ok := parseVersion(raw)
	if !ok || !strings.EqualFold(md.UUID, uuid) {
		return false, nil
	}
	for _, s := range md.Snapshots {
		if kind(s.ID, s.Summary) {
			return true, nil
		}
	}
	return md.Updated > 0 && md.Updated < before, nil
}

// metadataVersion is what a metadata file says of its table and snapshots.
type metadataVersion struct {
	UUID      string `json:"table-uuid"`
	Updated   int64  `json:"last-updated-ms"`
	Snapshots []struct {
		ID      int64             `json:"snapshot-id"`
		Summary map[string]string `json:"summary"`
	} `json:"snapshots"`
	Log []struct {
		File string `json:"metadata-file"`
	} `json:"metadata-log"`
}

func parseVersion(raw []byte) (md metadataVersion, ok bool) {
	if bytes.HasPrefix(raw, []byte{0x1f, 0x8b}) {
		var err error
		if raw, err = gunzip(raw); err != nil {
			return md, false
		}
	}
	return md, json.Unmarshal(raw, &md) == nil
}

// maxMetadata bounds what a compressed metadata file may unpack to.
const maxMetadata = 1 << 30

func gunzip(raw []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(r, maxMetadata))
}
