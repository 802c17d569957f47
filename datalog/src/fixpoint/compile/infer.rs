//! The types of what rules derive: the least that hold what their bodies bind.

use std::collections::HashMap;

use super::{Compiler, Lit};
use crate::bound::{Slot, Target, VarId};
use crate::column::{ColumnType, Kinds};
use crate::fixpoint::program::Seeds;
use crate::lower::result_kinds;

impl<'q> Compiler<'_, 'q> {
    /// The types of the columns of derived relations.
    pub(super) fn types(&self, seeds: Option<&Seeds>) -> Vec<Vec<ColumnType>> {
        let none = ColumnType::new(Kinds::NONE);
        let mut types: Vec<Vec<ColumnType>> = self
            .derived
            .iter()
            .map(|derived| vec![none; derived.arity])
            .collect();
        if let Some((seeds, relation)) = seeds.and_then(|seeds| Some((seeds, seeds.relation?))) {
            for (at, column) in types[relation].iter_mut().enumerate() {
                *column = seeds.columns[seeds.places[at % seeds.places.len()]];
            }
        }
        loop {
            let before = types.clone();
            for clause in &self.clauses {
                let mut vars = HashMap::new();
                // Twice, so that what is bound late is seen by what stands early.
                for _ in 0..2 {
                    for lit in &clause.body {
                        self.infer(lit, &types, &mut vars);
                    }
                }
                for (at, slot) in clause.arguments.iter().enumerate() {
                    let own = match slot {
                        Slot::Constant(term) => ColumnType::new(Kinds::of_term(term)),
                        Slot::Var(var) => vars.get(var).copied().unwrap_or(none),
                        Slot::Blank => ColumnType::new(Kinds::ANY),
                    };
                    let column = &mut types[clause.head][at];
                    *column = column.or(own);
                }
            }
            if types == before {
                return types;
            }
        }
    }

    pub(super) fn infer(
        &self,
        lit: &Lit<'q>,
        types: &[Vec<ColumnType>],
        vars: &mut HashMap<VarId, ColumnType>,
    ) {
        let mut meet = |slot: &Slot, column: ColumnType| {
            if let Slot::Var(var) = slot {
                vars.entry(*var)
                    .and_modify(|known| {
                        *known = if known.kinds.is_empty() {
                            column
                        } else {
                            known.joined(column)
                        };
                    })
                    .or_insert(column);
            }
        };
        match lit {
            Lit::Derived(place, slots) => {
                for (slot, column) in slots.iter().zip(&types[*place]) {
                    meet(slot, *column);
                }
            }
            Lit::Input(input, slots) => {
                for (slot, column) in slots.iter().zip(&self.inputs[*input].columns) {
                    meet(slot, *column);
                }
            }
            Lit::Call(call) => {
                let kinds = self.kinds(&call.arguments, vars);
                match &call.binding {
                    Some(Target::Var(var)) => {
                        let kinds = result_kinds(&call.name, &kinds);
                        vars.entry(*var)
                            .and_modify(|known| {
                                if known.kinds.is_empty() {
                                    known.kinds = kinds;
                                }
                            })
                            .or_insert(ColumnType::new(kinds));
                    }
                    Some(target) => {
                        for var in target.vars() {
                            vars.entry(var).or_insert(ColumnType::new(Kinds::ANY));
                        }
                    }
                    None => {}
                }
            }
            Lit::Bind(term, target, _) => {
                for var in target.vars() {
                    let kinds = match target {
                        Target::Var(_) => Kinds::of_term(term),
                        _ => Kinds::ANY,
                    };
                    vars.entry(var)
                        .and_modify(|known| known.kinds = known.kinds.or(kinds))
                        .or_insert(ColumnType::new(kinds));
                }
            }
            Lit::Same(left, right) => {
                let known = |slot: &Slot, vars: &HashMap<VarId, ColumnType>| match slot {
                    Slot::Var(var) => vars.get(var).copied(),
                    Slot::Constant(term) => Some(ColumnType::new(Kinds::of_term(term))),
                    Slot::Blank => None,
                };
                for (to, from) in [(left, right), (right, left)] {
                    if let (Slot::Var(var), Some(column)) = (to, known(from, vars)) {
                        vars.entry(*var).or_insert(column);
                    }
                }
            }
            Lit::Not(..) => {}
            Lit::Or(branches) => {
                let mut union: HashMap<VarId, ColumnType> = HashMap::new();
                for branch in branches {
                    let mut own = vars.clone();
                    for _ in 0..2 {
                        for lit in branch {
                            self.infer(lit, types, &mut own);
                        }
                    }
                    for (var, column) in own {
                        union
                            .entry(var)
                            .and_modify(|known| *known = known.or(column))
                            .or_insert(column);
                    }
                }
                for (var, column) in union {
                    vars.entry(var).or_insert(column);
                }
            }
        }
    }

    /// What arguments can be; a function sees attributes as their idents.
    fn kinds(&self, arguments: &[Slot], vars: &HashMap<VarId, ColumnType>) -> Vec<Kinds> {
        let of = |slot: &Slot| match slot {
            Slot::Var(var) => match vars.get(var) {
                Some(column) if column.attribute_of.is_none() => column.kinds,
                Some(_) => Kinds::ANY,
                None => self
                    .lowering
                    .constant(*var)
                    .map_or(Kinds::NONE, Kinds::of_term),
            },
            Slot::Constant(term) => Kinds::of_term(term),
            Slot::Blank => Kinds::ANY,
        };
        arguments.iter().map(of).collect()
    }
}
