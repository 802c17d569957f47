//! `:find`, and `:keys`, `:strs`, `:syms`.

use super::section::{Section, Sections};
use super::{Parser, is_symbol, plain_symbol, quoted, source, span_of, variable};
use crate::ast::{Aggregate, FindElement, FindSpec, Pull, PullArgument, ReturnKeys, ReturnMap};
use crate::edn::{Edn, Form};
use crate::error::Error;
use crate::span::Span;

impl Parser<'_> {
    /// What a query finds, and in which shape.
    pub(super) fn find(self, section: &Section<'_>) -> Result<FindSpec, Error> {
        let forms = section.forms(self)?;
        match forms {
            [] => {
                let message = "expected something to find after `:find`, such as `?e`";
                Err(self.error(message, section.span))
            }
            [form] if let Some(inner) = form.as_vector() => self.find_in_vector(inner, form.span),
            [element, dot] if is_symbol(dot, ".") => {
                Ok(FindSpec::Scalar(self.find_element(element)?))
            }
            _ => Ok(FindSpec::Rel(self.find_elements(forms)?)),
        }
    }

    /// `[?a ...]` or `[?a ?b]`.
    fn find_in_vector(self, forms: &[Form], span: Span) -> Result<FindSpec, Error> {
        match forms {
            [] => Err(self.error("expected something to find, found an empty vector", span)),
            [element, dots] if is_symbol(dots, "...") => {
                Ok(FindSpec::Coll(self.find_element(element)?))
            }
            _ => Ok(FindSpec::Tuple(self.find_elements(forms)?)),
        }
    }

    fn find_elements(self, forms: &[Form]) -> Result<Vec<FindElement>, Error> {
        forms.iter().map(|form| self.find_element(form)).collect()
    }

    fn find_element(self, form: &Form) -> Result<FindElement, Error> {
        if let Some(variable) = variable(form) {
            return Ok(FindElement::Variable(variable, form.span));
        }
        if is_symbol(form, ".") {
            return Err(self.error("`.` follows the only element: `?x .`", form.span));
        }
        if is_symbol(form, "...") {
            let message = "`...` follows the only element of a vector: `[?x ...]`";
            return Err(self.error(message, form.span));
        }
        match form.as_list() {
            Some([head, arguments @ ..]) if is_symbol(head, "pull") => {
                self.find_pull(arguments, form.span)
            }
            Some([head, function, arguments @ ..]) if is_symbol(head, "aggregate") => {
                self.aggregate(function, arguments, form.span)
            }
            Some([head, ..]) if variable(head).is_some() => {
                let message = "an aggregate that is an input is called by `(aggregate ?f ?x)`";
                Err(self.error(message, form.span))
            }
            Some([head, arguments @ ..]) => self.aggregate(head, arguments, form.span),
            _ => Err(self.expected("a variable, an aggregate or a pull", form)),
        }
    }

    fn aggregate(
        self,
        function: &Form,
        arguments: &[Form],
        span: Span,
    ) -> Result<FindElement, Error> {
        let function = self.callee("the name of an aggregate", function)?;
        match arguments.last() {
            None => return Err(self.error("expected a variable to aggregate", span)),
            Some(last) if variable(last).is_none() => {
                return Err(self.expected("a variable to aggregate, in the last place", last));
            }
            Some(_) => {}
        }
        Ok(FindElement::Aggregate(Aggregate {
            function,
            arguments: self.arguments(arguments)?,
            span,
        }))
    }

    /// `(pull $source? ?e pattern)`, without its head.
    fn find_pull(self, arguments: &[Form], span: Span) -> Result<FindElement, Error> {
        let (source, arguments) = match arguments {
            [first, rest @ ..] if source(first).is_some() => (source(first), rest),
            _ => (None, arguments),
        };
        let [entity, pattern] = arguments else {
            let message = "expected a variable and a pattern: `(pull ?e [*])`";
            return Err(self.error(message, span));
        };
        let Some(variable) = variable(entity) else {
            return Err(self.expected("a variable that holds the entity", entity));
        };
        Ok(FindElement::Pull(Pull {
            source,
            variable,
            pattern: self.pull_argument(pattern)?,
            span,
        }))
    }

    fn pull_argument(self, form: &Form) -> Result<PullArgument, Error> {
        let form = quoted(form).unwrap_or(form);
        match &form.edn {
            Edn::Symbol(symbol) if plain_symbol(form).is_some() || variable(form).is_some() => {
                Ok(PullArgument::Input(symbol.clone()))
            }
            Edn::Vector(_) => Ok(PullArgument::Pattern(self.pull_pattern(form)?)),
            _ => Err(self.expected("a pull pattern or the name of an input that is one", form)),
        }
    }

    /// `:keys`, `:strs` or `:syms`, of which a query has one at most.
    pub(super) fn return_map(
        self,
        sections: &Sections<'_>,
        find: &FindSpec,
    ) -> Result<Option<ReturnMap>, Error> {
        let kinds = [
            ("keys", ReturnKeys::Keys),
            ("strs", ReturnKeys::Strs),
            ("syms", ReturnKeys::Syms),
        ];
        let mut present = kinds
            .into_iter()
            .filter_map(|(name, keys)| Some((sections.get(name)?, keys)));
        let Some((section, keys)) = present.next() else {
            return Ok(None);
        };
        let kind = section.name;
        if let Some((second, _)) = present.next() {
            let message = format!("a query has `:{kind}` or `:{}`, not both", second.name);
            return Err(self.error(message, second.span));
        }
        if matches!(find, FindSpec::Coll(_) | FindSpec::Scalar(_)) {
            let message = format!(
                "`:{kind}` names the elements of tuples, but `:find` asks for single values"
            );
            return Err(self.error(message, section.span));
        }

        let forms = section.forms(self)?;
        let span = span_of(forms).unwrap_or(section.span);
        let mut names = Vec::with_capacity(forms.len());
        for form in forms {
            let Some(name) = plain_symbol(form) else {
                return Err(self.expected("a plain symbol as the name of an element", form));
            };
            if names.contains(name) {
                return Err(self.error(format!("`:{kind}` names {name} twice"), form.span));
            }
            names.push(name.clone());
        }
        let expected = find.elements().len();
        if names.len() != expected {
            let message = format!(
                "`:{kind}` has {} for {}",
                count(names.len(), "name"),
                count(expected, "element")
            );
            return Err(self.error(message, span));
        }
        Ok(Some(ReturnMap { keys, names, span }))
    }
}

/// A number and what is counted: `1 name`, `2 names`.
pub(super) fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ast::{CalleeName, Query};

    fn find(text: &str) -> FindSpec {
        Query::parse(text).unwrap().find
    }

    #[track_caller]
    fn message(text: &str) -> String {
        Query::parse(text).unwrap_err().message().to_owned()
    }

    #[test]
    fn each_shape_is_told_from_the_others_in_both_forms_of_a_query() {
        type Is = fn(&FindSpec) -> bool;
        let shapes: [(&str, Is); 6] = [
            (
                "?a ?b",
                |find| matches!(find, FindSpec::Rel(e) if e.len() == 2),
            ),
            (
                "?a",
                |find| matches!(find, FindSpec::Rel(e) if e.len() == 1),
            ),
            ("[?a ...]", |find| matches!(find, FindSpec::Coll(_))),
            (
                "[?a ?b]",
                |find| matches!(find, FindSpec::Tuple(e) if e.len() == 2),
            ),
            (
                "[?a]",
                |find| matches!(find, FindSpec::Tuple(e) if e.len() == 1),
            ),
            ("(count ?a) .", |find| matches!(find, FindSpec::Scalar(_))),
        ];
        for (text, is) in shapes {
            assert!(is(&find(&format!("[:find {text}]"))), "{text}");
            assert!(is(&find(&format!("{{:find [{text}]}}"))), "{text}");
        }
    }

    #[test]
    fn aggregates_take_constants_before_their_variable() {
        let FindSpec::Rel(elements) = find("[:find (min 3 ?x) (aggregate ?f ?x)]") else {
            panic!("a relation");
        };
        let [FindElement::Aggregate(min), FindElement::Aggregate(custom)] = &elements[..] else {
            panic!("two aggregates");
        };
        assert_eq!(min.arguments.len(), 2);
        assert!(matches!(&custom.function.name, CalleeName::Variable(f) if f.as_str() == "?f"));
        assert_eq!((custom.span.start, custom.span.end), (18, 35));
    }

    #[test]
    fn a_pull_names_its_source_and_its_pattern() {
        let FindSpec::Rel(elements) = find("[:find (pull $a ?e [*]) (pull ?e p) (pull ?e ?p)]")
        else {
            panic!("a relation");
        };
        let pulls: Vec<String> = elements
            .iter()
            .map(|element| match element {
                FindElement::Pull(pull) => match &pull.pattern {
                    PullArgument::Input(name) => format!("{:?} {name}", pull.source),
                    PullArgument::Pattern(p) => format!("{:?} {}", pull.source, p.attributes.len()),
                },
                _ => panic!("a pull"),
            })
            .collect();
        assert_eq!(pulls, [r#"Some(SourceName("$a")) 1"#, "None p", "None ?p"]);
    }

    #[test]
    fn what_cannot_be_found_is_refused() {
        for (text, expected) in [
            (
                "[:find]",
                "expected something to find after `:find`, such as `?e`",
            ),
            (
                "[:find []]",
                "expected something to find, found an empty vector",
            ),
            (
                "[:find x]",
                "expected a variable, an aggregate or a pull, found `x`",
            ),
            (
                "[:find ?x [?y ...]]",
                "expected a variable, an aggregate or a pull, found a vector",
            ),
            ("[:find ?x ?y .]", "`.` follows the only element: `?x .`"),
            (
                "{:find [?x ...]}",
                "`...` follows the only element of a vector: `[?x ...]`",
            ),
            (
                "[:find ()]",
                "expected a variable, an aggregate or a pull, found an empty list",
            ),
            ("[:find (count)]", "expected a variable to aggregate"),
            (
                "[:find (count 1)]",
                "expected a variable to aggregate, in the last place, found a long",
            ),
            (
                "[:find (1 ?x)]",
                "expected the name of an aggregate, found a long",
            ),
            (
                "[:find (?f ?x)]",
                "an aggregate that is an input is called by `(aggregate ?f ?x)`",
            ),
            (
                "[:find (pull ?e)]",
                "expected a variable and a pattern: `(pull ?e [*])`",
            ),
            (
                "[:find (pull 1 [*])]",
                "expected a variable that holds the entity, found a long",
            ),
            (
                "[:find (pull ?e :a)]",
                "expected a pull pattern or the name of an input that is one, found `:a`",
            ),
        ] {
            assert_eq!(message(text), expected);
        }
    }

    #[test]
    fn return_maps_name_each_element_of_a_tuple() {
        let query = Query::parse("[:find ?a ?b :strs x y]").unwrap();
        let keys = query.keys.unwrap();
        assert_eq!((keys.keys, keys.names.len()), (ReturnKeys::Strs, 2));
        for (text, expected) in [
            ("[:find ?a ?b :keys a]", "`:keys` has 1 name for 2 elements"),
            ("[:find ?a :keys]", "`:keys` has 0 names for 1 element"),
            (
                "[:find ?a :syms ?a]",
                "expected a plain symbol as the name of an element, found `?a`",
            ),
            (
                "[:find ?a . :keys a]",
                "`:keys` names the elements of tuples, but `:find` asks for single values",
            ),
            (
                "[:find ?a :strs a :keys a]",
                "a query has `:keys` or `:strs`, not both",
            ),
        ] {
            assert_eq!(message(text), expected);
        }
    }
}
