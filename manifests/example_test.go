package manifests_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/expunge/expunge/manifests"
)

// A program that checks a manifest offline needs this package alone: the
// envelope, its log proof, its evidence, and a trust file.
func ExampleVerify() {
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join("testdata", "golden", "v1.0", name))
		if err != nil {
			panic(err)
		}
		return b
	}
	trust, err := manifests.ParseTrust(read("trust.json"))
	if err != nil {
		panic(err)
	}
	evidence := read("run.evidence.parquet")
	m, checks := manifests.Verify(context.Background(), manifests.Bundle{
		Envelope: read("run.intoto.jsonl"),
		Proof:    read("run.tlog-proof"),
		Sidecar:  bytes.NewReader(evidence),
		Size:     int64(len(evidence)),
	}, trust)
	for _, c := range checks {
		fmt.Printf("%s: %t\n", c.Name, c.OK)
	}
	if ok, _ := manifests.Verified(checks); ok {
		fmt.Println(manifests.Headline(m))
	}
	// Output:
	// envelope: true
	// signature: true
	// schema: true
	// outcome rule: true
	// log inclusion: true
	// continuity: true
	// evidence: true
	// ERASED_PENDING until 2026-11-09 04:20:00 UTC
}

// Evidence streams: a manifest of a million files is read record by record.
func ExampleReadSidecar() {
	f, err := os.Open(filepath.Join("testdata", "golden", "v1.0", "run.evidence.parquet"))
	if err != nil {
		panic(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		panic(err)
	}
	for r, err := range manifests.ReadSidecar(f, info.Size()) {
		if err != nil {
			panic(err)
		}
		fmt.Println(r.Path, r.Method, r.RowsErased)
	}
	// Output:
	// s3://lake/orders/a.parquet rewritten 2
	// s3://lake/orders/b.parquet rewritten 3
	// s3://lake/orders/c.parquet scanned clean 0
}
