package verifier

import (
	"context"
	"time"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/warehouse"
)

// Surfaces: the places where erased values hide.
const (
	LiveRows        = "live rows"               // rows that a reader of the head sees
	TombstonedRows  = "tombstoned rows"         // rows hidden by delete files, still stored
	History         = "history"                 // rows of other snapshots and refs
	DataPages       = "data pages"              // every value of every page
	Dictionaries    = "dictionary pages"        // entries that no row refers to
	Statistics      = "statistics"              // page headers and column chunks
	PageIndexes     = "column index"            // page bounds
	BloomFilters    = "bloom filters"           // hit rate against the expected one
	FileMetadata    = "file key-value metadata" // text in the footer
	FileGaps        = "unaccounted bytes"       // bytes of a file that nothing refers to
	ManifestBounds  = "manifest bounds"         // lower and upper bounds, DELETED entries included
	PartitionValues = "partition values"        // in manifests, DELETED entries included
	ListSummaries   = "manifest list summaries" // partition ranges
	EqualityDeletes = "equality delete files"   // they are keys
	PositionDeletes = "position delete files"   // may carry rows
	Puffin          = "puffin files"            // statistics and deletion vectors
	Paths           = "file paths"              // partition values in names
	TableMetadata   = "table metadata files"    // metadata.json, all versions
	Orphans         = "orphan files"            // stored under the location, referenced by nothing
)

// PurgeSurfaces are those that a purge of history cleans.
var PurgeSurfaces = []string{History, ManifestBounds, PartitionValues, ListSummaries, EqualityDeletes, PositionDeletes, Puffin, Paths, TableMetadata}

// Results of a surface; manifests uses the same words.
const (
	Pass       = "pass"
	Fail       = "fail"
	Residue    = "residue"
	NotChecked = "not_checked"
	NotPresent = "not_present"
)

// Surface is what was seen of one surface.
type Surface struct {
	Name        string `json:"surface"`
	Result      string `json:"result"`
	Objects     int64  `json:"objects"` // looked at
	Total       int64  `json:"total"`   // there are
	BytesRead   int64  `json:"bytes_read"`
	CoveragePPM int64  `json:"coverage_ppm"` // of objects
	Findings    int64  `json:"findings"`
	Possible    int64  `json:"possible"` // findings that prove nothing, such as bloom filter hits
	Note        string `json:"note,omitempty"`
	// States counts the findings by Finding.State: live, tombstoned, in history, …
	States map[string]int64 `json:"states,omitempty"`
	// GoneBy is when the last of the files in flight counts as an orphan.
	GoneBy time.Time `json:"gone_by,omitzero"`
}

// Finding is one object that holds an erased value. Object is a path and may
// itself hold a key: write it as a keyed digest where the table is
// key-partitioned.
type Finding struct {
	Surface  string `json:"surface"`
	Object   string `json:"object"`
	Version  string `json:"version,omitempty"` // of an object that the store keeps versions of
	Column   string `json:"column,omitempty"`
	Snapshot int64  `json:"snapshot,omitempty"` // a snapshot that reaches it; 0 = none or the head
	Count    int64  `json:"count"`
	Certain  bool   `json:"certain"`
	State    string `json:"state"` // "live", "live since the commit", "tombstoned", "in history", "orphan", "unreferenced entry", …
	// Projected, of rows in a data file: the key parts that these have by the table's metadata, since the file does
	// not store them. They are for looking further into the file (warehouse.File.Bind) and never written down.
	Projected *[]warehouse.Projected `json:"-"`
}

// Report is the result of verifying a table.
type Report struct {
	Target           string    `json:"target"`
	MetadataLocation string    `json:"metadata_location"`
	SnapshotID       int64     `json:"snapshot_id"`
	Mode             string    `json:"mode"`
	SamplePPM        int64     `json:"sample_ppm,omitempty"`
	Seed             uint64    `json:"seed,omitempty"`
	Surfaces         []Surface `json:"surfaces"`
	Findings         []Finding `json:"findings"` // the first MaxFindings
	RowsRead         int64     `json:"rows_read"`
	BytesRead        int64     `json:"bytes_read"`
	// Control is the positive control, nil where the table has no live key to try it with.
	Control *Control `json:"control,omitempty"`
}

// Control shows that this very run of the code can find a key: one that a live
// row has, whoever it belongs to, was looked for in the file it came from.
type Control struct {
	Files int64 `json:"files"`
	Found bool  `json:"found"` // in every file
}

// Modes of VerifyTable.
const (
	ModeFull      = "full"      // every file
	ModeRewritten = "rewritten" // live files that Options.Only picks, and all of history
	ModeSample    = "sample"    // a random share of files, by seed
)

// Options say how much is looked at.
type Options struct {
	Mode string
	// Only picks the files that a run wrote: the live files that ModeRewritten
	// looks at, and in every mode those whose columns are all searched for
	// leftovers. Without it every file that is looked at is searched like that.
	Only func(path string) bool
	// Skip, if set, names live files that nobody answers for: a run leaves what it cannot rewrite as it was, and says
	// so. They are not looked at in any mode, which lowers the coverage.
	Skip      func(path string) bool
	SamplePPM int64  // ModeSample
	Seed      uint64 // ModeSample: the same seed picks the same files
	Workers   int    // default 1
	// Files asks for the surfaces inside data files as well: dictionaries,
	// statistics, indexes, filters, footers.
	Files bool
	// Metadata asks for history, manifests, lists, paths, delete and metadata
	// files; Orphans for a listing of the location.
	Metadata, Orphans bool
	// Action says what the keys' rows are held to; nil = delete: they are gone. After a redaction a row is a
	// finding when it does not hold what was declared, and a key only where its own column was redacted.
	Action *warehouse.BoundAction
	// Since > 0 is the sequence number up to which the table is answered for. A live row of a key in a file with
	// a greater data sequence number came later: it is residue, but no failure of whoever erased before.
	Since int64
	// OrphanAge is how old a file that nothing refers to has to be for an orphan;
	// a younger one is in flight: its writer may be about to commit it. What it
	// holds is counted as possible, with the date on which it becomes an orphan.
	OrphanAge time.Duration
	// Replaced, if set, names files that are known to have been replaced: no writer
	// is about to commit one, so that nothing refers to it makes it an orphan at any age.
	Replaced func(path string) bool
	// MaxFindings bounds Report.Findings; the counts are always complete. Default 1000.
	MaxFindings int
}

// Target names a table by its metadata file, as the catalog gives it.
type Target struct {
	Name             string
	MetadataLocation string
	Ref              string // the branch whose head is looked at; "" = main
}

// VerifyTable re-reads a table and says what of the keys is left where.
func VerifyTable(ctx context.Context, store storage.Store, t Target, m []warehouse.BoundMatch, o Options) (*Report, error) {
	return verifyTable(ctx, store, t, m, o)
}

// Rewrite is one replacement to check.
type Rewrite struct {
	Old     warehouse.File
	New     string // path; "" = the file was dropped
	NewSize int64
	Action  *warehouse.BoundAction // nil = delete
	// Lineage: the new file carries _row_id and _last_updated_sequence_number as columns.
	Lineage bool
	Matches []warehouse.BoundMatch
}

// RewriteReport is the result of comparing a file with its replacement. It
// names columns and row numbers, never values.
type RewriteReport struct {
	RowsOld        int64  `json:"rows_old"`
	RowsNew        int64  `json:"rows_new"`
	Erased         int64  `json:"erased"`
	Changed        int64  `json:"changed,omitempty"` // rows that stayed and had to change
	AlreadyDeleted int64  `json:"already_deleted"`
	Equal          bool   `json:"equal"`
	Difference     string `json:"difference,omitempty"`
	// The positive control: the keys are found by the same code in the old file, and not in the new one. Of a
	// redaction, whose rows keep their keys, rows that do not yet hold what was declared are found instead.
	ControlBefore bool  `json:"control_before"`
	ControlAfter  bool  `json:"control_after"` // found after: must be false
	Columns       int   `json:"columns"`
	PagesSame     int64 `json:"pages_same"` // of the old file, found in the new one byte for byte
	BytesRead     int64 `json:"bytes_read"`
}

// Survivors compares the old file less erased and already deleted rows with
// the new file: every column, in order, in bounded memory.
func Survivors(ctx context.Context, store storage.Store, r Rewrite) (*RewriteReport, error) {
	return survivors(ctx, store, r)
}
