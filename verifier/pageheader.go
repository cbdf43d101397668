package verifier

import (
	"bufio"
	"encoding/binary"
	"io"
)

// headerBounds reads a chunk's page headers as they are stored and returns
// every byte string in them: the bounds, with the deprecated pair that
// libraries pass over, and whatever a later version of the format adds.
func headerBounds(f *parquetFile, rg, col int) ([][]byte, error) {
	m := f.MetaData().RowGroups[rg].Columns[col].GetMetaData()
	from := m.GetDataPageOffset()
	if m.IsSetDictionaryPageOffset() && m.GetDictionaryPageOffset() > 0 {
		from = min(from, m.GetDictionaryPageOffset())
	}
	size := m.GetTotalCompressedSize()
	if from < 0 || size < 0 {
		return nil, errCorrupt
	}
	in := bufio.NewReaderSize(io.NewSectionReader(f.src, from, size), int(min(readBuffer, max(size, 16))))
	var out [][]byte
	for {
		if _, err := in.Peek(1); err == io.EOF {
			return out, nil
		}
		h := thriftSkim{in: in}
		h.structure(0)
		if h.err != nil {
			return nil, errCorrupt
		}
		out = append(out, h.binary...)
		if h.pageSize < 0 {
			return nil, errCorrupt
		}
		if _, err := in.Discard(int(h.pageSize)); err != nil {
			return nil, errCorrupt
		}
	}
}

// thriftSkim walks a struct of Thrift's compact protocol and keeps its byte
// strings and the page's size (PageHeader.compressed_page_size, field 3).
type thriftSkim struct {
	in       *bufio.Reader
	err      error
	binary   [][]byte
	pageSize int64
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

func (t *thriftSkim) structure(depth int) {
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
		if depth == 0 && id == 3 && typ == ctI32 {
			t.pageSize = t.zigzag()
			continue
		}
		if typ != ctTrue && typ != ctFalse {
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
		t.structure(depth + 1)
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
