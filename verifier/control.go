package verifier

import (
	"context"
	"fmt"

	iceberg "github.com/apache/iceberg-go"

	"github.com/expunge/expunge/keyset"
	"github.com/expunge/expunge/warehouse"
)

// controlFiles is how many live files the positive control tries.
const controlFiles = 3

// offer keeps the first few live files that were read, for the control.
func (v *tableCheck) offer(j fileJob) {
	if j.snap != 0 {
		return
	}
	v.sum.mu.Lock()
	defer v.sum.mu.Unlock()
	if len(v.tried) < controlFiles {
		v.tried = append(v.tried, j.f)
	}
}

// positiveControl shows that the code which found nothing can find something:
// it takes a key out of each of a few live files and looks for it there by the
// same scan. A file without a single key is no control.
func (v *tableCheck) positiveControl() error {
	for _, df := range v.tried {
		tried, found, err := v.tryFile(v.ctx, df)
		if err != nil {
			if v.ctx.Err() != nil {
				return v.ctx.Err()
			}
			continue // it was read a moment ago; whatever this is, it shows nothing
		}
		if !tried {
			continue
		}
		if v.control == nil {
			v.control = &Control{Found: true}
		}
		v.control.Files++
		v.control.Found = v.control.Found && found
	}
	return nil
}

func (v *tableCheck) tryFile(ctx context.Context, df iceberg.DataFile) (tried, found bool, err error) {
	f, err := openParquet(ctx, v.store, df.FilePath())
	if err != nil {
		return false, false, err
	}
	defer f.Close()
	bound, err := v.bind(f, df)
	if err != nil {
		return false, false, err
	}
	for i, b := range bound {
		if b == nil || b.allConstant() {
			continue
		}
		set, err := b.sampleKey(ctx, f)
		if err != nil {
			return false, false, err
		}
		if set == nil {
			continue
		}
		known, err := bindFile(f, []warehouse.BoundMatch{{Keys: set, Columns: v.matches[i].Columns}})
		if err != nil || known[0] == nil {
			return false, false, err
		}
		hits, err := scanKeys(ctx, f, known)
		return true, err == nil && !hits.IsEmpty(), err
	}
	return false, false, nil
}

// sampleKey makes a keyset of the first key that a file holds; nil when it
// holds none, or when parts come from partition values.
func (b *boundKeys) sampleKey(ctx context.Context, f *parquetFile) (*keyset.Set, error) {
	if b.consts != nil {
		return nil, nil
	}
	group := ""
	for _, c := range b.info {
		if c.group != "" {
			group = c.group
		}
	}
	z := b.zip(ctx, f, group)
	defer z.close()
	key, err := z.first()
	if key == nil || err != nil {
		return nil, err
	}
	builder, err := keyset.NewBuilder("control", b.keys.Schema())
	if err != nil {
		return nil, fmt.Errorf("build control: %w", err)
	}
	if err := builder.Add(key); err != nil {
		return nil, fmt.Errorf("build control: %w", err)
	}
	return builder.Build()
}
