//! Rules as the engine runs them: registers instead of variables, relations instead of names.

use std::fmt;
use std::sync::Arc;

use crate::bound::Target;
use crate::column::ColumnType;
use crate::functions::Function;
use crate::lower::{Attributes, Quote};
use crate::plan_source::Source;
use crate::term::Term;

/// A register of a rule.
pub(crate) type Register = usize;

/// Rules over relations.
pub(crate) struct Program {
    /// The relations that rules derive.
    pub(crate) derived: Vec<Derived>,
    /// The relations that rules read.
    pub(crate) inputs: Vec<Input>,
    /// The derived relation that begins with the rows of the first plan, if there are seeds; each row
    /// so many times over, side by side.
    pub(crate) seeds: Option<Seeds>,
    /// The rules.
    pub(crate) rules: Vec<Rule>,
    /// The derived relation that is the answer.
    pub(crate) answer: usize,
    /// The types of the answer's columns.
    pub(crate) columns: Vec<ColumnType>,
}

/// Where seeds go.
pub(crate) struct Seeds {
    /// Nowhere, if the rules turned out not to need them.
    pub(crate) relation: Option<usize>,
    /// Which columns of the plan are wanted.
    pub(crate) places: Vec<usize>,
    /// The types of the plan's columns.
    pub(crate) columns: Vec<ColumnType>,
    /// How often a seed stands in its row.
    pub(crate) copies: usize,
}

/// A relation that rules derive.
pub(crate) struct Derived {
    pub(crate) name: Arc<str>,
    pub(crate) arity: usize,
}

/// A relation that rules read: the next plan.
pub(crate) struct Input {
    pub(crate) columns: Vec<ColumnType>,
    /// Where its rows can be looked up instead.
    pub(crate) probe: Option<Probe>,
}

/// Facts `(e, v)` of one attribute.
#[derive(Clone)]
pub(crate) struct Probe {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) attribute: i64,
    /// Whether entities can be found by the value.
    pub(crate) by_value: bool,
    /// How many facts there are, roughly.
    pub(crate) rows: u64,
}

/// A rule: its head holds where its body does.
pub(crate) struct Rule {
    pub(crate) head: usize,
    pub(crate) arguments: Vec<Cell>,
    /// How many registers it has.
    pub(crate) registers: usize,
    /// The body in the order in which it runs, for each way to begin: with new rows of one of its
    /// recursive literals, or, if it has none, with nothing.
    pub(crate) variants: Vec<Variant>,
}

/// One way to run a rule.
pub(crate) struct Variant {
    /// The derived relation whose new rows come first.
    pub(crate) delta: Option<Atom>,
    /// What follows.
    pub(crate) steps: Vec<Literal>,
}

/// An argument of an atom.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Register(Register),
    Constant(Term),
    Blank,
}

/// Rows of a relation.
#[derive(Clone, Debug)]
pub(crate) struct Atom {
    pub(crate) relation: RelationId,
    pub(crate) cells: Vec<Cell>,
}

/// A relation of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RelationId {
    Derived(usize),
    Input(usize),
}

/// Something that must hold in a body.
#[derive(Clone)]
pub(crate) enum Literal {
    Atom(Atom),
    Call(Box<Call>),
    Same(Cell, Cell),
    /// What must not hold; its own registers are forgotten.
    Not(Vec<Literal>),
    /// At least one of these holds.
    Or(Vec<Vec<Literal>>),
}

/// A call of a function of terms.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) function: Function,
    pub(crate) arguments: Vec<(Cell, Attributes)>,
    /// What the answer is bound to, registers standing for variables; a predicate has none.
    pub(crate) binding: Option<Target>,
    pub(crate) quote: Quote,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {} rules, {} inputs",
            self.derived[self.answer].name,
            self.rules.len(),
            self.inputs.len()
        )?;
        if let Some(seeds) = &self.seeds {
            write!(f, ", {} bound", seeds.places.len())?;
        }
        Ok(())
    }
}
