package iceberg

import (
	"errors"
	"strings"
	"testing"

	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/warehouse"
)

func TestPatternsResolveInSortedOrderAndNeverToNothing(t *testing.T) {
	l := newPlanLake(t)
	for _, ns := range []table.Identifier{{"events"}, {"evening"}, {"a", "b"}} {
		if err := l.cat.CreateNamespace(l.ctx, ns, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []table.Identifier{{"events", "web"}, {"events", "app"}, {"evening", "app"}, {"a", "b", "deep"}} {
		if _, err := l.cat.CreateTable(l.ctx, id, planSchema()); err != nil {
			t.Fatal(err)
		}
	}
	for pattern, want := range map[string]string{
		"lake.events.*":   "events.app events.web",
		"lake.events.w?b": "events.web",
		"lake.eve*.app":   "evening.app events.app",
		"lake.events.app": "events.app",
		"lake.*.*":        "evening.app events.app events.web",
		"lake.a.b.deep":   "a.b.deep",
		"lake.a.*.*":      "a.b.deep",
	} {
		ids, err := l.cat.Resolve(l.ctx, pattern)
		if err != nil {
			t.Errorf("%s: %v", pattern, err)
			continue
		}
		var got []string
		for _, id := range ids {
			got = append(got, strings.Join(id, "."))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", pattern, got, want)
		}
	}
	for _, pattern := range []string{"lake.events.nope", "lake.events.x*", "lake.nope.*", "other.events.app", "lake.events", "lake", "", "lake..app", "lake.events.[", "lake.nope.app"} {
		if ids, err := l.cat.Resolve(l.ctx, pattern); !errors.Is(err, warehouse.ErrNotFound) {
			t.Errorf("%q: %v %v, want ErrNotFound", pattern, ids, err)
		}
	}
}

func TestUnknownCatalogTypeSaysWhatThereIs(t *testing.T) {
	_, err := OpenCatalog(t.Context(), "lake", map[string]string{"type": "delta"})
	if !errors.Is(err, warehouse.ErrUnsupported) || !strings.Contains(err.Error(), "delta") {
		t.Error(err)
	}
}
