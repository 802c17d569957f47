//! A parsed query becomes one that can run: scopes, rules, names.
//!
//! ```text
//! Query + RuleSet + sources + arguments ─► scopes ─► rules expanded ─► BoundQuery ─► resolved
//! ```
//!
//! Variables of one name are one variable where they share a scope; `not-join`, `or-join` and rules
//! begin a new one. Rules that do not recurse are replaced by their bodies, those that do become
//! [`Program`]s. [`resolve`](crate::resolve) then asks the databases what idents and lookup refs mean.
//!
//! **Invariant.** Whether a query can run is decided by its text, never by its data: unbound variables,
//! unknown rules and functions, wrong numbers of arguments and unstratified negation are errors here.

mod ask;
pub mod bound;
mod call;
mod find;
mod input;
mod log;
mod rules;
pub(crate) mod safety;
mod scope;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use self::bound::{
    AttributeSlot, BoundQuery, FactGoal, Goal, Program, Slot, SourceId, VarId, VarInfo,
};
pub use self::log::{LOG, log_of};
use self::rules::RuleBook;
pub use self::safety::runnable;
use self::scope::Scope;
use crate::ast::{
    Argument, Binding, Clause, ClauseKind, Component, FindElement, OrJoin, Pattern, PullPattern,
    Query, RuleSet, SourceName, Variable,
};
use crate::edn::{Form, Keyword};
use crate::error::Error;
use crate::functions::Functions;
use crate::source::{Facts, TermType};
use crate::span::Span;
use crate::term::Term;

/// Goals of a query at most, rules expanded; beyond it rules are too many or call each other too often.
const GOALS_MAX: usize = 20_000;

/// What a query asks.
#[derive(Clone, Copy)]
pub enum SourceFacts<'a> {
    /// A database.
    Database(&'a dyn Facts),
    /// A collection of tuples.
    Collection,
}

/// What a query is given.
pub struct Given<'a> {
    /// The sources, by name; their places are their [`SourceId`]s.
    pub sources: &'a [(SourceName, SourceFacts<'a>)],
    /// The rules.
    pub rules: &'a RuleSet,
    /// What the other inputs are bound to, in the order of `:in`.
    pub arguments: &'a [Term],
    /// The functions that can be called.
    pub functions: &'a Functions,
}

/// Analyses a query.
///
/// # Errors
///
/// [`Error`] quotes the clause at fault.
pub fn analyze(query: &Query, given: &Given<'_>) -> Result<BoundQuery, Error> {
    let book = RuleBook::new(given.rules)?;
    let analysis = Analysis {
        query,
        given,
        book: &book,
        vars: Vec::new(),
        programs: Vec::new(),
        program_of: HashMap::new(),
        building: Vec::new(),
        patterns: BTreeMap::new(),
        notes: Vec::new(),
        in_rules: 0,
        goals: 0,
    };
    analysis.run()
}

/// The state of an analysis.
struct Analysis<'a> {
    query: &'a Query,
    given: &'a Given<'a>,
    book: &'a RuleBook<'a>,
    vars: Vec<VarInfo>,
    programs: Vec<Program>,
    /// Finished recursive rules: where a rule over a default source lies.
    program_of: HashMap<(usize, SourceName), (usize, usize)>,
    /// Programs in the making, innermost last.
    building: Vec<rules::Building>,
    /// Pull patterns that came as inputs.
    patterns: BTreeMap<Arc<str>, Arc<PullPattern>>,
    notes: Vec<String>,
    /// How many rule bodies deep we are: spans then point into the rules.
    in_rules: usize,
    goals: usize,
}

impl<'a> Analysis<'a> {
    fn run(mut self) -> Result<BoundQuery, Error> {
        let mut scope = Scope::default();
        let mut goals = Vec::new();
        self.inputs(&mut scope, &mut goals)?;
        let outer = SourceName::default();
        for element in self.query.find.elements() {
            match element {
                FindElement::Variable(variable, _) => {
                    self.declare(&mut scope, variable);
                }
                FindElement::Aggregate(aggregate) => {
                    let variables = aggregate.arguments.iter().filter_map(Argument::variable);
                    for variable in variables {
                        self.declare(&mut scope, variable);
                    }
                }
                FindElement::Pull(pull) => {
                    self.declare(&mut scope, &pull.variable);
                }
            }
        }
        for variable in &self.query.with {
            self.declare(&mut scope, variable);
        }
        goals.extend(self.conjunction(&self.query.clauses, &mut scope, &outer)?);
        let elements = self.elements(&scope)?;
        let with = self.query.with.iter();
        let with = with
            .filter_map(|variable| scope.get(variable))
            .collect::<Vec<_>>();
        let mut query = BoundQuery {
            vars: self.vars,
            goals,
            programs: self.programs,
            find: self.query.find.clone(),
            elements,
            with,
            notes: self.notes,
        };
        safety::settle(&mut query);
        safety::check(&query, self.query, &self.given.rules.text)?;
        Ok(query)
    }

    /// The text that spans point into.
    fn text(&self) -> &str {
        if self.in_rules > 0 {
            &self.given.rules.text
        } else {
            &self.query.text
        }
    }

    fn error(&self, message: impl Into<String>, span: Span) -> Error {
        Error::new(message, span, self.text())
    }

    fn fresh(&mut self, name: &str) -> VarId {
        let id = VarId(u32::try_from(self.vars.len()).unwrap_or(u32::MAX));
        self.vars.push(VarInfo {
            name: name.into(),
            ..VarInfo::default()
        });
        id
    }

    fn declare(&mut self, scope: &mut Scope, variable: &Variable) -> VarId {
        if let Some(var) = scope.get(variable) {
            return var;
        }
        let var = self.fresh(variable.as_str());
        scope.insert(variable.clone(), var);
        var
    }

    fn info(&mut self, var: VarId) -> &mut VarInfo {
        &mut self.vars[var.0 as usize]
    }

    // Clauses.

    fn conjunction(
        &mut self,
        clauses: &[Clause],
        scope: &mut Scope,
        source: &SourceName,
    ) -> Result<Vec<Goal>, Error> {
        for variable in scope::binding_variables(clauses) {
            self.declare(scope, variable);
        }
        let mut goals = Vec::with_capacity(clauses.len());
        for clause in clauses {
            self.clause(clause, scope, source, &mut goals)?;
        }
        self.goals += goals.len();
        if self.goals > GOALS_MAX {
            return Err(self.error(
                format!("the rules expand to more than {GOALS_MAX} clauses"),
                clauses
                    .first()
                    .map_or(Span::default(), |clause| clause.span),
            ));
        }
        Ok(goals)
    }

    fn clause(
        &mut self,
        clause: &Clause,
        scope: &mut Scope,
        source: &SourceName,
        goals: &mut Vec<Goal>,
    ) -> Result<(), Error> {
        let span = clause.span;
        match &clause.kind {
            ClauseKind::Pattern(pattern) => {
                goals.push(self.pattern(pattern, scope, source, span)?);
            }
            ClauseKind::Call(call) => self.call(call, scope, source, span, goals)?,
            ClauseKind::Rule(call) => self.rule(call, scope, source, span, goals)?,
            ClauseKind::Not {
                source: own,
                join,
                clauses,
            } => {
                let source = own.as_ref().unwrap_or(source);
                let mut inner = match join {
                    Some(join) => scope.only(join),
                    None => scope.clone(),
                };
                let outer = inner.vars();
                let inside = self.conjunction(clauses, &mut inner, source)?;
                let used = bound_vars_mentioned(&inside);
                let mut join: Vec<VarId> = match join {
                    Some(join) => join.iter().filter_map(|v| scope.get(v)).collect(),
                    None => outer.into_iter().filter(|var| used.contains(var)).collect(),
                };
                join.sort_unstable();
                join.dedup();
                goals.push(Goal::Not {
                    join,
                    goals: inside,
                    span,
                });
            }
            ClauseKind::Or {
                source: own,
                join,
                branches,
            } => {
                let source = own.as_ref().unwrap_or(source);
                goals.push(self.or(join.as_ref(), branches, scope, source, span)?);
            }
        }
        Ok(())
    }

    fn or(
        &mut self,
        join: Option<&OrJoin>,
        branches: &[Vec<Clause>],
        scope: &Scope,
        source: &SourceName,
        span: Span,
    ) -> Result<Goal, Error> {
        let outer = match join {
            Some(join) => {
                let named = join.required.iter().chain(&join.free).cloned();
                scope.only(&named.collect::<Vec<_>>())
            }
            None => scope.clone(),
        };
        let mut bound = Vec::with_capacity(branches.len());
        for branch in branches {
            let mut inner = outer.clone();
            bound.push(self.conjunction(branch, &mut inner, source)?);
        }
        let of = |variables: &[Variable]| -> Vec<VarId> {
            let mut vars: Vec<VarId> = variables.iter().filter_map(|v| scope.get(v)).collect();
            vars.sort_unstable();
            vars.dedup();
            vars
        };
        let (required, free) = if let Some(join) = join {
            (of(&join.required), of(&join.free))
        } else {
            let mut used = Vec::new();
            for branch in &bound {
                used.extend(bound_vars_mentioned(branch));
            }
            let mut free: Vec<VarId> = outer.vars();
            free.retain(|var| used.contains(var));
            free.sort_unstable();
            free.dedup();
            (Vec::new(), free)
        };
        Ok(Goal::Or {
            required,
            free,
            branches: bound,
            span,
        })
    }

    fn source(
        &self,
        said: Option<&SourceName>,
        default: &SourceName,
        span: Span,
    ) -> Result<(SourceId, SourceFacts<'a>), Error> {
        let name = said.unwrap_or(default);
        let sources = self.given.sources;
        let Some(at) = sources.iter().position(|(known, _)| known == name) else {
            let known: Vec<&str> = sources.iter().map(|(name, _)| name.as_str()).collect();
            return Err(self.error(
                format!(
                    "there is no source {name}; there {}",
                    if known.is_empty() {
                        "is none".to_owned()
                    } else {
                        format!("is {}", known.join(", "))
                    }
                ),
                span,
            ));
        };
        Ok((
            SourceId(u32::try_from(at).unwrap_or(u32::MAX)),
            sources[at].1,
        ))
    }

    fn pattern(
        &mut self,
        pattern: &Pattern,
        scope: &mut Scope,
        source: &SourceName,
        span: Span,
    ) -> Result<Goal, Error> {
        let (id, facts) = self.source(pattern.source.as_ref(), source, span)?;
        let mut slots = Vec::with_capacity(pattern.components.len());
        for component in &pattern.components {
            slots.push(self.component(component, scope)?);
        }
        let SourceFacts::Database(facts) = facts else {
            return Ok(Goal::Tuple { source: id, slots });
        };
        if slots.len() > 5 {
            return Err(self.error(
                format!(
                    "a pattern over a database has at most five components, e a v tx added; \
                     this has {}",
                    slots.len()
                ),
                span,
            ));
        }
        let attribute_of = |name: &Keyword| facts.attribute(name);
        let a = match slots.get(1).unwrap_or(&Slot::Blank) {
            Slot::Blank => AttributeSlot::Blank,
            Slot::Var(var) => AttributeSlot::Var(*var),
            Slot::Constant(Term::Keyword(name)) => match attribute_of(name) {
                Some(attribute) => AttributeSlot::Known(attribute),
                None => AttributeSlot::Unknown,
            },
            Slot::Constant(Term::Long(attribute)) => match facts.attribute_by_id(*attribute) {
                Some(attribute) => AttributeSlot::Known(attribute),
                None => AttributeSlot::Unknown,
            },
            Slot::Constant(other) => {
                return Err(self.error(
                    format!("an attribute is a keyword, not {}", other.describe()),
                    pattern.components[1].span(),
                ));
            }
        };
        if let (AttributeSlot::Unknown, Some(Slot::Constant(name))) = (&a, slots.get(1)) {
            self.notes.push(format!(
                "{}: there is no attribute {name} here, so nothing matches",
                self.text()[span.start..span.end].trim()
            ));
        }
        // An attribute variable with one value is that attribute.
        let a = match a {
            AttributeSlot::Var(var) => {
                self.info(var).note_attribute_of(id);
                match self.vars[var.0 as usize].constant.clone() {
                    Some(Term::Keyword(name)) => facts
                        .attribute(&name)
                        .map_or(AttributeSlot::Unknown, AttributeSlot::Known),
                    Some(Term::Long(at)) => facts
                        .attribute_by_id(at)
                        .map_or(AttributeSlot::Unknown, AttributeSlot::Known),
                    Some(_) => AttributeSlot::Unknown,
                    None => AttributeSlot::Var(var),
                }
            }
            known => known,
        };
        let slot = |at: usize| slots.get(at).cloned().unwrap_or(Slot::Blank);
        let (e, v, tx, added) = (slot(0), slot(2), slot(3), slot(4));
        let is_ref = matches!(&a, AttributeSlot::Known(known) if known.value_type == TermType::Ref);
        let entities = [Some(&e), is_ref.then_some(&v), Some(&tx)];
        for var in entities.into_iter().flatten().filter_map(Slot::var) {
            self.info(var).note_entity_of(id);
        }
        Ok(Goal::Fact(FactGoal {
            source: id,
            e,
            a,
            v,
            v_entity: None,
            tx,
            added,
            span,
        }))
    }

    fn component(&mut self, component: &Component, scope: &mut Scope) -> Result<Slot, Error> {
        Ok(match component {
            Component::Variable(variable, _) => Slot::Var(self.declare(scope, variable)),
            Component::Blank(_) => Slot::Blank,
            Component::Constant(form) => {
                let term = self.constant(form)?;
                Slot::Constant(self.filled(term, scope, form.span)?)
            }
        })
    }

    /// A constant whose variables, as in `[:artist/id ?x]`, are replaced by the inputs that they are.
    fn filled(&self, term: Term, scope: &Scope, span: Span) -> Result<Term, Error> {
        match &term {
            Term::Symbol(name) if name.as_str().starts_with('?') => {
                let var = scope.get(&Variable::new(name.as_str()));
                let constant = var.and_then(|var| self.vars[var.0 as usize].constant.clone());
                constant.ok_or_else(|| {
                    self.error(
                        format!(
                            "{name} stands inside a constant and is no input; bind it by a clause \
                             of its own, such as [?e :attribute {name}]"
                        ),
                        span,
                    )
                })
            }
            Term::Vector(elements) => {
                let filled = elements
                    .iter()
                    .map(|element| self.filled(element.clone(), scope, span));
                Ok(Term::Vector(filled.collect::<Result<_, _>>()?))
            }
            _ => Ok(term),
        }
    }

    fn constant(&self, form: &Form) -> Result<Term, Error> {
        Term::try_from(form).map_err(|reason| self.error(reason, form.span))
    }
}

/// The variables that goals mention, at any depth, local ones included.
pub(crate) fn bound_vars_mentioned(goals: &[Goal]) -> std::collections::HashSet<VarId> {
    let mut vars = std::collections::HashSet::new();
    for goal in goals {
        goal.visit_vars(&mut |var| {
            vars.insert(var);
        });
    }
    vars
}

/// Takes an input apart into rows over the variables of its binding.
fn unpack(binding: &Binding, term: &Term) -> Result<Vec<Vec<Term>>, String> {
    match binding {
        Binding::Ignore(_) => Ok(vec![Vec::new()]),
        Binding::Scalar(..) if *term == Term::Nil => Ok(Vec::new()),
        Binding::Scalar(..) => Ok(vec![vec![term.clone()]]),
        Binding::Tuple(parts, _) => {
            let elements = term
                .elements()
                .ok_or_else(|| format!("a tuple is wanted here, not {}", term.describe()))?;
            if elements.len() < parts.len() {
                return Err(format!(
                    "a tuple of {} is wanted here, not of {}",
                    parts.len(),
                    elements.len()
                ));
            }
            let mut rows: Vec<Vec<Term>> = vec![Vec::new()];
            for (part, element) in parts.iter().zip(elements.iter()) {
                let own = unpack(part, element)?;
                rows = rows
                    .iter()
                    .flat_map(|row| {
                        own.iter()
                            .map(move |more| row.iter().chain(more).cloned().collect::<Vec<_>>())
                    })
                    .collect();
            }
            Ok(rows)
        }
        Binding::Collection(part, _) => {
            let elements = term
                .elements()
                .ok_or_else(|| format!("a collection is wanted here, not {}", term.describe()))?;
            let mut rows = Vec::with_capacity(elements.len());
            for element in elements.iter() {
                rows.extend(unpack(part, element)?);
            }
            Ok(rows)
        }
    }
}
