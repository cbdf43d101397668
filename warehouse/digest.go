package warehouse

import (
	"encoding/hex"
	"fmt"

	"github.com/expunge/expunge/internal/storage"
)

// digestSize is up to where a file of an object store is read as a whole only
// to state its digest. A larger one is identified by ETag, version and size.
const digestSize = 8 << 20

// DigestSource states the SHA-256 of a file that is about to be replaced or
// dropped: of every local one, and of those in object stores up to 8 MiB, so
// that no gigabyte travels for the sake of a digest.
func DigestSource(src storage.Object, res *Result) error {
	info := src.Info()
	if s := storage.ParseLocation(info.Path).Scheme; s != "" && s != "file" && info.Size > digestSize {
		return nil
	}
	sum, err := storage.SHA256(src)
	if err != nil {
		return fmt.Errorf("digest of the file before: %w", err)
	}
	res.SourceSHA256 = hex.EncodeToString(sum[:])
	return nil
}
