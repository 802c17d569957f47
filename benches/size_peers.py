"""The people of `size.rs` in SQLite and DuckDB: python3 benches/size_peers.py [DATOMS]...

Prints the bytes of a file for each fact, as a wide table and as a table of facts, indexed as the attributes
are: id unique, name indexed. Neither keeps history.
"""

import os
import sqlite3
import sys
import tempfile

import duckdb

MASK = (1 << 64) - 1


class Random:
    """SplitMix64, as in `support/random.rs`."""

    def __init__(self, seed):
        self.state = seed

    def below(self, end):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return (z ^ (z >> 31)) % end


def people(count):
    random = Random(0)
    for n in range(count):
        name, age = f"name {random.below(100_000)}", random.below(100)
        yield n, name, age, f"city {random.below(500)}", random.below(1_000_000) / 7.0


def facts(count):
    for row in people(count):
        for a, v in enumerate(row):
            yield 1024 + row[0], 1000 + a, v, 1


def sqlite(path, count, wide):
    db = sqlite3.connect(path)
    if wide:
        db.execute("create table p (id integer primary key, name text, age integer, city text, score real)")
        db.executemany("insert into p values (?,?,?,?,?)", people(count))
        db.execute("create index by_name on p (name)")
    else:
        db.execute("create table d (e integer, a integer, v, tx integer, primary key (e, a, v)) without rowid")
        db.executemany("insert into d values (?,?,?,?)", facts(count))
        db.execute("create index aevt on d (a, e, v)")
        db.execute("create index avet on d (a, v, e) where a in (1000, 1001)")
    db.commit()
    db.execute("vacuum")
    db.close()


def duck(path, count, wide):
    db = duckdb.connect(path)
    with tempfile.NamedTemporaryFile("w", suffix=".csv", delete=False) as out:
        for row in people(count) if wide else facts(count):
            out.write(",".join(map(str, row)) + "\n")
    if wide:
        db.execute("create table p (id bigint primary key, name varchar, age bigint, city varchar, score double)")
        db.execute(f"insert into p select * from read_csv('{out.name}', header=false)")
        db.execute("create index by_name on p (name)")
    else:
        db.execute("create table d (e bigint, a bigint, v varchar, tx bigint)")
        db.execute(f"insert into d select * from read_csv('{out.name}', header=false, all_varchar=true)")
    db.close()
    os.unlink(out.name)


def main():
    for datoms in map(int, sys.argv[1:] or ["100000", "1000000"]):
        for name, make in [("SQLite", sqlite), ("DuckDB", duck)]:
            for wide in (True, False):
                with tempfile.TemporaryDirectory() as folder:
                    path = os.path.join(folder, "peer")
                    make(path, datoms // 5, wide)
                    size = sum(os.path.getsize(os.path.join(folder, f)) for f in os.listdir(folder))
                kind = "wide" if wide else "facts"
                print(f"{name} {kind}, {datoms} facts: {size / datoms:.2f} bytes a fact")


main()
