package parquet

import (
	"encoding/binary"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/internal/thriftpatch"
	"github.com/expunge/expunge/rewriter"
)

// Field ids of FileMetaData (parquet.thrift).
const (
	fileSchema       = 2
	fileNumRows      = 3
	fileRowGroups    = 4
	fileKeyValues    = 5
	fileColumnOrders = 7
	fileEncryption   = 8
)

// Field ids of RowGroup.
const (
	groupColumns         = 1
	groupTotalByteSize   = 2
	groupNumRows         = 3
	groupSortingColumns  = 4
	groupFileOffset      = 5
	groupTotalCompressed = 6
	groupOrdinal         = 7
)

// parseFooter opens the file's metadata for patching.
func parseFooter(f *pq.File) (*thriftpatch.Struct, error) {
	s, used, err := thriftpatch.Parse(f.Footer)
	if err != nil {
		return nil, corrupt("footer: %w", err)
	}
	if s.Has(fileEncryption) || used != len(f.Footer) {
		return nil, &rewriter.UnsupportedError{What: "encrypted or signed footer", Where: "footer"}
	}
	return s, nil
}

// appendFooter encodes the metadata with its length and magic.
func appendFooter(dst []byte, f *thriftpatch.Struct) []byte {
	at := len(dst)
	dst = f.Append(dst)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(dst)-at))
	return append(dst, "PAR1"...)
}
