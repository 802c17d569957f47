//! Runs conjunctions: which clause next, and the rows in which it holds.

use std::collections::BTreeSet;

use datomfusion_datalog::Term;
use datomfusion_datalog::ast::{
    Argument, Binding, Call, CalleeName, Clause, ClauseKind, Component, RuleCall, SourceName,
    Variable,
};

use super::ready::{Surroundings, all_variables, around, bound_after, join_variables, variables};
use super::role::{Role, Roles, note};
use super::rule::{Frame, Key};
use super::{Engine, Origin, ROWS_MAX, Row, constant, restrict, unify};

/// Where a conjunction stands.
#[derive(Clone)]
pub(super) struct Scope<'f> {
    /// The source of the patterns that name none.
    pub(super) source: SourceName,
    /// What the variables stand for.
    pub(super) roles: Roles,
    /// What is outside of the conjunction.
    pub(super) surroundings: Surroundings,
    /// The tables of rules that are growing; `None` where a rule must be known as a whole.
    pub(super) frame: Option<&'f Frame>,
}

impl Engine<'_> {
    /// The rows that extend `rows`, which bind `bound`, so that all clauses hold.
    pub(super) fn conjunction(
        &self,
        clauses: &[Clause],
        mut rows: BTreeSet<Row>,
        mut bound: BTreeSet<Variable>,
        scope: &Scope<'_>,
    ) -> Result<BTreeSet<Row>, String> {
        let mut waiting: Vec<usize> = (0..clauses.len()).collect();
        while !waiting.is_empty() {
            let ready = waiting.iter().enumerate().filter_map(|(place, &at)| {
                let around = around(clauses, at, &bound, &scope.surroundings);
                self.rules
                    .is_ready(&clauses[at], &bound, &around)
                    .then_some((place, around))
            });
            let Some((place, around)) =
                ready.min_by_key(|(place, _)| effort(&clauses[waiting[*place]], &bound))
            else {
                let names: BTreeSet<_> = waiting
                    .iter()
                    .flat_map(|&at| variables(&clauses[at]))
                    .collect();
                let missing: Vec<_> = names.difference(&bound).map(Variable::as_str).collect();
                return Err(format!("insufficient bindings of {}", missing.join(", ")));
            };
            let clause = &clauses[waiting.remove(place)];
            let mut next = BTreeSet::new();
            for row in &rows {
                next.extend(self.clause(clause, row, &around, scope)?);
                if next.len() > ROWS_MAX {
                    return Err("limit".to_owned());
                }
            }
            rows = next;
            bound = bound_after(clause, &bound, &around);
        }
        Ok(rows)
    }

    /// The rows that extend `row` so that a clause holds.
    fn clause(
        &self,
        clause: &Clause,
        row: &Row,
        around: &Surroundings,
        scope: &Scope<'_>,
    ) -> Result<Vec<Row>, String> {
        match &clause.kind {
            ClauseKind::Pattern(pattern) => {
                let name = pattern.source.as_ref().unwrap_or(&scope.source);
                self.source(name)?.matches(pattern, row)
            }
            ClauseKind::Call(call) => self.call(call, row, scope),
            ClauseKind::Rule(call) => self.rule(call, row, scope),
            ClauseKind::Not {
                source,
                join,
                clauses,
            } => {
                let inside = match join {
                    Some(join) => join.iter().cloned().collect(),
                    None => all_variables(clauses),
                };
                let surroundings = match join {
                    Some(_) => Surroundings::only(&inside),
                    None => around.clone(),
                };
                let scope = Scope {
                    frame: None,
                    ..self.inner(clauses, source.as_ref(), &inside, surroundings, scope)?
                };
                let row_inside = restrict(row, &inside);
                let bound = row_inside.keys().cloned().collect();
                let found =
                    self.conjunction(clauses, BTreeSet::from([row_inside]), bound, &scope)?;
                Ok(found.is_empty().then(|| row.clone()).into_iter().collect())
            }
            ClauseKind::Or {
                source,
                join,
                branches,
            } => {
                let inside = variables(clause);
                let shown: BTreeSet<Variable> = match join {
                    Some(join) => join_variables(join),
                    None => inside.intersection(&around.occurring).cloned().collect(),
                };
                let surroundings = match join {
                    Some(_) => Surroundings {
                        occurring: shown.clone(),
                        bindable: around.bindable.intersection(&shown).cloned().collect(),
                    },
                    None => around.clone(),
                };
                let mut rows = Vec::new();
                for branch in branches {
                    if join.is_none() && !shown.is_subset(&all_variables(branch)) {
                        return Err("branches of or use different variables".to_owned());
                    }
                    let surroundings = surroundings.clone();
                    let scope =
                        self.inner(branch, source.as_ref(), &inside, surroundings, scope)?;
                    let row_inside = restrict(row, &inside);
                    let bound = row_inside.keys().cloned().collect();
                    let found =
                        self.conjunction(branch, BTreeSet::from([row_inside]), bound, &scope)?;
                    for found in found {
                        let mut row = row.clone();
                        row.extend(restrict(&found, &shown));
                        rows.push(row);
                    }
                }
                Ok(rows)
            }
        }
    }

    /// The scope of clauses inside of a clause, which see some of the variables outside.
    fn inner<'f>(
        &self,
        clauses: &[Clause],
        source: Option<&SourceName>,
        seen: &BTreeSet<Variable>,
        surroundings: Surroundings,
        outer: &Scope<'f>,
    ) -> Result<Scope<'f>, String> {
        let source = source.unwrap_or(&outer.source).clone();
        let mut roles = self.roles(clauses, &source)?;
        for (variable, role) in &outer.roles {
            if seen.contains(variable) {
                note(&mut roles, variable, role.clone());
            }
        }
        Ok(Scope {
            source,
            roles,
            surroundings,
            frame: outer.frame,
        })
    }

    fn rule(&self, call: &RuleCall, row: &Row, scope: &Scope<'_>) -> Result<Vec<Row>, String> {
        let source = call.source.as_ref().unwrap_or(&scope.source).clone();
        let roles = self
            .rules
            .roles
            .get(&(call.name.clone(), source.clone()))
            .ok_or_else(|| format!("no source {source}"))?;
        let mut arguments = Vec::new();
        let mut attributes = Vec::new();
        for (argument, role) in call.arguments.iter().zip(roles) {
            arguments.push(match argument {
                Component::Variable(variable, _) => row.get(variable).cloned(),
                Component::Blank(_) => None,
                Component::Constant(form) => {
                    let term = constant(form)?;
                    Some(
                        role.as_ref()
                            .map_or_else(|| term.clone(), |role| self.resolve(&term, role)),
                    )
                }
            });
            attributes.push(match argument.variable().and_then(|v| scope.roles.get(v)) {
                Some(Role::Attribute(source)) => Some(source.clone()),
                _ => None,
            });
        }
        let key = Key {
            name: call.name.clone(),
            source,
            arguments,
            attributes,
        };
        let mut rows = Vec::new();
        for tuple in self.answer(&key, scope.frame)? {
            let mut row = row.clone();
            let holds = call.arguments.iter().zip(&tuple).all(|(argument, value)| {
                argument
                    .variable()
                    .is_none_or(|variable| unify(&mut row, variable, value))
            });
            if holds {
                rows.push(row);
            }
        }
        Ok(rows)
    }

    fn call(&self, call: &Call, row: &Row, scope: &Scope<'_>) -> Result<Vec<Row>, String> {
        let result = self.result(call, row, scope)?;
        match &call.binding {
            None => Ok(result
                .is_truthy()
                .then(|| row.clone())
                .into_iter()
                .collect()),
            Some(Binding::Ignore(_)) if matches!(result, Term::Nil) => Ok(Vec::new()),
            Some(binding) => Ok(self.bind(binding, &result, row, &scope.roles, Origin::Function)),
        }
    }

    /// What a call answers.
    fn result(&self, call: &Call, row: &Row, scope: &Scope<'_>) -> Result<Term, String> {
        let name = match &call.function.name {
            CalleeName::Symbol(symbol) => symbol.as_str().to_owned(),
            CalleeName::Variable(variable) => match row.get(variable) {
                Some(Term::Symbol(symbol)) => symbol.as_str().to_owned(),
                _ => return Err(format!("{variable} is not the name of a function")),
            },
        };
        let mut database = None;
        let mut arguments = Vec::new();
        // Equality compares attributes as entities; any other function sees their idents.
        let mut shown = Vec::new();
        let mut attribute_role = None;
        for argument in &call.arguments {
            match argument {
                Argument::Source(name, _) => database = self.source(name)?.database(),
                Argument::Constant(form) => {
                    arguments.push(constant(form)?);
                    shown.push(constant(form)?);
                }
                Argument::Variable(variable, _) => {
                    if let Some(role @ Role::Attribute(_)) = scope.roles.get(variable) {
                        attribute_role = Some(role);
                    }
                    let value = row
                        .get(variable)
                        .ok_or_else(|| format!("insufficient bindings of {variable}"))?;
                    arguments.push(value.clone());
                    shown.push(self.shown(value, scope.roles.get(variable)));
                }
            }
        }
        match (name.as_str(), database, &*arguments) {
            ("get-else", Some(database), [entity, attribute, otherwise]) => Ok(database
                .value(entity, attribute)
                .unwrap_or(otherwise)
                .clone()),
            ("missing?", Some(database), [entity, attribute]) => {
                Ok(Term::Boolean(database.value(entity, attribute).is_none()))
            }
            ("get-some", Some(database), [entity, attributes @ ..]) => {
                let first = attributes
                    .iter()
                    .find_map(|attribute| Some((attribute, database.value(entity, attribute)?)));
                Ok(first.map_or(Term::Nil, |(attribute, value)| {
                    let ident = database
                        .attribute_id(attribute)
                        .and_then(|id| database.ident(id))
                        .map_or_else(|| attribute.clone(), |ident| Term::Keyword(ident.clone()));
                    Term::Vector([ident, value.clone()].into())
                }))
            }
            ("=" | "==" | "not=" | "!=", ..) if attribute_role.is_some() => {
                let role = attribute_role.ok_or("no role")?;
                let ids: Vec<Term> = arguments
                    .iter()
                    .map(|argument| match argument {
                        Term::Keyword(_) => self.resolve(argument, role),
                        _ => argument.clone(),
                    })
                    .collect();
                self.function(&name, &ids)
            }
            _ => self.function(&name, &shown),
        }
    }

    fn function(&self, name: &str, arguments: &[Term]) -> Result<Term, String> {
        self.functions
            .get(name)
            .ok_or_else(|| format!("no function {name}"))?
            .call(arguments)
    }
}

/// A guess of how many rows a clause makes of one; only to end sooner.
fn effort(clause: &Clause, bound: &BTreeSet<Variable>) -> usize {
    let is_known = |component: Option<&Component>| match component {
        Some(Component::Variable(variable, _)) => bound.contains(variable),
        Some(Component::Constant(_)) => true,
        Some(Component::Blank(_)) | None => false,
    };
    match &clause.kind {
        ClauseKind::Call(call) if !may_fail(clause) => usize::from(call.binding.is_some()),
        // What may be refused comes when only what shares nothing is left, or nothing.
        ClauseKind::Call(call) if call.binding.is_some() => 5,
        ClauseKind::Call(_) => 8,
        ClauseKind::Not { .. } if may_fail(clause) => 8,
        ClauseKind::Not { .. } => 0,
        ClauseKind::Pattern(pattern) => match &*pattern.components {
            [e, ..] if is_known(Some(e)) => 2,
            [_, _, v, ..] if is_known(Some(v)) => 3,
            _ => 6,
        },
        ClauseKind::Or { .. } if may_fail(clause) => 5,
        ClauseKind::Rule(_) | ClauseKind::Or { .. } => {
            if variables(clause).is_disjoint(bound) {
                7
            } else {
                4
            }
        }
    }
}

/// Whether a clause calls a function that refuses some values.
fn may_fail(clause: &Clause) -> bool {
    const COMPARISONS: [&str; 8] = ["=", "==", "not=", "!=", "<", "<=", ">", ">="];
    match &clause.kind {
        ClauseKind::Call(call) => match &call.function.name {
            CalleeName::Symbol(name) => !COMPARISONS.contains(&name.as_str()),
            CalleeName::Variable(_) => true,
        },
        ClauseKind::Not { clauses, .. } => clauses.iter().any(may_fail),
        ClauseKind::Or { branches, .. } => branches.iter().flatten().any(may_fail),
        ClauseKind::Pattern(_) | ClauseKind::Rule(_) => false,
    }
}
