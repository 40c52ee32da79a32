"""PostgreSQL servers for a benchmark: each of one data directory, on a unix socket in a directory of its own.

Whoever may use the socket is trusted: there are no passwords. Run by root, the server runs as the user postgres.
A server ends with the block that began it.
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
# Every table's rows, whatever order they lie in.
TABLES = """SELECT format('SELECT %L, count(*), sum(hashtextextended(whole_row::text, 0)) FROM %I.%I AS whole_row;',
    nspname || '.' || relname, nspname, relname) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
    WHERE relkind = 'r' AND nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY nspname, relname"""


def programs():
    """The directory of PostgreSQL's programs: those of the newest version installed, or those in PATH."""
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
    """What makes a process the server's user."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam("postgres")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


class Cluster:
    def __init__(self, bin, data, settings):
        self.bin, self.data, self.settings = bin, data, settings

    @classmethod
    def create(cls, bin, data, settings):
        """An empty one."""
        data.mkdir(parents=True)
        if as_server():
            shutil.chown(data, as_server()["user"], as_server()["group"])
        words = [bin / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        made = subprocess.run(words, cwd="/", capture_output=True, **as_server())
        if made.returncode:
            sys.exit(f"bench: initdb of {data} failed; may the user postgres go there?\n{made.stderr.decode()}")
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
            return f"pg_isready gives {code} for {self.data}" if code else None

        def log():
            self.log.seek(0)
            return self.log.read().decode(errors="replace")

        measure.until_ready(self.process, START_SECONDS_MAX, problem, log)

    def __exit__(self, *_):
        """Ends the server: sessions are cut, what was committed is on disk."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.socket, ignore_errors=True)

    def address(self):
        return ["-h", self.socket, "-U", "postgres"]

    def url(self, database):
        return f"postgres://postgres@{urllib.parse.quote(str(self.socket), safe='')}:5432/{database}"

    def program(self, name, *words):
        """The command of a client."""
        return [self.bin / name, *self.address(), *words]

    def sql(self, database, *words):
        """What psql prints."""
        command = self.program("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, *words)
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    def size(self, database):
        return int(self.sql(database, "-c", f"SELECT pg_database_size('{database}')"))

    def content(self, database):
        """A line for each table: its name, the count and a checksum of its rows."""
        same = "SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; SET bytea_output = 'hex';"
        return set(self.sql(database, "-c", same + self.sql(database, "-c", TABLES)).splitlines())

    def measure(self, *commands, env=None):
        """Figures of commands that use this server, its own CPU seconds among them, and their threads' by name."""
        standing, before = self.children(), self.cpu()
        watch = measure.Watch()
        figures = measure.pipeline(commands, env, watch)
        # The time of a session is the postmaster's as soon as it has seen it end.
        while self.children() - standing:
            time.sleep(0.01)
        return figures._replace(server=self.cpu() - before), watch.by_name()

    def children(self):
        return set(measure.tree(self.process.pid)) - {self.process.pid}

    def cpu(self):
        """CPU seconds of the server since it began, those of sessions that ended among them."""
        own = measure.cpu(self.process.pid, children=True)
        return own + sum(map(measure.cpu, self.children()))
