package verifier

import (
	"bufio"
	"encoding/binary"
	"io"
)

// headerBounds reads a chunk's page headers as they are stored and returns
// every byte string in them: the bounds, with the deprecated pair that
// libraries pass over, and whatever a later version of the format adds.
func headerBounds(f *parquetFile, rg, col int) (out [][]byte, err error) {
	err = eachHeader(f, rg, col, func(h *thriftSkim) bool {
		out = append(out, h.binary...)
		return true
	})
	return out, err
}

// eachHeader visits a chunk's page headers without decompressing a page.
func eachHeader(f *parquetFile, rg, col int, visit func(h *thriftSkim) bool) error {
	m := f.MetaData().RowGroups[rg].Columns[col].GetMetaData()
	from := m.GetDataPageOffset()
	if m.IsSetDictionaryPageOffset() && m.GetDictionaryPageOffset() > 0 {
		from = min(from, m.GetDictionaryPageOffset())
	}
	size := m.GetTotalCompressedSize()
	if from < 0 || size < 0 {
		return errCorrupt
	}
	in := bufio.NewReaderSize(io.NewSectionReader(f.src, from, size), int(min(readBuffer, max(size, 16))))
	for {
		if _, err := in.Peek(1); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		h := thriftSkim{in: in, encoding: -1}
		h.structure(0, 0)
		if h.err != nil || h.pageSize < 0 {
			return errCorrupt
		}
		if !visit(&h) {
			return nil
		}
		if _, err := in.Discard(int(h.pageSize)); err != nil {
			return errCorrupt
		}
	}
}

// thriftSkim walks a struct of Thrift's compact protocol and keeps its byte
// strings and what is needed of a PageHeader.
type thriftSkim struct {
	in       *bufio.Reader
	err      error
	binary   [][]byte
	pageSize int64 // PageHeader.compressed_page_size, field 3
	encoding int64 // of a data page's values; -1 = no data page
}

// integer keeps the fields of interest: parent is the field id of the struct
// that holds it, 0 for the header itself.
func (t *thriftSkim) integer(parent, id, v int64) {
	switch {
	case parent == 0 && id == 3:
		t.pageSize = v
	case parent == 5 && id == 2, parent == 8 && id == 4: // DataPageHeader, DataPageHeaderV2
		t.encoding = v
	}
}

// Type numbers of the compact protocol.
const (
	ctTrue, ctFalse, ctByte                   = 1, 2, 3
	ctI16, ctI32, ctI64, ctDouble             = 4, 5, 6, 7
	ctBinary, ctList, ctSet, ctMap, ctStructT = 8, 9, 10, 11, 12
)

// Limits against input that only pretends to be a header.
const (
	maxThriftDepth  = 8
	maxThriftBinary = 16 << 20
	maxThriftList   = 1 << 20
)

func (t *thriftSkim) fail() { t.err = errCorrupt }

func (t *thriftSkim) byte() byte {
	b, err := t.in.ReadByte()
	if err != nil {
		t.fail()
	}
	return b
}

func (t *thriftSkim) uvarint() uint64 {
	v, err := binary.ReadUvarint(t.in)
	if err != nil {
		t.fail()
	}
	return v
}

func (t *thriftSkim) zigzag() int64 {
	v := t.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

func (t *thriftSkim) structure(depth int, parent int64) {
	if depth > maxThriftDepth {
		t.fail()
	}
	var id int64
	for t.err == nil {
		b := t.byte()
		if b == 0 || t.err != nil {
			return
		}
		if delta := int64(b >> 4); delta != 0 {
			id += delta
		} else {
			id = t.zigzag()
		}
		typ := b & 15
		switch {
		case typ == ctTrue || typ == ctFalse: // the value is in the type
		case typ == ctI32 && depth <= 1:
			t.integer(parent, id, t.zigzag())
		case typ == ctStructT:
			t.structure(depth+1, id)
		default:
			t.value(typ, depth)
		}
	}
}

func (t *thriftSkim) value(typ byte, depth int) {
	switch typ {
	case ctTrue, ctFalse, ctByte: // in a list a boolean takes a byte
		t.byte()
	case ctI16, ctI32, ctI64:
		t.zigzag()
	case ctDouble:
		t.bytes(8)
	case ctBinary:
		if n := t.uvarint(); n > maxThriftBinary {
			t.fail()
		} else if b := t.bytes(int(n)); t.err == nil {
			t.binary = append(t.binary, b)
		}
	case ctStructT:
		t.structure(depth+1, -1)
	case ctList, ctSet:
		h := t.byte()
		n := uint64(h >> 4)
		if n == 15 {
			n = t.uvarint()
		}
		t.times(n, depth, h&15)
	case ctMap:
		n := t.uvarint()
		if n == 0 {
			return
		}
		kv := t.byte()
		t.times(n, depth, kv>>4, kv&15)
	default:
		t.fail()
	}
}

func (t *thriftSkim) times(n uint64, depth int, types ...byte) {
	if n > maxThriftList || depth > maxThriftDepth {
		t.fail()
	}
	for i := uint64(0); i < n && t.err == nil; i++ {
		for _, typ := range types {
			t.value(typ, depth+1)
		}
	}
}

func (t *thriftSkim) bytes(n int) []byte {
	b := make([]byte, n)
	if _, err := io.ReadFull(t.in, b); err != nil {
		t.fail()
	}
	return b
}
