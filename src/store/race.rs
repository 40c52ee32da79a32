//! Checks the one promise of a store on which everything else depends: if many writers create one object concurrently,
//! exactly one wins. Some stores ignore the condition and let the last writer win. On such a store two backups would
//! overwrite each other's ledger entries, so it is refused.

use bytes::Bytes;
use data_encoding::HEXLOWER;

use super::answer::Created;
use super::error::StoreError;
use super::object::Store;
use crate::base::env::{Env, random};

/// Writers that race for the name.
const WRITERS: usize = 16;
/// Bytes that each writer sends, enough for the requests to overlap.
const BODY_BYTES: usize = 4096;

/// What the race showed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Conditional {
    /// Exactly one writer won, the object has its bytes, and later writers are refused.
    Works,
    /// The condition was ignored: the store must not be used for a repository.
    Ignored {
        /// What was seen.
        seen: String,
    },
    /// The store, or its setting, does not support the condition.
    Unsupported {
        /// The library's message.
        reason: String,
    },
}

/// The outcome of a [`probe`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Probe {
    /// What the race showed.
    pub conditional: Conditional,
    /// Why the probed object could not be deleted, if it is still there. Permission to delete is not required.
    pub left: Option<StoreError>,
}

/// Lets several writers create one object with a random name below `probe/` at the same time, then deletes it.
/// Fails if a request fails for another reason than that the object exists or that the store does not support the
/// condition. The object may then stay.
pub async fn probe(store: &Store, env: &dyn Env) -> Result<Probe, StoreError> {
    let name = format!("probe/{}", HEXLOWER.encode(&random::<16>(env)));
    let bodies: Vec<Bytes> = (0..WRITERS).map(|_| random_body(env)).collect();
    let conditional = race(store, &name, &bodies).await?;
    let left = clean_up(store, &name, &conditional).await;
    Ok(Probe { conditional, left })
}

/// Deletes the probed object, if there can be one. Returns why that failed.
async fn clean_up(store: &Store, name: &str, conditional: &Conditional) -> Option<StoreError> {
    match conditional {
        Conditional::Unsupported { .. } => None,
        Conditional::Works | Conditional::Ignored { .. } => delete_probe(store, name).await.err(),
    }
}

/// Deletes a probe, and the directory of probes if this was the last one.
/// Fails with the error of [`Store::delete`].
pub async fn delete_probe(store: &Store, name: &str) -> Result<(), StoreError> {
    store.delete(name).await?;
    store.remove_empty_prefix("probe");
    Ok(())
}

fn random_body(env: &dyn Env) -> Bytes {
    Bytes::from(random::<BODY_BYTES>(env).to_vec())
}

async fn race(store: &Store, name: &str, bodies: &[Bytes]) -> Result<Conditional, StoreError> {
    let writers = bodies.iter().map(|body| store.create(name, body.clone()));
    let answers = futures_util::future::join_all(writers).await;
    match winners(answers) {
        Ok(winners) => judge(store, name, bodies, &winners).await,
        Err(StoreError::Unsupported { reason, .. }) => Ok(Conditional::Unsupported { reason }),
        Err(error) => Err(error),
    }
}

async fn judge(store: &Store, name: &str, bodies: &[Bytes], winners: &[usize]) -> Result<Conditional, StoreError> {
    match *winners {
        [winner] => check_winner(store, name, bodies, winner).await,
        _ => Ok(ignored(&format!("{} of {WRITERS} writers were told that they won", winners.len()))),
    }
}

/// The writers whose object the store claims to have accepted.
fn winners(answers: Vec<Result<Created, StoreError>>) -> Result<Vec<usize>, StoreError> {
    let mut winners = Vec::new();
    for (writer, answer) in answers.into_iter().enumerate() {
        if has_won(answer)? {
            winners.push(writer);
        }
    }
    Ok(winners)
}

fn has_won(answer: Result<Created, StoreError>) -> Result<bool, StoreError> {
    match answer {
        Ok(Created::New | Created::Same) => Ok(true),
        Err(StoreError::Exists { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Checks that the object has the winner's bytes and that a later writer is refused.
async fn check_winner(store: &Store, name: &str, bodies: &[Bytes], winner: usize) -> Result<Conditional, StoreError> {
    if store.get(name, BODY_BYTES as u64).await? != bodies[winner] {
        return Ok(ignored("the object does not have the winner's bytes"));
    }
    overwrite(store, name, &bodies[(winner + 1) % WRITERS]).await
}

/// Tries to overwrite the object, which must be refused.
async fn overwrite(store: &Store, name: &str, body: &Bytes) -> Result<Conditional, StoreError> {
    match store.create(name, body.clone()).await {
        Err(StoreError::Exists { .. }) => Ok(Conditional::Works),
        Ok(_) => Ok(ignored("an object was overwritten")),
        Err(error) => Err(error),
    }
}

fn ignored(seen: &str) -> Conditional {
    Conditional::Ignored { seen: seen.to_owned() }
}
