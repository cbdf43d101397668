package storage

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// copyFileRange copies inside the kernel; it returns how much it copied.
func copyFileRange(dst, src *os.File, off, n int64) (int64, error) {
	for {
		m, err := unix.CopyFileRange(int(src.Fd()), &off, int(dst.Fd()), nil, int(n), 0)
		switch {
		case err == nil && m > 0:
			return int64(m), nil
		case errors.Is(err, unix.EINTR):
			continue
		case err == nil, errors.Is(err, unix.EXDEV), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL),
			errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPERM):
			// Other file systems, or one whose driver reports 0 for files it makes up.
			return copyPlain(dst, src, off, n)
		}
		return int64(m), err
	}
}

// startWriteback lets the kernel begin to write a range to the disk, so that
// the sync at the end finds less to do. It is only a hint.
func startWriteback(f *os.File, off, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
}

// renameNoReplace renames unless there is a file of the new name already.
func renameNoReplace(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP) {
		return linkNoReplace(from, to)
	}
	return err
}
