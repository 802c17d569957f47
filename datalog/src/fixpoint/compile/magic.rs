//! What is bound at the call reaches the rules: see the page above.

use std::collections::HashSet;

use datafusion::common::{Result, plan_err};

use super::{Clause, Compiler, Lit, known_at, pick, vars_of};
use crate::bound::{Slot, VarId};
use crate::fixpoint::program::Derived;

impl<'q> Compiler<'_, 'q> {
    /// Left-linear rules in place of right-linear ones; the relation of the seeds, if that is what the
    /// rules are.
    pub(super) fn factored(&mut self, answer: usize, bound: &[bool]) -> Option<usize> {
        let calls_others = self
            .clauses
            .iter()
            .flat_map(|clause| &clause.body)
            .any(|lit| matches!(lit, Lit::Derived(place, _) if *place != answer));
        if calls_others || self.derived.len() != 1 {
            return None;
        }
        if !self
            .clauses
            .iter()
            .all(|clause| self.is_right_linear(clause, bound))
        {
            return None;
        }
        let width = bound.iter().filter(|bound| **bound).count();
        let reached = self.derived.len();
        self.derived.push(Derived {
            name: format!("{}-reached", self.derived[answer].name).into(),
            arity: 2 * width,
        });
        let clauses = std::mem::take(&mut self.clauses);
        for mut clause in clauses {
            let from: Vec<Slot> = (0..width)
                .map(|_| Slot::Var(self.lowering.temporary()))
                .collect();
            let own = pick(&clause.arguments, bound);
            let begin = Lit::Derived(reached, from.iter().chain(&own).cloned().collect());
            let call = clause
                .body
                .iter()
                .position(|lit| matches!(lit, Lit::Derived(..)));
            if let Some(Lit::Derived(_, slots)) = call.map(|at| clause.body.remove(at)) {
                let next = pick(&slots, bound);
                clause.body.insert(0, begin);
                self.clauses.push(Clause {
                    head: reached,
                    arguments: from.into_iter().chain(next).collect(),
                    body: clause.body,
                });
            } else {
                let mut from = from.into_iter();
                for (argument, bound) in clause.arguments.iter_mut().zip(bound) {
                    if *bound && let Some(seed) = from.next() {
                        *argument = seed;
                    }
                }
                clause.body.insert(0, begin);
                self.clauses.push(clause);
            }
        }
        Some(reached)
    }

    /// Whether a rule does not recurse, or calls itself once and hands its free arguments on.
    fn is_right_linear(&self, clause: &Clause<'q>, bound: &[bool]) -> bool {
        let mut calls = clause.body.iter().filter_map(|lit| match lit {
            Lit::Derived(_, slots) => Some(slots),
            _ => None,
        });
        let Some(call) = calls.next() else {
            return true;
        };
        if calls.next().is_some() {
            return false;
        }
        // Free arguments are handed on, and nothing else looks at them.
        let mut others: HashSet<VarId> = HashSet::new();
        for lit in &clause.body {
            if !matches!(lit, Lit::Derived(..)) {
                others.extend(vars_of(lit));
            }
        }
        let places = || clause.arguments.iter().zip(call).zip(bound);
        let bound_vars: HashSet<VarId> = places()
            .filter(|(_, bound)| **bound)
            .flat_map(|((head, call), _)| head.var().into_iter().chain(call.var()))
            .collect();
        let free: Vec<VarId> = places()
            .filter(|(_, bound)| !**bound)
            .filter_map(|((head, _), _)| head.var())
            .collect();
        let handed_on = places()
            .filter(|(_, bound)| !**bound)
            .all(|((head, call), _)| {
                head == call
                    && head
                        .var()
                        .is_some_and(|var| !others.contains(&var) && !bound_vars.contains(&var))
            });
        let distinct = free.iter().collect::<HashSet<_>>().len() == free.len();
        if !handed_on || !distinct {
            return false;
        }
        // What is asked next must follow from what was asked and the rest of the body.
        let mut known: HashSet<VarId> = pick(&clause.arguments, bound)
            .iter()
            .filter_map(Slot::var)
            .collect();
        let rest: Vec<Lit<'q>> = clause
            .body
            .iter()
            .filter(|lit| !matches!(lit, Lit::Derived(..)))
            .cloned()
            .collect();
        if self.order(&rest, &known).is_err() {
            return false;
        }
        known.extend(others);
        let asks = pick(call, bound);
        asks.iter()
            .filter_map(Slot::var)
            .all(|var| known.contains(&var))
    }

    /// Rules that derive only what is asked for; the relation of what is asked of the answer, unless
    /// every rule must ask for all of it, and by which parameters one can ask.
    pub(super) fn magic(
        &mut self,
        answer: usize,
        bound: &[bool],
    ) -> Result<(Option<usize>, Vec<bool>)> {
        let mut adorned: Vec<Option<Vec<bool>>> = vec![None; self.derived.len()];
        adorned[answer] = Some(bound.to_vec());
        loop {
            let before = adorned.clone();
            for clause in &self.clauses {
                let Some(own) = adorned[clause.head].clone() else {
                    continue;
                };
                let mut known = known_at(&clause.arguments, &own);
                for at in self.order(&clause.body, &known)? {
                    let lit = &clause.body[at];
                    if let Lit::Derived(place, slots) = lit {
                        let here: Vec<bool> = slots
                            .iter()
                            .map(|slot| match slot {
                                Slot::Constant(_) => true,
                                Slot::Var(var) => known.contains(var),
                                Slot::Blank => false,
                            })
                            .collect();
                        match &mut adorned[*place] {
                            Some(known) => {
                                for (known, here) in known.iter_mut().zip(here) {
                                    *known &= here;
                                }
                            }
                            none => *none = Some(here),
                        }
                    }
                    known.extend(vars_of(lit));
                }
            }
            if adorned == before {
                break;
            }
        }
        for (place, required) in self.required.iter().enumerate() {
            let Some(own) = &adorned[place] else { continue };
            if required
                .iter()
                .zip(own)
                .any(|(required, bound)| *required && !bound)
            {
                return plan_err!(
                    "insufficient bindings: {} is called without its required arguments",
                    self.derived[place].name
                );
            }
        }
        let mut asked: Vec<Option<usize>> = Vec::with_capacity(adorned.len());
        for (place, own) in adorned.iter().enumerate() {
            let width = own.iter().flatten().filter(|bound| **bound).count();
            asked.push((width > 0).then(|| {
                self.derived.push(Derived {
                    name: format!("{}-asked", self.derived[place].name).into(),
                    arity: width,
                });
                self.derived.len() - 1
            }));
        }
        let clauses = std::mem::take(&mut self.clauses);
        for clause in clauses {
            let Some(own) = &adorned[clause.head] else {
                continue;
            };
            let order = self.order(&clause.body, &known_at(&clause.arguments, own))?;
            let begin = asked[clause.head]
                .map(|relation| Lit::Derived(relation, pick(&clause.arguments, own)));
            let mut prefix: Vec<Lit<'q>> = begin.into_iter().collect();
            for at in order {
                let lit = &clause.body[at];
                if let Lit::Derived(place, slots) = lit
                    && let (Some(relation), Some(theirs)) = (asked[*place], &adorned[*place])
                {
                    let arguments = pick(slots, theirs);
                    let same = matches!(
                        &prefix[..],
                        [Lit::Derived(own, asks)] if *own == relation && *asks == arguments
                    );
                    if !same {
                        self.clauses.push(Clause {
                            head: relation,
                            arguments,
                            body: prefix.clone(),
                        });
                    }
                }
                prefix.push(lit.clone());
            }
            self.clauses.push(Clause {
                body: prefix,
                ..clause
            });
        }
        let kept = adorned[answer].clone().unwrap_or_default();
        Ok((asked[answer], kept))
    }
}
