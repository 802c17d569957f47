//! Names that look like a name that does not exist.

const NAMES_MAX: usize = 3;

/// The nearest of some names; at most three.
pub(crate) fn near<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    // No name of ours is longer, and the work is bounded.
    if name.len() > 64 {
        return Vec::new();
    }
    let last = |name: &str| name.rsplit(['/', '.']).next().map(str::to_owned);
    let limit = 1 + name.chars().count() / 4;
    let mut near: Vec<_> = names
        .filter_map(|other| {
            let is_elsewhere = name.len() > 2 && last(other) == last(name);
            let distance = if is_elsewhere {
                1
            } else {
                distance(name, other)
            };
            // A sign is not like any other sign.
            let is_like = distance < name.chars().count().max(2) && distance <= limit;
            is_like.then_some((distance, other))
        })
        .collect();
    near.sort_unstable();
    near.truncate(NAMES_MAX);
    near.into_iter().map(|(_, name)| name).collect()
}

/// Fewest insertions, removals, replacements and swaps of neighbours that make one of the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<_>, Vec<_>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let replaced = above[j] + usize::from(a[i] != b[j]);
            let mut best = replaced.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::Functions;

    #[test]
    fn distance_counts_edits() {
        for (a, b, edits) in [
            ("", "ab", 2),
            ("abc", "abc", 0),
            ("abc", "acb", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
        }
    }

    #[test]
    fn names_are_suggested() {
        let functions = Functions::standard();
        assert_eq!(functions.near("evn?"), ["even?"]);
        assert_eq!(
            functions.near("starts-with?"),
            ["clojure.string/starts-with?", ".startsWith"]
        );
        assert_eq!(
            functions.near("str/upper-case"),
            ["clojure.string/upper-case"]
        );
        assert_eq!(functions.near("quite-another"), [""; 0]);
        assert_eq!(functions.near_aggregate("coutn"), ["count"]);
    }
}
