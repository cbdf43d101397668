// Package azure adds Azure Blob Storage and Data Lake (abfs://, wasb://) to the stores that storage.New knows. Import it for that effect.
package azure

import _ "github.com/expunge/expunge/internal/storage/azure" // registers itself
