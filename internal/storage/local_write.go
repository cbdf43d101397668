package storage

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

type localWriter struct {
	ctx    context.Context
	path   string // as the caller spelt it
	file   string
	temp   string
	f      *os.File
	o      CreateOptions
	copied int64
	// size is how much was written, started how much of it is on its way to the disk.
	size, started int64
	writing       sync.WaitGroup
	closed        bool
	err           error // the result of Close, for callers that close twice
}

func (local) Create(ctx context.Context, path string, o CreateOptions) (Writer, error) {
	if err := ctx.Err(); err != nil {
		return nil, wrapErr("create", path, err)
	}
	// A new file gets the literal name, a replacement the name the file has.
	file := localPath(path)
	dir := filepath.Dir(file)
	if err := mkdirAll(dir, o.Private); err != nil {
		return nil, wrapErr("create", path, err)
	}
	st, err := os.Lstat(file)
	switch {
	case err == nil && o.IfNotExists:
		return nil, NewError("create", path, ErrExists, "", nil)
	case err == nil && st.Mode()&fs.ModeSymlink != 0:
		// Replacing the link would leave the data it points to.
		return nil, NewError("create", path, ErrUnsupported, "symbolic link", nil)
	case err == nil && st.IsDir():
		return nil, NewError("create", path, ErrUnsupported, "is a folder", nil)
	case o.IfMatch != "" && (err != nil || localETag(st) != o.IfMatch):
		return nil, NewError("create", path, ErrPrecondition, "", nil)
	}
	f, err := createTemp(dir, o.Private)
	if err != nil {
		return nil, wrapErr("create", path, err)
	}
	w := &localWriter{ctx: ctx, path: path, file: file, temp: f.Name(), f: f, o: o}
	if st != nil && !o.Private {
		keepOwner(f, st)
	}
	return w, nil
}

// createTemp makes a temporary file and locks it for as long as it is open.
func createTemp(dir string, private bool) (*os.File, error) {
	mode := fs.FileMode(0o666)
	if private {
		mode = 0o600
	}
	var id [8]byte
	for {
		_, _ = rand.Read(id[:]) // never fails since Go 1.24
		f, err := os.OpenFile(filepath.Join(dir, TempPrefix+hex.EncodeToString(id[:])), os.O_RDWR|os.O_CREATE|os.O_EXCL, mode)
		if os.IsExist(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		ok, err := tryLock(f)
		if ok {
			return f, nil
		}
		f.Close() // else someone looks whether the file is abandoned: take another
		os.Remove(f.Name())
		if err != nil {
			return nil, err
		}
	}
}

// keepOwner gives a replacement the mode and, where allowed, the owner of the
// file it replaces, so that whoever could read it still can.
func keepOwner(f *os.File, st fs.FileInfo) {
	_ = f.Chmod(st.Mode().Perm())
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		_ = f.Chown(int(sys.Uid), int(sys.Gid))
	}
}

func (w *localWriter) Write(p []byte) (int, error) {
	if w.closed {
		return 0, NewError("write", w.path, nil, "", fs.ErrClosed)
	}
	if err := w.ctx.Err(); err != nil {
		return 0, wrapErr("write", w.path, err)
	}
	n, err := w.f.Write(p)
	w.wrote(int64(n))
	return n, wrapErr("write", w.path, err)
}

// writeback is after how many bytes the disk is set to work.
const writeback = 16 << 20

func (w *localWriter) wrote(n int64) {
	w.size += n
	if w.size-w.started >= writeback {
		from, n := w.started, w.size-w.started
		w.writing.Go(func() { startWriteback(w.f, from, n) })
		w.started = w.size
	}
}

// CopyRange lets the kernel copy, or share the blocks where the file system
// can (reflinks on XFS and Btrfs).
func (w *localWriter) CopyRange(src Object, off, n int64) error {
	o, ok := Base(src).(*localObject)
	if !ok {
		return NewError("copy range", w.path, ErrUnsupported, "", nil)
	}
	if off < 0 || n < 0 || off+n > o.info.Size {
		return wrapErr("copy range", w.path, io.ErrUnexpectedEOF)
	}
	for n > 0 {
		if err := w.ctx.Err(); err != nil {
			return wrapErr("copy range", w.path, err)
		}
		m, err := copyFileRange(w.f, o.f, off, min(n, 64<<20))
		if err != nil {
			return wrapErr("copy range", w.path, err)
		}
		if m == 0 {
			return wrapErr("copy range", w.path, io.ErrUnexpectedEOF)
		}
		off, n = off+m, n-m
		w.copied += m
		w.wrote(m)
	}
	return nil
}

// Spliced says how many bytes the kernel copied.
func (w *localWriter) Spliced() (int64, string) { return w.copied, "" }

// copyPlain is copyFileRange by reading and writing.
func copyPlain(dst, src *os.File, off, n int64) (int64, error) {
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	m, err := src.ReadAt((*buf)[:min(n, int64(len(*buf)))], off)
	if m == 0 {
		if isEOF(err) {
			err = nil
		}
		return 0, err
	}
	k, err := dst.Write((*buf)[:m])
	return int64(k), err
}

func (w *localWriter) Close() error {
	if w.closed {
		return w.err
	}
	w.closed = true
	err := w.ctx.Err()
	if err == nil {
		err = w.publish()
	}
	w.writing.Wait()
	w.f.Close()
	if err != nil && !errors.Is(err, ErrUnknownOutcome) {
		os.Remove(w.temp)
	}
	w.err = wrapErr("close", w.path, err)
	return w.err
}

// publish syncs the temporary file, renames it into place and syncs the folder.
func (w *localWriter) publish() error {
	if err := stampTime(w.f); err != nil {
		return err
	}
	if err := w.f.Sync(); err != nil {
		return err
	}
	dir := filepath.Dir(w.file)
	if err := w.place(dir); err != nil {
		return err
	}
	if err := syncDir(dir); err != nil {
		return NewError("close", w.path, ErrUnknownOutcome, "", err)
	}
	return nil
}

// place gives the file its name, if the conditions still hold.
func (w *localWriter) place(dir string) error {
	if w.o.IfNotExists {
		err := renameNoReplace(w.temp, w.file)
		if os.IsExist(err) {
			return NewError("close", w.path, ErrExists, "", nil)
		}
		return err
	}
	unlock, err := lockDir(w.ctx, dir)
	if err != nil {
		return err
	}
	defer unlock()
	if w.o.IfMatch != "" {
		st, err := os.Lstat(w.file)
		if err != nil && !os.IsNotExist(err) {
			return err
		}
		if err != nil || localETag(st) != w.o.IfMatch {
			return NewError("close", w.path, ErrPrecondition, "", nil)
		}
	}
	return os.Rename(w.temp, w.file)
}

// stampTime makes the modification time, and with it the ETag, unique: the
// kernel's own clock ticks in milliseconds, and within one tick an inode can
// be freed and used again for a file of the same size.
func stampTime(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	var b [4]byte
	_, _ = rand.Read(b[:])
	at := st.ModTime().Truncate(time.Millisecond).Add(time.Duration(binary.LittleEndian.Uint32(b[:]) % 1e6))
	return os.Chtimes(f.Name(), time.Time{}, at)
}

func (w *localWriter) Abort() error {
	if w.closed {
		return nil
	}
	w.closed = true
	w.err = NewError("close", w.path, nil, "", fs.ErrClosed)
	w.writing.Wait()
	w.f.Close()
	return wrapErr("abort", w.path, os.Remove(w.temp))
}

// lockDir takes the lock of a folder, waiting a little for whoever has it.
func lockDir(ctx context.Context, dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	wait := time.Millisecond
	for waited := time.Duration(0); ; waited += wait {
		ok, err := tryLock(d)
		if ok {
			return func() { d.Close() }, nil
		}
		if err == nil && waited > 10*time.Second {
			err = NewError("lock", dir, ErrTransient, "folder lock", nil)
		}
		if err != nil {
			d.Close()
			return nil, err
		}
		if err := sleep(ctx, wait); err != nil {
			d.Close()
			return nil, err
		}
		wait = min(2*wait, 20*time.Millisecond)
	}
}

func isErrno(err error, errno syscall.Errno) bool { return errors.Is(err, errno) }

// sleep waits, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
