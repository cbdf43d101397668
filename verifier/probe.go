package verifier

import (
	"encoding/binary"

	"github.com/apache/arrow-go/v18/parquet"

	"github.com/expunge/expunge/keyset"
)

// probe looks up a batch of values of a single-part key. Values are converted
// here; the set's batch lookup then gets numbers and bytes that are canonical
// already, so that nothing but the exact set itself is shared with the scanner.
type probe struct {
	b    *boundKeys
	kind probeKind
	m    *keyset.Matcher

	selected []int32
	index    []int32 // position of the i-th looked-up value in the batch; nil = the same
	words    []int64
	data     []byte
	offsets  []uint32
}

type probeKind uint8

const (
	probeOne     probeKind = iota // value by value
	probeWords                    // numbers
	probeBytes                    // byte strings without normalisation
	probeFixed16                  // UUIDs in 16 bytes
)

func newProbe(b *boundKeys) (*probe, error) {
	p := &probe{b: b}
	c := b.conv[0]
	var col keyset.Column
	switch kind := c.part.Type.Kind; {
	case kind == keyset.KindInt64 && (c.phys == parquet.Types.Int32 || c.phys == parquet.Types.Int64) && c.scale == 0:
		p.kind, col = probeWords, keyset.Column{Physical: keyset.PhysInt64}
	case kind == keyset.KindString && len(c.norm) == 0 && c.phys == parquet.Types.ByteArray:
		p.kind, col = probeBytes, keyset.Column{Physical: keyset.PhysBytes, Logical: keyset.Logical{Kind: keyset.LogicalString}}
	case kind == keyset.KindUUID && c.phys == parquet.Types.FixedLenByteArray && c.width == 16:
		p.kind, col = probeFixed16, keyset.Column{Physical: keyset.PhysFixed, Width: 16, Logical: keyset.Logical{Kind: keyset.LogicalUUID}}
	default:
		return p, nil
	}
	m, err := keyset.NewMatcher(b.keys, []keyset.Column{col})
	if err != nil {
		return nil, err
	}
	p.m = m
	return p, nil
}

// sel returns the indexes of the batch's values that are keys, ascending.
func (p *probe) sel(bt *batch) []int32 {
	p.selected = p.selected[:0]
	switch p.kind {
	case probeWords:
		p.numbers(bt)
		p.selected = p.m.SelectInt64(p.selected, p.words)
		for i, at := range p.selected {
			p.selected[i] = p.index[at]
		}
	case probeBytes:
		p.data, p.offsets = p.data[:0], append(p.offsets[:0], 0)
		for _, v := range bt.bytes {
			p.data = append(p.data, v...)
			p.offsets = append(p.offsets, uint32(len(p.data)))
		}
		p.selected = p.m.SelectBytes(p.selected, p.data, p.offsets)
	case probeFixed16:
		p.data = p.data[:0]
		for _, v := range bt.flba {
			p.data = append(p.data, v...)
		}
		p.selected = p.m.SelectFixed(p.selected, p.data, 16)
	default:
		var buf [64]byte
		for i := range bt.nvals {
			if k, ok := p.b.conv[0].append(buf[:0], bt.value(i)); ok && p.b.keys.Contains(k) {
				p.selected = append(p.selected, int32(i))
			}
		}
	}
	return p.selected
}

// numbers widens the batch's integers. Unsigned values beyond int64 are no key
// and are left out, which index keeps track of.
func (p *probe) numbers(bt *batch) {
	c := p.b.conv[0]
	p.words, p.index = p.words[:0], p.index[:0]
	for i := range bt.nvals {
		var n int64
		if v := bt.fixed[i*bt.width:]; bt.width == 8 {
			n = int64(binary.LittleEndian.Uint64(v))
			if c.unsigned && n < 0 {
				continue
			}
		} else if n = int64(int32(binary.LittleEndian.Uint32(v))); c.unsigned {
			n = int64(uint32(n))
		}
		p.words = append(p.words, n)
		p.index = append(p.index, int32(i))
	}
}
