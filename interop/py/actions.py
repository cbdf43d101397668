"""Tables whose rows are redacted or lose elements, judged by readers.

  actions.py make CONFIG    PyIceberg writes people, rooms and scores
  actions.py judge CONFIG   PyIceberg, DuckDB and pyarrow read them: each has to see the
                            source with the actions applied by hand, and no byte of what went

CONFIG is pyice.py's. The tables are uncompressed, so that bytes can be searched.
"""
import datetime as dt
import decimal
import json
import os
import random
import sys

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog import load_catalog

import readers

ROWS = 6000
KEYS = [i * 7 + 1000 for i in range(0, 900, 31)]
UNCOMPRESSED = {"format-version": "2", "write.parquet.compression-codec": "uncompressed", "write.parquet.row-group-limit": "700", "write.parquet.page-size-bytes": "2000"}


def ident(i):
    return i % 900 * 7 + 1000


def mail(i):
    return f"leaver.{ident(i):06d}@example.org"


def people():
    r = random.Random(1)
    return pa.table({
        "row": pa.array(range(ROWS), pa.int64()),
        "customer": pa.array([None if i % 41 == 0 else {"id": ident(i), "name": None if i % 5 == 0 else f"name {ident(i)}", "mail": mail(i)} for i in range(ROWS)],
                             pa.struct([("id", pa.int64()), ("name", pa.string()), ("mail", pa.string())])),
        "city": pa.array([None if i % 11 == 0 else r.choice(["Bonn", "Kiel", "Ulm"]) for i in range(ROWS)]),
        "amount": pa.array([decimal.Decimal(r.randrange(10**6)).scaleb(-2) for _ in range(ROWS)], pa.decimal128(12, 2)),
        "born": pa.array([dt.date(1950, 1, 1) + dt.timedelta(days=r.randrange(9000)) for _ in range(ROWS)], pa.date32()),
        "tags": pa.array([None if i % 13 == 0 or i % 41 == 0 else [f"tag {ident(i)} {k}" for k in range(r.randrange(3))] for i in range(ROWS)], pa.list_(pa.string())),
    })


def redacted(row):
    c = row["customer"]
    if c is None or c["id"] not in KEYS:
        return row
    return row | {"customer": c | {"name": None, "mail": "gone"}, "city": None if row["city"] is None else "REDACTED", "born": None, "tags": None}


def rooms():
    r = random.Random(2)
    member = pa.struct([("id", pa.int64()), ("mail", pa.string())])
    return pa.table({
        "row": pa.array(range(ROWS), pa.int64()),
        "members": pa.array([None if i % 17 == 0 else [None if r.random() < 0.05 else {"id": ident(k), "mail": mail(k)} for k in (r.randrange(900) for _ in range(r.randrange(5)))]
                             for i in range(ROWS)], pa.list_(member)),
        "topic": pa.array([f"topic {i % 50}" for i in range(ROWS)]),
    })


def without_members(row):
    m = row["members"]
    return row | {"members": None if m is None else [e for e in m if e is None or e["id"] not in KEYS]}


def scores():
    r = random.Random(3)
    return pa.table({
        "row": pa.array(range(ROWS), pa.int64()),
        "by_user": pa.array([None if i % 19 == 0 else [(ident(k), mail(k)) for k in r.sample(range(900), r.randrange(4))] for i in range(ROWS)], pa.map_(pa.int64(), pa.string())),
    })


def without_scores(row):
    m = row["by_user"]
    return row | {"by_user": None if m is None else [e for e in m if e[0] not in KEYS]}


TABLES = {"people": (people, redacted), "rooms": (rooms, without_members), "scores": (scores, without_scores)}


def make(cfg):
    cat = load_catalog("lake", **cfg["catalog"])
    cat.create_namespace_if_not_exists(cfg["namespace"])
    with open(cfg["keys_file"], "w") as f:
        f.write("id\n" + "\n".join(map(str, KEYS)) + "\n")
    for name, (rows, _) in TABLES.items():
        data = rows()
        t = cat.create_table(f"{cfg['namespace']}.{name}", data.schema, properties=UNCOMPRESSED)
        t.append(data.slice(0, 2500))
        t.append(data.slice(2500))
        # PyIceberg stores a null list of structs as an empty one: what it stored is the source.
        pq.write_table(t.scan().to_arrow(), source(cfg, name))
    readers.say({"keys": len(KEYS)})


def source(cfg, name):
    return os.path.join(os.path.dirname(cfg["keys_file"]), name + ".source.parquet")


def gone(name):
    """Byte strings that only what was acted on holds. E-mails and tags are unique to a person."""
    marks = [f"leaver.{k:06d}@".encode() for k in KEYS]
    if name == "people":
        marks += [f"name {k}".encode() for k in KEYS] + [f"tag {k} ".encode() for k in KEYS]
    return marks


def rows_of(table):
    """Rows as Python values in the order of their numbers; maps as lists of pairs."""
    return sorted(table.to_pylist(), key=lambda r: r["row"])


def files_of(t):
    return [p.removeprefix("file://") for p in t.inspect.files()["file_path"].to_pylist()]


def judge(cfg):
    cat = load_catalog("lake", **cfg["catalog"])
    out = {}
    for name, (_, action) in TABLES.items():
        stored = rows_of(pq.read_table(source(cfg, name)))
        want = [action(r) for r in stored]
        t = cat.load_table(f"{cfg['namespace']}.{name}")
        files = files_of(t)
        views = {
            "pyiceberg": t.scan().to_arrow(),
            "duckdb": readers.duck().execute(f"SELECT * FROM iceberg_scan('{t.metadata_location.removeprefix('file://')}')").to_arrow_table(),
            "pyarrow": pa.concat_tables([pq.ParquetFile(f, page_checksum_verification=True).read() for f in files], promote_options="default"),
        }
        wrong = []
        for reader, view in views.items():
            got = rows_of(view)
            bad = [r["row"] for r, w in zip(got, want) if r != w]
            if len(got) != len(want) or bad:
                wrong.append(f"{reader}: {len(got)} rows of {len(want)}, {len(bad)} differ, the first: {bad[:1]}")
        left = set()
        base = os.path.dirname(os.path.dirname(t.metadata_location.removeprefix("file://")))
        for folder, _, names in os.walk(base):
            for n in names:
                data = open(os.path.join(folder, n), "rb").read()
                left |= {n for m in gone(name) if m in data}
        out[name] = {"changed": sum(a != b for a, b in zip(stored, want)), "files": len(files), "wrong": wrong, "left": sorted(left)}
    readers.say(out)


if __name__ == "__main__":
    {"make": make, "judge": judge}[sys.argv[1]](json.load(open(sys.argv[2])))
