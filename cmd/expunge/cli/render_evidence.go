package cli

import (
	"fmt"
	"iter"
	"strings"
)

func (r *AuditResponse) lines() iter.Seq2[string, any]       { return each("finding", r.Findings) }
func (r *RequestsResponse) lines() iter.Seq2[string, any]    { return each("request", r.Requests) }
func (r *CertificateResponse) lines() iter.Seq2[string, any] { return each("certified", r.Runs) }

func (r *ApproveResponse) text(p *printer) {
	p.line("Approved plan %s of run %s, until %s.", short(r.Digest), r.RunID, moment(r.Expires))
	if r.Missing > 0 {
		p.line("It needs %s more.", count(int64(r.Missing), "approval"))
		return
	}
	p.line("expunge run --plan %s executes it.", r.RunID)
}

func (r *AuditResponse) text(p *printer) {
	rows := make([][]string, 0, len(r.Findings))
	for _, f := range r.Findings {
		rows = append(rows, []string{f.Target, f.Surface, f.State, number(f.Count), f.File, strings.Join(f.Runs, " ")})
	}
	if len(rows) > 0 {
		p.table([]string{"TARGET", "SURFACE", "STATE", ">FOUND", "FILE", "ERASED BY"}, rows)
		p.line("")
	}
	p.field("Audited", "%s of %s", count(r.Keys, "key"), count(int64(len(r.Runs)), "past run"))
	if n := len(r.Expired); n > 0 {
		p.field("Expired", "the keys of %s were forgotten", count(int64(n), "run"))
	}
	p.field("Manifest", "%s", r.Manifest)
	p.line("")
	switch {
	case r.CameBack:
		p.field("Outcome", "%s: erased data is stored again", r.Outcome)
	default:
		p.field("Outcome", "%s: %s", r.Outcome, strings.Join(r.Reasons, "; "))
	}
}

func (r *LogResponse) text(p *printer) {
	p.field("Log", "%s, %s", r.Origin, count(r.Size, "entry"))
	p.field("Root", "%s", r.Root)
	p.field("Compared", "%s and %s", count(r.Objects, "tile or bundle"), count(r.Manifests, "manifest"))
	if r.Pending > 0 {
		p.field("Pending", "%s claimed and not integrated yet", count(r.Pending, "entry"))
	}
	p.list("MISSING  ", r.Missing)
	p.list("CHANGED  ", r.Changed)
	p.list("not in the log:", r.Unlogged)
	p.line("")
	switch {
	case !r.OK:
		p.line("The log holds; the manifests beside it are not all that were logged.")
	case r.Since > 0:
		p.line("Nothing was removed or changed since the checkpoint of %s that you kept.", count(r.Since, "entry"))
	default:
		p.line("The log has one history. Only a checkpoint that you kept (--since) shows that nothing was cut off its end.")
	}
}

func (r *CheckpointResponse) text(p *printer) {
	if r.Path != "" {
		p.line("Wrote %s. Keep it where the state bucket's owner cannot write.", r.Path)
		return
	}
	p.WriteString(r.Checkpoint)
}

func (r *RequestsResponse) text(p *printer) {
	rows := make([][]string, 0, len(r.Requests))
	for _, q := range r.Requests {
		late := ""
		if q.Met != nil {
			late = map[bool]string{true: "met", false: "MISSED"}[*q.Met]
		}
		rows = append(rows, []string{q.ID, day(q.Received), q.words(), number(int64(q.Keys)), number(int64(q.Found)), number(int64(q.History)), number(int64(q.Held)), day(q.Deadline), late,
			strings.Join(q.Targets, " "), strings.Join(q.Missed, " ")})
	}
	p.table([]string{"REQUEST", "RECEIVED", "STATUS", ">KEYS", ">FOUND", ">HISTORY", ">HELD", "DEADLINE", "", "FOUND IN", "NOT COVERED"}, rows)
	p.line("")
	p.line("%s, %s past the deadline.", count(int64(len(r.Requests)), "request"), number(int64(r.Late)))
	if r.Unread > 0 {
		p.line("%s sealed: what they did per request can no longer be read.", count(int64(r.Unread), "run"))
	}
}

// words are the status with what it leaves open: a date, keys that are held.
func (q *RequestInfo) words() string {
	out := q.Status
	if q.Until != nil && q.Status == "pending" {
		out += " until " + day(q.Until)
	}
	if q.Held > 0 && q.Keys > 0 {
		out += fmt.Sprintf(" (%d of %s held)", q.Held, count(int64(q.Keys+q.Held), "key"))
	}
	return out
}

func (r *CertificateResponse) text(p *printer) {
	if r.Valid != nil {
		rows := make([][]string, len(r.Checks))
		for i, c := range r.Checks {
			rows[i] = []string{map[bool]string{true: "ok", false: "FAILED"}[c.OK], c.What, c.Detail}
		}
		p.table([]string{"RESULT", "CHECK", "DETAIL"}, rows)
		p.line("")
	}
	rows := make([][]string, len(r.Runs))
	for i, c := range r.Runs {
		rows[i] = []string{c.Manifest, c.Kind, c.Outcome, c.Keyset, moment(c.End), number(int64(c.Files))}
	}
	p.table([]string{"MANIFEST", "STEP", "OUTCOME", "KEYSET", "END", ">FILES"}, rows)
	p.line("")
	switch {
	case r.Valid == nil:
		p.field("Wrote", "%s", r.Path)
		p.field("Page", "%s", r.Page)
		if n := len(r.Sealed); n > 0 {
			p.field("Not asked", "%s", count(int64(n), "sealed run"))
		}
	case *r.Valid:
		p.line("The certificate is genuine, and it is about the keys of the subject file.")
	default:
		p.line("The certificate does NOT hold.")
	}
}

func (r *SealResponse) text(p *printer) {
	if r.Already {
		p.line("Run %s was sealed before.", r.RunID)
	} else {
		p.line("Sealed run %s: its secret is gone, and with it every link to a person.", r.RunID)
	}
	p.field("Manifest", "%s", r.Manifest)
}
