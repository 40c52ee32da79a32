//! Counts the requests to a store, so that a test can assert the cost of a command and a report can state it. Counting
//! never fails and never blocks.

use std::sync::atomic::{AtomicU64, Ordering};

/// Requests and bytes since the store was opened. Every attempt counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Attempts to create an object.
    pub creates: u64,
    /// Objects and ranges of objects read.
    pub gets: u64,
    /// Requests for the size of an object.
    pub heads: u64,
    /// Listings started. A listing of many pages counts once.
    pub lists: u64,
    /// Objects deleted.
    pub deletes: u64,
    /// HTTP requests made for all of these, including retries, pages and requests for credentials.
    pub http_requests: u64,
    /// Files of a directory that were synced to disk.
    pub files_synced: u64,
    /// Bytes of objects sent to the store.
    pub bytes_sent: u64,
    /// Bytes of objects read.
    pub bytes_received: u64,
}

impl Counters {
    /// The difference to `earlier`.
    #[must_use]
    pub const fn since(&self, earlier: &Self) -> Self {
        Self {
            creates: self.creates - earlier.creates,
            gets: self.gets - earlier.gets,
            heads: self.heads - earlier.heads,
            lists: self.lists - earlier.lists,
            deletes: self.deletes - earlier.deletes,
            http_requests: self.http_requests - earlier.http_requests,
            files_synced: self.files_synced - earlier.files_synced,
            bytes_sent: self.bytes_sent - earlier.bytes_sent,
            bytes_received: self.bytes_received - earlier.bytes_received,
        }
    }

    /// All requests to the store.
    #[must_use]
    pub const fn requests(&self) -> u64 {
        self.creates + self.gets + self.heads + self.lists + self.deletes
    }
}

/// One running count.
#[derive(Debug, Default)]
pub(crate) struct RunningCount(AtomicU64);

impl RunningCount {
    /// Adds to the count.
    pub(crate) fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The running counts behind [`Counters`].
#[derive(Debug, Default)]
pub(crate) struct Tally {
    creates: RunningCount,
    pub(crate) gets: RunningCount,
    pub(crate) heads: RunningCount,
    pub(crate) lists: RunningCount,
    pub(crate) deletes: RunningCount,
    pub(crate) http_requests: RunningCount,
    pub(crate) files_synced: RunningCount,
    bytes_sent: RunningCount,
    pub(crate) bytes_received: RunningCount,
}

impl Tally {
    /// Counts an attempt to create an object.
    pub(crate) fn count_create(&self, bytes: usize) {
        self.creates.add(1);
        self.bytes_sent.add(bytes as u64);
    }

    /// The counts so far.
    pub(crate) fn counters(&self) -> Counters {
        Counters {
            creates: self.creates.get(),
            gets: self.gets.get(),
            heads: self.heads.get(),
            lists: self.lists.get(),
            deletes: self.deletes.get(),
            http_requests: self.http_requests.get(),
            files_synced: self.files_synced.get(),
            bytes_sent: self.bytes_sent.get(),
            bytes_received: self.bytes_received.get(),
        }
    }
}
