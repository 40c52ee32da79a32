//! Whether a store keeps the one promise that all else rests on: of many who create one object at
//! once, exactly one wins. Some stores ignore the condition and let the last writer win; on such a
//! store two backups would overwrite each other's ledger entries, so it is refused.

use bytes::Bytes;
use data_encoding::HEXLOWER;

use super::error::StoreError;
use super::object::{Created, Store};
use crate::base::env::{Env, random};

/// Writers that race for the name.
const WRITERS: usize = 16;
/// Bytes that each writes; enough that the requests overlap.
const BODY_BYTES: usize = 4096;

/// What the race showed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Conditional {
    /// Exactly one writer won, its bytes stand, and later ones are told so.
    Works,
    /// The condition was ignored: the store must not hold a repository.
    Ignored {
        /// What was seen.
        seen: String,
    },
    /// The store, or its setting, has no such condition.
    Unsupported {
        /// The library's words.
        reason: String,
    },
}

/// The outcome of a [`probe`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Probe {
    /// What the race showed.
    pub conditional: Conditional,
    /// Why the probed object is still there, if it is. Rights to delete are not needed.
    pub left: Option<StoreError>,
}

/// Races for a random name below `probe/`, and deletes it.
pub async fn probe(store: &Store, env: &dyn Env) -> Result<Probe, StoreError> {
    let name = format!("probe/{}", HEXLOWER.encode(&random::<16>(env)));
    let bodies: Vec<Bytes> = (0..WRITERS).map(|_| random_body(env)).collect();
    let conditional = race(store, &name, &bodies).await?;
    let left = clean_up(store, &name, &conditional).await;
    Ok(Probe { conditional, left })
}

/// Deletes what was probed, if there can be any. Returns why that failed.
async fn clean_up(store: &Store, name: &str, conditional: &Conditional) -> Option<StoreError> {
    match conditional {
        Conditional::Unsupported { .. } => None,
        Conditional::Works | Conditional::Ignored { .. } => store.delete(name).await.err(),
    }
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

/// The writers whose object the store says it took.
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

/// Whether the winner's bytes stand, and whether a later writer is told so.
async fn check_winner(store: &Store, name: &str, bodies: &[Bytes], winner: usize) -> Result<Conditional, StoreError> {
    if store.get(name, BODY_BYTES as u64).await? != bodies[winner] {
        return Ok(ignored("another writer's bytes stand than the winner's"));
    }
    overwrite(store, name, &bodies[(winner + 1) % WRITERS]).await
}

/// Tries to write over the object, which must be refused.
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
