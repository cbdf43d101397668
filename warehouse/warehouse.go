// Package warehouse says what a target is: something that holds rows in files,
// can list the files that may hold a key, and can replace them safely.
//
// The types here are the vocabulary that the planner, the shard function, the
// committer, the verifier and the jobs share. They are plain data: a Task and
// a Result travel through the state bucket as sealed JSON lines, so every
// engine sees the same ones. Implementations live below this package
// (warehouse/iceberg for tables); a new kind of target implements Target.
package warehouse

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/expunge/expunge/keyset"
)

// Errors that a caller decides on. Each is wrapped with what to do about it.
var (
	// ErrNotFound: the selection names a table, column or ref that does not exist.
	ErrNotFound = errors.New("not found")
	// ErrUnsupported: the target or file is of a kind that is left as it is and listed as excluded.
	ErrUnsupported = errors.New("unsupported")
	// ErrType: a match column cannot be compared with the keyset's type.
	ErrType = errors.New("column type cannot be compared with the keyset")
	// ErrAction: the action cannot be carried out on the column that it names.
	ErrAction = errors.New("the action cannot be carried out on this column")
	// ErrConflict: the head moved during a commit attempt; the committer retries by itself, callers see it once attempts are used up.
	ErrConflict = errors.New("concurrent change")
	// ErrUnsettled: a commit was sent and it could not be learned whether it happened. Calling Commit again settles it.
	ErrUnsettled = errors.New("the commit may have happened")
	// ErrLimit: a limit of the job would be passed; nothing was committed.
	ErrLimit = errors.New("limit reached")
	// ErrFenced: the run no longer holds its lease.
	ErrFenced = errors.New("lease lost")
)

// Match says which columns of a target hold a keyset's keys.
type Match struct {
	Keyset  string      // the keyset's name in the job
	Keys    *keyset.Set // loaded set
	Columns []string    // logical field paths, one a key part: "customer.id", "members.element.id", "$.members[*].id"
}

// The kinds of Action.
const (
	Delete        = "delete"
	Redact        = "redact"
	RemoveElement = "remove_element"
)

// Action is what happens to a matching row.
type Action struct {
	Kind    string            // Delete, which "" means too, Redact or RemoveElement
	Redact  map[string]string // column path → constant
	Null    []string          // columns set to null
	Element string            // list or map column whose matching elements go
}

// Deletes says whether matching rows go; otherwise they stay and change.
func (a Action) Deletes() bool { return a.Kind == "" || a.Kind == Delete }

// TimeRange bounds a run to rows whose time column lies in [Since, Until); files provably outside are skipped.
type TimeRange struct {
	Column       string
	Since, Until time.Time // zero = open
}

// Selection is what a job asks of one target.
type Selection struct {
	Match         []Match // a row matches when any of them does
	Action        Action
	Time          *TimeRange
	Refs          string // "block", "drop", "report"
	Branches      bool   // the run erases every branch; one that it could not is a blocker, whatever Refs says
	Residue       bool   // every file is planned, whatever its bounds: a key may be left in one without a row of it
	MissingColumn string // "error" (default) or "list": a table without the match column is listed as excluded
	// Compact asks for compaction beside, or where Match is empty instead of, erasing; nil = none.
	Compact *Compaction
}

// Compaction says when a file is rewritten although no key is in it. A zero
// threshold is off.
type Compaction struct {
	DeletedPPM  int64 `json:"deleted_ppm,omitempty"`  // share of the file's rows that tombstones hide, in millionths
	DeleteFiles int   `json:"delete_files,omitempty"` // delete files that hide rows of the file
	SmallFiles  int64 `json:"small_files,omitempty"`  // bytes; smaller files are packed together
}

// Reached says whether a file with so many rows, of which so many are hidden
// by so many delete files, is to be rewritten without them.
func (c *Compaction) Reached(rows, deleted int64, files int) bool {
	switch {
	case c == nil || deleted == 0:
		return false
	case c.DeleteFiles > 0 && files >= c.DeleteFiles:
		return true
	}
	return c.DeletedPPM > 0 && rows > 0 && float64(deleted)*1e6 >= float64(c.DeletedPPM)*float64(rows)
}

// Ref is a branch or tag of a table.
type Ref struct {
	Name       string `json:"name"`
	Type       string `json:"type"` // "branch", "tag"
	SnapshotID int64  `json:"snapshot_id"`
}

// Description identifies a target in plans and manifests. It holds no key.
type Description struct {
	Name             string `json:"name"` // "lake.sales.orders"
	UUID             string `json:"uuid,omitempty"`
	Location         string `json:"location"`
	FormatVersion    int    `json:"format_version,omitempty"`
	SnapshotID       int64  `json:"snapshot_id,omitempty"` // head of main; 0 = empty table
	SequenceNumber   int64  `json:"sequence_number,omitempty"`
	MetadataLocation string `json:"metadata_location,omitempty"`
	MetadataSHA256   string `json:"metadata_sha256,omitempty"`
	Refs             []Ref  `json:"refs,omitempty"`
	// KeyPartitioned: a match column is a partition source, or an object's name
	// holds a key, so file paths are written to evidence as keyed digests only.
	KeyPartitioned bool `json:"key_partitioned,omitempty"`
}

// DeleteFile is a tombstone file that applies to a data file.
type DeleteFile struct {
	Kind          string `json:"kind"` // "position", "equality", "dv"
	Path          string `json:"path"`
	Size          int64  `json:"size"`
	Sequence      int64  `json:"sequence"`
	ContentOffset int64  `json:"content_offset,omitempty"` // DV blob in its Puffin file
	ContentSize   int64  `json:"content_size,omitempty"`
	EqualityIDs   []int  `json:"equality_ids,omitempty"`
}

// File is one immutable data file as the planned snapshot lists it.
type File struct {
	Path         string       `json:"path"`
	Format       string       `json:"format"` // "parquet"
	Size         int64        `json:"size"`   // bytes
	Rows         int64        `json:"rows"`
	ETag         string       `json:"etag,omitempty"`
	Version      string       `json:"version,omitempty"` // the store's version id, where versions are kept
	SpecID       int32        `json:"spec_id"`
	DataSequence int64        `json:"data_sequence"`
	FirstRowID   *int64       `json:"first_row_id,omitempty"` // v3 row lineage, inherited
	Deletes      []DeleteFile `json:"deletes,omitempty"`
	// Projected are the values that all rows have in columns which the file may lack.
	Projected []Projected `json:"projected,omitempty"`
}

// Projected is a key that every row of a file has where the file lacks the
// column: its identity partition value (Iceberg specification, "Column
// Projection"). Only values that a key of the selection has are listed.
type Projected struct {
	Match int    `json:"match"` // in the selection
	Part  int    `json:"part"`  // of the key
	Value []byte `json:"value"` // canonical
}

// Task is one file's work. Tasks are numbered within their target from 0.
type Task struct {
	Target string `json:"target"`
	Index  int    `json:"index"`
	File   File   `json:"file"`
	// SchemaID is the table schema the match columns were resolved against.
	SchemaID int `json:"schema_id"`
	// Pack, when set, proposes to write the file's rows into one file with those
	// of its neighbours: the tasks of a pack follow each other.
	Pack *Pack `json:"pack,omitempty"`
}

// Pack groups the tasks of small files of one partition, partition spec and
// kind of row lineage.
type Pack struct {
	ID    int `json:"id"`    // within the target, from 0
	Files int `json:"files"` // in the pack
}

// Skipped counts files that planning left out, by reason.
type Skipped struct {
	Reason string `json:"reason"` // "pruned by bounds", "pruned by partition", "pruned by key index", "outside time range"
	Files  int64  `json:"files"`
	Rows   int64  `json:"rows"`
	Bytes  int64  `json:"bytes"`
}

// Excluded is something that was left as it was.
type Excluded struct {
	What     string `json:"what"` // a target or a path digest, never a key
	Reason   string `json:"reason"`
	Owner    string `json:"owner,omitempty"`
	GoneBy   string `json:"gone_by,omitempty"` // date
	Declared bool   `json:"declared"`          // declared by the job: does not make the outcome PARTIAL
}

// Plan sums up the planning of one target; the tasks themselves were streamed.
type Plan struct {
	Description Description `json:"description"`
	Tasks       int64       `json:"tasks"`
	TaskRows    int64       `json:"task_rows"`
	TaskBytes   int64       `json:"task_bytes"`
	TotalFiles  int64       `json:"total_files"` // live data files of the snapshot
	TotalRows   int64       `json:"total_rows"`  // record count before tombstones
	TotalBytes  int64       `json:"total_bytes"`
	Skipped     []Skipped   `json:"skipped,omitempty"`
	Excluded    []Excluded  `json:"excluded,omitempty"`
	Blockers    []Blocker   `json:"blockers,omitempty"`
	Warnings    []string    `json:"warnings,omitempty"` // e.g. streaming readers
}

// Blocker is a ref that still pins data to be erased.
type Blocker struct {
	Ref        string `json:"ref"`
	Type       string `json:"type"`
	SnapshotID int64  `json:"snapshot_id"`
	Reason     string `json:"reason"`
}

// Metrics are a written file's column metrics by field id, as Iceberg stores them.
type Metrics struct {
	ColumnSizes  map[int]int64  `json:"column_sizes,omitempty"`
	ValueCounts  map[int]int64  `json:"value_counts,omitempty"`
	NullCounts   map[int]int64  `json:"null_counts,omitempty"`
	NaNCounts    map[int]int64  `json:"nan_counts,omitempty"`
	Lower        map[int][]byte `json:"lower,omitempty"`
	Upper        map[int][]byte `json:"upper,omitempty"`
	SplitOffsets []int64        `json:"split_offsets,omitempty"`
}

// Output is a file that a task wrote and made durable.
type Output struct {
	Path    string  `json:"path"`
	Size    int64   `json:"size"`
	Rows    int64   `json:"rows"`
	SHA256  string  `json:"sha256"` // hex
	Metrics Metrics `json:"metrics"`
}

// Status is what became of a task.
type Status string

// The statuses of a task.
const (
	Clean     Status = "clean"     // no row of a key: left as it is
	Rewritten Status = "rewritten" // Output replaces the file
	Dropped   Status = "dropped"   // every row was erased or already deleted
	LeftAlone Status = "excluded"  // unsupported: left as it is
	Failed    Status = "failed"    // unreadable or an error that lasts: left as it is
)

// Result is the outcome of one task.
// RowsIn = RowsOut + Erased + AlreadyDeleted for Rewritten and Dropped (contract rule 2).
// Changed rows are among RowsOut: redacted ones, and those that lost elements.
type Result struct {
	Task           Task    `json:"task"`
	Status         Status  `json:"status"`
	Method         string  `json:"method"` // "pruned by statistics", "scanned clean", "rewritten", "dropped"
	Reason         string  `json:"reason,omitempty"`
	RowsIn         int64   `json:"rows_in"`
	RowsOut        int64   `json:"rows_out"`
	Erased         int64   `json:"erased"`
	Changed        int64   `json:"changed,omitempty"`
	AlreadyDeleted int64   `json:"already_deleted"`
	PerMatch       []int64 `json:"per_match,omitempty"` // rows each match of the selection hit
	// Keys are, by match, the numbers of the keys that were found in the file: a
	// roaring bitmap of 64 bits (keyset.Set.Number). Results are sealed.
	Keys         [][]byte `json:"keys,omitempty"`
	BytesRead    int64    `json:"bytes_read"`
	BytesCopied  int64    `json:"bytes_copied"`
	BytesEncoded int64    `json:"bytes_encoded"`
	Rewriter     string   `json:"rewriter,omitempty"`      // "surgical", "reference (reason)"
	SourceSHA256 string   `json:"source_sha256,omitempty"` // hex; see DigestSource
	Output       *Output  `json:"output,omitempty"`
	// Packed, when set, says that Output holds the survivors of other files
	// too. Those of this one are its rows [Packed.FirstRow, Packed.FirstRow+RowsOut).
	Packed *Packed `json:"packed,omitempty"`
}

// KeyNumbers brings the keys that a scan found by match to the form of
// Result.Keys.
func KeyNumbers(found []*roaring64.Bitmap) ([][]byte, error) {
	out := make([][]byte, len(found))
	for i, b := range found {
		if b == nil {
			continue
		}
		b.RunOptimize()
		raw, err := b.ToBytes()
		if err != nil {
			return nil, fmt.Errorf("encode key numbers: %w", err)
		}
		out[i] = raw
	}
	return out, nil
}

// Packed is a file's place among the files that one output replaces.
type Packed struct {
	FirstRow int64 `json:"first_row"`
	Files    int   `json:"files"`
}

// CommitRequest replaces files of a target in one atomic, idempotent step.
type CommitRequest struct {
	RunID string
	Group int
	Plan  Plan // the planned snapshot
	// Planned yields the path of every live data file that the plan covered, tasks and skipped ones alike:
	// what is live at the head and not among them arrived since and is scanned before the commit.
	// It is nil where the run looks for no keys: then what arrives is none of its business.
	Planned func(ctx context.Context) iter.Seq2[string, error]
	// Selection is what the plan was made for: files that arrive are looked at with it.
	Selection Selection
	// Results yields the Rewritten and Dropped results. It can be ranged over again.
	Results func(ctx context.Context) iter.Seq2[Result, error]
	// Rescan runs the shard function on files that arrived or changed since the plan.
	Rescan func(ctx context.Context, tasks []Task) ([]Result, error)
	// Earlier yields what Rescan gave in former tries of this commit, oldest first; it may be nil. A
	// commit that is found done already takes from it the results that it stands on.
	Earlier func(ctx context.Context) iter.Seq2[Result, error]
	// Check is called with the totals about to be committed; an error (ErrLimit) stops the commit.
	Check func(Totals) error
	// Fence fails once the lease is lost; called directly before every swap.
	Fence func(ctx context.Context) error
	// Dangling asks for the removal of delete files that cover nothing live, though no file is replaced.
	Dangling bool
	// A commit that loses against other writers is given up when it was tried Attempts times and for
	// Patience, both: a stream of short commits uses up attempts fast, and a slow store uses up time.
	Attempts int
	Patience time.Duration
	// Grace > 0 sets a protecting tag on the snapshot before; ProtectUntil is recorded in it.
	Grace        time.Duration
	ProtectUntil time.Time
	Properties   map[string]string // extra snapshot summary entries
	// Redefined are the field ids of columns that the outputs hold other values in than their sources. A
	// live equality delete on one of them would no longer find its rows: the commit is refused then (ErrAction).
	Redefined []int
}

// Totals is what a commit is about to do.
type Totals struct {
	Files, Rows, Erased int64 // replaced or dropped files, rows of the table, rows to erase
	Changed             int64 // rows to redact or to take elements from
	Bytes               int64
}

// Committed says what a commit did. It is journaled, and purge and restore start from it.
type Committed struct {
	RunID               string      `json:"run_id"`
	Group               int         `json:"group"`
	Before              Description `json:"before"`
	After               Description `json:"after"`
	Attempts            int         `json:"attempts"`
	Conflicts           int         `json:"conflicts"`
	Adopted             bool        `json:"adopted"` // found already committed by an earlier try
	NoChange            bool        `json:"no_change"`
	FilesReplaced       int64       `json:"files_replaced"`
	FilesDropped        int64       `json:"files_dropped"`
	RowsErased          int64       `json:"rows_erased"`
	RowsChanged         int64       `json:"rows_changed,omitempty"`
	RowsAlreadyDeleted  int64       `json:"rows_already_deleted"`
	DeleteFilesRemoved  int64       `json:"delete_files_removed"`
	DeleteFilesReplaced int64       `json:"delete_files_replaced"`
	ProtectRef          string      `json:"protect_ref,omitempty"`
	// Results are those that were found by Rescan and committed with the rest, or that replace a planned one.
	Results []Result `json:"results,omitempty"`
	// Withdrawn are source paths whose planned result was not used (the file vanished or was re-planned).
	Withdrawn []string `json:"withdrawn,omitempty"`
}

// PhysicalDelete is evidence of one object's removal.
type PhysicalDelete struct {
	Path     string    `json:"path"`
	Kind     string    `json:"kind"` // "data", "delete file", "manifest", "manifest list", "metadata", "statistics", "orphan", "failed attempt"
	Version  string    `json:"version,omitempty"`
	Response string    `json:"response"` // "deleted", "already gone"
	Time     time.Time `json:"time"`
}

// Held is a copy that only history has: a data file of an old snapshot, or a
// noncurrent version of an object. Keys are those it holds, as in Result.Keys.
type Held struct {
	Path    string   `json:"path"`
	Version string   `json:"version,omitempty"`
	Keys    [][]byte `json:"keys,omitempty"`
}

// PurgeRequest removes what history still holds of a committed run.
type PurgeRequest struct {
	RunID     string
	Committed Committed
	Selection Selection            // Refs policy
	Also      map[string]Committed // commits of the same run to other branches of the table, by branch
	Fence     func(ctx context.Context) error
	Record    func(ctx context.Context, d PhysicalDelete) error // called after each removal
	// Found is called before a noncurrent version of an object is removed, several at a time; nil = nobody asks.
	// Tables name what their history holds by themselves.
	Found  func(ctx context.Context, h Held) error
	DryRun bool
}

// Purged says what a purge did.
type Purged struct {
	SnapshotsExpired  []int64     `json:"snapshots_expired"`
	ManifestsRemoved  int64       `json:"manifests_removed"`
	FilesRemoved      int64       `json:"files_removed"`
	BytesRemoved      int64       `json:"bytes_removed"`
	TombstonesDropped int64       `json:"tombstones_dropped"` // DELETED manifest entries no longer stored
	Blockers          []Blocker   `json:"blockers,omitempty"` // refs that still pin: purge is incomplete
	After             Description `json:"after"`
}

// OrphanRequest asks for the removal of files that lie in a target's folders and
// that nothing refers to.
type OrphanRequest struct {
	MinAge time.Duration // at least 24 h: a writer may be about to commit a younger file
	Fence  func(ctx context.Context) error
	Record func(ctx context.Context, d PhysicalDelete) error // called after each removal
	DryRun bool
}

// Orphans counts what was removed, or would be.
type Orphans struct {
	Files  int64 `json:"files"`
	Bytes  int64 `json:"bytes"`
	Young  int64 `json:"young"`  // unreferenced, but younger than the age asked for
	Shared int64 `json:"shared"` // unreferenced by this table, but not by another
}

// RestoreRequest re-adds erased rows on the current head.
type RestoreRequest struct {
	RunID     string
	Committed Committed
	// Files are outputs that hold only the erased rows of their Task's file.
	Files []Result
	Fence func(ctx context.Context) error
}

// ColumnRef names a column: by field id, and by path for files that carry no ids.
type ColumnRef struct {
	FieldID int        // Iceberg field id; 0 = none
	Path    []string   // current logical path: "members", "element", "id"
	Names   [][]string // other paths the name mapping allows, for files without field ids
	// Const is the canonical value of the key part that every row has in a file which lacks the column, where a key
	// has it: its initial default or its partition value. nil = NULL, or a value that no key has.
	Const []byte
	// Repeated: the path leads through a list or map, so that a row may hold several values.
	Repeated bool
}

// BoundMatch is a Match whose columns were resolved against a schema.
type BoundMatch struct {
	Keys    *keyset.Set
	Columns []ColumnRef // one a key part
}

// Bind narrows matches to the file: columns that it may lack get the values that it has by its partition.
func (f *File) Bind(m []BoundMatch) []BoundMatch {
	if len(f.Projected) == 0 {
		return m
	}
	m = slices.Clone(m)
	for _, p := range f.Projected {
		m[p.Match].Columns = slices.Clone(m[p.Match].Columns)
		m[p.Match].Columns[p.Part].Const = p.Value
	}
	return m
}

// BoundAction is an Action whose columns were resolved against a schema.
type BoundAction struct {
	Kind    string
	Redact  []BoundRedaction
	Element ColumnRef // of RemoveElement: the list or map
	// Redefined are the field ids of all columns that a redaction gives new values, nested ones included.
	Redefined []int
}

// BoundRedaction sets one column to a constant or to null.
type BoundRedaction struct {
	Column   ColumnRef
	Constant *string // text in the column's type; nil = null
}

// Planner lists the work of a target.
type Planner interface {
	Describe(ctx context.Context) (Description, error)
	// Check resolves the selection against the schema and proves that the target can be read and written, without writing to it.
	Check(ctx context.Context, sel Selection) error
	// Bind resolves the selection's columns; errors wrap ErrNotFound or ErrType.
	Bind(ctx context.Context, sel Selection) ([]BoundMatch, error)
	// BindAction resolves the columns that the selection's action changes; errors wrap ErrNotFound, or ErrAction
	// where the action is refused.
	BindAction(ctx context.Context, sel Selection) (*BoundAction, error)
	// Plan streams one task a file that may hold a key, and live(path) for every live data file including skipped ones.
	Plan(ctx context.Context, sel Selection, emit func(Task) error, live func(path string) error) (*Plan, error)
	// Deleted returns the row positions of the task's file that tombstones already delete; never nil.
	Deleted(ctx context.Context, t Task) (*roaring64.Bitmap, error)
}

// KeyPather is a Planner that can say before it plans what Plan would say as
// Description.KeyPartitioned. Of others that is asked of Describe.
type KeyPather interface {
	KeyPaths(ctx context.Context, sel Selection) (bool, error)
}

// Committer makes results visible.
type Committer interface {
	// OutputPath is where the task's replacement goes: deterministic in run, task and digest, free of keys.
	OutputPath(runID string, t Task, digest string) string
	// Metrics reads a written file's footer and returns its column metrics by field id.
	Metrics(ctx context.Context, path string) (Metrics, error)
	Commit(ctx context.Context, req CommitRequest) (*Committed, error)
	Restore(ctx context.Context, req RestoreRequest) (*Committed, error)
}

// Purger removes history.
type Purger interface {
	Purge(ctx context.Context, req PurgeRequest) (*Purged, error)
	// CleanAttempts removes files under the run's prefix that no snapshot references.
	CleanAttempts(ctx context.Context, runID string, record func(context.Context, PhysicalDelete) error) (int64, error)
}

// Target is all of it.
type Target interface {
	Planner
	Committer
	Purger
}
