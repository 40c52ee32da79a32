//! The stream of a `COPY ... TO STDOUT (FORMAT binary)`, cut into messages anywhere, into tuples of fields.
//!
//! A tuple that lies in one message is handed on from there. Of one that spans messages every byte is copied
//! once, into room that was made for the whole value. Knows no types.

use thiserror::Error;

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags, and the length of what follows.
const HEADER_BYTES: usize = 19;
const EXTENSION_BYTES_MAX: usize = 1 << 16;
/// Flags that a reader must know: the upper half. None is in use.
const CRITICAL_FLAGS: u32 = 0xffff_0000;
/// More than any value has.
const FIELD_BYTES_MAX: usize = 1 << 30;
/// Room that is kept from one tuple that spans messages to the next.
const CARRY_BYTES_KEPT: usize = 1 << 20;

/// Why a stream is no binary COPY of this table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum CopyError {
    #[error("the data does not begin as a binary copy does")]
    Header,
    #[error("the copy has flags or an extension that are not known ({flags:#010x})")]
    Unsupported { flags: u32 },
    #[error("row {row} has {found} fields instead of {expected}")]
    Columns { row: u64, found: i16, expected: usize },
    #[error("row {row} has a field of {len} bytes")]
    FieldLength { row: u64, len: i32 },
    #[error("the copy goes on after its end")]
    AfterEnd,
    #[error("the copy ends in the middle, after {rows} rows")]
    Truncated { rows: u64 },
}

/// The fields of a tuple.
#[derive(Clone, Copy)]
pub struct TupleFields<'a> {
    tuple: &'a [u8],
    places: &'a [Option<(usize, usize)>],
}

impl<'a> TupleFields<'a> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Each in order; `None` is NULL.
    pub fn iter(&self) -> impl Iterator<Item = Option<&'a [u8]>> + use<'a> {
        let tuple = self.tuple;
        self.places.iter().map(move |place| place.map(|(start, end)| &tuple[start..end]))
    }
}

/// Takes a stream apart.
pub struct CopyReader {
    part: CopyPart,
    columns: usize,
    rows: u64,
    /// The beginning of a part whose end has not come yet.
    carry: Vec<u8>,
    walk: Walk,
}

/// What the next bytes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum CopyPart {
    Header,
    Tuple,
    End,
}

/// How far the current tuple has been looked at; places are from its beginning.
#[derive(Default)]
struct Walk {
    at: usize,
    places: Vec<Option<(usize, usize)>>,
}

/// How much of a part is there.
enum PartFound {
    /// All: it takes so many bytes.
    Whole(usize),
    /// Not all: nothing more can be said with less than so many bytes.
    Needs(usize),
}

impl CopyReader {
    /// A reader of a stream of tuples with so many fields.
    #[must_use]
    pub fn new(columns: usize) -> Self {
        let walk = Walk { at: 0, places: Vec::with_capacity(columns) };
        Self { part: CopyPart::Header, columns, rows: 0, carry: Vec::new(), walk }
    }

    /// Tuples so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes the next message; tuples that end in it go to `sink`, whose failures end the reading.
    pub fn push<E: From<CopyError>>(
        &mut self,
        message: &[u8],
        sink: &mut impl FnMut(TupleFields<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = message;
        while !self.carry.is_empty() && !rest.is_empty() {
            let mut carry = std::mem::take(&mut self.carry);
            match self.look(&carry)? {
                PartFound::Needs(bytes) => {
                    let missing = bytes.saturating_sub(carry.len());
                    let (taken, after) = rest.split_at(missing.min(rest.len()));
                    carry.reserve_exact(missing);
                    carry.extend_from_slice(taken);
                    rest = after;
                }
                // Never more than the part was put there.
                PartFound::Whole(_) => unreachable!("a whole part is not kept"),
            }
            if let PartFound::Whole(_) = self.look(&carry)? {
                self.complete(&carry, sink)?;
                carry.clear();
                carry.shrink_to(CARRY_BYTES_KEPT);
            }
            self.carry = carry;
        }
        while !rest.is_empty() {
            match self.look(rest)? {
                PartFound::Whole(bytes) => {
                    let (part, after) = rest.split_at(bytes);
                    self.complete(part, sink)?;
                    rest = after;
                }
                PartFound::Needs(bytes) => {
                    self.carry.reserve_exact(bytes);
                    self.carry.extend_from_slice(rest);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Ends the stream; fails if its trailer has not come.
    pub fn finish(&self) -> Result<u64, CopyError> {
        if self.part != CopyPart::End {
            return Err(CopyError::Truncated { rows: self.rows });
        }
        Ok(self.rows)
    }

    /// Looks at the beginning of a part, further than last time.
    fn look(&mut self, bytes: &[u8]) -> Result<PartFound, CopyError> {
        match self.part {
            CopyPart::Header => header(bytes),
            CopyPart::Tuple => self.walk.tuple(bytes, self.columns, self.rows),
            CopyPart::End => Err(CopyError::AfterEnd),
        }
    }

    /// A part is whole.
    fn complete<E: From<CopyError>>(
        &mut self,
        bytes: &[u8],
        sink: &mut impl FnMut(TupleFields<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        match self.part {
            CopyPart::Header => self.part = CopyPart::Tuple,
            CopyPart::Tuple if self.walk.is_trailer() => self.part = CopyPart::End,
            CopyPart::Tuple => {
                sink(TupleFields { tuple: bytes, places: &self.walk.places })?;
                self.rows += 1;
                self.walk.at = 0;
                self.walk.places.clear();
            }
            CopyPart::End => return Err(CopyError::AfterEnd.into()),
        }
        Ok(())
    }
}

fn header(bytes: &[u8]) -> Result<PartFound, CopyError> {
    let known = bytes.len().min(SIGNATURE.len());
    if bytes[..known] != SIGNATURE[..known] {
        return Err(CopyError::Header);
    }
    let Some(numbers) = bytes.get(SIGNATURE.len()..HEADER_BYTES) else {
        return Ok(PartFound::Needs(HEADER_BYTES));
    };
    let number = |at: usize| u32::from_be_bytes([numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3]]);
    let (flags, extension) = (number(0), number(4) as usize);
    if flags & CRITICAL_FLAGS != 0 || extension > EXTENSION_BYTES_MAX {
        return Err(CopyError::Unsupported { flags });
    }
    let whole = HEADER_BYTES + extension;
    Ok(if bytes.len() < whole { PartFound::Needs(whole) } else { PartFound::Whole(whole) })
}

const COUNT_BYTES: usize = 2;
const LENGTH_BYTES: usize = 4;
/// Stands in place of the number of fields.
const TRAILER: i16 = -1;

impl Walk {
    /// The count was that of the trailer, which has no fields.
    fn is_trailer(&self) -> bool {
        self.at == 0
    }

    fn tuple(&mut self, bytes: &[u8], columns: usize, row: u64) -> Result<PartFound, CopyError> {
        if self.at == 0 {
            let Some(count) = bytes.first_chunk().map(|count| i16::from_be_bytes(*count)) else {
                return Ok(PartFound::Needs(COUNT_BYTES));
            };
            if count == TRAILER {
                return Ok(PartFound::Whole(COUNT_BYTES));
            }
            if usize::try_from(count) != Ok(columns) {
                return Err(CopyError::Columns { row, found: count, expected: columns });
            }
            self.at = COUNT_BYTES;
        }
        while self.places.len() < columns {
            let start = self.at + LENGTH_BYTES;
            let Some(len) = bytes.get(self.at..start).and_then(<[u8]>::first_chunk) else {
                return Ok(PartFound::Needs(start));
            };
            let len = i32::from_be_bytes(*len);
            self.at = match usize::try_from(len) {
                Ok(len_bytes) if len_bytes > FIELD_BYTES_MAX => return Err(CopyError::FieldLength { row, len }),
                Ok(len) if bytes.len() < start + len => return Ok(PartFound::Needs(start + len)),
                Ok(len) => {
                    self.places.push(Some((start, start + len)));
                    start + len
                }
                Err(_) if len == -1 => {
                    self.places.push(None);
                    start
                }
                Err(_) => return Err(CopyError::FieldLength { row, len }),
            };
        }
        Ok(PartFound::Whole(self.at))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{CopyError, CopyReader, TupleFields};

    type Rows = Vec<Vec<Option<Vec<u8>>>>;

    fn push(reader: &mut CopyReader, message: &[u8], rows: &mut Rows) -> Result<(), CopyError> {
        reader.push(message, &mut |fields: TupleFields<'_>| {
            rows.push(fields.iter().map(|field| field.map(<[u8]>::to_vec)).collect());
            Ok(())
        })
    }

    fn header() -> Vec<u8> {
        [b"PGCOPY\n\xff\r\n\0".as_slice(), &[0, 0, 0, 1, 0, 0, 0, 3], b"new"].concat()
    }

    fn stream(rows: &[Vec<Option<Vec<u8>>>]) -> Vec<u8> {
        let mut out = header();
        for row in rows {
            out.extend((row.len() as i16).to_be_bytes());
            for field in row {
                out.extend(field.as_ref().map_or(-1, |bytes| bytes.len() as i32).to_be_bytes());
                out.extend(field.iter().flatten());
            }
        }
        out.extend((-1i16).to_be_bytes());
        out
    }

    fn read(columns: usize, messages: &[&[u8]]) -> Result<Rows, CopyError> {
        let (mut reader, mut rows) = (CopyReader::new(columns), Rows::default());
        for message in messages {
            push(&mut reader, message, &mut rows)?;
        }
        assert_eq!(reader.finish()?, rows.len() as u64);
        Ok(rows)
    }

    fn table() -> impl Strategy<Value = (usize, Vec<Vec<Option<Vec<u8>>>>)> {
        (0usize..5).prop_flat_map(|columns| {
            let field = prop::option::of(prop::collection::vec(any::<u8>(), 0..9));
            let row = prop::collection::vec(field, columns);
            (Just(columns), prop::collection::vec(row, 0..6))
        })
    }

    proptest! {
        #![proptest_config(crate::base::property::config())]

        #[test]
        fn any_cut_gives_the_same_rows((columns, rows) in table(), cuts in prop::collection::vec(0.0f64..1.0, 0..8)) {
            let bytes = stream(&rows);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| (cut * bytes.len() as f64) as usize).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let messages: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            prop_assert_eq!(read(columns, &messages).expect("a copy"), rows.clone());
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(read(columns, &single).expect("a copy"), rows);
        }

        #[test]
        fn a_stream_that_ends_early_is_an_error((columns, rows) in table(), cut in 0.0f64..1.0) {
            let bytes = stream(&rows);
            let cut = (cut * bytes.len() as f64) as usize;
            prop_assert!(read(columns, &[&bytes[..cut]]).is_err());
        }

        #[test]
        fn no_bytes_panic(columns in 0usize..4, bytes: Vec<u8>, cut in 0usize..20) {
            let bytes = [header(), bytes].concat();
            let (a, b) = bytes.split_at(cut);
            let _ = read(columns, &[a, b]);
        }
    }

    #[test]
    fn what_is_no_copy_is_refused() {
        let read_one = |columns, bytes: &[u8]| read(columns, &[bytes]).expect_err("no copy");
        assert_eq!(read_one(1, b"PGCOPY\n\xff\r\n\r"), CopyError::Header);
        let flagged = [b"PGCOPY\n\xff\r\n\0".as_slice(), &[0, 1, 0, 0, 0, 0, 0, 0]].concat();
        assert_eq!(read_one(1, &flagged), CopyError::Unsupported { flags: 1 << 16 });
        let two = stream(&[vec![None, None]]);
        assert_eq!(read_one(1, &two), CopyError::Columns { row: 0, found: 2, expected: 1 });
        let negative = [header(), vec![0, 1, 0xff, 0xff, 0xff, 0xfe]].concat();
        assert_eq!(read_one(1, &negative), CopyError::FieldLength { row: 0, len: -2 });
        let more = [stream(&[]), vec![0]].concat();
        assert_eq!(read_one(1, &more), CopyError::AfterEnd);
    }

    #[test]
    fn room_for_a_large_value_is_made_once_and_let_go() {
        let rows = [vec![Some(vec![7; 5 << 20])], vec![Some(vec![8; 3])]];
        let bytes = stream(&rows);
        let (mut reader, mut found) = (CopyReader::new(1), Rows::default());
        let mut rooms = Vec::new();
        for message in bytes.chunks(100_000) {
            push(&mut reader, message, &mut found).expect("a copy");
            rooms.push(reader.carry.capacity());
        }
        assert_eq!(found, rows);
        rooms.dedup();
        assert!(rooms.len() <= 3, "{rooms:?}");
        assert!(rooms.last() <= Some(&super::CARRY_BYTES_KEPT));
    }
}
