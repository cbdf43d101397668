"""PyIceberg and DuckDB as writers of tables that leak, one a surface.

  leaks.py make CONFIG    makes them and deletes people from them, as people do
  leaks.py read CONFIG    says what PyIceberg and DuckDB find in them
  leaks.py decoded CONFIG looks into every file below "folder"

CONFIG is pyice.py's. The people are residue.py's.
"""
import datetime
import json
import os
import sys
import time

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog import load_catalog
from pyiceberg.expressions import In
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import LongType, NestedField, StringType

import readers
import residue
from residue import ERASED, PEOPLE, canary, mail, person

GONE = [person(i) for i in ERASED]
SCHEMA = Schema(NestedField(1, "id", LongType(), required=False), NestedField(2, "mail", StringType(), required=False),
                NestedField(3, "canary", StringType(), required=False), NestedField(4, "n", LongType(), required=False))


def rows(people):
    return pa.table({"id": pa.array([person(i) for i in people], pa.int64()), "mail": [mail(i) for i in people],
                     "canary": [canary(i, n) for n, i in enumerate(people)], "n": pa.array(list(people), pa.int64())})


everyone, kept = range(PEOPLE), [i for i in range(PEOPLE) if i not in ERASED]


def py_delete(t):
    """PyIceberg's delete copies files; the old ones stay in history."""
    t.append(rows(everyone))
    t.delete(In("id", GONE))


def py_overwrite(t):
    t.append(rows(everyone))
    t.overwrite(rows(kept))


def py_tag(t):
    t.append(rows(everyone))
    t.manage_snapshots().create_tag(t.current_snapshot().snapshot_id, "audit").commit()
    t.overwrite(rows(kept))


def py_expired(t):
    """Expiry of snapshots, which leaves their files where they are, two days ago."""
    py_delete(t)
    time.sleep(0.01)
    t.maintenance.expire_snapshots().older_than(datetime.datetime.now()).commit()
    for root, _, names in os.walk(folder(t)):
        for name in names:
            old = time.time() - 48 * 3600
            os.utime(os.path.join(root, name), (old, old))


def py_property(t):
    """A property that was removed again is in old metadata files."""
    t.append(rows(kept))
    with t.transaction() as tx:
        tx.set_properties({"note": "asked by " + mail(ERASED[0])})
    with t.transaction() as tx:
        tx.remove_properties("note")


def py_keyed(t):
    """Partitioned by the key: paths, partition values, summaries."""
    t.append(rows(list(range(12))))
    t.delete(In("id", GONE))


def arrow_filtered(t):
    """A filtered column of dictionary values, written back by pyarrow: its dictionary keeps what no row has."""
    all_, kept_ = rows(everyone), rows(kept)
    mails = pa.DictionaryArray.from_arrays(pa.array(kept, pa.int32()), all_["mail"].combine_chunks())
    add(t, kept_.set_column(1, "mail", mails), pq.write_table)


def duck_live(t):
    """A file of DuckDB's, with the bloom filters and dictionaries that it writes."""
    add(t, rows([i % PEOPLE for i in range(6000)]), duck_copy)


def duck_filtered(t):
    """What DuckDB writes anew holds nothing of the rows that it left out: nothing is to be found."""
    add(t, rows(kept), duck_copy)


TABLES = [py_delete, py_overwrite, py_tag, py_expired, py_property, py_keyed, arrow_filtered, duck_live, duck_filtered]


def folder(t):
    return t.location().removeprefix("file://")


def add(t, arrow, write):
    os.makedirs(folder(t) + "/data", exist_ok=True)
    path = folder(t) + "/data/added.parquet"
    write(arrow, path)
    t.add_files(["file://" + path])


def duck_copy(arrow, path):
    con = duckdb.connect()
    con.register("incoming", arrow)
    con.execute(f"COPY incoming TO '{path}' (FORMAT parquet, COMPRESSION zstd)")


def make(cfg):
    cat = load_catalog("lake", **cfg["catalog"])
    cat.create_namespace_if_not_exists(cfg["namespace"])
    keyed = PartitionSpec(PartitionField(1, 1000, IdentityTransform(), "id"))
    for fill in TABLES:
        spec = {"partition_spec": keyed} if fill is py_keyed else {}
        fill(cat.create_table(f"{cfg['namespace']}.{fill.__name__}", SCHEMA, properties={"format-version": "2"}, **spec))
    readers.say({"tables": [f.__name__ for f in TABLES]})


def read(cfg):
    cat, con, out = load_catalog("lake", **cfg["catalog"]), readers.duck(), {}
    for fill in TABLES:
        t = cat.load_table(f"{cfg['namespace']}.{fill.__name__}")
        where = t.metadata_location.removeprefix("file://")
        out[fill.__name__] = {"pyiceberg": readers.pyiceberg_summary(t, "id", GONE),
                              "duckdb": readers.summary(con, f"iceberg_scan('{where}')", "id", GONE)}
    readers.say(out)


def decoded(cfg):
    readers.say(residue.decoded(cfg))


if __name__ == "__main__":
    globals()[sys.argv[1]](json.load(open(sys.argv[2])))
