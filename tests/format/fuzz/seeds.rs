//! The seeds of the corpus: the vectors of `tests/format`, objects of the golden repository, and a few that are made here.

use std::fs;
use std::path::Path;

use data_encoding::{BASE64, HEXLOWER};
use sidekeep::crypto::role::Identity;
use sidekeep::engine::postgres::value::value_kind::ValueKind;
use sidekeep::format::codec::{Codec, Encoder};
use sidekeep::format::key::Class;
use sidekeep::repo::ledger::Ledger;
use sidekeep::repo::manifest::{Depth, open};
use sidekeep::repo::objects::Objects;
use sidekeep::repo::open::Repository;
use sidekeep::store::{Location, Store};

use super::targets::{COPY_SQL_ASCII, COPY_TEXT};
use crate::support::world::{SOURCE, open_key};

/// An input that its target reads.
pub struct Seed {
    pub target: &'static str,
    pub name: String,
    pub bytes: Vec<u8>,
}

impl Seed {
    fn new(target: &'static str, name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self { target, name: name.into(), bytes: bytes.into() }
    }
}

pub fn all() -> Vec<Seed> {
    let mut seeds = vectors();
    seeds.extend(contents());
    seeds.extend(golden_objects());
    seeds.extend(golden_catalog());
    seeds.extend(frames());
    seeds.extend(copies());
    seeds.extend(texts());
    seeds
}

fn tests() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Stored objects and key files among the vectors.
fn vectors() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for entry in fs::read_dir(tests().join("format/vectors")).expect("lists") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let stem = name.split(['.', '-']).next().unwrap_or_default();
        let bytes = read(&path);
        match stem {
            "pack" => seeds.push(Seed::new("pack", name, bytes)),
            "fragment" => seeds.push(Seed::new("fragment", name, bytes)),
            "manifest" => seeds.push(Seed::new("manifest", name, bytes)),
            "grant" => seeds.push(Seed::new("grant", name, bytes)),
            "bundle" => seeds.push(Seed::new("bundle", name, bytes)),
            "body" => seeds.push(Seed::new("body", name, bytes)),
            "report" => seeds.push(Seed::new("report", name, payload(&bytes))),
            "copy" => seeds.push(Seed::new("mark", name, payload(&bytes))),
            "key" => seeds.push(Seed::new("key_file", name, bytes)),
            "sidekeep" => seeds.push(Seed::new("descriptor", name, bytes)),
            "ledger" => seeds.push(Seed::new("ledger", name, payload(&bytes))),
            "roster" => seeds.push(Seed::new("roster", name, payload(&bytes))),
            "session" => seeds.push(Seed::new("session", name, payload(&bytes))),
            _ => {}
        }
    }
    for name in ["ledger-10-tag.json", "roster-2.json", "session-2.json"] {
        seeds.push(Seed::new("envelope", name, read(&tests().join("format/vectors").join(name))));
    }
    seeds
}

/// What an envelope states.
fn payload(envelope: &[u8]) -> Vec<u8> {
    let envelope: serde_json::Value = serde_json::from_slice(envelope).expect("JSON");
    BASE64.decode(envelope["payload"].as_str().expect("text").as_bytes()).expect("base64")
}

/// Contents of frames among the vectors.
fn contents() -> Vec<Seed> {
    let text = String::from_utf8(read(&tests().join("format/vectors/objects.txt"))).expect("text");
    let mut seeds = Vec::new();
    for (name, hex) in text.lines().filter_map(|line| line.split_once(": ")) {
        let bytes = HEXLOWER.decode(hex.as_bytes()).expect("hex");
        let file = name.replace(' ', "-");
        match name {
            "leaf" => seeds.push(Seed::new("leaf", file, bytes)),
            "skeleton 1" | "skeleton 2" | "ranges" | "list" | "list of lists" | "streams" => {
                seeds.push(Seed::new("node", file, bytes))
            }
            "pack table" => seeds.push(Seed::new("pack", file, bytes)),
            "fragment" => seeds.push(Seed::new("fragment", "content", bytes)),
            "roots" | "root ranges" => seeds.push(Seed::new("manifest", file, bytes)),
            _ if name.starts_with("key ") => {
                let owner_len = u8::try_from(bytes.len() + 1).expect("a short key");
                let placement = [&[owner_len, Class::Owned as u8, 1], bytes.as_slice(), &bytes].concat();
                seeds.push(Seed::new("key", file, placement));
            }
            _ => {}
        }
    }
    seeds
}

/// The smallest object of each kind in the golden repository.
fn golden_objects() -> Vec<Seed> {
    let mut smallest: std::collections::BTreeMap<&str, Vec<u8>> = std::collections::BTreeMap::new();
    let mut folders = vec![tests().join("golden/v1/store")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("lists") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = path.to_string_lossy();
            let kinds = [
                ("/packs/", "pack"),
                ("/index/", "fragment"),
                ("/manifests/", "manifest"),
                ("/keys/", "grant"),
                ("/ledger/", "ledger"),
                ("/roster/", "roster"),
                ("/sessions/", "session"),
            ];
            let Some((_, target)) = kinds.into_iter().find(|(part, _)| text.contains(part)) else { continue };
            let bytes = read(&path);
            let kept = smallest.entry(target).or_insert_with(|| bytes.clone());
            if (bytes.len(), &bytes) < (kept.len(), kept) {
                *kept = bytes;
            }
        }
    }
    let stated = |target: &str| ["ledger", "roster", "session"].contains(&target);
    let mut seeds = Vec::new();
    for (target, bytes) in smallest {
        let content = if stated(target) { payload(&bytes) } else { bytes };
        seeds.push(Seed::new(target, "golden", content));
    }
    seeds.push(Seed::new("key_file", "golden", read(&tests().join("golden/v1/keys/operator.key"))));
    seeds
}

/// The JSON sections of the newest manifest of the golden repository.
fn golden_catalog() -> Vec<Seed> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let golden = tests().join("golden/v1");
    let location: Location = golden.join("store").to_str().expect("UTF-8").parse().expect("a location");
    let objects = Objects::new(Store::open(&location).expect("a store"), runtime.handle().clone());
    let env = std::sync::Arc::new(sidekeep::base::env::Seeded::new(1));
    let admin: Identity = open_key(&fs::read_to_string(golden.join("keys/admin.key")).expect("a key"));
    let unlocked = Repository::open(objects, env).expect("opens").unlock(admin).expect("unlocks");
    let source = unlocked.find_source(Some(SOURCE)).expect("a source");
    let ledger = Ledger::load(unlocked.repository(), source).expect("a ledger");
    let snapshot = &ledger.newest().expect("a snapshot").snapshot;
    let structure = unlocked.structure(source, snapshot.epoch).expect("a key");
    let manifest = open(&unlocked, structure.context(), snapshot.manifest, Depth::Role).expect("a manifest");
    vec![
        Seed::new("catalog", "catalog", serde_json::to_vec(&manifest.catalog).expect("JSON")),
        Seed::new("catalog", "summary", serde_json::to_vec(&manifest.summary).expect("JSON")),
        Seed::new("catalog", "secrets", serde_json::to_vec(&manifest.secrets).expect("JSON")),
    ]
}

/// A content in every codec.
fn frames() -> Vec<Seed> {
    let content = b"a frame, a frame, a frame, a frame, a frame and a span: ".repeat(20);
    let mut encoder = Encoder::new().expect("memory");
    let mut seeds = vec![Seed::new("frame", "stored", [&[Codec::Stored as u8], content.as_slice()].concat())];
    for (name, spans) in [("zstd", &[][..]), ("split", &[(40, 600)])] {
        let (codec, payload) = encoder.encode(&content, spans).expect("encodes");
        seeds.push(Seed::new("frame", name, [&[codec as u8], payload.as_slice()].concat()));
    }
    seeds
}

/// A value of a kind in its binary form and as its output function writes it.
fn values(kind: ValueKind) -> (&'static [u8], &'static str) {
    match kind {
        ValueKind::Bool => (&[1], "t"),
        ValueKind::Int2 => (&[0xff, 0xfb], "-5"),
        ValueKind::Int4 => (&[0, 1, 0x11, 0x70], "70000"),
        ValueKind::Int8 => (&[0x80, 0, 0, 0, 0, 0, 0, 0], "-9223372036854775808"),
        ValueKind::Unsigned32 => (&[0xff; 4], "4294967295"),
        ValueKind::Money => (&[0, 0, 0, 0, 0, 1, 0xe2, 0x3a], "-$1,234.50"),
        ValueKind::Real32 => (&[0x3f, 0xc0, 0, 0], "1.5"),
        ValueKind::Real => (&[0xff, 0xf0, 0, 0, 0, 0, 0, 0], "-Infinity"),
        // Two digits of base 10,000, weight 0, negative, scale 4.
        ValueKind::Numeric => (&[0, 2, 0, 0, 0x40, 0, 0, 4, 0x04, 0xd2, 0x15, 0xe0], "-1234.5600"),
        ValueKind::Text => ("na\u{ef}ve".as_bytes(), "na\u{ef}ve"),
        ValueKind::Char => (&[0x80], "\\200"),
        ValueKind::Bytes => (&[0, 0xff], "\\x00ff"),
        ValueKind::Uuid => (&[0x44; 16], "44444444-4444-4444-4444-444444444444"),
        ValueKind::Date => (&[0xff, 0xff, 0xff, 0xff], "4713-01-01 BC"),
        ValueKind::Time => (&[0, 0, 0, 0x14, 0x1d, 0xd7, 0x5f, 0xff], "23:59:59.999999"),
        ValueKind::TimeZoned => (&[0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xf1, 0xf0], "01:02:03.5+05:30"),
        ValueKind::Timestamp => (&[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "infinity"),
        ValueKind::TimestampZoned => (&[0, 0, 0, 0, 0, 0, 0, 1], "2024-02-29 12:00:00.25+00"),
        ValueKind::Interval => {
            (&[0, 0, 0, 0, 0, 0, 0, 3, 0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 1], "1 mon -2 days +04:05:06")
        }
        ValueKind::Json | ValueKind::Output => (b"{1,2}", "{\"a\": 1}"),
        ValueKind::Jsonb => (b"\x01{}", "{}"),
    }
}

/// A copy of one row of each kind, and of all kinds with a NULL of each.
fn copies() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (format, suffix) in [(0, "binary"), (COPY_TEXT, "output")] {
        let field = |kind: ValueKind| {
            let (binary, output) = values(kind);
            Some(if format == COPY_TEXT { output.as_bytes() } else { binary })
        };
        for (number, kind) in (0u8..).zip(ValueKind::ALL) {
            let name = format!("{}-{suffix}", kind.to_string().replace(['"', ' '], "_"));
            seeds.push(Seed::new("copy", name, copy_of(number | format, &[vec![field(kind)]])));
        }
        let rows = [ValueKind::ALL.map(field).to_vec(), ValueKind::ALL.map(|_| None).to_vec()];
        seeds.push(Seed::new("copy", format!("all-{suffix}"), copy_of(0x3f | format | COPY_SQL_ASCII, &rows)));
    }
    seeds
}

fn copy_of(choice: u8, rows: &[Vec<Option<&[u8]>>]) -> Vec<u8> {
    let mut out = vec![choice, 25];
    out.extend_from_slice(b"PGCOPY\n\xff\r\n\0");
    out.extend_from_slice(&[0; 8]);
    for row in rows {
        out.extend_from_slice(&i16::try_from(row.len()).expect("few columns").to_be_bytes());
        for field in row {
            let len = field.map_or(-1, |field| i32::try_from(field.len()).expect("a short value"));
            out.extend_from_slice(&len.to_be_bytes());
            out.extend_from_slice(field.unwrap_or_default());
        }
    }
    out.extend_from_slice(&(-1i16).to_be_bytes());
    out
}

/// JSON and dumps.
fn texts() -> Vec<Seed> {
    let json = [
        ("values", r#"[1, -2, 18446744073709551615, true, null, "a:b", "\u00e9\n\"", {}]"#),
        ("nested", r#"{"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}]}"#),
    ];
    let sql = [
        ("tables", TABLES),
        ("functions", FUNCTIONS),
        (
            "strings",
            "SELECT E'it\\'s; ', U&\"d\\0061t\", 'a''b;', $tag$;$$;$tag$, B'01', 1e5, a -- ;\n, /* ; /* ; */ */ b;\n",
        ),
    ];
    let json = json.into_iter().map(|(name, text)| Seed::new("json", name, text));
    json.chain(sql.into_iter().map(|(name, text)| Seed::new("sql", name, text))).collect()
}

const TABLES: &str = r#"--
-- PostgreSQL database dump
--

\restrict Dq3

SET standard_conforming_strings = on;

--
-- Name: notes; Type: TABLE; Schema: public; Owner: app
--

CREATE TABLE public."no;tes" (
    id integer DEFAULT nextval('s'::regclass) NOT NULL,
    body text DEFAULT 'a;b'::text
);

--
-- Name: TABLE notes; Type: ACL; Schema: public; Owner: app
--

GRANT SELECT ON TABLE public.notes TO reader;
\unrestrict Dq3
"#;

const FUNCTIONS: &str = "\
CREATE FUNCTION public.f() RETURNS integer LANGUAGE plpgsql AS $_$ BEGIN RETURN 1; END; $_$;
CREATE FUNCTION public.g(a integer) RETURNS integer
    BEGIN ATOMIC
 SELECT CASE WHEN (a > 0) THEN 1 ELSE 2 END;
 SELECT 3;
END;
CREATE RULE r AS ON INSERT TO public.t DO INSTEAD (SELECT 1; SELECT 2);
SET standard_conforming_strings = off;
COMMENT ON FUNCTION public.f() IS 'back\\'slash;';
";
