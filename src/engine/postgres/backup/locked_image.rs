//! An image in which every table to be read is locked, and none was altered since the image began.
//!
//! Tables are locked after the image has begun. A table that is truncated, rewritten or replaced in between would look
//! empty in the image although it was not. If that happens, the image and its locks are released and opened again. The
//! same happens if a session that wants to alter a table gets its lock request in before the tools that read the schema
//! can lock the table.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::engine::contract::EngineError;
use crate::engine::postgres::backup::image::{LOCK_NOT_AVAILABLE, PgImage};
use crate::engine::postgres::backup::lock_watchdog::LockWatchdog;
use crate::engine::postgres::backup::user_types::UserTypes;
use crate::engine::postgres::connect::address::Address;
use crate::engine::postgres::connect::error::PostgresError;
use crate::engine::postgres::connect::query::QueryError;
use crate::engine::postgres::schema::catalog::{self, PgCatalog};

/// How long to wait for each batch of table locks.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(30);
/// How long others may wait for our locks.
const OTHERS_WAIT_MAX: Duration = Duration::from_secs(30);
/// Attempts to open an image before the backup gives up.
const ATTEMPTS_MAX: usize = 5;
/// SQLSTATE undefined_table.
const UNDEFINED_TABLE: &str = "42P01";

/// Why an image could not be opened.
#[derive(Debug, Error)]
enum LockedImageError {
    #[error(transparent)]
    Server(#[from] PostgresError),
    #[error("read the catalog: {0}")]
    Catalog(#[from] QueryError),
}

impl From<LockedImageError> for EngineError {
    fn from(error: LockedImageError) -> Self {
        match error {
            LockedImageError::Server(error) | LockedImageError::Catalog(QueryError::Query(error)) => error.into(),
            LockedImageError::Catalog(error) => {
                Self::Failed { doing: "read the catalog".to_owned(), reason: error.to_string() }
            }
        }
    }
}

/// A locked table shows up as early as when the catalog is read, because reading its size needs a lock.
fn catalog_error(address: &Address, error: QueryError) -> LockedImageError {
    let is_locked = matches!(&error, QueryError::Query(query) if query.state() == Some(LOCK_NOT_AVAILABLE));
    if !is_locked {
        return error.into();
    }
    let reason = "another session holds a lock on a table (pg_locks shows which); retry when the lock is released";
    PostgresError::Unsuitable { place: address.to_string(), reason: reason.to_owned() }.into()
}

/// An image with its catalog, and the watchdog that protects sessions waiting for its locks.
pub(super) struct LockedImage {
    pub(super) image: PgImage,
    pub(super) watchdog: LockWatchdog,
    pub(super) catalog: PgCatalog,
    pub(super) types: UserTypes,
}

/// The outcome of one attempt.
pub(super) enum ImageAttempt<T> {
    Done(T),
    /// Somebody altered something meanwhile, or is waiting to. Says what, as the beginning of a sentence.
    Disturbed(String),
}

/// Opens an image, and calls `read` for everything that must be read before the rows. Tries again if the image was
/// disturbed.
/// Fails if the image cannot be opened, a table's lock is not granted within 30 s, every one of 5 attempts is
/// disturbed, or `read` fails.
pub(super) fn open_locked_image<T>(
    address: &Arc<Address>,
    read: &mut dyn FnMut(&LockedImage) -> Result<ImageAttempt<T>, EngineError>,
) -> Result<(LockedImage, T), EngineError> {
    let mut disturbance = String::new();
    for _ in 0..ATTEMPTS_MAX {
        // The previous attempt's locks are released by now, so sessions that waited for them go first.
        match attempt(address, read)? {
            ImageAttempt::Done(opened) => return Ok(opened),
            ImageAttempt::Disturbed(how) => disturbance = how,
        }
    }
    let reason = format!("{disturbance} while the backup was starting; this happened {ATTEMPTS_MAX} times in a row");
    Err(EngineError::Yielded { what: address.to_string(), reason })
}

fn attempt<T>(
    address: &Arc<Address>,
    read: &mut dyn FnMut(&LockedImage) -> Result<ImageAttempt<T>, EngineError>,
) -> Result<ImageAttempt<(LockedImage, T)>, EngineError> {
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

/// Locks all tables. Returns what was altered before they were locked, if anything.
fn lock_all(image: &PgImage, catalog: &PgCatalog) -> Result<Option<String>, PostgresError> {
    let relations = catalog.tables.iter().flat_map(|table| &table.relations);
    let names: Vec<String> = relations.map(|relation| relation.sql_name.clone()).collect();
    match image.lock_tables(&names, LOCK_WAIT_MAX) {
        Err(error) if error.state() == Some(UNDEFINED_TABLE) => return Ok(Some(error.to_string())),
        locked => locked?,
    }
    let altered = image.first_altered(&names)?;
    Ok(altered.map(|name| format!("{name} was altered")))
}
