//! The sections of a query, in either of its forms.

use super::{Parser, describe, is_keyword, quote};
use crate::edn::{Edn, Form};
use crate::error::Error;
use crate::span::Span;

/// What a query may consist of.
const NAMES: [&str; 11] = [
    "find", "keys", "strs", "syms", "with", "in", "where", "order-by", "limit", "offset", "timeout",
];

/// The sections that a query has.
pub(super) struct Sections<'a>(Vec<Section<'a>>);

/// One of them.
pub(super) struct Section<'a> {
    pub name: &'static str,
    /// Where the name stands.
    pub span: Span,
    content: Content<'a>,
}

/// What follows the name.
#[derive(Clone, Copy)]
enum Content<'a> {
    /// The forms up to the next name.
    Forms(&'a [Form]),
    /// The value of the map.
    Value(&'a Form),
}

impl<'a> Sections<'a> {
    /// Takes a query apart.
    pub(super) fn new(parser: Parser<'_>, query: &'a Form) -> Result<Self, Error> {
        let mut sections = Self(Vec::new());
        match &query.edn {
            Edn::Vector(forms) | Edn::List(forms) => sections.add_forms(parser, forms)?,
            Edn::Map(entries) => {
                for (key, value) in entries {
                    sections.add(parser, key, Content::Value(value))?;
                }
            }
            _ => return Err(parser.expected("a query, a vector or a map", query)),
        }
        Ok(sections)
    }

    /// The section of a name, if the query has it.
    pub(super) fn get(&self, name: &str) -> Option<&Section<'a>> {
        self.0.iter().find(|section| section.name == name)
    }

    fn add_forms(&mut self, parser: Parser<'_>, mut forms: &'a [Form]) -> Result<(), Error> {
        while let Some((key, rest)) = forms.split_first() {
            // The directions of `:order-by` are keywords, too.
            let is_order = is_keyword(key, &["order-by"]);
            let is_next = |form: &Form| {
                form.as_keyword().is_some() && !(is_order && is_keyword(form, &["asc", "desc"]))
            };
            let len = rest.iter().position(is_next).unwrap_or(rest.len());
            self.add(parser, key, Content::Forms(&rest[..len]))?;
            forms = &rest[len..];
        }
        Ok(())
    }

    fn add(&mut self, parser: Parser<'_>, key: &Form, content: Content<'a>) -> Result<(), Error> {
        let Some(keyword) = key.as_keyword() else {
            return Err(parser.expected("a section such as `:find`", key));
        };
        let Some(name) = NAMES.into_iter().find(|&name| name == keyword.as_str()) else {
            let hint = match nearest(keyword.as_str(), &NAMES) {
                Some(name) => format!("; did you mean `:{name}`?"),
                None => String::new(),
            };
            let message = format!("unknown section {}{hint}", quote(keyword));
            return Err(parser.error(message, key.span));
        };
        if self.get(name).is_some() {
            return Err(parser.error(format!("`:{name}` occurs twice"), key.span));
        }
        self.0.push(Section {
            name,
            span: key.span,
            content,
        });
        Ok(())
    }
}

impl<'a> Section<'a> {
    /// Its forms; in a map they stand in a vector.
    pub(super) fn forms(&self, parser: Parser<'_>) -> Result<&'a [Form], Error> {
        match self.content {
            Content::Forms(forms) => Ok(forms),
            Content::Value(value) => value.as_sequence().ok_or_else(|| {
                let what = format!("a vector after `:{}`", self.name);
                parser.expected(&what, value)
            }),
        }
    }

    /// Its forms, of which a map has one.
    pub(super) fn values(&self) -> &'a [Form] {
        match self.content {
            Content::Forms(forms) => forms,
            Content::Value(value) => std::slice::from_ref(value),
        }
    }
}

impl Parser<'_> {
    /// The number of `:limit`, `:offset` or `:timeout`.
    pub(super) fn count(self, section: &Section<'_>) -> Result<u64, Error> {
        let name = section.name;
        match section.values() {
            [value] => match value.as_long().map(u64::try_from) {
                Some(Ok(number)) => Ok(number),
                Some(Err(_)) => {
                    let message = format!("`:{name}` is negative");
                    Err(self.error(message, value.span))
                }
                None => {
                    let what = format!("a non-negative integer after `:{name}`");
                    Err(self.expected(&what, value))
                }
            },
            [] => {
                let message = format!("expected a non-negative integer after `:{name}`");
                Err(self.error(message, section.span))
            }
            [_, second, ..] => {
                let message = format!(
                    "`:{name}` takes one number; expected the next section, found {}",
                    describe(second)
                );
                Err(self.error(message, second.span))
            }
        }
    }
}

/// The candidate that a misspelled name is closest to, if any is close.
pub(super) fn nearest<'a>(name: &str, candidates: &[&'a str]) -> Option<&'a str> {
    const CHARS_MAX: usize = 24;
    let name: Vec<char> = name.chars().take(CHARS_MAX).collect();
    candidates
        .iter()
        .map(|candidate| (distance(&name, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many characters must be inserted, dropped, replaced or swapped with their neighbour.
fn distance(name: &[char], candidate: &str) -> usize {
    let candidate: Vec<char> = candidate.chars().collect();
    let width = candidate.len() + 1;
    // Row by row: the distance of each prefix of the name to each prefix of the candidate.
    let mut rows: Vec<Vec<usize>> = vec![(0..width).collect()];
    for (i, &c) in name.iter().enumerate() {
        let mut row = vec![i + 1; width];
        for (j, &d) in candidate.iter().enumerate() {
            let mut best = (rows[i][j] + usize::from(c != d))
                .min(rows[i][j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && c == candidate[j - 1] && d == name[i - 1] {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row[j + 1] = best;
        }
        rows.push(row);
    }
    rows[name.len()][width - 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ast::Query;

    #[track_caller]
    fn message(text: &str) -> String {
        Query::parse(text).unwrap_err().message().to_owned()
    }

    #[test]
    fn sections_come_in_any_order_and_as_a_map() {
        let texts = [
            "[:find ?e :in $ ?x :where [?e :a ?x] :limit 1 :offset 2 :timeout 3]",
            "(:timeout 3 :limit 1 :where [?e :a ?x] :in $ ?x :offset 2 :find ?e)",
            "{:where [[?e :a ?x]] :find [?e] :in [$ ?x] :timeout 3 :offset 2 :limit 1}",
        ];
        for text in texts {
            let query = Query::parse(text).unwrap();
            assert_eq!((query.inputs.len(), query.clauses.len()), (2, 1), "{text}");
            assert_eq!(
                (query.limit, query.offset, query.timeout),
                (Some(1), 2, Some(3))
            );
        }
    }

    #[test]
    fn a_misspelled_section_is_corrected() {
        for (wrong, right) in [
            ("fnd", "find"),
            ("fidn", "find"),
            ("were", "where"),
            ("orderby", "order-by"),
            ("order_by", "order-by"),
            ("key", "keys"),
            ("limits", "limit"),
        ] {
            assert_eq!(nearest(wrong, &NAMES), Some(right), "{wrong}");
        }
        assert_eq!(nearest("having", &NAMES), None);
        assert_eq!(nearest("", &NAMES), None);
    }

    #[test]
    fn an_unknown_section_without_a_neighbour_is_only_named() {
        assert_eq!(
            message("[:find ?e :having [(> ?e 1)]]"),
            "unknown section `:having`"
        );
    }

    #[test]
    fn a_section_occurs_once() {
        assert_eq!(message("[:find ?e :find ?x]"), "`:find` occurs twice");
    }

    #[test]
    fn a_map_holds_vectors() {
        assert_eq!(
            message("{:find [?e] :where 1}"),
            "expected a vector after `:where`, found a long"
        );
        assert_eq!(
            message("{\"find\" [?e]}"),
            "expected a section such as `:find`, found a string"
        );
    }

    #[test]
    fn counts_are_one_non_negative_integer() {
        for (text, expected) in [
            ("[:find ?e :limit -1]", "`:limit` is negative"),
            (
                "[:find ?e :limit 1.0]",
                "expected a non-negative integer after `:limit`, found a double",
            ),
            (
                "[:find ?e :offset]",
                "expected a non-negative integer after `:offset`",
            ),
            (
                "[:find ?e :timeout 1 2]",
                "`:timeout` takes one number; expected the next section, found a long",
            ),
            (
                "{:find [?e] :limit [1]}",
                "expected a non-negative integer after `:limit`, found a vector",
            ),
        ] {
            assert_eq!(message(text), expected);
        }
    }
}
