package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	icebergo "github.com/apache/iceberg-go"

	"github.com/expunge/expunge/internal/testlake"
)

// canary is a person of whom nothing may be seen: an id and an e-mail address,
// in rows, records, partitions, names of objects and of key sources.
const canary = 990_004_711

// canaryJob makes a lake with the canary wherever a key can be, and its job.
func canaryJob(t *testing.T) string {
	t.Helper()
	byMail := icebergo.NewPartitionSpec(icebergo.PartitionField{SourceIDs: []int{2}, FieldID: 1000, Name: "email", Transform: icebergo.IdentityTransform{}})
	l := testlake.New(t, "2", &byMail, nil)
	l.Append(1001, canary)
	mail := testlake.Mail(canary)
	put := func(name, text string) {
		path := filepath.Join(l.Dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	line := fmt.Sprintf("{\"id\":%d,\"email\":%q}\n", canary, mail)
	put("data/"+mail+"/a.ndjson", line+"{\"id\":1}\n")
	put("data/"+mail+".ndjson", line)
	put("data/"+mail+"/broken.ndjson", line+"{\"id\":"+strconv.Itoa(canary)+",\"email\":\""+mail+"\n")
	put("data/export-"+strconv.Itoa(canary)+".ndjson", line+"{\"id\":2}\n")
	put("data/clean.ndjson", "{\"id\":2}\n")
	put("part/id="+strconv.Itoa(canary)+"/x.csv", "a,b\n1,2\n")
	put("part/id=5/x.csv", "a,b\n1,2\n")
	put("keys of "+mail+".csv", fmt.Sprintf("id,email,ticket,received\n%d,%s,T1,2026-11-01\n", canary, mail))
	put("held by "+mail+".csv", "id\n4\n")
	job := fmt.Sprintf(`version: 1
name: canaries
state: state
grace: 1h
policy: {controller: Example, deadline: 3650d}
limits: {share: 100%%}
audit: {keep: 90d}
catalogs:
  lake: {type: sql, uri: "sqlite:///%s/catalog.db", warehouse: "file://%s"}
keysets:
  users: {source: "keys of %s.csv", key: {id: int64}, holds: ["held by %s.csv"], request: {id: ticket, received_at: received}}
  mails: {source: "keys of %s.csv", key: {email: string}, request: {id: ticket, received_at: received}}
targets:
  - {table: lake.db.t, match: [{users: id}, {mails: email}], action: delete}
  - {prefix: data, format: ndjson, match: [{users: id}, {mails: email}], action: delete}
  - {prefix: part, format: csv, match: [{users: id}], action: delete}
`, l.Dir, l.Dir, mail, mail, mail)
	put("job.yaml", job)
	// Jobs that fail, each with the canary where its error comes from.
	put("missing.yaml", strings.ReplaceAll(job, "keys of", "nothing of"))
	put("typed.yaml", strings.ReplaceAll(job, "keys of", "typed of"))
	put("typed of "+mail+".csv", fmt.Sprintf("id,email,ticket,received\n%dx,%s,T1,2026-11-01\n", canary, mail))
	put("column.yaml", strings.ReplaceAll(job, "keys of", "column of"))
	put("column of "+mail+".csv", fmt.Sprintf("%d,%s\n%d,%s\n", canary, mail, canary, mail))
	put("holds.yaml", strings.ReplaceAll(job, "held by", "nobody by"))
	put("quoted.yaml", strings.ReplaceAll(job, "keys of", "quoted of"))
	put("quoted of "+mail+".csv", fmt.Sprintf("id,email,ticket,received\n%d,\"%s\n", canary, mail))
	return filepath.Join(l.Dir, "job.yaml")
}

// forms are the ways in which the canary could be recognised: plain, encoded,
// and as a hash, also one with a salt that others can know or guess.
func forms(salts ...string) map[string]string {
	out := map[string]string{}
	mail, id := testlake.Mail(canary), strconv.Itoa(canary)
	canonical := string(binary.BigEndian.AppendUint64(nil, canary^1<<63))
	add := func(what string, raw []byte) {
		out[what+" in hex"] = hex.EncodeToString(raw)
		out[what+" in base64"] = base64.StdEncoding.EncodeToString(raw)
		out[what+" in URL base64"] = base64.RawURLEncoding.EncodeToString(raw)
		out[what] = string(raw)
	}
	for name, v := range map[string]string{"mail": mail, "MAIL": strings.ToUpper(mail), "id": id, "id's canonical form": canonical} {
		add(name, []byte(v))
		out[name+" in a URL"] = url.QueryEscape(v)
		for h, f := range map[string]func() hash.Hash{"MD5": md5.New, "SHA-1": sha1.New, "SHA-256": sha256.New, "SHA-512": sha512.New} {
			sum := func(parts ...string) []byte {
				d := f()
				for _, p := range parts {
					d.Write([]byte(p))
				}
				return d.Sum(nil)
			}
			add(h+" of "+name, sum(v))
			for _, salt := range salts {
				mac := hmac.New(f, []byte(salt))
				mac.Write([]byte(v))
				add("HMAC-"+h+" of "+name, mac.Sum(nil))
				add("salted "+h+" of "+name, sum(salt, v))
				add(h+" and salt of "+name, sum(v, salt))
			}
		}
	}
	return out
}

// TestNothingOfACanaryIsSeenAnywhere: every output of every command, every file
// of the state bucket and its name, every served page, and what is left of
// temporary files, of runs that succeed and of runs that fail.
func TestNothingOfACanaryIsSeenAnywhere(t *testing.T) {
	job := canaryJob(t)
	dir := filepath.Dir(job)
	tmp := filepath.Join(t.TempDir(), "temporary")
	if err := os.Mkdir(tmp, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", tmp)
	outputs := map[string][]byte{}
	say := func(want int, args ...string) string {
		t.Helper()
		code, out, errs := expunge(t, append(args, "--log-level", "debug")...)
		if code != want {
			t.Errorf("%v: exit %d, want %d\n%s%s", args[:1], code, want, out, errs)
		}
		outputs[fmt.Sprintf("%d: %s", len(outputs), args[0])] = []byte(out + errs)
		return out
	}
	for _, broken := range []string{"missing", "typed", "column", "holds", "quoted"} {
		for _, format := range []string{"--json", ""} {
			for _, command := range []string{"check", "plan", "run"} {
				args := []string{command, filepath.Join(dir, broken+".yaml"), "--log-level", "debug"}
				if format != "" {
					args = append(args, format)
				}
				code, out, errs := expunge(t, args...)
				if code == 0 {
					t.Errorf("%s of a job with %s sources: exit 0", command, broken)
				}
				outputs[broken+" "+command+format] = []byte(out + errs)
			}
		}
	}
	say(0, "check", job, "--json")
	say(0, "plan", job, "--json")
	sum := summaryOf(t, say(3, "run", job, "--json"))
	say(0, "runs", "--job", job)
	say(0, "status", sum["run_id"].(string), "--job", job, "--json")
	say(0, "requests", "--job", job, "--json")
	say(0, "manifest", "show", sum["run_id"].(string), "--job", job)
	say(0, "manifest", "verify", sum["run_id"].(string), "--job", job, "--against-data") // the broken object, which the manifest excludes, is not judged
	say(4, "audit", job, "--json")
	say(4, "verify", job)
	if n := everyPage(t, dir, func(target string, raw []byte) { outputs["page "+target] = append([]byte(target), raw...) }); n < 30 {
		t.Errorf("only %d pages were looked at", n)
	}
	for _, root := range []string{filepath.Join(dir, "state"), tmp, filepath.Join(dir, "data", ".expunge"), filepath.Join(dir, "part", ".expunge")} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			raw := []byte{}
			if !strings.Contains(path, ".expunge"+string(filepath.Separator)) { // what is kept for the grace is the data itself: its names count
				raw, err = os.ReadFile(path)
			}
			rel, _ := filepath.Rel(dir, path)
			outputs["file "+rel] = append([]byte(rel+"\n"), raw...)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if left, _ := os.ReadDir(tmp); len(left) > 0 {
		t.Errorf("%d temporary files are left", len(left))
	}
	secret, err := os.ReadFile(filepath.Join(dir, "state", "secrets", sum["run_id"].(string)))
	if err != nil {
		t.Fatal(err)
	}
	unseen(t, outputs, forms("canaries", sum["run_id"].(string), "users", "mails", "expunge/canaries", string(secret), string(bytes.TrimSpace(secret))))
}

// unseen looks for the forms in the outputs.
func unseen(t *testing.T, outputs map[string][]byte, forms map[string]string) {
	t.Helper()
	total := 0
	for name, data := range outputs {
		total += len(data)
		lower := bytes.ToLower(data)
		for what, form := range forms {
			if bytes.Contains(data, []byte(form)) || len(form) > 12 && bytes.Contains(lower, []byte(strings.ToLower(form))) {
				t.Errorf("%s holds the canary: %s", name, what)
			}
		}
	}
	if len(outputs) < 100 || total < 512<<10 {
		t.Errorf("only %d outputs of %d bytes were looked at", len(outputs), total)
	}
}
