//! The bodies of the fuzz targets. `fuzz_targets/` hands them to libFuzzer, and `tests/format/fuzz.rs` runs them over the
//! corpus and over mutations of it, so they compile and hold on a stable compiler.
//!
//! A target takes any bytes, returns whether they were read, and panics if a rule is broken. Every target checks that
//! nothing panics; most also check that what was read is written back and read again as the same.

use data_encoding::BASE64;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sidekeep::crypto::keyfile::KeyFile;
use sidekeep::engine::contract::{RowSink, SinkError};
use sidekeep::engine::postgres::connect::session_settings::SessionEncoding;
use sidekeep::engine::postgres::schema::statement_splitter::split;
use sidekeep::engine::postgres::value::column_type::WireFormat;
use sidekeep::engine::postgres::value::copy_decoder::{CopyColumn, RowReader};
use sidekeep::engine::postgres::value::copy_error::RowsError;
use sidekeep::engine::postgres::value::value_kind::ValueKind;
use sidekeep::format::announcement::Announcement;
use sidekeep::format::bundle::EntryBundle;
use sidekeep::format::catalog::Catalog;
use sidekeep::format::cell::{Cell, OwnedCell};
use sidekeep::format::codec::{Codec, decode};
use sidekeep::format::copy::CopyMark;
use sidekeep::format::descriptor::Descriptor;
use sidekeep::format::dsse::{Envelope, Predicate, encode};
use sidekeep::format::entry::Entry;
use sidekeep::format::fragment::{FragmentDirectory, SealedFragment, read_block, write_block};
use sidekeep::format::grant::Grant;
use sidekeep::format::key::{PlacementKey, component_len};
use sidekeep::format::leaf::LeafRows;
use sidekeep::format::manifest::{
    SealedManifest, Secrets, Summary, read_root_ranges, read_roots, write_root_ranges, write_roots,
};
use sidekeep::format::node::Skeleton;
use sidekeep::format::pack::{PackHeader, SealedTable, read_table, write_table};
use sidekeep::format::ranges::Ranges;
use sidekeep::format::report::{BodyContent, ReportBody, SignedReport};
use sidekeep::format::roster::RosterEntry;
use sidekeep::format::stream_lists::{LeafStreams, PieceList};
use sidekeep::format::wire::Take;

/// Takes any bytes; whether they were read.
pub type Target = fn(&[u8]) -> bool;

/// Each has a file of its name in `fuzz_targets/` and a folder of its name in `corpus/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("body", body),
    ("bundle", bundle),
    ("catalog", catalog),
    ("copy", copy),
    ("descriptor", descriptor),
    ("envelope", envelope),
    ("fragment", fragment),
    ("frame", frame),
    ("grant", grant),
    ("json", json),
    ("key", key),
    ("key_file", key_file),
    ("leaf", leaf),
    ("ledger", ledger),
    ("manifest", manifest),
    ("mark", mark),
    ("node", node),
    ("pack", pack),
    ("report", report),
    ("roster", roster),
    ("session", session),
    ("sql", sql),
];

/// A whole pack from its beginning and its end, or the content of its table.
pub fn pack(bytes: &[u8]) -> bool {
    let mut take = Take::new(bytes);
    let header = PackHeader::read(&mut take);
    let front = SealedTable::read_front(&mut take);
    let rear = SealedTable::read_rear(bytes);
    if let Ok(header) = &header {
        let mut written = Vec::new();
        header.write(&mut written);
        assert_eq!(PackHeader::read(&mut Take::new(&written)).as_ref(), Ok(header));
        let _ = header.sessions();
        let _ = header.table_id();
    }
    let table = read_table(bytes);
    if let Ok(entries) = &table {
        assert_eq!(read_table(&write_table(entries)).as_ref(), Ok(entries));
    }
    header.is_ok() && front.is_ok() && rear.is_ok() || table.is_ok()
}

/// An index fragment, sealed, or its directory.
pub fn fragment(bytes: &[u8]) -> bool {
    let sealed = SealedFragment::read(bytes);
    if let Ok((read, signed, blocks)) = &sealed {
        let mut written = read.to_bytes(|message| {
            assert_eq!(message, signed.message);
            *signed.signature
        });
        assert_eq!(SealedFragment::head_len(bytes), Ok(written.len()));
        written.extend_from_slice(blocks);
        assert_eq!(written, bytes);
    }
    let content = FragmentDirectory::read(bytes);
    if let Ok(read) = &content {
        assert_eq!(FragmentDirectory::read(&read.content()).as_ref(), Ok(read));
        for block in &read.blocks {
            assert_eq!(read.block_of(&block.first).map(|(found, _)| found), Some(block));
            if let Ok(entries) = read_block(block, bytes, read.packs.len()) {
                assert_eq!(write_block(&entries), bytes);
            }
        }
    }
    sealed.is_ok() || content.is_ok()
}

/// A manifest, or the content of a manifest's sections of roots.
pub fn manifest(bytes: &[u8]) -> bool {
    let sealed = SealedManifest::read(bytes);
    if let Ok(read) = &sealed {
        assert_eq!(SealedManifest::read(&read.to_bytes()).as_ref(), Ok(read));
    }
    let roots = read_roots(bytes);
    if let Ok(read) = &roots {
        assert_eq!(read_roots(&write_roots(read)).as_ref(), Ok(read));
        read_root_ranges(&write_root_ranges(read)).expect("what is written is read");
    }
    sealed.is_ok() || roots.is_ok() || read_root_ranges(bytes).is_ok()
}

/// The content of a leaf: its rows to the end.
pub fn leaf(bytes: &[u8]) -> bool {
    let Ok(mut rows) = LeafRows::new(bytes) else { return false };
    let mut cells = Vec::new();
    loop {
        match rows.next_row(&mut cells) {
            Ok(Some(_)) => cells.iter().for_each(check_cell),
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

fn check_cell(cell: &Cell<'_>) {
    let owned = OwnedCell::new(cell);
    let again = OwnedCell::from_bytes(owned.as_bytes()).expect("what is written is read");
    assert_eq!(owned.as_bytes(), again.as_bytes());
    let _ = cell.stream_candidate();
}

/// The content of a node: its skeleton, its ranges, or a list of pieces.
pub fn node(bytes: &[u8]) -> bool {
    let skeleton = Skeleton::read(bytes);
    if let Ok(read) = &skeleton {
        let content = read.content();
        assert_eq!(Skeleton::read(&content).as_ref(), Ok(read));
        assert_eq!(Skeleton::hashed_of(&content), Ok(read.hashed().as_slice()));
    }
    let ranges = Ranges::read(bytes);
    if let Ok(read) = &ranges {
        assert_eq!(Ranges::read(&read.content()).as_ref(), Ok(read));
    }
    let pieces = PieceList::read(bytes);
    if let Ok(read) = &pieces {
        assert_eq!(PieceList::read(&read.content()).as_ref(), Ok(read));
    }
    let streams = LeafStreams::read(bytes);
    if let Ok(read) = &streams {
        assert_eq!(LeafStreams::read(&read.content()).as_ref(), Ok(read));
    }
    skeleton.is_ok() || ranges.is_ok() || pieces.is_ok() || streams.is_ok()
}

/// A stored grant.
pub fn grant(bytes: &[u8]) -> bool {
    let read = Grant::decode(bytes);
    if let Ok(grant) = &read {
        assert_eq!(Grant::decode(&grant.encode()).as_ref(), Ok(grant));
    }
    read.is_ok()
}

/// A bundle of entries.
pub fn bundle(bytes: &[u8]) -> bool {
    let read = EntryBundle::decode(bytes);
    if let Ok(bundle) = &read {
        let written = bundle.encode().expect("it was read");
        assert_eq!(EntryBundle::decode(&written).as_ref(), Ok(bundle));
    }
    read.is_ok()
}

/// The body of a report, or its opened content.
pub fn body(bytes: &[u8]) -> bool {
    let read = ReportBody::decode(bytes);
    if let Ok(body) = &read {
        let written = body.encode().expect("it was read");
        assert_eq!(ReportBody::decode(&written).as_ref(), Ok(body));
    }
    let content = BodyContent::decode(bytes);
    if let Ok(content) = &content {
        assert_eq!(&BodyContent::decode(&content.encode()).expect("reads"), content);
    }
    read.is_ok() || content.is_ok()
}

/// The JSON sections of a manifest.
pub fn catalog(bytes: &[u8]) -> bool {
    let catalog = serde_json::from_slice::<Catalog>(bytes);
    if let Ok(read) = &catalog {
        assert_eq!(&written_and_read(read), read);
        let _ = read.clone().renumbered(7);
    }
    catalog.is_ok()
        || serde_json::from_slice::<Summary>(bytes).is_ok()
        || serde_json::from_slice::<Secrets>(bytes).is_ok()
}

fn written_and_read<T: serde::Serialize + DeserializeOwned>(value: &T) -> T {
    let text = serde_json::to_vec(value).expect("what was read is written");
    serde_json::from_slice(&text).expect("what is written is read")
}

/// The repository's descriptor.
pub fn descriptor(bytes: &[u8]) -> bool {
    let read = Descriptor::decode(bytes);
    if let Ok(descriptor) = &read {
        assert_eq!(Descriptor::decode(&descriptor.encode()).as_ref().ok(), Some(descriptor));
    }
    read.is_ok()
}

/// A payload of a frame: the byte of its codec, then the bytes to decompress.
pub fn frame(bytes: &[u8]) -> bool {
    let Some((&codec, payload)) = bytes.split_first() else { return false };
    Codec::from_byte(codec).is_ok_and(|codec| decode(codec, payload.to_vec()).is_ok())
}

/// A placement key: the length of its owner, then its bytes.
pub fn key(bytes: &[u8]) -> bool {
    let Some((&owner_len, placement)) = bytes.split_first() else { return false };
    let Ok(key) = PlacementKey::split(placement, owner_len.into()) else { return false };
    let mut written = Vec::new();
    key.write(&mut written);
    assert_eq!(written, placement);
    // The owner begins with its kind.
    is_of_components(key.owner.get(1..).unwrap_or_default()) && is_of_components(key.key)
}

fn is_of_components(mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let Some(len) = component_len(bytes) else { return false };
        assert!(len > 0);
        bytes = &bytes[len..];
    }
    true
}

/// The stored bytes of a statement: an envelope and what it states.
pub fn envelope(bytes: &[u8]) -> bool {
    let Ok(envelope) = Envelope::decode(bytes) else { return false };
    let _ = envelope.pae();
    is_stated::<Entry>(&envelope) || is_stated::<RosterEntry>(&envelope) || is_stated::<Announcement>(&envelope)
}

/// The payload of a report.
pub fn report(bytes: &[u8]) -> bool {
    is_payload::<SignedReport>(bytes)
}

/// The payload of a mark of a copy.
pub fn mark(bytes: &[u8]) -> bool {
    is_payload::<CopyMark>(bytes)
}

/// The payload of a ledger entry.
pub fn ledger(bytes: &[u8]) -> bool {
    is_payload::<Entry>(bytes)
}

/// The payload of a roster entry.
pub fn roster(bytes: &[u8]) -> bool {
    is_payload::<RosterEntry>(bytes)
}

/// The payload of a session announcement.
pub fn session(bytes: &[u8]) -> bool {
    is_payload::<Announcement>(bytes)
}

fn is_payload<P: Predicate + PartialEq + std::fmt::Debug>(payload: &[u8]) -> bool {
    is_stated::<P>(&envelope_with(payload))
}

/// An envelope of this payload.
fn envelope_with(payload: &[u8]) -> Envelope {
    Envelope::decode(envelope_text(payload).as_bytes()).expect("an envelope")
}

fn envelope_text(payload: &[u8]) -> String {
    let payload = BASE64.encode(payload);
    let key = "0".repeat(32);
    let sig = BASE64.encode(&[0; 64]);
    format!(
        r#"{{"payload":"{payload}","payloadType":"application/vnd.in-toto+json","signatures":[{{"keyid":"{key}","sig":"{sig}"}}]}}"#
    )
}

/// Whether the envelope states a `P`. It is written again and read as the same, unless only a later version can write it.
fn is_stated<P: Predicate + PartialEq + std::fmt::Debug>(envelope: &Envelope) -> bool {
    let Ok(stated) = envelope.predicate::<P>() else { return false };
    if let Ok(bytes) = encode(&stated, envelope.key(), |_| *envelope.signature()) {
        let again = Envelope::decode(&bytes).expect("what is written is read");
        assert_eq!(again.predicate::<P>().expect("what is written is read"), stated);
    }
    true
}

/// A ledger entry. Readers ignore its first member, whatever it is.
const STATEMENT: &str = r#"{"later":0,"_type":"https://in-toto.io/Statement/v1","subject":[],"predicateType":"urn:sidekeep:ledger:1","predicate":{"format":1,"repository":"00000000000000000000000000000000","source":"00000000000000000000000000000000","number":1,"previous":"0000000000000000000000000000000000000000000000000000000000000000","roster":{"number":1,"sha256":"0000000000000000000000000000000000000000000000000000000000000000"},"written":"2026-11-22T03:00:00.000000Z","kind":"revoke","key":"00000000000000000000000000000000","reason":"lost"}}"#;

/// The JSON profile of signed statements, with an oracle: JSON names no member twice if, and only if, it has as many
/// members after parsing as it has colons outside of strings. Numbers and depth are checked on the parsed value.
pub fn json(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let whole = STATEMENT.replacen("0", text, 1);
    let is_sound = |value: Value| members(&value) == colons(&whole) && has_integers(&value) && depth(&value) <= 64;
    let is_sound = serde_json::from_str::<Value>(&whole).is_ok_and(is_sound);
    let is_accepted = envelope_with(whole.as_bytes()).predicate::<Entry>().is_ok();
    assert_eq!(is_accepted, is_sound);
    is_accepted
}

fn members(value: &Value) -> usize {
    match value {
        Value::Object(object) => object.len() + object.values().map(members).sum::<usize>(),
        Value::Array(items) => items.iter().map(members).sum(),
        _ => 0,
    }
}

fn inside(value: &Value) -> Vec<&Value> {
    match value {
        Value::Object(object) => object.values().collect(),
        Value::Array(items) => items.iter().collect(),
        _ => Vec::new(),
    }
}

/// Whether all numbers are integers of 64 bits.
fn has_integers(value: &Value) -> bool {
    !value.is_f64() && inside(value).into_iter().all(has_integers)
}

fn depth(value: &Value) -> usize {
    let is_nested = value.is_object() || value.is_array();
    inside(value).into_iter().map(depth).max().unwrap_or_default() + usize::from(is_nested)
}

/// Colons of valid JSON that are not in a string.
fn colons(json: &str) -> usize {
    let mut count = 0;
    let mut is_string = false;
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => is_string = !is_string,
            b'\\' => drop(bytes.next()),
            b':' if !is_string => count += 1,
            _ => {}
        }
    }
    count
}

/// The text of a key file. One without a passphrase is opened too; the others would take too long.
pub fn key_file(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Ok(file) = KeyFile::parse(text) else { return false };
    if let Ok(identity) = file.open(None) {
        assert_eq!(identity.key_id(), file.header().key);
    }
    true
}

/// The text of `pg_dump`. Its pieces are not empty, and joined they are the text.
pub fn sql(bytes: &[u8]) -> bool {
    let Ok(pieces) = split(bytes) else { return false };
    assert!(pieces.iter().all(|piece| !piece.text.is_empty()));
    assert_eq!(pieces.iter().flat_map(|piece| piece.text).copied().collect::<Vec<u8>>(), bytes);
    true
}

/// Set in the first byte of an input of `copy`: values are the text of output functions.
pub const COPY_TEXT: u8 = 0x40;
/// Set in the first byte of an input of `copy`: the database has the encoding `SQL_ASCII`.
pub const COPY_SQL_ASCII: u8 = 0x80;

/// A binary COPY. The first byte says how many columns there are and how values cross: one column of the kind with this
/// number in [`ValueKind::ALL`], or one of each. The second says where the stream is cut in two; the cut changes nothing.
pub fn copy(bytes: &[u8]) -> bool {
    let [choice, cut, stream @ ..] = bytes else { return false };
    let whole = read_copy(*choice, &[stream]);
    let cut = usize::from(*cut) % (stream.len() + 1);
    let parts = read_copy(*choice, &[&stream[..cut], &stream[cut..]]);
    assert_eq!(whole.rows, parts.rows);
    assert_eq!(whole.error, parts.error);
    whole.error.is_none()
}

#[derive(Default)]
struct CopyResult {
    rows: Vec<Vec<OwnedCell>>,
    error: Option<String>,
}

impl RowSink for CopyResult {
    fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), SinkError> {
        cells.iter().for_each(check_cell);
        self.rows.push(cells.iter().map(OwnedCell::new).collect());
        Ok(())
    }
}

fn read_copy(choice: u8, messages: &[&[u8]]) -> CopyResult {
    let format = if choice & COPY_TEXT == 0 { WireFormat::Binary } else { WireFormat::Text };
    let encoding = if choice & COPY_SQL_ASCII == 0 { SessionEncoding::Utf8 } else { SessionEncoding::SqlAscii };
    let kinds = ValueKind::ALL.get(usize::from(choice & 0x3f)).map_or(ValueKind::ALL.as_slice(), std::slice::from_ref);
    let columns = kinds.iter().map(|&kind| CopyColumn { name: kind.to_string(), kind, format }).collect();
    let mut result = CopyResult::default();
    let read = read_messages(RowReader::new("t", columns, encoding), messages, &mut result);
    result.error = read.err().map(|error| format!("{error}: {error:?}"));
    result
}

fn read_messages(mut reader: RowReader, messages: &[&[u8]], sink: &mut CopyResult) -> Result<(), RowsError> {
    for message in messages {
        reader.push(message, sink)?;
    }
    let rows = reader.finish()?;
    assert_eq!(rows, sink.rows.len() as u64);
    Ok(())
}
