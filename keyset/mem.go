package keyset

import (
	"runtime"
	"unsafe"
)

// Big arrays of a set live outside the Go heap: there a filter of gigabytes
// would let the collector's target grow by as much again, and the probe, which
// is bound by cache and TLB misses, gains from huge pages.
const (
	hugePage     = 2 << 20
	mapThreshold = 1 << 20
)

// memory owns a mapping; it is unmapped once nothing refers to the memory any
// more. Whoever works on slices of it must keep its owner alive meanwhile.
type memory struct{ mapped []byte }

// allocate returns n zeroed elements of a pointer-free type and what keeps them.
func allocate[T any](n int) ([]T, *memory) {
	var zero T
	size := n * int(unsafe.Sizeof(zero))
	if size < mapThreshold {
		return make([]T, n), nil
	}
	raw, mapped := mapHuge(size)
	if mapped == nil {
		return make([]T, n), nil
	}
	m := &memory{mapped: mapped}
	runtime.AddCleanup(m, unmap, mapped)
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(raw))), n), m
}
