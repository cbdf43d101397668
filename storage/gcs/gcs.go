// Package gcs adds Google Cloud Storage (gs://) to the stores that storage.New knows. Import it for that effect.
package gcs

import _ "github.com/expunge/expunge/internal/storage/gcs" // registers itself
