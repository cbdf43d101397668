package iceberg

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/apache/iceberg-go/catalog"
	iceio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/table"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/internal/storage/icebergio"
	"github.com/expunge/expunge/warehouse"
)

// Table is one Iceberg table as a target. It is safe for concurrent use; each
// method works on the metadata that it loads itself, except Deleted, which
// works on the files that its task names.
type Table struct {
	cat   *Catalog
	ident table.Identifier
	store storage.Store
	name  string // "lake.sales.orders"
	// branch is what Branch was asked for; "" = main.
	branch string

	deletes  *deleteCache
	keyIndex KeyIndex // nil = none
	latest   atomic.Pointer[table.Metadata]
}

// Open binds a table of a catalog. It loads the table once, so a missing table
// is an error here (warehouse.ErrNotFound) and one that cannot be worked on,
// such as an encrypted table, is refused (warehouse.ErrUnsupported).
func Open(ctx context.Context, cat *Catalog, ident table.Identifier, store storage.Store) (*Table, error) {
	t := &Table{
		cat:     cat,
		ident:   ident,
		store:   store,
		name:    cat.Name() + "." + strings.Join(ident, "."),
		deletes: newDeleteCache(),
	}
	tbl, err := t.load(ctx)
	if err != nil {
		return nil, err
	}
	if err := supported(tbl.Metadata()); err != nil {
		return nil, fmt.Errorf("open %s: %w", t.name, err)
	}
	return t, nil
}

// OpenWith is Open for catalogs that hand out credentials with each table, as
// REST catalogs may: open makes the store from the catalog's properties
// and those that came with the table. It needs icebergio.Install. The
// store keeps the credentials that it was made with.
func OpenWith(ctx context.Context, cat *Catalog, ident table.Identifier, open icebergio.Open) (*Table, error) {
	var last map[string]string
	ctx2 := icebergio.WithOpen(ctx, func(ctx context.Context, props map[string]string) storage.Store {
		last = props
		return open(ctx, props)
	})
	tbl, err := cat.LoadTable(ctx2, ident)
	if err != nil {
		if errors.Is(err, catalog.ErrNoSuchTable) || errors.Is(err, catalog.ErrNoSuchNamespace) {
			return Open(ctx, cat, ident, open(ctx, cat.props)) // says what is missing
		}
		return nil, fmt.Errorf("load table %s.%s: %w", cat.Name(), strings.Join(ident, "."), err)
	}
	if _, err := tbl.FS(ctx2); err != nil {
		return nil, fmt.Errorf("storage of table %s.%s: %w", cat.Name(), strings.Join(ident, "."), cleanError(err))
	}
	if last == nil {
		last = cat.props
	}
	return Open(ctx, cat, ident, open(ctx, withoutTableProperties(last, cat.props, tbl.Properties())))
}

// withoutTableProperties takes out of what came with a table what iceberg-go
// mixes in from its metadata: whoever may set a table's properties must not say
// where requests with our credentials go.
func withoutTableProperties(props, own, table map[string]string) map[string]string {
	props = maps.Clone(props)
	for k, v := range table {
		if props[k] != v {
			continue
		}
		delete(props, k)
		if mine, ok := own[k]; ok {
			props[k] = mine
		}
	}
	return props
}

// Name is the table's full name, catalog first.
func (t *Table) Name() string { return t.name }

// Identifier is the table's name within its catalog.
func (t *Table) Identifier() table.Identifier { return t.ident }

// load reads the table's current metadata from the catalog. The table it
// returns does all its input and output through our store.
func (t *Table) load(ctx context.Context) (*table.Table, error) {
	tbl, err := t.cat.LoadTable(icebergio.With(ctx, t.store), t.ident)
	if err != nil {
		if errors.Is(err, catalog.ErrNoSuchTable) || errors.Is(err, catalog.ErrNoSuchNamespace) {
			if t.cat.isView(ctx, t.ident) {
				return nil, fmt.Errorf("load table %s: it is a view: %w", t.name, warehouse.ErrUnsupported)
			}
			return nil, fmt.Errorf("load table %s: %w", t.name, warehouse.ErrNotFound)
		}
		return nil, fmt.Errorf("load table %s: %w", t.name, err)
	}
	meta, err := t.view(tbl.Metadata())
	if err != nil {
		return nil, err
	}
	t.latest.Store(&meta)
	return table.New(t.ident, meta, tbl.MetadataLocation(), t.fsF, t.cat.Catalog), nil
}

// fs is the store seen as iceberg-go's file system, bound to ctx.
func (t *Table) fs(ctx context.Context) iceio.IO { return icebergio.FromStore(ctx, t.store) }

func (t *Table) fsF(ctx context.Context) (iceio.IO, error) { return t.fs(ctx), nil }

// Describe identifies the table and its head.
func (t *Table) Describe(ctx context.Context) (warehouse.Description, error) {
	tbl, err := t.load(ctx)
	if err != nil {
		return warehouse.Description{}, err
	}
	return t.describe(ctx, tbl)
}

// describe is Describe for metadata that is loaded already.
func (t *Table) describe(ctx context.Context, tbl *table.Table) (warehouse.Description, error) {
	meta := tbl.Metadata()
	d := warehouse.Description{
		Name:             t.name,
		UUID:             meta.TableUUID().String(),
		Location:         meta.Location(),
		FormatVersion:    meta.Version(),
		MetadataLocation: tbl.MetadataLocation(),
	}
	if s := meta.CurrentSnapshot(); s != nil {
		d.SnapshotID, d.SequenceNumber = s.SnapshotID, s.SequenceNumber
	}
	for name, ref := range meta.Refs() {
		d.Refs = append(d.Refs, warehouse.Ref{Name: name, Type: string(ref.SnapshotRefType), SnapshotID: ref.SnapshotID})
	}
	slices.SortFunc(d.Refs, func(a, b warehouse.Ref) int { return strings.Compare(a.Name, b.Name) })
	if d.MetadataLocation == "" {
		return d, nil
	}
	raw, err := storage.ReadAll(ctx, t.store, d.MetadataLocation)
	if errors.Is(err, fs.ErrNotExist) {
		// A REST catalog may serve metadata whose file it has already replaced.
		return d, nil
	}
	if errors.Is(err, storage.ErrScheme) {
		raw, err = metadataText(tbl)
	}
	if err != nil {
		return d, fmt.Errorf("read metadata of %s: %w", t.name, err)
	}
	sum := sha256.Sum256(raw)
	d.MetadataSHA256 = hex.EncodeToString(sum[:])
	return d, nil
}

// metadataText is the metadata as the catalog serves it. Some catalogs, Nessie
// among them, keep it in their own store and name it by an address of theirs
// instead of a file's.
func metadataText(tbl *table.Table) ([]byte, error) {
	meta := tbl.Metadata()
	if b, ok := meta.(branchMetadata); ok {
		meta = b.Metadata
	}
	raw, err := json.Marshal(meta)
	if err != nil {
		return nil, fmt.Errorf("encode metadata: %w", err)
	}
	return raw, nil
}

// ServedMetadata returns the table's present metadata when the catalog serves
// it itself, under the address that it gives it; ok is false when it is a file.
func (t *Table) ServedMetadata(ctx context.Context) (location string, raw []byte, ok bool, err error) {
	tbl, err := t.load(ctx)
	if err != nil {
		return "", nil, false, err
	}
	location = tbl.MetadataLocation()
	if !strings.HasPrefix(location, "http://") && !strings.HasPrefix(location, "https://") {
		return location, nil, false, nil
	}
	raw, err = metadataText(tbl)
	return location, raw, err == nil, err
}
