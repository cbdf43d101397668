//go:build interop

package interop

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"context"
	enc "encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	icebergo "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"

	"github.com/expunge/expunge/warehouse/iceberg"
	_ "github.com/expunge/expunge/warehouse/iceberg/catalogs/sql"
)

// The people of py/residue.py.
const (
	personBase, personStep = 7_100_000_000_019, 7_919_000_003
	people, everyNth       = 60, 9
)

func personID(i int) int64 { return personBase + int64(i)*personStep }

func personMail(i int) string { return fmt.Sprintf("leaver.%04d@example.com", i) }

// spark is a Spark session at the other end of a pipe.
type spark struct {
	t   *testing.T
	in  io.WriteCloser
	out *bufio.Reader
	log *bytes.Buffer
}

func startSpark(t *testing.T, cfg any) *spark {
	t.Helper()
	raw, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), filepath.Join(cache, "interop/venv/bin/python"), filepath.Join("py", "residue.py"), file)
	c.Env = append(os.Environ(), "SPARK_LOCAL_IP=127.0.0.1")
	s := &spark{t: t, log: &bytes.Buffer{}}
	c.Stderr = s.log
	if s.in, err = c.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.out = bufio.NewReader(out)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.in.Close()
		_ = c.Wait()
	})
	return s
}

// do runs one command and decodes its answer.
func (s *spark) do(name string, args map[string]any, out any) {
	s.t.Helper()
	cmd := map[string]any{"do": name}
	for k, v := range args {
		cmd[k] = v
	}
	raw, err := json.Marshal(cmd)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(s.in, "%s\n", raw); err != nil {
		s.t.Fatalf("%s: %v\n%s", name, err, tail(s.log.String(), 4000))
	}
	for {
		line, err := s.out.ReadString('\n')
		if err != nil {
			s.t.Fatalf("%s %v: %v\n%s", name, args, err, tail(s.log.String(), 6000))
		}
		if answer, ok := strings.CutPrefix(line, "=> "); ok {
			if out != nil {
				if err := json.Unmarshal([]byte(answer), out); err != nil {
					s.t.Fatal(err)
				}
			}
			return
		}
	}
}

func (s *spark) answer(name string) (a seen) {
	s.t.Helper()
	s.do("answer", map[string]any{"name": name}, &a)
	return a
}

// residueJob is a job over tables with the people's keys.
func residueJob(t *testing.T, l *lake, tables ...string) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "version: 1\nname: residue\nstate: %q\ngrace: 0s\nlimits: {share: 100%%}\nverify: {mode: full}\norphans: {remove: true, min_age: 24h}\ncatalogs:\n  lake:\n", l.state)
	for k, v := range l.job {
		fmt.Fprintf(&b, "    %s: %q\n", k, v)
	}
	b.WriteString("keysets:\n  ids: {source: ids.csv, key: {id: int64}}\n  mails: {source: mails.csv, key: {mail: string}}\ntargets:\n")
	for _, name := range tables {
		fmt.Fprintf(&b, "  - {table: lake.air.%s, match: [{ids: id}, {mails: mail}], action: delete, refs: drop}\n", name)
	}
	ids, mails := "id\n", "mail\n"
	for i := 0; i < people; i += everyNth {
		ids, mails = ids+fmt.Sprintln(personID(i)), mails+personMail(i)+"\n"
	}
	for name, text := range map[string]string{"ids.csv": ids, "mails.csv": mails, "residue.yaml": b.String()} {
		if err := os.WriteFile(filepath.Join(l.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(l.dir, "residue.yaml")
}

// leftOn is what expunge verify says: table → the surfaces with residue.
func leftOn(t *testing.T, job string) (map[string][]string, int) {
	t.Helper()
	s, out, code := expunge(t, "verify", job, "--mode", "full")
	var v struct {
		Surfaces []struct {
			Name    string `json:"name"`
			Target  string `json:"target"`
			Residue int64  `json:"residue"`
			Detail  string `json:"detail"`
		} `json:"surfaces"`
	}
	if err := json.Unmarshal(s.Raw, &v); err != nil || len(v.Surfaces) == 0 {
		t.Fatalf("expunge verify: %v, exit code %d\n%s", err, code, tail(out, 4000))
	}
	found := map[string][]string{}
	for _, x := range v.Surfaces {
		if x.Residue > 0 {
			found[x.Target] = append(found[x.Target], x.Name)
			t.Logf("%-22s %-26s %4d  %s", x.Target, x.Name, x.Residue, x.Detail)
		}
	}
	for i := 0; i < people; i += everyNth {
		if strings.Contains(out, personMail(i)) || strings.Contains(out, fmt.Sprint(personID(i))) {
			t.Error("expunge verify names a key")
		}
	}
	return found, code
}

// deleteByKey writes an equality delete, which Spark cannot.
func deleteByKey(t *testing.T, l *lake, name string, id int64) {
	t.Helper()
	deleteEqual(t, l, name, "id", fmt.Sprintf(`[{"id":%d}]`, id))
}

// deleteEqual writes equality deletes by a column: rows of JSON.
func deleteEqual(t *testing.T, l *lake, name, column, rows string) {
	t.Helper()
	ctx := context.Background()
	tbl := l.load(t, name)
	f, _ := tbl.Schema().FindFieldByName(column)
	schema, err := table.SchemaToArrowSchema(icebergo.NewSchema(0, f), nil, true, false)
	if err != nil {
		t.Fatal(err)
	}
	rec, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader(rows))
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Release()
	tx := tbl.NewTransaction()
	var recs iter.Seq2[arrow.RecordBatch, error] = func(yield func(arrow.RecordBatch, error) bool) { yield(rec, nil) }
	err = tx.CommitEqualityDeletes(ctx, []int{f.ID}, recs, nil)
	if err == nil {
		_, err = tx.Commit(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// load loads a table of the lake.
func (l *lake) load(t *testing.T, name string) *table.Table {
	t.Helper()
	cat, err := iceberg.OpenCatalog(context.Background(), "lake", l.job)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cat.Close() })
	tbl, err := cat.LoadTable(context.Background(), table.Identifier{"air", name})
	if err != nil {
		t.Fatal(err)
	}
	return tbl
}

// searchBytes looks for the erased in every byte under a folder, as stored and
// as unpacked: mails, canaries, and ids as eight bytes or as text.
func searchBytes(t *testing.T, folder string) {
	t.Helper()
	var needles [][]byte
	for i := 0; i < people; i += everyNth {
		needles = append(needles, []byte(personMail(i)), []byte(fmt.Sprintf("canary-%04d-", i)), []byte(fmt.Sprint(personID(i))),
			enc.LittleEndian.AppendUint64(nil, uint64(personID(i))))
	}
	files := 0
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		forms := [][]byte{raw, []byte(path)}
		switch {
		case bytes.HasPrefix(raw, []byte("Obj\x01")):
			plain, err := avroBlocks(raw)
			if err != nil {
				return fmt.Errorf("%s: %w", filepath.Base(path), err)
			}
			forms = append(forms, plain)
		case bytes.HasPrefix(raw, []byte{0x1f, 0x8b}):
			z, err := gzip.NewReader(bytes.NewReader(raw))
			if err != nil {
				return err
			}
			plain, err := io.ReadAll(z)
			if err != nil {
				return err
			}
			forms = append(forms, plain)
		}
		for _, form := range forms {
			for _, n := range needles {
				if bytes.Contains(form, n) {
					t.Errorf("%s holds %q", filepath.Base(path), n)
				}
			}
		}
		return nil
	})
	if err != nil || files == 0 {
		t.Fatalf("%d files: %v", files, err)
	}
}

// avroBlocks unpacks the blocks of an Avro object container file (Avro
// specification, "Object Container Files").
func avroBlocks(raw []byte) (out []byte, err error) {
	r := bufio.NewReader(bytes.NewReader(raw[4:]))
	long := func() int64 {
		v, e := enc.ReadVarint(r)
		err = errors.Join(err, e)
		return v
	}
	read := func(n int64) []byte {
		b := make([]byte, max(0, n))
		_, e := io.ReadFull(r, b)
		err = errors.Join(err, e)
		return b
	}
	codec := "null"
	for n := long(); n != 0 && err == nil; n = long() {
		if n < 0 {
			n = -n
			long()
		}
		for range n {
			if k, v := string(read(long())), string(read(long())); k == "avro.codec" {
				codec = v
			}
		}
	}
	read(16)
	for err == nil {
		if _, e := r.Peek(1); e != nil {
			break
		}
		long()
		b := read(long())
		read(16)
		if err != nil {
			break
		}
		plain, e := unpack(codec, b)
		out, err = append(out, plain...), e
	}
	return out, err
}

func unpack(codec string, b []byte) ([]byte, error) {
	switch codec {
	case "null":
		return b, nil
	case "deflate":
		return io.ReadAll(flate.NewReader(bytes.NewReader(b)))
	case "snappy":
		return snappy.Decode(nil, b[:len(b)-4])
	case "zstandard":
		d, err := zstd.NewReader(nil)
		if err != nil {
			return nil, err
		}
		defer d.Close()
		return d.DecodeAll(b, nil)
	}
	return nil, fmt.Errorf("codec %s", codec)
}

// decodedFiles is what residue.py's decoded says of a folder.
type decodedFiles struct {
	Bad, Loose []string
	Files      int
}

// clean demands that nothing of the erased is left of a table, and that Spark
// sees the survivors as before.
func (s *spark) clean(l *lake, name string, before seen) {
	s.t.Helper()
	folder := filepath.Join(l.dir, "warehouse", "air", name)
	after := s.answer(name)
	if after.Hits != 0 || after.Survivors != before.Survivors || after.Checksum != before.Checksum {
		s.t.Errorf("%s: Spark sees %+v after, %+v before", name, after, before)
	}
	searchBytes(s.t, folder)
	var d decodedFiles
	s.do("decoded", map[string]any{"folder": folder}, &d)
	if len(d.Bad)+len(d.Loose) > 0 || d.Files == 0 && after.Survivors > 0 {
		s.t.Errorf("%s: %d files; erased values in %v, entries that no row refers to in %v", name, d.Files, d.Bad, d.Loose)
	}
}

// TestSparkResidue: what Spark's documented sequence leaves, and what a random
// history of Spark's comes to, in one session.
func TestSparkResidue(t *testing.T) {
	l := localLake(t)
	s := startSpark(t, l.sparkConfig(nil))
	before := map[string]seen{}
	// What is left where: the table of docs/residue.md.
	const defaults, all = "map('min-input-files','5')", "map('rewrite-all','true')"
	leaves := map[string]struct {
		mode, by, options string
		version           int
		left              []string
	}{
		"seq_cow":   {"copy-on-write", "part", defaults, 2, []string{"manifest bounds"}},
		"seq_mor":   {"merge-on-read", "part", all, 2, []string{"manifest bounds"}},
		"seq_dv":    {"merge-on-read", "part", all, 3, []string{"manifest bounds"}},
		"seq_keyed": {"copy-on-write", "id", all, 2, []string{"table metadata files"}},
	}
	for name, c := range leaves {
		s.do("sequence", map[string]any{"name": name, "version": c.version, "mode": c.mode, "partitioned": c.by, "options": c.options}, nil)
		before[name] = s.answer(name)
		if before[name].Hits != 0 {
			t.Errorf("%s: Spark itself still sees %d erased rows", name, before[name].Hits)
		}
	}
	job := residueJob(t, l, "seq_cow", "seq_mor", "seq_dv", "seq_keyed")
	found, code := leftOn(t, job)
	if code != 4 {
		t.Errorf("expunge verify ends with %d after Spark's sequence, want 4", code)
	}
	for name, c := range leaves {
		for _, want := range c.left {
			if got := found["lake.air."+name]; !slices.Contains(got, want) {
				t.Errorf("%s: nothing was found on %q, only on %q", name, want, got)
			}
		}
	}
	mustErase(t, job)
	if left, code := leftOn(t, job); code != 0 || len(left) > 0 {
		t.Errorf("after expunge run: exit code %d, left %v", code, left)
	}
	for name, b := range before {
		s.clean(l, name, b)
	}
	s.histories(l)
}

// number is a setting of the environment: other random histories than the usual
// ones, or more of them.
func number(t *testing.T, name string, usual int) (n int) {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return usual
	}
	if _, err := fmt.Sscan(v, &n); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// histories: random histories of Spark's, and one with an equality delete, are
// erased from; Spark sees the survivors as before, and nothing else is left.
func (s *spark) histories(l *lake) {
	t := s.t
	var names []string
	before := map[string]seen{}
	seed := number(t, "EXPUNGE_SEED", 1)
	for i := range number(t, "EXPUNGE_HISTORIES", 2) {
		version := 2 + i%2
		name := fmt.Sprintf("hist_%d", i)
		var h struct{ Log []string }
		s.do("history", map[string]any{"name": name, "seed": seed + i, "version": version}, &h)
		t.Logf("%s, version %d, seed %d: %s", name, version, seed+i, strings.Join(h.Log, ", "))
		names = append(names, name)
	}
	s.do("create", map[string]any{"name": "hist_eq", "version": 2, "mode": "merge-on-read", "partitioned": ""}, nil)
	s.do("insert", map[string]any{"name": "hist_eq", "people": []int{0, 1, 2, 9, 9, 18}}, nil)
	deleteByKey(t, l, "hist_eq", personID(9))
	s.do("insert", map[string]any{"name": "hist_eq", "people": []int{3, 9, 4}}, nil)
	names = append(names, "hist_eq")
	slices.Sort(names)
	for _, name := range names {
		if before[name] = s.answer(name); before[name].Hits == 0 || before[name].Survivors == 0 {
			t.Errorf("%s: %+v proves nothing", name, before[name])
		}
	}
	job := residueJob(t, l, names...)
	mustErase(t, job)
	if left, code := leftOn(t, job); code != 0 || len(left) > 0 {
		t.Errorf("histories: exit code %d, left %v", code, left)
	}
	for _, name := range names {
		s.clean(l, name, before[name])
	}
}
