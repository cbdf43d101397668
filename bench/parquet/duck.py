"""DuckDB's side of the benchmark, and the judge of both sides' answers.

    duck.py rewrite SRC KEYS OUT CODEC SETTING    SETTING: default or best
    duck.py scan SRC KEYS COLUMN ROUNDS           CPU seconds of each round, and the rows found
    duck.py digest FILE [KEYS]                    of all columns in order, without the keys' rows

Prints one JSON object. Two threads, as the other side has two workers.
"""

import importlib.metadata
import json
import os
import resource
import sys

import duckdb


def connect():
    db = duckdb.connect()
    db.execute("SET threads = 2")
    db.execute("SET enable_progress_bar = false")
    return db


def rewrite(src, keys, out, codec, setting):
    db = connect()
    options = f"FORMAT parquet, COMPRESSION {codec}, ROW_GROUP_SIZE 1250000"
    if setting == "best" and codec == "zstd":
        options += ", COMPRESSION_LEVEL 1"
    db.execute(f"COPY (SELECT * FROM read_parquet('{src}') WHERE user_id NOT IN (SELECT user_id FROM read_parquet('{keys}'))) TO '{out}' ({options})")
    with open(out, "rb+") as f:
        os.fsync(f.fileno())
    return {}


def cpu():
    u = resource.getrusage(resource.RUSAGE_SELF)
    return u.ru_utime + u.ru_stime


def scan(src, keys, column, rounds):
    """The keys are in memory before the clock starts, as a job's are; the join's own table is part of the query."""
    db = connect()
    db.execute(f"CREATE TABLE keys AS SELECT {column} AS k FROM read_parquet('{keys}')")
    spent, found = [], 0
    for _ in range(int(rounds)):
        start = cpu()
        found = db.execute(f"SELECT count(*) FROM read_parquet('{src}') WHERE {column} IN (SELECT k FROM keys)").fetchone()[0]
        spent.append(cpu() - start)
    return {"cpu": spent, "found": found}


COLUMNS = "event_id user_id email session_id ts country status tags::VARCHAR attrs::VARCHAR price payload".split()


def digest(path, keys=None):
    # One hash a column, with the row's number: DuckDB 1.5's hash of many columns at
    # once is not the same for the same values in other row groups.
    db = connect()
    where = f"WHERE user_id NOT IN (SELECT user_id FROM read_parquet('{keys}'))" if keys else ""
    hashes = ", ".join(f"bit_xor(hash(n, {c}))" for c in COLUMNS)
    row = db.execute(f"SELECT count(*), {hashes} FROM (SELECT row_number() OVER () AS n, * FROM read_parquet('{path}') {where})").fetchone()
    return {"rows": row[0], "digest": " ".join(format(h, "x") for h in row[1:])}


def versions():
    return {"duckdb": duckdb.__version__, "pyarrow": importlib.metadata.version("pyarrow")}


print(json.dumps({"versions": versions, "rewrite": rewrite, "scan": scan, "digest": digest}[sys.argv[1]](*sys.argv[2:])))
