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

mod infer;
mod magic;
mod order;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::common::{DFSchema, Result, plan_err};
use datafusion::logical_expr::{Extension, LogicalPlan, LogicalPlanBuilder};

use super::FixpointNode;
use super::program::{Derived, Input, Probe, Program, Seeds};
use crate::bound::{AttributeSlot, CallGoal, FactGoal, Goal, Slot, Target, VarId};
use crate::column::{ColumnType, Kinds};
use crate::lower::{Lowering, Relation};
use crate::plan_source::QuerySource;
use crate::span::Span;
use crate::term::Term;

/// Rules that one rule may be multiplied out into.
const ALTERNATIVES_MAX: usize = 1000;

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

impl Lowering<'_> {
    /// The relation of a call of a recursive rule, joined with what is around it.
    pub(crate) fn rule(
        &self,
        current: Option<Relation>,
        program: usize,
        predicate: usize,
        arguments: &[Slot],
    ) -> Result<Relation> {
        let arguments: Vec<Slot> = arguments.iter().map(|slot| self.slot(slot)).collect();
        let bound: Vec<bool> = arguments
            .iter()
            .map(|slot| match slot {
                Slot::Constant(_) => true,
                Slot::Var(var) => current.as_ref().is_some_and(|current| current.has(*var)),
                Slot::Blank => false,
            })
            .collect();
        let seeded = bound.iter().any(|bound| *bound);
        let needs_current = arguments
            .iter()
            .zip(&bound)
            .any(|(slot, bound)| *bound && slot.var().is_some());
        let current = if needs_current {
            current.map(Self::share)
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
        let fixpoint = Self::fixpoint(compiled.0, plans)?;
        let relation = Self::called(fixpoint.0, &fixpoint.1, &arguments)?;
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
            _ => Self::unit()?,
        };
        let mut expressions = Vec::with_capacity(slots.len());
        let mut types = Vec::with_capacity(slots.len());
        for (at, slot) in slots.iter().enumerate() {
            let (column_type, expression) = match slot {
                Slot::Constant(term) => self.constant_column(VarId(u32::MAX), term),
                Slot::Var(var) => {
                    let column_type = base.column(*var).unwrap_or(ColumnType::new(Kinds::ANY));
                    (
                        column_type,
                        crate::lower::column(crate::lower::name_of(*var)),
                    )
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
                    choices
                        .iter()
                        .map(move |choice| before.iter().chain(choice).cloned().collect::<Vec<_>>())
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
                    Target::Var(var) => {
                        Lit::Same(self.lowering.slot(&Slot::Var(*var)), Slot::Var(value))
                    }
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
            && matches!(
                &fact.added,
                Slot::Blank | Slot::Constant(Term::Boolean(true))
            );
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
            v_entity: None,
            tx: Slot::Blank,
            added: Slot::Blank,
            span: Span::default(),
        });
        let relation = self.lowering.single_relation(&goal)?;
        let counts = &self.lowering.context.counts.facts;
        let probe = match &self.lowering.context.sources[source.0 as usize] {
            // A history has facts that no longer hold: its pattern knows which are meant.
            QuerySource::Database(database) if database.is_history() => None,
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
            let factoring = self.lowering.context.optimizations.factoring;
            let factored = factoring.then(|| self.factored(answer, bound)).flatten();
            let (relation, kept, copies) = if let Some(relation) = factored {
                (Some(relation), bound.to_vec(), 2)
            } else {
                let (relation, kept) = self.magic(answer, bound)?;
                (relation, kept, 1)
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
