package keyset

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapHuge maps size bytes of anonymous memory, aligned to a huge page when that
// pays. A nil mapping means that the caller should use the heap.
func mapHuge(size int) (usable, mapped []byte) {
	total := size
	if size >= hugePage {
		total += hugePage
	}
	mapped, err := unix.Mmap(-1, 0, total, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, nil
	}
	if size < hugePage {
		return mapped, mapped
	}
	at := uintptr(unsafe.Pointer(unsafe.SliceData(mapped)))
	skip := int(-at & (hugePage - 1))
	usable = mapped[skip : skip+size : skip+size]
	_ = unix.Madvise(usable, unix.MADV_HUGEPAGE) // advice only
	return usable, mapped
}

func unmap(b []byte) { _ = unix.Munmap(b) }
