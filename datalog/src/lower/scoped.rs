//! Clauses with an inside: `not` as an anti join, `or` as a union.
//!
//! An inside that can run by itself does. One that needs what the outside binds begins with its distinct
//! values of that; the outside is then shared, so that it is computed once.

use std::collections::HashSet;

use datafusion::common::Result;
use datafusion::logical_expr::{Expr, not};

use super::shared::SharedNode;
use super::{Lowering, Relation};
use crate::analyze::bound::{Goal, VarId};
use crate::analyze::bound_vars_mentioned;
use crate::analyze::safety::runs;

impl Lowering<'_> {
    /// Rows for which the goals do not hold together.
    pub(super) fn not(
        &self,
        current: Relation,
        join: &[VarId],
        goals: &[Goal],
    ) -> Result<Relation> {
        let shared: Vec<VarId> = join
            .iter()
            .copied()
            .filter(|var| self.constant(*var).is_none() && current.has(*var))
            .collect();
        if let Some(predicate) = self.predicates(&current, goals)? {
            return Self::filter(current, not(predicate));
        }
        let constants = self.constants();
        if runs(self.query, goals, &constants, &shared) {
            let inside = self.conjunction(goals, None)?;
            let inside = self.keep(&inside, &shared)?;
            return self.anti_join(current, &inside, &shared);
        }
        let current = Self::share(current);
        let seed = self.seed(&current, &shared)?;
        let inside = self.conjunction(goals, Some(seed))?;
        let inside = self.keep(&inside, &shared)?;
        self.anti_join(current, &inside, &shared)
    }

    /// Goals that are nothing but predicates over columns, as one condition.
    fn predicates(&self, current: &Relation, goals: &[Goal]) -> Result<Option<Expr>> {
        let mut condition: Option<Expr> = None;
        for goal in goals {
            let Goal::Call(call) = goal else {
                return Ok(None);
            };
            let bound = call.arguments.iter().all(|slot| {
                slot.var()
                    .is_none_or(|var| current.has(var) || self.constant(var).is_some())
            });
            if call.binding.is_some() || !bound {
                return Ok(None);
            }
            let predicate = self.predicate(current, call)?;
            condition = Some(match condition {
                Some(condition) => condition.and(predicate),
                None => predicate,
            });
        }
        Ok(condition)
    }

    /// Rows for which at least one branch holds.
    pub(super) fn or(
        &self,
        current: Option<Relation>,
        required: &[VarId],
        free: &[VarId],
        branches: &[Vec<Goal>],
    ) -> Result<Relation> {
        if let Some(relation) = &current {
            let mut conditions = Vec::new();
            for branch in branches {
                match self.predicates(relation, branch)? {
                    Some(condition) => conditions.push(condition),
                    None => break,
                }
            }
            if conditions.len() == branches.len()
                && let (Some(relation), Some(condition)) =
                    (current.clone(), conditions.into_iter().reduce(Expr::or))
            {
                return Self::filter(relation, condition);
            }
        }
        let variable = |var: &VarId| self.constant(*var).is_none();
        let free: Vec<VarId> = free.iter().copied().filter(variable).collect();
        let required: Vec<VarId> = required.iter().copied().filter(variable).collect();
        let constants = self.constants();
        let alone = required.is_empty()
            && branches
                .iter()
                .all(|branch| runs(self.query, branch, &constants, &free));
        if alone || current.is_none() {
            let mut relations = Vec::with_capacity(branches.len());
            for branch in branches {
                let relation = self.conjunction(branch, None)?;
                relations.push(self.keep(&relation, &free)?);
            }
            let union = Self::union(relations, &free)?;
            let union = self.distinct(union)?;
            return match current {
                Some(current) => self.join(current, union),
                None => Ok(union),
            };
        }
        let Some(current) = current else {
            return datafusion::common::plan_err!("an or lacks what it needs");
        };
        // The branches begin with what they need of the outside.
        let mentioned: HashSet<VarId> = branches
            .iter()
            .flat_map(|branch| bound_vars_mentioned(branch))
            .collect();
        let mut needed: Vec<VarId> = required.clone();
        needed.extend(
            free.iter()
                .filter(|var| current.has(**var) && mentioned.contains(var)),
        );
        needed.retain(|var| current.has(*var));
        needed.sort_unstable();
        needed.dedup();
        let current = Self::share(current);
        let mut answered = needed.clone();
        answered.extend(free.iter().filter(|var| !needed.contains(var)));
        let mut relations = Vec::with_capacity(branches.len());
        for branch in branches {
            let seed = self.seed(&current, &needed)?;
            let relation = self.conjunction(branch, Some(seed))?;
            relations.push(self.keep(&relation, &answered)?);
        }
        let union = Self::union(relations, &answered)?;
        let union = self.distinct(union)?;
        self.join(current, union)
    }

    /// A relation that is computed once, however often it is read.
    pub(crate) fn share(relation: Relation) -> Relation {
        Relation {
            plan: SharedNode::share(relation.plan),
            ..relation
        }
    }

    /// The distinct values of some variables.
    pub(crate) fn seed(&self, relation: &Relation, vars: &[VarId]) -> Result<Relation> {
        let kept = self.keep(relation, vars)?;
        self.distinct(kept)
    }
}
