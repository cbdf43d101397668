"""Writers and readers of single Parquet files, in one process that serves requests.

Requests are JSON lines on stdin, answers JSON lines on stdout:

  {"verb": "make", "dir": D, "spark": B, "rows": N, "group": N}
      files of every writer over the matrix: {"files": [{"name", "path"}]}; rows and group may be
      left out (internal/pq/testdata/writers was made with 24 and 10)
  {"verb": "check", "cases": [{"name", "in", "out", "keys", "spark"}]}
      each reader's view of out has to equal its view of in without the keys' rows:
      {"failures": [...], "read": {reader: count}, "unread": {reader: [names]}}

A reader that cannot read a source is excused for it; one that reads the source
but not the result, or another result, is a failure.
"""
import decimal
import datetime as dt
import itertools
import json
import math
import os
import random
import shutil
import sys
import threading

os.environ["POLARS_IMPORT_INTERVAL_AS_STRUCT"] = "1"

import duckdb
import fastparquet
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

ROWS = 1200
GROUP = 500


class Spark(threading.Thread):
    """Starts Spark beside everything else: its JVM takes a while."""

    def __init__(self):
        super().__init__(daemon=True)
        self.value, self.error = None, None

    def run(self):
        try:
            from pyspark.sql import SparkSession
            self.value = (SparkSession.builder.master("local[2]").appName("interop-parquet")
                          .config("spark.ui.enabled", "false").config("spark.ui.showConsoleProgress", "false")
                          .config("spark.driver.memory", "1g").config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.host", "127.0.0.1")
                          .config("spark.sql.shuffle.partitions", "1").config("spark.sql.session.timeZone", "UTC")
                          .config("spark.sql.legacy.parquet.nanosAsLong", "true").getOrCreate())
            self.value.sparkContext.setLogLevel("OFF")
        except Exception as e:  # told when somebody asks
            self.error = e

    def session(self):
        self.join()
        if self.error:
            raise self.error
        return self.value


spark = Spark()


def ident(i):
    return i * 7 + 1000


def columns(n, seed):
    """Rows of every type that arrow and Parquet share, nested ones included."""
    r = random.Random(seed)

    def opt(f, share=0.2):
        return [None if r.random() < share else f(i) for i in range(n)]

    def items(f, most=4):
        return [None if r.random() < 0.15 else [f(i, k) for k in range(r.randrange(most))] for i in range(n)]

    base = dt.datetime(2020, 1, 1)
    cols = {
        "id": pa.array([ident(i) for i in range(n)], pa.int64()),
        "email": pa.array([f"user{ident(i)}@example.org" for i in range(n)]),
        "city": pa.array(opt(lambda i: r.choice(["Bonn", "Kiel", "Ulm", "Rostock"]))),
        "i8": pa.array(opt(lambda i: r.randrange(-128, 128)), pa.int8()),
        "u16": pa.array(opt(lambda i: r.randrange(1 << 16)), pa.uint16()),
        "i32": pa.array(opt(lambda i: r.randrange(-2**31, 2**31)), pa.int32()),
        "u32": pa.array(opt(lambda i: r.randrange(1 << 32)), pa.uint32()),
        "u64": pa.array(opt(lambda i: r.randrange(1 << 64)), pa.uint64()),
        "f16": pa.array(np.array([r.random() for _ in range(n)], np.float16), pa.float16()),
        "f32": pa.array(opt(lambda i: r.choice([math.nan, 0.0, -0.0, r.random()])), pa.float32()),
        "f64": pa.array([r.gauss(0, 1) for _ in range(n)], pa.float64()),
        "flag": pa.array(opt(lambda i: r.random() < 0.5), pa.bool_()),
        "dec9": pa.array(opt(lambda i: decimal.Decimal(r.randrange(-10**8, 10**8)).scaleb(-2)), pa.decimal128(9, 2)),
        "dec30": pa.array(opt(lambda i: decimal.Decimal(r.randrange(-10**28, 10**28)).scaleb(-5)), pa.decimal128(30, 5)),
        "day": pa.array(opt(lambda i: (base + dt.timedelta(days=r.randrange(3000))).date()), pa.date32()),
        "t64": pa.array(opt(lambda i: r.randrange(86400 * 10**6)), pa.time64("us")),
        "ts_ms": pa.array(opt(lambda i: r.randrange(10**12)), pa.timestamp("ms")),
        "ts_us": pa.array(opt(lambda i: base + dt.timedelta(seconds=i * 61)), pa.timestamp("us", "UTC")),
        "ts_ns": pa.array(opt(lambda i: r.randrange(10**18)), pa.timestamp("ns")),
        "fixed": pa.array([r.randbytes(16) for _ in range(n)], pa.binary(16)),
        "blob": pa.array(opt(lambda i: r.randbytes(r.randrange(30))), pa.binary()),
        "nothing": pa.array([None] * n, pa.string()),
        "tags": pa.array(items(lambda i, k: None if r.random() < 0.1 else f"t{r.randrange(9)}"), pa.list_(pa.string())),
        "matrix": pa.array(items(lambda i, k: [r.randrange(9) for _ in range(r.randrange(3))], 3), pa.list_(pa.list_(pa.int32()))),
        "attrs": pa.array([None if r.random() < 0.15 else [(f"k{k}", r.randrange(99)) for k in range(r.randrange(3))] for _ in range(n)], pa.map_(pa.string(), pa.int64())),
        "person": pa.array([None if r.random() < 0.15 else {
            "name": None if r.random() < 0.2 else f"name{i}",
            "phones": None if r.random() < 0.2 else [{"no": f"{i}-{k}", "kind": r.choice(["home", None])} for k in range(r.randrange(3))],
        } for i in range(n)], pa.struct([("name", pa.string()), ("phones", pa.list_(pa.struct([("no", pa.string()), ("kind", pa.string())])))])),
    }
    return pa.table(cols)


DELTA = {
    "id": "DELTA_BINARY_PACKED", "i8": "DELTA_BINARY_PACKED", "u16": "DELTA_BINARY_PACKED", "i32": "DELTA_BINARY_PACKED", "u64": "DELTA_BINARY_PACKED",
    "day": "DELTA_BINARY_PACKED", "ts_us": "DELTA_BINARY_PACKED", "email": "DELTA_BYTE_ARRAY", "city": "DELTA_LENGTH_BYTE_ARRAY", "blob": "DELTA_BYTE_ARRAY",
    "fixed": "DELTA_BYTE_ARRAY", "f32": "BYTE_STREAM_SPLIT", "f64": "BYTE_STREAM_SPLIT", "i32": "BYTE_STREAM_SPLIT", "f16": "BYTE_STREAM_SPLIT",
    "tags.list.element": "DELTA_LENGTH_BYTE_ARRAY", "matrix.list.element.list.element": "DELTA_BINARY_PACKED", "flag": "RLE",
    "person.name": "DELTA_BYTE_ARRAY", "dec9": "BYTE_STREAM_SPLIT",
}


def by_pyarrow(out):
    n = 0
    for codec, version in itertools.product(["none", "snappy", "gzip", "zstd", "brotli", "lz4"], ["1.0", "2.0"]):
        n += 1
        kind = ["dictionary", "plain", "delta", "fallback"][n % 4]
        opts = dict(compression=codec, data_page_version=version, row_group_size=GROUP, data_page_size=1500, write_batch_size=64,
                    write_page_index=n % 3 != 0, write_page_checksum=n % 2 == 0, store_schema=n % 5 != 0)
        if kind == "plain":
            opts["use_dictionary"] = False
        elif kind == "delta":
            opts.update(use_dictionary=False, column_encoding=DELTA)
        elif kind == "fallback":
            opts["dictionary_pagesize_limit"] = 900
        if n % 4 == 1:
            opts["store_decimal_as_integer"] = True
        t = columns(ROWS, n)
        if n % 4 < 2:  # fastparquet does not survive float16
            t = t.drop_columns(["f16"])
        if "column_encoding" in opts:  # one writer's byte stream split of other types than floats suffices
            opts["column_encoding"] = {c: e for c, e in DELTA.items() if c.split(".")[0] in t.column_names}
        out(f"pyarrow-{codec}-v{version[0]}-{kind}", lambda p, o=opts, t=t: pq.write_table(t, p, **o))
    out("pyarrow-int96", lambda p: pq.write_table(columns(ROWS, 50).select(["id", "email", "ts_us", "tags"]), p, use_deprecated_int96_timestamps=True,
                                                  row_group_size=GROUP, data_page_size=1500))
    out("pyarrow-onepage", lambda p: pq.write_table(columns(ROWS, 51), p, row_group_size=10 * ROWS))
    out("pyarrow-nostats", lambda p: pq.write_table(columns(ROWS, 52), p, write_statistics=False, row_group_size=GROUP, data_page_size=800))

    def empty_groups(p):
        t = columns(ROWS, 53)
        with pq.ParquetWriter(p, t.schema, write_page_index=True) as w:
            w.write_table(t.slice(0, ROWS // 3))
            w.write_table(t.slice(0, 0))
            w.write_table(t.slice(ROWS // 3))
    out("pyarrow-emptygroup", empty_groups)

    def bloom(p):
        pq.write_table(columns(ROWS, 54), p, row_group_size=GROUP, data_page_size=1500, write_page_index=True,
                       bloom_filter_options={"id": {"ndv": GROUP, "fpp": 0.01}, "email": {"ndv": GROUP, "fpp": 0.01}})
    out("pyarrow-bloom", bloom)


def by_duckdb(out):
    n = 0
    for codec, version in [("uncompressed", "V1"), ("snappy", "V1"), ("gzip", "V2"), ("zstd", "V1"), ("zstd", "V2"), ("brotli", "V2"), ("lz4_raw", "V1"), ("snappy", "V2")]:
        n += 1

        def write(p, codec=codec, version=version, n=n):
            con = duckdb.connect()
            con.register("t", columns(ROWS, 100 + n).drop_columns(["f16"]))
            con.execute(f"COPY (SELECT *, {{'a': id, 'b': [email, city]}} AS extra, INTERVAL (abs(i8::INT)) DAY AS span, uuid() AS uid FROM t) "
                        f"TO '{p}' (FORMAT parquet, COMPRESSION {codec}, PARQUET_VERSION {version}, ROW_GROUP_SIZE {GROUP})")
        out(f"duckdb-{codec}-{version}", write)

    def geometry(p):
        con = duckdb.connect()
        con.execute(f"COPY (SELECT i * 7 + 1000 AS id, ('POINT(' || i || ' ' || i % 9 || ')')::GEOMETRY AS geom FROM range({ROWS}) r(i)) TO '{p}' (FORMAT parquet)")
    out("duckdb-geometry", geometry)

    def variant(p):
        con = duckdb.connect()
        con.execute(f"COPY (SELECT i * 7 + 1000 AS id, CASE WHEN i % 3 = 0 THEN {{'a': i, 'b': 'x' || i}}::VARIANT ELSE i::VARIANT END AS v FROM range({ROWS}) r(i)) "
                    f"TO '{p}' (FORMAT parquet)")
    out("duckdb-variant", variant)


def by_polars(out):
    drop = ["f16", "attrs"]
    for n, codec in enumerate(["uncompressed", "snappy", "gzip", "zstd", "brotli", "lz4"]):
        out(f"polars-{codec}", lambda p, c=codec, s=200 + n: pl.from_arrow(columns(ROWS, s).drop_columns(drop)).write_parquet(
            p, compression=c, row_group_size=GROUP, data_page_size=2000, statistics="full"))


def by_fastparquet(out):
    flat = ["id", "email", "city", "i8", "u16", "f32", "f64", "ts_us", "blob"]
    for n, codec in enumerate(["UNCOMPRESSED", "SNAPPY", "GZIP", "ZSTD", "BROTLI"]):
        def write(p, codec=codec, n=n):
            frame = columns(ROWS, 300 + n).select(flat).to_pandas()
            frame["ts_us"] = frame["ts_us"].dt.tz_localize(None)
            fastparquet.write(p, frame, compression=codec, row_group_offsets=GROUP, times="int96" if n == 1 else "int64",
                              has_nulls=True if n % 2 else ["city", "blob", "i8", "u16"], object_encoding={"blob": "bytes", "email": "utf8", "city": "utf8"})
        out(f"fastparquet-{codec.lower()}", write)


def by_spark(out):
    s = spark.session()
    drop = ["f16", "u16", "u32", "u64", "t64", "ts_ns", "ts_ms"]
    kinds = [("snappy", "v1", {}), ("zstd", "v2", {}), ("gzip", "v1", {"spark.sql.parquet.writeLegacyFormat": "true"}),
             ("uncompressed", "v2", {"spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS"}), ("lz4_raw", "v1", {"spark.sql.parquet.outputTimestampType": "INT96"})]
    for n, (codec, version, conf) in enumerate(kinds):
        def write(p, codec=codec, version=version, conf=conf, n=n):
            src = p + ".source"
            pq.write_table(columns(ROWS, 400 + n).drop_columns(drop), src)
            for k, v in conf.items():
                s.conf.set(k, v)
            w = (s.read.parquet(src).coalesce(1).write.option("compression", codec).option("parquet.writer.version", version)
                 .option("parquet.page.size", "2000").option("parquet.page.row.count.limit", "150").option("parquet.block.size", "60000")
                 .option("parquet.page.write-checksum.enabled", "true").option("parquet.block.size.row.check.min", "100")
                 .option("parquet.enable.dictionary", "true").option("parquet.dictionary.page.size", "3000"))
            if n % 2 == 0:
                w = w.option("parquet.bloom.filter.enabled#id", "true").option("parquet.bloom.filter.expected.ndv#id", "1200")
            w.mode("overwrite").parquet(p + ".d")
            (part,) = [f for f in os.listdir(p + ".d") if f.startswith("part-")]
            shutil.move(os.path.join(p + ".d", part), p)
            for k in conf:
                s.conf.unset(k)
            os.remove(src)
            shutil.rmtree(p + ".d")
        out(f"spark-{codec}-{version}", write)


def make(req):
    global ROWS, GROUP
    ROWS, GROUP = req.get("rows", ROWS), req.get("group", GROUP)
    files = []

    def out(name, write):
        path = os.path.join(req["dir"], name + ".parquet")
        write(path)
        files.append({"name": name, "path": path})
    for by in (by_pyarrow, by_duckdb, by_polars, by_fastparquet):
        by(out)
    if req["spark"]:
        by_spark(out)
    return {"files": files}


# Readers: each gives something that can be compared. keys=None reads all rows,
# cols=None all columns; a column that a reader cannot read in the source is left
# out of both sides and named.

def exact(table):
    """Floats as text, because NaN equals nothing."""
    for i, f in enumerate(table.schema):
        if pa.types.is_floating(f.type):
            c = table.column(i)
            if pa.types.is_float16(f.type):
                c = c.cast(pa.float32())
            table = table.set_column(i, f.name, c.cast(pa.string()))
    return table.combine_chunks()


class PyArrow:
    @staticmethod
    def names(path):
        return pq.ParquetFile(path).schema_arrow.names

    @staticmethod
    def read(path, cols):
        return exact(pq.ParquetFile(path, page_checksum_verification=True).read(columns=cols)).replace_schema_metadata(None)

    @staticmethod
    def without(t, ids, keys):
        return t.filter(pa.array(~np.isin(ids, keys)))

    same = staticmethod(lambda a, b: a.equals(b))


class DuckDB(PyArrow):
    con = duckdb.connect()

    @classmethod
    def kinds(cls, path):
        return {r[0]: r[1] for r in cls.con.execute(f"DESCRIBE SELECT * FROM read_parquet('{path}')").fetchall()}

    @classmethod
    def names(cls, path):
        return list(cls.kinds(path))

    @classmethod
    def read(cls, path, cols):
        kinds = cls.kinds(path)
        want = ", ".join(f'"{c}"::VARCHAR AS "{c}"' if kinds[c] in ("FLOAT", "DOUBLE", "GEOMETRY", "VARIANT", "INTERVAL") else f'"{c}"' for c in cols or kinds)
        return cls.con.execute(f"SELECT {want} FROM read_parquet('{path}', file_row_number = true) ORDER BY file_row_number").to_arrow_table().combine_chunks()


class Polars:
    @staticmethod
    def names(path):
        return pq.ParquetFile(path).schema_arrow.names

    @staticmethod
    def read(path, cols):
        return pl.read_parquet(path, columns=cols)

    @staticmethod
    def without(f, ids, keys):
        return f.filter(pl.Series(~np.isin(ids, keys)))

    same = staticmethod(lambda a, b: a.schema == b.schema and a.equals(b, null_equal=True))


def encodings(path):
    """The encodings of each top-level column's leaves in the first row group."""
    out, group = {}, pq.ParquetFile(path).metadata.row_group(0)
    for i in range(group.num_columns):
        c = group.column(i)
        out.setdefault(c.path_in_schema.split(".")[0], set()).update(c.encodings)
    return out


def plain(v):
    """A value as readers with other types for it agree on."""
    if v is None or (not isinstance(v, (str, bytes)) and pd.isna(v)):
        return None
    if isinstance(v, dt.datetime):
        return pd.Timestamp(v).tz_localize(None)
    return v.item() if isinstance(v, np.generic) else v


class FastParquet:
    """Flat columns of files without types that came after it: on others it ends
    the process. Of DELTA_BINARY_PACKED it loses bits of wide differences, so it is
    no judge of that; nor of a source's column that it reads otherwise than DuckDB."""
    FLAT = ["id", "email", "city", "i8", "u16", "i32", "f32", "f64", "ts_us", "blob"]

    @classmethod
    def names(cls, path):
        have = pq.ParquetFile(path).schema_arrow.names
        if any(c in have for c in ("f16", "geom", "v")):
            raise ValueError("types that fastparquet does not know")
        return [c for c in cls.FLAT if c in have]

    @classmethod
    def read(cls, path, cols):
        if cols is None:
            cols = cls.names(path)
            frame = fastparquet.ParquetFile(path).to_pandas(columns=cols)
            for c in cols:
                cls.believe(path, c, frame)
            return frame
        frame = fastparquet.ParquetFile(path).to_pandas(columns=cols)
        if len(cols) == 1:
            cls.believe(path, cols[0], frame)
        return frame

    @staticmethod
    def believe(path, c, frame):
        if "DELTA_BINARY_PACKED" in encodings(path).get(c, ()):
            raise ValueError("DELTA_BINARY_PACKED")
        truth = DuckDB.con.execute(f"SELECT \"{c}\" FROM read_parquet('{path}', file_row_number = true) ORDER BY file_row_number").to_arrow_table()
        if [plain(v) for v in frame[c]] != [plain(v) for v in truth.column(0).to_pylist()]:
            raise ValueError("it reads other values than DuckDB")

    @staticmethod
    def without(f, ids, keys):
        return f[~np.isin(ids, keys)].reset_index(drop=True)

    @staticmethod
    def same(a, b):
        try:  # it makes floats of whole numbers where a file has nulls
            pd.testing.assert_frame_equal(a, b, check_dtype=False)
            return True
        except AssertionError:
            return False


class SparkReader:
    """Names, types, a count and a sum of hashes: rows are not brought to Python.
    What Spark 3.5 cannot read is left out: types, an encoding, a codec, and whole
    files with a logical type that is newer than it."""
    LACKS = (pa.types.is_time, pa.types.is_fixed_size_binary, lambda t: isinstance(t, pa.BaseExtensionType))

    @classmethod
    def names(cls, path):
        f = pq.ParquetFile(path)
        if f.metadata.row_group(0).column(0).compression == "BROTLI":
            raise ValueError("BROTLI")
        if any(pa.types.is_float16(c.type) for c in f.schema_arrow) or "v" in f.schema_arrow.names:
            raise ValueError("logical types newer than Spark 3.5")
        used = encodings(path)
        return [c.name for c in f.schema_arrow if not any(lacks(c.type) for lacks in cls.LACKS) and "BYTE_STREAM_SPLIT" not in used[c.name]]

    @staticmethod
    def schema(path, cols):
        from pyspark.sql.pandas.types import from_arrow_schema
        wider = {pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64(), pa.uint64(): pa.decimal128(20, 0), pa.timestamp("ns"): pa.int64(),
                 pa.large_string(): pa.string(), pa.large_binary(): pa.binary(), pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}

        def known(t):
            if pa.types.is_list(t) or pa.types.is_large_list(t):
                return pa.list_(known(t.value_type))
            if pa.types.is_map(t):
                return pa.map_(known(t.key_type), known(t.item_type))
            if pa.types.is_struct(t):
                return pa.struct([f.with_type(known(f.type)) for f in t])
            return wider.get(t, t)
        f = pq.ParquetFile(path)
        int96 = {c.path for c in (f.schema.column(i) for i in range(len(f.schema))) if c.physical_type == "INT96"}
        fields = [f.schema_arrow.field(c) for c in cols]
        fields = [c.with_type(pa.timestamp("us", "UTC")) if c.name in int96 else c for c in fields]
        return from_arrow_schema(pa.schema([f.with_type(known(f.type)) for f in fields]), prefer_timestamp_ntz=True)

    @classmethod
    def read(cls, path, cols, keys=()):
        from pyspark.sql import functions as F
        from pyspark.sql.types import MapType
        d = spark.session().read.schema(cls.schema(path, cols)).parquet(path)
        if len(keys):
            d = d.filter(~F.col("id").isin(keys))
        flat = [F.to_json(F.struct(F.col(f"`{f.name}`"))) if isinstance(f.dataType, MapType) else F.col(f"`{f.name}`") for f in d.schema]
        row = d.select(F.xxhash64(*flat).cast("decimal(38,0)").alias("h")).agg(F.count("*"), F.sum("h")).collect()[0]
        return [row[0], str(row[1])]

    same = staticmethod(lambda a, b: a == b)


READERS = {"pyarrow": PyArrow, "duckdb": DuckDB, "polars": Polars, "fastparquet": FastParquet, "spark": SparkReader}


def why(e):
    return (str(e) or type(e).__name__).splitlines()[0][:90]


def source(reader, path):
    """What a reader makes of a source: data, the columns read (None = all), {column: reason} of those it cannot read."""
    if reader is SparkReader:  # it takes its time, and what it lacks is known
        try:
            names = reader.names(path)
            return reader.read(path, names), names, {}
        except Exception as e:
            return None, [], {"*": why(e)}
    try:
        return reader.read(path, None), None, {}
    except BaseException as e:  # polars panics by one of its own
        whole = e
    good, bad = [], {}
    try:
        for c in reader.names(path):
            try:
                reader.read(path, [c])
                good.append(c)
            except BaseException as e:
                bad[c] = why(e)
        return reader.read(path, good), good, bad
    except BaseException:
        return None, [], {"*": why(whole)}


def check(req):
    failures, read, unread = [], {r: 0 for r in READERS}, {r: {} for r in READERS}
    for path, cases in itertools.groupby(req["cases"], key=lambda c: c["in"]):
        cases = list(cases)
        ids = np.array([ident(i) for i in range(pq.ParquetFile(path).metadata.num_rows)])
        for name, reader in READERS.items():
            mine = [c for c in cases if name != "spark" or c["spark"]]
            if not mine:
                continue
            data, cols, bad = source(reader, path)
            for c, reason in bad.items():
                unread[name].setdefault(f"{c}: {reason}", []).append(os.path.basename(path).removesuffix(".parquet"))
            if data is None or cols == []:
                continue
            for case in mine:
                read[name] += 1
                try:
                    want = reader.read(path, cols, case["keys"]) if name == "spark" else reader.without(data, ids, case["keys"])
                    if not reader.same(want, reader.read(case["out"], cols)):
                        failures.append(f"{case['name']}: {name} reads other rows")
                except BaseException as e:
                    failures.append(f"{case['name']}: {name} cannot read it: {str(e)[:300]}")
    return {"failures": failures, "read": read, "unread": {r: [f"{why} ({', '.join(files)})" for why, files in m.items()] for r, m in unread.items()}}


if __name__ == "__main__":
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    if "--no-spark" not in sys.argv:
        spark.start()
    for line in sys.stdin:
        req = json.loads(line)
        try:
            answer = {"make": make, "check": check}[req["verb"]](req)
        except Exception as e:
            answer = {"error": f"{type(e).__name__}: {e}"}
        out.write(json.dumps(answer) + "\n")
        out.flush()
