package jobs

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"

	"github.com/expunge/expunge/internal/redact"
	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/manifests"
	"github.com/expunge/expunge/warehouse"
)

// smallFile: digests of files below it could be recomputed from a guess at
// their contents, so they are keyed with the run's secret.
const smallFile = 64 << 10

// final streams the results that count for a slot: the planned ones less those
// that the commit withdrew or did anew, then those that it did by itself.
func (r *Run) final(ctx context.Context, slot int, c commitRecord) iter.Seq2[warehouse.Result, error] {
	replaced := map[string]bool{}
	for _, p := range c.Withdrawn {
		replaced[p] = true
	}
	for _, res := range c.Results {
		replaced[res.Task.File.Path] = true
	}
	return func(yield func(warehouse.Result, error) bool) {
		for res, err := range r.results(ctx, slot) {
			if err == nil && replaced[res.Task.File.Path] {
				continue
			}
			if !yield(res, err) || err != nil {
				return
			}
		}
		for _, res := range c.Results {
			if !yield(res, nil) {
				return
			}
		}
	}
}

// recorder turns results and removals into evidence.
type recorder struct {
	paths  *manifests.Paths
	secret []byte
}

func (r *Run) recorder() (*recorder, error) {
	p, err := manifests.NewPaths(r.st.Secret())
	if err != nil {
		return nil, err
	}
	return &recorder{paths: p, secret: r.st.Secret()}, nil
}

// path says a path in clear, or its keyed digest where it may hold a key.
func (e *recorder) path(p string, keyed bool) string {
	if keyed && p != "" {
		return e.paths.Digest(p)
	}
	return p
}

// digest keys a digest where that is asked for; "" stays.
func (e *recorder) digest(sha256hex string, keyed bool) (string, error) {
	if sha256hex == "" || !keyed {
		return sha256hex, nil
	}
	raw, err := hex.DecodeString(sha256hex)
	if err != nil {
		return "", fmt.Errorf("digest of a file: %w", err)
	}
	return manifests.KeyedDigest(e.secret, raw)
}

// source names a source of keys: a path of that kind can hold a key itself.
func (e *recorder) source(uri string) string { return redact.KeyedPath(e.secret, uri) }

// etag is a small object's as a keyed digest: an MD5, which stores use, would
// be a digest of its content.
func (e *recorder) etag(tag string, size int64) string {
	if tag == "" || size >= smallFile {
		return tag
	}
	return redact.Digest(e.secret, "etag\x00"+tag)[:32]
}

func (e *recorder) file(target string, res warehouse.Result, keyed, verified bool) (manifests.Record, error) {
	f := res.Task.File
	rec := manifests.Record{
		Kind: manifests.RecordFile, Target: target, Path: e.path(f.Path, keyed), Keyed: keyed,
		Status: string(res.Status), Method: res.Method, Reason: res.Reason, Format: f.Format,
		SizeBefore: f.Size, ETag: e.etag(f.ETag, f.Size), Version: f.Version, RowsIn: res.RowsIn, RowsOut: res.RowsOut,
		RowsErased: res.Erased, RowsChanged: res.Changed, RowsDeleted: res.AlreadyDeleted,
		BytesRead: res.BytesRead, BytesCopied: res.BytesCopied, BytesEncoded: res.BytesEncoded, Rewriter: res.Rewriter,
	}
	if rec.Method == "" {
		rec.Method = string(res.Status)
	}
	if res.Status == warehouse.Clean {
		rec.RowsOut = rec.RowsIn
	}
	if res.Status == warehouse.Dropped {
		rec.Method = manifests.MethodDropped
	}
	after := ""
	small := res.SourceSHA256 != "" && f.Size < smallFile
	if o := res.Output; o != nil {
		rec.NewPath, rec.SizeAfter, rec.Verified = e.path(o.Path, keyed), o.Size, verified
		after, small = o.SHA256, small || o.SHA256 != "" && o.Size < smallFile
	}
	rec.KeyedDigest = small
	var err error
	if rec.DigestBefore, err = e.digest(res.SourceSHA256, small); err != nil {
		return rec, err
	}
	rec.DigestAfter, err = e.digest(after, small)
	return rec, err
}

func (e *recorder) deletion(target string, d warehouse.PhysicalDelete, keyed bool) manifests.Record {
	return manifests.Record{Kind: manifests.RecordDelete, Target: target, Path: e.path(d.Path, keyed), Keyed: keyed,
		Object: d.Kind, Version: d.Version, Response: d.Response, Time: d.Time}
}

// writeSidecar streams the evidence of a manifest into the state bucket. Its
// bytes follow from the journal, so writing it twice changes nothing.
func (r *Run) writeSidecar(ctx context.Context, id string, kind manifests.Kind) (manifests.Evidence, error) {
	name := manifests.SidecarName(id)
	out, err := r.job.stateStore.Create(ctx, r.job.statePath("manifests", name), storage.CreateOptions{})
	if err != nil {
		return manifests.Evidence{}, fmt.Errorf("write evidence: %w", err)
	}
	ev, err := r.fillSidecar(ctx, out, kind)
	if err != nil {
		_ = out.Abort()
		return ev, err
	}
	if err := out.Close(); err != nil {
		return ev, fmt.Errorf("write evidence: %w", err)
	}
	ev.Name = name
	return ev, nil
}

func (r *Run) fillSidecar(ctx context.Context, out storage.Writer, kind manifests.Kind) (manifests.Evidence, error) {
	w, err := manifests.NewSidecarWriter(out)
	if err != nil {
		return manifests.Evidence{}, err
	}
	e, err := r.recorder()
	if err != nil {
		return manifests.Evidence{}, err
	}
	for _, t := range r.targets {
		keyed := r.progress.planned.Targets[t.slot].Plan.Description.KeyPartitioned
		if kind == manifests.KindRun {
			if err := r.fileRecords(ctx, w, e, t, keyed); err != nil {
				return manifests.Evidence{}, err
			}
		}
		if o := r.progress.orphans[t.slot]; kind == manifests.KindRun {
			if err := r.deleteRecords(ctx, w, e, t.name, o.Deletes, keyed); err != nil {
				return manifests.Evidence{}, err
			}
		}
		if p := r.progress.purged[t.slot]; kind != manifests.KindRestore {
			if err := r.deleteRecords(ctx, w, e, t.name, p.Deletes, keyed); err != nil {
				return manifests.Evidence{}, err
			}
		}
	}
	return w.Close()
}

// deleteRecords writes a list of removals; "" = there is none.
func (r *Run) deleteRecords(ctx context.Context, w *manifests.SidecarWriter, e *recorder, target, file string, keyed bool) error {
	if file == "" {
		return nil
	}
	for d, err := range state.ReadRecords[warehouse.PhysicalDelete](ctx, r.st, file) {
		if err != nil {
			return fmt.Errorf("read removals: %w", err)
		}
		if err := w.Write(e.deletion(target, d, keyed)); err != nil {
			return err
		}
	}
	return nil
}

func (r *Run) fileRecords(ctx context.Context, w *manifests.SidecarWriter, e *recorder, t *boundTarget, keyed bool) error {
	v, verified := r.progress.verified[t.slot]
	for res, err := range r.final(ctx, t.slot, r.progress.committed[t.slot]) {
		if err != nil {
			return fmt.Errorf("read results: %w", err)
		}
		if _, failed := r.progress.failed[t.slot]; failed && res.Status != warehouse.Failed && res.Status != warehouse.LeftAlone {
			// The target was left as it was: what was written for it is not in use.
			res = warehouse.Result{Task: res.Task, Status: warehouse.Clean, Method: "not committed", RowsIn: res.RowsIn}
		}
		if t.prefix() != nil && res.Output != nil {
			out := *res.Output
			out.Path, res.Output = res.Task.File.Path, &out // the commit put it there
		}
		rec, err := e.file(t.name, res, keyed, verified && v.Passed)
		if err != nil {
			return err
		}
		if err := w.Write(rec); err != nil {
			return err
		}
	}
	return nil
}

// logStorage keeps the log in the state bucket.
type logStorage struct {
	store storage.Store
	root  string
}

func (l logStorage) Read(ctx context.Context, name string) ([]byte, string, error) {
	obj, err := l.store.Open(ctx, l.join(name))
	if err != nil {
		return nil, "", err
	}
	defer obj.Close()
	info := obj.Info()
	data := make([]byte, info.Size)
	if info.Size > 0 {
		if _, err := obj.ReadAt(data, 0); err != nil && !errors.Is(err, io.EOF) {
			return nil, "", err
		}
	}
	return data, info.ETag, nil
}

func (l logStorage) Write(ctx context.Context, name string, data []byte, version string) error {
	o := storage.CreateOptions{IfNotExists: version == "", IfMatch: version}
	err := storage.WriteAll(ctx, l.store, l.join(name), data, o)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, storage.ErrPrecondition) {
		return fmt.Errorf("%w: %w", manifests.ErrLogConflict, err)
	}
	return err
}

func (l logStorage) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for info, err := range l.store.List(ctx, l.join(prefix)) {
			if err != nil {
				yield("", err)
				return
			}
			if !yield(info.Path[len(l.root)+1:], nil) {
				return
			}
		}
	}
}

func (l logStorage) join(name string) string { return l.root + "/" + name }
