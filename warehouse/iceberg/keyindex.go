package iceberg

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/warehouse"
)

// KeyIndex says which immutable data files are known to hold no key of a
// match, from filters made when the files were last scanned. It prunes only:
// a file that it does not know is read.
type KeyIndex interface {
	// Excludes says whether no row of the file can match the i-th match of the
	// selection that the index was opened for.
	Excludes(path string, size int64, match int) bool
	// Seen is told of every live data file of a plan.
	Seen(path string)
}

// UseKeyIndex makes planning consult an index. Set it before planning.
func (t *Table) UseKeyIndex(x KeyIndex) { t.keyIndex = x }

// FileIndex is the key index of one table: a filter for each data file over
// keyed hashes of its key columns' values, as canonical keys. It lives in
// segment objects under a folder of the state bucket, sealed. A night goes:
//
//	x, _ := OpenFileIndex(ctx, store, folder, secret, tbl, sel) // reads the filters
//	tbl.UseKeyIndex(x)                                         // Plan prunes with them
//	x.Add(ctx, path, size)                                     // for each file scanned or written
//	x.Close(ctx)                                               // stores what is new, drops what is gone
//
// A filter answers "no key" only when every key of the set is proven absent,
// so that the share of needless reads is the number of keys times 2^-26.
type FileIndex struct {
	table   *Table
	store   storage.Store
	folder  string
	secret  []byte
	hasher  *keyHasher
	matches []indexedMatch

	mu       sync.Mutex
	known    map[fileDigest]*indexedFile
	segments []segment
	seen     map[fileDigest]bool
	pending  *pendingSegment
}

// fileDigest is the keyed digest of a data file's path.
type fileDigest [16]byte

// signature identifies what a filter is over: the columns and the form of the key.
type signature [16]byte

// indexedMatch is one match of the selection: what it asks of each filter.
type indexedMatch struct {
	binding
	sig    signature
	hashes []uint64 // of the keys, sorted
	off    bool     // too many keys: a filter would exclude little
}

// maxProbedKeys is where one file in eight would be read for nothing.
const maxProbedKeys = 8 << 20

// indexedFile is what the index knows of a data file.
type indexedFile struct {
	size     int64
	filtered uint64 // bit i: there is a filter for match i
	excluded uint64 // bit i: the filter says that no key of match i is there
}

// maxIndexedMatches is the width of the bit sets above.
const maxIndexedMatches = 64

// OpenFileIndex reads the index of a table and probes its filters with the keys
// of the selection. The secret has 32 bytes and stays the same from run to run
// (KeyIndexSecret keeps one). A segment that cannot be read is passed over: its
// files are scanned again.
func OpenFileIndex(ctx context.Context, store storage.Store, folder string, secret []byte, t *Table, sel warehouse.Selection) (*FileIndex, error) {
	tbl, err := t.load(ctx)
	if err != nil {
		return nil, err
	}
	bound, err := t.bind(tbl.Metadata(), sel)
	if err != nil {
		return nil, err
	}
	if len(bound) > maxIndexedMatches {
		return nil, fmt.Errorf("key index of more than %d matches: %w", maxIndexedMatches, warehouse.ErrUnsupported)
	}
	x := &FileIndex{
		table: t, store: store, secret: secret,
		folder: trimSlash(folder) + "/" + tbl.Metadata().TableUUID().String() + "/",
		known:  map[fileDigest]*indexedFile{},
		seen:   map[fileDigest]bool{},
	}
	key, err := hkdf.Key(sha256.New, secret, nil, "expunge key index v1 hash", 32)
	if err != nil {
		return nil, fmt.Errorf("derive the key index's hash key: %w", err)
	}
	if x.hasher, err = newKeyHasher(key); err != nil {
		return nil, err
	}
	for _, b := range bound {
		x.matches = append(x.matches, x.match(b))
	}
	if err := x.load(ctx); err != nil {
		return nil, fmt.Errorf("read the key index of %s: %w", t.name, err)
	}
	return x, nil
}

// match hashes the keys of one match.
func (x *FileIndex) match(b binding) indexedMatch {
	m := indexedMatch{binding: b, sig: x.signatureOf(b)}
	if b.Keys.Len() > maxProbedKeys {
		m.off = true
		return m
	}
	m.hashes = make([]uint64, 0, b.Keys.Len())
	h := x.hasher.state()
	for key := range b.Keys.All() {
		m.hashes = append(m.hashes, h.sum64(key))
	}
	slices.Sort(m.hashes)
	return m
}

// signatureOf covers all that canonical keys depend on: a filter made for other
// columns, another type or another normalisation is never asked.
func (x *FileIndex) signatureOf(b binding) signature {
	var d []byte
	for i, p := range b.Keys.Schema() {
		d = binary.AppendUvarint(d, uint64(b.fields[i].leaf().ID))
		d = append(d, byte(p.Type.Kind))
		d = binary.AppendUvarint(d, uint64(p.Type.Precision))
		d = binary.AppendUvarint(d, uint64(p.Type.Scale))
		d = binary.AppendUvarint(d, uint64(len(p.Normalize)))
		for _, rule := range p.Normalize {
			d = append(binary.AppendUvarint(d, uint64(len(rule))), rule...)
		}
		typ := b.fields[i].leaf().Type.String()
		d = append(binary.AppendUvarint(d, uint64(len(typ))), typ...)
	}
	return signature(x.hasher.sum(domainSignature, d))
}

func (x *FileIndex) digest(path string) fileDigest {
	return fileDigest(x.hasher.sum(domainPath, []byte(path)))
}

// Excludes implements KeyIndex. A file whose size is not the one that was
// indexed is another file.
func (x *FileIndex) Excludes(path string, size int64, match int) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	f := x.known[x.digest(path)]
	return f != nil && f.size == size && match < maxIndexedMatches && f.excluded&(1<<match) != 0
}

// Seen implements KeyIndex: what no plan lists any more is dropped by Close.
func (x *FileIndex) Seen(path string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.seen[x.digest(path)] = true
}

// Add reads the key columns of a data file and keeps a filter for each match
// that lacks one. Call it for files that were scanned and stay, and for
// files that a run wrote. It is safe for concurrent use. A file that cannot be indexed
// exactly (columns stored in an unusual way, too many distinct keys) is left out.
func (x *FileIndex) Add(ctx context.Context, path string, size int64) error {
	d := x.digest(path)
	x.mu.Lock()
	var have uint64
	if f := x.known[d]; f != nil && f.size == size {
		have = f.filtered
	}
	x.mu.Unlock()
	var file *columnsFile
	for i := range x.matches {
		if have&(1<<i) != 0 {
			continue
		}
		if file == nil {
			var err error
			if file, err = openColumns(ctx, x.table.store, path); err != nil {
				return fmt.Errorf("index a data file: %w", err)
			}
			defer file.Close()
		}
		hashes, err := x.matches[i].hashFile(ctx, x.hasher, file)
		if errors.Is(err, errNotIndexable) {
			continue
		}
		if err != nil {
			return fmt.Errorf("index a data file: %w", err)
		}
		if err := x.put(ctx, filterRecord{file: d, sig: x.matches[i].sig, size: size, filter: encodeFilter(hashes)}); err != nil {
			return err
		}
	}
	x.mu.Lock()
	x.seen[d] = true
	x.mu.Unlock()
	return nil
}

// probe says what a filter excludes.
func (x *FileIndex) probe(r filterRecord) error {
	for i := range x.matches {
		if x.matches[i].sig != r.sig {
			continue
		}
		hit := x.matches[i].off
		if !hit {
			var err error
			if hit, err = r.filter.mayHold(x.matches[i].hashes); err != nil {
				return err
			}
		}
		f := x.known[r.file]
		if f == nil || f.size != r.size {
			f = &indexedFile{size: r.size}
			x.known[r.file] = f
		}
		f.filtered |= 1 << i
		if !hit {
			f.excluded |= 1 << i
		}
	}
	return nil
}

// Known is how many data files the index holds a filter of, for the selection.
func (x *FileIndex) Known() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.known)
}

// hashFile collects the hashes of a file's distinct keys, sorted.
func (m *indexedMatch) hashFile(ctx context.Context, h *keyHasher, f *columnsFile) ([]uint64, error) {
	set := newHashSet()
	parts := m.Keys.Schema()
	repeated := false
	cols := make([]tupleColumn, len(m.fields))
	for i, fd := range m.fields {
		repeated = repeated || fd.repeated()
		c := f.column(fd.leaf().ID, append(slices.Clone(m.Columns[i].Names), fd.path))
		if c < 0 {
			if f.ids {
				return nil, nil // the column was added later: all NULL, no key
			}
			return nil, errNotIndexable
		}
		if !storedPlainly(f.r.MetaData().Schema.Column(c), fd.leaf().Type) {
			return nil, errNotIndexable
		}
		cols[i].index = c
	}
	var key []byte
	hash := h.state()
	tuple := func(values []byte) error {
		key = key[:0]
		for i := range parts {
			v, rest, ok := cutTupleBytes(values)
			if !ok {
				return nil // NULL never matches
			}
			values = rest
			if key, ok = m.appendKey(key, i, v); !ok {
				return nil
			}
		}
		return set.add(hash.sum64(key))
	}
	var err error
	switch {
	case repeated && len(cols) > 1:
		return nil, errNotIndexable // which elements belong together is the scanner's to say
	case repeated:
		err = f.eachValue(ctx, cols[0].index, tuple)
	default:
		err = f.eachTuple(ctx, cols, nil, func(_ int64, values []byte) error { return tuple(values) })
	}
	return set.sorted(), err
}

// appendKey appends a stored value, as tuples hold it, as part of a canonical key.
func (m *indexedMatch) appendKey(key []byte, part int, v []byte) ([]byte, bool) {
	var i64 int64
	if col, err := storedAs(m.fields[part].leaf().Type); err != nil {
		return key, false
	} else if col.Physical == keyset.PhysInt32 || col.Physical == keyset.PhysInt64 {
		if len(v) != 8 {
			return key, false
		}
		i64 = int64(binary.BigEndian.Uint64(v))
	} else if col.Logical.Kind == keyset.LogicalDecimal {
		if len(v) == 0 || len(v) > 16 {
			return key, false
		}
		b := signExtend(v)
		v = b[:]
	}
	out, ok := m.matcher.AppendPart(key, part, i64, v)
	return out, ok
}

func trimSlash(s string) string {
	for len(s) > 1 && s[len(s)-1] == '/' {
		s = s[:len(s)-1]
	}
	return s
}
