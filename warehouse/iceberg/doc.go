// Package iceberg makes an Apache Iceberg table a target: it plans which data
// files may hold a key, says which of their rows are already deleted, replaces
// files in one atomic step, removes what history still holds, and restores.
//
// # The parts
//
//   - catalog.go opens a catalog by its configuration map; the kinds are
//     registered by the packages under catalogs/, so that a program links only
//     the back ends it needs.
//   - table.go holds Table, which implements warehouse.Target.
//   - bind.go resolves the selection's columns to field ids.
//   - plan.go streams the manifests of one snapshot and emits a task for each
//     data file that may hold a key; prune.go decides that from partition
//     values and column bounds.
//   - deletes.go reads position deletes, equality deletes and deletion vectors.
//   - keyindex.go keeps a filter of the keys of each immutable data file, so
//     that a nightly run reads only files that are new.
//
// # What holds
//
// Planning reads one snapshot and keeps one manifest's entries in memory at a
// time. Pruning drops a file only when its metadata proves that no row can
// match; anything missing, truncated the wrong way or unreadable keeps it.
// Deleted hides exactly what a reader of the specification hides: a row comes
// back neither through a deletion vector, nor through the sequence number or
// partition of a delete file, nor through a column that changed since.
// No error holds a key, a bound, a partition value or a data file's path.
package iceberg
