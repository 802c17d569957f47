//! Terms from EDN and back.
//!
//! Lists become vectors, patterns (`#"a+"`) strings. Bytes are written `#bytes "00ff"` and URIs `#uri "https://…"`; no other tags
//! make terms.

use std::fmt::{self, Write};
use std::sync::Arc;

use super::Term;
use crate::edn::{Edn, Form, Symbol};

impl TryFrom<&Form> for Term {
    type Error = String;

    fn try_from(form: &Form) -> Result<Self, String> {
        Self::try_from(&form.edn)
    }
}

impl TryFrom<&Edn> for Term {
    type Error = String;

    /// Makes a term of data.
    ///
    /// # Errors
    ///
    /// A tag that makes no term, in words.
    fn try_from(edn: &Edn) -> Result<Self, String> {
        Ok(match edn {
            Edn::Nil => Self::Nil,
            Edn::Boolean(boolean) => Self::Boolean(*boolean),
            Edn::Long(long) => Self::Long(*long),
            Edn::BigInt(number) => Self::BigInt(Arc::new(number.clone())),
            Edn::Double(double) => Self::Double(*double),
            Edn::BigDec(number) => Self::BigDec(Arc::new(number.clone())),
            Edn::Char(char) => Self::Char(*char),
            Edn::String(text) => Self::String(Arc::clone(text)),
            Edn::Symbol(symbol) => Self::Symbol(symbol.clone()),
            Edn::Keyword(keyword) => Self::Keyword(keyword.clone()),
            Edn::Instant(ms) => Self::Instant(*ms),
            Edn::Uuid(uuid) => Self::Uuid(*uuid),
            Edn::List(forms) | Edn::Vector(forms) => Self::Vector(terms(forms)?.into()),
            Edn::Set(forms) => Self::set(terms(forms)?),
            Edn::Map(entries) => {
                let entries = entries
                    .iter()
                    .map(|(k, v)| Ok((k.try_into()?, v.try_into()?)));
                Self::map(entries.collect::<Result<Vec<_>, String>>()?)
            }
            Edn::Tagged(tag, form) => match (tag.as_str(), &form.edn) {
                ("uri", Edn::String(text)) => Self::Uri(Arc::clone(text)),
                // Functions take patterns as strings.
                ("regex", Edn::String(text)) => Self::String(Arc::clone(text)),
                ("bytes", Edn::String(text)) => from_hex(text)
                    .map(Self::Bytes)
                    .ok_or("#bytes takes pairs of hexadecimal digits")?,
                ("uri" | "bytes", other) => {
                    return Err(format!("#{tag} takes a string, not {}", other.describe()));
                }
                _ => return Err(format!("the tag #{tag} makes no value here")),
            },
        })
    }
}

fn terms(forms: &[Form]) -> Result<Vec<Term>, String> {
    forms.iter().map(Term::try_from).collect()
}

fn from_hex(text: &str) -> Option<Arc<[u8]>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs
        .iter()
        .map(|[high, low]| u8::try_from(digit(high)? << 4 | digit(low)?).ok());
    rest.is_empty().then(|| bytes.collect()).flatten()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Term {
    /// This term as EDN.
    pub fn to_edn(&self) -> Edn {
        let tagged = |tag, text: &str| Edn::Tagged(Symbol::new(tag), Box::new(text.into()));
        let forms = |terms: &[Self]| terms.iter().map(|term| term.to_edn().into()).collect();
        match self {
            Self::Nil => Edn::Nil,
            Self::Boolean(boolean) => Edn::Boolean(*boolean),
            Self::Long(long) => Edn::Long(*long),
            Self::BigInt(number) => Edn::BigInt((**number).clone()),
            Self::Double(double) => Edn::Double(*double),
            Self::BigDec(number) => Edn::BigDec((**number).clone()),
            Self::Char(char) => Edn::Char(*char),
            Self::String(text) => Edn::String(Arc::clone(text)),
            Self::Keyword(keyword) => Edn::Keyword(keyword.clone()),
            Self::Symbol(symbol) => Edn::Symbol(symbol.clone()),
            Self::Instant(ms) => Edn::Instant(*ms),
            Self::Uuid(uuid) => Edn::Uuid(*uuid),
            Self::Bytes(bytes) => tagged("bytes", &to_hex(bytes)),
            Self::Uri(text) => tagged("uri", text),
            Self::Vector(terms) => Edn::Vector(forms(terms)),
            Self::Set(terms) => Edn::Set(forms(terms)),
            Self::Map(entries) => Edn::Map(
                entries
                    .iter()
                    .map(|(key, value)| (key.to_edn().into(), value.to_edn().into()))
                    .collect(),
            ),
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_edn().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::edn::read;
    use crate::term::strategy::term;

    fn term_of(text: &str) -> Result<Term, String> {
        Term::try_from(&read(text).unwrap())
    }

    #[test]
    fn collections_become_what_they_are() {
        for (text, printed) in [
            ("(1 [2])", "[1 [2]]"),
            ("#{2 1.0 1 3}", "#{1.0 2 3}"),
            ("{:b 1 :a 2}", "{:a 2, :b 1}"),
            ("{1 :a 1.0 :b}", "{1.0 :b}"),
            ("#bytes \"00FF\"", "#bytes \"00ff\""),
            ("#uri \"a:b\"", "#uri \"a:b\""),
        ] {
            assert_eq!(
                term_of(text).map(|term| term.to_string()),
                Ok(printed.to_owned())
            );
        }
    }

    #[test]
    fn tags_that_make_no_term_are_refused() {
        for (text, message) in [
            ("[#db/id 1]", "the tag #db/id makes no value here"),
            ("#uri 1", "#uri takes a string, not a long"),
            ("#bytes \"0\"", "#bytes takes pairs of hexadecimal digits"),
            ("#bytes \"0é\"", "#bytes takes pairs of hexadecimal digits"),
        ] {
            assert_eq!(term_of(text), Err(message.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn terms_survive_edn(term in term()) {
            prop_assert_eq!(Term::try_from(&term.to_edn()), Ok(term));
        }
    }
}
