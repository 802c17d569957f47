//! A call of a recursive rule becomes a [`Program`].
//!
//! What is bound at the call is not filtered for afterwards but reaches the rules:
//!
//! - **Magic.** Every predicate gets a relation of the values that somebody asks it for, and its rules
//!   begin with those. `(ancestor "Ada" ?x)` asks for Ada, then for her parents, and so on.
//! - **Right-linear rules** (the last literal is the rule itself, and hands its free arguments on as they
//!   are) ask without remembering what for: magic alone would derive every pair on the way. They become
//!   *left*-linear: pairs of a seed and a value that it reaches, whose exits are the seed's answers. A
//!   chain from one node costs its length, not the square of it.
//!
//! An `or` around a recursive call is multiplied out, so that every rule is a conjunction.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::common::{DFSchema, Result, plan_err};
use datafusion::logical_expr::{Extension, LogicalPlan, LogicalPlanBuilder};

use super::FixpointNode;
use super::program::{
    Atom, Call, Cell, Derived, Input, Literal, Probe, Program, RelationId, Rule, Seeds, Variant,
};
use crate::bound::{AttributeSlot, CallGoal, FactGoal, Goal, Slot, Target, VarId};
use crate::column::{ColumnType, Kinds};
use crate::lower::{Lowering, Relation};
use crate::plan_source::QuerySource;
use crate::span::Span;
use crate::term::Term;

/// Rules that one rule may be multiplied out into.
const ALTERNATIVES_MAX: usize = 1000;

/// Rows of the relation around a call that still make good seeds.
const SEEDS_MAX: f64 = 10_000.0;

/// Something that must hold, over the variables of the query.
#[derive(Clone, Debug)]
enum Lit<'q> {
    Derived(usize, Vec<Slot>),
    Input(usize, Vec<Slot>),
    Call(&'q CallGoal),
    Bind(Term, Target, Span),
    Same(Slot, Slot),
    Not(Vec<VarId>, Vec<Lit<'q>>),
    Or(Vec<Vec<Lit<'q>>>),
}

/// A conjunction with a head.
#[derive(Clone, Debug)]
struct Clause<'q> {
    head: usize,
    arguments: Vec<Slot>,
    body: Vec<Lit<'q>>,
}

/// What is being compiled.
struct Compiler<'l, 'q> {
    lowering: &'l Lowering<'q>,
    /// The place of each predicate among the derived relations.
    places: HashMap<(usize, usize), usize>,
    derived: Vec<Derived>,
    required: Vec<Vec<bool>>,
    clauses: Vec<Clause<'q>>,
    inputs: Vec<Input>,
    plans: Vec<LogicalPlan>,
    /// Inputs that hold an attribute's facts.
    attributes: BTreeMap<(u32, i64), usize>,
}

impl<'q> Lowering<'q> {
    /// The relation of a call of a recursive rule, joined with what is around it.
    pub(crate) fn rule(
        &self,
        current: Option<Relation>,
        program: usize,
        predicate: usize,
        arguments: &[Slot],
    ) -> Result<Relation> {
        let arguments: Vec<Slot> = arguments.iter().map(|slot| self.slot(slot)).collect();
        let required = &self.query.programs[program].predicates[predicate].required;
        let small = current
            .as_ref()
            .is_some_and(|current| current.rows <= SEEDS_MAX);
        let bound: Vec<bool> = arguments
            .iter()
            .zip(required)
            .map(|(slot, required)| match slot {
                Slot::Constant(_) => true,
                Slot::Var(var) => {
                    let known = current.as_ref().is_some_and(|current| current.has(*var));
                    known && (small || *required)
                }
                Slot::Blank => false,
            })
            .collect();
        let seeded = bound.iter().any(|bound| *bound);
        let needs_current = arguments
            .iter()
            .zip(&bound)
            .any(|(slot, bound)| *bound && slot.var().is_some());
        let current = if needs_current {
            current.map(|current| self.share(current))
        } else {
            current
        };
        let mut plans = Vec::new();
        let mut seed_types = Vec::new();
        if seeded {
            let (plan, types) = self.seeds(current.as_ref(), &arguments, &bound)?;
            plans.push(plan);
            seed_types = types;
        }
        let mut compiler = Compiler::new(self);
        let answer = compiler.predicate(program, predicate)?;
        let compiled = compiler.finish(answer, &bound, seed_types)?;
        plans.extend(compiled.1);
        let fixpoint = self.fixpoint(compiled.0, plans)?;
        let relation = self.called(fixpoint.0, &fixpoint.1, &arguments)?;
        match current {
            Some(current) => self.join(current, relation),
            None => Ok(relation),
        }
    }

    /// The distinct values of the bound arguments.
    fn seeds(
        &self,
        current: Option<&Relation>,
        arguments: &[Slot],
        bound: &[bool],
    ) -> Result<(LogicalPlan, Vec<ColumnType>)> {
        let mut vars: Vec<VarId> = Vec::new();
        let bound_slots = arguments.iter().zip(bound).filter(|(_, bound)| **bound);
        let slots: Vec<&Slot> = bound_slots.map(|(slot, _)| slot).collect();
        for var in slots.iter().filter_map(|slot| slot.var()) {
            if !vars.contains(&var) {
                vars.push(var);
            }
        }
        let base = match current {
            Some(current) if !vars.is_empty() => self.seed(current, &vars)?,
            _ => self.unit()?,
        };
        let mut expressions = Vec::with_capacity(slots.len());
        let mut types = Vec::with_capacity(slots.len());
        for (at, slot) in slots.iter().enumerate() {
            let (column_type, expression) = match slot {
                Slot::Constant(term) => self.constant_column(VarId(u32::MAX), term),
                Slot::Var(var) => {
                    let column_type = base.column(*var).unwrap_or(ColumnType::new(Kinds::ANY));
                    (column_type, crate::lower::column(crate::lower::name_of(*var)))
                }
                Slot::Blank => return plan_err!("a blank cannot be bound"),
            };
            expressions.push(expression.alias(format!("s{at}")));
            types.push(column_type);
        }
        let plan = LogicalPlanBuilder::from(base.plan)
            .project(expressions)?
            .build()?;
        Ok((plan, types))
    }

    /// The node, and the types of its columns `c0`, `c1` and so on.
    fn fixpoint(
        &self,
        program: Program,
        plans: Vec<LogicalPlan>,
    ) -> Result<(LogicalPlan, Vec<ColumnType>)> {
        let columns = program.columns.clone();
        let fields: Vec<Field> = columns
            .iter()
            .enumerate()
            .map(|(at, column)| Field::new(format!("c{at}"), column.repr().data_type(), false))
            .collect();
        let schema = Arc::new(DFSchema::try_from(Schema::new(fields))?);
        let node = FixpointNode::new(program, plans, schema);
        let plan = LogicalPlan::Extension(Extension {
            node: Arc::new(node),
        });
        Ok((plan, columns))
    }
}

impl<'l, 'q> Compiler<'l, 'q> {
    fn new(lowering: &'l Lowering<'q>) -> Self {
        Self {
            lowering,
            places: HashMap::new(),
            derived: Vec::new(),
            required: Vec::new(),
            clauses: Vec::new(),
            inputs: Vec::new(),
            plans: Vec::new(),
            attributes: BTreeMap::new(),
        }
    }

    /// The derived relation of a predicate; its rules are compiled when it is met first.
    fn predicate(&mut self, program: usize, predicate: usize) -> Result<usize> {
        if let Some(&known) = self.places.get(&(program, predicate)) {
            return Ok(known);
        }
        let query = self.lowering.query;
        let rule = &query.programs[program].predicates[predicate];
        let place = self.derived.len();
        self.places.insert((program, predicate), place);
        self.derived.push(Derived {
            name: Arc::clone(&rule.name),
            arity: rule.arity,
        });
        self.required.push(rule.required.clone());
        for branch in &rule.branches {
            for body in self.alternatives(&branch.goals)? {
                self.clauses.push(Clause {
                    head: place,
                    arguments: branch
                        .head
                        .iter()
                        .map(|slot| self.lowering.slot(slot))
                        .collect(),
                    body,
                });
            }
        }
        Ok(place)
    }

    /// A conjunction as alternatives, none of which has a recursive call inside an `or`.
    fn alternatives(&mut self, goals: &'q [Goal]) -> Result<Vec<Vec<Lit<'q>>>> {
        let mut all: Vec<Vec<Lit<'q>>> = vec![Vec::new()];
        for goal in goals {
            let choices = self.goal(goal)?;
            if all.len() * choices.len() > ALTERNATIVES_MAX {
                return plan_err!(
                    "a recursive rule has more than {ALTERNATIVES_MAX} combinations of or branches"
                );
            }
            all = all
                .iter()
                .flat_map(|before| {
                    choices.iter().map(move |choice| {
                        before.iter().chain(choice).cloned().collect::<Vec<_>>()
                    })
                })
                .collect();
        }
        Ok(all)
    }

    /// A goal as alternatives.
    fn goal(&mut self, goal: &'q Goal) -> Result<Vec<Vec<Lit<'q>>>> {
        let one = |lit: Lit<'q>| vec![vec![lit]];
        Ok(match goal {
            Goal::Fact(fact) => one(self.fact(fact, goal)?),
            Goal::Tuple { .. } | Goal::Rows(_) => one(self.given(goal)?),
            Goal::Call(call) => one(Lit::Call(call)),
            Goal::Same(left, right) => one(Lit::Same(
                self.lowering.slot(left),
                self.lowering.slot(right),
            )),
            Goal::GetElse {
                source,
                entity,
                attribute,
                default,
                binding,
                span,
            } => {
                let otherwise = Lit::Bind(default.clone(), binding.clone(), *span);
                let Some(attribute) = attribute else {
                    return Ok(one(otherwise));
                };
                let value = self.lowering.temporary();
                let input = self.attribute(*source, attribute)?;
                let entity = self.lowering.slot(entity);
                let there = Lit::Input(input, vec![entity.clone(), Slot::Var(value)]);
                let absent = Lit::Not(
                    entity.var().into_iter().collect(),
                    vec![Lit::Input(input, vec![entity, Slot::Blank])],
                );
                let bound = match binding {
                    Target::Var(var) => Lit::Same(self.lowering.slot(&Slot::Var(*var)), Slot::Var(value)),
                    _ => {
                        return plan_err!("get-else in a recursive rule binds one variable");
                    }
                };
                one(Lit::Or(vec![vec![there, bound], vec![absent, otherwise]]))
            }
            Goal::Not { join, goals, .. } => {
                let inside = self.alternatives(goals)?;
                let derived = inside.iter().flatten().any(has_derived);
                if derived {
                    return plan_err!("a recursive rule is negated within its own group");
                }
                let not = inside.into_iter().map(|lits| Lit::Not(join.clone(), lits));
                vec![not.collect()]
            }
            Goal::Or { branches, .. } => {
                let mut all = Vec::new();
                for branch in branches {
                    all.extend(self.alternatives(branch)?);
                }
                if all.iter().flatten().any(has_derived) {
                    all
                } else {
                    one(Lit::Or(all))
                }
            }
            Goal::Rule {
                program,
                predicate,
                arguments,
                ..
            } => {
                let place = self.predicate(*program, *predicate)?;
                let slots = arguments.iter().map(|slot| self.lowering.slot(slot));
                one(Lit::Derived(place, slots.collect()))
            }
            Goal::Nested(_) => return plan_err!("a nested query has not been run"),
        })
    }

    fn fact(&mut self, fact: &'q FactGoal, goal: &'q Goal) -> Result<Lit<'q>> {
        let plain = matches!(fact.tx, Slot::Blank)
            && matches!(&fact.added, Slot::Blank | Slot::Constant(Term::Boolean(true)));
        let history = match &self.lowering.context.sources[fact.source.0 as usize] {
            QuerySource::Database(database) => database.is_history(),
            QuerySource::Collection(_) => true,
        };
        if let (AttributeSlot::Known(attribute), true, false) = (&fact.a, plain, history) {
            let input = self.attribute(fact.source, attribute)?;
            let slots = [&fact.e, &fact.v].map(|slot| self.lowering.slot(slot));
            return Ok(Lit::Input(input, slots.to_vec()));
        }
        self.given(goal)
    }

    /// The input of an attribute's facts.
    fn attribute(
        &mut self,
        source: crate::bound::SourceId,
        attribute: &crate::source::AttributeFacts,
    ) -> Result<usize> {
        let key = (source.0, attribute.id);
        if let Some(&known) = self.attributes.get(&key) {
            return Ok(known);
        }
        let (e, v) = (self.lowering.temporary(), self.lowering.temporary());
        let goal = Goal::Fact(FactGoal {
            source,
            e: Slot::Var(e),
            a: AttributeSlot::Known(attribute.clone()),
            v: Slot::Var(v),
            tx: Slot::Blank,
            added: Slot::Blank,
            span: Span::default(),
        });
        let relation = self.lowering.single_relation(&goal)?;
        let counts = &self.lowering.context.counts.facts;
        let probe = match &self.lowering.context.sources[source.0 as usize] {
            QuerySource::Database(database) => Some(Probe {
                source: Arc::clone(database),
                attribute: attribute.id,
                by_value: attribute.value_type == crate::source::TermType::Ref,
                rows: counts
                    .get(&(source, Some(attribute.id), None))
                    .copied()
                    .unwrap_or(0),
            }),
            QuerySource::Collection(_) => None,
        };
        let input = self.input(&relation, &[e, v], probe)?;
        self.attributes.insert(key, input);
        Ok(input)
    }

    /// A goal whose plan knows its constants: an input over its variables.
    fn given(&mut self, goal: &Goal) -> Result<Lit<'q>> {
        let relation = self.lowering.single_relation(goal)?;
        let vars: Vec<VarId> = relation.columns.iter().map(|(var, _)| *var).collect();
        let input = self.input(&relation, &vars, None)?;
        Ok(Lit::Input(input, vars.into_iter().map(Slot::Var).collect()))
    }

    fn input(
        &mut self,
        relation: &Relation,
        vars: &[VarId],
        probe: Option<Probe>,
    ) -> Result<usize> {
        let kept = self.lowering.keep(relation, vars)?;
        self.inputs.push(Input {
            columns: kept.columns.iter().map(|(_, column)| *column).collect(),
            probe,
        });
        // A plan without columns still has rows.
        self.plans.push(kept.plan);
        Ok(self.inputs.len() - 1)
    }

    /// Puts the program together: what is bound reaches the rules.
    fn finish(
        mut self,
        answer: usize,
        bound: &[bool],
        seed_types: Vec<ColumnType>,
    ) -> Result<(Program, Vec<LogicalPlan>)> {
        let mut seeds = None;
        if bound.iter().any(|bound| *bound) {
            let factored = self.factored(answer, bound);
            let (relation, kept, copies) = match factored {
                Some(relation) => (Some(relation), bound.to_vec(), 2),
                None => {
                    let (relation, kept) = self.magic(answer, bound)?;
                    (relation, kept, 1)
                }
            };
            // The rules may hand on less than the call binds.
            let columns = bound.iter().zip(&kept).filter(|(bound, _)| **bound);
            let columns = columns.enumerate().filter(|(_, (_, kept))| **kept);
            seeds = Some(Seeds {
                relation,
                places: columns.map(|(at, _)| at).collect(),
                columns: seed_types,
                copies,
            });
        } else {
            let unbound = self.required.iter().flatten().any(|required| *required);
            if unbound {
                let free = vec![false; self.derived[answer].arity];
                self.magic(answer, &free)?;
            }
        }
        let types = self.types(seeds.as_ref());
        let mut rules = Vec::with_capacity(self.clauses.len());
        for clause in &self.clauses {
            rules.push(self.rule(clause)?);
        }
        let program = Program {
            columns: types[answer].clone(),
            derived: self.derived,
            inputs: self.inputs,
            seeds,
            rules,
            answer,
        };
        Ok((program, self.plans))
    }

    /// Left-linear rules in place of right-linear ones; the relation of the seeds, if that is what the
    /// rules are.
    fn factored(&mut self, answer: usize, bound: &[bool]) -> Option<usize> {
        let calls_others = self
            .clauses
            .iter()
            .flat_map(|clause| &clause.body)
            .any(|lit| matches!(lit, Lit::Derived(place, _) if *place != answer));
        if calls_others || self.derived.len() != 1 {
            return None;
        }
        for clause in &self.clauses {
            let mut calls = clause.body.iter().filter_map(|lit| match lit {
                Lit::Derived(_, slots) => Some(slots),
                _ => None,
            });
            let Some(call) = calls.next() else { continue };
            if calls.next().is_some() {
                return None;
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
            let handed_on = places().filter(|(_, bound)| !**bound).all(|((head, call), _)| {
                head == call
                    && head.var().is_some_and(|var| {
                        !others.contains(&var) && !bound_vars.contains(&var)
                    })
            });
            let distinct = free.iter().collect::<HashSet<_>>().len() == free.len();
            if !handed_on || !distinct {
                return None;
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
            self.order(&rest, &known).ok()?;
            known.extend(others);
            let asks = pick(call, bound);
            if !asks.iter().filter_map(Slot::var).all(|var| known.contains(&var)) {
                return None;
            }
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
            let call = clause.body.iter().position(|lit| matches!(lit, Lit::Derived(..)));
            match call.map(|at| clause.body.remove(at)) {
                Some(Lit::Derived(_, slots)) => {
                    let next = pick(&slots, bound);
                    clause.body.insert(0, begin);
                    self.clauses.push(Clause {
                        head: reached,
                        arguments: from.into_iter().chain(next).collect(),
                        body: clause.body,
                    });
                }
                _ => {
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
        }
        Some(reached)
    }

    /// Rules that derive only what is asked for; the relation of what is asked of the answer, unless
    /// every rule must ask for all of it, and by which parameters one can ask.
    fn magic(&mut self, answer: usize, bound: &[bool]) -> Result<(Option<usize>, Vec<bool>)> {
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
            if required.iter().zip(own).any(|(required, bound)| *required && !bound) {
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

    /// The types of the columns of derived relations.
    fn types(&self, seeds: Option<&Seeds>) -> Vec<Vec<ColumnType>> {
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

    fn infer(
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
                let kinds: Vec<Kinds> = call
                    .arguments
                    .iter()
                    .map(|slot| match slot {
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
                    })
                    .collect();
                match &call.binding {
                    Some(Target::Var(var)) => {
                        let kinds = crate::lower::result_kinds(&call.name, &kinds);
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

    /// The order in which a body runs when some variables are known.
    fn order(&self, body: &[Lit<'q>], known: &HashSet<VarId>) -> Result<Vec<usize>> {
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

    // Registers.

    fn rule(&self, clause: &Clause<'q>) -> Result<Rule> {
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
                        _ => crate::lower::Attributes::Ids,
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
                    arguments: vec![(
                        Cell::Constant(term.clone()),
                        crate::lower::Attributes::Ids,
                    )],
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

fn has_derived(lit: &Lit<'_>) -> bool {
    match lit {
        Lit::Derived(..) => true,
        Lit::Not(_, inside) => inside.iter().any(has_derived),
        Lit::Or(branches) => branches.iter().flatten().any(has_derived),
        _ => false,
    }
}

/// The variables that a literal binds or needs; those inside a negation are its own.
fn vars_of(lit: &Lit<'_>) -> HashSet<VarId> {
    match lit {
        Lit::Derived(_, slots) | Lit::Input(_, slots) => {
            slots.iter().filter_map(Slot::var).collect()
        }
        Lit::Call(call) => {
            let bound = call.binding.iter().flat_map(Target::vars);
            call.arguments
                .iter()
                .filter_map(Slot::var)
                .chain(bound)
                .collect()
        }
        Lit::Bind(_, target, _) => target.vars().into_iter().collect(),
        Lit::Same(left, right) => left.var().into_iter().chain(right.var()).collect(),
        Lit::Not(join, _) => join.iter().copied().collect(),
        Lit::Or(branches) => branches.iter().flatten().flat_map(vars_of).collect(),
    }
}

/// The variables of the bound arguments of a head.
fn known_at(arguments: &[Slot], bound: &[bool]) -> HashSet<VarId> {
    let bound = arguments.iter().zip(bound).filter(|(_, bound)| **bound);
    bound.filter_map(|(slot, _)| slot.var()).collect()
}

/// The bound arguments.
fn pick(arguments: &[Slot], bound: &[bool]) -> Vec<Slot> {
    let bound = arguments.iter().zip(bound).filter(|(_, bound)| **bound);
    bound.map(|(slot, _)| slot.clone()).collect()
}

