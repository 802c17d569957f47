//! The order in which bodies run, and registers in place of variables.

use std::collections::{HashMap, HashSet};

use datafusion::common::{Result, plan_err};

use super::{Clause, Compiler, Lit, vars_of};
use crate::bound::{Slot, Target, VarId};
use crate::fixpoint::program::{Atom, Call, Cell, Literal, RelationId, Rule, Variant};
use crate::lower::Attributes;

impl<'q> Compiler<'_, 'q> {
    /// The order in which a body runs when some variables are known.
    pub(super) fn order(&self, body: &[Lit<'q>], known: &HashSet<VarId>) -> Result<Vec<usize>> {
        let mut known = known.clone();
        let mut rest: Vec<usize> = (0..body.len()).collect();
        let mut order = Vec::with_capacity(body.len());
        while !rest.is_empty() {
            let best = rest
                .iter()
                .enumerate()
                .filter_map(|(place, at)| Some((self.rank(&body[*at], &known)?, place)))
                .min();
            let Some((_, place)) = best else {
                return plan_err!("a clause of a recursive rule never comes to have what it needs");
            };
            let at = rest.remove(place);
            known.extend(vars_of(&body[at]));
            order.push(at);
        }
        Ok(order)
    }

    /// How late a literal should run; `None` if it cannot yet.
    fn rank(&self, lit: &Lit<'q>, known: &HashSet<VarId>) -> Option<u32> {
        let is_known = |slot: &Slot| match slot {
            Slot::Var(var) => known.contains(var) || self.lowering.constant(*var).is_some(),
            Slot::Constant(_) => true,
            Slot::Blank => false,
        };
        let atom = |slots: &[Slot], connected: u32, alone: u32| {
            if slots.iter().all(is_known) {
                1
            } else if slots.iter().any(is_known) || slots.is_empty() {
                connected
            } else {
                alone
            }
        };
        match lit {
            Lit::Call(call) => call.arguments.iter().all(is_known).then_some(0),
            Lit::Bind(..) => Some(0),
            Lit::Same(left, right) => (is_known(left) || is_known(right)).then_some(0),
            Lit::Not(join, inside) => {
                let ready = join.iter().all(|var| is_known(&Slot::Var(*var)));
                (ready && self.order(inside, known).is_ok()).then_some(2)
            }
            Lit::Input(_, slots) => Some(atom(slots, 3, 8)),
            Lit::Derived(_, slots) => Some(atom(slots, 5, 7)),
            Lit::Or(branches) => branches
                .iter()
                .all(|branch| self.order(branch, known).is_ok())
                .then_some(4),
        }
    }

    pub(super) fn rule(&self, clause: &Clause<'q>) -> Result<Rule> {
        let mut registers = Registers::default();
        let arguments = clause
            .arguments
            .iter()
            .map(|slot| registers.cell(slot))
            .collect();
        let recursive: Vec<usize> = (0..clause.body.len())
            .filter(|at| matches!(clause.body[*at], Lit::Derived(..)))
            .collect();
        let mut variants = Vec::new();
        for &delta in &recursive {
            let rest: Vec<Lit<'q>> = (0..clause.body.len())
                .filter(|at| *at != delta)
                .map(|at| clause.body[at].clone())
                .collect();
            let Lit::Derived(place, slots) = &clause.body[delta] else {
                continue;
            };
            let known: HashSet<VarId> = slots.iter().filter_map(Slot::var).collect();
            variants.push(Variant {
                delta: Some(Atom {
                    relation: RelationId::Derived(*place),
                    cells: slots.iter().map(|slot| registers.cell(slot)).collect(),
                }),
                steps: self.body(&rest, &known, &mut registers)?,
            });
        }
        if recursive.is_empty() {
            variants.push(Variant {
                delta: None,
                steps: self.body(&clause.body, &HashSet::new(), &mut registers)?,
            });
        }
        Ok(Rule {
            head: clause.head,
            arguments,
            registers: registers.0.len(),
            variants,
        })
    }

    fn body(
        &self,
        body: &[Lit<'q>],
        known: &HashSet<VarId>,
        registers: &mut Registers,
    ) -> Result<Vec<Literal>> {
        let mut known = known.clone();
        let mut steps = Vec::with_capacity(body.len());
        for at in self.order(body, &known)? {
            let lit = &body[at];
            steps.push(self.literal(lit, &known, registers)?);
            known.extend(vars_of(lit));
        }
        Ok(steps)
    }

    fn literal(
        &self,
        lit: &Lit<'q>,
        known: &HashSet<VarId>,
        registers: &mut Registers,
    ) -> Result<Literal> {
        let mut atom = |relation, slots: &[Slot]| {
            let slots = slots.iter().map(|slot| self.lowering.slot(slot));
            Literal::Atom(Atom {
                relation,
                cells: slots.map(|slot| registers.cell(&slot)).collect(),
            })
        };
        Ok(match lit {
            Lit::Derived(place, slots) => atom(RelationId::Derived(*place), slots),
            Lit::Input(input, slots) => atom(RelationId::Input(*input), slots),
            Lit::Call(call) => {
                let arguments = call.arguments.iter().map(|slot| {
                    let attributes = match slot {
                        Slot::Var(var) => self.lowering.shown(*var, &call.name),
                        _ => Attributes::Ids,
                    };
                    (registers.cell(&self.lowering.slot(slot)), attributes)
                });
                let arguments: Vec<_> = arguments.collect();
                Literal::Call(Box::new(Call {
                    function: call.function.clone(),
                    arguments,
                    binding: call.binding.as_ref().map(|target| registers.target(target)),
                    quote: self.lowering.quote(call.span, call.in_rules),
                }))
            }
            Lit::Bind(term, target, span) => {
                let Some(identity) = self.lowering.context.functions.get("identity") else {
                    return plan_err!("identity is missing");
                };
                Literal::Call(Box::new(Call {
                    function: identity.clone(),
                    arguments: vec![(Cell::Constant(term.clone()), Attributes::Ids)],
                    binding: Some(registers.target(target)),
                    quote: self.lowering.quote(*span, true),
                }))
            }
            Lit::Same(left, right) => Literal::Same(
                registers.cell(&self.lowering.slot(left)),
                registers.cell(&self.lowering.slot(right)),
            ),
            Lit::Not(_, inside) => Literal::Not(self.body(inside, known, registers)?),
            Lit::Or(branches) => {
                let mut all = Vec::with_capacity(branches.len());
                for branch in branches {
                    all.push(self.body(branch, known, registers)?);
                }
                Literal::Or(all)
            }
        })
    }
}

/// The registers of a rule, by variable.
#[derive(Default)]
struct Registers(HashMap<VarId, usize>);

impl Registers {
    fn register(&mut self, var: VarId) -> usize {
        let next = self.0.len();
        *self.0.entry(var).or_insert(next)
    }

    fn cell(&mut self, slot: &Slot) -> Cell {
        match slot {
            Slot::Var(var) => Cell::Register(self.register(*var)),
            Slot::Constant(term) => Cell::Constant(term.clone()),
            Slot::Blank => Cell::Blank,
        }
    }

    /// A target whose variables are registers.
    fn target(&mut self, target: &Target) -> Target {
        match target {
            Target::Ignore => Target::Ignore,
            Target::Var(var) => {
                let register = self.register(*var);
                Target::Var(VarId(u32::try_from(register).unwrap_or(u32::MAX)))
            }
            Target::Tuple(parts) => {
                Target::Tuple(parts.iter().map(|part| self.target(part)).collect())
            }
            Target::Each(part) => Target::Each(Box::new(self.target(part))),
        }
    }
}
