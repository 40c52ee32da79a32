//! Values on the wire, as binary or text, to and from canonical cells.

pub mod binary;
pub mod calendar;
pub mod column_type;
pub mod copy;
pub mod encode;
pub mod encode_binary;
pub mod numeric;
pub mod output;
pub mod rows;
pub mod value_kind;
