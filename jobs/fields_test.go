package jobs_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/verifier"
)

// designFields is the design's table of what a manifest states, row by row, as
// members of the predicate. Those after a bar may be zero in a run without trouble.
var designFields = map[string]string{
	"continuity": "schema_version id continuity.previous_id continuity.previous_sha256 continuity.previous_checkpoint.origin continuity.previous_checkpoint.size " +
		"continuity.previous_checkpoint.root continuity.supersedes continuity.continues continuity.plan_sha256",
	"the clock":            "policy.controller policy.environment policy.legal_basis policy.policy_id policy.requests policy.earliest_request policy.deadline policy.deadline_met",
	"separation of duties": "actors.role actors.name actors.key_id actors.time actors.statement_sha256",
	"reproducibility":      "tool.name tool.version tool.binary_sha256 tool.config_sha256 tool.verifier tool.verifier_version tool.engine tool.platform",
	"what was asked": "keysets.name keysets.commitment.scheme keysets.commitment.root keysets.commitment.size keysets.commitment.band keysets.parts.name keysets.parts.type " +
		"keysets.parts.normalize keysets.sources.name keysets.sources.keyed_digest keysets.sources.bytes keysets.sources.hold keysets.held",
	"the filter": "keysets.filter.kind keysets.filter.bits keysets.filter.hashes keysets.filter.design_false_positive_ppm keysets.filter.measured_false_positive_ppm",
	"scope": "scope.included.target scope.included.uuid scope.included.location scope.included.format_version scope.included.refs scope.included.match scope.included.action scope.claim " +
		"scope.excluded.what scope.excluded.reason scope.excluded.owner scope.excluded.declared",
	"per table": "targets.name targets.status targets.before.snapshot_id targets.before.metadata_sha256 targets.after.snapshot_id targets.after.metadata_sha256 targets.after.metadata_location " +
		"targets.delete_files_removed targets.manifests_removed targets.snapshots_expired targets.blockers.ref targets.blockers.type targets.blockers.snapshot_id targets.blockers.reason " +
		"targets.rows_in targets.rows_out targets.rows_erased targets.rows_already_deleted targets.files_total targets.files_rewritten targets.per_match.rows",
	"evidence":         "evidence.name evidence.sha256 evidence.bytes evidence.records evidence.root evidence.totals.files evidence.totals.rows_erased evidence.totals.physical_deletes",
	"physical deletes": "physical_deletes.objects physical_deletes.bytes physical_deletes.by_kind.kind physical_deletes.by_kind.objects physical_deletes.first physical_deletes.last physical_deletes.stores.store physical_deletes.stores.objects | physical_deletes.already_gone",
	"verification": "verification.mode verification.seed verification.surfaces.target verification.surfaces.surface verification.surfaces.result verification.surfaces.objects verification.surfaces.bytes_read " +
		"verification.surfaces.coverage_ppm verification.surfaces.findings verification.controls.files verification.controls.found_before | verification.controls.found_after",
	"an honest partial result": "residue.target residue.surface residue.count residue.state residue.gone_by residue.owner incidents.failures incidents.skips incidents.resumes incidents.notes.what | incidents.retries incidents.conflicts",
	"outcome and times":        "outcome.result outcome.reasons outcome.rule outcome.pending_until times.start times.end times.commit times.verified times.purged times.purge_due",
}

// designRecords is the row about files and removals, as members of the records.
const designRecords = "path size_before size_after digest_before digest_after etag rows_in rows_out rows_erased method object response time | version"

// realManifests are those of runs that meet what runs meet: approvals, a second
// signer, holds, tombstones, a target that fails and is resumed, a ref that pins,
// a purge after the grace, an object left as it was.
func realManifests(t *testing.T) (out []*manifests.Manifest, records []manifests.Record) {
	t.Helper()
	lake, cfg := smallLake(t, "7d")
	keys, err := os.OpenFile(filepath.Join(lake.Dir, "keys.csv"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3000 {
		fmt.Fprintf(keys, "%d,nobody%d@example.org,DSAR-9%03d,2026-11-02\n", 1<<40+i*1_000_003, i, i)
	}
	if err := keys.Close(); err != nil {
		t.Fatal(err)
	}
	alice, aliceFile := approver(t)
	cfg.Approval = &configs.Approval{Keys: configs.Strings{aliceFile}, Count: 1, Valid: configs.Duration(time.Hour)}
	cfg.Policy.Deadline, cfg.Policy.RequestedBy = configs.Duration(10_000*day), "Privacy office"
	cfg.Verify.Mode, cfg.Verify.Sample = "sample", configs.Whole/2
	_, cfg.Signing.Executor = keyFile(t)
	_, cfg.Signing.Verifier = keyFile(t)
	victim := dataFiles(t, lake, ticketsName)[0]
	whole, err := os.ReadFile(victim)
	if err != nil {
		t.Fatal(err)
	}
	patch(t, victim, func(b []byte) []byte { return b[:len(b)/2] })
	j := open(t, cfg, jobs.Env{BinarySHA256: strings.Repeat("ab", 32)})
	add := func(path string) {
		out = append(out, manifestOf(t, path))
		records = append(records, evidenceOf(t, j, path)...)
	}
	p, err := j.Plan(t.Context(), jobs.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Approve(t.Context(), p.RunID, alice, jobs.ApproveOptions{Name: "Alice"}); err != nil {
		t.Fatal(err)
	}
	sum, err := j.RunPlan(t.Context(), p.RunID, p.Digest, nil)
	wantPartial(t, lake, sum, err, ticketsName)
	add(sum.Manifest)
	if err := os.WriteFile(victim, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if sum, err = j.Resume(t.Context(), sum.RunID); err != nil {
		t.Fatal(err)
	}
	add(sum.Manifest)
	due, err := j.PurgeDue(later(t, 8*day), false)
	if err != nil || len(due) != 1 {
		t.Fatal(due, err)
	}
	add(due[0].Manifest)

	j = pastJob(t, historyLake(t), "0s", "report", 1001, 1002)
	if sum, err = j.Run(t.Context(), jobs.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	add(sum.Manifest)

	l := newObjectLake(t)
	l.fill(t)
	l.put(t, "a/odd.ndjson", "{\"user\":{\"id\":7}}\nno record\n", "")
	j = open(t, l.job(t, "0s", ndjsonTarget), jobs.Env{})
	if sum, err = j.Run(t.Context(), jobs.RunOptions{}); err != nil {
		t.Fatal(err)
	}
	add(sum.Manifest)
	return out, records
}

// TestEveryFieldOfTheDesignIsStated by real manifests, and known to the schema.
func TestEveryFieldOfTheDesignIsStated(t *testing.T) {
	all, records := realManifests(t)
	var schema map[string]any
	if err := json.Unmarshal(manifests.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	stated := map[string]bool{} // path → with a value
	for _, m := range all {
		walk(stated, "", document(t, m))
	}
	signed := map[string]string{} // role → key
	for _, a := range all[0].Actors {
		signed[a.Role] = a.KeyID
	}
	if signed[manifests.RoleExecutor] == "" || signed[manifests.RoleVerifier] == "" || signed[manifests.RoleExecutor] == signed[manifests.RoleVerifier] {
		t.Errorf("executor and verifier sign with %v", signed)
	}
	for row, text := range designFields {
		must, may, _ := strings.Cut(text, " | ")
		for _, field := range slices.Concat(strings.Fields(must), strings.Fields(may)) {
			if !inSchema(schema, schema["$defs"].(map[string]any)["Manifest"], field) {
				t.Errorf("%s: %s is not in the schema", row, field)
			}
			if field == "tool.verifier_version" && verifier.Version() == "" {
				continue // a test's binary does not know its modules; make interop looks at the program's
			}
			if filled, there := stated[field]; !there || !filled && slices.Contains(strings.Fields(must), field) {
				t.Errorf("%s: no manifest states %s", row, field)
			}
		}
	}
	clear(stated)
	methods := map[string]bool{}
	for _, r := range records {
		walk(stated, "", document(t, r))
		methods[r.Method] = true
	}
	must, _, _ := strings.Cut(designRecords, " | ")
	for _, field := range strings.Fields(must) {
		if !stated[field] {
			t.Errorf("no record of the evidence states %s", field)
		}
	}
	for _, m := range []string{manifests.MethodScanned, manifests.MethodRewritten, manifests.MethodDropped} {
		if !methods[m] {
			t.Errorf("no record of method %q: %v", m, methods)
		}
	}
}

func document(t *testing.T, v any) (doc any) {
	t.Helper()
	raw, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(raw, &doc)
	}
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// walk notes every member, and whether it has a value anywhere.
func walk(out map[string]bool, at string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			walk(out, strings.TrimPrefix(at+"."+k, "."), e)
		}
	case []any:
		for _, e := range v {
			walk(out, at, e)
		}
	}
	out[at] = out[at] || v != nil && !reflect.ValueOf(v).IsZero()
}

// inSchema follows a member's path through the published schema.
func inSchema(root map[string]any, at any, path string) bool {
	node := at.(map[string]any)
	for {
		if ref, ok := node["$ref"].(string); ok {
			node = root["$defs"].(map[string]any)[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
		} else if items, ok := node["items"].(map[string]any); ok {
			node = items
		} else {
			break
		}
	}
	if path == "" {
		return true
	}
	name, rest, _ := strings.Cut(path, ".")
	props, _ := node["properties"].(map[string]any)
	next, ok := props[name]
	return ok && inSchema(root, next, rest)
}

// TestAManifestNamesTheLastOneOfTheLog: a run's manifest that continues no other
// is chained to the one before it in the log, of whichever run.
func TestAManifestNamesTheLastOneOfTheLog(t *testing.T) {
	_, cfg := smallLake(t, "0s")
	j := open(t, cfg, jobs.Env{})
	var id, digest string
	for range 3 {
		sum, err := j.Run(t.Context(), jobs.RunOptions{})
		if err != nil {
			t.Fatal(err)
		}
		m := manifestOf(t, sum.Manifest)
		if m.Continuity.PreviousID != id || m.Continuity.PreviousSHA256 != digest {
			t.Errorf("%s follows %q (%s), want %q (%s)", m.ID, m.Continuity.PreviousID, m.Continuity.PreviousSHA256, id, digest)
		}
		raw, err := os.ReadFile(sum.Manifest)
		if err != nil {
			t.Fatal(err)
		}
		sha := sha256.Sum256(raw)
		id, digest = m.ID, hex.EncodeToString(sha[:])
	}
}
