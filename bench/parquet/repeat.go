package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"

	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
)

// repeat writes a file with the row groups of src so many times over: byte
// copies, with offsets and page indexes moved.
func repeat(ctx context.Context, src, out string, times int) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	f, err := pq.Open(ctx, in, st.Size())
	if err != nil {
		return err
	}
	var data int64 // where the last chunk ends
	for _, g := range f.RowGroups {
		for _, col := range f.Schema.Columns {
			c, err := g.Chunk(col)
			if err != nil {
				return err
			}
			data = max(data, c.End)
		}
	}
	dst, err := os.Create(out)
	if err != nil {
		return err
	}
	defer dst.Close()
	w := &counted{w: dst}
	fmt.Fprint(w, "PAR1")
	for range times {
		if _, err := io.Copy(w, io.NewSectionReader(in, 4, data-4)); err != nil {
			return err
		}
	}
	return writeFooter(w, in, f.Meta, times, data-4)
}

// counted knows how many bytes were written.
type counted struct {
	w io.Writer
	n int64
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

func writeFooter(w *counted, in io.ReaderAt, meta *format.FileMetaData, times int, size int64) error {
	var p thrift.CompactProtocol
	groups := meta.RowGroups
	out := *meta
	out.NumRows, out.RowGroups = meta.NumRows*int64(times), nil
	for i := range times {
		shift := int64(i) * size
		for _, g := range groups {
			g.Columns = append([]format.ColumnChunk(nil), g.Columns...)
			for k := range g.Columns {
				if err := moveChunk(w, in, &g.Columns[k], shift); err != nil {
					return err
				}
			}
			g.FileOffset += shift
			g.Ordinal = int16(len(out.RowGroups))
			out.RowGroups = append(out.RowGroups, g)
		}
	}
	b, err := thrift.Marshal(&p, &out)
	if err != nil {
		return err
	}
	b = append(binary.LittleEndian.AppendUint32(b, uint32(len(b))), "PAR1"...)
	_, err = w.Write(b)
	return err
}

// moveChunk writes a chunk's indexes behind the data and moves its offsets.
func moveChunk(w *counted, in io.ReaderAt, c *format.ColumnChunk, shift int64) error {
	var p thrift.CompactProtocol
	index := make([]byte, c.ColumnIndexLength)
	offsets := make([]byte, c.OffsetIndexLength)
	if _, err := in.ReadAt(index, c.ColumnIndexOffset); err != nil {
		return err
	}
	if _, err := in.ReadAt(offsets, c.OffsetIndexOffset); err != nil {
		return err
	}
	var x format.OffsetIndex
	if err := thrift.Unmarshal(&p, bytes.Clone(offsets), &x); err != nil {
		return err
	}
	for i := range x.PageLocations {
		x.PageLocations[i].Offset += shift
	}
	offsets, err := thrift.Marshal(&p, &x)
	if err != nil {
		return err
	}
	c.ColumnIndexOffset = w.n
	if _, err := w.Write(index); err != nil {
		return err
	}
	c.OffsetIndexOffset, c.OffsetIndexLength = w.n, int32(len(offsets))
	if c.MetaData.DataPageOffset += shift; c.MetaData.DictionaryPageOffset > 0 {
		c.MetaData.DictionaryPageOffset += shift
	}
	if c.FileOffset > 0 {
		c.FileOffset += shift
	}
	_, err = w.Write(offsets)
	return err
}
