package azure

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/expunge/expunge/internal/storage"
)

// describing serves what the service documents of blobs that the emulator has
// not: an archived one, one under a legal hold, one under retention, and an
// account that keeps removed blobs.
func describing(t *testing.T, until time.Time) *bucket {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("restype") == "service" {
			fmt.Fprint(w, `<?xml version="1.0"?><StorageServiceProperties><DeleteRetentionPolicy><Enabled>true</Enabled><Days>14</Days></DeleteRetentionPolicy></StorageServiceProperties>`)
			return
		}
		h := w.Header()
		h.Set("ETag", `"0x1"`)
		h.Set("Content-Length", "5")
		h.Set("x-ms-version-id", "2026-01-01T00:00:00.0000000Z")
		switch r.URL.Path {
		case "/devstoreaccount1/c/archived":
			h.Set("x-ms-access-tier", "Archive")
			if r.Method == http.MethodGet {
				h.Set("x-ms-error-code", "BlobArchived")
				h.Set("Content-Length", "0")
				w.WriteHeader(http.StatusConflict)
			}
		case "/devstoreaccount1/c/held":
			h.Set("x-ms-legal-hold", "true")
		case "/devstoreaccount1/c/retained":
			h.Set("x-ms-immutability-policy-until-date", until.Format(http.TimeFormat))
			h.Set("x-ms-immutability-policy-mode", "locked")
			if r.Method == http.MethodDelete {
				h.Set("x-ms-error-code", "BlobImmutableDueToPolicy")
				h.Set("Content-Length", "0")
				w.WriteHeader(http.StatusConflict)
			}
		}
	}))
	t.Cleanup(s.Close)
	st, err := Open(t.Context(), storage.ParseLocation("abfs://c@devstoreaccount1/"), map[string]string{
		"adls.blob-storage-scheme": "http", "adls.blob-storage-authority": s.Listener.Addr().String(), "adls.account-name": "devstoreaccount1",
		"adls.account-key": "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
	})
	if err != nil {
		t.Fatal(err)
	}
	return st.(*bucket)
}

// TestWhatTheServiceKeeps: archived, held and retained blobs and versions, and
// the soft-delete window, as the service describes them.
func TestWhatTheServiceKeeps(t *testing.T) {
	until := time.Now().Add(72 * time.Hour).UTC().Truncate(time.Second)
	b := describing(t, until)
	for name, want := range map[string]storage.Attributes{
		"plain": {}, "archived": {Archived: true}, "held": {Locked: "legal hold"},
		"retained": {Locked: "retention until " + until.Format(time.DateOnly), LockedUntil: until},
	} {
		a, err := b.Attributes(t.Context(), b.origin+name)
		if err != nil || a.Archived != want.Archived || a.Locked != want.Locked || !a.LockedUntil.Equal(want.LockedUntil) {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
		v := storage.Version{Info: storage.Info{Path: b.origin + name, Version: "2026-01-01T00:00:00.0000000Z"}}
		if a, err = b.VersionAttributes(t.Context(), v); err != nil || a.Archived != want.Archived || a.Locked != want.Locked {
			t.Errorf("version of %s: %+v, %v", name, a, err)
		}
	}
	o, err := b.Open(t.Context(), b.origin+"archived")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.ReadAt(make([]byte, 5), 0); !errors.Is(err, storage.ErrArchived) || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("read of an archived blob: %v", err)
	}
	if err := b.Remove(t.Context(), b.origin+"retained"); !errors.Is(err, storage.ErrLocked) {
		t.Errorf("removal of a retained blob: %v", err)
	}
	if keep, err := b.Retention(t.Context(), b.origin+"plain"); err != nil || keep.SoftDelete != 14*24*time.Hour || !keep.Versioned {
		t.Errorf("%+v, %v", keep, err)
	}
}
