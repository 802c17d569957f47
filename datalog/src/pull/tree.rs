//! The maps in the making: which entity is pulled by which pattern, and what was found of it.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::level::{Level, Needs};
use super::plan::{COMPONENTS, Next, Origin, Pattern, Plan, ROOT, Step, is_reference};
use super::{LEVELS_MAX, NODES_MAX, PullError};
use crate::edn::Keyword;
use crate::source::{Facts, TermType};
use crate::span::Span;
use crate::term::Term;

/// All maps of a pull, level after level, so that each stands after those that refer to it.
pub(super) struct Tree<'a> {
    facts: &'a dyn Facts,
    plan: &'a Plan,
    nodes: Vec<Node>,
    /// The last level, whose facts are not there yet.
    open: Range<usize>,
    levels: usize,
    roots: usize,
    /// The nodes of the next level that begin a path, by pattern and entity: they are pulled once.
    shared: HashMap<(usize, i64), usize>,
    /// Attributes as a wildcard pulls them; those that nobody knows are left out.
    wildcard_steps: HashMap<i64, Option<Arc<Step>>>,
    id_step: Arc<Step>,
}

/// A map: an entity and the pattern that it is pulled by.
struct Node {
    entity: i64,
    way: Way,
    entries: Vec<Entry>,
}

/// How an entity is reached.
#[derive(Clone)]
struct Way {
    /// The pattern that it is pulled by.
    pattern: usize,
    /// The map before it on its path, by recursion or as a whole of which it is a part.
    before: Option<usize>,
    /// How many levels each recursive step may still go.
    depths: Arc<[Option<u32>]>,
}

/// What was found for one part of the pattern.
struct Entry {
    step: Arc<Step>,
    values: Vec<Slot>,
}

enum Slot {
    Term(Term),
    /// A map, if there will be something in it.
    Node(usize),
}

impl<'a> Tree<'a> {
    /// A tree of one level, the entities that are asked for.
    pub(super) fn new(facts: &'a dyn Facts, plan: &'a Plan, entities: &[i64]) -> Self {
        let mut entities = entities.to_vec();
        entities.sort_unstable();
        entities.dedup();
        let way = Way {
            pattern: ROOT,
            before: None,
            depths: Arc::clone(&plan.pattern(ROOT).depths),
        };
        let node = |entity| Node::new(entity, way.clone());
        let nodes: Vec<_> = entities.into_iter().map(node).collect();
        Self {
            facts,
            plan,
            open: 0..nodes.len(),
            levels: 1,
            roots: nodes.len(),
            nodes,
            shared: HashMap::new(),
            wildcard_steps: HashMap::new(),
            id_step: Arc::new(Step::of_id()),
        }
    }

    /// Whether all facts are there.
    pub(super) fn is_grown(&self) -> bool {
        self.open.is_empty()
    }

    /// What the last level must know.
    pub(super) fn needs(&self) -> Needs {
        let mut needs = Needs::default();
        for node in &self.nodes[self.open.clone()] {
            let pattern = self.plan.pattern(node.way.pattern);
            if pattern.is_wildcard {
                needs.whole.push(node.entity);
            }
            for step in node.way.steps(pattern) {
                let (map, attribute) = match &step.origin {
                    Origin::Forward(a) if !pattern.is_wildcard => (&mut needs.forward, a.id),
                    Origin::Reverse(attribute) => (&mut needs.reverse, attribute.id),
                    Origin::Id | Origin::Forward(_) => continue,
                };
                map.entry(attribute).or_default().push(node.entity);
            }
        }
        needs
    }

    /// Adds what was found, and the next level.
    pub(super) fn grow(&mut self, level: &Level) -> Result<(), PullError> {
        let open = self.open.clone();
        self.shared.clear();
        for at in open.clone() {
            self.nodes[at].entries = self.entries(at, level)?;
        }
        self.open = open.end..self.nodes.len();
        self.levels += 1;
        Ok(())
    }

    fn entries(&mut self, at: usize, level: &Level) -> Result<Vec<Entry>, PullError> {
        let Node {
            entity, ref way, ..
        } = self.nodes[at];
        let way = way.clone();
        let pattern = self.plan.pattern(way.pattern);
        let mut entries = Vec::with_capacity(pattern.steps.len());
        for step in way.steps(pattern) {
            let values = match &step.origin {
                Origin::Id => vec![Slot::Term(Term::Long(entity))],
                Origin::Forward(attribute) => {
                    let found = if pattern.is_wildcard {
                        level.values_of_whole(entity, attribute.id)
                    } else {
                        level.values(entity, attribute.id)
                    };
                    self.values(at, step, found)?
                }
                Origin::Reverse(attribute) => {
                    let next = self.next_way(at, step);
                    let found = level.referrers(entity, attribute.id).iter();
                    let found = found.take(step.limit);
                    let slots = found.map(|(_, from)| self.slot(next.as_ref(), step, *from));
                    slots.collect::<Result<_, _>>()?
                }
            };
            entries.push(Entry {
                step: Arc::clone(step),
                values,
            });
        }
        if pattern.is_wildcard {
            self.add_whole(at, level.whole(entity), pattern, &mut entries)?;
        }
        Ok(entries)
    }

    /// Adds what `*` stands for: every attribute of which the pattern does not speak.
    fn add_whole(
        &mut self,
        at: usize,
        found: &[(i64, i64, Term)],
        pattern: &Pattern,
        entries: &mut Vec<Entry>,
    ) -> Result<(), PullError> {
        if !found.is_empty() && !pattern.has_id() {
            entries.push(Entry {
                step: Arc::clone(&self.id_step),
                values: vec![Slot::Term(Term::Long(self.nodes[at].entity))],
            });
        }
        for found in found.chunk_by(|a, b| a.1 == b.1) {
            let attribute = found[0].1;
            if pattern.overrides(attribute) {
                continue;
            }
            let facts = self.facts;
            let step = self.wildcard_steps.entry(attribute).or_insert_with(|| {
                let attribute = facts.attribute_by_id(attribute)?;
                Some(Arc::new(Step::of_wildcard(attribute)))
            });
            let Some(step) = step.clone() else { continue };
            let values = self.values(at, &step, found)?;
            entries.push(Entry { step, values });
        }
        Ok(())
    }

    /// The values of an attribute, each as what becomes of it.
    fn values(
        &mut self,
        at: usize,
        step: &Step,
        found: &[(i64, i64, Term)],
    ) -> Result<Vec<Slot>, PullError> {
        let Origin::Forward(attribute) = &step.origin else {
            return Ok(Vec::new());
        };
        let limit = if attribute.is_many { step.limit } else { 1 };
        let found = found.iter().take(limit);
        if !is_reference(attribute) {
            return Ok(found.map(|fact| Slot::Term(fact.2.clone())).collect());
        }
        let is_attribute = attribute.value_type == TermType::Attribute;
        let next = self.next_way(at, step);
        let slot = |(_, _, value): &(i64, i64, Term)| match value {
            Term::Long(entity) if is_attribute && next.is_none() => {
                let ident = self.facts.ident(*entity);
                Ok(Slot::Term(
                    ident.map_or_else(|| reference(*entity), Term::Keyword),
                ))
            }
            Term::Long(entity) => self.slot(next.as_ref(), step, *entity),
            other => Ok(Slot::Term(other.clone())),
        };
        found.map(slot).collect()
    }

    /// How the entities are reached that a step finds, if it follows them.
    fn next_way(&self, at: usize, step: &Step) -> Option<Way> {
        let way = &self.nodes[at].way;
        match step.next {
            Next::Stop => None,
            Next::Components => Some(Way {
                pattern: COMPONENTS,
                before: Some(at),
                depths: Arc::clone(&self.plan.pattern(COMPONENTS).depths),
            }),
            Next::Pattern(pattern) => Some(Way {
                pattern,
                before: None,
                depths: Arc::clone(&self.plan.pattern(pattern).depths),
            }),
            Next::Recursion(number) => Some(Way {
                pattern: way.pattern,
                before: Some(at),
                depths: match way.depths[number] {
                    None => Arc::clone(&way.depths),
                    Some(depth) => {
                        let mut depths = way.depths.to_vec();
                        depths[number] = Some(depth.saturating_sub(1));
                        depths.into()
                    }
                },
            }),
        }
    }

    /// What becomes of an entity: a map of the next level, or its id.
    fn slot(&mut self, way: Option<&Way>, step: &Step, entity: i64) -> Result<Slot, PullError> {
        let Some(way) = way else {
            return Ok(Slot::Term(reference(entity)));
        };
        let next = self.nodes.len();
        if way.before.is_some() {
            if self.is_on_path(way.before, entity) {
                return Ok(Slot::Term(reference(entity)));
            }
        } else {
            let shared = *self.shared.entry((way.pattern, entity)).or_insert(next);
            if shared != next {
                return Ok(Slot::Node(shared));
            }
        }
        self.check_size(step.span)?;
        self.nodes.push(Node::new(entity, way.clone()));
        Ok(Slot::Node(next))
    }

    /// Whether an entity is among the maps that lead to a place.
    fn is_on_path(&self, mut last: Option<usize>, entity: i64) -> bool {
        while let Some(at) = last {
            let node = &self.nodes[at];
            if node.entity == entity {
                return true;
            }
            last = node.way.before;
        }
        false
    }

    fn check_size(&self, span: Span) -> Result<(), PullError> {
        let message = if self.levels >= LEVELS_MAX {
            format!("the pull is deeper than {LEVELS_MAX} levels")
        } else if self.nodes.len() - self.roots >= NODES_MAX {
            format!("the pull has more than {NODES_MAX} maps")
        } else {
            return Ok(());
        };
        Err(PullError::Limit { message, span })
    }

    /// Puts the maps together; answers those that were asked for, in the order of their entities.
    pub(super) fn into_terms(self) -> Result<Vec<(i64, Term)>, PullError> {
        let roots = self.roots;
        let mut maps: Vec<Term> = vec![Term::Nil; self.nodes.len()];
        let mut found = Vec::with_capacity(roots);
        for (at, node) in self.nodes.into_iter().enumerate().rev() {
            let mut entries = Vec::with_capacity(node.entries.len());
            for entry in node.entries {
                let key = entry.step.key.clone();
                entries.extend(entry.into_value(&maps)?.map(|value| (key, value)));
            }
            let map = if entries.is_empty() {
                Term::Nil
            } else {
                Term::map(entries)
            };
            if at < roots {
                found.push((node.entity, map));
            } else {
                maps[at] = map;
            }
        }
        found.reverse();
        Ok(found)
    }
}

impl Node {
    fn new(entity: i64, way: Way) -> Self {
        Self {
            entity,
            way,
            entries: Vec::new(),
        }
    }
}

impl Way {
    /// The steps of its pattern that have not come to their depth.
    fn steps<'p>(&self, pattern: &'p Pattern) -> impl Iterator<Item = &'p Arc<Step>> {
        pattern.steps.iter().filter(|step| match step.next {
            Next::Recursion(number) => self.depths[number] != Some(0),
            _ => true,
        })
    }
}

impl Entry {
    /// The value in the result, when the maps behind it are there.
    fn into_value(self, maps: &[Term]) -> Result<Option<Term>, PullError> {
        let Self { step, values } = self;
        let mut values = values.into_iter().filter_map(|slot| match slot {
            Slot::Term(term) => Some(term),
            Slot::Node(at) => Some(maps[at].clone()).filter(|map| !matches!(map, Term::Nil)),
        });
        let value = if step.is_single() {
            values.next()
        } else {
            let values: Vec<_> = values.collect();
            (!values.is_empty()).then(|| Term::Vector(values.into()))
        };
        let Some(value) = value else {
            return Ok(step.default.clone());
        };
        let Some((function, apply)) = &step.xform else {
            return Ok(Some(value));
        };
        apply(&value)
            .map(Some)
            .map_err(|message| PullError::Function {
                function: function.clone(),
                message,
                span: step.span,
            })
    }
}

/// An entity that is not followed: `{:db/id 1}`.
fn reference(entity: i64) -> Term {
    Term::map([(Term::Keyword(Keyword::new("db/id")), Term::Long(entity))])
}
