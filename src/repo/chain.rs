//! Reads a numbered chain, the roster or a ledger, from its first object to its head.
//!
//! A listing may be out of date, and anyone may put an object at the next number. Neither may hide an entry of the
//! chain. The caller that folds the objects judges their content.

use std::ops::Range;

use bytes::Bytes;

use crate::base::id::Digest;
use crate::base::limit::STATEMENT_BYTES_MAX;
use crate::format::name::Name;
use crate::repo::error::RepoError;
use crate::repo::objects::{ObjectRead, Objects};
use crate::store::StoreError;

/// The object at a number.
pub(super) enum Link {
    Whole(Bytes),
    /// Longer than a statement may be.
    TooLong(Digest),
}

impl Link {
    /// The digest that the successor names. An object that is too long is read only to that limit, so that a planted
    /// object of terabytes cannot block readers.
    pub(super) fn digest(&self) -> Digest {
        match self {
            Self::Whole(bytes) => Digest::of(bytes),
            Self::TooLong(digest) => *digest,
        }
    }
}

/// Most objects that are accepted beyond those listed. If there are more, the store answers for objects that it does
/// not have.
const UNLISTED_MAX: u64 = 1000;

/// Objects that are read together when one of many is looked for.
const READS_AT_ONCE: usize = 8;

/// Passes each object of the chain to `each`, in order. Returns the numbers beyond the first gap.
/// Fails with the error of `each`, if the store fails, if a listed object is missing, or if the store answers for more
/// than [`UNLISTED_MAX`] objects that it does not list.
pub(super) fn read(
    objects: &Objects,
    prefix: &str,
    name: impl Fn(u64) -> Name,
    mut each: impl FnMut(u64, Link) -> Result<(), RepoError>,
) -> Result<Vec<u64>, RepoError> {
    let listed = list(objects, prefix)?;
    let end = objects.chain_ends().of(&name(1));
    let chained = chained_len(&listed).min(end);
    read_listed(objects, chained, &name, &mut each)?;
    let head = read_unlisted(objects, chained..end, &name, &mut each)?;
    Ok(listed.into_iter().filter(|number| *number > head && *number <= end).collect())
}

/// The first of these objects, in order, for which `is_wanted` holds. Reads a few at a time.
/// Fails if the store fails.
pub(super) fn find(
    objects: &Objects,
    names: impl Iterator<Item = Name>,
    is_wanted: impl Fn(&Name, &Link) -> bool,
) -> Result<Option<Name>, RepoError> {
    let reads: Vec<ObjectRead> = names.map(read_of).collect();
    for some in reads.chunks(READS_AT_ONCE) {
        let mut found = None;
        objects.get_many(some, |at, answer| {
            let name = some[at].name;
            // Its number is listed, but somebody may have deleted it in the meantime.
            let is_gone = matches!(answer, Err(StoreError::NotFound { .. }));
            if !is_gone && found.is_none() && is_wanted(&name, &link(objects, &name, answer)?) {
                found = Some(name);
            }
            Ok::<(), RepoError>(())
        })?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Length of the run 1, 2, 3... at the start of these ascending numbers.
fn chained_len(numbers: &[u64]) -> u64 {
    let mut len = 0;
    for number in numbers {
        if *number != len + 1 {
            break;
        }
        len += 1;
    }
    len
}

/// Passes objects 1 to `last` to `each`. Several are read at the same time.
fn read_listed(
    objects: &Objects,
    last: u64,
    name: impl Fn(u64) -> Name,
    mut each: impl FnMut(u64, Link) -> Result<(), RepoError>,
) -> Result<(), RepoError> {
    let reads: Vec<ObjectRead> = (1..=last).map(|number| read_of(name(number))).collect();
    objects.get_many(&reads, |at, answer| {
        let read = &reads[at];
        each(at as u64 + 1, link(objects, &read.name, answer)?)
    })
}

fn read_of(name: Name) -> ObjectRead {
    ObjectRead { name, range: None, bytes_max: STATEMENT_BYTES_MAX as u64 }
}

/// Passes the objects after the number at which `unread` begins to `each`, one by one. Returns the number of the last
/// one that exists, or at which `unread` ends.
fn read_unlisted(
    objects: &Objects,
    unread: Range<u64>,
    name: impl Fn(u64) -> Name,
    mut each: impl FnMut(u64, Link) -> Result<(), RepoError>,
) -> Result<u64, RepoError> {
    let mut head = unread.start;
    while head < unread.end {
        let next = name(head + 1);
        match objects.get(&next, STATEMENT_BYTES_MAX) {
            Err(StoreError::NotFound { .. }) => return Ok(head),
            _ if head - unread.start >= UNLISTED_MAX => return Err(answers_for_all(&next)),
            answer => each(head + 1, link(objects, &next, answer)?)?,
        }
        head += 1;
    }
    Ok(head)
}

fn answers_for_all(name: &Name) -> RepoError {
    let reason = format!("the store returns it and {UNLISTED_MAX} objects before it, but lists none of them");
    RepoError::damaged(name, reason)
}

fn link(objects: &Objects, name: &Name, answer: Result<Bytes, StoreError>) -> Result<Link, RepoError> {
    match answer {
        Ok(bytes) => Ok(Link::Whole(bytes)),
        Err(StoreError::TooLarge { .. }) => digest_of_start(objects, name).map(Link::TooLong),
        Err(error) => Err(RepoError::referenced(error)),
    }
}

fn digest_of_start(objects: &Objects, name: &Name) -> Result<Digest, RepoError> {
    let start = objects.get_range(name, 0, STATEMENT_BYTES_MAX as u64 + 1).map_err(RepoError::referenced)?;
    Ok(Digest::of(&start))
}

fn list(objects: &Objects, prefix: &str) -> Result<Vec<u64>, RepoError> {
    let mut numbers = Vec::new();
    objects.list_each(prefix, |listed| {
        numbers.extend(number_in_chain(&listed.name));
        Ok::<(), RepoError>(())
    })?;
    numbers.sort_unstable();
    Ok(numbers)
}

fn number_in_chain(name: &str) -> Option<u64> {
    match Name::parse(name)? {
        Name::Roster(number) | Name::Ledger(_, number) => Some(number),
        _ => None,
    }
}
