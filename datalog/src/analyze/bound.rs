//! A query whose names are gone: variables are numbers, rules are expanded, constants are resolved.
//!
//! An ident that nobody knows, or a rule that is not there, cannot be written here.

use std::sync::Arc;

use crate::ast::FindSpec;
use crate::functions::Function;
use crate::source::AttributeFacts;
use crate::span::Span;
use crate::term::Term;

/// A variable of the whole query. Variables of one name in two scopes are two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VarId(pub u32);

/// A source of the query, by its place in the sources that the host hands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u32);

/// What is known of a variable.
#[derive(Clone, Debug, Default)]
pub struct VarInfo {
    /// Its name, for messages.
    pub name: Arc<str>,
    /// Its only value, if it has but one.
    pub constant: Option<Term>,
    /// It stands for an entity of this source, so idents and lookup refs mean entities.
    pub entity_of: Option<SourceId>,
    /// It stands for an attribute of this source.
    pub attribute_of: Option<SourceId>,
}

impl VarInfo {
    /// Notes that it stands for an entity; answers whether that was news. The first source of `:in` stays,
    /// so that the order of clauses does not matter.
    pub(crate) fn note_entity_of(&mut self, source: SourceId) -> bool {
        note(&mut self.entity_of, source)
    }

    /// Notes that it stands for an attribute, likewise.
    pub(crate) fn note_attribute_of(&mut self, source: SourceId) -> bool {
        note(&mut self.attribute_of, source)
    }
}

fn note(known: &mut Option<SourceId>, source: SourceId) -> bool {
    let news = known.is_none_or(|known| source < known);
    if news {
        *known = Some(source);
    }
    news
}

/// A component of a pattern or an argument.
#[derive(Clone, Debug, PartialEq)]
pub enum Slot {
    /// A variable.
    Var(VarId),
    /// Anything.
    Blank,
    /// One value.
    Constant(Term),
}

impl Slot {
    /// The variable, if it is one.
    pub fn var(&self) -> Option<VarId> {
        match self {
            Self::Var(var) => Some(*var),
            _ => None,
        }
    }

    /// The constant, if it is one.
    pub fn constant(&self) -> Option<&Term> {
        match self {
            Self::Constant(term) => Some(term),
            _ => None,
        }
    }
}

/// Something that must hold.
#[derive(Clone, Debug)]
pub enum Goal {
    /// A fact of a database.
    Fact(FactGoal),
    /// A tuple of a collection, at least as wide as the slots.
    Tuple {
        /// The collection.
        source: SourceId,
        /// Its places from the left.
        slots: Vec<Slot>,
    },
    /// Rows that are given.
    Rows(RowsGoal),
    /// A call of a function.
    Call(CallGoal),
    /// The value of an attribute, or a default.
    GetElse {
        /// The database.
        source: SourceId,
        /// The entity.
        entity: Slot,
        /// The attribute; absent if the database has none of that name.
        attribute: Option<AttributeFacts>,
        /// What is answered without a value.
        default: Term,
        /// What the answer is bound to.
        binding: Target,
        /// Where it stands.
        span: Span,
    },
    /// Two slots are the same value.
    Same(Slot, Slot),
    /// What must not hold. Variables outside `join` are local.
    Not {
        /// Variables shared with the outside.
        join: Vec<VarId>,
        /// Together.
        goals: Vec<Goal>,
        /// Where it stands.
        span: Span,
    },
    /// At least one branch holds. Variables outside `required` and `free` are local to their branch.
    Or {
        /// Variables that must be bound before.
        required: Vec<VarId>,
        /// Variables that every branch binds, or that are bound before.
        free: Vec<VarId>,
        /// Conjunctions.
        branches: Vec<Vec<Goal>>,
        /// Where it stands.
        span: Span,
    },
    /// A query within the query; replaced by its rows before lowering.
    Nested(NestedGoal),
    /// A call of a recursive rule.
    Rule {
        /// The program, by its place in [`BoundQuery::programs`].
        program: usize,
        /// The predicate within it.
        predicate: usize,
        /// As many as it has parameters.
        arguments: Vec<Slot>,
        /// Where it stands.
        span: Span,
    },
}

impl Goal {
    /// Calls `visit` with every variable that is mentioned, at any depth.
    pub fn visit_vars(&self, visit: &mut dyn FnMut(VarId)) {
        let mut slot = |slot: &Slot| {
            if let Slot::Var(var) = slot {
                visit(*var);
            }
        };
        match self {
            Self::Fact(fact) => {
                [&fact.e, &fact.v, &fact.tx, &fact.added]
                    .into_iter()
                    .for_each(&mut slot);
                if let AttributeSlot::Var(var) = fact.a {
                    visit(var);
                }
            }
            Self::Tuple { slots, .. } => slots.iter().for_each(slot),
            Self::Rows(rows) => rows.vars.iter().copied().for_each(visit),
            Self::Call(call) => {
                call.arguments.iter().for_each(slot);
                let bound = call.binding.iter().flat_map(Target::vars);
                bound.for_each(visit);
            }
            Self::GetElse {
                entity, binding, ..
            } => {
                slot(entity);
                binding.vars().into_iter().for_each(visit);
            }
            Self::Same(left, right) => [left, right].into_iter().for_each(slot),
            Self::Not { goals, join, .. } => {
                join.iter().copied().for_each(&mut *visit);
                for goal in goals {
                    goal.visit_vars(visit);
                }
            }
            Self::Or {
                required,
                free,
                branches,
                ..
            } => {
                required.iter().chain(free).copied().for_each(&mut *visit);
                for goal in branches.iter().flatten() {
                    goal.visit_vars(visit);
                }
            }
            Self::Nested(nested) => {
                nested.arguments.iter().for_each(&mut slot);
                let bound = nested.binding.iter().flat_map(Target::vars);
                bound.for_each(visit);
            }
            Self::Rule { arguments, .. } => arguments.iter().for_each(slot),
        }
    }
}

/// A query within a query.
#[derive(Clone, Debug)]
pub struct NestedGoal {
    /// The query.
    pub query: Arc<crate::ast::Query>,
    /// Its sources, in the order of its `:in`.
    pub sources: Vec<SourceId>,
    /// Its other inputs; never blank.
    pub arguments: Vec<Slot>,
    /// What its answer is bound to.
    pub binding: Option<Target>,
    /// Where it stands.
    pub span: Span,
    /// Whether the span points into the rules rather than the query.
    pub in_rules: bool,
}

/// A pattern over the facts of a database.
#[derive(Clone, Debug)]
pub struct FactGoal {
    /// The database.
    pub source: SourceId,
    /// The entity.
    pub e: Slot,
    /// The attribute.
    pub a: AttributeSlot,
    /// The value.
    pub v: Slot,
    /// The entity that the value names where the attribute, which is not known, is a reference.
    pub v_entity: Option<i64>,
    /// The transaction.
    pub tx: Slot,
    /// Whether it was asserted.
    pub added: Slot,
    /// Where it stands.
    pub span: Span,
}

/// The attribute of a pattern.
#[derive(Clone, Debug)]
pub enum AttributeSlot {
    /// A variable, bound to the attribute's entity id.
    Var(VarId),
    /// Any attribute.
    Blank,
    /// An attribute that the database has.
    Known(AttributeFacts),
    /// A name that the database does not know: nothing matches.
    Unknown,
}

/// Given rows over some variables.
#[derive(Clone, Debug)]
pub struct RowsGoal {
    /// The columns.
    pub vars: Vec<VarId>,
    /// The rows, each as long as `vars`.
    pub rows: Arc<Vec<Vec<Term>>>,
}

impl RowsGoal {
    /// Rows over variables.
    pub fn new(vars: Vec<VarId>, rows: Vec<Vec<Term>>) -> Self {
        Self {
            vars,
            rows: Arc::new(rows),
        }
    }

    /// No row: nothing can hold.
    pub fn nothing() -> Self {
        Self::new(Vec::new(), Vec::new())
    }
}

/// A call of a function of terms.
#[derive(Clone, Debug)]
pub struct CallGoal {
    /// The name, for messages and for what the planner knows of it.
    pub name: Arc<str>,
    /// The function.
    pub function: Function,
    /// With what; never blank.
    pub arguments: Vec<Slot>,
    /// What the answer is bound to; a predicate must answer true.
    pub binding: Option<Target>,
    /// Where it stands.
    pub span: Span,
    /// Whether the span points into the rules rather than the query.
    pub in_rules: bool,
}

#[cfg(feature = "plan")]
impl CallGoal {
    /// The variable of a predicate that has one alone, and always answers the same of the same.
    pub(crate) fn only_var(&self) -> Option<VarId> {
        let mut vars = self.arguments.iter().filter_map(Slot::var);
        let first = vars.next()?;
        let decides = self.binding.is_none() && self.function.is_deterministic;
        (decides && vars.all(|var| var == first)).then_some(first)
    }
}

/// What an answer is taken apart into.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// Dropped.
    Ignore,
    /// Bound to a variable.
    Var(VarId),
    /// The elements of a vector, from the left.
    Tuple(Vec<Target>),
    /// Each element in turn.
    Each(Box<Target>),
}

impl Target {
    /// Its variables.
    pub fn vars(&self) -> Vec<VarId> {
        match self {
            Self::Ignore => Vec::new(),
            Self::Var(var) => vec![*var],
            Self::Tuple(parts) => parts.iter().flat_map(Self::vars).collect(),
            Self::Each(part) => part.vars(),
        }
    }

    /// Takes a term apart: the variables, each once, and the rows over them. Nil binds nothing.
    pub fn take_apart(&self, term: &Term) -> (Vec<VarId>, Vec<Vec<Term>>) {
        let named = self.vars();
        let first = |var: &VarId| named.iter().position(|known| known == var);
        let places: Vec<usize> = (0..named.len())
            .filter(|at| first(&named[*at]) == Some(*at))
            .collect();
        let mut rows = self.parts(term);
        // A variable that occurs twice is the same twice.
        rows.retain(|row| {
            let mut terms = row.iter().zip(&named);
            terms.all(|(term, var)| first(var).is_none_or(|first| row[first] == *term))
        });
        let chosen = |row: &Vec<Term>| places.iter().map(|&at| row[at].clone()).collect();
        let rows = rows.iter().map(chosen).collect();
        (places.iter().map(|&at| named[at]).collect(), rows)
    }

    fn parts(&self, term: &Term) -> Vec<Vec<Term>> {
        if *term == Term::Nil {
            return Vec::new();
        }
        match self {
            Self::Ignore => vec![Vec::new()],
            Self::Var(_) => vec![vec![term.clone()]],
            Self::Tuple(targets) => {
                let Some(elements) = term.elements() else {
                    return Vec::new();
                };
                let mut rows = vec![Vec::new()];
                for (at, target) in targets.iter().enumerate() {
                    if *target == Self::Ignore {
                        continue;
                    }
                    let own = target.parts(elements.get(at).unwrap_or(&Term::Nil));
                    rows = rows
                        .iter()
                        .flat_map(|row: &Vec<Term>| {
                            own.iter()
                                .map(move |more| row.iter().chain(more).cloned().collect())
                        })
                        .collect();
                }
                rows
            }
            Self::Each(target) => {
                let elements = term.elements();
                let elements = elements.iter().flat_map(|all| all.iter());
                elements.flat_map(|element| target.parts(element)).collect()
            }
        }
    }
}

/// Recursive rules that depend on each other.
#[derive(Clone, Debug)]
pub struct Program {
    /// The rules.
    pub predicates: Vec<Predicate>,
}

/// One recursive rule over one default source.
#[derive(Clone, Debug)]
pub struct Predicate {
    /// Its name, for messages.
    pub name: Arc<str>,
    /// Which parameters must be bound at every call.
    pub required: Vec<bool>,
    /// How many parameters there are.
    pub arity: usize,
    /// The alternatives.
    pub branches: Vec<Branch>,
}

/// One alternative of a rule.
#[derive(Clone, Debug)]
pub struct Branch {
    /// A slot a parameter.
    pub head: Vec<Slot>,
    /// What must hold; calls of [`Program::predicates`] are [`Goal::Rule`] of this program.
    pub goals: Vec<Goal>,
}

/// One element of the find spec.
#[derive(Clone, Debug)]
pub enum BoundElement {
    /// A variable.
    Var(VarId),
    /// An aggregate of a variable.
    Aggregate {
        /// The name, for messages and for what the planner knows of it.
        name: Arc<str>,
        /// Leading constants.
        constants: Vec<Term>,
        /// What is aggregated.
        var: VarId,
        /// Where it stands.
        span: Span,
    },
    /// An entity to be pulled: the element of this place.
    Pull {
        /// The entity.
        var: VarId,
        /// The database.
        source: SourceId,
        /// What is fetched.
        pattern: Arc<crate::ast::PullPattern>,
    },
}

impl BoundElement {
    /// The variable that it is made from.
    pub fn var(&self) -> VarId {
        match self {
            Self::Var(var) | Self::Aggregate { var, .. } | Self::Pull { var, .. } => *var,
        }
    }
}

/// A query that can be lowered.
#[derive(Clone, Debug)]
pub struct BoundQuery {
    /// All variables, by [`VarId`].
    pub vars: Vec<VarInfo>,
    /// What must hold.
    pub goals: Vec<Goal>,
    /// Recursive rules.
    pub programs: Vec<Program>,
    /// The shape of the answer.
    pub find: FindSpec,
    /// What is found.
    pub elements: Vec<BoundElement>,
    /// Variables that keep rows apart before aggregation.
    pub with: Vec<VarId>,
    /// What a reader should know: names that are unknown, types that never meet.
    pub notes: Vec<String>,
}
