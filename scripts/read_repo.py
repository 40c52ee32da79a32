#!/usr/bin/env python3
"""Read a Sidekeep repository in a directory: a second reader, written only from docs/format.md.

It checks the roster, each source's ledger and inventory and, as far as the key allows, the structure of every
snapshot. It lists the snapshots. It prints a table of a snapshot as CSV (docs/export.md), and on the way opens every
node and leaf and recomputes every chunk id, separator, cut and count. It skips what the key cannot open: without a
key it checks chains and stored bytes, with an auditor key every tree too. Rows need an admin or recovery key.

    read_repo.py REPO                                             chains, inventory, snapshots
    read_repo.py REPO --key-file admin.key                        and the structure of each snapshot
    read_repo.py REPO --key-file admin.key --snapshot latest      the tables of a snapshot
    read_repo.py REPO --key-file admin.key --table contacts       the rows of a table in the newest snapshot

With the structure key, it also compares the index fragments with the tables of the packs, and searches them as a reader
with few requests would.

It writes nothing. It reads no session, journal or live database, and supports only directories. It is not fast: it is
meant to be read next to the document and has the same order. The headings name the sections.

Needs Python 3.9 and three packages: pip install "cryptography>=50" "zstandard>=0.23" "blake3>=1.0"
Exit codes: 0 success, 1 failed or unsupported, 2 usage, 3 done with findings, 4 no repository, 5 wrong key.
"""
import argparse
import base64
import collections
import contextlib
import datetime
import functools
import hashlib
import itertools
import json
import math
import re
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


class Failure(Exception):
    """Ends the run; `code` is the exit code."""

    code = 1


class Damage(Failure):
    """A stored object violates the document."""


class Unsupported(Failure):
    """A stored object has a later format, or a kind that this reader does not know."""


class NoRepository(Failure):
    code = 4


class WrongKey(Failure):
    code = 5


class Void(Exception):
    """The reason why an entry of a chain does not count."""


UNDECODABLE = (KeyError, TypeError, ValueError, AttributeError)


def need(condition, message, error=Damage):
    if not condition:
        raise error(message)


def say(text):
    print(text, file=sys.stderr)


# ---- 1. Primitives


class Cursor:
    """Reads a binary object completely: bytes left over are damage."""

    def __init__(self, data, what, at=0):
        self.data, self.what, self.at = data, what, at

    def take(self, length):
        need(self.at + length <= len(self.data), f"{self.what} ends early")
        self.at += length
        return self.data[self.at - length : self.at]

    def u8(self):
        return self.take(1)[0]

    def u32(self):
        return int.from_bytes(self.take(4), "little")

    def uv(self):
        value = 0
        for at in range(10):
            byte = self.u8()
            value |= (byte & 0x7F) << 7 * at
            if byte < 0x80:
                need((byte or at == 0) and value < 1 << 64, f"{self.what} has a number that is not in shortest form")
                return value
        raise Damage(f"{self.what} has a number of more than 10 bytes")

    def sv(self):
        value = self.uv()
        return value >> 1 ^ -(value & 1)

    def bytes(self):
        return self.take(self.uv())

    def list(self, item, count=None):
        return [item() for _ in range(self.uv() if count is None else count)]

    def rest(self):
        return self.take(len(self.data) - self.at)

    def end(self):
        need(self.at == len(self.data), f"{self.what} has bytes left over")

    def header(self, kind):
        need(self.take(8) == b"SIDEKEEP" and self.u8() == ord(kind), f"{self.what} is foreign: not of kind {kind}")
        need(self.take(3) == b"\1\0\0", f"{self.what} has an unsupported version", Unsupported)
        return self


def u32(number):
    return struct.pack("<I", number)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def unhex(text, length=32):
    need(isinstance(text, str) and re.fullmatch("[0-9a-f]{%d}" % (2 * length), text), "not a digest or id", Void)
    return bytes.fromhex(text)


def string(value):
    need(isinstance(value, str), "not a text", Void)
    return value


def listed(value):
    need(isinstance(value, list), "not a list", Void)
    return value


def unbase64(text):
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode() != text:
        raise ValueError("base64 with stray bits")
    return data


def integer(value, bits=64):
    need(type(value) is int and 0 <= value < 1 << bits, "not a whole number", Void)
    return value


def moment(text):
    need(re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{6}Z", text), "not a time", Void)
    year = datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").year  # a ValueError if there is no such time
    need(1 <= year <= 9998 and text[17] < "6", "not a time", Void)
    return text


def padme(length):
    """The length to which PADME (section 5) rounds up."""
    exponent = length.bit_length() - 1
    step = 1 << max(0, exponent - exponent.bit_length())
    return -(-length // step) * step


JSON_DEPTH = 64


def parse_json(data):
    def once(pairs):
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a member occurs twice")
        return dict(pairs)

    def number(text):
        if text == "-0" or not -(1 << 63) <= int(text) < 1 << 64:
            raise ValueError("a number is not an integer of 64 bits")
        return int(text)

    def refuse(text):
        raise ValueError(f"{text} is not an integer")

    def check(value, levels):
        if isinstance(value, str):
            value.encode("utf-8")  # a ValueError if it has half of a surrogate pair
        elif isinstance(value, (list, dict)):
            if not levels:
                raise ValueError("it is nested too deeply")
            for item in [*value, *value.values()] if isinstance(value, dict) else value:
                check(item, levels - 1)

    try:
        text = data.decode("utf-8")
        value = json.loads(text, object_pairs_hook=once, parse_int=number, parse_float=refuse, parse_constant=refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    check(value, JSON_DEPTH)
    return value


# ---- 2. Objects and their names

STATEMENT_MAX = 16 << 20


class Store:
    """The objects of a directory, and the findings about them."""

    def __init__(self, root):
        self.root, self.findings = root, []

    def get(self, name):
        """The object's bytes, or None if it is not there."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return (self.root / name).read_bytes()
        return None

    def named(self, folder, digest, size=None):
        """The bytes of an object that is named by its digest."""
        data = self.get(f"{folder}/{digest}")
        need(data is not None, f"{folder}/{digest} is missing")
        need(sha256(data) == digest and size in (None, len(data)), f"{folder}/{digest} does not match its name or size")
        return data

    def names(self, folder):
        """The names of the objects in a folder, in order."""
        return sorted(path.name for path in (self.root / folder).glob("*") if path.is_file())

    def start(self, name):
        """The beginning of an object, as long as a statement may be, and its digest."""
        with open(self.root / name, "rb") as file:
            raw = file.read(STATEMENT_MAX + 1)
        return raw, sha256(raw)

    def chain(self, folder):
        """Yields number, bytes and digest of each entry, up to the first missing number."""
        number = 1
        while (self.root / folder / f"{number:010}").exists():
            yield number, *self.start(f"{folder}/{number:010}")
            number += 1
        beyond = sum(name.isdigit() and int(name) > number for name in self.names(folder))
        if beyond:
            self.found(f"{folder}: number {number} is missing, so {beyond} later entries do not count")

    def found(self, message):
        if message not in self.findings:
            self.findings.append(message)
            say(f"found: {message}")

    @contextlib.contextmanager
    def finding(self):
        """Turns damage into a finding, so that checking continues."""
        try:
            yield
        except Damage as damage:
            self.found(str(damage))


# ---- 3. Keys

SUITE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
DATA, STRUCTURE, CATALOG = "data", "structure", "catalog"
LEAF, NODE, RANGES, PIECE, LIST, STREAMS, DICTIONARY, FRONT, REAR = 1, 2, 3, 4, 5, 8, 9, 16, 17
TIERS = {1: DATA, 2: STRUCTURE, 3: DATA, 4: DATA, 5: STRUCTURE, 8: STRUCTURE, 16: STRUCTURE, 17: STRUCTURE}
TIERS.update({DICTIONARY: CATALOG, 32: STRUCTURE, 33: CATALOG, 34: STRUCTURE, 35: DATA, 36: DATA, 37: DATA, 48: STRUCTURE, 49: STRUCTURE})
DIRECTORY, BLOCK = 48, 49


@functools.lru_cache(maxsize=4096)
def hkdf(key, info, salt=b""):
    return HKDF(hashes.SHA256(), 32, salt, info).derive(key)


def siphash(key, message):
    """SipHash-2-4 (Aumasson and Bernstein, 2012)."""
    mask = (1 << 64) - 1
    halves = struct.unpack("<QQ", key)
    names = [b"somepseu", b"dorandom", b"lygenera", b"tedbytes"]
    v = [half ^ int.from_bytes(name, "big") for half, name in zip(halves * 2, names)]

    def rotated(word, bits):
        return (word << bits | word >> 64 - bits) & mask

    def half_round(a, b, c, d, left, right):
        v[a], v[c] = (v[a] + v[b]) & mask, (v[c] + v[d]) & mask
        v[b], v[d] = rotated(v[b], left) ^ v[a], rotated(v[d], right) ^ v[c]
        v[a] = rotated(v[a], 32)

    padded = message + bytes(7 - len(message) % 8) + bytes([len(message) & 255])
    for word in [*struct.unpack(f"<{len(padded) // 8}Q", padded), None]:
        v[3 if word is not None else 2] ^= 255 if word is None else word
        for _ in range(4 if word is None else 2):
            half_round(0, 1, 2, 3, 13, 16)
            half_round(2, 1, 0, 3, 17, 21)
        v[0] ^= word or 0
    return v[0] ^ v[1] ^ v[2] ^ v[3]


class SealingKey:
    """An X-Wing secret key (draft-connolly-cfrg-xwing-kem): SHAKE-256 expands its seed into both halves."""

    def __init__(self, seed):
        both = hashlib.shake_256(seed).digest(96)
        halves = MLKEM768PrivateKey.from_seed_bytes(both[:64]), X25519PrivateKey.from_private_bytes(both[64:])
        self.secret = hpke.MLKEM768X25519PrivateKey(*halves)
        self.public = b"".join(half.public_key().public_bytes_raw() for half in halves)

    def open(self, sealed, info, what):
        try:
            return SUITE.decrypt(sealed, self.secret, info)
        except (InvalidTag, ValueError) as error:
            raise Damage(f"{what} cannot be opened") from error


def key_id(signing, sealing):
    return hashlib.sha256(b"sidekeep/1 key id" + signing + sealing).digest()[:16]


class KeyFile:
    """A key file: its fields and, once opened, the key that opens grants."""

    FIELDS = ["role", "repository", "key", "label", "fingerprint"]

    def __init__(self, path, passphrase):
        text = path.read_bytes()
        lines = [line.rstrip() for line in text[: 16 << 10].decode("utf-8").rstrip().split("\n")]
        need(len(text) <= 16 << 10 and lines[:1] == ["sidekeep key 1"], f"{path} is not a key file", WrongKey)
        words = [line.partition(":") for line in lines[1:]]
        names = [name for name, _, _ in words]
        known = self.FIELDS + ["secret"], self.FIELDS + ["kdf", "sealed"]
        need(names in known, f"{path} is not a key file", WrongKey)
        self.words = {name: value.lstrip() for name, _, value in words}
        self.role, self.fingerprint = self.words["role"], self.words["fingerprint"]
        seeds = unbase64(self.words["secret"]) if "secret" in names else self.unseal(lines, path, passphrase)
        need(len(seeds) == 64, f"{path} does not contain two seeds", WrongKey)
        signing = Ed25519PrivateKey.from_private_bytes(seeds[:32]).public_key()
        self.sealing = SealingKey(seeds[32:])
        self.id = key_id(signing.public_bytes(Encoding.Raw, PublicFormat.Raw), self.sealing.public)
        need(self.id.hex() == self.words["key"], f"{path}: the secret does not match the key id in the file", WrongKey)

    def unseal(self, lines, path, passphrase):
        need(passphrase is not None, f"{path} needs a passphrase: --passphrase-file", WrongKey)
        kdf = re.fullmatch(r"argon2id m=(\d+) t=(\d+) p=(\d+) salt=(\S+)", self.words["kdf"])
        need(kdf, f"{path}: unknown kdf", WrongKey)
        m, t, p, salt = int(kdf[1]), int(kdf[2]), int(kdf[3]), unbase64(kdf[4])
        bounded = 8 << 10 <= m <= 4 << 20 and 1 <= t <= 64 and 1 <= p <= 64 and len(salt) == 16
        need(bounded, f"{path}: the kdf is out of bounds", WrongKey)
        key = Argon2id(salt=salt, length=32, iterations=t, lanes=p, memory_cost=m).derive(passphrase)
        sealed, above = unbase64(self.words["sealed"]), "".join(line + "\n" for line in lines[:-1])
        try:
            return AESGCM(key).decrypt(sealed[:12], sealed[12:], above.encode())
        except InvalidTag:
            raise WrongKey(f"{path}: wrong passphrase, or the file was changed") from None


GRANTED = {"admin": {"structure_root", "restore_secret", "id_root"}}
GRANTED["maintainer"] = GRANTED["auditor"] = {"structure_root"}
GRANTED["recovery"] = GRANTED["admin"]
OPERATOR_GRANTED = [{"structure_root", "id_root"}, {"source_keys"}]


class EpochKeys:
    """The part of an epoch's keys that one key holds: what its grants that open contain."""

    def __init__(self, store, roster, number, key):
        self.number, self.is_open, self.restore = number, False, None
        self.structure_root, self.id_root, self.source_keys = None, None, {}
        for digest in roster.epochs[number].grants[key.id]:
            try:
                self.add(self.opened(store, roster, digest, key), roster.epochs[number], roster.keys[key.id].role)
            except (Damage, Unsupported, Void, *UNDECODABLE) as reason:
                store.found(f"grant {digest} of epoch {number} cannot be used: {reason}")

    def opened(self, store, roster, digest, key):
        name = f"keys/{self.number:06}/{key.id.hex()}/{digest}"
        data = store.get(name)
        need(data is not None and sha256(data) == digest, f"{name} is missing or not the roster's")
        grant, place = Cursor(data, name).header("K"), roster.repository + u32(self.number) + key.id
        need(grant.take(36) == place, f"{name} belongs to another place")
        opened = parse_json(key.sealing.open(grant.rest(), b"sidekeep/1 grant" + place, name))
        enrolled = roster.keys[key.id]
        wanted = [GRANTED[enrolled.role]] if enrolled.role in GRANTED else OPERATOR_GRANTED
        need(set(opened) in wanted, f"{name} does not contain exactly the keys that its role needs")
        most = enrolled.role != "operator" or enrolled.serves_all()
        need("id_root" not in opened or most, f"{name} contains more than its key may hold")
        return opened

    def add(self, opened, epoch, role):
        roots = [unbase64(opened[name]) if name in opened else None for name in ("structure_root", "id_root")]
        restore = SealingKey(unbase64(opened["restore_secret"])) if "restore_secret" in opened else None
        need(not restore or restore.public == epoch.sealing, "it contains another restore key")
        named = opened.get("source_keys", {}).items()
        pairs = {source: (unbase64(held["structure_key"]), unbase64(held["id_key"])) for source, held in named}
        if not self.is_open:
            self.is_open, self.restore, self.source_keys = True, restore, pairs
            self.structure_root, self.id_root = roots
        elif role == "operator":
            self.source_keys = pairs | self.source_keys
            if not self.id_root:
                self.structure_root, self.id_root = roots

    def structure_key(self, source):
        if self.structure_root:
            return hkdf(self.structure_root, b"sidekeep/1 source structure", source)
        return self.source_keys.get(source.hex(), (None, None))[0]

    def id_key(self, source):
        if self.id_root:
            return hkdf(self.id_root, b"sidekeep/1 source ids", source)
        return self.source_keys.get(source.hex(), (None, None))[1]

    def opens(self, source):
        """Whether this key holds the structure key of a source."""
        return self.structure_key(source) is not None


@dataclass(frozen=True)
class Place:
    """Where sealed bytes belong; part of their AAD."""

    repository: bytes
    source: bytes
    epoch: int

    def bytes(self):
        return self.repository + self.source + u32(self.epoch)


def open_sealed(key, thread, counter, place, kind, ident, sealed, what):
    """Opens a frame, section or table. `key` is the key of its session and tier."""
    aad = b"sidekeep/1 frame" + place.bytes() + bytes([kind]) + ident
    try:
        thread_key = hkdf(key, b"sidekeep/1 thread" + u32(thread))
        return AESGCM(thread_key).decrypt(bytes(4) + struct.pack(">Q", counter), sealed, aad)
    except InvalidTag:
        raise Damage(f"{what} cannot be opened") from None


# ---- 4. Cells, keys, ids

NULL, ABSENT, FALSE, TRUE, INTEGER, REAL, REAL32, TEXT, BYTES, ENCODED, NUMERIC = range(11)
TIMESTAMP, DATE, TIME, TIMETZ, INTERVAL, UUID, OUTPUT, LOST, STREAM = 11, 12, 13, 14, 15, 16, 17, 18, 32
Reference = collections.namedtuple("Reference", "form id length")
Cell = collections.namedtuple("Cell", "kind value")


ENCODINGS = {1: "utf-8", 2: "utf-16le", 3: "utf-16be", 4: "latin1", 5: "sql_ascii"}
SERVER_ENCODINGS = """
    1 euc_jp euc_cn euc_kr euc_tw euc_jis_2004 7 mule_internal
    9 latin2 latin3 latin4 latin5 latin6 latin7 latin8 latin9 latin10 win1256 win1258 win866 win874 koi8r win1251 win1252
    iso_8859_5 iso_8859_6 iso_8859_7 iso_8859_8 win1250 win1253 win1254 win1255 win1257 koi8u
"""
next_number = 0
for word in SERVER_ENCODINGS.split():
    if word.isdigit():
        next_number = 64 + int(word)
    else:
        ENCODINGS[next_number] = word
        next_number += 1


def read_encoding(c):
    encoding = c.u8()
    need(encoding in ENCODINGS, f"{c.what} has a text in unknown encoding {encoding}", Unsupported)
    return encoding


def read_cell(c):
    kind = c.u8()
    if kind in (NULL, ABSENT, FALSE, TRUE, LOST):
        value = None
    elif kind in (INTEGER, TIMESTAMP, DATE, TIME):
        value = c.sv()
    elif kind in (REAL, REAL32, UUID):
        value = c.take({REAL: 8, REAL32: 4, UUID: 16}[kind])
    elif kind in (TEXT, BYTES, OUTPUT):
        value = c.bytes()
    elif kind == ENCODED:
        value = (read_encoding(c), c.bytes())
    elif kind == NUMERIC:
        sign = c.u8()
        value = (sign,) + ((c.uv(), c.sv(), c.bytes()) if sign < 2 else (0, 0, b""))
    elif kind in (TIMETZ, INTERVAL):
        value = tuple(c.list(c.sv, {TIMETZ: 2, INTERVAL: 3}[kind]))
    elif kind == STREAM:
        inner = c.u8()
        encoding, form, length, ident = read_encoding(c) if inner == ENCODED else None, c.u8(), c.uv(), c.take(20)
        value = (inner, encoding, Reference(form, ident, length))
    else:
        raise Unsupported(f"{c.what} has a cell of unknown kind {kind}")
    return Cell(kind, value)


def write_uv(value):
    low = bytes([value & 0x7F | (0x80 if value > 0x7F else 0)])
    return low + write_uv(value >> 7) if value > 0x7F else low


def escaped(data):
    return data.replace(b"\0", b"\0\xff") + b"\0\1"


def key_integer(value):
    return struct.pack(">Q", value + (1 << 63))


def key_real(value):
    if math.isfinite(value) and value == int(value) and -(1 << 63) <= value < 1 << 63:
        return b"\x10" + key_integer(int(value))
    bits = struct.unpack(">Q", struct.pack(">d", value))[0] if value == value else 0x7FF8 << 48
    return b"\x14" + struct.pack(">Q", bits ^ ((1 << 64) - 1 if bits >> 63 else 1 << 63))


def key_component(cell):
    """One cell of a key, of the kinds that SQLite has. A stream must have been read before."""
    if cell.kind == NULL:
        return b"\x02"
    if cell.kind == INTEGER:
        return b"\x10" + key_integer(cell.value)
    if cell.kind == REAL:
        return key_real(struct.unpack("<d", cell.value)[0])
    if cell.kind in (TEXT, ENCODED):
        return b"\x28" + escaped(cell.value if cell.kind == TEXT else cell.value[1])
    need(cell.kind == BYTES, f"a key has a cell of kind {cell.kind}", Unsupported)
    return b"\x30" + escaped(cell.value)


class SourceKeys:
    """The keys that are derived from an epoch's keys for one source."""

    def __init__(self, epoch, source):
        self.epoch, self.source_key = epoch, epoch.id_key(source)
        self.structure = epoch.structure_key(source)
        names = [b"label", b"structure id", b"fact"]
        self.label, self.structure_id, self.fact_key = (hkdf(self.structure, b"sidekeep/1 " + name) for name in names)
        names = [b"chunk id", b"boundary", b"row hash", b"catalog"]
        derived = [self.source_key and hkdf(self.source_key, b"sidekeep/1 " + name) for name in names]
        self.chunk_id, self.boundary, self.row_hash, self.catalog = derived

    def id(self, kind, content):
        key = self.structure_id if TIERS[kind] == STRUCTURE else self.chunk_id
        return blake3(bytes([kind]) + content, key=key).digest()[:20]

    def fact(self, kind, value):
        """The digest of a fact in a summary."""
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
        return blake3(bytes([kind]) + text, key=self.fact_key).digest()[:16].hex()

    def bounded(self, key):
        """A key as it is stored in a tree."""
        return key if len(key) <= 256 else key[:200] + blake3(key, key=self.row_hash).digest()

    def boundary_hash(self, level, key):
        return siphash(self.boundary[:16], bytes([level]) + key)


# ---- 5. Packs

Frame = collections.namedtuple("Frame", "pack type codec session thread counter id offset stored content")
CONTENT_MAX, STORED_MAX, PACK_FRAMES_MAX, PACK_MAX = 64 << 20, (16 << 20) - 1, 65_535, (48 << 20) - 1
MAGIC = bytes.fromhex("28b52ffd")
DICTIONARY_MAX = 32 << 10


def unzstd(data, what, dictionary=None):
    try:
        need(zstandard.frame_content_size(data) <= CONTENT_MAX, f"{what} is too large")
        zstd = zstandard.ZstdDecompressor(dict_data=dictionary)
        return zstd.decompress(data, max_output_size=CONTENT_MAX, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Damage(f"{what} cannot be decompressed: {error}") from error


def decoded(codec, data, what, dictionaries=None):
    """The content of a payload. `dictionaries` maps numbers to the dictionaries of its pack."""
    need(codec in range(5), f"{what} has an unknown codec {codec}", Unsupported)
    if codec == 0:
        return data

    def unpacked(part):
        if codec < 3:
            return unzstd(part, what)
        need(dictionaries is not None, f"{what} must not need a dictionary")
        part = MAGIC + part
        number = zstandard.get_frame_parameters(part).dict_id
        need(number in dictionaries, f"{what} needs dictionary {number}, which is not in its pack")
        return unzstd(part, what, dictionaries[number])

    if codec in (1, 3):
        return unpacked(data)
    raw = Cursor(data, what)
    spans = Cursor(unpacked(raw.bytes()), what)
    pieces = []
    for _ in range(spans.uv()):
        gap, length = spans.uv(), spans.uv()
        need(length > 0, f"{what} has an empty span")
        pieces.append((gap, raw.take(length)))
    raw.end()
    content = b"".join(spans.take(gap) + span for gap, span in pieces) + spans.rest()
    need(len(content) <= CONTENT_MAX, f"{what} is too large")
    return content


def padded(length):
    """The length to which a pack of streams is padded (PADME)."""
    e = length.bit_length() - 1
    unit = 1 << max(e - e.bit_length(), 0)
    return -(-length // unit) * unit


class Pack:
    """A pack's header and, if you have the structure key, its tables."""

    def __init__(self, store, name, data, repository, source):
        self.path, self.name, self.digest = store.root / name, name, name.rsplit("/", 1)[-1]
        c = Cursor(data, name).header("P")
        need(c.take(32) == repository + source, f"{name} belongs to another place")
        self.place = Place(repository, source, c.u32())
        self.session, self.sequence, self.content = c.take(16), c.u32(), c.u8()
        need(1 <= self.content <= 4, f"{name} has unknown content", Unsupported)
        self.wraps = c.list(lambda: c.take(1184), c.u8())
        self.tables_at = c.at
        need(1 <= len(self.wraps) <= 15, f"{name} has {len(self.wraps)} wraps")
        need(self.content == 4 or self.wraps[0][:16] == self.session, f"{name}: the first wrap is not the writer's")

    def frames(self, data, structure_key):
        """The frames of the pack, whose bytes are `data`."""
        session_key = hkdf(structure_key, b"sidekeep/1 structure session", self.session)
        ident = self.session + u32(self.sequence)

        def table(kind, head, sealed):
            what = f"{self.name}: {'front' if kind == FRONT else 'rear'} table"
            opened = open_sealed(session_key, head[1], head[2], self.place, kind, ident, sealed, what)
            return unzstd(opened, what)

        c, last = Cursor(data, self.name, self.tables_at), len(data) - 9
        head = c.u32(), c.u8(), c.u32()
        front, start = table(FRONT, head, c.take(head[0])), c.at
        head = struct.unpack("<IBI", data[last:])
        end = last - head[0]
        need(table(REAR, head, data[end:last]) == front, f"{self.name}: the tables differ")
        entries, at = self.entries(Cursor(front, self.name + ": table")), start
        at += sum(frame.stored for frame in entries)
        need(at <= end, f"{self.name}: its frames are longer than it is")
        used = at + len(data) - end
        valid = len(data) == (padded(used) if self.content == 3 else used)
        need(valid, f"{self.name}: stray bytes after the frames, or none where there must be some")
        return [frame._replace(offset=start + frame.offset) for frame in entries]

    def read(self, frame):
        with open(self.path, "rb") as file:
            file.seek(frame.offset)
            return file.read(frame.stored)

    def entries(self, c):
        n = c.u32()
        need(n <= PACK_FRAMES_MAX, f"{c.what} names too many frames")
        types, codecs, sessions, threads = (c.list(c.u8, n) for _ in range(4))
        counters, ids = c.list(c.u32, n), c.list(lambda: c.take(20), n)
        counters = [counter & 0xFFFFFFFF for counter in itertools.accumulate(counters)]
        stored, contents = (c.list(c.u32, n) for _ in range(2))
        offsets = itertools.accumulate(stored[:-1], initial=0)
        need(all(length <= STORED_MAX for length in stored), f"{c.what} names a frame of 16 MiB or more")
        need(all(length <= CONTENT_MAX for length in contents), f"{c.what} names a frame of more than 64 MiB of content")
        c.end()
        valid = all(session < len(self.wraps) for session in sessions)
        need(valid, f"{self.name}: a frame refers to a session that is not in the header")
        sessions = [self.wraps[session][:16] for session in sessions]
        columns = (types, codecs, sessions, threads, counters, ids, offsets, stored, contents)
        return [Frame(self, *entry) for entry in zip(*columns)]


def first_opened(keys, sealing):
    """What the first of these keys opens that opens it."""
    for number, key in enumerate(keys):
        try:
            return open_sealed(key, *sealing)
        except Damage:
            if number == len(keys) - 1:
                raise
    return None


class Chunks:
    """All frames of a source's inventory by chunk id, and the keys that open them."""

    def __init__(self, keys):
        self.keys, self.frames, self.packs, self.wraps, self.opened = keys, {}, set(), {}, {}
        self.dictionary_frames, self.dictionaries = collections.defaultdict(list), {}

    def add(self, pack, data):
        if pack.place.epoch in self.keys:
            self.packs.add(pack.digest)
            for frame in pack.frames(data, self.keys[pack.place.epoch].structure):
                self.frames.setdefault(frame.id, []).append(frame)
                if frame.type == DICTIONARY:
                    self.dictionary_frames[pack.name].append(frame)
        self.add_wraps(pack.place, pack.wraps, pack.name)

    def add_wraps(self, place, wraps, what):
        for wrap in wraps:
            known = self.wraps.setdefault((place, wrap[:16]), [])
            if wrap not in known:
                known.append(wrap)
            need(len(known) == 1, f"{what}: its wrap of session {wrap[:16].hex()} differs from others")

    def session_keys(self, place, session, tier, first=None):
        """The session's keys of a tier, or [None] if our key cannot open that tier. Several wraps may name one session:
        the key of the wrap `first` is then the first one."""
        keys = self.keys.get(place.epoch)
        if tier == STRUCTURE:
            return [keys and hkdf(keys.structure, b"sidekeep/1 structure session", session)]
        if tier == CATALOG:
            return [keys and keys.catalog and hkdf(keys.catalog, b"sidekeep/1 catalog session", session)]
        if not keys or not keys.epoch.restore:
            return [None]
        wraps = self.wraps.get((place, session))
        need(wraps, f"there is no wrap of session {session.hex()}")
        ordered = sorted(wraps, key=lambda wrap: wrap != first)
        opened = [key for key in (self.unwrap(keys.epoch.restore, place, wrap) for wrap in ordered) if key]
        need(opened, f"no wrap of session {session.hex()} can be opened")
        return opened

    def unwrap(self, restore, place, wrap):
        """The data key in a wrap, or None if it cannot be opened."""
        if (place, wrap) not in self.opened:
            info = b"sidekeep/1 session" + place.bytes() + wrap[:16]
            try:
                self.opened[place, wrap] = restore.open(wrap[16:], info, f"wrap of session {wrap[:16].hex()}")
            except Damage:
                self.opened[place, wrap] = None
        return self.opened[place, wrap]

    def copies(self, kind, ident):
        """All frames of a chunk, in the order of the inventory."""
        copies = [frame for frame in self.frames.get(ident, []) if frame.type == kind]
        need(copies, f"chunk {ident.hex()} of type {kind} is in no pack of the inventory")
        return copies

    def find(self, kind, ident):
        return self.copies(kind, ident)[0]

    def has_length(self, kind, ident, length):
        """Whether a copy of the chunk has this length."""
        return any(frame.content == length for frame in self.copies(kind, ident))

    def open(self, kind, ident):
        """A chunk's content, from the first copy that opens."""
        copies = self.copies(kind, ident)
        for frame in copies:
            try:
                return self.open_copy(frame, kind, ident)
            except Damage:
                if frame is copies[-1]:
                    raise
        return None

    def open_copy(self, frame, kind, ident):
        what = f"chunk {ident.hex()} of type {kind} in {frame.pack.name}"
        place, sealed = frame.pack.place, frame.pack.read(frame)
        first = next((wrap for wrap in frame.pack.wraps if wrap[:16] == frame.session), None)
        keys = self.session_keys(place, frame.session, TIERS[kind], first)
        sealing = frame.thread, frame.counter, place, kind, ident, sealed, what
        dictionaries = self.dictionaries_of(frame) if kind == LEAF else None
        content = decoded(frame.codec, first_opened(keys, sealing), what, dictionaries)
        need(len(content) == frame.content, f"{what} has the wrong length")
        hashed = content if kind in (LEAF, PIECE) else Cursor(content, what).bytes() if kind != RANGES else None
        matches = hashed is None or self.keys[place.epoch].id(kind, hashed) == ident
        need(matches, f"{what} does not match its id")
        return content


    def dictionaries_of(self, frame):
        """The dictionaries of a frame's pack, by number, if it needs one."""
        if frame.codec < 3:
            return None
        name = frame.pack.name
        if name not in self.dictionaries:
            frames = reversed(self.dictionary_frames[name])  # the first of a number counts
            self.dictionaries[name] = dict(map(self.dictionary, frames))
        return self.dictionaries[name]

    def dictionary(self, frame):
        what, place = f"dictionary {frame.id.hex()} in {frame.pack.name}", frame.pack.place
        key = self.session_keys(place, frame.session, CATALOG)[0]
        sealed = frame.pack.read(frame)
        opened = open_sealed(key, frame.thread, frame.counter, place, DICTIONARY, frame.id, sealed, what)
        content = decoded(frame.codec, opened, what)
        need(self.keys[place.epoch].id(DICTIONARY, content) == frame.id, f"{what} does not match its id")
        need(len(content) <= DICTIONARY_MAX and content[:4].hex() == "37a430ec", f"{what} is not one")
        number = int.from_bytes(content[4:8], "little")
        need(1 << 15 <= number < 1 << 31, f"{what} has a wrong number")
        return number, zstandard.ZstdCompressionDict(content, dict_type=zstandard.DICT_TYPE_FULLDICT)


# ---- 6. Leaves

Row = collections.namedtuple("Row", "cells count owner key data size")
Bounds = collections.namedtuple("Bounds", "first last rows bytes owners leaves")
LEAF_BYTES_MAX = 256 << 10
LEAF_BYTES_TARGET = 3 << 10


class Catalog:
    """A catalog. Members that this reader does not know are ignored."""

    def __init__(self, described):
        self.kinds = {owner["kind"]: owner["table"] for owner in described["owners"]}
        known = [0 < kind < described["next_kind"] <= 256 for kind in self.kinds]
        distinct = len(self.kinds) == len(described["owners"]) == len(set(self.kinds.values()))
        need(all(known) and distinct, "the catalog has contradictory kinds of owners")
        addresses = described.get("addresses", [])
        need(len(addresses) <= 16, "the catalog has too many addresses")
        need(all(len(address.encode()) <= 1024 for address in addresses), "an address is too long")
        need(described.get("large_object_page", 1) > 0, "the catalog has an invalid page size")
        self.tables = {table["number"]: Table(table) for table in described["tables"]}
        for table in described["tables"]:
            self.check_table(table)
        self.check_settings(described.get("settings", {}))

    def has_column(self, table, number):
        return table in self.tables and number in self.tables[table].numbers

    def check_table(self, table):
        own = table["number"]
        for path in table["paths"]:
            self.check_path(path)
            for term in path["match"]:
                known = self.has_column(own, term["column"]) and self.has_column(path["parent"], term["parent_column"])
                need(known, "a term of a path has an unknown column")
            for condition in path.get("where", []):
                need(self.has_column(own, condition["column"]), "a condition of a path has an unknown column")
        for path in table.get("below", []):
            self.check_path(path)
            need(integer(path["child"]) > 0, "a path from below leads to no table")
        need(table.get("answer", "key") in ("global", "key"), "a table has an unknown answer", Unsupported)
        need(all(integer(label) >= 0 for label in table.get("labels", [])), "a label has no column")
        for column in table["columns"]:
            need(column.get("generated", "stored") in ("stored", "virtual"), "a column is generated oddly", Unsupported)

    @staticmethod
    def check_path(path):
        need(path["match"], "a path has no term")
        for term in path["match"]:
            need(term.get("fold", "exact") in FOLDS, "a term has an unknown fold", Unsupported)
            need(term.get("affinity", "none") in AFFINITIES, "a term has an unknown affinity", Unsupported)
            ends = ("prefix", "suffix", "parent_prefix", "parent_suffix")
            need(all(isinstance(term.get(end, ""), str) for end in ends), "a term has a prefix that is not text")
        for condition in path.get("where", []):
            c = Cursor(unbase64(condition["equals"]), "a condition")
            read_cell(c)
            c.end()

    @staticmethod
    def check_settings(settings):
        for one in settings.get("epoch_statements", []):
            rows = one["rows"]
            need(isinstance(one["statement"], str) and (rows is None or rows >= 0), "a statement is invalid")
        for one in settings.get("since", []):
            need(integer(one["table"]) > 0 and integer(one["column"]) >= 0, "a setting has no column")
        for one in settings.get("vcard", []):
            columns = one["properties"].values()
            need(all(integer(column) >= 0 for column in columns), "a property has no column")

    def check_owner(self, group, owner, table, what):
        """Checks that the rows of a group of a leaf may have this owner."""
        need(group in (0x10, 0x20, 0x30), f"{what} has an invalid group")
        kind = owner[0] if owner else None
        right = {0x10: kind in self.kinds, 0x20: not owner, 0x30: kind == 0 or kind in self.kinds}[group]
        need(right, f"{what} has an owner of an unknown kind")
        need(table not in self.kinds.values() or group != 0x30, f"{what}: an owner is an orphan")


FOLDS, AFFINITIES = ("exact", "ascii_case", "trailing_space"), ("none", "numeric", "text")


class Table:
    """A table of a catalog: columns and the key."""

    def __init__(self, described):
        self.number, self.name, self.key = described["number"], described["name"], described["key"]
        self.columns = sorted(described["columns"], key=lambda column: column["position"])
        self.numbers = {column["number"] for column in self.columns}
        defaults = {column["number"]: unbase64(column["missing"]) for column in described["columns"]}
        numbers = range(described["next_column"])
        self.defaults = [read_cell(Cursor(defaults.get(number, b"\1"), "a default")) for number in numbers]

    def row_key(self, cells, data, keys, stream):
        if not self.key:
            return blake3(data, key=keys.row_hash).digest()
        return keys.bounded(b"".join(key_component(stream(cells[number])) for number in self.key))


class References(Table):
    """A tree of references to rows of a table that are placed under another owner."""

    def __init__(self, table):
        self.table, self.number = table, None
        self.defaults = [Cell(ABSENT, None)] * 2

    def row_key(self, cells, data, keys, stream):
        right = [cell.kind for cell in cells] == [INTEGER, BYTES] and cells[0].value == self.table.number
        need(right, f"a row is not a reference to table {self.table.name}")
        return keys.bounded(key_component(cells[0]) + cells[1].value)


def ends_leaf(size, weight, certain, hashed):
    """Whether a leaf of this size ends before a row with another key. `weight` is the bytes of its last row, or of its last
    owner if another one follows. From `certain` bytes on it always does."""
    mean = 4 * LEAF_BYTES_TARGET if size < LEAF_BYTES_TARGET else LEAF_BYTES_TARGET // 4
    return weight >= certain or (size >= LEAF_BYTES_TARGET // 4 and hashed < weight * ((1 << 64) // mean))


class Leaves:
    """Opens the leaves of one table in order, and compares each with the previous one."""

    def __init__(self, catalog, table, keys, stream):
        self.catalog, self.table, self.keys, self.stream = catalog, table, keys, stream
        self.row, self.owner = None, None
        self.size, self.owner_size = 0, 0  # bytes of the rows in the current leaf, and of its last owner's rows

    def open(self, content, what):
        """Yields the leaf's rows. Returns its bounds and its stream references."""
        c = Cursor(content, what)
        need(c.u8() == 1, f"{what} has an unknown version", Unsupported)
        groups = c.list(lambda: (c.u8(), c.bytes(), c.uv()))
        first, rows, owners, references = None, 0, 0, []
        ascending = groups == sorted(groups) and len({group[:2] for group in groups}) == len(groups)
        need(ascending, f"{what}: groups are out of order or occur twice")
        for number, (group, owner, count) in enumerate(groups):
            need(count, f"{what} has an empty group")
            self.catalog.check_owner(group, owner, self.table.number, what)
            if group == 0x10 and owner != self.owner:
                self.owner, owners = owner, owners + 1
            for _ in range(count):
                row = self.read_row(c, bytes([group]) + owner)
                self.follow(row, first is None, what)
                first, rows = first or row, rows + row.count
                references += [cell.value[2] for cell in row.cells if cell.kind == STREAM]
                yield row
        c.end()
        need(first, f"{what} is empty")
        return Bounds(first.key, self.row.key, rows, len(content), owners, 1), references

    def read_row(self, c, prefix):
        start, head = c.at, c.uv()
        count = c.uv() if head & 1 else 1
        need(not head & 1 or 2 <= count <= 1 << 40, f"{c.what}: a row has a multiplicity below 2 or above 2^40")
        at, cells = c.at, c.list(lambda: read_cell(c), head >> 1)
        data, defaults = c.data[at : c.at], self.table.defaults[head >> 1 :]
        need(len(cells) <= len(self.table.defaults), f"{c.what}: a row has more cells than its table columns")
        shortest = not cells or cells[-1] != self.table.defaults[len(cells) - 1]
        need(shortest, f"{c.what}: a row ends in a default")
        cells += defaults
        key = self.table.row_key(cells, data, self.keys, self.stream)
        return Row(cells, count, prefix, prefix + key, write_uv(head & ~1) + data, c.at - start)

    def follow(self, row, begins, what):
        """Checks the order, and that leaves are cut exactly where they must be."""
        last, self.row = self.row, row
        if last:
            need((last.key, last.data) < (row.key, row.data), f"{what}: rows are out of order")
            full = self.size + row.size > LEAF_BYTES_MAX
            same = row.owner == last.owner
            weight, certain = (last.size, LEAF_BYTES_TARGET // 2) if same else (self.owner_size, LEAF_BYTES_TARGET // 4)
            due = row.key != last.key and ends_leaf(
                self.size, weight, certain, self.keys.boundary_hash(0, last.key)
            )
            need(begins == (full or due), f"{what}: the cut before one of its rows is wrong")
        self.owner_size = row.size + (self.owner_size if last and not begins and row.owner == last.owner else 0)
        self.size = row.size if begins else self.size + row.size


# ---- 7. Nodes


LEAF_STREAMS_MAX = 65_535


def hints_fault(c, locations):
    """Why the locations at the end of a frame are malformed, or None. Here they are needed for nothing else: the tables of
    all packs are read."""

    def pack():
        c.take(32)
        sessions = c.uv()
        need(sessions <= 15, "a pack has too many sessions")
        c.take(16 * sessions)
        return sessions

    def location():
        number = c.uv()
        need(number <= len(packs), "a location has an unknown pack")
        if number < len(packs):
            end, next_counter = previous.get(number, (0, 0))
            offset, stored, codec, session, _ = end + c.sv(), c.uv(), c.u8(), c.u8(), c.u8()
            counter = next_counter + c.sv()
            fits = 0 <= offset and stored <= STORED_MAX and offset + stored <= PACK_MAX and 0 <= counter < 1 << 32
            need(fits and codec in range(5) and session < packs[number], "a location is impossible")
            previous[number] = offset + stored, counter + 1

    previous = {}
    try:
        count = c.uv()
        need(count <= locations, "there are more packs than locations")
        packs = c.list(pack, count)
        c.list(location, locations)
        c.end()
    except Damage as damage:
        return f"{c.what}: its locations are not used: {damage}"
    return None


class Node:
    """A skeleton: children, counts and locations."""

    def __init__(self, content, keys, what):
        outer = Cursor(content, what)
        hashed = outer.bytes()
        self.what, self.id = what, keys.id(NODE, hashed)
        c = Cursor(hashed, what)
        need(c.u8() == 1, f"{what} has an unknown version", Unsupported)
        self.level, count = c.u8(), c.uv()
        need(1 <= self.level <= 8 and count <= 1024, f"{what} has an invalid level or number of children")
        self.ranges_digest, self.children = c.take(20), c.list(lambda: c.take(20), count)
        need(len(set(self.children)) == count, f"{what} has a child twice")
        self.counts = list(zip(*(c.list(c.uv, count) for _ in range(4))))  # rows, bytes, owners, leaves
        numbers = c.list(c.uv, count) if self.level == 1 else [0] * count
        need(all(number <= LEAF_STREAMS_MAX for number in numbers), f"{what} has too many stream references")
        self.streams = [(number, c.take(20) if number else None) for number in numbers]
        c.end()
        self.hints_fault = hints_fault(outer, count * min(self.level, 2) + sum(number > 0 for number in numbers))

    def totals(self):
        return tuple(map(sum, zip(*self.counts))) or (0, 0, 0, 0)


def complement(ident):
    return bytes(byte ^ 0xFF for byte in ident)


def read_separators(content, what):
    c = Cursor(content, what)
    need(c.u8() == 1, f"{what} have an unknown version", Unsupported)
    separators = []
    for _ in range(c.uv()):
        shared = c.uv()
        need(shared <= len(separators[-1] if separators else b""), f"{what}: a separator shares too many bytes")
        separators.append((separators[-1][:shared] if separators else b"") + c.bytes())
    c.end()
    return separators


def separator(last, first):
    """The shortest prefix of `first` that is greater than `last`, or all of `first` if they are equal."""
    same = next((at for at, (a, b) in enumerate(zip(last, first)) if a != b), min(len(last), len(first)))
    return first[: same + 1]


def node_ends(level, children, hashed):
    target = 16 if level == 1 else 256
    limit = (1 << 64) // (4 * target if children < target else target // 4)
    return children >= target // 2 and (hashed < limit or children == 2 * target)


LIST_PIECES_MAX, PIECE_MIN, PIECE_MAX = 1 << 18, 16 << 10, 256 << 10


class Trees:
    """Walks trees and streams of one epoch: nodes with the structure key, rows with the restore key."""

    def __init__(self, store, chunks, keys):
        self.store, self.chunks, self.keys, self.checked = store, chunks, keys, set()

    def node(self, ident):
        what = f"node {ident.hex()}"
        node = Node(self.chunks.open(NODE, ident), self.keys, what)
        need(node.id == ident, f"{what} does not match its id")
        self.chunks.find(RANGES, complement(ident))
        self.report(node.hints_fault)
        return node

    def report(self, fault):
        if fault:
            self.store.found(fault)

    def check_node(self, node):
        """Checks the structure below a node: nothing is missing, levels decrease and counts add up."""
        if node.id in self.checked:
            return
        for ident, counts, (number, streams) in zip(node.children, node.counts, node.streams):
            if node.level == 1:
                fits = self.chunks.has_length(LEAF, ident, counts[1])
                below = (counts[0], counts[1] if fits else None, counts[2], 1)
            else:
                child = self.node(ident)
                need(child.level == node.level - 1 and child.children, f"{child.what} has the wrong level or is empty")
                self.check_node(child)
                below = child.totals()
            need(counts == below, f"{node.what}: the counts of child {ident.hex()} are wrong")
            for reference in self.references(number, streams):
                self.pieces(reference)
        self.checked.add(node.id)

    def references(self, number, ident):
        """The stream references of a leaf, from the frame that its node names."""
        if number == 0:
            return []
        what = f"streams {ident.hex()}"
        outer = Cursor(self.chunks.open(STREAMS, ident), what)
        hashed = outer.bytes()
        need(self.keys.id(STREAMS, hashed) == ident, f"{what} do not match their id")
        c = Cursor(hashed, what)
        need(c.u8() == 1, f"{what} have an unknown version", Unsupported)
        references = c.list(lambda: Reference(c.u8(), c.take(20), c.uv()))
        c.end()
        self.report(hints_fault(outer, len(references)))
        need(len(references) <= LEAF_STREAMS_MAX, f"{what} are too many")
        need(len(references) == number, f"{what} are {len(references)}, but the node says {number}")
        return references

    def rows(self, node, ranges, leaves, rightmost=True):
        """Yields all rows below a node and recomputes everything. Returns the node's bounds."""
        what = f"ranges of {node.what}"
        need(self.keys.id(RANGES, ranges) == node.ranges_digest, f"{what} do not match their digest")
        separators, bounds = read_separators(ranges, what), []
        need(len(separators) == max(len(node.children) - 1, 0), f"{what} have the wrong number of separators")
        for number, ident in enumerate(node.children):
            last = number == len(node.children) - 1
            if node.level == 1:
                below, references = yield from leaves.open(self.chunks.open(LEAF, ident), f"leaf {ident.hex()}")
                known = self.references(*node.streams[number])
                need(references == known, f"{node.what}: wrong stream references of {ident.hex()}")
            else:
                inner = self.chunks.open(RANGES, complement(ident))
                below = yield from self.rows(self.node(ident), inner, leaves, rightmost and last)
            need(below[2:] == node.counts[number], f"{node.what}: the counts of child {ident.hex()} are wrong")
            if number:
                right = separators[number - 1] == separator(bounds[-1].last, below.first)
                need(right, f"{what}: separator {number} is wrong")
            bounds.append(below)
            ends = node_ends(node.level, number + 1, self.keys.boundary_hash(node.level, below.last))
            need(ends == last or last and rightmost, f"{node.what}: the cut after child {number + 1} is wrong")
        return bounds and Bounds(bounds[0].first, bounds[-1].last, *node.totals())

    def list(self, reference):
        """Level and parts of a list."""
        what = f"list {reference.id.hex()}"
        outer = Cursor(self.chunks.open(LIST, reference.id), what)
        hashed = outer.bytes()
        need(self.keys.id(LIST, hashed) == reference.id, f"{what} does not match its id")
        c = Cursor(hashed, what)
        need(c.u8() == 1, f"{what} has an unknown version", Unsupported)
        level = c.u8()
        need(level in (0, 1), f"{what} has an unknown level", Unsupported)
        parts = c.list(lambda: (c.take(20), c.uv()))
        c.end()
        need(len(parts) <= (LIST_PIECES_MAX, 1 << 10)[level], f"{what} has too many parts")
        need(sum(length for _, length in parts) == reference.length, f"{what} has the wrong length")
        self.report(hints_fault(outer, len(parts)))
        return level, parts

    def inner_list(self, reference, is_last):
        level, pieces = self.list(reference)
        full = pieces if is_last else len(pieces) == LIST_PIECES_MAX
        need(level == 0 and full, f"list {reference.id.hex()} is not what another list names")
        return pieces

    def pieces(self, reference):
        """The pieces of a stream, by id and length."""
        if reference.form == 0:
            pieces = [(reference.id, reference.length)]
        else:
            need(reference.form == 1, "a stream has an unknown form", Unsupported)
            level, pieces = self.list(reference)
            need(len(pieces) > 1, f"list {reference.id.hex()} has only one part")
            if level == 1:
                lists = [Reference(1, *part) for part in pieces]
                pieces = [piece for one in lists for piece in self.inner_list(one, one is lists[-1])]
            least = [PIECE_MIN] * (len(pieces) - 1) + [1]
            possible = all(low <= length <= PIECE_MAX for low, (_, length) in zip(least, pieces))
            need(possible, f"list {reference.id.hex()} names a piece of an impossible length")
        need(len(pieces) > 1 or reference.length <= PIECE_MAX, f"piece {reference.id.hex()} is too long")
        for ident, length in pieces:
            need(self.chunks.has_length(PIECE, ident, length), f"piece {ident.hex()} has the wrong length")
        return pieces

    def stream(self, reference):
        need(reference.length < 1 << 31, f"stream {reference.id.hex()} is longer than any value that is restored")
        return b"".join(self.chunks.open(PIECE, ident) for ident, _ in self.pieces(reference))

    def whole(self, cell):
        """The cell itself or, for a stream, the cell with its bytes."""
        if cell.kind != STREAM:
            return cell
        kind, encoding, reference = cell.value
        content = self.stream(reference)
        return Cell(kind, (encoding, content) if kind == ENCODED else content)


# ---- 8. Index fragments

IndexBlock = collections.namedtuple("IndexBlock", "first entries offset stored codec thread counter digest")
HEAD_BYTES, BLOCK_ENTRIES_MAX = 64 << 10, 4096


class Fragment:
    """An index fragment, read by ranges: first its directory, later single blocks."""

    def __init__(self, path, name, place, keys, signing):
        self.path, self.name, self.place, self.reads = path, name, place, 0
        head = self.range(0, min(path.stat().st_size, HEAD_BYTES))
        directory_at, after = 93, 64
        c = Cursor(head, name).header("I")
        need(c.take(32) == place.repository + place.source, f"{name} belongs to another place")
        self.epoch = c.u32()
        session, sequence, self.signer = c.take(16), c.take(4), c.take(16)
        self.skipped = self.epoch not in keys or self.signer not in signing
        if self.skipped:
            return
        thread, counter, length = c.u8(), c.u32(), c.u32()
        need(c.at == directory_at, f"{name} has another fixed part")
        self.blocks_at = directory_at + length + after
        if self.blocks_at > len(head):
            head = self.range(0, self.blocks_at)
        signed, signature = head[: directory_at + length], head[directory_at + length : self.blocks_at]
        try:
            Ed25519PublicKey.from_public_bytes(signing[self.signer]).verify(signature, signed)
        except InvalidSignature:
            raise Damage(f"{name} is not signed by the key that it names") from None
        self.ident, self.place = session + sequence, Place(place.repository, place.source, self.epoch)
        self.key = hkdf(keys[self.epoch].structure, b"sidekeep/1 structure session", session)
        what = f"directory of {name}"
        sealed = signed[directory_at:]
        opened = open_sealed(self.key, thread, counter, self.place, DIRECTORY, self.ident, sealed, what)
        self.read_directory(Cursor(unzstd(opened, what), what))

    def range(self, offset, length):
        self.reads += 1
        with open(self.path, "rb") as file:
            file.seek(offset)
            return file.read(length)

    def read_directory(self, c):
        def pack():
            digest = c.take(32).hex()
            c.take(9)  # size and content
            return digest, c.list(lambda: c.take(16), c.u8())

        self.packs = c.list(pack, c.u32())
        self.blocks, offset = [], self.blocks_at
        for _ in range(c.u32()):
            first, entries, stored = c.take(20), c.u32(), c.u32()
            self.blocks.append(IndexBlock(first, entries, offset, stored, c.u8(), c.u8(), c.u32(), c.take(32).hex()))
            need(1 <= entries <= BLOCK_ENTRIES_MAX, f"{c.what} names a block of {entries} entries")
            offset += stored
        c.end()
        need(sum(block.entries for block in self.blocks) <= 1 << 20, f"{c.what} names too many entries")
        firsts = [block.first for block in self.blocks]
        need(firsts == sorted(set(firsts)), f"{c.what}: blocks are out of order")
        need(offset == self.path.stat().st_size, f"{self.name}: its blocks do not fill it")

    def entries(self, block):
        """The entries of one block: id and, of each, where the frame is and how it is sealed."""
        what = f"block {block.first.hex()} of {self.name}"
        sealed = self.range(block.offset, block.stored)
        need(sha256(sealed) == block.digest, f"{what} does not match its digest")
        opened = open_sealed(self.key, block.thread, block.counter, self.place, BLOCK, self.ident, sealed, what)
        c, n = Cursor(decoded(block.codec, opened, what), what), block.entries
        ids = c.list(lambda: c.take(20), n)
        packs, offsets, stored = (c.list(c.u32, n) for _ in range(3))
        codecs, sessions, threads = (c.list(c.u8, n) for _ in range(3))
        counters = c.list(c.u32, n)
        c.end()
        need(ids == sorted(set(ids)) and ids[0] == block.first, f"{what}: entries are out of order")
        columns = (packs, offsets, stored, codecs, sessions, threads, counters)
        return dict(zip(ids, zip(*columns)))

    def find(self, ident):
        """Where a chunk is, as a pack's digest, session and location, or None."""
        before = [block for block in self.blocks if block.first <= ident]
        entry = before and self.entries(before[-1]).get(ident)
        if not entry:
            return None
        digest, sessions = self.packs[entry[0]]
        return (digest, sessions[entry[4]], entry[1], entry[2], entry[3], entry[5], entry[6])

    def check(self, chunks):
        """Compares every entry with the tables of the packs, and searches for one id of each block."""
        for block in self.blocks:
            entries = self.entries(block)
            for ident, entry in entries.items():
                digest, sessions = self.packs[entry[0]]
                frames = [frame for frame in chunks.frames.get(ident, []) if frame.pack.digest == digest]
                need(frames or digest not in chunks.packs, f"{self.name}: chunk {ident.hex()} is not in pack {digest}")
                if frames:
                    need(entry[4] < len(sessions), f"{self.name}: chunk {ident.hex()} has an unknown session")
                    said = (entry[1], entry[2], entry[3], sessions[entry[4]], entry[5], entry[6])
                    real = [(one.offset, one.stored, one.codec, one.session, one.thread, one.counter) for one in frames]
                    need(said in real, f"{self.name}: chunk {ident.hex()} is somewhere else")
            self.reads = 0
            need(self.find(max(entries)) and self.reads == 1, f"{self.name}: a search fails")


# ---- 9. Manifests

MANIFEST_CONTENT_MAX = 1 << 30


class Snapshot:
    """A snapshot of the ledger and its manifest, opened as far as the key allows."""

    def __init__(self, entry_id, entry):
        self.id, self.entry, self.manifest, self.number = entry_id, entry, entry["manifest"]["sha256"], entry["number"]
        self.tags, self.forgotten, self.session = list(filter(is_tag, entry["tags"])), False, entry["session"]
        self.counts = True  # for the clock of later images
        self.reasons, self.baselines, self.word, self.holds = reasons(entry), entry["baselines"], None, {}
        self.sections, self.summary, self.catalog, self.roots, self.ranges = {}, None, None, {}, {}
        self.packed = set()  # the trees whose root is in a pack

    def open(self, data, store, chunks, place):
        name = f"manifest {self.manifest}"
        c = Cursor(data, name).header("M")
        need(c.take(36) == place.bytes(), f"{name} belongs to another place")
        self.place, session = place, c.take(16)
        need(session.hex() == self.session, f"{name} belongs to another session")
        ident = session + c.take(4)
        wrap = c.take(1184)
        need(wrap[:16] == session, f"{name}: its wrap is not its own")
        with store.finding():
            chunks.add_wraps(place, [wrap], name)
        parts, content, count = [], 0, c.uv()
        need(count <= 128, f"{name} has too many parts")
        for _ in range(count):
            kind, codec, thread, counter, length, sealed = c.u8(), c.u8(), c.u8(), c.uv(), c.uv(), c.bytes()
            what = f"section {kind} of {name}"
            if kind >= 224:  # ancillary: readers skip it
                continue
            need(kind in (32, 33, 34, 35, 36, 37), f"{what} is unknown", Unsupported)
            need(parts[-1:] == [kind] or kind not in parts, f"{what} is not in one place")
            parts.append(kind)
            content += length
            need(length <= CONTENT_MAX and content <= MANIFEST_CONTENT_MAX, f"{what} is too large")
            key = chunks.session_keys(place, session, TIERS[kind], wrap)[0]
            if key:
                opened = open_sealed(key, thread, counter, place, kind, ident, sealed, what)
                part = decoded(codec, opened, what)
                need(len(part) == length, f"{what} has the wrong length")
                self.sections[kind] = self.sections.get(kind, b"") + part
        c.end()

    def state(self, snapshots):
        """Clean or not: the last word of an admin or, without one, whether a reason stands."""
        if self.word:
            return "clean" if self.word == "accept" else "rejected"
        accepted = [one.number for one in snapshots.values() if one.word == "accept" and one.number < self.number]
        for reason in self.reasons:
            baseline = snapshots.get(reason.get("baseline"))
            if not (baseline and any(baseline.number < number for number in accepted)):
                return "suspect"
        return "clean"

    def held(self):
        return ["held" + (f":{until}" if until else "") for until in self.holds.values()]

    def read(self, trees):
        """Decodes the opened sections."""
        self.summary = parse_json(self.sections[32])
        c = Cursor(self.sections[34], "roots")
        for table, kind, place, content in c.list(lambda: (c.u32(), c.u8(), c.u8(), c.bytes())):
            what = f"root of table {table}, kind {kind}"
            need(place in (0, 1) and kind in (0, 1), f"{what} has an unknown place or kind", Unsupported)
            need((table, kind) not in self.roots, f"{what} occurs twice")
            root = Node(content, trees.keys, what)
            trees.report(root.hints_fault)
            if place == 1:
                above = root
                need(above.level > 1 and len(above.children) == 1, f"{what} names no node")
                self.packed.add((table, kind))
                root = trees.node(above.children[0])
                need((root.level, root.totals()) == (above.level - 1, above.totals()), f"{what} has the wrong counts")
            self.roots[table, kind] = root
        c.end()
        if 35 in self.sections:
            c = Cursor(self.sections[35], "root ranges")
            self.ranges = dict(zip(self.roots, c.list(c.bytes)))
            c.end()
        if 33 in self.sections:
            catalog = parse_json(self.sections[33])
            self.catalog = Catalog(catalog)
            self.check_facts(catalog, trees.keys)
        for table in self.summary["tables"]:
            node = self.roots.get((table["number"], 0))
            need(node, f"table {table['name']} has no root")
            said = tuple(table[name] for name in ("rows", "bytes", "owners", "leaves"))
            what = f"table {table['name']}: the tree has {node.totals()}, but the summary says {said}"
            need(node.totals() == said, what)
            if table["lost_rows"] or table["lost_cells"]:
                lost = f"{table['lost_rows']} rows and {table['lost_cells']} values"
                trees.store.found(f"table {table['name']}: {lost} could not be read when the snapshot was taken")
        if 37 in self.sections:
            self.check_losses(parse_json(self.sections[37]))

    def check_facts(self, catalog, keys):
        """Compares the digests in the summary with the catalog."""
        need(self.summary["identity"] == keys.fact(1, catalog["identity"]), "the digest of the identity is wrong")
        summaries = {table["number"]: table for table in self.summary["tables"]}
        ignored = {"columns", "name", "next_column", "number", "oid"}
        names = {table["number"]: table["name"] for table in reversed(catalog["tables"])}

        def named(items, member):
            return [item | {member: names.get(item[member], item[member])} for item in items]

        for table in catalog["tables"]:
            placing = {name: value for name, value in table.items() if name not in ignored}
            placing["paths"] = named(placing["paths"], "parent")
            if "below" in placing:
                placing["below"] = named(placing["below"], "child")
            mapping = {"owners": named(catalog["owners"], "table"), "table": placing}
            facts = len(table["columns"]), keys.fact(2, table["columns"]), keys.fact(3, mapping)
            summary = summaries.get(table["number"], {})
            said = tuple(summary.get(name) for name in ("columns", "columns_digest", "mapping_digest"))
            need(not summary or said == facts, f"table {table['name']}: the digests in the summary are wrong")

    def check_losses(self, losses):
        entries = losses["entries"]
        for loss in entries:
            need((loss["key"] is None) != (loss["row"] is None), "a loss names no row, or names it twice")
            need(len(loss["text"].encode()) <= 1024, "the text of a loss is too long")

        def order(loss):
            members = (loss[name] for name in ("table", "key", "row", "column", "text"))
            return [(member is not None, "" if member is None else member) for member in members]

        pairs = zip(entries, entries[1:])
        need(all(order(one) < order(other) for one, other in pairs), "losses are out of order or occur twice")
        need(len(entries) <= 10_000 and integer(losses["left_out"]) >= 0, "there are too many losses")

    def rows(self, trees, number, kind=0):
        need(self.ranges and self.catalog, "rows need an admin or recovery key", WrongKey)
        table = self.catalog.tables[number]
        table = References(table) if kind == 1 else table
        node = self.roots[number, kind]
        need(node.level == 1 or len(node.children) > 1, f"{node.what} has only one child")
        packed = (number, kind) in self.packed
        ranges = trees.chunks.open(RANGES, complement(node.id)) if packed else self.ranges[number, kind]
        return trees.rows(node, ranges, Leaves(self.catalog, table, trees.keys, trees.whole))

    def check_references(self, trees, number, keys):
        """Checks that the references to rows of a table name rows that it has, by their placement keys."""
        for row in self.rows(trees, number, 1) if (number, 1) in self.roots else ():
            need(row.key[0] == 0x10, "a reference is placed under no owner")
            need(row.cells[1].value in keys, f"a reference names a row that table {number} does not have")


# ---- 10. The ledger


PRIME = 2**255 - 19
CURVE_D = -121665 * pow(121666, -1, PRIME)
ORDER_8 = int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little")
SMALL_Y = [0, 1, PRIME - 1, ORDER_8, PRIME - ORDER_8]


def small_order(point):
    """Whether an encoded point of Ed25519 has an order of at most 8."""
    return int.from_bytes(point, "little") % 2**255 in SMALL_Y


def is_signing_key(encoded):
    """Whether these bytes encode a point of Ed25519 (RFC 8032) that is not of small order."""
    y = int.from_bytes(encoded, "little") % 2**255
    square = (y * y - 1) * pow(CURVE_D * y * y + 1, -1, PRIME) % PRIME
    return y < PRIME and not small_order(encoded) and pow(square, (PRIME - 1) // 2, PRIME) == 1


ENVELOPE = b'{"payload":"%s","payloadType":"application/vnd.in-toto+json","signatures":[{"keyid":"%s","sig":"%s"}]}'


def is_sealing_key(encoded):
    """Whether the numbers of an ML-KEM-768 public key (FIPS 203, ByteDecode_12) are below its modulus."""
    bits = int.from_bytes(encoded[:1152], "little")
    return all(bits >> 12 * at & 0xFFF < 3329 for at in range(768))


class Statement:
    """A statement in its envelope: decoded, but not trusted before `verify`."""

    def __init__(self, raw, chain):
        need(len(raw) <= STATEMENT_MAX, "is over 16 MiB", Void)
        try:
            envelope = parse_json(raw)
            (signature,) = envelope["signatures"]
            self.signer, self.signature = unhex(signature["keyid"], 16), unbase64(signature["sig"])
            kind, body = envelope["payloadType"].encode(), unbase64(envelope["payload"])
            need(kind == b"application/vnd.in-toto+json", "has another payload type", Void)
            written = ENVELOPE % (envelope["payload"].encode(), signature["keyid"].encode(), signature["sig"].encode())
            need(raw == written, "has an envelope in another form", Void)
            statement = parse_json(body)
            need(statement["_type"] == "https://in-toto.io/Statement/v1", "is not an in-toto statement", Void)
            version = re.fullmatch(rf"urn:sidekeep:{chain}:([0-9]+)", statement["predicateType"])
            need(version and str(int(version[1])) == version[1] and int(version[1]) < 1 << 32, "is of no version", Void)
            self.predicate = predicate = statement["predicate"]
            self.number = positive(predicate["number"])
            self.previous = None if predicate.get("previous") is None else unhex(predicate["previous"]).hex()
            need(self.previous or chain in ("report", "copy"), "does not name its predecessor", Void)
            self.place = unhex(predicate["repository"], 16).hex(), predicate.get("source")
            formats = {integer(predicate["format"], 32), int(version[1])} - {1}
            self.known, self.features = not formats, [f"format-{number}" for number in formats]
            moment(predicate["written"])
            if chain == "ledger":
                integer(predicate["roster"]["number"]), unhex(predicate["roster"]["sha256"]), string(predicate["kind"])
        except UNDECODABLE as error:
            raise Void("cannot be decoded") from error
        self.signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(body), body)

    def check_place(self, place, number, previous):
        need((self.place, self.number) == (place, number), "belongs to another place", Void)
        need(self.previous == previous, "does not name its predecessor", Void)

    def verify(self, signing):
        try:
            need(not small_order(self.signature[:32]), "has a weak signature", Void)
            Ed25519PublicKey.from_public_bytes(signing).verify(self.signature, self.signed)
        except InvalidSignature:
            raise Void("has a bad signature") from None


ADMIN = "admin recovery"
MEMBERS = {
    "snapshot": ("operator", "source_clock manifest session epoch packs adopted tags suspect reasons baselines"),
    "add": ("operator", "session epoch packs adopted"),
    "forget": ("maintainer", "snapshots reason"),
    "prune": ("maintainer", "packs manifests"),
    "repack": ("maintainer", "epoch packs added"),
    "hold": ("maintainer admin recovery", "snapshot reason"),
    "tag": ("maintainer", "snapshot tag"),
    "accept": (ADMIN, "snapshot reason"),
    "reject": (ADMIN, "snapshot reason"),
    "accept_loss": (ADMIN, "lost reason"),
    "erase": (ADMIN, "epoch session manifests packs reason"),
    "revoke": (ADMIN, "key reason"),
    "readmit": (ADMIN, "snapshots manifests packs reason"),
}


def is_tag(text):
    """Whether a text counts as a tag. Others look like an id or like `latest`."""
    return not re.fullmatch("[0-9a-fA-F]*", text) and text != "latest" and not text.startswith("latest~")


def feature_of(kind):
    """The feature that a kind belongs to which the document does not list, in a list. None: to no feature."""
    parts = re.fullmatch(r"([a-z0-9_-]{1,32}):[a-z0-9_-]{1,32}", kind)
    return parts and [parts[1]]


def digests(items):
    return [unhex(item).hex() for item in listed(items)]


def numbered(item):
    """An entry of a chain: its number and digest."""
    return positive(item["number"]), unhex(item["sha256"]).hex()


def positive(value):
    need(integer(value) > 0, "not a number from 1", Void)
    return value


def share(value):
    need(integer(value) <= 1000, "not a number of thousandths", Void)
    return value


def boolean(value):
    need(value in (True, False) and type(value) is bool, "neither true nor false", Void)
    return value


def reasons(entry):
    """The reasons why a snapshot is suspect, checked."""
    baselines = digests(entry["baselines"])
    for reason in listed(entry["reasons"]):
        word = reason["reason"]
        need(type(word) is str and re.fullmatch("[a-z_]{1,32}", word), "has a reason that is not a word", Void)
        need(reason.get("table") is None or integer(reason["table"]) < 1 << 32, "has a reason with no table", Void)
        for name in ("found", "limit"):
            need(reason.get(name) is None or share(reason[name]) is not None, "has a reason without share", Void)
        need(reason.get("baseline") in [None, *baselines], "has a reason with another baseline", Void)
    need(boolean(entry["suspect"]) == bool(entry["reasons"]), "is suspect without a reason, or clean with one", Void)
    need(entry.get("proofs") is None or unhex(entry["proofs"]), "has proofs that are not a digest", Void)
    return entry["reasons"]


def check_members(entry):
    """Checks the members of an entry of a known kind. What this refuses cannot be decoded."""
    kind, members = entry["kind"], MEMBERS[entry["kind"]][1].split()
    need(all(name in entry for name in members), "lacks a member", Void)
    checks = {"reason": string, "snapshot": unhex, "epoch": lambda value: integer(value, 32), "tag": string}
    checks["session"] = checks["key"] = lambda value: unhex(value, 16)
    for name in set(checks) & set(members):
        checks[name](entry[name])
    added_by(entry)
    if kind == "snapshot":
        moment(entry["source_clock"]), reasons(entry), [string(tag) for tag in listed(entry["tags"])]
    elif kind == "forget":
        digests(entry["snapshots"])
    elif kind == "readmit":
        [digests(entry[name]) for name in ("snapshots", "manifests", "packs")]
    elif kind == "revoke":
        need(entry["reason"] in REASONS, "revokes without a reason", Void)
    elif kind in ("prune", "repack"):
        digests(entry["packs"]), digests(entry.get("manifests", []) if kind == "prune" else [])
    elif kind == "hold":
        until, release = entry.get("until"), entry.get("release")
        need(until is None or moment(until), "has no time", Void)
        need(release is None or not (boolean(release) and until), "releases and holds", Void)
    elif kind == "tag":
        need(entry.get("remove") is None or boolean(entry["remove"]) is not None, "removes and does not", Void)
    elif kind == "accept_loss":
        [numbered(lost) for lost in listed(entry["lost"])]
    elif kind == "erase":
        named = [unhex(digest) for change in entry["manifests"] for digest in (change["old"], change["new"]["sha256"])]
        need(len(set(named)) == len(named), "names a manifest twice", Void)


def added_by(entry):
    """The packs and manifests that an entry adds, with their sizes."""
    kind = entry["kind"]
    if kind in ("snapshot", "add"):
        packs = sized(listed(entry["packs"]) + listed(entry["adopted"]))
        return packs, sized([entry["manifest"]]) if kind == "snapshot" else {}
    if kind == "repack":
        for item in listed(entry["added"]):
            for ident in [item["signer"], *listed(item["movers"])]:
                unhex(ident, 16)
        return sized(entry["added"]), {}
    if kind == "erase":
        return sized(entry["packs"]), sized([change["new"] for change in listed(entry["manifests"])])
    return {}, {}


def sized(items):
    """Sizes of objects. If an object is named twice, its first size counts."""
    sizes = [(unhex(item["sha256"]).hex(), integer(item["size"])) for item in listed(items)]
    return dict(reversed(sizes)) if len(dict(sizes)) < len(sizes) else dict(sizes)


REASONS = ["retired", "lost", "stolen"]  # why a key was revoked, the worst last


class Ledger:
    """The folded chain of a source: snapshots and the inventory."""

    def __init__(self, store, roster, source):
        self.store, self.roster, self.source, self.name = store, roster, source, source.hex()
        self.snapshots, self.packs, self.manifests, self.revoked = {}, {}, {}, {}
        self.pack_sizes, self.manifest_sizes, self.removed, self.erased = {}, {}, set(), set()  # what readmit needs
        self.seen, self.entries, self.digests, self.accepted_loss, given_up = 0, 0, {}, 0, set()
        previous = roster.sources[source].entry
        for self.entries, raw, digest in store.chain(f"{self.name}/ledger"):
            try:
                statement = Statement(raw, "ledger")
                if statement.known and statement.predicate["kind"] in MEMBERS:
                    check_members(statement.predicate)
                if self.is_given_up(statement, previous):
                    given_up.update(*(added_by(statement.predicate) if statement.known else []))
                else:
                    self.fold(digest, self.judge(statement, previous))
            except (Void, *UNDECODABLE) as reason:
                store.found(f"entry {self.entries} of source {self.name} is void: {reason}")
            previous = self.digests[self.entries] = digest
        self.given_up = {one for one in given_up if one not in self.packs and one not in self.manifests}

    def is_given_up(self, statement, previous):
        """Whether an entry names another predecessor, which an admin gave up, and is otherwise in its place."""
        if self.accepted_loss != self.entries - 1 or self.entries == 1 or statement.previous == previous:
            return False
        try:
            statement.check_place((self.roster.repository.hex(), self.name), self.entries, statement.previous)
            self.judge_signer(statement)
            return True
        except Void:
            return False

    def judge_signer(self, statement):
        signer = self.roster.keys.get(statement.signer)
        need(signer, "is signed by a key that is not enrolled", Void)
        statement.verify(signer.signing)
        entry, kind, seen = statement.predicate, statement.predicate["kind"], statement.predicate["roster"]
        known = statement.known and kind in MEMBERS
        roles = MEMBERS[kind][0] if known else "operator maintainer admin recovery"
        need(seen["number"] > 0, "names no roster entry", Void)
        position = self.position(seen)
        need(statement.signer not in self.revoked, "is signed by a key that was revoked earlier in this ledger", Void)
        need(position >= self.roster.sources[self.source].number, "did not see that the source was added", Void)
        entitled = signer.is_enrolled_at(position)
        if self.roster.retired.get(self.source, math.inf) <= position:
            roles = {"snapshot": "", "add": "", "forget": ADMIN}.get(kind if known else None, roles)
        entitled = entitled and signer.role in roles.split() and signer.serves(self.source, position)
        need(entitled, "is signed by a key that is not entitled to it at this position", Void)
        return signer, known

    def judge(self, statement, previous):
        statement.check_place((self.roster.repository.hex(), self.name), self.entries, previous)
        signer, known = self.judge_signer(statement)
        entry, seen = statement.predicate, statement.predicate["roster"]
        need(self.position(seen) >= self.seen, "saw an older roster than an earlier entry", Void)
        name = f"entry {self.entries} of source {self.name}"
        if not known:
            announced = self.roster.announces(statement.features or feature_of(entry["kind"]), self.position(seen))
            need(announced, "is of a kind or format that no admin has announced", Void)
            return {"kind": None, "roster": seen}, signer
        if entry["kind"] == "snapshot":
            newer = all(moment(entry["source_clock"]) > other.entry["source_clock"] for other in self.kept() if other.counts)
            need(newer, "is not newer than the earlier snapshots", Void)
        return entry, signer

    def position(self, seen):
        """The roster entry as of which an entry is judged: the newest one, if the roster lacks the one that it names."""
        position = self.roster.position(seen)
        return len(self.roster.digests) if position is None else position

    def kept(self):
        return [snapshot for snapshot in self.snapshots.values() if not snapshot.forgotten]

    def fold(self, digest, judged):
        entry, signer = judged
        kind, snapshot = entry["kind"], self.snapshots.get(entry.get("snapshot"))
        if self.roster.digests.get(entry["roster"]["number"]) == entry["roster"]["sha256"]:
            self.seen = entry["roster"]["number"]
        elif self.roster.position(entry["roster"]) is None:
            missing = f"roster entry {entry['roster']['number']} seems to be missing"
            self.store.found(f"{missing}: entry {self.entries} of source {self.name} names it")
        added, manifests = added_by(entry)
        for ident, size in added.items():
            self.packs.setdefault(ident, size), self.pack_sizes.setdefault(ident, size)
        for ident, size in manifests.items():
            self.manifest_sizes.setdefault(ident, size)
        if kind in ("prune", "repack"):
            for ident in entry["packs"] + (entry["manifests"] if kind == "prune" else []):
                self.packs.pop(ident, None)
                self.manifests.pop(ident, None)
                self.removed.add(ident)
        elif kind == "forget":
            self.forget([self.snapshots[ident] for ident in entry["snapshots"] if ident in self.snapshots])
        elif kind == "erase":
            self.erased.update(change["old"] for change in entry["manifests"])
            self.replace({change["old"]: change["new"]["sha256"] for change in entry["manifests"]}, entry["session"])
        elif kind == "accept_loss":
            self.accepted_loss = self.entries
        elif kind == "revoke":
            ident, reason = unhex(entry["key"], 16), entry["reason"]
            worse = max(self.revoked.get(ident, reason), reason, key=REASONS.index)
            self.revoked[ident] = reason if signer.role == "recovery" else worse
        elif kind == "readmit":
            self.readmit(entry)
        self.manifests = manifests | self.manifests
        if kind == "snapshot":
            self.snapshots[digest] = Snapshot(digest, entry)
        if kind == "tag" and snapshot:
            snapshot.tags = [tag for tag in snapshot.tags if tag != entry["tag"]]
            snapshot.tags += [entry["tag"]] if is_tag(entry["tag"]) and not entry.get("remove") else []
        if kind in ("accept", "reject") and snapshot:
            snapshot.word = kind
        if kind == "hold" and snapshot:
            by = "maintainer" if signer.role == "maintainer" else "admin"
            kept = snapshot.holds if by == "maintainer" else {}  # what an admin says also ends the maintainer's hold
            kept = {name: end for name, end in kept.items() if name != by}
            snapshot.holds = kept if entry.get("release") else kept | {by: entry.get("until")}

    def forget(self, snapshots):
        snapshots = [snapshot for snapshot in snapshots if not snapshot.forgotten]
        for snapshot in snapshots:
            snapshot.forgotten = True
        kept = {snapshot.manifest for snapshot in self.kept()}
        for snapshot in snapshots:
            if snapshot.manifest not in kept:
                self.manifests.pop(snapshot.manifest, None)

    def readmit(self, entry):
        for snapshot in filter(None, map(self.snapshots.get, entry["snapshots"])):
            if snapshot.forgotten and snapshot.manifest not in self.erased:
                snapshot.forgotten = snapshot.counts = False
                if snapshot.manifest not in self.removed:
                    self.readmit_manifest(snapshot.manifest)
        for ident in entry["manifests"]:
            self.readmit_manifest(ident)
        for ident in entry["packs"]:
            if ident in self.removed and ident in self.pack_sizes:
                self.packs.setdefault(ident, self.pack_sizes[ident])

    def readmit_manifest(self, ident):
        needed = any(snapshot.manifest == ident for snapshot in self.kept()) and ident not in self.erased
        if needed and ident in self.manifest_sizes:
            self.manifests.setdefault(ident, self.manifest_sizes[ident])

    def replace(self, renamed, session):
        for old in renamed:
            self.manifests.pop(old, None)
        for snapshot in self.kept():
            if snapshot.manifest in renamed:
                snapshot.manifest, snapshot.session = renamed[snapshot.manifest], session


class Bundle:
    """Consecutive entries of a chain in one unsigned object. The chain is read without it, and compared with it."""

    def __init__(self, data, name, repository, source):
        c = Cursor(data, name).header("E")
        need(len(data) <= 64 << 20 and c.take(32) == repository + source, f"{name} is too large or of another chain")
        self.name, self.first = name, int.from_bytes(c.take(8), "little")
        self.entries = c.list(c.bytes)
        c.end()
        chain, place = ("ledger", source.hex()) if any(source) else ("roster", None)
        need(self.first and self.entries, f"{name} has no entry")
        for at in range(1, len(self.entries)):
            try:
                statement = Statement(self.entries[at], chain)
                statement.check_place((repository.hex(), place), self.first + at, sha256(self.entries[at - 1]))
            except (Void, *UNDECODABLE) as reason:
                raise Damage(f"{name}: entry {self.first + at} {reason}") from reason

    def compare(self, digests):
        """`digests` belong to the entries that were read one by one."""
        for number, raw in enumerate(self.entries, self.first):
            need(digests.get(number) == sha256(raw), f"{self.name}: entry {number} is another one than in the store")


def check_bundles(store, folder, repository, source, digests):
    for digest in store.names(folder):
        with store.finding():
            Bundle(store.named(folder, digest), f"{folder}/{digest}", repository, source).compare(digests)


# ---- 11. Descriptor and roster


@dataclass
class EnrolledKey:
    role: str
    signing: bytes
    sealing: bytes
    sources: list  # pairs: the roster entry that added them, "all" or a list of ids
    enrolled: int
    revoked: int = None
    reason: int = 0  # 0: not revoked, or retired. What the key wrote stays trusted

    def is_enrolled_at(self, number):
        """Whether its signature counts at this roster entry."""
        return self.enrolled <= number and (self.revoked is None or number < self.revoked)

    def revoke(self, number, reason, by_recovery):
        self.revoked = self.revoked or number
        self.reason = reason if by_recovery else max(self.reason, reason)

    def is_operator_of(self, source):
        return self.role == "operator" and not self.reason and self.serves(source, math.inf)

    def serves(self, source, number):
        given = [sources for added, sources in self.sources if added <= number]
        return self.role != "operator" or any(sources == "all" or source.hex() in sources for sources in given)

    def serves_all(self, number=math.inf):
        return any(sources == "all" for added, sources in self.sources if added <= number)


Epoch = collections.namedtuple("Epoch", "sealing grants")  # grants: digests by key
EnrolledSource = collections.namedtuple("EnrolledSource", "group thresholds number entry")  # entry: its digest


def source_list(sources):
    """The sources of an operator: "all" or ids."""
    return sources if sources == "all" else [unhex(source, 16).hex() for source in listed(sources)]


def heads(ledgers):
    """The newest entries of several sources."""
    sources = [unhex(head["source"], 16) for head in listed(ledgers)]
    need(sources == sorted(set(sources)), "has ledgers that are not in order", Void)
    return {head["source"]: numbered(head) for head in ledgers}


STATEMENTS = "enrol revoke epoch grant close source rename retire extend thresholds accept_loss promote".split()
STATEMENTS += ["feature", "withdraw"]


class Roster:
    """The chain of keys, epochs and sources."""

    def __init__(self, store):
        self.store, descriptor = store, store.get("sidekeep.json")
        need(descriptor is not None, f"there is no repository in {store.root}", NoRepository)
        try:
            described = parse_json(descriptor)
            need(described["sidekeep"] == "repository", "sidekeep.json does not describe a repository")
            need(described["format"] == 1, f"format {described['format']} is unsupported", Unsupported)
            self.repository = unhex(described["repository"], 16)
        except (Void, *UNDECODABLE) as error:
            raise Damage(f"sidekeep.json cannot be decoded: {error!r}") from error
        self.keys, self.epochs, self.sources, self.digests, self.lost, self.promotions = {}, {}, {}, {}, {}, []
        self.names = []  # what it says about names: source, epoch, label and whether an admin says so; or source, None
        self.retired = {}  # by source: the entry that retired it
        self.features = {}  # by name: pairs of the entry that announced it and the one that withdrew it
        previous, self.accepted_loss = sha256(descriptor), 0
        for number, raw, digest in store.chain("roster"):
            try:
                statement = Statement(raw, "roster")
                changes = self.judge(statement, number, digest)
                given_up = self.accepted_loss == number - 1 > 0 and statement.previous != previous
                if not given_up:
                    statement.check_place((self.repository.hex(), None), number, previous)
                    for change in changes:
                        change()
            except (Void, *UNDECODABLE) as reason:
                need(number > 1, f"roster entry 1 is void: {reason}")
                store.found(f"roster entry {number} is void: {reason}")
            previous = self.digests[number] = digest
        need(self.digests, "roster entry 1 is missing")
        self.fingerprint = self.digests[1]
        for feature in self.features:
            if self.announces([feature], len(self.digests)):
                store.found(f"feature {feature} is announced, and this script does not know it")

    def announces(self, features, position):
        """Whether these features are announced as of a roster entry. None: they can never be."""
        ranges = [self.features.get(feature, []) for feature in features or []]
        return features is not None and all(any(a <= position < b for a, b in one) for one in ranges)

    def announce(self, name, number):
        ranges = self.features.setdefault(name, [])
        if not ranges or ranges[-1][1] <= number:
            ranges.append((number, math.inf))

    def withdraw(self, name, number):
        if name in self.features:
            first, last = self.features[name].pop()
            self.features[name].append((first, min(last, number)))

    def position(self, seen):
        """The entry as of which somebody is judged who had seen `seen`. None if the roster does not know it."""
        number, digest = integer(seen["number"]), unhex(seen["sha256"]).hex()
        return number if self.digests.get(number) == digest else self.lost.get((number, digest))

    def accept_loss(self, number, lost):
        self.accepted_loss = number
        for entry in lost:
            self.lost.setdefault(entry, number)

    def judge(self, statement, number, digest):
        """Decodes an entry that is in its place but for its predecessor. Returns what it changes."""
        statement.check_place((self.repository.hex(), None), number, statement.previous)
        said = listed(statement.predicate["statements"]) if statement.known else []
        said = [one for one in said if string(one["statement"]) in STATEMENTS]  # the others belong to features
        changes = [self.change(one, statement, digest) for one in said]
        signer = self.keys.get(statement.signer)
        if number == 1:
            own = [one for one in said if one["statement"] == "enrol" and one["role"] in ADMIN.split()]
            own = [self.enrolled(one, 1) for one in own if unhex(one["key"], 16) == statement.signer]
            signer = own[0] if own else None
        need(signer and signer.is_enrolled_at(number), "is signed by a key that is not enrolled", Void)
        statement.verify(signer.signing)
        for one in said:
            entitled = self.may_state(signer, one["statement"], number - 1)
            about = self.keys.get(unhex(one["key"], 16)) if one["statement"] == "revoke" else None
            recovery = one["role"] if one["statement"] == "enrol" else about and about.role
            entitled = entitled and (recovery != "recovery" or number == 1 or signer.role == "recovery")
            need(entitled, "is signed by a key that is not entitled to it", Void)
        need(self.announces(statement.features, number - 1), "is of a format that no admin has announced", Void)
        return changes

    @staticmethod
    def may_state(signer, kind, position):
        if kind == "withdraw":
            return signer.role == "recovery"
        adds_source = kind == "source" and signer.role == "operator" and signer.serves_all(position)
        return signer.role in ADMIN.split() or adds_source

    @staticmethod
    def enrolled(said, number):
        signing, sealing = unbase64(said["signing"]), unbase64(said["sealing"])
        need((len(signing), len(sealing)) == (32, 1216) and isinstance(said["label"], str), "enrols no key", Void)
        need(key_id(signing, sealing).hex() == said["key"], "enrols a key under an id that does not match", Void)
        role, sources = said["role"], said.get("sources")
        need(role in ("operator", "maintainer", "admin", "auditor", "recovery"), "enrols an unknown role", Void)
        need((role == "operator") == (sources is not None), "must name sources for operators, and only for them", Void)
        return EnrolledKey(role, signing, sealing, [] if sources is None else [(number, source_list(sources))], number)

    def change(self, said, statement, digest):
        """Decodes a statement. Returns the function that applies it."""
        kind, number = said["statement"], statement.number
        with_reason = kind in ("close", "thresholds", "accept_loss", "promote", "retire")
        need(not with_reason or type(said["reason"]) is str, "gives no reason", Void)
        with_epoch = kind in ("epoch", "grant", "close", "source", "rename")
        need(not with_epoch or integer(said["epoch"], 32) >= 0, "no epoch", Void)
        if kind == "enrol":
            key = self.enrolled(said, number)
            return lambda: self.enrol(unhex(said["key"], 16), key, statement)
        if kind == "revoke":
            ident, reason, recovery = unhex(said["key"], 16), REASONS.index(string(said["reason"])), self.by_recovery(statement)
            return lambda: ident in self.keys and self.keys[ident].revoke(number, reason, recovery)
        if kind == "epoch":
            grants = {unhex(ident, 16): [unhex(granted).hex()] for ident, granted in said["grants"].items()}
            epoch = Epoch(unbase64(said["sealing"]), grants)
            need(len(epoch.sealing) == 1216, "opens an epoch without a restore key", Void)
            return lambda: self.open(said["epoch"], epoch, number)
        if kind == "grant":
            ident, granted = unhex(said["key"], 16), unhex(said["sha256"]).hex()
            return lambda: said["epoch"] in self.epochs and self.grant(said["epoch"], ident, granted)
        if kind == "source":
            group = None if said.get("group") is None else unhex(said["group"], 16)
            name = unhex(said["source"], 16), said["epoch"], unbase64(said["label"])
            by_admin = number == 1 or statement.signer in self.keys and self.keys[statement.signer].role != "operator"
            return lambda: self.add_source(EnrolledSource(group, [], number, digest), *name, by_admin)
        if kind == "rename":
            name = unhex(said["source"], 16), said["epoch"], unbase64(said["label"])
            return lambda: self.is_open(name[0]) and self.names.append((*name, True))
        if kind == "retire":
            source = unhex(said["source"], 16)
            return lambda: self.retire(source, number)
        if kind == "extend":
            ident, sources = unhex(said["key"], 16), source_list(said["sources"])
            return lambda: self.extend(ident, number, sources)
        if kind == "thresholds":
            source, limits, table = unhex(said["source"], 16), said["limits"], said.get("table")
            need(type(limits) is dict and all(share(limit) is not None for limit in limits.values()), "no limits", Void)
            sealed = None if table is None else (integer(table["epoch"], 32), unbase64(table["name"]))
            return lambda: source in self.sources and self.sources[source].thresholds.append((sealed, limits))
        if kind == "accept_loss":
            lost = [numbered(entry) for entry in listed(said["lost"])]
            return lambda: self.accept_loss(number, lost)
        if kind == "promote":
            head, promotion = said["roster"], (unhex(said["mark"]).hex(), heads(said["ledgers"]))
            follows = number > 1 and numbered(head) == (number - 1, statement.previous)
            need(follows, "promotes from another roster entry", Void)
            return lambda: self.promotions.append(promotion)
        if kind in ("feature", "withdraw"):
            name, apply = string(said["name"]), self.announce if kind == "feature" else self.withdraw
            need(re.fullmatch("[a-z0-9_-]{1,32}", name), "names no feature", Void)
            return lambda: apply(name, number)
        return lambda: None  # close matters only to writers

    def by_recovery(self, statement):
        signer = self.keys.get(statement.signer)
        return statement.number > 1 and signer is not None and signer.role == "recovery"

    def enrol(self, ident, key, statement):
        if not is_signing_key(key.signing) or not is_sealing_key(key.sealing):
            return
        if any(known.signing == key.signing or known.sealing == key.sealing for known in self.keys.values()):
            return
        grants = [one for one in statement.predicate["statements"] if one["statement"] == "grant"]
        granted = {one["epoch"] for one in grants if unhex(one["key"], 16) == ident}
        if key.role == "recovery" and not set(self.epochs) <= granted:
            self.refuse(statement.number, f"recovery key {ident.hex()} is not enrolled: it has no grant of each epoch")
        else:
            self.keys[ident] = key

    def open(self, number, epoch, entry):
        recovery = {ident for ident, key in self.keys.items() if key.role == "recovery" and key.revoked is None}
        if number != max(self.epochs, default=0) + 1:
            self.refuse(entry, f"epoch {number} does not count: it does not follow the highest one")
        elif not is_sealing_key(epoch.sealing) or recovery - set(epoch.grants):
            self.refuse(entry, f"epoch {number} does not count: no valid restore key, or no grant for a recovery key")
        else:
            self.epochs[number] = epoch

    def refuse(self, number, reason):
        self.store.found(f"roster entry {number}: {reason}")

    def add_source(self, source, ident, epoch, label, by_admin):
        if ident not in self.sources:
            self.sources[ident] = source
            self.names.append((ident, epoch, label, by_admin))

    def is_open(self, source):
        return source in self.sources and source not in self.retired

    def retire(self, source, number):
        if self.is_open(source):
            self.retired[source] = number
            self.names.append((source, None, None, True))

    def grant(self, epoch, ident, digest):
        grants = self.epochs[epoch].grants.setdefault(ident, [])
        grants += [] if digest in grants else [digest]

    def extend(self, ident, number, sources):
        if ident in self.keys and self.keys[ident].role == "operator":
            self.keys[ident].sources.append((number, sources))


# ---- 12. Sessions, reports and copies


def check_series(store, folder, chain, judge):
    """Checks signed statements with numbers from 1. Each counts by itself. Returns those that count, by number."""
    counting, before, previous = {}, 0, None
    for name in store.names(folder):
        if not re.fullmatch("[0-9]{10}", name) or name == "0" * 10:
            continue
        (raw, digest), number = store.start(f"{folder}/{name}"), int(name)
        try:
            statement = Statement(raw, chain)
            need(statement.known, "has an unsupported format", Void)
            need(statement.number == number and (statement.previous is None) == (number == 1), "has no place", Void)
            judge(statement)
            counting[number] = statement
            if before != number - 1 or statement.previous != previous:
                store.found(f"{folder}: the one before number {number} is lost or withheld")
        except (Void, *UNDECODABLE) as reason:
            store.found(f"{folder}/{name} does not count: {reason}")
        before, previous = number, digest
    return counting


def check_signer(roster, statement, roles, at_head=False):
    """Whether the signer had these rights at the roster entry that it names or, with `at_head`, has them now."""
    signer, position = roster.keys.get(statement.signer), roster.position(statement.predicate["roster"])
    need(position is not None, "saw another roster", Void)
    position = len(roster.digests) if at_head else position
    need(signer and signer.is_enrolled_at(position) and signer.role in roles.split(), "is not entitled", Void)
    need(statement.place[0] == roster.repository.hex(), "belongs to another repository", Void)
    statement.verify(signer.signing)


def check_report(roster, key, statement):
    said, kind = statement.predicate, string(statement.predicate["kind"])
    everybody = "operator maintainer auditor admin recovery"
    check_signer(roster, statement, ADMIN if kind == "restore" else everybody)
    need(unhex(said["key"], 16) == statement.signer == key, "is signed by another key", Void)
    unhex(said["source"], 16), digests(said["concerns"])
    need(said.get("plan") is None or unhex(said["plan"]), "has a plan that is not a digest", Void)
    if kind in ("damage", "restore"):
        need(bool(listed(said["objects"])) == (kind == "damage"), "has no objects, or too many", Void)
        for item in said["objects"]:
            problem, frames = item["problem"], [unhex(ident, 20) for ident in listed(item["frames"])]
            need(problem in ("missing", "altered", "frames") and type(item["name"]) is str, "bad object", Void)
            need(bool(frames) == (problem == "frames"), "names no frames, or too many", Void)
    body = said.get("body")
    if body is not None:
        unhex(body["sha256"]), integer(body["size"])
        need(integer(body["epoch"]) < 1 << 32, "has a body of no epoch", Void)


def read_body(store, roster, epochs, key, statement):
    """The body of a report, opened if the key can. None if it was erased."""
    named, folder = statement.predicate["body"], f"reports/{key.hex()}/bodies"
    if store.get(f"{folder}/{named['sha256']}") is None:
        return None
    name = f"{folder}/{named['sha256']}"
    c = Cursor(store.named(folder, named["sha256"], named["size"]), name).header("B")
    place = roster.repository + u32(named["epoch"]) + key + struct.pack("<Q", statement.number)
    need(c.take(44) == place, f"{name} belongs to another report")
    restore = epochs[named["epoch"]].restore if named["epoch"] in epochs else None
    if not restore:
        return {}
    opened = restore.open(c.rest(), b"sidekeep/1 report" + place, name)
    need(len(opened) == padme(len(opened)), f"{name} is not padded")
    body = parse_json(opened)
    need(type(body["reason"]) is str and type(body.get("user")) in (str, type(None)), f"{name} has no reason")
    for row in body["before"]:
        c = Cursor(unbase64(row["row"]), name)
        cells = c.uv()
        need(integer(row["table"]) < 1 << 32 and (cells & 1 == 0 or c.uv() > 1), f"{name} has a row that cannot be read")
        need(all(cell.kind != STREAM for cell in c.list(lambda: read_cell(c), cells >> 1)), f"{name} has a stream")
        c.end()
    return body


def check_mark(roster, statement):
    said = statement.predicate
    check_signer(roster, statement, "maintainer admin recovery", at_head=True)
    unhex(said["copy"], 16), heads(said["ledgers"])
    plain = type(said["place"]) is str and not re.search(r"[\x00-\x1f\x7f-\x9f]", said["place"])
    need(plain and len(said["place"].encode()) <= 256, "has no name of a place", Void)


def check_statements(store, roster, epochs):
    """Reports, their bodies, marks of copies, and bundles of roster entries. Prints what there is."""
    check_bundles(store, "bundles", roster.repository, bytes(16), roster.digests)
    for folder in sorted(store.root.glob("reports/" + "[0-9a-f]" * 32)):
        key = bytes.fromhex(folder.name)
        judge = functools.partial(check_report, roster, key)
        for report in check_series(store, f"reports/{folder.name}", "report", judge).values():
            state = "no body"
            with store.finding():
                if report.predicate.get("body") is not None:
                    body = read_body(store, roster, epochs, key, report)
                    state = "body erased" if body is None else body.get("reason", "body sealed")
            say(f"report {report.number} of key {folder.name}: {report.predicate['kind']}, {state}")
    marks = check_series(store, "copy", "copy", functools.partial(check_mark, roster))
    promotions = {promotion for promotion, _ in roster.promotions}
    for number in sorted(marks)[-1:]:
        mark, later = marks[number], [name for name in store.names("copy") if name >= f"{number:010}"]
        promoted = any(store.start(f"copy/{name}")[1] in promotions for name in later)
        say(f"this place is a copy, {mark.predicate['place']}, " + ("promoted" if promoted else "not promoted"))


# ---- Checks, as far as the key allows


def open_label(store, roster, keys, ident, label):
    try:
        key = SourceKeys(keys, ident).label
        return AESGCM(key).decrypt(label[:12], label[12:], roster.repository + ident).decode("utf-8")
    except (InvalidTag, ValueError):
        store.found(f"a label of source {ident.hex()} cannot be opened")
        return None


def source_names(store, roster, epochs):
    """The name of each source, as far as the key can open labels. The first source of a name keeps it."""
    holders, used, refused = {}, set(), []
    for ident, epoch, label, by_admin in roster.names:
        holders = {name: holder for name, holder in holders.items() if holder != ident}
        opens = epoch in epochs and epochs[epoch].opens(ident)
        name = open_label(store, roster, epochs[epoch], ident, label) if opens else None
        if name is None:
            continue
        if re.fullmatch("[0-9a-fA-F]{32}", name) or name in holders or name in used and not by_admin:
            refused.append((ident, name))
        else:
            holders[name] = ident
            used.add(name)
    names = {ident: name for name, ident in holders.items()}
    for ident, name in refused:
        if ident not in names:
            store.found(f"source {ident.hex()} was given the name {name}, which means or meant another, or is an id")
    return names


class Source:
    """A source with its ledger, its chunks and its snapshots."""

    def __init__(self, store, roster, ident, epoch_keys, names):
        self.store, self.repository, self.id, self.name = store, roster.repository, ident, ident.hex()
        self.keys = {number: SourceKeys(keys, ident) for number, keys in epoch_keys.items() if keys.opens(ident)}
        self.label = names.get(ident, self.name)
        self.ledger = Ledger(store, roster, ident)
        check_bundles(store, f"{self.name}/bundles", roster.repository, ident, self.ledger.digests)
        self.chunks, self.trees = Chunks(self.keys), {}

    def check_inventory(self):
        for digest, size in self.ledger.packs.items():
            with self.store.finding():
                folder = f"{self.name}/packs/{digest[:2]}"
                data = self.store.named(folder, digest, size)
                self.chunks.add(Pack(self.store, f"{folder}/{digest}", data, self.repository, self.id), data)
        for digest, size in self.ledger.manifests.items():
            with self.store.finding():
                self.store.named(f"{self.name}/manifests", digest, size)

    def check_index(self, roster):
        """Checks the fragments of operators that are not revoked, with the structure key."""
        signing = {ident: key.signing for ident, key in roster.keys.items() if key.is_operator_of(self.id)}
        signing = {ident: key for ident, key in signing.items() if ident not in self.ledger.revoked}
        for path in sorted((self.store.root / self.name / "index").glob("[0-9a-f]" * 64)):
            name = f"{self.name}/index/{path.name}"
            with self.store.finding():
                need(sha256(path.read_bytes()) == path.name, f"{name} does not match its name")
                fragment = Fragment(path, name, Place(self.repository, self.id, 0), self.keys, signing)
                if not fragment.skipped:
                    fragment.check(self.chunks)

    def open(self, snapshot):
        """Reads the manifest and, with a key, walks its trees."""
        need(snapshot.manifest in self.ledger.manifests, f"snapshot {snapshot.id}: its manifest was removed")
        data = self.store.named(f"{self.name}/manifests", snapshot.manifest)
        place = Place(self.repository, self.id, snapshot.entry["epoch"])
        snapshot.open(data, self.store, self.chunks, place)
        if place.epoch in self.keys:
            trees = self.trees.setdefault(place.epoch, Trees(self.store, self.chunks, self.keys[place.epoch]))
            snapshot.read(trees)
            for node in snapshot.roots.values():
                with self.store.finding():
                    trees.check_node(node)

    def check(self, roster):
        self.check_inventory()
        self.check_index(roster)
        for snapshot in self.ledger.kept():
            with self.store.finding():
                self.open(snapshot)


# ---- Rows as CSV (docs/export.md)

JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")


def based(data):
    return base64.b64encode(data).decode()


def text_field(value):
    text = value.decode("utf-8")
    if "\0" in text:
        return "\\json:" + json.dumps(text, ensure_ascii=False)
    return "\\text:" + text if text.startswith("\\") or JSON_NUMBER.fullmatch(text) else text


def real_field(value):
    number = struct.unpack("<d", value)[0]
    return re.sub(r"e\+?(-?)0*", r"e\1", repr(number)) if math.isfinite(number) else f"\\real:{value[::-1].hex()}"


FIELDS = {
    NULL: lambda value: "\\N",
    ABSENT: lambda value: "\\A",
    INTEGER: str,
    REAL: real_field,
    TEXT: text_field,
    BYTES: lambda value: "\\bytes:" + based(value),
    LOST: lambda value: "\\lost:",
    ENCODED: lambda value: f"\\encoded:{ENCODINGS[value[0]]}:{based(value[1])}",
}


def quoted(text):
    return '"' + text.replace('"', '""') + '"' if text == "" or re.search(r'[,"\r\n]|^\s|\s$', text) else text


def print_table(source, snapshot, name, out):
    """The rows of a table in the order of its tree."""
    trees = source.trees.get(snapshot.entry["epoch"])
    need(trees and snapshot.catalog, "rows need an admin or recovery key", WrongKey)
    table = next((table for table in snapshot.catalog.tables.values() if table.name == name), None)
    need(table, f"snapshot {snapshot.id} has no table {name}", Failure)
    out.write(",".join(quoted(column["name"]) for column in table.columns) + "\n")
    keys = set()
    for row in snapshot.rows(trees, table.number):
        keys.add(row.key)
        cells = [trees.whole(row.cells[column["number"]]) for column in table.columns]
        need(all(cell.kind in FIELDS for cell in cells), "a cell has a kind that SQLite does not have", Unsupported)
        line = ",".join(quoted(FIELDS[cell.kind](cell.value)) for cell in cells) + "\n"
        out.write(line * row.count)
    snapshot.check_references(trees, table.number, keys)


# ---- The command line


def open_repository(options, store):
    """The roster, checked against the pinned fingerprint and the key, and the epochs that the key opens."""
    roster, epochs, key = Roster(store), {}, None
    if options.key_file:
        passphrase = options.passphrase_file and options.passphrase_file.read_bytes().removesuffix(b"\n")
        key = KeyFile(options.key_file, passphrase)
        need(key.words["repository"] == roster.repository.hex(), "the key belongs to another repository", WrongKey)
    for pin in filter(None, [options.fingerprint, key and key.fingerprint]):
        need(pin == roster.fingerprint, f"the fingerprint is {roster.fingerprint}, expected {pin}", WrongKey)
    need(not key or key.id in roster.keys, "the key is not enrolled", WrongKey)
    need(not key or roster.keys[key.id].role == key.role, "the key file and the roster name different roles", WrongKey)
    for number, epoch in roster.epochs.items():
        for ident, granted in ((ident, one) for ident, all in epoch.grants.items() for one in all):
            with store.finding():
                name = f"keys/{number:06}/{ident.hex()}/{granted}"
                need(sha256(store.get(name) or b"") == granted, f"{name} is missing or not the roster's")
        if key and key.id in epoch.grants:
            opened = EpochKeys(store, roster, number, key)
            epochs.update({number: opened} if opened.is_open else {})
    granted = key and any(key.id in epoch.grants for epoch in roster.epochs.values())
    need(not granted or epochs, "no grant of the key opens")
    return roster, epochs


def choose(snapshots, wanted):
    need(snapshots, "there is no snapshot", Failure)
    if wanted == "latest":
        return max(enumerate(snapshots), key=lambda one: (one[1][1].entry["source_clock"], one[0]))[1]
    fitting = [one for one in snapshots if one[1].id.startswith(wanted)]
    fitting = fitting or [one for one in snapshots if wanted in one[1].tags]
    need(len(fitting) == 1, f"{len(fitting)} snapshots match {wanted}", Failure)
    return fitting[0]


def run(options, store):
    roster, epochs = open_repository(options, store)
    say(f"repository {roster.repository.hex()}, fingerprint {roster.fingerprint}")
    if not options.fingerprint and not options.key_file:
        say("note: nothing proves that this is the right repository: pass --fingerprint")
    for folder in store.root.glob("[0-9a-f]" * 32):
        if bytes.fromhex(folder.name) not in roster.sources:
            store.found(f"the roster does not name source {folder.name}: it was rolled back, or the folder is foreign")
    check_statements(store, roster, epochs)
    names = source_names(store, roster, epochs)
    sources = [Source(store, roster, ident, epochs, names) for ident in roster.sources]
    sources = [source for source in sources if options.source in (None, source.name, source.label)]
    need(sources or not options.source, f"there is no source {options.source}", Failure)
    for source in sources:
        source.check(roster)
        ledger = source.ledger
        counts = f"{ledger.entries} entries, {len(ledger.packs)} packs, {len(ledger.given_up)} given up"
        say(f"source {source.label}: {counts}")
        dictionaries = sum(map(len, source.chunks.dictionary_frames.values()))
        if dictionaries:
            say(f"source {source.label}: {dictionaries} dictionaries")
    snapshots = [(source, snapshot) for source in sources for snapshot in source.ledger.kept()]
    if options.table is not None or options.snapshot:
        chosen = len(sources) == 1 or options.snapshot not in (None, "latest")
        need(chosen, "there are several sources: pass --source", Failure)
        source, snapshot = choose(snapshots, options.snapshot or "latest")
        if options.table is not None:
            print_table(source, snapshot, options.table, sys.stdout)
        else:
            need(snapshot.summary, "tables need an auditor or admin key", WrongKey)
            for table in snapshot.summary["tables"]:
                print(f"{table['number']}\t{table['rows']}\t{table['name']}")
        return
    for source, snapshot in snapshots:
        rows = sum(table["rows"] for table in snapshot.summary["tables"]) if snapshot.summary else "?"
        words = [snapshot.id, source.label, snapshot.entry["source_clock"], f"{rows} rows"]
        print(*words, snapshot.state(source.ledger.snapshots), *snapshot.held(), *snapshot.tags, sep="\t")


def main():
    parser = argparse.ArgumentParser(description="check and read a Sidekeep repository in a directory")
    parser.add_argument("repository", type=Path, help="directory of the repository")
    parser.add_argument("--key-file", type=Path, help="without a key, only chains and stored bytes are checked")
    parser.add_argument("--passphrase-file", type=Path, help="file with the passphrase of the key file")
    parser.add_argument("--fingerprint", help="fingerprint that the repository must have")
    parser.add_argument("--source", help="read only this source: its id or label")
    parser.add_argument("--snapshot", help="list the tables of a snapshot: a tag, an id or its first digits, or latest")
    parser.add_argument("--table", help="print this table of the snapshot (default: latest) as CSV")
    options = parser.parse_args()
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    store = Store(options.repository)
    try:
        run(options, store)
    except (Failure, OSError) as failure:
        say(f"error: {failure}")
        return failure.code if isinstance(failure, Failure) else 1
    except (Void, *UNDECODABLE) as error:
        say(f"error: an object that only the repository's keys can write cannot be decoded: {error!r}")
        return 1
    return 3 if store.findings else 0


if __name__ == "__main__":
    sys.exit(main())
