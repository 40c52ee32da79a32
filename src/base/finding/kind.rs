//! What can be found, how bad it is, and what to do about it.

use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something stored is gone or altered, and somebody may miss it.
    Damage,
    /// Something that a backup or a restore needs does not work.
    Failure,
    /// Not as it must be, yet nothing stored is lost by it.
    Warning,
    /// Worth knowing.
    Information,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(tag = "kind", content = "facts", rename_all = "kebab-case")]
pub enum FindingKind {
    // Objects of the store.
    /// An object that must be there is not.
    Missing,
    /// An object has another size than the ledger says.
    WrongSize { expected_bytes: u64, found_bytes: u64 },
    /// An object's bytes are not those that its name or a signed statement says.
    WrongContent,
    /// A signed entry is not what was signed, or not what its successor saw.
    Altered,
    /// An entry that never counted and was passed over.
    Void,
    /// An entry of a chain is missing, so that `ignored` entries from number `first` on do not count.
    Hole { first: u64, ignored: u64 },
    /// Signed state went back in time.
    RolledBack,
    /// Objects of a source that the roster does not name.
    UnknownSource,
    /// An object or chunk that does not open or decode.
    Unreadable,
    /// A chunk that a snapshot needs lies in no pack of the inventory.
    LostChunk,
    /// Counts, order, boundaries or ids that do not follow from the content.
    Contradiction,
    /// A location hint that leads elsewhere; readers ask the index.
    StaleHint,
    /// A fragment of the index that is damaged or says something else than the packs; it is a cache.
    StaleIndex,
    /// An object that nothing refers to, as interrupted runs leave behind.
    Orphan,
    /// A name that is none of the format's.
    Foreign,
    /// An object of a later version.
    Unsupported,
    /// Something that this key cannot check.
    NotChecked,

    // Snapshots and their sources.
    /// The newest clean snapshot is older than it may be.
    Stale { age_s: u64, max_age_s: u64 },
    /// A source has no clean snapshot.
    NoSnapshot,
    /// Snapshots that may hold a ruined state of the source, and that nobody has accepted.
    Suspect { snapshots: u64 },
    /// Rows that would be placed under other users if that were decided today.
    PlacementDrift,
    /// A question about the placement of rows that only a person can answer.
    Undecided,
    /// The keys were rotated between the snapshots that are compared.
    KeysRotated,

    // What a snapshot does not have of its source, or not exactly.
    /// As the manifest tells it, which keeps only words.
    NotCaptured,
    /// The role may not read a table.
    NoPrivilege,
    /// Row security would hide rows from the role.
    RowSecurity,
    /// The rows of a table are on another server.
    ForeignTable { server: String },
    /// A standby does not have what an unlogged table or sequence holds.
    UnloggedOnStandby,
    /// Rows that are taken for a part of an extension, which makes its tables anew.
    ExtensionRows { extension: String },
    /// A name that is not valid text.
    UnreadableName,
    /// The role may not read where a sequence stands.
    UnreadableSequence,
    /// The role may not read what large objects hold.
    UnreadableLargeObjects { objects: u64 },
    /// The role may not read roles and tablespaces, or the passwords of roles.
    UnreadableRoles,
    /// A definition that is hidden from the role, that no dump has, or that the database itself cannot read.
    UnreadableDefinition,
    /// The tool that dumps the schema warned of something.
    DumpWarning,
    /// A type was altered while rows of these tables were read.
    AlteredType { tables: Vec<String> },
    /// A row is missing, because its value in this column is longer than the server sends.
    ValueTooLong { column: String },
    /// How parents write their keys could not be asked: rows that write them otherwise are not found by their owner.
    ParentsNotAsked,
    /// A virtual table whose module is not known here and may keep rows elsewhere.
    UnknownModule { module: String },
    /// The numbers of rows that no column has.
    RowidsNotKept,
    /// Texts of which the database does not tell how they begin.
    AmbiguousTexts { texts: u64 },
    /// A table that can be read only in part, because the file is damaged.
    DamagedTable { rows_read: u64 },
    /// A table that has pages behind the end of the file, which the database takes for zeros.
    TruncatedTable,
    /// A file that ends too early.
    TruncatedFile { missing_pages: u64, pages: u64 },
    /// Part of the schema that is captured, but that a restore could not make as it is.
    NotRestorable,

    // What a restore wrote.
    /// Data of the snapshot that cannot be read, left out of what is restored; `rows` as far as they are known.
    LeftOut { rows: u64 },
    /// A statement or an object that the target refused.
    Refused,
    /// A key or another constraint that the target refused.
    RefusedConstraint,
    /// Rows that the target refused.
    RefusedRows { rows: u64 },
    /// Rows that the target took, with a value that is not the snapshot's.
    AlteredRows { rows: u64 },
    /// Functions of the application that are not known where the restore ran: what they compute is not there yet.
    UnknownFunctions { functions: Vec<String> },
    /// Collations of the application that are not known where the restore ran: what they order is to be ordered again.
    UnknownCollations { collations: Vec<String> },
    /// A table of the target has another number of rows than the snapshot.
    RowCount { expected: u64, restored: u64 },

    // What backups and restores need.
    /// The configuration cannot be used.
    Configuration,
    /// The store does not do, or does not allow, what a backup or a restore asks of it.
    StoreUnfit,
    /// The key cannot be used for what it is here for.
    KeyUnfit,
    /// A live database cannot be backed up, or not reliably.
    SourceUnfit,
    /// The connection to a server is not encrypted.
    Unencrypted,
    /// A server of a version that is not supported, or not yet.
    ServerVersion { major: i32 },
    /// A program that a backup runs is not there, or does not suit the server.
    NoTool,
    /// The role may not ask which server this is.
    ServerUnknown,
    /// A server may run out of locks during a backup.
    FewLocks { needed: i64, free: i64 },
    /// This host lacks something, such as room for temporary files.
    HostUnfit,
    /// Another clock differs from this host's; positive: it is ahead.
    ClockSkew { seconds: i64 },

    /// Worth telling, and without consequences.
    Note,
}

const RESTORE_OBJECT: &str = "put the object of this name back from a second copy of the store; without one, the next \
                              backup stores again what is still in the source and missing here";
const RESTORE_ENTRY: &str =
    "put the entry of this name back from a second copy of the store, and find out who can write to it";
const FIND_NEWER_COPY: &str = "an older copy of the store was put back or entries were deleted: find out which, and put \
                               the newer ones back from a second copy";
const RESTORE_OTHER_SNAPSHOT: &str = "whoever wrote it had a faulty program or a stolen key: restore from another \
                                      snapshot, and take a new backup";

impl FindingKind {
    /// How bad it is, unless whoever finds it knows better.
    #[must_use]
    pub fn severity(&self) -> Severity {
        if self.is_gap() || self.is_refusal() {
            return Severity::Warning;
        }
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
            | Self::LeftOut { .. } => Severity::Damage,
            Self::Configuration
            | Self::StoreUnfit
            | Self::KeyUnfit
            | Self::SourceUnfit
            | Self::NoTool
            | Self::HostUnfit => Severity::Failure,
            Self::Orphan | Self::Foreign | Self::KeysRotated | Self::Note => Severity::Information,
            _ => Severity::Warning,
        }
    }

    /// Whether a snapshot does not have something of its source, or not exactly.
    #[must_use]
    pub fn is_gap(&self) -> bool {
        matches!(
            self,
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
                | Self::ParentsNotAsked
                | Self::UnknownModule { .. }
                | Self::RowidsNotKept
                | Self::AmbiguousTexts { .. }
                | Self::DamagedTable { .. }
                | Self::TruncatedTable
                | Self::TruncatedFile { .. }
                | Self::NotRestorable
        )
    }

    /// Whether a target does not have something of the snapshot, or not exactly, because it refused it.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Refused
                | Self::RefusedConstraint
                | Self::RefusedRows { .. }
                | Self::AlteredRows { .. }
                | Self::UnknownFunctions { .. }
                | Self::UnknownCollations { .. }
        )
    }

    /// What to do about it, in one sentence, where that is the same whatever the object is.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        Some(match self {
            Self::Missing | Self::WrongSize { .. } | Self::WrongContent | Self::Unreadable | Self::LostChunk => {
                RESTORE_OBJECT
            }
            Self::Altered => RESTORE_ENTRY,
            Self::Void => "nothing is lost; find out who wrote it",
            Self::Hole { .. } => {
                "put the missing entry back from a second copy of the store before the next backup takes its number"
            }
            Self::RolledBack => FIND_NEWER_COPY,
            Self::UnknownSource => "put the roster entry that added the source back from a second copy of the store",
            Self::Contradiction => RESTORE_OTHER_SNAPSHOT,
            Self::StaleHint | Self::StaleIndex => "nothing to do: nothing is lost, but reading takes longer",
            Self::Orphan => "nothing to do: nobody needs it, and the next backup adopts what it can",
            Self::Foreign => "it is never touched; remove it by hand if it is not yours",
            Self::Unsupported => "use a newer version of sidekeep",
            Self::NotChecked => "check it with a key that may",
            _ => return None,
        })
    }
}
