//go:build !linux

package keyset

func mapHuge(int) (usable, mapped []byte) { return nil, nil }

func unmap([]byte) {}
