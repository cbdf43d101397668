package packed

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// A stored file does not say which level wrote it. What is encoded anew must
// not be larger than it was, so a sample of the content is encoded at each
// level, the cheap ones first, until one does about as well as the frame's own
// ratio; the sample sees less context than the frame did, hence the allowance.
const (
	sampleSize = 1 << 20
	allowance  = 1.005
)

// sampled reads the sample and picks a level from levels, ascending.
func sampled(in io.Reader, f Frame, levels []int, encode func(level int, content []byte) (int, error)) (int, io.Reader, error) {
	sample := make([]byte, min(sampleSize, f.Size))
	n, err := io.ReadFull(in, sample)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF { //nolint:errorlint // ReadFull's own
		return 0, nil, err
	}
	sample = sample[:n]
	rest := io.MultiReader(bytes.NewReader(sample), in)
	want := float64(f.Len) / float64(f.Size) * float64(n) * allowance
	for _, level := range levels[:len(levels)-1] {
		got, err := encode(level, sample)
		if err != nil {
			return 0, nil, err
		}
		if float64(got) <= want {
			return level, rest, nil
		}
	}
	return levels[len(levels)-1], rest, nil
}

type gzipHeader = gzip.Header

var gzipLevels = []int{1, 3, 5, 6, 7, 8, 9}

// gzip writes a member with the old member's name, comment, time and extra
// fields. The block size that BGZF keeps in an extra field is set anew.
func (w *rewrite) gzip(f Frame, edits []Edit) error {
	r, in := w.content(f, edits)
	defer r.Close()
	level, in, err := sampled(in, f, gzipLevels, func(level int, content []byte) (int, error) {
		var n counter
		err := gzipWrite(&n, gzipHeader{}, level, bytes.NewReader(content))
		return int(n), err
	})
	if err != nil {
		return err
	}
	head := r.gz.Header
	at := bgzfSize(head.Extra)
	if at < 0 {
		return gzipWrite(w, head, level, in)
	}
	var member bytes.Buffer
	if err := gzipWrite(&member, head, level, in); err != nil {
		return err
	}
	if member.Len() > 1<<16 {
		return fmt.Errorf("bgzf: block does not fit: %w", ErrUnsupported)
	}
	// The extra field begins behind the ten bytes of the header and its length.
	binary.LittleEndian.PutUint16(member.Bytes()[12+at:], uint16(member.Len()-1))
	_, err = w.Write(member.Bytes())
	return err
}

// bgzfSize is where in an extra field (RFC 1952) BGZF keeps its block size, or -1.
func bgzfSize(extra []byte) int {
	for at := 0; at+4 <= len(extra); {
		n := int(binary.LittleEndian.Uint16(extra[at+2:]))
		if string(extra[at:at+2]) == "BC" && n == 2 && at+6 <= len(extra) {
			return at + 4
		}
		at += 4 + n
	}
	return -1
}

func gzipWrite(dst io.Writer, head gzipHeader, level int, in io.Reader) error {
	z, err := gzip.NewWriterLevel(dst, level)
	if err != nil {
		return err
	}
	z.Header = head
	if _, err := io.CopyBuffer(struct{ io.Writer }{z}, in, make([]byte, 64<<10)); err != nil {
		return err
	}
	return z.Close()
}

type counter int

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

var zstdLevels = []int{int(zstd.SpeedFastest), int(zstd.SpeedDefault), int(zstd.SpeedBetterCompression), int(zstd.SpeedBestCompression)}

func (w *rewrite) zstd(f Frame, edits []Edit) error {
	r, in := w.content(f, edits)
	defer r.Close()
	level, in, err := sampled(in, f, zstdLevels, func(level int, content []byte) (int, error) {
		var n counter
		err := zstdWrite(&n, level, bytes.NewReader(content))
		return int(n), err
	})
	if err != nil {
		return err
	}
	return zstdWrite(w, level, in)
}

// zstdWrite writes one frame; level 0 is the default.
func zstdWrite(dst io.Writer, level int, in io.Reader) error {
	if level == 0 {
		level = int(zstd.SpeedDefault)
	}
	z, err := zstd.NewWriter(dst, zstd.WithEncoderLevel(zstd.EncoderLevel(level)), zstd.WithEncoderConcurrency(1),
		zstd.WithAllLitEntropyCompression(true), zstd.WithZeroFrames(true))
	if err != nil {
		return err
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{z}, in, make([]byte, 64<<10)); err != nil {
		z.Close()
		return err
	}
	return z.Close()
}
