package process

import (
	"os"
	"runtime/pprof"
	"slices"
)

// Profile writes a CPU profile of this process to the file that BENCH_PROFILE
// names, until stop is called; without the variable it does nothing.
func Profile() (stop func(), err error) {
	path := os.Getenv("BENCH_PROFILE")
	if path == "" {
		return func() {}, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		f.Close()
		return nil, err
	}
	return func() { pprof.StopCPUProfile(); f.Close() }, nil
}

// Median is the middle of an odd number of values, the mean of the middle two of
// an even one, and 0 of none.
func Median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	return (s[len(s)/2] + s[(len(s)-1)/2]) / 2
}
