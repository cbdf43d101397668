package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/expunge/expunge/jobs"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/rewriter"
	"github.com/expunge/expunge/storage"
	"github.com/expunge/expunge/warehouse"
)

// ledgerFormat is what the tasks' files call their format.
const ledgerFormat = "ledger"

// lines scans and rewrites one file of a ledger. It is safe for concurrent use.
type lines struct{}

// each calls f with every line, newline included, and its number.
func each(src storage.Object, f func(row int64, line []byte) error) error {
	in := bufio.NewReader(io.NewSectionReader(src, 0, src.Info().Size))
	for row := int64(0); ; row++ {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			if err := f(row, line); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("read line %d: %w", row+1, err)
		}
	}
}

// Scan finds the lines of a key; a line without a tab is an error, never skipped.
func (lines) Scan(_ context.Context, src storage.Object, m []warehouse.BoundMatch) (*jobs.ScanResult, error) {
	res := &jobs.ScanResult{Hits: roaring64.New(), PerMatch: make([]int64, len(m)), Keys: make([]*roaring64.Bitmap, len(m)),
		Method: "scanned clean", BytesRead: src.Info().Size}
	matchers := make([]*keyset.Matcher, len(m))
	for i, b := range m {
		var err error
		if matchers[i], err = keyset.NewMatcher(b.Keys, []keyset.Column{{Physical: keyset.PhysBytes, Logical: keyset.Logical{Kind: keyset.LogicalString}}}); err != nil {
			return nil, err
		}
		res.Keys[i] = roaring64.New()
	}
	err := each(src, func(row int64, line []byte) error {
		res.Rows++
		user, _, ok := bytes.Cut(line, []byte("\t"))
		if !ok {
			return fmt.Errorf("line %d has no tab: %w", row+1, rewriter.ErrCorrupt)
		}
		for i, match := range matchers {
			key, ok := match.AppendPart(nil, 0, 0, user)
			if !ok {
				continue
			}
			if n := m[i].Keys.Number(key); n >= 0 {
				res.Hits.Add(uint64(row))
				res.Keys[i].Add(uint64(n))
				res.PerMatch[i]++
				res.Method = "hits"
			}
		}
		return nil
	})
	return res, err
}

// Rewrite copies every line that stays, byte for byte.
func (lines) Rewrite(_ context.Context, src storage.Object, dst storage.Writer, e rewriter.Edit, _ rewriter.Options) (*rewriter.Result, error) {
	if len(e.Redact)+len(e.Remove) > 0 {
		return nil, &rewriter.UnsupportedError{What: "changing a line of a ledger"}
	}
	res := &rewriter.Result{}
	sum := sha256.New()
	err := each(src, func(row int64, line []byte) error {
		res.RowsIn++
		if e.Erase != nil && e.Erase.Contains(uint64(row)) {
			return nil
		}
		res.RowsOut++
		res.Size += int64(len(line))
		sum.Write(line)
		_, err := dst.Write(line)
		return err
	})
	res.BytesCopied = res.Size
	sum.Sum(res.SHA256[:0])
	return res, err
}
