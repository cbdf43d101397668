//go:build interop

package interop

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// seen is what one reader says of one table.
type seen struct {
	Hits      int64  `json:"hits"`
	Survivors int64  `json:"survivors"`
	Checksum  string `json:"checksum"`
}

// reading is table → reader → what it says.
type reading map[string]map[string]seen

// judge compares two readings: no hits after, the survivors as before.
func judge(t *testing.T, before, after reading) {
	t.Helper()
	for table, readers := range before {
		for reader, b := range readers {
			a := after[table][reader]
			if b.Hits == 0 || b.Survivors == 0 {
				t.Errorf("%s read by %s: %d hits and %d survivors before the run prove nothing", table, reader, b.Hits, b.Survivors)
			}
			if a.Hits != 0 {
				t.Errorf("%s: %s still finds %d of %d rows", table, reader, a.Hits, b.Hits)
			}
			if a.Survivors != b.Survivors || a.Checksum != b.Checksum {
				t.Errorf("%s: %s sees %d survivors with checksum %s, before the run %d with %s", table, reader, a.Survivors, a.Checksum, b.Survivors, b.Checksum)
			}
			t.Logf("%-12s %-10s %6d rows erased, %7d survivors unchanged", table, reader, b.Hits, a.Survivors)
		}
	}
}

// lake is one configuration of a catalog, as each program names it.
type lake struct {
	dir       string
	pyiceberg map[string]string
	spark     map[string]string
	job       map[string]string
	s3        map[string]string // DuckDB's
	state     string
	keys      string
	shared    bool // the catalog's tables share files, so history stays
}

func (l *lake) keysFile() string { return filepath.Join(l.dir, "keys.csv") }

// writeJob writes a job file over tables: name → match columns.
func (l *lake) writeJob(t *testing.T, targets map[string][]string, extra string) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "version: 1\nname: interop\npolicy: {controller: Interop, id: I-1, basis: GDPR Art. 17}\nstate: %q\ngrace: 0s\nlimits: {share: 20%%}\nverify: {mode: full}\n%s", l.state, extra)
	b.WriteString("catalogs:\n  lake:\n")
	for k, v := range l.job {
		fmt.Fprintf(&b, "    %s: %q\n", k, hidden(k, v))
	}
	if len(l.s3) > 0 {
		b.WriteString("storage:\n")
		for k, v := range l.job {
			if strings.HasPrefix(k, "s3.") {
				fmt.Fprintf(&b, "  %s: %q\n", k, hidden(k, v))
			}
		}
	}
	fmt.Fprintf(&b, "keysets:\n  tails: {source: %q, key: {tailnum: string}}\ntargets:\n", l.keys)
	for table, columns := range targets {
		fmt.Fprintf(&b, "  - table: lake.air.%s\n    action: delete\n    match:\n", table)
		for _, c := range columns {
			fmt.Fprintf(&b, "      - {tails: %q}\n", c)
		}
	}
	file := filepath.Join(l.dir, "job.yaml")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// hidden refers to a secret instead of writing it into a job file.
func hidden(property, value string) string {
	if strings.HasSuffix(property, "secret-access-key") {
		return "${env:INTEROP_S3_SECRET}"
	}
	return value
}

// pyTargets are the tables of pyice.py with their match columns.
var pyTargets = map[string][]string{
	"by_month": {"tailnum"}, "by_bucket": {"tailnum"}, "by_trunc_v1": {"tailnum"}, "evolved": {"tail"},
	"nested": {"plane.tail", "legs.element.tail"},
}

// pyTables are those that PyIceberg can write into the catalog: Nessie refuses its schema changes.
func (l *lake) pyTables() map[string][]string {
	tables := maps.Clone(pyTargets)
	if l.shared {
		delete(tables, "evolved")
	}
	return tables
}

func (l *lake) pyConfig() map[string]any {
	return map[string]any{"only": slices.Sorted(maps.Keys(l.pyTables())), "catalog": l.pyiceberg, "namespace": "air", "keys_file": l.keysFile(), "s3": l.s3}
}

// localLake is PyIceberg's and Spark's SQLite catalog over a local folder.
func localLake(t *testing.T) *lake {
	t.Helper()
	dir := t.TempDir()
	db, wh := filepath.Join(dir, "catalog.db"), filepath.Join(dir, "warehouse")
	if err := os.Mkdir(wh, 0o755); err != nil {
		t.Fatal(err)
	}
	l := &lake{dir: dir, state: filepath.Join(dir, "state"),
		pyiceberg: map[string]string{"type": "sql", "uri": "sqlite:///" + db, "warehouse": "file://" + wh},
		spark:     map[string]string{"type": "jdbc", "uri": "jdbc:sqlite:" + db, "warehouse": "file:" + wh, "jdbc.schema-version": "V1"},
		job:       map[string]string{"type": "sql", "uri": "sqlite:///" + db, "warehouse": "file://" + wh},
	}
	l.keys = l.keysFile()
	return l
}

// s3Lake is a PostgreSQL catalog over a real S3 server.
func s3Lake(t *testing.T) *lake {
	t.Helper()
	endpoint, pg, dir := s3(t, "lake"), postgres(t), t.TempDir()
	l := &lake{dir: dir, state: "s3://lake/expunge-state",
		pyiceberg: withS3(map[string]string{"type": "sql", "uri": "postgresql+psycopg2://interop@" + pg + "/lake", "warehouse": "s3://lake/wh"}, endpoint),
		spark: map[string]string{"type": "jdbc", "uri": "jdbc:postgresql://" + pg + "/lake", "jdbc.user": "interop", "warehouse": "s3://lake/wh",
			"jdbc.schema-version": "V1", "io-impl": "org.apache.iceberg.aws.s3.S3FileIO", "s3.endpoint": endpoint, "s3.path-style-access": "true",
			"s3.access-key-id": s3Key, "s3.secret-access-key": s3Secret, "client.region": "us-east-1"},
		job: withS3(map[string]string{"type": "sql", "uri": "postgresql://interop@" + pg + "/lake", "warehouse": "s3://lake/wh"}, endpoint),
		s3:  map[string]string{"key": s3Key, "secret": s3Secret, "endpoint": endpoint},
	}
	l.keys = l.keysFile()
	return l
}

// nessieLake is Nessie's REST catalog over a real S3 server.
func nessieLake(t *testing.T) *lake {
	t.Helper()
	endpoint := s3(t, "lake")
	uri, dir := nessie(t, endpoint, "lake"), t.TempDir()
	l := &lake{dir: dir, state: filepath.Join(dir, "state"), shared: true,
		pyiceberg: withS3(map[string]string{"type": "rest", "uri": uri, "warehouse": "lake"}, endpoint),
		spark: map[string]string{"type": "rest", "uri": uri, "warehouse": "lake", "io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
			"s3.endpoint": endpoint, "s3.path-style-access": "true", "s3.access-key-id": s3Key, "s3.secret-access-key": s3Secret, "client.region": "us-east-1"},
		job: withS3(map[string]string{"type": "rest", "uri": uri, "warehouse": "lake"}, endpoint),
		s3:  map[string]string{"key": s3Key, "secret": s3Secret, "endpoint": endpoint},
	}
	l.keys = l.keysFile()
	return l
}

func withS3(m map[string]string, endpoint string) map[string]string {
	m["s3.endpoint"], m["s3.region"] = endpoint, "us-east-1"
	m["s3.access-key-id"], m["s3.secret-access-key"] = s3Key, s3Secret
	return m
}

// eraseIn runs the job. Nessie sets gc.enabled=false on its tables, because
// its branches may share their files: nothing of their history may be removed
// by anybody but Nessie. The rows are gone for every reader; the run says
// PARTIAL, names the reason, and exits with 4 for the residue that it lists.
func eraseIn(t *testing.T, l *lake, job string) {
	t.Helper()
	if !l.shared {
		mustErase(t, job)
		return
	}
	s, out, code := expunge(t, "run", job, "--yes")
	if code != 4 || s.Outcome != "PARTIAL" || !strings.Contains(out, "gc.enabled") {
		t.Fatalf("expunge run: exit code %d, outcome %q; want PARTIAL for gc.enabled\n%s", code, s.Outcome, tail(out, 6000))
	}
}

// erasePyIceberg has PyIceberg write, expunge erase, PyIceberg and DuckDB read.
func erasePyIceberg(t *testing.T, l *lake) {
	t.Helper()
	python(t, "pyice.py", "make", l.pyConfig(), nil)
	var before, after reading
	python(t, "pyice.py", "read", l.pyConfig(), &before)
	eraseIn(t, l, l.writeJob(t, l.pyTables(), ""))
	python(t, "pyice.py", "read", l.pyConfig(), &after)
	judge(t, before, after)
}

func TestPyIcebergTablesInSQLiteOnLocalDisk(t *testing.T) { erasePyIceberg(t, localLake(t)) }
func TestPyIcebergTablesInPostgreSQLOnS3(t *testing.T)    { erasePyIceberg(t, s3Lake(t)) }
func TestPyIcebergTablesInNessieOnS3(t *testing.T)        { erasePyIceberg(t, nessieLake(t)) }

func (l *lake) sparkConfig(tables map[string]any, versions ...int) map[string]any {
	jars, _ := filepath.Glob(filepath.Join(cache, "interop/jars/*.jar"))
	var use []string
	for _, j := range jars {
		if !strings.Contains(j, "nessie") {
			use = append(use, j)
		}
	}
	return map[string]any{"jars": use, "catalog": l.spark, "catalog_name": "lake", "namespace": "air", "keys_file": l.keysFile(),
		"parquet": filepath.Join(l.dir, "flights.parquet"), "tables": tables, "versions": versions}
}

// eraseSpark has Spark write merge-on-read tables, expunge erase, and Spark,
// PyIceberg and DuckDB read.
func eraseSpark(t *testing.T, l *lake, versions ...int) {
	t.Helper()
	tables, targets := map[string]any{}, map[string][]string{}
	for _, v := range versions {
		name := fmt.Sprintf("mor_v%d", v)
		tables[name] = map[string]any{"column": "tailnum", "lineage": v == 3}
		targets[name] = []string{"tailnum"}
	}
	cfg := l.sparkConfig(tables, versions...)
	python(t, "spark.py", "make", cfg, nil)
	before := l.readAll(t, cfg, tables)
	eraseIn(t, l, l.writeJob(t, targets, ""))
	judge(t, before, l.readAll(t, cfg, tables))
}

// readAll asks every reader. PyIceberg reads v3 tables without deletion vectors
// only, and DuckDB what its extension supports: a reader that cannot read the
// table before the run is no judge of it, and the test says so.
func (l *lake) readAll(t *testing.T, cfg map[string]any, tables map[string]any) reading {
	t.Helper()
	out := reading{}
	var bySpark map[string]map[string]seen
	python(t, "spark.py", "read", cfg, &bySpark)
	for table, s := range bySpark["spark"] {
		out[table] = map[string]seen{"spark": s}
	}
	py := l.pyConfig()
	py["tables"] = tables
	var others reading
	python(t, "pyice.py", "judge", py, &others)
	for table, readers := range others {
		for reader, s := range readers {
			out[table][reader] = s
		}
	}
	return out
}

func TestSparkTablesInSQLiteOnLocalDisk(t *testing.T) { eraseSpark(t, localLake(t), 2, 3) }
func TestSparkTablesInNessieOnS3(t *testing.T)        { eraseSpark(t, nessieLake(t), 2) }
