//! What changed between two snapshots: rows by table and by user. Reads what differs and nothing else.

mod count;
mod report;
mod rows;
mod run;
mod sample;
mod side;
mod table;

pub use report::{
    CellSample, Changes, DiffReport, RowChange, RowSample, TableDiff, TablePresence, UserDiff, UserTable,
};
pub use run::{DiffOptions, run};
