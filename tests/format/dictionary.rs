//! Dictionaries and the payloads that need them (`docs/format.md` sections 5 and 6): committed bytes, which every later
//! version must read.

use std::path::{Path, PathBuf};

use sidekeep::format::codec::{Codec, CodecError, Encoder, decode, decode_with, dictionary_number};
use sidekeep::format::dictionary::{Dictionary, dictionary_of};

const NUMBER: u32 = 40_000;

fn leaf(number: usize) -> Vec<u8> {
    let rows = (0..20).map(|row| format!("\x04\x04contact {} of user {number}, label home, value +49 30 ", row * 7));
    rows.collect::<String>().into_bytes()
}

/// A leaf with a span of bytes that are kept out of zstd.
fn split_leaf() -> Vec<u8> {
    let mut content = leaf(3);
    content.splice(100..100, (0..600_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8));
    content
}

fn vector(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/format/vectors").join(name)
}

fn committed(name: &str) -> Vec<u8> {
    std::fs::read(vector(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn dictionary() -> Dictionary {
    Dictionary::read(committed("dictionary.bin")).expect("a dictionary")
}

/// Writes the vectors. They depend on the version of zstd, so a test only reads them.
fn write_vectors() {
    let leaves: Vec<Vec<u8>> = (0..400).map(leaf).collect();
    let trained = zstd::dict::from_samples(&leaves, 1024).expect("trains");
    let content = dictionary_of(NUMBER, &trained, b"contact label home, value +49 30 of user ").expect("has tables");
    std::fs::write(vector("dictionary.bin"), &content).expect("writes");
    let dictionary = Dictionary::read(content).expect("a dictionary");
    let mut encoder = Encoder::new().expect("memory");
    let (codec, payload) = encoder.encode_with(&leaf(3), &[], &dictionary).expect("encodes");
    assert_eq!(codec, Codec::Dictionary);
    std::fs::write(vector("payload-3.bin"), payload).expect("writes");
    let (codec, payload) = encoder.encode_with(&split_leaf(), &[(100, 600)], &dictionary).expect("encodes");
    assert_eq!(codec, Codec::SplitDictionary);
    std::fs::write(vector("payload-4.bin"), payload).expect("writes");
}

#[test]
fn committed_payloads_are_read_with_their_dictionary() {
    if std::env::var_os("SIDEKEEP_BLESS").is_some_and(|what| what == "vectors") {
        write_vectors();
    }
    let dictionary = dictionary();
    assert_eq!(dictionary.number(), NUMBER);
    for (codec, name, content) in
        [(Codec::Dictionary, "payload-3.bin", leaf(3)), (Codec::SplitDictionary, "payload-4.bin", split_leaf())]
    {
        let payload = committed(name);
        assert_eq!(dictionary_number(codec, &payload), Ok(NUMBER));
        assert_eq!(decode_with(codec, &payload, &dictionary), Ok(content));
        assert_eq!(decode(codec, payload), Err(CodecError::Dictionary));
    }
}

#[test]
fn another_dictionary_and_damage_are_refused() {
    let payload = committed("payload-3.bin");
    let mut other = committed("dictionary.bin");
    other[4] ^= 1;
    let other = Dictionary::read(other).expect("another number");
    assert_eq!(decode_with(Codec::Dictionary, &payload, &other), Err(CodecError::Dictionary));
    for at in 0..payload.len() {
        let mut damaged = payload.clone();
        damaged[at] ^= 0x10;
        // It may decode to other content, whose id does not match. It must not panic.
        let _ = decode_with(Codec::Dictionary, &damaged, &dictionary());
        let _ = decode_with(Codec::SplitDictionary, &damaged, &dictionary());
    }
}

#[test]
fn bytes_that_zstd_would_not_accept_are_refused() {
    let content = committed("dictionary.bin");
    for number in [0_u32, 1, 32_767, 1 << 31, u32::MAX] {
        let wrong = [&content[..4], &number.to_le_bytes(), &content[8..]].concat();
        assert!(Dictionary::read(wrong).is_err(), "{number}");
    }
    assert!(Dictionary::read(content[..40].to_vec()).is_err());
    assert!(Dictionary::read(content[1..].to_vec()).is_err());
    assert!(Dictionary::read([content, vec![0; 64 << 10]].concat()).is_err());
}
