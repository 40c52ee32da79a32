//! Epochs and sources.

use std::collections::BTreeMap;

use crate::base::id::{Digest, Epoch, GroupId, KeyId, SourceId};
use crate::format::entry::Numbered;
use crate::format::roster::Thresholds;

/// An epoch.
#[derive(Clone, Debug)]
pub struct EpochState {
    pub sealing: [u8; 1216],
    /// In the order in which the roster names them.
    pub grants: BTreeMap<KeyId, Vec<Digest>>,
    pub closed: bool,
}

/// A source.
#[derive(Clone, Debug)]
pub struct SourceState {
    /// Sources with the same group are parts of one service.
    pub group: Option<GroupId>,
    /// The guard's thresholds, oldest first. The last one of a table counts, or of the source.
    pub thresholds: Vec<Thresholds>,
    /// The entry that added it.
    pub added: Numbered,
    /// The entry that retired it.
    pub retired: Option<u64>,
}

/// What the roster says about names, in its order. Names are sealed.
#[derive(Clone, Debug)]
pub enum NameChange {
    Given {
        source: SourceId,
        /// The epoch whose structure key sealed the label.
        epoch: Epoch,
        label: Vec<u8>,
        is_by_admin: bool,
    },
    Retired(SourceId),
}
