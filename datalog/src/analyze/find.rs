//! What is found.

use std::sync::Arc;

use super::bound::{BoundElement, VarId};
use super::scope::Scope;
use super::{Analysis, SourceFacts};
use crate::ast::{
    Aggregate, Argument, Callee, CalleeName, FindElement, PullArgument, PullPattern, SourceName,
    Variable,
};
use crate::edn::Symbol;
use crate::error::Error;
use crate::span::Span;
use crate::term::Term;

impl Analysis<'_> {
    pub(super) fn elements(&mut self, scope: &Scope) -> Result<Vec<BoundElement>, Error> {
        let mut elements = Vec::new();
        for element in self.query.find.elements() {
            elements.push(match element {
                FindElement::Variable(variable, span) => {
                    BoundElement::Var(self.found(scope, variable, *span)?)
                }
                FindElement::Aggregate(aggregate) => self.aggregate(aggregate, scope)?,
                FindElement::Pull(pull) => {
                    let (source, facts) =
                        self.source(pull.source.as_ref(), &SourceName::default(), pull.span)?;
                    if matches!(facts, SourceFacts::Collection) {
                        return Err(self.error("pull asks a database, not a collection", pull.span));
                    }
                    let var = self.found(scope, &pull.variable, pull.span)?;
                    let pattern = match &pull.pattern {
                        PullArgument::Pattern(pattern) => Arc::new(pattern.clone()),
                        PullArgument::Input(name) => self.pattern_input(name, scope, pull.span)?,
                    };
                    self.info(var).note_entity_of(source);
                    BoundElement::Pull {
                        var,
                        source,
                        pattern,
                    }
                }
            });
        }
        Ok(elements)
    }

    pub(super) fn aggregate(
        &mut self,
        aggregate: &Aggregate,
        scope: &Scope,
    ) -> Result<BoundElement, Error> {
        let span = aggregate.span;
        let symbol = matches!(&aggregate.function.name, CalleeName::Symbol(name) if name.as_str() == "aggregate");
        let (name, arguments) = if symbol {
            let Some((Argument::Variable(function, at), rest)) = aggregate.arguments.split_first()
            else {
                return Err(self.error("aggregate takes the input that names a function", span));
            };
            let callee = Callee {
                name: CalleeName::Variable(function.clone()),
                span: *at,
            };
            (self.callee(&callee, scope)?, rest)
        } else {
            (
                self.callee(&aggregate.function, scope)?,
                &aggregate.arguments[..],
            )
        };
        if self.given.functions.aggregate(&name).is_none() {
            let near = self.given.functions.near_aggregate(&name);
            let hint = if near.is_empty() {
                String::new()
            } else {
                format!("; did you mean {}?", near.join(" or "))
            };
            return Err(self.error(
                format!("there is no aggregate {name}{hint}"),
                aggregate.function.span,
            ));
        }
        let Some((Argument::Variable(variable, at), constants)) = arguments.split_last() else {
            return Err(self.error(format!("{name} takes a variable last"), span));
        };
        let mut terms = Vec::new();
        for argument in constants {
            terms.push(match argument {
                Argument::Constant(form) => self.constant(form)?,
                Argument::Variable(variable, at) => scope
                    .get(variable)
                    .and_then(|var| self.vars[var.0 as usize].constant.clone())
                    .ok_or_else(|| self.error(format!("{variable} must be an input here"), *at))?,
                Argument::Source(_, at) => return Err(self.error("expected a constant", *at)),
            });
        }
        Ok(BoundElement::Aggregate {
            name,
            constants: terms,
            var: self.found(scope, variable, *at)?,
            span,
        })
    }

    pub(super) fn found(
        &self,
        scope: &Scope,
        variable: &Variable,
        span: Span,
    ) -> Result<VarId, Error> {
        scope
            .get(variable)
            .ok_or_else(|| self.error(format!("{variable} is not bound"), span))
    }

    pub(super) fn pattern_input(
        &self,
        name: &Symbol,
        scope: &Scope,
        span: Span,
    ) -> Result<Arc<PullPattern>, Error> {
        if let Some(pattern) = self.patterns.get(name.as_str()) {
            return Ok(Arc::clone(pattern));
        }
        let constant = scope
            .get(&Variable::new(name.as_str()))
            .and_then(|var| self.vars[var.0 as usize].constant.clone());
        let Some(term) = constant else {
            return Err(self.error(format!("{name} is no input of this query"), span));
        };
        let text = match &term {
            Term::String(text) => text.to_string(),
            other => other.to_string(),
        };
        PullPattern::parse(&text).map(Arc::new).map_err(|error| {
            self.error(
                format!("{name} is not a pull pattern: {}", error.message()),
                span,
            )
        })
    }
}
