//! `:order-by`.

use super::find::count;
use super::section::Section;
use super::{Parser, is_keyword, quote, variable};
use crate::ast::{FindElement, FindSpec, OrderKey};
use crate::edn::{Edn, Form};
use crate::error::Error;

impl Parser<'_> {
    /// `?v`, `[?v :desc ?w]` or `[0 :desc]`.
    pub(super) fn order_by(
        self,
        section: &Section<'_>,
        find: &FindSpec,
    ) -> Result<Vec<OrderKey>, Error> {
        let mut forms = match section.values() {
            [form] => form.as_vector().unwrap_or(std::slice::from_ref(form)),
            forms => forms,
        };
        if forms.is_empty() {
            let message = "expected a variable of `:find` or its place after `:order-by`";
            return Err(self.error(message, section.span));
        }
        let mut keys = Vec::new();
        while let Some((form, rest)) = forms.split_first() {
            let element = self.order_element(form, find)?;
            let is_directed = rest
                .first()
                .is_some_and(|form| is_keyword(form, &["asc", "desc"]));
            keys.push(OrderKey {
                element,
                descending: is_directed && is_keyword(&rest[0], &["desc"]),
            });
            forms = &rest[usize::from(is_directed)..];
        }
        Ok(keys)
    }

    fn order_element(self, form: &Form, find: &FindSpec) -> Result<usize, Error> {
        let elements = find.elements();
        if let Some(name) = variable(form) {
            let is_it =
                |e: &FindElement| matches!(e, FindElement::Variable(found, _) if *found == name);
            return elements.iter().position(is_it).ok_or_else(|| {
                let message = format!(
                    "{} is not a variable of `:find`; other elements are named by their place, from 0",
                    quote(&name)
                );
                self.error(message, form.span)
            });
        }
        match form.edn {
            Edn::Long(place) => usize::try_from(place)
                .ok()
                .filter(|&place| place < elements.len())
                .ok_or_else(|| {
                    let elements = count(elements.len(), "element");
                    let message = format!(
                        "`:find` has {elements}, and places count from 0: none is at {place}"
                    );
                    self.error(message, form.span)
                }),
            Edn::Keyword(_) => Err(self.expected("`:asc` or `:desc` after a variable", form)),
            _ => Err(self.expected("a variable of `:find` or its place", form)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ast::Query;

    fn order(text: &str) -> Result<Vec<(usize, bool)>, Error> {
        let query = Query::parse(&format!("[:find ?a (count ?b) ?c :order-by {text}]"))?;
        let keys = query.order_by.iter();
        Ok(keys.map(|key| (key.element, key.descending)).collect())
    }

    #[test]
    fn elements_are_named_by_variable_or_by_place() {
        assert_eq!(order("?c").unwrap(), [(2, false)]);
        assert_eq!(order("1").unwrap(), [(1, false)]);
        assert_eq!(
            order("[?c :desc ?a :asc]").unwrap(),
            [(2, true), (0, false)]
        );
        assert_eq!(order("[1 :desc ?a]").unwrap(), [(1, true), (0, false)]);
        assert_eq!(
            order("?c :desc ?a :limit 1").unwrap(),
            [(2, true), (0, false)]
        );
        let query = Query::parse("{:find [?a] :order-by [?a :desc]}").unwrap();
        assert!(query.order_by[0].descending);
    }

    #[test]
    fn what_is_not_found_does_not_order() {
        for (text, expected) in [
            (
                "?b",
                "`?b` is not a variable of `:find`; other elements are named by their place, from 0",
            ),
            (
                "3",
                "`:find` has 3 elements, and places count from 0: none is at 3",
            ),
            (
                "-1",
                "`:find` has 3 elements, and places count from 0: none is at -1",
            ),
            (
                "",
                "expected a variable of `:find` or its place after `:order-by`",
            ),
            (
                "[]",
                "expected a variable of `:find` or its place after `:order-by`",
            ),
            (
                "[?a :down]",
                "expected `:asc` or `:desc` after a variable, found `:down`",
            ),
            (
                "[:desc ?a]",
                "expected `:asc` or `:desc` after a variable, found `:desc`",
            ),
            (
                "\"?a\"",
                "expected a variable of `:find` or its place, found a string",
            ),
        ] {
            assert_eq!(order(text).unwrap_err().message(), expected, "{text}");
        }
    }
}
