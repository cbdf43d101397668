package scanner_test

import (
	"bytes"
	"context"
	"fmt"

	"github.com/parquet-go/parquet-go"

	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/scanner"
)

// Find the rows of two users in a Parquet file.
func Example() {
	type visit struct {
		User struct {
			ID int64 `parquet:"id"`
		} `parquet:"user"`
		Page string `parquet:"page"`
	}
	visits := make([]visit, 6)
	for i := range visits {
		visits[i].User.ID, visits[i].Page = int64(i%4), "/"
	}
	var file bytes.Buffer
	if err := parquet.Write(&file, visits); err != nil {
		fmt.Println(err)
		return
	}

	b, err := keyset.NewBuilder("users", keyset.Schema{{Name: "id", Type: keyset.Type{Kind: keyset.KindInt64}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, id := range []string{"1", "3", "9"} {
		if err := b.AddText(id); err != nil {
			fmt.Println(err)
			return
		}
	}
	keys, err := b.Build()
	if err != nil {
		fmt.Println(err)
		return
	}
	column, err := scanner.ParseColumn("user.id")
	if err != nil {
		fmt.Println(err)
		return
	}
	res, err := scanner.ParquetAt(context.Background(), bytes.NewReader(file.Bytes()), int64(file.Len()),
		scanner.Request{Match: []scanner.Match{{Keys: keys, Columns: []scanner.ColumnRef{column}}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(res.Rows, "rows,", res.Method, "in rows", res.Hits)
	// Output: 6 rows, hits in rows {1,3,5}
}
