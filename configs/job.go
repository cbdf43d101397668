package configs

import (
	"slices"
	"strings"
	"time"
)

// Version is the job file version this package reads.
const Version = 1

// Job is a whole job file with its defaults filled in.
type Job struct {
	Version  int               `yaml:"version" json:"version"`
	Name     string            `yaml:"name" json:"name"`
	Policy   Policy            `yaml:"policy" json:"policy"`
	State    string            `yaml:"state" json:"state"` // the state bucket: a folder or a bucket URL
	Signing  Signing           `yaml:"signing" json:"signing"`
	Schedule *Schedule         `yaml:"schedule" json:"schedule,omitempty"`
	Engine   Engine            `yaml:"engine" json:"engine"`
	Grace    Duration          `yaml:"grace" json:"grace"` // how long replaced files are kept
	Limits   Limits            `yaml:"limits" json:"limits"`
	Storage  Props             `yaml:"storage" json:"storage,omitempty"`   // object store properties, PyIceberg's names
	Catalogs map[string]Props  `yaml:"catalogs" json:"catalogs,omitempty"` // name to PyIceberg's catalog properties
	Keysets  map[string]Keyset `yaml:"keysets" json:"keysets"`
	Targets  []Target          `yaml:"targets" json:"targets"`
	Excluded []Exclusion       `yaml:"excluded" json:"excluded,omitempty"`
	Verify   Verify            `yaml:"verify" json:"verify"`
	Compact  *Compact          `yaml:"compact" json:"compact,omitempty"` // nil: tables are not compacted
	Orphans  Orphans           `yaml:"orphans" json:"orphans"`
	Commit   Commit            `yaml:"commit" json:"commit"`
	Retain   Retain            `yaml:"retain" json:"retain"`
	Approval *Approval         `yaml:"approval" json:"approval,omitempty"` // nil: a run needs no approval
	Secrets  *Secrets          `yaml:"secrets" json:"secrets,omitempty"`   // nil: in the state bucket, unwrapped
	Log      *Log              `yaml:"log" json:"log,omitempty"`
	Audit    *Audit            `yaml:"audit" json:"audit,omitempty"` // nil: past keys are not kept for audits
	// KeyIndex keeps a filter over keyed hashes of the key columns of each
	// immutable data file, so that the next run need not read what has not changed.
	KeyIndex bool `yaml:"key_index" json:"key_index"`

	source []byte // the file as read
	file   string // its name, for messages
	dir    string // what relative paths were resolved against; "" = not resolved
	pos    map[string]position
}

// Policy is who erases, why and by when. It is copied into every manifest.
type Policy struct {
	Controller  string `yaml:"controller" json:"controller,omitempty"`
	ID          string `yaml:"id" json:"id,omitempty"`
	Basis       string `yaml:"basis" json:"basis,omitempty"`
	Environment string `yaml:"environment" json:"environment,omitempty"`
	RequestedBy string `yaml:"requested_by" json:"requested_by,omitempty"` // who orders erasures: a person or an office
	// Deadline counts from the receipt of a request to the end of the purge; 0 = none.
	Deadline Duration `yaml:"deadline" json:"deadline,omitempty"`
}

// Signing names the keys that sign and check manifests: file:/path, env:NAME or
// a URL of gcpkms or hashivault. A key file may be wrapped by a KMS key.
type Signing struct {
	Executor string `yaml:"executor" json:"executor,omitempty"` // signs for the run; "" = a key kept in the state bucket
	Verifier string `yaml:"verifier" json:"verifier,omitempty"` // signs for the verification; "" = the executor's
	Trust    string `yaml:"trust" json:"trust,omitempty"`       // trust file: public keys with their validity
}

// Engine says where shards run.
type Engine struct {
	Type       string `yaml:"type" json:"type"`       // "local", "temporal"
	Workers    int    `yaml:"workers" json:"workers"` // 0 = one a CPU
	ShardFiles int    `yaml:"shard_files" json:"shard_files"`
	ShardSize  Size   `yaml:"shard_size" json:"shard_size"`
	// The fields below belong to temporal.
	Address   string `yaml:"address" json:"address,omitempty"`
	Namespace string `yaml:"namespace" json:"namespace,omitempty"`
	TaskQueue string `yaml:"task_queue" json:"task_queue,omitempty"`
	TLS       *TLS   `yaml:"tls" json:"tls,omitempty"`
}

// TLS names the files of a mutual TLS connection.
type TLS struct {
	Cert       string `yaml:"cert" json:"cert,omitempty"`
	Key        string `yaml:"key" json:"key,omitempty"`
	CA         string `yaml:"ca" json:"ca,omitempty"`
	ServerName string `yaml:"server_name" json:"server_name,omitempty"`
}

// Limits stop a run before it harms. A zero is no limit.
type Limits struct {
	Rows      Count       `yaml:"rows" json:"rows,omitempty"`   // rows erased by a run
	Share     Share       `yaml:"share" json:"share,omitempty"` // share of one table's rows
	Files     Count       `yaml:"files" json:"files,omitempty"` // files replaced by a run
	Bandwidth ByteRate    `yaml:"bandwidth" json:"bandwidth,omitempty"`
	Requests  RequestRate `yaml:"requests" json:"requests,omitempty"`
}

// Keyset is where one set of keys comes from.
type Keyset struct {
	Source     Strings         `yaml:"source" json:"source"` // files, globs or prefixes
	Format     string          `yaml:"format" json:"format,omitempty"`
	Key        KeyParts        `yaml:"key" json:"key"` // in the order of the parts
	Normalize  []string        `yaml:"normalize" json:"normalize,omitempty"`
	Request    *RequestColumns `yaml:"request" json:"request,omitempty"`
	Holds      Strings         `yaml:"holds" json:"holds,omitempty"` // keys under legal hold: never erased
	AllowEmpty bool            `yaml:"allow_empty" json:"allow_empty,omitempty"`
	AllowNull  bool            `yaml:"allow_null" json:"allow_null,omitempty"` // skip NULL keys instead of refusing the source
	// AllowEmptyKey makes the empty string a key like any other: without it an empty value in
	// a source is an error, because it would erase every row that has none.
	AllowEmptyKey bool `yaml:"allow_empty_key" json:"allow_empty_key,omitempty"`
}

// KeyPart is one column of a key and its type.
type KeyPart struct {
	Name string `json:"name"` // the column of the source
	Type string `json:"type"` // int64, string, uuid, date, binary, decimal(p,s)
}

// KeyParts keep the order in which the job file names them.
type KeyParts []KeyPart

// RequestColumns name the columns that say which request asked, and when.
type RequestColumns struct {
	ID         string `yaml:"id" json:"id,omitempty"`
	ReceivedAt string `yaml:"received_at" json:"received_at,omitempty"`
}

// Target is a table, several tables (a pattern), or an object prefix.
type Target struct {
	Table         string   `yaml:"table" json:"table,omitempty"`   // catalog.namespace.table; * and ? after the catalog
	Prefix        string   `yaml:"prefix" json:"prefix,omitempty"` // folder or bucket URL
	Glob          Strings  `yaml:"glob" json:"glob,omitempty"`
	Format        string   `yaml:"format" json:"format,omitempty"`
	Match         []Match  `yaml:"match" json:"match"` // a row matches when any of them does
	Action        Action   `yaml:"action" json:"action"`
	Time          string   `yaml:"time" json:"time,omitempty"`                     // column that --since and --until bound
	Refs          string   `yaml:"refs" json:"refs,omitempty"`                     // block, drop, report
	Branches      string   `yaml:"branches" json:"branches,omitempty"`             // keep, erase: rows of keys go from every branch, not from main alone
	MissingColumn string   `yaml:"missing_column" json:"missing_column,omitempty"` // error, list
	Policy        *Objects `yaml:"policy" json:"policy,omitempty"`                 // of a prefix
}

// Match says which columns hold the keys of a keyset.
type Match struct {
	Keyset  string   `json:"keyset"`
	Columns []string `json:"columns"` // one a key part
}

// The kinds of Action.
const (
	Delete        = "delete"
	Redact        = "redact"
	RemoveElement = "remove_element"
)

// Action is what happens to a matching row.
type Action struct {
	Kind    string      `json:"kind"`
	Implied bool        `json:"implied,omitempty"` // delete, because the job file names no action
	Redact  []Redaction `json:"redact,omitempty"`
	Element string      `json:"element,omitempty"` // the list or map column whose matching elements go
}

// Redaction sets one column to null or to a constant.
type Redaction struct {
	Column string `json:"column"`
	Null   bool   `json:"null,omitempty"`
	Value  string `json:"value,omitempty"`
}

// Objects is the policy of an object prefix.
type Objects struct {
	Malformed string `yaml:"malformed" json:"malformed"` // stop: leave the object as it is; keep: keep the record
	Emptied   string `yaml:"emptied" json:"emptied"`     // delete, keep
	Versions  string `yaml:"versions" json:"versions"`   // purge, report
}

// Exclusion is something the job knows that it does not cover.
type Exclusion struct {
	What   string `yaml:"what" json:"what"`
	Reason string `yaml:"reason" json:"reason"`
	Owner  string `yaml:"owner" json:"owner"`
	GoneBy Date   `yaml:"gone_by" json:"gone_by,omitzero"`
}

// Verify says how much the independent verification reads.
type Verify struct {
	Mode   string `yaml:"mode" json:"mode"` // full, rewritten, sample
	Sample Share  `yaml:"sample" json:"sample,omitempty"`
	Seed   uint64 `yaml:"seed" json:"seed,omitempty"` // 0 = drawn by the run and stated in the manifest
}

// Compact holds the thresholds above which a file is rewritten although no key is in it.
type Compact struct {
	DeletedRows Share `yaml:"deleted_rows" json:"deleted_rows"` // share of tombstoned rows in a file
	DeleteFiles Count `yaml:"delete_files" json:"delete_files"` // delete files that apply to a file
	SmallFiles  Size  `yaml:"small_files" json:"small_files"`   // files below it are packed together; 0 = left
}

// DefaultCompact are the thresholds of a compaction that is asked for without
// any: every tombstone is folded in, and files below three quarters of the
// usual target size are packed.
func DefaultCompact() *Compact { return &Compact{DeleteFiles: 1, SmallFiles: 384 << 20} }

// Orphans are files under a table's location that nothing references.
type Orphans struct {
	Remove bool     `yaml:"remove" json:"remove"`
	MinAge Duration `yaml:"min_age" json:"min_age"` // at least 24h: a writer may still be about to commit them
}

// Commit bounds what a commit tries against other writers: it is given up when
// it was tried so often and for so long, both.
type Commit struct {
	Attempts int      `yaml:"attempts" json:"attempts"`
	Patience Duration `yaml:"patience" json:"patience"`
}

// Retain says how long a run's sensitive state is kept.
type Retain struct {
	Keys    Duration `yaml:"keys" json:"keys,omitempty"`       // sealed keysets, for --keys-from and the audit; 0 = removed with the purge
	Secrets Duration `yaml:"secrets" json:"secrets,omitempty"` // the run's secret, for certificates; 0 = until sealed by hand
}

// MinOrphanAge is the least age at which an unreferenced file may be taken for an orphan.
const MinOrphanAge = Duration(24 * time.Hour)

// Default returns a job with every default set and nothing selected.
func Default() *Job {
	return &Job{
		Version: Version,
		State:   "expunge-state",
		Engine:  Engine{Type: "local", ShardFiles: 500, ShardSize: 64 << 30},
		Grace:   Duration(7 * 24 * time.Hour),
		Limits:  Limits{Share: Percent},
		Verify:  Verify{Mode: "rewritten"},
		Orphans: Orphans{MinAge: Duration(72 * time.Hour)},
		Commit:  Commit{Attempts: 20, Patience: Duration(10 * time.Minute)},
	}
}

// complete fills the defaults that depend on other fields.
func (j *Job) complete() {
	for i := range j.Targets {
		t := &j.Targets[i]
		if t.Action.Kind == "" && !t.nested() {
			t.Action.Kind, t.Action.Implied = Delete, true
		}
		if t.Table != "" && t.Refs == "" {
			t.Refs = "block"
		}
		if t.Table != "" && t.Branches == "" {
			t.Branches = "keep"
		}
		if t.Table != "" && t.MissingColumn == "" {
			t.MissingColumn = "error"
		}
		if t.Prefix != "" {
			if t.Policy == nil {
				t.Policy = &Objects{}
			}
			t.Policy.Malformed = orDefault(t.Policy.Malformed, "stop")
			t.Policy.Emptied = orDefault(t.Policy.Emptied, "delete")
			t.Policy.Versions = orDefault(t.Policy.Versions, "purge")
		}
	}
	if j.Schedule != nil {
		j.Schedule.Timezone = orDefault(j.Schedule.Timezone, "UTC")
		j.Schedule.Missed = orDefault(j.Schedule.Missed, "once")
		j.Schedule.Overlap = orDefault(j.Schedule.Overlap, "skip")
	}
	j.completeEvidence()
	if j.Engine.Type == "temporal" {
		j.Engine.Namespace = orDefault(j.Engine.Namespace, "default")
		j.Engine.TaskQueue = orDefault(j.Engine.TaskQueue, "expunge")
	}
}

func orDefault(s, d string) string {
	if s == "" {
		return d
	}
	return s
}

// Name is the table or prefix as the job file writes it.
func (t *Target) Name() string { return orDefault(t.Table, t.Prefix) }

// Catalog is the name of the catalog of a table, "" for a prefix.
func (t *Target) Catalog() string {
	name, _, _ := strings.Cut(t.Table, ".")
	return name
}

// Wildcard says whether the target can stand for several tables.
func (t *Target) Wildcard() bool { return strings.ContainsAny(t.Table, "*?[") }

// nested says whether a match column lies inside a list or map, as far as its path tells.
// Jobs check it again against the schema.
func (t *Target) nested() bool {
	return slices.ContainsFunc(t.Match, func(m Match) bool {
		return slices.ContainsFunc(m.Columns, NestedPath)
	})
}

// NestedPath says whether a column path goes through a list or map:
// members.element.id, members.list.element.id, $.members[*].id, attrs.key_value.value.
func NestedPath(path string) bool {
	if strings.Contains(path, "[") {
		return true
	}
	parts := strings.Split(path, ".")
	return slices.ContainsFunc(parts[1:], func(p string) bool {
		return p == "element" || p == "key" || p == "value" || p == "key_value"
	})
}
