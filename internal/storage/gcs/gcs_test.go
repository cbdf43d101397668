package gcs

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/internal/storage/storagetest"
)

// TestConformance needs a server: EXPUNGE_TEST_GCS is the address of a
// fake-gcs-server that runs with -scheme http. That server ignores conditions
// on deletion, so RemoveIf stays untested.
func TestConformance(t *testing.T) {
	host := os.Getenv("EXPUNGE_TEST_GCS")
	if host == "" {
		t.Skip("EXPUNGE_TEST_GCS is not set")
	}
	t.Setenv("STORAGE_EMULATOR_HOST", host)
	res, err := http.Post(host+"/storage/v1/b", "application/json", strings.NewReader(`{"name":"conformance"}`))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	st, err := Open(t.Context(), storage.ParseLocation("gs://conformance/"), map[string]string{propHost: host, propNoAuth: "true"})
	if err != nil {
		t.Fatal(err)
	}
	storagetest.Run(t, storage.WithRetry(st, storage.DefaultRetry), storagetest.Options{
		Root: "gs://conformance/" + t.Name() + t.TempDir() + "/", BigObject: 18 << 20, KnowsMissing: true,
	})
}

func TestStatusesHaveTheirClasses(t *testing.T) {
	for status, want := range map[int]error{
		404: fs.ErrNotExist, 412: storage.ErrPrecondition, 403: fs.ErrPermission, 429: storage.ErrThrottled,
		503: storage.ErrThrottled, 500: storage.ErrTransient, 400: nil,
	} {
		if got := classOf(status); !errors.Is(got, want) {
			t.Errorf("%d is %v", status, got)
		}
	}
}

func TestCredentialsMustBeOfAKnownType(t *testing.T) {
	for _, bad := range []string{`{`, `{}`, `{"type":"external_command"}`} {
		if _, err := options(map[string]string{propKey: bad}); err == nil {
			t.Errorf("took %s", bad)
		}
	}
}

func TestKMSKeyIsNamedWithoutItsVersion(t *testing.T) {
	const key = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
	if got := keyName(key + "/cryptoKeyVersions/3"); got != key {
		t.Error(got)
	}
	if got := keyName(key); got != key {
		t.Error(got)
	}
}
