package demo

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/catalog"
	sqlcat "github.com/apache/iceberg-go/catalog/sql"
	"github.com/apache/iceberg-go/table"
	"github.com/google/go-cmp/cmp"

	"github.com/expunge/expunge/configs"
)

func TestTheTruthIsWhatALibraryReads(t *testing.T) {
	ctx := context.Background()
	l, err := Make(ctx, Options{Dir: filepath.Join(t.TempDir(), "lake"), Rows: 60_000})
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(l.Dir, "catalog.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	cat, err := sqlcat.NewCatalog("lake", db, sqlcat.SQLite, iceberg.Properties{})
	if err != nil {
		t.Fatal(err)
	}
	erased := map[int64]bool{}
	mails := map[string]bool{}
	for _, id := range l.Erased {
		erased[id], mails[email(id)] = true, true
	}
	matches := map[string]func(rec arrow.RecordBatch, row int) bool{
		"lake.sales.orders": func(rec arrow.RecordBatch, row int) bool {
			id := rec.Column(1).(*array.Struct).Field(0).(*array.Int64)
			mail := rec.Column(2).(*array.Struct).Field(0).(*array.String)
			return id.IsValid(row) && erased[id.Value(row)] || mails[mail.Value(row)]
		},
		"lake.events.clicks": func(rec arrow.RecordBatch, row int) bool {
			return erased[int64(rec.Column(1).(*array.Int32).Value(row))]
		},
		"lake.events.logins": func(rec arrow.RecordBatch, row int) bool { return erased[rec.Column(0).(*array.Int64).Value(row)] },
		"lake.support.tickets": func(rec arrow.RecordBatch, row int) bool {
			list := rec.Column(2).(*array.List)
			from, to := list.ValueOffsets(row)
			ids := list.ListValues().(*array.Struct).Field(0).(*array.Int64)
			for i := from; i < to && list.IsValid(row); i++ {
				if erased[ids.Value(int(i))] {
					return true
				}
			}
			return false
		},
	}
	for _, want := range l.Tables {
		tbl, err := cat.LoadTable(ctx, catalog.ToIdentifier(strings.Split(want.Name, ".")[1:]...))
		if err != nil {
			t.Fatal(err)
		}
		_, records, err := tbl.Scan(table.WithSelectedFields("*")).ToArrowRecords(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var live, found int64
		for rec, err := range records {
			if err != nil {
				t.Fatal(err)
			}
			live += rec.NumRows()
			for row := range int(rec.NumRows()) {
				if matches[want.Name](rec, row) {
					found++
				}
			}
			rec.Release()
		}
		if live != want.Live || found != want.ToErase {
			t.Errorf("%s: a scan sees %d live rows of which %d to erase, Make says %d and %d", want.Name, live, found, want.Live, want.ToErase)
		}
		if want.ToErase == 0 || want.Name != "lake.support.tickets" && want.Deleted == 0 {
			t.Errorf("%s has nothing to erase or no deletes: %+v", want.Name, want)
		}
	}
}

func TestTheSameSeedMakesTheSameTables(t *testing.T) {
	var made [2][]Table
	for i := range made {
		l, err := Make(context.Background(), Options{Dir: t.TempDir(), Rows: 10_000, Seed: 7})
		if err != nil {
			t.Fatal(err)
		}
		for j := range l.Tables {
			l.Tables[j].Location = ""
		}
		made[i] = l.Tables
	}
	if d := cmp.Diff(made[0], made[1]); d != "" {
		t.Error(d)
	}
}

func TestTheJobFileIsValidAndNamesEveryTable(t *testing.T) {
	l, err := Make(context.Background(), Options{Dir: t.TempDir(), Rows: 2000, Grace: "7d"})
	if err != nil {
		t.Fatal(err)
	}
	j, err := configs.Load(l.Job)
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range l.Tables {
		found := false
		for _, target := range j.Targets {
			found = found || target.Table == table.Name
		}
		if !found {
			t.Errorf("the job does not name %s", table.Name)
		}
	}
	if j.Grace.String() != "7d" {
		t.Errorf("grace is %s", j.Grace)
	}
}

func TestOnlyADemosFolderIsReplaced(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mine.txt"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Make(context.Background(), Options{Dir: dir, Rows: 2000}); !errors.Is(err, ErrForeign) {
		t.Errorf("a foreign folder: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "mine.txt")); err != nil {
		t.Errorf("its file is gone: %v", err)
	}
	own := t.TempDir()
	for range 2 {
		if _, err := Make(context.Background(), Options{Dir: own, Rows: 2000}); err != nil {
			t.Errorf("a demo over a demo: %v", err)
		}
	}
}
