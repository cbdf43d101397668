//go:build !amd64 || purego

package keyset

func (f filter) selectHits(dst []int32, hashes []uint64) int { return f.selectGo(dst, hashes) }
