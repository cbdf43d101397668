package objects

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/expunge/expunge/internal/storage"
)

// ErrTable: the prefix holds a table, or lies in one.
var ErrTable = errors.New("the prefix holds a table's files, which must not be rewritten in place")

// ownFolder holds what runs write for themselves, below the prefix.
const ownFolder = ".expunge/"

// class is what an object is to the target.
type class string

const (
	data        class = ""
	hidden      class = "hidden"
	emptyObject class = "empty object"
	otherFormat class = "another format"
	noGlob      class = "not named by a glob"
	summaryFile class = "Parquet summary file"
)

// classify says what an object is; ErrTable when it belongs to a table.
func (t *Target) classify(info storage.Info) (class, error) {
	rel := strings.TrimPrefix(info.Path, t.prefix)
	if strings.HasPrefix(rel, ownFolder) {
		return hidden, nil
	}
	if kind := tableMark(rel); kind != "" {
		return hidden, fmt.Errorf("%s: found the metadata of a table of %s: %w", t.name, kind, ErrTable)
	}
	base := path.Base(rel)
	if t.cfg.Format == "parquet" && (base == "_metadata" || base == "_common_metadata") {
		return summaryFile, nil
	}
	named, byHidden := len(t.cfg.Globs) == 0, false
	for _, g := range t.cfg.Globs {
		ok, err := storage.Match(g, rel)
		if err != nil {
			return hidden, fmt.Errorf("glob %q: %w", g, err)
		}
		if ok {
			named = true
			byHidden = byHidden || hiddenName(g)
		}
	}
	switch {
	case hiddenName(rel) && !byHidden:
		return hidden, nil
	case !named:
		return noGlob, nil
	case info.Size == 0:
		return emptyObject, nil
	case len(t.cfg.Globs) == 0 && !t.suits(base):
		return otherFormat, nil
	}
	return data, nil
}

// tableMark names the kind of table whose metadata a path belongs to.
func tableMark(rel string) string {
	steps := strings.Split(rel, "/")
	for i, s := range steps {
		switch {
		case i < len(steps)-1 && s == "_delta_log":
			return "Delta Lake"
		case i < len(steps)-1 && s == ".hoodie":
			return "Apache Hudi"
		case i == len(steps)-2 && s == "metadata" && icebergFile(steps[i+1]):
			return "Apache Iceberg"
		}
	}
	return ""
}

func icebergFile(name string) bool {
	return strings.HasSuffix(name, ".metadata.json") || strings.HasSuffix(name, ".metadata.json.gz") || name == "version-hint.text" ||
		strings.HasSuffix(name, ".avro") && (strings.HasPrefix(name, "snap-") || strings.HasSuffix(name, "-m0.avro"))
}

// hiddenName says whether a step of a path, or of a glob, is hidden. "_x=1" is
// a partition.
func hiddenName(rel string) bool {
	for s := range strings.SplitSeq(rel, "/") {
		if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "_") && !strings.Contains(s, "=") {
			return true
		}
	}
	return false
}

// suffixes are the names that formats go by.
var suffixes = map[string][]string{
	"ndjson":  {".ndjson", ".jsonl", ".json", ".jsonlines", ".ldjson"},
	"csv":     {".csv"},
	"tsv":     {".tsv", ".tab"},
	"avro":    {".avro"},
	"parquet": {".parquet", ".parq", ".pq"},
}

var packings = []string{".gz", ".gzip", ".zst", ".zstd", ".snappy", ".sz", ".bz2", ".deflate", ".lz4", ".xz", ".lzo", ".br"}

// others are names of data in formats that are never a target.
var others = []string{".orc", ".xml", ".xlsx", ".arrow", ".feather", ".crc", ".zip", ".tar", ".md5", ".sha256"}

// suits says whether a name may be of the target's format: it has one of its
// suffixes, or none that is known.
func (t *Target) suits(base string) bool {
	name := strings.ToLower(base)
	for _, p := range packings {
		name = strings.TrimSuffix(name, p)
	}
	for format, list := range suffixes {
		for _, s := range list {
			if strings.HasSuffix(name, s) {
				return format == t.cfg.Format
			}
		}
	}
	for _, s := range others {
		if strings.HasSuffix(name, s) {
			return false
		}
	}
	return true
}

// walk lists the prefix and calls visit for every object with its class.
func (t *Target) walk(ctx context.Context, visit func(storage.Info, class) error) error {
	for info, err := range t.store.List(ctx, t.prefix) {
		if err != nil {
			return fmt.Errorf("list: %w", err)
		}
		if strings.HasSuffix(info.Path, "/") {
			continue // a folder marker
		}
		c, err := t.classify(info)
		if err != nil {
			return err
		}
		if err := visit(info, c); err != nil {
			return err
		}
	}
	return nil
}

// inTable refuses a prefix that lies inside a table's folder.
func (t *Target) inTable(ctx context.Context) error {
	loc := storage.ParseLocation(t.prefix)
	root := strings.TrimSuffix(t.prefix, loc.Key)
	dir := strings.TrimSuffix(loc.Key, "/")
	for i := 0; i < 12 && dir != "" && dir != "."; i++ {
		dir = strings.TrimSuffix(path.Dir(dir), "/")
		if dir == "." || dir == "" {
			dir = ""
			if root == "" || loc.Scheme == "file" {
				break
			}
		}
		above := root + dir
		if dir != "" {
			above += "/"
		}
		for _, mark := range []string{"_delta_log/", ".hoodie/", "metadata/"} {
			if err := t.noTable(ctx, above, mark); err != nil {
				return err
			}
		}
	}
	return nil
}

// noTable looks at the first objects of a folder that only tables have.
func (t *Target) noTable(ctx context.Context, above, mark string) error {
	n := 0
	for info, err := range t.store.List(ctx, above+mark) {
		if err != nil {
			if errors.Is(err, fs.ErrPermission) {
				return nil // what lies above the prefix is none of the job's business
			}
			return fmt.Errorf("look for tables around the prefix: %w", err)
		}
		if kind := tableMark(strings.TrimPrefix(info.Path, above)); kind != "" {
			return fmt.Errorf("%s: lies in the folder of a table of %s: %w", t.name, kind, ErrTable)
		}
		if n++; n == 100 {
			break
		}
	}
	return nil
}
