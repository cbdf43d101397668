package verifier

import (
	"bufio"
	"io"
)

// chunkReader reads a column chunk's bytes in order.
func chunkReader(f *parquetFile, rg, col int) (*bufio.Reader, error) {
	m := f.MetaData().RowGroups[rg].Columns[col].GetMetaData()
	from := chunkStart(m)
	size := m.GetTotalCompressedSize()
	if from < 0 || size < 0 {
		return nil, errCorrupt
	}
	return bufio.NewReaderSize(io.NewSectionReader(f.src, from, size), int(min(readBuffer, max(size, 16)))), nil
}

// chunkStart is where a chunk's first page lies. An empty row group may have a
// dictionary and no data page, whose offset is then 0.
func chunkStart(m interface {
	GetDataPageOffset() int64
	GetDictionaryPageOffset() int64
	IsSetDictionaryPageOffset() bool
}) int64 {
	from := m.GetDataPageOffset()
	if dict := m.GetDictionaryPageOffset(); m.IsSetDictionaryPageOffset() && dict > 0 && (from == 0 || dict < from) {
		return dict
	}
	return from
}

// thriftSkim walks a struct of Thrift's compact protocol and keeps its byte
// strings and integers.
type thriftSkim struct {
	in       *bufio.Reader
	err      error
	binary   [][]byte
	pageSize int64 // PageHeader.compressed_page_size, field 3
	encoding int64 // of a data page's values; -1 = no data page
	ints     []thriftInt

	keep bool   // keep the bytes read
	raw  []byte // of the header
}

// thriftInt is an integer or boolean field; parent is the field id of the
// struct that holds it, 0 for the header itself.
type thriftInt struct{ parent, id, v int64 }

// field returns an integer field, 0 when it is not there.
func (t *thriftSkim) field(parent, id int64) int64 {
	for _, f := range t.ints {
		if f.parent == parent && f.id == id {
			return f.v
		}
	}
	return 0
}

func (t *thriftSkim) has(parent, id int64) bool {
	for _, f := range t.ints {
		if f.parent == parent && f.id == id {
			return true
		}
	}
	return false
}

// integer keeps a field of the header or of a page's own header.
func (t *thriftSkim) integer(parent, id, v int64) {
	switch {
	case parent == 0 && id == 3:
		t.pageSize = v
	case parent == 5 && id == 2, parent == 8 && id == 4: // DataPageHeader, DataPageHeaderV2
		t.encoding = v
	}
	t.ints = append(t.ints, thriftInt{parent, id, v})
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
	if t.keep {
		t.raw = append(t.raw, b)
	}
	return b
}

func (t *thriftSkim) uvarint() uint64 {
	var v uint64
	for shift := 0; shift < 64 && t.err == nil; shift += 7 {
		b := t.byte()
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v
		}
	}
	t.fail()
	return 0
}

func (t *thriftSkim) zigzag() int64 {
	v := t.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

func (t *thriftSkim) structure(depth int, parent int64) {
	if depth == 0 {
		t.encoding = -1
	}
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
			if depth <= 1 {
				t.integer(parent, id, int64(typ&1))
			}
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
	if t.keep {
		t.raw = append(t.raw, b...)
	}
	return b
}
