package manifests

import (
	"slices"
	"strings"
)

// meanings says in plain words what a surface is. The names are the verifier's.
var meanings = map[string]string{
	"live rows":                   "rows that a reader of the table sees",
	"survivors of replaced files": "rows that had to stay: compared with the old file, every column",
	"tombstoned rows":             "rows marked as deleted that are still stored",
	"history":                     "rows of older snapshots, branches and tags",
	"data pages":                  "every stored value of every file",
	"dictionary pages":            "a file's lists of distinct values",
	"statistics":                  "smallest and largest values noted in a file",
	"column index":                "smallest and largest values of each page",
	"bloom filters":               "compact hints of which values a file may hold",
	"file key-value metadata":     "free text in a file's footer",
	"unaccounted bytes":           "bytes of a file that nothing refers to",
	"manifest bounds":             "smallest and largest values in the table's file lists",
	"partition values":            "values by which files are sorted into folders",
	"manifest list summaries":     "value ranges in the table's list of file lists",
	"equality delete files":       "files that name deleted keys",
	"position delete files":       "files that mark deleted rows, and may carry them",
	"puffin files":                "table statistics and deletion marks",
	"file paths":                  "values in the names of files and folders",
	"table metadata files":        "the table's own description, all versions",
	"orphan files":                "files under the table's folder that nothing refers to",
	"replaced files and history":  "old copies, kept for the grace so that the run can be undone",
	"replaced files":              "the files that new ones took the place of",
	"the run's own copies":        "what the run wrote and no longer needs",
	"soft-deleted objects":        "copies that the store keeps for a time after removal",
	"noncurrent versions":         "older versions that the store keeps",
}

// SurfaceMeaning explains a surface to somebody who does not know file
// formats; "" for a surface that this version does not know.
func SurfaceMeaning(surface string) string { return meanings[surface] }

// title is the outcome in words.
func title(m *Manifest) string {
	switch m.Outcome.Result {
	case Erased:
		if m.Kind == KindPurge {
			return "Erased, old copies removed"
		}
		return "Erased"
	case ErasedPending:
		return "Erased; old copies remain until " + day(*m.Outcome.Pending)
	case NothingToErase:
		return "Nothing to erase"
	case Partial:
		return "Not complete"
	case Failed:
		return "Failed"
	case Reverted:
		return "Reverted: the erased rows are back"
	}
	return string(m.Outcome.Result)
}

// tone sorts results into good, wait, bad and plain. Every place that uses a
// tone has a sign or a word for it too.
func tone(result string) string {
	switch result {
	case string(Erased), string(NothingToErase), Pass, TargetDone, TargetClean, TargetPurged:
		return "good"
	case string(ErasedPending), Found, NotChecked, string(Reverted), TargetRestored:
		return "wait"
	case NotPresent, "":
		return "plain"
	}
	return "bad"
}

func sign(tone string) string {
	switch tone {
	case "good":
		return "✓"
	case "wait":
		return "!"
	case "bad":
		return "✗"
	}
	return "–"
}

// words turns a result's identifier into words.
func words(s string) string {
	switch s {
	case Pass:
		return "checked, nothing found"
	case Fail:
		return "failed"
	case Found:
		return "still stored"
	case NotChecked:
		return "not checked"
	case NotPresent:
		return "none here"
	}
	return strings.ReplaceAll(s, "_", " ")
}

// statusWords says what became of a target.
func statusWords(s string) string {
	switch s {
	case TargetDone:
		return "erased"
	case TargetClean:
		return "no key found"
	case TargetFailed:
		return "failed, left as it was"
	case TargetStopped:
		return "stopped by a limit, left as it was"
	case TargetPurged:
		return "old copies removed"
	case TargetRestored:
		return "erased rows added back"
	case TargetUntouched:
		return "not reached"
	}
	return s
}

// matrix is a table of surfaces by targets.
type matrix struct {
	Targets []string
	Rows    []matrixRow
	Read    []int64
}

type matrixRow struct {
	Surface string
	Cells   []*Surface // nil = not stated
}

// surfaceSum is a target's surfaces in one line.
type surfaceSum struct {
	Target                                   string
	Passed, Absent, Found, Failed, Unchecked int64
	Read, LeastPPM                           int64
}

// matrixColumns fit on a printed page; matrixMax targets still make a readable
// report in full.
const (
	matrixColumns = 4
	matrixMax     = 12
)

// surfaceViews gives the surfaces in full for a few targets, one line a target
// for many, and in any case one by one those that did not just pass.
func surfaceViews(m *Manifest) (full []matrix, sums []surfaceSum, odd []Surface) {
	var targets, names []string
	for _, s := range m.Verification.Surfaces {
		if !slices.Contains(targets, s.Target) {
			targets = append(targets, s.Target)
		}
		if !slices.Contains(names, s.Surface) {
			names = append(names, s.Surface)
		}
		if s.Result != Pass && s.Result != NotPresent || s.Result == Pass && s.CoveragePPM < 1000000 || s.Note != "" {
			odd = append(odd, s)
		}
	}
	if len(targets) > matrixMax {
		return nil, summed(m, targets), odd
	}
	for group := range slices.Chunk(targets, matrixColumns) {
		full = append(full, newMatrix(m, group, names))
	}
	return full, nil, odd
}

func newMatrix(m *Manifest, targets, names []string) matrix {
	x := matrix{Targets: targets, Read: make([]int64, len(targets))}
	for _, n := range names {
		row := matrixRow{Surface: n, Cells: make([]*Surface, len(targets))}
		for i := range m.Verification.Surfaces {
			s := &m.Verification.Surfaces[i]
			if at := slices.Index(targets, s.Target); at >= 0 && s.Surface == n {
				row.Cells[at] = s
				x.Read[at] += s.BytesRead
			}
		}
		x.Rows = append(x.Rows, row)
	}
	return x
}

func summed(m *Manifest, targets []string) []surfaceSum {
	at := map[string]int{}
	out := make([]surfaceSum, len(targets))
	for i, t := range targets {
		at[t], out[i] = i, surfaceSum{Target: t, LeastPPM: 1000000}
	}
	for _, s := range m.Verification.Surfaces {
		o := &out[at[s.Target]]
		o.Read += s.BytesRead
		o.LeastPPM = min(o.LeastPPM, s.CoveragePPM)
		switch s.Result {
		case Pass:
			o.Passed++
		case NotPresent:
			o.Absent++
		case Found:
			o.Found++
		case NotChecked:
			o.Unchecked++
		default:
			o.Failed++
		}
	}
	return out
}
