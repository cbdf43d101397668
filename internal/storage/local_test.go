package storage_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/expunge/expunge/internal/storage"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("EXPUNGE_TEST_WRITE"); dir != "" {
		writeForever(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

func write(t *testing.T, s storage.Store, path, data string, o storage.CreateOptions) {
	t.Helper()
	if err := storage.WriteAll(t.Context(), s, path, []byte(data), o); err != nil {
		t.Fatal(err)
	}
}

func listed(t *testing.T, s storage.Store, prefix string) []string {
	t.Helper()
	var out []string
	for info, err := range s.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, info.Path)
	}
	return out
}

// writeForever is the body of a child process that is killed in the middle of a write.
func writeForever(dir string) {
	w, err := storage.New(nil).Create(context.Background(), filepath.Join(dir, "sub", "email=jane", "x"), storage.CreateOptions{})
	if err == nil {
		_, err = w.Write(bytes.Repeat([]byte("x"), 1<<20))
	}
	fmt.Println("wrote", err)
	select {}
}

func TestKilledWriterLeavesOnlyARecognisableTemporaryFile(t *testing.T) {
	dir := t.TempDir()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "EXPUNGE_TEST_WRITE="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "wrote <nil>\n" {
		t.Fatalf("%q %v", line, err)
	}
	s := storage.New(nil)
	unfinished := func() (found []storage.Upload) {
		for u, err := range storage.Unfinished(t.Context(), s, dir+"/") {
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, u)
		}
		return found
	}
	if got := unfinished(); len(got) != 0 {
		t.Errorf("the file of a live writer counts as left over: %v", got)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	if got := listed(t, s, dir); len(got) != 0 {
		t.Errorf("listed %v", got)
	}
	left := unfinished()
	if len(left) != 1 || strings.Contains(left[0].ID, "jane") {
		t.Fatalf("%+v", left)
	}
	if n, err := storage.CleanUnfinished(t.Context(), s, dir+"/", time.Hour); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if got := unfinished(); len(got) != 0 {
		t.Errorf("left %v", got)
	}
	write(t, s, dir+"/real", "x", storage.CreateOptions{})
	if err := storage.RemoveUnfinished(t.Context(), s, storage.Upload{Path: dir + "/real"}); err == nil {
		t.Error("removed a file that is no temporary one")
	}
}

func TestFullDiskIsNamedAndLeavesNothing(t *testing.T) {
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		t.Skip("needs root, to mount a small file system")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("mount: %s", out)
	}
	defer func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %s", out)
		}
	}()
	s := storage.WithRetry(storage.New(nil), storage.DefaultRetry)
	err := storage.WriteAll(t.Context(), s, dir+"/x", make([]byte, 1<<20), storage.CreateOptions{})
	if !errors.Is(err, storage.ErrNoSpace) || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("error is %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 0 {
		t.Errorf("left %v, %v", entries, err)
	}
	if out, err := exec.Command("mount", "-o", "remount,ro", dir).CombinedOutput(); err != nil {
		t.Fatalf("remount: %s", out)
	}
	if err := storage.WriteAll(t.Context(), s, dir+"/y", nil, storage.CreateOptions{}); !errors.Is(err, storage.ErrReadOnly) {
		t.Errorf("read-only: %v", err)
	}
}

func TestReplacementKeepsTheMode(t *testing.T) {
	s, path := storage.New(nil), t.TempDir()+"/x"
	write(t, s, path, "1", storage.CreateOptions{})
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	write(t, s, path, "2", storage.CreateOptions{})
	private := filepath.Dir(path) + "/deep/er/secret"
	write(t, s, private, "3", storage.CreateOptions{Private: true})
	for p, want := range map[string]fs.FileMode{path: 0o640, private: 0o600, filepath.Dir(private): fs.ModeDir | 0o700} {
		st, err := os.Stat(p)
		if err != nil || st.Mode() != want {
			t.Errorf("%s: %v, %v", p, st.Mode(), err)
		}
	}
}

func TestSymbolicLinksAreReadAndNeverReplaced(t *testing.T) {
	dir := t.TempDir()
	s := storage.New(nil)
	write(t, s, dir+"/real/x", "data", storage.CreateOptions{})
	for from, to := range map[string]string{"link": "real/x", "folder": "real", "real/up": ".."} {
		if err := os.Symlink(to, filepath.Join(dir, from)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := storage.ReadAll(t.Context(), s, dir+"/link"); err != nil || string(got) != "data" {
		t.Errorf("%q %v", got, err)
	}
	for _, err := range []error{
		s.Remove(t.Context(), dir+"/link"),
		storage.WriteAll(t.Context(), s, dir+"/link", []byte("new"), storage.CreateOptions{}),
	} {
		if !errors.Is(err, storage.ErrUnsupported) {
			t.Errorf("link: %v", err)
		}
	}
	var loop error
	for _, err := range s.List(t.Context(), dir+"/") {
		loop = err
	}
	if !errors.Is(loop, storage.ErrUnsupported) {
		t.Errorf("a loop of links was walked: %v", loop)
	}
	if err := os.Remove(dir + "/real/up"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{dir + "/folder/x", dir + "/link", dir + "/real/x"}, listed(t, s, dir+"/")); diff != "" {
		t.Error(diff)
	}
}

func TestFileURIsAreFoundLiteralAndDecoded(t *testing.T) {
	dir := t.TempDir()
	s := storage.New(nil)
	if err := os.MkdirAll(dir+"/city=New York", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/city=New York/x", []byte("decoded"), 0o644); err != nil {
		t.Fatal(err)
	}
	uri := "file://" + dir + "/city=New%20York/x"
	if got, err := storage.ReadAll(t.Context(), s, uri); err != nil || string(got) != "decoded" {
		t.Errorf("%q %v", got, err)
	}
	if err := os.MkdirAll(dir+"/city=New%20York", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/city=New%20York/x", []byte("literal"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, u := range []string{uri, dir + "/city=New%20York/x", "file:" + dir + "/city=New%20York/x", "file://localhost" + dir + "/city=New%20York/x"} {
		if got, err := storage.ReadAll(t.Context(), s, u); err != nil || string(got) != "literal" {
			t.Errorf("%s: %q %v", u, got, err)
		}
	}
}

func TestLocationsAreTakenLiterally(t *testing.T) {
	for in, want := range map[string]storage.Location{
		"/a/b":                      {Key: "/a/b"},
		"a:b/c":                     {Key: "a:b/c"},
		"C:x":                       {Key: "C:x"},
		"partition:2026/x":          {Key: "partition:2026/x"},
		"s3://b/k?x=1#y%20":         {Scheme: "s3", Bucket: "b", Key: "k?x=1#y%20"},
		"S3A://b//k":                {Scheme: "s3a", Bucket: "b", Key: "/k"},
		"abfss://c@a.dfs.x.net/k/l": {Scheme: "abfss", Bucket: "c@a.dfs.x.net", Key: "k/l"},
		"file:/x":                   {Scheme: "file", Key: "/x"},
		"file:///x%20y":             {Scheme: "file", Key: "/x%20y"},
		"s3://b":                    {Scheme: "s3", Bucket: "b"},
	} {
		if got := storage.ParseLocation(in); got != want {
			t.Errorf("%s: %+v", in, got)
		}
	}
}

// TestListAgreesWithAModel: any tree, any prefix.
func TestListAgreesWithAModel(t *testing.T) {
	s := storage.New(nil)
	base := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		root := fmt.Sprintf("%s/%d/", base, n)
		if err := os.Mkdir(root, 0o755); err != nil {
			rt.Fatal(err)
		}
		names := rapid.SliceOfDistinct(rapid.StringMatching(`([ab.\-0]{1,2}/){0,3}[ab.\-0]{0,2}z`), func(s string) string { return s }).Draw(rt, "names")
		var all []string
		for _, name := range names {
			if strings.Contains("/"+name, "/./") || strings.Contains("/"+name, "/../") {
				continue
			}
			if err := os.MkdirAll(filepath.Dir(root+name), 0o755); err != nil {
				rt.Fatal(err)
			}
			if err := os.WriteFile(root+name, nil, 0o644); err != nil {
				rt.Fatal(err)
			}
			all = append(all, root+name)
		}
		slices.Sort(all)
		prefix := root + rapid.StringMatching(`([ab.\-0]{1,2}/){0,2}[ab.\-0]{0,2}`).Draw(rt, "prefix")
		if strings.Contains(prefix, "/./") || strings.Contains(prefix, "/../") {
			rt.Skip()
		}
		var want, got []string
		for _, p := range all {
			if strings.HasPrefix(p, prefix) {
				want = append(want, p)
			}
		}
		for info, err := range s.List(t.Context(), prefix) {
			if err != nil {
				rt.Fatal(err)
			}
			got = append(got, info.Path)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			rt.Fatalf("prefix %s: %s", prefix, diff)
		}
	})
}
