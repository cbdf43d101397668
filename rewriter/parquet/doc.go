// Package parquet rewrites Parquet files at the cost of what an edit touches.
//
// # Shape
//
//	footer, page indexes ─ prepare ─→ one groupJob a row group
//	groupJob ─→ copyChunk                     chunks that no edited row touches
//	         ─→ chunkJob.plan (a goroutine)   the others: pages → pageJobs, items in file order
//	pageJob  ─→ worker: decode → editPage → cut → compress → patch header → verify
//	items    ─→ emitter, the only writer ─→ sink: copied ranges and bytes, digest beside
//
// Row groups without an edited row are copied chunk by chunk, page ranges
// only: bytes that belong to no page stay behind. In the others, pages without
// an edited row are copied as they are; pages with one are taken apart, edited
// and put together again in their own encoding and codec. Rows become ranges
// of level entries, those become ranges of values, and an editList of kept
// ranges and literals is all that the value cutters see. Zstd and Snappy pages
// of PLAIN values, and zstd dictionaries, are edited in their compressed form
// (splice.go), which keeps their writer's compression; other codecs can take
// the same list. Pages, and row groups, that lose all rows go.
//
// # What follows the edit
//
//   - Dictionaries: an entry that lost a use is looked for in the chunk's other
//     pages until it is found; one that no surviving row uses is overwritten
//     with a blank of its own (text) or a copy of its neighbour, a dead tail is
//     cut off.
//   - Bounds in page headers, chunk statistics and the column index: kept byte
//     for byte where they come from survivors (derivedMin, derivedMax), found
//     again otherwise, dropped where the order is not known.
//   - Null counts, histograms, size statistics, encoding statistics, row and
//     byte totals, ordinals, offsets, checksums. Distinct counts and geospatial
//     statistics are dropped from edited chunks.
//   - Bloom filters of edited chunks are rebuilt at their old size from all
//     surviving values.
//   - Row lineage columns are appended, or their nulls filled, where asked for.
//
// Metadata is patched by internal/thriftpatch, so unknown fields, the key-value
// metadata and its order, field ids and created_by keep their bytes.
//
// # Two engines
//
// The surgical engine refuses (UnsupportedError) what it cannot do, before the
// first byte is written where it can know. RewriteTo then uses the reference,
// which decodes everything and writes it through parquet-go under the source's
// own schema and metadata; Result.Fallback says why. The reference is also the
// tests' oracle. It rebuilds pages, statistics and indexes to that library's
// taste, and gives up the positions of page boundaries.
//
// # Bounds
//
// Memory is bounded by chunksAhead chunks, itemsAhead pieces and pagesAhead MiB
// of pages of each, beside a worker's scratch and a chunk's dictionary. Lengths
// are checked by internal/pq before anything is allocated for them.
//
// No value of a file, and no constant of an edit, reaches an error.
package parquet
