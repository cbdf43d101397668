"""Spark at the other end of a pipe, so that one session serves a whole test.

  residue.py CONFIG

Reads one JSON command a line from standard input, {"do": name, ...}, and answers
with one JSON line that starts with "=> ". CONFIG is spark.py's.

Rows have an id that occurs nowhere else as eight bytes, a mail address and a
canary that no other row has.
"""
import datetime
import json
import os
import random
import sys

from pyspark.sql import functions as F

import spark as sparkpy

BASE, STEP, PEOPLE = 7_100_000_000_019, 7_919_000_003, 60
SCHEMA = "id bigint, mail string, canary string, n int, part string"


def person(i):
    return BASE + i * STEP


def mail(i):
    return f"leaver.{i:04d}@example.com"


def canary(i, serial):
    return f"canary-{i:04d}-{serial:08d}"


ERASED = list(range(0, PEOPLE, 9))
BLANKS = "".join(map(chr, range(1, 32)))


# Many statements over few rows: compiling them costs more than running them.
QUICK = {"spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC", "spark.sql.codegen.wholeStage": "false",
         "spark.sql.codegen.factoryMode": "NO_CODEGEN", "spark.sql.adaptive.enabled": "false", "spark.sql.shuffle.partitions": "2"}


class Lake:
    def __init__(self, cfg):
        cfg["catalog"]["cache-enabled"] = "false"
        cfg["spark"] = QUICK
        self.spark, self.cat = sparkpy.session(cfg), cfg["catalog_name"]
        self.ns = f"{self.cat}.{cfg['namespace']}"
        self.spark.sql(f"CREATE NAMESPACE IF NOT EXISTS {self.ns}")
        self.serial = 0

    def sql(self, text):
        return self.spark.sql(text).collect()

    def call(self, procedure, **args):
        given = ", ".join(f"{k} => {v}" for k, v in args.items())
        return self.sql(f"CALL {self.cat}.system.{procedure}({given})")

    def create(self, name, version, mode, partitioned="part"):
        by = f"PARTITIONED BY ({partitioned})" if partitioned else ""
        self.sql(f"CREATE TABLE {self.ns}.{name} ({SCHEMA}) USING iceberg {by} TBLPROPERTIES ('format-version'='{version}',"
                 f"'write.delete.mode'='{mode}','write.update.mode'='{mode}','write.distribution-mode'='none',"
                 "'write.summary.partition-limit'='100','write.metadata.metrics.default'='full')")

    def insert(self, name, people, columns=None):
        rows = []
        for i in people:
            self.serial += 1
            rows.append((person(i), mail(i), canary(i, self.serial), self.serial, f"p{i % 3}"))
        df = self.spark.createDataFrame(rows, SCHEMA).coalesce(1)
        for c in columns or []:
            df = df.withColumn(c, F.concat(F.lit(c + "-"), F.col("canary")))
        df.createOrReplaceTempView("incoming")
        cols = ", ".join(df.columns)
        self.sql(f"INSERT INTO {self.ns}.{name} ({cols}) SELECT {cols} FROM incoming")

    # The documented sequence: DELETE FROM, rewrite_data_files, expire_snapshots, remove_orphan_files.
    def sequence(self, name, version, mode, partitioned="part", options="map('rewrite-all','true')"):
        self.create(name, version, mode, partitioned)
        for start in range(3):
            self.insert(name, range(start, PEOPLE, 2 if partitioned == "part" else 5))
        self.sql(f"DELETE FROM {self.ns}.{name} WHERE id IN ({', '.join(str(person(i)) for i in ERASED)})")
        table = f"'{self.ns.split('.', 1)[1]}.{name}'"
        self.call("rewrite_data_files", table=table, options=options)
        self.call("expire_snapshots", table=table, older_than=f"TIMESTAMP '{now()}'", retain_last=1)
        self.call("remove_orphan_files", table=table)
        return {"people": PEOPLE, "erased": len(ERASED)}

    def history(self, name, seed, version):
        rng = random.Random(seed)
        log, columns = [], []
        self.create(name, version, "merge-on-read", rng.choice(["part", "", "bucket(4, id)"]))
        t, table = f"{self.ns}.{name}", f"'{self.ns.split('.', 1)[1]}.{name}'"
        everyone = lambda: [rng.randrange(PEOPLE) for _ in range(rng.randint(10, 40))] + [rng.choice(ERASED)]
        self.insert(name, everyone())
        for _ in range(rng.randint(4, 7)):
            op = rng.choice(["insert", "insert", "mor", "cow", "update", "column", "partition", "tag", "rollback", "compact", "erased", "stats"])
            log.append(op)
            some = f"n % {rng.randint(3, 7)} = 0"
            if op == "insert":
                self.insert(name, everyone(), columns)
            elif op in ("mor", "cow"):
                self.sql(f"ALTER TABLE {t} SET TBLPROPERTIES ('write.delete.mode'='{'merge-on-read' if op == 'mor' else 'copy-on-write'}')")
                self.sql(f"DELETE FROM {t} WHERE {some}")
            elif op == "update":
                self.sql(f"UPDATE {t} SET part = 'moved' WHERE {some}")
            elif op == "column":
                columns.append(f"extra{len(columns)}")
                self.sql(f"ALTER TABLE {t} ADD COLUMN {columns[-1]} string")
            elif op == "partition":
                try:
                    self.sql(f"ALTER TABLE {t} ADD PARTITION FIELD truncate({rng.randint(1, 9)}, part)")
                except Exception:
                    log[-1] += " (refused)"
            elif op == "tag":
                self.sql(f"ALTER TABLE {t} CREATE OR REPLACE TAG keep{rng.randint(0, 2)}")
            elif op == "rollback":
                ids = [r[0] for r in self.sql(f"SELECT snapshot_id FROM {t}.history WHERE is_current_ancestor ORDER BY made_current_at")]
                if len(ids) > 2:
                    self.call("rollback_to_snapshot", table=table, snapshot_id=ids[-2])
            elif op == "compact":
                self.call("rewrite_data_files", table=table, options="map('rewrite-all','true')")
            elif op == "erased":
                self.sql(f"DELETE FROM {t} WHERE id = {person(rng.choice(ERASED))}")
            elif op == "stats":
                for p in ("compute_table_stats", "compute_partition_stats"):
                    try:
                        self.call(p, table=table)
                    except Exception:
                        log[-1] += " (refused)"
        self.insert(name, everyone() + ERASED, columns)
        return {"log": log}

    def answer(self, name):
        """Rows of erased people, and a digest of all the others."""
        df = self.spark.table(f"{self.ns}.{name}")
        hit = F.coalesce(F.col("id").isin([person(i) for i in ERASED]), F.lit(False))
        h = F.xxhash64(*[F.col(c) for c in df.columns]).cast("decimal(38,0)")
        row = df.select(hit.alias("hit"), h.alias("h")).agg(
            F.sum(F.when(F.col("hit"), 1).otherwise(0)), F.sum(F.when(F.col("hit"), 0).otherwise(1)),
            F.sum(F.when(F.col("hit"), None).otherwise(F.col("h")))).collect()[0]
        return {"hits": row[0] or 0, "survivors": row[1] or 0, "checksum": str(row[2])}


def now():
    return (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=5)).strftime("%Y-%m-%d %H:%M:%S")


def decoded(cfg):
    """Searches every Parquet file under a folder, decoded: values of all columns and
    all dictionary entries. Says which files hold a canary, a mail or an id of the
    erased, and which have a dictionary entry that no row refers to, other than a
    blank, which is made of control characters only."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    bad, loose, files = [], [], 0
    needles = {canary(i, 0)[:12] for i in ERASED}
    people, mails = {person(i) for i in ERASED}, {mail(i) for i in ERASED}
    for root, _, names in os.walk(cfg["folder"]):
        for name in names:
            if not name.endswith(".parquet"):
                continue
            files += 1
            path = os.path.join(root, name)
            f = pq.ParquetFile(path)
            text = [c for c in f.schema_arrow.names if pa.types.is_string(f.schema_arrow.field(c).type)]
            for g in range(f.num_row_groups):
                t = pq.ParquetFile(path, read_dictionary=text).read_row_group(g)
                for c in t.column_names:
                    for chunk in t.column(c).chunks:
                        values = chunk.to_pylist()
                        entries = chunk.dictionary.to_pylist() if pa.types.is_dictionary(chunk.type) else []
                        for v in values + entries:
                            v = str(v)
                            if any(n in v for n in needles) or v in mails or v.lstrip("-").isdigit() and int(v) in people:
                                bad.append(f"{name}: {c}")
                                break
                        if any(e.strip(BLANKS) or not e for e in set(entries) - set(values)):
                            loose.append(f"{name}: {c}")
    return {"bad": bad, "loose": loose, "files": files}


def main():
    cfg = json.load(open(sys.argv[1]))
    lake = Lake(cfg)
    for line in sys.stdin:
        cmd = json.loads(line)
        do = cmd.pop("do")
        out = decoded(cmd) if do == "decoded" else getattr(lake, do)(**cmd)
        print("=> " + json.dumps(out), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    main()
