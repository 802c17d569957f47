"""Shows what each engine took for each query, and how often that is what DatomFusion took.

    python3 benches/ratios.py DIRECTORY 20k

DIRECTORY has the results-ENGINE-SIZE.json that the `datalog` bench and the peers' scripts write. A cell is the least of
the clock / the mean of the processor in ms; behind it, the least over ours. An engine whose count of rows differs is
marked, and its times mean nothing.
"""

import glob
import json
import sys

directory, size = sys.argv[1:]
results = {}
for path in sorted(glob.glob(f"{directory}/results-*-{size}.json")):
    with open(path, encoding="utf-8") as file:
        result = json.load(file)
    results[result["engine"]] = result
ours = results.pop("datomfusion")
queries = [key for key, value in ours.items() if isinstance(value, dict)]
print("| query | rows | datomfusion |", " | ".join(results), "|")
print("|" + "---|" * (3 + len(results)))
for query in queries:
    own = ours[query]
    cells = [query, f"{own['count']:,}", f"{own['min_ms']:.2f} / {own['cpu_ms']:.2f}"]
    for result in results.values():
        theirs = result.get(query)
        if not theirs or theirs.get("error"):
            cells.append(theirs["error"] if theirs else "")
            continue
        differs = "" if theirs["count"] == own["count"] else f", **{theirs['count']} rows**"
        ratio = theirs["min_ms"] / own["min_ms"]
        cells.append(f"{theirs['min_ms']:.2f} / {theirs['cpu_ms']:.2f}, {ratio:.2f}x{differs}")
    print("|", " | ".join(cells), "|")
