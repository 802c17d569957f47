//! What the names of a query mean in its databases: idents and lookup refs become entity ids.
//!
//! A name that means nothing matches nothing; it is left as it is, and no entity is equal to it. A value
//! of a basis at which an enum did not exist yet is asked like any other.

use std::sync::Arc;

use crate::analyze::bound::{
    AttributeSlot, BoundQuery, Goal, RowsGoal, Slot, SourceId, VarId, VarInfo,
};
use crate::source::{Facts, SourceError, TermType};
use crate::term::Term;

/// The databases of a query, by [`SourceId`]; collections have none.
pub type Databases<'a> = [Option<&'a dyn Facts>];

/// Resolves every constant of a query.
///
/// # Errors
///
/// The host's, if a look-up fails.
pub async fn resolve(query: &mut BoundQuery, databases: &Databases<'_>) -> Result<(), SourceError> {
    share_roles(query);
    for at in 0..query.vars.len() {
        let info = &query.vars[at];
        let Some(term) = info.constant.clone() else {
            continue;
        };
        let resolved = as_var(info, term, databases).await?;
        query.vars[at].constant = Some(resolved);
    }
    let vars = std::mem::take(&mut query.vars);
    let mut goals = std::mem::take(&mut query.goals);
    resolve_all(&mut goals, &vars, query, databases).await?;
    let mut programs = std::mem::take(&mut query.programs);
    let heads: Vec<Vec<Vec<Slot>>> = programs
        .iter()
        .map(|program| {
            let first = |predicate: &crate::analyze::bound::Predicate| {
                predicate
                    .branches
                    .first()
                    .map(|branch| branch.head.clone())
                    .unwrap_or_default()
            };
            program.predicates.iter().map(first).collect()
        })
        .collect();
    for program in &mut programs {
        for predicate in &mut program.predicates {
            for branch in &mut predicate.branches {
                resolve_all(&mut branch.goals, &vars, query, databases).await?;
                resolve_calls(&mut branch.goals, &heads, &vars, databases).await?;
            }
        }
    }
    resolve_calls(&mut goals, &heads, &vars, databases).await?;
    query.vars = vars;
    query.goals = goals;
    query.programs = programs;
    Ok(())
}

/// Parameters tell what their arguments are: an argument of a rule that treats it as an entity is one. So
/// do two variables that are the same.
fn share_roles(query: &mut BoundQuery) {
    type Calls = Vec<(usize, usize, Vec<Slot>)>;
    fn calls(goals: &[Goal], found: &mut Calls, same: &mut Vec<[VarId; 2]>) {
        for goal in goals {
            match goal {
                Goal::Same(Slot::Var(left), Slot::Var(right)) => same.push([*left, *right]),
                Goal::Rule {
                    program,
                    predicate,
                    arguments,
                    ..
                } => found.push((*program, *predicate, arguments.clone())),
                Goal::Not { goals, .. } => calls(goals, found, same),
                Goal::Or { branches, .. } => branches.iter().for_each(|b| calls(b, found, same)),
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    let mut same = Vec::new();
    calls(&query.goals, &mut found, &mut same);
    for predicate in query
        .programs
        .iter()
        .flat_map(|program| &program.predicates)
    {
        for branch in &predicate.branches {
            calls(&branch.goals, &mut found, &mut same);
        }
    }
    loop {
        let mut changed = false;
        for pair in &same {
            for [from, to] in [[pair[0], pair[1]], [pair[1], pair[0]]] {
                let known = query.vars[from.0 as usize].clone();
                let info = &mut query.vars[to.0 as usize];
                changed |= known
                    .entity_of
                    .is_some_and(|source| info.note_entity_of(source));
                let attribute_of = known.attribute_of;
                changed |= attribute_of.is_some_and(|source| info.note_attribute_of(source));
            }
        }
        for (program, predicate, arguments) in &found {
            let branches = &query.programs[*program].predicates[*predicate].branches;
            for (at, argument) in arguments.iter().enumerate() {
                let parameters = branches.iter().filter_map(|branch| branch.head[at].var());
                let parameters: Vec<VarId> = parameters.collect();
                let role = |get: fn(&VarInfo) -> Option<SourceId>| {
                    let all = parameters.iter();
                    all.filter_map(|var| get(&query.vars[var.0 as usize])).min()
                };
                let entity_of = role(|info| info.entity_of);
                let attribute_of = role(|info| info.attribute_of);
                for var in parameters.iter().copied().chain(argument.var()) {
                    let info = &mut query.vars[var.0 as usize];
                    changed |= entity_of.is_some_and(|source| info.note_entity_of(source));
                    changed |= attribute_of.is_some_and(|source| info.note_attribute_of(source));
                }
            }
        }
        if !changed {
            return;
        }
    }
}

/// A term as the value of a variable.
async fn as_var(
    info: &VarInfo,
    term: Term,
    databases: &Databases<'_>,
) -> Result<Term, SourceError> {
    if let Some(source) = info.attribute_of {
        let facts = databases[source.0 as usize];
        return Ok(match (&term, facts) {
            (Term::Keyword(name), Some(facts)) => facts
                .attribute(name)
                .map_or(term, |attribute| Term::Long(attribute.id)),
            _ => term,
        });
    }
    match info.entity_of {
        Some(source) => as_entity(term, databases[source.0 as usize]).await,
        None => Ok(term),
    }
}

/// The entity that a term names, or the term.
async fn as_entity(term: Term, facts: Option<&dyn Facts>) -> Result<Term, SourceError> {
    let Some(facts) = facts else {
        return Ok(term);
    };
    match &term {
        Term::Keyword(ident) => Ok(facts.entid(ident).map_or(term, Term::Long)),
        Term::Vector(parts) => {
            let [Term::Keyword(name), value] = &parts[..] else {
                return Ok(term);
            };
            let Some(attribute) = facts.attribute(name).filter(|known| known.is_unique) else {
                return Ok(term);
            };
            let value = if attribute.value_type == TermType::Ref {
                match value {
                    Term::Keyword(ident) => facts.entid(ident).map_or(value.clone(), Term::Long),
                    value => value.clone(),
                }
            } else {
                value.clone()
            };
            let found = facts.lookup(attribute.id, &value).await?;
            Ok(found.map_or(term, Term::Long))
        }
        _ => Ok(term),
    }
}

/// A variable with one value becomes that value.
fn substitute(slot: &mut Slot, vars: &[VarInfo]) {
    if let Slot::Var(var) = slot
        && let Some(term) = &vars[var.0 as usize].constant
    {
        *slot = Slot::Constant(term.clone());
    }
}

async fn entity_slot(
    slot: &mut Slot,
    vars: &[VarInfo],
    facts: Option<&dyn Facts>,
) -> Result<(), SourceError> {
    substitute(slot, vars);
    if let Slot::Constant(term) = slot {
        *term = as_entity(term.clone(), facts).await?;
    }
    Ok(())
}

async fn resolve_all(
    goals: &mut [Goal],
    vars: &[VarInfo],
    query: &BoundQuery,
    databases: &Databases<'_>,
) -> Result<(), SourceError> {
    for goal in goals {
        match goal {
            Goal::Fact(fact) => {
                let facts = databases[fact.source.0 as usize];
                entity_slot(&mut fact.e, vars, facts).await?;
                entity_slot(&mut fact.tx, vars, facts).await?;
                substitute(&mut fact.added, vars);
                let is_ref = matches!(
                    &fact.a,
                    AttributeSlot::Known(known) if known.value_type == TermType::Ref
                );
                if is_ref {
                    entity_slot(&mut fact.v, vars, facts).await?;
                } else {
                    substitute(&mut fact.v, vars);
                }
                if let (AttributeSlot::Var(_) | AttributeSlot::Blank, Slot::Constant(term)) =
                    (&fact.a, &fact.v)
                    && let Term::Keyword(_) | Term::Vector(_) = term
                    && let Term::Long(entity) = as_entity(term.clone(), facts).await?
                {
                    fact.v_entity = Some(entity);
                }
            }
            Goal::Tuple { slots, .. } => slots.iter_mut().for_each(|slot| substitute(slot, vars)),
            Goal::Rows(rows) => resolve_rows(rows, vars, databases).await?,
            Goal::Call(call) => {
                // Equality with an attribute compares entities, as a pattern does; any other function
                // sees its ident.
                let equality = matches!(&*call.name, "=" | "==" | "not=" | "!=");
                let attribute_of = call
                    .arguments
                    .iter()
                    .find_map(|slot| vars[slot.var()?.0 as usize].attribute_of);
                for slot in &mut call.arguments {
                    let role = slot.var().and_then(|var| vars[var.0 as usize].attribute_of);
                    substitute(slot, vars);
                    if let (false, Some(source), Slot::Constant(Term::Long(id))) =
                        (equality, role, &*slot)
                        && let Some(ident) =
                            databases[source.0 as usize].and_then(|facts| facts.ident(*id))
                    {
                        *slot = Slot::Constant(Term::Keyword(ident));
                    }
                }
                if let (true, Some(source)) = (equality, attribute_of)
                    && let Some(facts) = databases[source.0 as usize]
                {
                    for slot in &mut call.arguments {
                        if let Slot::Constant(Term::Keyword(name)) = slot
                            && let Some(id) = facts.entid(name)
                        {
                            *slot = Slot::Constant(Term::Long(id));
                        }
                    }
                }
            }
            Goal::GetElse { source, entity, .. } => {
                entity_slot(entity, vars, databases[source.0 as usize]).await?;
            }
            Goal::Same(left, right) => {
                let role = |slot: &Slot| slot.var().map(|var| vars[var.0 as usize].clone());
                let (left_role, right_role) = (role(left), role(right));
                for (slot, other) in [(&mut *left, right_role), (&mut *right, left_role)] {
                    if let (Slot::Constant(term), Some(info)) = (&mut *slot, other) {
                        *term = as_var(&info, term.clone(), databases).await?;
                    }
                    substitute(slot, vars);
                }
            }
            Goal::Not { goals, .. } => {
                Box::pin(resolve_all(goals, vars, query, databases)).await?;
            }
            Goal::Or { branches, .. } => {
                for branch in branches {
                    Box::pin(resolve_all(branch, vars, query, databases)).await?;
                }
            }
            Goal::Nested(_) | Goal::Rule { .. } => {}
        }
    }
    Ok(())
}

/// The arguments of recursive rules, by the roles of their parameters.
async fn resolve_calls(
    goals: &mut [Goal],
    heads: &[Vec<Vec<Slot>>],
    vars: &[VarInfo],
    databases: &Databases<'_>,
) -> Result<(), SourceError> {
    for goal in goals {
        match goal {
            Goal::Rule {
                program,
                predicate,
                arguments,
                ..
            } => {
                let parameters = &heads[*program][*predicate];
                for (argument, parameter) in arguments.iter_mut().zip(parameters) {
                    substitute(argument, vars);
                    if let (Slot::Constant(term), Some(parameter)) =
                        (&mut *argument, parameter.var())
                    {
                        let info = &vars[parameter.0 as usize];
                        *term = as_var(info, term.clone(), databases).await?;
                    }
                }
            }
            Goal::Not { goals, .. } => {
                Box::pin(resolve_calls(goals, heads, vars, databases)).await?;
            }
            Goal::Or { branches, .. } => {
                for branch in branches {
                    Box::pin(resolve_calls(branch, heads, vars, databases)).await?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

async fn resolve_rows(
    rows: &mut RowsGoal,
    vars: &[VarInfo],
    databases: &Databases<'_>,
) -> Result<(), SourceError> {
    let infos: Vec<&VarInfo> = rows.vars.iter().map(|var| &vars[var.0 as usize]).collect();
    let has_role = |info: &&VarInfo| info.entity_of.is_some() || info.attribute_of.is_some();
    if !infos.iter().any(has_role) {
        return Ok(());
    }
    let mut resolved = Vec::with_capacity(rows.rows.len());
    for row in rows.rows.iter() {
        let mut terms = Vec::with_capacity(row.len());
        for (term, info) in row.iter().zip(&infos) {
            terms.push(as_var(info, term.clone(), databases).await?);
        }
        resolved.push(terms);
    }
    rows.rows = Arc::new(resolved);
    Ok(())
}
