//! When a clause can run.
//!
//! A conjunction must not need a certain order of its clauses, so a clause waits until the variables it
//! needs are bound: a call for its arguments, a `not-join` for its variables, a `not` for every variable
//! that something outside of it can bind, an `or` until each of its branches can run to its end.

use std::collections::BTreeSet;

use datomfusion_datalog::ast::{
    Argument, CalleeName, Clause, ClauseKind, Component, OrJoin, RuleCall, Variable,
};

use super::rule::Rules;

/// What is known of the variables outside of a clause or of a conjunction.
#[derive(Clone, Debug, Default)]
pub(super) struct Surroundings {
    /// Those that are named there.
    pub(super) occurring: BTreeSet<Variable>,
    /// Those that something there binds, now or later.
    pub(super) bindable: BTreeSet<Variable>,
}

impl Surroundings {
    /// As seen through the list of variables of a `not-join` or an `or-join`.
    fn through(&self, join: &BTreeSet<Variable>) -> Self {
        Self {
            occurring: join.clone(),
            bindable: self.bindable.intersection(join).cloned().collect(),
        }
    }

    /// As seen through the head of a rule, or through a `not-join`, which binds nothing itself.
    pub(super) fn only(variables: &BTreeSet<Variable>) -> Self {
        Self {
            occurring: variables.clone(),
            bindable: variables.clone(),
        }
    }
}

/// The surroundings of each clause of a conjunction: the other clauses, and the outside of them all.
pub(super) fn around(
    clauses: &[Clause],
    at: usize,
    bound: &BTreeSet<Variable>,
    outside: &Surroundings,
) -> Surroundings {
    let mut around = outside.clone();
    around.bindable.extend(bound.iter().cloned());
    for (other, clause) in clauses.iter().enumerate() {
        if other != at {
            around.occurring.extend(variables(clause));
            around.bindable.extend(bindable(clause));
        }
    }
    around
}

/// All variables of an `or-join`.
pub(super) fn join_variables(join: &OrJoin) -> BTreeSet<Variable> {
    join.required.iter().chain(&join.free).cloned().collect()
}

/// The variables that a clause shares with the outside, if they occur there.
pub(super) fn variables(clause: &Clause) -> BTreeSet<Variable> {
    match &clause.kind {
        ClauseKind::Pattern(pattern) => component_variables(&pattern.components),
        ClauseKind::Call(call) => {
            let arguments = call.arguments.iter().filter_map(Argument::variable);
            let results = call.binding.iter().flat_map(|binding| binding.variables());
            let callee = match &call.function.name {
                CalleeName::Variable(variable) => Some(variable),
                CalleeName::Symbol(_) => None,
            };
            arguments.chain(results).chain(callee).cloned().collect()
        }
        ClauseKind::Rule(call) => component_variables(&call.arguments),
        ClauseKind::Not { join, clauses, .. } => match join {
            Some(join) => join.iter().cloned().collect(),
            None => all_variables(clauses),
        },
        ClauseKind::Or { join, branches, .. } => match join {
            Some(join) => join_variables(join),
            None => branches
                .iter()
                .flat_map(|branch| all_variables(branch))
                .collect(),
        },
    }
}

/// The variables of a conjunction.
pub(super) fn all_variables(clauses: &[Clause]) -> BTreeSet<Variable> {
    clauses.iter().flat_map(variables).collect()
}

fn component_variables(components: &[Component]) -> BTreeSet<Variable> {
    components
        .iter()
        .filter_map(Component::variable)
        .cloned()
        .collect()
}

/// The variables that a clause may bind.
fn bindable(clause: &Clause) -> BTreeSet<Variable> {
    match &clause.kind {
        ClauseKind::Pattern(_) | ClauseKind::Rule(_) => variables(clause),
        ClauseKind::Call(call) => {
            let results = call.binding.iter().flat_map(|binding| binding.variables());
            results.cloned().collect()
        }
        ClauseKind::Not { .. } => BTreeSet::new(),
        ClauseKind::Or { join, branches, .. } => match join {
            Some(join) => join.free.iter().cloned().collect(),
            None => branches.iter().flatten().flat_map(bindable).collect(),
        },
    }
}

/// The variables that are bound when a clause has run.
pub(super) fn bound_after(
    clause: &Clause,
    bound: &BTreeSet<Variable>,
    around: &Surroundings,
) -> BTreeSet<Variable> {
    let mut bound = bound.clone();
    match &clause.kind {
        ClauseKind::Pattern(_) | ClauseKind::Rule(_) | ClauseKind::Call(_) => {
            bound.extend(variables(clause));
        }
        ClauseKind::Not { .. } => {}
        ClauseKind::Or { join: Some(_), .. } => bound.extend(variables(clause)),
        ClauseKind::Or { join: None, .. } => {
            bound.extend(shared(&variables(clause), &around.occurring));
        }
    }
    bound
}

fn shared(one: &BTreeSet<Variable>, other: &BTreeSet<Variable>) -> BTreeSet<Variable> {
    one.intersection(other).cloned().collect()
}

/// Which arguments of a call of a rule are bound.
pub(super) fn adornment(call: &RuleCall, bound: &BTreeSet<Variable>) -> Vec<bool> {
    call.arguments
        .iter()
        .map(|argument| match argument {
            Component::Variable(variable, _) => bound.contains(variable),
            Component::Blank(_) => false,
            Component::Constant(_) => true,
        })
        .collect()
}

impl Rules<'_> {
    /// Whether a clause can run, with these variables bound.
    pub(super) fn is_ready(
        &self,
        clause: &Clause,
        bound: &BTreeSet<Variable>,
        around: &Surroundings,
    ) -> bool {
        match &clause.kind {
            ClauseKind::Pattern(_) => true,
            ClauseKind::Call(call) => {
                let callee = match &call.function.name {
                    CalleeName::Variable(variable) => Some(variable),
                    CalleeName::Symbol(_) => None,
                };
                let arguments = call.arguments.iter().filter_map(Argument::variable);
                arguments
                    .chain(callee)
                    .all(|variable| bound.contains(variable))
            }
            ClauseKind::Rule(call) => self
                .runnable
                .get(&(call.name.clone(), adornment(call, bound)))
                .copied()
                .unwrap_or(false),
            ClauseKind::Not {
                join: None,
                clauses,
                ..
            } => {
                let inside = all_variables(clauses);
                shared(&inside, &around.bindable).is_subset(bound)
                    && self.run(clauses, &shared(&inside, bound), around).is_some()
            }
            ClauseKind::Not {
                join: Some(join),
                clauses,
                ..
            } => {
                let join = join.iter().cloned().collect();
                bound.is_superset(&join)
                    && self
                        .run(clauses, &join, &Surroundings::only(&join))
                        .is_some()
            }
            ClauseKind::Or {
                join: None,
                branches,
                ..
            } => {
                let inside = variables(clause);
                let needed = shared(&inside, &around.occurring);
                branches.iter().all(|branch| {
                    self.run(branch, &shared(&inside, bound), around)
                        .is_some_and(|after| needed.is_subset(&after))
                })
            }
            ClauseKind::Or {
                join: Some(join),
                branches,
                ..
            } => {
                let all = join_variables(join);
                join.required
                    .iter()
                    .all(|variable| bound.contains(variable))
                    && branches.iter().all(|branch| {
                        self.run(branch, &shared(&all, bound), &around.through(&all))
                            .is_some_and(|after| all.is_subset(&after))
                    })
            }
        }
    }

    /// The variables that are bound when a conjunction has run, or nothing if it cannot run to its end.
    pub(super) fn run(
        &self,
        clauses: &[Clause],
        bound: &BTreeSet<Variable>,
        outside: &Surroundings,
    ) -> Option<BTreeSet<Variable>> {
        let mut bound = bound.clone();
        let mut waiting: Vec<usize> = (0..clauses.len()).collect();
        while !waiting.is_empty() {
            let (place, around) = waiting.iter().enumerate().find_map(|(place, &at)| {
                let around = around(clauses, at, &bound, outside);
                self.is_ready(&clauses[at], &bound, &around)
                    .then_some((place, around))
            })?;
            let at = waiting.remove(place);
            bound = bound_after(&clauses[at], &bound, &around);
        }
        Some(bound)
    }
}
