package packed

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/klauspost/compress/snappy"

	"github.com/expunge/expunge/internal/storage"
)

// Stats says what a Rewrite did, in stored bytes of the result.
type Stats struct {
	Copied, Encoded int64 // their sum is the result's size
	FramesTouched   int
}

// Rewrite writes the content of src with the edits made to dst. frames are
// those of a Reader that read the whole of src. Frames without an edit are
// copied as they are; a frame that is left without content goes.
func Rewrite(ctx context.Context, src storage.Object, dst storage.Writer, kind Kind, frames []Frame, edits []Edit) (Stats, error) {
	w := &rewrite{src: src, dst: dst, kind: kind}
	for _, f := range frames {
		if err := ctx.Err(); err != nil {
			return w.stats, err
		}
		mine := overlap(edits, f)
		for len(edits) > 0 && edits[0].Off+edits[0].Len <= f.End() && f.Size > 0 {
			edits = edits[1:]
		}
		if err := w.frame(f, mine); err != nil {
			return w.stats, err
		}
	}
	return w.stats, w.flush()
}

// overlap are the edits that touch a frame, cut to it. What a replacement
// brings goes where its range begins.
func overlap(edits []Edit, f Frame) []Edit {
	var out []Edit
	for _, e := range edits {
		if e.Off >= f.End() || f.Size == 0 {
			break
		}
		end := min(e.Off+e.Len, f.End())
		cut := Edit{Off: max(e.Off, f.Start), With: e.With}
		if e.Off < f.Start {
			cut.With = nil
		}
		if cut.Len = end - cut.Off; cut.Len > 0 || len(cut.With) > 0 {
			out = append(out, cut)
		}
	}
	return out
}

type rewrite struct {
	src       storage.Object
	dst       storage.Writer
	kind      Kind
	off, held int64 // a stored range that waits to be copied
	stats     Stats
}

// copy holds a stored range back, to copy it together with its neighbours.
func (w *rewrite) copy(off, n int64) error {
	if n == 0 {
		return nil
	}
	if w.held > 0 && w.off+w.held == off {
		w.held += n
		return nil
	}
	if err := w.flush(); err != nil {
		return err
	}
	w.off, w.held = off, n
	return nil
}

func (w *rewrite) flush() error {
	n := w.held
	w.held = 0
	if n == 0 {
		return nil
	}
	w.stats.Copied += n
	return storage.CopyRange(w.dst, w.src, w.off, n)
}

// Write counts what was produced anew.
func (w *rewrite) Write(p []byte) (int, error) {
	w.stats.Encoded += int64(len(p))
	return w.dst.Write(p)
}

func (w *rewrite) frame(f Frame, edits []Edit) error {
	if len(edits) == 0 {
		return w.copy(f.Off, f.Len)
	}
	w.stats.FramesTouched++
	if w.kind == Plain {
		return w.plain(f, edits)
	}
	if left(f, edits) == 0 {
		return nil
	}
	if err := w.flush(); err != nil {
		return err
	}
	switch w.kind {
	case Gzip:
		return w.gzip(f, edits)
	case Zstd:
		return w.zstd(f, edits)
	case Snappy, Hadoop:
		return w.snappy(f, edits)
	}
	return fmt.Errorf("%s is read and not written: %w", w.kind, ErrUnsupported)
}

// left is the size of a frame's content after the edits.
func left(f Frame, edits []Edit) int64 {
	n := f.Size
	for _, e := range edits {
		n += int64(len(e.With)) - e.Len
	}
	return n
}

// spliceGap is how long a range must be to be worth a copy of its own: stores
// copy no part below 5 MiB, and each range that they do not is a request.
const spliceGap = 8 << 20

// plain copies the long ranges between the edits; where edits lie closer, the
// content is read through.
func (w *rewrite) plain(f Frame, edits []Edit) error {
	at := f.Start
	for len(edits) > 0 {
		if gap := edits[0].Off - at; gap >= spliceGap {
			if err := w.copy(f.Off+at-f.Start, gap); err != nil {
				return err
			}
			at = edits[0].Off
		}
		n := 1
		for n < len(edits) && edits[n].Off-edits[n-1].Off-edits[n-1].Len < spliceGap {
			n++
		}
		end := edits[n-1].Off + edits[n-1].Len
		if f.End()-end < spliceGap {
			end = f.End()
		}
		if err := w.through(f, at, end, edits[:n]); err != nil {
			return err
		}
		at, edits = end, edits[n:]
	}
	return w.copy(f.Off+at-f.Start, f.End()-at)
}

// through reads the content from one position to another and makes the edits.
func (w *rewrite) through(f Frame, from, to int64, edits []Edit) error {
	if err := w.flush(); err != nil {
		return err
	}
	part := Frame{Off: f.Off + from - f.Start, Len: to - from, Start: from, Size: to - from}
	r, in := w.content(part, edits)
	defer r.Close()
	buf := borrow(part.Size)
	defer Return(buf)
	n, err := io.CopyBuffer(struct{ io.Writer }{w.dst}, struct{ io.Reader }{in}, *buf)
	if err != nil {
		return err
	}
	brought := int64(0)
	for _, e := range edits {
		brought += int64(len(e.With))
	}
	w.stats.Copied, w.stats.Encoded = w.stats.Copied+n-brought, w.stats.Encoded+brought
	return nil
}

// content reads a frame's content with the edits made.
func (w *rewrite) content(f Frame, edits []Edit) (*Reader, io.Reader) {
	r := newReader(newSource(w.src, f.Off, f.Len), w.kind)
	return r, &edited{r: r, at: f.Start, edits: edits}
}

// edited makes edits while it reads.
type edited struct {
	r     io.Reader
	at    int64
	edits []Edit
	with  []byte
}

func (e *edited) Read(p []byte) (int, error) {
	for {
		if len(e.with) > 0 {
			n := copy(p, e.with)
			e.with = e.with[n:]
			return n, nil
		}
		if len(e.edits) > 0 && e.edits[0].Off == e.at {
			n, err := io.CopyN(io.Discard, e.r, e.edits[0].Len)
			e.at += n
			if err != nil {
				return 0, early(err)
			}
			e.with, e.edits = e.edits[0].With, e.edits[1:]
			continue
		}
		if len(e.edits) > 0 {
			p = p[:min(int64(len(p)), e.edits[0].Off-e.at)]
		}
		n, err := e.r.Read(p)
		e.at += int64(n)
		if err == io.EOF && len(e.edits) > 0 { //nolint:errorlint // the end itself
			err = io.ErrUnexpectedEOF
		}
		return n, err
	}
}

// snappy keeps the frame's layout: chunks of at most 64 KiB with a checksum,
// or one block of Hadoop's.
func (w *rewrite) snappy(f Frame, edits []Edit) error {
	r, in := w.content(f, edits)
	defer r.Close()
	data, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	if w.kind == Hadoop {
		_, err = w.Write(hadoopBlock(data))
		return err
	}
	for len(data) > 0 {
		n := min(len(data), 1<<16)
		if _, err := w.Write(snappyChunk(data[:n])); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

func snappyChunk(content []byte) []byte {
	packed := snappy.Encode(nil, content)
	kind := uint32(0)
	if len(packed) >= len(content)-len(content)/8 { // as the format's reference encoder decides
		packed, kind = content, 1
	}
	out := binary.LittleEndian.AppendUint32(nil, kind|uint32(len(packed)+4)<<8)
	out = binary.LittleEndian.AppendUint32(out, snappySum(content))
	return append(out, packed...)
}

func hadoopBlock(content []byte) []byte {
	out := binary.BigEndian.AppendUint32(nil, uint32(len(content)))
	packed := snappy.Encode(nil, content)
	out = binary.BigEndian.AppendUint32(out, uint32(len(packed)))
	return append(out, packed...)
}

// Empty is a file of the kind without content, for objects that are kept empty.
func Empty(kind Kind, content []byte) ([]byte, error) {
	var out bytes.Buffer
	switch kind {
	case Plain:
		return content, nil
	case Gzip:
		err := gzipWrite(&out, gzipHeader{}, 6, bytes.NewReader(content))
		return out.Bytes(), err
	case Zstd:
		err := zstdWrite(&out, 0, bytes.NewReader(content))
		return out.Bytes(), err
	case Snappy:
		out.Write(snappyMagic)
		if len(content) > 0 {
			out.Write(snappyChunk(content))
		}
		return out.Bytes(), nil
	case Hadoop:
		if len(content) == 0 {
			return nil, nil
		}
		return hadoopBlock(content), nil
	}
	return nil, fmt.Errorf("%s is read and not written: %w", kind, ErrUnsupported)
}
