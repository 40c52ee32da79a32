"""PostgreSQL servers for a benchmark. Each has one data directory, and a unix socket in a separate directory.

Anyone who can use the socket is trusted: there are no passwords. If root runs the benchmark, the server runs as the
user postgres. A server stops at the end of its `with` block.
"""

import os
import pathlib
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse

import measure

START_SECONDS_MAX = 120
# Count and checksum of every table's rows, independent of their order.
TABLES = """SELECT format('SELECT %L, count(*), sum(hashtextextended(whole_row::text, 0)) FROM %I.%I AS whole_row;',
    nspname || '.' || relname, nspname, relname) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
    WHERE relkind = 'r' AND nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY nspname, relname"""


def programs():
    """The directory of PostgreSQL's programs: of the newest installed version, otherwise from PATH."""
    installed = pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = sorted(installed, key=lambda path: float(path.parents[1].name))
    found = newest[-1] if newest else shutil.which("initdb")
    if not found:
        sys.exit("bench: PostgreSQL's initdb is neither below /usr/lib/postgresql nor in PATH")
    return pathlib.Path(found).resolve().parent


def version(bin):
    """The major version."""
    said = subprocess.run([bin / "postgres", "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout
    return re.search(r"\) (\d+)", said)[1]


def as_server():
    """Arguments that make a process run as the server's user."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam("postgres")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


class Cluster:
    def __init__(self, bin, data, settings):
        self.bin, self.data, self.settings = bin, data, settings

    @classmethod
    def create(cls, bin, data, settings):
        """Creates an empty cluster."""
        data.mkdir(parents=True)
        if as_server():
            shutil.chown(data, as_server()["user"], as_server()["group"])
        words = [bin / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        made = subprocess.run(words, cwd="/", capture_output=True, **as_server())
        if made.returncode:
            sys.exit(f"bench: initdb of {data} failed; can the user postgres access it?\n{made.stderr.decode()}")
        return cls(bin, data, settings)

    def __enter__(self):
        self.socket = pathlib.Path(tempfile.mkdtemp(prefix="skb-", dir="/tmp"))
        if as_server():
            shutil.chown(self.socket, as_server()["user"], as_server()["group"])
        settings = {"listen_addresses": "", "unix_socket_directories": self.socket, "port": 5432, **self.settings}
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self.log = tempfile.TemporaryFile()
        command = [self.bin / "postgres", "-D", self.data, *words]
        self.process = subprocess.Popen(command, cwd="/", stderr=self.log, start_new_session=True, **as_server())
        try:
            self.wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def wait_until_ready(self):
        ready = [self.bin / "pg_isready", "-q", *self.address()]

        def problem():
            code = subprocess.run(ready).returncode
            return f"pg_isready returned {code} for {self.data}" if code else None

        def log():
            self.log.seek(0)
            return self.log.read().decode(errors="replace")

        measure.until_ready(self.process, START_SECONDS_MAX, problem, log)

    def __exit__(self, *_):
        """Stops the server. Sessions are disconnected; committed data is on disk."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.socket, ignore_errors=True)

    def address(self):
        return ["-h", self.socket, "-U", "postgres"]

    def url(self, database):
        return f"postgres://postgres@{urllib.parse.quote(str(self.socket), safe='')}:5432/{database}"

    def program(self, name, *words):
        """The command line of a client."""
        return [self.bin / name, *self.address(), *words]

    def sql(self, database, *words):
        """The output of psql."""
        command = self.program("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, *words)
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    def size(self, database):
        return int(self.sql(database, "-c", f"SELECT pg_database_size('{database}')"))

    def content(self, database):
        """One line per table: its name, the count and a checksum of its rows."""
        same = "SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; SET bytea_output = 'hex';"
        return set(self.sql(database, "-c", same + self.sql(database, "-c", TABLES)).splitlines())

    def measure(self, *commands, env=None):
        """Figures of commands that use this server, including the server's CPU seconds; and CPU seconds by thread."""
        standing, before = self.children(), self.cpu()
        watch = measure.Watch()
        figures = measure.pipeline(commands, env, watch)
        # The postmaster's CPU time includes a session's time once it has reaped the session.
        while self.children() - standing:
            time.sleep(0.01)
        return figures._replace(server=self.cpu() - before), watch.by_name()

    def children(self):
        return set(measure.tree(self.process.pid)) - {self.process.pid}

    def cpu(self):
        """CPU seconds of the server since it started, including sessions that have ended."""
        own = measure.cpu(self.process.pid, children=True)
        return own + sum(map(measure.cpu, self.children()))
