//! Inputs: what arguments bind.

use super::bound::{Goal, RowsGoal, VarId};
use super::scope::Scope;
use super::{Analysis, unpack};
use crate::ast::{Binding, InputKind, PullPattern};
use crate::error::Error;
use crate::span::Span;
use crate::term::Term;
use std::sync::Arc;

impl Analysis<'_> {
    pub(super) fn inputs(&mut self, scope: &mut Scope, goals: &mut Vec<Goal>) -> Result<(), Error> {
        let mut arguments = self.given.arguments.iter();
        for input in &self.query.inputs {
            match &input.kind {
                // A source that nothing asks need not be there.
                InputKind::Source(_) | InputKind::Rules => {}
                InputKind::Plain(name) => {
                    let term = arguments.next().ok_or_else(|| self.missing(input.span))?;
                    let text = match term {
                        Term::String(text) => text.to_string(),
                        other => other.to_string(),
                    };
                    let pattern = PullPattern::parse(&text).map_err(|error| {
                        self.error(
                            format!("{name} is not a pull pattern: {}", error.message()),
                            input.span,
                        )
                    })?;
                    self.patterns
                        .insert(name.as_str().into(), Arc::new(pattern));
                }
                InputKind::Binding(binding) => {
                    let term = arguments.next().ok_or_else(|| self.missing(input.span))?;
                    self.input(binding, term, scope, goals)?;
                }
            }
        }
        let surplus = arguments.count();
        if surplus > 0 {
            let span = self
                .query
                .inputs
                .last()
                .map_or_else(|| Span::new(0, self.query.text.len()), |input| input.span);
            return Err(self.error(
                format!(
                    "{surplus} more {} given than :in names",
                    if surplus == 1 {
                        "argument was"
                    } else {
                        "arguments were"
                    }
                ),
                span,
            ));
        }
        Ok(())
    }

    pub(super) fn missing(&self, span: Span) -> Error {
        self.error("no argument was given for this input", span)
    }

    pub(super) fn input(
        &mut self,
        binding: &Binding,
        term: &Term,
        scope: &mut Scope,
        goals: &mut Vec<Goal>,
    ) -> Result<(), Error> {
        if let Binding::Scalar(variable, span) = binding {
            // A pull pattern may come under the name of a variable.
            let var = self.declare(scope, variable);
            if *term == Term::Nil {
                return Err(self.error("an input cannot be nil", *span));
            }
            if let Some(known) = &self.vars[var.0 as usize].constant {
                if known != term {
                    goals.push(Goal::Rows(RowsGoal::nothing()));
                }
                return Ok(());
            }
            self.info(var).constant = Some(term.clone());
            return Ok(());
        }
        let rows = unpack(binding, term).map_err(|reason| self.error(reason, binding.span()))?;
        let variables = binding.variables();
        let vars = variables
            .iter()
            .map(|variable| self.declare(scope, variable));
        let vars: Vec<VarId> = vars.collect();
        if let [row] = &rows[..] {
            // One row is as good as constants.
            let constants = vars.iter().zip(row);
            let mut clash = false;
            for (&var, term) in constants {
                match &self.vars[var.0 as usize].constant {
                    Some(known) => clash |= known != term,
                    None => self.info(var).constant = Some(term.clone()),
                }
            }
            if clash {
                goals.push(Goal::Rows(RowsGoal::nothing()));
            }
            return Ok(());
        }
        goals.push(Goal::Rows(RowsGoal::new(vars, rows)));
        Ok(())
    }
}
