//! The clauses of `:where` and of rule bodies.

use super::{SourceName, Variable};
use crate::edn::{Form, Symbol};
use crate::span::Span;

/// Something that must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Clause {
    /// What must hold.
    pub kind: ClauseKind,
    /// Where it stands.
    pub span: Span,
}

/// The kinds of clauses.
#[derive(Clone, Debug, PartialEq)]
pub enum ClauseKind {
    /// `[?e :person/name ?name]`
    Pattern(Pattern),
    /// `[(< ?a ?b)]`, `[(str ?a ?b) ?c]`
    Call(Call),
    /// `(ancestor ?a ?b)`
    Rule(RuleCall),
    /// `(not …)`, `(not-join [?a] …)`
    Not {
        /// The source of the patterns inside that name none.
        source: Option<SourceName>,
        /// The variables of `not-join`; `None` for `not`.
        join: Option<Vec<Variable>>,
        /// What must not hold together.
        clauses: Vec<Clause>,
    },
    /// `(or …)`, `(or-join [[?required] ?free] …)`
    Or {
        /// The source of the patterns inside that name none.
        source: Option<SourceName>,
        /// The variables of `or-join`, required ones first; `None` for `or`.
        join: Option<OrJoin>,
        /// The branches, each a conjunction.
        branches: Vec<Vec<Clause>>,
    },
}

/// The variables of an `or-join`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrJoin {
    /// Must be bound before.
    pub required: Vec<Variable>,
    /// Are bound by every branch, or before.
    pub free: Vec<Variable>,
}

/// A data pattern.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern {
    /// The source, if it is said.
    pub source: Option<SourceName>,
    /// From left to right; at least one.
    pub components: Vec<Component>,
}

/// A component of a pattern, or an argument of a rule.
#[derive(Clone, Debug, PartialEq)]
pub enum Component {
    /// A variable.
    Variable(Variable, Span),
    /// `_`
    Blank(Span),
    /// Anything else: a value, an ident, a lookup ref.
    Constant(Form),
}

impl Component {
    /// Where it stands.
    pub fn span(&self) -> Span {
        match self {
            Self::Variable(_, span) | Self::Blank(span) => *span,
            Self::Constant(form) => form.span,
        }
    }

    /// The variable, if it is one.
    pub fn variable(&self) -> Option<&Variable> {
        match self {
            Self::Variable(variable, _) => Some(variable),
            _ => None,
        }
    }
}

/// A predicate, or a function if it has a binding.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// What is called.
    pub function: Callee,
    /// With what.
    pub arguments: Vec<Argument>,
    /// What the result is bound to; a call without one must answer true.
    pub binding: Option<Binding>,
}

/// What is called.
#[derive(Clone, Debug, PartialEq)]
pub struct Callee {
    /// Its name.
    pub name: CalleeName,
    /// Where it stands.
    pub span: Span,
}

/// The name of what is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CalleeName {
    /// `<`, `clojure.string/blank?`, `.startsWith`
    Symbol(Symbol),
    /// `?pred`: an input that holds the name of a function.
    Variable(Variable),
}

/// An argument of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Argument {
    /// A variable.
    Variable(Variable, Span),
    /// A source: `$`.
    Source(SourceName, Span),
    /// A constant; quotes are removed.
    Constant(Form),
}

impl Argument {
    /// Where it stands.
    pub fn span(&self) -> Span {
        match self {
            Self::Variable(_, span) | Self::Source(_, span) => *span,
            Self::Constant(form) => form.span,
        }
    }

    /// The variable, if it is one.
    pub fn variable(&self) -> Option<&Variable> {
        match self {
            Self::Variable(variable, _) => Some(variable),
            _ => None,
        }
    }
}

/// What a value is taken apart into.
#[derive(Clone, Debug, PartialEq)]
pub enum Binding {
    /// `_`
    Ignore(Span),
    /// `?x`
    Scalar(Variable, Span),
    /// `[?x _ ?y]`
    Tuple(Vec<Binding>, Span),
    /// `[?x ...]`, and `[[?x ?y]]`, which is a collection of tuples.
    Collection(Box<Binding>, Span),
}

impl Binding {
    /// Where it stands.
    pub fn span(&self) -> Span {
        match self {
            Self::Ignore(span)
            | Self::Scalar(_, span)
            | Self::Tuple(_, span)
            | Self::Collection(_, span) => *span,
        }
    }

    /// Its variables, from left to right.
    pub fn variables(&self) -> Vec<&Variable> {
        match self {
            Self::Ignore(_) => Vec::new(),
            Self::Scalar(variable, _) => vec![variable],
            Self::Tuple(parts, _) => parts.iter().flat_map(Self::variables).collect(),
            Self::Collection(part, _) => part.variables(),
        }
    }
}

/// A call of a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleCall {
    /// The source of the patterns of the rule that name none.
    pub source: Option<SourceName>,
    /// The rule.
    pub name: Symbol,
    /// Where its name stands.
    pub name_span: Span,
    /// With what.
    pub arguments: Vec<Component>,
}
