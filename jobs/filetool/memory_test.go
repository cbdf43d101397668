package filetool

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	pgo "github.com/parquet-go/parquet-go"

	"github.com/expunge/expunge/internal/storage"
)

// What the child of TestMemoryIsBounded erases: input, output, keys.
const childEnv = "EXPUNGE_TEST_ERASE"

func TestMain(m *testing.M) {
	if args := os.Getenv(childEnv); args != "" {
		child(strings.Split(args, "\n"))
		return
	}
	os.Exit(m.Run())
}

// child erases and prints its own peak of resident memory in KiB.
func child(args []string) {
	done, err := Erase(context.Background(), storage.New(nil), Request{Input: args[0], Columns: []string{"id"}, Keys: args[2]}, args[1], EraseOptions{Workers: 1, Digest: true})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for line := range strings.Lines(string(status)) {
		if peak, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			fmt.Println(strings.Fields(peak)[0], done.RowsOut, done.PagesTouched, done.PagesTotal)
		}
	}
}

type wideRow struct {
	ID      int64  `parquet:"id"`
	Payload []byte `parquet:"payload"`
}

// A file of 450 MB in one row group, a row of every page erased, read from and
// written to bucket URLs: the process stays below 256 MiB.
func TestMemoryIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("writes a file of 450 MB")
	}
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("no /proc")
	}
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in.parquet"), filepath.Join(dir, "out.parquet")
	const n, size = 450_000, 1000
	writeWide(t, in, n, size)
	var keys strings.Builder
	keys.WriteString("id\n")
	for i := 0; i < n; i += 400 {
		fmt.Fprintln(&keys, i)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+strings.Join([]string{"file://" + in, "file://" + out, put(t, dir, "keys.csv", keys.String())}, "\n"))
	said, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	var peak, left, touched, pages int64
	if _, err := fmt.Sscan(string(said), &peak, &left, &touched, &pages); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	info, err := os.Stat(out)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d MB, %d of %d pages touched: a peak of %d MiB", info.Size()>>20, touched, pages, peak>>10)
	if left != n-(n+399)/400 || touched < pages*9/10 || info.Size() < 400<<20 {
		t.Errorf("%d rows left, %d of %d pages touched, %d bytes", left, touched, pages, info.Size())
	}
	if peak > 256<<10 {
		t.Errorf("a peak of %d MiB", peak>>10)
	}
}

func writeWide(t *testing.T, path string, n, size int) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	buf := bufio.NewWriterSize(f, 1<<20)
	w := pgo.NewGenericWriter[wideRow](buf, pgo.PageBufferSize(1<<20), pgo.MaxRowsPerRowGroup(int64(n)))
	block := make([]byte, 1<<20)
	if _, err := rand.Read(block); err != nil {
		t.Fatal(err)
	}
	rows := make([]wideRow, 100)
	for i := range n {
		at := i * 7919 % (len(block) - size)
		rows[i%len(rows)] = wideRow{int64(i), block[at : at+size]}
		if (i+1)%len(rows) == 0 {
			if _, err := w.Write(rows); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, err := range []error{w.Close(), buf.Flush(), f.Close()} {
		if err != nil {
			t.Fatal(err)
		}
	}
}
