//! What is found: distinct rows, then aggregates over them.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::functions_aggregate::array_agg::array_agg_udaf;
use datafusion::functions_aggregate::expr_fn::{avg, count, max, min};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};

use super::function::{Job, Operand, apply};
use super::{Lowering, Relation, column, name_of};
use crate::analyze::bound::{BoundElement, VarId};
use crate::column::{ColumnType, Kinds, Repr};
use crate::source::TermType;
use crate::span::Span;
use crate::term::Term;

impl Lowering<'_> {
    /// The plan of the find spec: a column an element.
    pub(super) fn find(&self, relation: Relation) -> Result<(LogicalPlan, Vec<ColumnType>)> {
        let elements = &self.query.elements;
        let mut vars: Vec<VarId> = elements.iter().map(BoundElement::var).collect();
        vars.extend(&self.query.with);
        let rows = self.keep(&relation, &vars)?;
        let rows = self.distinct(rows)?;
        let aggregates = elements
            .iter()
            .any(|element| matches!(element, BoundElement::Aggregate { .. }));
        let names = self.names();
        let named = |at: usize| names[at].clone();
        if !aggregates {
            let mut types = Vec::with_capacity(elements.len());
            let mut columns = Vec::with_capacity(elements.len());
            for (at, element) in elements.iter().enumerate() {
                let var = element.var();
                types.push(rows.column(var).unwrap_or(ColumnType::new(Kinds::ANY)));
                columns.push(column(name_of(var)).alias(named(at)));
            }
            // Variables of :with kept rows apart; here they only make a bag of a set, and answers are
            // sets.
            let relation = if self.query.with.is_empty() {
                rows
            } else {
                let found: Vec<VarId> = elements.iter().map(BoundElement::var).collect();
                let kept = self.keep(&rows, &found)?;
                self.distinct(kept)?
            };
            let plan = LogicalPlanBuilder::from(relation.plan)
                .project(columns)?
                .build()?;
            return Ok((plan, types));
        }
        let mut groups: Vec<Expr> = Vec::new();
        let mut aggregates: Vec<Expr> = Vec::new();
        let mut outputs: Vec<(Expr, ColumnType)> = Vec::new();
        for (at, element) in elements.iter().enumerate() {
            let var = element.var();
            let column_type = rows.column(var).unwrap_or(ColumnType::new(Kinds::ANY));
            match element {
                BoundElement::Aggregate {
                    name,
                    constants,
                    span,
                    ..
                } => {
                    let name_of_aggregate = named(at);
                    let (aggregate, output) = self.aggregate(
                        name,
                        constants,
                        column_type,
                        column(name_of(var)),
                        *span,
                        &name_of_aggregate,
                    )?;
                    aggregates.push(aggregate.alias(name_of_aggregate));
                    outputs.push(output);
                }
                _ if column_type.compares_plainly(column_type) => {
                    groups.push(column(name_of(var)).alias(named(at)));
                    outputs.push((column(named(at)), column_type));
                }
                _ => {
                    let key = Self::key(column_type, column(name_of(var)), false);
                    groups.push(key.alias(self.fresh("k")));
                    aggregates.push(min(column(name_of(var))).alias(named(at)));
                    outputs.push((column(named(at)), column_type));
                }
            }
        }
        let rows = LogicalPlanBuilder::from(rows.plan);
        let grouped = if groups.is_empty() {
            // Aggregates of nothing at all are no rows.
            let some = self.fresh("n");
            aggregates.push(count(lit(1_i64)).alias(some.clone()));
            rows.aggregate(groups, aggregates)?
                .filter(column(some).gt(lit(0_i64)))?
        } else {
            rows.aggregate(groups, aggregates)?
        };
        let mut types = Vec::with_capacity(outputs.len());
        let mut columns = Vec::with_capacity(outputs.len());
        for (at, (expression, column_type)) in outputs.into_iter().enumerate() {
            columns.push(expression.alias(named(at)));
            types.push(column_type);
        }
        Ok((grouped.project(columns)?.build()?, types))
    }

    /// The names of the columns: an aggregate's is its text, which errors of the engine repeat.
    fn names(&self) -> Vec<String> {
        let elements = self.query.elements.iter().enumerate();
        let text = |element: &BoundElement| match element {
            BoundElement::Aggregate { span, .. } => self.context.text.get(span.start..span.end),
            _ => None,
        };
        elements.fold(Vec::new(), |mut names, (at, element)| {
            let name = text(element).map_or_else(|| format!("f{at}"), str::to_owned);
            names.push(if names.contains(&name) {
                format!("f{at}")
            } else {
                name
            });
            names
        })
    }

    /// An aggregate: what DataFusion computes, and what is made of that.
    fn aggregate(
        &self,
        name: &Arc<str>,
        constants: &[Term],
        column_type: ColumnType,
        values: Expr,
        span: Span,
        output: &str,
    ) -> Result<(Expr, (Expr, ColumnType))> {
        let repr = column_type.repr();
        let plain = column_type.attribute_of.is_none() && constants.is_empty();
        let long = ColumnType::of(TermType::Long);
        let double = ColumnType::of(TermType::Double);
        let native = match (&**name, repr) {
            ("count", _) if constants.is_empty() => Some((count(values.clone()), long)),
            ("min" | "max", Repr::Mixed) => None,
            ("min", _) if plain => Some((min(values.clone()), column_type)),
            ("max", _) if plain => Some((max(values.clone()), column_type)),
            ("sum", Repr::Int64) if plain => {
                Some((self.context.sum.call(vec![values.clone()]), long))
            }
            ("sum", Repr::Float64) if plain => {
                Some((self.context.sum.call(vec![values.clone()]), double))
            }
            ("avg", Repr::Int64 | Repr::Float64) if plain => Some((avg(values.clone()), double)),
            _ => None,
        };
        if let Some((aggregate, column_type)) = native {
            return Ok((aggregate, (column(output), column_type)));
        }
        let function = self.context.functions.aggregate(name);
        let Some(function) = function else {
            return datafusion::common::plan_err!("there is no aggregate {name}");
        };
        let quote = self.quote(span, false);
        let answer = apply(
            name,
            Job::Aggregate(function.clone(), constants.to_vec(), quote, repr),
            vec![Operand::Column(
                column_type,
                self.attributes(column_type, false),
            )],
            Repr::Mixed,
            !function.is_deterministic,
            vec![column(output)],
        );
        let list = array_agg_udaf().call(vec![values]);
        Ok((list, (answer, ColumnType::new(Kinds::ANY))))
    }
}
