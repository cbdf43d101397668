// Package keyset loads the keys to erase, brings them to one canonical form
// and answers, for batches of column values, which of them are in the set.
//
// Words:
//
//   - A Part is one column of a key: a name, a Type and the normalisation that
//     is declared for it. A Schema of several parts makes the key composite.
//   - The canonical form of a part is a byte string whose order under
//     bytes.Compare is the order of the values: int64 is 8 bytes big endian with
//     the sign flipped, a date is the same from its days, a UUID is its 16 bytes,
//     a decimal is its unscaled value as 16 bytes with the sign flipped, strings
//     and binary are their bytes. A composite key is, part by part, a type tag,
//     the length as uvarint and the bytes, so that no two tuples share a form.
//   - A Set is immutable. A lookup hashes the canonical bytes with the set's own
//     seed, probes a split-block Bloom filter and then, always, the exact keys:
//     a filter hit alone never makes a match. Dense integers use a bitmap that is
//     exact by itself.
//   - A Matcher binds a Set to columns as files store them. It widens, rescales,
//     decodes and normalises exactly as Load did for the keys.
//
// NULL never matches. Zero and the empty string are ordinary values, but a NULL
// or empty key in a source is an error unless the Spec declares it.
//
// A set holds its keys in clear, in memory: their sorted values are what files,
// row groups and pages are pruned by, which keyed tokens could not do. Whatever
// leaves the process does so sealed, or as keyed digests made elsewhere.
//
// No error of this package holds a key value: a malformed line is named by file
// and line. Digests of sources and the frozen form are as sensitive as the keys.
package keyset
