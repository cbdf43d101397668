// Package verifier re-reads tables and files with code that shares nothing
// with the scanner and the rewriter: arrow-go instead of parquet-go, its own
// walk over pages, its own conversion of values to canonical keys, its own
// reading of tombstones. A bug that makes expunge miss a row therefore does not
// also hide the miss. Only the exact keyset is shared.
//
// Three questions, three entry points:
//
//   - Survivors: is the new file the old one less the rows that had to go? It
//     compares every leaf column, levels and values, in bounded memory, PLAIN
//     values as the bytes that they are. Pages
//     that are equal as stored are skipped on both sides, so the cost follows
//     what was rewritten. The same scan that finds the keys in the old file, and
//     not in the new one, is the positive control.
//   - CheckFile: where inside a Parquet file is something left? Rows, dictionary
//     entries that no row refers to, bounds that no row has, bloom filters that
//     answer too often, text in the footer, bytes that nothing accounts for.
//   - VerifyTable: where in an Iceberg table is something left? Live rows, rows
//     under tombstones, history, manifests with their DELETED entries, lists,
//     paths, delete files, Puffin files, metadata files, orphans; and the inside
//     of data files.
//
// What is found is certain, when the value is a key, or possible: a bloom filter
// hit, a bound that was cut short, a dictionary entry of another column. What
// could not be read lowers the coverage and is never a pass.
//
// Nothing here holds a key: findings name objects, columns and counts. An
// object's path may itself hold one, where a table is partitioned by a key; who
// writes findings down digests it.
//
// A composite key is found where it is stored whole: in a row of any file, or
// where one manifest entry, partition range or path says all of its parts. Parts
// that a row group stores together, one of them where no row has it, and bounds
// that lie apart are possible residue. A part alone is no key.
//
// Limits. Composite keys are not searched for in text, raw bytes and bloom
// filters. Short keys are not searched for in text and raw bytes, where they
// would be found by chance. Theta sketches hold hashes of values and are
// reported as possible. Copies outside the table's location, object versions
// and replicas are for others to check.
package verifier
