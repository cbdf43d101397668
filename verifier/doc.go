// Package verifier re-reads tables and files with code that shares nothing
// with the scanner and the rewriter: arrow-go instead of parquet-go, and its
// own conversion of values to canonical keys. A bug that makes expunge miss a
// row therefore does not also hide the miss.
package verifier
