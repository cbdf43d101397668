package parquet

import (
	"bytes"
	"errors"

	"github.com/parquet-go/parquet-go/bloom"
	"github.com/parquet-go/parquet-go/bloom/xxhash"

	"github.com/expunge/expunge/internal/pq"
)

// bloomBuilder rebuilds a chunk's bloom filter at its old size from what
// survives (BloomFilter.md): a filter cannot forget single values.
type bloomBuilder struct {
	header []byte // as stored: the bit set keeps its size
	filter bloom.SplitBlockFilter
}

// openBloom prepares the rebuild. A filter of a kind that cannot be rebuilt
// is dropped: readers then do without.
func (c *chunkJob) openBloom() error {
	if !c.src.HasBloom() || leaks.bloom {
		return nil
	}
	b, err := c.src.Bloom()
	if errors.Is(err, pq.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return err
	}
	c.bloom = &bloomBuilder{
		header: bytes.Clone(b.Raw[:b.Header]),
		filter: make(bloom.SplitBlockFilter, (len(b.Raw)-b.Header)/bloom.BlockSize),
	}
	return nil
}

// hash collects the hashes of the values that stay. Dictionary-encoded pages
// are hashed by their entries instead.
func (j *pageJob) hash(v *view, kept []span, literals [][]byte) {
	for _, k := range kept {
		for i := k.from; i < k.to; i++ {
			j.res.hashes = append(j.res.hashes, xxhash.Sum64(v.at(i)))
		}
	}
	for _, l := range literals {
		j.res.hashes = append(j.res.hashes, xxhash.Sum64(l))
	}
}

// build fills the filter and returns it as stored.
func (c *chunkJob) buildBloom() []byte {
	b := c.bloom
	for i := range c.table.pages {
		if j := c.table.pages[i].job; j != nil {
			b.filter.InsertBulk(j.res.hashes)
			j.res.hashes = nil
		}
	}
	if d := c.dict; d != nil {
		for i := range d.size() {
			if d.used.has(i) {
				b.filter.Insert(xxhash.Sum64(d.at(i)))
			}
		}
	}
	return append(b.header, b.filter.Bytes()...)
}
