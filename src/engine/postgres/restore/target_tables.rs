//! The tables of the target, with their current sizes.

use std::collections::BTreeMap;

use crate::engine::contract::EngineError;
use crate::engine::postgres::connect::identifier::quote_identifier;
use crate::engine::postgres::connect::query::{QueryError, RowFields};
use crate::engine::postgres::restore::session::TargetSession;
use crate::engine::postgres::schema::table::qualified;

/// A table or a materialized view of the target.
pub(super) struct ExistingRelation {
    pub(super) is_partitioned: bool,
    pub(super) bytes: u64,
    /// The relation itself and all partitions below it.
    pub(super) family: Vec<String>,
}

/// Relations by name.
pub(super) type ExistingRelations = BTreeMap<String, ExistingRelation>;

/// Lists all tables and materialized views.
/// Fails if the query fails or returns an unexpected value.
pub(super) fn existing_relations(session: &TargetSession) -> Result<ExistingRelations, EngineError> {
    let sql = "SELECT c.oid, nspname, relname, relkind = 'p', pg_catalog.pg_table_size(c.oid), inhparent
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace
        LEFT JOIN pg_catalog.pg_inherits ON inhrelid = c.oid AND relispartition
        WHERE relkind IN ('r', 'p', 'm') AND relpersistence <> 't'
            AND nspname NOT IN ('pg_catalog', 'information_schema', 'sidekeep_restore')";
    let listed = session.rows("listing the tables of the target", sql, ListedRelation::read)?;
    let mut relations = ExistingRelations::new();
    for relation in &listed {
        relations.insert(relation.name.clone(), relation.without_partitions());
    }
    add_partitions(&mut relations, &listed);
    Ok(relations)
}

/// Adds each partition to the families of its parent and all ancestors.
fn add_partitions(relations: &mut ExistingRelations, listed: &[ListedRelation]) {
    let by_oid: BTreeMap<u32, &ListedRelation> = listed.iter().map(|relation| (relation.oid, relation)).collect();
    for partition in listed {
        let mut parent = partition.parent;
        while let Some(ancestor) = parent.and_then(|oid| by_oid.get(&oid)) {
            if let Some(relation) = relations.get_mut(&ancestor.name) {
                relation.family.push(partition.name.clone());
            }
            parent = ancestor.parent;
        }
    }
}

struct ListedRelation {
    oid: u32,
    name: String,
    is_partitioned: bool,
    bytes: u64,
    /// OID of the parent, if this is a partition.
    parent: Option<u32>,
}

impl ListedRelation {
    fn read(fields: &mut RowFields) -> Result<Self, QueryError> {
        Ok(Self {
            oid: fields.parsed()?,
            name: qualified(&fields.text()?, &fields.text()?),
            is_partitioned: fields.boolean()?,
            bytes: fields.parsed()?,
            parent: fields.optional_parsed()?,
        })
    }

    fn without_partitions(&self) -> ExistingRelation {
        ExistingRelation { is_partitioned: self.is_partitioned, bytes: self.bytes, family: vec![self.name.clone()] }
    }
}

/// A relation to gather statistics of.
pub(super) struct AnalyzedRelation {
    pub(super) name: String,
    /// Quoted for SQL.
    pub(super) sql_name: String,
    pub(super) bytes: u64,
}

impl AnalyzedRelation {
    fn read(fields: &mut RowFields) -> Result<Self, QueryError> {
        let schema = fields.text()?;
        let name = fields.text()?;
        Ok(Self {
            name: qualified(&schema, &name),
            sql_name: format!("{}.{}", quote_identifier(&schema), quote_identifier(&name)),
            bytes: fields.parsed()?,
        })
    }
}

/// All relations except partitions: analyzing a partitioned table includes them.
/// Fails if the query fails or returns an unexpected value.
pub(super) fn relations_to_analyze(session: &TargetSession) -> Result<Vec<AnalyzedRelation>, EngineError> {
    let sql = "SELECT nspname, relname, pg_catalog.pg_table_size(c.oid) FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace
        WHERE relkind IN ('r', 'p', 'm') AND NOT relispartition AND relpersistence <> 't'
            AND nspname NOT IN ('pg_catalog', 'information_schema', 'sidekeep_restore')";
    session.rows("listing the tables of the target", sql, AnalyzedRelation::read)
}
