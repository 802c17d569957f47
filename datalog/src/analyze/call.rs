//! Predicates and functions, and those that ask a database.

use std::sync::Arc;

use super::Analysis;
use super::bound::{CallGoal, Goal, NestedGoal, Slot, Target};
use super::scope::Scope;
use crate::ast::{Argument, Binding, Call, Callee, CalleeName, Query, SourceName};
use crate::edn::Edn;
use crate::error::Error;
use crate::span::Span;
use crate::term::Term;

impl Analysis<'_> {
    pub(super) fn call(
        &mut self,
        call: &Call,
        scope: &mut Scope,
        source: &SourceName,
        span: Span,
        goals: &mut Vec<Goal>,
    ) -> Result<(), Error> {
        let name = self.callee(&call.function, scope)?;
        let binding = call
            .binding
            .as_ref()
            .map(|binding| self.target(binding, scope));
        match &*name {
            "get-else" | "get-some" | "missing?" => {
                goals.push(self.ask(&name, call, binding, scope, source, span)?);
                return Ok(());
            }
            "tx-ids" | "tx-data" => {
                goals.extend(self.log_call(&name, call, binding, scope, source, span)?);
                return Ok(());
            }
            "q" | "datomic.api/q" | "d/q" => {
                return self.nested(call, binding, scope, source, span, goals);
            }
            _ => {}
        }
        let Some(function) = self.given.functions.get(&name) else {
            let near = self.given.functions.near(&name);
            let hint = if near.is_empty() {
                String::new()
            } else {
                format!("; did you mean {}?", near.join(" or "))
            };
            return Err(self.error(
                format!("there is no function {name}{hint}"),
                call.function.span,
            ));
        };
        let function = function.clone();
        if !function.arity.allows(call.arguments.len()) {
            return Err(self.error(
                format!(
                    "{name} takes {} arguments, not {}",
                    function.arity,
                    call.arguments.len()
                ),
                span,
            ));
        }
        let mut arguments = Vec::with_capacity(call.arguments.len());
        for argument in &call.arguments {
            arguments.push(match argument {
                Argument::Variable(variable, _) => Slot::Var(self.declare(scope, variable)),
                Argument::Constant(form) => Slot::Constant(self.constant(form)?),
                Argument::Source(name, span) => {
                    return Err(self.error(
                        format!(
                            "{name} is a source; only get-else, get-some, missing? and q take one"
                        ),
                        *span,
                    ));
                }
            });
        }
        goals.push(Goal::Call(CallGoal {
            name,
            function,
            arguments,
            binding,
            span,
            in_rules: self.in_rules > 0,
        }));
        Ok(())
    }

    pub(super) fn callee(&mut self, callee: &Callee, scope: &Scope) -> Result<Arc<str>, Error> {
        match &callee.name {
            CalleeName::Symbol(symbol) => {
                let name = symbol.as_str();
                let name = name.strip_prefix("clojure.core/").unwrap_or(name);
                Ok(name.into())
            }
            CalleeName::Variable(variable) => {
                let constant = scope
                    .get(variable)
                    .and_then(|var| self.vars[var.0 as usize].constant.clone());
                match constant {
                    Some(Term::Symbol(name)) => Ok(Arc::clone(name.as_arc())),
                    Some(Term::Keyword(name)) => Ok(Arc::clone(name.as_arc())),
                    Some(Term::String(name)) => Ok(name),
                    _ => Err(self.error(
                        format!("{variable} must be an input that names a function"),
                        callee.span,
                    )),
                }
            }
        }
    }

    pub(super) fn target(&mut self, binding: &Binding, scope: &mut Scope) -> Target {
        match binding {
            Binding::Ignore(_) => Target::Ignore,
            Binding::Scalar(variable, _) => Target::Var(self.declare(scope, variable)),
            Binding::Tuple(parts, _) => {
                let parts = parts.iter().map(|part| self.target(part, scope));
                Target::Tuple(parts.collect())
            }
            Binding::Collection(part, _) => Target::Each(Box::new(self.target(part, scope))),
        }
    }

    /// A call of a function that is always there.
    pub(super) fn apply(
        &self,
        name: &str,
        arguments: Vec<Slot>,
        binding: Target,
        span: Span,
    ) -> Result<Goal, Error> {
        let function = self.given.functions.get(name);
        let function = function.ok_or_else(|| self.error(format!("{name} is missing"), span))?;
        Ok(Goal::Call(CallGoal {
            name: name.into(),
            function: function.clone(),
            arguments,
            binding: Some(binding),
            span,
            in_rules: self.in_rules > 0,
        }))
    }

    /// `(q [:find …] $ ?x)`.
    pub(super) fn nested(
        &mut self,
        call: &Call,
        binding: Option<Target>,
        scope: &mut Scope,
        source: &SourceName,
        span: Span,
        goals: &mut Vec<Goal>,
    ) -> Result<(), Error> {
        let Some((Argument::Constant(form), rest)) = call.arguments.split_first() else {
            return Err(self.error("q takes a query, then its inputs", span));
        };
        let text = match &form.edn {
            Edn::String(text) => text.to_string(),
            other => other.to_string(),
        };
        let query = Query::parse(&text)
            .map_err(|error| self.error(format!("in q: {}", error.message()), form.span))?;
        let mut sources = Vec::new();
        let mut arguments = Vec::new();
        for argument in rest {
            match argument {
                Argument::Source(name, span) => {
                    sources.push(self.source(Some(name), source, *span)?.0);
                }
                Argument::Variable(variable, _) => {
                    arguments.push(Slot::Var(self.declare(scope, variable)));
                }
                Argument::Constant(form) => arguments.push(Slot::Constant(self.constant(form)?)),
            }
        }
        goals.push(Goal::Nested(NestedGoal {
            query: Arc::new(query),
            sources,
            arguments,
            binding,
            span,
            in_rules: self.in_rules > 0,
        }));
        Ok(())
    }
}
