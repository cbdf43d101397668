package parquet

import (
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding"
	"github.com/parquet-go/parquet-go/format"
)

// sourceNode is a schema node of the source file that says which encoding its
// pages have: the library's own choice takes the first one listed, which may
// be that of the levels.
type sourceNode struct {
	*parquet.Column
	fields   []parquet.Field
	encoding encoding.Encoding
}

func (n *sourceNode) Fields() []parquet.Field     { return n.fields }
func (n *sourceNode) Encoding() encoding.Encoding { return n.encoding }

func (r *reference) node(c *parquet.Column) *sourceNode {
	n := &sourceNode{Column: c}
	for _, k := range c.Columns() {
		n.fields = append(n.fields, r.node(k))
	}
	if c.Leaf() {
		n.encoding = r.dataEncoding(c)
	}
	return n
}

// dataEncoding is the encoding of a column's first data pages.
func (r *reference) dataEncoding(c *parquet.Column) encoding.Encoding {
	for _, g := range r.file.Metadata().RowGroups {
		m := &g.Columns[c.Index()].MetaData
		if m.DictionaryPageOffset > 0 {
			return &parquet.RLEDictionary
		}
		for _, s := range m.EncodingStats {
			if s.PageType == format.DataPage || s.PageType == format.DataPageV2 {
				return parquet.LookupEncoding(s.Encoding)
			}
		}
		for _, e := range m.Encoding {
			switch {
			case e == format.PlainDictionary, e == format.RLEDictionary:
				return &parquet.RLEDictionary
			case e == format.BitPacked, e == format.Plain, e == format.RLE && c.Type().Kind() != parquet.Boolean:
				continue
			}
			return parquet.LookupEncoding(e)
		}
	}
	return &parquet.Plain
}
