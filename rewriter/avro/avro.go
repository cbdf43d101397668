// Package avro rewrites Avro object container files block by block: the header
// and the blocks without an edit are copied as they are stored, blocks with
// one lose the ranges of their erased records and are compressed anew in the
// file's own codec, and a block that loses all records goes.
package avro

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"

	"github.com/expunge/expunge/internal/packed"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/rewriter"
)

// Layout is what a scan of the file found.
type Layout struct {
	Codec  string
	Sync   [16]byte
	Blocks []Block // in file order
}

// Block is a block to change.
type Block struct {
	Off, Len int64
	Left     int64         // records that stay
	Edits    []packed.Edit // of its data after decompression
	// Data reads the data after decompression.
	Data func() ([]byte, error)
}

// Rewrite writes src with the blocks changed to dst, which it neither closes
// nor aborts. Of the options it heeds SkipDigest. Row counts are the caller's.
func Rewrite(ctx context.Context, src storage.Object, dst storage.Writer, l Layout, o rewriter.Options) (*rewriter.Result, error) {
	res := &rewriter.Result{Engine: rewriter.Surgical}
	h := sha256.New()
	write := func(p []byte) error {
		h.Write(p)
		res.BytesReencoded += int64(len(p))
		_, err := dst.Write(p)
		return err
	}
	at := int64(0)
	keep := func(to int64) error {
		n := to - at
		res.BytesCopied += n
		if n == 0 {
			return nil
		}
		if o.SkipDigest {
			return storage.CopyRange(dst, src, at, n)
		}
		return storage.CopyRange(plain{dst, h.Write}, src, at, n)
	}
	for _, b := range l.Blocks {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := keep(b.Off); err != nil {
			return nil, err
		}
		at = b.Off + b.Len
		if b.Left == 0 {
			continue
		}
		block, err := changed(l, b)
		if err != nil {
			return nil, err
		}
		if err := write(block); err != nil {
			return nil, err
		}
	}
	if err := keep(src.Info().Size); err != nil {
		return nil, err
	}
	res.Size = res.BytesCopied + res.BytesReencoded
	if !o.SkipDigest {
		h.Sum(res.SHA256[:0])
	}
	return res, nil
}

// plain is a writer whose bytes are digested and that copies no ranges.
type plain struct {
	storage.Writer
	digest func([]byte) (int, error)
}

func (w plain) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	_, _ = w.digest(p[:n])
	return n, err
}

// changed is a block without its erased records.
func changed(l Layout, b Block) ([]byte, error) {
	data, err := b.Data()
	if err != nil {
		return nil, err
	}
	var kept []byte
	at := int64(0)
	for _, e := range b.Edits {
		kept = append(kept, data[at:e.Off]...)
		at = e.Off + e.Len
	}
	kept = append(kept, data[at:]...)
	body, err := compress(l.Codec, kept)
	if err != nil {
		return nil, err
	}
	out := binary.AppendVarint(nil, b.Left)
	out = binary.AppendVarint(out, int64(len(body)))
	return append(append(out, body...), l.Sync[:]...), nil
}

func compress(codec string, data []byte) ([]byte, error) {
	switch codec {
	case "null":
		return data, nil
	case "deflate":
		var out bytes.Buffer
		w, err := flate.NewWriter(&out, 7)
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(data); err != nil {
			return nil, err
		}
		err = w.Close()
		return out.Bytes(), err
	case "snappy":
		return binary.BigEndian.AppendUint32(snappy.Encode(nil, data), crc32.ChecksumIEEE(data)), nil
	case "zstandard":
		w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault))
		if err != nil {
			return nil, err
		}
		defer w.Close()
		return w.EncodeAll(data, nil), nil
	}
	return nil, &rewriter.UnsupportedError{What: "Avro codec " + codec + " is read and not written"}
}
