package verifier

import "testing"

// Keys that were never inserted do not look as if they were, however many there
// are; a few that were do.
func TestStrangersInBloomFiltersAreNoResidue(t *testing.T) {
	for seed := range uint64(200) {
		filter := func(h uint64) bool { return mix(h^seed<<32)%1000 < 10 }
		keys := make([]uint64, 30_000)
		for i := range keys {
			keys[i] = mix(1<<40 + seed<<20 + uint64(i))
		}
		n := countHits(filter, keys)
		if n.significant() {
			t.Errorf("filter %d: %d hits, %.0f expected", seed, n.Hits, n.Expected)
		}
		known := map[uint64]bool{}
		for _, h := range keys[:200] {
			known[h] = true
		}
		if n := countHits(func(h uint64) bool { return known[h] || filter(h) }, keys); !n.significant() {
			t.Errorf("filter %d with 200 of the keys: %d hits, %.0f expected", seed, n.Hits, n.Expected)
		}
	}
}
