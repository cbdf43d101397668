package verifier

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	iceberg "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
)

type countWriter struct {
	io.Writer
	n int64
}

func (c *countWriter) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	c.n += int64(n)
	return n, err
}

// writeRecord writes a record as a file of a table and describes it.
func writeRecord(t testing.TB, tbl *table.Table, path string, rec arrow.RecordBatch, content iceberg.ManifestEntryContent, schema *iceberg.Schema) iceberg.DataFile {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	c := &countWriter{Writer: out}
	props := parquet.NewWriterProperties(parquet.WithDictionaryDefault(true), parquet.WithStats(true), parquet.WithPageIndexEnabled(true))
	w, err := pqarrow.NewFileWriter(rec.Schema(), c, props, pqarrow.DefaultWriterProps())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(rec); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	meta, err := w.FileMetadata()
	if err != nil {
		t.Fatal(err)
	}
	df, err := table.DataFileFromMetadata(table.DataFileArgs{
		Schema: schema, Spec: tbl.Spec(), Content: content, Properties: tbl.Properties(), Format: iceberg.ParquetFile, Metadata: meta,
		FilePath: "file://" + strings.TrimPrefix(path, "file://"), FileSize: c.n, FormatVersion: tbl.Metadata().Version(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return df
}
