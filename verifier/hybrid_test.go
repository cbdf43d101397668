package verifier

import (
	"errors"
	"slices"
	"testing"
)

// TestHybridRuns: the last bit-packed run may be cut short behind the last
// value, or go on with groups that no value is in, as DuckDB writes it.
func TestHybridRuns(t *testing.T) {
	packed := []byte{0b10_01_00_11, 0b00_00_01_10, 0b11_01} // 3 0 1 2, 2 1 0 0, 1 3
	for name, tc := range map[string]struct {
		raw  []byte
		n    int
		want []uint64 // nil = corrupt
	}{
		"whole groups":          {append([]byte{2<<1 | 1}, append(slices.Clone(packed), 0)...), 10, []uint64{3, 0, 1, 2, 2, 1, 0, 0, 1, 3}},
		"cut short":             {append([]byte{2<<1 | 1}, packed...), 10, []uint64{3, 0, 1, 2, 2, 1, 0, 0, 1, 3}},
		"padded to many groups": {append([]byte{32<<1 | 1}, append(slices.Clone(packed), make([]byte, 61)...)...), 10, []uint64{3, 0, 1, 2, 2, 1, 0, 0, 1, 3}},
		"a run behind it":       {append([]byte{1<<1 | 1}, packed[0], packed[1], 2<<1, 1), 10, []uint64{3, 0, 1, 2, 2, 1, 0, 0, 1, 1}},
		"too few bytes":         {append([]byte{2<<1 | 1}, packed[:2]...), 10, nil},
		"no group":              {[]byte{1, 0}, 1, nil},
		"an endless run":        {[]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0}, 10, nil},
	} {
		var got []uint64
		err := decodeHybrid(tc.raw, 2, tc.n, func(v uint64, times int) error {
			for range times {
				got = append(got, v)
			}
			return nil
		})
		switch {
		case tc.want == nil && !errors.Is(err, errCorrupt):
			t.Errorf("%s: %v, want a corrupt page", name, err)
		case tc.want != nil && (err != nil || !slices.Equal(got, tc.want)):
			t.Errorf("%s: %v, %v, want %v", name, got, err, tc.want)
		}
	}
}
