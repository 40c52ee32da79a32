//! Ed25519 signatures (RFC 8032) of hosts and people. Verification is strict: keys of small order and alternative
//! encodings of a signature are refused, so a statement has exactly one signature per key.

use ed25519_dalek::Signer;
use thiserror::Error;

use crate::crypto::secret::Secret;

/// A signature or a public key that is not valid.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum SignError {
    /// The bytes are not a public key, or the key is weak.
    #[error("is not a usable Ed25519 public key")]
    PublicKey,
    /// The message was not signed by this key.
    #[error("signature does not verify")]
    Signature,
}

/// The secret half of a key.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// Derives the key from a seed.
    #[must_use]
    pub fn from_seed(seed: &Secret) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed.expose()))
    }

    /// Signs `message`.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    /// Returns the public half.
    #[must_use]
    pub fn verifying(&self) -> VerifyingKey {
        VerifyingKey(self.0.verifying_key())
    }

    /// The seed that [`Self::from_seed`] takes.
    pub(super) fn seed(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

/// The public half of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VerifyingKey(ed25519_dalek::VerifyingKey);

impl VerifyingKey {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// Reads a key from its bytes.
    /// Fails if they are not the encoding of a point of the curve (RFC 8032), or if the point has small order.
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Result<Self, SignError> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).map_err(|_| SignError::PublicKey)?;
        let is_canonical = key.to_edwards().compress().as_bytes() == bytes;
        if key.is_weak() || !is_canonical { Err(SignError::PublicKey) } else { Ok(Self(key)) }
    }

    /// Returns the bytes as stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        self.0.as_bytes()
    }

    /// Checks a signature of this key strictly (RFC 8032).
    /// Fails unless `signature` is this key's signature over `message`.
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), SignError> {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        self.0.verify_strict(message, &signature).map_err(|_| SignError::Signature)
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::{SignError, SigningKey, VerifyingKey};
    use crate::crypto::secret::Secret;

    /// RFC 8032 section 7.1, test 2.
    #[test]
    fn signatures_match_the_published_vector() {
        let hex = |text: &str| HEXLOWER.decode(text.as_bytes()).expect("hex");
        let seed = hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
        let key = SigningKey::from_seed(&Secret::from_slice(&seed).expect("32 bytes"));
        let public = hex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
        assert_eq!(key.verifying().as_bytes().as_slice(), public);
        let signature = key.sign(&[0x72]);
        assert_eq!(
            HEXLOWER.encode(&signature),
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        );
        assert_eq!(key.verifying().verify(&[0x72], &signature), Ok(()));
        assert_eq!(key.verifying().verify(&[0x73], &signature), Err(SignError::Signature));
    }

    #[test]
    fn weak_keys_are_refused() {
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(VerifyingKey::from_bytes(&identity), Err(SignError::PublicKey));
        assert_eq!(VerifyingKey::from_bytes(&[0; 32]), Err(SignError::PublicKey));
    }
}
