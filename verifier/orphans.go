package verifier

import (
	"fmt"
	"io"
	"strings"

	iceberg "github.com/apache/iceberg-go"

	"github.com/expunge/expunge/internal/storage"
)

// maxOrphanText bounds how much of an orphan of unknown form is searched.
const maxOrphanText = 64 << 20

// orphans lists what is stored under the table's location and looks into what
// nothing refers to. A file of a writer at work looks the same; its age is the
// caller's to judge.
func (v *tableCheck) orphans() error {
	if !v.o.Orphans {
		return nil
	}
	v.sum.looked(Orphans, 0, 0)
	loc := strings.TrimSuffix(v.inv.meta.Location(), "/") + "/"
	for info, err := range v.store.List(v.ctx, loc) {
		if err != nil {
			return fmt.Errorf("list table location: %w", err)
		}
		if v.inv.known.has(info.Path) || isHint(info.Path) {
			continue
		}
		if err := v.orphan(info); err != nil {
			if v.ctx.Err() != nil {
				return v.ctx.Err()
			}
			v.sum.leave(Orphans, true)
		}
	}
	return nil
}

// isHint: the hadoop catalog's pointer holds a number only.
func isHint(p string) bool { return strings.HasSuffix(p, "/metadata/version-hint.text") }

func (v *tableCheck) orphan(info storage.Info) error {
	at := Finding{Surface: Orphans, Object: info.Path, Certain: true, State: "orphan or in flight"}
	n, certain := v.meta.inPath(info.Path)
	if n > 0 {
		at.Count, at.Certain = n, certain
		v.sum.found(at)
	}
	at.Certain = true
	switch {
	case strings.HasSuffix(info.Path, ".parquet"):
		hits, read, err := v.scanAny(info.Path)
		if err != nil {
			return err
		}
		v.sum.looked(Orphans, 1, read)
		if at.Count = hits; hits > 0 {
			v.sum.found(at)
		}
		return nil
	case strings.HasSuffix(info.Path, ".avro"):
		return v.orphanAvro(info, at)
	case isMetadataFile(info.Path):
		if !v.o.Metadata { // otherwise searched as table metadata already
			return v.orphanText(info, at)
		}
		v.sum.looked(Orphans, 1, 0)
		return nil
	case strings.HasSuffix(info.Path, ".puffin"):
		obj, err := v.store.Open(v.ctx, info.Path)
		if err != nil {
			return err
		}
		defer obj.Close()
		v.sum.looked(Orphans, 1, 0)
		return v.puffinObject(info.Path, obj, info.Size)
	}
	return v.orphanText(info, at)
}

// orphanAvro reads an Iceberg manifest that nothing refers to; a list has
// ranges only and is read as one.
func (v *tableCheck) orphanAvro(info storage.Info, at Finding) error {
	obj, err := v.store.Open(v.ctx, info.Path)
	if err != nil {
		return err
	}
	defer obj.Close()
	v.sum.looked(Orphans, 1, info.Size)
	hits, err := v.manifestHits(obj, info)
	if err != nil {
		hits, err = v.listHits(obj, info)
	}
	if err != nil {
		return errCorrupt
	}
	if at.Count = hits; hits > 0 {
		v.sum.found(at)
	}
	return nil
}

func (v *tableCheck) manifestHits(r io.ReaderAt, info storage.Info) (hits int64, err error) {
	defer guard(&err)
	m := iceberg.NewManifestFile(2, info.Path, info.Size, 0, 0).Build()
	entries, err := iceberg.ReadManifest(m, io.NewSectionReader(r, 0, info.Size), false)
	if err != nil {
		return 0, errCorrupt
	}
	for _, e := range entries {
		f := e.DataFile()
		for _, k := range v.meta.single {
			for _, b := range [][]byte{f.LowerBoundValues()[k.id], f.UpperBoundValues()[k.id]} {
				if b == nil || v.meta.types[k.id] == nil {
					continue
				}
				if c, ok := icebergBound(k.conv, v.meta.types[k.id], b); ok && k.keys.Contains(c) {
					hits++
				}
			}
		}
		n, _ := v.meta.inPath(f.FilePath())
		hits += n
	}
	return hits, nil
}

func (v *tableCheck) listHits(r io.ReaderAt, info storage.Info) (hits int64, err error) {
	defer guard(&err)
	list, err := iceberg.ReadManifestList(io.NewSectionReader(r, 0, info.Size))
	if err != nil {
		return 0, errCorrupt
	}
	for _, m := range list {
		spec := v.inv.meta.PartitionSpecByID(int(m.PartitionSpecID()))
		if spec == nil {
			continue
		}
		for i, s := range m.Partitions() {
			for _, b := range []*[]byte{s.LowerBound, s.UpperBound} {
				if b != nil && i < spec.NumFields() && v.meta.partitionBytes(spec.Field(i), *b) {
					hits++
				}
			}
		}
	}
	return hits, nil
}

// orphanText searches a file of unknown form as raw bytes.
func (v *tableCheck) orphanText(info storage.Info, at Finding) error {
	obj, err := v.store.Open(v.ctx, info.Path)
	if err != nil {
		return err
	}
	defer obj.Close()
	s := v.meta.search
	s.certain = true
	overlap := int64(s.longest())
	for from := int64(0); from < min(info.Size, maxOrphanText); from += gapWindow {
		b := make([]byte, min(gapWindow+overlap, info.Size-from))
		if err := readAt(obj, b, from); err != nil {
			return err
		}
		at.Count += s.raw(b)
	}
	v.sum.looked(Orphans, 1, min(info.Size, maxOrphanText))
	if at.Count > 0 {
		at.Certain = s.certain
		v.sum.found(at)
	}
	return nil
}
