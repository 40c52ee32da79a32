//! Paths: how a row finds its owner, and how an owner is found from below.

use serde::{Deserialize, Serialize};

use crate::format::affinity::Affinity;
use crate::format::catalog::{cell_text, exact};
use crate::format::cell::OwnedCell;
use crate::format::key::Fold;
use crate::format::value_rule::ValueRule;

/// A path to a parent row that has the owner.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OwnerPath {
    /// Table number of the parent.
    pub parent: u32,
    /// What must be equal on both sides. Never empty.
    #[serde(rename = "match", deserialize_with = "exact::list")]
    pub terms: Vec<PathTerm>,
    /// Conditions on the row. If one does not hold, the path leads nowhere.
    #[serde(rename = "where", default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<PathCondition>,
}

/// A path from the rows of a table to the rows that refer to them and that have the owner.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DownwardPath {
    /// Table number of the rows that refer to these.
    pub child: u32,
    #[serde(rename = "match")]
    pub terms: Vec<PathTerm>,
    /// Conditions on the child's rows.
    #[serde(rename = "where", default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<PathCondition>,
}

/// A column of the child whose value leads to the value of a column of the parent.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PathTerm {
    pub column: u32,
    pub parent_column: u32,
    /// Text before the part of the child's value that is compared.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub suffix: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub parent_prefix: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub parent_suffix: String,
    /// How both sides compare text.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fold: Fold,
    /// How the child's value is converted.
    #[serde(default, skip_serializing_if = "is_default")]
    pub affinity: Affinity,
}

/// A constant value that a column of the row must have.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PathCondition {
    pub column: u32,
    #[serde(with = "cell_text")]
    pub equals: OwnedCell,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl PathTerm {
    /// How the child's value is compared.
    #[must_use]
    pub fn child_rule(&self) -> ValueRule {
        let Self { prefix, suffix, fold, affinity, .. } = self;
        ValueRule { prefix: prefix.clone(), suffix: suffix.clone(), fold: *fold, affinity: *affinity }
    }

    /// How the parent's value is compared.
    #[must_use]
    pub fn parent_rule(&self) -> ValueRule {
        let Self { parent_prefix, parent_suffix, fold, .. } = self;
        let affinity = Affinity::None;
        ValueRule { prefix: parent_prefix.clone(), suffix: parent_suffix.clone(), fold: *fold, affinity }
    }

    /// Whether values are compared as a whole.
    fn is_whole(&self) -> bool {
        [&self.prefix, &self.suffix, &self.parent_prefix, &self.parent_suffix].iter().all(|text| text.is_empty())
    }
}

impl OwnerPath {
    /// Columns of the row that must exist.
    pub fn columns(&self) -> impl Iterator<Item = u32> {
        let terms = self.terms.iter().map(|term| term.column);
        terms.chain(self.conditions.iter().map(|condition| condition.column))
    }

    /// Columns of the parent, in the order of the terms.
    pub fn parent_columns(&self) -> impl Iterator<Item = u32> {
        self.terms.iter().map(|term| term.parent_column)
    }

    /// Whether both paths lead from the same columns to the same columns of the same parent.
    #[must_use]
    pub fn has_pairs_of(&self, other: &Self) -> bool {
        self.parent == other.parent
            && self.terms.len() == other.terms.len()
            && self.terms.iter().all(|term| other.term_like(term).is_some())
    }

    /// The term with the columns of `term`.
    fn term_like(&self, term: &PathTerm) -> Option<&PathTerm> {
        let mut terms = self.terms.iter();
        terms.find(|own| (own.column, own.parent_column) == (term.column, term.parent_column))
    }

    /// Compares values as `other` does.
    pub fn compare_like(&mut self, other: &Self) {
        for term in &mut self.terms {
            if let Some(like) = other.term_like(term) {
                term.fold = like.fold;
                term.affinity = like.affinity;
            }
        }
    }

    /// Whether it compares whole values, as a foreign key does.
    #[must_use]
    pub fn compares_whole_values(&self) -> bool {
        self.terms.iter().all(PathTerm::is_whole)
    }
}
