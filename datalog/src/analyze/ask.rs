//! `get-else`, `get-some` and `missing?`, in terms of patterns.

use super::bound::{AttributeSlot, FactGoal, Goal, Slot, SourceId, Target};
use super::scope::Scope;
use super::{Analysis, SourceFacts};
use crate::ast::{Argument, Call, SourceName};
use crate::edn::Keyword;
use crate::error::Error;
use crate::source::{AttributeFacts, Facts};
use crate::span::Span;
use crate::term::Term;

/// What a database is asked about an entity.
struct Ask {
    source: SourceId,
    entity: Slot,
    /// Names, with their attributes where the database has them.
    attributes: Vec<(Keyword, Option<AttributeFacts>)>,
    span: Span,
}

impl Ask {
    /// That the entity has this value.
    fn has(&self, attribute: Option<&AttributeFacts>, v: Slot) -> Goal {
        Goal::Fact(FactGoal {
            source: self.source,
            e: self.entity.clone(),
            a: attribute
                .cloned()
                .map_or(AttributeSlot::Unknown, AttributeSlot::Known),
            v,
            v_entity: None,
            tx: Slot::Blank,
            added: Slot::Blank,
            span: self.span,
        })
    }

    /// That the entity has no value.
    fn lacks(&self, attribute: Option<&AttributeFacts>) -> Goal {
        Goal::Not {
            join: self.entity.var().into_iter().collect(),
            goals: vec![self.has(attribute, Slot::Blank)],
            span: self.span,
        }
    }

    /// One of several branches, which bind what the answer is bound to.
    fn one_of(&self, binding: &Target, branches: Vec<Vec<Goal>>) -> Goal {
        let mut free = binding.vars();
        free.sort_unstable();
        free.dedup();
        Goal::Or {
            required: self.entity.var().into_iter().collect(),
            free,
            branches,
            span: self.span,
        }
    }
}

/// What the arguments of a function are, after its name.
fn expected(name: &str) -> &'static str {
    match name {
        "get-else" => "$, an entity, an attribute and a default",
        "get-some" => "$, an entity and attributes",
        _ => "$, an entity and an attribute",
    }
}

impl<'a> Analysis<'a> {
    /// A call of one of the three.
    pub(super) fn ask(
        &mut self,
        name: &str,
        call: &Call,
        binding: Option<Target>,
        scope: &mut Scope,
        source: &SourceName,
        span: Span,
    ) -> Result<Goal, Error> {
        let (said, rest) = match call.arguments.split_first() {
            Some((Argument::Source(said, _), rest)) => (said, rest),
            _ => (source, &call.arguments[..]),
        };
        let (id, facts) = self.database(name, said, span)?;
        let wrong = || self.error(format!("{name} takes {}", expected(name)), span);
        let (entity, rest) = rest.split_first().ok_or_else(wrong)?;
        let (names, default) = match (name, rest) {
            ("get-else", [_, default]) => (&rest[..1], Some(default)),
            ("missing?", [_]) => (rest, None),
            ("get-some", [_, ..]) => (rest, None),
            _ => return Err(wrong()),
        };
        let attributes = self.named(name, names, scope, facts)?;
        let entity = match entity {
            Argument::Variable(variable, _) => Slot::Var(self.declare(scope, variable)),
            Argument::Constant(form) => Slot::Constant(self.constant(form)?),
            Argument::Source(_, span) => return Err(self.error("expected an entity", *span)),
        };
        if let Slot::Var(var) = entity {
            self.info(var).note_entity_of(id);
        }
        let ask = Ask {
            source: id,
            entity,
            attributes,
            span,
        };
        match (default, binding) {
            (Some(default), binding) => self.get_else(ask, default, names, binding, scope),
            (None, Some(binding)) if name == "get-some" => self.get_some(&ask, &binding),
            (None, None) if name == "get-some" => {
                Err(self.error("get-some answers [attribute value]: bind it", span))
            }
            (None, binding) => self.missing_attribute(&ask, binding.as_ref()),
        }
    }

    /// The database that a function asks.
    pub(super) fn database(
        &self,
        function: &str,
        name: &SourceName,
        span: Span,
    ) -> Result<(SourceId, &'a dyn Facts), Error> {
        match self.source(Some(name), name, span)? {
            (id, SourceFacts::Database(facts)) => Ok((id, facts)),
            (_, SourceFacts::Collection) => Err(self.error(
                format!("{function} asks a database, not a collection"),
                span,
            )),
        }
    }

    /// The attributes that arguments name.
    fn named(
        &self,
        function: &str,
        names: &[Argument],
        scope: &Scope,
        facts: &dyn Facts,
    ) -> Result<Vec<(Keyword, Option<AttributeFacts>)>, Error> {
        let mut attributes = Vec::with_capacity(names.len());
        for argument in names {
            let Some(Term::Keyword(ident)) = self.known(argument, scope)? else {
                return Err(self.error(
                    format!("{function} needs the attribute's name here"),
                    argument.span(),
                ));
            };
            let attribute = facts.attribute(&ident);
            attributes.push((ident, attribute));
        }
        Ok(attributes)
    }

    /// The value of an argument that is a constant or an input.
    pub(super) fn known(&self, argument: &Argument, scope: &Scope) -> Result<Option<Term>, Error> {
        Ok(match argument {
            Argument::Constant(form) => Some(self.constant(form)?),
            Argument::Variable(variable, _) => scope
                .get(variable)
                .and_then(|var| self.vars[var.0 as usize].constant.clone()),
            Argument::Source(..) => None,
        })
    }

    fn get_else(
        &self,
        mut ask: Ask,
        default: &Argument,
        names: &[Argument],
        binding: Option<Target>,
        scope: &Scope,
    ) -> Result<Goal, Error> {
        let term = self.known(default, scope)?;
        let Some(term) = term.filter(|term| *term != Term::Nil) else {
            return Err(self.error(
                "the default of get-else must be a constant, and not nil",
                default.span(),
            ));
        };
        let (_, attribute) = ask.attributes.remove(0);
        if attribute.as_ref().is_some_and(|known| known.is_many) {
            return Err(self.error(
                "get-else asks for one value, and this attribute can have many",
                names[0].span(),
            ));
        }
        Ok(Goal::GetElse {
            source: ask.source,
            entity: ask.entity,
            attribute,
            default: term,
            binding: binding.unwrap_or(Target::Ignore),
            span: ask.span,
        })
    }

    /// One branch an attribute: it is there, and those before it are not.
    fn get_some(&mut self, ask: &Ask, binding: &Target) -> Result<Goal, Error> {
        let mut branches = Vec::with_capacity(ask.attributes.len());
        for (at, (ident, attribute)) in ask.attributes.iter().enumerate() {
            let before = ask.attributes[..at].iter();
            let mut branch: Vec<Goal> =
                before.map(|(_, other)| ask.lacks(other.as_ref())).collect();
            let value = Slot::Var(self.fresh("value"));
            branch.push(ask.has(attribute.as_ref(), value.clone()));
            let pair = vec![Slot::Constant(Term::Keyword(ident.clone())), value];
            branch.push(self.apply("tuple", pair, binding.clone(), ask.span)?);
            branches.push(branch);
        }
        Ok(ask.one_of(binding, branches))
    }

    /// As a function, `missing?` answers a boolean.
    fn missing_attribute(&self, ask: &Ask, binding: Option<&Target>) -> Result<Goal, Error> {
        let attribute = ask.attributes.first().and_then(|(_, known)| known.as_ref());
        let Some(binding) = binding else {
            return Ok(ask.lacks(attribute));
        };
        let answer = |value: bool| {
            let term = vec![Slot::Constant(Term::Boolean(value))];
            self.apply("identity", term, binding.clone(), ask.span)
        };
        let branches = vec![
            vec![ask.lacks(attribute), answer(true)?],
            vec![ask.has(attribute, Slot::Blank), answer(false)?],
        ];
        Ok(ask.one_of(binding, branches))
    }
}
