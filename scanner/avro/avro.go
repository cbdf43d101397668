// Package avro finds the records of Avro object container files that hold a
// key, and the bytes of the blocks to cut.
//
// A file is a header (schema, codec, sync marker) and blocks of records, each
// compressed by itself (Avro specification 1.11, "Object Container Files").
// Records are walked by the writer's schema, so that their ranges in a block
// and the values of the key columns are known; nothing is decoded into objects
// or written back. Blocks without a hit stay as they are stored.
//
// Columns are paths of record fields: a.b, a.element.b or a[*].b through an
// array, a.value through a map; unions are passed through.
package avro

import (
	"bytes"
	"compress/bzip2"
	"compress/flate"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"

	"github.com/expunge/expunge/internal/packed"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/scanner"
)

// Errors of a file.
var (
	// ErrCorrupt: the file contradicts itself or its schema.
	ErrCorrupt = errors.New("corrupt Avro file")
	// ErrUnsupported: no Avro container file, or one in a codec that is not read.
	ErrUnsupported = errors.New("unsupported Avro file")
)

var magic = []byte("Obj\x01")

// maxBlock bounds what one block may take in memory.
const maxBlock = 256 << 20

// Scan reads an object. Hits can be removed only.
func Scan(ctx context.Context, src storage.Object, req scanner.Records) (*scanner.RecordsFound, error) {
	s := &scan{req: req, in: &input{src: src, size: src.Info().Size}, found: scanner.NewRecordsFound(len(req.Match))}
	var err error
	if s.tuples, err = scanner.NewTuples(req.Match); err != nil {
		return nil, err
	}
	if err := s.header(); err != nil {
		return nil, err
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		more, err := s.block()
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
	}
	f := s.found
	f.Present, f.Values, f.Foreign, f.BytesRead = s.tuples.HavePresent, s.tuples.Values, s.tuples.Foreign, s.in.read
	f.Keys = s.tuples.Keys
	return f, nil
}

type scan struct {
	req    scanner.Records
	in     *input
	found  *scanner.RecordsFound
	tuples *scanner.Tuples
	schema *typ
	root   *path
	place  scanner.Place
	data   []byte // the block's, decompressed
	pos    int
	depth  int
}

// header reads the schema, the codec and the sync marker.
func (s *scan) header() error {
	head, err := s.in.take(4)
	if err != nil || !bytes.Equal(head, magic) {
		return orElse(err, fmt.Errorf("no Avro container file: %w", ErrUnsupported))
	}
	meta := map[string][]byte{}
	for {
		n, err := s.in.long()
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		if n < 0 { // its size in bytes follows
			if _, err := s.in.long(); err != nil {
				return err
			}
			n = -n
		}
		for range n {
			key, err := s.in.bytes()
			if err != nil {
				return err
			}
			name := string(key)
			if meta[name], err = s.in.bytes(); err != nil {
				return err
			}
		}
	}
	sync, err := s.in.take(16)
	if err != nil {
		return err
	}
	copy(s.found.Sync[:], sync)
	if s.found.Codec = string(meta["avro.codec"]); s.found.Codec == "" {
		s.found.Codec = "null"
	}
	if s.schema, err = parseSchema(meta["avro.schema"]); err != nil {
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	if s.root, err = newPaths(s.req.Match); err != nil {
		return err
	}
	head = make([]byte, s.in.offset())
	if err := storage.ReadFull(s.in.src, head, 0); err != nil {
		return err
	}
	s.found.Header = head
	return nil
}

// block reads one block; false behind the last.
func (s *scan) block() (bool, error) {
	b := scanner.Block{Off: s.in.offset()}
	if b.Off == s.in.size {
		return false, nil
	}
	count, err := s.in.long()
	if err != nil {
		return false, err
	}
	raw, err := s.in.bytes()
	if err != nil {
		return false, err
	}
	if s.data, err = Decompress(s.found.Codec, raw); err != nil {
		return false, err
	}
	sync, err := s.in.take(16)
	if err != nil {
		return false, err
	}
	if !bytes.Equal(sync, s.found.Sync[:]) || count < 0 || count > 1<<31 {
		return false, fmt.Errorf("sync marker: %w", ErrCorrupt)
	}
	s.pos = 0
	for range count {
		if err := s.record(&b); err != nil {
			return false, err
		}
	}
	if s.pos != len(s.data) {
		return false, fmt.Errorf("bytes behind the last record of a block: %w", ErrCorrupt)
	}
	if b.Len = s.in.offset() - b.Off; len(b.Edits) > 0 {
		s.found.Blocks = append(s.found.Blocks, b)
	}
	return true, nil
}

func (s *scan) record(b *scanner.Block) error {
	from := s.pos
	row := s.found.Rows
	s.found.Rows++
	s.tuples.Reset()
	s.place = scanner.NoPlace
	if err := s.value(s.schema, s.root); err != nil {
		return fmt.Errorf("record %d: %w", row, err)
	}
	hit := s.req.Every
	for m, h := range s.tuples.Finish() {
		if h {
			s.found.PerMatch[m]++
			hit = true
		}
	}
	if hit {
		s.found.Hits.Add(uint64(row))
	}
	if hit == s.req.Invert {
		b.Left++
		return nil
	}
	if s.pos > from {
		b.Edits = packed.AddEdit(b.Edits, packed.Edit{Off: int64(from), Len: int64(s.pos - from)})
	}
	return nil
}

func orElse(err, other error) error {
	var store *storage.Error
	if errors.As(err, &store) {
		return err
	}
	return other
}

// Decompress is a block's data.
func Decompress(codec string, raw []byte) ([]byte, error) {
	bad := func(err error) error {
		if err == nil {
			return nil
		}
		return fmt.Errorf("%s block: %w", codec, ErrCorrupt)
	}
	switch codec {
	case "null":
		return raw, nil
	case "deflate":
		out, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(raw)), maxBlock))
		return out, bad(err)
	case "snappy":
		if len(raw) < 4 {
			return nil, bad(ErrCorrupt)
		}
		n, err := snappy.DecodedLen(raw[:len(raw)-4])
		if err != nil || n > maxBlock {
			return nil, bad(ErrCorrupt)
		}
		out, err := snappy.Decode(nil, raw[:len(raw)-4])
		if err == nil && crc32.ChecksumIEEE(out) != binary.BigEndian.Uint32(raw[len(raw)-4:]) {
			err = ErrCorrupt
		}
		return out, bad(err)
	case "zstandard":
		z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxBlock))
		if err != nil {
			return nil, err
		}
		defer z.Close()
		out, err := z.DecodeAll(raw, nil)
		return out, bad(err)
	case "bzip2":
		out, err := io.ReadAll(io.LimitReader(bzip2.NewReader(bytes.NewReader(raw)), maxBlock))
		return out, bad(err)
	}
	return nil, fmt.Errorf("codec %.20q: %w", codec, ErrUnsupported)
}

// BlockData reads a block again.
func BlockData(src storage.Object, codec string, b scanner.Block) ([]byte, error) {
	in := &input{src: src, size: b.Off + b.Len, at: b.Off}
	if _, err := in.long(); err != nil {
		return nil, err
	}
	raw, err := in.bytes()
	if err != nil {
		return nil, err
	}
	return Decompress(codec, raw)
}
