package pq

import (
	"bytes"
	"io"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go/format"
	"github.com/pierrec/lz4/v4"
)

// checkCodec refuses what no library here reads.
func checkCodec(c format.CompressionCodec) error {
	switch c {
	case format.Uncompressed, format.Snappy, format.Gzip, format.Zstd, format.Lz4Raw, format.Brotli:
		return nil
	case format.Lz4:
		return unsupported("legacy LZ4 codec (Hadoop framing)")
	}
	return unsupported("codec %s", c)
}

// plausible is how large an output may be announced without proof: beyond
// this, memory grows with what the codec really produces.
const plausible = 32 << 20

// maxRatio is the most that one compressed byte can become, where the codec's
// format bounds it. Snappy: a 3-byte copy element gives up to 64 bytes. LZ4: a
// length byte adds up to 255. Deflate: 258 bytes in two bits.
var maxRatio = map[format.CompressionCodec]int{
	format.Snappy: 32, format.Lz4Raw: 256, format.Gzip: 1040,
}

// Decompress undoes a codec into dst's memory (which is grown when it is too
// small) and returns the size bytes that were announced; any other outcome is
// an error. The result of an uncompressed body is src itself.
func Decompress(codec format.CompressionCodec, dst, src []byte, size int) ([]byte, error) {
	if codec == format.Uncompressed {
		if len(src) != size {
			return nil, corrupt("body of %d bytes announced as %d", len(src), size)
		}
		return src, nil
	}
	if err := checkCodec(codec); err != nil {
		return nil, err
	}
	if size == 0 && len(src) == 0 {
		return dst[:0], nil
	}
	if r, ok := maxRatio[codec]; ok && size/r > len(src) {
		return nil, corrupt("%d bytes cannot hold the %d announced", len(src), size)
	}
	if size > plausible && size/256 > len(src) {
		return decompressStream(codec, src, size)
	}
	if cap(dst) < size+decodeSlack {
		dst = make([]byte, size+decodeSlack)
	}
	out, err := decompressBlock(codec, dst[:0], src, size)
	if err != nil {
		return nil, err
	}
	if len(out) != size {
		return nil, corrupt("%s body of %d bytes announced as %d", codec, len(out), size)
	}
	return out, nil
}

// decodeSlack is room behind the output: the zstd decoder is a quarter faster
// where a whole block fits behind what it writes.
const decodeSlack = 128<<10 + 1<<10

// decompressBlock decodes into dst, which has room for what is expected.
func decompressBlock(codec format.CompressionCodec, dst, src []byte, size int) ([]byte, error) {
	var err error
	switch codec {
	case format.Snappy:
		n, lenErr := s2.DecodedLen(src)
		if lenErr != nil || n != size {
			return nil, corrupt("SNAPPY body does not have the size announced")
		}
		dst, err = s2.Decode(dst[:size], src)
	case format.Zstd:
		var d *zstd.Decoder
		if d, err = zstdDecoder(); err == nil {
			dst, err = d.DecodeAll(src, dst)
		}
	case format.Lz4Raw:
		var n int
		n, err = lz4.UncompressBlock(src, dst[:size])
		dst = dst[:max(n, 0)]
	case format.Gzip, format.Brotli:
		var r io.Reader
		var release func()
		if r, release, err = streamReader(codec, src); err == nil {
			dst, err = readExactly(r, dst[:size])
			release()
		}
	}
	if err != nil {
		return nil, corrupt("%s body cannot be decompressed", codec)
	}
	return dst, nil
}

// readExactly fills dst and makes sure that nothing follows.
func readExactly(r io.Reader, dst []byte) ([]byte, error) {
	n, err := io.ReadFull(r, dst)
	if err != nil {
		return dst[:n], err
	}
	var one [1]byte
	if m, err := r.Read(one[:]); m != 0 || err != nil && err != io.EOF {
		return dst, corrupt("more than announced")
	}
	return dst, nil
}

// decompressStream is for sizes that are not plausible at once.
func decompressStream(codec format.CompressionCodec, src []byte, size int) ([]byte, error) {
	r, release, err := streamReader(codec, src)
	if err != nil {
		return nil, corrupt("%s body cannot be decompressed", codec)
	}
	defer release()
	var out bytes.Buffer
	n, err := io.Copy(&out, io.LimitReader(r, int64(size)+1))
	if err != nil || n != int64(size) {
		return nil, corrupt("%s body does not have the size announced", codec)
	}
	return out.Bytes(), nil
}

func streamReader(codec format.CompressionCodec, src []byte) (io.Reader, func(), error) {
	switch codec {
	case format.Gzip:
		r, _ := gzipReaders.Get().(*gzip.Reader)
		if r == nil {
			r = new(gzip.Reader)
		}
		if err := r.Reset(bytes.NewReader(src)); err != nil {
			return nil, nil, err
		}
		return r, func() { gzipReaders.Put(r) }, nil
	case format.Brotli:
		r, _ := brotliReaders.Get().(*brotli.Reader)
		if r == nil {
			r = new(brotli.Reader)
		}
		if err := r.Reset(bytes.NewReader(src)); err != nil {
			return nil, nil, err
		}
		return r, func() { brotliReaders.Put(r) }, nil
	case format.Zstd:
		r, err := zstd.NewReader(bytes.NewReader(src), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, nil, err
		}
		return r, r.Close, nil
	}
	return nil, nil, unsupported("codec %s", codec)
}

var (
	gzipReaders, brotliReaders sync.Pool

	// One decoder serves all goroutines: DecodeAll takes a block decoder from
	// its own pool. The cap limit makes a body that is larger than announced
	// an error instead of an allocation.
	zstdDecoder = sync.OnceValues(func() (*zstd.Decoder, error) {
		return zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecodeAllCapLimit(true),
			zstd.WithDecoderMaxMemory(1<<31))
	})
)
