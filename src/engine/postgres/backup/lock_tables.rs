//! An image with every table locked that will be read, and none of them altered since the image began.
//!
//! Locks come after the image. What is truncated, rewritten or replaced between the two looks empty in the image, though
//! it was not: then image and locks are let go and taken anew. So they are when somebody who wants to alter a table stands
//! between our locks and those of the tools that read the schema.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::engine::contract::SourceError;
use crate::engine::postgres::backup::image::PgImage;
use crate::engine::postgres::backup::lock_watchdog::LockWatchdog;
use crate::engine::postgres::backup::user_types::UserTypes;
use crate::engine::postgres::connect::address::Address;
use crate::engine::postgres::connect::error::PostgresError;
use crate::engine::postgres::connect::query::QueryError;
use crate::engine::postgres::schema::catalog::{self, PgCatalog};

/// How long somebody may hold a table that we want to lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);
/// How long others may wait behind our locks.
const OTHERS_PATIENCE: Duration = Duration::from_secs(30);
/// Images that are begun before a database counts as too restless.
const ATTEMPTS_MAX: usize = 5;
/// What a server says of a table that is not there.
const UNDEFINED_TABLE: &str = "42P01";

/// What a server says when a lock is not to be had in time.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// Why there is no image.
#[derive(Debug, Error)]
pub(crate) enum HoldError {
    #[error(transparent)]
    Server(#[from] PostgresError),
    #[error("read the catalog: {0}")]
    Catalog(#[from] QueryError),
}

impl From<HoldError> for SourceError {
    fn from(error: HoldError) -> Self {
        match error {
            HoldError::Server(error) | HoldError::Catalog(QueryError::Query(error)) => error.into(),
            HoldError::Catalog(error) => {
                Self::Failed { doing: "read the catalog".to_owned(), reason: error.to_string() }
            }
        }
    }
}

/// A table that somebody keeps locked shows already when the catalog is read: its size is asked for under a lock.
fn not_read(address: &Address, error: QueryError) -> HoldError {
    match &error {
        QueryError::Query(query) if query.state() == Some(LOCK_NOT_AVAILABLE) => {
            let reason = "somebody keeps a table locked (pg_locks shows who and which); try again when that is done";
            PostgresError::Unsuitable { place: address.to_string(), reason: reason.to_owned() }.into()
        }
        _ => error.into(),
    }
}

/// An image and its catalog, and who looks after those who wait behind it.
pub(crate) struct LockedImage {
    pub(crate) image: PgImage,
    pub(crate) watch: LockWatchdog,
    pub(crate) catalog: PgCatalog,
    pub(crate) types: UserTypes,
}

/// What one attempt came to.
pub(crate) enum Attempt<T> {
    Done(T),
    /// Somebody altered something meanwhile, or wants to: what, as the beginning of a sentence.
    Disturbed(String),
}

/// Begins an image and reads by `look` what must be of it before its rows are; anew if it was disturbed. Waits for who
/// holds a table, but not for ever.
pub(crate) fn hold<T>(
    address: &Arc<Address>,
    look: &mut dyn FnMut(&LockedImage) -> Result<Attempt<T>, SourceError>,
) -> Result<(LockedImage, T), SourceError> {
    let mut disturbance = String::new();
    for _ in 0..ATTEMPTS_MAX {
        // Whatever was held of the attempt before is let go by now: who waited for it comes first.
        disturbance = match LockedImage::begin(address)? {
            Attempt::Done(held) => match look(&held)? {
                Attempt::Done(found) => return Ok((held, found)),
                Attempt::Disturbed(how) => how,
            },
            Attempt::Disturbed(how) => how,
        };
    }
    let reason = format!("{disturbance} while the backup began, and so it was {ATTEMPTS_MAX} times");
    Err(SourceError::GaveWay { what: address.to_string(), reason })
}

impl LockedImage {
    fn begin(address: &Arc<Address>) -> Result<Attempt<Self>, HoldError> {
        let image = PgImage::open(Arc::clone(address))?;
        let watch = LockWatchdog::begin(image.address(), image.sessions(), OTHERS_PATIENCE)?;
        let catalog = catalog::read_catalog(image.leader()).map_err(|error| not_read(address, error))?;
        let parts = catalog.tables.iter().flat_map(|table| &table.parts);
        let names: Vec<String> = parts.map(|part| part.sql_name.clone()).collect();
        match image.lock_tables(&names, LOCK_PATIENCE) {
            Ok(()) => {}
            Err(error) if error.state() == Some(UNDEFINED_TABLE) => return Ok(Attempt::Disturbed(error.to_string())),
            Err(error) => return Err(watch.explain(error).into()),
        }
        if let Some(name) = image.altered(&names).map_err(|error| watch.explain(error))? {
            return Ok(Attempt::Disturbed(format!("{name} was altered")));
        }
        let types = UserTypes::of(image.leader(), &catalog.tables).map_err(|error| watch.explain(error))?;
        Ok(Attempt::Done(Self { image, watch, catalog, types }))
    }
}
