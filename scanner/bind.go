package scanner

import (
	"errors"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/keyset"
)

// ErrStructure: the parts of a composite key lie in different lists, so that
// no tuple of values belongs together; or the key lies outside of the list
// whose elements are asked for.
var ErrStructure = errors.New("columns lie in different lists")

// boundMatch is a match bound to the columns of one file.
type boundMatch struct {
	index   int // in the request
	set     *keyset.Set
	matcher *keyset.Matcher
	cols    []*pq.Column
	physic  []keyset.Column
	deepest int      // the part with the highest repetition level
	element *pq.Node // repeated node whose elements are counted, or nil
	numbers []int    // of set's keys in the request's, where these have parts that the file does not store
}

// bind resolves the matches' columns. A match with a column that the file does
// not have can hit nothing and is left out.
func bind(f *pq.File, req Request) ([]*boundMatch, error) {
	var out []*boundMatch
	for i, m := range req.Match {
		b, err := bindOne(f, m)
		if err == nil && b != nil && req.Elements != nil && len(b.cols) > 0 {
			err = b.bindElement(f, *req.Elements)
		}
		if err != nil {
			return nil, fmt.Errorf("match %d: %w", i+1, err)
		}
		if b != nil {
			b.index = i
			out = append(out, b)
		}
	}
	return out, nil
}

func bindOne(f *pq.File, m Match) (*boundMatch, error) {
	if m.Keys == nil {
		return nil, errors.New("no keyset")
	}
	if len(m.Columns) != len(m.Keys.Schema()) {
		return nil, fmt.Errorf("%d columns for a key of %d parts: %w", len(m.Columns), len(m.Keys.Schema()), keyset.ErrType)
	}
	b := &boundMatch{set: m.Keys}
	absent := false
	for _, ref := range m.Columns {
		col, err := f.Schema.Resolve(ref)
		if errors.Is(err, pq.ErrNotFound) {
			absent = true
			continue
		}
		if err != nil {
			return nil, err
		}
		kc, err := KeyColumn(col)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", col.Name(), err)
		}
		b.cols = append(b.cols, col)
		b.physic = append(b.physic, kc)
	}
	if absent {
		return bindGiven(f, m)
	}
	if err := b.checkStructure(); err != nil {
		return nil, err
	}
	var err error
	if b.matcher, err = keyset.NewMatcher(m.Keys, b.physic); err != nil {
		return nil, err
	}
	return b, nil
}

// bindGiven binds a match of which the file lacks columns. Nothing can match
// unless each of them has a value by the table's metadata; then the others are
// looked at for what is left of the keys that have these values.
func bindGiven(f *pq.File, m Match) (*boundMatch, error) {
	given := make([][]byte, len(m.Columns))
	rest := Match{}
	for i, ref := range m.Columns {
		if _, err := f.Schema.Resolve(ref); err == nil {
			rest.Columns = append(rest.Columns, ref)
			continue
		}
		if i >= len(m.Consts) || m.Consts[i] == nil {
			return nil, nil
		}
		given[i] = m.Consts[i]
	}
	keys, numbers, err := m.Keys.Given(given)
	if err != nil || len(numbers) == 0 {
		return nil, err
	}
	if keys == nil {
		return &boundMatch{set: m.Keys, numbers: numbers}, nil
	}
	rest.Keys = keys
	b, err := bindOne(f, rest)
	if b != nil {
		b.numbers = numbers
	}
	return b, err
}

// renumber turns numbers of the match's own keys into those of the request's.
func (b *boundMatch) renumber(keys *roaring64.Bitmap) *roaring64.Bitmap {
	if keys == nil || b.numbers == nil || len(b.cols) == 0 {
		return keys
	}
	out := roaring64.New()
	for it := keys.Iterator(); it.HasNext(); {
		out.Add(uint64(b.numbers[it.Next()]))
	}
	return out
}

// bindElement finds the list or map whose elements are counted.
func (b *boundMatch) bindElement(f *pq.File, ref ColumnRef) error {
	n, err := f.Schema.ResolveNode(ref)
	if err != nil {
		return err
	}
	b.element = n.RepeatedNode()
	if b.element == nil || !slices.Contains(b.cols[b.deepest].RepeatedAncestors(), b.element) {
		return fmt.Errorf("column %s is not in list %s: %w", b.cols[b.deepest].Name(), ref, ErrStructure)
	}
	return nil
}

// elementCounter numbers the elements of a list within their row, entry by
// entry of a column inside the list. An entry starts an element when it
// repeats at the list's level or above and the list is there and not empty
// (Dremel levels: README.md, "Nested Encoding").
type elementCounter struct {
	rep, def uint8
	started  uint32 // elements of the current row
}

func newElementCounter(n *pq.Node) elementCounter {
	return elementCounter{rep: uint8(n.Rep), def: uint8(n.Def)}
}

func (c *elementCounter) entry(rep, def uint8) {
	if rep == 0 {
		c.started = 0
	}
	if rep <= c.rep && def >= c.def {
		c.started++
	}
}

// index is the current entry's element.
func (c *elementCounter) index() uint32 { return max(c.started, 1) - 1 }

// checkStructure makes sure that the repeated ancestors of every part are a
// prefix of the deepest part's.
func (b *boundMatch) checkStructure() error {
	for i, c := range b.cols {
		if c.MaxRep > b.cols[b.deepest].MaxRep {
			b.deepest = i
		}
	}
	deep := b.cols[b.deepest].RepeatedAncestors()
	for _, c := range b.cols {
		for i, n := range c.RepeatedAncestors() {
			if deep[i] != n {
				return fmt.Errorf("columns %s and %s: %w", c.Name(), b.cols[b.deepest].Name(), ErrStructure)
			}
		}
	}
	return nil
}

// KeyColumn says how a file's column is stored, in the keyset's words.
func KeyColumn(c *pq.Column) (keyset.Column, error) {
	k := keyset.Column{Logical: logicalOf(c)}
	switch c.Type {
	case format.Int32:
		k.Physical = keyset.PhysInt32
	case format.Int64:
		k.Physical = keyset.PhysInt64
	case format.ByteArray:
		k.Physical = keyset.PhysBytes
	case format.FixedLenByteArray:
		k.Physical, k.Width = keyset.PhysFixed, c.TypeLength
	default:
		return k, fmt.Errorf("type %s: %w", c.Type, keyset.ErrType)
	}
	return k, nil
}

func logicalOf(c *pq.Column) keyset.Logical {
	switch t := c.Logical().(type) {
	case nil:
		return convertedOf(c)
	case *format.StringType, *format.EnumType:
		return keyset.Logical{Kind: keyset.LogicalString}
	case *format.UUIDType:
		return keyset.Logical{Kind: keyset.LogicalUUID}
	case *format.DateType:
		return keyset.Logical{Kind: keyset.LogicalDate}
	case *format.DecimalType:
		return keyset.Logical{Kind: keyset.LogicalDecimal, Precision: int(t.Precision), Scale: int(t.Scale)}
	case *format.IntType:
		return keyset.Logical{Kind: keyset.LogicalInt, Bits: int(t.BitWidth), Unsigned: !t.IsSigned}
	}
	return keyset.Logical{Kind: keyset.LogicalOther}
}

// convertedOf reads the older annotation (LogicalTypes.md).
func convertedOf(c *pq.Column) keyset.Logical {
	t, ok := c.Converted()
	if !ok {
		return keyset.Logical{}
	}
	integer := func(bits int, unsigned bool) keyset.Logical {
		return keyset.Logical{Kind: keyset.LogicalInt, Bits: bits, Unsigned: unsigned}
	}
	switch t {
	case deprecated.UTF8, deprecated.Enum:
		return keyset.Logical{Kind: keyset.LogicalString}
	case deprecated.Date:
		return keyset.Logical{Kind: keyset.LogicalDate}
	case deprecated.Decimal:
		m := c.Node.Meta
		return keyset.Logical{Kind: keyset.LogicalDecimal, Precision: int(m.Precision.V), Scale: int(m.Scale.V)}
	case deprecated.Int8:
		return integer(8, false)
	case deprecated.Int16:
		return integer(16, false)
	case deprecated.Int32:
		return integer(32, false)
	case deprecated.Int64:
		return integer(64, false)
	case deprecated.Uint8:
		return integer(8, true)
	case deprecated.Uint16:
		return integer(16, true)
	case deprecated.Uint32:
		return integer(32, true)
	case deprecated.Uint64:
		return integer(64, true)
	}
	return keyset.Logical{Kind: keyset.LogicalOther}
}
