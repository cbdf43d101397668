//go:build amd64 && !purego

package keyset

import "golang.org/x/sys/cpu"

var useAVX2 = cpu.X86.HasAVX2

// probeAVX2 writes the indexes of the hashes that pass and returns how many.
// dst has room for n.
//
//go:noescape
func probeAVX2(dst *int32, blocks *[8]uint32, nblocks uint64, hashes *uint64, n uint64) uint64

// selectHits is selectGo, in assembly where the processor can.
func (f filter) selectHits(dst []int32, hashes []uint64) int {
	if !useAVX2 || len(hashes) == 0 {
		return f.selectGo(dst, hashes)
	}
	dst = dst[:len(hashes)]
	return int(probeAVX2(&dst[0], &f.blocks[0], uint64(len(f.blocks)), &hashes[0], uint64(len(hashes))))
}
