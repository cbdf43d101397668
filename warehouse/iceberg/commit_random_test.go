package iceberg

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	icebergo "github.com/apache/iceberg-go"
)

// story is a table with a random history and a model of what it shows.
type story struct {
	t       *testing.T
	l       *planLake
	rng     *rand.Rand
	version int
	model   map[int64]int // rn → id of visible rows
	next    int
	log     []string
}

func newStory(t *testing.T, seed uint64) *story {
	s := &story{t: t, l: newSweepLake(t).planLake, rng: rand.New(rand.NewPCG(seed, 1)), model: map[int64]int{}}
	s.version = 1 + int(seed%3)
	var spec *icebergo.PartitionSpec
	if s.rng.IntN(2) == 0 {
		p := icebergo.NewPartitionSpec(icebergo.PartitionField{SourceIDs: []int{3}, FieldID: 1000, Name: "s", Transform: icebergo.IdentityTransform{}})
		spec = &p
	}
	mode := "merge-on-read"
	if s.version == 1 {
		mode = "copy-on-write"
	}
	s.l.create("t", s.version, deleteSchema(), spec, "write.delete.mode", mode, "commit.retry.num-retries", "0")
	s.append()
	return s
}

func (s *story) append() {
	n := 6 + s.rng.IntN(20)
	s.log = append(s.log, fmt.Sprintf("append %d rows from %d", n, s.next))
	s.l.append("t", rows(s.next, n, 9)...)
	for i := s.next; i < s.next+n; i++ {
		s.model[int64(i)] = i % 9
	}
	s.next += n
}

// step lets some writer do something, and takes from a scan what it did: the
// library's own merge-on-read delete misses rows after a partition spec change.
func (s *story) step() {
	s.t.Helper()
	s.act()
	shown := s.l.visible("t")
	for rn := range s.model {
		if !slices.Contains(shown, rn) {
			s.t.Fatalf("row %d is hidden, nobody deleted it: %v", rn, s.log)
		}
	}
	for _, rn := range shown {
		if _, ok := s.model[rn]; !ok {
			s.log = append(s.log, fmt.Sprintf("(row %d is still shown)", rn))
			s.model[rn] = int(rn) % 9
		}
	}
}

func (s *story) act() {
	switch s.rng.IntN(7) {
	case 0, 1:
		s.append()
	case 2:
		lo := int64(s.rng.IntN(s.next))
		hi := lo + int64(s.rng.IntN(8))
		s.log = append(s.log, fmt.Sprintf("delete rows %d to %d", lo, hi))
		s.l.deleteWhere("t", icebergo.NewAnd(
			icebergo.GreaterThanEqual(icebergo.Reference("rn"), lo), icebergo.LessThanEqual(icebergo.Reference("rn"), hi)))
		for rn := range s.model {
			if rn >= lo && rn <= hi {
				delete(s.model, rn)
			}
		}
	case 3:
		if s.version != 2 {
			return
		}
		id, part := s.rng.IntN(9), s.rng.IntN(3)
		s.log = append(s.log, fmt.Sprintf("equality delete id %d of s%d", id, part))
		s.l.deleteEqual("t", []int{2, 3}, fmt.Sprintf(`{"id":%d,"s":"s%d"}`, id, part))
		for rn, v := range s.model {
			if v == id && int(rn)%3 == part {
				delete(s.model, rn)
			}
		}
	case 4:
		if s.version == 3 {
			return // the stand-in compactor keeps no row ids
		}
		s.log = append(s.log, "compact")
		if err := s.l.compactTwo("t"); err != nil && !errors.Is(err, errNothingToCompact) {
			s.t.Fatal(err)
		}
	case 5:
		s.evolveSpec()
	case 6:
		tx := s.l.raw("t").NewTransaction()
		if err := tx.UpdateSchema(true, true).AddColumn([]string{fmt.Sprintf("c%d", s.next)}, icebergo.PrimitiveTypes.Int64, "", false, nil).Commit(); err != nil {
			s.t.Fatal(err)
		}
		if _, err := tx.Commit(s.l.ctx); err != nil {
			s.t.Fatal(err)
		}
		s.log = append(s.log, "add a column")
		s.next++
	}
}

// evolveSpec goes from partitioned by s to unpartitioned or back.
func (s *story) evolveSpec() {
	tx := s.l.raw("t").NewTransaction()
	up := tx.UpdateSpec(true)
	spec := s.l.raw("t").Spec()
	if spec.IsUnpartitioned() {
		up = up.AddIdentity("s")
	} else {
		up = up.RemoveField("s")
	}
	if err := up.Commit(); err != nil {
		s.log = append(s.log, "no spec change")
		return
	}
	if _, err := tx.Commit(s.l.ctx); err != nil {
		s.t.Fatal(err)
	}
	s.log = append(s.log, "change the partition spec")
}

func (s *story) visible(keys ...int) []int64 {
	var out []int64
	for rn, id := range s.model {
		if !slices.Contains(keys, id) {
			out = append(out, rn)
		}
	}
	return out
}

// TestRandomHistoriesWithWritersInBetween: whatever happened to the table
// before the plan, between plan and commit, and before each swap, the commit
// erases the keys, keeps every other row and undoes nobody; so does the purge,
// and nothing unreachable is left.
func TestRandomHistoriesWithWritersInBetween(t *testing.T) {
	n := uint64(6)
	if os.Getenv("EXPUNGE_FULL_SWEEP") != "" {
		n = 150
	}
	for seed := range n {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			s := newStory(t, seed)
			defer func() {
				if t.Failed() {
					t.Logf("format %d: %v", s.version, s.log)
				}
			}()
			for range 2 + s.rng.IntN(5) {
				s.step()
			}
			e := s.l.eraser("t", "r1", 2, 5).prepare()
			e.grace = time.Hour
			s.log = append(s.log, "planned")
			for range s.rng.IntN(4) {
				s.step()
			}
			h := e.hook()
			busy := s.rng.IntN(4)
			h.before = func(call int) error {
				if call <= busy {
					s.log = append(s.log, fmt.Sprintf("swap %d", call))
					s.step()
				}
				return nil
			}
			c := e.commit()
			s.log = append(s.log, "committed")
			s.l.wantRows("t", s.visible(2, 5))
			s.l.wantTotals("t")
			if n := s.l.keysLeft("t", e.keys); n > 0 {
				t.Errorf("%d rows of erased keys are still in live files", n)
			}
			h.before = nil
			for rn, id := range s.model {
				if id == 2 || id == 5 {
					delete(s.model, rn)
				}
			}
			s.step()
			if c.NoChange {
				return
			}
			e.purge(c)
			s.l.wantTotals("t")
			s.l.wantRows("t", s.visible())
			if _, err := e.tbl.CleanAttempts(s.l.ctx, "r1", nil); err != nil {
				t.Fatal(err)
			}
			if left := s.l.unreachable("t"); len(left) > 0 && s.version == 1 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// keysLeft counts rows of the keys in live data files, hidden ones included.
func (l *planLake) keysLeft(name string, keys map[int64]bool) int {
	n := 0
	for _, en := range l.entriesOf(name) {
		if en.Status() == icebergo.EntryStatusDELETED || en.DataFile().ContentType() != icebergo.EntryContentData {
			continue
		}
		rec, err := readParquet(l.ctx, l.store, en.DataFile().FilePath())
		if err != nil {
			l.t.Fatal(err)
		}
		ids := rec.Column(rec.Schema().FieldIndices("id")[0]).(*array.Int32)
		for i := range ids.Len() {
			if ids.IsValid(i) && keys[int64(ids.Value(i))] {
				n++
			}
		}
	}
	return n
}
