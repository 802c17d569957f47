//! Which variables of one name are one variable.
//!
//! A conjunction and everything inside it share the variables that the conjunction itself can bind; what
//! occurs inside a `not` only, or in some branches of an `or` only, is local there.

use std::collections::{BTreeMap, BTreeSet};

use super::bound::VarId;
use crate::ast::{Argument, Clause, ClauseKind, Component, Variable};

/// The variables that can be named in one place.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope(BTreeMap<Variable, VarId>);

impl Scope {
    pub(super) fn get(&self, variable: &Variable) -> Option<VarId> {
        self.0.get(variable).copied()
    }

    pub(super) fn insert(&mut self, variable: Variable, var: VarId) {
        self.0.insert(variable, var);
    }

    /// The scope in which just these are known.
    pub(super) fn only(&self, variables: &[Variable]) -> Self {
        let known = variables
            .iter()
            .filter_map(|variable| Some((variable.clone(), self.get(variable)?)));
        Self(known.collect())
    }

    /// All variables.
    pub(super) fn vars(&self) -> Vec<VarId> {
        self.0.values().copied().collect()
    }
}

/// The variables that clauses share with their siblings.
pub(super) fn binding_variables(clauses: &[Clause]) -> BTreeSet<&Variable> {
    let mut variables = BTreeSet::new();
    for clause in clauses {
        match &clause.kind {
            ClauseKind::Pattern(pattern) => {
                variables.extend(pattern.components.iter().filter_map(Component::variable));
            }
            ClauseKind::Call(call) => {
                variables.extend(call.arguments.iter().filter_map(Argument::variable));
                variables.extend(call.binding.iter().flat_map(|binding| binding.variables()));
            }
            ClauseKind::Rule(call) => {
                variables.extend(call.arguments.iter().filter_map(Component::variable));
            }
            ClauseKind::Not { join, .. } => variables.extend(join.iter().flatten()),
            ClauseKind::Or {
                join: Some(join), ..
            } => variables.extend(join.required.iter().chain(&join.free)),
            ClauseKind::Or {
                join: None,
                branches,
                ..
            } => {
                let common = branches
                    .iter()
                    .map(|branch| binding_variables(branch))
                    .reduce(|left, right| left.intersection(&right).copied().collect());
                variables.extend(common.unwrap_or_default());
            }
        }
    }
    variables
}
