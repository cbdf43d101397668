package filetool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/keyset"
)

// rows of the test file; user i%100 has a name and is in a list of its own.
const rows = 5000

// makeFile writes a file with a flat, a text and a nested key column.
func makeFile(t *testing.T, dir string) string {
	t.Helper()
	person := arrow.StructOf(arrow.Field{Name: "id", Type: arrow.PrimitiveTypes.Int64, Nullable: true})
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "user_id", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
		{Name: "email", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "people", Type: arrow.ListOf(person), Nullable: true},
	}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	for i := range rows {
		b.Field(0).(*array.Int32Builder).Append(int32(i % 100))
		b.Field(1).(*array.StringBuilder).Append(fmt.Sprintf("u%d@example.net", i%100))
		list := b.Field(2).(*array.ListBuilder)
		list.Append(true)
		list.ValueBuilder().(*array.StructBuilder).Append(true)
		list.ValueBuilder().(*array.StructBuilder).FieldBuilder(0).(*array.Int64Builder).Append(int64(i % 50))
	}
	rec := b.NewRecordBatch()
	defer rec.Release()
	path := filepath.Join(dir, "in.parquet")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := pqarrow.NewFileWriter(schema, out, parquet.NewWriterProperties(parquet.WithMaxRowGroupLength(2000), parquet.WithDataPageSize(1024), parquet.WithPageIndexEnabled(true)), pqarrow.DefaultWriterProps())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Write(rec), w.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

func put(t *testing.T, dir, name, body string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestErasedKeysAreGoneAndOthersStay(t *testing.T) {
	ctx, dir, store := context.Background(), t.TempDir(), storage.New(nil)
	in := makeFile(t, dir)
	for i, c := range []struct {
		name, file, body string
		req              Request
		erased           int64
	}{
		{"csv, first column whatever its name", "a.csv", "whoever,note\n7,x\n8,y\n", Request{Columns: []string{"user_id"}}, 100},
		{"lines", "b.txt", "u9@example.net\n", Request{Columns: []string{"email"}, Format: "lines"}, 50},
		{"ndjson by the column's name", "c.ndjson", `{"id": 3}` + "\n", Request{Columns: []string{"people.list.element.id"}, Format: "ndjson"}, 100},
		{"nested, other spelling", "d.csv", "id\n3\n", Request{Columns: []string{"$.people[*].id"}}, 100},
		{"composite", "e.csv", "u,e\n7,u7@example.net\n8,u9@example.net\n", Request{Columns: []string{"user_id", "email"}}, 50},
		{"nothing found", "f.csv", "u\n1000\n", Request{Columns: []string{"user_id"}}, 0},
	} {
		r := c.req
		r.Input, r.Keys = in, put(t, dir, c.file, c.body)
		out := filepath.Join(dir, fmt.Sprintf("out%d.parquet", i))
		done, err := Erase(ctx, store, r, out, EraseOptions{})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := done.RowsIn - done.RowsOut; got != c.erased {
			t.Errorf("%s: %d rows erased, want %d", c.name, got, c.erased)
		}
		f, err := file.OpenParquetFile(out, false)
		if err != nil {
			t.Errorf("%s: another reader: %v", c.name, err)
			continue
		}
		if f.NumRows() != rows-c.erased {
			t.Errorf("%s: %d rows left", c.name, f.NumRows())
		}
		f.Close()
		before, err := Check(ctx, store, r)
		if err != nil || before.Hits != c.erased {
			t.Errorf("%s: the input is not found to hold %d rows: %+v, %v", c.name, c.erased, before, err)
		}
		r.Input = out
		after, err := Check(ctx, store, r)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		for _, s := range after.Surfaces {
			if s.Findings > 0 {
				t.Errorf("%s: left over in %s", c.name, s.Name)
			}
		}
	}
}

func TestAFileWithoutSurvivorsIsNotWritten(t *testing.T) {
	dir, store := t.TempDir(), storage.New(nil)
	var all strings.Builder
	all.WriteString("id\n")
	for i := range 100 {
		fmt.Fprintln(&all, i)
	}
	out := filepath.Join(dir, "out.parquet")
	done, err := Erase(context.Background(), store, Request{Input: makeFile(t, dir), Columns: []string{"user_id"}, Keys: put(t, dir, "k.csv", all.String())}, out, EraseOptions{})
	if err != nil || !done.Empty || done.RowsIn != rows {
		t.Fatalf("%+v, %v", done, err)
	}
	if _, err := os.Stat(out); !os.IsNotExist(err) {
		t.Errorf("a file was written: %v", err)
	}
}

func TestBadRequestsLeaveNoOutput(t *testing.T) {
	ctx, dir, store := context.Background(), t.TempDir(), storage.New(nil)
	in := makeFile(t, dir)
	keys := put(t, dir, "k.csv", "id\n7\n")
	taken := put(t, dir, "taken.parquet", "mine")
	broken := put(t, dir, "broken.parquet", "PAR1 no, it is not PAR1")
	for _, c := range []struct {
		name   string
		req    Request
		output string
		want   error
	}{
		{"unknown column", Request{Input: in, Columns: []string{"uid"}, Keys: keys}, "", ErrKeys},
		{"group for a column", Request{Input: in, Columns: []string{"people"}, Keys: keys}, "", ErrKeys},
		{"bad path", Request{Input: in, Columns: []string{"$.a["}, Keys: keys}, "", ErrKeys},
		{"types do not fit", Request{Input: in, Columns: []string{"user_id"}, Types: []string{"uuid", "date"}, Keys: keys}, "", ErrKeys},
		{"unknown type", Request{Input: in, Columns: []string{"user_id"}, Types: []string{"int32"}, Keys: keys}, "", ErrKeys},
		{"incomparable type", Request{Input: in, Columns: []string{"user_id"}, Types: []string{"uuid"}, Keys: put(t, dir, "u.csv", "id\n0b0e7c1e-0000-4000-8000-000000000000\n")}, "", keyset.ErrType},
		{"malformed key", Request{Input: in, Columns: []string{"user_id"}, Keys: put(t, dir, "m.csv", "id\nseven\n")}, "", keyset.ErrMalformed},
		{"no keys", Request{Input: in, Columns: []string{"user_id"}, Keys: put(t, dir, "e.csv", "id\n")}, "", keyset.ErrEmpty},
		{"missing keys", Request{Input: in, Columns: []string{"user_id"}, Keys: filepath.Join(dir, "none.csv")}, "", keyset.ErrMissing},
		{"missing input", Request{Input: filepath.Join(dir, "none.parquet"), Columns: []string{"user_id"}, Keys: keys}, "", os.ErrNotExist},
		{"broken input", Request{Input: broken, Columns: []string{"user_id"}, Keys: keys}, "", nil},
		{"output exists", Request{Input: in, Columns: []string{"user_id"}, Keys: keys}, taken, storage.ErrExists},
	} {
		out := c.output
		if out == "" {
			out = filepath.Join(dir, "out.parquet")
		}
		_, err := Erase(ctx, store, c.req, out, EraseOptions{})
		if err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if _, err := os.Stat(filepath.Join(dir, "out.parquet")); !os.IsNotExist(err) {
			t.Errorf("%s left an output", c.name)
		}
	}
	if b, err := os.ReadFile(taken); err != nil || string(b) != "mine" {
		t.Errorf("the existing file is %q, %v", b, err)
	}
}

func TestInspectListsWhatIsThereAndNoValues(t *testing.T) {
	dir := t.TempDir()
	d, err := Inspect(context.Background(), storage.New(nil), makeFile(t, dir), []string{"email"}, true)
	if err != nil {
		t.Fatal(err)
	}
	if d.Rows != rows || len(d.Sections) != 4 {
		t.Fatalf("%+v", d)
	}
	groups, chunks, pages := d.Sections[1], d.Sections[2], d.Sections[3]
	if len(groups.Rows) != 3 || len(chunks.Rows) != 3 || len(pages.Rows) < 6 {
		t.Errorf("%d groups, %d chunks, %d pages", len(groups.Rows), len(chunks.Rows), len(pages.Rows))
	}
	if all := fmt.Sprint(d.Sections); strings.Contains(all, "@example") || strings.Contains(all, "user_id") {
		t.Errorf("shows a value or an unwanted column: %s", all)
	}
	for _, s := range d.Sections {
		for _, r := range s.Rows {
			if len(r) != len(s.Head) {
				t.Errorf("%s: %d cells under %d heads", s.Title, len(r), len(s.Head))
			}
		}
	}
}
