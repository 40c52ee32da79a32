//! The form in which a column's values are transferred, and the kind of cell that they become (`docs/format.md`
//! section 4).
//!
//! A type on the allow-list has a binary form that is the same in all server versions. All other types are transferred
//! as the text of their output function. A cast to text is not equivalent: it removes the padding of char(n) and writes
//! bool as a word. A domain is treated like its base type.

use std::collections::HashMap;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::engine::postgres::connect::client::Client;
use crate::engine::postgres::connect::error::PostgresError;
use crate::engine::postgres::connect::identifier::is_readable;
use crate::engine::postgres::connect::identifier::quote_identifier;
use crate::engine::postgres::value::value_kind::ValueKind;
use crate::format::key::Fold;

/// The form in which a value is transferred.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WireFormat {
    /// The type's own binary form.
    Binary,
    /// The text of the type's output function.
    Text,
}

/// Whether values are transferred in binary form if their type has a known one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FormatPreference {
    /// Binary for types on the allow-list, text for all others.
    #[default]
    Binary,
    /// Text for all types. Values of bytea larger than half a gigabyte cannot be read.
    Text,
}

/// How the database compares two values of a column whose bytes differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Equality {
    /// As this fold compares them.
    Folded(Fold),
    /// Only the server can compare them: citext, nondeterministic collations, intervals, types of extensions.
    Server,
}

impl Equality {
    /// The fold that is closest to this equality.
    #[must_use]
    pub fn fold(self) -> Fold {
        match self {
            Self::Folded(fold) => fold,
            Self::Server => Fold::Exact,
        }
    }
}

/// Whether a column's collation treats different bytes as different values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Collation {
    Deterministic,
    Nondeterministic,
}

/// The type of a column, with domains resolved to their base type.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ColumnType {
    /// The kind of the type's values.
    pub kind: ValueKind,
    /// Name of the base type, qualified and quoted.
    name: String,
    /// Name of the output function, qualified and quoted.
    output: String,
    binary: bool,
    domain: bool,
    comparison: TypeComparison,
}

/// How a type compares values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum TypeComparison {
    /// By its bytes: equal values have one form.
    Bytes,
    /// By its bytes without trailing spaces.
    Padded,
    /// In its own way, which only the server knows.
    Own,
}

impl ColumnType {
    /// The form in which values are transferred.
    #[must_use]
    pub fn wire_format(&self, preference: FormatPreference) -> WireFormat {
        match preference {
            FormatPreference::Binary if self.binary => WireFormat::Binary,
            _ => WireFormat::Text,
        }
    }

    /// The expression to select to read the column with this name, which must be unquoted.
    #[must_use]
    pub fn select(&self, column: &str, preference: FormatPreference) -> String {
        self.select_of(&quote_identifier(column), preference)
    }

    /// Like [`Self::select`], for any SQL expression of the type.
    #[must_use]
    pub(crate) fn select_of(&self, expression: &str, preference: FormatPreference) -> String {
        match self.wire_format(preference) {
            WireFormat::Binary => expression.to_owned(),
            // Not all polymorphic output functions accept domains.
            WireFormat::Text if self.domain => {
                format!("pg_catalog.textin({}({expression}::{}))", self.output, self.name)
            }
            WireFormat::Text => format!("pg_catalog.textin({}({expression}))", self.output),
        }
    }

    /// How the database compares values of a column of this type with this collation.
    #[must_use]
    pub fn equality(&self, collation: Collation) -> Equality {
        match (self.comparison, collation) {
            (TypeComparison::Own, _) => Equality::Server,
            (_, Collation::Nondeterministic) if self.kind == ValueKind::Text => Equality::Server,
            (TypeComparison::Padded, _) => Equality::Folded(Fold::TrailingSpace),
            (TypeComparison::Bytes, _) => Equality::Folded(Fold::Exact),
        }
    }

    /// How the database compares keys in a column of this type and collation with values of type `child` that refer to
    /// them.
    #[must_use]
    pub(crate) fn key_equality(&self, collation: Collation, child: &Self) -> Equality {
        match self.equality(collation) {
            Equality::Folded(fold) if self.writes_alike(child) => Equality::Folded(fold),
            _ => Equality::Server,
        }
    }

    /// Whether values of these two types that the server considers equal are equal keys (`docs/format.md` section 4).
    fn writes_alike(&self, child: &Self) -> bool {
        match (self.kind, child.kind) {
            // The server removes the padding before it compares.
            (ValueKind::Text, ValueKind::Text) => {
                self.comparison == TypeComparison::Padded || child.comparison != TypeComparison::Padded
            }
            (ValueKind::Output, ValueKind::Output) => self.name == child.name,
            (own, other) => own == other || own.is_number_like(other),
        }
    }

    fn from_row(row: &Row) -> (u32, Self) {
        let oid: u32 = row.get(0);
        let base: u32 = row.get(1);
        let type_kind: &str = row.get(2);
        let is_enum = type_kind == "e";
        let built_in = built_in(base);
        let allowed = built_in.and_then(|built_in| built_in.kind).or(is_enum.then_some(ValueKind::Text));
        let column_type = Self {
            kind: allowed.unwrap_or_else(|| kind_of_output(row)),
            name: qualified_name(row, 3),
            output: qualified_name(row, 5),
            binary: allowed.is_some(),
            domain: oid != base,
            comparison: TypeComparison::of(built_in, is_enum),
        };
        (oid, column_type)
    }
}

fn kind_of_output(row: &Row) -> ValueKind {
    if is_citext(row) { ValueKind::Text } else { ValueKind::Output }
}

fn is_citext(row: &Row) -> bool {
    let name: &str = row.get(4);
    let extension: Option<&str> = row.get(7);
    name == "citext" && extension == Some("citext")
}

/// The qualified and quoted name from the schema at this position of the row and the name after it.
fn qualified_name(row: &Row, at: usize) -> String {
    format!("{}.{}", quote_identifier(row.get(at)), quote_identifier(row.get(at + 1)))
}

/// A built-in type. Its OID is the same in all server versions.
struct BuiltInType {
    own: Type,
    /// The kind of its values, if its binary form is the same in all server versions: then it is on the allow-list.
    kind: Option<ValueKind>,
    comparison: TypeComparison,
}

const fn with_binary(own: Type, kind: ValueKind, comparison: TypeComparison) -> BuiltInType {
    BuiltInType { own, kind: Some(kind), comparison }
}

const fn with_text(own: Type, comparison: TypeComparison) -> BuiltInType {
    BuiltInType { own, kind: None, comparison }
}

/// The allow-list, and the other types whose equal values have the same output. Values of all remaining types, except
/// enums, are transferred as text, and only the server can compare them.
static BUILT_IN_TYPES: [BuiltInType; 31] = [
    with_binary(Type::BOOL, ValueKind::Bool, TypeComparison::Bytes),
    with_binary(Type::BYTEA, ValueKind::Bytes, TypeComparison::Bytes),
    with_binary(Type::CHAR, ValueKind::Char, TypeComparison::Bytes),
    with_binary(Type::NAME, ValueKind::Text, TypeComparison::Bytes),
    with_binary(Type::INT8, ValueKind::Int8, TypeComparison::Bytes),
    with_binary(Type::INT2, ValueKind::Int2, TypeComparison::Bytes),
    with_binary(Type::INT4, ValueKind::Int4, TypeComparison::Bytes),
    with_binary(Type::TEXT, ValueKind::Text, TypeComparison::Bytes),
    with_binary(Type::OID, ValueKind::Unsigned32, TypeComparison::Bytes),
    with_binary(Type::XID, ValueKind::Unsigned32, TypeComparison::Bytes),
    with_binary(Type::JSON, ValueKind::Json, TypeComparison::Bytes),
    with_binary(Type::FLOAT4, ValueKind::Real32, TypeComparison::Bytes),
    with_binary(Type::FLOAT8, ValueKind::Real, TypeComparison::Bytes),
    with_binary(Type::MONEY, ValueKind::Money, TypeComparison::Bytes),
    with_binary(Type::BPCHAR, ValueKind::Text, TypeComparison::Padded),
    with_binary(Type::VARCHAR, ValueKind::Text, TypeComparison::Bytes),
    with_binary(Type::DATE, ValueKind::Date, TypeComparison::Bytes),
    with_binary(Type::TIME, ValueKind::Time, TypeComparison::Bytes),
    with_binary(Type::TIMESTAMP, ValueKind::Timestamp, TypeComparison::Bytes),
    with_binary(Type::TIMESTAMPTZ, ValueKind::TimestampZoned, TypeComparison::Bytes),
    with_binary(Type::INTERVAL, ValueKind::Interval, TypeComparison::Own),
    with_binary(Type::TIMETZ, ValueKind::TimeZoned, TypeComparison::Bytes),
    with_binary(Type::NUMERIC, ValueKind::Numeric, TypeComparison::Bytes),
    with_binary(Type::UUID, ValueKind::Uuid, TypeComparison::Bytes),
    with_binary(Type::JSONB, ValueKind::Jsonb, TypeComparison::Own),
    with_text(Type::CIDR, TypeComparison::Bytes),
    with_text(Type::MACADDR8, TypeComparison::Bytes),
    with_text(Type::MACADDR, TypeComparison::Bytes),
    with_text(Type::INET, TypeComparison::Bytes),
    with_text(Type::BIT, TypeComparison::Bytes),
    with_text(Type::VARBIT, TypeComparison::Bytes),
];

fn built_in(oid: u32) -> Option<&'static BuiltInType> {
    BUILT_IN_TYPES.iter().find(|built_in| built_in.own.oid() == oid)
}

impl TypeComparison {
    fn of(built_in: Option<&BuiltInType>, is_enum: bool) -> Self {
        match built_in {
            Some(built_in) => built_in.comparison,
            None if is_enum => Self::Bytes,
            None => Self::Own,
        }
    }
}

/// All types of the database's columns, with domains resolved, except types whose names are not readable. `"char"` is
/// cast because the client cannot read it as text.
const TYPES_SQL: &str = "\
WITH RECURSIVE behind(oid, base) AS (
    SELECT t.oid, t.oid FROM pg_catalog.pg_type t WHERE t.typtype <> 'd'
    UNION ALL
    SELECT d.oid, b.base FROM pg_catalog.pg_type d JOIN behind b ON d.typbasetype = b.oid WHERE d.typtype = 'd')
SELECT b.oid, b.base, t.typtype::text, tn.nspname, t.typname, pn.nspname, p.proname, e.extname
FROM behind b
JOIN pg_catalog.pg_type t ON t.oid = b.base
JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
JOIN pg_catalog.pg_proc p ON p.oid = t.typoutput
JOIN pg_catalog.pg_namespace pn ON pn.oid = p.pronamespace
LEFT JOIN pg_catalog.pg_depend d
    ON d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.objid = t.oid AND d.deptype = 'e'
LEFT JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
WHERE b.oid IN (SELECT a.atttypid FROM pg_catalog.pg_attribute a WHERE a.attnum > 0)";

fn names_are_readable() -> String {
    ["tn.nspname", "t.typname", "pn.nspname", "p.proname"].map(is_readable).join(" AND ")
}

/// The types of a database's columns, by OID (`pg_attribute.atttypid`).
#[derive(Clone, Debug, Default)]
pub struct PgTypes(HashMap<u32, ColumnType>);

impl PgTypes {
    /// Reads the types of the database that the client is connected to.
    /// Fails if the query fails.
    pub fn load(client: &Client) -> Result<Self, PostgresError> {
        let sql = format!("{TYPES_SQL} AND {}", names_are_readable());
        let rows = client.query("reading the types of the database", &sql, &[])?;
        Ok(Self(rows.iter().map(ColumnType::from_row).collect()))
    }

    /// The type with this OID, if a column of the database had it when the types were loaded.
    #[must_use]
    pub fn get(&self, oid: u32) -> Option<&ColumnType> {
        self.0.get(&oid)
    }
}

#[cfg(test)]
mod tests {
    use super::{Collation, ColumnType, Equality, FormatPreference, TypeComparison, ValueKind};
    use crate::format::key::Fold;

    impl ColumnType {
        fn built_in(kind: ValueKind, name: &str) -> Self {
            let output = format!("\"pg_catalog\".\"{name}out\"");
            let name = format!("\"pg_catalog\".\"{name}\"");
            Self { kind, name, output, binary: true, domain: false, comparison: TypeComparison::Bytes }
        }

        pub(crate) fn integer() -> Self {
            Self::built_in(ValueKind::Int4, "int4")
        }

        pub(crate) fn text() -> Self {
            Self::built_in(ValueKind::Text, "text")
        }

        pub(crate) fn citext() -> Self {
            let name = "\"ext\".\"citext\"".to_owned();
            let output = "\"ext\".\"citextout\"".to_owned();
            Self { name, output, binary: false, comparison: TypeComparison::Own, ..Self::text() }
        }
    }

    fn column(kind: ValueKind, binary: bool, domain: bool, comparison: TypeComparison) -> ColumnType {
        let name = "\"s\".\"d\"".to_owned();
        let output = "\"pg_catalog\".\"dout\"".to_owned();
        ColumnType { kind, name, output, binary, domain, comparison }
    }

    #[test]
    fn only_types_without_a_stable_binary_form_use_output_functions() {
        let int = column(ValueKind::Int4, true, true, TypeComparison::Bytes);
        assert_eq!(int.select("a\"b", FormatPreference::Binary), "\"a\"\"b\"");
        assert_eq!(
            int.select("a", FormatPreference::Text),
            "pg_catalog.textin(\"pg_catalog\".\"dout\"(\"a\"::\"s\".\"d\"))"
        );
        let point = column(ValueKind::Output, false, false, TypeComparison::Bytes);
        assert_eq!(point.select("a", FormatPreference::Binary), "pg_catalog.textin(\"pg_catalog\".\"dout\"(\"a\"))");
    }

    #[test]
    fn text_types_that_only_the_server_can_compare_are_detected() {
        let text = column(ValueKind::Text, true, false, TypeComparison::Bytes);
        let padded = column(ValueKind::Text, true, false, TypeComparison::Padded);
        let own = column(ValueKind::Text, false, false, TypeComparison::Own);
        assert_eq!(text.equality(Collation::Deterministic), Equality::Folded(Fold::Exact));
        assert_eq!(text.equality(Collation::Nondeterministic), Equality::Server);
        assert_eq!(padded.equality(Collation::Deterministic).fold(), Fold::TrailingSpace);
        assert_eq!(own.equality(Collation::Deterministic), Equality::Server);
    }

    #[test]
    fn keys_across_types_compare_by_bytes_only_if_equal_values_are_equal_keys() {
        let numeric = column(ValueKind::Numeric, true, false, TypeComparison::Bytes);
        let real = column(ValueKind::Real, true, false, TypeComparison::Bytes);
        let date = column(ValueKind::Date, true, false, TypeComparison::Bytes);
        let timestamp = column(ValueKind::Timestamp, true, false, TypeComparison::Bytes);
        let padded = column(ValueKind::Text, true, false, TypeComparison::Padded);
        let of = |parent: &ColumnType, child: &ColumnType| parent.key_equality(Collation::Deterministic, child);
        let text = ColumnType::text();
        let integer = ColumnType::integer();
        let citext = ColumnType::citext();
        for (parent, child) in [(&text, &text), (&text, &citext), (&numeric, &integer), (&padded, &text)] {
            assert_eq!(of(parent, child), parent.equality(Collation::Deterministic), "{parent:?} {child:?}");
        }
        for (parent, child) in [(&citext, &citext), (&real, &integer), (&timestamp, &date), (&text, &padded)] {
            assert_eq!(of(parent, child), Equality::Server, "{parent:?} {child:?}");
        }
        assert_eq!(text.key_equality(Collation::Nondeterministic, &text), Equality::Server);
    }
}
