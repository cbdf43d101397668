package demo

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// people are the users whose rows fill the tables.
type people struct {
	n        int64
	erased   []int64 // sorted; asked for and not held
	held     []int64 // sorted; asked for but on hold
	unknown  []int64 // asked for, but in no table
	isErased map[int64]bool
	buckets  [buckets][]int64
}

// firstID keeps ids away from 0 so that they look like real ones.
const firstID = 100_000

var (
	givenNames  = strings.Fields("ada ben carla dmitri elena farid grace hugo ines jonas keiko liam mara nils olga pavel quinn rosa sven tara uma victor wanda xenia yusuf zoe")
	familyNames = strings.Fields("abel brandt costa dietz ekholm fischer garcia haas ivanov jensen kaya lindt moreau novak okafor petrov quist rossi silva tanaka ueda vogel weber xu young ziegler")
)

func newPeople(seed uint64, n int64) *people {
	r := rand.New(rand.NewPCG(seed, 1))
	p := &people{n: n, isErased: map[int64]bool{}}
	for len(p.erased)+len(p.held) < 25 {
		id := firstID + r.Int64N(n)
		switch {
		case p.isErased[id] || slices.Contains(p.held, id):
		case len(p.held) < 2:
			p.held = append(p.held, id)
		default:
			p.erased = append(p.erased, id)
			p.isErased[id] = true
		}
	}
	p.unknown = []int64{firstID + n + 17, firstID + n + 4711}
	slices.Sort(p.erased)
	slices.Sort(p.held)
	for id := firstID + int64(0); id < firstID+n; id++ {
		b := bucketOf(int32(id))
		p.buckets[b] = append(p.buckets[b], id)
	}
	return p
}

// any draws a user.
func (p *people) any(r *rand.Rand) int64 { return firstID + r.Int64N(p.n) }

// email is a user's address as the tables hold it.
func email(id int64) string {
	i := id - firstID
	return fmt.Sprintf("%s.%s.%d@example.net", givenNames[i%int64(len(givenNames))], familyNames[i/7%int64(len(familyNames))], id)
}

// emails caches the addresses, which are asked for a million times.
func (p *people) emails() []string {
	out := make([]string, p.n)
	for i := range out {
		out[i] = email(firstID + int64(i))
	}
	return out
}
