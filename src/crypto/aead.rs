//! AES-256-GCM (NIST SP 800-38D) in place, tag of 16 bytes at the end. Knows keys, nonces and
//! bytes; which nonce is used when is the business of the callers.

use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};

use crate::crypto::secret::Secret;

/// Bytes that sealing adds.
pub(super) const TAG_BYTES: usize = 16;
/// Bytes of a nonce.
pub(super) const NONCE_BYTES: usize = 12;

/// Bytes that were not sealed with this key, nonce and associated data.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unauthentic;

/// A key with its schedule.
pub(super) struct Cipher(Aes256Gcm);

impl Cipher {
    pub(super) fn new(key: &Secret) -> Self {
        Self(Aes256Gcm::new(key.expose().into()))
    }

    /// Seals `buffer` in place and appends the tag.
    pub(super) fn seal(&self, nonce: &[u8; NONCE_BYTES], aad: &[u8], buffer: &mut Vec<u8>) {
        let tag = self
            .0
            .encrypt_inout_detached(nonce.into(), aad, buffer.as_mut_slice().into())
            .expect("GCM takes 64 GiB, more than any buffer here");
        buffer.extend_from_slice(&tag);
    }

    /// Opens `buffer` in place and cuts the tag off. After a failure its content means nothing.
    pub(super) fn open(&self, nonce: &[u8; NONCE_BYTES], aad: &[u8], buffer: &mut Vec<u8>) -> Result<(), Unauthentic> {
        let len = buffer.len().checked_sub(TAG_BYTES).ok_or(Unauthentic)?;
        let (content, tag) = buffer.split_at_mut(len);
        let tag: &[u8; TAG_BYTES] = (&*tag).try_into().map_err(|_| Unauthentic)?;
        self.0.decrypt_inout_detached(nonce.into(), aad, content.into(), tag.into()).map_err(|_| Unauthentic)?;
        buffer.truncate(len);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::{Cipher, Unauthentic};
    use crate::crypto::secret::Secret;

    fn hex(text: &str) -> Vec<u8> {
        HEXLOWER.decode(text.as_bytes()).expect("hex")
    }

    /// Test case 16 of "The Galois/Counter Mode of Operation" (McGrew, Viega), as used by NIST.
    #[test]
    fn published_vector() {
        let key = Secret::from_slice(&hex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"));
        let cipher = Cipher::new(&key.expect("32 bytes"));
        let nonce: [u8; 12] = hex("cafebabefacedbaddecaf888").try_into().expect("12 bytes");
        let aad = hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
        let plain =
            hex("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525\
             b16aedf5aa0de657ba637b39");
        let mut buffer = plain.clone();
        cipher.seal(&nonce, &aad, &mut buffer);
        let sealed =
            hex("522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838\
             c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b");
        assert_eq!(buffer, sealed);
        cipher.open(&nonce, &aad, &mut buffer).expect("opens");
        assert_eq!(buffer, plain);
        assert_eq!(cipher.open(&nonce, b"other", &mut sealed.clone()), Err(Unauthentic));
        assert_eq!(cipher.open(&nonce, &aad, &mut vec![0; 15]), Err(Unauthentic));
    }
}
