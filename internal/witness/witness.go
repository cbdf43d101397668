// Package witness asks a witness over HTTP to cosign a log's checkpoint (C2SP
// tlog-witness, add-checkpoint). A witness that has cosigned every growth of a
// log vouches that nothing was cut off or changed in between.
package witness

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// ErrRefused: the witness answered, and did not cosign.
var ErrRefused = errors.New("witness did not cosign the checkpoint")

// maxAnswer bounds an answer in bytes: some signature lines.
const maxAnswer = 64 << 10

// HTTP is a witness behind a URL.
type HTTP struct {
	URL    string // of the witness; add-checkpoint is below it
	VKey   string // its cosignature/v1 verifier key
	Client *http.Client
}

// New returns the witness at a URL. It is given ten seconds an answer.
func New(url, vkey string) *HTTP {
	return &HTTP{URL: strings.TrimSuffix(url, "/"), VKey: vkey, Client: &http.Client{Timeout: 10 * time.Second}}
}

// Key implements manifests.Witness.
func (w *HTTP) Key() string { return w.VKey }

// Cosign implements manifests.Witness. It begins as if the witness had seen
// nothing, and again from the size that the witness then names.
func (w *HTTP) Cosign(ctx context.Context, checkpoint []byte, size int64, prove func(old int64) ([]tlog.Hash, error)) ([]byte, error) {
	old := int64(0)
	for range 2 {
		path, err := prove(old)
		if err != nil {
			return nil, err
		}
		status, body, err := w.post(ctx, request(old, path, checkpoint))
		switch {
		case err != nil:
			return nil, err
		case status == http.StatusOK:
			return body, nil
		case status != http.StatusConflict:
			return nil, fmt.Errorf("%w: status %d", ErrRefused, status)
		}
		// The body of a conflict is the size that the witness has cosigned last.
		if old, err = strconv.ParseInt(strings.TrimSpace(string(body)), 10, 64); err != nil || old < 0 || old > size {
			return nil, fmt.Errorf("%w: it has seen another history", ErrRefused)
		}
	}
	return nil, fmt.Errorf("%w: its view changed meanwhile", ErrRefused)
}

// request is the body of add-checkpoint: old size, consistency proof, checkpoint.
func request(old int64, path []tlog.Hash, checkpoint []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "old %d\n", old)
	for _, h := range path {
		b.WriteString(base64.StdEncoding.EncodeToString(h[:]) + "\n")
	}
	b.WriteByte('\n')
	b.Write(checkpoint)
	return b.Bytes()
}

func (w *HTTP) post(ctx context.Context, body []byte) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL+"/add-checkpoint", bytes.NewReader(body))
	if err != nil {
		return 0, nil, fmt.Errorf("ask witness: %w", err)
	}
	resp, err := w.Client.Do(req)
	if err != nil {
		return 0, nil, fmt.Errorf("ask witness: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, nil, fmt.Errorf("ask witness: %w", err)
	}
	return resp.StatusCode, answer, nil
}
