"""Shared by the scripts here: running a command and measuring its cost, the size of a repository, and the table.

CPU seconds are what the kernel counted for the commands and their children. This module is independent of databases.
"""

import argparse
import collections
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
MB = 1e6
# How often a running command is sampled. When a thread ends, its last CPU time is at most this old.
PAUSE_SECONDS = 0.03
TICKS = os.sysconf("SC_CLK_TCK")

# `server`: CPU seconds of a database server, or None without a server.
Figures = collections.namedtuple("Figures", "wall cpu rss server", defaults=[None])


def parser(doc, users):
    """The options that all scripts here have."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=users)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "target" / "bench")
    parser.add_argument("--binary", type=pathlib.Path, help="program to measure (default: make a release build)")
    return parser


def arguments(parser):
    args = parser.parse_args()
    args.work = args.work.resolve()
    args.work.mkdir(parents=True, exist_ok=True)
    if not args.binary:
        subprocess.run(["cargo", "build", "--release", "--locked"], cwd=ROOT, check=True)
        args.binary = ROOT / "target" / "release" / "sidekeep"
    args.binary = args.binary.resolve()
    return args


def data_set(*names):
    """The files that create the database and apply a day of use."""
    folder = os.environ.get("SIDEKEEP_BENCH_DATA")
    paths = [pathlib.Path(folder or "", name).resolve() for name in names]
    if not folder or not all(path.exists() for path in paths):
        sys.exit(f"bench: set SIDEKEEP_BENCH_DATA to a directory with {', '.join(names)}, which create the database")
    return paths


def header(server=False):
    on_top = f" {'+pg s':>7}" if server else ""
    print(f"{'tool':<12} {'what':<22} {'wall s':>8} {'CPU s':>8}{on_top} {'RSS MB':>8} {'stored MB':>10} {'objects':>8}")


def row(tool, what, figures, stored=None, before=(0, 0)):
    text = f"{tool:<12} {what:<22} {figures.wall:>8.2f} {figures.cpu:>8.2f}"
    if figures.server is not None:
        text += f" {figures.server:>7.2f}"
    text += f" {figures.rss / MB:>8.0f}"
    if stored:
        text += f" {(stored[0] - before[0]) / MB:>+10.2f} {stored[1] - before[1]:>+8}"
    print(text, flush=True)


def run(command, env=None):
    """Figures of a command. Memory is the largest resident set of the command and its children."""
    return pipeline([command], env)


def pipeline(commands, env=None, watch=None):
    """Figures of commands, each of which reads the output of the previous one."""
    # Unwritten data of an earlier command must not slow this one down.
    os.sync()
    with tempfile.TemporaryFile() as said:
        began = time.monotonic()
        processes = start(commands, said, {**os.environ, **(env or {})})
        if watch:
            watch.start([process.pid for process in processes])
        used = [wait(process) for process in processes]
        wall = time.monotonic() - began
        if watch:
            watch.stop()
        for command, process in zip(commands, processes):
            if process.returncode not in (0, 3):
                said.seek(0)
                words = " ".join(map(str, command))
                sys.exit(f"bench: {words} exited with {process.returncode}:\n{said.read().decode(errors='replace')}")
    rss = max(one.ru_maxrss * 1024 for one in used)
    return Figures(wall, sum(one.ru_utime + one.ru_stime for one in used), max(rss, watch.rss if watch else 0))


def start(commands, said, env):
    processes, source = [], subprocess.DEVNULL
    for command in commands:
        sink = subprocess.PIPE if len(processes) + 1 < len(commands) else said
        process = subprocess.Popen(command, stdin=source, stdout=sink, stderr=said, env=env)
        if source != subprocess.DEVNULL:
            source.close()
        processes.append(process)
        source = process.stdout
    return processes


def wait(process):
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return used


def until_ready(server, seconds_max, problem, log):
    """Waits until `problem()` is None. If the server exits or takes too long, the benchmark stops."""
    began = time.monotonic()
    while (found := problem()) is not None:
        if server.poll() is not None or time.monotonic() - began > seconds_max:
            sys.exit(f"bench: the server is not ready ({found}):\n{log()[-2000:]}")
        time.sleep(0.05)


def together(*runs):
    """Figures of commands that ran one after the other."""
    return Figures(sum(run.wall for run in runs), sum(run.cpu for run in runs), max(run.rss for run in runs))


class Watch:
    """Samples running commands: the largest sum of resident sets, including children, and each thread's CPU time."""

    def __init__(self):
        self.rss, self.threads = 0, {}
        self.ended = threading.Event()

    def start(self, roots):
        self.thread = threading.Thread(target=self.work, args=[roots], daemon=True)
        self.thread.start()

    def stop(self):
        self.ended.set()
        self.thread.join()

    def work(self, roots):
        while not self.ended.wait(PAUSE_SECONDS):
            found = [process for root in roots for process in tree(root)]
            self.rss = max(self.rss, sum(resident(process) for process in found))
            for process in roots:
                self.look(process)

    def look(self, process):
        for task in listed(f"/proc/{process}/task"):
            # In nanoseconds: the truncated ticks of a dozen threads would hide a tenth of a second.
            spent = content(f"/proc/{process}/task/{task}/schedstat").split()
            name = content(f"/proc/{process}/task/{task}/comm").strip()
            if spent and name:
                self.threads[task] = (name, int(spent[0]) / 1e9)

    def by_name(self):
        """CPU seconds by thread name."""
        sums = collections.Counter()
        for name, seconds in self.threads.values():
            sums[name] += seconds
        return sums


def tree(process):
    """A process and its descendants; only the process itself once it has ended."""
    found = [process]
    for task in listed(f"/proc/{process}/task"):
        for child in content(f"/proc/{process}/task/{task}/children").split():
            found += tree(int(child))
    return found


def resident(process):
    pages = content(f"/proc/{process}/statm").split()
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") if pages else 0


def cpu(process, children=False):
    """CPU seconds of a process, with `children` including reaped children; 0 if the process has ended."""
    fields = content(f"/proc/{process}/stat").rpartition(")")[2].split()
    return sum(map(int, fields[11 : 15 if children else 13])) / TICKS


def listed(folder):
    try:
        return os.listdir(folder)
    except OSError:
        return []


def content(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def usage(folder):
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return sum(sizes), len(sizes)


def read_speed(folder):
    began = time.monotonic()
    total = 0
    for path in folder.rglob("*"):
        if path.is_file():
            total += len(path.read_bytes())
    return total / MB / (time.monotonic() - began)
