//! The order of joins, from what relations are expected to hold.
//!
//! The rows of a join are the product of its inputs' rows, divided, for every variable that inputs share, by
//! all but the smallest of its numbers of values: the values of one input are taken to be among those of
//! another that has more (Selinger et al., *Access path selection*, 1979). An input of which the others
//! determine at most one row adds none.
//!
//! What a tree costs is what its joins give on, and what they keep: the rows of each join and of the smaller
//! of its sides. Up to [`EXACT_MAX`] inputs the cheapest of all trees without needless products is found, by
//! dynamic programming over sets of inputs; beyond that the pair that gives the fewest rows is joined, again
//! and again.

use std::collections::BTreeMap;

/// Inputs that are ordered exactly: 3^n/2 pairs are looked at.
pub const EXACT_MAX: usize = 10;

/// Inputs of which every pair is looked at, where it is not exact.
const PAIRS_MAX: usize = 32;

/// What is known of a relation before it is joined.
#[derive(Clone, Debug, PartialEq)]
pub struct Input<V> {
    /// Rows that are expected.
    pub rows: f64,
    /// The variables, each with the number of values that it has before conditions take rows away.
    pub values: Vec<(V, f64)>,
    /// Variables that determine a row, if such are known.
    pub unique: Option<Vec<V>>,
}

/// Which inputs are joined with which.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    /// An input, by its place.
    Input(usize),
    /// Two trees, joined on the variables that they share.
    Join {
        /// One side.
        left: Box<Tree>,
        /// The other side.
        right: Box<Tree>,
        /// Rows that are expected.
        rows: f64,
    },
}

impl Tree {
    /// The places of the inputs, from left to right.
    pub fn inputs(&self) -> Vec<usize> {
        match self {
            Self::Input(at) => vec![*at],
            Self::Join { left, right, .. } => {
                let mut inputs = left.inputs();
                inputs.extend(right.inputs());
                inputs
            }
        }
    }

    fn join(left: Self, right: Self, rows: f64) -> Self {
        Self::Join {
            left: Box::new(left),
            right: Box::new(right),
            rows,
        }
    }
}

/// A tree for each set of inputs that variables connect, the smallest result first.
pub fn trees<V: Copy + Ord>(inputs: &[Input<V>]) -> Vec<Tree> {
    let mut forest: Vec<(f64, Tree)> = components(inputs)
        .into_iter()
        .map(|places| {
            let chosen: Vec<&Input<V>> = places.iter().map(|at| &inputs[*at]).collect();
            let (rows, mut tree) = if chosen.len() <= EXACT_MAX {
                exact(&chosen)
            } else if chosen.len() <= PAIRS_MAX {
                by_pairs(&chosen)
            } else {
                by_size(&chosen)
            };
            renumber(&mut tree, &places);
            (rows, tree)
        })
        .collect();
    forest.sort_by(|(left, _), (right, _)| left.total_cmp(right));
    forest.into_iter().map(|(_, tree)| tree).collect()
}

/// As [`trees`], but the inputs of each set are joined in the order in which they are given.
pub fn written<V: Copy + Ord>(inputs: &[Input<V>]) -> Vec<Tree> {
    let joined = components(inputs).into_iter().filter_map(|places| {
        let each = places.into_iter();
        let each = each.map(|at| (Joined::of(&inputs[at]), Tree::Input(at)));
        let (_, tree) = each.reduce(|(before, left), (next, right)| {
            let both = before.with(&next);
            let tree = Tree::join(left, right, both.rows);
            (both, tree)
        })?;
        Some(tree)
    });
    joined.collect()
}

fn renumber(tree: &mut Tree, places: &[usize]) {
    match tree {
        Tree::Input(at) => *at = places[*at],
        Tree::Join { left, right, .. } => {
            renumber(left, places);
            renumber(right, places);
        }
    }
}

/// The sets of inputs that variables connect.
fn components<V: Copy + Ord>(inputs: &[Input<V>]) -> Vec<Vec<usize>> {
    let mut leader: Vec<usize> = (0..inputs.len()).collect();
    let mut seen: BTreeMap<V, usize> = BTreeMap::new();
    for (at, input) in inputs.iter().enumerate() {
        for (var, _) in &input.values {
            let other = *seen.entry(*var).or_insert(at);
            let (one, two) = (leader_of(&mut leader, at), leader_of(&mut leader, other));
            leader[one.max(two)] = one.min(two);
        }
    }
    let mut sets: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for at in 0..inputs.len() {
        let first = leader_of(&mut leader, at);
        sets.entry(first).or_default().push(at);
    }
    sets.into_values().collect()
}

/// What a tree costs: what [`trees`] makes least.
pub fn cost<V: Copy + Ord>(tree: &Tree, inputs: &[Input<V>]) -> f64 {
    cost_and_result(tree, inputs).1
}

fn cost_and_result<V: Copy + Ord>(tree: &Tree, inputs: &[Input<V>]) -> (Joined<V>, f64) {
    match tree {
        Tree::Input(at) => (Joined::of(&inputs[*at]), 0.0),
        Tree::Join { left, right, .. } => {
            let (one, one_cost) = cost_and_result(left, inputs);
            let (other, other_cost) = cost_and_result(right, inputs);
            let joined = one.with(&other);
            let own = cost_of(one.rows, other.rows, joined.rows);
            (joined, one_cost + other_cost + own)
        }
    }
}

/// The first of a set of inputs; the way to it is made shorter.
fn leader_of(leader: &mut [usize], mut at: usize) -> usize {
    while leader[at] != at {
        leader[at] = leader[leader[at]];
        at = leader[at];
    }
    at
}

/// What is known of a join.
#[derive(Clone, Debug)]
struct Joined<V> {
    rows: f64,
    /// How many values each variable has, by variable.
    values: Vec<(V, f64)>,
    /// What each input determines a row by is told by the variables that the others have.
    unique: Option<Vec<V>>,
}

impl<V: Copy + Ord> Joined<V> {
    fn of(input: &Input<V>) -> Self {
        let mut values = BTreeMap::new();
        for (var, count) in &input.values {
            let known = values.entry(*var).or_insert(f64::MAX);
            *known = count.max(1.0).min(*known);
        }
        Self {
            rows: input.rows.max(1.0),
            values: values.into_iter().collect(),
            unique: input.unique.clone(),
        }
    }

    fn has(&self, var: &V) -> bool {
        let found = self.values.binary_search_by_key(var, |(known, _)| *known);
        found.is_ok()
    }

    fn shares(&self, other: &Self) -> bool {
        self.values.iter().any(|(var, _)| other.has(var))
    }

    /// Whether the variables of another determine at most one row.
    fn determined_by(&self, other: &Self) -> bool {
        let unique = self.unique.as_ref();
        unique.is_some_and(|vars| vars.iter().all(|var| other.has(var)))
    }

    /// The variables of both in order, each with its values on either side.
    fn both<'j>(&'j self, other: &'j Self) -> impl Iterator<Item = (V, Option<f64>, Option<f64>)> {
        let (mut ours, mut theirs) = (
            self.values.iter().peekable(),
            other.values.iter().peekable(),
        );
        std::iter::from_fn(move || {
            let (one, two) = (
                ours.peek().map(|(var, _)| *var),
                theirs.peek().map(|(var, _)| *var),
            );
            let var = match (one, two) {
                (Some(one), Some(two)) => one.min(two),
                (one, two) => one.or(two)?,
            };
            let mine = ours
                .next_if(|(own, _)| *own == var)
                .map(|(_, values)| *values);
            let its = theirs
                .next_if(|(own, _)| *own == var)
                .map(|(_, values)| *values);
            Some((var, mine, its))
        })
    }

    /// The rows of the join with another.
    fn rows_with(&self, other: &Self) -> f64 {
        let mut rows = self.rows * other.rows;
        for (_, ours, theirs) in self.both(other) {
            if let (Some(ours), Some(theirs)) = (ours, theirs) {
                rows /= ours.max(theirs);
            }
        }
        if other.determined_by(self) {
            rows = rows.min(self.rows);
        }
        if self.determined_by(other) {
            rows = rows.min(other.rows);
        }
        rows
    }

    fn with(&self, other: &Self) -> Self {
        let values = self.both(other).filter_map(|(var, ours, theirs)| {
            let values = match (ours, theirs) {
                (Some(ours), Some(theirs)) => ours.min(theirs),
                (ours, theirs) => ours.or(theirs)?,
            };
            Some((var, values))
        });
        let (mine, its) = (self.determined_by(other), other.determined_by(self));
        let unique = match (&self.unique, &other.unique) {
            (Some(own), _) if its => Some(own.clone()),
            (_, Some(own)) if mine => Some(own.clone()),
            (Some(own), Some(others)) => {
                let added = others.iter().filter(|var| !own.contains(var));
                Some(own.iter().chain(added).copied().collect())
            }
            _ => None,
        };
        Self {
            rows: self.rows_with(other),
            values: values.collect(),
            unique,
        }
    }
}

/// What a join adds to the cost of a tree.
fn cost_of(left: f64, right: f64, rows: f64) -> f64 {
    // A part of a row is one. Only here: else the rows of a set would depend on its tree.
    rows.max(1.0) + left.min(right).max(1.0)
}

/// The best tree of a set of inputs, as far as it is known.
struct Best<V> {
    joined: Joined<V>,
    cost: f64,
    /// The inputs of the left side; all of them if there is but one.
    left: usize,
}

/// The cheapest tree of inputs that are connected.
fn exact<V: Copy + Ord>(inputs: &[&Input<V>]) -> (f64, Tree) {
    let mut best: Vec<Option<Best<V>>> = Vec::new();
    best.resize_with(1 << inputs.len(), || None);
    // The inputs that share a variable with one of a set.
    let mut neighbours = vec![0_usize; best.len()];
    for set in 1..best.len() {
        let last = 1 << set.ilog2();
        let rest = set ^ last;
        if rest == 0 {
            let joined = Joined::of(inputs[set.trailing_zeros() as usize]);
            neighbours[set] = (0..inputs.len())
                .filter(|at| joined.shares(&Joined::of(inputs[*at])))
                .fold(0, |all, at| all | 1 << at);
            best[set] = Some(Best {
                joined,
                cost: 0.0,
                left: set,
            });
            continue;
        }
        neighbours[set] = neighbours[last] | neighbours[rest];
        // Every split once: the left side has the last input.
        let mut found: Option<Best<V>> = None;
        let mut right = rest;
        while right > 0 {
            let left = set ^ right;
            if neighbours[left] & right != 0
                && let (Some(one), Some(other)) = (&best[left], &best[right])
            {
                // All trees of a set have the same rows, but for what is known to be unique.
                let known = found.as_ref().map(|found| found.joined.rows);
                let joined = known.unwrap_or_else(|| one.joined.rows_with(&other.joined));
                let cost =
                    one.cost + other.cost + cost_of(one.joined.rows, other.joined.rows, joined);
                if found.as_ref().is_none_or(|found| cost < found.cost) {
                    let known = found.take().map(|found| found.joined);
                    found = Some(Best {
                        joined: known.unwrap_or_else(|| one.joined.with(&other.joined)),
                        cost,
                        left,
                    });
                }
            }
            right = (right - 1) & rest;
        }
        best[set] = found;
    }
    let all = best.len() - 1;
    let rows = best[all].as_ref().map_or(1.0, |best| best.joined.rows);
    (rows, tree_of(&best, all))
}

fn tree_of<V>(best: &[Option<Best<V>>], set: usize) -> Tree {
    match &best[set] {
        Some(found) if found.left != set => {
            let (left, right) = (tree_of(best, found.left), tree_of(best, set ^ found.left));
            Tree::join(left, right, found.joined.rows)
        }
        _ => Tree::Input(set.trailing_zeros() as usize),
    }
}

/// Joins the pair that costs least until one tree is left.
fn by_pairs<V: Copy + Ord>(inputs: &[&Input<V>]) -> (f64, Tree) {
    let inputs = inputs.iter().enumerate();
    let mut trees: Vec<(Joined<V>, Tree)> = inputs
        .map(|(at, input)| (Joined::of(input), Tree::Input(at)))
        .collect();
    loop {
        let mut found: Option<(f64, usize, usize)> = None;
        for right in 1..trees.len() {
            for left in 0..right {
                let (one, other) = (&trees[left].0, &trees[right].0);
                if one.shares(other) {
                    let cost = cost_of(one.rows, other.rows, one.rows_with(other));
                    if found.is_none_or(|(least, ..)| cost < least) {
                        found = Some((cost, left, right));
                    }
                }
            }
        }
        let Some((_, left, right)) = found else { break };
        let (others, second) = trees.swap_remove(right);
        let (joined, first) = &mut trees[left];
        *joined = joined.with(&others);
        *first = Tree::join(first.clone(), second, joined.rows);
    }
    // What is connected has ended as one tree.
    let tree = trees.into_iter().reduce(|(one, first), (other, second)| {
        let joined = one.with(&other);
        let rows = joined.rows;
        (joined, Tree::join(first, second, rows))
    });
    tree.map_or((1.0, Tree::Input(0)), |(joined, tree)| (joined.rows, tree))
}

/// Begins with the smallest input and joins the smallest that is connected.
fn by_size<V: Copy + Ord>(inputs: &[&Input<V>]) -> (f64, Tree) {
    let mut left: Vec<usize> = (0..inputs.len()).collect();
    left.sort_by(|one, other| inputs[*one].rows.total_cmp(&inputs[*other].rows));
    let first = left.remove(0);
    let mut joined = Joined::of(inputs[first]);
    let mut tree = Tree::Input(first);
    while !left.is_empty() {
        let shares = |at: &usize| {
            let mut vars = inputs[*at].values.iter();
            vars.any(|(var, _)| joined.has(var))
        };
        let next = left.remove(left.iter().position(shares).unwrap_or(0));
        joined = joined.with(&Joined::of(inputs[next]));
        tree = Tree::join(tree, Tree::Input(next), joined.rows);
    }
    (joined.rows, tree)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The cost of the cheapest tree, found by building every tree.
    fn cheapest(inputs: &[&Input<u8>]) -> f64 {
        fn all(trees: Vec<(Joined<u8>, f64)>, least: &mut f64) {
            if let [(_, cost)] = &trees[..] {
                *least = least.min(*cost);
            }
            for right in 1..trees.len() {
                for left in 0..right {
                    let mut others = trees.clone();
                    let (other, other_cost) = others.remove(right);
                    let (one, one_cost) = others.remove(left);
                    if one.shares(&other) {
                        let joined = one.with(&other);
                        let own = cost_of(one.rows, other.rows, joined.rows);
                        others.push((joined, one_cost + other_cost + own));
                        all(others, least);
                    }
                }
            }
        }
        let mut least = f64::MAX;
        let inputs = inputs.iter().map(|input| (Joined::of(input), 0.0));
        all(inputs.collect(), &mut least);
        least
    }

    fn input(most: u8) -> impl Strategy<Value = Input<u8>> {
        let values = prop::collection::btree_map(0..most, 1.0..1000.0_f64, 1..4);
        (1.0..10_000.0_f64, values).prop_map(|(rows, values)| Input {
            rows,
            values: values.into_iter().collect(),
            unique: None,
        })
    }

    /// Whether every join of a tree has variables to join by.
    fn connected(tree: &Tree, inputs: &[Input<u8>]) -> bool {
        match tree {
            Tree::Input(_) => true,
            Tree::Join { left, right, .. } => {
                let shares = cost_and_result(left, inputs)
                    .0
                    .shares(&cost_and_result(right, inputs).0);
                shares && connected(left, inputs) && connected(right, inputs)
            }
        }
    }

    proptest! {
        #[test]
        fn the_cheapest_tree_is_found(inputs in prop::collection::vec(input(5), 1..6)) {
            let forest = trees(&inputs);
            let mut places: Vec<usize> = forest.iter().flat_map(Tree::inputs).collect();
            places.sort_unstable();
            prop_assert_eq!(places, (0..inputs.len()).collect::<Vec<_>>());
            for tree in &forest {
                let places = tree.inputs();
                let chosen: Vec<&Input<u8>> = places.iter().map(|at| &inputs[*at]).collect();
                let (found, least) = (cost(tree, &inputs), cheapest(&chosen));
                prop_assert!(found <= least * (1.0 + 1e-9), "{found} is more than {least}");
            }
        }

        #[test]
        fn many_inputs_are_joined_without_products(
            inputs in prop::collection::vec(input(40), EXACT_MAX + 1..PAIRS_MAX + 20),
        ) {
            let forest = trees(&inputs);
            let mut places: Vec<usize> = forest.iter().flat_map(Tree::inputs).collect();
            places.sort_unstable();
            prop_assert_eq!(places, (0..inputs.len()).collect::<Vec<_>>());
            prop_assert!(forest.iter().all(|tree| connected(tree, &inputs)));
        }
    }

    /// A snowflake: the small condition two steps away comes first.
    #[test]
    fn a_condition_far_away_decides() {
        let facts = Input {
            rows: 1_000_000.0,
            values: vec![('o', 1_000_000.0), ('c', 10_000.0), ('p', 1_000.0)],
            unique: Some(vec!['o']),
        };
        let customers = Input {
            rows: 10_000.0,
            values: vec![('c', 10_000.0), ('n', 25.0)],
            unique: Some(vec!['c']),
        };
        let products = Input {
            rows: 1_000.0,
            values: vec![('p', 1_000.0)],
            unique: Some(vec!['p']),
        };
        let nation = Input {
            rows: 1.0,
            values: vec![('n', 25.0)],
            unique: Some(vec!['n']),
        };
        let forest = trees(&[facts, products, customers, nation]);
        let [tree] = &forest[..] else {
            panic!("one tree, not {forest:?}");
        };
        assert_eq!(cost_text(tree), "((0 (2 3)) 1)");
    }

    fn cost_text(tree: &Tree) -> String {
        match tree {
            Tree::Input(at) => at.to_string(),
            Tree::Join { left, right, .. } => {
                let (mut left, mut right) = (cost_text(left), cost_text(right));
                if left.trim_start_matches('(') > right.trim_start_matches('(') {
                    std::mem::swap(&mut left, &mut right);
                }
                format!("({left} {right})")
            }
        }
    }
}
