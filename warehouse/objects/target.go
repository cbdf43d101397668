package objects

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/scanner"
	"github.com/expunge/expunge/warehouse"
)

// Config says what a prefix is. Policies are the words of the job file.
type Config struct {
	Name   string   // in plans and manifests
	Prefix string   // a folder or a bucket URL
	Globs  []string // relative to the prefix; none: every object of the format
	Format string   // "ndjson", "csv", "tsv", "avro", "parquet"
	// Malformed is "stop" (the object is left as it is) or "keep" (the record is).
	Malformed string
	// Emptied is "delete" or "keep": an object of which no record is left.
	Emptied string
	// Versions is "purge" or "report": noncurrent versions with erased rows.
	Versions string
	Workers  int // objects committed, and versions read, at a time; 0 = 4
}

// Target is a prefix of objects. It is safe for concurrent use.
type Target struct {
	store  storage.Store
	cfg    Config
	name   string
	prefix string // with a slash at its end
	mu     sync.Mutex
	sets   map[string]*reducedSet
	keep   retention
	bound  []warehouse.BoundMatch // of the last Bind: a target has one selection
}

var _ warehouse.Target = (*Target)(nil)

// Open binds a prefix to its store. Nothing is read yet.
func Open(store storage.Store, cfg Config) *Target {
	if cfg.Workers <= 0 {
		cfg.Workers = 4
	}
	prefix := cfg.Prefix
	if !strings.HasSuffix(prefix, "/") {
		prefix += "/"
	}
	return &Target{store: store, cfg: cfg, name: cfg.Name, prefix: prefix, sets: map[string]*reducedSet{}}
}

// Store is where the objects are.
func (t *Target) Store() storage.Store { return t.store }

// Format is the objects' format.
func (t *Target) Format() string { return t.cfg.Format }

// Describe names the prefix. There are no snapshots.
func (t *Target) Describe(context.Context) (warehouse.Description, error) {
	return warehouse.Description{Name: t.name, Location: t.prefix}, nil
}

// Check resolves the selection and lists the prefix; it writes nothing.
func (t *Target) Check(ctx context.Context, sel warehouse.Selection) error {
	if _, err := t.Bind(ctx, sel); err != nil {
		return err
	}
	if err := t.Reachable(ctx); err != nil {
		return err
	}
	return t.versionsReadable(ctx)
}

// versionsReadable refuses a bucket that keeps versions which nobody here may
// see: what is erased would stay in them, and could not be compared or restored.
func (t *Target) versionsReadable(ctx context.Context) error {
	keep, err := t.Retention(ctx, "")
	if err != nil || !keep.Versioned {
		return err
	}
	for _, err := range storage.Versions(ctx, t.store, t.prefix) {
		if errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("%s: the bucket keeps versions, and may not be asked for them (s3:ListBucketVersions, s3:GetObjectVersion): %w", t.name, err)
		}
		if err != nil {
			return fmt.Errorf("list versions: %w", err)
		}
		break
	}
	return nil
}

// Reachable says whether the store answers: it lists the prefix's beginning.
func (t *Target) Reachable(ctx context.Context) error {
	for _, err := range t.store.List(ctx, t.prefix) {
		if err != nil {
			return fmt.Errorf("list: %w", err)
		}
		break
	}
	return nil
}

// CheckWrite writes an object where runs keep theirs and removes it again.
func (t *Target) CheckWrite(ctx context.Context) error {
	probe := t.prefix + ownFolder + "probe"
	if err := storage.WriteAll(ctx, t.store, probe, []byte("probe"), storage.CreateOptions{}); err != nil {
		return fmt.Errorf("write a probe object: %w", err)
	}
	if err := t.store.Remove(ctx, probe); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the probe object: %w", err)
	}
	return t.forgetVersions(ctx, probe)
}

// Bind parses the match columns. Whether objects have them is seen when they
// are read.
func (t *Target) Bind(_ context.Context, sel warehouse.Selection) ([]warehouse.BoundMatch, error) {
	if err := t.checkAction(sel); err != nil {
		return nil, err
	}
	if sel.Time != nil {
		return nil, fmt.Errorf("%s: a prefix has no time column: %w", t.name, warehouse.ErrNotFound)
	}
	out := make([]warehouse.BoundMatch, len(sel.Match))
	for i, m := range sel.Match {
		out[i].Keys = m.Keys
		for _, c := range m.Columns {
			ref, err := scanner.ParseRef(c)
			if err != nil {
				return nil, fmt.Errorf("%s: match column: %w", t.name, warehouse.ErrNotFound)
			}
			out[i].Columns = append(out[i].Columns, warehouse.ColumnRef{Path: ref.Path})
		}
		if t.cfg.Format == "parquet" {
			continue
		}
		if _, err := scanner.NewKeyParts(m.Keys); err != nil {
			return nil, fmt.Errorf("%s: %w: %w", t.name, warehouse.ErrType, err)
		}
	}
	t.mu.Lock()
	t.bound = out
	t.mu.Unlock()
	return out, nil
}

// BindAction checks the action; objects resolve its columns as they are read.
func (t *Target) BindAction(_ context.Context, sel warehouse.Selection) (*warehouse.BoundAction, error) {
	b := &warehouse.BoundAction{Kind: sel.Action.Kind}
	if sel.Action.Deletes() {
		b.Kind = warehouse.Delete
	}
	return b, t.checkAction(sel)
}

func (t *Target) checkAction(sel warehouse.Selection) error {
	switch {
	case sel.Action.Kind == "" || sel.Action.Kind == "delete":
		return nil
	case t.cfg.Format != "ndjson" && t.cfg.Format != "parquet":
		return fmt.Errorf("%s: %s is possible in NDJSON and Parquet objects only, in %s records can be deleted: %w", t.name, sel.Action.Kind, t.cfg.Format, warehouse.ErrNotFound)
	}
	_, err := request{action: sel.Action}.records()
	return err
}

// Plan lists the prefix: a task for every object that may hold a key.
func (t *Target) Plan(ctx context.Context, sel warehouse.Selection, emit func(warehouse.Task) error, live func(string) error) (*warehouse.Plan, error) {
	bound, err := t.Bind(ctx, sel)
	if err != nil {
		return nil, err
	}
	if err := t.inTable(ctx); err != nil {
		return nil, err
	}
	p := &warehouse.Plan{}
	if p.Description, err = t.Describe(ctx); err != nil {
		return nil, err
	}
	skipped := map[string]*warehouse.Skipped{}
	skip := func(reason string, size int64) {
		s := skipped[reason]
		if s == nil {
			s = &warehouse.Skipped{Reason: reason}
			skipped[reason] = s
		}
		s.Files, s.Bytes = s.Files+1, s.Bytes+size
	}
	taken := t.newSchemaCheck(sel)
	err = t.walk(ctx, func(info storage.Info, c class) error {
		if c != data {
			if !strings.HasPrefix(info.Path, t.prefix+ownFolder) {
				skip(string(c), info.Size)
			}
			return nil
		}
		p.TotalFiles, p.TotalBytes = p.TotalFiles+1, p.TotalBytes+info.Size
		if err := live(planned(info.Path, info.ETag)); err != nil {
			return err
		}
		m, err := t.fix(info.Path, bound)
		if err != nil {
			return err
		}
		p.Description.KeyPartitioned = p.Description.KeyPartitioned || m.byKey || t.namesKey(info.Path, bound)
		if len(m.match) == 0 && len(m.every) == 0 {
			skip("pruned by partition", info.Size)
			return nil
		}
		if err := taken.look(ctx, info); err != nil {
			return err
		}
		task := t.task(info, int(p.Tasks))
		p.Tasks, p.TaskBytes = p.Tasks+1, p.TaskBytes+info.Size
		return emit(task)
	})
	if err != nil {
		return nil, err
	}
	if err := taken.verdict(); err != nil {
		return nil, err
	}
	t.finishPlan(p, skipped)
	if p.TotalFiles == 0 {
		return nil, fmt.Errorf("%s: no object is %s data: %w", t.name, t.cfg.Format, warehouse.ErrNotFound)
	}
	return p, nil
}

// finishPlan turns what was left out into counts, and what may hold keys all
// the same into exclusions that the job has not declared.
func (t *Target) finishPlan(p *warehouse.Plan, skipped map[string]*warehouse.Skipped) {
	for _, c := range []class{hidden, emptyObject, noGlob, otherFormat, summaryFile, "pruned by partition"} {
		s := skipped[string(c)]
		if s == nil {
			continue
		}
		p.Skipped = append(p.Skipped, *s)
		switch c {
		case otherFormat:
			p.Excluded = append(p.Excluded, warehouse.Excluded{What: fmt.Sprintf("%d objects of another format", s.Files),
				Reason: "not " + t.cfg.Format + ": make them a target of their own, or name this target's objects by globs"})
		case summaryFile:
			p.Excluded = append(p.Excluded, warehouse.Excluded{What: fmt.Sprintf("%d Parquet summary files", s.Files),
				Reason: "_metadata repeats bounds and offsets of the files around it: remove it"})
		}
	}
}

// planned is what the list of live objects says of one.
func planned(path, etag string) string { return path + "\x00" + etag }

func (t *Target) task(info storage.Info, index int) warehouse.Task {
	return warehouse.Task{Target: t.name, Index: index, File: warehouse.File{Path: info.Path, Format: t.cfg.Format, Size: info.Size, ETag: info.ETag}}
}

// Deleted is empty: objects have no tombstones.
func (t *Target) Deleted(context.Context, warehouse.Task) (*roaring64.Bitmap, error) {
	return roaring64.New(), nil
}

// Metrics are none.
func (t *Target) Metrics(context.Context, string) (warehouse.Metrics, error) {
	return warehouse.Metrics{}, nil
}

// runFolder is what a run writes for itself. Its names carry no key.
func (t *Target) runFolder(runID string) string { return t.prefix + ownFolder + runID + "/" }

// OutputPath is where new content waits for its commit.
func (t *Target) OutputPath(runID string, task warehouse.Task, digest string) string {
	return fmt.Sprintf("%snew/%d-%s", t.runFolder(runID), task.Index, digest)
}
