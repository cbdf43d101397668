// Command objects measures expunge on objects outside of tables, beside what
// people use today, on this machine and in one run:
//
//	make bench-objects
//
// wire: bytes that pass between expunge and an S3 server (versitygw on
// loopback, counted by a proxy in between) while users are erased from one
// large Parquet object, scan included, against the object's size. cpu: user
// and system seconds of one erasure from NDJSON, gzipped NDJSON and CSV files
// beside a Python script (gzip, json, membership test, gzip) and DuckDB's COPY,
// runs interleaved, medians. small: seconds for ten thousand small objects
// beside a client that only GETs them, at the same concurrency.
//
// Python and DuckDB come from .cache (interop/setup.sh).
package main
