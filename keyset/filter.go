package keyset

import "math"

// A filter is a split-block Bloom filter as in Parquet's BloomFilter.md: blocks
// of eight 32-bit words, one bit a word. The hash's high half picks the block,
// the low half the bits. The layout is Parquet's; the hash is not (xxh3, seeded).
type filter struct {
	blocks [][8]uint32
}

const (
	filterBitsPerKey = 16 // 0.13 % false positives
	filterHashes     = 8
	blockBits        = 256
)

// salt is the specification's, one odd multiplier a word.
var salt = [8]uint32{0x47b6137b, 0x44974d91, 0x8824ad5b, 0xa2b7289d, 0x705495c7, 0x2df1424b, 0x9efc4947, 0x5c6bfb31}

// filterBlocks is how many blocks n keys get.
func filterBlocks(n int) int { return max(1, (n*filterBitsPerKey+blockBits-1)/blockBits) }

func (f filter) block(h uint64) uint64 { return (h >> 32) * uint64(len(f.blocks)) >> 32 }

func (f filter) insert(h uint64) {
	b := &f.blocks[f.block(h)]
	x := uint32(h)
	for i := range b {
		b[i] |= 1 << (x * salt[i] >> 27)
	}
}

func (f filter) contains(h uint64) bool {
	return blockHas(&f.blocks[f.block(h)], uint32(h)) != 0
}

// blockHas is 1 when every bit of x is set, else 0: no branch, so that the
// processor can have many blocks in flight.
func blockHas(b *[8]uint32, x uint32) uint32 {
	return b[0] >> (x * 0x47b6137b >> 27 & 31) & (b[1] >> (x * 0x44974d91 >> 27 & 31)) &
		(b[2] >> (x * 0x8824ad5b >> 27 & 31)) & (b[3] >> (x * 0xa2b7289d >> 27 & 31)) &
		(b[4] >> (x * 0x705495c7 >> 27 & 31)) & (b[5] >> (x * 0x2df1424b >> 27 & 31)) &
		(b[6] >> (x * 0x9efc4947 >> 27 & 31)) & (b[7] >> (x * 0x5c6bfb31 >> 27 & 31)) & 1
}

// selectGo writes to dst the indexes of the hashes that pass and returns how
// many. dst must be as long as hashes.
func (f filter) selectGo(dst []int32, hashes []uint64) int {
	k, n := 0, uint64(len(f.blocks))
	dst = dst[:len(hashes)]
	for i, h := range hashes {
		dst[k] = int32(i)
		k += int(blockHas(&f.blocks[(h>>32)*n>>32], uint32(h)))
	}
	return k
}

// designFP is the expected false-positive rate of n keys in b blocks: the number
// of keys in a block is Poisson, and i keys leave a word's bit unset with
// probability (31/32)^i.
func designFP(n, b int) float64 {
	if n == 0 || b == 0 {
		return 0
	}
	mean := float64(n) / float64(b)
	p, sum := math.Exp(-mean), 0.0
	for i := range 400 {
		sum += p * math.Pow(1-math.Pow(31.0/32, float64(i)), filterHashes)
		p *= mean / float64(i+1)
	}
	return sum
}
