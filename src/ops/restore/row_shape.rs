//! Converts stored rows into rows for the target: takes cells by column number, fills in missing ones, and puts them in
//! the target's order.

use crate::engine::contract::{TargetColumn, TargetTable};
use crate::format::catalog::{ColumnEntry, TableEntry, Visibility};
use crate::format::cell::{Cell, OwnedCell};

/// How the rows of a table are laid out in leaves and for the target.
#[derive(Clone, Debug)]
pub struct RowShape {
    /// Per live column, ascending by number: the number, and the column's value in rows that were stored without it.
    columns: Vec<(usize, OwnedCell)>,
    /// Positions in `columns`, in the order in which the source delivers cells.
    delivery: Vec<usize>,
}

impl RowShape {
    /// The shape of a table's rows.
    #[must_use]
    pub fn new(entry: &TableEntry) -> Self {
        Self {
            columns: entry.columns.iter().map(|column| (column.number as usize, column.missing.clone())).collect(),
            delivery: delivery_order(&entry.columns),
        }
    }

    /// Fills `out` with the cells of all live columns, ascending by number.
    pub fn fill<'c>(&'c self, stored: &[Cell<'c>], out: &mut Vec<Cell<'c>>) {
        out.clear();
        for (number, missing) in &self.columns {
            let cell = stored.get(*number).copied();
            out.push(cell.unwrap_or_else(|| missing.get()));
        }
    }

    /// Fills `out` with these cells in the target's order.
    pub fn deliver<'c>(&self, cells: &[Cell<'c>], out: &mut Vec<Cell<'c>>) {
        out.clear();
        out.extend(self.delivery.iter().map(|&at| cells[at]));
    }

    /// The description of the table for the target.
    #[must_use]
    pub fn target_table(&self, entry: &TableEntry) -> TargetTable {
        let columns: Vec<&ColumnEntry> = self.delivery.iter().map(|&at| &entry.columns[at]).collect();
        let key = entry.key.iter().filter_map(|number| position(&columns, *number)).collect();
        let columns = columns.into_iter().map(target_column).collect();
        TargetTable { name: entry.name.clone(), columns, key }
    }
}

fn position(columns: &[&ColumnEntry], number: u32) -> Option<usize> {
    columns.iter().position(|column| column.number == number)
}

/// Positions of the columns whose values the target takes, in the order in which the source delivers cells. The
/// database computes the values of generated columns.
fn delivery_order(columns: &[ColumnEntry]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..columns.len()).filter(|&at| columns[at].generated.is_none()).collect();
    order.sort_by_key(|&at| {
        let column = &columns[at];
        (column.visibility == Visibility::Hidden, column.position, column.number)
    });
    order
}

fn target_column(column: &ColumnEntry) -> TargetColumn {
    TargetColumn { name: column.name.clone(), hidden: column.visibility == Visibility::Hidden }
}

#[cfg(test)]
mod tests {
    use super::RowShape;
    use crate::format::catalog::{ColumnEntry, Generated, TableEntry, UnknownMembers, Visibility};
    use crate::format::cell::{Cell, OwnedCell};
    use crate::format::manifest::Layout;

    fn column(number: u32, position: u32, generated: Option<Generated>) -> ColumnEntry {
        ColumnEntry {
            number,
            name: format!("c{number}").into(),
            position,
            visibility: Visibility::Declared,
            generated,
            missing: OwnedCell::new(&Cell::Null),
            unknown: UnknownMembers::new(),
        }
    }

    #[test]
    fn values_of_generated_columns_are_not_restored() {
        let columns = vec![
            column(0, 3, None),
            column(1, 1, Some(Generated::Stored)),
            column(2, 2, None),
            column(3, 4, Some(Generated::Virtual)),
        ];
        let entry = TableEntry {
            number: 1,
            name: "t".to_owned(),
            oid: None,
            columns,
            next_column: 4,
            key: vec![0],
            layout: Layout::Owner,
            paths: Vec::new(),
            below: Vec::new(),
            answer: None,
            labels: Vec::new(),
            unknown: UnknownMembers::new(),
        };
        let shape = RowShape::new(&entry);
        let table = shape.target_table(&entry);
        let names: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!((names, table.key), (vec!["c2", "c0"], vec![1]));
        let (mut filled, mut delivered) = (Vec::new(), Vec::new());
        shape.fill(&[Cell::Integer(10), Cell::Integer(11), Cell::Integer(12)], &mut filled);
        assert_eq!(filled.len(), 4);
        shape.deliver(&filled, &mut delivered);
        assert_eq!(delivered, [Cell::Integer(12), Cell::Integer(10)]);
    }
}
