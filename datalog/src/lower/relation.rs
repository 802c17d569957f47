//! The algebra of relations: joins, unions, distinct rows.

use std::collections::BTreeMap;

use datafusion::common::{Column, JoinType, Result, ScalarValue, plan_err};
use datafusion::functions_aggregate::expr_fn::min;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};

use super::function::{Attributes, Job, Operand, apply};
use super::{Lowering, Relation, column, name_of};
use crate::bound::VarId;
use crate::column::{ColumnType, Kinds, Repr, literal};
use crate::term::Term;

/// Columns that are equal, on the left and on the right.
type JoinColumns = (Vec<Column>, Vec<Column>);

impl Lowering<'_> {
    /// Projects expressions as variables.
    pub(crate) fn project(
        relation: &Relation,
        columns: Vec<(VarId, ColumnType, Expr)>,
    ) -> Result<Relation> {
        let expressions = columns
            .iter()
            .map(|(var, _, expression)| expression.clone().alias(name_of(*var)));
        let plan = LogicalPlanBuilder::from(relation.plan.clone())
            .project(expressions.collect::<Vec<_>>())?
            .build()?;
        let columns: Vec<_> = columns
            .into_iter()
            .map(|(var, column, _)| (var, column))
            .collect();
        let kept = |vars: &Vec<VarId>| {
            vars.iter()
                .all(|var| columns.iter().any(|(kept, _)| kept == var))
        };
        Ok(Relation {
            plan,
            rows: relation.rows,
            unique: relation.unique.clone().filter(kept),
            columns,
        })
    }

    /// The columns as they are, to be projected with more.
    pub(crate) fn own(relation: &Relation) -> Vec<(VarId, ColumnType, Expr)> {
        relation
            .columns
            .iter()
            .map(|(var, column_type)| (*var, *column_type, column(name_of(*var))))
            .collect()
    }

    /// Keeps some variables. Those that have but one value become columns.
    pub(crate) fn keep(&self, relation: &Relation, vars: &[VarId]) -> Result<Relation> {
        let mut columns = Vec::with_capacity(vars.len());
        for &var in vars {
            if columns.iter().any(|(known, _, _)| *known == var) {
                continue;
            }
            let known = relation.column(var);
            columns.push(match (known, self.constant(var)) {
                (Some(column_type), _) => (var, column_type, column(name_of(var))),
                (None, Some(term)) => {
                    let (column_type, expression) = self.constant_column(var, term);
                    (var, column_type, expression)
                }
                (None, None) => {
                    return plan_err!("{} is not bound", self.query.vars[var.0 as usize].name);
                }
            });
        }
        Self::project(relation, columns)
    }

    /// A constant as a column.
    pub(crate) fn constant_column(&self, var: VarId, term: &Term) -> (ColumnType, Expr) {
        let mut column_type = ColumnType::new(Kinds::of_term(term));
        let info = self.query.vars.get(var.0 as usize);
        if let (Some(source), Term::Long(_)) = (info.and_then(|info| info.attribute_of), term) {
            column_type = ColumnType::attribute(source);
        }
        let literal = literal(term, column_type.repr());
        let literal = literal.unwrap_or(ScalarValue::Null);
        (column_type, lit(literal))
    }

    pub(crate) fn filter(relation: Relation, predicate: Expr) -> Result<Relation> {
        let plan = LogicalPlanBuilder::from(relation.plan)
            .filter(predicate)?
            .build()?;
        Ok(Relation { plan, ..relation })
    }

    /// A relation without rows, over some variables.
    pub(crate) fn nothing(vars: &[VarId]) -> Result<Relation> {
        let unit = Self::unit()?;
        let mut vars = vars.to_vec();
        vars.sort_unstable();
        vars.dedup();
        let columns = vars
            .iter()
            .map(|var| {
                let null = ScalarValue::Int64(None);
                (*var, ColumnType::new(Kinds::NONE), lit(null))
            })
            .collect();
        let relation = Self::project(&unit, columns)?;
        let mut relation = Self::filter(relation, lit(false))?;
        relation.rows = 0.0;
        Ok(relation)
    }

    /// What two columns are joined by: themselves, or their keys.
    pub(crate) fn key(column_type: ColumnType, expression: Expr, plain: bool) -> Expr {
        if plain {
            return expression;
        }
        apply(
            "key",
            Job::Key,
            vec![Operand::Column(column_type, Attributes::Ids)],
            Repr::Mixed,
            false,
            vec![expression],
        )
    }

    /// A column in another representation, which can hold all its terms.
    pub(crate) fn cast(from: ColumnType, to: ColumnType, expression: Expr) -> Expr {
        if from.repr() == to.repr() {
            return expression;
        }
        if from.kinds.is_empty() {
            // No row has it.
            let null = ScalarValue::try_from(&to.repr().data_type());
            return lit(null.unwrap_or(ScalarValue::Null));
        }
        apply(
            "encode",
            Job::Encode,
            vec![Operand::Column(from, Attributes::Ids)],
            Repr::Mixed,
            false,
            vec![expression],
        )
    }

    /// Joins on all variables that both have.
    pub(crate) fn join(&self, left: Relation, right: Relation) -> Result<Relation> {
        let shared: Vec<VarId> = left
            .columns
            .iter()
            .map(|(var, _)| *var)
            .filter(|var| right.has(*var))
            .collect();
        let (left_plan, right_plan, on) = self.keyed(&left, &right, &shared)?;
        let joined = LogicalPlanBuilder::from(left_plan);
        let joined = if shared.is_empty() {
            joined.cross_join(right_plan)?
        } else {
            joined.join(right_plan, JoinType::Inner, on, None)?
        };
        let mut columns: Vec<(VarId, ColumnType, Expr)> = Vec::new();
        for (var, column_type) in &left.columns {
            let column_type = match right.column(*var) {
                Some(other) => column_type.joined(other),
                None => *column_type,
            };
            columns.push((*var, column_type, column(name_of(*var))));
        }
        for (var, column_type) in &right.columns {
            if !left.has(*var) {
                columns.push((*var, *column_type, column(name_of(*var))));
            }
        }
        let subset = |unique: &Option<Vec<VarId>>| {
            unique
                .as_ref()
                .is_some_and(|vars| !vars.is_empty() && vars.iter().all(|var| shared.contains(var)))
        };
        let rows = if shared.is_empty() {
            left.rows * right.rows
        } else if subset(&right.unique) {
            // Each row on the left finds at most one on the right.
            left.rows.min(if subset(&left.unique) {
                right.rows
            } else {
                f64::MAX
            })
        } else if subset(&left.unique) {
            right.rows
        } else {
            left.rows.max(right.rows)
        };
        let unique = match (&left.unique, &right.unique) {
            (Some(own), _) if subset(&right.unique) => Some(own.clone()),
            (_, Some(own)) if subset(&left.unique) => Some(own.clone()),
            (Some(own), Some(other)) => {
                let mut both = own.clone();
                both.extend(other.iter().filter(|var| !own.contains(var)));
                Some(both)
            }
            _ => None,
        };
        let whole = Relation {
            plan: joined.build()?,
            columns: Vec::new(),
            rows,
            unique: None,
        };
        let mut projected = Self::project(&whole, columns)?;
        projected.unique = unique;
        Ok(projected)
    }

    /// Two plans whose columns do not clash, and the columns that they are joined by.
    pub(super) fn keyed(
        &self,
        left: &Relation,
        right: &Relation,
        shared: &[VarId],
    ) -> Result<(LogicalPlan, LogicalPlan, JoinColumns)> {
        let mut left_columns: Vec<Expr> = left
            .columns
            .iter()
            .map(|(var, _)| column(name_of(*var)))
            .collect();
        let mut right_columns: Vec<Expr> = right
            .columns
            .iter()
            .filter(|(var, _)| !shared.contains(var))
            .map(|(var, _)| column(name_of(*var)))
            .collect();
        let mut on = (Vec::new(), Vec::new());
        let mut keys = false;
        for &var in shared {
            let (Some(own), Some(other)) = (left.column(var), right.column(var)) else {
                continue;
            };
            let plain = own.compares_plainly(other);
            if own.never_meets(other) {
                self.notes.borrow_mut().push(format!(
                    "{} is {own} in one place and {other} in another, which are never equal",
                    self.query
                        .vars
                        .get(var.0 as usize)
                        .map_or("a value", |info| &*info.name),
                ));
            }
            let own_name = if plain {
                name_of(var)
            } else {
                keys = true;
                let name = self.fresh("k");
                left_columns.push(Self::key(own, column(name_of(var)), false).alias(name.clone()));
                name
            };
            let other_name = self.fresh("k");
            right_columns
                .push(Self::key(other, column(name_of(var)), plain).alias(other_name.clone()));
            on.0.push(Column::new_unqualified(own_name));
            on.1.push(Column::new_unqualified(other_name));
        }
        let left_plan = if keys {
            LogicalPlanBuilder::from(left.plan.clone())
                .project(left_columns)?
                .build()?
        } else {
            left.plan.clone()
        };
        let right_plan = LogicalPlanBuilder::from(right.plan.clone())
            .project(right_columns)?
            .build()?;
        Ok((left_plan, right_plan, on))
    }

    /// Rows of `left` that have no partner in `right`.
    pub(crate) fn anti_join(
        &self,
        left: Relation,
        right: &Relation,
        vars: &[VarId],
    ) -> Result<Relation> {
        if vars.is_empty() {
            // All or nothing: a constant key on both sides.
            let name = self.fresh("k");
            let other = self.fresh("k");
            let mut columns: Vec<Expr> = left
                .columns
                .iter()
                .map(|(var, _)| column(name_of(*var)))
                .collect();
            columns.push(lit(1_i64).alias(name.clone()));
            let right_plan = LogicalPlanBuilder::from(right.plan.clone())
                .project(vec![lit(1_i64).alias(other.clone())])?
                .limit(0, Some(1))?
                .build()?;
            let plan = LogicalPlanBuilder::from(left.plan.clone())
                .project(columns)?
                .join(
                    right_plan,
                    JoinType::LeftAnti,
                    (vec![name], vec![other]),
                    None,
                )?
                .build()?;
            let joined = Relation { plan, ..left };
            let own = Self::own(&joined);
            return Self::project(&joined, own);
        }
        let (left_plan, right_plan, on) = self.keyed(&left, right, vars)?;
        let plan = LogicalPlanBuilder::from(left_plan)
            .join(right_plan, JoinType::LeftAnti, on, None)?
            .build()?;
        let joined = Relation { plan, ..left };
        let own = Self::own(&joined);
        Self::project(&joined, own)
    }

    /// One relation over the variables of all, with the rows of all.
    pub(crate) fn union(relations: Vec<Relation>, vars: &[VarId]) -> Result<Relation> {
        let mut types: BTreeMap<VarId, ColumnType> = BTreeMap::new();
        for relation in &relations {
            for &var in vars {
                let Some(own) = relation.column(var) else {
                    return plan_err!("a branch lacks a variable");
                };
                types
                    .entry(var)
                    .and_modify(|known| *known = known.or(own))
                    .or_insert(own);
            }
        }
        let rows = relations.iter().map(|relation| relation.rows).sum();
        let mut plan: Option<LogicalPlanBuilder> = None;
        for relation in &relations {
            let mut columns = Vec::with_capacity(vars.len().max(1));
            for &var in vars {
                let (Some(own), Some(&target)) = (relation.column(var), types.get(&var)) else {
                    continue;
                };
                let expression = Self::cast(own, target, column(name_of(var)));
                columns.push(expression.alias(name_of(var)));
            }
            if columns.is_empty() {
                // A union needs a column; this one has no name that anybody uses.
                columns.push(lit(1_i64).alias("unit"));
            }
            let branch = LogicalPlanBuilder::from(relation.plan.clone())
                .project(columns)?
                .build()?;
            plan = Some(match plan {
                None => LogicalPlanBuilder::from(branch),
                Some(plan) => plan.union(branch)?,
            });
        }
        let Some(plan) = plan else {
            return Self::nothing(vars);
        };
        Ok(Relation {
            plan: plan.build()?,
            columns: vars
                .iter()
                .filter_map(|var| Some((*var, *types.get(var)?)))
                .collect(),
            rows,
            unique: None,
        })
    }

    /// Each row once.
    pub(crate) fn distinct(&self, relation: Relation) -> Result<Relation> {
        let vars: Vec<VarId> = relation.columns.iter().map(|(var, _)| *var).collect();
        if relation.unique.is_some() {
            return Ok(relation);
        }
        if vars.is_empty() {
            let plan = LogicalPlanBuilder::from(relation.plan)
                .limit(0, Some(1))?
                .build()?;
            return Ok(Relation {
                plan,
                rows: 1.0,
                unique: Some(Vec::new()),
                columns: Vec::new(),
            });
        }
        let ambiguous =
            |(_, column_type): &(VarId, ColumnType)| !column_type.compares_plainly(*column_type);
        let plan = if relation.columns.iter().any(ambiguous) {
            // Equal terms may be written differently: the key decides, and any of them is shown.
            let mut keys = Vec::new();
            let mut shown = Vec::new();
            for own in &relation.columns {
                let name = name_of(own.0);
                if ambiguous(own) {
                    keys.push(Self::key(own.1, column(name.clone()), false).alias(self.fresh("k")));
                    let first = min(column(name.clone()));
                    shown.push(first.alias(name));
                } else {
                    keys.push(column(name));
                }
            }
            LogicalPlanBuilder::from(relation.plan)
                .aggregate(keys, shown)?
                .project(
                    relation
                        .columns
                        .iter()
                        .map(|(var, _)| column(name_of(*var)))
                        .collect::<Vec<_>>(),
                )?
                .build()?
        } else {
            LogicalPlanBuilder::from(relation.plan)
                .distinct()?
                .build()?
        };
        Ok(Relation {
            plan,
            unique: Some(vars),
            ..relation
        })
    }
}
