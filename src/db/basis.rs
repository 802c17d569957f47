//! The basis grammar: which branch, and which moment of it, a name or an address asks for.
//!
//! Pure text to value; [`db`](crate::db) resolves the value against a database. Addresses, `--db` and
//! SQL schema names share it:
//!
//! ```text
//! [#branch][@basis[,basis]…]
//! basis = 2022-12-31T12:00:00Z    the last transaction at or before an instant; without zone: UTC
//!       | 2022-12-31              the whole day, UTC
//!       | t=42 | tx=ENTID | commit=[T-]HEX
//!       | since=POINT             only what came after; POINT as above, or a bare t
//!       | history                 superseded facts as well
//! ```
//!
//! **Invariant.** A [`BasisSpec`] names at most one moment, one `since` and one `history`, in that
//! order, so equal requests are equal values and print alike.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, SecondsFormat};

use crate::error::{Error, Result};
use crate::id::BranchName;

const GRAMMAR: &str = "a basis is [#branch][@basis[,basis]…] with basis one of \
    2022-12-31T12:00:00Z, 2022-12-31, t=N, tx=ENTID, commit=HEX, since=N or since=INSTANT, history";

/// Which branch and which view of it: what may follow the name of a database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct BasisSpec {
    branch: Option<BranchName>,
    parts: Vec<BasisPart>,
}

/// One of the comma-separated parts of a basis, in the order in which they apply.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BasisPart {
    /// The database as it was just after this point, inclusive.
    At(TimePoint),
    /// The database as this commit left it: lower-case `HEX` or `T-HEX`, the hash possibly shortened.
    Commit(String),
    /// Only what was asserted after this point, exclusive.
    Since(TimePoint),
    /// Superseded facts and retractions too.
    History,
}

/// A point on the time line of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimePoint {
    /// The transaction with this ordinal; 0 is the bootstrap.
    T(u64),
    /// The transaction with this entity id.
    Tx(i64),
    /// The last transaction at or before this instant, in milliseconds since 1970-01-01 UTC.
    Instant(i64),
    /// The last transaction of this day or before it, UTC.
    Date(NaiveDate),
}

impl BasisSpec {
    /// Puts parts in order.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if two parts contradict each other.
    pub fn try_new(branch: Option<BranchName>, mut parts: Vec<BasisPart>) -> Result<Self> {
        parts.sort_unstable();
        for pair in parts.windows(2) {
            let why = match pair {
                [
                    BasisPart::At(_) | BasisPart::Commit(_),
                    BasisPart::At(_) | BasisPart::Commit(_),
                ] => "name two moments; give one",
                [BasisPart::Since(_), BasisPart::Since(_)] => "are both `since`; give one",
                [BasisPart::History, BasisPart::History] => "repeat `history`",
                _ => continue,
            };
            return Err(Error::invalid(format!("{} and {} {why}", pair[0], pair[1])));
        }
        Ok(Self { branch, parts })
    }

    /// The branch, unless the default one is meant.
    pub fn branch(&self) -> Option<&BranchName> {
        self.branch.as_ref()
    }

    /// The parts, in the order in which they apply; none means the head of the branch.
    pub fn parts(&self) -> &[BasisPart] {
        &self.parts
    }

    /// Whether this is the head of the default branch.
    pub fn is_empty(&self) -> bool {
        self.branch.is_none() && self.parts.is_empty()
    }
}

impl TimePoint {
    /// The last millisecond that belongs to this point, since 1970-01-01 UTC; `None` for `T` and `Tx`.
    pub fn last_millisecond(self) -> Option<i64> {
        match self {
            Self::T(_) | Self::Tx(_) => None,
            Self::Instant(ms) => Some(ms),
            Self::Date(day) => Some(
                day.and_hms_milli_opt(23, 59, 59, 999)?
                    .and_utc()
                    .timestamp_millis(),
            ),
        }
    }

    /// Reads an instant (RFC 3339, `T` or a space, zone optional) or a date.
    ///
    /// A fraction finer than a millisecond is cut: no transaction lies between two milliseconds.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the text is neither, or is a day that does not exist.
    pub fn parse_time(text: &str) -> Result<Self> {
        if !starts_like_a_date(text) {
            return Err(Error::invalid(format!(
                "{text:?} is not an instant or a date; {GRAMMAR}"
            )));
        }
        if let Ok(day) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
            return Ok(Self::Date(day));
        }
        let instant = DateTime::parse_from_rfc3339(text)
            .map(|at| at.timestamp_millis())
            .ok()
            .or_else(|| {
                [
                    "%Y-%m-%dT%H:%M:%S%.f%#z",
                    "%Y-%m-%d %H:%M:%S%.f%#z",
                    "%Y-%m-%d %H:%M:%S%.f %#z",
                ]
                .iter()
                .find_map(|form| DateTime::parse_from_str(text, form).ok())
                .map(|at| at.timestamp_millis())
            })
            .or_else(|| {
                let local = text.strip_suffix(['Z', 'z']).unwrap_or(text);
                [
                    "%Y-%m-%dT%H:%M:%S%.f",
                    "%Y-%m-%d %H:%M:%S%.f",
                    "%Y-%m-%dT%H:%M",
                    "%Y-%m-%d %H:%M",
                ]
                .iter()
                .find_map(|form| NaiveDateTime::parse_from_str(local, form).ok())
                .map(|at| at.and_utc().timestamp_millis())
            });
        match instant {
            // What an offset moves out of the four-digit years could not be printed again.
            Some(ms) if instant_text(ms).is_some() => Ok(Self::Instant(ms)),
            _ => Err(Error::invalid(format!(
                "{text:?} is not a valid instant or date; {GRAMMAR}"
            ))),
        }
    }

    fn parse(text: &str) -> Result<Self> {
        if let Some(number) = text.strip_prefix("t=") {
            Ok(Self::T(parse_number(number, "t")?))
        } else if let Some(number) = text.strip_prefix("tx=") {
            Ok(Self::Tx(parse_number(number, "tx")?))
        } else {
            Self::parse_time(text)
        }
    }
}

impl FromStr for BasisSpec {
    type Err = Error;

    /// Reads `[#branch][@basis[,basis]…]`; the empty text is the head of the default branch.
    fn from_str(text: &str) -> Result<Self> {
        let (branch, basis) = match text.strip_prefix('#') {
            Some(rest) => match rest.split_once('@') {
                Some((branch, basis)) => (Some(branch), Some(basis)),
                None => (Some(rest), None),
            },
            None if text.is_empty() => (None, None),
            None => match text.strip_prefix('@') {
                Some(basis) => (None, Some(basis)),
                None => {
                    return Err(Error::invalid(format!(
                        "{text:?} begins with neither # nor @; {GRAMMAR}"
                    )));
                }
            },
        };
        let branch = branch
            .map(|name| BranchName::try_new(&unescape(name)?))
            .transpose()?;
        let parts = match basis {
            Some(basis) => basis
                .split(',')
                .map(|part| part.trim().parse())
                .collect::<Result<_>>()?,
            None => Vec::new(),
        };
        Self::try_new(branch, parts)
    }
}

impl FromStr for BasisPart {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "history" {
            return Ok(Self::History);
        }
        if let Some(commit) = text.strip_prefix("commit=") {
            return parse_commit(commit);
        }
        if let Some(point) = text.strip_prefix("since=") {
            // A bare number after `since=` is a t.
            return Ok(Self::Since(if all_digits(point) {
                TimePoint::T(parse_number(point, "since")?)
            } else {
                TimePoint::parse(point)?
            }));
        }
        TimePoint::parse(text).map(Self::At)
    }
}

impl fmt::Display for BasisSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(branch) = &self.branch {
            write!(f, "#{}", escape(branch.as_str()))?;
        }
        for (i, part) in self.parts.iter().enumerate() {
            write!(f, "{}{part}", if i == 0 { '@' } else { ',' })?;
        }
        Ok(())
    }
}

impl fmt::Display for BasisPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(point) => write!(f, "{point}"),
            Self::Commit(commit) => write!(f, "commit={commit}"),
            Self::Since(TimePoint::T(t)) => write!(f, "since={t}"),
            Self::Since(point) => write!(f, "since={point}"),
            Self::History => f.write_str("history"),
        }
    }
}

impl fmt::Display for TimePoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::T(t) => write!(f, "t={t}"),
            Self::Tx(tx) => write!(f, "tx={tx}"),
            Self::Instant(ms) => match instant_text(*ms) {
                Some(text) => f.write_str(&text),
                None => write!(f, "{ms} ms"),
            },
            Self::Date(day) => write!(f, "{}", day.format("%Y-%m-%d")),
        }
    }
}

/// Splits an address into the store's URL and the basis that may follow it.
///
/// A basis is looked for only after the last `/`, and an `@` begins one only if what follows looks like
/// one: `s3://user@host/x` stays whole. In paths and `memory:` names `%40`, `%23` and `%25` stand for
/// `@`, `#` and `%`; true URLs (`scheme://`) keep their escapes, which their own parsers undo.
///
/// # Errors
///
/// [`Error::Invalid`] if something looks like a basis but is not a valid one.
pub fn split_url(text: &str) -> Result<(String, BasisSpec)> {
    let last = text.rfind('/').map_or(0, |slash| slash + 1);
    let tail = &text[last..];
    let cut = match tail.find('#') {
        Some(hash) => hash,
        None => match tail.rfind('@') {
            Some(at) if looks_like_a_basis(&tail[at + 1..]) => at,
            _ => tail.len(),
        },
    };
    let spec = match tail[cut..].parse() {
        // What is torn apart here may be a password with a # in it, which must not be printed.
        Err(_) if text.contains("://") && has_stray_at(&tail[cut..]) => {
            return Err(Error::invalid(format!(
                "what follows the # of the address is no branch and basis; in a user or a password \
                 write %23 for # and %40 for @; {GRAMMAR}"
            )));
        }
        spec => spec?,
    };
    let url = if text.contains("://") {
        text[..last + cut].to_owned()
    } else {
        text[..last].to_owned() + &unescape_marks(&tail[..cut])
    };
    Ok((url, spec))
}

/// Splits a SQL schema name, `sales@t=3`, into the name of the database and the basis.
///
/// # Errors
///
/// [`Error::Invalid`] if what follows the first `#` or `@` is not a basis.
#[cfg_attr(
    not(feature = "query"),
    allow(dead_code, reason = "schema names are the host's")
)]
pub fn split_name(text: &str) -> Result<(String, BasisSpec)> {
    let cut = text.find(['#', '@']).unwrap_or(text.len());
    Ok((unescape_marks(&text[..cut]), text[cut..].parse()?))
}

fn has_stray_at(text: &str) -> bool {
    let mut behind = text.split('@').skip(1);
    behind.any(|basis| !looks_like_a_basis(basis))
}

fn looks_like_a_basis(text: &str) -> bool {
    text.split(',').any(|part| {
        let part = part.trim();
        part == "history"
            || ["t=", "tx=", "commit=", "since="]
                .iter()
                .any(|key| part.starts_with(key))
            || starts_like_a_date(part)
    })
}

fn starts_like_a_date(text: &str) -> bool {
    text.split_once('-').is_some_and(|(year, rest)| {
        year.len() == 4 && all_digits(year) && rest.starts_with(|c: char| c.is_ascii_digit())
    })
}

fn all_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn parse_number<N: FromStr>(text: &str, what: &str) -> Result<N> {
    if !all_digits(text) {
        return Err(Error::invalid(format!(
            "{what}={text} is not a whole number; {GRAMMAR}"
        )));
    }
    text.parse()
        .map_err(|_| Error::invalid(format!("{what}={text} is too large")))
}

fn parse_commit(text: &str) -> Result<BasisPart> {
    const HEX_MIN: usize = 4;
    const HEX_MAX: usize = 64;
    let (t, hash) = match text.split_once('-') {
        Some((t, hash)) => (Some(parse_number::<u64>(t, "t of commit")?), hash),
        None => (None, text),
    };
    if !(HEX_MIN..=HEX_MAX).contains(&hash.len())
        || !hash.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        return Err(Error::invalid(format!(
            "commit={text} is not a commit: {HEX_MIN} to {HEX_MAX} hexadecimal digits, or t-HEX"
        )));
    }
    let hash = hash.to_ascii_lowercase();
    Ok(BasisPart::Commit(
        t.map_or_else(|| hash.clone(), |t| format!("{t}-{hash}")),
    ))
}

fn instant_text(ms: i64) -> Option<String> {
    let at = DateTime::from_timestamp_millis(ms)?;
    let digits = if ms.rem_euclid(1000) == 0 {
        SecondsFormat::Secs
    } else {
        SecondsFormat::Millis
    };
    (0..=9999)
        .contains(&at.year())
        .then(|| at.to_rfc3339_opts(digits, true))
}

/// Escapes what would end a branch name early, in this grammar or in an address.
fn escape(name: &str) -> String {
    name.chars()
        .fold(String::with_capacity(name.len()), |mut out, c| {
            match c {
                '@' => out.push_str("%40"),
                '#' => out.push_str("%23"),
                '/' => out.push_str("%2F"),
                '%' => out.push_str("%25"),
                c => out.push(c),
            }
            out
        })
}

fn unescape_marks(text: &str) -> String {
    // `%25` last: `%2540` is the text `%40`.
    text.replace("%40", "@")
        .replace("%23", "#")
        .replace("%25", "%")
}

fn unescape(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = tail;
            continue;
        }
        let digit = |i: usize| {
            tail.get(i)
                .and_then(|digit| char::from(*digit).to_digit(16))
        };
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            return Err(Error::invalid(format!(
                "{text:?}: % is followed by two hexadecimal digits"
            )));
        };
        bytes.push(u8::try_from(high * 16 + low).expect("two hexadecimal digits fit a byte"));
        rest = &tail[2..];
    }
    String::from_utf8(bytes)
        .map_err(|_| Error::invalid(format!("{text:?} is not UTF-8 once unescaped")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spec(text: &str) -> BasisSpec {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn ms(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text)
            .unwrap()
            .timestamp_millis()
    }

    #[test]
    fn every_form_of_the_grammar_reads_and_prints_canonically() {
        for (text, canonical) in [
            ("", ""),
            ("@2022-12-31", "@2022-12-31"),
            ("@2022-12-31T12:00:00Z", "@2022-12-31T12:00:00Z"),
            ("@2022-12-31T12:00:00", "@2022-12-31T12:00:00Z"),
            ("@2022-12-31 12:00:00", "@2022-12-31T12:00:00Z"),
            ("@2022-12-31 12:00", "@2022-12-31T12:00:00Z"),
            ("@2022-12-31 12:00:00z", "@2022-12-31T12:00:00Z"),
            ("@2022-12-31T12:00:00.1239Z", "@2022-12-31T12:00:00.123Z"),
            ("@2022-12-31T12:00:00+02:00", "@2022-12-31T10:00:00Z"),
            ("@2022-12-31 12:00:00+02", "@2022-12-31T10:00:00Z"),
            ("@2022-12-31 12:00:00 +0200", "@2022-12-31T10:00:00Z"),
            ("@1969-12-31T23:59:59.9999", "@1969-12-31T23:59:59.999Z"),
            ("@t=42", "@t=42"),
            ("@t=007", "@t=7"),
            ("@tx=4398046511146", "@tx=4398046511146"),
            ("@commit=00FF", "@commit=00ff"),
            ("@commit=7-00ff", "@commit=7-00ff"),
            ("@since=5", "@since=5"),
            ("@since=t=5", "@since=5"),
            ("@since=2022-12-31", "@since=2022-12-31"),
            ("@history", "@history"),
            ("@history, since=2 ,t=9", "@t=9,since=2,history"),
            ("#dev", "#dev"),
            ("#dev@t=3", "#dev@t=3"),
            ("#a%40b%2Fc", "#a%40b%2Fc"),
            ("#a/b", "#a%2Fb"),
        ] {
            assert_eq!(spec(text).to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn what_is_not_in_the_grammar_is_refused_with_the_reason() {
        for (text, why) in [
            ("t=3", "begins with neither"),
            ("@", "not an instant"),
            ("@yesterday", "not an instant"),
            ("@2022-13-45", "not a valid instant"),
            ("@2022-02-30T00:00:00Z", "not a valid instant"),
            ("@0000-01-01T00:00:00+05:00", "not a valid instant"),
            ("@99999-01-01", "not an instant"),
            ("@t=", "whole number"),
            ("@t=-1", "whole number"),
            ("@t=18446744073709551616", "too large"),
            ("@tx=9223372036854775808", "too large"),
            ("@commit=xyz", "hexadecimal"),
            ("@commit=ab", "hexadecimal"),
            ("@t=1,t=2", "two moments"),
            ("@t=1,commit=abcd", "two moments"),
            ("@2022-12-31,t=1", "two moments"),
            ("@since=1,since=2", "both `since`"),
            ("@history,history", "repeat"),
            ("@since=history", "not an instant"),
            ("#", "branch name"),
            ("#%zz", "hexadecimal"),
            ("#%ff", "UTF-8"),
        ] {
            let error = text.parse::<BasisSpec>().expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_date_is_the_whole_day() {
        let day = TimePoint::parse_time("2022-12-31").unwrap();
        assert_eq!(day.last_millisecond(), Some(ms("2022-12-31T23:59:59.999Z")));
        let instant = TimePoint::parse_time("2022-12-31T00:00:00").unwrap();
        assert_eq!(instant.last_millisecond(), Some(ms("2022-12-31T00:00:00Z")));
        assert_eq!(TimePoint::T(1).last_millisecond(), None);
    }

    #[test]
    fn an_address_keeps_every_at_sign_that_is_not_a_basis() {
        for (text, url, basis) in [
            ("memory:a@2022-12-31", "memory:a", "@2022-12-31"),
            ("memory:@t=3", "memory:", "@t=3"),
            ("/path/x@t=3", "/path/x", "@t=3"),
            ("s3://b/p@history", "s3://b/p", "@history"),
            ("s3://bucket@t=3", "s3://bucket", "@t=3"),
            ("s3://user@host/x", "s3://user@host/x", ""),
            ("postgres://u:p@host", "postgres://u:p@host", ""),
            (
                "postgres://u@2022-01-01/db#dev",
                "postgres://u@2022-01-01/db",
                "#dev",
            ),
            (
                "postgres://u:p@w@host:5/db?table=a@t=3",
                "postgres://u:p@w@host:5/db?table=a",
                "@t=3",
            ),
            (
                "postgres://u:t=3@host/db#dev@history",
                "postgres://u:t=3@host/db",
                "#dev@history",
            ),
            ("postgres://u:t=3@host", "postgres://u:t=3@host", ""),
            ("sqlite:a/b.db?table=x#dev", "sqlite:a/b.db?table=x", "#dev"),
            ("sqlite:///a%40b@t=3", "sqlite:///a%40b", "@t=3"),
            ("/a@t=1/b", "/a@t=1/b", ""),
            ("me@example", "me@example", ""),
            ("me@example@t=1", "me@example", "@t=1"),
            ("/p/x#dev@since=2,history", "/p/x", "#dev@since=2,history"),
            ("/p/x#dev", "/p/x", "#dev"),
            ("/p/a%40t=3", "/p/a@t=3", ""),
            ("/p/a%23b@t=3", "/p/a#b", "@t=3"),
            ("/p/a%2540", "/p/a%40", ""),
            ("s3://b/a%40t=3", "s3://b/a%40t=3", ""),
            ("x@2022-12-31 12:00:00", "x", "@2022-12-31T12:00:00Z"),
        ] {
            let (got, spec) = split_url(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(
                (got.as_str(), spec.to_string().as_str()),
                (url, basis),
                "{text}"
            );
        }
        for text in [
            "/p@t=x",
            "/p@2022-13-01",
            "/p@t=1,t=2",
            "/p@t=1,histroy",
            "/p#@t=1",
        ] {
            assert!(split_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_password_that_is_torn_apart_is_not_printed() {
        for text in [
            "postgres://u:a#canary@host",
            "postgres://u:a#b@canary@host",
            "postgres://u:a#%canary@host",
            "postgres://u:a#b@canary@host@t=3",
            "postgres://u:a#%canary@host@t=3",
            "postgres://u:a/b#c@t=canary@host",
        ] {
            let error = split_url(text).unwrap_err().to_string();
            assert!(!error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn a_schema_name_splits_strictly() {
        let (name, basis) = split_name("sales#dev@t=3").unwrap();
        assert_eq!(
            (name.as_str(), basis.to_string().as_str()),
            ("sales", "#dev@t=3")
        );
        assert!(split_name("sales").unwrap().1.is_empty());
        assert!(split_name("sales@yesterday").is_err());
    }

    fn point() -> impl Strategy<Value = TimePoint> {
        prop_oneof![
            any::<u64>().prop_map(TimePoint::T),
            (0..=i64::MAX).prop_map(TimePoint::Tx),
            (ms("0000-01-01T00:00:00Z")..=ms("9999-12-31T23:59:59.999Z"))
                .prop_map(TimePoint::Instant),
            (0..=9999, 1..=366_u32)
                .prop_filter_map("a day of the year", |(y, d)| NaiveDate::from_yo_opt(y, d))
                .prop_map(TimePoint::Date),
        ]
    }

    proptest! {
        #[test]
        fn printed_specs_read_back(
            branch in proptest::option::of("[^\\p{C}]{1,20}"),
            moment in proptest::option::of(prop_oneof![
                point().prop_map(BasisPart::At),
                "[0-9a-f]{4,64}".prop_map(BasisPart::Commit),
                "[1-9][0-9]{0,9}-[0-9a-f]{4,64}".prop_map(BasisPart::Commit),
            ]),
            since in proptest::option::of(point().prop_map(BasisPart::Since)),
            history in any::<bool>(),
        ) {
            let parts = moment.into_iter().chain(since).chain(history.then_some(BasisPart::History));
            let branch = branch.map(|name| BranchName::try_new(&name).unwrap());
            let spec = BasisSpec::try_new(branch, parts.collect()).unwrap();
            prop_assert_eq!(spec.to_string().parse::<BasisSpec>().unwrap(), spec.clone());
            let (url, split) = split_url(&format!("/data/sales{spec}")).unwrap();
            prop_assert_eq!((url.as_str(), split), ("/data/sales", spec));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = split_url(&text);
            let _ = split_name(&text);
            let _ = text.parse::<BasisSpec>();
        }
    }
}
