package thriftpatch

import (
	"bytes"
	"testing"

	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
	"pgregory.net/rapid"
)

// footer is a real FileMetaData, encoded by the library.
func footer(t testing.TB) []byte {
	m := &format.FileMetaData{Version: 2, NumRows: 300, CreatedBy: "someone", KeyValueMetadata: []format.KeyValue{{Key: "b", Value: "1"}, {Key: "a", Value: "2"}}}
	m.Schema = []format.SchemaElement{{Name: "root"}, {Name: "leaf"}}
	for range 20 {
		g := format.RowGroup{NumRows: 15, TotalByteSize: 1 << 40}
		g.Columns = []format.ColumnChunk{{FileOffset: 4, MetaData: format.ColumnMetaData{NumValues: 15, PathInSchema: []string{"leaf"}, Statistics: format.Statistics{MinValue: []byte("a"), MaxValue: []byte("b")}}}}
		m.RowGroups = append(m.RowGroups, g)
	}
	b, err := thrift.Marshal(new(thrift.CompactProtocol), m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestUntouchedStructsKeepTheirBytes(t *testing.T) {
	b := footer(t)
	s, n, err := Parse(b)
	if err != nil || n != len(b) {
		t.Fatalf("%d of %d bytes: %v", n, len(b), err)
	}
	if !bytes.Equal(s.Append(nil), b) {
		t.Fatal("bytes differ")
	}
}

// A patch of one field leaves every other field's bytes alone, and libraries read the result.
func TestPatchIsReadByTheLibrary(t *testing.T) {
	s, _, err := Parse(footer(t))
	if err != nil {
		t.Fatal(err)
	}
	s.SetInt(3, I64, 299)
	s.SetBytes(32000, []byte("later"))
	s.SetBool(31000, true)
	groups, err := s.List(4)
	if err != nil {
		t.Fatal(err)
	}
	groups.Values = groups.Values[:3] // from a long list header to a short one
	s.SetList(4, groups)
	var m format.FileMetaData
	if err := thrift.Unmarshal(new(thrift.CompactProtocol), s.Append(nil), &m); err != nil {
		t.Fatal(err)
	}
	if m.NumRows != 299 || len(m.RowGroups) != 3 || m.CreatedBy != "someone" || m.KeyValueMetadata[0].Key != "b" {
		t.Fatalf("read back %+v", m)
	}
	again, _, err := Parse(s.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := again.Bytes(32000); !ok || string(v) != "later" {
		t.Fatal("new field is lost")
	}
	if v, ok := again.Bool(31000); !ok || !v {
		t.Fatal("new bool is lost")
	}
}

// Varints longer than need be survive, as does a field in its long form.
func TestOddEncodingsSurvive(t *testing.T) {
	b := []byte{byte(I32), 0x02, 0x8A, 0x00, 0x15, 0x04, 0x00} // long header of field 1 with a padded varint; field 2
	s, _, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := s.Int(1); !ok || v != 5 {
		t.Fatalf("field 1 is %d", v)
	}
	if !bytes.Equal(s.Append(nil), b) {
		t.Fatalf("% x became % x", b, s.Append(nil))
	}
	s.Delete(1)
	if got := s.Append(nil); !bytes.Equal(got, []byte{0x25, 0x04, 0x00}) {
		t.Fatalf("after a delete: % x", got)
	}
}

func TestSettersReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &Struct{}
		ints := rapid.MapOf(rapid.Int16Range(1, 200), rapid.Int64()).Draw(t, "ints")
		for id, v := range ints {
			s.SetInt(id, I64, v)
		}
		l := &List{Elem: I64}
		values := rapid.SliceOfN(rapid.Int64(), 0, 40).Draw(t, "list")
		for _, v := range values {
			l.AddInt(v)
		}
		s.SetList(300, l)
		got, n, err := Parse(s.Append(nil))
		if err != nil || n != len(s.Append(nil)) {
			t.Fatal(err)
		}
		for id, v := range ints {
			if w, ok := got.Int(id); !ok || w != v {
				t.Fatalf("field %d is %d, want %d", id, w, v)
			}
		}
		back, err := got.List(300)
		if err != nil || len(back.Values) != len(values) {
			t.Fatalf("list: %v", err)
		}
		for i, v := range values {
			if w, err := back.Int(i); err != nil || w != v {
				t.Fatalf("element %d is %d, want %d", i, w, v)
			}
		}
	})
}

// Whatever is parsed is written back as it was, and nothing panics.
func FuzzParse(f *testing.F) {
	f.Add(footer(f))
	f.Add([]byte{0})
	f.Add([]byte{0x19, 0xFC, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0})
	f.Add([]byte{0x1B, 0x05, 0x88})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, n, err := Parse(b)
		if err != nil {
			return
		}
		if !bytes.Equal(s.Append(nil), b[:n]) {
			t.Fatalf("% x became % x", b[:n], s.Append(nil))
		}
		for _, fd := range s.Fields() {
			s.Int(fd.ID)
			s.Bool(fd.ID)
			s.Bytes(fd.ID)
			if c, err := s.Struct(fd.ID); err == nil && c != nil {
				s.SetStruct(fd.ID, c)
			}
			if l, err := s.List(fd.ID); err == nil && l != nil {
				for i := range l.Values {
					l.Int(i)
					l.Bytes(i)
					l.Struct(i)
					l.Bool(i)
				}
				s.SetList(fd.ID, l)
			}
		}
		if _, m, err := Parse(s.Append(nil)); err != nil || m != len(s.Append(nil)) {
			t.Fatalf("own output is not parsed: %v", err)
		}
	})
}
