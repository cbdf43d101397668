package iceberg

import (
	"container/list"
	"sync"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/expunge/expunge/warehouse"
)

const (
	// deletesBudget bounds what a table's deletes take in memory.
	deletesBudget = 256 << 20
	// deletesPerFile bounds what one position delete file, or one set of
	// equality deletes, may take of it.
	deletesPerFile = deletesBudget / 4
)

// deleteCache keeps what delete files say between the tasks that share them,
// least recently used out first. What is out is read again.
type deleteCache struct {
	fileLimit int64

	mu    sync.Mutex
	used  int64
	order *list.List // of cached, most recent first
	files map[string]*list.Element
}

// cached is one element: either positions or equality is set.
type cached struct {
	key       string
	size      int64
	positions *positionEntry
	equality  *equalitySet
}

// positionEntry is a position delete file's contents, once read.
type positionEntry struct {
	mu     sync.Mutex
	byPath map[string]*roaring64.Bitmap
	large  bool
	node   *list.Element
}

// equalitySet unites equality delete files that compare the same columns. One
// set serves data files of any sequence, because it keeps the highest sequence
// number that deletes a tuple.
type equalitySet struct {
	ids  string
	node *list.Element // nil = not cached

	mu     sync.RWMutex
	files  map[string]int64 // path → sequence
	tuples map[string]int64
	size   int64
}

func newEqualitySet(files []warehouse.DeleteFile) *equalitySet {
	return &equalitySet{ids: idsKey(files[0].EqualityIDs), files: map[string]int64{}, tuples: map[string]int64{}}
}

// fits says whether a set holds nothing that is wrong for a data file: each of
// its files either applies to it or is too old to delete any row of it.
func (s *equalitySet) fits(files []warehouse.DeleteFile, dataSequence int64) bool {
	late := 0
	for _, seq := range s.files {
		if seq > dataSequence {
			late++
		}
	}
	for _, d := range files {
		if seq, ok := s.files[d.Path]; ok && seq > dataSequence {
			late--
		}
	}
	return late == 0
}

// lacks lists the files that the set does not hold yet.
func (s *equalitySet) lacks(files []warehouse.DeleteFile) []warehouse.DeleteFile {
	var out []warehouse.DeleteFile
	for _, d := range files {
		if _, ok := s.files[d.Path]; !ok {
			out = append(out, d)
		}
	}
	return out
}

func newDeleteCache() *deleteCache {
	return &deleteCache{fileLimit: deletesPerFile, order: list.New(), files: map[string]*list.Element{}}
}

// positions returns the entry of a position delete file.
func (c *deleteCache) positions(path string) *positionEntry {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := "p" + path
	if n := c.files[key]; n != nil {
		c.order.MoveToFront(n)
		return n.Value.(*cached).positions
	}
	e := &positionEntry{}
	e.node = c.order.PushFront(&cached{key: key, positions: e})
	c.files[key] = e.node
	return e
}

// equality returns the set to use for the files: one that holds some of them
// and fits, or an empty one. A set that is being filled is left to its task.
func (c *deleteCache) equality(files []warehouse.DeleteFile, dataSequence int64) *equalitySet {
	fresh := newEqualitySet(files)
	c.mu.Lock()
	defer c.mu.Unlock()
	for n := c.order.Front(); n != nil; n = n.Next() {
		set := n.Value.(*cached).equality
		if set == nil || set.ids != fresh.ids || !set.mu.TryRLock() {
			continue
		}
		useful := len(set.lacks(files)) < len(files) && set.fits(files, dataSequence)
		set.mu.RUnlock()
		if useful {
			c.order.MoveToFront(n)
			return set
		}
	}
	fresh.node = c.order.PushFront(&cached{equality: fresh})
	return fresh
}

// grow accounts for an entry that was read.
func (c *deleteCache) grow(e *positionEntry, size int64) { c.account(e.node, size) }

// resize accounts for a set that changed.
func (c *deleteCache) resize(s *equalitySet, size int64) {
	if s.node != nil {
		c.account(s.node, size)
	}
}

func (c *deleteCache) account(n *list.Element, size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := n.Value.(*cached)
	if v.size < 0 {
		return // dropped meanwhile
	}
	c.used += size - v.size
	v.size = size
	for c.used > deletesBudget {
		last := c.order.Back()
		if last == nil || last == n {
			return
		}
		old := c.order.Remove(last).(*cached)
		delete(c.files, old.key)
		c.used -= old.size
		old.size = -1
	}
}
