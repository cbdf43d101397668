package manifests

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// Text writes the readable form of a manifest: the outcome first, then what
// was covered and what was not, the numbers, and how to check all of it.
// checks may be nil when nothing was verified; the text then says so.
func Text(w io.Writer, m *Manifest, checks []Check) error {
	p := &printer{}
	p.outcome(m)
	p.clock(m)
	p.covered(m)
	p.notCovered(m)
	p.verification(m)
	p.residue(m)
	p.evidence(m)
	p.trust(m, checks)
	// Names come from catalogs: no control sequence of theirs reaches a terminal.
	clean := bytes.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' {
			return -1
		}
		return r
	}, p.b.Bytes())
	_, err := w.Write(clean)
	return err
}

type printer struct{ b bytes.Buffer }

func (p *printer) line(format string, args ...any) {
	fmt.Fprintf(&p.b, format, args...)
	p.b.WriteByte('\n')
}

func (p *printer) head(s string) { p.line("\n%s", s) }

// table writes rows of tab-separated cells, indented.
func (p *printer) table(rows []string) {
	tw := tabwriter.NewWriter(&p.b, 0, 4, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintf(tw, "  %s\n", r)
	}
	tw.Flush()
}

// Headline is the outcome in one line.
func Headline(m *Manifest) string {
	s := string(m.Outcome.Result)
	if m.Outcome.Pending != nil {
		s += " until " + stamp(*m.Outcome.Pending)
	}
	return s
}

// Explain says in one sentence what the outcome means here.
func Explain(m *Manifest) string {
	rows, tables := m.erased()
	what := fmt.Sprintf("%s %s erased from %s", group(rows), plural(rows, "row", "rows"), count(tables, "target", "targets"))
	if changed, in := m.changed(); changed > 0 {
		with := fmt.Sprintf("%s %s changed (redacted, or freed of elements) in %s", group(changed), plural(changed, "row", "rows"), count(in, "target", "targets"))
		if what += ", " + with; rows == 0 {
			what = with
		}
	}
	switch m.Outcome.Result {
	case Erased:
		return what + "; absent from every checked surface."
	case ErasedPending:
		return what + "; what is still stored has a date by which it goes."
	case NothingToErase:
		return "No row of a key was found in the targets; nothing was changed."
	case Partial:
		return what + ", but the job is not complete: see the reasons."
	case Failed:
		return "The job failed: see the reasons."
	case Reverted:
		var n int64
		for i := range m.Targets {
			n += m.Targets[i].RowsReturned
		}
		return fmt.Sprintf("%s erased %s added back.", group(n), plural(n, "row was", "rows were"))
	}
	return ""
}

func (m *Manifest) erased() (rows, targets int64) {
	for i := range m.Targets {
		if n := m.Targets[i].RowsErased; n > 0 {
			rows += n
			targets++
		}
	}
	return rows, targets
}

func (m *Manifest) changed() (rows, targets int64) {
	for i := range m.Targets {
		if n := m.Targets[i].RowsChanged; n > 0 {
			rows += n
			targets++
		}
	}
	return rows, targets
}

func (p *printer) outcome(m *Manifest) {
	p.line("%s", Headline(m))
	p.line("%s", Explain(m))
	for _, r := range m.Outcome.Reasons {
		p.line("  - %s", r)
	}
	p.head("Manifest")
	rows := []string{"id\t" + m.ID, fmt.Sprintf("about\t%s of job %s", m.Kind, m.Job), "run\t" + m.RunID}
	if c := m.Continuity.Continues; c != "" {
		rows = append(rows, "continues\t"+c)
	}
	if s := m.Continuity.Supersedes; s != "" {
		rows = append(rows, "supersedes\t"+s)
	}
	rows = append(rows, fmt.Sprintf("time\t%s to %s", stamp(m.Times.Start), stamp(m.Times.End)))
	if m.Policy.Controller != "" {
		rows = append(rows, "controller\t"+m.Policy.Controller)
	}
	p.table(rows)
}

func (p *printer) clock(m *Manifest) {
	p.head("Asked")
	var rows []string
	for i := range m.Keysets {
		k := &m.Keysets[i]
		var parts []string
		for _, kp := range k.Parts {
			s := kp.Name + " " + kp.Type
			if len(kp.Normalize) > 0 {
				s += " (" + strings.Join(kp.Normalize, ", ") + ")"
			}
			parts = append(parts, s)
		}
		row := fmt.Sprintf("%s\t%s keys of %s", k.Name, k.Commitment.String(), strings.Join(parts, ", "))
		if k.Held > 0 {
			row += fmt.Sprintf("; %s held back", group(k.Held))
		}
		rows = append(rows, row)
	}
	pol := m.Policy
	if pol.Requests > 0 {
		row := "requests\t" + group(pol.Requests)
		if pol.EarliestRequest != nil {
			row += ", the earliest of " + day(*pol.EarliestRequest)
		}
		rows = append(rows, row)
	}
	if pol.Deadline != nil {
		rows = append(rows, "deadline\t"+day(*pol.Deadline)+met(pol.DeadlineMet))
	}
	p.table(rows)
}

func met(b *bool) string {
	switch {
	case b == nil:
		return ""
	case *b:
		return ", met"
	default:
		return ", MISSED"
	}
}

func (p *printer) covered(m *Manifest) {
	p.head("Covered")
	scope := map[string]Included{}
	for _, s := range m.Scope.Included {
		scope[s.Target] = s
	}
	for i := range m.Targets {
		t := &m.Targets[i]
		s := scope[t.Name]
		p.line("  %s: %s", t.Name, t.Status)
		if t.Reason != "" {
			p.line("    because: %s", t.Reason)
		}
		if len(s.Match) > 0 {
			p.line("    %s where %s", s.Action, strings.Join(s.Match, " or "))
		}
		p.line("    rows   %s erased, %s were deleted already, %s survivors rewritten, %s in the table",
			group(t.RowsErased), group(t.RowsDeleted), group(t.RowsOut), group(t.RowsTotal))
		if t.RowsChanged > 0 {
			p.line("           %s of the survivors changed", group(t.RowsChanged))
		}
		files := fmt.Sprintf("    files  %s in the table, %s read, %s rewritten, %s dropped",
			group(t.FilesTotal), group(t.FilesScanned), group(t.FilesRewritten), group(t.FilesDropped))
		for _, sk := range t.Skipped {
			files += fmt.Sprintf("; %s %s", group(sk.Files), sk.Reason)
		}
		p.line("%s", files)
		if t.BytesRead > 0 {
			p.line("    bytes  %s read, %s copied as they were, %s encoded anew", size(t.BytesRead), size(t.BytesCopied), size(t.BytesEncoded))
		}
		if t.Before != nil && t.After != nil && t.Before.SnapshotID != t.After.SnapshotID {
			p.line("    snapshot %s before, %s after", t.Before.SnapshotID, t.After.SnapshotID)
		}
		for _, b := range t.Blockers {
			p.line("    PINNED by %s %s: %s", b.Type, b.Ref, b.Reason)
		}
	}
	if n := m.Deletes.Objects; n > 0 {
		p.line("  physically removed: %s, %s", count(n, "object", "objects"), size(m.Deletes.Bytes))
	}
}

func (p *printer) notCovered(m *Manifest) {
	p.head("NOT covered")
	if len(m.Scope.Excluded) == 0 {
		p.line("  Nothing is listed as excluded. What is not listed under \"Covered\" was not looked at.")
		return
	}
	var rows []string
	for _, e := range m.Scope.Excluded {
		row := e.What + "\t" + e.Reason
		if e.Count > 1 {
			row += fmt.Sprintf(" (%s files)", group(e.Count))
		}
		if e.Owner != "" {
			row += "; owner " + e.Owner
		}
		if e.GoneBy != "" {
			row += "; gone by " + e.GoneBy
		}
		if e.Declared {
			row += "\tdeclared by the job"
		} else {
			row += "\tNOT declared"
		}
		rows = append(rows, row)
	}
	p.table(rows)
}

func (p *printer) verification(m *Manifest) {
	v := &m.Verification
	by := ""
	if m.Tool.Verifier != "" {
		by = " by " + strings.TrimSpace(m.Tool.Verifier+" "+m.Tool.VerifierVersion)
	}
	p.head(fmt.Sprintf("Verification (%s%s)", orNone(v.Mode), by))
	if len(v.Surfaces) == 0 {
		p.line("  nothing was verified")
	}
	p.surfaces(v.Surfaces)
	for _, c := range v.Controls {
		p.line("  positive control on %s, %s: found before: %s, found after: %s", c.Target, count(c.Files, "file", "files"), yes(c.Before), yes(c.After))
	}
}

// surfaces groups by target and result, the bad ones first and one by one.
func (p *printer) surfaces(all []Surface) {
	for i, first := range all {
		if slices.ContainsFunc(all[:i], func(o Surface) bool { return o.Target == first.Target }) {
			continue
		}
		var read int64
		passed, absent := []string{}, []string{}
		var rows []string
		for _, s := range all {
			if s.Target != first.Target {
				continue
			}
			read += s.BytesRead
			name := fmt.Sprintf("%s (%s)", s.Surface, group(s.Objects))
			if s.CoveragePPM < 1000000 {
				name = fmt.Sprintf("%s (%s, %s)", s.Surface, group(s.Objects), percent(s.CoveragePPM))
			}
			switch s.Result {
			case Pass:
				passed = append(passed, name)
			case NotPresent:
				absent = append(absent, s.Surface)
			default:
				row := fmt.Sprintf("  %s\t%s\t%s found in %s, coverage %s", strings.ToUpper(strings.ReplaceAll(s.Result, "_", " ")), s.Surface,
					group(s.Findings), count(s.Objects, "object", "objects"), percent(s.CoveragePPM))
				if s.Note != "" {
					row += "; " + s.Note
				}
				rows = append(rows, row)
			}
		}
		p.line("  %s: %s read", first.Target, size(read))
		p.table(rows)
		p.list("pass", passed)
		p.list("not present", absent)
	}
}

// list writes names in lines of readable length.
func (p *printer) list(title string, names []string) {
	if len(names) == 0 {
		return
	}
	line := "    " + title + ": "
	for i, n := range names {
		if i < len(names)-1 {
			n += ", "
		}
		if len(line)+len(n) > 110 {
			p.line("%s", strings.TrimRight(line, " "))
			line = "      "
		}
		line += n
	}
	p.line("%s", line)
}

func (p *printer) residue(m *Manifest) {
	if len(m.Residue) == 0 {
		return
	}
	p.head("Still stored")
	var rows []string
	for _, r := range m.Residue {
		row := fmt.Sprintf("%s\t%s\t%s\t%s", r.Target, r.Surface, group(r.Count), r.State)
		if r.GoneBy != nil {
			row += "\tgone by " + stamp(*r.GoneBy)
		} else {
			row += "\tNO date"
		}
		rows = append(rows, row)
	}
	p.table(rows)
}

func (p *printer) evidence(m *Manifest) {
	p.head("Evidence")
	rows := []string{}
	if m.Evidence.Name != "" {
		rows = append(rows, fmt.Sprintf("sidecar\t%s, %s, %s", m.Evidence.Name, count(m.Evidence.Records, "record", "records"), size(m.Evidence.Bytes)))
	}
	rows = append(rows, "tool\t"+strings.TrimSpace(m.Tool.Name+" "+m.Tool.Version))
	for _, a := range m.Actors {
		rows = append(rows, a.Role+"\t"+strings.TrimSpace(a.Name+" "+a.KeyID))
	}
	in := m.Incidents
	rows = append(rows, fmt.Sprintf("incidents\t%s, %s, %s, %s", count(in.Failures, "failure", "failures"),
		count(in.Retries, "retry", "retries"), count(in.Conflicts, "conflict", "conflicts"), count(in.Resumes, "resume", "resumes")))
	for _, n := range in.Notes {
		rows = append(rows, fmt.Sprintf("\t%s %s (%s)", n.Target, n.What, group(n.Count)))
	}
	p.table(rows)
}

func (p *printer) trust(m *Manifest, checks []Check) {
	p.head("Claim")
	p.line("  %s", m.Scope.Claim)
	p.head("How to check it")
	if checks == nil {
		p.line("  Nothing of this was verified just now.")
	}
	var rows []string
	for _, c := range checks {
		word := "ok"
		if c.Skipped {
			word = "skipped"
		} else if !c.OK {
			word = "FAILED"
		}
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s", word, c.Name, c.Reason))
	}
	p.table(rows)
	p.line("  expunge manifest verify %s --trust trust.json", EnvelopeName(m.ID))
	p.line("  with %s and %s beside it; offline, only public keys are needed.", SidecarName(m.ID), ProofName(m.ID))
	p.line("  A kept checkpoint or a witness is what would show that later manifests were removed.")
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
func day(t time.Time) string   { return t.UTC().Format(time.DateOnly) }

func plural(n int64, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

func count(n int64, one, many string) string { return group(n) + " " + plural(n, one, many) }

// group writes 1234567 as 1,234,567.
func group(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func size(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n), 0
	for ; f >= 1024 && unit < 5; unit++ {
		f /= 1024
	}
	return fmt.Sprintf("%.1f %ciB", f, " KMGTP"[unit])
}

// percent writes parts per million without rounding up to 100 %.
func percent(ppm int64) string {
	switch {
	case ppm == 1000000:
		return "100 %"
	case ppm%10000 == 0:
		return fmt.Sprintf("%d %%", ppm/10000)
	}
	return fmt.Sprintf("%d.%04d %%", ppm/10000, ppm%10000)
}
