// Package objects makes a prefix of object storage, or a folder, a target: the
// lake outside the tables.
//
// # Listing and planning
//
// Objects are listed in the order of their paths and looked at one by one;
// nothing grows with their number. What is no data is left out and counted:
// empty objects, hidden ones (a name or folder that begins with "." or "_",
// unless a glob names it so, and unless it is a partition "_x=1"), objects of
// other formats, and what no glob names. A prefix that holds, or lies in, an
// Iceberg, Delta or Hudi table is refused: rewriting a table's files in place
// corrupts it.
//
// A column may be a partition in the path (".../user_id=7/..."): its value is
// then the path's, percent-decoded, in every record of the object.
//
// # The order in which an object is changed
//
//  1. scan; without a hit nothing happens
//  2. write the new content under the run's own prefix (".expunge/<run>/")
//  3. when all targets are within limits: keep the old content (a protected copy
//     under the run's own prefix, or, on a versioned bucket, the version itself)
//  4. put the new content in the object's place, on condition that the object is
//     still the one that was scanned, with the attributes that it had
//  5. verify; after the grace remove copies, noncurrent versions that hold
//     erased rows, and their delete markers
//
// An object that changed meanwhile is scanned again and never overwritten.
// Every step finds out by itself whether it has been done, so that a run that
// died goes on where it was.
package objects
