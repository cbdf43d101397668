package configs

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// checker collects what is wrong with a job.
type checker struct {
	job  *Job
	errs Errors
}

// failf reports an error at a field, or at the nearest enclosing one the file has.
func (c *checker) failf(field, format string, args ...any) {
	e := &Error{File: c.job.file, Path: field, Msg: fmt.Sprintf(format, args...)}
	for p := field; c.job.pos != nil; p = parent(p) {
		if at, ok := c.job.pos[p]; ok {
			e.Line, e.Column = at.line, at.column
			break
		}
		if p == "" {
			e.Line, e.Column = 1, 1
			break
		}
	}
	c.errs = append(c.errs, e)
}

// parent drops the last step of a path: a.b[2].c, a.b[2], a.b, a, "".
func parent(p string) string {
	return p[:max(strings.LastIndexAny(p, ".["), 0)]
}

// oneOf checks a word against its choices; "" is allowed where optional.
func (c *checker) oneOf(field, value string, optional bool, choices ...string) {
	if optional && value == "" || slices.Contains(choices, value) {
		return
	}
	c.failf(field, "%s: not one of %s%s", quote(value), strings.Join(choices, ", "), suggest(value, choices))
}

// Validate reports everything that is wrong with the job as Errors. A job from
// Load or Parse has passed it; one built in Go has to.
func (j *Job) Validate() error {
	c := &checker{job: j}
	c.head()
	c.engine()
	c.evidence()
	c.rules()
	c.catalogs()
	for _, name := range slices.Sorted(maps.Keys(j.Keysets)) {
		c.keyset(name, j.Keysets[name])
	}
	if len(j.Keysets) == 0 {
		c.failf("keysets", "name at least one keyset")
	}
	if len(j.Targets) == 0 {
		c.failf("targets", "name at least one table or prefix")
	}
	for i := range j.Targets {
		c.target(fmt.Sprintf("targets[%d]", i), &j.Targets[i])
	}
	c.duplicates()
	for i, e := range j.Excluded {
		field := fmt.Sprintf("excluded[%d]", i)
		if e.What == "" || e.Reason == "" || e.Owner == "" {
			c.failf(field, "say what is excluded, the reason and its owner")
		}
	}
	return c.errs.sorted()
}

var (
	nameForm = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_-]{0,62}$`)
	keyForm  = regexp.MustCompile(`^(file|env|gcpkms|hashivault):.+`)
	wrapForm = regexp.MustCompile(`^(awskms|gcpkms|hashivault):.+`)
)

func (c *checker) head() {
	j := c.job
	if j.Version != Version {
		c.failf("version", "%s: this release reads version %d", quote(strconv.Itoa(j.Version)), Version)
	}
	if !nameForm.MatchString(j.Name) {
		c.failf("name", "%s: a job's name has letters, digits, - and _, at most 63", quote(j.Name))
	}
	if j.State == "" {
		c.failf("state", "name the state bucket: a folder or a bucket URL")
	}
	c.signer("signing.executor", j.Signing.Executor)
	c.signer("signing.verifier", j.Signing.Verifier)
	c.schedule("schedule", j.Schedule)
}

func (c *checker) schedule(field string, s *Schedule) {
	if s == nil {
		return
	}
	if _, _, err := s.parse(); err != nil {
		at, value := join(field, "cron"), s.Cron
		if strings.Contains(err.Error(), "zone") && !strings.Contains(err.Error(), "five fields") {
			at, value = join(field, "timezone"), s.Timezone
		}
		c.failf(at, "%s: %s", quote(value), err)
	}
	c.oneOf(join(field, "missed"), s.Missed, false, "once", "all", "skip")
	c.oneOf(join(field, "overlap"), s.Overlap, false, "skip", "queue")
}

func (c *checker) signer(field, ref string) {
	if strings.HasPrefix(ref, "awskms:") {
		c.failf(field, "AWS KMS signs at most 4,096 bytes and a manifest is larger: wrap a key file with it (expunge keygen --wrap %s) and name the file", ref)
		return
	}
	if ref != "" && !keyForm.MatchString(ref) {
		// The value may be a key pasted in place of its reference: it is not shown.
		c.failf(field, "not a reference to a key: file:/path, env:NAME, or a URL of gcpkms or hashivault (azurekms has no Ed25519 keys)")
	}
}

func (c *checker) engine() {
	e := c.job.Engine
	c.oneOf("engine.type", e.Type, false, "local", "temporal")
	if e.Workers < 0 || e.Workers > 1024 {
		c.failf("engine.workers", "%d: not from 0 (one a CPU) to 1024", e.Workers)
	}
	if e.ShardFiles < 1 || e.ShardFiles > 10_000 {
		c.failf("engine.shard_files", "%d: not from 1 to 10000", e.ShardFiles)
	}
	if e.ShardSize < 1 {
		c.failf("engine.shard_size", "%s: not above 0", e.ShardSize)
	}
	if e.Type == "temporal" && e.Address == "" {
		c.failf("engine.address", "name the address of the Temporal service")
	}
	if e.Type == "local" {
		for field, set := range map[string]bool{"address": e.Address != "", "namespace": e.Namespace != "", "task_queue": e.TaskQueue != "", "tls": e.TLS != nil} {
			if set {
				c.failf("engine."+field, "belongs to engine type temporal")
			}
		}
	}
	if t := e.TLS; t != nil && (t.Cert == "") != (t.Key == "") {
		c.failf("engine.tls", "cert and key go together")
	}
}

// rules checks the settings that bound a run.
func (c *checker) rules() {
	j := c.job
	if d := j.Policy.Deadline; d > 0 && j.Grace >= d {
		c.failf("grace", "%s: erased rows would be kept beyond the deadline of %s", j.Grace, d)
	}
	c.oneOf("verify.mode", j.Verify.Mode, false, "full", "rewritten", "sample")
	if sampled := j.Verify.Mode == "sample"; sampled != (j.Verify.Sample > 0) {
		c.failf("verify.sample", "mode sample and a share above 0%% go together")
	}
	if j.Orphans.MinAge < MinOrphanAge {
		c.failf("orphans.min_age", "%s: at least 24h, since a writer may be about to commit such a file", j.Orphans.MinAge)
	}
	if j.Commit.Attempts < 1 || j.Commit.Attempts > 1000 {
		c.failf("commit.attempts", "%d: not from 1 to 1000", j.Commit.Attempts)
	}
	if p := j.Commit.Patience; p < 0 || p > Duration(24*time.Hour) {
		c.failf("commit.patience", "%s: not from 0 to 24h", p)
	}
	if k := j.Compact; k != nil && k.DeletedRows == 0 && k.DeleteFiles == 0 && k.SmallFiles == 0 {
		c.failf("compact", "set at least one threshold: deleted_rows, delete_files or small_files")
	}
}

// CustomCatalog is the type of a catalog whose targets are opened by the program
// that the library is part of (jobs.Env.OpenTarget).
const CustomCatalog = "custom"

var catalogTypes = []string{"rest", "sql", "glue", "hive"}

func (c *checker) catalogs() {
	for _, name := range slices.Sorted(maps.Keys(c.job.Catalogs)) {
		field, props := "catalogs."+name, c.job.Catalogs[name]
		if !nameForm.MatchString(name) {
			c.failf(field, "a catalog's name has letters, digits, - and _")
		}
		kind := props.Get("type")
		c.oneOf(join(field, "type"), kind, false, append(slices.Clone(catalogTypes), CustomCatalog)...)
		if _, ok := props["uri"]; !ok && kind != "glue" && slices.Contains(catalogTypes, kind) {
			c.failf(field, "a catalog of type %s needs a uri", kind)
		}
	}
}

var (
	keyTypes   = regexp.MustCompile(`^(int64|string|uuid|date|binary|decimal\((\d{1,2}), ?(\d{1,2})\))$`)
	formats    = []string{"csv", "tsv", "ndjson", "parquet", "lines"}
	normalizes = []string{"trim", "lowercase", "nfc"}
)

func (c *checker) keyset(name string, k Keyset) {
	field := "keysets." + name
	if !nameForm.MatchString(name) {
		c.failf(field, "a keyset's name has letters, digits, - and _")
	}
	if len(k.Source) == 0 || slices.Contains(k.Source, "") {
		c.failf(join(field, "source"), "name at least one file, glob or prefix")
	}
	if slices.Contains(k.Holds, "") {
		c.failf(join(field, "holds"), "a hold source is empty")
	}
	c.oneOf(join(field, "format"), k.Format, true, formats...)
	if len(k.Key) == 0 {
		c.failf(join(field, "key"), "name the key's column and type, such as {user_id: int64}")
	}
	text := false
	for _, p := range k.Key {
		sub := join(join(field, "key"), p.Name)
		m := keyTypes.FindStringSubmatch(p.Type)
		if m == nil {
			c.failf(sub, "%s: not one of int64, string, uuid, date, binary, decimal(precision,scale)%s", quote(p.Type), suggest(p.Type, []string{"int64", "string", "uuid", "date", "binary"}))
			continue
		}
		text = text || p.Type == "string"
		precision, _ := strconv.Atoi(m[2])
		scale, _ := strconv.Atoi(m[3])
		if m[2] != "" && (precision < 1 || precision > 38 || scale > precision) {
			c.failf(sub, "%s: precision is from 1 to 38, scale at most the precision", quote(p.Type))
		}
	}
	for i, n := range k.Normalize {
		c.oneOf(fmt.Sprintf("%s.normalize[%d]", field, i), n, false, normalizes...)
	}
	if len(k.Normalize) > 0 && len(k.Key) > 0 && !text {
		c.failf(join(field, "normalize"), "no part of the key is a string")
	}
	if r := k.Request; r != nil && r.ID == "" && r.ReceivedAt == "" {
		c.failf(join(field, "request"), "name the column of the request's id, of its date, or both")
	}
}

func (c *checker) target(field string, t *Target) {
	switch {
	case t.Table != "" && t.Prefix != "":
		c.failf(field, "is a table or a prefix, not both")
	case t.Table != "":
		c.table(field, t)
	case t.Prefix != "":
		c.prefix(field, t)
	default:
		c.failf(field, "name a table or a prefix")
	}
	if len(t.Match) == 0 {
		c.failf(join(field, "match"), "say which column holds which keyset, such as [{users: user_id}]")
	}
	for i, m := range t.Match {
		c.match(fmt.Sprintf("%s.match[%d]", field, i), m)
	}
	c.action(field, t)
}

func (c *checker) table(field string, t *Target) {
	parts := strings.Split(t.Table, ".")
	if len(parts) < 3 || slices.Contains(parts, "") {
		c.failf(join(field, "table"), "%s: not of the form catalog.namespace.table", quote(t.Table))
	} else if _, ok := c.job.Catalogs[parts[0]]; !ok {
		known := slices.Sorted(maps.Keys(c.job.Catalogs))
		c.failf(join(field, "table"), "%s: no catalog of the job is named %s%s", quote(t.Table), quote(parts[0]), suggest(parts[0], known))
	}
	if _, err := path.Match(t.Table, ""); err != nil {
		c.failf(join(field, "table"), "%s: not a pattern: %s", quote(t.Table), err)
	}
	c.oneOf(join(field, "refs"), t.Refs, false, "block", "drop", "report")
	c.oneOf(join(field, "branches"), t.Branches, false, "keep", "erase")
	c.oneOf(join(field, "missing_column"), t.MissingColumn, false, "error", "list")
	for name, set := range map[string]bool{"glob": len(t.Glob) > 0, "format": t.Format != "", "policy": t.Policy != nil} {
		if set {
			c.failf(join(field, name), "belongs to a prefix, not to a table")
		}
	}
}

func (c *checker) prefix(field string, t *Target) {
	c.oneOf(join(field, "format"), t.Format, false, "parquet", "ndjson", "csv", "tsv", "avro")
	for i, g := range t.Glob {
		if _, err := path.Match(strings.ReplaceAll(g, "**", "*"), ""); err != nil || g == "" {
			c.failf(fmt.Sprintf("%s.glob[%d]", field, i), "%s: not a pattern", quote(g))
		}
	}
	for name, set := range map[string]bool{"refs": t.Refs != "", "branches": t.Branches != "", "missing_column": t.MissingColumn != ""} {
		if set {
			c.failf(join(field, name), "belongs to a table, not to a prefix")
		}
	}
	if p := t.Policy; p != nil {
		c.oneOf(join(field, "policy.malformed"), p.Malformed, false, "stop", "keep")
		c.oneOf(join(field, "policy.emptied"), p.Emptied, false, "delete", "keep")
		c.oneOf(join(field, "policy.versions"), p.Versions, false, "purge", "report")
	}
}

func (c *checker) match(field string, m Match) {
	k, ok := c.job.Keysets[m.Keyset]
	if !ok {
		c.failf(field, "no keyset of the job is named %s%s", quote(m.Keyset), suggest(m.Keyset, slices.Sorted(maps.Keys(c.job.Keysets))))
		return
	}
	if len(m.Columns) != len(k.Key) {
		c.failf(field, "keyset %s has a key of %s, the match names %s", m.Keyset, plural(len(k.Key), "part"), plural(len(m.Columns), "column"))
	}
	if slices.Contains(m.Columns, "") {
		c.failf(field, "a column's name is empty")
	}
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func (c *checker) action(field string, t *Target) {
	at, a := join(field, "action"), t.Action
	switch a.Kind {
	case Delete:
	case Redact:
		if len(a.Redact) == 0 {
			c.failf(at, "name the columns to redact, such as {redact: {name: null, city: REDACTED}}")
		}
		seen := map[string]bool{}
		for _, r := range a.Redact {
			switch {
			case r.Column == "":
				c.failf(at, "a column's name is empty")
			case seen[r.Column]:
				c.failf(at, "column %s is named twice", quote(r.Column))
			}
			seen[r.Column] = true
		}
	case RemoveElement:
		if a.Element == "" {
			c.failf(at, "name the list or map column, such as {remove_element: members}")
		}
		for _, m := range t.Match {
			// Parts of a composite key may lie outside: they hold for every element of the row.
			inside := slices.ContainsFunc(m.Columns, func(col string) bool { return insideOf(a.Element, col) })
			if a.Element != "" && !inside && len(m.Columns) > 0 {
				c.failf(at, "elements of %s cannot be matched by column %s, which lies outside it", quote(a.Element), quote(m.Columns[0]))
			}
		}
	case "":
		if t.nested() {
			c.failf(field, "the match is inside a list or map: say with action whether the row goes (delete), the element ({remove_element: column}) or values ({redact: …})")
		} else {
			c.failf(field, "has no action")
		}
	default:
		c.failf(at, "%s: not an action", quote(a.Kind))
	}
}

// insideOf says whether a column's path leads through a list or map.
func insideOf(list, col string) bool {
	list, col = strings.TrimPrefix(list, "$."), strings.TrimPrefix(col, "$.")
	return strings.HasPrefix(col, list+".") || strings.HasPrefix(col, list+"[")
}

// duplicates refuses a target that is named twice: two actions on one table would race.
func (c *checker) duplicates() {
	seen := map[string]int{}
	for i := range c.job.Targets {
		name := c.job.Targets[i].Name()
		if name != "" && c.job.Targets[i].Prefix != "" {
			name += " " + c.job.Targets[i].Format // several formats may share a prefix
		}
		if first, ok := seen[name]; ok && name != "" {
			c.failf(fmt.Sprintf("targets[%d]", i), "%s is a target already (targets[%d]): put the matches together", quote(name), first)
			continue
		}
		seen[name] = i
	}
}
