//! Settings for restores of one owner, which must survive the host that they were configured on.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::format::catalog::numbers::replace;
use crate::format::catalog::table::UnknownMembers;

/// What a restore of one owner needs beside rows. Writers carry it forward unless the configuration says otherwise.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Settings {
    /// Statements that run in the transaction of a restore, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub epoch_statements: Vec<EpochStatement>,
    /// Columns that tell when a row was changed last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub since: Vec<SinceColumn>,
    /// Tables whose rows are exported as vCards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vcard: Vec<VcardTable>,
    #[serde(flatten)]
    pub unknown: UnknownMembers,
}

/// A statement with the owner as its parameter.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EpochStatement {
    pub statement: String,
    /// The number of rows that it must change, if that matters.
    pub rows: Option<u64>,
}

/// The column of a table that tells when a row was changed last.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SinceColumn {
    pub table: u32,
    pub column: u32,
}

/// A table whose rows are exported as vCards.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VcardTable {
    pub table: u32,
    /// Column numbers by the name of the property, such as `FN`.
    pub properties: BTreeMap<String, u32>,
}

impl Settings {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Gives tables other numbers. Settings of tables without a new number are dropped.
    pub(super) fn renumber(&mut self, numbers: &HashMap<u32, u32>) {
        self.since.retain_mut(|column| replace(&mut column.table, numbers));
        self.vcard.retain_mut(|vcard| replace(&mut vcard.table, numbers));
    }
}
