package keyset

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/expunge/expunge/internal/redact"
)

// Formats of sources.
const (
	formatCSV     = "csv"
	formatTSV     = "tsv"
	formatNDJSON  = "ndjson"
	formatParquet = "parquet"
	formatLines   = "lines"
)

var formats = []string{formatCSV, formatTSV, formatNDJSON, formatParquet, formatLines}

var suffixes = map[string]string{
	".csv": formatCSV, ".tsv": formatTSV, ".tab": formatTSV,
	".ndjson": formatNDJSON, ".jsonl": formatNDJSON, ".json": formatNDJSON,
	".parquet": formatParquet, ".pq": formatParquet,
	".txt": formatLines, ".lst": formatLines, ".keys": formatLines,
}

var compressions = map[string]string{".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd"}

// source is one file to read.
type source struct {
	uri         string
	label       string // in errors: a path can hold a key
	format      string
	compression string // by suffix; "" = by its first bytes
	hold        bool
}

// resolve expands globs and prefixes. Each file is read once, however many
// patterns match it. One that does not exist is found when it is opened.
func (l *loader) resolve(ctx context.Context, uris []string, hold bool) ([]source, error) {
	what := "source"
	if hold {
		what = "hold"
	}
	var out []source
	seen := map[string]bool{}
	for i, uri := range uris {
		label := fmt.Sprintf("%s %d (%s)", what, i+1, redact.Path(uri))
		prefix := strings.HasSuffix(uri, "/")
		files := []string{uri}
		if pattern := prefix || strings.ContainsAny(uri, "*?["); pattern {
			var err error
			if files, err = l.open.Glob(ctx, uri); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("list %s: %w", label, err)
			}
			slices.Sort(files)
			if prefix {
				files = l.withoutMarkers(uri, files)
			}
			if len(files) == 0 && !hold && l.spec.AllowNoMatch {
				l.report.NoMatch = append(l.report.NoMatch, uri)
				continue
			}
			if len(files) == 0 {
				return nil, fmt.Errorf("%w: %s matches no file", ErrMissing, label)
			}
		}
		for n, f := range files {
			if seen[f] {
				continue
			}
			seen[f] = true
			if f != uri {
				label = fmt.Sprintf("%s %d, file %d (%s)", what, i+1, n+1, redact.Path(f))
			}
			src, err := l.sourceOf(f, label, hold)
			if err != nil {
				return nil, err
			}
			out = append(out, src)
		}
	}
	return out, nil
}

// withoutMarkers drops what engines leave beside data: names that begin with
// "_" or "." below the prefix, and checksums.
func (l *loader) withoutMarkers(prefix string, files []string) []string {
	keep := files[:0]
	for _, f := range files {
		marker := strings.HasSuffix(f, ".crc")
		for name := range strings.SplitSeq(strings.TrimPrefix(f, prefix), "/") {
			marker = marker || strings.HasPrefix(name, "_") || strings.HasPrefix(name, ".")
		}
		if marker {
			l.report.Ignored = append(l.report.Ignored, f)
		} else {
			keep = append(keep, f)
		}
	}
	return keep
}

// sourceOf tells format and compression. A declared format binds the sources;
// a hold's own suffix goes first, since holds come from elsewhere.
func (l *loader) sourceOf(uri, label string, hold bool) (source, error) {
	src := source{uri: uri, label: label, hold: hold}
	name := strings.ToLower(uri[strings.LastIndexByte(uri, '/')+1:])
	ext := func() string {
		if i := strings.LastIndexByte(name, '.'); i > 0 {
			return name[i:]
		}
		return ""
	}
	if c, ok := compressions[ext()]; ok {
		src.compression = c
		name = strings.TrimSuffix(name, ext())
	}
	src.format = suffixes[ext()]
	if l.spec.Format != "" && (!hold || src.format == "") {
		src.format = l.spec.Format
	}
	if src.format == "" {
		return src, &LineError{Source: label, Reason: "the suffix tells no format: declare one"}
	}
	return src, nil
}

// stream reads a source, decompressed, and digests it as stored.
type stream struct {
	io.Reader
	src   source
	raw   io.ReadCloser
	hash  hash.Hash
	size  int64
	fail  error // of reading, as opposed to decompressing
	after func()
}

const maxZstdWindow = 512 << 20

func (l *loader) openStream(ctx context.Context, src source) (*stream, error) {
	raw, err := l.open.Open(ctx, src.uri)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: %s: %w", ErrMissing, src.label, err)
		}
		return nil, fmt.Errorf("open %s: %w", src.label, err)
	}
	s := &stream{src: src, raw: raw, hash: sha256.New(), after: func() {}}
	if err := s.decompress(); err != nil {
		raw.Close()
		return nil, s.explain(err)
	}
	return s, nil
}

// decompress puts the decompressor that the suffix or the first bytes ask for in front.
func (s *stream) decompress() error {
	in := bufio.NewReaderSize(readerFunc(s.readRaw), 256<<10)
	head, err := in.Peek(4)
	if err != nil && err != io.EOF {
		return err
	}
	kind := s.src.compression
	switch {
	case kind != "" || s.src.format == formatParquet:
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		kind = "gzip"
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		kind = "zstd"
	}
	switch kind {
	case "gzip":
		z, err := gzip.NewReader(in)
		if err != nil {
			return err
		}
		s.Reader = z
	case "zstd":
		if len(head) == 0 {
			return io.ErrUnexpectedEOF // not even a frame
		}
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxZstdWindow))
		if err != nil {
			return err
		}
		s.Reader, s.after = z, z.Close
	default:
		s.Reader = in
	}
	return nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func (s *stream) readRaw(p []byte) (int, error) {
	n, err := s.raw.Read(p)
	s.hash.Write(p[:n])
	s.size += int64(n)
	if err != nil && err != io.EOF {
		s.fail = err
	}
	return n, err
}

// drain reads on to the end, so that the digest covers the whole file.
func (s *stream) drain() error {
	if _, err := io.Copy(io.Discard, s.Reader); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, readerFunc(s.readRaw))
	return err
}

func (s *stream) digest() string { return hex.EncodeToString(s.hash.Sum(nil)) }

func (s *stream) close() {
	s.after()
	s.raw.Close()
}

// explain names the source. An error of the decompressor means a damaged file;
// its text is left out, as everything that comes from a source's bytes.
func (s *stream) explain(err error) error {
	switch {
	case s.fail != nil:
		return fmt.Errorf("read %s: %w", s.src.label, s.fail)
	case isFinal(err), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, errSpool):
		return fmt.Errorf("read %s: %w", s.src.label, err)
	}
	return &LineError{Source: s.src.label, Reason: "compressed data is damaged or cut off"}
}
