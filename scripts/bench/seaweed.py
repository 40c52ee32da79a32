"""An S3 server for a benchmark: SeaweedFS in a separate directory, on free ports. Stops when its `with` block ends."""

import json
import os
import pathlib
import secrets
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
import xml.etree.ElementTree

import measure

BUCKET = "bench"
START_SECONDS_MAX = 60
NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


class Seaweed:
    def __init__(self, folder):
        self.folder = folder
        installed = measure.ROOT / "target" / "test-deps" / "seaweedfs" / "bin" / "weed"
        self.program = os.environ.get("SIDEKEEP_TEST_WEED") or installed
        if not pathlib.Path(self.program).exists():
            sys.exit('bench: --s3 needs SeaweedFS: eval "$(scripts/test-deps)"')
        self.ports = dict(zip(["s3", "master", "volume", "filer"], ports(4)))
        self.url = f"http://127.0.0.1:{self.ports['s3']}"
        self.env = {
            "AWS_ENDPOINT": self.url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16),
        }

    def __enter__(self):
        self.folder.mkdir(parents=True)
        config = self.folder / "s3.json"
        config.write_text(json.dumps({"identities": self.identities()}))
        command = [self.program, "server", f"-dir={self.folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        command += ["-master.telemetry=false", "-master.volumeSizeLimitMB=1024", "-volume.max=60"]
        command += ["-s3", "-s3.iam=false", "-s3.port.iceberg=0", f"-s3.config={config}"]
        command += [f"-{role}.port={port}" for role, port in self.ports.items()]
        with open(self.folder / "log", "wb") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True)
        try:
            self.wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def identities(self):
        """One identity with all rights. Anyone may list and create buckets: this script cannot sign requests."""
        keys = [{"accessKey": self.env["AWS_ACCESS_KEY_ID"], "secretKey": self.env["AWS_SECRET_ACCESS_KEY"]}]
        actions = ["Admin", "Read", "List", "Tagging", "Write"]
        return [
            {"name": "bench", "credentials": keys, "actions": actions},
            {"name": "anonymous", "actions": ["Admin", "Read", "List"]},
        ]

    def wait_until_ready(self):
        bucket = urllib.request.Request(f"{self.url}/{BUCKET}", method="PUT")

        def problem():
            try:
                urllib.request.urlopen(bucket, timeout=5).close()
                self.usage("")
            except OSError as error:
                return error

        measure.until_ready(self.process, START_SECONDS_MAX, problem, lambda: (self.folder / "log").read_text(errors="replace"))

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        # SeaweedFS creates these files outside its directory.
        for role, port in self.ports.items():
            for name in (f"{role}-{port}", f"{role}-grpc-{port + 10000}"):
                pathlib.Path(f"/tmp/seaweedfs-{name}.sock").unlink(missing_ok=True)

    def usage(self, prefix):
        """Bytes and objects below a prefix, without directory markers."""
        sizes, marker = [], ""
        while True:
            query = urllib.parse.urlencode({"list-type": 2, "prefix": prefix, "start-after": marker})
            with urllib.request.urlopen(f"{self.url}/{BUCKET}?{query}", timeout=60) as answer:
                page = xml.etree.ElementTree.parse(answer).getroot()
            for item in page.iter(f"{NAMESPACE}Contents"):
                marker = item.find(f"{NAMESPACE}Key").text
                if not marker.endswith("/"):
                    sizes.append(int(item.find(f"{NAMESPACE}Size").text))
            if page.find(f"{NAMESPACE}IsTruncated").text != "true":
                return sum(sizes), len(sizes)


def ports(count):
    """Free ports whose counterparts 10,000 higher are free too: SeaweedFS uses those for gRPC."""
    start = 11000 + os.getpid() % 500 * 20
    found = [port for port in range(start, start + 2000) if free(port) and free(port + 10000)]
    return found[:count]


def free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False
