//! A resolved query becomes a logical plan of DataFusion.
//!
//! ```text
//! goals ─► stars and other atoms ─► joined in the cheapest order ─► filters, functions, not, or as soon as
//!                                                                   what they need is bound ─► find
//! ```
//!
//! A conjunction becomes a [`Relation`]: a plan with one column a variable. Patterns over one entity are
//! one scan, a *star*. `not` is an anti join, `or` a union, a recursive rule a fixpoint. What lies inside
//! a `not` or an `or` is planned by itself where it can be, else it begins with the distinct values that
//! it needs of the relation outside, which is then computed once and shared.
//!
//! A function that may refuse what it is given waits until all else that a row depends on is decided, or
//! until what it answers connects what would otherwise be multiplied; it is volatile for DataFusion, so
//! that nothing moves it. So a row that another clause drops makes no error.
//!
//! **Invariant.** Order decides cost, never the answer.

mod aggregate;
mod atom;
mod call;
mod estimate;
mod function;
mod kinds;
mod relation;
mod scoped;
pub mod shared;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::sync::Arc;

use datafusion::common::{DataFusionError, Result, plan_err};
use datafusion::logical_expr::{AggregateUDF, Expr, LogicalPlan, LogicalPlanBuilder, col};

use self::estimate::Part;
pub(crate) use self::function::Attributes;
use self::kinds::always_answers;
pub(crate) use self::kinds::result_kinds;
use crate::analyze::bound::{BoundQuery, CallGoal, Goal, Slot, SourceId, Target, VarId};
use crate::analyze::safety::{is_ready, runs};
use crate::column::{ColumnType, Kinds};
use crate::functions::Functions;
use crate::optimizations::Optimizations;
use crate::order::{self, Input, Tree};
use crate::plan_source::QuerySource;
use crate::span::Span;
use crate::term::Term;

/// Relations and other clauses of one conjunction at most. DataFusion's planner and its plans call themselves once a
/// step.
const PARTS_MAX: usize = 512;

/// What lowering needs beside the query.
pub struct Context<'a> {
    /// The sources, by [`SourceId`].
    pub sources: &'a [QuerySource],
    /// How many facts patterns match: see [`count`](crate::count).
    pub counts: &'a Counts,
    /// The functions; aggregates are looked up here.
    pub functions: &'a Functions,
    /// A sum that does not overflow silently.
    pub sum: Arc<AggregateUDF>,
    /// What may be done to answer sooner.
    pub optimizations: &'a Optimizations,
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
    /// Values of an attribute, roughly, where relations are joined by them.
    pub values: HashMap<(SourceId, i64), u64>,
    /// Some values of an attribute, where a predicate speaks of them.
    pub samples: HashMap<(SourceId, i64), Vec<Term>>,
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
    /// What a reader should know: values that never meet.
    pub notes: Vec<String>,
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
        order: RefCell::default(),
        notes: RefCell::default(),
    };
    let relation = lowering.conjunction(&query.goals, None)?;
    let (plan, columns) = lowering.find(relation)?;
    Ok(Lowered {
        plan,
        columns,
        order: lowering.order.into_inner(),
        notes: lowering.notes.into_inner(),
    })
}

pub(crate) struct Lowering<'a> {
    pub(crate) query: &'a BoundQuery,
    pub(crate) context: &'a Context<'a>,
    names: Cell<u32>,
    order: RefCell<String>,
    notes: RefCell<Vec<String>>,
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
        let (atoms, mut waiting) = self.atoms(goals)?;
        self.drain(&mut current, &mut waiting, atoms.is_empty())?;
        let mut parts: Vec<Part> = atoms.into_iter().map(Part::Atom).collect();
        parts.extend(current.take().map(Part::Relation));
        let steps = parts.len() + waiting.len();
        if steps > PARTS_MAX {
            return plan_err!(
                "{steps} clauses are joined in one conjunction, and at most {PARTS_MAX} can be: bind some by rules or \
                 inputs"
            );
        }
        let inputs: Vec<Input<VarId>> = parts
            .iter()
            .map(|part| self.input(part, &waiting))
            .collect();
        let mut parts: Vec<Option<Part>> = parts.into_iter().map(Some).collect();
        // What is there already comes first, and all that it is connected with.
        let mut trees = if self.context.optimizations.join_order {
            order::trees(&inputs)
        } else {
            order::written(&inputs)
        };
        let begun = matches!(parts.last(), Some(Some(Part::Relation(_)))).then(|| parts.len() - 1);
        trees.sort_by_key(|tree| begun.is_some_and(|begun| !tree.inputs().contains(&begun)));
        while let Some(at) = Self::connected(&trees, &inputs, current.as_ref()) {
            let vars = trees[at]
                .inputs()
                .into_iter()
                .flat_map(|at| &inputs[at].values);
            let vars: Vec<VarId> = vars.map(|(var, _)| *var).collect();
            let bridge = self.bridge(&vars, &waiting, current.as_ref());
            if let Some(waiting_at) = bridge {
                let goal = waiting.remove(waiting_at);
                current = Some(self.step(current.take(), goal)?);
            } else {
                let tree = trees.remove(at);
                let relation = self.tree(&tree, &inputs, &mut parts, &mut waiting)?;
                current = Some(match current.take() {
                    None => relation,
                    Some(before) => self.joined(before, relation)?,
                });
            }
            self.drain(&mut current, &mut waiting, trees.is_empty())?;
        }
        let mut known = self.constants();
        if let Some(current) = &current {
            known.extend(current.vars());
        }
        // Rules that recurse come last, when most of their arguments are bound, but for what may fail.
        while !waiting.is_empty() {
            let runnable = (0..waiting.len())
                .filter(|at| is_ready(self.query, waiting[*at], &known))
                .min_by_key(|at| self.rank(waiting[*at], &waiting, current.as_ref()));
            let Some(at) = runnable else {
                return plan_err!("a clause never came to have what it needs");
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
            None => Self::unit(),
        }
    }

    /// Joins the parts of a tree, which may be as deep as it has parts. What filters a join is applied to it; a
    /// single part is left to the caller.
    fn tree(
        &self,
        tree: &Tree,
        inputs: &[Input<VarId>],
        parts: &mut [Option<Part>],
        waiting: &mut Vec<&Goal>,
    ) -> Result<Relation> {
        enum Step<'t> {
            Make(&'t Tree),
            Join(f64),
        }
        let mut steps = vec![Step::Make(tree)];
        let mut made = Vec::new();
        while let Some(step) = steps.pop() {
            match step {
                Step::Make(Tree::Join { left, right, rows }) => {
                    let both = [Step::Make(right), Step::Make(left)];
                    steps.push(Step::Join(*rows));
                    steps.extend(both);
                }
                Step::Make(Tree::Input(at)) => match parts[*at].take() {
                    Some(Part::Atom(atom)) => {
                        let mut relation = self.atom(atom)?;
                        if !matches!(tree, Tree::Input(_)) {
                            // Its predicates count, although they come after the join.
                            relation.rows = inputs[*at].rows;
                        }
                        self.note("scan", &relation);
                        made.push(relation);
                    }
                    Some(Part::Relation(relation)) => made.push(relation),
                    None => return plan_err!("a part is joined once"),
                },
                Step::Join(rows) => {
                    let (Some(right), Some(left)) = (made.pop(), made.pop()) else {
                        return plan_err!("a join has two sides");
                    };
                    let joined = self.joined(left, right)?;
                    let joined = Relation { rows, ..joined };
                    self.note("join", &joined);
                    let mut joined = Some(joined);
                    self.drain(&mut joined, waiting, false)?;
                    made.push(Self::or_unit(joined)?);
                }
            }
        }
        Self::or_unit(made.pop())
    }

    /// Joins two relations; the smaller one is what a hash table is built of.
    fn joined(&self, left: Relation, right: Relation) -> Result<Relation> {
        if right.rows < left.rows {
            self.join(right, left)
        } else {
            self.join(left, right)
        }
    }

    /// Writes down what is done next.
    fn note(&self, verb: &str, relation: &Relation) {
        let mut order = self.order.borrow_mut();
        let names: Vec<&str> = relation
            .columns
            .iter()
            .filter_map(|(var, _)| Some(&*self.query.vars.get(var.0 as usize)?.name))
            .collect();
        // Writing to a string cannot fail.
        let _ = writeln!(
            order,
            "{verb} [{}], about {:.0} rows",
            names.join(" "),
            relation.rows
        );
    }

    /// Whether a goal calls a function that may refuse what it is given.
    fn may_fail(&self, goal: &Goal, current: Option<&Relation>) -> bool {
        match goal {
            Goal::Call(call) => {
                let kinds = call.arguments.iter().map(|slot| match self.slot(slot) {
                    Slot::Constant(term) => Kinds::of_term(&term),
                    Slot::Var(var) => current
                        .and_then(|current| current.column(var))
                        .filter(|column| column.attribute_of.is_none())
                        .map_or(Kinds::ANY, |column| column.kinds),
                    Slot::Blank => Kinds::ANY,
                });
                !always_answers(&call.name, &kinds.collect::<Vec<_>>())
            }
            Goal::Not { goals, .. } => goals.iter().any(|goal| self.may_fail(goal, current)),
            Goal::Or { branches, .. } => {
                let mut goals = branches.iter().flatten();
                goals.any(|goal| self.may_fail(goal, current))
            }
            _ => false,
        }
    }

    /// Which of the last goals runs first: the least.
    fn rank(&self, goal: &Goal, waiting: &[&Goal], current: Option<&Relation>) -> u8 {
        let fails = |goal| self.may_fail(goal, current);
        match goal {
            // What a call answers may be what a recursion begins with.
            Goal::Rule { arguments, .. } => {
                let answered = waiting.iter().flat_map(|other| match other {
                    Goal::Call(call) => call.binding.as_ref().map_or(Vec::new(), Target::vars),
                    _ => Vec::new(),
                });
                let answered: Vec<VarId> = answered.collect();
                let mut vars = arguments.iter().filter_map(Slot::var);
                if vars.any(|var| answered.contains(&var)) {
                    3
                } else {
                    0
                }
            }
            // Where all that a call answers is there already, it drops rows, which others may refuse.
            Goal::Call(call) if call.binding.is_some() => {
                let vars = call.binding.iter().flat_map(Target::vars);
                let bound = |var| {
                    self.constant(var).is_some() || current.is_some_and(|current| current.has(var))
                };
                let decides = vars.into_iter().all(bound);
                if fails(goal) {
                    2 - u8::from(decides)
                } else {
                    0
                }
            }
            Goal::Or { .. } => u8::from(fails(goal)),
            goal if fails(goal) => 4,
            _ => 0,
        }
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
                    && !self.may_fail(goal, current.as_ref())
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
        if !is_ready(self.query, goal, known) {
            return false;
        }
        // An `or` that shares nothing with what is there yet is better joined later than multiplied now.
        match (goal, current) {
            (
                Goal::Or {
                    required,
                    free,
                    branches,
                    ..
                },
                _,
            ) => {
                let shares =
                    |current: &Relation| required.iter().chain(free).any(|var| current.has(*var));
                (last || current.is_some_and(shares))
                    && branches
                        .iter()
                        .all(|branch| runs(self.query, branch, known, free))
            }
            _ => true,
        }
    }

    /// Adds one goal to a relation that has what it needs.
    fn step(&self, current: Option<Relation>, goal: &Goal) -> Result<Relation> {
        match goal {
            Goal::Call(call) => self.call(Self::or_unit(current)?, call),
            Goal::GetElse {
                source,
                entity,
                attribute,
                default,
                binding,
                ..
            } => self.get_else(
                Self::or_unit(current)?,
                *source,
                entity,
                attribute.as_ref(),
                default,
                binding,
            ),
            Goal::Same(left, right) => self.same(Self::or_unit(current)?, left, right),
            Goal::Not { join, goals, .. } => self.not(Self::or_unit(current)?, join, goals),
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
            Goal::Nested(_) => plan_err!("a nested query has not been run"),
        }
    }

    /// One row without columns.
    pub(crate) fn unit() -> Result<Relation> {
        Ok(Relation {
            plan: LogicalPlanBuilder::empty(true).build()?,
            columns: Vec::new(),
            rows: 1.0,
            unique: Some(Vec::new()),
        })
    }

    fn or_unit(relation: Option<Relation>) -> Result<Relation> {
        relation.map_or_else(Self::unit, Ok)
    }

    /// The place of the tree to join next: connected ones first, then the smallest.
    fn connected(
        trees: &[Tree],
        inputs: &[Input<VarId>],
        current: Option<&Relation>,
    ) -> Option<usize> {
        let connected = |tree: &Tree| {
            let mut values = tree.inputs().into_iter().flat_map(|at| &inputs[at].values);
            values.any(|(var, _)| current.is_some_and(|current| current.has(*var)))
        };
        let first = trees.iter().position(connected);
        first.or((!trees.is_empty()).then_some(0))
    }

    /// A rule that can run and shares variables with what is there, or a function that can be called, if
    /// what comes next, with the variables `vars`, shares none: better than every row with every row.
    fn bridge(
        &self,
        vars: &[VarId],
        waiting: &[&Goal],
        current: Option<&Relation>,
    ) -> Option<usize> {
        let current = current?;
        if vars.iter().any(|var| current.has(*var)) || current.columns.is_empty() {
            return None;
        }
        let mut known = self.constants();
        known.extend(current.vars());
        // What a call answers may be what another needs to lead on.
        let mut wanted: HashSet<VarId> = vars.iter().copied().collect();
        let answers = |call: &CallGoal, wanted: &HashSet<VarId>| {
            let mut answered = call.binding.iter().flat_map(Target::vars);
            answered.any(|var| wanted.contains(&var))
        };
        loop {
            let before = wanted.len();
            for goal in waiting {
                if let Goal::Call(call) = goal
                    && answers(call, &wanted)
                {
                    wanted.extend(call.arguments.iter().filter_map(Slot::var));
                }
            }
            if wanted.len() == before {
                break;
            }
        }
        waiting.iter().position(|goal| {
            let leads_on = match goal {
                Goal::Rule { arguments, .. } => {
                    let mut vars = arguments.iter().filter_map(Slot::var);
                    vars.any(|var| current.has(var))
                }
                Goal::Call(call) => answers(call, &wanted),
                Goal::Or { .. } => true,
                _ => false,
            };
            leads_on && is_ready(self.query, goal, &known)
        })
    }
}

/// A column that cannot be null any more, by name.
pub(crate) fn not_null(name: &str) -> Expr {
    col(name).is_not_null()
}
