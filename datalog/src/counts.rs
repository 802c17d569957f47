//! How many facts the patterns of a query match, asked for before it is planned.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use futures::future::{join, join_all, try_join_all};

use crate::analyze::bound::{
    AttributeSlot, BoundQuery, CallGoal, FactGoal, Goal, Slot, SourceId, VarId,
};
use crate::lower::Counts;
use crate::optimizations::Optimizations;
use crate::plan_source::{FactPattern, QuerySource};
use crate::source::SourceError;

/// Counts what every pattern of a resolved query matches, nested ones included.
///
/// # Errors
///
/// The source's.
pub async fn count(
    query: &BoundQuery,
    sources: &[QuerySource],
    optimizations: &Optimizations,
) -> Result<Counts, SourceError> {
    let (mut facts, mut calls) = (Vec::new(), Vec::new());
    collect(&query.goals, &mut facts, &mut calls);
    for predicate in query
        .programs
        .iter()
        .flat_map(|program| &program.predicates)
    {
        for branch in &predicate.branches {
            collect(&branch.goals, &mut facts, &mut calls);
        }
    }
    let mut keys = HashSet::new();
    for &fact in &facts {
        let attribute = match &fact.a {
            AttributeSlot::Known(attribute) => Some(attribute),
            AttributeSlot::Unknown => continue,
            AttributeSlot::Var(_) | AttributeSlot::Blank => None,
        };
        let a = attribute.map(|attribute| attribute.id);
        // A value is counted where an index can; a unique one needs no count.
        let counted = attribute.is_some_and(|known| known.is_indexed && !known.is_unique);
        keys.insert((fact.source, a, None));
        if let (Slot::Constant(term), true) = (&fact.v, counted) {
            keys.insert((fact.source, a, Some(term.clone())));
        }
    }
    let counting = keys
        .into_iter()
        .filter_map(|key| match &sources[key.0.0 as usize] {
            QuerySource::Database(database) => Some(async move {
                let pattern = FactPattern {
                    a: key.1,
                    v: key.2.clone(),
                    ..FactPattern::default()
                };
                let count = database.count(&pattern).await?;
                Ok::<_, SourceError>((key, count))
            }),
            QuerySource::Collection(_) => None,
        });
    let facts_counted = try_join_all(counting).await?;
    let mut counts = Counts {
        facts: facts_counted.into_iter().collect(),
        ..Counts::default()
    };
    let entities: BTreeSet<_> = facts.iter().filter_map(|fact| fact.e.var()).collect();
    if entities.len() < ENTITIES_MIN || !optimizations.samples {
        return Ok(counts);
    }
    let database = |(source, attribute): (SourceId, i64)| match &sources[source.0 as usize] {
        QuerySource::Database(database) => Some((database, (source, attribute))),
        QuerySource::Collection(_) => None,
    };
    let joined = joined_by_value(&facts).into_iter().filter_map(database);
    let compared = compared(&facts, &calls).into_iter().filter_map(database);
    // What cannot be read is not known: whether there is an answer is for the scan to say.
    let (values, samples) = join(
        join_all(joined.map(async |(database, key)| {
            let values = database.values(key.1).await;
            Some((key, values.ok().flatten()?))
        })),
        join_all(compared.map(async |(database, key)| {
            let sample = database.sample(key.1).await;
            Some((key, sample.ok()?))
        })),
    )
    .await;
    counts.values.extend(values.into_iter().flatten());
    counts.samples.extend(samples.into_iter().flatten());
    Ok(counts)
}

/// Entities of a query whose joins can be ordered in several ways.
const ENTITIES_MIN: usize = 3;

/// Attributes by whose values different entities are joined.
fn joined_by_value(facts: &[&FactGoal]) -> BTreeSet<(SourceId, i64)> {
    let mut places: BTreeMap<VarId, Vec<&FactGoal>> = BTreeMap::new();
    for fact in facts {
        if let Some(var) = fact.v.var() {
            places.entry(var).or_default().push(fact);
        }
    }
    places.retain(|_, facts| facts.iter().any(|fact| fact.e != facts[0].e));
    let joined = places.into_values().flatten();
    joined
        .filter_map(|fact| match &fact.a {
            AttributeSlot::Known(known) if !known.is_unique => Some((fact.source, known.id)),
            _ => None,
        })
        .collect()
}

/// Attributes of whose values alone a predicate speaks.
fn compared(facts: &[&FactGoal], calls: &[&CallGoal]) -> BTreeSet<(SourceId, i64)> {
    let vars: BTreeSet<VarId> = calls.iter().filter_map(|call| call.only_var()).collect();
    let compared = facts.iter().filter_map(|fact| match &fact.a {
        AttributeSlot::Known(known) if vars.contains(&fact.v.var()?) => {
            Some((fact.source, known.id))
        }
        _ => None,
    });
    compared.collect()
}

fn collect<'g>(goals: &'g [Goal], facts: &mut Vec<&'g FactGoal>, calls: &mut Vec<&'g CallGoal>) {
    for goal in goals {
        match goal {
            Goal::Fact(fact) => facts.push(fact),
            Goal::Call(call) => calls.push(call),
            Goal::Not { goals, .. } => collect(goals, facts, calls),
            Goal::Or { branches, .. } => {
                for goals in branches {
                    collect(goals, facts, calls);
                }
            }
            _ => {}
        }
    }
}
