//! What is known of a table before it is scanned: exact counts, and samples of its columns.
//!
//! Joins are ordered before filters are planned, by a rule that cannot read. So what the rule will ask is
//! [learnt](EntityTable::learn) beforehand.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow_schema::Schema as ArrowSchema;
use datafusion::arrow::compute::concat;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema};
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::physical_expr::create_physical_expr;
use futures::future::{join, join_all, try_join_all};

use super::route::avet_ranges;
use super::{EntityTable, Rows};
use crate::catalog::metaschema::DB_ID;
use crate::datom::Entid;
use crate::db::sample::Sample;
use crate::index::{Components, Index, Range};
use crate::node::Kind;
use crate::provider::arrow::{self, Picks};
use crate::provider::error::into_datafusion;
use crate::provider::pushdown::{self, Constraint, Ranges};
use crate::schema::Attribute;

/// Ranges that are remembered: a table may be asked for as long as a session lasts.
const RANGES_MAX: usize = 64;

/// What has been learnt of a table.
#[derive(Debug, Default)]
pub(super) struct Learnt {
    /// Facts of attributes, exactly.
    pub(super) counts: HashMap<Entid, u64>,
    /// By column; with the values and a NULL behind them, where they can be compared.
    samples: HashMap<usize, (Sample, Option<ArrayRef>)>,
    /// Rows whose values lie in some ranges, exactly.
    ranges: Vec<(String, Ranges, u64)>,
}

impl EntityTable {
    fn learnt<R>(&self, read: impl FnOnce(&mut Learnt) -> R) -> R {
        read(&mut self.learnt.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many datoms an attribute has, if that has been counted.
    pub(super) fn counted(&self, attribute: &Attribute) -> Option<u64> {
        self.learnt(|learnt| learnt.counts.get(&attribute.id).copied())
    }

    /// How many datoms an attribute has, exactly.
    pub(super) async fn count(&self, attribute: &Attribute) -> Result<u64> {
        if let Some(count) = self.counted(attribute) {
            return Ok(count);
        }
        let range = Range::prefix(Components::all().a(attribute.id));
        let count = self
            .db
            .count(Index::Aevt, &range)
            .await
            .map_err(into_datafusion)?;
        self.learnt(|learnt| learnt.counts.insert(attribute.id, count));
        Ok(count)
    }

    /// Counts the members, so that their number is known. Reads inner nodes.
    pub(super) async fn count_members(&self) -> Result<()> {
        if self.rows_are_members() && self.db.since_t().is_none() {
            self.count(&self.columns[0]).await?;
        }
        Ok(())
    }

    /// Rows of the table, if the value keeps count.
    pub(super) fn rows(&self) -> Option<u64> {
        match &self.rows_are {
            Rows::Namespace(namespace) => self.db.entities_in(namespace),
            Rows::Star => {
                // No more than have the rarest attribute, which planning has counted.
                let exact = !self.db.is_history() && self.db.since_t().is_none();
                let counts = self.columns.iter().map(|column| self.counted(column));
                let all: Option<Vec<u64>> = counts.collect();
                all?.into_iter().min().filter(|_| exact)
            }
            Rows::Members => self
                .counted(&self.columns[0])
                .filter(|_| self.db.since_t().is_none()),
        }
    }

    /// Reads what [`EntityTable::share`] and [`EntityTable::values`] tell about these columns and conditions:
    /// inner nodes, and a few leaves for each column that is not unique, once for a root.
    ///
    /// What cannot be read is not learnt: whether there is an answer is for the scan to say.
    pub(crate) async fn learn(&self, columns: &HashSet<&str>, conditions: &[&Expr]) {
        let counted = self.count_members().await;
        if counted.is_err() || self.rows().is_none() {
            return;
        }
        let wanted = (1..self.schema.fields().len()).filter(|at| {
            let facts = *at == 1 && self.rows_are_members() && columns.contains(DB_ID);
            let attribute = &self.columns[at - 1];
            // Of a unique column an index knows all.
            let single = self.rows_are_members() || !attribute.is_many();
            let told = single && attribute.unique.is_none();
            facts || (told && columns.contains(self.schema.field(*at).name().as_str()))
        });
        let conditions = by_column(conditions.iter().copied());
        let samples = join_all(wanted.map(|at| self.take_sample(at)));
        let ranges = join_all(
            conditions
                .iter()
                .map(|condition| self.count_range(condition)),
        );
        join(samples, ranges).await;
    }

    async fn take_sample(&self, column: usize) -> Option<()> {
        if self.learnt(|learnt| learnt.samples.contains_key(&column)) {
            return Some(());
        }
        let attribute = &self.columns[column - 1];
        let sample = self.db.sample(attribute.id).await.ok()??;
        let leaf = sample.leaf();
        let values = if leaf.values().child(Kind::LARGE).is_some() {
            None
        } else {
            let values = arrow::array(attribute, leaf, &Picks::Run(0..leaf.len())).ok()?;
            let null = new_null_array(values.data_type(), 1);
            Some(concat(&[&values, &null]).ok()?)
        };
        self.learnt(|learnt| learnt.samples.insert(column, (sample, values)));
        Some(())
    }

    async fn count_range(&self, condition: &Expr) -> Option<()> {
        let narrowing = pushdown::constraint(condition, &|name| self.type_of(name))?;
        let column = self.schema.index_of(&narrowing.column).ok()?;
        let attribute = self.columns.get(column.checked_sub(1)?)?;
        let ranges = avet_ranges(attribute, &narrowing.ranges);
        // An index that is not in the trees yet would be counted by a scan.
        let counted =
            self.db.in_avet(attribute.id) && ranges.iter().all(|range| self.db.has_avet(range));
        if !counted || self.rows_in(&narrowing).is_some() {
            return None;
        }
        let counts = ranges.iter().map(|range| self.db.count(Index::Avet, range));
        let rows = try_join_all(counts).await.ok()?.iter().sum();
        self.learnt(|learnt| {
            learnt.ranges.truncate(RANGES_MAX - 1);
            let known = (narrowing.column, narrowing.ranges, rows);
            learnt.ranges.insert(0, known);
        });
        Some(())
    }

    /// Rows whose values lie in some ranges, if they have been counted.
    fn rows_in(&self, narrowing: &Constraint) -> Option<u64> {
        self.learnt(|learnt| {
            let mut known = learnt.ranges.iter();
            let same = known.find(|(column, ranges, _)| {
                *column == narrowing.column && *ranges == narrowing.ranges
            });
            same.map(|(_, _, rows)| *rows)
        })
    }

    /// The share of the rows for which a condition about one column is true, if that has been learnt.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub(crate) fn share(&self, condition: &Expr) -> Option<f64> {
        let rows = self.rows()?.max(1) as f64;
        let narrowing = pushdown::constraint(condition, &|name| self.type_of(name));
        // What an index knows of the values for which it can be true.
        let most = narrowing.and_then(|narrowing| {
            let known = self.rows_in(&narrowing)?;
            Some((known as f64 / rows, narrowing.exact))
        });
        match most {
            Some((share, true)) => Some(share),
            Some((share, false)) => Some(self.sampled(condition, rows).unwrap_or(share).min(share)),
            None => self.sampled(condition, rows),
        }
    }

    /// The share of the rows for which a sample says that a condition is true.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn sampled(&self, condition: &Expr, rows: f64) -> Option<f64> {
        let mut columns = condition.column_refs().into_iter();
        let (column, None) = (columns.next()?, columns.next()) else {
            return None;
        };
        let at = self.schema.index_of(&column.name).ok()?;
        let (sample, values) = self.learnt(|learnt| learnt.samples.get(&at).cloned())?;
        let values = values
            .filter(|_| at > 0 && (self.rows_are_members() || !self.columns[at - 1].is_many()))?;
        let truth = self.evaluate(condition, at, values).ok()?;
        let truth = truth.as_boolean_opt()?;
        let is_true = |row: usize| truth.is_valid(row) && truth.value(row);
        let sampled = truth.len() - 1;
        let found = (0..sampled).filter(|row| is_true(*row)).count() as f64;
        let found = match sampled as u64 {
            0 => 0.0,
            all if all == sample.facts => found,
            // What 512 do not show may still be there.
            all => found.max(0.5) / all as f64 * sample.facts as f64,
        };
        let nulls = if is_true(sampled) {
            rows - sample.facts as f64
        } else {
            0.0
        };
        Some(((found + nulls) / rows).clamp(0.0, 1.0))
    }

    /// How many of so many rows some filters leave, as far as it has been learnt. DataFusion's own guess for a filter
    /// that it knows nothing about is a fifth.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate"
    )]
    pub(super) fn rows_under(&self, filters: &[Expr], rows: u64) -> u64 {
        let filters = by_column(filters);
        let known: Vec<f64> = filters
            .iter()
            .filter_map(|filter| self.share(filter))
            .collect();
        let others = if known.len() < filters.len() {
            0.2
        } else {
            1.0
        };
        (rows as f64 * known.iter().product::<f64>() * others).round() as u64
    }

    /// The condition over values of one column.
    fn evaluate(&self, condition: &Expr, column: usize, values: ArrayRef) -> Result<ArrayRef> {
        let unqualified = |expr: Expr| {
            Ok(match expr {
                Expr::Column(column) => {
                    Transformed::yes(Expr::Column(Column::new_unqualified(column.name)))
                }
                expr => Transformed::no(expr),
            })
        };
        let condition = condition.clone().transform(unqualified)?.data;
        let field = self.schema.field(column).clone().with_nullable(true);
        let schema = Arc::new(ArrowSchema::new(vec![field]));
        let df_schema = DFSchema::try_from(Arc::clone(&schema))?;
        let expr = create_physical_expr(
            &condition,
            &df_schema,
            &ExecutionProps::new(),
            &PhysicalPlanningContext::default(),
        )?;
        let rows = values.len();
        let batch = RecordBatch::try_new(schema, vec![values])?;
        expr.evaluate(&batch)?.into_array(rows)
    }

    /// How many values a column has, roughly, if that has been learnt.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub(crate) fn values(&self, column: &str) -> Option<f64> {
        let at = self.schema.index_of(column).ok()?;
        self.learnt(|learnt| match at {
            0 if self.rows_are_members() => learnt
                .samples
                .get(&1)
                .map(|(sample, _)| sample.entities() as f64),
            0 => None,
            at => learnt
                .samples
                .get(&at)
                .map(|(sample, _)| sample.values() as f64),
        })
    }
}

/// Conditions, those about one column and no other together: two ends of a range are no independent shares.
pub(crate) fn by_column<'e>(conditions: impl IntoIterator<Item = &'e Expr>) -> Vec<Expr> {
    let mut together: Vec<(Option<&Column>, Expr)> = Vec::new();
    for condition in conditions {
        let mut refs = condition.column_refs().into_iter();
        let only = refs.next().filter(|_| refs.next().is_none());
        let same = together
            .iter_mut()
            .find(|(column, _)| only.is_some() && *column == only);
        match same {
            Some((_, before)) => *before = before.clone().and(condition.clone()),
            None => together.push((only, condition.clone())),
        }
    }
    together
        .into_iter()
        .map(|(_, condition)| condition)
        .collect()
}
