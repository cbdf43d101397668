package verifier

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/big"
	"slices"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	"github.com/apache/arrow-go/v18/parquet/schema"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/keyset"
)

// bloomCount sums up filter probes over many filters.
type bloomCount struct {
	Filters, Keys, Hits int64
	Expected            float64 // hits that filters of this filling give by chance
	Variance            float64
}

func (b *bloomCount) add(o bloomCount) {
	b.Filters += o.Filters
	b.Keys += o.Keys
	b.Hits += o.Hits
	b.Expected += o.Expected
	b.Variance += o.Variance
}

// significant says whether the keys hit so much more often than strangers do
// that they, or some of them, must have been inserted: four standard
// deviations, and more than three hits above chance.
func (b *bloomCount) significant() bool {
	return float64(b.Hits) > b.Expected+4*math.Sqrt(b.Variance)+3
}

// apply writes the count to the surface.
func (b *bloomCount) apply(t *tally, name string) {
	s := t.look(BloomFilters, b.Filters)
	s.Possible += b.Hits
	if b.Keys > 0 {
		s.Note = fmt.Sprintf("%d hits of %d probes, %.1f expected by chance", b.Hits, b.Keys, b.Expected)
	}
	if b.significant() {
		s.Result, s.Findings = Residue, s.Findings+1
		t.findings = append(t.findings, Finding{Surface: BloomFilters, Object: name, Count: b.Hits, State: "hit rate above chance"})
	}
}

// maxBloomKeys bounds the probes of one filter; keys beyond it are sampled evenly.
const maxBloomKeys = 100000

// strangers is how many made-up hashes measure a filter's false positive rate
// at least; with many keys it is strangersPerKey for each.
const (
	strangers       = 20000
	strangersPerKey = 4
)

// blooms probes every filter of a key column with the keys and with strangers.
func (c *fileCheck) blooms() error {
	var sum bloomCount
	for col, keys := range c.single {
		for _, k := range keys {
			hashes := keyHashes(k, c.f.MetaData().Schema.Column(col))
			for rg := range c.f.NumRowGroups() {
				n, err := c.bloom(rg, col, hashes)
				if err != nil {
					return fmt.Errorf("bloom filter: %w", err)
				}
				sum.add(n)
			}
		}
	}
	c.rep.bloom = sum
	sum.apply(&c.tally, c.name)
	return nil
}

func (c *fileCheck) bloom(rg, col int, hashes func(metadata.Hasher) []uint64) (n bloomCount, err error) {
	defer guard(&err)
	r, err := c.f.GetBloomFilterReader().RowGroup(rg)
	if err != nil || r == nil {
		return n, err
	}
	bf, err := r.GetColumnBloomFilter(col)
	if err != nil || bf == nil {
		return n, err
	}
	return countHits(bf.CheckHash, hashes(bf.Hasher())), nil
}

// countHits probes a filter with hashes of keys, and with strangers for what
// chance gives. The rate of strangers is an estimate: its own variance counts
// too, the more the more keys there are.
func countHits(check func(uint64) bool, keys []uint64) bloomCount {
	n := bloomCount{Filters: 1, Keys: int64(len(keys))}
	for _, h := range keys {
		if check(h) {
			n.Hits++
		}
	}
	probes, chance := max(strangers, strangersPerKey*len(keys)), 0
	for i := range uint64(probes) {
		if check(mix(i)) {
			chance++
		}
	}
	p := float64(chance+1) / float64(probes+2)
	n.Expected = p * float64(n.Keys)
	n.Variance = n.Expected * (1 - p) * (1 + float64(n.Keys)/float64(probes))
	return n
}

// mix is SplitMix64: well-spread numbers without a seed to state.
func mix(i uint64) uint64 {
	z := (i + 1) * 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// keyHashes returns the hashes of the keys as the column stores them. Keys
// without one stored form, such as normalised strings, have none.
func keyHashes(k *boundKeys, d *schema.Column) func(metadata.Hasher) []uint64 {
	return func(h metadata.Hasher) (out []uint64) {
		step, i := max(1, k.keys.Len()/maxBloomKeys), 0
		for key := range k.keys.All() {
			if i++; i%step != 0 {
				continue
			}
			if v, ok := storedForm(k.conv[0], d, key); ok {
				out = append(out, h.Sum64(v))
			}
		}
		return out
	}
}

// storedForm is the reverse of a converter: a canonical key as the column stores it.
func storedForm(c *converter, d *schema.Column, key []byte) ([]byte, bool) {
	var n *big.Int
	switch c.part.Type.Kind {
	case keyset.KindInt64, keyset.KindDate:
		n = big.NewInt(int64(binary.BigEndian.Uint64(key) ^ 1<<63))
	case keyset.KindDecimal:
		n = new(big.Int).Sub(new(big.Int).SetBytes(key), two127)
	case keyset.KindUUID:
		if d.PhysicalType() == parquet.Types.FixedLenByteArray && d.TypeLength() == 16 {
			return key, true
		}
		s := hex.EncodeToString(key)
		return []byte(s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]), true
	default:
		return key, len(c.norm) == 0 && c.codec == nil
	}
	return storedNumber(c, d, n)
}

func storedNumber(c *converter, d *schema.Column, n *big.Int) ([]byte, bool) {
	have := 0
	if c.part.Type.Kind == keyset.KindDecimal {
		have = c.part.Type.Scale
	}
	for ; have < c.scale; have++ {
		n.Mul(n, ten)
	}
	for ; have > c.scale; have-- {
		var rest big.Int
		if n.QuoRem(n, ten, &rest); rest.Sign() != 0 {
			return nil, false
		}
	}
	switch d.PhysicalType() {
	case parquet.Types.Int32:
		lo, hi := int64(math.MinInt32), int64(math.MaxInt32)
		if c.unsigned {
			lo, hi = 0, math.MaxUint32
		}
		if !n.IsInt64() || n.Int64() < lo || n.Int64() > hi {
			return nil, false
		}
		return binary.LittleEndian.AppendUint32(nil, uint32(n.Int64())), true
	case parquet.Types.Int64:
		if !n.IsInt64() {
			return nil, false
		}
		return binary.LittleEndian.AppendUint64(nil, uint64(n.Int64())), true
	case parquet.Types.FixedLenByteArray:
		w := d.TypeLength()
		if n.BitLen() >= 8*w {
			return nil, false
		}
		out := make([]byte, w)
		new(big.Int).Mod(n, new(big.Int).Lsh(big.NewInt(1), uint(8*w))).FillBytes(out)
		return out, true
	}
	return nil, false
}

// footerText looks for keys in the footer's free text.
func (c *fileCheck) footerText() error {
	kv := c.f.MetaData().KeyValueMetadata()
	c.tally.look(FileMetadata, int64(kv.Len()))
	s := newSearch(c.matches())
	for i, v := range kv.Values() {
		if n := s.text([]byte(v)); n > 0 {
			c.tally.found(Finding{Surface: FileMetadata, Object: c.name, Column: kv.Keys()[i], Count: n, Certain: s.certain, State: "key in key-value metadata"})
		}
	}
	if n := s.text([]byte(c.f.MetaData().GetCreatedBy())); n > 0 {
		c.tally.found(Finding{Surface: FileMetadata, Object: c.name, Count: n, State: "key in created_by"})
	}
	return nil
}

func (c *fileCheck) matches() (out []*keyset.Set) {
	for _, b := range c.bound {
		if b != nil {
			out = append(out, b.keys)
		}
	}
	return out
}

// byteRange is part of a file.
type byteRange struct{ from, to int64 }

// gaps looks at bytes that nothing refers to: a copied range may bring along
// what lay between two chunks.
func (c *fileCheck) gaps() error {
	used := c.ranges()
	slices.SortFunc(used, func(a, b byteRange) int { return int(a.from - b.from) })
	at, total := int64(0), int64(0)
	s := newSearch(c.matches())
	var hits int64
	for _, r := range used {
		if r.from > at {
			total += r.from - at
			n, err := c.searchRange(s, byteRange{at, r.from})
			if err != nil {
				return err
			}
			hits += n
		}
		at = max(at, r.to)
	}
	sf := c.tally.look(FileGaps, 1)
	if total > 0 {
		sf.Note = fmt.Sprintf("%d bytes", total)
	}
	if hits > 0 {
		c.tally.found(Finding{Surface: FileGaps, Object: c.name, Count: hits, Certain: s.certain, State: "key in bytes that nothing refers to"})
	}
	return nil
}

// ranges are the parts of the file that the footer accounts for.
func (c *fileCheck) ranges() []byteRange {
	out := []byteRange{{0, 4}, {c.size - 8 - int64(c.f.MetaData().Size()), c.size}}
	for _, g := range c.f.MetaData().RowGroups {
		for _, col := range g.Columns {
			m := col.GetMetaData()
			from := chunkStart(m)
			out = append(out, byteRange{from, from + m.GetTotalCompressedSize()})
			if col.IsSetColumnIndexOffset() {
				out = append(out, byteRange{col.GetColumnIndexOffset(), col.GetColumnIndexOffset() + int64(col.GetColumnIndexLength())})
			}
			if col.IsSetOffsetIndexOffset() {
				out = append(out, byteRange{col.GetOffsetIndexOffset(), col.GetOffsetIndexOffset() + int64(col.GetOffsetIndexLength())})
			}
			if m.IsSetBloomFilterOffset() && m.IsSetBloomFilterLength() {
				out = append(out, byteRange{m.GetBloomFilterOffset(), m.GetBloomFilterOffset() + int64(m.GetBloomFilterLength())})
			}
		}
	}
	return out
}

// gapWindow is how much of a gap is searched at a time.
const gapWindow = 1 << 20

// searchRange searches raw bytes in windows that overlap by the longest key.
func (c *fileCheck) searchRange(s *search, r byteRange) (hits int64, err error) {
	for at := r.from; at < r.to; at += gapWindow {
		b := make([]byte, min(gapWindow+int64(s.longest()), r.to-at))
		if err := readAt(c.f.src, b, at); err != nil {
			return 0, err
		}
		hits += s.raw(b)
	}
	return hits, nil
}

func readAt(r interface {
	ReadAt([]byte, int64) (int, error)
}, b []byte, at int64) error {
	if n, err := r.ReadAt(b, at); n < len(b) {
		if se := (*storage.Error)(nil); err != nil && asStorage(err, &se) {
			return se
		}
		return errCorrupt
	}
	return nil
}
