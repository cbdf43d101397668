package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/expunge/expunge/internal/storage"
)

const parquetScript = `
import sys, numpy as np, pyarrow as pa, pyarrow.parquet as pq
path, rows = sys.argv[1], int(sys.argv[2])
rng = np.random.default_rng(1)
groups = 8
n = rows // groups
w = None
for g in range(groups):
    users = rng.integers(0, 3_100_000, n)
    t = pa.table({
        "event_id": pa.array(np.arange(g*n, (g+1)*n)),
        "user_id": pa.array(users),
        "email": pa.array([f"user{u}@example.com" for u in users]),
        "amount": pa.array(rng.random(n)),
        "lat": pa.array(rng.random(n)),
        "payload": pa.array(rng.integers(0, 256, (n, 60), dtype=np.uint8).tobytes(), pa.binary(60)) if False else
                   pa.FixedSizeBinaryArray.from_buffers(pa.binary(60), n, [None, pa.py_buffer(rng.integers(0, 256, n*60, dtype=np.uint8).tobytes())]),
    })
    if w is None:
        w = pq.ParquetWriter(path, t.schema, compression="zstd", data_page_size=1 << 20, write_page_index=True)
    w.write_table(t, row_group_size=n)
w.close()
`

// server starts versitygw over a folder, with a bucket.
func (b *bench) server(dir string) (addr string, stop func(), err error) {
	if err := os.MkdirAll(filepath.Join(dir, "lake"), 0o755); err != nil {
		return "", nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	addr = l.Addr().String()
	l.Close()
	c := exec.Command(filepath.Join(b.cache, "bin/versitygw"), "--port", addr, "--region", "us-east-1", "posix", dir)
	c.Env = append(os.Environ(), "ROOT_ACCESS_KEY=bench", "ROOT_SECRET_KEY=bench-secret")
	if err := c.Start(); err != nil {
		return "", nil, err
	}
	stop = func() { _ = c.Process.Kill(); _ = c.Wait() }
	for range 100 {
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			return addr, stop, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	stop()
	return "", nil, fmt.Errorf("the S3 server did not start")
}

func s3Store(addr string) storage.Store {
	s := storage.New(map[string]string{"s3.endpoint": "http://" + addr, "s3.region": "us-east-1", "s3.access-key-id": "bench",
		"s3.secret-access-key": "bench-secret", "s3.force-virtual-addressing": "false"})
	return storage.WithRetry(s, storage.DefaultRetry)
}

// counter is a proxy that counts the bytes of both directions.
type counter struct{ n atomic.Int64 }

func (c *counter) proxy(to string) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			go c.pipe(from, to)
		}
	}()
	return l.Addr().String(), nil
}

func (c *counter) pipe(from net.Conn, addr string) {
	to, err := net.Dial("tcp", addr)
	if err != nil {
		from.Close()
		return
	}
	half := func(dst, src net.Conn) {
		_, _ = io.Copy(counting{dst, c}, src)
		if t, ok := dst.(*net.TCPConn); ok {
			_ = t.CloseWrite()
		}
	}
	go half(to, from)
	half(from, to)
}

type counting struct {
	io.Writer
	c *counter
}

func (w counting) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	w.c.n.Add(int64(n))
	return n, err
}

// wire erases 1 and 23 users from one Parquet object on S3.
func (b *bench) wire(ctx context.Context, rows int) error {
	file := filepath.Join(b.dir, "events.parquet")
	if out, err := exec.CommandContext(ctx, b.python(), "-c", parquetScript, file, fmt.Sprint(rows)).CombinedOutput(); err != nil {
		return fmt.Errorf("generate: %w\n%s", err, out)
	}
	st, err := os.Stat(file)
	if err != nil {
		return err
	}
	dir := filepath.Join(b.dir, "s3")
	addr, stop, err := b.server(dir)
	if err != nil {
		return err
	}
	defer stop()
	c := &counter{}
	proxied, err := c.proxy(addr)
	if err != nil {
		return err
	}
	store := s3Store(proxied)
	fmt.Printf("wire: Parquet object of %d MB, %d rows\n", st.Size()>>20, rows)
	for _, n := range []int{1, 23} {
		if err := upload(ctx, s3Store(addr), file, "s3://lake/raw/events.parquet"); err != nil {
			return err
		}
		var ids []int
		for i := range n {
			ids = append(ids, 100_003*(i+1)%3_100_000)
		}
		users, err := keysOf(ids)
		if err != nil {
			return err
		}
		before := c.n.Load()
		done, err := erasure(ctx, store, "s3://lake/raw/", "parquet", "user_id", users, 1)
		if err != nil {
			return err
		}
		moved := c.n.Load() - before
		fmt.Printf("  %2d users, %d rows erased: %6.1f MB over the wire = %5.1f %% of the object (get and put: 200 %%)\n",
			n, done.RowsErased, float64(moved)/(1<<20), 100*float64(moved)/float64(st.Size()))
	}
	return os.RemoveAll(dir)
}

func upload(ctx context.Context, store storage.Store, file, path string) error {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := store.Create(ctx, path, storage.CreateOptions{})
	if err != nil {
		return err
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{out}, in, make([]byte, 8<<20)); err != nil {
		_ = out.Abort()
		return err
	}
	return out.Close()
}
