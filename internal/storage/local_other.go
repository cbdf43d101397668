//go:build unix && !linux

package storage

import "os"

func copyFileRange(dst, src *os.File, off, n int64) (int64, error) {
	return copyPlain(dst, src, off, n)
}

func startWriteback(*os.File, int64, int64) {}

func renameNoReplace(from, to string) error { return linkNoReplace(from, to) }
