//! Key files (`docs/format.md` section 3): readable, copyable, printable text with the two seeds of an [`Identity`],
//! either plain or sealed under a passphrase.
//!
//! Nothing in a file is trusted before it is checked. The cost of the key derivation is bounded before it is paid, the
//! seal authenticates the header, and the key id must follow from the seeds. The command line decides where files are
//! stored and where passphrases come from.

use std::fmt::Write as _;

use argon2::{Algorithm, Argon2, Params, Version};
use data_encoding::BASE64;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::base::env::{Env, random};
use crate::base::id::{Digest, KeyId, RepositoryId};
use crate::base::role::Role;
use crate::crypto::role::Identity;
use crate::crypto::seal::{Cipher, NONCE_BYTES};
use crate::crypto::secret::{Secret, SecretBytes};

const MAGIC: &str = "sidekeep key ";
const VERSION: &str = "1";
/// Longest key file that is read, in bytes.
const FILE_BYTES_MAX: usize = 16 << 10;
/// Longest label, in bytes.
const LABEL_BYTES_MAX: usize = 256;
const SALT_BYTES: usize = 16;
const SEEDS_BYTES: usize = 2 * Secret::LEN;

/// A key file that cannot be written, read or opened.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum KeyFileError {
    /// The file does not start like a key file.
    #[error("it is not a Sidekeep key file")]
    Foreign,
    /// Written by a later version.
    #[error("it has key file version {version}, which this version does not support")]
    Unsupported { version: String },
    /// A line is missing, repeated, out of order or malformed.
    #[error("it is damaged: {what}")]
    Damaged { what: &'static str },
    /// The file demands more work than any genuine file does, or less than protects the key.
    #[error("its key derivation cost is outside the allowed range: {cost}")]
    Cost { cost: KdfCost },
    /// The key derivation needs more memory than this machine has.
    #[error("its key derivation needs more memory than this machine has: {cost}")]
    Memory { cost: KdfCost },
    /// The file is protected and no passphrase was given.
    #[error("it is protected by a passphrase, and none was given")]
    NeedsPassphrase,
    /// The seal does not verify. The two causes cannot be distinguished.
    #[error("wrong passphrase, or the file was altered")]
    Passphrase,
    /// The seeds belong to another key.
    #[error("its secret does not match its key id")]
    Mismatch,
    /// The label does not fit on one line of the file.
    #[error("a label must be one line of at most 256 bytes without control characters")]
    Label,
    /// An empty passphrase protects nothing.
    #[error("a passphrase must not be empty")]
    EmptyPassphrase,
}

/// The header of a key file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyFileHeader {
    /// What the key is for. It grants nothing: a repository refuses a key whose role in the roster differs.
    pub role: Role,
    /// The repository that the key was made for.
    pub repository: RepositoryId,
    /// The id of the key.
    pub key: KeyId,
    /// A name for people.
    pub label: String,
    /// Digest of roster entry 1, which the holder of the key pins.
    pub fingerprint: Digest,
}

/// The cost of one guess at a passphrase (Argon2id, RFC 9106).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KdfCost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl std::fmt::Display for KdfCost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "m={} t={} p={}", self.memory_kib, self.passes, self.lanes)
    }
}

impl KdfCost {
    /// The lowest cost that is accepted. For tests.
    pub const LEAST: Self = Self { memory_kib: 8 << 10, passes: 1, lanes: 1 };

    /// Keys that open rows use 256 MiB, because people use them on machines that have it. Other keys live on small
    /// hosts and in containers, where 256 MiB would be too much, so they use the 64 MiB of RFC 9106's second
    /// recommended option. One lane, because this code computes lanes one after another, while an attacker would
    /// compute them in parallel.
    #[must_use]
    pub const fn for_role(role: Role) -> Self {
        let memory_kib = if role.is_admin() { 256 << 10 } else { 64 << 10 };
        Self { memory_kib, passes: 3, lanes: 1 }
    }

    fn checked(self) -> Result<Self, KeyFileError> {
        let memory = 8 << 10..=4 << 20;
        let within =
            memory.contains(&self.memory_kib) && (1..=64).contains(&self.passes) && (1..=64).contains(&self.lanes);
        if within { Ok(self) } else { Err(KeyFileError::Cost { cost: self }) }
    }

    fn stretch(self, passphrase: &[u8], salt: &[u8; SALT_BYTES]) -> Result<Secret, KeyFileError> {
        let failed = |_| KeyFileError::Memory { cost: self };
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(Secret::LEN)).map_err(failed)?;
        let mut key = Zeroizing::new([0; Secret::LEN]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase, salt, key.as_mut_slice())
            .map_err(failed)?;
        Ok(Secret::from_slice(key.as_slice()).expect("32 bytes are a secret"))
    }
}

/// How a new key file is protected.
#[derive(Clone, Copy)]
pub enum Protection<'a> {
    /// Only by the permissions of the file.
    None,
    /// By a passphrase.
    Passphrase { passphrase: &'a [u8], cost: KdfCost },
}

enum KeyFileBody {
    Plain { seeds: SecretBytes },
    Sealed(SealedBody),
}

struct SealedBody {
    cost: KdfCost,
    salt: [u8; SALT_BYTES],
    sealed: Vec<u8>,
    aad: String,
}

/// A key file that has been read but not opened.
pub struct KeyFile {
    header: KeyFileHeader,
    body: KeyFileBody,
}

impl KeyFile {
    /// Writes `identity` as the text of a key file.
    /// Fails if the label is not valid (`KeyFileError::Label`), if the passphrase is empty, if its cost is outside the
    /// allowed range, or if the key derivation (Argon2id, RFC 9106) needs more memory than there is.
    pub fn write(
        env: &dyn Env,
        identity: &Identity,
        label: &str,
        fingerprint: Digest,
        protection: Protection<'_>,
    ) -> Result<Zeroizing<String>, KeyFileError> {
        let header = KeyFileHeader {
            role: identity.role(),
            repository: identity.repository(),
            key: identity.key_id(),
            label: check_label(label)?.to_owned(),
            fingerprint,
        };
        // Reserve everything at once: a buffer that grows leaves copies behind.
        let mut text = Zeroizing::new(String::with_capacity(1024));
        header.write(&mut text);
        let seeds = seeds_of(identity);
        match protection {
            Protection::None => append_base64(&mut text, "secret: ", &seeds),
            Protection::Passphrase { passphrase: [], .. } => return Err(KeyFileError::EmptyPassphrase),
            Protection::Passphrase { passphrase, cost } => {
                let salt: [u8; SALT_BYTES] = random(env);
                let key = cost.checked()?.stretch(passphrase, &salt)?;
                append_base64(&mut text, &format!("kdf: argon2id {cost} salt="), &salt);
                append_sealed(env, &mut text, &key, &seeds);
            }
        }
        Ok(text)
    }

    /// Reads the text of a key file without opening it.
    /// Fails if the text is longer than 16 KiB or does not begin like a key file (`KeyFileError::Foreign`), if it is of
    /// a later version, if a line is missing, malformed or left over, if the label is not valid, or if the cost of the
    /// key derivation is outside the allowed range.
    pub fn parse(text: &str) -> Result<Self, KeyFileError> {
        if text.len() > FILE_BYTES_MAX {
            return Err(KeyFileError::Foreign);
        }
        let mut lines = Lines { rest: text.lines(), read: String::new() };
        lines.check_version()?;
        let header = KeyFileHeader::read(&mut lines)?;
        let body = KeyFileBody::read(&mut lines)?;
        if lines.rest.any(|line| !line.trim().is_empty()) {
            return Err(KeyFileError::Damaged { what: "there are lines after its end" });
        }
        Ok(Self { header, body })
    }

    /// The header of the file. Do not trust it before the file has been opened.
    #[must_use]
    pub fn header(&self) -> &KeyFileHeader {
        &self.header
    }

    /// What is needed to open the file.
    #[must_use]
    pub fn protection(&self) -> KeyFileProtection {
        match self.body {
            KeyFileBody::Plain { .. } => KeyFileProtection::None,
            KeyFileBody::Sealed(_) => KeyFileProtection::Passphrase,
        }
    }

    /// Opens the identity. A passphrase that is not needed is ignored.
    /// Fails if a passphrase is needed and none was given, if it is wrong or the file was altered
    /// (`KeyFileError::Passphrase`), if the seeds are damaged or do not match the key id, or if the key derivation
    /// needs more memory than there is.
    pub fn open(&self, passphrase: Option<&[u8]>) -> Result<Identity, KeyFileError> {
        let identity = match &self.body {
            KeyFileBody::Plain { seeds } => self.identity(seeds)?,
            KeyFileBody::Sealed(body) => {
                let passphrase = passphrase.ok_or(KeyFileError::NeedsPassphrase)?;
                self.identity(&body.open(passphrase)?)?
            }
        };
        if identity.key_id() == self.header.key { Ok(identity) } else { Err(KeyFileError::Mismatch) }
    }

    fn identity(&self, seeds: &[u8]) -> Result<Identity, KeyFileError> {
        const DAMAGED: KeyFileError = KeyFileError::Damaged { what: "secret" };
        let (signing, sealing) = seeds.split_at_checked(Secret::LEN).ok_or(DAMAGED)?;
        let signing = Secret::from_slice(signing).ok_or(DAMAGED)?;
        let sealing = Secret::from_slice(sealing).ok_or(DAMAGED)?;
        Ok(Identity::from_seeds(self.header.role, self.header.repository, &signing, &sealing))
    }
}

impl KeyFileHeader {
    fn write(&self, text: &mut String) {
        let Self { role, repository, key, label, fingerprint } = self;
        // No line ends in a space, because the line that is authenticated has its trailing spaces removed.
        let space = if label.is_empty() { "" } else { " " };
        write!(
            text,
            "{MAGIC}{VERSION}\nrole: {role}\nrepository: {repository}\nkey: {key}\nlabel:{space}{label}\n\
             fingerprint: {fingerprint}\n",
        )
        .expect("a string takes what is written");
    }

    fn read(lines: &mut Lines<'_>) -> Result<Self, KeyFileError> {
        Ok(Self {
            role: lines.parsed("role")?,
            repository: lines.parsed("repository")?,
            key: lines.parsed("key")?,
            label: check_label(lines.value("label")?)?.to_owned(),
            fingerprint: lines.parsed("fingerprint")?,
        })
    }
}

impl KeyFileBody {
    fn read(lines: &mut Lines<'_>) -> Result<Self, KeyFileError> {
        let line = lines.next("secret")?;
        if let Some(seeds) = line.strip_prefix("secret: ") {
            return Ok(Self::Plain { seeds: Zeroizing::new(base64(seeds, "secret")?) });
        }
        match line.strip_prefix("kdf: ") {
            Some(kdf) => SealedBody::read(lines, kdf).map(Self::Sealed),
            None => Err(KeyFileError::Damaged { what: "secret" }),
        }
    }
}

impl SealedBody {
    fn read(lines: &mut Lines<'_>, kdf: &str) -> Result<Self, KeyFileError> {
        let (cost, salt) = parse_kdf(kdf)?;
        let aad = lines.read.clone();
        let cost = cost.checked()?;
        let sealed = base64(lines.value("sealed")?, "sealed")?;
        Ok(Self { cost, salt, sealed, aad })
    }

    /// Opens the seeds.
    fn open(&self, passphrase: &[u8]) -> Result<SecretBytes, KeyFileError> {
        let (nonce, sealed) = self.sealed.split_first_chunk().ok_or(KeyFileError::Damaged { what: "sealed" })?;
        let mut seeds = Zeroizing::new(sealed.to_vec());
        let key = self.cost.stretch(passphrase, &self.salt)?;
        let opened = Cipher::new(&key).open(nonce, self.aad.as_bytes(), &mut seeds);
        opened.map_err(|_| KeyFileError::Passphrase)?;
        Ok(seeds)
    }
}

fn seeds_of(identity: &Identity) -> SecretBytes {
    let mut seeds = Zeroizing::new(Vec::with_capacity(SEEDS_BYTES));
    let (signing, sealing) = identity.seeds();
    seeds.extend_from_slice(signing);
    seeds.extend_from_slice(sealing.expose());
    seeds
}

/// Appends the sealed seeds. All of `text` is authenticated.
fn append_sealed(env: &dyn Env, text: &mut String, key: &Secret, seeds: &[u8]) {
    let nonce: [u8; NONCE_BYTES] = random(env);
    let mut sealed = seeds.to_vec();
    Cipher::new(key).seal(&nonce, text.as_bytes(), &mut sealed);
    append_base64(text, "sealed: ", &[nonce.as_slice(), &sealed].concat());
}

/// What is needed to open a key file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyFileProtection {
    None,
    Passphrase,
}

/// The lines of a file, and the lines read so far in the form that is authenticated: trailing spaces removed and ended
/// by one line feed, so that a file survives being mailed.
struct Lines<'a> {
    rest: std::str::Lines<'a>,
    read: String,
}

impl<'a> Lines<'a> {
    fn next(&mut self, what: &'static str) -> Result<&'a str, KeyFileError> {
        let line = self.rest.next().ok_or(KeyFileError::Damaged { what })?.trim_end();
        // Only the seal needs the lines read, and a plain file's secret must not be copied to a second buffer.
        if !line.starts_with("secret: ") {
            self.read.push_str(line);
            self.read.push('\n');
        }
        Ok(line)
    }

    fn check_version(&mut self) -> Result<(), KeyFileError> {
        let line = self.next("first line").map_err(|_| KeyFileError::Foreign)?;
        match line.strip_prefix(MAGIC) {
            Some(VERSION) => Ok(()),
            Some(version) => Err(KeyFileError::Unsupported { version: version.chars().take(20).collect() }),
            None => Err(KeyFileError::Foreign),
        }
    }

    fn value(&mut self, name: &'static str) -> Result<&'a str, KeyFileError> {
        let line = self.next(name)?;
        let value = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(':'));
        value.map(str::trim_start).ok_or(KeyFileError::Damaged { what: name })
    }

    fn parsed<T: std::str::FromStr>(&mut self, name: &'static str) -> Result<T, KeyFileError> {
        self.value(name)?.parse().map_err(|_| KeyFileError::Damaged { what: name })
    }
}

fn check_label(label: &str) -> Result<&str, KeyFileError> {
    let fits = label.len() <= LABEL_BYTES_MAX && label.trim() == label && !label.chars().any(char::is_control);
    if fits { Ok(label) } else { Err(KeyFileError::Label) }
}

fn append_base64(text: &mut String, name: &str, bytes: &[u8]) {
    text.push_str(name);
    BASE64.encode_append(bytes, text);
    text.push('\n');
}

fn base64(text: &str, what: &'static str) -> Result<Vec<u8>, KeyFileError> {
    BASE64.decode(text.as_bytes()).map_err(|_| KeyFileError::Damaged { what })
}

fn parse_kdf(text: &str) -> Result<(KdfCost, [u8; SALT_BYTES]), KeyFileError> {
    let mut words = text.split(' ');
    if words.next() != Some("argon2id") {
        return Err(DAMAGED_KDF);
    }
    let cost = KdfCost {
        memory_kib: kdf_number(words.next(), "m=")?,
        passes: kdf_number(words.next(), "t=")?,
        lanes: kdf_number(words.next(), "p=")?,
    };
    let salt = base64(kdf_value(words.next(), "salt=")?, "kdf")?.try_into().map_err(|_| DAMAGED_KDF)?;
    if words.next().is_some() { Err(DAMAGED_KDF) } else { Ok((cost, salt)) }
}

const DAMAGED_KDF: KeyFileError = KeyFileError::Damaged { what: "kdf" };

fn kdf_value<'a>(word: Option<&'a str>, name: &str) -> Result<&'a str, KeyFileError> {
    word.and_then(|word| word.strip_prefix(name)).ok_or(DAMAGED_KDF)
}

fn kdf_number(word: Option<&str>, name: &str) -> Result<u32, KeyFileError> {
    kdf_value(word, name)?.parse().map_err(|_| DAMAGED_KDF)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{KdfCost, KeyFile, KeyFileError, KeyFileProtection, Protection};
    use crate::base::env::Seeded;
    use crate::base::id::{Digest, RepositoryId};
    use crate::base::role::Role;
    use crate::crypto::role::Identity;

    fn identity() -> Identity {
        Identity::generate(&Seeded::new(1), Role::Admin, RepositoryId::new([1; 16]))
    }

    fn written(protection: Protection<'_>) -> String {
        let text = KeyFile::write(&Seeded::new(2), &identity(), "Ana, safe", Digest::of(b"roster"), protection);
        text.expect("writes").to_string()
    }

    fn sealed() -> String {
        written(Protection::Passphrase { passphrase: b"correct horse", cost: KdfCost::LEAST })
    }

    fn open(text: &str, passphrase: Option<&[u8]>) -> Result<Identity, KeyFileError> {
        KeyFile::parse(text)?.open(passphrase)
    }

    #[test]
    fn both_forms_round_trip() {
        for (text, protection) in
            [(written(Protection::None), KeyFileProtection::None), (sealed(), KeyFileProtection::Passphrase)]
        {
            let file = KeyFile::parse(&text).expect("parses");
            assert_eq!(file.protection(), protection);
            assert_eq!(file.header().label, "Ana, safe");
            assert_eq!(file.header().fingerprint, Digest::of(b"roster"));
            let opened = file.open(Some(b"correct horse")).expect("opens");
            assert!(opened.public() == identity().public() && opened.role() == Role::Admin);
            let mailed = text.replace('\n', " \r\n") + "\r\n";
            assert!(open(&mailed, Some(b"correct horse")).is_ok());
        }
    }

    #[test]
    fn a_sealed_file_may_have_no_label() {
        let protection = Protection::Passphrase { passphrase: b"correct horse", cost: KdfCost::LEAST };
        let text = KeyFile::write(&Seeded::new(2), &identity(), "", Digest::of(b"roster"), protection).expect("writes");
        assert!(open(&text, Some(b"correct horse")).is_ok());
    }

    #[test]
    fn a_missing_wrong_or_empty_passphrase_is_refused() {
        assert_eq!(open(&sealed(), None).err(), Some(KeyFileError::NeedsPassphrase));
        assert_eq!(open(&sealed(), Some(b"correct horses")).err(), Some(KeyFileError::Passphrase));
        let empty = Protection::Passphrase { passphrase: b"", cost: KdfCost::LEAST };
        let refused = KeyFile::write(&Seeded::new(2), &identity(), "", Digest::of(b""), empty);
        assert_eq!(refused.err(), Some(KeyFileError::EmptyPassphrase));
    }

    #[test]
    fn every_line_of_a_sealed_file_is_authenticated() {
        let text = sealed();
        let other = Identity::generate(&Seeded::new(9), Role::Admin, RepositoryId::new([1; 16]));
        let swaps = [
            ("role: admin", "role: operator".to_owned()),
            ("repository: 01", "repository: 02".to_owned()),
            (&format!("key: {}", identity().key_id()), format!("key: {}", other.key_id())),
            ("label: Ana", "label: Bob".to_owned()),
            (&format!("{}", Digest::of(b"roster")), Digest::of(b"rooster").to_string()),
            ("t=1", "t=2".to_owned()),
        ];
        for (old, new) in swaps {
            let altered = text.replacen(old, &new, 1);
            assert_ne!(altered, text);
            assert_eq!(open(&altered, Some(b"correct horse")).err(), Some(KeyFileError::Passphrase), "{new}");
        }
    }

    #[test]
    fn a_plain_file_whose_key_id_does_not_match_is_refused() {
        let text = written(Protection::None);
        let other = Identity::generate(&Seeded::new(9), Role::Admin, RepositoryId::new([1; 16])).key_id();
        let altered = text.replace(&identity().key_id().to_string(), &other.to_string());
        assert_eq!(open(&altered, None).err(), Some(KeyFileError::Mismatch));
    }

    #[test]
    fn foreign_unsupported_and_damaged_files_are_distinguished() {
        let parse = |text: &str| KeyFile::parse(text).err();
        assert_eq!(parse(""), Some(KeyFileError::Foreign));
        assert_eq!(parse("-----BEGIN"), Some(KeyFileError::Foreign));
        assert_eq!(parse("sidekeep key 2\n"), Some(KeyFileError::Unsupported { version: "2".to_owned() }));
        let text = written(Protection::None);
        for (at, what) in ["role", "repository", "key", "label", "fingerprint", "secret"].into_iter().enumerate() {
            let mut lines: Vec<_> = text.lines().collect();
            lines.remove(at + 1);
            assert!(matches!(parse(&lines.join("\n")), Some(KeyFileError::Damaged { .. })), "{what}");
        }
        assert!(matches!(parse(&(text.clone() + "more")), Some(KeyFileError::Damaged { .. })));
        assert_eq!(parse(&text.replace("Ana", "A\u{7}na")), Some(KeyFileError::Label));
    }

    #[test]
    fn costs_out_of_range_are_refused_before_derivation() {
        let text = sealed();
        for absurd in ["m=4194305 t=1 p=1", "m=8191 t=1 p=1", "m=8192 t=65 p=1", "m=8192 t=1 p=0", "m=8192 t=1 p=65"] {
            let asked = text.replace("m=8192 t=1 p=1", absurd);
            assert!(matches!(KeyFile::parse(&asked).err(), Some(KeyFileError::Cost { .. })), "{absurd}");
        }
        for garbled in ["m=99999999999 t=1 p=1", "m=-1 t=1 p=1", "t=1 m=8192 p=1"] {
            let asked = text.replace("m=8192 t=1 p=1", garbled);
            assert_eq!(KeyFile::parse(&asked).err(), Some(KeyFileError::Damaged { what: "kdf" }));
        }
        for role in Role::ALL {
            assert!(KdfCost::for_role(role).checked().is_ok());
        }
    }

    proptest! {
        #![proptest_config(crate::base::property::config())]

        #[test]
        fn parsing_arbitrary_text_does_not_panic(text in "sidekeep key 1\nrole: admin\n(.|\n){0,200}") {
            let _ = KeyFile::parse(&text);
        }

        #[test]
        fn an_altered_secret_does_not_open(at in 0usize..88, by in 1u8..64) {
            let text = written(Protection::None);
            let start = text.find("secret: ").expect("a plain file") + 8;
            let mut bytes = text.into_bytes();
            bytes[start + at] = bytes[start + at].wrapping_add(by) & 0x7f;
            let altered = String::from_utf8(bytes).expect("ASCII");
            prop_assert!(open(&altered, None).is_err());
        }
    }
}
