//! A resolved query becomes a logical plan of DataFusion.
//!
//! ```text
//! goals ─► stars and other atoms ─► joined, the smallest first ─► filters, functions, not, or as soon as
//!                                                                 what they need is bound ─► find
//! ```
//!
//! A conjunction becomes a [`Relation`]: a plan with one column a variable. Patterns over one entity are
//! one scan, a *star*. `not` is an anti join, `or` a union, a recursive rule a fixpoint. What lies inside
//! a `not` or an `or` is planned by itself where it can be, else it begins with the distinct values that
//! it needs of the relation outside, which is then computed once and shared.
//!
//! **Invariant.** Order decides cost, never the answer.

mod aggregate;
mod atom;
mod call;
mod function;
mod kinds;
mod scoped;
pub mod shared;

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write;
use std::sync::Arc;

use datafusion::common::{DataFusionError, JoinType, Result};
use datafusion::logical_expr::{AggregateUDF, Expr, LogicalPlan, LogicalPlanBuilder, col, lit};

use self::atom::Atom;
pub(crate) use self::function::Attributes;
use self::function::{Job, Operand, apply};
pub(crate) use self::kinds::result_kinds;
use crate::analyze::bound::{BoundQuery, Goal, Slot, SourceId, VarId};
use crate::analyze::safety::needs;
use crate::column::{ColumnType, Repr};
use crate::functions::Functions;
use crate::plan_source::QuerySource;
use crate::span::Span;
use crate::term::Term;

/// What lowering needs beside the query.
pub struct Context<'a> {
    /// The sources, by [`SourceId`].
    pub sources: &'a [QuerySource],
    /// How many facts patterns match: see [`counts`](crate::counts).
    pub counts: &'a Counts,
    /// The functions; aggregates are looked up here.
    pub functions: &'a Functions,
    /// A sum that does not overflow silently.
    pub sum: Arc<AggregateUDF>,
    /// The text of the query.
    pub text: &'a Arc<str>,
    /// The text of the rules.
    pub rules: &'a Arc<str>,
}

/// Numbers of facts, asked for before the plan is made.
#[derive(Debug, Default)]
pub struct Counts {
    /// By source, attribute (or all of them) and value (or any).
    pub facts: HashMap<(SourceId, Option<i64>, Option<Term>), u64>,
}

/// Where a clause stands, for errors at run time.
#[derive(Clone)]
pub(crate) struct Quote {
    text: Arc<str>,
    span: Span,
}

impl Quote {
    pub(crate) fn error(&self, reason: &str) -> DataFusionError {
        function::into_datafusion(crate::Error::new(reason, self.span, &self.text))
    }
}

/// A plan with one column a variable.
#[derive(Clone, Debug)]
pub(crate) struct Relation {
    pub(crate) plan: LogicalPlan,
    pub(crate) columns: Vec<(VarId, ColumnType)>,
    /// Rows, roughly.
    pub(crate) rows: f64,
    /// Variables whose values no two rows share, if such are known.
    pub(crate) unique: Option<Vec<VarId>>,
}

impl Relation {
    pub(crate) fn column(&self, var: VarId) -> Option<ColumnType> {
        let found = self.columns.iter().find(|(known, _)| *known == var);
        found.map(|(_, column)| *column)
    }

    pub(crate) fn has(&self, var: VarId) -> bool {
        self.column(var).is_some()
    }

    fn vars(&self) -> HashSet<VarId> {
        self.columns.iter().map(|(var, _)| *var).collect()
    }
}

/// A plan and what its columns are.
#[derive(Debug)]
pub struct Lowered {
    /// The plan; one column an element of the find spec, in its order.
    pub plan: LogicalPlan,
    /// The types of the columns.
    pub columns: Vec<ColumnType>,
    /// The order in which relations were joined, for people.
    pub order: String,
}

/// The name of a variable's column.
pub(crate) fn name_of(var: VarId) -> String {
    format!("v{}", var.0)
}

pub(crate) fn column(name: impl Into<String>) -> Expr {
    Expr::Column(datafusion::common::Column::new_unqualified(name.into()))
}

/// Lowers a query.
///
/// # Errors
///
/// DataFusion's, if a plan cannot be put together.
pub fn lower(query: &BoundQuery, context: &Context<'_>) -> Result<Lowered> {
    let lowering = Lowering {
        query,
        context,
        names: Cell::new(0),
        order: std::cell::RefCell::default(),
    };
    let relation = lowering.conjunction(&query.goals, None)?;
    let (plan, columns) = lowering.find(relation)?;
    Ok(Lowered {
        plan,
        columns,
        order: lowering.order.into_inner(),
    })
}

pub(crate) struct Lowering<'a> {
    pub(crate) query: &'a BoundQuery,
    pub(crate) context: &'a Context<'a>,
    names: Cell<u32>,
    order: std::cell::RefCell<String>,
}

impl Lowering<'_> {
    /// A number that has not been given yet.
    fn next(&self) -> u32 {
        let next = self.names.get();
        self.names.set(next + 1);
        next
    }

    pub(crate) fn fresh(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.next())
    }

    pub(crate) fn quote(&self, span: Span, in_rules: bool) -> Quote {
        let text = if in_rules {
            self.context.rules
        } else {
            self.context.text
        };
        Quote {
            text: Arc::clone(text),
            span,
        }
    }

    /// The variable's only value, if it has but one.
    pub(crate) fn constant(&self, var: VarId) -> Option<&Term> {
        self.query.vars.get(var.0 as usize)?.constant.as_ref()
    }

    /// A slot whose variable may have but one value.
    pub(crate) fn slot(&self, slot: &Slot) -> Slot {
        match slot {
            Slot::Var(var) => match self.constant(*var) {
                Some(term) => Slot::Constant(term.clone()),
                None => slot.clone(),
            },
            other => other.clone(),
        }
    }

    fn constants(&self) -> HashSet<VarId> {
        let vars = self.query.vars.iter().enumerate();
        vars.filter(|(_, info)| info.constant.is_some())
            .map(|(at, _)| VarId(u32::try_from(at).unwrap_or(u32::MAX)))
            .collect()
    }

    /// What holds for all goals together; begins with `seed`, if there is one.
    pub(crate) fn conjunction(&self, goals: &[Goal], seed: Option<Relation>) -> Result<Relation> {
        let mut current = seed;
        let constants = self.constants();
        let (mut atoms, mut waiting) = self.atoms(goals, current.is_none(), &constants)?;
        // What an `or` or a rule can answer by itself is an atom like any other, only larger.
        loop {
            self.drain(&mut current, &mut waiting, atoms.is_empty())?;
            if atoms.is_empty() {
                break;
            }
            let at = Self::smallest(&atoms, current.as_ref());
            if let Some(waiting_at) = self.bridge(&atoms[at], &waiting, current.as_ref()) {
                let goal = waiting.remove(waiting_at);
                current = Some(self.step(current.take(), goal)?);
                continue;
            }
            let atom = atoms.swap_remove(at);
            let relation = self.atom(atom)?;
            self.note(&relation, current.as_ref());
            current = Some(match current.take() {
                None => relation,
                Some(before) => self.join(before, relation)?,
            });
        }
        let mut known = constants;
        if let Some(current) = &current {
            known.extend(current.vars());
        }
        // Rules that recurse come last, when most of their arguments are bound.
        while !waiting.is_empty() {
            let runnable = waiting.iter().position(|goal| {
                needs(self.query, goal, &known)
                    .is_some_and(|needs| needs.needs.iter().all(|var| known.contains(var)))
            });
            let Some(at) = runnable else {
                return datafusion::common::plan_err!("a clause never came to have what it needs");
            };
            let goal = waiting.remove(at);
            current = Some(self.step(current.take(), goal)?);
            self.drain(&mut current, &mut waiting, true)?;
            if let Some(current) = &current {
                known.extend(current.vars());
            }
        }
        match current {
            Some(current) => Ok(current),
            None => self.unit(),
        }
    }

    /// Writes down what is joined next.
    fn note(&self, relation: &Relation, current: Option<&Relation>) {
        let mut order = self.order.borrow_mut();
        let names: Vec<&str> = relation
            .columns
            .iter()
            .filter_map(|(var, _)| Some(&*self.query.vars.get(var.0 as usize)?.name))
            .collect();
        let verb = if current.is_some() { "join" } else { "scan" };
        // Writing to a string cannot fail.
        let _ = writeln!(
            order,
            "{verb} [{}], about {} rows",
            names.join(" "),
            relation.rows
        );
    }

    /// Runs what can run now: filters, functions, negations and disjunctions that have what they need.
    fn drain(
        &self,
        current: &mut Option<Relation>,
        waiting: &mut Vec<&Goal>,
        last: bool,
    ) -> Result<()> {
        loop {
            let mut known = self.constants();
            if let Some(current) = &*current {
                known.extend(current.vars());
            }
            let runnable = waiting.iter().position(|goal| {
                // Rules wait until nothing else is left; the rest runs as early as it can.
                !matches!(goal, Goal::Rule { .. })
                    && self.ready(goal, current.as_ref(), &known, last)
            });
            let Some(at) = runnable else { return Ok(()) };
            let goal = waiting.remove(at);
            *current = Some(self.step(current.take(), goal)?);
        }
    }

    fn ready(
        &self,
        goal: &Goal,
        current: Option<&Relation>,
        known: &HashSet<VarId>,
        last: bool,
    ) -> bool {
        let Some(needs) = needs(self.query, goal, known) else {
            return false;
        };
        if !needs.needs.iter().all(|var| known.contains(var)) {
            return false;
        }
        // An `or` that shares nothing with what is there yet is better joined later than multiplied now.
        match (goal, current) {
            (Goal::Or { required, free, .. }, Some(current)) => {
                last || required.iter().chain(free).any(|var| current.has(*var))
            }
            (Goal::Or { .. }, None) => last,
            _ => true,
        }
    }

    /// Adds one goal to a relation that has what it needs.
    fn step(&self, current: Option<Relation>, goal: &Goal) -> Result<Relation> {
        match goal {
            Goal::Call(call) => self.call(self.or_unit(current)?, call),
            Goal::GetElse {
                source,
                entity,
                attribute,
                default,
                binding,
                ..
            } => self.get_else(
                self.or_unit(current)?,
                *source,
                entity,
                attribute.as_ref(),
                default,
                binding,
            ),
            Goal::Same(left, right) => self.same(self.or_unit(current)?, left, right),
            Goal::Not { join, goals, .. } => self.not(self.or_unit(current)?, join, goals),
            Goal::Or {
                required,
                free,
                branches,
                ..
            } => self.or(current, required, free, branches),
            Goal::Rule {
                program,
                predicate,
                arguments,
                ..
            } => self.rule(current, *program, *predicate, arguments),
            Goal::Fact(_) | Goal::Tuple { .. } | Goal::Rows(_) => {
                let atom = self.single(goal)?;
                let relation = self.atom(atom)?;
                match current {
                    Some(current) => self.join(current, relation),
                    None => Ok(relation),
                }
            }
            Goal::Nested(_) => datafusion::common::plan_err!("a nested query has not been run"),
        }
    }

    /// One row without columns.
    pub(crate) fn unit(&self) -> Result<Relation> {
        Ok(Relation {
            plan: LogicalPlanBuilder::empty(true).build()?,
            columns: Vec::new(),
            rows: 1.0,
            unique: Some(Vec::new()),
        })
    }

    fn or_unit(&self, relation: Option<Relation>) -> Result<Relation> {
        relation.map_or_else(|| self.unit(), Ok)
    }

    /// The place of the atom to join next: connected ones first, then the smallest.
    fn smallest(atoms: &[Atom], current: Option<&Relation>) -> usize {
        let connected = |atom: &Atom| {
            current.is_none_or(|current| atom.vars().iter().any(|var| current.has(*var)))
        };
        let order = atoms.iter().enumerate().min_by(|(_, left), (_, right)| {
            connected(right)
                .cmp(&connected(left))
                .then(left.rows().total_cmp(&right.rows()))
        });
        order.map_or(0, |(at, _)| at)
    }

    /// A rule that can run and shares variables with what is there, if the atom shares none: better than
    /// every row with every row.
    fn bridge(&self, atom: &Atom, waiting: &[&Goal], current: Option<&Relation>) -> Option<usize> {
        let current = current?;
        if atom.vars().iter().any(|var| current.has(*var)) || current.columns.is_empty() {
            return None;
        }
        let mut known = self.constants();
        known.extend(current.vars());
        waiting.iter().position(|goal| {
            let Goal::Rule { arguments, .. } = goal else {
                return false;
            };
            let connected = arguments
                .iter()
                .filter_map(Slot::var)
                .any(|var| current.has(var));
            connected
                && needs(self.query, goal, &known)
                    .is_some_and(|needs| needs.needs.iter().all(|var| known.contains(var)))
        })
    }

    /// Projects expressions as variables.
    pub(crate) fn project(
        &self,
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
                    return datafusion::common::plan_err!(
                        "{} is not bound",
                        self.query.vars[var.0 as usize].name
                    );
                }
            });
        }
        self.project(relation, columns)
    }

    /// A constant as a column.
    pub(crate) fn constant_column(&self, var: VarId, term: &Term) -> (ColumnType, Expr) {
        let mut column_type = ColumnType::new(crate::column::Kinds::of_term(term));
        let info = self.query.vars.get(var.0 as usize);
        if let (Some(source), Term::Long(_)) = (info.and_then(|info| info.attribute_of), term) {
            column_type = ColumnType::attribute(source);
        }
        let literal = crate::column::literal(term, column_type.repr());
        let literal = literal.unwrap_or(datafusion::common::ScalarValue::Null);
        (column_type, lit(literal))
    }

    pub(crate) fn filter(&self, relation: Relation, predicate: Expr) -> Result<Relation> {
        let plan = LogicalPlanBuilder::from(relation.plan)
            .filter(predicate)?
            .build()?;
        Ok(Relation { plan, ..relation })
    }

    /// A relation without rows, over some variables.
    pub(crate) fn nothing(&self, vars: &[VarId]) -> Result<Relation> {
        let unit = self.unit()?;
        let columns = vars
            .iter()
            .map(|var| {
                let null = datafusion::common::ScalarValue::Int64(None);
                (*var, ColumnType::new(crate::column::Kinds::NONE), lit(null))
            })
            .collect();
        let relation = self.project(&unit, columns)?;
        let mut relation = self.filter(relation, lit(false))?;
        relation.rows = 0.0;
        Ok(relation)
    }

    /// What two columns are joined by: themselves, or their keys.
    pub(crate) fn key(&self, column_type: ColumnType, expression: Expr, plain: bool) -> Expr {
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
    pub(crate) fn cast(&self, from: ColumnType, to: ColumnType, expression: Expr) -> Expr {
        if from.repr() == to.repr() {
            return expression;
        }
        if from.kinds.is_empty() {
            // No row has it.
            let null = datafusion::common::ScalarValue::try_from(&to.repr().data_type());
            return lit(null.unwrap_or(datafusion::common::ScalarValue::Null));
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
        let mut projected = self.project(&whole, columns)?;
        projected.unique = unique;
        Ok(projected)
    }

    /// Two plans whose columns do not clash, and the columns that they are joined by.
    fn keyed(
        &self,
        left: &Relation,
        right: &Relation,
        shared: &[VarId],
    ) -> Result<(
        LogicalPlan,
        LogicalPlan,
        (Vec<datafusion::common::Column>, Vec<datafusion::common::Column>),
    )> {
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
            let own_name = if plain {
                name_of(var)
            } else {
                keys = true;
                let name = self.fresh("k");
                left_columns
                    .push(self.key(own, column(name_of(var)), false).alias(name.clone()));
                name
            };
            let other_name = self.fresh("k");
            right_columns.push(
                self.key(other, column(name_of(var)), plain)
                    .alias(other_name.clone()),
            );
            on.0.push(datafusion::common::Column::new_unqualified(own_name));
            on.1.push(datafusion::common::Column::new_unqualified(other_name));
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
            return self.project(&joined, own);
        }
        let (left_plan, right_plan, on) = self.keyed(&left, right, vars)?;
        let plan = LogicalPlanBuilder::from(left_plan)
            .join(right_plan, JoinType::LeftAnti, on, None)?
            .build()?;
        let joined = Relation { plan, ..left };
        let own = Self::own(&joined);
        self.project(&joined, own)
    }

    /// One relation over the variables of all, with the rows of all.
    pub(crate) fn union(&self, relations: Vec<Relation>, vars: &[VarId]) -> Result<Relation> {
        let mut types: BTreeMap<VarId, ColumnType> = BTreeMap::new();
        for relation in &relations {
            for &var in vars {
                let Some(own) = relation.column(var) else {
                    return datafusion::common::plan_err!("a branch lacks a variable");
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
                let expression = self.cast(own, target, column(name_of(var)));
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
            return self.nothing(vars);
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
        let ambiguous = |(_, column_type): &(VarId, ColumnType)| {
            !column_type.compares_plainly(*column_type)
        };
        let plan = if relation.columns.iter().any(ambiguous) {
            // Equal terms may be written differently: the key decides, and any of them is shown.
            let mut keys = Vec::new();
            let mut shown = Vec::new();
            for own in &relation.columns {
                let name = name_of(own.0);
                if ambiguous(own) {
                    keys.push(self.key(own.1, column(name.clone()), false).alias(self.fresh("k")));
                    let first = datafusion::functions_aggregate::expr_fn::min(column(name.clone()));
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
            LogicalPlanBuilder::from(relation.plan).distinct()?.build()?
        };
        Ok(Relation {
            plan,
            unique: Some(vars),
            ..relation
        })
    }
}

/// A column that cannot be null any more, by name.
pub(crate) fn not_null(name: &str) -> Expr {
    col(name).is_not_null()
}
