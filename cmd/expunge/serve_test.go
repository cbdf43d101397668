package main

import (
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/csv"
	"encoding/hex"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/expunge/expunge/cmd/expunge/cli"
	"github.com/expunge/expunge/configs"
)

// reporter passes on where the server listens.
type reporter chan string

func (r reporter) Report(e cli.Event) {
	if address, ok := strings.CutPrefix(e.Message, "serving "); ok {
		r <- address
	}
}

// noKeyOnAnyPage looks for a demo's keys and their plain hashes on every page.
func noKeyOnAnyPage(t *testing.T, dir string) {
	t.Helper()
	needles := keyForms(t, dir)
	n := everyPage(t, dir, func(target string, raw []byte) {
		page := strings.ToLower(string(raw))
		for _, n := range needles {
			if strings.Contains(page, n) {
				t.Errorf("%s holds a key or a plain hash of one", target)
			}
		}
	})
	if n < 60 {
		t.Errorf("only %d pages were looked at", n)
	}
}

// everyPage serves a job's state bucket and follows every link, downloads and
// metrics included. It returns how many pages there were.
func everyPage(t *testing.T, dir string, look func(target string, raw []byte)) int {
	t.Helper()
	job, err := configs.Load(filepath.Join(dir, "job.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	at, done := make(reporter, 1), make(chan error, 1)
	go func() {
		_, err := serve(ctx, cli.Env{Reporter: at}, cli.ServeRequest{Job: job, State: cli.State{Location: job.State, Storage: job.Storage}, Listen: "127.0.0.1:0", Requests: true})
		done <- err
	}()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	var base string
	select {
	case base = <-at:
		base = strings.TrimSuffix(base, "/")
	case err := <-done:
		t.Fatal(err)
	}
	seen, queue := map[string]bool{}, []string{"/", "/requests", "/metrics"}
	for len(queue) > 0 && len(seen) < 400 {
		target := queue[0]
		queue = queue[1:]
		if seen[target] {
			continue
		}
		seen[target] = true
		resp, err := http.Get(base + target)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: status %d, %v", target, resp.StatusCode, err)
		}
		look(target, raw)
		for _, m := range regexp.MustCompile(`(?:href|src|action)="(/[^"#]*)`).FindAllStringSubmatch(string(raw), -1) {
			queue = append(queue, strings.ReplaceAll(m[1], "&amp;", "&"))
		}
	}
	return len(seen)
}

// keyForms are the e-mail addresses of a demo's key file, and the plain hashes
// of all its keys, in lower case.
func keyForms(t *testing.T, dir string) (out []string) {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, "keys.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil || len(rows) < 10 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for _, row := range rows[1:] {
		id, mail := strings.TrimSpace(row[0]), strings.ToLower(strings.TrimSpace(row[1]))
		out = append(out, mail, hex.EncodeToString([]byte(mail)), strings.ToLower(base64.StdEncoding.EncodeToString([]byte(mail))))
		for _, v := range []string{id, mail} {
			a, b, c := sha256.Sum256([]byte(v)), sha1.Sum([]byte(v)), md5.Sum([]byte(v))
			for _, sum := range [][]byte{a[:], b[:], c[:]} {
				out = append(out, hex.EncodeToString(sum), strings.ToLower(base64.StdEncoding.EncodeToString(sum)))
			}
		}
	}
	return out
}
