//! Pull patterns.

use super::section::nearest;
use super::{Parser, is_symbol, plain_symbol, quote, quoted, read_limited};
use crate::ast::{Nested, PullAttribute, PullKey, PullPattern};
use crate::edn::{Edn, Form, Keyword};
use crate::error::Error;
use crate::span::Span;

/// What may follow an attribute in a vector.
const OPTIONS: [&str; 4] = ["as", "limit", "default", "xform"];

impl PullPattern {
    /// Parses the text of a pull pattern: `[:person/name {:person/friend [*]}]`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit) if the text is longer than 1 MiB,
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if it is EDN, but not a pull pattern; else the
    /// errors of [`read`](crate::edn::read).
    pub fn parse(text: &str) -> Result<Self, Error> {
        Self::from_form(&read_limited(text)?, text)
    }

    /// Parses a form that stands in a text, such as an input of a query.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if it is not a pull pattern.
    pub fn from_form(form: &Form, text: &str) -> Result<Self, Error> {
        Parser { text }.pull_pattern(quoted(form).unwrap_or(form))
    }
}

impl Parser<'_> {
    pub(super) fn pull_pattern(self, form: &Form) -> Result<PullPattern, Error> {
        let Some(forms) = form.as_vector().filter(|forms| !forms.is_empty()) else {
            return Err(self.expected("a pull pattern such as `[*]`", form));
        };
        let mut attributes = Vec::with_capacity(forms.len());
        for form in forms {
            match &form.edn {
                Edn::Map(entries) if entries.is_empty() => {
                    return Err(self.expected("an attribute and its pattern in the map", form));
                }
                Edn::Map(entries) => {
                    for (key, nested) in entries {
                        attributes.push(self.pull_entry(key, nested)?);
                    }
                }
                _ => attributes.push(self.pull_attribute(form)?),
            }
        }
        Ok(PullPattern { attributes })
    }

    /// `{attribute pattern}`
    fn pull_entry(self, key: &Form, nested: &Form) -> Result<PullAttribute, Error> {
        let mut attribute = self.pull_attribute(key)?;
        if matches!(attribute.key, PullKey::Wildcard | PullKey::DbId) {
            return Err(self.expected("an attribute that refers to entities", key));
        }
        attribute.nested = Some(self.nested(nested)?);
        attribute.span = key.span.to(nested.span);
        Ok(attribute)
    }

    fn nested(self, form: &Form) -> Result<Nested, Error> {
        let depth = match &form.edn {
            Edn::Vector(_) => return Ok(Nested::Pattern(self.pull_pattern(form)?)),
            Edn::Symbol(dots) if dots.as_str() == "..." => None,
            Edn::String(dots) if &**dots == "..." => None,
            Edn::Long(depth @ 1..) => Some(u32::try_from(*depth).unwrap_or(u32::MAX)),
            Edn::Long(_) => {
                let message = "expected a positive number of levels, or `...` for all";
                return Err(self.error(message, form.span));
            }
            _ => {
                let what = "a pattern, a number of levels, or `...` for all levels";
                return Err(self.expected(what, form));
            }
        };
        Ok(Nested::Recursion(depth))
    }

    /// An attribute, with or without options.
    fn pull_attribute(self, form: &Form) -> Result<PullAttribute, Error> {
        match form.as_sequence() {
            Some([head, arguments @ ..]) if is_function(head, "limit") => {
                let [attribute, limit] = self.two(arguments, "(limit attribute 10)", form.span)?;
                let mut attribute = self.bare_attribute(attribute, form.span)?;
                attribute.limit = Some(self.pull_limit(limit)?);
                Ok(attribute)
            }
            Some([head, arguments @ ..]) if is_function(head, "default") => {
                let [attribute, value] = self.two(arguments, "(default attribute 0)", form.span)?;
                let mut attribute = self.bare_attribute(attribute, form.span)?;
                attribute.default = Some(unquoted(value));
                Ok(attribute)
            }
            Some([attribute, options @ ..]) => {
                let mut attribute = self.bare_attribute(attribute, form.span)?;
                self.options(&mut attribute, options)?;
                Ok(attribute)
            }
            _ => self.bare_attribute(form, form.span),
        }
    }

    fn two<'f>(self, forms: &'f [Form], how: &str, span: Span) -> Result<[&'f Form; 2], Error> {
        match forms {
            [first, second] => Ok([first, second]),
            _ => Err(self.error(format!("expected two arguments: `{how}`"), span)),
        }
    }

    /// An attribute without options, inside something that may have them.
    fn bare_attribute(self, form: &Form, span: Span) -> Result<PullAttribute, Error> {
        let key = match &form.edn {
            Edn::Keyword(keyword) => pull_key(keyword),
            Edn::String(star) if &**star == "*" => PullKey::Wildcard,
            _ if is_symbol(form, "*") => PullKey::Wildcard,
            _ => return Err(self.expected("an attribute, `*` or a map", form)),
        };
        if key == PullKey::Wildcard && span != form.span {
            return Err(self.error("`*` stands alone, without options", span));
        }
        Ok(PullAttribute {
            key,
            rename: None,
            limit: None,
            default: None,
            xform: None,
            nested: None,
            span,
        })
    }

    /// `:as :name :limit 3 …`
    fn options(self, attribute: &mut PullAttribute, mut forms: &[Form]) -> Result<(), Error> {
        while let Some((key, rest)) = forms.split_first() {
            let name = key.as_keyword().map(Keyword::as_str);
            let Some(name) = OPTIONS.into_iter().find(|&option| Some(option) == name) else {
                let hint = name.and_then(|name| nearest(name, &OPTIONS));
                let what = match hint {
                    Some(option) => format!("an option; did you mean `:{option}`?"),
                    None => "an option: `:as`, `:limit`, `:default` or `:xform`".to_owned(),
                };
                return Err(self.expected_option(&what, key));
            };
            let Some((value, rest)) = rest.split_first() else {
                return Err(self.error(format!("expected a value after `:{name}`"), key.span));
            };
            let is_second = match name {
                "as" => attribute.rename.replace(unquoted(value)).is_some(),
                "limit" => attribute.limit.replace(self.pull_limit(value)?).is_some(),
                "default" => attribute.default.replace(unquoted(value)).is_some(),
                _ => {
                    let value = quoted(value).unwrap_or(value);
                    let Some(function) = plain_symbol(value) else {
                        return Err(self.expected("the name of a function after `:xform`", value));
                    };
                    attribute.xform.replace(function.clone()).is_some()
                }
            };
            if is_second {
                return Err(self.error(format!("`:{name}` occurs twice"), key.span));
            }
            forms = rest;
        }
        Ok(())
    }

    #[cold]
    fn expected_option(self, what: &str, found: &Form) -> Error {
        match found.as_keyword() {
            Some(keyword) => {
                let message = format!("{} is not {what}", quote(keyword));
                self.error(message, found.span)
            }
            None => self.expected(what, found),
        }
    }

    /// Most values, or `nil` for all.
    fn pull_limit(self, form: &Form) -> Result<Option<u64>, Error> {
        match form.edn {
            Edn::Nil => Ok(None),
            Edn::Long(limit @ 1..) => Ok(Some(limit.unsigned_abs())),
            Edn::Long(_) => {
                let message = "expected a positive limit, or nil for all";
                Err(self.error(message, form.span))
            }
            _ => Err(self.expected("a positive limit, or nil for all", form)),
        }
    }
}

/// What a keyword in a pattern names; an underscore before the name turns a reference around.
fn pull_key(keyword: &Keyword) -> PullKey {
    match keyword.name().strip_prefix('_') {
        _ if keyword.as_str() == "db/id" => PullKey::DbId,
        Some(name) if !name.is_empty() => PullKey::Reverse(match keyword.namespace() {
            Some(namespace) => Keyword::qualified(namespace, name),
            None => Keyword::new(name),
        }),
        _ => PullKey::Forward(keyword.clone()),
    }
}

/// Whether a form names one of the older options, as a symbol or as a string.
fn is_function(form: &Form, name: &str) -> bool {
    is_symbol(form, name) || form.as_str() == Some(name)
}

fn unquoted(form: &Form) -> Form {
    quoted(form).unwrap_or(form).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(text: &str) -> PullAttribute {
        let pattern = PullPattern::parse(&format!("[{text}]")).unwrap();
        let [attribute] = <[_; 1]>::try_from(pattern.attributes).unwrap();
        attribute
    }

    fn key(text: &str) -> PullKey {
        attribute(text).key
    }

    #[test]
    fn keys_are_told_from_each_other() {
        assert_eq!(key("*"), PullKey::Wildcard);
        assert_eq!(key("\"*\""), PullKey::Wildcard);
        assert_eq!(key(":db/id"), PullKey::DbId);
        assert_eq!(key(":a/b"), PullKey::Forward(Keyword::new("a/b")));
        assert_eq!(key(":a/_b"), PullKey::Reverse(Keyword::new("a/b")));
        assert_eq!(key(":_b"), PullKey::Reverse(Keyword::new("b")));
        assert_eq!(key(":a/_"), PullKey::Forward(Keyword::new("a/_")));
    }

    #[test]
    fn options_stand_in_a_vector_or_in_a_list() {
        for text in [
            "[:a/b :as \"x\" :limit 3 :default 'y :xform ns/f]",
            "(:a/b :xform ns/f :default y :limit 3 :as \"x\")",
        ] {
            let attribute = attribute(text);
            assert_eq!(attribute.rename, Some(Form::from("x")));
            assert_eq!(attribute.limit, Some(Some(3)));
            assert_eq!(attribute.default.unwrap().to_string(), "y");
            assert_eq!(attribute.xform.unwrap().as_str(), "ns/f");
            assert_eq!(attribute.span, Span::new(1, text.len() + 1));
        }
        assert_eq!(attribute("[:a]").limit, None);
        assert_eq!(attribute("[:a :limit nil]").limit, Some(None));
        assert_eq!(
            attribute("[:a :default nil]").default,
            Some(Form::new(Edn::Nil, Span::default()))
        );
    }

    #[test]
    fn the_older_options_are_understood() {
        assert_eq!(attribute("(limit :a 3)").limit, Some(Some(3)));
        assert_eq!(attribute("(\"limit\" :a nil)").limit, Some(None));
        assert_eq!(
            attribute("[default :a false]").default,
            Some(Form::from(false))
        );
    }

    #[test]
    fn a_map_gives_one_part_an_entry() {
        let text = "[{:a [*] [:b :as :c] ... (limit :_d 3) 7 :e \"...\"}]";
        let parts = PullPattern::parse(text).unwrap().attributes;
        let nested: Vec<_> = parts
            .iter()
            .map(|part| part.nested.clone().unwrap())
            .collect();
        assert!(matches!(&nested[0], Nested::Pattern(p) if p.attributes.len() == 1));
        assert_eq!(
            nested[1..],
            [
                Nested::Recursion(None),
                Nested::Recursion(Some(7)),
                Nested::Recursion(None)
            ]
        );
        assert_eq!(parts[1].rename, Some(Form::from(Keyword::new("c"))));
        assert_eq!(parts[2].limit, Some(Some(3)));
        assert_eq!(&text[parts[0].span.start..parts[0].span.end], ":a [*]");
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for (text, expected) in [
            (":a", "expected a pull pattern such as `[*]`, found `:a`"),
            (
                "[]",
                "expected a pull pattern such as `[*]`, found an empty vector",
            ),
            (
                "[{}]",
                "expected an attribute and its pattern in the map, found an empty map",
            ),
            ("[1]", "expected an attribute, `*` or a map, found a long"),
            (
                "[[]]",
                "expected an attribute, `*` or a map, found an empty vector",
            ),
            ("[[* :limit 1]]", "`*` stands alone, without options"),
            (
                "[{* [:a]}]",
                "expected an attribute that refers to entities, found `*`",
            ),
            (
                "[{:db/id [:a]}]",
                "expected an attribute that refers to entities, found `:db/id`",
            ),
            (
                "[{:a 0}]",
                "expected a positive number of levels, or `...` for all",
            ),
            (
                "[{:a :b}]",
                "expected a pattern, a number of levels, or `...` for all levels, found `:b`",
            ),
            (
                "[[:a :limit 0]]",
                "expected a positive limit, or nil for all",
            ),
            ("[[:a :limit]]", "expected a value after `:limit`"),
            (
                "[[:a :limt 1]]",
                "`:limt` is not an option; did you mean `:limit`?",
            ),
            (
                "[[:a :b 1]]",
                "`:b` is not an option: `:as`, `:limit`, `:default` or `:xform`",
            ),
            (
                "[[:a 1]]",
                "expected an option: `:as`, `:limit`, `:default` or `:xform`, found a long",
            ),
            ("[[:a :as 1 :as 2]]", "`:as` occurs twice"),
            (
                "[[:a :xform 1]]",
                "expected the name of a function after `:xform`, found a long",
            ),
            (
                "[(limit :a)]",
                "expected two arguments: `(limit attribute 10)`",
            ),
            (
                "[(default [:a] 1)]",
                "expected an attribute, `*` or a map, found a vector",
            ),
        ] {
            assert_eq!(
                PullPattern::parse(text).unwrap_err().message(),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn a_form_of_another_text_is_parsed_where_it_stands() {
        let text = "{:pattern '[:a 1]}";
        let form = crate::edn::read(text).unwrap();
        let error = PullPattern::from_form(form.get("pattern").unwrap(), text).unwrap_err();
        assert_eq!(error.column(), 16);
    }
}
