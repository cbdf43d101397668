// Package writers holds small Parquet files of six writers for tests: seeds of
// fuzzers, and files to erase from without anything but Go. Row n has the id
// ID(n). interop/py/parquet_files.py makes such files.
package writers

import (
	"embed"
	"strings"
)

//go:embed testdata/*.parquet
var files embed.FS

// Rows is how many rows each file has.
const Rows = 24

// ID is the id of a row.
func ID(row int) int64 { return int64(row)*7 + 1000 }

// File is one file with its name, "writer-codec-kind".
type File struct {
	Name string
	Data []byte
}

// Files returns all files in the order of their names.
func Files() (out []File) {
	entries, err := files.ReadDir("testdata")
	if err != nil {
		panic(err) // embedded
	}
	for _, e := range entries {
		data, err := files.ReadFile("testdata/" + e.Name())
		if err != nil {
			panic(err)
		}
		out = append(out, File{strings.TrimSuffix(e.Name(), ".parquet"), data})
	}
	return out
}
