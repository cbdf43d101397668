"""What other readers say of a table: row counts of keys and checksums of survivors.

A checksum is the sum over rows of a 64-bit hash of all columns, so the order of
rows does not matter and one changed value, null or type does.
"""
import glob
import json
import os
import sys

import duckdb
import pyarrow as pa

SITE = os.path.dirname(os.path.dirname(duckdb.__file__))


def duck(s3=None):
    """A DuckDB connection with its Iceberg extension, from its published packages."""
    con = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    for name in ("avro", "httpfs", "iceberg"):
        (path,) = glob.glob(f"{SITE}/duckdb_extension_{name}/extensions/*/{name}.duckdb_extension")
        con.execute(f"LOAD '{path}'")
    if s3:
        con.execute(
            "CREATE SECRET s (TYPE s3, KEY_ID ?, SECRET ?, ENDPOINT ?, REGION 'us-east-1', URL_STYLE 'path', USE_SSL false)",
            [s3["key"], s3["secret"], s3["endpoint"].removeprefix("http://")],
        )
    return con


def summary(con, relation, column, keys):
    """Counts of rows with a key and without, and the checksum of those without."""
    con.execute("CREATE OR REPLACE TEMP TABLE erased_keys AS SELECT UNNEST(?) AS k", [keys])
    hit = f"COALESCE({column} IN (SELECT k FROM erased_keys), false)"
    row = con.execute(
        f"SELECT count(*) FILTER (WHERE {hit}), count(*) FILTER (WHERE NOT {hit}), "
        f"coalesce(sum(hash(t)::HUGEINT) FILTER (WHERE NOT {hit}), 0) FROM {relation} AS t"
    ).fetchone()
    return {"hits": row[0], "survivors": row[1], "checksum": str(row[2])}


def pyiceberg_summary(table, column, keys):
    """What PyIceberg reads, delete files applied, hashed by DuckDB."""
    arrow = table.scan().to_arrow()
    con = duck()
    con.register("scanned", normal(arrow))
    return summary(con, "scanned", column, keys)


def normal(arrow):
    """Arrow types that a reader may vary without changing a value."""
    fields = []
    for f in arrow.schema:
        t = f.type
        if pa.types.is_large_string(t):
            t = pa.string()
        elif pa.types.is_large_binary(t):
            t = pa.binary()
        fields.append(pa.field(f.name, t, f.nullable))
    return arrow.cast(pa.schema(fields))


def duckdb_summary(metadata, column, keys, s3=None):
    """What DuckDB's own Iceberg reader says."""
    con = duck(s3)
    return summary(con, f"iceberg_scan('{metadata}')", column, keys)


def say(value):
    json.dump(value, sys.stdout)
    sys.stdout.write("\n")
