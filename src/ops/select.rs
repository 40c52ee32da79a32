//! Which snapshot is meant: an id or its unique prefix, `latest`, `latest~2`, a tag, or a moment.

use crate::base::time::Moment;
use crate::ops::error::OpError;
use crate::repo::ledger::{Ledger, SnapshotRecord};

/// A way to name a snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Selector {
    /// The newest clean one, or the n-th before it.
    Latest(usize),
    /// An id, a unique prefix of one, or a tag.
    Name(String),
    /// The newest that is not younger.
    At(Moment),
}

impl Selector {
    /// Reads `latest`, `latest~n`, an id or a tag.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text.strip_prefix("latest") {
            Some("") => Self::Latest(0),
            Some(back) => match back.strip_prefix('~').and_then(|n| n.parse().ok()) {
                Some(n) => Self::Latest(n),
                None => Self::Name(text.to_owned()),
            },
            None => Self::Name(text.to_owned()),
        }
    }

    /// The snapshot that is meant.
    pub fn find<'l>(&self, ledger: &'l Ledger) -> Result<&'l SnapshotRecord, OpError> {
        self.look(ledger).map_err(|error| match (error, ledger.warnings().as_slice()) {
            // It may be one of those that do not count.
            (OpError::NotFound(what), [one]) => OpError::NotFound(format!("{what}; {one}")),
            (OpError::NotFound(what), [one, more @ ..]) => {
                OpError::NotFound(format!("{what}; {one}, and {} more do not", more.len()))
            }
            (error, _) => error,
        })
    }

    /// Entries that do not count and may have been the snapshot that is meant rather than `found`. An id leaves no
    /// doubt.
    #[must_use]
    pub fn doubts(&self, ledger: &Ledger, found: &SnapshotRecord) -> Vec<String> {
        if self.is_id_of(found) { Vec::new() } else { ledger.warnings_at_head() }
    }

    /// Whether this names that very snapshot, whatever others there are and will be.
    #[must_use]
    pub fn is_id_of(&self, found: &SnapshotRecord) -> bool {
        matches!(self, Self::Name(name) if found.id.to_string().starts_with(&name.to_ascii_lowercase()))
    }

    fn look<'l>(&self, ledger: &'l Ledger) -> Result<&'l SnapshotRecord, OpError> {
        match self {
            Self::Latest(back) => {
                let clean: Vec<&SnapshotRecord> = ledger.live().filter(|record| record.is_clean()).collect();
                let wanted = clean.len().checked_sub(back + 1);
                wanted
                    .map(|at| clean[at])
                    .ok_or_else(|| OpError::NotFound(format!("{}, so latest~{back} names none", counted(clean.len()))))
            }
            Self::At(moment) => at(ledger, *moment),
            Self::Name(name) => named(ledger, name),
        }
    }
}

fn counted(clean: usize) -> String {
    match clean {
        1 => "there is 1 clean snapshot".to_owned(),
        _ => format!("there are {clean} clean snapshots"),
    }
}

fn at(ledger: &Ledger, moment: Moment) -> Result<&SnapshotRecord, OpError> {
    let before = ledger.live().filter(|record| record.is_clean() && record.snapshot.source_clock <= moment);
    before.max_by_key(|record| record.snapshot.source_clock).ok_or_else(|| {
        let first = ledger.live().map(|record| record.snapshot.source_clock).min();
        OpError::NotFound(match first {
            Some(first) => format!("no snapshot is as old as {moment}; the first is as of {first}"),
            None => "the source has no snapshots".to_owned(),
        })
    })
}

fn named<'l>(ledger: &'l Ledger, name: &str) -> Result<&'l SnapshotRecord, OpError> {
    let tagged: Vec<&SnapshotRecord> =
        ledger.live().filter(|record| record.tags.iter().any(|tag| tag == name)).collect();
    if let Some(newest) = tagged.last() {
        return Ok(newest);
    }
    let is_hex = name.len() >= 4 && name.bytes().all(|b| b.is_ascii_hexdigit());
    let matching: Vec<&SnapshotRecord> = if is_hex {
        let name = name.to_ascii_lowercase();
        ledger.live().filter(|record| record.id.to_string().starts_with(&name)).collect()
    } else {
        Vec::new()
    };
    match matching.as_slice() {
        [one] => Ok(one),
        [] => Err(OpError::NotFound(format!("no snapshot has the id or tag {name:?}"))),
        several => Err(OpError::NotFound(format!("{} snapshots have ids that begin with {name}", several.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::Selector;

    #[test]
    fn words_are_told_from_ids_and_tags() {
        assert_eq!(Selector::parse("latest"), Selector::Latest(0));
        assert_eq!(Selector::parse("latest~12"), Selector::Latest(12));
        for name in ["latest~", "latest~x", "latest-good", "ab12"] {
            assert_eq!(Selector::parse(name), Selector::Name(name.to_owned()));
        }
    }
}
