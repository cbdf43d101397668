// Package pq reads Parquet files the way a lossless rewriter needs them: the
// footer, the page headers and the compressed page bodies are handed out as
// they are stored, next to their decoded form.
//
// A file is opened with Open, which checks the footer's structure before any
// library decodes it. From there:
//
//	File → RowGroup → Chunk → PageReader → Page → Decoder → PageData
//
// A Chunk is one column of one row group. Its PageReader walks the pages in
// file order, by headers alone or by the offset index, and reads the file in
// bounded windows. A Page holds the raw header, the raw body, and the decoded
// header. A Decoder undoes the codec, cuts the body in its sections (Body),
// and decodes levels and values into columnar form (PageData). A rewriter that
// only cuts bytes stops at Body.
//
// Limits: no length that is stored in a file leads to an allocation before it
// was compared with what the file really holds, or with a fixed limit of this
// package. Corrupt input gives an error that wraps ErrCorrupt, input of a kind
// that this package cannot read one that wraps ErrUnsupported; both say what
// and where, and neither holds a value of the file.
//
// The format is that of https://github.com/apache/parquet-format; comments
// name its documents (README.md, Encodings.md, LogicalTypes.md, PageIndex.md,
// BloomFilter.md, parquet.thrift).
package pq
