package draft

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/internal/demo"
	"github.com/expunge/expunge/warehouse"
	_ "github.com/expunge/expunge/warehouse/iceberg/catalogs/sql"
)

func props(t *testing.T, l *demo.Lakehouse) configs.Props {
	t.Helper()
	var b strings.Builder
	for k, v := range l.Catalog {
		b.WriteString(k + ": \"" + v + "\"\n")
	}
	b.WriteString("token: hunter2-canary\n")
	p, err := configs.ParseProps([]byte(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestADraftIsAJobThatNamesWhatItFound(t *testing.T) {
	ctx := context.Background()
	l, err := demo.Make(ctx, demo.Options{Dir: t.TempDir(), Rows: 2000})
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(ctx, Request{Name: "drafted", Catalog: "lake", Props: props(t, l)})
	if err != nil {
		t.Fatal(err)
	}
	j, err := configs.Parse([]byte(d.YAML))
	if err != nil {
		t.Fatalf("%v in\n%s", err, d.YAML)
	}
	got := map[string]string{}
	for _, target := range j.Targets {
		got[target.Table] = target.Match[0].Columns[0]
	}
	for table, column := range map[string]string{"lake.sales.orders": "customer.id", "lake.events.clicks": "user_id", "lake.events.logins": "user_id"} {
		if got[table] != column {
			t.Errorf("%s is matched by %q, want %s", table, got[table], column)
		}
	}
	if len(d.Tables) != len(l.Tables) {
		t.Errorf("%d tables, want %d", len(d.Tables), len(l.Tables))
	}
	if strings.Contains(d.YAML, "canary") || !strings.Contains(d.YAML, "${env:LAKE_TOKEN}") {
		t.Errorf("the literal secret is in the draft, or no reference to one:\n%s", d.YAML)
	}
	if !strings.Contains(d.YAML, "# lake.support.tickets: no column looks like") {
		t.Errorf("a table without a key column is not named:\n%s", d.YAML)
	}
}

func TestAWantedColumnIsFoundInLists(t *testing.T) {
	ctx := context.Background()
	l, err := demo.Make(ctx, demo.Options{Dir: t.TempDir(), Rows: 2000})
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(ctx, Request{Name: "drafted", Catalog: "lake", Props: props(t, l), Tables: []string{"support.*"}, Column: "people.id"})
	if err != nil {
		t.Fatal(err)
	}
	j, err := configs.Parse([]byte(d.YAML))
	if err != nil {
		t.Fatalf("%v in\n%s", err, d.YAML)
	}
	if c := j.Targets[0].Match[0].Columns[0]; c != "people.element.id" || len(j.Targets) != 1 {
		t.Errorf("matched by %s in %d targets", c, len(j.Targets))
	}
	if _, err := New(ctx, Request{Name: "x", Catalog: "lake", Props: props(t, l), Tables: []string{"none.*"}}); !errors.Is(err, warehouse.ErrNotFound) {
		t.Errorf("a pattern without tables: %v", err)
	}
}
