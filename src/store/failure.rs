//! What an object store says when it fails, without what may be secret.
//!
//! Used by every part of [`store`](crate::store) that hands such an error on. A server that refuses a
//! request quotes it: Amazon S3 sends an invalid session token back, and with a wrong signature all that
//! was signed, tokens included. So of the body of an answer only the code and the message are kept.

use std::error::Error as StdError;
use std::fmt;

use crate::error::StoreFailure;

/// Longest reason that is taken over from a server, in characters.
pub(super) const REASON_CHARS_MAX: usize = 300;
/// What comes before the status and the body of an answer, in the words of `object_store`.
const STATUS: &str = "non-2xx status code: ";
/// What comes before a body, in the words of `object_store`.
const BODY: &str = "Server returned error response: ";
/// Where a machine in Amazon's cloud is given credentials of its own, which is the last resort.
const METADATA: &str = "/latest/api/token";

/// The words of an object store, causes included.
struct Said(String);

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Said {}

/// A failed request, as it may be shown.
pub(super) fn requested(error: object_store::Error) -> StoreFailure {
    let text = with_causes(&error);
    if !text.contains("Error performing ") && !text.contains(STATUS) && !text.contains(BODY) {
        // Not from a server: the files say which one it was, and the operating system why.
        return error.into();
    }
    let mut said = without_body(&text);
    if said.contains(METADATA) {
        said.push_str(
            " (no credentials are in the environment, and this machine has none of its own)",
        );
    }
    Box::new(Said(said))
}

/// A store that could not be built from its options, which are not shown.
#[cfg(any(feature = "aws", feature = "gcp", feature = "azure", feature = "http"))]
pub(super) fn built(error: object_store::Error) -> StoreFailure {
    let text = with_causes(&error);
    let said = match (text.find('"'), text.rfind('"')) {
        (Some(start), Some(end)) if start < end => {
            format!("{}\"…\"{}", &text[..start], &text[end + 1..])
        }
        _ => text,
    };
    Box::new(Said(said))
}

/// What object stores can do, and a [`Store`](super::Store) never asks for.
#[allow(dead_code, reason = "features say which kinds of store use it")]
pub(super) fn unsupported<T>(implementer: &str, operation: &str) -> object_store::Result<T> {
    Err(object_store::Error::NotImplemented {
        operation: operation.to_owned(),
        implementer: implementer.to_owned(),
    })
}

/// Whether a server says that what is missing is the bucket and not an object in it.
pub(super) fn names_no_bucket(source: &(dyn StdError + 'static)) -> bool {
    let text = source.to_string();
    // Amazon S3 and its likes, Google Cloud Storage, Azure Blob Storage.
    [
        "<Code>NoSuchBucket</Code>",
        "The specified bucket does not exist",
        "<Code>ContainerNotFound</Code>",
    ]
    .iter()
    .any(|words| text.contains(words))
}

fn with_causes(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

/// The text up to the body that a server sent, and what of the body is for people.
fn without_body(text: &str) -> String {
    let (before, body) = if let Some(at) = text.find(STATUS) {
        let status = at + STATUS.len();
        let end = text[status..]
            .find(": ")
            .map_or(text.len(), |len| status + len);
        (&text[..end], text.get(end + 2..).unwrap_or_default())
    } else if let Some(at) = text.find(BODY) {
        let end = at + BODY.len();
        (text[..end].trim_end_matches(": "), &text[end..])
    } else {
        return text.to_owned();
    };
    let reason = [
        ("<Code>", "</Code>"),
        ("<Message>", "</Message>"),
        ("\"message\": \"", "\""),
    ]
    .iter()
    .filter_map(|(start, end)| body.split_once(start)?.1.split_once(end))
    .fold(before.to_owned(), |said, (part, _)| {
        format!("{said}: {part}")
    });
    for_people(&reason, before.chars().count() + REASON_CHARS_MAX)
}

/// So much of what a server says, without what is for terminals.
pub(super) fn for_people(said: &str, chars_max: usize) -> String {
    let shown = said.chars().take(chars_max);
    shown
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_body_the_code_and_the_message_are_kept() {
        let said = "Error performing PUT http://host/bucket/heads/main in 1ms - Server returned \
                    non-2xx status code: 400 Bad Request";
        for (body, kept) in [
            (
                "<?xml version=\"1.0\"?>\n<Error><Code>InvalidToken</Code><Message>The provided \
                 token is malformed</Message><Token-0>canary</Token-0></Error>",
                ": InvalidToken: The provided token is malformed",
            ),
            (
                "{\"error\": {\"code\": 400, \"message\": \"Wrong.\", \"token\": \"canary\"}}",
                ": Wrong.",
            ),
            ("<html>canary</html>", ""),
            ("<Code>canary", ""),
            ("", ""),
        ] {
            assert_eq!(
                without_body(&format!("{said}: {body}")),
                format!("{said}{kept}")
            );
        }
        let long = format!("{said}: <Message>{}\n</Message>", "é".repeat(10_000));
        assert!(without_body(&long).chars().count() <= said.chars().count() + REASON_CHARS_MAX);
        assert_eq!(without_body(said), said);
        assert_eq!(without_body("nothing of the kind"), "nothing of the kind");
    }

    #[cfg(any(feature = "aws", feature = "gcp", feature = "azure", feature = "http"))]
    #[test]
    fn the_value_of_an_option_is_not_shown() {
        let error = object_store::Error::Generic {
            store: "Config",
            source: "failed to parse \"ca\"nary\" as boolean".into(),
        };
        let said = built(error).to_string();
        assert_eq!(
            said,
            "Generic Config error: failed to parse \"…\" as boolean"
        );
    }
}
