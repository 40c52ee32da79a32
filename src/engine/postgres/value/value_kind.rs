//! The kinds of values, and the errors for bytes from a server that are not a valid value of their kind.

use std::fmt;

use thiserror::Error;

/// The kind of a value. Several kinds become the same kind of cell but have different forms on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ValueKind {
    Bool,
    Int2,
    Int4,
    Int8,
    /// `oid` and `xid`.
    Unsigned32,
    Money,
    Real32,
    Real,
    Numeric,
    /// `text`, `varchar`, `bpchar`, `name`, `citext` and enum labels.
    Text,
    /// `"char"`: one byte.
    Char,
    Bytes,
    Uuid,
    Date,
    Time,
    TimeZoned,
    Timestamp,
    TimestampZoned,
    Interval,
    Json,
    Jsonb,
    /// Any other type: the text of its output function.
    Output,
}

impl ValueKind {
    /// All kinds in their order. The length depends on the last one, so that a missing kind is an error of the compiler.
    pub const ALL: [Self; Self::Output as usize + 1] = [
        Self::Bool,
        Self::Int2,
        Self::Int4,
        Self::Int8,
        Self::Unsigned32,
        Self::Money,
        Self::Real32,
        Self::Real,
        Self::Numeric,
        Self::Text,
        Self::Char,
        Self::Bytes,
        Self::Uuid,
        Self::Date,
        Self::Time,
        Self::TimeZoned,
        Self::Timestamp,
        Self::TimestampZoned,
        Self::Interval,
        Self::Json,
        Self::Jsonb,
        Self::Output,
    ];

    /// Whether both are exact numbers, or both are floating-point numbers.
    pub(crate) fn is_number_like(self, other: Self) -> bool {
        self.is_exact_number() && other.is_exact_number() || self.is_real() && other.is_real()
    }

    fn is_exact_number(self) -> bool {
        matches!(self, Self::Int2 | Self::Int4 | Self::Int8 | Self::Unsigned32 | Self::Numeric)
    }

    fn is_real(self) -> bool {
        matches!(self, Self::Real32 | Self::Real)
    }
}

impl fmt::Display for ValueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "boolean",
            Self::Int2 => "smallint",
            Self::Int4 => "integer",
            Self::Int8 => "bigint",
            Self::Unsigned32 => "oid",
            Self::Money => "money",
            Self::Real32 => "real",
            Self::Real => "double precision",
            Self::Numeric => "numeric",
            Self::Text => "text",
            Self::Char => "\"char\"",
            Self::Bytes => "bytea",
            Self::Uuid => "uuid",
            Self::Date => "date",
            Self::Time => "time",
            Self::TimeZoned => "time with time zone",
            Self::Timestamp => "timestamp",
            Self::TimestampZoned => "timestamp with time zone",
            Self::Interval => "interval",
            Self::Json => "json",
            Self::Jsonb => "jsonb",
            Self::Output => "output of a type",
        })
    }
}

/// Why bytes from a server are not a valid value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum FieldError {
    /// The value has the wrong size.
    #[error("{len} bytes are not a valid {kind}")]
    Length { kind: ValueKind, len: usize },
    /// The value is out of its type's range, or its form is unknown.
    #[error("not a valid {kind}: {what}")]
    Invalid { kind: ValueKind, what: &'static str },
}
