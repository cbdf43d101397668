// Package scanner says which rows of a file hold a key.
//
// Parquet reads only the key columns of a file, and of those only what can
// hold a key: row groups are pruned by their statistics, by bloom filters and
// by dictionaries, pages by the page index. What is left is decoded page by
// page and probed in batches against the exact set. A row is reported only
// when its value, or tuple of values, is in the set; pruning only ever skips
// what provably is not.
//
// A match inside a list or map hits the row if any element matches. A
// composite key whose parts lie in one list matches element by element; a part
// outside the list applies to all of its elements. NULL never matches, and a
// column that the file does not have is NULL in every row.
//
// ReadColumns reads whole columns row by row, for equality deletes.
package scanner
