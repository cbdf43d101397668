package verifier

import (
	"context"
	"strings"
	"testing"

	iceberg "github.com/apache/iceberg-go"

	"github.com/expunge/expunge/internal/testlake"
	"github.com/expunge/expunge/warehouse"
)

// lake is a table to verify.
type lake struct{ *testlake.Lake }

func newLake(t testing.TB, version string, spec *iceberg.PartitionSpec, props iceberg.Properties) *lake {
	t.Helper()
	return &lake{testlake.New(t, version, spec, props)}
}

func mail(id int) string { return testlake.Mail(id) }

func ids(from, to int) []int { return testlake.IDs(from, to) }

func (l *lake) verify(t testing.TB, m []warehouse.BoundMatch, o Options) *Report {
	t.Helper()
	o.Metadata, o.Orphans = true, true
	r, err := VerifyTable(context.Background(), l.Store, Target{Name: "lake.db.t", MetadataLocation: l.Tbl.MetadataLocation()}, m, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func surface(t testing.TB, r *Report, name string) Surface {
	t.Helper()
	for _, s := range r.Surfaces {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no surface %q", name)
	return Surface{}
}

// leaks lists the surfaces on which something certain was found.
func leaks(r *Report) string {
	var out []string
	for _, s := range r.Surfaces {
		if s.Result == Fail || s.Result == Residue {
			out = append(out, s.Name)
		}
	}
	return strings.Join(out, ", ")
}
