//! A pull pattern with its names resolved.

use std::sync::Arc;

use super::{LIMIT_DEFAULT, PullError, Xform};
use crate::ast::{Nested, PullAttribute, PullKey, PullPattern};
use crate::edn::{Form, Keyword, Symbol};
use crate::source::{AttributeFacts, Facts, TermType};
use crate::span::Span;
use crate::term::Term;

/// The patterns of a pull; they name each other by number.
pub(super) struct Plan {
    patterns: Vec<Pattern>,
}

/// The number of the pattern that components are pulled by, which is `[*]`.
pub(super) const COMPONENTS: usize = 0;
/// The number of the whole pattern.
pub(super) const ROOT: usize = 1;

/// One pattern.
#[derive(Default)]
pub(super) struct Pattern {
    /// Whether it has a `*`.
    pub is_wildcard: bool,
    /// Everything else.
    pub steps: Vec<Arc<Step>>,
    /// How many levels each recursive step may go: without end if `None`.
    pub depths: Arc<[Option<u32>]>,
}

/// One part of a pattern.
pub(super) struct Step {
    /// Where the values come from.
    pub origin: Origin,
    /// The key in the result.
    pub key: Term,
    /// Most values.
    pub limit: usize,
    /// The value if there is none.
    pub default: Option<Term>,
    /// What is applied to the value, and its name.
    pub xform: Option<(Symbol, Xform)>,
    /// What becomes of entities.
    pub next: Next,
    /// Where it stands.
    pub span: Span,
}

/// Where values come from.
pub(super) enum Origin {
    /// The entity itself.
    Id,
    /// The values of an attribute.
    Forward(AttributeFacts),
    /// The entities that refer to it by an attribute.
    Reverse(AttributeFacts),
}

/// What becomes of the entities that are values.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// They are not followed.
    Stop,
    /// They are pulled whole, as parts.
    Components,
    /// They are pulled by a pattern.
    Pattern(usize),
    /// They are pulled by the same pattern, as long as its depth of this number lets them.
    Recursion(usize),
}

type Functions<'a> = &'a (dyn Fn(&Symbol) -> Option<Xform> + Sync);

impl Plan {
    /// Resolves a pattern.
    pub(super) fn new(
        facts: &dyn Facts,
        pattern: &PullPattern,
        functions: Functions<'_>,
    ) -> Result<Self, PullError> {
        let components = Pattern {
            is_wildcard: true,
            ..Pattern::default()
        };
        let mut plan = Self {
            patterns: vec![components],
        };
        let resolver = Resolver { facts, functions };
        plan.add(resolver, pattern)?;
        Ok(plan)
    }

    pub(super) fn pattern(&self, number: usize) -> &Pattern {
        &self.patterns[number]
    }

    /// Resolves a pattern and those that are nested in it; answers its number.
    fn add(&mut self, resolver: Resolver<'_>, pattern: &PullPattern) -> Result<usize, PullError> {
        let number = self.patterns.len();
        self.patterns.push(Pattern::default());
        let mut is_wildcard = false;
        let mut steps = Vec::with_capacity(pattern.attributes.len());
        let mut depths = Vec::new();
        for attribute in &pattern.attributes {
            let Some(mut step) = resolver.step(attribute)? else {
                is_wildcard = true;
                continue;
            };
            match &attribute.nested {
                None => {}
                Some(Nested::Pattern(nested)) => {
                    step.next = Next::Pattern(self.add(resolver, nested)?);
                }
                Some(Nested::Recursion(depth)) => {
                    step.next = Next::Recursion(depths.len());
                    depths.push(*depth);
                }
            }
            steps.push(Arc::new(step));
        }
        self.patterns[number] = Pattern {
            is_wildcard,
            steps,
            depths: depths.into(),
        };
        Ok(number)
    }
}

impl Pattern {
    /// Whether it says something of an attribute, so that its `*` does not.
    pub(super) fn overrides(&self, attribute: i64) -> bool {
        let is_it =
            |step: &Arc<Step>| matches!(&step.origin, Origin::Forward(a) if a.id == attribute);
        self.steps.iter().any(is_it)
    }

    /// Whether it says something of `:db/id`.
    pub(super) fn has_id(&self) -> bool {
        let mut origins = self.steps.iter().map(|step| &step.origin);
        origins.any(|origin| matches!(origin, Origin::Id))
    }
}

impl Step {
    /// An attribute as a `*` pulls it.
    pub(super) fn of_wildcard(attribute: AttributeFacts) -> Self {
        let key = attribute.ident.clone();
        let next = if attribute.is_component {
            Next::Components
        } else {
            Next::Stop
        };
        Self::new(Origin::Forward(attribute), key, next)
    }

    /// `:db/id`
    pub(super) fn of_id() -> Self {
        Self::new(Origin::Id, Keyword::new("db/id"), Next::Stop)
    }

    fn new(origin: Origin, key: Keyword, next: Next) -> Self {
        Self {
            origin,
            key: Term::Keyword(key),
            limit: LIMIT_DEFAULT,
            default: None,
            xform: None,
            next,
            span: Span::default(),
        }
    }

    /// Whether the result is one value, not a vector.
    pub(super) fn is_single(&self) -> bool {
        match &self.origin {
            Origin::Id => true,
            Origin::Forward(attribute) => !attribute.is_many,
            Origin::Reverse(attribute) => attribute.is_component,
        }
    }
}

/// Knows what names mean.
#[derive(Clone, Copy)]
struct Resolver<'a> {
    facts: &'a dyn Facts,
    functions: Functions<'a>,
}

impl Resolver<'_> {
    /// Resolves a part of a pattern, except what is nested in it; `*` is none.
    fn step(self, part: &PullAttribute) -> Result<Option<Step>, PullError> {
        let span = part.span;
        let mut step = match &part.key {
            PullKey::Wildcard => return Ok(None),
            PullKey::DbId => Step::of_id(),
            PullKey::Forward(ident) => {
                let attribute = self.attribute(ident, span)?;
                if part.nested.is_some() {
                    check_reference(&attribute, span)?;
                }
                Step::of_wildcard(attribute)
            }
            PullKey::Reverse(ident) => {
                let attribute = self.attribute(ident, span)?;
                check_reference(&attribute, span)?;
                let key = reverse(&attribute.ident);
                Step::new(Origin::Reverse(attribute), key, Next::Stop)
            }
        };
        step.span = span;
        if let Some(limit) = part.limit {
            step.limit = limit.map_or(usize::MAX, |limit| {
                usize::try_from(limit).unwrap_or(usize::MAX)
            });
        }
        if let Some(name) = &part.rename {
            step.key = constant(name, span)?;
        }
        if let Some(value) = &part.default {
            step.default = Some(constant(value, span)?);
        }
        if let Some(name) = &part.xform {
            let Some(function) = (self.functions)(name) else {
                let message = format!("there is no function `{name}`");
                return Err(PullError::Invalid { message, span });
            };
            step.xform = Some((name.clone(), function));
        }
        Ok(Some(step))
    }

    fn attribute(self, ident: &Keyword, span: Span) -> Result<AttributeFacts, PullError> {
        self.facts
            .attribute(ident)
            .ok_or_else(|| PullError::Invalid {
                message: format!("there is no attribute {ident}"),
                span,
            })
    }
}

fn check_reference(attribute: &AttributeFacts, span: Span) -> Result<(), PullError> {
    if is_reference(attribute) {
        return Ok(());
    }
    let message = format!(
        "{} refers to no entities, so none can be pulled",
        attribute.ident
    );
    Err(PullError::Invalid { message, span })
}

/// Whether the values are entities.
pub(super) fn is_reference(attribute: &AttributeFacts) -> bool {
    matches!(attribute.value_type, TermType::Ref | TermType::Attribute)
}

/// `:person/_friend` of `:person/friend`.
fn reverse(ident: &Keyword) -> Keyword {
    let name = format!("_{}", ident.name());
    match ident.namespace() {
        Some(namespace) => Keyword::qualified(namespace, &name),
        None => Keyword::new(name),
    }
}

fn constant(form: &Form, span: Span) -> Result<Term, PullError> {
    Term::try_from(form).map_err(|message| PullError::Invalid { message, span })
}
