//! Shows how the rows of each table are placed: under which user, along which path, and why. Compares the pinned
//! placement with the one that would be inferred today. Writes nothing, because only a backup pins a placement.

use std::collections::{HashMap, HashSet};

use crate::base::finding::{Finding, FindingKind};
use crate::base::id::{Digest, SourceId};
use crate::base::time::Moment;
use crate::engine::contract::{Description, Source, Strength, Table};
use crate::format::catalog::{Catalog, OwnerPath, TableEntry, is_named};
use crate::format::manifest::Layout;
use crate::ops::access::access_findings;
use crate::ops::backup::{self, BackupOptions, BackupReport, ParentSnapshot, last_manifest};
use crate::ops::error::OpError;
use crate::ops::placement::update::{Pinned, PlacementConfig, Update, update};
use crate::repo::ledger::Ledger;
use crate::repo::open::Unlocked;

/// Usual names of columns that contain a user's id.
const USER_COLUMNS: [&str; 6] = ["user_id", "userid", "owner_id", "account_id", "uid", "owner"];

/// Which source to describe.
#[derive(Clone, Debug)]
pub struct OwnersOptions {
    pub source: SourceId,
    pub placement: PlacementConfig,
}

/// The placement of all rows of a source.
#[derive(Clone, Debug, serde::Serialize)]
pub struct OwnersReport {
    pub source: SourceId,
    pub source_clock: Moment,
    /// The snapshot whose catalog pins the placement. `None` before the first backup.
    pub pinned_by: Option<Digest>,
    /// The table whose rows are the users. Several are separated by commas.
    pub owner_table: Option<String>,
    pub owner_reason: String,
    pub tables: Vec<TablePlacement>,
    /// How rows would be placed differently if the placement were inferred today, what somebody should decide, and
    /// snapshots that could not be read.
    pub findings: Vec<Finding>,
}

/// The placement of the rows of one table.
#[derive(Clone, Debug, serde::Serialize)]
pub struct TablePlacement {
    pub table: String,
    pub kind: PlacementKind,
    /// Paths to the user, such as `fields.contact_id -> contacts.id -> users.id`. The first path that leads to a user
    /// counts.
    pub paths: Vec<String>,
    pub reason: String,
    pub state: PlacementState,
    pub rows_estimate: Option<u64>,
}

/// How the rows of a table are placed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PlacementKind {
    /// Its rows are the users.
    Owner,
    /// Under one user.
    Owned,
    /// Under one user, and found by other users.
    Shared,
    /// Under no user.
    Global,
    /// In the order of their keys, whatever user they belong to.
    Feed,
}

/// Whether a placement is pinned.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum PlacementState {
    /// The newest snapshot pins it, and it would be the same today.
    Pinned,
    /// The next backup will pin it.
    New,
    /// The newest snapshot pins it, and it would be different today.
    Drifted { kind_today: PlacementKind, paths_today: Vec<String> },
}

/// Describes the source and compares it with what is pinned.
/// Fails if the key may not read catalogs, the source cannot be described, or the store fails.
pub fn run(unlocked: &Unlocked, source: &mut dyn Source, options: &OwnersOptions) -> Result<OwnersReport, OpError> {
    let ledger = Ledger::load(unlocked.repository(), options.source)?;
    check_rights(unlocked, &ledger)?;
    let mut notes = Vec::new();
    let parent = last_manifest(unlocked, &ledger, &mut notes)?;
    let description = source.describe().map_err(OpError::from_engine)?;
    source.release().map_err(OpError::from_engine)?;
    let view = PlacementView::new(parent.catalog.as_ref(), &description, &options.placement);
    let mut findings = view.findings(notes);
    findings.extend(access_findings(unlocked, &ledger));
    findings.extend(unlocked.repository().roster().feature_findings());
    Ok(OwnersReport {
        source: options.source,
        source_clock: description.source_clock,
        pinned_by: snapshot_of(&parent, &ledger),
        owner_table: view.owner_names(),
        owner_reason: view.now.mapping.owner_reason.clone(),
        tables: view.tables(),
        findings,
    })
}

/// Checks that the key may read the names in the source's catalogs.
fn check_rights(unlocked: &Unlocked, ledger: &Ledger) -> Result<(), OpError> {
    let newest = ledger.newest().map(|record| record.snapshot.epoch);
    let epoch = newest.or_else(|| unlocked.repository().roster().open_epoch().map(|(epoch, _)| epoch));
    if let Some(epoch) = epoch {
        unlocked.source_keys(ledger.source, epoch, "showing owners")?;
    }
    Ok(())
}

/// The snapshot that the manifest belongs to.
fn snapshot_of(parent: &ParentSnapshot, ledger: &Ledger) -> Option<Digest> {
    let session = parent.session?;
    ledger.live().find(|record| record.snapshot.session == session).map(|record| record.id)
}

/// Pins today's placement: takes a backup for which everything is inferred again.
/// Fails as [`backup::run`] does.
pub fn accept(
    unlocked: &mut Unlocked,
    source: &mut dyn Source,
    options: &BackupOptions,
) -> Result<BackupReport, OpError> {
    backup::run(unlocked, source, &BackupOptions { pinned: Pinned::Renew, ..options.clone() })
}

/// A catalog in which tables are found without a search.
struct IndexedCatalog<'c> {
    catalog: &'c Catalog,
    by_number: HashMap<u32, &'c TableEntry>,
}

impl<'c> IndexedCatalog<'c> {
    fn new(catalog: &'c Catalog) -> Self {
        Self { catalog, by_number: catalog.by_number() }
    }

    fn table(&self, number: u32) -> Option<&'c TableEntry> {
        self.by_number.get(&number).copied()
    }
}

/// The catalogs that placements are compared with.
struct PlacementCatalogs<'c> {
    /// Table numbers.
    pinned: HashSet<u32>,
    now: IndexedCatalog<'c>,
    today: IndexedCatalog<'c>,
}

impl PlacementCatalogs<'_> {
    fn state(&self, entry: &TableEntry) -> PlacementState {
        if !self.pinned.contains(&entry.number) {
            return PlacementState::New;
        }
        let Some(entry_today) = self.today.table(entry.number) else { return PlacementState::Pinned };
        let kind_today = kind(self.today.catalog, entry_today);
        let paths_today = paths(&self.today, entry_today);
        if kind_today == kind(self.now.catalog, entry) && paths_today == paths(&self.now, entry) {
            return PlacementState::Pinned;
        }
        PlacementState::Drifted { kind_today, paths_today }
    }
}

/// The placement of a source's rows: as it is pinned, and as it would be inferred today.
struct PlacementView<'a> {
    pinned: Option<&'a Catalog>,
    description: &'a Description,
    config: &'a PlacementConfig,
    now: Update,
    today: Catalog,
}

impl<'a> PlacementView<'a> {
    fn new(pinned: Option<&'a Catalog>, description: &'a Description, config: &'a PlacementConfig) -> Self {
        let update_with = |mode| update(pinned.cloned(), description, config, String::new(), mode);
        let now = update_with(Pinned::Keep);
        let today = update_with(Pinned::Renew).catalog;
        Self { pinned, description, config, now, today }
    }
}

impl PlacementView<'_> {
    fn owners(&self) -> Vec<&TableEntry> {
        let by_number = self.now.catalog.by_number();
        self.now.catalog.owners.iter().filter_map(|owner| by_number.get(&owner.table).copied()).collect()
    }

    /// The names of the owner tables.
    fn owner_names(&self) -> Option<String> {
        let names: Vec<&str> = self.owners().iter().map(|entry| entry.name.as_str()).collect();
        (!names.is_empty()).then(|| names.join(", "))
    }

    /// The tables of the source, each with its entry in the catalog.
    fn entries(&self) -> impl Iterator<Item = (&Table, &TableEntry)> {
        let entries = self.now.tables.iter().map(|&at| &self.now.catalog.tables[at]);
        self.description.tables.iter().zip(entries)
    }

    fn tables(&self) -> Vec<TablePlacement> {
        let pinned = self.pinned.into_iter().flat_map(|catalog| &catalog.tables);
        let compared = PlacementCatalogs {
            pinned: pinned.map(|entry| entry.number).collect(),
            now: IndexedCatalog::new(&self.now.catalog),
            today: IndexedCatalog::new(&self.today),
        };
        let owner = self.owner_names().unwrap_or_else(|| "the users".to_owned());
        let mut placements = Vec::new();
        for (table, entry) in self.entries() {
            let kind = kind(&self.now.catalog, entry);
            placements.push(TablePlacement {
                table: table.name.clone(),
                kind,
                paths: paths(&compared.now, entry),
                reason: self.reason(table, entry, kind, &owner),
                state: compared.state(entry),
                rows_estimate: table.rows_estimate,
            });
        }
        placements
    }

    fn reason(&self, table: &Table, entry: &TableEntry, kind: PlacementKind, owner: &str) -> String {
        match kind {
            PlacementKind::Owner => self.now.mapping.owner_reason.clone(),
            PlacementKind::Feed => self.feed_reason(table),
            PlacementKind::Global => format!("no foreign key leads to {owner}"),
            PlacementKind::Owned | PlacementKind::Shared => owned_reason(table, entry, kind, owner),
        }
    }

    fn feed_reason(&self, table: &Table) -> String {
        if self.config.layout_of(&table.name) == Some(Layout::Key) {
            return "named in the configuration".to_owned();
        }
        table.feed_hint.clone().unwrap_or_else(|| "pinned earlier".to_owned())
    }

    fn findings(&self, notes: Vec<Finding>) -> Vec<Finding> {
        let mut findings = self.now.drift.clone();
        findings.extend(self.open_questions());
        findings.extend(notes);
        findings
    }

    /// Questions that only a person can answer.
    fn open_questions(&self) -> Vec<Finding> {
        let mut questions = self.config_questions();
        let owners = self.owners();
        if owners.is_empty() {
            let text = "no owner table is known; name it with owner_table, otherwise no single user can be restored";
            questions.insert(0, question("owner_table", text));
            return questions;
        }
        for (table, entry) in self.entries() {
            // A table with a layout in the configuration is decided.
            if self.config.layout_of(&table.name).is_none() {
                questions.extend(self.table_question(table, entry, &owners));
            }
        }
        questions
    }

    /// Names in the configuration that do not exist in the source.
    fn config_questions(&self) -> Vec<Finding> {
        let is_known = |name: &String| self.description.tables.iter().any(|table| is_named(&table.name, name));
        let mut questions = Vec::new();
        let owners = self.config.owner_tables.iter().filter(|name| !is_known(name));
        questions.extend(owners.map(|name| unknown_owner_table(name)));
        questions.extend(self.config.layouts.keys().filter(|name| !is_known(name)).map(|name| unknown_layout(name)));
        questions
    }

    fn table_question(&self, table: &Table, entry: &TableEntry, owners: &[&TableEntry]) -> Option<Finding> {
        match kind(&self.now.catalog, entry) {
            PlacementKind::Global => owners.iter().find_map(|owner| user_column_question(table, owner)),
            PlacementKind::Owned | PlacementKind::Shared if is_weak(table, entry) => Some(question(
                &table.name,
                "its rows lose their reference when the parent is deleted: do they belong to its user?",
            )),
            _ => None,
        }
    }
}

fn owned_reason(table: &Table, entry: &TableEntry, kind: PlacementKind, owner: &str) -> String {
    if is_weak(table, entry) {
        return format!("only foreign keys that a row loses when its parent is deleted lead to {owner}");
    }
    if kind == PlacementKind::Owned {
        return format!("its foreign key leads to {owner}");
    }
    format!("several foreign keys lead to {owner}: the first that is not null places a row, the others can find it")
}

fn unknown_owner_table(name: &str) -> Finding {
    question("owner_table", format!("the configuration names {name}, which does not exist"))
}

fn unknown_layout(name: &str) -> Finding {
    question(name, "the configuration gives it a layout, but it does not exist")
}

fn user_column_question(table: &Table, owner: &TableEntry) -> Option<Finding> {
    let column = user_column(table, &owner.name)?;
    let text = format!(
        "{column} looks like a user's id, but is not a foreign key, so the rows are placed under no user; give the \
        table a layout in the configuration to confirm this"
    );
    Some(question(&table.name, text))
}

fn question(object: &str, text: impl ToString) -> Finding {
    Finding::new(FindingKind::Undecided, object, text)
}

/// Whether all foreign keys that place rows are weak.
fn is_weak(table: &Table, entry: &TableEntry) -> bool {
    !entry.paths.iter().any(|path| is_strong(table, entry, path))
}

/// Whether a path begins with a foreign key that ties a row to its parent.
fn is_strong(table: &Table, entry: &TableEntry, path: &OwnerPath) -> bool {
    let path_columns = names(entry, path.terms.iter().map(|term| term.column));
    for key in &table.foreign_keys {
        let columns: Vec<&str> = key.columns.iter().map(|&at| table.columns[at].name.as_str()).collect();
        if key.strength == Strength::Owning && columns == path_columns {
            return true;
        }
    }
    false
}

fn kind(catalog: &Catalog, entry: &TableEntry) -> PlacementKind {
    if catalog.owner_kind(entry.number).is_some() {
        return PlacementKind::Owner;
    }
    if entry.layout == Layout::Key {
        return PlacementKind::Feed;
    }
    match entry.paths.len() {
        0 => PlacementKind::Global,
        1 => PlacementKind::Owned,
        _ => PlacementKind::Shared,
    }
}

/// The paths to the user, as text.
fn paths(catalog: &IndexedCatalog<'_>, entry: &TableEntry) -> Vec<String> {
    if entry.layout == Layout::Key {
        return Vec::new();
    }
    entry.paths.iter().map(|path| path_words(catalog, entry, path)).collect()
}

fn path_words(catalog: &IndexedCatalog<'_>, entry: &TableEntry, path: &OwnerPath) -> String {
    let mut words = column_words(entry, path.terms.iter().map(|term| term.column));
    let mut next = Some(path);
    // Pinned paths lead upwards. The bound ends the loop even if they do not.
    for _ in 0..catalog.by_number.len() {
        let Some(path) = next else { break };
        let Some(parent) = catalog.table(path.parent) else { break };
        words.push_str(" -> ");
        words.push_str(&column_words(parent, path.parent_columns()));
        next = if catalog.catalog.owner_kind(parent.number).is_some() { None } else { parent.paths.first() };
    }
    words
}

fn names(entry: &TableEntry, columns: impl Iterator<Item = u32>) -> Vec<&str> {
    columns.filter_map(|number| entry.column(number)).map(|column| column.name.as_str()).collect()
}

fn column_words(entry: &TableEntry, columns: impl Iterator<Item = u32>) -> String {
    match names(entry, columns).as_slice() {
        [one] => format!("{}.{one}", entry.name),
        several => format!("{}.({})", entry.name, several.join(", ")),
    }
}

/// Names of columns that contain the id of a row of `owner`.
fn id_names(owner: &str) -> [String; 2] {
    let owner = owner.rsplit('.').next().unwrap_or(owner).to_ascii_lowercase();
    let singular = owner.strip_suffix('s').unwrap_or(&owner);
    [format!("{singular}_id"), format!("{singular}id")]
}

/// A column that contains a user's id, judging by its name.
fn user_column<'t>(table: &'t Table, owner: &str) -> Option<&'t str> {
    let of_owner = id_names(owner);
    let mut names = table.columns.iter().map(|column| column.name.as_str());
    names.find(|name| {
        let name = name.to_ascii_lowercase();
        USER_COLUMNS.contains(&name.as_str()) || of_owner.contains(&name)
    })
}
