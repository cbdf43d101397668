package iceberg

import (
	"maps"
	"testing"
)

// iceberg-go puts a table's own properties among those that the catalog hands
// out with it: they must not decide where requests with our credentials go.
func TestATablesPropertiesAreNoneOfStoragesBusiness(t *testing.T) {
	own := map[string]string{"s3.region": "eu-central-1", "s3.endpoint": "https://ours"}
	table := map[string]string{"s3.endpoint": "https://elsewhere", "s3.proxy": "x", "s3.region": "eu-central-1", "s3.session-token": "old"}
	came := map[string]string{"s3.endpoint": "https://elsewhere", "s3.proxy": "x", "s3.region": "eu-central-1", "s3.session-token": "vended", "s3.access-key-id": "k"}
	want := map[string]string{"s3.endpoint": "https://ours", "s3.region": "eu-central-1", "s3.session-token": "vended", "s3.access-key-id": "k"}
	if got := withoutTableProperties(came, own, table); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
