package manifests

import (
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// tree builds the RFC 6962 Merkle tree over a stream of leaf hashes in
// logarithmic memory: the stack holds the roots of complete subtrees, largest
// first. It can collect the audit paths of some leaves on the way.
type tree struct {
	stack []subtree
	size  int64
	want  []int64 // leaves whose paths are collected, ascending
	next  int     // of want
	paths []tlog.RecordProof
}

type subtree struct {
	hash  tlog.Hash
	level int
	holds []int // which of the wanted leaves lie below
}

func newTree(want ...int64) *tree {
	return &tree{want: want, paths: make([]tlog.RecordProof, len(want))}
}

// add appends a leaf hash (tlog.RecordHash of the leaf's data).
func (t *tree) add(h tlog.Hash) {
	leaf := subtree{hash: h}
	if t.next < len(t.want) && t.want[t.next] == t.size {
		leaf.holds = []int{t.next}
		t.next++
	}
	t.stack = append(t.stack, leaf)
	t.size++
	for n := len(t.stack); n > 1 && t.stack[n-1].level == t.stack[n-2].level; n = len(t.stack) {
		m := t.join(t.stack[n-2], t.stack[n-1])
		t.stack = append(t.stack[:n-2], m)
	}
}

func (t *tree) join(l, r subtree) subtree {
	for _, i := range l.holds {
		t.paths[i] = append(t.paths[i], r.hash)
	}
	for _, i := range r.holds {
		t.paths[i] = append(t.paths[i], l.hash)
	}
	return subtree{tlog.NodeHash(l.hash, r.hash), l.level + 1, append(l.holds, r.holds...)}
}

// finish returns the root and the wanted leaves' paths. The root of no leaves
// is SHA-256 of nothing (RFC 6962 section 2.1).
func (t *tree) finish() (tlog.Hash, []tlog.RecordProof) {
	if len(t.stack) == 0 {
		return emptyRoot, t.paths
	}
	acc := t.stack[len(t.stack)-1]
	for i := len(t.stack) - 2; i >= 0; i-- {
		acc = t.join(t.stack[i], acc)
	}
	return acc.hash, t.paths
}

var emptyRoot = tlog.Hash{
	0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
	0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
}

// errProof: a Merkle proof does not lead to the root.
var errProof = errors.New("merkle proof does not lead to the root")

// checkPath verifies that leaf n with hash h lies in the tree of this size and root.
func checkPath(path tlog.RecordProof, size int64, root tlog.Hash, n int64, h tlog.Hash) error {
	if n < 0 || n >= size {
		return fmt.Errorf("leaf %d of %d: %w", n, size, errProof)
	}
	if err := tlog.CheckRecord(path, size, root, n, h); err != nil {
		return errProof
	}
	return nil
}
