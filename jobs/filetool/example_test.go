package filetool_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/parquet-go/parquet-go"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/jobs/filetool"
)

// Erase two users from a file and show that nothing of them is left.
func Example() {
	dir, err := os.MkdirTemp("", "expunge")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	in, out, keys := filepath.Join(dir, "in.parquet"), filepath.Join(dir, "out.parquet"), filepath.Join(dir, "keys.csv")
	type visit struct {
		User int64  `parquet:"user"`
		Page string `parquet:"page"`
	}
	visits := []visit{{1, "/"}, {2, "/cart"}, {3, "/"}, {2, "/help"}, {4, "/"}}
	if err := parquet.WriteFile(in, visits); err != nil {
		fmt.Println(err)
		return
	}
	if err := os.WriteFile(keys, []byte("user\n2\n3\n"), 0o600); err != nil {
		fmt.Println(err)
		return
	}

	ctx, store := context.Background(), storage.New(nil)
	request := filetool.Request{Input: in, Columns: []string{"user"}, Keys: keys}
	erased, err := filetool.Erase(ctx, store, request, out, filetool.EraseOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%d rows in, %d rows out\n", erased.RowsIn, erased.RowsOut)

	request.Input = out
	report, err := filetool.Check(ctx, store, request)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%d rows of a key, %d findings\n", report.Hits, len(report.Findings))
	// Output:
	// 5 rows in, 2 rows out
	// 0 rows of a key, 0 findings
}
