//! Signed statements: a DSSE envelope around an in-toto statement v1, so that third-party tools can verify them
//! (`docs/format.md` section 10).
//!
//! This module only encodes and decodes. Callers decide who may sign what and verify the signature over
//! [`Envelope::pae`]. Until then, decoded content is not trusted.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::base::id::{Digest, KeyId};
use crate::base::json;
use crate::base::limit::STATEMENT_BYTES_MAX;
use crate::format::feature::Unlisted;

const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// Bytes that are not a statement, or one that this version cannot judge.
#[derive(Debug, Error)]
pub enum StatementError {
    /// Longer than a statement may be.
    #[error("is a statement of {bytes} bytes, more than the {STATEMENT_BYTES_MAX} allowed")]
    TooLarge { bytes: usize },
    /// The JSON is malformed or does not have the expected members.
    #[error("has an unreadable {what}")]
    Json { what: &'static str, source: serde_json::Error },
    /// A value that the format does not allow.
    #[error("has an invalid {what}")]
    Invalid { what: &'static str },
    /// Written by a later version.
    #[error("has {what}, which this version does not support")]
    Unsupported { what: String },
}

/// An object that a statement is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StatementSubject {
    /// Its name in the store.
    pub name: String,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
}

/// The content of a statement. Ledger entries, roster entries and session announcements are statements.
pub trait Predicate: Serialize + Sized {
    /// The in-toto predicate type without its version.
    const FAMILY: &'static str;
    /// What is being read, for messages.
    const WHAT: &'static str;

    /// The objects that the statement adds or, if it adds none, its predecessor, because tools refuse an empty list.
    /// Subjects exist for third-party tools. Sidekeep itself uses only the predicate.
    fn subjects(&self) -> Vec<StatementSubject>;

    /// Decodes a payload whose types have been checked.
    /// Fails if a member is missing or has a value that the format does not allow. Content of a later version is an
    /// error only if the type has no variant for it.
    fn decode(payload: &Payload) -> Result<Self, StatementError>;
}

/// The version in every predicate type, and the `format` in every predicate.
pub(super) const FORMAT: u32 = 1;

/// The signed bytes of a statement while they are being decoded.
#[derive(Debug)]
pub struct Payload {
    predicate: Value,
    what: &'static str,
    /// The version in its type.
    version: u32,
}

impl Payload {
    /// Reads the predicate. Members that `T` does not have are ignored.
    /// Fails if the payload does not have the members of `T`, in the form in which they are stored.
    pub(super) fn predicate<T: DeserializeOwned + Serialize>(&self) -> Result<T, StatementError> {
        from_value(&self.predicate, self.what)
    }

    /// Fails if the predicate is of a later version.
    pub(super) fn check_format(&self) -> Result<(), StatementError> {
        #[derive(Serialize, Deserialize)]
        struct PredicateFormat {
            format: u32,
        }
        let format = self.predicate::<PredicateFormat>()?.format;
        self.other_format(format).map_or(Ok(()), |other| Err(StatementError::Unsupported { what: other.what }))
    }

    /// What a predicate of this `format` is if it is not of the format that this version knows.
    pub(super) fn other_format(&self, format: u32) -> Option<Unlisted> {
        let mut others = vec![format, self.version];
        others.dedup();
        others.retain(|number| *number != FORMAT);
        (!others.is_empty()).then(|| Unlisted::of_formats(&others))
    }
}

/// A statement with its signature, not yet verified.
#[derive(Debug)]
pub struct Envelope {
    payload: Vec<u8>,
    key: KeyId,
    signature: [u8; 64],
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredEnvelope {
    #[serde(with = "super::base64")]
    payload: Vec<u8>,
    payload_type: String,
    signatures: Vec<StoredSignature>,
}

#[derive(Serialize, Deserialize)]
struct StoredSignature {
    keyid: KeyId,
    #[serde(with = "super::base64")]
    sig: [u8; 64],
}

impl StoredEnvelope {
    fn new(payload: Vec<u8>, signature: StoredSignature) -> Self {
        Self { payload, payload_type: PAYLOAD_TYPE.to_owned(), signatures: vec![signature] }
    }
}

impl Envelope {
    /// Decodes stored bytes. Does not verify the signature.
    /// Fails if there are more than [`STATEMENT_BYTES_MAX`] bytes, if they are not an envelope in the one form in which
    /// we write it, if the payload has another type, or unless there is exactly one signature.
    pub fn decode(bytes: &[u8]) -> Result<Self, StatementError> {
        check_len(bytes.len())?;
        let stored: StoredEnvelope = from_json(bytes, "envelope")?;
        // Nobody signs the envelope. In another form, the store could give an entry another digest.
        if to_json(&stored, "envelope")? != bytes {
            return Err(StatementError::Invalid { what: "form of the envelope" });
        }
        if stored.payload_type != PAYLOAD_TYPE {
            return Err(StatementError::Invalid { what: "payload type" });
        }
        let signature = only_signature(stored.signatures)?;
        Ok(Self { payload: stored.payload, key: signature.keyid, signature: signature.sig })
    }

    /// The id of the key that claims to have signed. This is only a hint: the signature decides.
    #[must_use]
    pub fn key(&self) -> KeyId {
        self.key
    }

    /// The signature over [`Envelope::pae`].
    #[must_use]
    pub fn signature(&self) -> &[u8; 64] {
        &self.signature
    }

    /// The bytes that are signed.
    #[must_use]
    pub fn pae(&self) -> Vec<u8> {
        pae(PAYLOAD_TYPE, &self.payload)
    }

    /// Decodes the predicate.
    /// Fails if the payload is not the JSON of an in-toto statement v1 or repeats a member, if the predicate is of
    /// another family, or with the error of [`Predicate::decode`].
    pub fn predicate<P: Predicate>(&self) -> Result<P, StatementError> {
        P::decode(&self.checked_payload::<P>()?)
    }

    /// Reads members that the predicate has in every version.
    /// Fails like [`Envelope::predicate`], or if one of the members cannot be read.
    pub(super) fn head<P: Predicate, H: DeserializeOwned + Serialize>(&self) -> Result<H, StatementError> {
        self.checked_payload::<P>()?.predicate()
    }

    fn checked_payload<P: Predicate>(&self) -> Result<Payload, StatementError> {
        check_members(&self.payload, P::WHAT)?;
        let mut statement: Value = from_json(&self.payload, P::WHAT)?;
        let types: StatementTypes = from_value(&statement, P::WHAT)?;
        let version = types.version::<P>()?;
        let predicate = statement.get_mut("predicate").map(Value::take).unwrap_or_default();
        Ok(Payload { predicate, what: P::WHAT, version })
    }
}

fn only_signature(signatures: Vec<StoredSignature>) -> Result<StoredSignature, StatementError> {
    let only: Result<[StoredSignature; 1], _> = signatures.try_into();
    only.map(|[signature]| signature).map_err(|_| StatementError::Invalid { what: "number of signatures" })
}

#[derive(Serialize, Deserialize)]
struct StatementTypes {
    _type: String,
    #[serde(rename = "predicateType")]
    predicate: String,
}

impl StatementTypes {
    /// The version in the predicate type.
    fn version<P: Predicate>(&self) -> Result<u32, StatementError> {
        if self._type != STATEMENT_TYPE {
            return Err(StatementError::Invalid { what: "statement type" });
        }
        predicate_version::<P>(&self.predicate)
    }
}

/// The version in a predicate type. It must be decimal without leading zeros.
fn predicate_version<P: Predicate>(predicate_type: &str) -> Result<u32, StatementError> {
    const INVALID: StatementError = StatementError::Invalid { what: "predicate type" };
    let versioned = predicate_type.strip_prefix(P::FAMILY).ok_or(INVALID)?;
    let text = versioned.strip_prefix(':').ok_or(INVALID)?;
    let version: u32 = text.parse().map_err(|_| INVALID)?;
    if version.to_string() == text { Ok(version) } else { Err(INVALID) }
}

/// Encodes `predicate` as a signed statement. `sign` is given the bytes to sign with `key`, the PAE of DSSE.
/// Fails if the statement has no subject, has content that cannot be stored, such as an unsupported entry, or is longer
/// than [`STATEMENT_BYTES_MAX`].
pub fn encode<P: Predicate>(
    predicate: &P,
    key: KeyId,
    sign: impl FnOnce(&[u8]) -> [u8; 64],
) -> Result<Vec<u8>, StatementError> {
    let payload = payload(predicate)?;
    let sig = sign(&pae(PAYLOAD_TYPE, &payload));
    let stored = StoredEnvelope::new(payload, StoredSignature { keyid: key, sig });
    let bytes = to_json(&stored, "envelope")?;
    check_len(bytes.len())?;
    Ok(bytes)
}

#[derive(Serialize)]
struct StoredStatement<'a, P> {
    _type: &'static str,
    subject: Vec<StoredSubject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: &'a P,
}

#[derive(Serialize)]
struct StoredSubject {
    name: String,
    digest: StoredDigest,
}

#[derive(Serialize)]
struct StoredDigest {
    sha256: Digest,
}

impl From<StatementSubject> for StoredSubject {
    fn from(subject: StatementSubject) -> Self {
        Self { name: subject.name, digest: StoredDigest { sha256: subject.sha256 } }
    }
}

fn payload<P: Predicate>(predicate: &P) -> Result<Vec<u8>, StatementError> {
    let subject = stored_subjects(predicate)?;
    let predicate_type = format!("{}:{FORMAT}", P::FAMILY);
    to_json(&StoredStatement { _type: STATEMENT_TYPE, subject, predicate_type, predicate }, P::WHAT)
}

/// The subjects of the statement, of which there must be at least one.
fn stored_subjects<P: Predicate>(predicate: &P) -> Result<Vec<StoredSubject>, StatementError> {
    let subjects = predicate.subjects();
    if subjects.is_empty() {
        return Err(StatementError::Invalid { what: "empty list of subjects" });
    }
    Ok(subjects.into_iter().map(StoredSubject::from).collect())
}

/// Pre-authentication encoding (PAE) of the DSSE protocol, version 1.
fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

fn check_len(bytes: usize) -> Result<(), StatementError> {
    if bytes > STATEMENT_BYTES_MAX { Err(StatementError::TooLarge { bytes }) } else { Ok(()) }
}

fn check_members(bytes: &[u8], what: &'static str) -> Result<(), StatementError> {
    json::check(bytes).map_err(|source| StatementError::Json { what, source })
}

fn from_json<T: DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T, StatementError> {
    serde_json::from_slice(bytes).map_err(|source| StatementError::Json { what, source })
}

/// Reads a value in the form in which it is stored.
/// Fails if it does not have the members of `T`.
pub(super) fn from_value<T: DeserializeOwned + Serialize>(
    stored: &Value,
    what: &'static str,
) -> Result<T, StatementError> {
    json::decode(stored).map_err(|source| StatementError::Json { what, source })
}

fn to_json<T: Serialize>(value: &T, what: &'static str) -> Result<Vec<u8>, StatementError> {
    serde_json::to_vec(value).map_err(|source| StatementError::Json { what, source })
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;

    use super::{Envelope, StatementError, check_len, pae};
    use crate::base::limit::STATEMENT_BYTES_MAX;

    /// The example in the specification of the DSSE protocol, version 1.0.
    #[test]
    fn pae_matches_the_published_vector() {
        let expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world";
        assert_eq!(pae("http://example.com/HelloWorld", b"hello world"), expected);
    }

    fn envelope(payload: &str, payload_type: &str, signatures: usize) -> String {
        let signature = format!(r#"{{"keyid":"{}","sig":"{}"}}"#, "0".repeat(32), BASE64.encode(&[0; 64]));
        let signatures = vec![signature; signatures].join(",");
        let payload = BASE64.encode(payload.as_bytes());
        format!(r#"{{"payload":"{payload}","payloadType":"{payload_type}","signatures":[{signatures}]}}"#)
    }

    #[test]
    fn an_envelope_has_one_signature_and_the_known_payload_type() {
        let ours = super::PAYLOAD_TYPE;
        assert!(Envelope::decode(envelope("{}", ours, 1).as_bytes()).is_ok());
        for (payload_type, signatures) in [(ours, 0), (ours, 2), ("application/json", 1)] {
            let refused = Envelope::decode(envelope("{}", payload_type, signatures).as_bytes());
            assert!(matches!(refused, Err(StatementError::Invalid { .. })), "{payload_type} {signatures}");
        }
        assert!(check_len(STATEMENT_BYTES_MAX).is_ok() && check_len(STATEMENT_BYTES_MAX + 1).is_err());
    }
}
