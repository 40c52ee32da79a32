//! The dictionaries that a reader has opened.

use std::collections::HashMap;
use std::sync::Arc;

use crate::format::dictionary::Dictionary;

/// The dictionaries that were read.
#[derive(Default)]
pub(super) struct KnownDictionaries {
    pub(super) by_number: HashMap<u32, Arc<Dictionary>>,
    /// Whether those that the catalog names were read.
    pub(super) are_listed_read: bool,
}
