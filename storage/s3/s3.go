// Package s3 adds Amazon S3 and what speaks its protocol (s3://, s3a://) to the stores that storage.New knows. Import it for that effect.
package s3

import _ "github.com/expunge/expunge/internal/storage/s3" // registers itself
