//go:build interop

package interop

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	pgo "github.com/parquet-go/parquet-go"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/jobs/filetool"
	"github.com/expunge/expunge/rewriter"
)

// fileCase is one erasure: a source, the result, and the keys between them.
type fileCase struct {
	Name  string  `json:"name"`
	In    string  `json:"in"`
	Out   string  `json:"out"`
	Keys  []int64 `json:"keys"`
	Spark bool    `json:"spark"`
}

// readersAnswer is what py/parquet_files.py says of a batch of cases.
type readersAnswer struct {
	Error string `json:"error"`
	Files []struct {
		Name, Path string
	} `json:"files"`
	Failures []string            `json:"failures"`
	Read     map[string]int      `json:"read"`
	Unread   map[string][]string `json:"unread"`
}

// readers is the Python process that writes and reads: Spark starts once.
type readers struct {
	t   *testing.T
	in  io.WriteCloser
	out *bufio.Reader
	log *bytes.Buffer
}

func startReaders(t *testing.T) *readers {
	t.Helper()
	args := []string{"py/parquet_files.py"}
	if testing.Short() {
		args = append(args, "--no-spark")
	}
	c := exec.CommandContext(t.Context(), filepath.Join(cache, "interop/venv/bin/python"), args...)
	c.Env = append(os.Environ(), "SPARK_LOCAL_IP=127.0.0.1")
	r := &readers{t: t, log: &bytes.Buffer{}}
	c.Stderr = r.log
	var err error
	if r.in, err = c.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	r.out = bufio.NewReaderSize(stdout, 1<<20)
	if err := c.Start(); err != nil {
		t.Fatalf("no Python: run interop/setup.sh: %v", err)
	}
	t.Cleanup(func() {
		r.in.Close()
		_ = c.Wait()
	})
	return r
}

func (r *readers) ask(request any) readersAnswer {
	r.t.Helper()
	raw, err := json.Marshal(request)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.in.Write(append(raw, '\n')); err != nil {
		r.t.Fatal(err)
	}
	line, err := r.out.ReadBytes('\n')
	if err != nil {
		r.t.Fatalf("readers: %v\n%s", err, tail(r.log.String(), 4000))
	}
	var a readersAnswer
	if err := json.Unmarshal(line, &a); err != nil {
		r.t.Fatal(err)
	}
	if a.Error != "" {
		r.t.Fatalf("readers: %s\n%s", a.Error, tail(r.log.String(), 4000))
	}
	return a
}

// Files of six writers over the matrix of types, encodings, codecs, page
// versions and nesting, erased from one row to all: the survivors, all columns
// in order, are what every reader makes of the source without those rows, and
// the check finds nothing of the rows that went. With -short Spark stays out.
func TestParquetFilesOfAllWriters(t *testing.T) {
	r := startReaders(t)
	dir := t.TempDir()
	files := r.ask(map[string]any{"verb": "make", "dir": dir, "spark": !testing.Short()}).Files
	for _, f := range writeWithParquetGo(t, dir) {
		files = append(files, struct{ Name, Path string }{strings.TrimSuffix(filepath.Base(f), ".parquet"), f})
	}
	rnd := rand.New(rand.NewPCG(uint64(len(files)), 9))
	var cases []fileCase
	for i, f := range files {
		ids := idsOf(t, f.Path)
		for k, keys := range erasuresOf(rnd, ids) {
			c := fileCase{Name: fmt.Sprintf("%s, %d rows", f.Name, len(keys)), In: f.Path, Out: fmt.Sprintf("%s.%d.parquet", strings.TrimSuffix(f.Path, ".parquet"), k), Keys: keys, Spark: k == i%3 && !testing.Short()}
			if eraseCase(t, c, len(ids)) {
				cases = append(cases, c)
			}
		}
	}
	readByGo(t, cases)
	a := r.ask(map[string]any{"verb": "check", "cases": cases})
	for _, f := range a.Failures {
		t.Error(f)
	}
	for reader, n := range a.Read {
		all := len(cases)
		if reader == "spark" {
			all = len(files)
			if testing.Short() {
				continue
			}
		}
		t.Logf("%s reads %d results", reader, n)
		for _, u := range a.Unread[reader] {
			t.Logf("%s cannot read of the sources: %s", reader, u)
		}
		if n < all*3/5 {
			t.Errorf("%s read only %d of %d results: it judges too little", reader, n, all)
		}
	}
	for _, reader := range []string{"pyarrow", "duckdb"} {
		if n := a.Read[reader]; n < len(cases)*9/10 {
			t.Errorf("%s read only %d of %d results", reader, n, len(cases))
		}
	}
}

// erasuresOf are key sets from one row to all.
func erasuresOf(r *rand.Rand, ids []int64) [][]int64 {
	pick := func(n int) []int64 {
		out := slices.Clone(ids)
		r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
		return out[:n]
	}
	from := r.IntN(len(ids) / 2)
	some := append(pick(len(ids)/20), ids[from:from+len(ids)/6]...)
	slices.Sort(some)
	return [][]int64{pick(1), slices.Compact(some), pick(len(ids) - 3), ids}
}

// eraseCase erases with the product and checks what it says; false: no row was left.
func eraseCase(t *testing.T, c fileCase, rows int) bool {
	t.Helper()
	keys := c.Out + ".csv"
	var text strings.Builder
	text.WriteString("id\n")
	for _, k := range c.Keys {
		text.WriteString(strconv.FormatInt(k, 10) + "\n")
	}
	if err := os.WriteFile(keys, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	store := storage.New(nil)
	before, err := os.ReadFile(c.In)
	if err != nil {
		t.Fatal(err)
	}
	req := filetool.Request{Input: c.In, Columns: []string{"id"}, Keys: keys}
	res, err := filetool.Erase(t.Context(), store, req, c.Out, filetool.EraseOptions{Workers: 2})
	if err != nil {
		t.Errorf("%s: %v", c.Name, err)
		return false
	}
	if res.RowsIn-res.RowsOut != int64(len(c.Keys)) || res.RowsIn != int64(rows) {
		t.Errorf("%s: %d rows to %d", c.Name, res.RowsIn, res.RowsOut)
	}
	if res.Engine != rewriter.Surgical {
		t.Errorf("%s: done by the %s engine: %s", c.Name, res.Engine, res.Fallback)
	}
	if after, err := os.ReadFile(c.In); err != nil || !bytes.Equal(before, after) {
		t.Errorf("%s: the source changed (%v)", c.Name, err)
	}
	if len(c.Keys) == rows {
		if _, err := os.Stat(c.Out); !os.IsNotExist(err) || !res.Empty {
			t.Errorf("%s: all rows erased, and there is an output (%v)", c.Name, err)
		}
		return false
	}
	req.Input = c.Out
	rep, err := filetool.Check(t.Context(), store, req)
	if err != nil {
		t.Errorf("%s: check: %v", c.Name, err)
		return true
	}
	for _, f := range rep.Findings {
		if f.Certain {
			t.Errorf("%s: left behind: %+v", c.Name, f)
		}
	}
	return true
}

// idsOf are the ids of a source: every writer numbers its rows in the same way.
func idsOf(t *testing.T, path string) []int64 {
	t.Helper()
	d, err := filetool.Inspect(t.Context(), storage.New(nil), path, []string{"id"}, false)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	ids := make([]int64, d.Rows)
	for i := range ids {
		ids[i] = int64(i)*7 + 1000
	}
	return ids
}

// goFile is what parquet-go writes.
type goFile struct {
	ID     int64             `parquet:"id,delta"`
	Email  string            `parquet:"email,dict"`
	City   *string           `parquet:"city,optional,dict"`
	Score  *float64          `parquet:"score,optional,split"`
	Flag   bool              `parquet:"flag"`
	UUID   [16]byte          `parquet:"uuid,uuid"`
	Tags   []string          `parquet:"tags,list"`
	Attrs  map[string]int64  `parquet:"attrs"`
	People []goPerson        `parquet:"people,list"`
	Text   string            `parquet:"text,delta"`
	Notes  map[string]string `parquet:"notes,optional"`
}

type goPerson struct {
	Name   *string  `parquet:"name,optional"`
	Phones []string `parquet:"phones,list"`
}

func writeWithParquetGo(t *testing.T, dir string) (paths []string) {
	t.Helper()
	for i, codec := range []pgo.WriterOption{pgo.Compression(&pgo.Snappy), pgo.Compression(&pgo.Zstd), pgo.Compression(&pgo.Gzip), pgo.Compression(&pgo.Uncompressed), pgo.Compression(&pgo.Brotli)} {
		r := rand.New(rand.NewPCG(uint64(i), 77))
		path := filepath.Join(dir, fmt.Sprintf("parquet-go-%d.parquet", i))
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		w := pgo.NewGenericWriter[goFile](f, codec, pgo.DataPageVersion(1+i%2), pgo.PageBufferSize(1500), pgo.MaxRowsPerRowGroup(400),
			pgo.DataPageStatistics(true), pgo.BloomFilters(pgo.SplitBlockFilter(10, "id"), pgo.SplitBlockFilter(10, "email")))
		for n := range 1000 {
			if _, err := w.Write([]goFile{goRow(r, n)}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

func goRow(r *rand.Rand, n int) goFile {
	g := goFile{ID: int64(n)*7 + 1000, Email: fmt.Sprintf("user%d@example.org", n), Flag: r.IntN(2) == 0, Text: fmt.Sprintf("text %d", r.IntN(500)), Attrs: map[string]int64{}}
	city := []string{"Bonn", "Kiel", "Ulm"}[r.IntN(3)]
	if r.IntN(4) > 0 {
		score := r.NormFloat64()
		g.City, g.Score = &city, &score
		g.Attrs["a"], g.Notes = int64(n), map[string]string{"n": fmt.Sprint("note", n)}
	}
	g.UUID[0], g.UUID[1], g.UUID[15] = byte(n), byte(n>>8), 1
	for k := range r.IntN(4) {
		g.Tags = append(g.Tags, fmt.Sprint("t", r.IntN(9)))
		p := goPerson{}
		if k > 0 {
			p.Name = &city
			p.Phones = []string{fmt.Sprint(n), fmt.Sprint(k)}
		}
		g.People = append(g.People, p)
	}
	return g
}
