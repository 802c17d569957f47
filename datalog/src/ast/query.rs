//! The frame of a query: what it finds, what it is given, what holds.

use std::sync::Arc;

use super::{Argument, Binding, Callee, Clause, PullPattern, SourceName, Variable};
use crate::edn::{Keyword, Symbol};
use crate::span::Span;

/// A query, parsed.
#[derive(Clone, Debug)]
pub struct Query {
    /// The text that the spans point into.
    pub text: Arc<str>,
    /// `:find`
    pub find: FindSpec,
    /// `:keys`, `:strs` or `:syms`
    pub keys: Option<ReturnMap>,
    /// `:with`
    pub with: Vec<Variable>,
    /// `:in`; `$` alone if the query does not say.
    pub inputs: Vec<Input>,
    /// `:where`
    pub clauses: Vec<Clause>,
    /// `:order-by`
    pub order_by: Vec<OrderKey>,
    /// `:limit`
    pub limit: Option<u64>,
    /// `:offset`
    pub offset: u64,
    /// `:timeout`, in milliseconds.
    pub timeout: Option<u64>,
}

/// The shape of the answer.
#[derive(Clone, Debug, PartialEq)]
pub enum FindSpec {
    /// `:find ?a ?b`: a set of tuples.
    Rel(Vec<FindElement>),
    /// `:find [?a ...]`: a collection.
    Coll(FindElement),
    /// `:find [?a ?b]`: one tuple.
    Tuple(Vec<FindElement>),
    /// `:find ?a .`: one value.
    Scalar(FindElement),
}

impl FindSpec {
    /// What is found, from left to right.
    pub fn elements(&self) -> &[FindElement] {
        match self {
            Self::Rel(elements) | Self::Tuple(elements) => elements,
            Self::Coll(element) | Self::Scalar(element) => std::slice::from_ref(element),
        }
    }
}

/// One thing that is found.
#[derive(Clone, Debug, PartialEq)]
pub enum FindElement {
    /// `?e`
    Variable(Variable, Span),
    /// `(sum ?x)`, `(min 3 ?x)`, `(aggregate ?f ?x)`
    Aggregate(Aggregate),
    /// `(pull ?e [*])`
    Pull(Pull),
}

/// An aggregate function over the values of its last argument.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    /// The function, or the input that holds its name.
    pub function: Callee,
    /// Constants, then the variable that is aggregated.
    pub arguments: Vec<Argument>,
    /// Where the element stands.
    pub span: Span,
}

/// A pull in a find spec.
#[derive(Clone, Debug, PartialEq)]
pub struct Pull {
    /// The database that is asked, if it is said.
    pub source: Option<SourceName>,
    /// The variable that holds the entity.
    pub variable: Variable,
    /// What is pulled.
    pub pattern: PullArgument,
    /// Where the element stands.
    pub span: Span,
}

/// A pull pattern, or the input that holds one.
#[derive(Clone, Debug, PartialEq)]
pub enum PullArgument {
    /// Written in place.
    Pattern(PullPattern),
    /// The name of an input: `pattern` or `?pattern`.
    Input(Symbol),
}

/// `:keys`, `:strs` or `:syms`, and its names.
#[derive(Clone, Debug, PartialEq)]
pub struct ReturnMap {
    /// What the keys are.
    pub keys: ReturnKeys,
    /// One name an element.
    pub names: Vec<Symbol>,
    /// Where the names stand.
    pub span: Span,
}

/// What the keys of a return map are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReturnKeys {
    /// Keywords.
    Keys,
    /// Strings.
    Strs,
    /// Symbols.
    Syms,
}

/// One input, in the order in which arguments come.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// What it binds.
    pub kind: InputKind,
    /// Where it stands.
    pub span: Span,
}

/// What an input binds.
#[derive(Clone, Debug, PartialEq)]
pub enum InputKind {
    /// `$`, `$sales`: a database or a collection of tuples.
    Source(SourceName),
    /// `%`: rules.
    Rules,
    /// `?x`, `[?x ...]`, `[?x ?y]`, `[[?x ?y]]`, nested, with `_`.
    Binding(Binding),
    /// `pattern`: a pull pattern, under a plain symbol.
    Plain(Symbol),
}

/// One key of `:order-by`.
#[derive(Clone, Debug, PartialEq)]
pub struct OrderKey {
    /// The place of the element in the find spec, from 0.
    pub element: usize,
    /// Whether the largest comes first.
    pub descending: bool,
}

impl ReturnMap {
    /// The name at a place as a keyword without its colon.
    pub fn keyword(&self, at: usize) -> Option<Keyword> {
        self.names.get(at).map(|name| Keyword::new(name.as_str()))
    }
}
