//! Whether a query can run: every variable is bound by something, and what needs bound variables comes
//! to have them.
//!
//! The check plays the order in which clauses can run, without data: a goal runs once what it needs is
//! bound, and then binds its own variables. What never gets to run is the error.

use std::collections::HashSet;

use super::bound::{BoundQuery, Goal, Slot, VarId};
use crate::ast::{FindElement, Query};
use crate::error::Error;
use crate::span::Span;

/// What a goal needs before it can run, and what it binds then.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    /// Must be bound.
    pub(crate) needs: Vec<VarId>,
    /// Are bound afterwards.
    pub(crate) binds: Vec<VarId>,
}

/// Finds out which parameters of recursive rules a body cannot bind: callers must.
pub(super) fn settle(bound: &mut BoundQuery) {
    let constants: HashSet<VarId> = constants_of(bound);
    loop {
        let mut changed = false;
        for program in 0..bound.programs.len() {
            for predicate in 0..bound.programs[program].predicates.len() {
                let own = &bound.programs[program].predicates[predicate];
                let required = own.required.clone();
                let runs_with = |required: &[bool]| {
                    own.branches.iter().all(|branch| {
                        let head: Vec<VarId> = branch.head.iter().filter_map(Slot::var).collect();
                        let mut known = constants.clone();
                        let asked = head.iter().zip(required).filter(|(_, asked)| **asked);
                        known.extend(asked.map(|(var, _)| *var));
                        runs(bound, &branch.goals, &known, &head)
                    })
                };
                if runs_with(&required) {
                    continue;
                }
                // One more parameter, if one is enough; else all of them.
                let one_more = (0..own.arity).filter(|at| !required[*at]).map(|at| {
                    let mut more = required.clone();
                    more[at] = true;
                    more
                });
                let all = vec![true; own.arity];
                let enough = one_more.chain([all]).find(|more| runs_with(more));
                if let Some(enough) = enough
                    && enough != required
                {
                    bound.programs[program].predicates[predicate].required = enough;
                    changed = true;
                }
            }
        }
        if !changed {
            return;
        }
    }
}

fn constants_of(bound: &BoundQuery) -> HashSet<VarId> {
    let vars = bound.vars.iter().enumerate();
    vars.filter(|(_, info)| info.constant.is_some())
        .map(|(at, _)| VarId(u32::try_from(at).unwrap_or(u32::MAX)))
        .collect()
}

/// Checks a query.
pub(super) fn check(bound: &BoundQuery, query: &Query, rules: &str) -> Result<(), Error> {
    let given = constants_of(bound);
    let checker = Checker {
        bound,
        query,
        rules,
    };
    let known = checker.conjunction(&bound.goals, given)?;
    for program in &bound.programs {
        for predicate in &program.predicates {
            for branch in &predicate.branches {
                // Required parameters are bound by the caller; others must be bound here, or there.
                let head: Vec<VarId> = branch.head.iter().filter_map(Slot::var).collect();
                let mut given = constants_of(bound);
                let asked = head.iter().zip(&predicate.required);
                given.extend(asked.filter(|(_, asked)| **asked).map(|(var, _)| *var));
                let known = checker.conjunction(&branch.goals, given)?;
                if let Some(unbound) = head.iter().find(|var| !known.contains(var)) {
                    let name = &bound.vars[unbound.0 as usize].name;
                    return Err(Error::new(
                        format!(
                            "{name} is not bound by the body of {}; make it required, \
                             [({} [{name}] …) …], if callers bind it",
                            predicate.name, predicate.name
                        ),
                        span_of(&branch.goals),
                        rules,
                    ));
                }
            }
        }
    }
    let elements = query.find.elements().iter().zip(&bound.elements);
    for (element, bound_element) in elements {
        let span = match element {
            FindElement::Variable(_, span) => *span,
            FindElement::Aggregate(aggregate) => aggregate.span,
            FindElement::Pull(pull) => pull.span,
        };
        let var = bound_element.var();
        if !known.contains(&var) {
            let name = &bound.vars[var.0 as usize].name;
            return Err(Error::new(
                format!("{name} is not bound by any clause or input"),
                span,
                &query.text,
            ));
        }
    }
    for var in &bound.with {
        if !known.contains(var) {
            return Err(Error::new(
                format!(
                    "{} of :with is not bound by any clause or input",
                    bound.vars[var.0 as usize].name
                ),
                Span::new(0, query.text.len()),
                &query.text,
            ));
        }
    }
    Ok(())
}

fn span_of(goals: &[Goal]) -> Span {
    goals
        .iter()
        .filter_map(goal_span)
        .reduce(Span::to)
        .unwrap_or_default()
}

pub(crate) fn goal_span(goal: &Goal) -> Option<Span> {
    match goal {
        Goal::Fact(fact) => Some(fact.span),
        Goal::Call(call) => Some(call.span),
        Goal::GetElse { span, .. }
        | Goal::Not { span, .. }
        | Goal::Or { span, .. }
        | Goal::Rule { span, .. } => Some(*span),
        Goal::Nested(nested) => Some(nested.span),
        Goal::Tuple { .. } | Goal::Rows(_) | Goal::Same(..) => None,
    }
}

struct Checker<'a> {
    bound: &'a BoundQuery,
    query: &'a Query,
    rules: &'a str,
}

impl Checker<'_> {
    /// Plays a conjunction; answers what is bound in the end.
    fn conjunction(
        &self,
        goals: &[Goal],
        mut known: HashSet<VarId>,
    ) -> Result<HashSet<VarId>, Error> {
        let mut waiting: Vec<&Goal> = goals.iter().collect();
        loop {
            run_simple(self.bound, &mut waiting, &mut known);
            // What has an inside comes when nothing else is left to run, so that it is looked into once.
            let mut fault = None;
            let ready = waiting.iter().position(|goal| {
                if !is_ready(self.bound, goal, &known) {
                    return false;
                }
                match self.inside(goal, &known) {
                    Ok(()) => true,
                    Err(error) => {
                        fault.get_or_insert(error);
                        false
                    }
                }
            });
            match (ready, fault) {
                (Some(at), _) => {
                    let goal = waiting.remove(at);
                    known.extend(needs(self.bound, goal, &known).binds);
                }
                (None, _) if waiting.is_empty() => return Ok(known),
                (None, Some(error)) => return Err(error),
                (None, None) => return Err(self.stuck(&waiting, &known)),
            }
        }
    }

    /// Checks what lies inside a goal that can run.
    fn inside(&self, goal: &Goal, known: &HashSet<VarId>) -> Result<(), Error> {
        match goal {
            Goal::Not { goals, .. } => self.conjunction(goals, known.clone()).map(drop),
            Goal::Or { free, branches, .. } => {
                for branch in branches {
                    let bound = self.conjunction(branch, known.clone())?;
                    if let Some(var) = free.iter().find(|var| !bound.contains(var)) {
                        return Err(self.error(
                            format!(
                                "this branch does not bind {}",
                                self.bound.vars[var.0 as usize].name
                            ),
                            branch,
                        ));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn stuck(&self, goals: &[&Goal], known: &HashSet<VarId>) -> Error {
        let mut lacking: Vec<&str> = Vec::new();
        let first = goals[0];
        let needs = needs(self.bound, first, known).needs;
        let vars = needs.iter().filter(|var| !known.contains(var));
        lacking.extend(vars.map(|var| &*self.bound.vars[var.0 as usize].name));
        lacking.sort_unstable();
        lacking.dedup();
        let message = if lacking.is_empty() {
            "insufficient bindings: this clause can never run".to_owned()
        } else {
            format!(
                "insufficient bindings: nothing binds {} before this clause",
                lacking.join(", ")
            )
        };
        self.error(message, std::slice::from_ref(first))
    }

    /// An error at some goals, in the text that they come from.
    fn error(&self, message: String, goals: &[Goal]) -> Error {
        let span = span_of(goals);
        let in_rules = goals.iter().any(|goal| match goal {
            Goal::Call(call) => call.in_rules,
            Goal::Nested(nested) => nested.in_rules,
            _ => false,
        });
        let text = if in_rules {
            self.rules
        } else {
            &self.query.text
        };
        Error::new(message, span, text)
    }
}

/// What a goal needs and binds.
pub(crate) fn needs(bound: &BoundQuery, goal: &Goal, known: &HashSet<VarId>) -> Needs {
    let slots = |slots: &[&Slot]| slots.iter().filter_map(|slot| slot.var()).collect();
    match goal {
        Goal::Fact(_) | Goal::Tuple { .. } | Goal::Rows(_) => {
            let mut binds = Vec::new();
            goal.visit_vars(&mut |var| binds.push(var));
            Needs {
                needs: Vec::new(),
                binds,
            }
        }
        Goal::Call(call) => Needs {
            needs: call.arguments.iter().filter_map(Slot::var).collect(),
            binds: call
                .binding
                .iter()
                .flat_map(super::bound::Target::vars)
                .collect(),
        },
        Goal::Nested(nested) => Needs {
            needs: nested.arguments.iter().filter_map(Slot::var).collect(),
            binds: nested
                .binding
                .iter()
                .flat_map(super::bound::Target::vars)
                .collect(),
        },
        Goal::GetElse {
            entity, binding, ..
        } => Needs {
            needs: entity.var().into_iter().collect(),
            binds: binding.vars(),
        },
        Goal::Same(left, right) => {
            let is_known = |slot: &Slot| slot.var().is_none_or(|var| known.contains(&var));
            if is_known(left) || is_known(right) {
                Needs {
                    needs: Vec::new(),
                    binds: slots(&[left, right]),
                }
            } else {
                Needs {
                    needs: slots(&[left, right]),
                    binds: Vec::new(),
                }
            }
        }
        // A `not` waits for the variables that it shares.
        Goal::Not { join, .. } => Needs {
            needs: join.clone(),
            binds: Vec::new(),
        },
        Goal::Or {
            required,
            free,
            branches,
            ..
        } => {
            let mut needs = required.clone();
            for branch in branches {
                let (wanted, bound_inside) = outside(bound, branch);
                needs.extend(wanted);
                needs.extend(free.iter().filter(|var| !bound_inside.contains(var)));
            }
            needs.sort_unstable();
            needs.dedup();
            Needs {
                needs,
                binds: free.clone(),
            }
        }
        Goal::Rule {
            program,
            predicate,
            arguments,
            ..
        } => {
            let required = &bound.programs[*program].predicates[*predicate].required;
            let asked = arguments.iter().zip(required);
            Needs {
                needs: asked
                    .filter(|(_, asked)| **asked)
                    .filter_map(|(slot, _)| slot.var())
                    .collect(),
                binds: arguments.iter().filter_map(Slot::var).collect(),
            }
        }
    }
}

/// What a conjunction needs of the outside, and what it binds, each looked at once: what its own goals
/// bind for each other is not needed. Goals that wait for each other in a circle are found when they run.
fn outside(bound: &BoundQuery, goals: &[Goal]) -> (HashSet<VarId>, HashSet<VarId>) {
    let nothing = HashSet::new();
    let mut wanted = HashSet::new();
    let mut binds = HashSet::new();
    for goal in goals {
        if let Goal::Same(left, right) = goal {
            binds.extend(left.var().into_iter().chain(right.var()));
            continue;
        }
        let needs = needs(bound, goal, &nothing);
        wanted.extend(needs.needs);
        binds.extend(needs.binds);
    }
    wanted.retain(|var| !binds.contains(var) && bound.vars[var.0 as usize].constant.is_none());
    (wanted, binds)
}

/// Whether a conjunction can run to its end from what is known, and binds `wanted`.
pub(crate) fn runs(
    bound: &BoundQuery,
    goals: &[Goal],
    known: &HashSet<VarId>,
    wanted: &[VarId],
) -> bool {
    let mut known = known.clone();
    let mut waiting: Vec<&Goal> = goals.iter().collect();
    loop {
        run_simple(bound, &mut waiting, &mut known);
        let ready = waiting.iter().position(|goal| {
            is_ready(bound, goal, &known)
                && match goal {
                    Goal::Not { goals, .. } => runs(bound, goals, &known, &[]),
                    Goal::Or { free, branches, .. } => branches
                        .iter()
                        .all(|branch| runs(bound, branch, &known, free)),
                    _ => true,
                }
        });
        let Some(at) = ready else {
            return waiting.is_empty() && wanted.iter().all(|var| known.contains(var));
        };
        let goal = waiting.remove(at);
        known.extend(needs(bound, goal, &known).binds);
    }
}

/// Those of some goals that can run without the others, and the variables that they bind.
pub fn runnable(bound: &BoundQuery, goals: &[&Goal]) -> (Vec<Goal>, HashSet<VarId>) {
    let mut known = constants_of(bound);
    let mut waiting = goals.to_vec();
    let mut run = Vec::new();
    loop {
        let ready = waiting.iter().position(|goal| {
            is_ready(bound, goal, &known)
                && match goal {
                    Goal::Or { free, branches, .. } => branches
                        .iter()
                        .all(|branch| runs(bound, branch, &known, free)),
                    Goal::Not { goals, .. } => runs(bound, goals, &known, &[]),
                    _ => true,
                }
        });
        let Some(at) = ready else {
            return (run, known);
        };
        let goal = waiting.remove(at);
        known.extend(needs(bound, goal, &known).binds);
        run.push(goal.clone());
    }
}

/// Whether what a goal needs is known.
pub(crate) fn is_ready(bound: &BoundQuery, goal: &Goal, known: &HashSet<VarId>) -> bool {
    let needs = needs(bound, goal, known);
    needs.needs.iter().all(|var| known.contains(var))
}

/// Runs the goals that have no inside, as far as they can run.
fn run_simple(bound: &BoundQuery, waiting: &mut Vec<&Goal>, known: &mut HashSet<VarId>) {
    loop {
        let before = waiting.len();
        waiting.retain(|goal| {
            let simple = !matches!(goal, Goal::Not { .. } | Goal::Or { .. });
            let runs = simple && is_ready(bound, goal, known);
            if runs {
                known.extend(needs(bound, goal, known).binds);
            }
            !runs
        });
        if waiting.len() == before {
            return;
        }
    }
}
