package pq

import (
	"encoding/binary"

	"github.com/parquet-go/parquet-go/format"
)

// Bloom is a split-block bloom filter of a chunk (BloomFilter.md).
type Bloom struct {
	// Raw is the header and the bit set as stored, Header the length of the
	// former.
	Raw    []byte
	Header int
	bits   []byte
}

// HasBloom says that the chunk has a bloom filter.
func (c *Chunk) HasBloom() bool { return c.Meta.BloomFilterOffset > 0 }

// Bloom reads the chunk's bloom filter, nil when it has none. Only the one
// kind that the format defines is read: split block, xxHash, uncompressed.
func (c *Chunk) Bloom() (*Bloom, error) {
	if !c.HasBloom() {
		return nil, nil
	}
	b, err := c.readBloom()
	return b, at(c.Where()+", bloom filter", err)
}

func (c *Chunk) readBloom() (*Bloom, error) {
	off, n := c.Meta.BloomFilterOffset, int64(c.Meta.BloomFilterLength)
	if n <= 0 {
		// Older writers leave the length out: read the header first.
		n = min(64, c.File.FooterOffset-off)
	}
	raw, err := c.File.readRange(off, n, maxBloom)
	if err != nil {
		return nil, err
	}
	var h format.BloomFilterHeader
	used, err := decodeStruct(raw, anyShape, &h)
	if err != nil {
		return nil, err
	}
	if h.NumBytes <= 0 || h.NumBytes%32 != 0 {
		return nil, corrupt("bit set of %d bytes", h.NumBytes)
	}
	_, block := h.Algorithm.Value.(*format.SplitBlockAlgorithm)
	_, hash := h.Hash.Value.(*format.XxHash)
	_, plain := h.Compression.Value.(*format.BloomFilterUncompressed)
	if !block || !hash || !plain {
		return nil, unsupported("kind of bloom filter")
	}
	if want := int64(used) + int64(h.NumBytes); want > int64(len(raw)) {
		if c.Meta.BloomFilterLength > 0 {
			return nil, corrupt("bit set is cut short")
		}
		if raw, err = c.File.readRange(off, want, maxBloom); err != nil {
			return nil, err
		}
	}
	raw = raw[:used+int(h.NumBytes)]
	return &Bloom{Raw: raw, Header: used, bits: raw[used:]}, nil
}

// bloomSalt: BloomFilter.md, section "Split Block Bloom Filter".
var bloomSalt = [8]uint32{
	0x47b6137b, 0x44974d91, 0x8824ad5b, 0xa2b7289d,
	0x705495c7, 0x2df1424b, 0x9efc4947, 0x5c6bfb31,
}

// MayContain tests the XXH64 of a value's PLAIN encoding (without the length
// prefix of byte arrays).
func (b *Bloom) MayContain(hash uint64) bool {
	blocks := uint64(len(b.bits) / 32)
	block := b.bits[32*((hash>>32)*blocks>>32):][:32]
	x := uint32(hash)
	for i, salt := range bloomSalt {
		if binary.LittleEndian.Uint32(block[4*i:])>>((x*salt)>>27)&1 == 0 {
			return false
		}
	}
	return true
}
