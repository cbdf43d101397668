"""The table of the compaction benchmark, Spark's side of it, and DuckDB's scans.

  table.py make DIR ROWS FILES   a version 2 table of so many small files, a tenth of its rows hidden by position deletes
  table.py spark DIR             rewrite_data_files, then rewrite_position_delete_files
  table.py digest DIR            rows and a digest of what DuckDB's Iceberg reader sees, and the head's files
  table.py scan NAME=DIR...      reads each table's data files once: CPU seconds, rows, a digest of all columns

DIR holds catalog.db and the table db.t. Answers are one line of JSON; the CPU
of the JVM is asked of itself, before and after the work, so that its start
does not count.
"""
import json
import os
import resource
import sqlite3
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "interop", "py"))

import readers  # noqa: E402


def session(folder):
    import glob
    import spark
    jars = [j for j in glob.glob(os.path.join(HERE, "..", "..", ".cache", "interop", "jars", "*.jar")) if "iceberg-spark" in j or "sqlite" in j]
    folder = os.path.abspath(folder)
    os.makedirs(os.path.join(folder, "warehouse"), exist_ok=True)
    return spark.session({"jars": jars, "catalog_name": "lake", "catalog": {
        "type": "jdbc", "uri": f"jdbc:sqlite:{folder}/catalog.db", "warehouse": f"file:{folder}/warehouse", "jdbc.schema-version": "V1"}})


def jvm_cpu(spark):
    """CPU seconds of the JVM so far."""
    bean = spark._jvm.java.lang.management.ManagementFactory.getOperatingSystemMXBean()
    method = spark._jvm.java.lang.Class.forName("com.sun.management.OperatingSystemMXBean").getMethod("getProcessCpuTime", None)
    return method.invoke(bean, None) / 1e9


def make(folder, rows, files):
    spark = session(folder)
    spark.sql("CREATE NAMESPACE IF NOT EXISTS lake.db")
    spark.range(0, int(rows), 1, int(files)).createOrReplaceTempView("r")
    spark.sql("""CREATE TABLE lake.db.t USING iceberg TBLPROPERTIES ('format-version'='2','write.delete.mode'='merge-on-read',
        'write.distribution-mode'='none','write.parquet.compression-codec'='zstd') AS SELECT
        id, pmod(xxhash64(id), 3100000) AS user_id, concat('user.', lower(hex(pmod(xxhash64(id), 3100000))), '@example.com') AS email,
        timestamp_micros(1700000000000000 + id * 1000003) AS at, element_at(array('de','fr','nl','pl','se','us'), cast(id % 6 + 1 as int)) AS country,
        xxhash64(id, 1) / 1e12 AS amount, cast(id % 97 as int) AS quantity, sha2(cast(id as string), 512) AS payload FROM r""")
    spark.sql("DELETE FROM lake.db.t WHERE pmod(xxhash64(id, 2), 10) = 3")
    row = spark.sql("SELECT count(*), sum(file_size_in_bytes) FROM lake.db.t.data_files").collect()[0]
    deletes = spark.sql("SELECT count(*), sum(record_count) FROM lake.db.t.delete_files").collect()[0]
    return {"files": row[0], "bytes": row[1], "delete_files": deletes[0], "hidden": deletes[1]}


def compact(folder):
    spark = session(folder)
    spark.sql("SELECT count(*) FROM lake.db.t.snapshots").collect()
    wall, cpu = time.time(), jvm_cpu(spark)
    spark.sql("CALL lake.system.rewrite_data_files(table => 'db.t')").collect()
    spark.sql("CALL lake.system.rewrite_position_delete_files(table => 'db.t')").collect()
    out = {"wall": time.time() - wall, "cpu": jvm_cpu(spark) - cpu}
    deletes = spark.sql("SELECT count(*) FROM lake.db.t.delete_files").collect()[0]
    return out | {"delete_files": deletes[0]}


def metadata(folder):
    """The table's metadata file. A table that was moved is read where it was made."""
    with sqlite3.connect(os.path.join(folder, "catalog.db")) as db:
        return db.execute("SELECT metadata_location FROM iceberg_tables").fetchone()[0].removeprefix("file:")


def digest(folder):
    """What a delete-aware reader sees; the head's data files are noted for scan, which comes after the folder was moved."""
    con, at = readers.duck(), metadata(folder)
    row = con.execute(f"SELECT count(*), sum(hash(t)::HUGEINT) FROM iceberg_scan('{at}') AS t").fetchone()
    listed = con.execute(f"SELECT manifest_content, status, file_path FROM iceberg_metadata('{at}')").fetchall()
    live = [(kind, os.path.relpath(path.removeprefix("file://").removeprefix("file:"), os.path.abspath(folder)))
            for kind, status, path in listed if status != "DELETED"]
    data = [path for kind, path in live if kind == "DATA"]
    with open(os.path.join(folder, "live.json"), "w") as f:
        json.dump(data, f)
    sizes = [os.path.getsize(os.path.join(folder, path)) for path in data]
    return {"rows": row[0], "digest": str(row[1]), "files": len(data), "deletes": len(live) - len(data), "bytes": sum(sizes)}


def scan(*pairs):
    """One scan of each table's data files, all columns, by two threads, after one that is not measured."""
    out = {}
    pairs = pairs + pairs
    for name, folder in (p.split("=", 1) for p in pairs):
        with open(os.path.join(folder, "live.json")) as f:
            files = [os.path.join(folder, path) for path in json.load(f)]
        con = readers.duck()
        con.execute("SET threads = 2")
        before = resource.getrusage(resource.RUSAGE_SELF)
        row = con.execute("SELECT count(*), sum(hash(t)::HUGEINT) FROM read_parquet(?) AS t", [files]).fetchone()
        after = resource.getrusage(resource.RUSAGE_SELF)
        out[name] = {"cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, "rows": row[0], "digest": str(row[1])}
    return out


if __name__ == "__main__":
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    readers.say({"make": make, "spark": compact, "digest": digest, "scan": scan}[sys.argv[1]](*sys.argv[2:]))
