package demo

import (
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/extensions"
)

// appendUUID appends to a UUID column, whichever of the two forms arrow gives it.
func appendUUID(b array.Builder, id [16]byte) {
	switch b := b.(type) {
	case *extensions.UUIDBuilder:
		b.AppendBytes(id)
	case *array.FixedSizeBinaryBuilder:
		b.Append(id[:])
	}
}
