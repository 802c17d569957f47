//! What a tag makes of its form.

use uuid::Uuid;

use super::Refusal;
use crate::edn::instant;
use crate::edn::keyword::Symbol;
use crate::edn::value::{Edn, Form};
use crate::error::ErrorKind;

/// Applies a tag: `#inst` and `#uuid` are built in, others are kept.
pub(super) fn apply(tag: &Symbol, form: Form) -> Result<Edn, Refusal> {
    let invalid = |message: &'static str| Refusal::new(ErrorKind::Invalid, message, form.span);
    match tag.as_str() {
        "inst" => {
            let text = form
                .as_str()
                .ok_or_else(|| invalid("#inst takes a string"))?;
            instant::milliseconds(text)
                .map(Edn::Instant)
                .map_err(invalid)
        }
        "uuid" => {
            let text = form
                .as_str()
                .ok_or_else(|| invalid("#uuid takes a string"))?;
            // The parser knows other notations, without hyphens or in braces; EDN does not.
            let uuid = Some(text).filter(|text| text.len() == 36);
            let uuid = uuid.and_then(|text| Uuid::try_parse(text).ok());
            uuid.map(Edn::Uuid)
                .ok_or_else(|| invalid("a uuid has 32 hexadecimal digits in groups of 8-4-4-4-12"))
        }
        _ => Ok(Edn::Tagged(tag.clone(), Box::new(form))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edn::read;

    #[test]
    fn tags_take_the_next_form() {
        let form = read("#db/id[:db.part/user -1]").unwrap();
        let (tag, inner) = form.as_tagged().unwrap();
        assert_eq!(
            (tag.as_str(), inner.to_string()),
            ("db/id", "[:db.part/user -1]".to_owned())
        );
        assert_eq!(read("#db/id [:db.part/user -1]").unwrap(), form);
        assert_eq!(read("#a #b nil").unwrap().to_string(), "#a #b nil");
        assert_eq!(
            read("#inst \"1970-01-01T00:00:00.001\"").unwrap().edn,
            Edn::Instant(1)
        );
        let uuid = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6";
        assert_eq!(
            read(&format!("#uuid \"{uuid}\"")).unwrap().to_string(),
            format!("#uuid \"{uuid}\"")
        );
        for text in [
            "#inst 2011",
            "#inst \"x\"",
            "#uuid 1",
            "#uuid \"f81d4fae7dec11d0a76500a0c91e6bf6\"",
            "#a",
            "[#a]",
            "#a/b/c 1",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn other_uses_of_the_number_sign_are_refused() {
        for text in "# #1 #é/ #(a) #'a #?(:clj,1) #=(a) #<a> #!a #^a ## ##inf ##Info".split(' ') {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(read("# a 1").is_err());
    }
}
