package jobs_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"
	icebergo "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/internal/testlake"
	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/manifests"
)

// tale is a table with a random history.
type tale struct {
	t   *testing.T
	l   *testlake.Lake
	rng *rand.Rand
	v   int
	log []string
}

func newTale(t *testing.T, seed uint64) *tale {
	s := &tale{t: t, rng: rand.New(rand.NewPCG(seed, 7)), v: 1 + int(seed%3)}
	var spec *icebergo.PartitionSpec
	if s.rng.IntN(2) == 0 {
		spec = &byHundred
	}
	props := icebergo.Properties{"write.parquet.row-group-limit": fmt.Sprint(4 + s.rng.IntN(20))}
	if s.rng.IntN(2) == 0 {
		props["read.split.target-size"] = "1" // every row group is a split of its own
	}
	if s.v == 1 {
		props["write.delete.mode"] = "copy-on-write"
	}
	s.l = compactLake(t, fmt.Sprint(s.v), spec, props)
	s.note("format %d, partitioned %v, %v", s.v, spec != nil, props)
	s.append()
	s.append()
	return s
}

func (s *tale) note(format string, args ...any) { s.log = append(s.log, fmt.Sprintf(format, args...)) }

func (s *tale) append() {
	ids := make([]int, 3+s.rng.IntN(12))
	for i := range ids {
		ids[i] = s.rng.IntN(300)
	}
	s.note("append %v", ids)
	s.l.Append(ids...)
}

// file picks a live data file.
func (s *tale) file() testlake.Entry {
	files := s.l.Entries(false)
	return files[s.rng.IntN(len(files))]
}

// step is something that a writer does.
func (s *tale) step() {
	s.l.Reload()
	if len(s.l.Entries(false)) == 0 {
		s.append()
		return
	}
	switch s.rng.IntN(9) {
	case 0, 1:
		s.append()
	case 2:
		n := s.rng.IntN(300)
		s.note("delete ids from %d", n)
		s.l.Delete(icebergo.NewAnd(icebergo.GreaterThanEqual(icebergo.Reference("id"), int64(n)), icebergo.LessThan(icebergo.Reference("id"), int64(n+20))))
	case 3:
		if s.v > 1 {
			ids := idsOf(s.t, s.file().FilePath())
			n := ids[s.rng.IntN(len(ids))]
			s.note("equality delete of %d", n)
			s.l.DeleteByKey(int(n))
		}
	case 4, 5:
		s.hide()
	case 6:
		f := s.file()
		s.note("drop %s", f.FilePath())
		s.l.Drop(f)
	case 7:
		s.evolve()
	case 8:
		if s.v < 3 && s.l.Tbl.Spec().IsUnpartitioned() {
			s.note("replace all") // as somebody else's compaction may
			s.l.Replace(3, 141, 277)
		}
	}
}

// hide hides a row of a file, or of two by one delete file.
func (s *tale) hide() {
	f := s.file()
	pos := s.rng.Int64N(f.Count())
	switch s.v {
	case 2:
		files, at := []testlake.Entry{f}, []int64{pos}
		for _, o := range s.l.Entries(false) {
			if o.FilePath() > f.FilePath() && o.SpecID() == f.SpecID() && fmt.Sprint(o.Partition()) == fmt.Sprint(f.Partition()) {
				files, at = append(files, o), append(at, s.rng.Int64N(o.Count()))
				break
			}
		}
		s.note("hide rows %d of %d files", at, len(files))
		s.l.HideRows(files, at)
	case 3:
		for _, d := range s.l.Entries(true) {
			if ref := d.ReferencedDataFile(); ref != nil && *ref == f.FilePath() {
				return
			}
		}
		s.note("hide row %d by a vector", pos)
		s.l.HideByVector(f, pos)
	}
}

// evolve goes from partitioned to unpartitioned or back.
func (s *tale) evolve() {
	s.note("change the partition spec")
	s.l.Evolve(func(u *table.UpdateSpec) *table.UpdateSpec {
		if s.l.Tbl.Spec().IsUnpartitioned() {
			return u.AddField("id", icebergo.TruncateTransform{Width: 100}, "hundred")
		}
		return u.RemoveField("hundred")
	})
}

// TestRandomTablesShowTheSameRowsAfterCompaction: whatever happened to a table
// before, and in between, compaction changes no row, no row id and no change
// number, undoes nobody, keeps every row in its partition, leaves no delete
// file that covers nothing, and finds nothing to do when it is done again.
func TestRandomTablesShowTheSameRowsAfterCompaction(t *testing.T) {
	n := uint64(12)
	switch {
	case os.Getenv("EXPUNGE_FULL_SWEEP") != "":
		n = 300
	case testing.Short():
		n = 3
	}
	sections := []string{everything, everything, "{deleted_rows: 30%}", "{delete_files: 2}", "{delete_files: 1}", "{small_files: 128MiB}"}
	for seed := range n {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			s := newTale(t, seed)
			defer func() {
				if t.Failed() {
					t.Logf("%q", s.log)
				}
			}()
			for range 2 + s.rng.IntN(6) {
				s.step()
			}
			section := sections[s.rng.IntN(len(sections))]
			s.note("compact %s", section)
			want, planned := shown(t, s.l), s.l.Tbl.CurrentSnapshot().SequenceNumber
			env, alone := jobs.Env{}, s.rng.IntN(3) == 0
			if !alone {
				env = at(storage.OpClose, []string{writesOutput, writesList}[s.rng.IntN(2)], 1, func() {
					s.step()
					want = shown(t, s.l)
				})
			}
			compact(t, s.l, section, env)
			wantShown(t, s.l, want)
			s.wantPartitions()
			s.wantDeletes(planned, alone && section == everything)
			if again := compact(t, s.l, section, jobs.Env{}); alone && again.Outcome != string(manifests.NothingToErase) {
				t.Errorf("done again: %s", again.Outcome)
			}
			wantShown(t, s.l, want)
		})
	}
}

// wantPartitions demands that every stored row is of its file's partition.
func (s *tale) wantPartitions() {
	s.t.Helper()
	for _, f := range s.l.Entries(false) {
		lower, ok := f.Partition()[1000]
		for _, id := range idsOf(s.t, f.FilePath()) {
			if ok && lower != nil && lower != id-id%100 { // format 1 drops a field by making it void
				s.t.Errorf("a file of partition %v holds %d", lower, id)
			}
		}
	}
}

// wantDeletes demands that every delete file touches a live data file, and
// after a compaction of everything that none applies to one. Equality deletes
// that came after the plan are their writer's. A position delete file of
// another partition that names a live file does not apply to it, but stays: the
// library writes such after a change of the partition spec.
func (s *tale) wantDeletes(planned int64, none bool) {
	s.t.Helper()
	live := s.l.Entries(false)
	for _, d := range s.l.Entries(true) {
		equality := d.ContentType() == icebergo.EntryContentEqDeletes
		global := s.l.Tbl.Metadata().PartitionSpecByID(int(d.SpecID())).IsUnpartitioned()
		same := func(f testlake.Entry) bool {
			return d.SpecID() == f.SpecID() && fmt.Sprint(d.Partition()) == fmt.Sprint(f.Partition())
		}
		touches := func(f testlake.Entry) bool {
			if equality {
				return f.Sequence < d.Sequence && (global || same(f))
			}
			return f.Sequence <= d.Sequence && slices.Contains(s.touched(d), f.FilePath())
		}
		applies := func(f testlake.Entry) bool {
			return touches(f) && (equality || same(f) || d.ReferencedDataFile() != nil)
		}
		if none && slices.ContainsFunc(live, applies) {
			s.t.Errorf("a delete file was not folded in: content %d, sequence %d", d.ContentType(), d.Sequence)
		}
		if !(equality && d.Sequence > planned) && !slices.ContainsFunc(live, touches) {
			s.t.Errorf("a delete file covers nothing: content %d, sequence %d", d.ContentType(), d.Sequence)
		}
	}
}

// touched are the data files that position deletes or a vector name.
func (s *tale) touched(d testlake.Entry) (out []string) {
	s.t.Helper()
	if ref := d.ReferencedDataFile(); ref != nil {
		return []string{*ref}
	}
	rec := readFile(s.t, d.FilePath())
	defer rec.Release()
	for _, c := range rec.Column(rec.Schema().FieldIndices("file_path")[0]).Data().Chunks() {
		for i := range c.Len() {
			out = append(out, c.(*array.String).Value(i))
		}
	}
	return out
}
