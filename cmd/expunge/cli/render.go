package cli

import (
	"iter"
	"strconv"
	"strings"
)

// The JSON lines of responses that hold lists. Each item is a line of its own,
// written before the summary.

func each[T any](kind string, items []T) iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		for _, item := range items {
			if !yield(kind, item) {
				return
			}
		}
	}
}

func (r *CheckResponse) lines() iter.Seq2[string, any]    { return each("check", r.Checks) }
func (r *PlanResponse) lines() iter.Seq2[string, any]     { return each("target", r.Targets) }
func (r *RunResponse) lines() iter.Seq2[string, any]      { return each("target", r.Targets) }
func (r *RunsResponse) lines() iter.Seq2[string, any]     { return each("run", r.Runs) }
func (r *PurgeResponse) lines() iter.Seq2[string, any]    { return each("purge", r.Runs) }
func (r *RestoreResponse) lines() iter.Seq2[string, any]  { return each("target", r.Tables) }
func (r *ManifestResponse) lines() iter.Seq2[string, any] { return each("check", r.Checks) }
func (r *ReportResponse) lines() iter.Seq2[string, any]   { return each("check", r.Checks) }
func (r *FileResponse) lines() iter.Seq2[string, any]     { return each("section", r.Sections) }

func (r *InitResponse) text(p *printer) {
	rows := make([][]string, len(r.Tables))
	for i, t := range r.Tables {
		rows[i] = []string{t.Table, t.Column, t.Type, t.Reason}
	}
	p.table([]string{"TABLE", "COLUMN", "TYPE", "LEFT OUT BECAUSE"}, rows)
}

func (r *CheckResponse) text(p *printer) {
	rows := make([][]string, len(r.Checks))
	failed := 0
	for i, c := range r.Checks {
		mark := "ok"
		if !c.OK {
			mark = "FAILED"
			failed++
		}
		rows[i] = []string{mark, c.What, c.Target, c.Detail}
	}
	p.table([]string{"RESULT", "CHECK", "TARGET", "DETAIL"}, rows)
	p.list("warning:", r.Warnings)
	if len(r.Policy) > 0 {
		p.line("\nMinimal policy:\n%s", r.Policy)
	}
	if failed > 0 {
		p.line("\n%s of %s failed; the job cannot run.", number(int64(failed)), count(int64(len(r.Checks)), "check"))
		return
	}
	p.line("\nJob %s can run (digest %s).", r.Job, short(r.Digest))
}

// short cuts a digest for people; JSON holds all of it.
func short(digest string) string {
	if len(digest) > 16 {
		return digest[:16]
	}
	return digest
}

// list writes one line an item behind a label.
func (p *printer) list(label string, items []string) {
	for _, s := range items {
		p.line("%s %s", label, s)
	}
}

func (p *printer) keysets(sets []KeysetInfo) {
	for _, k := range sets {
		extra := ""
		if k.Held > 0 {
			extra += ", " + number(k.Held) + " held back"
		}
		if k.Requests > 0 {
			extra += ", from " + count(k.Requests, "request")
		}
		p.field("Asked", "%s in keyset %s%s", count(k.Keys, "key"), k.Name, extra)
	}
}

func (p *printer) excluded(items []ExcludedInfo) {
	for _, e := range items {
		by := ""
		if e.Owner != "" {
			by = ", " + e.Owner
		}
		if e.GoneBy != "" {
			by += ", gone by " + e.GoneBy
		}
		declared := "NOT COVERED"
		if e.Declared {
			declared = "Not covered"
		}
		p.field(declared, "%s: %s%s", e.What, e.Reason, by)
	}
}

func (r *PlanResponse) text(p *printer) {
	rows := make([][]string, len(r.Targets))
	for i, t := range r.Targets {
		rows[i] = []string{t.Target, number(t.Files), number(t.TotalFiles), bytesOf(t.Bytes), bytesOf(t.TotalBytes), number(t.Rows), skipped(t.Skipped)}
	}
	p.keysets(r.Keysets)
	p.line("")
	p.table([]string{"TARGET", ">SCAN", ">OF FILES", ">SCAN", ">OF", ">ROWS", "RULED OUT"}, rows)
	p.line("")
	for _, t := range r.Targets {
		for _, b := range t.Blockers {
			p.field("Blocked", "%s: %s", t.Target, b)
		}
		for _, w := range t.Warnings {
			p.field("Warning", "%s: %s", t.Target, w)
		}
	}
	p.excluded(r.Excluded)
	for _, w := range r.Warnings {
		p.field("Warning", "%s", w)
	}
	p.field("Plan", "%s", r.Path)
	p.field("Digest", "%s", r.Digest)
	p.field("Run", "%s", r.RunID)
}

func skipped(items []Skipped) string {
	parts := make([]string, len(items))
	for i, s := range items {
		parts[i] = number(s.Files) + " " + s.Reason
	}
	return strings.Join(parts, ", ")
}

func (r *RunResponse) text(p *printer) {
	if r.Outcome == "" && !r.DryRun && len(r.Targets) == 0 { // it did not get far
		p.field("Run", "%s", r.RunID)
		return
	}
	p.keysets(r.Keysets)
	rows := make([][]string, len(r.Targets))
	var scanned, total, erased, changed int64
	for i, t := range r.Targets {
		rows[i] = []string{t.Target, t.Status, number(t.RowsErased), number(t.AlreadyDeleted), number(t.FilesReplaced), number(t.FilesDropped),
			number(t.FilesScanned) + " of " + number(t.FilesTotal), t.Reason}
		scanned, total, erased = scanned+t.FilesScanned, total+t.FilesTotal, erased+t.RowsErased
		if changed += t.RowsChanged; t.RowsChanged > 0 {
			rows[i][2] = number(t.RowsErased + t.RowsChanged)
		}
	}
	if len(rows) > 0 {
		p.line("")
		acted := ">ROWS ERASED"
		if changed > 0 {
			acted = ">ROWS ERASED OR CHANGED"
		}
		p.table([]string{"TARGET", "RESULT", acted, ">FOLDED IN", ">REWRITTEN", ">DROPPED", ">FILES READ", ""}, rows)
		p.line("")
	}
	r.effort(p, scanned, total, erased, changed)
	if v := r.Purged; v != nil {
		p.field("Purged", "%s (%s), %s", count(v.Files, "file"), bytesOf(v.Bytes), count(v.Snapshots, "snapshot"))
		for _, b := range v.Blockers {
			p.field("Blocked", "%s", b)
		}
	}
	for _, id := range r.PurgedDue {
		p.field("Purged", "%s, whose grace had ended", id)
	}
	p.verification(r.Verification)
	p.excluded(r.Excluded)
	for _, w := range r.Warnings {
		p.field("Warning", "%s", w)
	}
	p.field("Manifest", "%s", r.Manifest)
	p.field("Report", "%s", r.Report)
	p.line("")
	p.field("Outcome", "%s", r.ending())
	p.field("Run", "%s", r.RunID)
}

// effort says what the run read and wrote.
func (r *RunResponse) effort(p *printer, scanned, total, erased, changed int64) {
	verb := "Erased"
	if r.DryRun {
		verb = "Would erase"
	}
	if total > 0 {
		what := count(erased, "row")
		if changed > 0 {
			what += ", changed " + count(changed, "row")
		}
		p.field(verb, "%s; %s of %s read", what, number(scanned), count(total, "file"))
	}
	if r.BytesRead+r.BytesCopied+r.BytesEncoded > 0 {
		p.field("Moved", "%s read, %s copied as they were, %s encoded anew", bytesOf(r.BytesRead), bytesOf(r.BytesCopied), bytesOf(r.BytesEncoded))
	}
}

// ending is the outcome with its date and duration.
func (r *RunResponse) ending() string {
	out := r.Outcome
	if r.DryRun && out == "" {
		out = "dry run: nothing was written to any target"
	}
	if r.PendingUntil != nil {
		out += " until " + day(r.PendingUntil)
	}
	if d := r.Ended.Sub(r.Started); d > 0 {
		out += " in " + took(d)
	}
	return out
}

func (p *printer) verification(v *Verification) {
	if v == nil {
		return
	}
	detail := ""
	if v.Survivors > 0 {
		detail += ", " + count(v.Survivors, "surviving row") + " compared"
	}
	if v.BytesRead > 0 {
		detail += ", " + bytesOf(v.BytesRead) + " read"
	}
	if v.Controls != "" {
		detail += "; control: " + v.Controls
	}
	p.field("Verified", "%s (%s, %s of what it covers)%s", v.Result, v.Mode, strconv.FormatFloat(100*v.Coverage, 'f', -1, 64)+" %", detail)
	for _, s := range v.Surfaces {
		if s.Residue > 0 {
			p.field("RESIDUE", "%s: %s %s%s", s.Target, count(s.Residue, "place"), s.Name, byDay(s.GoneBy))
		}
	}
}

func byDay(date string) string {
	if date == "" {
		return ""
	}
	return ", gone by " + date
}

func (r *RunsResponse) text(p *printer) {
	if len(r.Runs) == 0 {
		p.line("No runs.")
		return
	}
	rows := make([][]string, len(r.Runs))
	for i, x := range r.Runs {
		purge := "purge due " + day(x.PurgeDue)
		switch {
		case x.Purged:
			purge = "purged"
		case x.PurgeDue == nil:
			purge = ""
		}
		rows[i] = []string{x.RunID, x.Job, x.State, x.Outcome, number(x.Rows), moment(x.Started), purge}
	}
	p.table([]string{"RUN", "JOB", "STATE", "OUTCOME", ">ROWS ERASED", "STARTED", ""}, rows)
}

func (r *StatusResponse) text(p *printer) {
	p.field("Run", "%s", r.RunID)
	p.field("Job", "%s", r.Job)
	p.field("State", "%s", r.State)
	p.field("Step", "%s", r.Step)
	if r.Total > 0 {
		p.field("Progress", "%s of %s (%s)", number(r.Done), number(r.Total), percent(r.Done, r.Total))
	}
	p.field("Lease", "%s", r.Holder)
	p.field("Started", "%s", moment(r.Started))
	if r.Ended != nil {
		p.field("Ended", "%s", moment(*r.Ended))
	}
	if r.Result != nil {
		r.Result.text(p)
		return
	}
	p.field("Outcome", "%s", r.Outcome)
}

func (r *PurgeResponse) text(p *printer) {
	if len(r.Runs) == 0 {
		p.line("Nothing is due.")
		return
	}
	for _, x := range r.Runs {
		p.field("Run", "%s of %s: %s", x.RunID, x.Job, x.Outcome)
		if x.NotBefore != nil {
			p.field("Kept", "grace ends %s", moment(*x.NotBefore))
			continue
		}
		verb := "Removed"
		if r.DryRun {
			verb = "Would go"
		}
		p.field(verb, "%s (%s), %s, %s", count(x.Totals.Files, "file"), bytesOf(x.Totals.Bytes), count(x.Totals.Snapshots, "snapshot"), count(x.Totals.Manifests, "Iceberg manifest"))
		for _, b := range x.Totals.Blockers {
			p.field("Blocked", "%s", b)
		}
		p.verification(x.Verification)
		p.field("Manifest", "%s", x.Manifest)
	}
}

func (r *RestoreResponse) text(p *printer) {
	rows := make([][]string, len(r.Tables))
	for i, t := range r.Tables {
		rows[i] = []string{t.Target, number(t.Rows), number(t.Files)}
	}
	head := ">ROWS RESTORED"
	if r.DryRun {
		head = ">ROWS TO RESTORE"
	}
	p.table([]string{"TARGET", head, ">FILES"}, rows)
	p.field("Manifest", "%s", r.Manifest)
	p.field("Outcome", "%s", r.Outcome)
}

func (r *VerifyResponse) text(p *printer) {
	rows := make([][]string, len(r.Surfaces))
	for i, s := range r.Surfaces {
		rows[i] = []string{s.Name, s.Target, number(s.Checked), strconv.FormatFloat(100*s.Coverage, 'f', -1, 64) + " %", number(s.Residue), s.GoneBy, s.Detail}
	}
	p.table([]string{"SURFACE", "TARGET", ">CHECKED", ">COVERED", ">RESIDUE", "GONE BY", ""}, rows)
	if len(rows) > 0 {
		p.line("")
	}
	p.verification(&r.Verification)
}

func (r *ServeResponse) text(p *printer) { p.field("Served", "%s", r.Address) }

func (r *ReportResponse) text(p *printer) {
	for _, c := range r.Checks {
		if !c.OK {
			p.field("FAILED", "%s: %s", c.What, c.Detail)
		}
	}
	switch {
	case r.Valid == nil:
		p.field("Checked", "nothing: name whom you trust with --key or --trust")
	case *r.Valid:
		p.field("Checked", "%s held", count(int64(len(r.Checks)), "check"))
	}
	p.field("Outcome", "%s", r.Outcome)
	p.field("Report", "%s", r.Report)
}

func (r *ManifestResponse) text(p *printer) {
	if r.Valid == nil { // show; verify is about the checks alone
		p.WriteString(r.Text)
		return
	}
	rows := make([][]string, len(r.Checks))
	for i, c := range r.Checks {
		mark := "ok"
		if !c.OK {
			mark = "FAILED"
		}
		rows[i] = []string{mark, c.What, c.Detail}
	}
	p.table([]string{"RESULT", "CHECK", "DETAIL"}, rows)
	p.line("")
	if *r.Valid {
		p.line("The manifest is valid: %s.", r.Outcome)
		return
	}
	p.line("The manifest is NOT valid.")
}

func (r *KeygenResponse) text(p *printer) {
	p.field("Private", "%s", r.Private)
	p.field("Public", "%s", r.Public)
	p.field("Key id", "%s", r.KeyID)
}

func (r *VersionResponse) text(p *printer) {
	revision := ""
	if r.Revision != "" {
		revision = " (" + short(r.Revision) + ")"
	}
	p.line("expunge %s%s %s %s", r.Version, revision, r.Go, r.Platform)
}

func (r *FileResponse) text(p *printer) {
	for _, s := range r.Sections {
		p.line("%s", s.Title)
		p.table(append([]string(nil), s.Head...), s.Rows)
		p.line("")
	}
	if len(r.Sections) > 0 {
		return
	}
	if r.Empty {
		p.line("Every one of the %s is erased: no file was written.", count(r.Rows, "row"))
		return
	}
	if r.Output != "" {
		p.field("Erased", "%s of %s", count(r.Erased, "row"), number(r.Rows))
		p.field("Moved", "%s read, %s copied as they were, %s encoded anew", bytesOf(r.BytesRead), bytesOf(r.BytesCopied), bytesOf(r.BytesEncoded))
		if r.PagesTotal > 0 {
			p.field("Pages", "%s of %s touched", number(r.PagesTouched), number(r.PagesTotal))
		}
		engine := r.Engine
		if r.Fallback != "" {
			engine += " (" + r.Fallback + ")"
		}
		p.field("Rewriter", "%s", engine)
		p.field("Written", "%s, %s", r.Output, bytesOf(r.Size))
		if r.SHA256 != "" {
			p.field("SHA-256", "%s", r.SHA256)
		}
		return
	}
	rows := make([][]string, len(r.Surfaces))
	for i, s := range r.Surfaces {
		rows[i] = []string{s.Name, number(s.Checked), number(s.Residue), s.Detail}
	}
	p.table([]string{"SURFACE", ">CHECKED", ">FOUND", ""}, rows)
	findings := make([][]string, len(r.Findings))
	for i, f := range r.Findings {
		findings[i] = []string{f.Certainty, f.Surface, f.Column, number(f.Count), f.What}
	}
	if len(findings) > 0 {
		p.line("")
		p.table([]string{"FINDING", "SURFACE", "COLUMN", ">COUNT", ""}, findings)
	}
	if r.Found > 0 {
		p.line("\nA key is still stored in %s.", count(r.Found, "place"))
		return
	}
	p.line("\nNo key is stored in the file: %s read.", bytesOf(r.BytesRead))
}
