//! How the rows of each table are placed: under which user, by which way, and why; what is pinned against
//! what would be inferred today. Writes nothing: a placement is pinned by a backup alone.

use crate::base::id::{Digest, SourceId};
use crate::base::time::Moment;
use crate::engine::contract::{Description, Source, Strength, Table};
use crate::format::catalog::{Catalog, OwnerPath, TableEntry};
use crate::format::manifest::Layout;
use crate::ops::backup::{self, BackupOptions, BackupReport, last_manifest};
use crate::ops::error::OpError;
use crate::ops::placement::update::{Pinned, PlacementConfig, Update, update};
use crate::repo::ledger::Ledger;
use crate::repo::open::Unlocked;

/// Names that columns with a user's id usually have.
const USER_COLUMNS: [&str; 6] = ["user_id", "userid", "owner_id", "account_id", "uid", "owner"];

/// Which source to look at.
#[derive(Clone, Debug)]
pub struct OwnersOptions {
    pub source: SourceId,
    pub placement: PlacementConfig,
}

/// The placement of all rows.
#[derive(Clone, Debug, serde::Serialize)]
pub struct OwnersReport {
    pub source: SourceId,
    pub source_clock: Moment,
    /// The snapshot whose catalog pins the placement; none before the first backup.
    pub pinned_by: Option<Digest>,
    /// The table whose rows are the users.
    pub owner_table: Option<String>,
    pub owner_reason: String,
    pub tables: Vec<TablePlacement>,
    /// How rows would be placed differently if that were decided today.
    pub drift: Vec<String>,
    /// What somebody should decide.
    pub decisions: Vec<Decision>,
    /// Snapshots that could not be looked at.
    pub notes: Vec<String>,
}

/// The placement of the rows of one table.
#[derive(Clone, Debug, serde::Serialize)]
pub struct TablePlacement {
    pub table: String,
    pub kind: PlacementKind,
    /// Ways to the user, `fields.contact_id -> contacts.id -> users.id`; the first that leads anywhere counts.
    pub paths: Vec<String>,
    pub reason: String,
    pub state: PlacementState,
    pub rows_estimate: Option<u64>,
}

/// Where the rows of a table stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PlacementKind {
    /// Its rows are the users.
    Owner,
    /// Under one user.
    Owned,
    /// Under one user, and found by others.
    Shared,
    /// Under nobody.
    Global,
    /// In the order of their keys, whoever they belong to.
    Feed,
}

/// Whether a placement is pinned.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum PlacementState {
    /// By the newest snapshot, and it would be the same today.
    Pinned,
    /// The next backup will pin it.
    New,
    /// By the newest snapshot, and today it would be another.
    Drifted { kind_today: PlacementKind, paths_today: Vec<String> },
}

/// A question that only a person can answer.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Decision {
    pub object: String,
    pub question: String,
}

/// Describes the source and compares it with what is pinned.
pub fn run(unlocked: &Unlocked, source: &mut dyn Source, options: &OwnersOptions) -> Result<OwnersReport, OpError> {
    let ledger = Ledger::load(unlocked.repository(), options.source)?;
    let epoch = ledger.newest().map(|record| record.snapshot.epoch);
    let epoch = epoch.or_else(|| unlocked.repository().roster().open_epoch().map(|(epoch, _)| epoch));
    if let Some(epoch) = epoch {
        unlocked.source_keys(options.source, epoch, "looking at owners")?;
    }
    let mut notes = Vec::new();
    let prior = last_manifest(unlocked, &ledger, &mut notes)?;
    let prior_catalog = prior.catalog.as_ref();
    let description = source.describe().map_err(OpError::from_source)?;
    source.release().map_err(OpError::from_source)?;
    let updated = |pinned| update(prior_catalog, &description, &options.placement, String::new(), pinned);
    let view = View { prior: prior_catalog, description: &description, options, now: updated(Pinned::Keep) };
    let today = updated(Pinned::Renew);
    let session = prior.manifest.as_ref().map(|manifest| manifest.session);
    let pinned_by = ledger.live().find(|record| Some(record.snapshot.session) == session).map(|record| record.id);
    Ok(OwnersReport {
        source: options.source,
        source_clock: description.source_clock,
        pinned_by,
        owner_table: view.owner().map(|entry| entry.name.clone()),
        owner_reason: view.now.mapping.owner_reason.clone(),
        tables: view.tables(&today.catalog),
        drift: view.now.drift.clone(),
        decisions: view.decisions(),
        notes,
    })
}

/// Pins the placement of today: takes a backup with everything inferred anew.
pub fn accept(
    unlocked: &mut Unlocked,
    source: &mut dyn Source,
    options: &BackupOptions,
) -> Result<BackupReport, OpError> {
    backup::run(unlocked, source, &BackupOptions { pinned: Pinned::Renew, ..options.clone() })
}

struct View<'a> {
    prior: Option<&'a Catalog>,
    description: &'a Description,
    options: &'a OwnersOptions,
    now: Update,
}

impl View<'_> {
    fn owner(&self) -> Option<&TableEntry> {
        self.now.catalog.table(self.now.catalog.owner_table?)
    }

    fn tables(&self, today: &Catalog) -> Vec<TablePlacement> {
        let tables = self.description.tables.iter().zip(&self.now.tables);
        tables
            .map(|(table, &at)| {
                let entry = &self.now.catalog.tables[at];
                let kind = kind(&self.now.catalog, entry);
                TablePlacement {
                    table: table.name.clone(),
                    kind,
                    paths: paths(&self.now.catalog, entry),
                    reason: self.reason(table, entry, kind),
                    state: self.state(entry, today),
                    rows_estimate: table.rows_estimate,
                }
            })
            .collect()
    }

    fn state(&self, entry: &TableEntry, today: &Catalog) -> PlacementState {
        if self.prior.is_none_or(|prior| prior.table(entry.number).is_none()) {
            return PlacementState::New;
        }
        let now = (kind(&self.now.catalog, entry), paths(&self.now.catalog, entry));
        let fresh = today.table(entry.number).map(|entry| (kind(today, entry), paths(today, entry)));
        match fresh {
            Some((kind_today, paths_today)) if (kind_today, &paths_today) != (now.0, &now.1) => {
                PlacementState::Drifted { kind_today, paths_today }
            }
            _ => PlacementState::Pinned,
        }
    }

    fn reason(&self, table: &Table, entry: &TableEntry, kind: PlacementKind) -> String {
        let owner = self.owner().map_or("the users", |entry| entry.name.as_str());
        match kind {
            PlacementKind::Owner => self.now.mapping.owner_reason.clone(),
            PlacementKind::Feed => match (&table.feed_hint, self.options.placement.layouts.get(&table.name)) {
                (_, Some(Layout::Key)) => "named in the configuration".to_owned(),
                (Some(hint), _) => hint.clone(),
                (None, _) => "pinned earlier".to_owned(),
            },
            PlacementKind::Global => format!("no foreign key leads to {owner}"),
            PlacementKind::Owned | PlacementKind::Shared if self.is_weak(table, entry) => {
                format!("only foreign keys that are forgotten when their parent goes lead to {owner}")
            }
            PlacementKind::Owned => format!("its foreign key leads to {owner}"),
            PlacementKind::Shared => {
                format!(
                    "several foreign keys lead to {owner}: the first that is not null places a row, the others find it"
                )
            }
        }
    }

    /// Whether all keys that place rows are weak.
    fn is_weak(&self, table: &Table, entry: &TableEntry) -> bool {
        let strong = |path: &OwnerPath| {
            let columns = names(entry, &path.columns);
            table.foreign_keys.iter().any(|key| {
                let own: Vec<&str> = key.columns.iter().map(|&at| table.columns[at].name.as_str()).collect();
                key.strength == Strength::Owning && own == columns
            })
        };
        !entry.paths.iter().any(strong)
    }

    fn decisions(&self) -> Vec<Decision> {
        let mut decisions = Vec::new();
        let mut ask = |object: &str, question: String| {
            decisions.push(Decision { object: object.to_owned(), question });
        };
        let known = |name: &String| self.description.tables.iter().any(|table| table.name == *name);
        if self.owner().is_none() {
            ask("owner_table", "no table of users is known; name it, or no single user can be restored".to_owned());
        }
        if let Some(name) = self.options.placement.owner_table.as_ref().filter(|name| !known(name)) {
            ask("owner_table", format!("the configuration names {name}, which is not there"));
        }
        for name in self.options.placement.layouts.keys().filter(|name| !known(name)) {
            ask(name, "the configuration gives it a layout, and it is not there".to_owned());
        }
        let Some(owner) = self.owner() else { return decisions };
        // Whoever gave a table a layout has decided.
        let is_open = |table: &Table| self.options.placement.layout_of(&table.name).is_none();
        let tables = self.description.tables.iter().zip(&self.now.tables);
        for (table, &at) in tables.filter(|(table, _)| is_open(table)) {
            let entry = &self.now.catalog.tables[at];
            match kind(&self.now.catalog, entry) {
                PlacementKind::Global => {
                    if let Some(column) = user_column(table, &owner.name) {
                        ask(
                            &table.name,
                            format!(
                                "{column} looks like a user, but is no foreign key: its rows are placed under nobody; a layout \
                                 in the configuration says that this is right"
                            ),
                        );
                    }
                }
                PlacementKind::Owned | PlacementKind::Shared if self.is_weak(table, entry) => {
                    ask(&table.name, "does a row of it belong to the user that it may forget?".to_owned());
                }
                _ => {}
            }
        }
        decisions
    }
}

fn kind(catalog: &Catalog, entry: &TableEntry) -> PlacementKind {
    if catalog.owner_table == Some(entry.number) {
        PlacementKind::Owner
    } else if entry.layout == Layout::Key {
        PlacementKind::Feed
    } else {
        match entry.paths.len() {
            0 => PlacementKind::Global,
            1 => PlacementKind::Owned,
            _ => PlacementKind::Shared,
        }
    }
}

/// The ways to the user in words.
fn paths(catalog: &Catalog, entry: &TableEntry) -> Vec<String> {
    if entry.layout == Layout::Key {
        return Vec::new();
    }
    entry.paths.iter().map(|path| path_words(catalog, entry, path)).collect()
}

fn path_words(catalog: &Catalog, entry: &TableEntry, path: &OwnerPath) -> String {
    let mut words = column_words(entry, &path.columns);
    let mut next = Some(path);
    // Pinned paths lead upwards; the bound holds even if they should not.
    for _ in 0..catalog.tables.len() {
        let Some(path) = next else { break };
        let Some(parent) = catalog.table(path.parent) else { break };
        words = format!("{words} -> {}", column_words(parent, &path.parent_columns));
        next = if catalog.owner_table == Some(parent.number) { None } else { parent.paths.first() };
    }
    words
}

fn names<'e>(entry: &'e TableEntry, columns: &[u32]) -> Vec<&'e str> {
    columns.iter().filter_map(|number| entry.column(*number)).map(|column| column.name.as_str()).collect()
}

fn column_words(entry: &TableEntry, columns: &[u32]) -> String {
    match names(entry, columns).as_slice() {
        [one] => format!("{}.{one}", entry.name),
        several => format!("{}.({})", entry.name, several.join(", ")),
    }
}

/// A column that by its name holds a user's id.
fn user_column<'t>(table: &'t Table, owner: &str) -> Option<&'t str> {
    let owner = owner.rsplit('.').next().unwrap_or(owner).to_ascii_lowercase();
    let singular = owner.strip_suffix('s').unwrap_or(&owner).to_owned();
    table.columns.iter().map(|column| column.name.as_str()).find(|name| {
        let name = name.to_ascii_lowercase();
        USER_COLUMNS.contains(&name.as_str()) || [format!("{singular}_id"), format!("{singular}id")].contains(&name)
    })
}
