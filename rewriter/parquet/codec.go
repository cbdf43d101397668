package parquet

import (
	"bytes"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go/format"
	"github.com/pierrec/lz4/v4"

	"github.com/expunge/expunge/rewriter"
)

// codec compresses page bodies. A file says which codec wrote it but not at
// which level: levels here are the fast ones.
type codec struct {
	kind  format.CompressionCodec
	level zstd.EncoderLevel
}

func newCodec(kind format.CompressionCodec, zstdLevel int) codec {
	level := zstd.SpeedFastest
	if zstdLevel > 1 {
		level = zstd.EncoderLevel(min(zstdLevel, int(zstd.SpeedBestCompression)))
	}
	return codec{kind, level}
}

// Pooled encoders by level: EncodeAll on a shared encoder would hand out its
// own pool of states, but at most as many as its concurrency allows.
var (
	zstdEncoders   [zstd.SpeedBestCompression + 1]sync.Pool
	gzipWriters    sync.Pool
	brotliWriters  sync.Pool
	lz4Compressors = sync.Pool{New: func() any { return new(lz4.Compressor) }}
)

// compress appends the compressed src to dst[:0]. An uncompressed body is src itself.
func (c codec) compress(dst, src []byte) ([]byte, error) {
	switch c.kind {
	case format.Uncompressed:
		return src, nil
	case format.Snappy:
		return s2.EncodeSnappy(dst[:cap(dst)], src), nil
	case format.Zstd:
		return c.zstd(dst[:0], src)
	case format.Lz4Raw:
		return lz4Block(dst, src)
	case format.Gzip:
		buf := bytes.NewBuffer(dst[:0])
		w, _ := gzipWriters.Get().(*gzip.Writer)
		if w == nil {
			w = gzip.NewWriter(buf)
		}
		defer gzipWriters.Put(w)
		w.Reset(buf)
		if _, err := w.Write(src); err != nil {
			return nil, err
		}
		err := w.Close()
		return buf.Bytes(), err
	case format.Brotli:
		buf := bytes.NewBuffer(dst[:0])
		w, _ := brotliWriters.Get().(*brotli.Writer)
		if w == nil {
			w = brotli.NewWriterLevel(buf, brotliLevel)
		}
		defer brotliWriters.Put(w)
		w.Reset(buf)
		if _, err := w.Write(src); err != nil {
			return nil, err
		}
		err := w.Close()
		return buf.Bytes(), err
	}
	return nil, &rewriter.UnsupportedError{What: "codec " + c.kind.String()}
}

const brotliLevel = 3

// zstd: SpeedFastest leaves blocks without matches raw unless told to entropy
// code all literals, which costs up to a third in size on ids and hashes.
func (c codec) zstd(dst, src []byte) ([]byte, error) {
	pool := &zstdEncoders[c.level]
	e, _ := pool.Get().(*zstd.Encoder)
	if e == nil {
		var err error
		e, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(c.level), zstd.WithEncoderConcurrency(1),
			zstd.WithAllLitEntropyCompression(true), zstd.WithEncoderCRC(false), zstd.WithZeroFrames(true))
		if err != nil {
			return nil, err
		}
	}
	defer pool.Put(e)
	return e.EncodeAll(src, dst), nil
}

func lz4Block(dst, src []byte) ([]byte, error) {
	bound := lz4.CompressBlockBound(len(src))
	if cap(dst) < bound {
		dst = make([]byte, bound)
	}
	c := lz4Compressors.Get().(*lz4.Compressor)
	defer lz4Compressors.Put(c)
	n, err := c.CompressBlock(src, dst[:bound])
	if err != nil {
		return nil, err
	}
	if n == 0 && len(src) > 0 {
		// The library reports incompressible input instead of storing it: one literal run does.
		return lz4Literals(dst[:0], src), nil
	}
	if len(src) == 0 {
		return append(dst[:0], 0), nil
	}
	return dst[:n], nil
}

// lz4Literals writes src as the single, last sequence of an LZ4 block.
func lz4Literals(dst, src []byte) []byte {
	if len(src) < 15 {
		return append(append(dst, byte(len(src))<<4), src...)
	}
	dst = append(dst, 0xF0)
	n := len(src) - 15
	for ; n >= 255; n -= 255 {
		dst = append(dst, 255)
	}
	return append(append(dst, byte(n)), src...)
}
