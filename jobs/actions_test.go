package jobs_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/internal/demo"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/verifier"
)

// rowsOf reads a table's rows as JSON documents, in no order that matters.
func rowsOf(t *testing.T, lake *demo.Lakehouse, name string) (rows []map[string]any) {
	t.Helper()
	tbl, err := loadTable(t, lake, name).Scan().ToArrowTable(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tbl.Release()
	r := array.NewTableReader(tbl, 1000)
	defer r.Release()
	for r.Next() {
		var buf bytes.Buffer
		if err := array.RecordToJSON(r.RecordBatch(), &buf); err != nil {
			t.Fatal(err)
		}
		dec := json.NewDecoder(&buf)
		dec.UseNumber()
		for dec.More() {
			var row map[string]any
			if err := dec.Decode(&row); err != nil {
				t.Fatal(err)
			}
			rows = append(rows, row)
		}
	}
	return rows
}

func sorted(t *testing.T, rows []map[string]any) []string {
	t.Helper()
	out := make([]string, len(rows))
	for i, r := range rows {
		b, err := json.Marshal(r) // keys are sorted
		if err != nil {
			t.Fatal(err)
		}
		out[i] = string(b)
	}
	slices.Sort(out)
	return out
}

func sameTable(t *testing.T, lake *demo.Lakehouse, name string, want []map[string]any) {
	t.Helper()
	g, w := sorted(t, rowsOf(t, lake, name)), sorted(t, want)
	if len(g) != len(w) {
		t.Fatalf("%s: %d rows, want %d", name, len(g), len(w))
	}
	for i := range g {
		if g[i] != w[i] {
			t.Fatalf("%s: a row is\n%s\nwant\n%s", name, g[i], w[i])
		}
	}
}

// actionJob redacts in two tables and removes list elements in a third.
func actionJob(cfg *configs.Job) {
	cfg.Targets = []configs.Target{
		{Table: "lake.sales.orders", Refs: "block", MissingColumn: "error", Match: []configs.Match{{Keyset: "users", Columns: []string{"customer.id"}}},
			Action: configs.Action{Kind: configs.Redact, Redact: []configs.Redaction{
				{Column: "contact.email", Value: "REDACTED"}, {Column: "contact.phone", Null: true}, {Column: "amount", Value: "7.25"},
			}}},
		{Table: "lake.events.logins", Refs: "block", MissingColumn: "error", Match: []configs.Match{{Keyset: "users", Columns: []string{"user_id"}}},
			Action: configs.Action{Kind: configs.Redact, Redact: []configs.Redaction{{Column: "email", Null: true}, {Column: "agent", Null: true}}}},
		{Table: "lake.support.tickets", Refs: "block", MissingColumn: "error", Match: []configs.Match{{Keyset: "users", Columns: []string{"people.element.id"}}},
			Action: configs.Action{Kind: configs.RemoveElement, Element: "people"}},
	}
}

// expected carries the job out on rows in memory.
func expected(t *testing.T, lake *demo.Lakehouse) (tables map[string][]map[string]any, changed map[string]int64) {
	erased := map[string]bool{}
	for _, id := range lake.Erased {
		erased[json.Number(jsonInt(id)).String()] = true
	}
	isErased := func(v any) bool { n, ok := v.(json.Number); return ok && erased[n.String()] }
	tables, changed = map[string][]map[string]any{}, map[string]int64{}
	for _, name := range []string{"lake.sales.orders", "lake.events.logins", "lake.support.tickets", "lake.events.clicks"} {
		rows := rowsOf(t, lake, name)
		for _, r := range rows {
			switch name {
			case "lake.sales.orders":
				if isErased(r["customer"].(map[string]any)["id"]) {
					c := r["contact"].(map[string]any)
					c["email"], c["phone"], r["amount"] = "REDACTED", nil, "7.25"
					changed[name]++
				}
			case "lake.events.logins":
				if isErased(r["user_id"]) {
					r["email"], r["agent"] = nil, nil
					changed[name]++
				}
			case "lake.support.tickets":
				people, _ := r["people"].([]any)
				kept := slices.DeleteFunc(slices.Clone(people), func(p any) bool { return isErased(p.(map[string]any)["id"]) })
				if len(kept) < len(people) {
					if r["people"] = kept; len(kept) == 0 {
						r["people"] = []any{} // a list that loses all elements is empty, never null
					}
					changed[name]++
				}
			}
		}
		tables[name] = rows
	}
	return tables, changed
}

func jsonInt(n int64) string {
	b, _ := json.Marshal(n)
	return string(b)
}

// Redaction and element removal end to end: exactly the matching rows change,
// in exactly the named way, nothing of it is left anywhere, and a second run
// finds nothing to do although the keys are still in the redacted tables.
func TestRedactionAndElementRemoval(t *testing.T) {
	lake, cfg := smallLake(t, "0s")
	want, changed := expected(t, lake)
	actionJob(cfg)
	j := open(t, cfg, jobs.Env{})
	dry, err := j.Run(t.Context(), jobs.RunOptions{DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	sum, err := j.Run(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if sum.Outcome != string(manifests.Erased) {
		t.Fatalf("outcome %s %v, want ERASED", sum.Outcome, sum.Reasons)
	}
	for i, s := range sum.Targets {
		if s.Committed == nil {
			t.Fatalf("%s: %s %s", s.Name, s.Status, s.Reason)
		}
		if n := changed[s.Name]; n == 0 || s.Committed.RowsChanged != n || dry.Targets[i].Scan.Changed != n || s.Committed.RowsErased != 0 {
			t.Errorf("%s: changed %d rows (dry run %d), erased %d; want %d and 0", s.Name, s.Committed.RowsChanged, dry.Targets[i].Scan.Changed, s.Committed.RowsErased, n)
		}
	}
	for name, rows := range want {
		sameTable(t, lake, name, rows)
	}
	if c := sum.Verification.Controls; len(c) != 3 || slices.ContainsFunc(c, func(c manifests.Control) bool { return !c.Before || c.After }) {
		t.Errorf("positive controls %+v, want three: found before, absent after", c)
	}
	v, err := j.Verify(t.Context(), sum.RunID, jobs.VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range v.Surfaces {
		if s.Result == manifests.Fail || s.Result == manifests.Found || s.Findings > 0 {
			t.Errorf("%s: %s is %s with %d findings", s.Target, s.Surface, s.Result, s.Findings)
		}
	}
	again, err := j.Run(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if again.Outcome != string(manifests.NothingToErase) {
		t.Errorf("a second run is %s %v, want NOTHING_TO_ERASE", again.Outcome, again.Reasons)
	}
}

// The verification sees a redaction that was not carried out.
func TestVerifyFindsWhatIsNotRedacted(t *testing.T) {
	lake, cfg := smallLake(t, "0s")
	_, changed := expected(t, lake)
	actionJob(cfg)
	v, err := open(t, cfg, jobs.Env{}).Verify(t.Context(), "", jobs.VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int64{}
	for _, s := range v.Surfaces {
		if s.Surface == verifier.LiveRows {
			found[s.Target] = s.Findings
		}
	}
	if !maps.Equal(found, changed) {
		t.Errorf("live rows to change %v, want %v", found, changed)
	}
}

// Rows that stayed cannot be added back: restore says so and changes nothing.
func TestRestoreOfRedactionIsRefused(t *testing.T) {
	lake, cfg := smallLake(t, "7d")
	actionJob(cfg)
	j := open(t, cfg, jobs.Env{})
	sum, err := j.Run(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	before := allContents(t, lake)
	for _, tables := range [][]string{nil, {"lake.support.tickets"}} {
		_, err := j.Restore(t.Context(), sum.RunID, tables, false)
		if !errors.Is(err, jobs.ErrUsage) || !strings.Contains(err.Error(), "restore adds erased rows back") {
			t.Errorf("restore %v: %v; want a refusal with its reason", tables, err)
		}
	}
	if !maps.Equal(before, allContents(t, lake)) {
		t.Error("a refused restore changed a table")
	}
}

// What an action cannot do is refused before anything is planned.
func TestActionsAreRefusedAtPlanning(t *testing.T) {
	lake, cfg := smallLake(t, "7d")
	before := allContents(t, lake)
	redact := func(column, value string) configs.Action {
		return configs.Action{Kind: configs.Redact, Redact: []configs.Redaction{{Column: column, Value: value, Null: value == ""}}}
	}
	users := func(column string) []configs.Match {
		return []configs.Match{{Keyset: "users", Columns: []string{column}}}
	}
	for what, c := range map[string]struct {
		table  string
		match  []configs.Match
		action configs.Action
		says   string
	}{
		"required":          {"sales.orders", users("customer.id"), redact("order_id", ""), "it is required"},
		"required, value":   {"events.logins", users("user_id"), redact("user_id", "0"), "it is required"},
		"partition source":  {"events.clicks", users("user_id"), redact("user_id", "0"), "partitioned by it"},
		"overlap":           {"sales.orders", users("customer.id"), configs.Action{Kind: configs.Redact, Redact: []configs.Redaction{{Column: "contact", Null: true}, {Column: "contact.email", Null: true}}}, "overlaps"},
		"constant, struct":  {"sales.orders", users("customer.id"), redact("contact", "x"), "a struct"},
		"constant, type":    {"sales.orders", users("customer.id"), redact("amount", "gone"), "no value of type decimal(12, 2)"},
		"constant, scale":   {"sales.orders", users("customer.id"), redact("amount", "0.001"), "no value of type"},
		"element of a text": {"support.tickets", users("people.element.id"), configs.Action{Kind: configs.RemoveElement, Element: "subject"}, "not a list or map"},
		"key outside":       {"sales.orders", users("customer.id"), configs.Action{Kind: configs.RemoveElement, Element: "contact"}, "not a list or map"},
		"implied delete":    {"support.tickets", users("people.element.id"), configs.Action{Kind: configs.Delete, Implied: true}, "say with action"},
	} {
		cfg := *cfg
		cfg.Targets = []configs.Target{{Table: "lake." + c.table, Refs: "block", MissingColumn: "error", Match: c.match, Action: c.action}}
		j := open(t, &cfg, jobs.Env{})
		_, err := j.Plan(t.Context(), jobs.RunOptions{})
		if !errors.Is(err, jobs.ErrUsage) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v; want a usage error that says %q", what, err, c.says)
		}
		if err != nil && strings.Contains(err.Error(), "gone") {
			t.Errorf("%s: the error quotes the constant", what)
		}
	}
	if !maps.Equal(before, allContents(t, lake)) {
		t.Error("a refused action changed a table")
	}
}
