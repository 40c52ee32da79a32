//! The primitives of `docs/format.md` section 1: fixed-width little-endian integers, shortest-form LEB128 and
//! length-prefixed bytes. Readers never panic, and never allocate more than the size of their input.

use thiserror::Error;

/// Bytes that do not follow the format. `what` names the field that was being read.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum WireError {
    /// The input ends inside `what`.
    #[error("ends inside {what}")]
    Truncated { what: &'static str },
    /// `what` has a value that the format does not allow.
    #[error("has an invalid {what}")]
    Invalid { what: &'static str },
    /// More bytes follow the end of the object.
    #[error("has {bytes} bytes too many")]
    Trailing { bytes: usize },
    /// The bytes are not a Sidekeep object at all.
    #[error("is not a Sidekeep object")]
    Foreign,
    /// A version, kind or type that this version does not know.
    #[error("has {what} {value}, which this version does not support")]
    Unsupported { what: &'static str, value: u64 },
}

impl WireError {
    /// The error for an unknown byte `what`.
    #[must_use]
    pub fn unsupported(what: &'static str, byte: u8) -> Self {
        Self::Unsupported { what, value: u64::from(byte) }
    }
}

/// Fails, because of `what`, unless this holds.
pub fn ensure(holds: bool, what: &'static str) -> Result<(), WireError> {
    if holds { Ok(()) } else { Err(WireError::Invalid { what }) }
}

/// Appends primitives to a buffer.
pub trait Put {
    /// Unsigned LEB128, shortest form.
    fn put_uv(&mut self, value: u64);
    /// Zig-zag, then LEB128.
    fn put_sv(&mut self, value: i64);
    /// Length, then bytes.
    fn put_bytes(&mut self, bytes: &[u8]);
    /// Count, then items.
    fn put_list<T>(&mut self, items: &[T], put: impl Fn(&T, &mut Self));
}

impl Put for Vec<u8> {
    fn put_uv(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }

    fn put_sv(&mut self, value: i64) {
        self.put_uv(((value << 1) ^ (value >> 63)) as u64);
    }

    fn put_bytes(&mut self, bytes: &[u8]) {
        self.put_uv(bytes.len() as u64);
        self.extend_from_slice(bytes);
    }

    fn put_list<T>(&mut self, items: &[T], put: impl Fn(&T, &mut Self)) {
        self.put_uv(items.len() as u64);
        for item in items {
            put(item, self);
        }
    }
}

/// Capacity that [`Take::items`] reserves at most before it has read any item.
const ITEMS_AT_ONCE: usize = 1024;

/// Reads primitives from the front of a slice.
#[derive(Debug, Clone)]
pub struct Take<'a> {
    rest: &'a [u8],
}

impl<'a> Take<'a> {
    /// Reads from the first byte of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Runs `read`, which must consume all of `bytes`, and returns its result.
    /// Fails with the error of `read`, or if it leaves bytes.
    pub fn whole<T>(bytes: &'a [u8], read: impl FnOnce(&mut Self) -> Result<T, WireError>) -> Result<T, WireError> {
        let mut take = Self::new(bytes);
        let value = read(&mut take)?;
        take.finish()?;
        Ok(value)
    }

    /// Number of bytes not read yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Exactly `len` bytes.
    /// Fails if fewer remain.
    pub fn raw(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], WireError> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(WireError::Truncated { what })?;
        self.rest = rest;
        Ok(head)
    }

    /// Exactly `N` bytes.
    /// Fails if fewer remain.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], WireError> {
        let bytes = self.raw(N, what)?;
        bytes.try_into().map_err(|_| WireError::Truncated { what })
    }

    /// `count` consecutive arrays of `N` bytes.
    /// Fails if fewer bytes remain.
    pub fn arrays<const N: usize>(&mut self, count: usize, what: &'static str) -> Result<&'a [[u8; N]], WireError> {
        let bytes = self.raw(count.saturating_mul(N), what)?;
        Ok(bytes.as_chunks::<N>().0)
    }

    /// One byte.
    /// Fails if none remains.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, WireError> {
        Ok(self.array::<1>(what)?[0])
    }

    /// Little-endian u32.
    /// Fails if fewer than 4 bytes remain.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    /// Little-endian u64.
    /// Fails if fewer than 8 bytes remain.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// Unsigned LEB128.
    /// Fails if the bytes end inside it, if its form is longer than needed, or if it exceeds 64 bits.
    pub fn uv(&mut self, what: &'static str) -> Result<u64, WireError> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.u8(what)?;
            let bits = u64::from(byte & 0x7f);
            let overflows = shift == 63 && bits > 1;
            let is_longer_than_needed = byte == 0 && shift > 0;
            if overflows || is_longer_than_needed {
                return Err(WireError::Invalid { what });
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(WireError::Invalid { what })
    }

    /// Zig-zag LEB128.
    /// Fails like [`Self::uv`].
    pub fn sv(&mut self, what: &'static str) -> Result<i64, WireError> {
        let raw = self.uv(what)?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    /// A `uv` that counts things of at least `unit_bytes` bytes each, all of which must follow. So a hostile count
    /// never makes a reader allocate more than the input could contain.
    /// Fails like [`Self::uv`], or if too few bytes follow.
    pub fn count(&mut self, unit_bytes: usize, what: &'static str) -> Result<usize, WireError> {
        let count = self.len(what)?;
        let most = self.rest.len() / unit_bytes.max(1);
        if count <= most { Ok(count) } else { Err(WireError::Truncated { what }) }
    }

    /// A `uv` that fits `usize`.
    fn len(&mut self, what: &'static str) -> Result<usize, WireError> {
        let len = self.uv(what)?;
        usize::try_from(len).map_err(|_| WireError::Truncated { what })
    }

    /// A count as in [`Self::count`], then that many items.
    /// Fails with the error of [`Self::count`] or `read`.
    pub fn list<T>(
        &mut self,
        unit_bytes: usize,
        what: &'static str,
        read: impl FnMut(&mut Self) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        let count = self.count(unit_bytes, what)?;
        self.items(count, read)
    }

    /// A version byte.
    /// Fails if it is not `known`, or if no byte remains.
    pub fn version(&mut self, known: u8, what: &'static str) -> Result<(), WireError> {
        match self.u8(what)? {
            version if version == known => Ok(()),
            version => Err(WireError::unsupported(what, version)),
        }
    }

    /// `count` consecutive items. Memory grows with the bytes read, not with `count`.
    /// Fails with the error of `read`.
    pub fn items<T>(
        &mut self,
        count: usize,
        mut read: impl FnMut(&mut Self) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        let mut items = Vec::with_capacity(count.min(ITEMS_AT_ONCE));
        for _ in 0..count {
            items.push(read(self)?);
        }
        Ok(items)
    }

    /// A `uv` that fits `T`.
    /// Fails like [`Self::uv`], or if the number does not fit.
    pub fn uv_as<T: TryFrom<u64>>(&mut self, what: &'static str) -> Result<T, WireError> {
        T::try_from(self.uv(what)?).map_err(|_| WireError::Invalid { what })
    }

    /// Length, then bytes.
    /// Fails if the length is not a valid `uv`, or if fewer bytes remain.
    pub fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], WireError> {
        let len = self.len(what)?;
        self.raw(len, what)
    }

    /// All remaining bytes.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Ends reading.
    /// Fails unless everything has been read.
    pub fn finish(self) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(WireError::Trailing { bytes: self.rest.len() }) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Put, Take, WireError};

    /// Number of bytes that [`Put::put_uv`] writes for `value`.
    fn uv_len(value: u64) -> usize {
        (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
    }

    proptest! {
        #![proptest_config(crate::base::property::config())]

        #[test]
        fn integers_round_trip(value: u64, signed: i64) {
            let mut bytes = Vec::new();
            bytes.put_uv(value);
            prop_assert_eq!(bytes.len(), uv_len(value));
            bytes.put_sv(signed);
            let mut take = Take::new(&bytes);
            prop_assert_eq!(take.uv("n"), Ok(value));
            prop_assert_eq!(take.sv("n"), Ok(signed));
            prop_assert_eq!(take.finish(), Ok(()));
        }

        #[test]
        fn reading_arbitrary_bytes_does_not_panic(bytes: Vec<u8>) {
            let mut take = Take::new(&bytes);
            while take.uv("n").is_ok() {}
            let _ = Take::new(&bytes).bytes("b");
        }
    }

    #[test]
    fn longer_integer_forms_are_refused() {
        let invalid = Err(WireError::Invalid { what: "n" });
        assert_eq!(Take::new(&[0x80, 0x00]).uv("n"), invalid);
        assert_eq!(Take::new(&[0xff; 10]).uv("n"), invalid);
        assert_eq!(Take::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]).uv("n"), Ok(u64::MAX));
    }
}
