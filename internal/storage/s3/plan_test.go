package s3

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"github.com/expunge/expunge/internal/storage"
)

const mib = 1 << 20

// step is one call of a writer's user: n bytes, or a range of the source.
type step struct {
	copied bool
	n      int64
}

// runPlan plans steps over one source that is read from front to back, each
// written stretch standing for as many bytes of the source that are left out.
func runPlan(steps []step) (parts []part, size int64) {
	p := planner{emit: func(x part) { parts = append(parts, x) }}
	src := &object{info: storage.Info{Path: "s3://b/src"}}
	off := int64(0)
	for _, s := range steps {
		if s.copied {
			p.span(piece{src: src, off: off, n: s.n})
		} else {
			for rest := s.n; rest > 0; {
				k := min(rest, bigPart)
				p.bytes(make([]byte, k))
				rest -= k
			}
		}
		off += s.n
		size += s.n
	}
	p.end()
	return parts, size
}

// wire is how many bytes cross the network: uploads once, fetched ranges twice.
func wire(parts []part) int64 {
	var n int64
	for _, p := range parts {
		if p.copied {
			continue
		}
		n += p.size
		for _, x := range p.pieces {
			if x.src != nil {
				n += x.n
			}
		}
	}
	return n
}

func steps(t *rapid.T) []step {
	size := rapid.OneOf(rapid.Int64Range(1, 100_000), rapid.Int64Range(1, 12*mib), rapid.Int64Range(4*mib, 6*mib), rapid.Int64Range(1, 1200*mib))
	out := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
		s := step{copied: rapid.Bool().Draw(t, "copied"), n: size.Draw(t, "n")}
		if !s.copied {
			s.n = min(s.n, 20*mib)
		}
		return s
	}), 1, 12).Draw(t, "steps")
	return out
}

func TestEveryPartButTheLastIsLongEnough(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parts, size := runPlan(steps(t))
		var sum int64
		for i, p := range parts {
			if p.size < minPart && i < len(parts)-1 || p.size <= 0 {
				t.Fatalf("part %d of %d has %d bytes", i+1, len(parts), p.size)
			}
			if p.copied && len(p.pieces) != 1 {
				t.Fatalf("copied part of %d pieces", len(p.pieces))
			}
			if p.size > 5<<30 {
				t.Fatalf("part of %d bytes", p.size)
			}
			if !p.copied && p.size > bigPart+3*minPart {
				t.Fatalf("uploaded part of %d bytes is held in memory", p.size)
			}
			sum += p.size
		}
		if sum != size {
			t.Fatalf("parts have %d bytes, want %d", sum, size)
		}
	})
}

func TestRangesStayInOrderAndWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := steps(t)
		parts, _ := runPlan(in)
		var want, got []storage.Range
		off := int64(0)
		for _, s := range in {
			if s.copied {
				want = append(want, storage.Range{Off: off, Len: s.n})
			}
			off += s.n
		}
		for _, p := range parts {
			for _, x := range p.pieces {
				if x.src != nil {
					got = append(got, storage.Range{Off: x.off, Len: x.n})
				}
			}
		}
		for i := 1; i < len(got); i++ {
			if got[i].Off < got[i-1].Off+got[i-1].Len {
				t.Fatalf("range %v after %v", got[i], got[i-1])
			}
		}
		const far = 1 << 50
		a, b := storage.Coalesce(want, 0, far), storage.Coalesce(got, 0, far)
		if len(a) != len(b) {
			t.Fatalf("ranges %v became %v", a, b)
		}
		for i := range a {
			if a[i] != b[i] {
				t.Fatalf("ranges %v became %v", a, b)
			}
		}
	})
}

// best is the least that any plan costs, by trying every assignment of copies
// (whole copies dissolved or not, what is lacking taken from either side).
func best(in []step) int64 {
	var runs []step
	for _, s := range in { // join neighbours of a kind
		if k := len(runs) - 1; k >= 0 && runs[k].copied == s.copied {
			runs[k].n += s.n
		} else {
			runs = append(runs, s)
		}
	}
	const never = int64(1) << 60
	var try func(i int, spare int64, up int64, open bool) int64
	// spare: bytes the copy before the open upload can give away; -1 = there is none.
	try = func(i int, spare, up int64, open bool) int64 {
		if i == len(runs) {
			return 0
		}
		r := runs[i]
		if !r.copied {
			return r.n + try(i+1, spare, up+r.n, true)
		}
		least := never
		// Dissolve it into the upload.
		least = min(least, 2*r.n+try(i+1, spare, up+r.n, true))
		lack := int64(0)
		if open {
			lack = max(0, minPart-up)
		}
		for give := int64(0); give <= lack; give += max(1, lack) { // all from the left, or all from the right
			left, right := lack-give, give
			if left > 0 && spare < left {
				continue
			}
			rest := r.n - right
			last := i == len(runs)-1
			if rest < minPart && (!last || rest <= 0) {
				continue
			}
			least = min(least, 2*lack+try(i+1, rest-minPart, 0, false))
			if lack == 0 {
				break
			}
		}
		return least
	}
	return try(0, -1, 0, false)
}

func TestPlanCostsLittleMoreThanTheBest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 8).Draw(t, "runs")
		first := rapid.Bool().Draw(t, "first")
		var in []step
		for i := range n {
			s := step{copied: first == (i%2 == 0), n: rapid.Int64Range(1, 3*minPart).Draw(t, "n")}
			if !s.copied {
				s.n = rapid.Int64Range(1, 6*mib).Draw(t, "m")
			}
			in = append(in, s)
		}
		parts, _ := runPlan(in)
		// One copy may be dissolved that a longer look ahead would have saved.
		if got, least := wire(parts), best(in); got > 2*least+4*minPart {
			t.Fatalf("plan moves %d bytes, %d would do: %v", got, least, in)
		}
	})
}

func TestOneErasedUserMovesFewBytes(t *testing.T) {
	// 1 GB, one touched page of 100 KB in the middle and a footer.
	parts, _ := runPlan([]step{{true, 400 * mib}, {false, 100_000}, {true, 560 * mib}, {false, 40_000}})
	if got := wire(parts); got > 11*mib {
		t.Errorf("%d bytes", got)
	}
	// An object in which nothing is copied costs its size.
	parts, _ = runPlan([]step{{false, 20 * mib}, {false, 20*mib + 1}})
	if got := wire(parts); got != 40*mib+1 {
		t.Errorf("%d bytes", got)
	}
}

func TestSliceOfHugeObjectKeepsWithinThePartLimit(t *testing.T) {
	n := 0
	p := planner{emit: func(part) { n++ }}
	src := &object{info: storage.Info{Path: "s3://b/src"}}
	chunk := bytes.Repeat([]byte{1}, 100)
	for i := range int64(12_000) { // 12,000 touched pages, 10 MiB apart
		p.span(piece{src: src, off: i * 10 * mib, n: 10*mib - 100})
		p.bytes(chunk)
	}
	p.end()
	if n > maxParts {
		t.Errorf("%d parts", n)
	}
}
