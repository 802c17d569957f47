//! Rules: named clauses.

use std::sync::Arc;

use super::{Clause, Variable};
use crate::edn::{Form, Symbol};
use crate::span::Span;

/// A set of rules, parsed.
#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    /// The text that the spans point into.
    pub text: Arc<str>,
    /// All branches, as they were written. Branches of one name are alternatives; they agree in the
    /// number of arguments and in which are required.
    pub branches: Vec<RuleBranch>,
}

/// One head and its body.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleBranch {
    /// The name of the rule.
    pub name: Symbol,
    /// Arguments that must be bound at the call; they come first.
    pub required: Vec<Variable>,
    /// The other arguments.
    pub free: Vec<HeadArgument>,
    /// What must hold.
    pub body: Vec<Clause>,
    /// Where the head stands.
    pub span: Span,
}

/// An argument in the head of a rule.
#[derive(Clone, Debug, PartialEq)]
pub enum HeadArgument {
    /// A variable; may occur twice.
    Variable(Variable, Span),
    /// A constant, which the argument must equal.
    Constant(Form),
}

impl RuleBranch {
    /// The number of arguments.
    pub fn arity(&self) -> usize {
        self.required.len() + self.free.len()
    }
}
