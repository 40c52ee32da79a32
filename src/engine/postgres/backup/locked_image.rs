//! An image with every table locked that will be read, and none of them altered since the image began.
//!
//! Locks come after the image. What is truncated, rewritten or replaced between the two looks empty in the image, though
//! it was not: then image and locks are released, and another attempt begins. So it does when somebody who wants to alter
//! a table stands between our locks and those of the tools that read the schema.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::engine::contract::SourceError;
use crate::engine::postgres::backup::image::{LOCK_NOT_AVAILABLE, PgImage};
use crate::engine::postgres::backup::lock_watchdog::LockWatchdog;
use crate::engine::postgres::backup::user_types::UserTypes;
use crate::engine::postgres::connect::address::Address;
use crate::engine::postgres::connect::error::PostgresError;
use crate::engine::postgres::connect::query::QueryError;
use crate::engine::postgres::schema::catalog::{self, PgCatalog};

/// How long to wait for locks of tables.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(30);
/// How long others may wait behind our locks.
const OTHERS_WAIT_MAX: Duration = Duration::from_secs(30);
/// Images that are begun before the backup gives up.
const ATTEMPTS_MAX: usize = 5;
/// What a server says of a table that is not there.
const UNDEFINED_TABLE: &str = "42P01";

/// Why there is no image.
#[derive(Debug, Error)]
enum LockedImageError {
    #[error(transparent)]
    Server(#[from] PostgresError),
    #[error("read the catalog: {0}")]
    Catalog(#[from] QueryError),
}

impl From<LockedImageError> for SourceError {
    fn from(error: LockedImageError) -> Self {
        match error {
            LockedImageError::Server(error) | LockedImageError::Catalog(QueryError::Query(error)) => error.into(),
            LockedImageError::Catalog(error) => {
                Self::Failed { doing: "read the catalog".to_owned(), reason: error.to_string() }
            }
        }
    }
}

/// A table that somebody keeps locked shows already when the catalog is read: its size is asked for under a lock.
fn catalog_error(address: &Address, error: QueryError) -> LockedImageError {
    let is_locked = matches!(&error, QueryError::Query(query) if query.state() == Some(LOCK_NOT_AVAILABLE));
    if !is_locked {
        return error.into();
    }
    let reason = "somebody keeps a table locked (pg_locks shows who and which); try again when that is done";
    PostgresError::Unsuitable { place: address.to_string(), reason: reason.to_owned() }.into()
}

/// An image with its catalog, and the watchdog that looks after those who wait behind it.
pub(super) struct LockedImage {
    pub(super) image: PgImage,
    pub(super) watchdog: LockWatchdog,
    pub(super) catalog: PgCatalog,
    pub(super) types: UserTypes,
}

/// What one attempt came to.
pub(super) enum ImageAttempt<T> {
    Done(T),
    /// Somebody altered something meanwhile, or wants to: what, as the beginning of a sentence.
    Disturbed(String),
}

/// Begins an image and reads by `read` what must be of it before its rows are; makes another attempt if it was disturbed.
pub(super) fn open_locked_image<T>(
    address: &Arc<Address>,
    read: &mut dyn FnMut(&LockedImage) -> Result<ImageAttempt<T>, SourceError>,
) -> Result<(LockedImage, T), SourceError> {
    let mut disturbance = String::new();
    for _ in 0..ATTEMPTS_MAX {
        // The locks of the attempt before are released by now: whoever waited for them comes first.
        match attempt(address, read)? {
            ImageAttempt::Done(opened) => return Ok(opened),
            ImageAttempt::Disturbed(how) => disturbance = how,
        }
    }
    let reason = format!("{disturbance} while the backup began, and so it was {ATTEMPTS_MAX} times");
    Err(SourceError::Yielded { what: address.to_string(), reason })
}

fn attempt<T>(
    address: &Arc<Address>,
    read: &mut dyn FnMut(&LockedImage) -> Result<ImageAttempt<T>, SourceError>,
) -> Result<ImageAttempt<(LockedImage, T)>, SourceError> {
    let locked = match LockedImage::begin(address)? {
        ImageAttempt::Done(locked) => locked,
        ImageAttempt::Disturbed(how) => return Ok(ImageAttempt::Disturbed(how)),
    };
    Ok(match read(&locked)? {
        ImageAttempt::Done(found) => ImageAttempt::Done((locked, found)),
        ImageAttempt::Disturbed(how) => ImageAttempt::Disturbed(how),
    })
}

impl LockedImage {
    fn begin(address: &Arc<Address>) -> Result<ImageAttempt<Self>, LockedImageError> {
        let image = PgImage::open(Arc::clone(address))?;
        let watchdog = LockWatchdog::begin(image.address(), image.sessions(), OTHERS_WAIT_MAX)?;
        let catalog = catalog::read_catalog(image.leader()).map_err(|error| catalog_error(address, error))?;
        let disturbance = lock_all(&image, &catalog).map_err(|error| watchdog.explain(error))?;
        if let Some(how) = disturbance {
            return Ok(ImageAttempt::Disturbed(how));
        }
        let types = UserTypes::load(image.leader(), &catalog.tables).map_err(|error| watchdog.explain(error))?;
        Ok(ImageAttempt::Done(Self { image, watchdog, catalog, types }))
    }
}

/// Locks all tables; gives what was altered before they were, if anything was.
fn lock_all(image: &PgImage, catalog: &PgCatalog) -> Result<Option<String>, PostgresError> {
    let parts = catalog.tables.iter().flat_map(|table| &table.parts);
    let names: Vec<String> = parts.map(|part| part.sql_name.clone()).collect();
    match image.lock_tables(&names, LOCK_WAIT_MAX) {
        Err(error) if error.state() == Some(UNDEFINED_TABLE) => return Ok(Some(error.to_string())),
        locked => locked?,
    }
    let altered = image.first_altered(&names)?;
    Ok(altered.map(|name| format!("{name} was altered")))
}
