package parquet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"

	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/internal/thriftpatch"
	"github.com/expunge/expunge/internal/zstdedit"
)

// dictionary is a chunk's dictionary page, and what the edit does to it. An
// entry that no surviving row refers to still holds an erased value: it is
// overwritten.
type dictionary struct {
	col      *pq.Column
	page     pq.Page
	decoder  *pq.Decoder
	entries  *pq.Values
	view     view
	literals [][]byte // entries to append
	index    map[string]uint32
	mu       sync.Mutex
	used     bitset // entries that surviving rows use, as far as known
	lost     bitset // entries that lost a use
	complete bool   // used covers every dictionary-encoded page
}

func (c *chunkJob) openDictionary(p pq.Page) (*dictionary, error) {
	d := &dictionary{col: c.col, page: p, decoder: c.src.NewDecoder()}
	if err := d.decoder.SetDictionary(&d.page); err != nil {
		return nil, err
	}
	d.entries = d.decoder.Dict
	if d.entries.Type == format.Boolean {
		return nil, unsupportedAt(c.src.Where(), "dictionary of booleans")
	}
	d.view = viewOf(d.entries, nil)
	d.addLiterals(c.leaf)
	d.used, d.lost = newBitset(d.size()), newBitset(d.size())
	return d, nil
}

// addLiterals gives every constant of the edit an entry: one that is there, or
// a new one at the end.
func (d *dictionary) addLiterals(leaf *leafPlan) {
	for _, r := range leaf.redact {
		if r.literal == nil {
			continue
		}
		if d.index == nil {
			d.index = map[string]uint32{}
		}
		if _, ok := d.index[string(r.literal)]; ok {
			continue
		}
		at := -1
		for i := range d.view.n {
			if bytes.Equal(d.view.at(i), r.literal) {
				at = i
				break
			}
		}
		if at < 0 {
			at = d.view.n + len(d.literals)
			d.literals = append(d.literals, r.literal)
		}
		d.index[string(r.literal)] = uint32(at)
	}
}

func (d *dictionary) size() int { return d.view.n + len(d.literals) }

// literal is the entry of a constant.
func (d *dictionary) literal(b []byte) uint32 { return d.index[string(b)] }

// at is an entry's value, appended ones included.
func (d *dictionary) at(i int) []byte {
	if i < d.view.n {
		return d.view.at(i)
	}
	return d.literals[i-d.view.n]
}

// merge adds what a page uses; workers call it.
func (d *dictionary) merge(used, lost bitset) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.used.or(used)
	d.lost.or(lost)
}

// settled says that every entry that lost a use is known to be in use still.
func (d *dictionary) settled() bool { return !d.lost.without(d.used) }

// dead says whether an entry is to be overwritten.
func (d *dictionary) dead(i int) bool {
	if leaks.dictionary && i < d.view.n {
		return false
	}
	if i >= d.view.n || d.complete {
		return !d.used.has(i)
	}
	return d.lost.has(i) && !d.used.has(i)
}

// wiped returns the values of the new dictionary, nil when the old one is
// right. A dead tail goes. Dead entries of text and plain bytes become blanks,
// each another one: Arrow's readers take a dictionary's entries for distinct
// when they keep it as a dictionary (ByteArrayDictionaryRecordReader), and would
// give later rows the values of others. All others become copies of the
// surviving entry before them (the first ones: behind them), since a blank may
// be no value of their type.
func (d *dictionary) wiped() (values [][]byte, changed bool) {
	n := d.size()
	for n > 0 && d.dead(n-1) {
		n--
	}
	if n == 0 && d.view.n > 0 {
		// No page is left that refers to it. Some readers fail on an empty one.
		return [][]byte{d.neutral()}, true
	}
	changed = n != d.view.n
	for i := 0; i < n && !changed; i++ {
		changed = d.dead(i)
	}
	if !changed {
		return nil, false
	}
	values = make([][]byte, n)
	if d.distinct() {
		return d.blanked(values), true
	}
	var last []byte
	for i := n - 1; i >= 0; i-- { // for the first ones
		if !d.dead(i) {
			last = d.at(i)
		}
	}
	for i := range n {
		if !d.dead(i) {
			last = d.at(i)
		}
		values[i] = last
	}
	return values, true
}

// distinct says that no two entries may be equal.
func (d *dictionary) distinct() bool {
	if d.entries.Type != format.ByteArray {
		return false
	}
	switch d.col.Logical().(type) {
	case nil:
		c, ok := d.col.Converted()
		return !ok || c != deprecated.Decimal
	case *format.StringType, *format.EnumType, *format.JsonType, *format.BsonType:
		return true
	}
	return false
}

// blanked fills in the values, with blanks for the dead.
func (d *dictionary) blanked(values [][]byte) [][]byte {
	taken := map[string]bool{} // entries that look like blanks and stay
	for i := range values {
		if v := d.at(i); !d.dead(i) {
			values[i] = v
			if isBlank(v) {
				taken[string(v)] = true
			}
		}
	}
	next := 1
	for i := range values {
		if !d.dead(i) {
			continue
		}
		b := blank(next)
		for ; taken[string(b)]; b = blank(next) {
			next++
		}
		values[i] = b
		next++
	}
	return values
}

// blankDigits is how many bytes a blank is made of: 0x01 to 0x1f, which are
// text, and which no reader takes for the end of one.
const blankDigits = 31

// blank numbers the values, from 1, that say nothing.
func blank(n int) (b []byte) {
	for ; n > 0; n = (n - 1) / blankDigits {
		b = append(b, byte(1+(n-1)%blankDigits))
	}
	return b
}

func isBlank(v []byte) bool {
	return len(v) > 0 && !slices.ContainsFunc(v, func(b byte) bool { return b == 0 || b > blankDigits })
}

// neutral is a value that says nothing.
func (d *dictionary) neutral() []byte {
	if d.entries.Type == format.ByteArray {
		return nil
	}
	return make([]byte, d.view.width)
}

// rebuilt returns the bytes of the new dictionary page, nil when the old page stays.
func (d *dictionary) rebuilt(c *chunkJob) (header, body []byte, uncompressed int, err error) {
	values, changed := d.wiped()
	if !changed {
		return nil, nil, 0, nil
	}
	var plain []byte
	for _, v := range values {
		if d.entries.Type == format.ByteArray {
			plain = binary.LittleEndian.AppendUint32(plain, uint32(len(v)))
		}
		plain = append(plain, v...)
	}
	if body = d.splice(c, values, plain); body == nil {
		if body, err = c.codec.compress(nil, plain); err != nil {
			return nil, nil, 0, err
		}
		body = slices.Clone(body)
	}
	if c.check {
		again, err := pq.Decompress(c.codec.kind, nil, body, len(plain))
		if err != nil || !bytes.Equal(again, plain) {
			return nil, nil, 0, fmt.Errorf("%s: rewritten dictionary: %w", c.src.Where(), ErrCheck)
		}
	}
	h, _, err := thriftpatch.Parse(d.page.RawHeader)
	if err != nil {
		return nil, nil, 0, err
	}
	p, err := h.Struct(pageDictionary)
	if err != nil || p == nil {
		return nil, nil, 0, corrupt("dictionary page header")
	}
	p.SetInt(1, thriftpatch.I32, int64(len(values)))
	if sorted, ok := p.Bool(3); ok && sorted && (len(values) > d.view.n || d.distinct()) {
		p.SetBool(3, false)
	}
	h.SetStruct(pageDictionary, p)
	h.SetInt(pageUncompressed, thriftpatch.I32, int64(len(plain)))
	h.SetInt(pageCompressed, thriftpatch.I32, int64(len(body)))
	if h.Has(pageCRC) {
		h.SetInt(pageCRC, thriftpatch.I32, int64(int32(crc32.ChecksumIEEE(body))))
	}
	return h.Append(nil), body, len(plain), nil
}

// splice edits the compressed dictionary page: entries that are overwritten are
// new bytes in it. It returns nil where compressing anew is better.
func (d *dictionary) splice(c *chunkJob, values [][]byte, plain []byte) []byte {
	if c.codec.kind != format.Zstd || c.recompress || len(values) > d.view.n {
		return nil
	}
	prefix := 0
	if d.entries.Type == format.ByteArray {
		prefix = 4
	}
	var ops []zstdedit.Op
	from, at := 0, 0
	for i, v := range values {
		old := prefix + d.view.size(i)
		size := prefix + len(v)
		switch last := len(ops) - 1; {
		case d.dead(i):
			ops = append(ops, zstdedit.Op{From: -1, Size: size, At: at})
		case last >= 0 && ops[last].From >= 0:
			ops[last].To, ops[last].Size = from+old, ops[last].Size+size
		default:
			ops = append(ops, zstdedit.Op{From: from, To: from + old, Size: size, At: at})
		}
		from, at = from+old, at+size
	}
	if len(ops)*sparseCut > len(plain) {
		return nil
	}
	e, _ := editors.Get().(*zstdedit.Editor)
	if e == nil {
		e = new(zstdedit.Editor)
	}
	defer editors.Put(e)
	out, _ := e.Splice(nil, d.page.Body, ops, plain)
	return out
}

// editors are for dictionaries, which planners rewrite; workers have their own.
var editors sync.Pool
