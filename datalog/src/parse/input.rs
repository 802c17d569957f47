//! `:in`, and bindings.

use std::collections::HashSet;

use super::{Parser, is_symbol, plain_symbol, quote, source, variable};
use crate::ast::{Binding, Input, InputKind};
use crate::edn::Form;
use crate::error::Error;

impl Parser<'_> {
    /// The inputs of a query.
    pub(super) fn inputs(self, forms: &[Form]) -> Result<Vec<Input>, Error> {
        let mut sources = HashSet::new();
        let mut inputs = Vec::with_capacity(forms.len());
        for form in forms {
            let kind = self.input(form)?;
            let name = match &kind {
                InputKind::Source(name) => Some(name.as_str()),
                InputKind::Rules => Some("%"),
                _ => None,
            };
            if let Some(name) = name.filter(|name| !sources.insert((*name).to_owned())) {
                let message = format!("the input {} occurs twice", quote(&name));
                return Err(self.error(message, form.span));
            }
            inputs.push(Input {
                kind,
                span: form.span,
            });
        }
        Ok(inputs)
    }

    fn input(self, form: &Form) -> Result<InputKind, Error> {
        if let Some(source) = source(form) {
            Ok(InputKind::Source(source))
        } else if is_symbol(form, "%") {
            Ok(InputKind::Rules)
        } else if let Some(name) = plain_symbol(form) {
            Ok(InputKind::Plain(name.clone()))
        } else if form.as_symbol().is_some() || form.as_vector().is_some() {
            Ok(InputKind::Binding(self.binding(form)?))
        } else {
            Err(self.expected("an input: a source, `%`, a variable or a binding", form))
        }
    }

    /// What a value is taken apart into.
    pub(super) fn binding(self, form: &Form) -> Result<Binding, Error> {
        let span = form.span;
        if is_symbol(form, "_") {
            return Ok(Binding::Ignore(span));
        }
        if let Some(variable) = variable(form) {
            return Ok(Binding::Scalar(variable, span));
        }
        if is_symbol(form, "...") {
            return Err(self.error(
                "`...` follows the only binding of a vector: `[?x ...]`",
                span,
            ));
        }
        let parts = match form.as_vector() {
            None | Some([]) => {
                let what = "a binding: `?x`, `_`, `[?x ...]`, `[?x ?y]` or `[[?x ?y]]`";
                return Err(self.expected(what, form));
            }
            Some(parts) => parts,
        };
        match parts {
            [part, dots] if is_symbol(dots, "...") => {
                Ok(Binding::Collection(Box::new(self.binding(part)?), span))
            }
            [part] if part.as_vector().is_some() => {
                Ok(Binding::Collection(Box::new(self.binding(part)?), span))
            }
            _ => {
                let parts: Result<_, _> = parts.iter().map(|part| self.binding(part)).collect();
                Ok(Binding::Tuple(parts?, span))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ast::Query;

    /// A binding in words.
    fn show(binding: &Binding) -> String {
        match binding {
            Binding::Ignore(_) => "_".to_owned(),
            Binding::Scalar(variable, _) => variable.to_string(),
            Binding::Tuple(parts, _) => {
                let parts: Vec<_> = parts.iter().map(show).collect();
                format!("tuple({})", parts.join(" "))
            }
            Binding::Collection(part, _) => format!("each({})", show(part)),
        }
    }

    fn input(text: &str) -> Result<String, Error> {
        let query = Query::parse(&format!("[:find ?x :in {text}]"))?;
        let shown = query.inputs.iter().map(|input| match &input.kind {
            InputKind::Source(name) => format!("source({name})"),
            InputKind::Rules => "rules".to_owned(),
            InputKind::Binding(binding) => show(binding),
            InputKind::Plain(name) => format!("plain({name})"),
        });
        Ok(shown.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn every_kind_of_input_is_told_from_the_others() {
        for (text, expected) in [
            (
                "$ $sales % ?x pattern",
                "source($) source($sales) rules ?x plain(pattern)",
            ),
            ("_ [?x ...]", "_ each(?x)"),
            ("[?a _ [?b ...]]", "tuple(?a _ each(?b))"),
            ("[[?a ?b]]", "each(tuple(?a ?b))"),
            ("[[?a [?b ?c]]]", "each(tuple(?a tuple(?b ?c)))"),
            ("[[?a ?b] ...]", "each(tuple(?a ?b))"),
            ("[?a] [_ _]", "tuple(?a) tuple(_ _)"),
        ] {
            assert_eq!(input(text).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_no_input_is_refused() {
        for (text, expected) in [
            ("$ $", "the input `$` occurs twice"),
            ("$ % %", "the input `%` occurs twice"),
            (
                "1",
                "expected an input: a source, `%`, a variable or a binding, found a long",
            ),
            (
                "[?x $]",
                "expected a binding: `?x`, `_`, `[?x ...]`, `[?x ?y]` or `[[?x ?y]]`, found `$`",
            ),
            (
                "[]",
                "expected a binding: `?x`, `_`, `[?x ...]`, `[?x ?y]` or `[[?x ?y]]`, found an empty vector",
            ),
            (
                "[?x ?y ...]",
                "`...` follows the only binding of a vector: `[?x ...]`",
            ),
            (
                "?x ...",
                "`...` follows the only binding of a vector: `[?x ...]`",
            ),
        ] {
            assert_eq!(input(text).unwrap_err().message(), expected, "{text}");
        }
    }
}
