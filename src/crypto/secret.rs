//! 32 secret bytes and the derivation of one secret from another (`docs/format.md` section 3).
//!
//! A [`Secret`] is wiped on drop, is never printed, and is copied only explicitly. The type that holds one defines its
//! purpose.

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::base::env::Env;

/// 32 bytes that must stay secret.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; Self::LEN]);

impl Secret {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// Generates a new secret.
    #[must_use]
    pub fn random(env: &dyn Env) -> Self {
        let mut secret = Self([0; Self::LEN]);
        env.fill(&mut secret.0);
        secret
    }

    /// Copies exactly these bytes. `None` if there are too few or too many.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let mut secret = Self([0; Self::LEN]);
        if bytes.len() != Self::LEN {
            return None;
        }
        secret.0.copy_from_slice(bytes);
        Some(secret)
    }

    /// Exposes the bytes to a primitive that needs them.
    #[must_use]
    pub fn expose(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// A second copy, for two owners with independent lifetimes.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self(self.0)
    }

    /// HKDF-SHA-256 (RFC 5869) of this secret. `info` is the concatenation of its parts.
    #[must_use]
    pub fn derive(&self, salt: &[u8], info: &[&[u8]]) -> Self {
        let mut out = Self([0; Self::LEN]);
        Hkdf::<Sha256>::new(Some(salt), &self.0)
            .expand_multi_info(info, &mut out.0)
            .expect("HKDF-SHA-256 gives up to 8160 bytes");
        out
    }
}

/// Secret text or bytes of any length, wiped on drop.
pub type SecretBytes = Zeroizing<Vec<u8>>;

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::Secret;

    /// The vectors of RFC 5869 appendix A use input keys of other lengths. The expected values here were computed with
    /// two other implementations (Python's `hmac` and OpenSSL).
    #[test]
    fn derivation_is_hkdf_sha256() {
        let secret = Secret::from_slice(&[0x0b; 32]).expect("32 bytes");
        let hex = |salt: &[u8], info: &[&[u8]]| HEXLOWER.encode(secret.derive(salt, info).expose());
        assert_eq!(hex(b"salt", &[b"in", b"fo"]), "20818451610896c07e77bc9ea5f06a4db922b2c726adda1af6c0a779dfe0446a");
        assert_eq!(hex(b"", &[b"info"]), "cf9941092b80e1dbe641be211be39d3db199c0a121e807dbfa8ed794fea695e3");
    }

    #[test]
    fn wrong_lengths_are_refused() {
        assert!(Secret::from_slice(&[0; 31]).is_none());
        assert!(Secret::from_slice(&[0; 33]).is_none());
    }
}
