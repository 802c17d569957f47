//! The order of inner joins in SQL, by cost.
//!
//! DataFusion joins in the order in which a statement names its tables. This rule takes neighbouring inner
//! joins apart, into what they join, their equalities and their other conditions, has the language's
//! [`order`] find the cheapest tree, and puts them together again if that tree is clearly cheaper than the
//! one that was written. Equalities are transitive: what is equal to one column of a class is equal to all.
//!
//! Joins are left as they are where the rows of anything that they join are not known: the tables of
//! databases know theirs exactly. What a filter leaves of them is counted where an index can tell, found in a
//! sample of the column where not, and assumed for conditions about several columns and of other tables.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Constraint, JoinConstraint, NullEquality, Result};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    BinaryExpr, Expr, Join, JoinType, LogicalPlan, Operator, Projection, SubqueryAlias, TableScan,
};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use datomfusion_datalog::Optimizations;
use datomfusion_datalog::order::{self, Input, Tree};

use crate::provider::{EntityTable, by_column};

/// A tree is worth changing if it costs at most this share of what was written.
const GAIN: f64 = 0.8;

/// What an equality with a literal leaves of a column of which nothing is known, and what other conditions
/// leave.
const EQUAL: f64 = 0.1;
const OTHER: f64 = 1.0 / 3.0;

/// Orders inner joins by what they are expected to cost.
#[derive(Debug, Default)]
pub(crate) struct JoinOrder;

impl OptimizerRule for JoinOrder {
    fn name(&self) -> &'static str {
        "join_order"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        // A group of joins is seen whole from its top.
        None
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        if !Optimizations::of(&config.options()).join_order {
            return Ok(Transformed::no(plan));
        }
        ordered(plan)
    }
}

/// Orders the joins of a plan, from its top.
fn ordered(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let group = is_inner(&plan).then(|| Group::of(&plan)).flatten();
    let Some(better) = group.and_then(Group::better).transpose()? else {
        return below(plan);
    };
    let schema = Arc::clone(plan.schema());
    let joined = below(better)?.data;
    let projection = Projection::new_from_schema(Arc::new(joined), schema);
    Ok(Transformed::yes(LogicalPlan::Projection(projection)))
}

/// Orders the joins below a node; the joins of its own group have been ordered.
fn below(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let in_group = is_inner(&plan);
    let child = |child| {
        if in_group && is_inner(&child) {
            below(child)
        } else {
            ordered(child)
        }
    };
    plan.map_uncorrelated_subqueries(ordered)?
        .transform_sibling(|plan| plan.map_children(child))
}

fn is_inner(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Join(join) if join.join_type == JoinType::Inner
        && join.null_equality == NullEquality::NullEqualsNothing)
}

/// Neighbouring inner joins, taken apart.
struct Group {
    inputs: Vec<LogicalPlan>,
    /// Expressions that are equal, each with the input that it is of; no two of a class are of one input.
    classes: Vec<Vec<(usize, Expr)>>,
    /// Other conditions, each with the inputs that it needs.
    conditions: Vec<(Vec<usize>, Expr)>,
    written: Tree,
}

impl Group {
    /// Takes joins apart; `None` if there is nothing to order, or something that must stay where it is.
    fn of(plan: &LogicalPlan) -> Option<Self> {
        let (mut inputs, mut pairs, mut conditions) = (Vec::new(), Vec::new(), Vec::new());
        let written = take_apart(plan, &mut inputs, &mut pairs, &mut conditions);
        if inputs.len() < 3 {
            return None;
        }
        let needed = |expr: &Expr| -> Option<Vec<usize>> {
            if expr.is_volatile() || expr.contains_outer() {
                return None;
            }
            let mut needed = Vec::new();
            for column in expr.column_refs() {
                let mut having =
                    (0..inputs.len()).filter(|at| inputs[*at].schema().has_column(column));
                needed.push(having.next()?);
                if having.next().is_some() {
                    return None;
                }
            }
            needed.sort_unstable();
            needed.dedup();
            Some(needed)
        };
        let mut classes: Vec<Vec<(usize, Expr)>> = Vec::new();
        for (left, right) in pairs {
            let mut sides = Vec::new();
            for side in [left, right] {
                let [input] = needed(&side)?[..] else {
                    return None;
                };
                sides.push((input, side));
            }
            let (mut same, others): (Vec<_>, Vec<_>) = classes
                .into_iter()
                .partition(|class| sides.iter().any(|side| class.contains(side)));
            classes = others;
            let mut class: Vec<(usize, Expr)> = same.drain(..).flatten().collect();
            for side in sides {
                if !class.contains(&side) {
                    class.push(side);
                }
            }
            classes.push(class);
        }
        for class in &classes {
            let mut places: Vec<usize> = class.iter().map(|(input, _)| *input).collect();
            places.sort_unstable();
            if places.windows(2).any(|pair| pair[0] == pair[1]) {
                return None;
            }
        }
        let conditions = conditions.into_iter();
        let conditions: Option<Vec<_>> = conditions
            .map(|condition| Some((needed(&condition)?, condition)))
            .collect();
        Some(Self {
            classes,
            conditions: conditions?,
            written,
            inputs,
        })
    }

    /// The same rows in a clearly cheaper order, if there is one.
    fn better(self) -> Option<Result<LogicalPlan>> {
        let inputs: Option<Vec<Input<usize>>> =
            (0..self.inputs.len()).map(|at| self.expected(at)).collect();
        let inputs = inputs?;
        let mut forest = order::trees(&inputs).into_iter();
        let first = forest.next()?;
        let found = forest.fold(first, |left, right| Tree::Join {
            left: Box::new(left),
            right: Box::new(right),
            rows: f64::MAX,
        });
        let (new, old) = (
            order::cost(&found, &inputs),
            order::cost(&self.written, &inputs),
        );
        (new < old * GAIN).then(|| self.put_together(&found, &inputs))
    }

    /// What is expected of an input.
    fn expected(&self, at: usize) -> Option<Input<usize>> {
        let estimate = Estimate::of(&self.inputs[at])?;
        let mut values = Vec::new();
        let mut of_column = HashMap::new();
        for (number, class) in self.classes.iter().enumerate() {
            let own = class.iter().find(|(input, _)| *input == at);
            if let Some((_, expr)) = own {
                let column = column_of(expr);
                values.push((number, column.map_or(estimate.rows, |c| estimate.values(c))));
                of_column.extend(column.map(|column| (column.clone(), number)));
            }
        }
        let classes_of = |key: &Vec<Column>| -> Option<Vec<usize>> {
            key.iter()
                .map(|column| of_column.get(column).copied())
                .collect()
        };
        Some(Input {
            rows: estimate.rows,
            values,
            unique: estimate.unique.iter().find_map(classes_of),
        })
    }

    fn put_together(self, tree: &Tree, inputs: &[Input<usize>]) -> Result<LogicalPlan> {
        let mut building = Building {
            inputs: self.inputs.into_iter().map(Arc::new).collect(),
            classes: self.classes,
            conditions: self.conditions,
        };
        let (plan, _) = building.build(tree, inputs)?;
        Ok(Arc::unwrap_or_clone(plan))
    }
}

struct Building {
    inputs: Vec<Arc<LogicalPlan>>,
    classes: Vec<Vec<(usize, Expr)>>,
    conditions: Vec<(Vec<usize>, Expr)>,
}

impl Building {
    /// The plan of a tree, and the inputs in it. The side with fewer rows is the left one, of which the hash
    /// table is built.
    fn build(
        &mut self,
        tree: &Tree,
        expected: &[Input<usize>],
    ) -> Result<(Arc<LogicalPlan>, Vec<usize>)> {
        let (left, right) = match tree {
            Tree::Input(at) => return Ok((Arc::clone(&self.inputs[*at]), vec![*at])),
            Tree::Join { left, right, .. } => (left, right),
        };
        let rows = |tree: &Tree| match tree {
            Tree::Input(at) => expected[*at].rows,
            Tree::Join { rows, .. } => *rows,
        };
        let swapped = rows(right) < rows(left);
        let (left, right) = if swapped {
            (right, left)
        } else {
            (left, right)
        };
        let (left_plan, mut all) = self.build(left, expected)?;
        let (right_plan, others) = self.build(right, expected)?;
        let mut on = Vec::new();
        for class in &self.classes {
            let of = |side: &[usize]| class.iter().find(|(input, _)| side.contains(input));
            if let (Some((_, one)), Some((_, other))) = (of(&all), of(&others)) {
                on.push((one.clone(), other.clone()));
            }
        }
        all.extend(others);
        let covered = |(needed, _): &(Vec<usize>, Expr)| needed.iter().all(|at| all.contains(at));
        let (now, later) = std::mem::take(&mut self.conditions)
            .into_iter()
            .partition(covered);
        self.conditions = later;
        let now: Vec<(Vec<usize>, Expr)> = now;
        let join = Join::try_new(
            left_plan,
            right_plan,
            on,
            conjunction(now.into_iter().map(|(_, condition)| condition)),
            JoinType::Inner,
            JoinConstraint::On,
            NullEquality::NullEqualsNothing,
            false,
        )?;
        Ok((Arc::new(LogicalPlan::Join(join)), all))
    }
}

fn take_apart(
    plan: &LogicalPlan,
    inputs: &mut Vec<LogicalPlan>,
    pairs: &mut Vec<(Expr, Expr)>,
    conditions: &mut Vec<Expr>,
) -> Tree {
    match plan {
        LogicalPlan::Join(join) if is_inner(plan) => {
            let left = take_apart(&join.left, inputs, pairs, conditions);
            let right = take_apart(&join.right, inputs, pairs, conditions);
            pairs.extend(join.on.iter().cloned());
            let filter = join.filter.iter().flat_map(split_conjunction);
            conditions.extend(filter.cloned());
            Tree::Join {
                left: Box::new(left),
                right: Box::new(right),
                rows: 0.0,
            }
        }
        _ => {
            inputs.push(plan.clone());
            Tree::Input(inputs.len() - 1)
        }
    }
}

/// The column that an expression is, whatever type it is cast to.
fn column_of(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Cast(cast) => column_of(&cast.expr),
        _ => None,
    }
}

/// What is expected of a plan.
struct Estimate {
    /// The table whose columns these are, if it is one of a database.
    table: Option<Arc<dyn TableProvider>>,
    rows: f64,
    /// Rows before any condition: a key has so many values.
    all: f64,
    /// Columns that determine a row together.
    unique: Vec<Vec<Column>>,
}

impl Estimate {
    fn of(plan: &LogicalPlan) -> Option<Self> {
        match plan {
            LogicalPlan::TableScan(scan) => Self::of_scan(scan),
            LogicalPlan::Filter(filter) => {
                let mut estimate = Self::of(&filter.input)?;
                estimate.under(split_conjunction(&filter.predicate));
                Some(estimate)
            }
            LogicalPlan::SubqueryAlias(SubqueryAlias { input, alias, .. }) => {
                let mut estimate = Self::of(input)?;
                for column in estimate.unique.iter_mut().flatten() {
                    column.relation = Some(alias.clone());
                }
                Some(estimate)
            }
            LogicalPlan::Projection(projection) => {
                let mut estimate = Self::of(&projection.input)?;
                if !projection.expr.iter().all(|e| matches!(e, Expr::Column(_))) {
                    // Names may be those of others.
                    estimate.table = None;
                }
                let kept =
                    |column: &Column| projection.expr.iter().any(|e| column_of(e) == Some(column));
                estimate.unique.retain(|key| key.iter().all(kept));
                Some(estimate)
            }
            _ => None,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn of_scan(scan: &TableScan) -> Option<Self> {
        let provider = source_as_provider(&scan.source).ok()?;
        let rows = *provider.statistics()?.num_rows.get_value()? as f64;
        let schema = provider.schema();
        let key = |places: &[usize]| -> Vec<Column> {
            let names = places.iter().map(|at| schema.field(*at).name());
            names
                .map(|name| Column::new(Some(scan.table_name.clone()), name))
                .collect()
        };
        let constraints = provider
            .constraints()
            .into_iter()
            .flat_map(|all| all.iter());
        let unique = constraints.map(|constraint| match constraint {
            Constraint::PrimaryKey(places) | Constraint::Unique(places) => key(places),
        });
        let unique = unique.collect();
        let mut estimate = Self {
            table: Some(provider),
            rows,
            all: rows,
            unique,
        };
        estimate.under(scan.filters.iter());
        if let Some(fetch) = scan.fetch {
            estimate.rows = estimate.rows.min(fetch as f64);
        }
        Some(estimate)
    }

    fn entities(&self) -> Option<&EntityTable> {
        self.table.as_deref()?.downcast_ref()
    }

    /// Values of a column: as many as rows if it is a key; else those of a sample, or the root of the rows.
    fn values(&self, column: &Column) -> f64 {
        if self.is_key(column) {
            return self.all;
        }
        let sampled = self.entities().and_then(|table| table.values(&column.name));
        sampled.unwrap_or_else(|| self.all.sqrt())
    }

    fn is_key(&self, column: &Column) -> bool {
        let name = |key: &Vec<Column>| matches!(&key[..], [only] if only.name == column.name);
        self.unique.iter().any(name)
    }

    fn under<'e>(&mut self, conditions: impl IntoIterator<Item = &'e Expr>) {
        for condition in by_column(conditions) {
            self.rows = (self.rows * self.share(&condition)).max(1.0);
        }
    }

    /// The share of rows that a condition leaves: counted, or found in a sample, or assumed.
    fn share(&self, condition: &Expr) -> f64 {
        let learnt = self.entities().and_then(|table| table.share(condition));
        learnt.unwrap_or_else(|| self.assumed(condition))
    }

    fn assumed(&self, condition: &Expr) -> f64 {
        let equal = |expr: &Expr| match column_of(expr) {
            Some(column) if self.is_key(column) => 1.0 / self.all.max(1.0),
            _ => EQUAL,
        };
        match condition {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
                Operator::And => self.share(left) * self.share(right),
                Operator::Or => (self.share(left) + self.share(right)).min(1.0),
                Operator::Eq if column_of(left).is_some() => equal(left),
                Operator::Eq => equal(right),
                Operator::NotEq => 1.0,
                _ => OTHER,
            },
            Expr::InList(list) if !list.negated => {
                let count = u32::try_from(list.list.len()).map_or(f64::MAX, f64::from);
                (equal(&list.expr) * count).min(1.0)
            }
            Expr::IsNotNull(_) => 1.0,
            Expr::IsNull(_) => EQUAL,
            Expr::Not(inner) => 1.0 - self.share(inner),
            _ => OTHER,
        }
    }
}

#[cfg(test)]
mod tests;
