package review

import (
	"container/list"
	"io"
	"sync"
)

// blocks reads an object in blocks and keeps the last few, so that the many
// small reads of a Parquet reader become a few range requests.
type blocks struct {
	r    io.ReaderAt
	size int64

	mu   sync.Mutex
	have map[int64]*list.Element
	used *list.List // of block, most recent first
}

type block struct {
	n    int64
	data []byte
}

// blockSize and blockMax bound the memory of one open sidecar to 16 MiB.
const (
	blockSize = 64 << 10
	blockMax  = 256
)

func newBlocks(r io.ReaderAt, size int64) *blocks {
	return &blocks{r: r, size: size, have: map[int64]*list.Element{}, used: list.New()}
}

// ReadAt implements io.ReaderAt.
func (b *blocks) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		at := off + int64(done)
		if at >= b.size {
			return done, io.EOF
		}
		data, err := b.block(at / blockSize)
		if err != nil {
			return done, err
		}
		done += copy(p[done:], data[at%blockSize:])
	}
	return done, nil
}

func (b *blocks) block(n int64) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e, ok := b.have[n]; ok {
		b.used.MoveToFront(e)
		return e.Value.(block).data, nil
	}
	data := make([]byte, min(blockSize, b.size-n*blockSize))
	if k, err := b.r.ReadAt(data, n*blockSize); k < len(data) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	b.have[n] = b.used.PushFront(block{n, data})
	if b.used.Len() > blockMax {
		old := b.used.Remove(b.used.Back()).(block)
		delete(b.have, old.n)
	}
	return data, nil
}
