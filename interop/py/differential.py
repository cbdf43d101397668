"""Odd files of records, and what DuckDB, pandas and fastavro say is left of them.

make writes the files of a folder; check reads each of them, before and after an
erasure, with every reader that knows its format, and compares what that reader
itself would keep with what it finds.
"""
import csv, io, json, os, random, sys, tempfile

import duckdb, fastavro, pandas

IDS = {0, 7, 13, -5, 9007199254740993}
NAMES = {"", 'q"x', "a,b", "zo\u00eb", "two\nlines"}
OTHER_NAMES = ["x", " ", "7", "a", 'q""x', "zoe", "two\r\nlines", "\ttab", "\\", "\u20ac", "A,B", "null"]
OTHER_IDS = [1, 8, 70, -7, 9007199254740992, 9007199254740994, 9223372036854775807]


def record(rng, i):
    ids, names = (sorted(IDS), sorted(NAMES)) if rng.random() < 0.2 else (OTHER_IDS, OTHER_NAMES)
    return {"id": rng.choice(ids if rng.random() < 0.5 else OTHER_IDS), "name": rng.choice(names), "n": i, "deep": {"a": [{"b": [i, {"id": 7}]}]}}


def erased(row):
    return row[0] in IDS or row[1] in NAMES


def make(cfg):
    rng = random.Random(cfg["seed"])
    for kind in ("ndjson", "csv", "avro", "parquet"):
        os.makedirs(os.path.join(cfg["dir"], kind), exist_ok=True)
    path = lambda kind, name: os.path.join(cfg["dir"], kind, name)
    records = [record(rng, i) for i in range(3000)]
    for name, end, bom, ascii, gap in (("lf", "\n", "", False, ""), ("crlf", "\r\n", "", True, ""), ("bom", "\n", "\ufeff", False, ""), ("spaces", "\n", "", True, " ")):
        with open(path("ndjson", name + ".ndjson"), "w", newline="", encoding="utf-8") as f:
            f.write(bom)
            for r in records:
                items = list(r.items())
                if rng.random() < 0.1:
                    rng.shuffle(items)
                f.write(json.dumps(dict(items), ensure_ascii=ascii, separators=("," + gap, ":" + gap)) + end)
    for name, end, bom, quoting in (("lf", "\n", "", csv.QUOTE_NONNUMERIC), ("crlf", "\r\n", "", csv.QUOTE_ALL), ("bom", "\n", "\ufeff", csv.QUOTE_ALL), ("minimal", "\r\n", "", csv.QUOTE_MINIMAL)):
        with open(path("csv", name + ".csv"), "w", newline="", encoding="utf-8") as f:
            f.write(bom)
            w = csv.writer(f, lineterminator=end, quoting=quoting)
            w.writerow(["id", "name", "n"])
            for r in records:
                if quoting == csv.QUOTE_MINIMAL and r["name"] == "":
                    continue  # without quotes it is no value
                w.writerow([r["id"], r["name"], r["n"]])
    schema = fastavro.parse_schema({"type": "record", "name": "r", "fields": [
        {"name": "id", "type": ["null", "long", "string"]}, {"name": "name", "type": ["string", "null", "bytes"]}, {"name": "n", "type": "int"},
        {"name": "deep", "type": {"type": "record", "name": "d", "fields": [{"name": "a", "type": {"type": "array", "items": {"type": "map", "values": ["long", "string"]}}}]}}]})
    rows = [{"id": None if i % 50 == 49 else "7" if i % 50 == 48 else r["id"], "name": None if i % 60 == 59 else b"a,b" if i % 60 == 58 else r["name"],
             "n": r["n"], "deep": {"a": [{"id": 7, "s": "x"}]}} for i, r in enumerate(records)]
    for codec in ("null", "deflate"):
        with open(path("avro", codec + ".avro"), "wb") as f:
            fastavro.writer(f, schema, rows, codec=codec, sync_interval=4000)
    c = duckdb.connect()
    c.execute("create table t (id bigint, name varchar, n integer)")
    c.executemany("insert into t values (?, ?, ?)", [(r["id"], r["name"], r["n"]) for r in records[:400]])
    for codec in ("zstd", "snappy"):
        c.execute(f"copy t to '{path('parquet', codec + '.parquet')}' (format parquet, compression {codec})")


def duck(query):
    return duckdb.connect().execute(query).fetchall()


def without_bom(p):
    """A copy for readers that know no byte order mark in NDJSON."""
    with open(p, "rb") as f:
        data = f.read()
    out = tempfile.NamedTemporaryFile(suffix=".ndjson")
    out.write(data.removeprefix(b"\xef\xbb\xbf"))
    out.flush()
    return out


def duck_ndjson(p):
    text = "columns={id: 'HUGEINT', name: 'VARCHAR', n: 'INTEGER', deep: 'JSON'}"
    with without_bom(p) as f:
        return duck(f"select id, name, n, deep from read_ndjson('{f.name}', {text})")


def pandas_ndjson(p):
    with open(p, encoding="utf-8-sig", newline="") as f:
        text = io.StringIO(f.read())
    t = pandas.read_json(text, lines=True, dtype=False)
    return [(int(r.id), r["name"], int(r.n), json.dumps(r.deep)) for _, r in t.iterrows()]


def duck_csv(p):
    return duck(f"select * from read_csv('{p}', header=true, quote='\"', escape='\"', delim=',', strict_mode=false, allow_quoted_nulls=false, columns={{id: 'BIGINT', name: 'VARCHAR', n: 'INTEGER'}})")


def pandas_csv(p):
    t = pandas.read_csv(p, dtype={"id": "int64", "name": str, "n": "int64"}, keep_default_na=False, encoding="utf-8-sig")
    return [(int(a), b, int(c)) for a, b, c in zip(t["id"], t["name"], t["n"])]


def fastavro_rows(p):
    with open(p, "rb") as f:
        return [(r["id"] if isinstance(r["id"], int) else str(r["id"]), r["name"], r["n"], json.dumps(r["deep"])) for r in fastavro.reader(f)]


def duck_parquet(p):
    return duck(f"select * from read_parquet('{p}')")


READERS = {"ndjson": [duck_ndjson, pandas_ndjson], "csv": [duck_csv, pandas_csv], "avro": [fastavro_rows], "parquet": [duck_parquet]}


def check(cfg):
    out = []
    for kind, readers in READERS.items():
        for name in sorted(os.listdir(os.path.join(cfg["before"], kind))):
            for read in readers:
                was = read(os.path.join(cfg["before"], kind, name))
                now = read(os.path.join(cfg["after"], kind, name))
                want = [r for r in was if not erased(r)]
                out.append({"file": kind + "/" + name, "reader": read.__name__, "before": len(was), "kept": len(want), "found": len(now), "equal": want == now,
                            "first": next((f"{a!r} {b!r}" for a, b in zip(want, now) if a != b), "")})
    return out


if __name__ == "__main__":
    with open(sys.argv[2]) as f:
        print(json.dumps({"make": make, "check": check}[sys.argv[1]](json.load(f))))
