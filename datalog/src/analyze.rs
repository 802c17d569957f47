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

pub mod bound;
mod rules;
pub(crate) mod safety;
mod scope;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use self::bound::{
    AttributeSlot, BoundElement, BoundQuery, CallGoal, FactGoal, Goal, NestedGoal, Program,
    RowsGoal, Slot, SourceId, Target, VarId, VarInfo,
};
use self::rules::RuleBook;
use self::scope::Scope;
use crate::ast::{
    Argument, Binding, Call, Callee, CalleeName, Clause, ClauseKind, Component, FindElement,
    InputKind, OrJoin, Pattern, PullArgument, PullPattern, Query, RuleSet, SourceName, Variable,
};
use crate::edn::{Edn, Form, Keyword};
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

    // Inputs.

    fn inputs(&mut self, scope: &mut Scope, goals: &mut Vec<Goal>) -> Result<(), Error> {
        let mut arguments = self.given.arguments.iter();
        for input in &self.query.inputs {
            match &input.kind {
                InputKind::Source(name) => {
                    self.source(Some(name), name, input.span)?;
                }
                InputKind::Rules => {}
                InputKind::Plain(name) => {
                    let term = arguments.next().ok_or_else(|| self.missing(input.span))?;
                    let text = match term {
                        Term::String(text) => text.to_string(),
                        other => other.to_string(),
                    };
                    let pattern = PullPattern::parse(&text).map_err(|error| {
                        self.error(
                            format!("{name} is not a pull pattern: {}", error.message()),
                            input.span,
                        )
                    })?;
                    self.patterns
                        .insert(name.as_str().into(), Arc::new(pattern));
                }
                InputKind::Binding(binding) => {
                    let term = arguments.next().ok_or_else(|| self.missing(input.span))?;
                    self.input(binding, term, scope, goals)?;
                }
            }
        }
        let surplus = arguments.count();
        if surplus > 0 {
            let span = self.query.inputs.last().map_or_else(
                || Span::new(0, self.query.text.len()),
                |input| input.span,
            );
            return Err(self.error(
                format!("{surplus} more arguments were given than :in names"),
                span,
            ));
        }
        Ok(())
    }

    fn missing(&self, span: Span) -> Error {
        self.error("no argument was given for this input", span)
    }

    fn input(
        &mut self,
        binding: &Binding,
        term: &Term,
        scope: &mut Scope,
        goals: &mut Vec<Goal>,
    ) -> Result<(), Error> {
        if let Binding::Scalar(variable, span) = binding {
            // A pull pattern may come under the name of a variable.
            let var = self.declare(scope, variable);
            if *term == Term::Nil {
                return Err(self.error("an input cannot be nil", *span));
            }
            if let Some(known) = &self.vars[var.0 as usize].constant {
                if known != term {
                    goals.push(Goal::Rows(RowsGoal::nothing()));
                }
                return Ok(());
            }
            self.info(var).constant = Some(term.clone());
            return Ok(());
        }
        let rows = unpack(binding, term).map_err(|reason| self.error(reason, binding.span()))?;
        let variables = binding.variables();
        let vars = variables.iter().map(|variable| self.declare(scope, variable));
        let vars: Vec<VarId> = vars.collect();
        if let [row] = &rows[..] {
            // One row is as good as constants.
            let constants = vars.iter().zip(row);
            let mut clash = false;
            for (&var, term) in constants {
                match &self.vars[var.0 as usize].constant {
                    Some(known) => clash |= known != term,
                    None => self.info(var).constant = Some(term.clone()),
                }
            }
            if clash {
                goals.push(Goal::Rows(RowsGoal::nothing()));
            }
            return Ok(());
        }
        goals.push(Goal::Rows(RowsGoal::new(vars, rows)));
        Ok(())
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
                clauses.first().map_or(Span::default(), |clause| clause.span),
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
                self.info(var).attribute_of.get_or_insert(id);
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
            self.info(var).entity_of.get_or_insert(id);
        }
        Ok(Goal::Fact(FactGoal {
            source: id,
            e,
            a,
            v,
            tx,
            added,
            span,
        }))
    }

    fn component(&mut self, component: &Component, scope: &mut Scope) -> Result<Slot, Error> {
        Ok(match component {
            Component::Variable(variable, _) => Slot::Var(self.declare(scope, variable)),
            Component::Blank(_) => Slot::Blank,
            Component::Constant(form) => Slot::Constant(self.constant(form)?),
        })
    }

    fn constant(&self, form: &Form) -> Result<Term, Error> {
        Term::try_from(form).map_err(|reason| self.error(reason, form.span))
    }

    // Calls.

    fn call(
        &mut self,
        call: &Call,
        scope: &mut Scope,
        source: &SourceName,
        span: Span,
        goals: &mut Vec<Goal>,
    ) -> Result<(), Error> {
        let name = self.callee(&call.function, scope)?;
        let binding = match &call.binding {
            Some(binding) => Some(self.target(binding, scope)),
            None => None,
        };
        match &*name {
            "get-else" | "get-some" | "missing?" => {
                return self.database_call(&name, call, binding, scope, source, span, goals);
            }
            "q" | "datomic.api/q" | "d/q" => {
                return self.nested(call, binding, scope, source, span, goals);
            }
            _ => {}
        }
        let Some(function) = self.given.functions.get(&name) else {
            let near = self.given.functions.near(&name);
            let hint = if near.is_empty() {
                String::new()
            } else {
                format!("; did you mean {}?", near.join(" or "))
            };
            return Err(self.error(
                format!("there is no function {name}{hint}"),
                call.function.span,
            ));
        };
        let function = function.clone();
        if !function.arity.allows(call.arguments.len()) {
            return Err(self.error(
                format!(
                    "{name} takes {} arguments, not {}",
                    function.arity,
                    call.arguments.len()
                ),
                span,
            ));
        }
        let mut arguments = Vec::with_capacity(call.arguments.len());
        for argument in &call.arguments {
            arguments.push(match argument {
                Argument::Variable(variable, _) => Slot::Var(self.declare(scope, variable)),
                Argument::Constant(form) => Slot::Constant(self.constant(form)?),
                Argument::Source(name, span) => {
                    return Err(self.error(
                        format!("{name} is a source; only get-else, get-some, missing? and q take one"),
                        *span,
                    ));
                }
            });
        }
        goals.push(Goal::Call(CallGoal {
            name,
            function,
            arguments,
            binding,
            span,
            in_rules: self.in_rules > 0,
        }));
        Ok(())
    }

    fn callee(&mut self, callee: &Callee, scope: &Scope) -> Result<Arc<str>, Error> {
        match &callee.name {
            CalleeName::Symbol(symbol) => {
                let name = symbol.as_str();
                let name = name.strip_prefix("clojure.core/").unwrap_or(name);
                Ok(name.into())
            }
            CalleeName::Variable(variable) => {
                let constant = scope
                    .get(variable)
                    .and_then(|var| self.vars[var.0 as usize].constant.clone());
                match constant {
                    Some(Term::Symbol(name)) => Ok(Arc::clone(name.as_arc())),
                    Some(Term::Keyword(name)) => Ok(Arc::clone(name.as_arc())),
                    Some(Term::String(name)) => Ok(name),
                    _ => Err(self.error(
                        format!("{variable} must be an input that names a function"),
                        callee.span,
                    )),
                }
            }
        }
    }

    fn target(&mut self, binding: &Binding, scope: &mut Scope) -> Target {
        match binding {
            Binding::Ignore(_) => Target::Ignore,
            Binding::Scalar(variable, _) => Target::Var(self.declare(scope, variable)),
            Binding::Tuple(parts, _) => {
                let parts = parts.iter().map(|part| self.target(part, scope));
                Target::Tuple(parts.collect())
            }
            Binding::Collection(part, _) => Target::Each(Box::new(self.target(part, scope))),
        }
    }

    /// `get-else`, `get-some` and `missing?`, in terms of patterns.
    #[expect(clippy::too_many_arguments, reason = "the context of a clause")]
    fn database_call(
        &mut self,
        name: &str,
        call: &Call,
        binding: Option<Target>,
        scope: &mut Scope,
        source: &SourceName,
        span: Span,
        goals: &mut Vec<Goal>,
    ) -> Result<(), Error> {
        let (said, rest) = match call.arguments.split_first() {
            Some((Argument::Source(name, _), rest)) => (Some(name.clone()), rest),
            _ => (None, &call.arguments[..]),
        };
        let (id, facts) = self.source(said.as_ref(), source, span)?;
        let SourceFacts::Database(facts) = facts else {
            return Err(self.error(format!("{name} asks a database, not a collection"), span));
        };
        let expected = match name {
            "get-else" => "$, an entity, an attribute and a default",
            "get-some" => "$, an entity and attributes",
            _ => "$, an entity and an attribute",
        };
        let wrong = || self.error(format!("{name} takes {expected}"), span);
        let (entity, names) = rest.split_first().ok_or_else(wrong)?;
        let enough = match name {
            "get-else" => names.len() == 2,
            "missing?" => names.len() == 1,
            _ => !names.is_empty(),
        };
        if !enough {
            return Err(wrong());
        }
        let mut attributes = Vec::new();
        let attribute_count = if name == "get-else" { 1 } else { names.len() };
        for argument in &names[..attribute_count] {
            let term = match argument {
                Argument::Constant(form) => Some(self.constant(form)?),
                Argument::Variable(variable, _) => scope
                    .get(variable)
                    .and_then(|var| self.vars[var.0 as usize].constant.clone()),
                Argument::Source(..) => None,
            };
            let Some(Term::Keyword(ident)) = term else {
                return Err(self.error(
                    format!("{name} needs the attribute's name here"),
                    argument.span(),
                ));
            };
            attributes.push((ident.clone(), facts.attribute(&ident)));
        }
        let default = match (name, names.get(1)) {
            ("get-else", Some(Argument::Constant(form))) => Some(self.constant(form)?),
            ("get-else", Some(Argument::Variable(variable, _))) => scope
                .get(variable)
                .and_then(|var| self.vars[var.0 as usize].constant.clone()),
            _ => None,
        };
        if name == "get-else" && default.as_ref().is_none_or(|term| *term == Term::Nil) {
            return Err(self.error(
                "the default of get-else must be a constant, and not nil",
                names[1].span(),
            ));
        }
        let entity = match entity {
            Argument::Variable(variable, _) => Slot::Var(self.declare(scope, variable)),
            Argument::Constant(form) => Slot::Constant(self.constant(form)?),
            Argument::Source(_, span) => return Err(self.error("expected an entity", *span)),
        };
        if let Slot::Var(var) = entity {
            self.info(var).entity_of.get_or_insert(id);
        }
        let fact = |attribute: &Option<crate::source::AttributeFacts>, v: Slot| {
            Goal::Fact(FactGoal {
                source: id,
                e: entity.clone(),
                a: attribute
                    .clone()
                    .map_or(AttributeSlot::Unknown, AttributeSlot::Known),
                v,
                tx: Slot::Blank,
                added: Slot::Blank,
                span,
            })
        };
        let lacks = |attribute: &Option<crate::source::AttributeFacts>| Goal::Not {
            join: entity.var().into_iter().collect(),
            goals: vec![fact(attribute, Slot::Blank)],
            span,
        };
        match (name, default) {
            ("get-else", Some(default)) => {
                let (_, attribute) = attributes.remove(0);
                if attribute.as_ref().is_some_and(|attribute| attribute.is_many) {
                    return Err(self.error(
                        "get-else asks for one value, and this attribute can have many",
                        names[0].span(),
                    ));
                }
                goals.push(Goal::GetElse {
                    source: id,
                    entity,
                    attribute,
                    default,
                    binding: binding.unwrap_or(Target::Ignore),
                    span,
                });
            }
            ("get-some", _) => {
                let Some(binding) = binding else {
                    return Err(self.error("get-some answers [attribute value]: bind it", span));
                };
                // One branch an attribute: it is there, and those before it are not.
                let mut branches = Vec::new();
                for (at, (ident, attribute)) in attributes.iter().enumerate() {
                    let mut branch: Vec<Goal> = attributes[..at]
                        .iter()
                        .map(|(_, before)| lacks(before))
                        .collect();
                    let value = self.fresh("value");
                    branch.push(fact(attribute, Slot::Var(value)));
                    branch.push(self.apply(
                        "tuple",
                        vec![
                            Slot::Constant(Term::Keyword(ident.clone())),
                            Slot::Var(value),
                        ],
                        binding.clone(),
                        span,
                    )?);
                    branches.push(branch);
                }
                let mut free = binding.vars();
                free.sort_unstable();
                free.dedup();
                goals.push(Goal::Or {
                    required: entity.var().into_iter().collect(),
                    free,
                    branches,
                    span,
                });
            }
            _ => {
                // `missing?` as a function answers a boolean.
                let attribute = &attributes[0].1;
                match binding {
                    None => goals.push(lacks(attribute)),
                    Some(binding) => {
                        let answer = |analysis: &mut Self, value: bool, goal: Goal| {
                            Ok::<_, Error>(vec![
                                goal,
                                analysis.apply(
                                    "identity",
                                    vec![Slot::Constant(Term::Boolean(value))],
                                    binding.clone(),
                                    span,
                                )?,
                            ])
                        };
                        let absent = answer(self, true, lacks(attribute))?;
                        let present = answer(self, false, fact(attribute, Slot::Blank))?;
                        let mut free = binding.vars();
                        free.sort_unstable();
                        goals.push(Goal::Or {
                            required: entity.var().into_iter().collect(),
                            free,
                            branches: vec![absent, present],
                            span,
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// A call of a function that is always there.
    fn apply(
        &self,
        name: &str,
        arguments: Vec<Slot>,
        binding: Target,
        span: Span,
    ) -> Result<Goal, Error> {
        let function = self.given.functions.get(name);
        let function = function.ok_or_else(|| self.error(format!("{name} is missing"), span))?;
        Ok(Goal::Call(CallGoal {
            name: name.into(),
            function: function.clone(),
            arguments,
            binding: Some(binding),
            span,
            in_rules: self.in_rules > 0,
        }))
    }

    /// `(q [:find …] $ ?x)`.
    fn nested(
        &mut self,
        call: &Call,
        binding: Option<Target>,
        scope: &mut Scope,
        source: &SourceName,
        span: Span,
        goals: &mut Vec<Goal>,
    ) -> Result<(), Error> {
        let Some((Argument::Constant(form), rest)) = call.arguments.split_first() else {
            return Err(self.error("q takes a query, then its inputs", span));
        };
        let text = match &form.edn {
            Edn::String(text) => text.to_string(),
            other => other.to_string(),
        };
        let query = Query::parse(&text)
            .map_err(|error| self.error(format!("in q: {}", error.message()), form.span))?;
        let mut sources = Vec::new();
        let mut arguments = Vec::new();
        for argument in rest {
            match argument {
                Argument::Source(name, span) => {
                    sources.push(self.source(Some(name), source, *span)?.0);
                }
                Argument::Variable(variable, span) => {
                    let var = self.declare(scope, variable);
                    let constant = self.vars[var.0 as usize].constant.clone();
                    arguments.push(constant.ok_or_else(|| {
                        self.error(
                            format!("{variable} is not an input; q takes inputs and constants"),
                            *span,
                        )
                    })?);
                }
                Argument::Constant(form) => arguments.push(self.constant(form)?),
            }
        }
        goals.push(Goal::Nested(NestedGoal {
            query: Arc::new(query),
            sources,
            arguments,
            binding,
            span,
        }));
        Ok(())
    }

    // What is found.

    fn elements(&mut self, scope: &Scope) -> Result<Vec<BoundElement>, Error> {
        let mut elements = Vec::new();
        for element in self.query.find.elements() {
            elements.push(match element {
                FindElement::Variable(variable, span) => {
                    BoundElement::Var(self.found(scope, variable, *span)?)
                }
                FindElement::Aggregate(aggregate) => self.aggregate(aggregate, scope)?,
                FindElement::Pull(pull) => {
                    let (source, facts) =
                        self.source(pull.source.as_ref(), &SourceName::default(), pull.span)?;
                    if matches!(facts, SourceFacts::Collection) {
                        return Err(
                            self.error("pull asks a database, not a collection", pull.span)
                        );
                    }
                    let var = self.found(scope, &pull.variable, pull.span)?;
                    let pattern = match &pull.pattern {
                        PullArgument::Pattern(pattern) => Arc::new(pattern.clone()),
                        PullArgument::Input(name) => self.pattern_input(name, scope, pull.span)?,
                    };
                    self.info(var).entity_of.get_or_insert(source);
                    BoundElement::Pull {
                        var,
                        source,
                        pattern,
                    }
                }
            });
        }
        Ok(elements)
    }

    fn aggregate(
        &mut self,
        aggregate: &crate::ast::Aggregate,
        scope: &Scope,
    ) -> Result<BoundElement, Error> {
        let span = aggregate.span;
        let symbol = matches!(&aggregate.function.name, CalleeName::Symbol(name) if name.as_str() == "aggregate");
        let (name, arguments) = if symbol {
            let Some((Argument::Variable(function, at), rest)) = aggregate.arguments.split_first()
            else {
                return Err(self.error("aggregate takes the input that names a function", span));
            };
            let callee = Callee {
                name: CalleeName::Variable(function.clone()),
                span: *at,
            };
            (self.callee(&callee, scope)?, rest)
        } else {
            (
                self.callee(&aggregate.function, scope)?,
                &aggregate.arguments[..],
            )
        };
        if self.given.functions.aggregate(&name).is_none() {
            let near = self.given.functions.near_aggregate(&name);
            let hint = if near.is_empty() {
                String::new()
            } else {
                format!("; did you mean {}?", near.join(" or "))
            };
            return Err(self.error(
                format!("there is no aggregate {name}{hint}"),
                aggregate.function.span,
            ));
        }
        let Some((Argument::Variable(variable, at), constants)) = arguments.split_last() else {
            return Err(self.error(format!("{name} takes a variable last"), span));
        };
        let mut terms = Vec::new();
        for argument in constants {
            terms.push(match argument {
                Argument::Constant(form) => self.constant(form)?,
                Argument::Variable(variable, at) => scope
                    .get(variable)
                    .and_then(|var| self.vars[var.0 as usize].constant.clone())
                    .ok_or_else(|| {
                        self.error(format!("{variable} must be an input here"), *at)
                    })?,
                Argument::Source(_, at) => return Err(self.error("expected a constant", *at)),
            });
        }
        Ok(BoundElement::Aggregate {
            name,
            constants: terms,
            var: self.found(scope, variable, *at)?,
            span,
        })
    }

    fn found(&self, scope: &Scope, variable: &Variable, span: Span) -> Result<VarId, Error> {
        scope
            .get(variable)
            .ok_or_else(|| self.error(format!("{variable} is not bound"), span))
    }

    fn pattern_input(
        &self,
        name: &crate::edn::Symbol,
        scope: &Scope,
        span: Span,
    ) -> Result<Arc<PullPattern>, Error> {
        if let Some(pattern) = self.patterns.get(name.as_str()) {
            return Ok(Arc::clone(pattern));
        }
        let constant = scope
            .get(&Variable::new(name.as_str()))
            .and_then(|var| self.vars[var.0 as usize].constant.clone());
        let Some(term) = constant else {
            return Err(self.error(format!("{name} is no input of this query"), span));
        };
        let text = match &term {
            Term::String(text) => text.to_string(),
            other => other.to_string(),
        };
        PullPattern::parse(&text).map(Arc::new).map_err(|error| {
            self.error(
                format!("{name} is not a pull pattern: {}", error.message()),
                span,
            )
        })
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
                        own.iter().map(move |more| {
                            row.iter().chain(more).cloned().collect::<Vec<_>>()
                        })
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
