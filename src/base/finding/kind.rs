//! The kinds of findings, their severities and their remedies.

use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something stored is missing or altered, and its loss may matter.
    Damage,
    /// Something that a backup or a restore needs does not work.
    Failure,
    /// Not as it should be, but no stored data is lost.
    Warning,
    /// Worth knowing.
    Information,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(tag = "kind", content = "facts", rename_all = "kebab-case")]
pub enum FindingKind {
    // Objects of the store.
    /// An object that must exist does not.
    Missing,
    /// The size of an object differs from the size in the ledger.
    WrongSize { expected_bytes: u64, found_bytes: u64 },
    /// The content of an object differs from what its name or a signed statement promises.
    WrongContent,
    /// A signed entry differs from what was signed, or from what its successor recorded.
    Altered,
    /// An entry that was never valid and was skipped.
    Void,
    /// An entry of a chain is missing, so `ignored` entries from number `first` on do not count.
    Hole { first: u64, ignored: u64 },
    /// Signed state went back in time.
    RolledBack,
    /// Objects of a source that the roster does not name.
    UnknownSource,
    /// An object or chunk that cannot be decrypted or decoded.
    Unreadable,
    /// A chunk that a snapshot needs is in no pack of the inventory.
    LostChunk,
    /// Counts, order, boundaries or ids that do not match the content.
    Contradiction,
    /// A location hint that points to the wrong place. Readers use the index instead.
    StaleHint,
    /// An index fragment that is damaged or disagrees with the packs. The index is a cache.
    StaleIndex,
    /// An object that nothing refers to, such as one left behind by an interrupted run.
    Orphan,
    /// A name that the format does not define.
    Foreign,
    /// An object written by a later version.
    Unsupported,
    /// Something that this key cannot check.
    NotChecked,

    // Snapshots and their sources.
    /// The newest clean snapshot is older than the maximum age.
    Stale { age_s: u64, max_age_s: u64 },
    /// A source has no clean snapshot.
    NoSnapshot,
    /// Snapshots that may contain a ruined state of the source and that nobody has accepted.
    Suspect { snapshots: u64 },
    /// A source whose name means another source, so that only its id means it.
    AmbiguousName,
    /// The key that the command was given was revoked. It still opens what it was granted.
    RevokedKey,
    /// Rows that would be assigned to other users if placement were decided today.
    PlacementDrift,
    /// A question about the placement of rows that only a person can answer.
    Undecided,
    /// The keys were rotated between the two compared snapshots.
    KeysRotated,

    // What a snapshot lacks of its source, or does not have exactly.
    /// A gap read back from a manifest, which stores gaps only as text.
    NotCaptured,
    /// The role has no privilege to read a table.
    NoPrivilege,
    /// Row-level security would hide rows from the role.
    RowSecurity,
    /// The rows of a table are on another server.
    ForeignTable { server: String },
    /// An unlogged table or sequence, whose contents a standby does not have.
    UnloggedOnStandby,
    /// Rows considered part of an extension, which creates its tables itself.
    ExtensionRows { extension: String },
    /// A name that is not valid text.
    UnreadableName,
    /// The role may not read the current value of a sequence.
    UnreadableSequence,
    /// The role may not read the contents of large objects.
    UnreadableLargeObjects { objects: u64 },
    /// The role may not read roles and tablespaces, or the passwords of roles.
    UnreadableRoles,
    /// A definition that the role cannot see, that dumps never contain, or that the database itself cannot read.
    UnreadableDefinition,
    /// The tool that dumps the schema printed a warning.
    DumpWarning,
    /// A type was altered while rows of these tables were being read.
    AlteredType { tables: Vec<String> },
    /// A row is missing because its value in this column is longer than the server sends. `row` is the source's name for
    /// it.
    ValueTooLong { column: String, row: String },
    /// Values that could not be read when the snapshot was taken. A restore leaves them empty.
    LostValues { column: String, values: u64 },
    /// Rows or values of a table that could not be read when the snapshot was taken.
    LostData { rows: u64, values: u64 },
    /// Could not find out how parent tables write their keys. Rows that write a key differently are not matched with
    /// their owner.
    ParentsNotAsked,
    /// A virtual table whose module Sidekeep does not know. The module may keep rows elsewhere.
    UnknownModule { module: String },
    /// Rowids that no column contains.
    RowidsNotKept,
    /// Texts whose first characters the database does not reveal.
    AmbiguousTexts { texts: u64 },
    /// A table that is only partly readable because the file is damaged.
    DamagedTable { rows_read: u64 },
    /// A table with pages beyond the end of the file, which the database treats as zeros.
    TruncatedTable,
    /// A file that is shorter than its header says.
    TruncatedFile { missing_pages: u64, pages: u64 },
    /// Part of the schema that is captured but that a restore cannot recreate as it is.
    NotRestorable,

    // What a restore wrote.
    /// Unreadable data of the snapshot, omitted from the restore. `rows` counts the rows known to be missing.
    LeftOut { rows: u64 },
    /// A statement or an object that the target refused.
    Refused,
    /// A key or another constraint that the target refused.
    RefusedConstraint,
    /// Rows that the target refused.
    RefusedRows { rows: u64 },
    /// Rows that the target accepted with a value that differs from the snapshot's.
    AlteredRows { rows: u64 },
    /// Functions of the application that are unknown where the restore ran. Values computed by them are still missing.
    UnknownFunctions { functions: Vec<String> },
    /// Collations of the application that are unknown where the restore ran. What they sort must be sorted again.
    UnknownCollations { collations: Vec<String> },
    /// A table of the target has a different number of rows than the snapshot.
    RowCount { expected: u64, restored: u64 },

    // What backups and restores need.
    /// The configuration cannot be used.
    Configuration,
    /// The store cannot do, or does not allow, what a backup or a restore needs.
    StoreUnfit,
    /// The key cannot be used for this purpose.
    KeyUnfit,
    /// A live database cannot be backed up, or not reliably.
    SourceUnfit,
    /// The connection to a server is not encrypted.
    Unencrypted,
    /// A server version that is not supported, or not yet.
    ServerVersion { major: i32 },
    /// A program that a backup runs is missing or does not match the server's version.
    NoTool,
    /// The role may not ask which server this is.
    ServerUnknown,
    /// A server may run out of locks during a backup.
    FewLocks { needed: i64, free: i64 },
    /// This host lacks something, such as space for temporary files.
    HostUnfit,
    /// Another clock differs from this host's. Positive means that the other clock is ahead.
    ClockSkew { seconds: i64 },

    /// Worth knowing, without consequences.
    Note,
}

const RESTORE_OBJECT: &str = "put the object of this name back from a second copy of the store; without a copy, the next \
                              backup stores again whatever is missing here and still in the source";
const RESTORE_ENTRY: &str =
    "put the entry of this name back from a second copy of the store, and find out who can write to it";
const FIND_NEWER_COPY: &str = "an older copy of the store was put back or entries were deleted: find out which, and put \
                               the newer ones back from a second copy";
const RESTORE_OTHER_SNAPSHOT: &str = "its writer had a faulty program or a stolen key: restore from another \
                                      snapshot, and take a new backup";

/// What a finding means for its reader. Determines the severity and the label of a kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FindingGroup {
    /// Something stored is missing or altered.
    Damage,
    /// Something that a backup or a restore needs does not work.
    Failure,
    /// A snapshot lacks something of its source, or does not have it exactly.
    Gap,
    /// The target of a restore refused part of the snapshot, or altered it.
    Refusal,
    Warning,
    Information,
}

impl FindingGroup {
    fn severity(self) -> Severity {
        match self {
            Self::Damage => Severity::Damage,
            Self::Failure => Severity::Failure,
            Self::Gap | Self::Refusal | Self::Warning => Severity::Warning,
            Self::Information => Severity::Information,
        }
    }
}

impl FindingKind {
    /// How bad it is by default. Code that finds it may override this.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.group().severity()
    }

    /// Without a wildcard, so that a new kind cannot be forgotten here.
    #[must_use]
    pub fn group(&self) -> FindingGroup {
        match self {
            Self::Missing
            | Self::WrongSize { .. }
            | Self::WrongContent
            | Self::Altered
            | Self::Hole { .. }
            | Self::RolledBack
            | Self::UnknownSource
            | Self::Unreadable
            | Self::LostChunk
            | Self::Contradiction
            | Self::LeftOut { .. } => FindingGroup::Damage,
            Self::Configuration
            | Self::StoreUnfit
            | Self::KeyUnfit
            | Self::SourceUnfit
            | Self::NoTool
            | Self::HostUnfit => FindingGroup::Failure,
            Self::NotCaptured
            | Self::NoPrivilege
            | Self::RowSecurity
            | Self::ForeignTable { .. }
            | Self::UnloggedOnStandby
            | Self::ExtensionRows { .. }
            | Self::UnreadableName
            | Self::UnreadableSequence
            | Self::UnreadableLargeObjects { .. }
            | Self::UnreadableRoles
            | Self::UnreadableDefinition
            | Self::DumpWarning
            | Self::AlteredType { .. }
            | Self::ValueTooLong { .. }
            | Self::LostValues { .. }
            | Self::LostData { .. }
            | Self::ParentsNotAsked
            | Self::UnknownModule { .. }
            | Self::RowidsNotKept
            | Self::AmbiguousTexts { .. }
            | Self::DamagedTable { .. }
            | Self::TruncatedTable
            | Self::TruncatedFile { .. }
            | Self::NotRestorable => FindingGroup::Gap,
            Self::Refused
            | Self::RefusedConstraint
            | Self::RefusedRows { .. }
            | Self::AlteredRows { .. }
            | Self::UnknownFunctions { .. }
            | Self::UnknownCollations { .. } => FindingGroup::Refusal,
            Self::Void
            | Self::StaleHint
            | Self::StaleIndex
            | Self::Unsupported
            | Self::NotChecked
            | Self::Stale { .. }
            | Self::NoSnapshot
            | Self::Suspect { .. }
            | Self::AmbiguousName
            | Self::RevokedKey
            | Self::PlacementDrift
            | Self::Undecided
            | Self::RowCount { .. }
            | Self::Unencrypted
            | Self::ServerVersion { .. }
            | Self::ServerUnknown
            | Self::FewLocks { .. }
            | Self::ClockSkew { .. } => FindingGroup::Warning,
            Self::Orphan | Self::Foreign | Self::KeysRotated | Self::Note => FindingGroup::Information,
        }
    }

    /// What to do about it, in one sentence, if that does not depend on the object.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        Some(match self {
            Self::Missing | Self::WrongSize { .. } | Self::WrongContent | Self::Unreadable | Self::LostChunk => {
                RESTORE_OBJECT
            }
            Self::Altered => RESTORE_ENTRY,
            Self::RolledBack => FIND_NEWER_COPY,
            Self::UnknownSource => "put the roster entry that added the source back from a second copy of the store",
            Self::Contradiction => RESTORE_OTHER_SNAPSHOT,
            Self::StaleHint | Self::StaleIndex => "nothing to do: nothing is lost, but reading takes longer",
            Self::Orphan => "nothing to do: nothing refers to it, and the next backup reuses what it can",
            Self::Foreign => "sidekeep never touches it; delete it by hand if it is not yours",
            Self::Unsupported => "use a newer version of sidekeep",
            Self::NotChecked => "check it with a key that can",
            Self::AmbiguousName => {
                "find out who added it; name it by its id, or rename it with `sidekeep source rename`"
            }
            Self::RevokedKey => "use another key, and keep this one only for what no other key opens",
            _ => return None,
        })
    }
}
