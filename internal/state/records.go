package state

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
)

// WriteRecords writes records as JSON lines into a sealed file, whole or not
// at all, and returns how many. It replaces a file of the same name, so a step
// that is repeated after a crash just writes it again.
func WriteRecords[T any](ctx context.Context, r *Run, name string, records iter.Seq2[T, error]) (int64, error) {
	f, err := r.Replace(ctx, name)
	if err != nil {
		return 0, err
	}
	w := bufio.NewWriterSize(f, chunkSize)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	var n int64
	for rec, err := range records {
		if err == nil {
			err = enc.Encode(rec)
		}
		if err != nil {
			_ = f.Abort()
			return n, fmt.Errorf("write record %d of %s: %w", n+1, name, err)
		}
		n++
	}
	if err := w.Flush(); err != nil {
		_ = f.Abort()
		return n, fmt.Errorf("write %s: %w", name, err)
	}
	return n, f.Close()
}

// ReadRecords streams the records of a sealed file. Damage ends it with an
// error: what was yielded before is authentic but may not be all.
func ReadRecords[T any](ctx context.Context, r *Run, name string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		f, err := r.Open(ctx, name)
		if err != nil {
			yield(zero, err)
			return
		}
		defer f.Close()
		lines := bufio.NewReaderSize(f, chunkSize)
		for n := 1; ; n++ {
			line, err := lines.ReadBytes('\n')
			if err == io.EOF && len(line) == 0 {
				return
			}
			if err != nil {
				if err == io.EOF {
					err = ErrCorrupt // the writer ends every line
				}
				yield(zero, fmt.Errorf("read record %d of %s: %w", n, name, err))
				return
			}
			var rec T
			dec := json.NewDecoder(bytes.NewReader(line))
			if dec.Decode(&rec) != nil {
				// The decoder's own text can quote a value.
				yield(zero, fmt.Errorf("decode record %d of %s: %w", n, name, ErrCorrupt))
				return
			}
			if !yield(rec, nil) {
				return
			}
		}
	}
}

// WriteBytes writes a small sealed file, replacing one of the same name.
func (r *Run) WriteBytes(ctx context.Context, name string, data []byte) error {
	f, err := r.Replace(ctx, name)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		_ = f.Abort()
		return fmt.Errorf("write %s: %w", name, err)
	}
	return f.Close()
}

// ReadBytes reads a small sealed file.
func (r *Run) ReadBytes(ctx context.Context, name string) ([]byte, error) {
	f, err := r.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}

// WriteJSON writes one value into a small sealed file.
func (r *Run) WriteJSON(ctx context.Context, name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	return r.WriteBytes(ctx, name, data)
}

// ReadJSON reads a file of WriteJSON.
func (r *Run) ReadJSON(ctx context.Context, name string, v any) error {
	data, err := r.ReadBytes(ctx, name)
	if err != nil {
		return err
	}
	if json.Unmarshal(data, v) != nil {
		return fmt.Errorf("decode %s: %w", name, ErrCorrupt)
	}
	return nil
}
