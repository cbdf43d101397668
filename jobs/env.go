package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/expunge/expunge/configs"
	"github.com/expunge/expunge/internal/state"
	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/warehouse"
	"github.com/expunge/expunge/warehouse/iceberg"
)

// Errors that decide how a command ends.
var (
	// ErrStopped: somebody asked the run to stop; it can be resumed.
	ErrStopped = errors.New("run was stopped")
	// ErrUsage: what was asked for cannot be done as asked; nothing was touched.
	ErrUsage = errors.New("unusable request")
	// ErrVerification: the independent re-read contradicts the run; nothing was purged.
	ErrVerification = errors.New("verification failed")
	// ErrNoRun: the state bucket has no such run.
	ErrNoRun = errors.New("no such run")
	// ErrHeld: keys of the run are under legal hold by now, so its purge must not go on.
	ErrHeld = errors.New("keys of this run are under legal hold now")
)

// Env is what a process gives to its runs.
type Env struct {
	Engine       Engine // where shards run; required for Run and Resume
	Reporter     Reporter
	Log          *slog.Logger
	ReadOnly     bool   // targets' stores refuse every write: dry runs
	Version      string // of this program
	BinarySHA256 string
	Holder       string        // names this process in leases: host and process id
	LeaseTTL     time.Duration // how long a lease outlives a dead holder; 0 = state.DefaultTTL
	StopPoll     time.Duration // how often a stop request is looked for; 0 = 2 s
	// WrapStore decorates every store that a run opens, outermost; role is
	// "state", "keys" or the catalog's name. Tests inject faults here.
	WrapStore func(role string, s storage.Store) storage.Store
	// OpenTarget opens the targets of catalogs whose type is "custom", by their full name:
	// new kinds of target plug in here. One whose files package verifier cannot read is a Checked.
	OpenTarget func(ctx context.Context, j *Job, name string) (warehouse.Target, error)
	// Formats process files by warehouse.File.Format, beside "parquet".
	Formats map[string]Format
}

func (e *Env) defaults() {
	if e.Reporter == nil {
		e.Reporter = silent{}
	}
	if e.Log == nil {
		e.Log = slog.New(slog.DiscardHandler)
	}
	if e.LeaseTTL <= 0 {
		e.LeaseTTL = state.DefaultTTL
	}
	if e.StopPoll <= 0 {
		e.StopPoll = 2 * time.Second
	}
	if e.Holder == "" {
		e.Holder = "expunge"
	}
}

// Job is a job file bound to its state bucket and stores. It is safe for
// concurrent use and must be closed.
type Job struct {
	cfg   *configs.Job
	env   Env
	state *state.State
	keys  storage.Store // where keysets and holds are read
	// stateStore holds what is not sealed: manifests, evidence, the log.
	stateStore storage.Store
	limits     *storage.Limits
	counters   *storage.Counters
	readOnly   bool       // a dry run: no target's store takes a write
	mu         sync.Mutex // guards catalogs and stores
	catalogs   map[string]*iceberg.Catalog
	stores     map[string]storage.Store // by catalog; "" = prefixes
	vended     map[string]storage.Store // by table, where its catalog hands out credentials with it
}

// Open binds a job. Catalogs are opened when they are first used.
func Open(ctx context.Context, cfg *configs.Job, env Env) (*Job, error) {
	env.defaults()
	props, err := cfg.Storage.Reveal()
	if err != nil {
		return nil, fmt.Errorf("storage properties: %w", err)
	}
	j := &Job{
		cfg: cfg, env: env, readOnly: env.ReadOnly,
		limits:   storage.NewLimits(float64(cfg.Limits.Bandwidth), float64(cfg.Limits.Requests)),
		counters: &storage.Counters{},
		catalogs: map[string]*iceberg.Catalog{},
		stores:   map[string]storage.Store{},
		vended:   map[string]storage.Store{},
	}
	j.stateStore = j.decorate("state", storage.New(props), false)
	j.keys = j.decorate("keys", storage.New(props), true)
	opts, err := StateOptions(ctx, cfg.Secrets)
	if err != nil {
		return nil, err
	}
	if j.state, err = state.Open(ctx, j.stateStore, cfg.State, opts...); err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	return j, nil
}

// Config is the job file.
func (j *Job) Config() *configs.Job { return j.cfg }

// State is the job's state bucket.
func (j *Job) State() *state.State { return j.state }

// Close releases catalogs.
func (j *Job) Close() error {
	var errs []error
	for _, c := range j.catalogs {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// decorate puts the layers on a store that every role has. Budgets count what
// goes over the wire, so they sit below the retries.
func (j *Job) decorate(role string, s storage.Store, limited bool) storage.Store {
	if j.env.WrapStore != nil {
		s = j.env.WrapStore(role, s)
	}
	s = storage.WithCounters(s, j.counters)
	if limited {
		s = storage.WithLimits(s, j.limits)
	}
	return storage.WithRetry(s, storage.DefaultRetry)
}

// catalog opens a catalog of the job once and returns it with its store.
func (j *Job) catalog(ctx context.Context, name string) (*iceberg.Catalog, storage.Store, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if c, ok := j.catalogs[name]; ok {
		return c, j.stores[name], nil
	}
	secretProps, ok := j.cfg.Catalogs[name]
	if !ok {
		return nil, nil, fmt.Errorf("catalog %q is not in the job's catalogs: %w", name, warehouse.ErrNotFound)
	}
	props, err := secretProps.Reveal()
	if err != nil {
		return nil, nil, fmt.Errorf("catalog %s: %w", name, err)
	}
	c, err := iceberg.OpenCatalog(ctx, name, props)
	if err != nil {
		return nil, nil, err
	}
	s, err := j.openStore(name, props)
	if err != nil {
		return nil, nil, err
	}
	j.catalogs[name], j.stores[name] = c, s
	return c, s, nil
}

// openStore opens the store of a catalog's files.
func (j *Job) openStore(name string, props map[string]string) (storage.Store, error) {
	storeProps, err := j.cfg.Storage.Reveal()
	if err != nil {
		return nil, fmt.Errorf("storage properties: %w", err)
	}
	if storeProps == nil {
		storeProps = map[string]string{}
	}
	maps.Copy(storeProps, props) // the catalog's own properties win
	s := j.decorate(name, storage.New(storeProps), true)
	if j.readOnly {
		s = storage.ReadOnly(s)
	}
	return s, nil
}

// workers is how many files this process works on at once.
func (j *Job) workers() int {
	if j.cfg.Engine.Workers > 0 {
		return j.cfg.Engine.Workers
	}
	return runtime.GOMAXPROCS(0)
}

// targetStore is the store that holds a target's files.
func (j *Job) targetStore(ctx context.Context, name string) (storage.Store, error) {
	catName, _, _ := strings.Cut(name, ".")
	if j.custom(name) {
		return j.CatalogStore(catName)
	}
	if s := j.vendedStore(name); s != nil {
		return s, nil
	}
	_, store, err := j.catalog(ctx, catName)
	return store, err
}

// custom says whether a target is of a catalog that OpenTarget serves.
func (j *Job) custom(target string) bool {
	catName, _, _ := strings.Cut(target, ".")
	props, ok := j.cfg.Catalogs[catName]
	return ok && props.Get("type") == configs.CustomCatalog
}

// CatalogStore is the store of a catalog's files, under the job's limits, retries and
// counters; in a dry run it takes no write. For the targets that Env.OpenTarget opens.
func (j *Job) CatalogStore(name string) (storage.Store, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if s, ok := j.stores[name]; ok {
		return s, nil
	}
	props, err := j.cfg.Catalogs[name].Reveal()
	if err != nil {
		return nil, fmt.Errorf("catalog %s: %w", name, err)
	}
	s, err := j.openStore(name, props)
	if err != nil {
		return nil, err
	}
	j.stores[name] = s
	return s, nil
}
