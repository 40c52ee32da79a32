//! The catalog section of a manifest (`docs/format.md` section 9).

mod carried;
mod catalog;
mod cell_text;
mod exact;
mod name;
mod numbers;
mod path;
mod settings;
mod stored_text;
mod table;

pub use catalog::{Catalog, OwnerTable};
pub use name::{find_name, is_named};
pub use path::{DownwardPath, OwnerPath, PathCondition, PathTerm};
pub use settings::{EpochStatement, Settings, SinceColumn, VcardTable};
pub use table::{Answer, ColumnEntry, Generated, TableEntry, UnknownMembers, Visibility};
