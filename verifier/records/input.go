package records

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"github.com/golang/snappy"
	"github.com/klauspost/compress/zstd"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/warehouse"
)

// input is an object's content.
type input struct {
	io.Reader
	stored *counting
	stop   func()
}

func (i *input) read() int64 { return i.stored.n }

func (i *input) close() {
	if i.stop != nil {
		i.stop()
	}
}

type counting struct {
	r io.Reader
	n int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// decompress reads an object by what its first bytes say.
func decompress(obj storage.Object) (*input, error) {
	stored := &counting{r: storage.StreamRange(obj, 0, obj.Info().Size)}
	buffered := bufio.NewReaderSize(stored, 256<<10)
	in := &input{Reader: buffered, stored: stored}
	head, err := buffered.Peek(10)
	if err != nil && err != io.EOF { //nolint:errorlint // the end itself
		return nil, err
	}
	switch {
	case len(head) >= 2 && head[0] == 0x1f && head[1] == 0x8b:
		in.Reader, err = gzip.NewReader(buffered)
	case len(head) >= 4 && (bytes.Equal(head[:4], []byte("\x28\xb5\x2f\xfd")) || bytes.Equal(head[1:4], []byte("\x2a\x4d\x18")) && head[0]>>4 == 5):
		var z *zstd.Decoder
		if z, err = zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1)); err == nil {
			in.Reader, in.stop = z, z.Close
		}
	case bytes.Equal(head, []byte("\xff\x06\x00\x00sNaPpY")):
		in.Reader = snappy.NewReader(buffered)
	case len(head) == 10 && string(head[:3]) == "BZh" && (string(head[4:]) == "1AY&SY" || string(head[4:]) == "\x17\x72\x45\x38\x50\x90"):
		in.Reader = bzip2.NewReader(buffered)
	case strings.HasSuffix(strings.ToLower(obj.Info().Path), ".snappy"):
		in.Reader = &hadoop{r: buffered}
	default:
		err = nil
	}
	if err != nil && err != io.EOF { //nolint:errorlint // the end itself
		return nil, fmt.Errorf("compressed data: %w", warehouse.ErrUnsupported)
	}
	return in, nil
}

// hadoop reads the blocks of Hadoop's Snappy codec.
type hadoop struct {
	r    io.Reader
	left uint32 // content bytes of the block still to come
	out  []byte
}

func (h *hadoop) Read(p []byte) (int, error) {
	for len(h.out) == 0 {
		var n [4]byte
		if _, err := io.ReadFull(h.r, n[:]); err != nil {
			return 0, err
		}
		if h.left == 0 {
			h.left = binary.BigEndian.Uint32(n[:])
			continue
		}
		packed := make([]byte, min(binary.BigEndian.Uint32(n[:]), 256<<20))
		if _, err := io.ReadFull(h.r, packed); err != nil {
			return 0, err
		}
		var err error
		if h.out, err = snappy.Decode(nil, packed); err != nil {
			return 0, err
		}
		h.left -= min(h.left, uint32(len(h.out)))
	}
	n := copy(p, h.out)
	h.out = h.out[n:]
	return n, nil
}
