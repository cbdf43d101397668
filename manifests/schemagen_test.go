package manifests

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite schema and golden files")

// enums are the closed vocabularies: Type.Field → words.
var enums = map[string][]string{
	"Manifest.Kind":      {"run", "purge", "restore", "verify", "audit", "seal"},
	"Actor.Role":         {RoleRequester, RoleApprover, RoleExecutor, RoleVerifier},
	"Target.Status":      {TargetDone, TargetClean, TargetFailed, TargetStopped, TargetPurged, TargetRestored, TargetUntouched},
	"Surface.Result":     {Pass, Fail, Found, NotChecked, NotPresent},
	"Outcome.Result":     {"ERASED", "ERASED_PENDING", "NOTHING_TO_ERASE", "PARTIAL", "FAILED", "REVERTED"},
	"Verification.Mode":  {"full", "rewritten", "sample", "none"},
	"Commitment.Scheme":  {CommitmentScheme},
	"Commitment.Band":    {"1-9", "10-99"},
	"Blocker.Type":       {"branch", "tag", "property", "delete file", "files", "noncurrent version"},
	"Statement.Type":     {StatementType},
	"Outcome.Rule":       {RuleVersion},
	"Statement.PredType": {PredicateType},
}

const (
	hex256    = "^[0-9a-f]{64}$"
	rfc3339   = `^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?Z$`
	decimalID = "^-?[0-9]{1,19}$"
)

// patterns constrain strings by member name.
var patterns = map[string]string{
	"sha256": hex256, "root": hex256, "previous_sha256": hex256, "plan_sha256": hex256,
	"binary_sha256": hex256, "config_sha256": hex256, "metadata_sha256": hex256, "keyed_digest": hex256, "statement_sha256": hex256,
	"snapshot_id": decimalID, "snapshots_expired": decimalID,
	"key_id": "^ed25519:[0-9a-f]{32}$", "schema_version": `^1\.[0-9]+$`,
	"id": "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$", "gone_by_date": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
}

type schemaGen struct {
	defs map[string]any
	docs map[string]string // Type or Type.Field → first sentence
}

func (g *schemaGen) ref(t reflect.Type) map[string]any {
	if _, ok := g.defs[t.Name()]; !ok {
		g.defs[t.Name()] = nil
		g.defs[t.Name()] = g.object(t)
	}
	return map[string]any{"$ref": "#/$defs/" + t.Name()}
}

func (g *schemaGen) object(t reflect.Type) map[string]any {
	props, required := map[string]any{}, []string{}
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() {
			continue
		}
		name, opt, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !strings.Contains(opt, "omitempty") {
			required = append(required, name)
		}
		p := g.value(f.Type, name)
		at := t.Name() + "." + f.Name
		if e := enums[at]; e != nil {
			p["enum"] = e
		}
		if at == "Residue.GoneBy" || at == "Exclusion.GoneBy" && f.Type.Kind() == reflect.String {
			if f.Type.Kind() == reflect.String {
				p["pattern"] = patterns["gone_by_date"]
			}
		}
		if d := g.docs[at]; d != "" && p["$ref"] == nil {
			p["description"] = d
		}
		props[name] = p
	}
	o := map[string]any{"type": "object", "properties": props, "required": required, "additionalProperties": false}
	if d := g.docs[t.Name()]; d != "" {
		o["description"] = d
	}
	return o
}

func (g *schemaGen) value(t reflect.Type, name string) map[string]any {
	switch {
	case t.Kind() == reflect.Pointer:
		return g.value(t.Elem(), name)
	case t == reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time", "pattern": rfc3339}
	case t.Kind() == reflect.Struct:
		return g.ref(t)
	case t.Kind() == reflect.Slice:
		return map[string]any{"type": "array", "items": g.value(t.Elem(), name)}
	case t.Kind() == reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": g.value(t.Elem(), name)}
	case t.Kind() == reflect.Bool:
		return map[string]any{"type": "boolean"}
	case t.Kind() == reflect.String:
		p := map[string]any{"type": "string"}
		if pat := patterns[name]; pat != "" {
			p["pattern"] = pat
		}
		return p
	default:
		p := map[string]any{"type": "integer", "minimum": 0}
		if strings.HasSuffix(name, "_ppm") {
			p["maximum"] = 1000000
		}
		return p
	}
}

// fieldDocs reads the comments of types.go and statement.go.
func fieldDocs(t *testing.T) map[string]string {
	docs := map[string]string{}
	for _, name := range []string{"types.go", "statement.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			gd, ok := d.(*ast.GenDecl)
			if !ok || gd.Tok != token.TYPE {
				continue
			}
			ts := gd.Specs[0].(*ast.TypeSpec)
			docs[ts.Name.Name] = oneLine(gd.Doc.Text())
			st, ok := ts.Type.(*ast.StructType)
			if !ok {
				continue
			}
			for _, fd := range st.Fields.List {
				text := fd.Doc.Text() + fd.Comment.Text()
				for _, n := range fd.Names {
					docs[ts.Name.Name+"."+n.Name] = oneLine(text)
				}
			}
		}
	}
	return docs
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// TestSchemaIsThatOfTheTypes keeps the published schema and the Go types one.
func TestSchemaIsThatOfTheTypes(t *testing.T) {
	g := schemaGen{defs: map[string]any{}, docs: fieldDocs(t)}
	root := g.object(reflect.TypeFor[Statement]())
	props := root["properties"].(map[string]any)
	props["_type"].(map[string]any)["const"] = StatementType
	delete(props["_type"].(map[string]any), "enum")
	props["predicateType"].(map[string]any)["const"] = PredicateType
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["$id"] = PredicateType + "/schema"
	root["title"] = "expunge audit manifest, version 1 (in-toto Statement v1)"
	root["$defs"] = g.defs
	got, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(bytes.ReplaceAll(got, []byte(`\u003c`), []byte("<")), '\n')
	got = bytes.ReplaceAll(got, []byte(`\u003e`), []byte(">"))
	if *update {
		if err := os.WriteFile("schema/v1.json", got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile("schema/v1.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("schema/v1.json is not the types' schema: run go test -run Schema -update, and raise the version when a member changed its meaning")
	}
}
