//! Names of objects in the store. Formatting and parsing are inverse (`docs/format.md` section 2).

use std::fmt;

use crate::base::id::{Digest, Epoch, KeyId, SessionId, SourceId};

/// An object of a repository, identified by its location in the store.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Name {
    Descriptor,
    Roster(u64),
    RosterBundle(Digest),
    Grant(Epoch, KeyId, Digest),
    Ledger(SourceId, u64),
    Pack(SourceId, Digest),
    Manifest(SourceId, Digest),
    Index(SourceId, Digest),
    Session(SourceId, SessionId, u64),
    Bundle(SourceId, Digest),
    Report(KeyId, u64),
    ReportBody(KeyId, Digest),
    Copy(u64),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Descriptor => f.write_str("sidekeep.json"),
            Self::Roster(number) => write!(f, "roster/{number:010}"),
            Self::RosterBundle(digest) => write!(f, "bundles/{digest}"),
            Self::Grant(epoch, key, digest) => write!(f, "keys/{:06}/{key}/{digest}", epoch.0),
            Self::Ledger(source, number) => write!(f, "{source}/ledger/{number:010}"),
            Self::Pack(source, digest) => {
                write!(f, "{source}/packs/{:02x}/{digest}", digest.as_bytes()[0])
            }
            Self::Manifest(source, digest) => write!(f, "{source}/manifests/{digest}"),
            Self::Index(source, digest) => write!(f, "{source}/index/{digest}"),
            Self::Session(source, session, number) => write!(f, "{source}/sessions/{session}/{number:010}"),
            Self::Bundle(source, digest) => write!(f, "{source}/bundles/{digest}"),
            Self::Report(key, number) => write!(f, "reports/{key}/{number:010}"),
            Self::ReportBody(key, digest) => write!(f, "reports/{key}/bodies/{digest}"),
            Self::Copy(number) => write!(f, "copy/{number:010}"),
        }
    }
}

impl Name {
    /// Parses a name. `None` if the format has no such name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let name = Self::of_parts(&parts)?;
        (name.to_string() == text).then_some(name)
    }

    fn of_parts(parts: &[&str]) -> Option<Self> {
        match parts {
            ["sidekeep.json"] => Some(Self::Descriptor),
            ["roster", entry] => Some(Self::Roster(number(entry, 10)?)),
            ["bundles", digest] => Some(Self::RosterBundle(digest.parse().ok()?)),
            ["keys", epoch, key, digest] => {
                Some(Self::Grant(parse_epoch(epoch)?, key.parse().ok()?, digest.parse().ok()?))
            }
            ["reports", key, rest @ ..] => Self::parse_report(key.parse().ok()?, rest),
            ["copy", mark] => Some(Self::Copy(number(mark, 10)?)),
            [source, rest @ ..] => Self::parse_in_source(source.parse().ok()?, rest),
            [] => None,
        }
    }

    fn parse_report(key: KeyId, parts: &[&str]) -> Option<Self> {
        match parts {
            ["bodies", digest] => Some(Self::ReportBody(key, digest.parse().ok()?)),
            [report] => Some(Self::Report(key, number(report, 10)?)),
            _ => None,
        }
    }

    fn parse_in_source(source: SourceId, parts: &[&str]) -> Option<Self> {
        match parts {
            ["ledger", entry] => Some(Self::Ledger(source, number(entry, 10)?)),
            ["packs", _, digest] => Some(Self::Pack(source, digest.parse().ok()?)),
            ["manifests", digest] => Some(Self::Manifest(source, digest.parse().ok()?)),
            ["index", digest] => Some(Self::Index(source, digest.parse().ok()?)),
            ["bundles", digest] => Some(Self::Bundle(source, digest.parse().ok()?)),
            ["sessions", session, entry] => Some(Self::Session(source, session.parse().ok()?, number(entry, 10)?)),
            _ => None,
        }
    }

    /// The digest that the stored bytes must have, if the name contains one.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        match self {
            Self::Pack(_, digest)
            | Self::Manifest(_, digest)
            | Self::Index(_, digest)
            | Self::Bundle(_, digest)
            | Self::RosterBundle(digest)
            | Self::Grant(_, _, digest)
            | Self::ReportBody(_, digest) => Some(*digest),
            _ => None,
        }
    }
}

fn parse_epoch(text: &str) -> Option<Epoch> {
    let epoch = number(text, 6)?;
    u32::try_from(epoch).ok().map(Epoch)
}

/// Numbers start at 1. A planted number 0 must not be taken for the start of a chain.
fn number(text: &str, digits_min: usize) -> Option<u64> {
    let number = text.parse().ok()?;
    (is_decimal(text, digits_min) && number > 0).then_some(number)
}

fn is_decimal(text: &str, digits_min: usize) -> bool {
    text.len() >= digits_min && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::Name;
    use crate::base::id::{Digest, Epoch, KeyId, SessionId, SourceId};

    #[test]
    fn names_round_trip_and_foreign_names_are_refused() {
        let source = SourceId::new([1; 16]);
        let digest = Digest::new([0xab; 32]);
        let names = [
            Name::Descriptor,
            Name::Roster(1),
            Name::RosterBundle(digest),
            Name::Grant(Epoch(3), KeyId::new([2; 16]), digest),
            Name::Ledger(source, 12_345_678_901),
            Name::Pack(source, digest),
            Name::Manifest(source, digest),
            Name::Index(source, digest),
            Name::Session(source, SessionId::new([5; 16]), 2),
            Name::Bundle(source, digest),
            Name::Report(KeyId::new([2; 16]), 7),
            Name::ReportBody(KeyId::new([2; 16]), digest),
            Name::Copy(1),
        ];
        for name in names {
            assert_eq!(Name::parse(&name.to_string()), Some(name));
        }
        let pack = Name::Pack(source, digest).to_string();
        let zero = Name::Ledger(source, 0).to_string();
        let others = ["", "sidekeep.json.bak", "roster/1", "roster/00000000001", "roster/0000000000", "a/b/c/d", &zero];
        for foreign in others.into_iter().chain([pack.replace("/ab/", "/ac/").as_str()]) {
            assert_eq!(Name::parse(foreign), None, "{foreign}");
        }
    }
}
