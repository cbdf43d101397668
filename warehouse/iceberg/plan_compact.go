package iceberg

import (
	"strconv"

	icebergo "github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/warehouse"
)

const (
	// packFiles bounds the files of a pack: all are open while it is written.
	packFiles = 500
	// packsPending bounds the small files that wait for company, over all partitions.
	packsPending = 100_000
	// targetFileSize is write.target-file-size-bytes where the table does not say.
	targetFileSize = 512 << 20
)

// compactor decides which files compaction asks for. Whether a file's deletes
// reach the thresholds is found out by whoever reads them: a position delete
// file does not say how many rows of which file it hides (trap S7).
type compactor struct {
	warehouse.Compaction
	target int64
	sorted bool // the table wants its files sorted: concatenating them would break that
	bins   map[string]*bin
	order  []*bin
	waits  int
	packs  int
}

// bin is an open pack.
type bin struct {
	key   string
	files []planned
	bytes int64
}

func newCompactor(meta table.Metadata, c *warehouse.Compaction) *compactor {
	if c == nil {
		return nil
	}
	x := &compactor{Compaction: *c, target: targetFileSize, bins: map[string]*bin{}}
	if n, err := strconv.ParseInt(meta.Properties()["write.target-file-size-bytes"], 10, 64); err == nil && n > 0 {
		x.target = n
	}
	x.sorted = meta.SortOrder().Len() > 0
	return x
}

// look says what compaction wants of a file whose deletes are known.
func (c *compactor) look(df icebergo.DataFile, f *planned) {
	f.fold = len(f.file.Deletes) > 0 && (c.DeleteFiles > 0 || c.DeletedPPM > 0)
	order := df.SortOrderID()
	if c.SmallFiles <= 0 || f.file.Size >= min(c.SmallFiles, c.target*3/4) || c.sorted || order != nil && *order != 0 {
		return
	}
	// Rows with inherited ids and rows that have none yet would get each other's.
	f.pack = tupleKey(df) + "|" + strconv.FormatBool(f.file.FirstRowID != nil)
}

// add puts a small file with others of its partition. It returns the files
// that have waited long enough.
func (c *compactor) add(f planned) [][]planned {
	b := c.bins[f.pack]
	var full [][]planned
	if b != nil && (b.bytes+f.file.Size > c.target || len(b.files) >= packFiles) {
		full = append(full, c.take(b))
		b = nil
	}
	if b == nil {
		b = &bin{key: f.pack}
		c.bins[f.pack] = b
		c.order = append(c.order, b)
	}
	b.files = append(b.files, f)
	b.bytes += f.file.Size
	if c.waits++; c.waits >= packsPending {
		full = append(full, c.rest()...)
	}
	return full
}

func (c *compactor) take(b *bin) []planned {
	files := b.files
	c.waits -= len(files)
	delete(c.bins, b.key)
	b.files = nil
	return files
}

// rest takes all open packs, in the order in which they were begun.
func (c *compactor) rest() [][]planned {
	var out [][]planned
	for _, b := range c.order {
		if len(b.files) > 0 {
			out = append(out, c.take(b))
		}
	}
	c.order = nil
	return out
}

// settle turns a pack into tasks: a small file without company is a task only
// for the reasons that any other file is.
func (e *emitter) settle(files []planned) error {
	var pack *warehouse.Pack
	if len(files) > 1 {
		pack = &warehouse.Pack{ID: e.compact.packs, Files: len(files)}
		e.compact.packs++
	}
	for _, f := range files {
		if pack != nil || f.fold {
			f.reason = ""
		}
		if err := e.put(f, pack); err != nil {
			return err
		}
	}
	return nil
}

// emitter turns decided files into the plan's sums and tasks.
type emitter struct {
	p       *planner
	compact *compactor // nil = none
	plan    *warehouse.Plan
	sum     *sums
	emit    func(warehouse.Task) error
}

func (e *emitter) file(f planned) error {
	if e.compact == nil || f.excluded != "" {
		return e.put(f, nil)
	}
	if f.pack == "" {
		return e.settle([]planned{f})
	}
	for _, full := range e.compact.add(f) {
		if err := e.settle(full); err != nil {
			return err
		}
	}
	return nil
}

func (e *emitter) close() error {
	if e.compact == nil {
		return nil
	}
	for _, files := range e.compact.rest() {
		if err := e.settle(files); err != nil {
			return err
		}
	}
	return nil
}

func (e *emitter) put(f planned, pack *warehouse.Pack) error {
	e.sum.add(e.plan, f)
	if f.reason != "" || f.excluded != "" {
		return nil
	}
	task := warehouse.Task{Target: e.p.t.name, Index: int(e.plan.Tasks), File: f.file, SchemaID: e.p.schemaID, Pack: pack}
	e.plan.Tasks++
	e.plan.TaskRows += f.file.Rows
	e.plan.TaskBytes += f.file.Size
	return e.emit(task)
}
