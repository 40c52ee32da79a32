//! What changed between two snapshots: rows by table and by user. Reads what differs and nothing else.

mod count;
mod diff;
mod report;
mod rows;
mod sample;
mod side;
mod table;

pub use diff::{DiffOptions, run};
pub use report::{
    CellSample, Changes, DiffReport, RowChange, RowSample, TableDiff, TablePresence, UserDiff, UserTable,
};
