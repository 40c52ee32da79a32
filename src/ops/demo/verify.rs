//! Reads every byte of the demo's store with public keys alone: names against content, signatures and
//! links of the chain, and whether anything of the database can be read in it.

use crate::base::id::{Digest, SourceId};
use crate::format::name::Name;
use crate::ops::demo::report::{Damage, Verified};
use crate::ops::error::OpError;
use crate::repo::error::RepoError;
use crate::repo::io::{Objects, Read};
use crate::repo::ledger::Ledger;
use crate::repo::open::Repository;

/// Part of every address in the database.
const NEEDLE: &[u8] = b"@example.";

/// Verifies the whole store.
pub(super) fn verify(repository: &Repository, source: SourceId) -> Result<Verified, OpError> {
    let ledger = Ledger::load(repository, source)?;
    let mut found = Verified { entries: ledger.digests.len() as u64, ..Verified::default() };
    for (entry, reason) in &ledger.voids {
        found.damage.push(Damage { object: format!("ledger entry {}", entry.number), reason: reason.clone() });
    }
    let objects = repository.objects();
    let listed = objects.list("").map_err(RepoError::from)?;
    let mut reads = Vec::new();
    for object in &listed {
        match Name::parse(&object.name) {
            Some(name) => reads.push(Read { name, range: None, bytes_max: object.size_bytes }),
            None => found
                .damage
                .push(Damage { object: object.name.clone(), reason: "it is no object of a repository".to_owned() }),
        }
    }
    read_all(objects, &reads, &mut found)?;
    Ok(found)
}

fn read_all(objects: &Objects, reads: &[Read], found: &mut Verified) -> Result<(), OpError> {
    objects.get_many(reads, |at, bytes| {
        let bytes = bytes.map_err(RepoError::from)?;
        let name = reads[at].name;
        found.objects += 1;
        found.bytes += bytes.len() as u64;
        found.readable += u64::from(bytes.windows(NEEDLE.len()).any(|window| window == NEEDLE));
        if let Some(digest) = name.digest() {
            found.hashed += 1;
            if Digest::of(&bytes) != digest {
                let reason = "its content is not what its name says".to_owned();
                found.damage.push(Damage { object: name.to_string(), reason });
            }
        }
        Ok::<(), OpError>(())
    })
}
