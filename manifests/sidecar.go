package manifests

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"
	"golang.org/x/mod/sumdb/tlog"
)

// sidecarFormat is written into the file's key-value metadata.
const sidecarFormat = "expunge evidence v1"

// A batch of records is flushed as a row group, which bounds the memory of
// writer and reader.
const (
	sidecarRowGroup = 64 << 10
	sidecarBatch    = 512
)

// SidecarWriter streams records into a Parquet sidecar and builds their Merkle
// root on the way. Records keep the order in which they are written.
type SidecarWriter struct {
	out    *countingHash
	pw     *parquet.GenericWriter[Record]
	batch  []Record
	tree   *tree
	totals Totals
	buf    []byte
	err    error
}

// countingHash passes bytes on, counted and hashed.
type countingHash struct {
	w io.Writer
	h hash.Hash
	n int64
}

func (c *countingHash) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.h.Write(p[:n])
	c.n += int64(n)
	return n, err
}

// NewSidecarWriter starts a sidecar on w.
func NewSidecarWriter(w io.Writer) (*SidecarWriter, error) {
	out := &countingHash{w: w, h: sha256.New()}
	pw := parquet.NewGenericWriter[Record](out,
		parquet.Compression(&parquet.Zstd),
		parquet.MaxRowsPerRowGroup(sidecarRowGroup),
		parquet.PageBufferSize(256<<10),
		parquet.CreatedBy("expunge", "evidence", "v1"),
		parquet.KeyValueMetadata("format", sidecarFormat),
	)
	return &SidecarWriter{out: out, pw: pw, tree: newTree(), batch: make([]Record, 0, sidecarBatch)}, nil
}

// Write adds a record. An invalid one is refused and nothing is written.
func (w *SidecarWriter) Write(r Record) error {
	if w.err != nil {
		return w.err
	}
	if err := r.Validate(); err != nil {
		return err
	}
	r.normalize()
	b, err := r.appendCanonical(w.buf[:0])
	if err != nil {
		return err
	}
	w.buf = b
	w.tree.add(tlog.RecordHash(b))
	w.totals.add(&r)
	if w.batch = append(w.batch, r); len(w.batch) == cap(w.batch) {
		return w.flush()
	}
	return nil
}

func (w *SidecarWriter) flush() error {
	if _, err := w.pw.Write(w.batch); err != nil {
		w.err = fmt.Errorf("write evidence: %w", err)
		return w.err
	}
	w.batch = w.batch[:0]
	return nil
}

// Close finishes the file and returns what the manifest says of it; the caller
// adds the Name. It does not close the underlying writer.
func (w *SidecarWriter) Close() (Evidence, error) {
	if w.err != nil {
		return Evidence{}, w.err
	}
	if err := w.flush(); err != nil {
		return Evidence{}, err
	}
	if err := w.pw.Close(); err != nil {
		return Evidence{}, fmt.Errorf("finish evidence: %w", err)
	}
	w.err = errors.New("sidecar is closed")
	root, _ := w.tree.finish()
	return Evidence{
		SHA256:  hex.EncodeToString(w.out.h.Sum(nil)),
		Bytes:   w.out.n,
		Records: w.tree.size,
		Root:    hex.EncodeToString(root[:]),
		Totals:  w.totals,
	}, nil
}

// ReadSidecar streams a sidecar's records in order.
func ReadSidecar(r io.ReaderAt, size int64) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if err := readSidecar(r, size, yield); err != nil {
			yield(Record{}, fmt.Errorf("read evidence: %w", err))
		}
	}
}

// readSidecar returns nil when the consumer stopped. The library panics on
// some corrupt input; here that is an error like any other.
func readSidecar(r io.ReaderAt, size int64, yield func(Record, error) bool) (err error) {
	yielding := false
	defer func() {
		if p := recover(); p != nil {
			if yielding {
				panic(p) // the consumer's own
			}
			err = errors.New("corrupt parquet file")
		}
	}()
	f, err := parquet.OpenFile(r, size, parquet.SkipBloomFilters(true), parquet.SkipPageIndex(true))
	if err != nil {
		return err
	}
	if v, _ := f.Lookup("format"); v != sidecarFormat {
		return errors.New("not an evidence sidecar of a known version")
	}
	if !knownColumns(f.Schema()) {
		return errors.New("unexpected columns")
	}
	pr := parquet.NewGenericReader[Record](f)
	defer pr.Close()
	buf := make([]Record, sidecarBatch)
	for {
		clear(buf)
		n, err := pr.Read(buf)
		for i := range buf[:n] {
			buf[i].normalize()
			yielding = true
			if !yield(buf[i], nil) {
				return nil
			}
			yielding = false
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// laterColumns came after the first release: sidecars written before lack them.
var laterColumns = []string{"rows_changed"}

// knownColumns says whether a sidecar has the columns of Record, or those that
// Record had before the later ones.
func knownColumns(s *parquet.Schema) bool {
	got, want := s.String(), parquet.SchemaOf(Record{}).String()
	for _, name := range laterColumns {
		if _, ok := s.Lookup(name); !ok {
			want = withoutLine(want, " "+name+" ")
		}
	}
	return got == want
}

func withoutLine(text, mark string) string {
	lines := strings.Split(text, "\n")
	return strings.Join(slices.DeleteFunc(lines, func(l string) bool { return strings.Contains(l, mark) }), "\n")
}

// VerifySidecar reads a sidecar again and compares digest, size, root, record
// count and totals with what the manifest says.
func VerifySidecar(r io.ReaderAt, size int64, e Evidence) error {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(r, 0, size)); err != nil {
		return fmt.Errorf("read evidence: %w", err)
	}
	if size != e.Bytes || hex.EncodeToString(h.Sum(nil)) != e.SHA256 {
		return errors.New("the sidecar's bytes are not those that were signed")
	}
	t, totals := newTree(), Totals{}
	var buf []byte
	for rec, err := range ReadSidecar(r, size) {
		if err != nil {
			return err
		}
		if err := rec.Validate(); err != nil {
			return err
		}
		b, err := rec.appendCanonical(buf[:0])
		if err != nil {
			return err
		}
		buf = b
		t.add(tlog.RecordHash(b))
		totals.add(&rec)
	}
	root, _ := t.finish()
	switch {
	case t.size != e.Records:
		return fmt.Errorf("%d records, the manifest says %d", t.size, e.Records)
	case hex.EncodeToString(root[:]) != e.Root:
		return errors.New("the records' Merkle root is not the manifest's")
	case totals != e.Totals:
		return errors.New("the records' sums are not the manifest's totals")
	}
	return nil
}

// RecordProof shows that one record is part of a manifest's evidence.
type RecordProof struct {
	Record Record      `json:"record"`
	Index  int64       `json:"index"`
	Size   int64       `json:"size"`
	Path   []tlog.Hash `json:"path"`
}

// ProveRecords reads a sidecar once and proves every record that pick chooses,
// at most limit of them; more is an error.
func ProveRecords(r io.ReaderAt, size int64, limit int, pick func(index int64, rec *Record) bool) ([]RecordProof, error) {
	var out []RecordProof
	var want []int64
	index := int64(0)
	for rec, err := range ReadSidecar(r, size) {
		if err != nil {
			return nil, err
		}
		if pick(index, &rec) {
			if len(out) == limit {
				return nil, fmt.Errorf("more than %d records of evidence", limit)
			}
			out, want = append(out, RecordProof{Record: rec, Index: index}), append(want, index)
		}
		index++
	}
	if len(out) == 0 {
		return nil, nil
	}
	t := newTree(want...)
	for rec, err := range ReadSidecar(r, size) {
		if err != nil {
			return nil, err
		}
		h, err := rec.LeafHash()
		if err != nil {
			return nil, err
		}
		t.add(h)
	}
	_, paths := t.finish()
	for i := range out {
		out[i].Size, out[i].Path = t.size, paths[i]
	}
	return out, nil
}

// ProveRecord proves the index-th record of a sidecar.
func ProveRecord(r io.ReaderAt, size, index int64) (*RecordProof, error) {
	out, err := ProveRecords(r, size, 1, func(i int64, _ *Record) bool { return i == index })
	if err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("the evidence has no record %d", index)
	}
	return &out[0], nil
}

// Check verifies the proof against the manifest's evidence.
func (p *RecordProof) Check(e Evidence) error {
	root, err := parseHash(e.Root)
	if err != nil {
		return err
	}
	if p.Size != e.Records {
		return errProof
	}
	h, err := p.Record.LeafHash()
	if err != nil {
		return err
	}
	return checkPath(p.Path, p.Size, root, p.Index, h)
}

func parseHash(s string) (h tlog.Hash, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(h) {
		return h, errors.New("not a SHA-256 in hex")
	}
	return tlog.Hash(b), nil
}
