package jobs

// Step names a stage of a run, in the order in which they happen.
type Step string

// The steps of a run.
const (
	StepCheck    Step = "check"
	StepKeysets  Step = "keysets"
	StepPlan     Step = "plan"
	StepScan     Step = "scan"
	StepCommit   Step = "commit"
	StepVerify   Step = "verify"
	StepOrphans  Step = "orphans"
	StepPurge    Step = "purge"
	StepResidue  Step = "residue"
	StepManifest Step = "manifest"
)

// Event is one report of a run's progress. It never holds a key.
type Event struct {
	Type    string `json:"type"` // "step", "progress", "note", "warning"
	Step    Step   `json:"step,omitempty"`
	Target  string `json:"target,omitempty"`
	Done    int64  `json:"done,omitempty"`
	Total   int64  `json:"total,omitempty"`
	Unit    string `json:"unit,omitempty"` // "files", "bytes", "keys"
	Message string `json:"message,omitempty"`
}

// Reporter receives events. Report must not block for long and may be called
// from several goroutines at once.
type Reporter interface {
	Report(Event)
}

// ReporterFunc makes a Reporter of a function.
type ReporterFunc func(Event)

// Report calls f.
func (f ReporterFunc) Report(e Event) { f(e) }

type silent struct{}

func (silent) Report(Event) {}
