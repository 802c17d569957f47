//! Text → AST: queries, rule sets and pull patterns.
//!
//! Above [`edn`](crate::edn), below all that knows what names mean: a name is taken as it is written, and
//! nothing is looked up. Each kind of text has its page; all are methods of one [`Parser`], which only
//! holds the text for the sake of errors.
//!
//! **Invariant.** No text panics. The depth of the recursion is that of the forms, which the reader
//! bounds.

mod clause;
mod find;
mod input;
mod order;
mod pull;
mod rule;
mod section;

use std::sync::Arc;

use self::section::Sections;
use crate::ast::{Input, InputKind, Query, RuleSet, SourceName, Variable};
use crate::edn::{Edn, Form, Keyword, Symbol, read};
use crate::error::{Error, ErrorKind};
use crate::span::Span;

/// Longest text of a query, a rule set or a pull pattern, in bytes.
const TEXT_BYTES_MAX: usize = 1 << 20;
/// Most characters of a name that a message repeats.
const NAME_CHARS_MAX: usize = 60;

impl Query {
    /// Parses the text of a query.
    ///
    /// It is a vector of sections, `[:find ?name :where [?e :person/name ?name]]`, a map of them,
    /// `{:find [?name] :where […]}`, or an EDN string that holds either; then [`Query::text`] is what the
    /// string holds.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Limit`] if the text is longer than 1 MiB; [`ErrorKind::Invalid`] if it is EDN, but not
    /// a query; else the errors of [`read`].
    ///
    /// ```
    /// use datomfusion_datalog::ast::Query;
    ///
    /// let query = Query::parse("[:find ?name . :in $ ?id :where [?e :person/id ?id] [?e :person/name ?name]]")?;
    /// assert_eq!((query.inputs.len(), query.clauses.len()), (2, 2));
    ///
    /// let error = Query::parse("[:find ?e :were [?e :person/name]]").unwrap_err();
    /// assert_eq!(error.message(), "unknown section `:were`; did you mean `:where`?");
    /// # Ok::<(), datomfusion_datalog::Error>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, Error> {
        let (text, form) = read_program(text)?;
        Parser { text: &text }.query(&form, &text)
    }
}

impl RuleSet {
    /// Parses the text of a rule set: a vector of rules, `[[(ancestor ?a ?b) [?a :person/parent ?b]] …]`,
    /// or an EDN string that holds one.
    ///
    /// # Errors
    ///
    /// As [`Query::parse`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let (text, form) = read_program(text)?;
        let branches = Parser { text: &text }.rules(&form)?;
        Ok(Self { text, branches })
    }
}

/// Reads a text that holds one form, or one string that does; answers the text in which the form stands.
fn read_program(text: &str) -> Result<(Arc<str>, Form), Error> {
    let form = read_limited(text)?;
    match form.edn {
        Edn::String(inner) => {
            let form = read_limited(&inner)?;
            Ok((inner, form))
        }
        _ => Ok((text.into(), form)),
    }
}

/// Reads a text of one form that is not too long.
fn read_limited(text: &str) -> Result<Form, Error> {
    if text.len() > TEXT_BYTES_MAX {
        let message = format!("the text is longer than {TEXT_BYTES_MAX} bytes");
        let span = Span::new(TEXT_BYTES_MAX, TEXT_BYTES_MAX);
        return Err(Error::with_kind(ErrorKind::Limit, message, span, text));
    }
    read(text)
}

/// Turns forms into trees.
#[derive(Clone, Copy)]
struct Parser<'a> {
    /// What the spans of the forms point into.
    text: &'a str,
}

impl Parser<'_> {
    fn query(self, form: &Form, text: &Arc<str>) -> Result<Query, Error> {
        let sections = Sections::new(self, form)?;
        let Some(find) = sections.get("find") else {
            return Err(self.error("the query does not say what to `:find`", form.span));
        };
        let find = self.find(find)?;
        let keys = self.return_map(&sections, &find)?;
        let with = match sections.get("with") {
            Some(section) => self.variables(section.forms(self)?)?,
            None => Vec::new(),
        };
        let inputs = match sections.get("in") {
            Some(section) => self.inputs(section.forms(self)?)?,
            None => vec![Input {
                kind: InputKind::Source(SourceName::default()),
                span: form.span,
            }],
        };
        let clauses = match sections.get("where") {
            Some(section) => self.clauses(section.forms(self)?)?,
            None => Vec::new(),
        };
        let order_by = match sections.get("order-by") {
            Some(section) => self.order_by(section, &find)?,
            None => Vec::new(),
        };
        let number = |name| {
            let section = sections.get(name);
            section.map(|section| self.count(section)).transpose()
        };
        Ok(Query {
            text: Arc::clone(text),
            find,
            keys,
            with,
            inputs,
            clauses,
            order_by,
            limit: number("limit")?,
            offset: number("offset")?.unwrap_or(0),
            timeout: number("timeout")?,
        })
    }

    /// The variables of `:with`.
    fn variables(self, forms: &[Form]) -> Result<Vec<Variable>, Error> {
        let variable = |form| variable(form).ok_or_else(|| self.expected("a variable", form));
        forms.iter().map(variable).collect()
    }

    /// Reports what is wrong with a place in the text.
    #[cold]
    fn error(self, message: impl Into<String>, span: Span) -> Error {
        Error::new(message, span, self.text)
    }

    /// Reports a form that stands where another kind was expected.
    #[cold]
    fn expected(self, what: &str, found: &Form) -> Error {
        let message = format!("expected {what}, found {}", describe(found));
        self.error(message, found.span)
    }
}

/// What a form is, for messages: names as they are, the rest by kind.
fn describe(form: &Form) -> String {
    match &form.edn {
        Edn::Symbol(symbol) => quote(symbol),
        Edn::Keyword(keyword) => quote(keyword),
        Edn::List(forms) if forms.is_empty() => "an empty list".to_owned(),
        Edn::Vector(forms) if forms.is_empty() => "an empty vector".to_owned(),
        Edn::Map(entries) if entries.is_empty() => "an empty map".to_owned(),
        edn => edn.describe().to_owned(),
    }
}

/// A name between backticks, clipped if it is very long.
fn quote(name: &impl ToString) -> String {
    let name = name.to_string();
    match name.char_indices().nth(NAME_CHARS_MAX) {
        Some((at, _)) => format!("`{}…`", &name[..at]),
        None => format!("`{name}`"),
    }
}

/// The variable, if the form is one: a symbol that begins with `?`.
fn variable(form: &Form) -> Option<Variable> {
    let symbol = form.as_symbol()?;
    let is_variable = symbol.as_str().starts_with('?');
    is_variable.then(|| Variable::new(Arc::clone(symbol.as_arc())))
}

/// The name of a source, if the form is one: a symbol that begins with `$`.
fn source(form: &Form) -> Option<SourceName> {
    let symbol = form.as_symbol()?;
    let is_source = symbol.as_str().starts_with('$');
    is_source.then(|| SourceName::new(Arc::clone(symbol.as_arc())))
}

/// The symbol, if it is one without a meaning of its own in queries.
fn plain_symbol(form: &Form) -> Option<&Symbol> {
    form.as_symbol().filter(|symbol| {
        let name = symbol.as_str();
        !name.starts_with(['?', '$']) && !matches!(name, "_" | "%" | "." | "...")
    })
}

/// Whether the form is this symbol.
fn is_symbol(form: &Form, name: &str) -> bool {
    form.as_symbol()
        .is_some_and(|symbol| symbol.as_str() == name)
}

/// The keyword, if the form is one of these, without their colons.
fn is_keyword(form: &Form, names: &[&str]) -> bool {
    form.as_keyword()
        .is_some_and(|keyword: &Keyword| names.contains(&keyword.as_str()))
}

/// What is quoted, if the form is `'x`, which is read as `(quote x)`.
fn quoted(form: &Form) -> Option<&Form> {
    match form.as_list()? {
        [quote, form] if is_symbol(quote, "quote") => Some(form),
        _ => None,
    }
}

/// The span from the first to the last form; empty at the start of nothing.
fn span_of(forms: &[Form]) -> Option<Span> {
    let (first, last) = (forms.first()?, forms.last()?);
    Some(first.span.to(last.span))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn message(text: &str) -> String {
        Query::parse(text).unwrap_err().message().to_owned()
    }

    #[test]
    fn a_query_without_in_has_the_default_source() {
        let query = Query::parse("[:find ?e :where [?e :a]]").unwrap();
        assert_eq!(
            query.inputs[0].kind,
            InputKind::Source(SourceName::new("$"))
        );
        assert_eq!((query.limit, query.offset, query.timeout), (None, 0, None));
    }

    #[test]
    fn an_empty_in_gives_no_source() {
        assert_eq!(
            Query::parse("{:find [?e] :in []}").unwrap().inputs,
            Vec::new()
        );
    }

    #[test]
    fn a_query_may_be_the_content_of_one_string() {
        let query = Query::parse(r#"  "[:find ?e :where [?e :a \"x\"]]" "#).unwrap();
        assert_eq!(&*query.text, r#"[:find ?e :where [?e :a "x"]]"#);
        let span = query.clauses[0].span;
        assert_eq!(&query.text[span.start..span.end], r#"[?e :a "x"]"#);
        assert_eq!(
            message(r#""\"[:find ?e]\"""#),
            "expected a query, a vector or a map, found a string"
        );
    }

    #[test]
    fn a_long_text_is_refused_before_it_is_read() {
        let text = format!("[:find ?e]{}", " ".repeat(TEXT_BYTES_MAX));
        assert_eq!(Query::parse(&text).unwrap_err().kind(), ErrorKind::Limit);
        assert!(Query::parse(&text[..TEXT_BYTES_MAX]).is_ok());
        let text = format!("\"{text}\"");
        assert_eq!(RuleSet::parse(&text).unwrap_err().kind(), ErrorKind::Limit);
    }

    #[test]
    fn long_names_are_clipped_in_messages() {
        let text = format!("[:find {}]", "x".repeat(1000));
        assert!(message(&text).len() < 200, "{}", message(&text));
    }
}
