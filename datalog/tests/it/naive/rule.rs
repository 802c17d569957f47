//! Rules: what is wrong with them, and the tables that they fill.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use datomfusion_datalog::Term;
use datomfusion_datalog::ast::{
    Clause, ClauseKind, HeadArgument, RuleBranch, RuleSet, SourceName, Variable,
};
use datomfusion_datalog::edn::Symbol;

use super::clause::Scope;
use super::ready::Surroundings;
use super::role::{Role, RuleRoles, note};
use super::{Engine, ROWS_MAX, Row, constant, unify};

/// Most rounds until tables stop to grow.
const ROUNDS_MAX: usize = 400;
/// Most arguments of a rule.
const ARITY_MAX: usize = 10;

/// What a rule answers for some bound arguments; a table for each call that differs.
pub(super) type Tables = BTreeMap<Key, BTreeSet<Vec<Term>>>;

/// A call of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) name: Symbol,
    pub(super) source: SourceName,
    /// The arguments that are bound.
    pub(super) arguments: Vec<Option<Term>>,
    /// Which arguments stand for attributes at the call, and of which source.
    pub(super) attributes: Vec<Option<SourceName>>,
}

/// Tables that grow together.
#[derive(Default)]
pub(super) struct Frame {
    tables: RefCell<Tables>,
    has_grown: Cell<bool>,
}

/// The rules of a query.
pub(super) struct Rules<'a> {
    branches: &'a [RuleBranch],
    by_name: BTreeMap<Symbol, Vec<&'a RuleBranch>>,
    /// Whether a rule can run if these of its arguments are bound.
    pub(super) runnable: BTreeMap<(Symbol, Vec<bool>), bool>,
    pub(super) roles: RuleRoles,
}

/// The variables in the head of a rule, each with its place.
pub(super) fn head_variables(branch: &RuleBranch) -> impl Iterator<Item = (usize, &Variable)> {
    let free = branch.free.iter().map(|argument| match argument {
        HeadArgument::Variable(variable, _) => Some(variable),
        HeadArgument::Constant(_) => None,
    });
    let required = branch.required.iter().map(Some);
    let places = required.chain(free).enumerate();
    places.filter_map(|(place, variable)| Some((place, variable?)))
}

impl<'a> Rules<'a> {
    pub(super) fn new(rules: &'a RuleSet) -> Result<Self, String> {
        let mut by_name: BTreeMap<Symbol, Vec<&RuleBranch>> = BTreeMap::new();
        for branch in &rules.branches {
            if branch.arity() > ARITY_MAX {
                return Err(format!("rule {} has too many arguments", branch.name));
            }
            by_name.entry(branch.name.clone()).or_default().push(branch);
        }
        let rules = Self {
            branches: &rules.branches,
            by_name,
            runnable: BTreeMap::new(),
            roles: RuleRoles::new(),
        };
        for branch in rules.branches {
            let first = rules.by_name[&branch.name][0];
            if (branch.arity(), branch.required.len()) != (first.arity(), first.required.len()) {
                return Err(format!("branches of rule {} differ in heads", branch.name));
            }
            rules.check(&branch.body)?;
        }
        rules.check_strata()?;
        Ok(rules)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &'a RuleBranch> {
        self.branches.iter()
    }

    /// Whether all rules that clauses call exist.
    pub(super) fn check(&self, clauses: &[Clause]) -> Result<(), String> {
        for (name, arity, _) in calls(clauses) {
            match self.by_name.get(name).map(|branches| branches[0].arity()) {
                None => return Err(format!("no rule {name}")),
                Some(known) if known != arity => {
                    return Err(format!("rule {name} takes {known} arguments, not {arity}"));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Whether no rule depends on what it must not hold itself.
    fn check_strata(&self) -> Result<(), String> {
        let mut reached: BTreeSet<(&Symbol, &Symbol)> = BTreeSet::new();
        for branch in self.branches {
            reached.extend(
                calls(&branch.body)
                    .into_iter()
                    .map(|(name, ..)| (&branch.name, name)),
            );
        }
        loop {
            let longer: BTreeSet<_> = reached
                .iter()
                .flat_map(|(a, b)| {
                    let onward = reached.iter().filter(move |(c, _)| b == c);
                    onward.map(move |(_, d)| (*a, *d))
                })
                .filter(|pair| !reached.contains(pair))
                .collect();
            if longer.is_empty() {
                break;
            }
            reached.extend(longer);
        }
        for branch in self.branches {
            for (name, _, is_negated) in calls(&branch.body) {
                let is_recursive = *name == branch.name || reached.contains(&(name, &branch.name));
                if is_negated && is_recursive {
                    return Err(format!("rule {} depends on its own negation", branch.name));
                }
            }
        }
        Ok(())
    }

    /// Finds with which arguments bound a rule can run: assumes with any, and strikes out what fails.
    pub(super) fn find_runnable(&mut self) {
        for (name, branches) in &self.by_name {
            let arity = branches[0].arity();
            for bits in 0..1_usize << arity {
                let adornment: Vec<bool> = (0..arity).map(|place| bits >> place & 1 == 1).collect();
                let has_required = adornment[..branches[0].required.len()].iter().all(|b| *b);
                self.runnable
                    .insert((name.clone(), adornment), has_required);
            }
        }
        loop {
            let failing: Vec<(Symbol, Vec<bool>)> = self
                .runnable
                .iter()
                .filter(|((name, adornment), is_runnable)| {
                    let mut branches = self.by_name[name].iter();
                    **is_runnable && !branches.all(|branch| self.can_run(branch, adornment))
                })
                .map(|(key, _)| key.clone())
                .collect();
            if failing.is_empty() {
                return;
            }
            for key in failing {
                self.runnable.insert(key, false);
            }
        }
    }

    fn can_run(&self, branch: &RuleBranch, adornment: &[bool]) -> bool {
        let all: BTreeSet<Variable> = head_variables(branch).map(|(_, v)| v.clone()).collect();
        let bound = head_variables(branch)
            .filter(|(place, _)| adornment[*place])
            .map(|(_, variable)| variable.clone())
            .collect();
        self.run(&branch.body, &bound, &Surroundings::only(&all))
            .is_some_and(|after| all.is_subset(&after))
    }
}

/// The calls of rules in clauses: name, number of arguments, whether under a `not`.
fn calls(clauses: &[Clause]) -> Vec<(&Symbol, usize, bool)> {
    let mut found = Vec::new();
    for clause in clauses {
        match &clause.kind {
            ClauseKind::Pattern(_) | ClauseKind::Call(_) => {}
            ClauseKind::Rule(call) => found.push((&call.name, call.arguments.len(), false)),
            ClauseKind::Not { clauses, .. } => {
                found.extend(
                    calls(clauses)
                        .into_iter()
                        .map(|(name, arity, _)| (name, arity, true)),
                );
            }
            ClauseKind::Or { branches, .. } => {
                found.extend(branches.iter().flat_map(|branch| calls(branch)));
            }
        }
    }
    found
}

impl Engine<'_> {
    /// What a rule answers: all of it, or what is known of it so far if it is asked for by a table that
    /// grows itself.
    pub(super) fn answer(
        &self,
        key: &Key,
        frame: Option<&Frame>,
    ) -> Result<BTreeSet<Vec<Term>>, String> {
        if let Some(table) = self.complete.borrow().get(key) {
            return Ok(table.clone());
        }
        if let Some(frame) = frame {
            let mut tables = frame.tables.borrow_mut();
            if !tables.contains_key(key) {
                frame.has_grown.set(true);
            }
            return Ok(tables.entry(key.clone()).or_default().clone());
        }
        let frame = Frame::default();
        self.answer(key, Some(&frame))?;
        for _ in 0..ROUNDS_MAX {
            frame.has_grown.set(false);
            let keys: Vec<Key> = frame.tables.borrow().keys().cloned().collect();
            for key in keys {
                let rows = self.branches(&key, &frame)?;
                let mut tables = frame.tables.borrow_mut();
                let table = tables.entry(key).or_default();
                let before = table.len();
                table.extend(rows);
                if table.len() > before {
                    frame.has_grown.set(true);
                }
            }
            if frame
                .tables
                .borrow()
                .values()
                .map(BTreeSet::len)
                .sum::<usize>()
                > ROWS_MAX
            {
                break;
            }
            if !frame.has_grown.get() {
                self.complete.borrow_mut().extend(frame.tables.into_inner());
                return Ok(self.complete.borrow()[key].clone());
            }
        }
        Err("limit".to_owned())
    }

    /// What the branches of a rule answer if the tables they ask for hold what they hold now.
    fn branches(&self, key: &Key, frame: &Frame) -> Result<BTreeSet<Vec<Term>>, String> {
        let mut tuples = BTreeSet::new();
        for branch in &self.rules.by_name[&key.name] {
            let Some(row) = enter(branch, &key.arguments)? else {
                continue;
            };
            let all: BTreeSet<Variable> = head_variables(branch).map(|(_, v)| v.clone()).collect();
            let mut roles = self.roles(&branch.body, &key.source)?;
            for (place, variable) in head_variables(branch) {
                if let Some(source) = &key.attributes[place] {
                    note(&mut roles, variable, Role::Attribute(source.clone()));
                }
            }
            let scope = Scope {
                source: key.source.clone(),
                roles,
                surroundings: Surroundings::only(&all),
                frame: Some(frame),
            };
            let bound = row.keys().cloned().collect();
            for row in self.conjunction(&branch.body, BTreeSet::from([row]), bound, &scope)? {
                tuples.insert(leave(branch, &row)?);
            }
        }
        Ok(tuples)
    }
}

/// The row with which a branch begins, unless the arguments contradict its head.
fn enter(branch: &RuleBranch, arguments: &[Option<Term>]) -> Result<Option<Row>, String> {
    let mut row = Row::new();
    for (place, variable) in head_variables(branch) {
        if let Some(value) = &arguments[place]
            && !unify(&mut row, variable, value)
        {
            return Ok(None);
        }
    }
    for (argument, value) in branch.free.iter().zip(&arguments[branch.required.len()..]) {
        if let (HeadArgument::Constant(form), Some(value)) = (argument, value)
            && constant(form)? != *value
        {
            return Ok(None);
        }
    }
    Ok(Some(row))
}

/// The arguments of the head of a branch, as a row binds them.
fn leave(branch: &RuleBranch, row: &Row) -> Result<Vec<Term>, String> {
    let value = |variable: &Variable| {
        row.get(variable).cloned().ok_or_else(|| {
            format!(
                "insufficient bindings of {variable} in rule {}",
                branch.name
            )
        })
    };
    let required = branch.required.iter().map(value);
    let free = branch.free.iter().map(|argument| match argument {
        HeadArgument::Variable(variable, _) => value(variable),
        HeadArgument::Constant(form) => constant(form),
    });
    required.chain(free).collect()
}
