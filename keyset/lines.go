package keyset

import (
	"bytes"
	"context"
	"fmt"
	"io"
)

// readLines reads one key a line, without quoting or header. An empty line is a
// NULL key.
func (p *pass) readLines(ctx context.Context, in io.Reader) error {
	if len(p.columns) != 1 {
		return fmt.Errorf("%s: %w: plain lines hold one column, %d are asked for", p.src.label, ErrType, len(p.columns))
	}
	mark := func(data []byte) (int, error) {
		if bytes.HasPrefix(data, byteOrderMark) {
			return len(byteOrderMark), nil
		}
		return 0, nil
	}
	return p.chunks(ctx, in, splitLines, mark, func(s *sink, c chunk) error {
		var vals [1]value
		line := c.line
		for rest := c.data; len(rest) > 0; line++ {
			var cell []byte
			cell, rest, _ = bytes.Cut(rest, newline)
			cell = trimReturn(cell)
			vals[0] = value{b: cell, null: len(cell) == 0}
			if bad := s.row(vals[:]); bad != nil {
				return p.errAt(line, bad.column, bad.reason)
			}
		}
		return nil
	})
}

// splitLines cuts after the last newline.
func splitLines(data []byte) int { return bytes.LastIndexByte(data, '\n') + 1 }
