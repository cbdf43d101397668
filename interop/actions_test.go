//go:build interop

package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// acted is what py/actions.py says of one table.
type acted struct {
	Changed, Files int
	Wrong, Left    []string
}

// Rows are redacted, lists and maps lose elements: PyIceberg, DuckDB and pyarrow
// see null or the constant there and every other value as it was, and no file of
// the table holds a byte of what went.
func TestRedactionAndElementRemoval(t *testing.T) {
	l := localLake(t)
	python(t, "actions.py", "make", l.pyConfig(), nil)
	var before, after map[string]acted
	python(t, "actions.py", "judge", l.pyConfig(), &before)
	for table, a := range before {
		if a.Changed == 0 || len(a.Wrong) != 3 || len(a.Left) == 0 {
			t.Fatalf("%s before the run: %+v: the judges would find nothing", table, a)
		}
	}
	var job strings.Builder
	fmt.Fprintf(&job, "version: 1\nname: actions\npolicy: {controller: Interop, id: I-2, basis: GDPR Art. 17}\nstate: %q\ngrace: 0s\nlimits: {share: 60%%}\nverify: {mode: full}\ncatalogs:\n  lake:\n", l.state)
	for k, v := range l.job {
		fmt.Fprintf(&job, "    %s: %q\n", k, v)
	}
	fmt.Fprintf(&job, `keysets:
  users: {source: %q, key: {id: int64}}
targets:
  - table: lake.air.people
    match: [{users: customer.id}]
    action: {redact: {customer.name: null, customer.mail: gone, city: REDACTED, born: null, tags: null}}
  - table: lake.air.rooms
    match: [{users: members.element.id}]
    action: {remove_element: members}
  - table: lake.air.scores
    match: [{users: by_user.key}]
    action: {remove_element: by_user}
`, l.keys)
	file := filepath.Join(l.dir, "job.yaml")
	if err := os.WriteFile(file, []byte(job.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	mustErase(t, file)
	python(t, "actions.py", "judge", l.pyConfig(), &after)
	for table, a := range after {
		for _, w := range a.Wrong {
			t.Errorf("%s: %s", table, w)
		}
		if len(a.Left) > 0 {
			t.Errorf("%s: bytes of what went are in %v", table, a.Left)
		}
		t.Logf("%s: %d rows changed in %d files, as three readers see them", table, a.Changed, a.Files)
	}
}
