// Package zstdedit cuts byte ranges out of zstd-compressed data, and puts new
// bytes in, without compressing it again.
//
// A zstd block is a list of sequences: so many literals, then a copy of what
// was already put out (RFC 8878, 3.1.1.3). Taking bytes out of the content
// leaves most of that as it is. Sequences that the edit passes through are cut,
// copies that reach back over it get a new distance, copies of bytes that went
// become literals, and only the entropy coding is done anew; finding matches,
// which is most of what compressing costs, is not. Blocks that the edit does
// not concern are copied; in the others literals are coded anew only where they
// changed, and sequences under the block's own tables.
//
// The result is one frame with the content size and without a checksum. What
// the package does not know, or what would come out larger than it should, is
// left to the caller: compress instead. Callers check the result by decoding it.
package zstdedit
