//! Compares two snapshots: which rows changed, by table and by user. Reads only the parts that differ.

mod count;
mod diff;
mod report;
mod rows;
mod sample;
mod side;
mod table;
mod user_names;

pub use diff::{DiffOptions, run};
pub use report::{
    CellSample, Changes, DiffReport, RowChange, RowSample, TableDiff, TablePresence, UserDiff, UserTable,
};
