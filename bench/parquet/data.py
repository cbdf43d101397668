"""Makes the benchmark's files: every value is a function of its row's number, so
that a file is the same on every machine and its sorted twin holds the same rows.

    data.py OUT --rows N [--codec zstd] [--sorted] [--bloom]
    data.py OUT --rows N --keys SET      a file of keys, see keys()

10,000,000 rows are about 1 GB in zstd: 8 row groups, 12 leaf columns, data pages
of 1 MiB (version 1), dictionaries of at most 1 MiB with fallback, a page index.
"""

import argparse
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

GROUP = 1_250_000
STEP = 125_000
USERS_PER_ROW = 0.325


def mix(rows, salt):
    """SplitMix64 of the row's number: the n-th draw of a row is mix(rows, n)."""
    with np.errstate(over="ignore"):
        z = rows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64((salt * 0xD1B54A32D192ED03) & (2**64 - 1))
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def draw(rows, salt, n):
    return (mix(rows, salt) >> np.uint64(11)) % np.uint64(n)


def digits(values, width, base=10):
    """Text of numbers, one row a value, left-padded with zeros."""
    alphabet = np.frombuffer(b"0123456789abcdef", np.uint8)
    out = np.empty((len(values), width), np.uint8)
    v = values.astype(np.uint64)
    for i in range(width - 1, -1, -1):
        out[:, i] = alphabet[(v % np.uint64(base)).astype(np.intp)]
        v = v // np.uint64(base)
    return out


def fixed(columns, n):
    """A string array from byte columns: bytes for constants, 2-d arrays for the rest."""
    parts = [np.broadcast_to(np.frombuffer(c, np.uint8), (n, len(c))) if isinstance(c, bytes) else c for c in columns]
    data = np.ascontiguousarray(np.concatenate(parts, axis=1))
    offsets = np.arange(n + 1, dtype=np.int32) * np.int32(data.shape[1])
    return pa.StringArray.from_buffers(n, pa.py_buffer(offsets), pa.py_buffer(data))


def words(count, width, salt):
    """A table of words to pick from."""
    r = np.arange(count * width, dtype=np.uint64)
    return (np.frombuffer(b"etaoinshrdlucmfwypvbgkqjxz", np.uint8)[draw(r, salt, 26).astype(np.intp)]).reshape(count, width)


AGENTS = np.concatenate([np.broadcast_to(np.frombuffer(b"Mozilla/5.0 (X11; Linux x86_64) build ", np.uint8), (64, 38)), words(64, 10, 901)], axis=1)
PATHS = words(512, 12, 902)
QUERY = words(4096, 8, 903)


def users_of(rows, total):
    """User ids are spread over 40 bits and have no order of their own."""
    user = draw(rows, 1, max(1, int(total * USERS_PER_ROW)))
    return user, (mix(user, 77) >> np.uint64(24)).astype(np.int64)


def payload(rows):
    n = len(rows)
    return fixed([b'{"sid":"', digits(mix(rows, 20), 16, 16), digits(mix(rows, 21), 16, 16), b'","path":"/api/v1/', PATHS[draw(rows, 22, 512).astype(np.intp)],
                  b"/", digits(draw(rows, 23, 1_000_000), 6), b'","agent":"', AGENTS[draw(rows, 24, 64).astype(np.intp)], b'","q":"',
                  QUERY[draw(rows, 25, 4096).astype(np.intp)], b" ", QUERY[draw(rows, 26, 4096).astype(np.intp)], b" ", QUERY[draw(rows, 27, 4096).astype(np.intp)],
                  b'","took":', digits(draw(rows, 28, 100_000), 5), b"}"], n)


def tags(rows):
    counts = draw(rows, 30, 4).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    owner = np.repeat(rows, counts)
    nth = np.arange(len(owner)) - np.repeat(offsets[:-1], counts)
    pick = draw(owner * np.uint64(4) + nth.astype(np.uint64), 31, 2000)
    return pa.ListArray.from_arrays(pa.array(offsets), fixed([b"tag-", digits(pick, 4)], len(pick)))


def attrs(rows):
    counts = draw(rows, 40, 3).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    owner = np.repeat(rows, counts)
    nth = (np.arange(len(owner)) - np.repeat(offsets[:-1], counts)).astype(np.uint64)
    key = fixed([b"attr-", digits(nth * np.uint64(20) + draw(owner, 41, 20), 3)], len(owner))
    value = fixed([digits(draw(owner * np.uint64(4) + nth, 42, 10**9), 9)], len(owner))
    return pa.MapArray.from_arrays(pa.array(offsets), key, value)


def table(rows, total):
    n = len(rows)
    user, user_id = users_of(rows, total)
    nulls = draw(rows, 51, 10) == 0
    return pa.table({
        "event_id": pa.array(rows.astype(np.int64) * 7 + 1_000_000_000_000),
        "user_id": pa.array(user_id),
        "email": mail(user),
        "session_id": pa.array((mix(rows, 52) >> np.uint64(1)).astype(np.int64)),
        "ts": pa.array((1_700_000_000_000_000 + rows.astype(np.int64) * 3_000_000 + draw(rows, 53, 2_000_000).astype(np.int64)), pa.timestamp("us", tz="UTC")),
        "country": pa.array(np.where(nulls, 0, draw(rows, 54, 180)).astype(np.int32), mask=nulls),
        "status": fixed([b"S", digits(draw(rows, 55, 40), 2)], n),
        "tags": tags(rows),
        "attrs": attrs(rows),
        "price": pa.array(draw(rows, 56, 10_000_000).astype(np.float64) / 100),
        "payload": payload(rows),
    })


def write(a):
    order = np.arange(a.rows, dtype=np.uint64)
    if a.sorted:
        order = order[np.argsort(users_of(order, a.rows)[1], kind="stable")]
    options = {"bloom_filter_options": {"user_id": {"ndv": GROUP}, "email": {"ndv": GROUP}}} if a.bloom else {}
    writer = None
    for at in range(0, a.rows, GROUP):
        rows = order[at:at + GROUP]
        t = pa.concat_tables([table(rows[i:i + STEP], a.rows) for i in range(0, len(rows), STEP)])
        if writer is None:
            writer = pq.ParquetWriter(a.out + ".part", t.schema, version="2.6", compression=a.codec, data_page_size=1 << 20, data_page_version="1.0",
                                      dictionary_pagesize_limit=1 << 20, write_page_index=True, max_rows_per_page=1 << 40, **options)
        writer.write_table(t, row_group_size=GROUP)
        del t
    writer.close()
    os.replace(a.out + ".part", a.out)


def keys(a):
    """one: a user of one row. nK: K users. qK: K users of one row each. rK: K users
    whose ids are neighbours. million: a million ids and e-mails, of which
    100,000 are users of the file."""
    rows = np.arange(a.rows, dtype=np.uint64)
    user, _ = users_of(rows, a.rows)
    count = np.bincount(user.astype(np.intp))
    present = np.nonzero(count)[0].astype(np.uint64)
    shuffled = present[np.argsort(mix(present, 60), kind="stable")]
    single = shuffled[count[shuffled.astype(np.intp)] == 1]
    if a.keys == "one":
        chosen = single[:1]
    elif a.keys == "million":
        chosen = np.concatenate([shuffled[:100_000], np.arange(10**8 - 900_000, 10**8, dtype=np.uint64)])
    elif a.keys[0] == "r":
        by_id = present[np.argsort(mix(present, 77) >> np.uint64(24), kind="stable")]
        middle = len(by_id) * 9 // 16
        chosen = by_id[middle:middle + int(a.keys[1:])]
    else:
        chosen = (single if a.keys[0] == "q" else shuffled)[:int(a.keys[1:])]
    ident = (mix(chosen, 77) >> np.uint64(24)).astype(np.int64)
    pq.write_table(pa.table({"user_id": pa.array(ident), "email": mail(chosen)}), a.out)


def mail(user):
    return fixed([b"user", digits(user, 8), b"@mail", digits(user % np.uint64(97), 2), b".example"], len(user))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("out")
    p.add_argument("--rows", type=int, required=True)
    p.add_argument("--codec", default="zstd")
    p.add_argument("--sorted", action="store_true")
    p.add_argument("--bloom", action="store_true")
    p.add_argument("--keys")
    a = p.parse_args()
    pa.set_cpu_count(2)
    if a.keys:
        keys(a)
    else:
        write(a)


if __name__ == "__main__":
    main()
