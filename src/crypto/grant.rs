//! The JSON body of a grant: the epoch's keys that one role may hold, sealed to its key (`docs/format.md` section 3).

use std::collections::BTreeMap;

use data_encoding::BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::base::id::SourceId;
use crate::base::json;
use crate::crypto::secret::{Secret, SecretBytes};

/// A secret, base64 in JSON.
pub(super) struct Base64Secret(pub(super) Secret);

impl Serialize for Base64Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = Zeroizing::new([0; 44]);
        BASE64.encode_mut(self.0.expose(), text.as_mut_slice());
        serializer.serialize_str(std::str::from_utf8(text.as_slice()).expect("base64 is ASCII"))
    }
}

impl<'de> Deserialize<'de> for Base64Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Borrowed, so that no copy of the text is left in memory. This works because the body has no escapes.
        let text = <&str>::deserialize(deserializer)?;
        let bytes = BASE64.decode(text.as_bytes()).map(Zeroizing::new);
        let secret = bytes.ok().and_then(|bytes| Secret::from_slice(&bytes));
        secret.map(Self).ok_or_else(|| serde::de::Error::custom("is not 32 bytes in base64"))
    }
}

/// The two keys of one source.
#[derive(Serialize, Deserialize)]
pub(super) struct GrantedSource {
    pub(super) structure_key: Base64Secret,
    pub(super) id_key: Base64Secret,
}

/// The keys granted to a role. An absent key is one that the role must not have.
#[derive(Serialize, Deserialize)]
pub(super) struct GrantBody {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) structure_root: Option<Base64Secret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) restore_secret: Option<Base64Secret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) id_root: Option<Base64Secret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) source_keys: Option<BTreeMap<SourceId, GrantedSource>>,
}

impl GrantBody {
    /// The JSON of the body, in a buffer that is wiped on drop.
    pub(super) fn encode(&self) -> SecretBytes {
        // Reserve everything at once: a buffer that grows leaves copies behind.
        let sources = self.source_keys.as_ref().map_or(0, BTreeMap::len);
        let mut out = Zeroizing::new(Vec::with_capacity(512 + 192 * sources));
        serde_json::to_writer(&mut *out, self).expect("a grant is plain JSON");
        out
    }

    /// `None` if the bytes are not a grant. The reason is dropped because a parser's message may quote a secret.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        json::check(bytes).ok()?;
        serde_json::from_slice(bytes).ok()
    }
}
