package configs

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

func TestExamplesLoad(t *testing.T) {
	names, err := filepath.Glob("examples/*.yaml")
	if err != nil || len(names) < 4 {
		t.Fatalf("examples: %v, %v", names, err)
	}
	for _, name := range names {
		if _, err := Load(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheDesignsJobReadsAsWritten(t *testing.T) {
	j, err := Load("examples/nightly.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := Limits{Rows: 5_000_000, Share: Percent, Files: 20_000, Bandwidth: 400 << 20, Requests: 800}
	if d := cmp.Diff(want, j.Limits); d != "" {
		t.Error(d)
	}
	if got := j.Policy.Deadline.Duration(); got != 30*24*time.Hour {
		t.Errorf("deadline %v", got)
	}
	devices := j.Keysets["devices"]
	if d := cmp.Diff(KeyParts{{"tenant", "string"}, {"device_id", "uuid"}}, devices.Key); d != "" {
		t.Errorf("parts of a composite key keep their order: %s", d)
	}
	if d := cmp.Diff([]Match{{"users", []string{"customer.id"}}, {"emails", []string{"contact.email"}}}, j.Targets[0].Match); d != "" {
		t.Error(d)
	}
	if a := j.Targets[3].Action; a.Kind != RemoveElement || a.Element != "members" {
		t.Errorf("action %+v", a)
	}
	if d := cmp.Diff([]Redaction{{Column: "name", Null: true}, {Column: "city", Value: "REDACTED"}}, j.Targets[4].Action.Redact); d != "" {
		t.Error(d)
	}
	if got := j.Excluded[0].GoneBy.String(); got != "2027-01-31" {
		t.Errorf("gone_by %s", got)
	}
	if j.Targets[1].Refs != "block" || j.Targets[1].MissingColumn != "list" || j.Targets[0].MissingColumn != "error" {
		t.Errorf("defaults: %+v", j.Targets[:2])
	}
}

// small is a valid job to spoil.
const small = `version: 1
name: small
catalogs: {lake: {type: sql, uri: "sqlite:///x.db"}}
keysets: {users: {source: keys.csv, key: {id: int64}}}
targets: [{table: lake.a.b, match: [{users: id}]}]
`

func TestDefaultsAreThoseOfTheDesign(t *testing.T) {
	j, err := Parse([]byte(small))
	if err != nil {
		t.Fatal(err)
	}
	if j.Grace.String() != "7d" || j.Limits.Share != Percent || j.Targets[0].Refs != "block" || j.Targets[0].Action.Kind != Delete {
		t.Errorf("grace %s, share %s, target %+v", j.Grace, j.Limits.Share, j.Targets[0])
	}
}

func TestWhatIsWrongIsNamedWithLineAndColumn(t *testing.T) {
	add := func(lines string) string { return small + lines }
	change := func(old, new string) string {
		if !strings.Contains(small, old) {
			panic(old)
		}
		return strings.Replace(small, old, new, 1)
	}
	for _, c := range []struct{ name, job, want string }{
		{"unknown field", add("polcy: {id: x}\n"), `job:6:1: unknown field "polcy"; did you mean "policy"?`},
		{"unknown nested field", add("policy: {controler: x}\n"), `job:6:10: policy: unknown field "controler"; did you mean "controller"?`},
		{"field given twice", add("name: again\n"), `job:6:1: `},
		{"no version", change("version: 1\n", ""), `job:1:1: version: "0": this release reads version 1`},
		{"other version", change("version: 1", "version: 2"), `job:1:1: version: "2"`},
		{"bad duration", add("grace: 7 days\n"), `job:6:8: grace: "7 days": not a duration`},
		{"negative duration", add("grace: -7d\n"), `job:6:8: grace: "-7d": not a duration`},
		{"bare share", add("limits: {share: 1}\n"), `job:6:17: limits.share: "1": not a share such as 1%`},
		{"share above all", add("limits: {share: 101%}\n"), `limits.share: "101%": share is above 100%`},
		{"rate without time", add("limits: {bandwidth: 400MiB}\n"), `limits.bandwidth: "400MiB": not a rate`},
		{"empty section", add("limits:\n"), `job:6:`},
		{"list for a section", add("limits: [1]\n"), `limits: needs fields, not a list`},
		{"unknown keyset", change("{users: id}", "{user: id}"), `targets[0].match[0]: no keyset of the job is named "user"; did you mean "users"?`},
		{"unknown catalog", change("lake.a.b", "leak.a.b"), `no catalog of the job is named "leak"`},
		{"short table", change("lake.a.b", "lake.b"), `not of the form catalog.namespace.table`},
		{"key type", change("int64", "int32"), `keysets.users.key.id: "int32": not one of int64`},
		{"decimal", change("int64", `"decimal(4,9)"`), `scale at most the precision`},
		{"decimal without quotes", change("int64", "decimal(4,2)"), `needs quotes here`},
		{"columns and parts", change("{users: id}", "{users: [id, x]}"), `keyset users has a key of 1 part, the match names 2 columns`},
		{"two keysets in a match", change("{users: id}", "{users: id, b: c}"), `one keyset an item`},
		{"nested without action", change("{users: id}", "{users: people.element.id}"), `say with action whether the row goes`},
		{"nested, other path form", change("{users: id}", `{users: "$.people[*].id"}`), `say with action whether the row goes`},
		{"element elsewhere", change("match:", "action: {remove_element: other}, match:"), `which lies outside it`},
		{"unknown action", change("match:", "action: erase, match:"), `"erase": not delete`},
		{"two actions", change("match:", "action: {redact: {a: null}, remove_element: b}, match:"), `a target has one action`},
		{"same target twice", change("targets: [", "targets: [{table: lake.a.b, match: [{users: x}]}, "), `is a target already (targets[0])`},
		{"table with glob", change("match:", `glob: "*.csv", match:`), `belongs to a prefix`},
		{"refs", change("match:", "refs: blok, match:"), `"blok": not one of block, drop, report; did you mean "block"?`},
		{"zone", add("schedule: {cron: '1 2 * * *', timezone: Europe/Berln}\n"), `schedule.timezone: "Europe/Berln": unknown time zone`},
		{"cron", add("schedule: {cron: '1 2 * *'}\n"), `schedule.cron: "1 2 * *": not a schedule of five fields`},
		{"cron every", add("schedule: {cron: '@every 1h'}\n"), `not a schedule of five fields`},
		{"grace beyond deadline", add("grace: 40d\npolicy: {deadline: 30d}\n"), `job:6:1: grace: "40d"`[:12]},
		{"orphan age", add("orphans: {min_age: 1h}\n"), `at least 24h`},
		{"temporal field", add("engine: {address: x}\n"), `belongs to engine type temporal`},
		{"sample", add("verify: {mode: sample}\n"), `mode sample and a share above 0% go together`},
		{"exclusion without owner", add("excluded: [{what: a, reason: b}]\n"), `say what is excluded, the reason and its owner`},
		{"anchor", change("sqlite:///x.db\"}", "x\"}, b: &a {type: glue}"), `not supported`},
		{"two documents", add("---\nname: x\n"), `one document`},
		{"empty", "", `the file is empty`},
		{"not YAML", "a: [", `not valid YAML`},
		{"deep", "a: " + strings.Repeat("[", 10_000), `nested too deeply`},
		{"deep block", strings.Repeat("- ", 10_000) + "a", `nested too deeply`},
		{"large", strings.Repeat("#", 2<<20), `larger than 1 MiB`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse([]byte(c.job))
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("got %v, want ErrInvalid", err)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
			var one *Error
			if !errors.As(err, &one) || one.Line == 0 || one.Column == 0 {
				t.Errorf("%v has no position", err)
			}
		})
	}
}

func TestAllErrorsAreReportedInTheFilesOrder(t *testing.T) {
	_, err := Parse([]byte(small + "grace: x\nlimits: {rows: y}\nverify: {mode: z, sed: 1}\n"))
	var many Errors
	if !errors.As(err, &many) || len(many) != 3 {
		t.Fatalf("got %v", err)
	}
	if !slices.IsSortedFunc(many, func(a, b *Error) int { return a.Line - b.Line }) {
		t.Errorf("not in order: %v", err)
	}
}

// canary is a secret that must never come out.
const canary = "hunter2-canary"

func TestASecretNeverComesOut(t *testing.T) {
	t.Setenv("CANARY", canary)
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(canary+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	j, err := Parse([]byte(strings.Replace(small, `{type: sql, uri: "sqlite:///x.db"}`,
		`{type: sql, uri: "postgresql://u:${env:CANARY}@db/x", token: "${file:`+file+`}"}`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	props := j.Catalogs["lake"]
	var shown strings.Builder
	log := slog.New(slog.NewTextHandler(&shown, nil))
	log.Info("x", "props", props, "one", props["token"])
	asJSON, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	asYAML, err := yaml.Marshal(props)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&shown, "%v %+v %#v %s %q %d %x %v %s %s", props, props, props, props["uri"], props["uri"], props["uri"], props["uri"], *j, asJSON, asYAML)
	for _, leak := range []string{canary, "CANARY", file} {
		if strings.Contains(shown.String(), leak) {
			t.Errorf("%s in %s", leak, shown.String())
		}
	}
	revealed, err := props.Reveal()
	if err != nil {
		t.Fatal(err)
	}
	if revealed["token"] != canary || revealed["uri"] != "postgresql://u:"+canary+"@db/x" {
		t.Errorf("revealed %q", revealed)
	}
}

func TestALiteralSecretIsRefusedAndNotShown(t *testing.T) {
	for _, prop := range []string{
		"token: " + canary, "password: " + canary, "s3.secret-access-key: " + canary, "s3.session-token: " + canary,
		"credential: id:" + canary, `uri: "postgresql://u:` + canary + `@db/x"`, `uri: "https://x/?sig=` + canary + `"`,
		"adls.account-key: " + canary, "adls.sas-token: " + canary, `token: "${file:` + canary + `"`, `token: "${vault:` + canary + `}"`,
		"token: [" + canary + "]", "token: {a: " + canary + "}", `token: "` + canary,
	} {
		_, err := Parse([]byte(strings.Replace(small, `uri: "sqlite:///x.db"`, prop, 1)))
		if !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", prop, err)
		} else if strings.Contains(err.Error(), canary) {
			t.Errorf("the error shows it: %v", err)
		}
	}
}

func TestHarmlessPropertiesAreShown(t *testing.T) {
	for _, name := range []string{"uri", "warehouse", "s3.region", "s3.endpoint", "oauth2-server-uri", "token-refresh-enabled", "glue.region", "catalog_name"} {
		if s := newProp(name, "https://x"); s.Sensitive() || s.String() != "https://x" {
			t.Errorf("%s is hidden", name)
		}
	}
}

func TestAMissingSecretNamesItsReference(t *testing.T) {
	for _, ref := range []string{"${env:NOT_SET_ANYWHERE}", "${file:/not/there}"} {
		_, err := newProp("token", ref).Reveal()
		if !errors.Is(err, ErrSecret) || !strings.Contains(err.Error(), strings.Trim(ref[2:], "envfil:}")) {
			t.Errorf("%s: %v", ref, err)
		}
	}
}

func TestRelativePathsMeanTheJobsFolder(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "job.yaml")
	body := strings.Replace(small, `type: sql`, `type: sql, token: "${file:tok}"`, 1) + "state: st\nsigning: {executor: \"file:k\", trust: t.json}\n"
	if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tok"), []byte("v"), 0o600); err != nil {
		t.Fatal(err)
	}
	j, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	got := []string{j.State, j.Keysets["users"].Source[0], j.Signing.Executor, j.Signing.Trust}
	if d := cmp.Diff([]string{in("st"), in("keys.csv"), "file:" + in("k"), in("t.json")}, got); d != "" {
		t.Error(d)
	}
	if v, err := j.Catalogs["lake"]["token"].Reveal(); v != "v" || err != nil {
		t.Errorf("token %q, %v", v, err)
	}
	thawed, err := j.Freeze().Thaw()
	if err != nil {
		t.Fatal(err)
	}
	a, _ := j.Digest()
	if b, _ := thawed.Digest(); a != b || thawed.State != j.State {
		t.Errorf("a thawed job differs: %s %s", a, b)
	}
	for _, url := range []string{"s3://b/x", "gs://b", "abfss://c@a/x", "/abs", "mem://x"} {
		if absolute(dir, url) != url {
			t.Errorf("%s became %s", url, absolute(dir, url))
		}
	}
}

func TestTheDigestFollowsMeaning(t *testing.T) {
	digest := func(body string) string {
		j, err := Parse([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		d, err := j.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	base := digest(small)
	for name, same := range map[string]string{
		"a comment":         "# hello\n" + small,
		"a default, stated": small + "grace: 7d\n",
		"other spelling":    small + "grace: 168h\n",
	} {
		if digest(same) != base {
			t.Errorf("%s changes the digest", name)
		}
	}
	for name, other := range map[string]string{
		"grace":   small + "grace: 8d\n",
		"column":  strings.Replace(small, "{users: id}", "{users: other}", 1),
		"source":  strings.Replace(small, "keys.csv", "other.csv", 1),
		"catalog": strings.Replace(small, "x.db", "y.db", 1),
		"action":  strings.Replace(small, "match:", "action: {redact: {a: null}}, match:", 1),
	} {
		if digest(other) == base {
			t.Errorf("%s does not change the digest", name)
		}
	}
	withToken := func(ref string) string {
		return digest(strings.Replace(small, "type: sql", `type: sql, token: "`+ref+`"`, 1))
	}
	if withToken("${env:A}") != withToken("${env:B}") {
		t.Error("a secret's reference is part of the digest")
	}
}

func TestACommitBeyondADeadlineIsRefused(t *testing.T) {
	j := Default()
	j.Policy.Deadline = Duration(30 * 24 * time.Hour)
	j.Grace = Duration(7 * 24 * time.Hour)
	received := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	if err := j.CheckDeadline(received.AddDate(0, 0, 23), received); err != nil {
		t.Errorf("gone on the day it is due: %v", err)
	}
	if err := j.CheckDeadline(received.AddDate(0, 0, 23).Add(time.Second), received); !errors.Is(err, ErrDeadline) {
		t.Errorf("gone a second late: %v", err)
	}
	if err := j.CheckDeadline(received.AddDate(1, 0, 0), time.Time{}); err != nil {
		t.Errorf("no request dates known: %v", err)
	}
}

func TestTheREADMEsJobLoads(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(readme), "```yaml\n")
	job, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("README.md shows no job file")
	}
	if _, err := Parse([]byte(job)); err != nil {
		t.Error(err)
	}
}

func TestEveryFieldIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/job-file.md")
	if err != nil {
		t.Fatal(err)
	}
	var walk func(typ reflect.Type)
	walk = func(typ reflect.Type) {
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice || typ.Kind() == reflect.Map {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct {
			return
		}
		for i := range typ.NumField() {
			f := typ.Field(i)
			name := f.Tag.Get("yaml")
			if name == "" {
				continue
			}
			if !regexp.MustCompile("[`.]" + name + "[`.\\[<]").Match(doc) {
				t.Errorf("%s.%s: %s is not in docs/job-file.md", typ.Name(), f.Name, name)
			}
			walk(f.Type)
		}
	}
	walk(reflect.TypeFor[Job]())
}
