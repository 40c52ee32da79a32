//! Converts values in PostgreSQL's binary or text form to and from canonical cells.

pub mod calendar;
pub mod column_type;
pub mod copy_decoder;
pub mod copy_encoder;
pub mod copy_error;
pub mod field_decoder;
pub mod field_encoder;
pub mod numeric;
pub mod parameter;
pub mod parent_value_cells;
pub mod value_kind;
