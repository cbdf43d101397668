package jobs

import (
	"bytes"
	"context"
	"strings"

	"github.com/expunge/expunge/internal/storage"
	"github.com/expunge/expunge/verifier"
)

// served says that a metadata location is an address of the catalog's, not a file's.
func served(location string) bool {
	return strings.HasPrefix(location, "http://") || strings.HasPrefix(location, "https://")
}

// metadataServer is a target whose catalog may serve metadata itself.
type metadataServer interface {
	ServedMetadata(ctx context.Context) (location string, raw []byte, ok bool, err error)
}

// verifyTable has the verifier read a table's metadata at a location. What a
// catalog serves itself is put before the store, so that the verifier, which
// knows files only, reads it like one.
func verifyTable(ctx context.Context, store storage.Store, t *boundTarget, location string, o verifier.Options) (*verifier.Report, error) {
	o.Action = t.action
	if own, ok := t.target.(Checked); ok {
		return own.Look(ctx, t.bound, o)
	}
	if s, ok := t.target.(metadataServer); ok && served(location) {
		at, raw, ok, err := s.ServedMetadata(ctx)
		if err != nil {
			return nil, err
		}
		if ok {
			location, store = at, withObject{store, at, raw}
		}
	}
	o.Action = t.action
	target := verifier.Target{Name: t.name, MetadataLocation: location}
	if t.group == 0 {
		return verifier.VerifyTable(ctx, store, target, t.bound, o)
	}
	_, target.Ref = branchOf(t.name)
	o.Metadata, o.Orphans = false, false
	rep, err := verifier.VerifyTable(ctx, store, target, t.bound, o)
	if err == nil {
		branchSurfaces(rep)
	}
	return rep, err
}

// compareFile has a file compared with its replacement, by the verifier or by
// the code that the target brings along.
func compareFile(ctx context.Context, store storage.Store, t *boundTarget, rw verifier.Rewrite) (*verifier.RewriteReport, error) {
	if own, ok := t.target.(Checked); ok {
		return own.Compare(ctx, rw)
	}
	return verifier.Survivors(ctx, store, rw)
}

// withObject is a store with one object more, for reading.
type withObject struct {
	storage.Store
	path string
	data []byte
}

// Open opens the object, or one of the store's.
func (w withObject) Open(ctx context.Context, path string) (storage.Object, error) {
	if path != w.path {
		return w.Store.Open(ctx, path)
	}
	return heldObject{bytes.NewReader(w.data), storage.Info{Path: path, Size: int64(len(w.data))}}, nil
}

type heldObject struct {
	*bytes.Reader
	info storage.Info
}

func (o heldObject) Info() storage.Info { return o.info }
func (o heldObject) Close() error       { return nil }
