package azure

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/internal/storage/storagetest"
)

// azurite opens a container of the emulator whose address is in
// EXPUNGE_TEST_AZURE ("127.0.0.1:10000"), with its published key.
func azurite(t *testing.T, name string) *bucket {
	t.Helper()
	host := os.Getenv("EXPUNGE_TEST_AZURE")
	if host == "" {
		t.Skip("EXPUNGE_TEST_AZURE is not set")
	}
	st, err := Open(t.Context(), storage.ParseLocation("abfs://"+name+"@devstoreaccount1/"), map[string]string{
		"adls.blob-storage-scheme": "http", "adls.blob-storage-authority": host, "adls.account-name": "devstoreaccount1",
		"adls.account-key": "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
	})
	if err != nil {
		t.Fatal(err)
	}
	b := st.(*bucket)
	if _, err := b.client.Create(t.Context(), nil); err != nil && !strings.Contains(err.Error(), "ContainerAlreadyExists") {
		t.Fatal(err)
	}
	return b
}

func TestConformance(t *testing.T) {
	b := azurite(t, "conformance")
	storagetest.Run(t, storage.WithRetry(b, storage.DefaultRetry), storagetest.Options{
		Root: b.origin + strings.TrimPrefix(t.TempDir(), "/") + "/", BigObject: 18 << 20, RemoveIf: true, KnowsMissing: true, CopyRange: true,
	})
}

func TestSpliceCopiesInsideTheStoreOrSaysWhyNot(t *testing.T) {
	b := azurite(t, "splice")
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	if err := storage.WriteAll(t.Context(), b, b.origin+"src", data, storage.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	src, err := b.Open(t.Context(), b.origin+"src")
	if err != nil {
		t.Fatal(err)
	}
	w, err := b.Create(t.Context(), b.origin+"dst", storage.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := storage.CopyRange(w, src, 5, int64(len(data))-5); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := storage.ReadAll(t.Context(), b, b.origin+"dst")
	if err != nil || !bytes.Equal(got, data[5:]) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if copied, refused := storage.Spliced(w); copied != int64(len(got)) && refused == "" {
		t.Errorf("copied %d, refused %q", copied, refused)
	}
}

func TestAddressFollowsPathAndProperties(t *testing.T) {
	for _, c := range []struct {
		account, host string
		props         map[string]string
		want          string
	}{
		{"acc", "acc.dfs.core.windows.net", nil, "https://acc.blob.core.windows.net/"},
		{"acc", "", nil, "https://acc.blob.core.windows.net/"},
		{"acc", "acc", map[string]string{"adls.endpoint": "core.chinacloudapi.cn", "adls.protocol": "http"}, "http://acc.core.chinacloudapi.cn/"},
		{"dev", "dev", map[string]string{"adls.blob-storage-authority": "127.0.0.1:10000", "adls.blob-storage-scheme": "http"}, "http://127.0.0.1:10000/dev/"},
	} {
		if got := serviceURL(c.account, c.host, c.props); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestUnusableSecretsAreNotQuoted(t *testing.T) {
	at := storage.ParseLocation("abfss://c@acc.dfs.core.windows.net/x")
	for _, props := range []map[string]string{
		{"adls.account-key": "s3cr3t!"},
		{"adls.connection-string": "s3cr3t!"},
		{"adls.sas-token": "s3cr3t%zz"},
	} {
		if _, err := Open(t.Context(), at, props); err != nil && strings.Contains(err.Error(), "s3cr3t") {
			t.Error(err)
		}
	}
}
