#!/usr/bin/env python3
"""Lists the source files that a row passes on its way from PostgreSQL into a pack, and on its way back.

Runs a debug build of sidekeep under `valgrind --tool=callgrind` with a small table and with a larger one. Lists the
files below src/ that have a function whose calls grow with the rows: at least one more call for each LEAF rows. A file
that is not listed does the same work however many rows there are. Files that do not get the row's bytes are listed
separately: files of src/base, and files that only record where chunks are.
"""

import argparse
import collections
import pathlib
import re
import subprocess
import sys
import tempfile

import cluster

ROOT = pathlib.Path(__file__).resolve().parents[2]
LAYERS = "base|cli|crypto|engine|format|ops|repo|sort|store|tree"
# A leaf has fewer rows than LEAF. A file with one more call for each leaf is on the path.
ROWS = (1000, 9000)
LEAF = 512
SCHEMA = """CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL);
CREATE TABLE contacts (id bigint PRIMARY KEY, owner bigint NOT NULL REFERENCES users, name text, born date, photo bytea);
INSERT INTO users SELECT n, 'user ' || n FROM generate_series(1, 50) n;
INSERT INTO contacts SELECT n, 1 + n % 50, 'contact ' || n, date '1980-01-01' + n % 9000, sha256(n::text::bytea)
    FROM generate_series(1, {rows}) n;"""


# These files handle ids, locations and counts of chunks, log which statements ran, or provide what others use. They never
# get a row's bytes.
APART = re.compile(r"src/base/|/(index|fragment|node|pack|pending|locator|setup|secret|location|statement_log)\.rs$")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, help="debug build to run (default: make one)")
    args = parser.parse_args()
    if not args.binary:
        subprocess.run(["cargo", "build", "--locked"], cwd=ROOT, check=True)
        args.binary = ROOT / "target" / "debug" / "sidekeep"
    with tempfile.TemporaryDirectory(prefix="row-path-") as work:
        pathlib.Path(work).chmod(0o755)
        runs = [run(args.binary.resolve(), pathlib.Path(work) / str(rows), rows) for rows in ROWS]
    least = (ROWS[1] - ROWS[0]) // LEAF
    for way in ("backup", "restore"):
        show(way, grown(runs[0][way], runs[1][way], least))


def run(binary, work, rows):
    """Calls of each function in a backup and in a restore of a database with this many rows."""
    work.mkdir()
    work.chmod(0o755)
    data = pathlib.Path(tempfile.mkdtemp(prefix="row-path-pg-"))
    data.chmod(0o755)
    bin = cluster.programs()
    with cluster.Cluster.create(bin, data / "data", {"fsync": "off"}) as server:
        server.sql("postgres", "-c", "CREATE DATABASE sync", "-c", "CREATE DATABASE back")
        server.sql("sync", "-c", SCHEMA.format(rows=rows))
        quiet(work, [binary, "init", work / "repo", "--keys-dir", work / "keys", "--source", server.url("sync")])
        common = ["--repo", work / "repo", "--key-file"]
        backup = [binary, "backup", "--workers", "1", *common, work / "keys" / "operator.key", server.url("sync")]
        restore = [binary, "restore", "latest", "--to", server.url("back"), *common, work / "keys" / "admin.key"]
        return {"backup": traced(work, backup), "restore": traced(work, restore)}


def quiet(work, command):
    done = subprocess.run(command, cwd=work, capture_output=True, text=True)
    if done.returncode not in (0, 3):
        sys.exit(f"row_path: {' '.join(map(str, command))}\n{done.stdout}{done.stderr}")


def traced(work, command):
    out = work / "callgrind.out"
    quiet(work, ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", *command])
    return calls(out)


def calls(path):
    """Calls and file of each function, from callgrind's output. Expands its compressed names."""
    files, functions, counts, homes = {}, {}, collections.Counter(), {}
    here = callee_file = callee = None

    def name(table, text):
        number, _, spelled = text.partition(" ")
        if spelled:
            table[number] = spelled
        return table[number]

    for line in path.read_text(errors="replace").splitlines():
        key, _, value = line.partition("=")
        if key == "fl":
            here = name(files, value)
        elif key in ("fi", "fe"):
            name(files, value)
        elif key == "fn":
            homes[name(functions, value)] = here
        elif key in ("cfi", "cfl"):
            callee_file = name(files, value)
        elif key == "cfn":
            callee = name(functions, value)
            homes.setdefault(callee, callee_file or here)
        elif key == "calls":
            counts[callee] += int(value.split()[0])
            callee_file = None
    return {function: (count, homes.get(function) or "") for function, count in counts.items()}


def grown(few, many, least):
    """For each file below src/: the function whose calls grew most, and by how many calls."""
    found = {}
    for function, (count, home) in many.items():
        path = re.search(rf"(?:^|/)(src/(?:{LAYERS})/[\w/]+\.rs)$", home)
        more = count - few.get(function, (0, ""))[0]
        if path and (ROOT / path[1]).exists() and more >= least:
            found[path[1]] = max(found.get(path[1], (0, "")), (more, function))
    return found


def show(way, found):
    bytes_of_rows = {path: most for path, most in found.items() if not APART.search(path)}
    print(f"{way}: a row passes {len(bytes_of_rows)} files")
    lines(bytes_of_rows)
    apart = {path: most for path, most in found.items() if path not in bytes_of_rows}
    print(f"{way}: {len(apart)} other files run more often with more rows")
    lines(apart)


def lines(found):
    for path, (more, function) in sorted(found.items()):
        print(f"  {more:>8} {path}  {function}")


main()
