package packed

import (
	"compress/bzip2"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"

	"github.com/expunge/expunge/internal/storage"
)

// maxBlock bounds what one Snappy block of Hadoop's codec may hold; its
// default is 256 KiB.
const maxBlock = 256 << 20

// maxWindow bounds the memory that a zstd frame may ask for.
const maxWindow = 512 << 20

// Reader yields the content of a stored file and remembers its frames.
type Reader struct {
	kind   Kind
	src    *source
	frames []Frame
	at     int64     // content position
	cur    io.Reader // of the frame being read; nil between frames
	gz     *gzip.Reader
	zs     *zstd.Decoder
	raw    []byte // stored bytes of a Snappy chunk
	block  []byte // its content
	err    error
}

// Open reads a whole object, compressed as its first bytes and its name say. No
// request is made for them alone: the first read of the content has them.
func Open(src storage.Object) (*Reader, error) {
	s := newSource(src, 0, src.Info().Size)
	if err := s.fill(); err != nil && err != io.EOF { //nolint:errorlint // the end itself
		s.release()
		return nil, err
	}
	kind, err := Detect(s.buf[:min(headSize, len(s.buf))], src.Info().Path)
	if err != nil {
		s.release()
		return nil, err
	}
	return newReader(s, kind), nil
}

// NewReader reads a whole object.
func NewReader(src storage.Object, kind Kind) *Reader {
	return newReader(newSource(src, 0, src.Info().Size), kind)
}

func newReader(s *source, kind Kind) *Reader { return &Reader{kind: kind, src: s} }

// Kind is how the object is compressed.
func (r *Reader) Kind() Kind { return r.kind }

// Buffer lends a buffer for the content, some hundred KiB to some MiB long. The
// holder may go on in a longer one, and gives this one back with Return.
func (r *Reader) Buffer() *[]byte {
	if r.kind != Plain {
		return buffers[chunk].Get().(*[]byte)
	}
	return borrow(r.src.size)
}

// Frames are the frames passed so far; after io.EOF all of them.
func (r *Reader) Frames() []Frame { return r.frames }

// BytesRead is how many stored bytes were read.
func (r *Reader) BytesRead() int64 { return r.src.read }

// Close frees what decompressors hold, and the buffers.
func (r *Reader) Close() {
	r.src.release()
	if r.zs != nil {
		r.zs.Close()
		r.zs = nil
	}
}

// Read implements io.Reader over the content.
func (r *Reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	for {
		if r.cur == nil {
			if err := r.next(); err != nil {
				r.err = err
				return 0, err
			}
		}
		n, err := r.cur.Read(p)
		r.at += int64(n)
		f := &r.frames[len(r.frames)-1]
		f.Size += int64(n)
		if err == io.EOF { //nolint:errorlint // the end itself
			f.Len = r.src.offset() - f.Off
			r.cur, err = nil, nil
		}
		if err != nil {
			r.err = damaged(r.kind, err)
			return n, r.err
		}
		if n > 0 || len(p) == 0 {
			return n, nil
		}
	}
}

// next opens the next frame; io.EOF behind the last.
func (r *Reader) next() error {
	if err := r.src.fill(); err != nil {
		return err
	}
	r.frames = append(r.frames, Frame{Off: r.src.offset(), Start: r.at})
	var err error
	switch r.kind {
	case Plain:
		r.cur = r.src
	case Gzip:
		err = r.openGzip()
	case Zstd:
		err = r.openZstd()
	case Snappy:
		err = r.openSnappy()
	case Hadoop:
		err = r.openHadoop()
	case Bzip2:
		r.cur = bzip2.NewReader(r.src) // takes several streams as one
	default:
		err = fmt.Errorf("%s: %w", r.kind, ErrUnsupported)
	}
	return damaged(r.kind, err)
}

func (r *Reader) openGzip() (err error) {
	if r.gz == nil {
		r.gz, err = gzip.NewReader(r.src)
	} else {
		err = r.gz.Reset(r.src)
	}
	if err != nil {
		return early(err)
	}
	r.gz.Multistream(false)
	r.cur = r.gz
	return nil
}

func (r *Reader) openZstd() error {
	n, skip, err := zstdFrame(r.src)
	if err != nil {
		return err
	}
	if skip {
		r.cur = empty{}
		return nil
	}
	body := &exactly{r: n}
	if r.zs == nil {
		r.zs, err = zstd.NewReader(body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
	} else {
		err = r.zs.Reset(body)
	}
	r.cur = r.zs
	return err
}

// exactly hides ReadByte and the like.
type exactly struct{ r io.Reader }

func (e *exactly) Read(p []byte) (int, error) { return e.r.Read(p) }

// empty is a frame without content.
type empty struct{}

func (empty) Read([]byte) (int, error) { return 0, io.EOF }

// openSnappy reads one chunk of the framing format: a type, a length of three
// bytes, and for data the masked CRC-32C of the content.
func (r *Reader) openSnappy() error {
	head, err := r.src.uint32(binary.LittleEndian)
	if err != nil {
		return err
	}
	kind, n := byte(head), int(head>>8)
	if r.raw = grown(r.raw, n); n > 0 {
		if err := r.src.full(r.raw); err != nil {
			return err
		}
	}
	switch {
	case kind == 0xff || kind >= 0x80: // identifier, padding, skippable
		r.cur = empty{}
		return nil
	case kind > 1 || n < 4:
		return fmt.Errorf("snappy: chunk of unknown type: %w", ErrCorrupt)
	}
	content := r.raw[4:]
	if kind == 0 {
		if k, err := snappy.DecodedLen(content); err != nil || k > 1<<16 {
			return fmt.Errorf("snappy: chunk too long: %w", ErrCorrupt)
		}
		if content, err = snappy.Decode(r.block[:cap(r.block)], content); err != nil {
			return err
		}
		r.block = content
	}
	if snappySum(content) != binary.LittleEndian.Uint32(r.raw) {
		return fmt.Errorf("snappy: checksum: %w", ErrCorrupt)
	}
	r.cur = &bytesReader{content}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// snappySum is the framing format's masked CRC-32C.
func snappySum(b []byte) uint32 {
	c := crc32.Checksum(b, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}

// openHadoop reads one block: the length of the content, then compressed
// pieces with their lengths until it is complete, all big endian.
func (r *Reader) openHadoop() error {
	want, err := r.src.uint32(binary.BigEndian)
	if err != nil {
		return err
	}
	if want > maxBlock {
		return fmt.Errorf("hadoop snappy: block too long: %w", ErrCorrupt)
	}
	r.block = r.block[:0]
	for uint32(len(r.block)) < want {
		n, err := r.src.uint32(binary.BigEndian)
		if err != nil {
			return err
		}
		if n > maxBlock {
			return fmt.Errorf("hadoop snappy: block too long: %w", ErrCorrupt)
		}
		r.raw = grown(r.raw, int(n))
		if err := r.src.full(r.raw); err != nil {
			return err
		}
		k, err := snappy.DecodedLen(r.raw)
		if err != nil || len(r.block)+k > int(want) {
			return fmt.Errorf("hadoop snappy: block: %w", ErrCorrupt)
		}
		piece, err := snappy.Decode(nil, r.raw)
		if err != nil {
			return err
		}
		r.block = append(r.block, piece...)
	}
	r.cur = &bytesReader{r.block}
	return nil
}

type bytesReader struct{ b []byte }

func (r *bytesReader) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.b)
	r.b = r.b[n:]
	return n, nil
}

func grown(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}
