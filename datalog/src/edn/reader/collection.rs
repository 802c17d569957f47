//! Maps and sets: keys in pairs with their values, and no key twice.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::{Refusal, name};
use crate::edn::keyword::{Keyword, Symbol};
use crate::edn::value::{Edn, Form};

/// Collections up to this size are searched for duplicates pair by pair, which allocates nothing.
const PAIRWISE_MAX: usize = 12;

/// Pairs the forms of a map, and puts its bare keys into the namespace.
pub(super) fn entries(
    mut forms: impl ExactSizeIterator<Item = Form>,
    namespace: Option<&str>,
) -> Result<Vec<(Form, Form)>, Refusal> {
    let mut entries = Vec::with_capacity(forms.len() / 2);
    while let Some(mut key) = forms.next() {
        let Some(value) = forms.next() else {
            return Err(Refusal::syntax(
                "the map has no value for this key",
                key.span,
            ));
        };
        if let Some(namespace) = namespace {
            qualify(&mut key, namespace)?;
        }
        entries.push((key, value));
    }
    Ok(entries)
}

/// In `#:ns{…}` the key `:a` means `:ns/a`, and `:_/a` means `:a`.
fn qualify(key: &mut Form, namespace: &str) -> Result<(), Refusal> {
    let qualified = |own: Option<&str>, name: &str| match own {
        None => Some(format!("{namespace}/{name}")),
        Some("_") => Some(name.to_owned()),
        Some(_) => None,
    };
    let well_formed = match &mut key.edn {
        Edn::Keyword(keyword) => match qualified(keyword.namespace(), keyword.name()) {
            None => true,
            Some(text) => {
                let well_formed = name::is_keyword(&text);
                *keyword = Keyword::new(text);
                well_formed
            }
        },
        Edn::Symbol(symbol) => match qualified(symbol.namespace(), symbol.name()) {
            None => true,
            Some(text) => {
                let well_formed = name::is_symbol(&text);
                *symbol = Symbol::new(text);
                well_formed
            }
        },
        _ => true,
    };
    if well_formed {
        Ok(())
    } else {
        Err(Refusal::syntax(
            "the namespace of the map does not suit this key",
            key.span,
        ))
    }
}

/// Refuses members with equal keys, pointing at the later one.
pub(super) fn distinct<T>(
    members: Vec<T>,
    key: impl Fn(&T) -> &Form,
    what: &'static str,
) -> Result<Vec<T>, Refusal> {
    let duplicate = if members.len() <= PAIRWISE_MAX {
        members
            .iter()
            .enumerate()
            .map(|(index, member)| (index, key(member)))
            .find_map(|(index, later)| {
                members[..index]
                    .iter()
                    .any(|earlier| key(earlier) == later)
                    .then_some(later)
            })
    } else {
        first_duplicate_by_hash(members.iter().map(key))
    };
    match duplicate.map(|key| key.span) {
        None => Ok(members),
        Some(span) => Err(Refusal::syntax(format!("{what} occurs twice"), span)),
    }
}

/// Sorts hashes, which is faster than to sort forms or to fill a table.
///
/// Keys that share a hash are sorted in their turn, so that a text made to collide costs n log n too.
fn first_duplicate_by_hash<'a>(keys: impl Iterator<Item = &'a Form>) -> Option<&'a Form> {
    let hash = |key: &Form| {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        hasher.finish()
    };
    let mut hashed: Vec<(u64, usize, &Form)> = keys
        .enumerate()
        .map(|(index, key)| (hash(key), index, key))
        .collect();
    hashed.sort_unstable_by_key(|&(hash, index, _)| (hash, index));
    let same_hash = hashed
        .chunk_by_mut(|a, b| a.0 == b.0)
        .filter(|keys| keys.len() > 1);
    let duplicates = same_hash.filter_map(|keys| {
        // Stable: of equal keys the later in the text stays the later.
        keys.sort_by_key(|&(_, _, key)| key);
        let pairs = keys.windows(2).filter(|pair| pair[0].2 == pair[1].2);
        pairs
            .map(|pair| (pair[1].1, pair[1].2))
            .min_by_key(|&(index, _)| index)
    });
    duplicates
        .min_by_key(|&(index, _)| index)
        .map(|(_, key)| key)
}

#[cfg(test)]
mod tests {
    use crate::edn::{read, read_all};

    #[test]
    fn bare_keys_take_the_namespace_of_their_map() {
        assert_eq!(
            read("#:p {:a 1 :q/b 2 :_/c 3 d 4 _/e 5 \"f\" 6 :g {:h 7}}").unwrap(),
            read("{:p/a 1 :q/b 2 :c 3 p/d 4 e 5 \"f\" 6 :p/g {:h 7}}").unwrap()
        );
        for text in [
            "#:p{:a 1 :p/a 2}",
            "#:p[1]",
            "#:p",
            "#:{}",
            "#::p{}",
            "#:p/q{}",
            "#: p{}",
            "#:#_{a 1}",
            "#:1{a 1}",
            "#:p{_/1 2}",
            "#:p{_/nil 2}",
            "#:p{:_/:a 1}",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_later_of_two_equal_keys_is_at_fault() {
        let error = read("{:a 1 :b 2 :a 3}").unwrap_err();
        assert_eq!(
            (error.message(), error.span().start),
            ("this key occurs twice", 11)
        );
        let error = read("#{[1] [2] [1]}").unwrap_err();
        assert_eq!(
            (error.message(), error.span().start),
            ("this element occurs twice", 10)
        );
        assert!(
            read_all("#{1 1N 1.0 1.0M \"1\"} {1 2 2 1}").is_ok(),
            "kinds differ"
        );
        assert!(read("#{##NaN ##NaN}").is_err());
    }

    #[test]
    fn large_collections_are_checked_without_comparing_all_pairs() {
        let elements: Vec<String> = (0..200_000).map(|n| format!("\"element {n}\"")).collect();
        let elements = elements.join(" ");
        assert!(read(&format!("#{{{elements}}}")).is_ok());
        let error = read(&format!("#{{{elements} \"element 7\"}}")).unwrap_err();
        assert_eq!(error.message(), "this element occurs twice");
        assert_eq!(error.span().start, elements.len() + 3);
    }

    #[test]
    fn an_odd_map_is_refused() {
        assert_eq!(
            read("{:a 1 :b}").unwrap_err().message(),
            "the map has no value for this key"
        );
        assert!(read("{:a #_1}").is_err());
    }
}
