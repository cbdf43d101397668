// Command verify checks an audit manifest of expunge with nothing but the
// manifests package: an auditor can read all of it, change it, and build it
// where neither the lakehouse nor a network is at hand.
//
//	verify RUN.intoto.jsonl TRUST.json
//
// RUN.evidence.parquet and RUN.tlog-proof are read from beside the manifest.
// Every check is printed. Exit code 0: all hold; 1: one fails, or could not be
// made because a file is missing; 2: wrong use.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/expunge/expunge/manifests"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: verify RUN.intoto.jsonl TRUST.json")
		os.Exit(2)
	}
	ok, err := verify(os.Stdout, os.Args[1], os.Args[2], time.Now())
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// verify prints every check and says whether all of them hold.
func verify(out io.Writer, name, trustFile string, now time.Time) (bool, error) {
	trust, err := readTrust(trustFile)
	if err != nil {
		return false, err
	}
	bundle, closeFiles, err := readBundle(name)
	if err != nil {
		return false, err
	}
	defer closeFiles()
	m, checks := manifests.Verify(context.Background(), bundle, trust)
	ok, skipped := manifests.Verified(checks)
	for _, c := range checks {
		word := "FAILS"
		switch {
		case c.Skipped:
			word = "not checked"
		case c.OK:
			word = "holds"
		}
		fmt.Fprintf(out, "%-14s %-11s %s\n", c.Name, word, c.Reason)
	}
	if m == nil {
		return false, nil
	}
	if err := manifests.CheckTime(m, now); err != nil {
		fmt.Fprintf(out, "%-14s %-11s %s\n", "time", "FAILS", err)
		ok = false
	}
	fmt.Fprintf(out, "\n%s: %s\n%s\n", m.ID, manifests.Headline(m), manifests.Explain(m))
	for _, x := range m.Scope.Excluded {
		fmt.Fprintf(out, "not covered: %s (%s)\n", x.What, x.Reason)
	}
	return ok && len(skipped) == 0, nil
}

func readTrust(name string) (*manifests.Trust, error) {
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return manifests.ParseTrust(raw)
}

// readBundle reads the manifest and what lies beside it. What is missing is
// left out; Verify then reports its check as skipped.
func readBundle(name string) (b manifests.Bundle, closeFiles func(), err error) {
	closeFiles = func() {}
	if b.Envelope, err = os.ReadFile(name); err != nil {
		return b, closeFiles, err
	}
	base := strings.TrimSuffix(name, ".intoto.jsonl")
	if b.Proof, err = os.ReadFile(base + ".tlog-proof"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return b, closeFiles, err
	}
	side, err := os.Open(base + ".evidence.parquet")
	if errors.Is(err, fs.ErrNotExist) {
		return b, closeFiles, nil
	}
	if err != nil {
		return b, closeFiles, err
	}
	info, err := side.Stat()
	if err != nil {
		_ = side.Close()
		return b, closeFiles, err
	}
	b.Sidecar, b.Size = side, info.Size()
	return b, func() { _ = side.Close() }, nil
}
