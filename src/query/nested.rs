//! Queries within a query: run, and replaced by their rows.
//!
//! ```text
//! [?e :movie/year ?y] [(q [:find (count ?x) . :in $ ?y :where [?x :movie/year ?y]] $ ?y) ?n]
//!        │                                 one answer for each distinct ?y
//!        └── distinct ?y ─────────────────────────────► rows of ?y ?n, joined like any others
//! ```
//!
//! One whose inputs are constants is run once. One whose inputs are variables is run once for each
//! combination of values that the clauses around it, without those that wait for its answer, give them:
//! perhaps for more than the whole query needs, never for fewer.

use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use datomfusion_datalog::analyze::bound::{
    BoundElement, BoundQuery, Goal, NestedGoal, Program, RowsGoal, Slot, Target, VarId,
};
use datomfusion_datalog::analyze::runnable;
use datomfusion_datalog::ast::InputKind;
use datomfusion_datalog::{Error as LanguageError, Term};

use super::{Bound, InputSource, Inputs, Stages, run_query};
use crate::catalog::session::DatalogSession;
use crate::error::{Error, Result};

/// Queries within queries at most.
const NESTING_MAX: usize = 16;

/// A query whose inner queries are replaced by their rows.
pub(super) async fn answered(
    mut asked: Bound,
    session: &Arc<DatalogSession>,
    inputs: &Inputs,
    depth: usize,
) -> Result<Bound> {
    let mut programs = std::mem::take(&mut asked.bound.programs);
    let goals = std::mem::take(&mut asked.bound.goals);
    let nested_rules = programs.iter().any(program_has_nested);
    if !has_nested(&goals) && !nested_rules {
        asked.bound.programs = programs;
        asked.bound.goals = goals;
        return Ok(asked);
    }
    // Recursions that hold no inner query may feed others; those that do are answered first.
    asked.bound.programs.clone_from(&programs);
    let mut outer = Outer {
        asked,
        session,
        inputs,
        depth,
    };
    for (at, program) in programs.iter_mut().enumerate() {
        for predicate in &mut program.predicates {
            for branch in &mut predicate.branches {
                let goals = std::mem::take(&mut branch.goals);
                branch.goals = outer.conjunction(goals, &[]).await?;
            }
        }
        outer.asked.bound.programs[at] = program.clone();
    }
    let goals = outer.conjunction(goals, &[]).await?;
    outer.asked.bound.goals = goals;
    Ok(outer.asked)
}

fn has_nested(goals: &[Goal]) -> bool {
    goals.iter().any(|goal| match goal {
        Goal::Nested(_) => true,
        Goal::Not { goals, .. } => has_nested(goals),
        Goal::Or { branches, .. } => branches.iter().any(|branch| has_nested(branch)),
        _ => false,
    })
}

fn program_has_nested(program: &Program) -> bool {
    let branches = program.predicates.iter();
    let mut branches = branches.flat_map(|predicate| &predicate.branches);
    branches.any(|branch| has_nested(&branch.goals))
}

/// The query around the inner ones, without its goals.
struct Outer<'a> {
    asked: Bound,
    session: &'a Arc<DatalogSession>,
    inputs: &'a Inputs,
    depth: usize,
}

impl Outer<'_> {
    /// A conjunction without inner queries; `around` holds together with it.
    fn conjunction<'s>(
        &'s self,
        mut goals: Vec<Goal>,
        around: &'s [Goal],
    ) -> Pin<Box<dyn Future<Output = Result<Vec<Goal>>> + Send + 's>> {
        Box::pin(async move {
            loop {
                while let Some((at, feed)) = self.next(&goals, around) {
                    if let Goal::Nested(nested) = &goals[at] {
                        goals[at] = Goal::Rows(self.run(nested, feed).await?);
                    }
                }
                // What is inside may need what is bound here; a `not` binds nothing, and so comes last.
                let is_or = |goal: &Goal| matches!(goal, Goal::Or { .. });
                let with_inside = |goal: &Goal| {
                    !matches!(goal, Goal::Nested(_)) && has_nested(std::slice::from_ref(goal))
                };
                let at = goals
                    .iter()
                    .position(|goal| is_or(goal) && with_inside(goal));
                let Some(at) = at.or_else(|| goals.iter().position(with_inside)) else {
                    break;
                };
                let mut inside = goals.remove(at);
                let context: Vec<Goal> = around.iter().chain(&goals).cloned().collect();
                match &mut inside {
                    Goal::Or { branches, .. } => {
                        for branch in branches {
                            *branch = self.conjunction(std::mem::take(branch), &context).await?;
                        }
                    }
                    Goal::Not { goals, .. } => {
                        *goals = self.conjunction(std::mem::take(goals), &context).await?;
                    }
                    _ => {}
                }
                goals.insert(at, inside);
            }
            let left = goals.iter().find_map(|goal| match goal {
                Goal::Nested(nested) => Some(nested),
                _ => None,
            });
            match left {
                None => Ok(goals),
                Some(nested) => Err(LanguageError::new(
                    "the inputs of this q are not bound by the clauses beside it; bind them there",
                    nested.span,
                    if nested.in_rules {
                        &self.asked.rules
                    } else {
                        &self.asked.query.text
                    },
                )
                .into()),
            }
        })
    }

    /// An inner query whose inputs can be known, and the goals that tell them.
    fn next(&self, goals: &[Goal], around: &[Goal]) -> Option<(usize, Vec<Goal>)> {
        if !goals.iter().any(|goal| matches!(goal, Goal::Nested(_))) {
            return None;
        }
        let bound = &self.asked.bound;
        let told: Vec<&Goal> = around
            .iter()
            .chain(goals)
            .filter(|goal| match goal {
                Goal::Rule { program, .. } => !program_has_nested(&bound.programs[*program]),
                goal => !has_nested(std::slice::from_ref(goal)),
            })
            .collect();
        let (feed, known) = runnable(bound, &told);
        let at = goals.iter().position(|goal| {
            let Goal::Nested(nested) = goal else {
                return false;
            };
            let mut vars = nested.arguments.iter().filter_map(Slot::var);
            vars.all(|var| known.contains(&var))
        })?;
        Some((at, feed))
    }

    /// The rows of an inner query: its inputs that are variables, then what it binds.
    async fn run(&self, nested: &NestedGoal, feed: Vec<Goal>) -> Result<RowsGoal> {
        if self.depth >= NESTING_MAX {
            return Err(Error::invalid(format!(
                "queries are nested more than {NESTING_MAX} deep"
            )));
        }
        let variable = |slot: &Slot| slot.var().filter(|var| self.constant(*var).is_none());
        let mut vars: Vec<VarId> = nested.arguments.iter().filter_map(variable).collect();
        vars.sort_unstable();
        vars.dedup();
        let given = if vars.is_empty() {
            vec![Vec::new()]
        } else {
            self.distinct(&vars, feed).await?
        };
        let mut rows = Vec::new();
        for given in given {
            let arguments = nested.arguments.iter().map(|slot| match slot {
                Slot::Constant(term) => term.clone(),
                Slot::Var(var) => match vars.iter().position(|known| known == var) {
                    Some(at) => given[at].clone(),
                    None => self.constant(*var).cloned().unwrap_or(Term::Nil),
                },
                Slot::Blank => Term::Nil,
            });
            let term = self.ask(nested, arguments.collect()).await?;
            let (bound, found) = match &nested.binding {
                Some(binding) => binding.take_apart(&term),
                None => (Vec::new(), Vec::from_iter(term.is_truthy().then(Vec::new))),
            };
            // What is both an input and an answer must be the same.
            let given_to = |var: &VarId| vars.iter().position(|known| known == var);
            for row in found {
                let mut cells = bound.iter().zip(&row);
                if cells.all(|(var, term)| given_to(var).is_none_or(|at| given[at] == *term)) {
                    let new = bound.iter().zip(row);
                    let new = new.filter(|(var, _)| given_to(var).is_none());
                    rows.push(
                        given
                            .iter()
                            .cloned()
                            .chain(new.map(|(_, term)| term))
                            .collect(),
                    );
                }
            }
        }
        Ok(RowsGoal::new(Self::columns(nested, &vars), rows))
    }

    /// The variables of an inner query's rows, each once.
    fn columns(nested: &NestedGoal, given: &[VarId]) -> Vec<VarId> {
        let mut seen = HashSet::new();
        let bound = nested.binding.iter().flat_map(Target::vars);
        let all = given.iter().copied().chain(bound);
        all.filter(|var| seen.insert(*var)).collect()
    }

    fn constant(&self, var: VarId) -> Option<&Term> {
        self.asked.bound.vars[var.0 as usize].constant.as_ref()
    }

    /// The distinct values of variables in what some goals hold for.
    async fn distinct(&self, vars: &[VarId], feed: Vec<Goal>) -> Result<Vec<Vec<Term>>> {
        let asked = Bound {
            bound: BoundQuery {
                goals: feed,
                elements: vars.iter().map(|var| BoundElement::Var(*var)).collect(),
                with: Vec::new(),
                ..self.asked.bound.clone()
            },
            ..self.asked.clone()
        };
        let stages = Stages::of_bound(self.session, asked).await?;
        let plan = stages.physical().await?;
        let batches = stages.execute(plan).await?;
        let rows = stages.rows(&batches)?;
        Ok(rows.iter().map(<[Term]>::to_vec).collect())
    }

    async fn ask(&self, nested: &NestedGoal, arguments: Vec<Term>) -> Result<Term> {
        let names = nested
            .query
            .inputs
            .iter()
            .filter_map(|input| match &input.kind {
                InputKind::Source(name) => Some(name.clone()),
                _ => None,
            });
        let sources = nested.sources.iter();
        let sources =
            sources.map(|source| InputSource::Other(self.asked.sources[source.0 as usize].clone()));
        let own = Inputs {
            functions: self.inputs.functions.clone(),
            rules: self.inputs.rules.clone(),
            arguments,
            sources: names.zip(sources).collect::<BTreeMap<_, _>>(),
        };
        let asked = Box::pin(run_query(self.session, &nested.query, &own, self.depth + 1));
        let answer = asked.await?;
        Ok(answer.to_term())
    }
}
