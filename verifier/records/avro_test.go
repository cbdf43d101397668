package records_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/twmb/avro"
	"github.com/twmb/avro/ocf"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/rewriter"
	rewriteavro "github.com/expunge/expunge/rewriter/avro"
	"github.com/expunge/expunge/scanner"
	scanavro "github.com/expunge/expunge/scanner/avro"
	"github.com/expunge/expunge/verifier/records"
	"github.com/expunge/expunge/warehouse"
)

const avroSchema = `{"type":"record","name":"Event","namespace":"a.b","fields":[
 {"name":"id","type":["null","long"],"default":null},
 {"name":"user","type":{"type":"record","name":"User","fields":[{"name":"name","type":"string"},{"name":"kind","type":{"type":"enum","name":"K","symbols":["X","a"]}}]}},
 {"name":"friends","type":{"type":"array","items":"User"}},
 {"name":"nums","type":{"type":"array","items":["null","int"]}},
 {"name":"attrs","type":{"type":"map","values":"long"}},
 {"name":"amount","type":{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}},
 {"name":"day","type":{"type":"int","logicalType":"date"}},
 {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
 {"name":"hash","type":{"type":"fixed","name":"H","size":4}},
 {"name":"score","type":"double"},{"name":"ok","type":"boolean"}]}`

// avroFile writes generated events in blocks of a few records.
func avroFile(t testing.TB, rng *rand.Rand, n int, opts ...ocf.WriterOpt) []byte {
	t.Helper()
	s, err := avro.Parse(avroSchema)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := ocf.NewWriter(&out, s, append(opts, ocf.WithBlockCount(7))...)
	if err != nil {
		t.Fatal(err)
	}
	user := func() map[string]any {
		return map[string]any{"name": []string{"a", "b", "", "c"}[rng.IntN(4)], "kind": []string{"X", "a"}[rng.IntN(2)]}
	}
	for range n {
		v := map[string]any{"user": user(), "score": rng.Float64(), "ok": rng.IntN(2) == 0, "hash": []byte{1, 2, 3, byte(rng.IntN(3))},
			"amount": fmt.Sprintf("%d.%02d", rng.IntN(3), rng.IntN(2)*50), "day": rng.IntN(3), "at": int64(rng.IntN(1000)), "attrs": map[string]any{"k": int64(rng.IntN(60)), "l": int64(100)}}
		if v["id"] = nil; rng.IntN(4) > 0 {
			v["id"] = int64(rng.IntN(40))
		}
		friends, nums := []any{}, []any{}
		for range rng.IntN(3) {
			friends = append(friends, user())
			nums = append(nums, int32(rng.IntN(200)))
		}
		v["friends"], v["nums"] = friends, nums
		if err := w.Encode(v); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

var avroCached []warehouse.BoundMatch

func avroMatches(t testing.TB) []warehouse.BoundMatch {
	if avroCached != nil {
		return avroCached
	}
	ids := set(t, keyset.Schema{part("id", keyset.KindInt64)}, []string{"7"}, []string{"0"})
	pairs := set(t, keyset.Schema{part("n", keyset.KindString), part("k", keyset.KindString)}, []string{"", "a"})
	money := set(t, keyset.Schema{{Name: "m", Type: keyset.Type{Kind: keyset.KindDecimal, Precision: 10, Scale: 1}}}, []string{"2.5"})
	hash := set(t, keyset.Schema{{Name: "h", Type: keyset.Type{Kind: keyset.KindBinary}, Normalize: []string{"hex"}}}, []string{"01020302"})
	for _, m := range []struct {
		s     *keyset.Set
		paths []string
	}{{ids, []string{"id"}}, {ids, []string{"nums.element"}}, {ids, []string{"attrs.value"}}, {pairs, []string{"friends[*].name", "friends[*].kind"}},
		{money, []string{"amount"}}, {hash, []string{"hash"}}} {
		b := warehouse.BoundMatch{Keys: m.s}
		for _, p := range m.paths {
			ref, err := scanner.ParseRef(p)
			if err != nil {
				t.Fatal(err)
			}
			b.Columns = append(b.Columns, warehouse.ColumnRef{Path: ref.Path})
		}
		avroCached = append(avroCached, b)
	}
	return avroCached
}

// checkAvro scans, rewrites and has the verifier compare.
func checkAvro(t testing.TB, data []byte, m []warehouse.BoundMatch) (found *scanner.RecordsFound, now []byte) {
	t.Helper()
	s := storage.NewMem()
	src := object(t, s, "mem://b/x.avro", data)
	found, err := scanavro.Scan(t.Context(), src, scanner.Records{Match: scanMatches(m)})
	if err != nil {
		return nil, nil
	}
	l := rewriteavro.Layout{Codec: found.Codec, Sync: found.Sync}
	for _, b := range found.Blocks {
		l.Blocks = append(l.Blocks, rewriteavro.Block{Off: b.Off, Len: b.Len, Left: b.Left, Edits: b.Edits,
			Data: func() ([]byte, error) { return scanavro.BlockData(src, found.Codec, b) }})
	}
	dst, err := s.Create(t.Context(), "mem://b/y.avro", storage.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	res, err := rewriteavro.Rewrite(t.Context(), src, dst, l, rewriter.Options{})
	if errors.Is(err, rewriter.ErrUnsupported) {
		return found, nil
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := dst.Close(); err != nil {
		t.Fatal(err)
	}
	out, err := s.Open(t.Context(), "mem://b/y.avro")
	if err != nil {
		t.Fatal(err)
	}
	if out.Info().Size != res.Size {
		t.Fatalf("%d bytes, said %d", out.Info().Size, res.Size)
	}
	rep, err := records.Compare(t.Context(), src, out, records.Rules{Format: "avro", Matches: m})
	if err != nil {
		t.Fatal(err)
	}
	hits := int64(found.Hits.GetCardinality())
	if !rep.Equal || rep.Erased != hits || rep.RowsOld != found.Rows || rep.RowsNew != found.Rows-hits || rep.ControlAfter {
		t.Fatalf("%+v; scanner: %d records, %d hits", rep, found.Rows, hits)
	}
	now, err = io.ReadAll(io.NewSectionReader(out, 0, out.Info().Size))
	if err != nil {
		t.Fatal(err)
	}
	return found, now
}

// TestAvroScannerAndLibraryAgree over codecs and types.
func TestAvroScannerAndLibraryAgree(t *testing.T) {
	hits := uint64(0)
	for seed := range 40 {
		rng := rand.New(rand.NewPCG(uint64(seed), 5))
		codec := []ocf.WriterOpt{ocf.WithCodec(ocf.DeflateCodec(6)), ocf.WithCodec(ocf.SnappyCodec()), ocf.WithCodec(ocf.MustZstdCodec(nil, nil))}
		opts := codec[seed%3 : seed%3+1]
		if seed%4 == 3 {
			opts = nil
		}
		m := avroMatches(t)
		found, now := checkAvro(t, avroFile(t, rng, rng.IntN(60), opts...), m[:1+rng.IntN(len(m))])
		if found == nil || now == nil {
			t.Fatalf("seed %d: refused", seed)
		}
		hits += found.Hits.GetCardinality()
	}
	if hits < 100 {
		t.Errorf("%d hits: the test shows too little", hits)
	}
}

// TestAvroBlocksWithoutAHitStay byte for byte.
func TestAvroBlocksWithoutAHitStay(t *testing.T) {
	data := avroFile(t, rand.New(rand.NewPCG(4, 4)), 400, ocf.WithCodec(ocf.SnappyCodec()))
	found, now := checkAvro(t, data, avroMatches(t)[:1])
	if len(found.Blocks) == 0 || len(found.Blocks) > 50 {
		t.Fatalf("%d blocks touched", len(found.Blocks))
	}
	rest := now
	at := int64(0)
	for _, b := range found.Blocks {
		clean := data[at:b.Off]
		i := bytes.Index(rest, clean)
		if i < 0 {
			t.Fatal("a clean stretch is not in the new file")
		}
		rest, at = rest[i+len(clean):], b.Off+b.Len
	}
	if !bytes.HasSuffix(rest, data[at:]) {
		t.Error("the last clean stretch is not in the new file")
	}
}

func FuzzAvro(f *testing.F) {
	for seed := range 6 {
		f.Add(avroFile(f, rand.New(rand.NewPCG(uint64(seed), 6)), seed*3))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := storage.NewMem()
		// Damaged files are refused, never misread into a panic or without end.
		_, _ = scanavro.Scan(t.Context(), object(t, s, "mem://b/x.avro", data), scanner.Records{Match: scanMatches(avroMatches(t))})
	})
}
