package storage

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// TempPrefix marks files that a write has begun and not finished. The name
// carries nothing of the object's own name, which may hold a partition value.
const TempPrefix = ".expunge-tmp-"

// local keeps objects as plain files: no sidecars, nothing beside them but
// temporary files while they are written.
//
// A write goes to a temporary file in the target's folder, is synced, renamed
// into place and the folder synced. The writer holds a flock on its temporary
// file, so that files of dead writers can be told from those of live ones.
// Conditions are checked under a flock of the folder, which every replacing or
// removing operation of this package takes, whatever its process.
type local struct{}

var localStore Store = local{}

// localPath is the file of a path or file URI, for reading or removing: the
// literal name if there is such a file, else the percent-decoded one.
func localPath(p string) string {
	loc := ParseLocation(p)
	if d := loc.decoded(); d != "" {
		if _, err := os.Lstat(loc.Key); err != nil {
			if _, err := os.Lstat(d); err == nil {
				return d
			}
		}
	}
	return loc.Key
}

// localETag identifies a file's content: files are replaced, never changed in
// place, and publish gives each an own modification time down to the nanosecond.
func localETag(st fs.FileInfo) string {
	var inode uint64
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		inode = sys.Ino
	}
	return fmt.Sprintf("%x-%x-%x", st.ModTime().UnixNano(), st.Size(), inode)
}

func localInfo(path string, st fs.FileInfo) Info {
	return Info{Path: path, Size: st.Size(), ETag: localETag(st), ModTime: st.ModTime().UTC()}
}

type localObject struct {
	f    *os.File
	info Info
}

func (o *localObject) Info() Info   { return o.info }
func (o *localObject) Close() error { return o.f.Close() }

func (o *localObject) ReadAt(p []byte, off int64) (int, error) {
	n, err := o.f.ReadAt(p, off)
	return n, wrapErr("read", o.info.Path, err)
}

func (local) Open(ctx context.Context, path string) (Object, error) {
	if err := ctx.Err(); err != nil {
		return nil, wrapErr("open", path, err)
	}
	f, err := os.Open(localPath(path))
	if err != nil {
		return nil, wrapErr("open", path, err)
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fs.ErrNotExist // a folder is no object
	}
	if err != nil {
		f.Close()
		return nil, wrapErr("open", path, err)
	}
	return &localObject{f: f, info: localInfo(path, st)}, nil
}

func (local) Stat(ctx context.Context, path string) (Info, error) {
	if err := ctx.Err(); err != nil {
		return Info{}, wrapErr("stat", path, err)
	}
	st, err := os.Stat(localPath(path))
	if err == nil && !st.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return Info{}, wrapErr("stat", path, err)
	}
	return localInfo(path, st), nil
}

// Retention is none: a removed file is gone, as far as this program can tell.
func (local) Retention(context.Context, string) (Retention, error) { return Retention{}, nil }

func (l local) Remove(ctx context.Context, path string) error {
	return l.remove(ctx, path, "")
}

func (l local) RemoveIf(ctx context.Context, path, etag string) error {
	return l.remove(ctx, path, etag)
}

func (local) remove(ctx context.Context, path, etag string) error {
	if err := ctx.Err(); err != nil {
		return wrapErr("remove", path, err)
	}
	file := localPath(path)
	dir := filepath.Dir(file)
	if err := unlinkLocked(ctx, dir, file, etag); err != nil {
		return wrapErr("remove", path, err)
	}
	return wrapErr("remove", path, syncDir(dir))
}

// unlinkLocked unlinks one regular file under the lock of its folder.
func unlinkLocked(ctx context.Context, dir, file, etag string) error {
	unlock, err := lockDir(ctx, dir)
	if err != nil {
		return err
	}
	defer unlock()
	st, err := os.Lstat(file)
	switch {
	case err != nil:
		return err
	case st.Mode()&fs.ModeSymlink != 0:
		// Removing the link would leave the data; the target may belong to others.
		return NewError("remove", file, ErrUnsupported, "symbolic link", nil)
	case !st.Mode().IsRegular():
		return fs.ErrNotExist
	case etag != "" && localETag(st) != etag:
		return NewError("remove", file, ErrPrecondition, "", nil)
	}
	return os.Remove(file)
}

// RemoveAll unlinks the files and syncs each folder once.
func (local) RemoveAll(ctx context.Context, paths []string) []error {
	errs := make([]error, len(paths))
	dirs := map[string][]int{}
	for i, p := range paths {
		if err := ctx.Err(); err != nil {
			errs[i] = wrapErr("remove", p, err)
			continue
		}
		file := localPath(p)
		dir := filepath.Dir(file)
		err := unlinkLocked(ctx, dir, file, "")
		if IsNotExist(err) {
			err = nil
		}
		if errs[i] = wrapErr("remove", p, err); err == nil {
			dirs[dir] = append(dirs[dir], i)
		}
	}
	for dir, idx := range dirs {
		if err := syncDir(dir); err != nil && !IsNotExist(err) {
			for _, i := range idx {
				errs[i] = wrapErr("remove", paths[i], err)
			}
		}
	}
	return errs
}

// syncDir makes renames and removals in a folder durable. File systems that
// can't sync a folder say EINVAL, and then there is nothing to wait for.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !isErrno(err, syscall.EINVAL) && !isErrno(err, syscall.ENOTSUP) {
		return err
	}
	return nil
}

// mkdirAll creates the folders of a path and makes them durable.
func mkdirAll(dir string, private bool) error {
	if st, err := os.Stat(dir); err == nil {
		if !st.IsDir() {
			return syscall.ENOTDIR
		}
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := mkdirAll(parent, private); err != nil {
			return err
		}
	}
	mode := fs.FileMode(0o777)
	if private {
		mode = 0o700
	}
	if err := os.Mkdir(dir, mode); err != nil && !os.IsExist(err) {
		return err
	}
	return syncDir(parent)
}

// isTemp says whether a file name is one of our temporary files.
func isTemp(name string) bool { return strings.HasPrefix(name, TempPrefix) }

// copyBuffers are for copies that the kernel can't do.
var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 1<<20); return &b }}
