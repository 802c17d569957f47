//! The facts that one level of a pull asks for.

use std::collections::BTreeMap;

use super::PullError;
use crate::source::Facts;
use crate::term::Term;

/// Which entities are asked for what.
#[derive(Default)]
pub(super) struct Needs {
    /// Entities that are asked for all attributes.
    pub whole: Vec<i64>,
    /// By attribute, entities that are asked for its values.
    pub forward: BTreeMap<i64, Vec<i64>>,
    /// By attribute, entities that are asked for what refers to them.
    pub reverse: BTreeMap<i64, Vec<i64>>,
}

/// What was found.
pub(super) struct Level {
    whole: Vec<(i64, i64, Term)>,
    forward: BTreeMap<i64, Vec<(i64, i64, Term)>>,
    reverse: BTreeMap<i64, Vec<(i64, i64)>>,
}

impl Level {
    /// Asks for everything, by one call an attribute.
    pub(super) async fn load(facts: &dyn Facts, needs: Needs) -> Result<Self, PullError> {
        let mut level = Self {
            whole: Vec::new(),
            forward: BTreeMap::new(),
            reverse: BTreeMap::new(),
        };
        if !needs.whole.is_empty() {
            let found = facts.facts_of(&ascending(needs.whole), None).await;
            level.whole = found.map_err(PullError::Source)?;
        }
        for (attribute, entities) in needs.forward {
            let found = facts.facts_of(&ascending(entities), Some(attribute)).await;
            let found = found.map_err(PullError::Source)?;
            level.forward.insert(attribute, found);
        }
        for (attribute, entities) in needs.reverse {
            let found = facts.referrers_of(&ascending(entities), attribute).await;
            let found = found.map_err(PullError::Source)?;
            level.reverse.insert(attribute, found);
        }
        Ok(level)
    }

    /// All facts of an entity that was asked for all attributes, in the order of attributes.
    pub(super) fn whole(&self, entity: i64) -> &[(i64, i64, Term)] {
        equal_range(&self.whole, |fact| fact.0.cmp(&entity))
    }

    /// The values of an attribute, of an entity that was asked for it alone.
    pub(super) fn values(&self, entity: i64, attribute: i64) -> &[(i64, i64, Term)] {
        match self.forward.get(&attribute) {
            Some(found) => equal_range(found, |fact| fact.0.cmp(&entity)),
            None => &[],
        }
    }

    /// The values of an attribute, of an entity that was asked for all.
    pub(super) fn values_of_whole(&self, entity: i64, attribute: i64) -> &[(i64, i64, Term)] {
        equal_range(&self.whole, |fact| {
            (fact.0, fact.1).cmp(&(entity, attribute))
        })
    }

    /// The entities that refer to one by an attribute, each second.
    pub(super) fn referrers(&self, entity: i64, attribute: i64) -> &[(i64, i64)] {
        match self.reverse.get(&attribute) {
            Some(found) => equal_range(found, |(to, _)| to.cmp(&entity)),
            None => &[],
        }
    }
}

/// The entities once each, as sources want them.
fn ascending(mut entities: Vec<i64>) -> Vec<i64> {
    entities.sort_unstable();
    entities.dedup();
    entities
}

/// The part of a sorted slice that compares equal.
fn equal_range<T>(sorted: &[T], order: impl Fn(&T) -> std::cmp::Ordering) -> &[T] {
    let start = sorted.partition_point(|item| order(item).is_lt());
    let len = sorted[start..].partition_point(|item| order(item).is_eq());
    &sorted[start..start + len]
}
