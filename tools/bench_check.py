"""The attention kernels' ratios against a stored table: make bench-check.

  python3 tools/bench_check.py [TABLE] [--json FILE]

Runs `./tessera` as the table says (tools/bench_ratios.json), or takes the JSON of a run that was
made before, and compares ratios within that run: to the dense kernel, to the peak, to one thread.
Times are compared with nothing. Ends with 1 when a ratio is out of its bounds or a row is missing.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))


def measured(command):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "bench.json")
        program = [os.path.join(HERE, "..", "tessera"), *command, "--quiet", "--json", path]
        subprocess.run(program, check=True, stdout=subprocess.DEVNULL)
        with open(path) as f:
            return json.load(f)


def matches(bound, row):
    """Of the rows of uneven blocks the one on all threads is compared with that on one."""
    same = all(row.get(k) == bound[k] for k in ("kernel", "keep") if k in bound)
    return same and bound["value"] in row


def judge(bound, row):
    value, least = row[bound["value"]], bound.get("least")
    if "least_of_threads" in bound:
        least = bound["least_of_threads"] * row["threads"]
    most = bound.get("most")
    good = (least is None or value >= least) and (most is None or value <= most)
    wanted = "at least %.3g" % least if most is None else "at most %.3g" % most
    keep = " keep %g" % bound["keep"] if "keep" in bound else ""
    mark = "  " if good else "! "
    print("%s%s%s: %s %.3f, %s" % (mark, row["kernel"], keep, bound["value"], value, wanted))
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("table", nargs="?", default=os.path.join(HERE, "bench_ratios.json"))
    parser.add_argument("--json", help="of a run that was made before")
    a = parser.parse_args()
    with open(a.table) as f:
        table = json.load(f)
    if a.json:
        with open(a.json) as f:
            run = json.load(f)
    else:
        run = measured(table["command"])
    print("%s, %d cores, load %s" % (run["cpu"], run["cores"], run["load"]))
    failed = 0
    for bound in table["rows"]:
        rows = [r for r in run["rows"] if matches(bound, r)]
        if not rows:
            print("! %s: no such row" % bound)
        failed += not rows or not all([judge(bound, r) for r in rows])
    if failed and max(x or 0 for x in run["load"]) > run["cores"]:
        print("the machine was busy: a ratio may be its doing")
    sys.exit(failed > 0)


main()
