//! Random databases and random questions about them, each from a seed.
//!
//! A [`World`] is a schema and transactions, a [`Question`] a query with its rules, inputs and sources.
//! Both are kept in pieces and rendered to text, so that a case that fails can be made smaller:
//! [`Case::shrink`].
//!
//! A question is grown along a witness: an assignment of its variables to values that are really there. So
//! most questions have an answer, and the joins, comparisons and functions in them are about values that
//! occur. What is negated is grown along other values.

#[path = "generate/clauses.rs"]
mod clauses;
#[path = "generate/nested.rs"]
mod nested;
#[path = "generate/question.rs"]
mod question;
#[path = "generate/random.rs"]
mod random;
#[path = "generate/rules.rs"]
mod rules;
#[path = "generate/shrink.rs"]
mod shrink;
#[path = "generate/world.rs"]
mod world;

use std::fmt::{self, Write};

pub use world::World;

/// A question about a world.
#[derive(Clone, Debug)]
pub struct Case {
    /// The databases.
    pub world: World,
    /// The question.
    pub question: Question,
}

/// A query, and what it is given.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// The find elements, as text.
    pub find: Vec<String>,
    /// The shape of the find spec.
    pub shape: Shape,
    /// The variables of `:with`.
    pub with: Vec<String>,
    /// The sources, in the order of `:in`.
    pub sources: Vec<(String, SourceSpec)>,
    /// The other inputs: the binding, and its value as EDN.
    pub inputs: Vec<(String, String)>,
    /// The clauses of `:where`.
    pub clauses: Vec<Clause>,
    /// The branches of all rules.
    pub rules: Vec<Rule>,
}

/// The shape of a find spec. A tuple or a scalar may be any of the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// `?a ?b`
    #[default]
    Relation,
    /// `[?a ...]`
    Collection,
    /// `[?a ?b]`
    Tuple,
    /// `?a .`
    Scalar,
}

/// What a source is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceSpec {
    /// The database after all transactions.
    Now,
    /// The database after the schema and this many transactions.
    After(usize),
    /// The history of all transactions.
    History,
    /// A collection of tuples, as EDN.
    Collection(String),
}

/// A clause.
#[derive(Clone, Debug)]
pub enum Clause {
    /// As it is written.
    Plain(String),
    /// `(head clauses…)`
    Not(String, Vec<Clause>),
    /// `(head branches…)`
    Or(String, Vec<Vec<Clause>>),
}

/// A branch of a rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// `(name ?a ?b)`
    pub head: String,
    /// What must hold.
    pub body: Vec<Clause>,
}

impl Case {
    /// A world and a question about it.
    pub fn new(seed: u64) -> Self {
        let world = World::new(seed);
        let question = Question::new(&world, seed);
        Self { world, question }
    }
}

impl Question {
    /// The text of the query.
    pub fn query_text(&self) -> String {
        let found = self.find.join(" ");
        let mut text = match self.shape {
            Shape::Relation => format!("[:find {found}"),
            Shape::Collection => format!("[:find [{found} ...]"),
            Shape::Tuple => format!("[:find [{found}]"),
            Shape::Scalar => format!("[:find {found} ."),
        };
        if !self.with.is_empty() {
            text += " :with ";
            text += &self.with.join(" ");
        }
        text += " :in";
        for (name, _) in &self.sources {
            text += " ";
            text += name;
        }
        if !self.rules.is_empty() {
            text += " %";
        }
        for (binding, _) in &self.inputs {
            text += " ";
            text += binding;
        }
        if !self.clauses.is_empty() {
            text += "\n :where";
            for clause in &self.clauses {
                let _ = write!(text, " {clause}");
            }
        }
        text + "]"
    }

    /// The text of the rules; `[]` if there are none.
    pub fn rules_text(&self) -> String {
        let rules: Vec<String> = self
            .rules
            .iter()
            .map(|rule| format!("[{}{}]", rule.head, Spaced(&rule.body)))
            .collect();
        format!("[{}]", rules.join("\n "))
    }

    /// The values of the inputs that are neither sources nor rules, as EDN, in the order of `:in`.
    pub fn input_texts(&self) -> Vec<&str> {
        self.inputs.iter().map(|(_, value)| &**value).collect()
    }
}

/// Clauses, each with a space before it.
struct Spaced<'a>(&'a [Clause]);

impl fmt::Display for Spaced<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|clause| write!(f, " {clause}"))
    }
}

impl fmt::Display for Clause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(text) => f.write_str(text),
            Self::Not(head, clauses) => write!(f, "({head}{})", Spaced(clauses)),
            Self::Or(head, branches) => {
                write!(f, "({head}")?;
                for branch in branches {
                    match &**branch {
                        [clause] => write!(f, " {clause}")?,
                        clauses => write!(f, " (and{})", Spaced(clauses))?,
                    }
                }
                f.write_str(")")
            }
        }
    }
}

impl fmt::Display for Case {
    /// Everything needed to see the case again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "schema\n{}", self.world.schema_text())?;
        for transaction in self.world.transaction_texts() {
            writeln!(f, "transaction\n{transaction}")?;
        }
        writeln!(f, "query\n{}", self.question.query_text())?;
        writeln!(f, "rules\n{}", self.question.rules_text())?;
        for (name, source) in &self.question.sources {
            writeln!(f, "source {name} {source:?}")?;
        }
        for (binding, value) in &self.question.inputs {
            writeln!(f, "input {binding} {value}")?;
        }
        Ok(())
    }
}
