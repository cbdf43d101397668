package storage

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// List walks the folders in the byte order of full paths and holds one
// folder's names at a time. Symbolic links are followed; a link that leads
// back to a folder above it is an error, not an endless list.
func (local) List(ctx context.Context, prefix string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		w := localWalk{ctx: ctx, prefix: prefix, key: ParseLocation(prefix).Key, visit: func(path string, st fs.FileInfo) bool {
			return isTemp(st.Name()) || yield(localInfo(path, st), nil)
		}}
		if err := w.run(); err != nil {
			yield(Info{}, wrapErr("list", prefix, err))
		}
	}
}

type localWalk struct {
	ctx    context.Context
	prefix string // as the caller spelt it
	key    string // its local path
	visit  func(path string, st fs.FileInfo) bool
	above  []fs.FileInfo // folders on the way down
}

// errStop ends a walk that the visitor has had enough of.
var errStop = fs.SkipAll

func (w *localWalk) run() error {
	dir, _ := filepath.Split(w.key)
	err := w.walk(dir)
	if errors.Is(err, errStop) || IsNotExist(err) || isErrno(err, syscall.ENOTDIR) {
		return nil // nothing is stored under a folder that does not exist
	}
	return err
}

// walk visits the files below dir ("" or with a trailing slash) whose path has the prefix.
func (w *localWalk) walk(dir string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	names, err := sortedNames(dir)
	if err != nil {
		return err
	}
	self, err := os.Stat(orDot(dir))
	if err != nil {
		return err
	}
	for _, up := range w.above {
		if os.SameFile(up, self) {
			return NewError("list", w.prefix, ErrUnsupported, "symbolic link loop", nil)
		}
	}
	w.above = append(w.above, self)
	defer func() { w.above = w.above[:len(w.above)-1] }()
	for _, name := range names {
		path := dir + name
		// A folder is of interest if it extends the prefix, or the prefix extends it.
		leads := strings.HasSuffix(name, "/") && strings.HasPrefix(w.key, path)
		if !leads && !strings.HasPrefix(path, w.key) {
			continue
		}
		if err := w.entry(path); err != nil {
			return err
		}
	}
	return nil
}

func (w *localWalk) entry(path string) error {
	if strings.HasSuffix(path, "/") {
		err := w.walk(path)
		if IsNotExist(err) {
			return nil // removed meanwhile
		}
		return err
	}
	st, err := os.Stat(path)
	if IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode().IsRegular() && !w.visit(rebase(w.prefix, w.key, path), st) {
		return errStop
	}
	return nil
}

// sortedNames reads a folder's names, those of folders with a slash at the
// end: sorted that way, a walk yields full paths in byte order.
func sortedNames(dir string) ([]string, error) {
	d, err := os.Open(orDot(dir))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	var names []string
	for {
		entries, err := d.ReadDir(1024)
		for _, e := range entries {
			name := e.Name()
			isDir := e.IsDir()
			if e.Type()&fs.ModeSymlink != 0 {
				st, err := os.Stat(dir + name)
				isDir = err == nil && st.IsDir()
			}
			if isDir {
				name += "/"
			}
			names = append(names, name)
		}
		if len(entries) == 0 {
			if err != nil && err != io.EOF {
				return nil, err
			}
			break
		}
	}
	slices.Sort(names)
	return names, nil
}

func orDot(dir string) string {
	if dir == "" {
		return "."
	}
	return dir
}

// Unfinished lists temporary files whose writer is gone.
func (local) Unfinished(ctx context.Context, prefix string) iter.Seq2[Upload, error] {
	return func(yield func(Upload, error) bool) {
		w := localWalk{ctx: ctx, prefix: prefix, key: ParseLocation(prefix).Key, visit: func(path string, st fs.FileInfo) bool {
			if !isTemp(st.Name()) || !abandoned(localPath(path)) {
				return true
			}
			return yield(Upload{Path: path, ID: st.Name(), Started: st.ModTime().UTC()}, nil)
		}}
		if err := w.run(); err != nil {
			yield(Upload{}, wrapErr("list", prefix, err))
		}
	}
}

// RemoveUnfinished removes such a file, if it is one and its writer is still gone.
func (local) RemoveUnfinished(_ context.Context, u Upload) error {
	file := localPath(u.Path)
	if !isTemp(filepath.Base(file)) {
		return NewError("abort upload", u.Path, ErrPrecondition, "", nil)
	}
	if !abandoned(file) {
		return NewError("abort upload", u.Path, ErrPrecondition, "writer is alive", nil)
	}
	if err := os.Remove(file); err != nil && !IsNotExist(err) {
		return wrapErr("abort upload", u.Path, err)
	}
	return wrapErr("abort upload", u.Path, syncDir(filepath.Dir(file)))
}

// abandoned says whether no live process holds the temporary file.
func abandoned(file string) bool {
	f, err := os.Open(file)
	if err != nil {
		return IsNotExist(err)
	}
	defer f.Close()
	ok, err := tryLock(f)
	return ok && err == nil
}
