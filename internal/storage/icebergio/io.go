package icebergio

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	iceio "github.com/apache/iceberg-go/io"

	"github.com/expunge/expunge/internal/storage"
)

// IO is a storage.Store as iceberg-go sees it. It keeps the context it was
// made with: iceberg-go's interfaces have none.
type IO struct {
	ctx   context.Context
	store storage.Store
}

// All that iceberg-go asks a file system for, but renaming: no object store
// can rename, and only the hadoop catalog would need it.
var (
	_ iceio.ReadFileIO      = (*IO)(nil)
	_ iceio.WriteFileIO     = (*IO)(nil)
	_ iceio.ListableIO      = (*IO)(nil)
	_ iceio.BulkRemovableIO = (*IO)(nil)
	_ iceio.StatIO          = (*IO)(nil)
)

// FromStore returns the store as iceberg-go's IO, bound to ctx.
func FromStore(ctx context.Context, s storage.Store) *IO { return &IO{ctx: ctx, store: s} }

// Store returns the store behind an IO, if it is one of ours.
func Store(fio iceio.IO) (storage.Store, bool) {
	o, ok := fio.(*IO)
	if !ok {
		return nil, false
	}
	return o.store, true
}

// Open opens an object for sequential and random reads.
func (o *IO) Open(name string) (iceio.File, error) {
	obj, err := o.store.Open(o.ctx, name)
	if err != nil {
		return nil, err
	}
	return &file{Object: obj}, nil
}

// ReadFile reads a whole object.
func (o *IO) ReadFile(name string) ([]byte, error) { return storage.ReadAll(o.ctx, o.store, name) }

// Remove removes an object.
func (o *IO) Remove(name string) error { return o.store.Remove(o.ctx, name) }

// Create starts an object, replacing one of the same name when it is closed.
func (o *IO) Create(name string) (iceio.FileWriter, error) {
	w, err := o.store.Create(o.ctx, name, storage.CreateOptions{})
	if err != nil {
		return nil, err
	}
	return &writer{w: w}, nil
}

// WriteFile writes a whole object, replacing one of the same name.
func (o *IO) WriteFile(name string, p []byte) error {
	return storage.WriteAll(o.ctx, o.store, name, p, storage.CreateOptions{})
}

// DeleteFiles removes objects; one that is not there counts as removed.
func (o *IO) DeleteFiles(ctx context.Context, paths []string) ([]string, error) {
	var deleted []string
	var errs []error
	for i, err := range storage.RemoveAll(ctx, o.store, paths) {
		if err != nil {
			errs = append(errs, err)
			continue
		}
		deleted = append(deleted, paths[i])
	}
	return deleted, errors.Join(errs...)
}

// Stat describes an object.
func (o *IO) Stat(name string) (fs.FileInfo, error) {
	info, err := storage.Stat(o.ctx, o.store, name)
	if err != nil {
		return nil, err
	}
	return fileInfo{info}, nil
}

// WalkDir calls fn for root, and for every folder and object below it, in the
// order of paths. Folders are those that the objects' paths imply.
func (o *IO) WalkDir(root string, fn fs.WalkDirFunc) error {
	root = strings.TrimRight(root, "/")
	w := walk{root: root, fn: fn}
	err := w.enter(root)
	if err == nil {
		for info, listErr := range o.store.List(o.ctx, root+"/") {
			if listErr != nil {
				err = fn(root, nil, listErr)
			} else {
				err = w.visit(info)
			}
			if err != nil {
				break
			}
		}
	}
	if errors.Is(err, fs.SkipAll) || errors.Is(err, fs.SkipDir) {
		return nil
	}
	return err
}

type walk struct {
	root string
	fn   fs.WalkDirFunc
	open []string // folders that were entered, outermost first, below root
	skip string   // a folder whose contents are not wanted, "" = none
}

func (w *walk) enter(dir string) error { return w.fn(dir, folder(path.Base(dir)), nil) }

func (w *walk) visit(info storage.Info) error {
	if w.skip != "" && strings.HasPrefix(info.Path, w.skip+"/") {
		return nil
	}
	w.skip = ""
	// Enter the folders between root and the object that were not entered yet.
	rest := strings.TrimPrefix(info.Path, w.root+"/")
	dir := w.root
	for depth := 0; ; depth++ {
		name, below, ok := strings.Cut(rest, "/")
		if !ok {
			w.open = w.open[:depth]
			break
		}
		dir, rest = dir+"/"+name, below
		if depth < len(w.open) && w.open[depth] == dir {
			continue
		}
		w.open = append(w.open[:depth], dir)
		if err := w.enter(dir); errors.Is(err, fs.SkipDir) {
			w.skip = dir
			return nil
		} else if err != nil {
			return err
		}
	}
	err := w.fn(info.Path, entry{fileInfo{info}}, nil)
	if errors.Is(err, fs.SkipDir) { // of a file: skip what is left of its folder
		w.skip = dir
		return nil
	}
	return err
}

// file adapts an Object. Sequential reads are made in chunks of their own;
// random reads go straight through, one request each.
type file struct {
	storage.Object
	pos   int64
	start int64  // position of buf
	buf   []byte // read ahead
}

// readAhead is how much a sequential read asks for: manifests are mostly smaller.
const readAhead = 1 << 20

func (f *file) Stat() (fs.FileInfo, error) { return fileInfo{f.Info()}, nil }

func (f *file) Read(p []byte) (int, error) {
	size := f.Info().Size
	if len(p) == 0 {
		return 0, nil
	}
	if f.pos >= size {
		return 0, io.EOF
	}
	if f.pos < f.start || f.pos >= f.start+int64(len(f.buf)) {
		n := min(size-f.pos, max(readAhead, int64(len(p))))
		f.buf = slices.Grow(f.buf[:0], int(n))[:n]
		if err := storage.ReadFull(f.Object, f.buf, f.pos); err != nil {
			f.buf = f.buf[:0]
			return 0, err
		}
		f.start = f.pos
	}
	n := copy(p, f.buf[f.pos-f.start:])
	f.pos += int64(n)
	return n, nil
}

func (f *file) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += f.pos
	case io.SeekEnd:
		offset += f.Info().Size
	}
	if offset < 0 {
		return 0, fs.ErrInvalid
	}
	f.pos = offset
	return offset, nil
}

// writer adapts a Writer. The library closes what it could not write; after a
// failed write, closing must not make a part of a file visible.
type writer struct {
	w   storage.Writer
	err error
}

func (w *writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.w.Write(p)
	w.err = err
	return n, err
}

func (w *writer) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(struct{ io.Writer }{w}, r)
	if err != nil && w.err == nil {
		w.err = err
	}
	return n, err
}

func (w *writer) Close() error {
	if w.err != nil {
		_ = w.w.Abort()
		return w.err
	}
	return w.w.Close()
}

type fileInfo struct{ info storage.Info }

func (i fileInfo) Name() string       { return path.Base(i.info.Path) }
func (i fileInfo) Size() int64        { return i.info.Size }
func (i fileInfo) Mode() fs.FileMode  { return 0o644 }
func (i fileInfo) ModTime() time.Time { return i.info.ModTime }
func (i fileInfo) IsDir() bool        { return false }
func (i fileInfo) Sys() any           { return i.info }

// entry is an object in a walk.
type entry struct{ fileInfo }

func (e entry) Type() fs.FileMode          { return 0 }
func (e entry) Info() (fs.FileInfo, error) { return e.fileInfo, nil }

// folder is an implied folder in a walk, by its last name.
type folder string

func (d folder) Name() string               { return string(d) }
func (d folder) IsDir() bool                { return true }
func (d folder) Type() fs.FileMode          { return fs.ModeDir }
func (d folder) Info() (fs.FileInfo, error) { return folderInfo{d}, nil }

type folderInfo struct{ folder }

func (d folderInfo) Size() int64        { return 0 }
func (d folderInfo) Mode() fs.FileMode  { return fs.ModeDir | 0o755 }
func (d folderInfo) ModTime() time.Time { return time.Time{} }
func (d folderInfo) Sys() any           { return nil }
