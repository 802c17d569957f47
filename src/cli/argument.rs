//! Values of arguments: names with addresses, texts that may lie in files.

use std::fs;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use super::Failure;

/// Whether a text was meant as an option. As a statement it would be nothing but a comment.
pub(super) fn is_option(text: &str) -> bool {
    text.starts_with("--") && text.len() > 2 && !text.contains(char::is_whitespace)
}

/// Refuses a text that was meant as an option.
pub(super) fn no_option(text: &str) -> Result<(), Failure> {
    if is_option(text) {
        return Err(Failure::usage(format!("there is no option {text}")));
    }
    Ok(())
}

/// Splits `NAME=REST` at the first equals sign: a basis has some of its own.
pub(super) fn named(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, rest)) if !name.is_empty() && !rest.is_empty() => {
            Ok((name.to_owned(), rest.to_owned()))
        }
        _ => Err("it is written NAME=ADDRESS, as in sales=./sales".into()),
    }
}

/// Splits `$NAME=ADDRESS` or `NAME=ADDRESS`; an address without a name is the source `$`.
///
/// An equals sign may belong to the address: `./sales@t=4`.
pub(super) fn source(text: &str) -> Result<(String, String), String> {
    let is_plain = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    };
    let (name, address) = match text.split_once('=') {
        Some((name, address)) if name.starts_with('$') => (name.to_owned(), address),
        Some((name, address)) if is_plain(name) => (format!("${name}"), address),
        _ => ("$".to_owned(), text),
    };
    if address.is_empty() || address.starts_with('=') {
        return Err(
            "it is written NAME=ADDRESS, as in '$s=./sales', or as an address alone".into(),
        );
    }
    Ok((name, address.to_owned()))
}

/// The text of a file; `-` is standard input.
pub(super) fn read(file: &Path) -> Result<String, Failure> {
    if file == Path::new("-") {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    fs::read_to_string(file).map_err(|error| Failure::from(error).of(file.display()))
}

/// The text of a query: the argument, a file, or what is piped in; nothing at a terminal.
pub(super) fn query_text(
    argument: Option<String>,
    file: Option<PathBuf>,
) -> Result<Option<String>, Failure> {
    match (argument, file) {
        (Some(text), _) => {
            no_option(&text)?;
            Ok(Some(text))
        }
        (None, Some(file)) => read(&file).map(Some),
        (None, None) if io::stdin().is_terminal() => Ok(None),
        (None, None) => read(Path::new("-")).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_a_name_or_is_the_only_one() {
        for (text, name, address) in [
            ("$=./sales", "$", "./sales"),
            ("$s=./sales@t=4", "$s", "./sales@t=4"),
            ("s=./sales@t=4", "$s", "./sales@t=4"),
            ("./sales@t=4", "$", "./sales@t=4"),
            ("sales@t=4", "$", "sales@t=4"),
            ("s3://bucket/a=b", "$", "s3://bucket/a=b"),
            ("C:\\sales", "$", "C:\\sales"),
        ] {
            assert_eq!(source(text), Ok((name.to_owned(), address.to_owned())));
        }
        for text in ["", "$=", "s=", "=./sales"] {
            assert!(source(text).is_err(), "{text}");
        }
    }
}
