package main

// A benchCase is a row of the report.
type benchCase struct {
	Name  string // also what -only matches
	Title string
	Kind  kind
	Data  data
	Keys  string // name of a key file
	// Column of a scan.
	Column string
	// Goals of the case, as ratios; 0 is none.
	Goal goal
}

type kind string

const (
	kindRewrite kind = "rewrite" // beside cp and DuckDB
	kindScan    kind = "scan"    // beside DuckDB's semi-join
	kindPruned  kind = "pruned"  // bytes read by a pruned scan
	kindCost    kind = "cost"    // what an option or a feature costs
	kindSize    kind = "size"    // one file size of the series
)

// data names one generated file.
type data struct {
	File   string
	Rows   int
	Codec  string
	Sorted bool
	Bloom  bool
	Times  int // row groups of the zstd file so many times over; removed after the case
}

// goal holds a case's figures: at most MaxCp times cp's wall; DuckDB's default
// setting takes at least so many times the wall and CPU, its best setting at
// least BestCPU times the CPU; growth of the file in percent at most; a scan's
// share of the key column in percent at most.
type goal struct {
	MaxCp, Wall, CPU, BestCPU float64
	Growth, Share             float64
}

const rows = 10_000_000

var (
	zstdFile   = data{File: "zstd.parquet", Rows: rows, Codec: "zstd"}
	sortedFile = data{File: "sorted.parquet", Rows: rows, Codec: "zstd", Sorted: true}
	snappyFile = data{File: "snappy.parquet", Rows: rows, Codec: "snappy"}
	plainFile  = data{File: "plain.parquet", Rows: rows / 4, Codec: "zstd"}
	bloomFile  = data{File: "bloom.parquet", Rows: rows / 4, Codec: "zstd", Bloom: true}
)

// Users to erase whose rows lie in about so many of the pages: see data.py for
// how key files are named.
const (
	keysOne  = "one"
	keys15   = "n13"
	keys60   = "n220"
	keysAll  = "n4000"
	keysScan = "million"
	keysFew  = "r23"
)

func cases() []benchCase {
	out := []benchCase{
		{Name: "zstd-0.5", Title: "one row", Kind: kindRewrite, Data: zstdFile, Keys: keysOne, Goal: goal{MaxCp: 2, Wall: 25, CPU: 30}},
		{Name: "zstd-15", Title: "about 15 % of the pages", Kind: kindRewrite, Data: zstdFile, Keys: keys15, Goal: goal{Wall: 9, CPU: 9}},
		{Name: "zstd-60", Title: "about 60 % of the pages", Kind: kindRewrite, Data: zstdFile, Keys: keys60, Goal: goal{Wall: 2.5, CPU: 2.5}},
		{Name: "zstd-100", Title: "every page", Kind: kindRewrite, Data: zstdFile, Keys: keysAll, Goal: goal{BestCPU: 1.2, Growth: 1}},
		{Name: "sorted-15", Title: "sorted by key, the same users as 15 %", Kind: kindRewrite, Data: sortedFile, Keys: keys15, Goal: goal{Wall: 9, CPU: 9}},
		{Name: "sorted-100", Title: "sorted by key, the same users as every page", Kind: kindRewrite, Data: sortedFile, Keys: keysAll, Goal: goal{BestCPU: 1.2, Growth: 1}},
		{Name: "snappy-100", Title: "Snappy, every page", Kind: kindRewrite, Data: snappyFile, Keys: keysAll, Goal: goal{BestCPU: 1.8, Growth: 1}},
		{Name: "scan-int64", Title: "scan an int64 column for 1 M keys", Kind: kindScan, Data: zstdFile, Keys: keysScan, Column: "user_id", Goal: goal{BestCPU: 2.2}},
		{Name: "scan-string", Title: "scan a string column for 1 M keys", Kind: kindScan, Data: zstdFile, Keys: keysScan, Column: "email", Goal: goal{BestCPU: 1.6}},
		{Name: "scan-pruned", Title: "sorted by key, scan for 23 neighbouring keys", Kind: kindPruned, Data: sortedFile, Keys: keysFew, Column: "user_id", Goal: goal{Share: 2}},
		{Name: "scan-spread", Title: "sorted by key, scan for 23 keys of any place", Kind: kindPruned, Data: sortedFile, Keys: "n23", Column: "user_id"},
		{Name: "cost-check", Title: "decode check (every page)", Kind: kindCost, Data: zstdFile, Keys: keysAll},
		{Name: "cost-digest", Title: "SHA-256 of the output (one row)", Kind: kindCost, Data: zstdFile, Keys: keysOne},
		{Name: "cost-bloom", Title: "bloom filters of two columns rebuilt (one row a row group)", Kind: kindCost, Data: bloomFile, Keys: "q4"},
	}
	for _, s := range []struct {
		name string
		rows int
	}{{"0.1GB", 1_000_000}, {"0.25GB", 2_500_000}, {"0.5GB", 5_000_000}, {"1GB", 10_000_000}, {"2GB", 20_000_000}, {"4GB", 40_000_000}} {
		d := data{File: "size-" + s.name + ".parquet", Rows: s.rows, Codec: "zstd", Times: s.rows / rows}
		if d.Times == 1 {
			d = zstdFile
		}
		out = append(out, benchCase{Name: "size-" + s.name, Title: s.name, Kind: kindSize, Data: d})
	}
	return out
}
