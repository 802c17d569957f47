//! The columns of a statement whose tables have moved: they follow, or it is refused.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, ObjectNamePart, Query, Select, SelectItem, SelectItemQualifiedWildcardKind,
    SetExpr, TableFactor, TableWithJoins, VisitorMut,
};

use super::{Names, fold};
use crate::error::{Error, Result};

/// By schema and table, folded: the schema to which each unaliased use moves, `None` where it stays.
pub(super) type Uses = HashMap<(String, String), Vec<Option<String>>>;

/// Rewrites `sales.invoice.total` to follow its table to the schema of its version.
pub(super) struct FollowTables<'a> {
    names: &'a Names<'a>,
    uses: Uses,
}

impl<'a> FollowTables<'a> {
    pub(super) fn new(names: &'a Names<'a>, uses: Uses) -> Self {
        Self { names, uses }
    }

    /// Whether any table moves.
    pub(super) fn is_needed(&self) -> bool {
        self.uses.values().flatten().any(Option::is_some)
    }

    /// Replaces the schema in the qualifier of a column, if it has one.
    ///
    /// Where a statement reads the table at several versions without alias, the qualifier could mean each
    /// of them, in the worst case that of an outer query; which one is not guessed.
    fn follow<'i>(&self, qualifier: impl Iterator<Item = &'i mut Ident>) -> Result<()> {
        let mut qualifier: Vec<&mut Ident> = qualifier.collect();
        let (schema, table) = match &mut qualifier[..] {
            [schema, table] => (schema, table),
            // `sales.invoice.total.part` may also be a field of a struct.
            [catalog, schema, table] if self.is_catalog(catalog, schema, table) => (schema, table),
            [schema, table, ..] => (schema, table),
            _ => return Ok(()),
        };
        let Some(uses) = self.uses.get(&(fold(schema), fold(table))) else {
            return Ok(());
        };
        match &uses[0] {
            first if uses.iter().any(|other| other != first) => Err(Error::invalid(format!(
                "{schema}.{table} is read at several versions in this statement, \
                 so it is ambiguous before a column; give each an alias"
            ))),
            Some(moved) => {
                **schema = Ident::with_quote('"', moved);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn is_catalog(&self, catalog: &Ident, schema: &Ident, table: &Ident) -> bool {
        fold(catalog) == self.names.catalog
            && self.uses.contains_key(&(fold(schema), fold(table)))
            && !self.uses.contains_key(&(fold(catalog), fold(schema)))
    }
}

impl VisitorMut for FollowTables<'_> {
    type Break = Error;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        match expr {
            Expr::CompoundIdentifier(parts) => {
                let qualifier = parts.len().saturating_sub(1);
                flow(self.follow(parts[..qualifier].iter_mut()))
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        flow(each_wildcard(select, |qualifier| {
            self.follow(qualifier.into_iter())
        }))
    }
}

/// Refuses `t.v` where two tables of one `FROM` answer to `t`: `sales.t, crm.t` or two versions of one.
///
/// The planner would take it from whichever stands first.
#[derive(Default)]
pub(super) struct OneTableEach {
    /// The names that each enclosing `SELECT` brings, and how many tables answer to each.
    selects: Vec<HashMap<String, usize>>,
    /// For each enclosing query, whether it is one `SELECT`, whose names its `ORDER BY` still sees.
    single: Vec<bool>,
}

impl OneTableEach {
    fn check(&self, table: &Ident) -> Result<()> {
        let name = fold(table);
        match self.selects.iter().rev().find_map(|names| names.get(&name)) {
            Some(2..) => Err(Error::invalid(format!(
                "{table} is ambiguous: several tables of one FROM answer to this name; \
                 give each an alias"
            ))),
            _ => Ok(()),
        }
    }
}

impl VisitorMut for OneTableEach {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        self.single.push(matches!(*query.body, SetExpr::Select(_)));
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Error> {
        if self.single.pop() == Some(true) {
            self.selects.pop();
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        let mut names = HashMap::new();
        count_names(&select.from, &mut names);
        self.selects.push(names);
        flow(each_wildcard(select, |qualifier| match &qualifier[..] {
            [table] => self.check(table),
            _ => Ok(()),
        }))
    }

    fn post_visit_select(&mut self, _: &mut Select) -> ControlFlow<Error> {
        if self.single.last() != Some(&true) {
            self.selects.pop();
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        match expr {
            Expr::CompoundIdentifier(parts) if parts.len() == 2 => flow(self.check(&parts[0])),
            _ => ControlFlow::Continue(()),
        }
    }
}

/// Visits the qualifier of each `t.*`.
fn each_wildcard(
    select: &mut Select,
    mut visit: impl FnMut(Vec<&mut Ident>) -> Result<()>,
) -> Result<()> {
    for item in &mut select.projection {
        if let SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) =
            item
        {
            let idents = name.0.iter_mut().filter_map(|part| match part {
                ObjectNamePart::Identifier(ident) => Some(ident),
                ObjectNamePart::Function(_) => None,
            });
            visit(idents.collect())?;
        }
    }
    Ok(())
}

fn count_names(from: &[TableWithJoins], names: &mut HashMap<String, usize>) {
    for table in from {
        let joined = table.joins.iter().map(|join| &join.relation);
        for factor in std::iter::once(&table.relation).chain(joined) {
            match factor {
                TableFactor::NestedJoin {
                    table_with_joins,
                    alias: None,
                } => {
                    count_names(std::slice::from_ref(table_with_joins), names);
                }
                TableFactor::Table {
                    alias: None, name, ..
                } => {
                    if let Some(last) = name.0.last().and_then(ObjectNamePart::as_ident) {
                        *names.entry(fold(last)).or_default() += 1;
                    }
                }
                TableFactor::Table {
                    alias: Some(alias), ..
                }
                | TableFactor::Derived {
                    alias: Some(alias), ..
                }
                | TableFactor::TableFunction {
                    alias: Some(alias), ..
                }
                | TableFactor::Function {
                    alias: Some(alias), ..
                }
                | TableFactor::UNNEST {
                    alias: Some(alias), ..
                }
                | TableFactor::NestedJoin {
                    alias: Some(alias), ..
                }
                | TableFactor::Pivot {
                    alias: Some(alias), ..
                }
                | TableFactor::Unpivot {
                    alias: Some(alias), ..
                } => {
                    *names.entry(fold(&alias.name)).or_default() += 1;
                }
                _ => {}
            }
        }
    }
}

fn flow(result: Result<()>) -> ControlFlow<Error> {
    result.map_or_else(ControlFlow::Break, ControlFlow::Continue)
}
