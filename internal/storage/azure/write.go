package azure

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io/fs"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"

	"github.com/expunge/expunge/internal/clock"
	"github.com/expunge/expunge/internal/storage"
)

const (
	blockSize = 8 << 20
	// copySize is how much one Put Block From URL copies; the service allows 4,000 MiB.
	copySize  = 256 << 20
	maxBlocks = 50_000
)

// block is one block to be staged: bytes, or a range of another blob.
type block struct {
	data   []byte
	src    *object
	via    storage.Object // src with its decorators
	off, n int64
}

// writer stages blocks and commits their list; a small object is one request.
// It is storage.Resumable in the way of package s3: blocks wait in a queue and
// are staged at the beginning of a later call.
type writer struct {
	b      *bucket
	client *blockblob.Client
	ctx    context.Context
	path   string
	o      storage.CreateOptions

	buf     []byte
	queue   []block
	prefix  [8]byte // of the block ids: two writers of one blob must not mix blocks
	ids     []string
	unsure  bool
	ended   bool
	closed  bool
	err     error
	copied  int64
	copies  int // blocks that the store copied
	refused string
}

// Create starts an object. Conditions are checked when it is closed.
func (b *bucket) Create(ctx context.Context, path string, o storage.CreateOptions) (storage.Writer, error) {
	if err := ctx.Err(); err != nil {
		return nil, fail(ctx, "create", path, err)
	}
	w := &writer{b: b, ctx: ctx, path: path, o: o, client: b.client.NewBlockBlobClient(storage.ParseLocation(path).Key)}
	_, _ = rand.Read(w.prefix[:]) // never fails since Go 1.24
	return w, nil
}

// Resumable is true: see writer.
func (w *writer) Resumable() bool { return !w.closed }

// Spliced says how many bytes were copied inside the store, and why no more.
func (w *writer) Spliced() (copied int64, refused string) { return w.copied, w.refused }

// Parts says how many blocks the store copied, and how many were uploaded.
func (w *writer) Parts() (copied, uploaded int) { return w.copies, len(w.ids) - w.copies }

func (w *writer) Write(p []byte) (int, error) {
	if w.closed {
		return 0, storage.NewError("write", w.path, nil, "", fs.ErrClosed)
	}
	n := 0
	for {
		if err := w.drain(); err != nil {
			return n, err
		}
		if len(p) == 0 {
			return n, nil
		}
		k := min(len(p), blockSize-len(w.buf))
		w.buf = append(w.buf, p[:k]...)
		p, n = p[k:], n+k
		if len(w.buf) == blockSize {
			w.cut()
		}
	}
}

// cut makes the buffered bytes a block.
func (w *writer) cut() {
	if len(w.buf) > 0 {
		w.queue = append(w.queue, block{data: w.buf, n: int64(len(w.buf))})
		w.buf = nil
	}
}

// CopyRange appends a range of a blob: blocks have no least size here, but a
// request that copies a few bytes costs more than the bytes.
func (w *writer) CopyRange(src storage.Object, off, n int64) error {
	o, ok := storage.Base(src).(*object)
	if !ok || n < 1<<20 || w.refused != "" || o.info.ETag == "" || !o.b.signs && !o.b.signed {
		return storage.NewError("copy range", w.path, storage.ErrUnsupported, "", nil)
	}
	if off < 0 || off+n > o.info.Size {
		return storage.NewError("copy range", w.path, nil, "range is outside of the source", fs.ErrInvalid)
	}
	if err := w.drain(); err != nil {
		return err
	}
	w.cut()
	for n > 0 {
		k := min(n, copySize)
		w.queue = append(w.queue, block{src: o, via: src, off: off, n: k})
		off, n = off+k, n-k
	}
	return nil
}

// drain stages the blocks that are ready.
func (w *writer) drain() error {
	if w.err != nil {
		return w.err
	}
	for len(w.queue) > 0 {
		if err := w.stage(w.queue[0]); err != nil {
			if !storage.IsTransient(err) {
				w.err = err
			}
			return err
		}
		w.queue = w.queue[1:]
	}
	return nil
}

func (w *writer) stage(x block) error {
	if len(w.ids) >= maxBlocks {
		return storage.NewError("write", w.path, storage.ErrNoSpace, "object has too many blocks", nil)
	}
	id := base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64(w.prefix[:], uint64(len(w.ids))))
	if x.src != nil && w.refused == "" {
		err := w.stageCopy(id, x)
		if err == nil {
			w.ids = append(w.ids, id)
			w.copied += x.n
			w.copies++
			return nil
		}
		if storage.IsTransient(err) || errors.Is(err, storage.ErrPrecondition) || errors.Is(err, context.Canceled) {
			return err
		}
		w.refused = "store refuses block copies"
	}
	if x.src != nil {
		return w.stageRead(x)
	}
	ctx, cancel := patience(w.ctx, x.n)
	defer cancel()
	if _, err := w.client.StageBlock(ctx, id, streaming.NopCloser(bytes.NewReader(x.data)), nil); err != nil {
		return fail(w.ctx, "write", w.path, err)
	}
	w.ids = append(w.ids, id)
	return nil
}

func (w *writer) stageCopy(id string, x block) error {
	url, err := x.src.url()
	if err != nil {
		return err
	}
	ctx, cancel := patience(w.ctx, x.n/8)
	defer cancel()
	_, err = w.client.StageBlockFromURL(ctx, id, url, &blockblob.StageBlockFromURLOptions{
		Range:                          blob.HTTPRange{Offset: x.off, Count: x.n},
		SourceModifiedAccessConditions: &blob.SourceModifiedAccessConditions{SourceIfMatch: to.Ptr(azcore.ETag(`"` + x.src.info.ETag + `"`))},
	})
	return fail(w.ctx, "copy range", w.path, err)
}

// url is the blob's address with the right to read it for an hour.
func (o *object) url() (string, error) {
	client := o.b.blob(o.info.Path)
	if o.b.signed {
		return client.URL(), nil
	}
	url, err := client.GetSASURL(sas.BlobPermissions{Read: true}, clock.Now(o.ctx).Add(time.Hour), nil)
	if err != nil {
		return "", storage.NewError("copy range", o.info.Path, storage.ErrUnsupported, "can't sign", nil)
	}
	return url, nil
}

// stageRead stages a range by reading it, in blocks of the usual size; those
// that were staged leave the queue's head behind them.
func (w *writer) stageRead(x block) error {
	for x.n > 0 {
		data := make([]byte, min(x.n, blockSize))
		if err := storage.ReadFull(x.via, data, x.off); err != nil {
			return err
		}
		if err := w.stage(block{data: data, n: int64(len(data))}); err != nil {
			return err
		}
		x.off, x.n = x.off+int64(len(data)), x.n-int64(len(data))
		w.queue[0].off, w.queue[0].n = x.off, x.n
	}
	return nil
}

// Close stores the object. After a transient error it may be called again.
func (w *writer) Close() error {
	if w.closed {
		return w.err
	}
	if !w.ended {
		if len(w.ids) > 0 || len(w.queue) > 0 {
			w.cut()
		}
		w.ended = true
	}
	err := w.drain()
	if err == nil && len(w.ids) == 0 {
		err = w.upload()
	} else if err == nil {
		err = w.commit()
	}
	if storage.IsTransient(err) {
		return err
	}
	w.closed, w.err, w.queue, w.buf = true, err, nil, nil
	return err
}

// Abort leaves staged blocks to the service, which drops them within a week;
// they can't be read, and there is no request that drops them.
func (w *writer) Abort() error {
	if w.closed {
		return nil
	}
	w.closed, w.queue, w.buf = true, nil, nil
	if w.err == nil {
		w.err = storage.NewError("close", w.path, nil, "", fs.ErrClosed)
	}
	return nil
}

func (w *writer) upload() error {
	a := w.attributes()
	ctx, cancel := patience(w.ctx, int64(len(w.buf)))
	defer cancel()
	_, err := w.client.Upload(ctx, streaming.NopCloser(bytes.NewReader(w.buf)), &blockblob.UploadOptions{
		Tags: a.Tags, Metadata: pointers(a.Metadata), Tier: a.tier(), HTTPHeaders: a.headers(),
		CPKScopeInfo: a.scope(), AccessConditions: w.conditions(),
	})
	err = fail(w.ctx, "close", w.path, err)
	if errors.Is(err, storage.ErrPrecondition) && w.unsure && w.holds(w.buf) {
		return nil // the try before was ours, and its answer was lost
	}
	return w.condition(err)
}

// holds says whether the stored object has exactly this content.
func (w *writer) holds(data []byte) bool {
	o, err := w.b.Open(w.ctx, w.path)
	if err != nil || o.Info().Size != int64(len(data)) {
		return false
	}
	have := make([]byte, len(data))
	return storage.ReadFull(o, have, 0) == nil && bytes.Equal(have, data)
}

func (w *writer) commit() error {
	a := w.attributes()
	ctx, cancel := patience(w.ctx, 0)
	defer cancel()
	_, err := w.client.CommitBlockList(ctx, w.ids, &blockblob.CommitBlockListOptions{
		Tags: a.Tags, Metadata: pointers(a.Metadata), Tier: a.tier(), HTTPHeaders: a.headers(),
		CPKScopeInfo: a.scope(), AccessConditions: w.conditions(),
	})
	err = fail(w.ctx, "close", w.path, err)
	if errors.Is(err, storage.ErrPrecondition) && w.unsure && w.committed() {
		return nil
	}
	return w.condition(err)
}

// committed says whether the stored object consists of this writer's blocks.
func (w *writer) committed() bool {
	ctx, cancel := patience(w.ctx, 0)
	defer cancel()
	list, err := w.client.GetBlockList(ctx, blockblob.BlockListTypeCommitted, nil)
	if err != nil || len(list.CommittedBlocks) != len(w.ids) {
		return false
	}
	for i, have := range list.CommittedBlocks {
		if value(have.Name) != w.ids[i] {
			return false
		}
	}
	return true
}

// condition remembers an unanswered request and names a failed condition.
func (w *writer) condition(err error) error {
	switch {
	case storage.IsTransient(err):
		w.unsure = true
	case errors.Is(err, storage.ErrPrecondition) && w.o.IfNotExists:
		return storage.NewError("close", w.path, storage.ErrExists, "", nil)
	case storage.IsNotExist(err) && w.o.IfMatch != "":
		return storage.NewError("close", w.path, storage.ErrPrecondition, "", nil)
	}
	return err
}

func (w *writer) conditions() *blob.AccessConditions {
	if w.o.IfNotExists {
		return &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfNoneMatch: to.Ptr(azcore.ETagAny)}}
	}
	return conditions(w.o.IfMatch)
}
