//! Which variables stand for entities and which for attributes.
//!
//! This matters in three places only: an input or an argument of a rule may then be an ident or a lookup
//! ref; a variable of attributes compares with idents; and it is shown as one.

use std::collections::BTreeMap;

use datomfusion_datalog::Term;
use datomfusion_datalog::ast::{
    Argument, CalleeName, Clause, ClauseKind, Component, Pattern, SourceName, Variable,
};
use datomfusion_datalog::edn::Symbol;

use super::{Engine, constant};

/// What a variable stands for, and in which database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// It stands in the place of an attribute, if perhaps elsewhere too.
    Attribute(SourceName),
    /// It stands in the place of an entity.
    Entity(SourceName),
}

/// The variables of a scope that have a role.
pub(super) type Roles = BTreeMap<Variable, Role>;

/// The roles of the arguments of rules, by rule and by the source it is called with.
pub(super) type RuleRoles = BTreeMap<(Symbol, SourceName), Vec<Option<Role>>>;

/// Notes a role. The least one stays, so that the order of clauses does not matter.
pub(super) fn note(roles: &mut Roles, variable: &Variable, role: Role) {
    let known = roles
        .entry(variable.clone())
        .or_insert_with(|| role.clone());
    if role < *known {
        *known = role;
    }
}

impl Engine<'_> {
    /// Finds the roles of the arguments of all rules: of those that call rules too, hence the rounds.
    pub(super) fn find_rule_roles(&mut self) -> Result<(), String> {
        loop {
            let mut roles = RuleRoles::new();
            for branch in self.rules.all() {
                for source in self.sources.keys() {
                    let of_body = self.roles(&branch.body, source)?;
                    let known = roles
                        .entry((branch.name.clone(), source.clone()))
                        .or_insert_with(|| vec![None; branch.arity()]);
                    for (place, variable) in super::rule::head_variables(branch) {
                        let least = [known[place].clone(), of_body.get(variable).cloned()];
                        known[place] = least.into_iter().flatten().min();
                    }
                }
            }
            if roles == self.rules.roles {
                return Ok(());
            }
            self.rules.roles = roles;
        }
    }

    /// The roles of the variables that some clauses show to the outside.
    pub(super) fn roles(&self, clauses: &[Clause], source: &SourceName) -> Result<Roles, String> {
        let mut roles = Roles::new();
        for clause in clauses {
            match &clause.kind {
                ClauseKind::Pattern(pattern) => self.pattern_roles(pattern, source, &mut roles)?,
                ClauseKind::Call(call) => {
                    let CalleeName::Symbol(name) = &call.function.name else {
                        continue;
                    };
                    if !matches!(name.as_str(), "get-else" | "get-some" | "missing?") {
                        continue;
                    }
                    let [Argument::Source(source, _), entity, attributes @ ..] = &*call.arguments
                    else {
                        continue;
                    };
                    if let Some(variable) = entity.variable() {
                        note(&mut roles, variable, Role::Entity(source.clone()));
                    }
                    let attributes = match name.as_str() {
                        "get-some" => attributes,
                        _ => &attributes[..attributes.len().min(1)],
                    };
                    for variable in attributes.iter().filter_map(Argument::variable) {
                        note(&mut roles, variable, Role::Attribute(source.clone()));
                    }
                }
                ClauseKind::Rule(call) => {
                    let source = call.source.as_ref().unwrap_or(source).clone();
                    let of_rule = self.rules.roles.get(&(call.name.clone(), source));
                    for (argument, role) in call.arguments.iter().zip(of_rule.into_iter().flatten())
                    {
                        if let (Some(variable), Some(role)) = (argument.variable(), role) {
                            note(&mut roles, variable, role.clone());
                        }
                    }
                }
                ClauseKind::Not {
                    source: own,
                    join,
                    clauses,
                } => {
                    let inner = self.roles(clauses, own.as_ref().unwrap_or(source))?;
                    for (variable, role) in inner {
                        if join.as_ref().is_none_or(|join| join.contains(&variable)) {
                            note(&mut roles, &variable, role);
                        }
                    }
                }
                ClauseKind::Or {
                    source: own,
                    join,
                    branches,
                } => {
                    for branch in branches {
                        let inner = self.roles(branch, own.as_ref().unwrap_or(source))?;
                        for (variable, role) in inner {
                            let is_shown = join.as_ref().is_none_or(|join| {
                                join.required.contains(&variable) || join.free.contains(&variable)
                            });
                            if is_shown {
                                note(&mut roles, &variable, role);
                            }
                        }
                    }
                }
            }
        }
        Ok(roles)
    }

    fn pattern_roles(
        &self,
        pattern: &Pattern,
        source: &SourceName,
        roles: &mut Roles,
    ) -> Result<(), String> {
        let name = pattern.source.as_ref().unwrap_or(source);
        let Some(database) = self.source(name)?.database() else {
            return Ok(());
        };
        let components = &pattern.components;
        let holds_refs = match components.get(1) {
            Some(Component::Constant(form)) => database.is_ref(&constant(form)?),
            _ => false,
        };
        for (place, component) in components.iter().enumerate() {
            let Some(variable) = component.variable() else {
                continue;
            };
            match place {
                0 | 3 => note(roles, variable, Role::Entity(name.clone())),
                1 => note(roles, variable, Role::Attribute(name.clone())),
                2 if holds_refs => note(roles, variable, Role::Entity(name.clone())),
                _ => {}
            }
        }
        Ok(())
    }

    /// The entity id that an ident or a lookup ref stands for in a role, or the term as it is.
    pub(super) fn resolve(&self, term: &Term, role: &Role) -> Term {
        if !matches!(term, Term::Keyword(_) | Term::Vector(_)) {
            return term.clone();
        }
        let (Role::Attribute(source) | Role::Entity(source)) = role;
        self.sources
            .get(source)
            .and_then(|source| source.database()?.entity(term))
            .map_or_else(|| term.clone(), Term::Long)
    }

    /// The ident of an attribute, for a variable that stands for one.
    pub(super) fn shown(&self, term: &Term, role: Option<&Role>) -> Term {
        let (Term::Long(id), Some(Role::Attribute(source))) = (term, role) else {
            return term.clone();
        };
        self.sources
            .get(source)
            .and_then(|source| source.database()?.ident(*id))
            .map_or_else(|| term.clone(), |ident| Term::Keyword(ident.clone()))
    }
}
