package parquet_test

import (
	"bytes"
	"context"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	pqgo "github.com/parquet-go/parquet-go"

	"github.com/expunge/expunge/rewriter"
	"github.com/expunge/expunge/rewriter/parquet"
)

// Erase two rows of a file and overwrite a column in another; the rest of the
// file is copied as it is.
func Example() {
	type visit struct {
		User  int64  `parquet:"user"`
		Email string `parquet:"email,optional,dict"`
	}
	var file bytes.Buffer
	if err := pqgo.Write(&file, []visit{{1, "a@x"}, {2, "b@x"}, {3, "c@x"}, {4, "d@x"}}); err != nil {
		fmt.Println(err)
		return
	}
	hidden := "hidden"
	edit := rewriter.Edit{
		Erase:  roaring64.BitmapOf(0, 2), // row positions, from 0
		Redact: []rewriter.Redaction{{Rows: roaring64.BitmapOf(3), Column: rewriter.Column{Path: []string{"email"}}, Constant: &hidden}},
	}
	var out bytes.Buffer
	in := parquet.Input{ReaderAt: bytes.NewReader(file.Bytes()), Size: int64(file.Len())}
	res, err := parquet.RewriteTo(context.Background(), in, parquet.Output{Writer: &out}, edit, rewriter.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	left, err := pqgo.Read[visit](bytes.NewReader(out.Bytes()), int64(out.Len()))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%d rows in, %d out: %v\n", res.RowsIn, res.RowsOut, left)
	fmt.Println("erased values in the file:", bytes.Contains(out.Bytes(), []byte("a@x")) || bytes.Contains(out.Bytes(), []byte("d@x")))
	// Output:
	// 4 rows in, 2 out: [{2 b@x} {4 hidden}]
	// erased values in the file: false
}
