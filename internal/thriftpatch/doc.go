// Package thriftpatch edits structs in Thrift's compact protocol without
// losing anything it does not know.
//
// A struct is parsed one level deep: each field keeps its header and its value
// as the bytes that were read, and nested structs and lists are opened only
// when asked for. Writing a struct emits untouched fields byte for byte, in
// the order in which they came, unknown fields and odd varints included; only
// fields that were set are encoded anew. Parquet's footers, page headers and
// indexes (parquet-format, "File Format", all compact protocol) are patched
// that way, since decoding them into Go types and back drops what the types do
// not name.
//
// No length read from the input is trusted beyond the bytes that are there.
package thriftpatch
