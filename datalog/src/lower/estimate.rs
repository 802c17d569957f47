//! How many rows an atom has, and how many values its variables: what the order of joins is found from.
//!
//! Counts of facts are exact ([`count`](crate::count)). Predicates about one attribute are tried on a sample of its
//! values. What is neither counted nor sampled is assumed: a comparison leaves a third of the rows, an equality a
//! tenth, and values that nobody counted are as many as the square root of the facts.

use super::atom::Atom;
use super::{Lowering, Relation};
use crate::analyze::bound::{AttributeSlot, CallGoal, FactGoal, Goal, Slot, SourceId, VarId};
use crate::order::Input;
use crate::source::{AttributeFacts, TermType};
use crate::term::Term;

/// Something to join.
pub(super) enum Part {
    /// What is not planned yet.
    Atom(Atom),
    /// What a conjunction begins with.
    Relation(Relation),
}

impl Lowering<'_> {
    /// What is expected of a part, under the predicates among `waiting`.
    pub(super) fn input(&self, part: &Part, waiting: &[&Goal]) -> Input<VarId> {
        let mut input = match part {
            Part::Relation(relation) => {
                let vars = relation.columns.iter().map(|(var, _)| *var);
                Input {
                    rows: relation.rows,
                    values: vars.map(|var| (var, relation.rows)).collect(),
                    unique: relation.unique.clone(),
                }
            }
            Part::Atom(Atom::Star(star)) => {
                let facts = |known: &AttributeFacts| self.facts(star.source, Some(known.id));
                let all = star.attributes.iter().map(|(known, _)| facts(known));
                let entities = all.fold(f64::MAX, f64::min);
                let e = star.e.var().map(|e| (e, entities));
                let mut values: Vec<(VarId, f64)> = e.into_iter().collect();
                for (known, slots) in &star.attributes {
                    let count = self.values(star.source, known);
                    values.extend(slots.iter().filter_map(Slot::var).map(|var| (var, count)));
                }
                Input {
                    rows: star.rows,
                    values,
                    unique: Some(star.e.var().into_iter().collect()),
                }
            }
            Part::Atom(Atom::Fact { goal, rows }) => self.fact_input(goal, *rows),
            Part::Atom(atom) => Input {
                rows: atom.rows(),
                values: atom
                    .vars()
                    .into_iter()
                    .map(|var| (var, atom.rows()))
                    .collect(),
                unique: None,
            },
        };
        for goal in waiting {
            let Goal::Call(call) = goal else { continue };
            let mut vars = call.arguments.iter().filter_map(Slot::var).peekable();
            let own = |var| input.values.iter().any(|(known, _)| *known == var);
            if call.binding.is_none() && vars.peek().is_some() && vars.all(own) {
                input.rows *= self.sampled(part, call).unwrap_or(match &*call.name {
                    "=" | "==" => 0.1,
                    "!=" | "not=" => 1.0,
                    _ => 1.0 / 3.0,
                });
            }
        }
        input
    }

    /// The share of a part's rows for which a predicate about values of one attribute is true, by a sample of them.
    fn sampled(&self, part: &Part, call: &CallGoal) -> Option<f64> {
        // Functions of others may be slow, and are not prepared for values that the query excludes.
        if !self.context.functions.is_standard() {
            return None;
        }
        let var = call.only_var()?;
        let of_var = |slot: &Slot| slot.var() == Some(var);
        let (source, attribute) = match part {
            Part::Atom(Atom::Star(star)) => {
                let mut known = star.attributes.iter();
                let (known, _) = known.find(|(_, slots)| slots.iter().any(of_var))?;
                (star.source, known.id)
            }
            Part::Atom(Atom::Fact { goal, .. }) if of_var(&goal.v) => match &goal.a {
                AttributeSlot::Known(known) => (goal.source, known.id),
                _ => return None,
            },
            _ => return None,
        };
        let sample = self.context.counts.samples.get(&(source, attribute))?;
        if sample.is_empty() {
            return None;
        }
        let arguments = call
            .arguments
            .iter()
            .map(|slot| self.slot(slot).constant().cloned());
        let arguments: Vec<Option<Term>> = arguments.collect();
        let mut holds = 0.0_f64;
        let mut terms = Vec::with_capacity(arguments.len());
        for value in sample {
            terms.clear();
            for argument in &arguments {
                terms.push(argument.clone().unwrap_or_else(|| value.clone()));
            }
            // What is refused drops no other row.
            if call
                .function
                .call(&terms)
                .is_ok_and(|answer| answer.is_truthy())
            {
                holds += 1.0;
            }
        }
        Some(holds.max(0.5) / in_rows(sample.len() as u64))
    }

    fn fact_input(&self, goal: &FactGoal, rows: f64) -> Input<VarId> {
        // Entities that have several values are fewer than the facts.
        let (facts, entities, values) = if let AttributeSlot::Known(known) = &goal.a {
            let facts = self.facts(goal.source, Some(known.id));
            let entities = if known.is_many { 0.75 } else { 1.0 };
            (facts, facts.powf(entities), self.values(goal.source, known))
        } else {
            let facts = self.facts(goal.source, None);
            (facts, facts.powf(0.75), facts.sqrt())
        };
        let mut known = Vec::new();
        known.extend(goal.e.var().map(|e| (e, entities)));
        known.extend(goal.v.var().map(|v| (v, values)));
        known.extend(goal.tx.var().map(|tx| (tx, facts.sqrt())));
        known.extend(goal.added.var().map(|added| (added, 2.0)));
        if let AttributeSlot::Var(a) = goal.a {
            known.push((a, facts.sqrt()));
        }
        Input {
            rows,
            values: known,
            unique: None,
        }
    }

    /// Facts of an attribute, or of all.
    fn facts(&self, source: SourceId, a: Option<i64>) -> f64 {
        let counts = &self.context.counts.facts;
        let assumed = if a.is_some() { 1000 } else { 100_000 };
        in_rows(counts.get(&(source, a, None)).copied().unwrap_or(assumed))
    }

    /// Values of an attribute.
    fn values(&self, source: SourceId, attribute: &AttributeFacts) -> f64 {
        let facts = self.facts(source, Some(attribute.id));
        let counted = self.context.counts.values.get(&(source, attribute.id));
        match counted {
            Some(values) => in_rows(*values),
            None if attribute.is_unique => facts,
            None if attribute.value_type == TermType::Boolean => 2.0,
            None => facts.sqrt(),
        }
    }

    /// How many tuples have the constants of a pattern.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub(super) fn tuple_rows(&self, tuples: &[Term], slots: &[Slot]) -> f64 {
        let wanted: Vec<(usize, Term)> = slots
            .iter()
            .enumerate()
            .filter_map(|(at, slot)| Some((at, self.slot(slot).constant()?.clone())))
            .collect();
        if wanted.is_empty() {
            return tuples.len() as f64;
        }
        let matches = |tuple: &&Term| {
            let elements = tuple.elements();
            elements.is_some_and(|elements| {
                wanted
                    .iter()
                    .all(|(at, term)| elements.get(*at) == Some(term))
            })
        };
        tuples.iter().filter(matches).count() as f64
    }

    /// How many facts a pattern matches, roughly.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub(super) fn fact_rows(&self, fact: &FactGoal) -> f64 {
        let counts = &self.context.counts.facts;
        let count = |a: Option<i64>, v: Option<&Term>| {
            counts
                .get(&(fact.source, a, v.cloned()))
                .map(|count| *count as f64)
        };
        let rows = match &fact.a {
            AttributeSlot::Unknown => 0.0,
            AttributeSlot::Known(attribute) => {
                let all = count(Some(attribute.id), None).unwrap_or(1000.0);
                match fact.v.constant() {
                    Some(_) if attribute.is_unique => 1.0,
                    Some(term) => {
                        count(Some(attribute.id), Some(term)).unwrap_or((all / 100.0).max(1.0))
                    }
                    None => all,
                }
            }
            AttributeSlot::Var(_) | AttributeSlot::Blank => count(None, None).unwrap_or(100_000.0),
        };
        match fact.e {
            Slot::Constant(_) => rows.min(10.0),
            _ => rows,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn in_rows(count: u64) -> f64 {
    count as f64
}
