//! The reference evaluator: slow, obvious, trusted.
//!
//! It runs the tree of a query as it was written, a row at a time, and knows nothing of plans, types or
//! costs. What it answers is what the language means; a planner that answers otherwise is wrong.
//!
//! - A row is a map from variables to terms. All rows of a conjunction bind the same variables.
//! - A conjunction takes, again and again, any clause that can run ([`ready`]), and maps every row to
//!   the rows in which that clause holds as well ([`clause`]). Which one it takes cannot be seen in the
//!   answer; it takes filters first only to end sooner.
//! - A rule called with some arguments bound is a table; all tables that a call needs grow together,
//!   round by round, until none does ([`rule`]).
//!
//! Only the public interface of the crate is used, so that other packages can include these files.

#[path = "naive/clause.rs"]
mod clause;
#[path = "naive/database.rs"]
mod database;
#[path = "naive/find.rs"]
mod find;
#[path = "naive/ready.rs"]
mod ready;
#[path = "naive/role.rs"]
mod role;
#[path = "naive/rule.rs"]
mod rule;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datomfusion_datalog::ast::{Binding, InputKind, Query, RuleSet, SourceName, Variable};
use datomfusion_datalog::edn::{Edn, Form, Keyword};
use datomfusion_datalog::{AttributeFacts, Functions, Term};

use clause::Scope;
use database::Source;
use ready::Surroundings;
use role::{Role, Roles};
use rule::Rules;

/// Most rows of one conjunction, and of all tables of one call of a rule.
const ROWS_MAX: usize = 200_000;

/// What stands behind the name of a source.
pub enum NaiveSource {
    /// A database.
    Db(NaiveDb),
    /// Tuples, which may differ in width.
    Collection(Vec<Vec<Term>>),
}

/// A database as a list.
#[derive(Clone, Debug, Default)]
pub struct NaiveDb {
    /// The schema.
    pub attributes: Vec<AttributeFacts>,
    /// Every ident, with its entity.
    pub idents: Vec<(i64, Keyword)>,
    /// `(e, a, v, tx, added)`
    pub datoms: Vec<(i64, i64, Term, i64, bool)>,
}

/// What the variables stand for.
type Row = BTreeMap<Variable, Term>;

/// Answers a query: its rows of find elements, sorted, each once.
///
/// The inputs that are neither sources nor rules come in `inputs`, in the order of `:in`. The shape of the
/// find spec, return maps, order, limit and offset are left to the caller.
///
/// # Errors
///
/// `limit` if there are too many rows or rounds; otherwise a sentence on what cannot be evaluated.
pub fn evaluate(
    query: &Query,
    rules: &RuleSet,
    sources: BTreeMap<SourceName, NaiveSource>,
    inputs: Vec<Term>,
    functions: &Functions,
) -> Result<Vec<Vec<Term>>, String> {
    let sources = sources
        .into_iter()
        .map(|(name, source)| (name, Source::new(source)))
        .collect();
    let mut engine = Engine {
        sources,
        rules: Rules::new(rules)?,
        functions,
        complete: RefCell::default(),
    };
    engine.rules.check(&query.clauses)?;
    engine.rules.find_runnable();
    engine.find_rule_roles()?;

    let source = SourceName::default();
    let roles = engine.roles(&query.clauses, &source)?;
    let (rows, bound) = engine.read_inputs(query, inputs, &roles)?;
    let mut occurring = find::variables(query);
    occurring.extend(bound.iter().cloned());
    let scope = Scope {
        source,
        roles,
        surroundings: Surroundings {
            occurring,
            bindable: bound.clone(),
        },
        frame: None,
    };
    let rows = engine.conjunction(&query.clauses, rows, bound, &scope)?;
    engine.find(query, rows, &scope)
}

/// What does not change while a query runs, but for the tables of rules that are complete.
struct Engine<'a> {
    sources: BTreeMap<SourceName, Source>,
    rules: Rules<'a>,
    functions: &'a Functions,
    complete: RefCell<rule::Tables>,
}

/// Where a value that is bound comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// An input: lookup refs and idents are resolved.
    Input,
    /// A function: an ident is resolved for a variable of attributes.
    Function,
}

impl Engine<'_> {
    fn source(&self, name: &SourceName) -> Result<&Source, String> {
        self.sources
            .get(name)
            .ok_or_else(|| format!("no source {name}"))
    }

    /// The rows of the inputs, and the variables that they bind.
    fn read_inputs(
        &self,
        query: &Query,
        inputs: Vec<Term>,
        roles: &Roles,
    ) -> Result<(BTreeSet<Row>, BTreeSet<Variable>), String> {
        let mut inputs = inputs.into_iter();
        let mut rows = BTreeSet::from([Row::new()]);
        let mut bound = BTreeSet::new();
        for input in &query.inputs {
            match &input.kind {
                InputKind::Source(name) => {
                    self.source(name)?;
                }
                InputKind::Rules => {}
                InputKind::Plain(_) => {
                    inputs.next().ok_or("too few inputs")?;
                }
                InputKind::Binding(binding) => {
                    let value = inputs.next().ok_or("too few inputs")?;
                    rows = rows
                        .iter()
                        .flat_map(|row| self.bind(binding, &value, row, roles, Origin::Input))
                        .collect();
                    bound.extend(binding.variables().into_iter().cloned());
                }
            }
        }
        match inputs.next() {
            None => Ok((rows, bound)),
            Some(_) => Err("too many inputs".to_owned()),
        }
    }

    /// All ways to extend a row by taking a value apart.
    fn bind(
        &self,
        binding: &Binding,
        value: &Term,
        row: &Row,
        roles: &Roles,
        origin: Origin,
    ) -> Vec<Row> {
        match binding {
            Binding::Ignore(_) => vec![row.clone()],
            Binding::Scalar(variable, _) => {
                let value = match (roles.get(variable), origin) {
                    (Some(role), Origin::Input) => self.resolve(value, role),
                    (Some(role @ Role::Attribute(_)), Origin::Function) => {
                        self.resolve(value, role)
                    }
                    _ => value.clone(),
                };
                let mut row = row.clone();
                if unify(&mut row, variable, &value) {
                    vec![row]
                } else {
                    Vec::new()
                }
            }
            Binding::Tuple(parts, _) => {
                let Some(values) = elements(value).filter(|values| values.len() >= parts.len())
                else {
                    return Vec::new();
                };
                let mut rows = vec![row.clone()];
                for (part, value) in parts.iter().zip(&values) {
                    rows = rows
                        .iter()
                        .flat_map(|row| self.bind(part, value, row, roles, origin))
                        .collect();
                }
                rows
            }
            Binding::Collection(part, _) => elements(value)
                .unwrap_or_default()
                .iter()
                .flat_map(|value| self.bind(part, value, row, roles, origin))
                .collect(),
        }
    }
}

/// Lets a variable stand for a value, if it stands for nothing else yet. Nothing stands for nil.
fn unify(row: &mut Row, variable: &Variable, value: &Term) -> bool {
    if matches!(value, Term::Nil) {
        return false;
    }
    let known = row.entry(variable.clone()).or_insert_with(|| value.clone());
    known == value
}

/// The part of a row that some variables make.
fn restrict(row: &Row, variables: &BTreeSet<Variable>) -> Row {
    row.iter()
        .filter(|(variable, _)| variables.contains(*variable))
        .map(|(variable, value)| (variable.clone(), value.clone()))
        .collect()
}

/// The elements of a collection.
fn elements(value: &Term) -> Option<Vec<Term>> {
    match value {
        Term::Vector(terms) | Term::Set(terms) => Some(terms.to_vec()),
        Term::Map(entries) => Some(
            entries
                .iter()
                .map(|(key, value)| Term::Vector(Arc::new([key.clone(), value.clone()])))
                .collect(),
        ),
        _ => None,
    }
}

/// The term of a constant.
///
/// # Errors
///
/// If the form has a tag that is not built in.
pub fn constant(form: &Form) -> Result<Term, String> {
    let all = |forms: &[Form]| forms.iter().map(constant).collect::<Result<Vec<_>, _>>();
    Ok(match &form.edn {
        Edn::Nil => Term::Nil,
        Edn::Boolean(boolean) => Term::Boolean(*boolean),
        Edn::Long(long) => Term::Long(*long),
        Edn::BigInt(number) => Term::BigInt(Arc::new(number.clone())),
        Edn::Double(double) => Term::Double(*double),
        Edn::BigDec(number) => Term::BigDec(Arc::new(number.clone())),
        Edn::Char(char) => Term::Char(*char),
        Edn::String(text) => Term::String(Arc::clone(text)),
        Edn::Symbol(symbol) => Term::Symbol(symbol.clone()),
        Edn::Keyword(keyword) => Term::Keyword(keyword.clone()),
        Edn::Instant(ms) => Term::Instant(*ms),
        Edn::Uuid(uuid) => Term::Uuid(*uuid),
        Edn::List(forms) | Edn::Vector(forms) => Term::Vector(all(forms)?.into()),
        Edn::Set(forms) => {
            let terms: BTreeSet<Term> = all(forms)?.into_iter().collect();
            Term::Set(terms.into_iter().collect())
        }
        Edn::Map(entries) => {
            let entries = entries
                .iter()
                .map(|(key, value)| Ok((constant(key)?, constant(value)?)))
                .collect::<Result<BTreeMap<_, _>, String>>()?;
            Term::Map(entries.into_iter().collect())
        }
        Edn::Tagged(tag, _) => return Err(format!("no value has the tag #{tag}")),
    })
}
