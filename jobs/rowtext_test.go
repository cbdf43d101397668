package jobs_test

import (
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// rowText writes the rows of an Arrow table as text, one value after the other.
type rowText struct {
	reader *array.TableReader
	rec    arrow.RecordBatch
	row    int
}

func newRowText(t arrow.Table) *rowText {
	return &rowText{reader: array.NewTableReader(t, 4096), row: -1}
}

func (r *rowText) next() bool {
	for r.rec == nil || r.row+1 >= int(r.rec.NumRows()) {
		if !r.reader.Next() {
			r.reader.Release()
			return false
		}
		r.rec, r.row = r.reader.RecordBatch(), -1
	}
	r.row++
	return true
}

func (r *rowText) text() string {
	var b strings.Builder
	for i := range int(r.rec.NumCols()) {
		col := r.rec.Column(i)
		if col.IsNull(r.row) {
			b.WriteString("NULL|")
			continue
		}
		b.WriteString(col.ValueStr(r.row))
		b.WriteByte('|')
	}
	return b.String()
}
