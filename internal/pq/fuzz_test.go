package pq_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	"github.com/expunge/expunge/internal/pq"
	"github.com/expunge/expunge/internal/pq/writers"
)

// seedFiles are small files of many kinds.
func seedFiles(t testing.TB) [][]byte {
	var out [][]byte
	for name, codec := range codecs {
		r := rand.New(rand.NewPCG(1, uint64(len(name))))
		for version := 1; version <= 2; version++ {
			for _, typ := range []format.Type{format.Boolean, format.Int32, format.Int64, format.Int96, format.Double, format.ByteArray, format.FixedLenByteArray} {
				e := encodingsOf[typ]
				c := &column{name: "c", typ: typ, enc: e[r.IntN(len(e))], chain: chains[[]string{"req", "opt", "list2"}[r.IntN(3)]]}
				if typ == format.FixedLenByteArray {
					c.width = 5
				}
				c.generate(r, 30, 5)
				out = append(out, writeParquetGo(t, []*column{c}, codec, parquet.DataPageVersion(version), parquet.PageBufferSize(200)))
			}
		}
	}
	for _, f := range writers.Files() {
		out = append(out, f.Data)
	}
	return out
}

// typed says that an error is one of those that the package promises.
func typed(err error) bool {
	return errors.Is(err, pq.ErrCorrupt) || errors.Is(err, pq.ErrUnsupported)
}

// readEverything decodes all pages, indexes and filters of a file.
func readEverything(b []byte) error { return readWhole(b, false) }

// readWhole can leave the checksums out, so that a changed byte reaches the decoders.
func readWhole(b []byte, noCRC bool) error {
	ctx := context.Background()
	f, err := pq.Open(ctx, bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return err
	}
	for _, g := range f.RowGroups {
		for _, col := range f.Schema.Columns {
			c, err := g.Chunk(col)
			if err != nil {
				return err
			}
			x, err := c.OffsetIndex()
			if err != nil {
				return err
			}
			if x != nil {
				if _, err := c.ColumnIndex(len(x.PageLocations)); err != nil {
					return err
				}
			}
			if bl, err := c.Bloom(); err != nil {
				return err
			} else if bl != nil {
				bl.MayContain(1 << 63)
			}
			if _, err := c.Dictionary(ctx); err != nil {
				return err
			}
			for _, o := range []pq.ReadOptions{{Window: 64, NoCRC: noCRC}, {Index: x, NoCRC: noCRC}} {
				if err := decodeChunk(ctx, c, o); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func decodeChunk(ctx context.Context, c *pq.Chunk, o pq.ReadOptions) error {
	r := c.Pages(ctx, o)
	defer r.Close()
	dec := c.NewDecoder()
	var d pq.PageData
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if p.Header.Type == format.DictionaryPage {
			if err := dec.SetDictionary(p); err != nil {
				return err
			}
			continue
		}
		if err := dec.Decode(p, &d); err != nil {
			return err
		}
		if err := d.Values.Materialise(); err != nil {
			return err
		}
		if n := d.Defined; n > 0 {
			d.RowsOf(nil, d.EntriesOf(nil, []int32{0, int32(n - 1)}))
		}
	}
}

// FuzzFile: whatever a file holds, reading it gives its rows or an error of
// the promised kinds.
func FuzzFile(f *testing.F) {
	for _, b := range seedFiles(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := readWhole(b, true); err != nil && !typed(err) {
			t.Fatalf("untyped error: %v", err)
		}
	})
}

// FuzzPages changes single bytes of pages and indexes and leaves the footer as
// it is, so that every change reaches a decoder: patches are three bytes each,
// a place and a value.
func FuzzPages(f *testing.F) {
	seeds := seedFiles(f)
	for i := range seeds {
		f.Add(uint8(i), []byte{0, 10, 0xff, 0, 40, 0x80, 1, 0, 3})
	}
	f.Fuzz(func(t *testing.T, which uint8, patches []byte) {
		b := bytes.Clone(seeds[int(which)%len(seeds)])
		data := len(b) - 8 - int(binary.LittleEndian.Uint32(b[len(b)-8:])) - 4
		for ; len(patches) >= 3; patches = patches[3:] {
			b[4+int(binary.BigEndian.Uint16(patches))%data] ^= patches[2]
		}
		if err := readWhole(b, true); err != nil && !typed(err) {
			t.Fatalf("untyped error: %v", err)
		}
	})
}

// FuzzFooter mutates the serialised metadata alone.
func FuzzFooter(f *testing.F) {
	for _, b := range seedFiles(f) {
		file, err := pq.Open(context.Background(), bytes.NewReader(b), int64(len(b)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(file.Footer)
	}
	f.Add(bytes.Repeat([]byte{0x1c}, 1000))     // nested structs
	f.Add([]byte{0x29, 0xfc, 0xff, 0xff, 0x7f}) // a list that promises much
	f.Fuzz(func(t *testing.T, footer []byte) {
		b := append([]byte("PAR1"), footer...)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(footer)))
		b = append(b, "PAR1"...)
		if err := readWhole(b, true); err != nil && !typed(err) {
			t.Fatalf("untyped error: %v", err)
		}
	})
}

func FuzzPageHeader(f *testing.F) {
	for _, b := range seedFiles(f) {
		f.Add(b[4:min(len(b), 200)])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, short, err := pq.ParsePageHeader(b)
		if err != nil {
			if !typed(err) {
				t.Fatalf("untyped error: %v", err)
			}
			return
		}
		if short || n <= 0 || n > len(b) || h.CompressedSize < 0 || h.UncompressedSize < 0 || h.NumValues < 0 {
			t.Fatalf("accepted header of %d bytes: %+v", n, h)
		}
		// The header ends where it says: nothing behind it matters.
		if h2, n2, _, err := pq.ParsePageHeader(b[:n]); err != nil || n2 != n || h2.NumValues != h.NumValues {
			t.Fatal("header depends on what follows it")
		}
	})
}

func FuzzLevels(f *testing.F) {
	f.Add([]byte{0x03, 0x88, 0x06, 0x01}, uint8(1), uint16(11), false)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x0f, 0x01}, uint8(3), uint16(9), false)
	f.Add([]byte{0xaa, 0x55}, uint8(1), uint16(16), true)
	f.Fuzz(func(t *testing.T, src []byte, maxLevel uint8, n uint16, packed bool) {
		maxLevel = maxLevel%100 + 1
		enc := format.RLE
		if packed {
			enc = format.BitPacked
		}
		got, err := pq.DecodeLevels(nil, src, enc, int(maxLevel), int(n))
		if err != nil {
			if !typed(err) {
				t.Fatalf("untyped error: %v", err)
			}
			return
		}
		if len(got) != int(n) {
			t.Fatalf("%d levels for %d", len(got), n)
		}
		for _, l := range got {
			if l > maxLevel {
				t.Fatalf("level %d above %d", l, maxLevel)
			}
		}
	})
}

func FuzzValues(f *testing.F) {
	f.Add([]byte{8, 0, 0, 0, 0, 1, 2, 3}, uint8(format.ByteArray), uint8(format.Plain), uint16(2))
	f.Add([]byte{0x80, 0x01, 0x04, 0x03, 0x02, 0x02, 0, 0, 0, 0}, uint8(format.Int64), uint8(format.DeltaBinaryPacked), uint16(3))
	f.Add([]byte{3, 0x03, 0x88, 0xc6, 0xfa}, uint8(format.Int32), uint8(format.RLEDictionary), uint16(8))
	f.Fuzz(func(t *testing.T, src []byte, typ, enc uint8, n uint16) {
		col := &pq.Column{Type: format.Type(typ % 8), TypeLength: 0}
		if col.Type == format.FixedLenByteArray {
			col.TypeLength = int(typ) / 8
		}
		dict := new(pq.Values)
		if err := dict.DecodeValues(make([]byte, 4096), format.Plain, col, nil, 5); err != nil {
			t.Fatal(err)
		}
		var v pq.Values
		err := v.DecodeValues(src, format.Encoding(enc%12), col, dict, int(n))
		if err == nil {
			err = v.Materialise()
		}
		if err != nil {
			if !typed(err) {
				t.Fatalf("untyped error: %v", err)
			}
			return
		}
		if v.N != int(n) {
			t.Fatalf("%d values for %d", v.N, n)
		}
		for i := range v.N {
			plainOf(&v, i)
		}
	})
}
