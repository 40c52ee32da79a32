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
    let bodies: Vec<Bytes> = (0..WRITERS).map(|_| Bytes::from(random::<BODY_BYTES>(env).to_vec())).collect();
    let conditional = race(store, &name, &bodies).await?;
    let left = match conditional {
        Conditional::Unsupported { .. } => None,
        Conditional::Works | Conditional::Ignored { .. } => store.delete(&name).await.err(),
    };
    Ok(Probe { conditional, left })
}

async fn race(store: &Store, name: &str, bodies: &[Bytes]) -> Result<Conditional, StoreError> {
    let writers = bodies.iter().map(|body| store.create(name, body.clone()));
    let mut winners = Vec::new();
    for (writer, answer) in futures_util::future::join_all(writers).await.into_iter().enumerate() {
        match answer {
            Ok(Created::New | Created::Same) => winners.push(writer),
            Err(StoreError::Exists { .. }) => {}
            Err(StoreError::Unsupported { reason, .. }) => return Ok(Conditional::Unsupported { reason }),
            Err(error) => return Err(error),
        }
    }
    let [winner] = winners[..] else {
        return Ok(Conditional::Ignored {
            seen: format!("{} of {WRITERS} writers were told that they won", winners.len()),
        });
    };
    if store.get(name, BODY_BYTES as u64).await? != bodies[winner] {
        return Ok(Conditional::Ignored { seen: "another writer's bytes stand than the winner's".to_owned() });
    }
    match store.create(name, bodies[(winner + 1) % WRITERS].clone()).await {
        Err(StoreError::Exists { .. }) => Ok(Conditional::Works),
        Ok(_) => Ok(Conditional::Ignored { seen: "an object was overwritten".to_owned() }),
        Err(error) => Err(error),
    }
}
