package keyset

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"runtime"
	"time"
)

// The frozen form, all integers little endian:
//
//	"EXPKEYS" version:1
//	header   length:4  JSON frozenHeader
//	keys     Keys canonical keys in order; of variable length each as uvarint and bytes
//	requests Requests times: id (uvarint, bytes), received (varint seconds, uvarint
//	         nanoseconds; 0 and 0xffffffff = unknown), held (uvarint)
//	lists    Lists times: uvarint length, uvarint request indexes
//	asked    Keys times 4 bytes (only where Requests > 0), see asked.of
//	digest   32 bytes of SHA-256 over all before it
//
// It holds the keys in clear. Filter and index are not stored: Read builds and
// checks them anew, under a seed of its own, so that equal sets freeze to equal
// bytes.

const (
	frozenMagic   = "EXPKEYS\x01"
	frozenHeadMax = 1 << 20
	// frozenStep bounds what a length in the input may allocate ahead of its bytes.
	frozenStep   = 1 << 16
	frozenKeyMax = maxRecord * 2
	unknownNanos = math.MaxUint32
)

type frozenHeader struct {
	Name     string `json:"name"`
	Schema   Schema `json:"schema"`
	Keys     uint64 `json:"keys"`
	Requests uint64 `json:"requests,omitempty"`
	Lists    uint64 `json:"lists,omitempty"`
}

// WriteTo writes the frozen form, in clear: callers seal it.
func (s *Set) WriteTo(w io.Writer) (int64, error) {
	defer runtime.KeepAlive(s)
	out := &frozenWriter{sum: sha256.New()}
	out.w = bufio.NewWriterSize(io.MultiWriter(w, out.sum), 1<<16)
	head, err := json.Marshal(frozenHeader{Name: s.name, Schema: s.schema, Keys: uint64(s.Len()),
		Requests: uint64(len(s.asked.requests)), Lists: uint64(len(s.asked.lists))})
	if err != nil {
		return 0, fmt.Errorf("encode keyset header: %w", err)
	}
	out.write([]byte(frozenMagic))
	out.write(binary.LittleEndian.AppendUint32(nil, uint32(len(head))))
	out.write(head)
	width := setWidth(s)
	for key := range s.All() {
		if width == 0 {
			out.uvarint(uint64(len(key)))
		}
		if out.write(key); out.err != nil {
			break
		}
	}
	out.asked(&s.asked, s.Len())
	if out.err == nil {
		out.err = out.w.Flush()
	}
	if out.err == nil {
		var n int
		n, out.err = w.Write(out.sum.Sum(nil))
		out.n += int64(n)
	}
	if out.err != nil {
		return out.n, fmt.Errorf("write keyset: %w", out.err)
	}
	return out.n, nil
}

// frozenWriter keeps the first error.
type frozenWriter struct {
	w   *bufio.Writer
	sum hash.Hash
	n   int64
	err error
	buf [binary.MaxVarintLen64]byte
}

func (w *frozenWriter) write(b []byte) {
	if w.err == nil {
		var n int
		n, w.err = w.w.Write(b)
		w.n += int64(n)
	}
}

func (w *frozenWriter) uvarint(v uint64) { w.write(binary.AppendUvarint(w.buf[:0], v)) }

func (w *frozenWriter) asked(a *asked, keys int) {
	for _, r := range a.requests {
		w.uvarint(uint64(len(r.ID)))
		w.write([]byte(r.ID))
		sec, nano := int64(0), uint64(unknownNanos)
		if !r.Received.IsZero() {
			sec, nano = r.Received.Unix(), uint64(r.Received.Nanosecond())
		}
		w.write(binary.AppendVarint(w.buf[:0], sec))
		w.uvarint(nano)
		w.uvarint(uint64(r.Held))
	}
	for _, l := range a.lists {
		w.uvarint(uint64(len(l)))
		for _, r := range l {
			w.uvarint(uint64(r))
		}
	}
	if len(a.requests) == 0 {
		return
	}
	for i := range keys {
		code := uint32(0)
		if a.of != nil {
			code = a.of[i]
		}
		w.write(binary.LittleEndian.AppendUint32(w.buf[:0], code))
	}
}

// Read reads a frozen set and indexes it. Input that is damaged in any way is
// ErrMalformed; memory grows with what was read, not with what a length claims.
func Read(r io.Reader) (*Set, error) {
	in := &frozenReader{sum: sha256.New()}
	in.r = bufio.NewReaderSize(r, 1<<16)
	head := in.header()
	if in.err != nil {
		return nil, in.fail()
	}
	b := in.keys(head)
	a := in.asked(head)
	want := in.sum.Sum(nil)
	var digest [sha256.Size]byte
	in.full(digest[:])
	if in.err != nil {
		return nil, in.fail()
	}
	if !bytes.Equal(want, digest[:]) {
		return nil, fmt.Errorf("read keyset: %w: checksum", ErrMalformed)
	}
	if _, err := in.r.ReadByte(); err != io.EOF {
		return nil, fmt.Errorf("read keyset: %w: trailing bytes", ErrMalformed)
	}
	s, err := setFromSorted(head.Name, head.Schema, b, newSeed(), runtime.GOMAXPROCS(0))
	if err != nil {
		return nil, fmt.Errorf("index keyset: %w", err)
	}
	s.asked = a
	return s, nil
}

// frozenReader keeps the first error.
type frozenReader struct {
	r   *bufio.Reader
	sum hash.Hash
	err error
	one [1]byte
}

// errFrozen is any damage; where it lies helps nobody.
var errFrozen = fmt.Errorf("%w: frozen keyset", ErrMalformed)

func (r *frozenReader) fail() error {
	if errors.Is(r.err, io.EOF) || errors.Is(r.err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("read keyset: %w: cut off", ErrMalformed)
	}
	return fmt.Errorf("read keyset: %w", r.err)
}

func (r *frozenReader) full(b []byte) {
	if r.err != nil {
		return
	}
	if _, r.err = io.ReadFull(r.r, b); r.err == nil {
		r.sum.Write(b)
	}
}

// ReadByte is for the varints.
func (r *frozenReader) ReadByte() (byte, error) {
	r.full(r.one[:])
	return r.one[0], r.err
}

func (r *frozenReader) uvarint(limit uint64) uint64 {
	if r.err != nil {
		return 0
	}
	v, err := binary.ReadUvarint(r)
	if r.err == nil && (err != nil || v > limit) {
		r.err = errFrozen
	}
	return v
}

// bytes appends n bytes to dst, in steps.
func (r *frozenReader) bytes(dst []byte, n uint64) []byte {
	for n > 0 && r.err == nil {
		step := int(min(n, frozenStep))
		at := len(dst)
		dst = append(dst, make([]byte, step)...)
		r.full(dst[at:])
		n -= uint64(step)
	}
	return dst
}

func (r *frozenReader) header() (h frozenHeader) {
	var start [len(frozenMagic) + 4]byte
	r.full(start[:])
	if r.err != nil {
		return h
	}
	n := binary.LittleEndian.Uint32(start[len(frozenMagic):])
	if string(start[:len(frozenMagic)]) != frozenMagic {
		r.err = fmt.Errorf("%w: not a frozen keyset of this version", ErrMalformed)
		return h
	}
	if n > frozenHeadMax {
		r.err = errFrozen
		return h
	}
	head := r.bytes(nil, uint64(n))
	if r.err != nil {
		return h
	}
	if json.Unmarshal(head, &h) != nil || h.Schema.Validate() != nil || h.Keys > maxKeys || h.Requests >= listBit || h.Lists >= listBit {
		r.err = errFrozen
	}
	return h
}

// keys reads the keys and checks that each is canonical and above the one before.
func (r *frozenReader) keys(h frozenHeader) (b keyBuf) {
	width := 0
	if len(h.Schema) == 1 {
		width = h.Schema[0].Type.width()
	}
	var key, last, block []byte
	var parts [][]byte
	for i := uint64(0); i < h.Keys && r.err == nil; i++ {
		switch {
		case width == 0:
			key = r.bytes(key[:0], r.uvarint(frozenKeyMax))
		case len(block) == 0:
			block = r.bytes(nil, min(h.Keys-i, frozenStep/16)*uint64(width))
			fallthrough
		default:
			if r.err == nil {
				key, block = append(key[:0], block[:width]...), block[width:]
			}
		}
		if r.err != nil {
			return b
		}
		var err error
		if parts, err = h.Schema.SplitTuple(parts[:0], key); err != nil || i > 0 && bytes.Compare(last, key) >= 0 {
			r.err = errFrozen
			return b
		}
		b.add(key, width, 0)
		last, key = key, last
	}
	return b
}

func (r *frozenReader) asked(h frozenHeader) (a asked) {
	if h.Requests == 0 {
		if h.Lists != 0 && r.err == nil {
			r.err = errFrozen
		}
		return a
	}
	for i := uint64(0); i < h.Requests && r.err == nil; i++ {
		a.requests = append(a.requests, r.request())
	}
	for i := uint64(0); i < h.Lists && r.err == nil; i++ {
		n := r.uvarint(h.Requests)
		var l []uint32
		for j := uint64(0); j < n && r.err == nil; j++ {
			l = append(l, uint32(r.uvarint(h.Requests-1)))
		}
		a.lists = append(a.lists, l)
	}
	var code [4]byte
	for i := uint64(0); i < h.Keys && r.err == nil; i++ {
		r.full(code[:])
		c := binary.LittleEndian.Uint32(code[:])
		if uint64(c) > h.Requests+h.Lists {
			r.err = errFrozen
			return a
		}
		a.of = append(a.of, c)
		for _, q := range a.expand(c) {
			a.requests[q].Keys++
		}
	}
	return a
}

func (r *frozenReader) request() (q Request) {
	q.ID = string(r.bytes(nil, r.uvarint(maxRecord)))
	if r.err != nil {
		return q
	}
	sec, err := binary.ReadVarint(r)
	if err != nil && r.err == nil {
		r.err = errFrozen
	}
	if nano := r.uvarint(unknownNanos); nano != unknownNanos {
		q.Received = time.Unix(sec, int64(nano%1e9)).UTC()
	}
	q.Held = int(r.uvarint(math.MaxInt32))
	return q
}
