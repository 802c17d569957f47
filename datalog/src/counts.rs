//! How many facts the patterns of a query match, asked for before it is planned.

use crate::analyze::bound::{AttributeSlot, BoundQuery, FactGoal, Goal, Slot};
use crate::lower::Counts;
use crate::plan_source::{FactPattern, QuerySource};
use crate::source::SourceError;

/// Counts what every pattern of a resolved query matches, nested ones included.
///
/// # Errors
///
/// The source's.
pub async fn count(query: &BoundQuery, sources: &[QuerySource]) -> Result<Counts, SourceError> {
    let mut facts = Vec::new();
    collect(&query.goals, &mut facts);
    for predicate in query
        .programs
        .iter()
        .flat_map(|program| &program.predicates)
    {
        for branch in &predicate.branches {
            collect(&branch.goals, &mut facts);
        }
    }
    let mut counts = Counts::default();
    for fact in facts {
        let QuerySource::Database(database) = &sources[fact.source.0 as usize] else {
            continue;
        };
        let attribute = match &fact.a {
            AttributeSlot::Known(attribute) => Some(attribute),
            AttributeSlot::Unknown => continue,
            AttributeSlot::Var(_) | AttributeSlot::Blank => None,
        };
        let a = attribute.map(|attribute| attribute.id);
        // A value is counted where an index can; a unique one needs no count.
        let counted = attribute.is_some_and(|known| known.is_indexed && !known.is_unique);
        let value = match &fact.v {
            Slot::Constant(term) if counted => Some(term.clone()),
            _ => None,
        };
        for v in [None, value] {
            let key = (fact.source, a, v.clone());
            if let std::collections::hash_map::Entry::Vacant(e) = counts.facts.entry(key) {
                let pattern = FactPattern {
                    a,
                    v,
                    ..FactPattern::default()
                };
                e.insert(database.count(&pattern).await?);
            }
        }
    }
    Ok(counts)
}

fn collect<'g>(goals: &'g [Goal], facts: &mut Vec<&'g FactGoal>) {
    for goal in goals {
        match goal {
            Goal::Fact(fact) => facts.push(fact),
            Goal::Not { goals, .. } => collect(goals, facts),
            Goal::Or { branches, .. } => branches.iter().for_each(|goals| collect(goals, facts)),
            _ => {}
        }
    }
}
