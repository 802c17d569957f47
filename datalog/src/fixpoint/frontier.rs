//! Closures: where each step of a recursion follows one edge, nodes are followed instead of rows.
//!
//! ```text
//! p(x, z) ⇐ p(x, y), e(y, z)      x stays, y steps to z
//! p(x, z) ⇐ e(x, y), p(y, z)      z stays, y steps back to x
//! p(x, z) ⇐ p(x, y), p(y, z)      as the first, along the rows of p itself
//! p(z)    ⇐ p(y), e(y, z)         nothing stays
//! ```
//!
//! For each value that stays, one walk visits what can be reached, and a mark in an array says what it has
//! visited. So a row costs a few nanoseconds, where rounds hash it, look its successors up and hash them.
//! Rounds do the rest: rules without recursion, whatever reads the closure, and single look-ups in a
//! database as long as they are cheaper than reading all edges.
//!
//! **Invariant.** Only walks add rows from the moment that a relation is closed.

use super::program::{Atom, Cell, Literal, Program, RelationId, Rule, Variant};
use super::relation::Rows;

/// How a derived relation grows.
#[derive(Debug, PartialEq)]
pub(super) struct Frontier {
    /// The column that stays, if there is one.
    pub(super) carried: Option<usize>,
    /// The column that steps along an edge.
    pub(super) stepped: usize,
    pub(super) edges: Vec<Edge>,
}

/// Edges: pairs of a relation.
#[derive(Debug, PartialEq)]
pub(super) struct Edge {
    pub(super) relation: RelationId,
    /// The column of the node that an edge begins with.
    from: usize,
    /// The column of the node that it leads to.
    to: usize,
}

impl Frontier {
    /// How the relations of a program grow; `None` where it is not along edges alone.
    pub(super) fn of(program: &Program) -> Vec<Option<Self>> {
        (0..program.derived.len())
            .map(|relation| Self::of_relation(program, relation))
            .collect()
    }

    fn of_relation(program: &Program, relation: usize) -> Option<Self> {
        let rules = || program.rules.iter().filter(|rule| rule.head == relation);
        let recursive = || rules().filter(|rule| rule.variants.iter().any(|v| v.delta.is_some()));
        recursive().next()?;
        let ways: &[(Option<usize>, usize)] = match program.derived[relation].arity {
            1 => &[(None, 0)],
            2 => &[(Some(0), 1), (Some(1), 0)],
            _ => &[],
        };
        ways.iter().find_map(|&(carried, stepped)| {
            let edges = recursive().map(|rule| {
                let own = |variant: &Variant| {
                    let delta = variant.delta.as_ref();
                    delta.is_some_and(|delta| delta.relation == RelationId::Derived(relation))
                };
                if !rule.variants.iter().all(own) {
                    return None;
                }
                let mut variants = rule.variants.iter();
                variants.find_map(|variant| edge(rule, variant, carried, stepped))
            });
            let edges = edges.collect::<Option<Vec<Edge>>>()?;
            Some(Self {
                carried,
                stepped,
                edges,
            })
        })
    }

    /// Whether the relation's own rows are edges.
    pub(super) fn follows_itself(&self) -> bool {
        let mut edges = self.edges.iter();
        edges.any(|edge| matches!(edge.relation, RelationId::Derived(_)))
    }
}

/// The edge that a variant follows if it does nothing else.
fn edge(rule: &Rule, variant: &Variant, carried: Option<usize>, stepped: usize) -> Option<Edge> {
    let delta = variant.delta.as_ref()?;
    let [Literal::Atom(Atom { relation, cells })] = &variant.steps[..] else {
        return None;
    };
    let register = |cell: &Cell| match cell {
        Cell::Register(register) => Some(*register),
        _ => None,
    };
    let (before, after) = (
        register(&delta.cells[stepped])?,
        register(&rule.arguments[stepped])?,
    );
    if before == after {
        return None;
    }
    if let Some(carried) = carried {
        let stays = register(&delta.cells[carried])?;
        let kept = register(&rule.arguments[carried])? == stays;
        if !kept || stays == before || stays == after {
            return None;
        }
    }
    let [first, second] = &cells[..] else {
        return None;
    };
    let (from, to) = match (register(first)?, register(second)?) {
        (first, second) if (first, second) == (before, after) => (0, 1),
        (first, second) if (first, second) == (after, before) => (1, 0),
        _ => return None,
    };
    // Own rows that are found on a walk are edges as well. It need not follow them if they begin with what
    // stays: then they lead where the edges that they are made of lead.
    if let RelationId::Derived(_) = relation
        && (*relation != delta.relation || Some(from) != carried)
    {
        return None;
    }
    Some(Edge {
        relation: *relation,
        from,
        to,
    })
}

impl Edge {
    /// Adds the edges among these rows.
    pub(super) fn add(&self, rows: &Rows, graph: &mut Vec<(u32, u32)>) {
        let pairs = rows.rows().map(|row| (row[self.from], row[self.to]));
        graph.extend(pairs);
    }
}

/// Successors by node.
pub(super) struct Graph {
    /// Where the successors of each node begin; the last is where all end.
    starts: Vec<u32>,
    successors: Vec<u32>,
}

impl Graph {
    /// The graph of these pairs over nodes below `nodes`.
    pub(super) fn new(nodes: usize, pairs: &[(u32, u32)]) -> Self {
        let mut starts = vec![0; nodes + 1];
        for (from, _) in pairs {
            starts[*from as usize + 1] += 1;
        }
        for node in 0..nodes {
            starts[node + 1] += starts[node];
        }
        let mut places = starts.clone();
        let mut successors = vec![0; pairs.len()];
        for (from, to) in pairs {
            let place = &mut places[*from as usize];
            successors[*place as usize] = *to;
            *place += 1;
        }
        Self { starts, successors }
    }

    pub(super) fn of(&self, node: u32) -> &[u32] {
        let node = node as usize;
        &self.successors[self.starts[node] as usize..self.starts[node + 1] as usize]
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        (self.starts.len() + self.successors.len()) * 4
    }
}

/// Walks over a graph, one after the other.
pub(super) struct Walker {
    /// The last walk that came by each node.
    visits: Vec<u32>,
    walk: u32,
    open: Vec<u32>,
}

impl Walker {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            visits: vec![0; nodes],
            walk: 0,
            open: Vec::new(),
        }
    }

    /// Visits what can be reached from `fresh` over nodes that are not `known`, and calls `found` with each
    /// once. Answers how many edges were looked at.
    pub(super) fn walk(
        &mut self,
        graph: &Graph,
        known: &[u32],
        fresh: &[u32],
        mut found: impl FnMut(u32),
    ) -> usize {
        self.walk += 1;
        for node in known.iter().chain(fresh) {
            self.visits[*node as usize] = self.walk;
        }
        self.open.extend_from_slice(fresh);
        let mut edges = 0;
        while let Some(node) = self.open.pop() {
            edges += graph.of(node).len();
            for &next in graph.of(node) {
                let visit = &mut self.visits[next as usize];
                if *visit != self.walk {
                    *visit = self.walk;
                    self.open.push(next);
                    found(next);
                }
            }
        }
        edges
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        (self.visits.len() + self.open.capacity()) * 4
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use datafusion::common::Result;

    use super::super::engine::{Engine, Inputs};
    use super::super::program::{Derived, Input};
    use super::super::relation::Interner;
    use super::*;
    use crate::Optimizations;
    use crate::column::ColumnType;
    use crate::source::TermType;

    const X: Cell = Cell::Register(0);
    const Y: Cell = Cell::Register(1);
    const Z: Cell = Cell::Register(2);
    const P: RelationId = RelationId::Derived(0);
    const Q: RelationId = RelationId::Derived(1);
    const EXIT: RelationId = RelationId::Input(0);
    const EDGES: RelationId = RelationId::Input(1);

    /// Inputs from lists of pairs.
    struct Pairs([Vec<(i64, i64)>; 2]);

    #[async_trait::async_trait]
    impl Inputs for Pairs {
        async fn load(
            &mut self,
            input: usize,
            interner: &mut Interner,
            rows: &mut Rows,
        ) -> Result<()> {
            for (from, to) in &self.0[input] {
                let row = [interner.long(*from), interner.long(*to)];
                rows.insert(&row);
            }
            Ok(())
        }

        fn account(&mut self, _: usize) -> Result<()> {
            Ok(())
        }
    }

    fn atom(relation: RelationId, cells: &[Cell]) -> Atom {
        Atom {
            relation,
            cells: cells.to_vec(),
        }
    }

    /// A rule: the head's arguments, and its body in each order of running it.
    fn rule(head: usize, arguments: &[Cell], variants: Vec<Vec<Atom>>) -> Rule {
        let variants = variants.into_iter().map(|mut body| {
            let recursive = matches!(body[0].relation, RelationId::Derived(_));
            Variant {
                delta: recursive.then(|| body.remove(0)),
                steps: body.into_iter().map(Literal::Atom).collect(),
            }
        });
        Rule {
            head,
            arguments: arguments.to_vec(),
            registers: 3,
            variants: variants.collect(),
        }
    }

    fn program(arities: &[usize], rules: Vec<Rule>) -> Program {
        let pairs = || Input {
            columns: vec![ColumnType::of(TermType::Long); 2],
            probe: None,
        };
        Program {
            derived: arities
                .iter()
                .map(|&arity| Derived {
                    name: "p".into(),
                    arity,
                })
                .collect(),
            inputs: vec![pairs(), pairs()],
            seeds: None,
            rules,
            answer: 0,
            columns: vec![ColumnType::of(TermType::Long); arities[0]],
        }
    }

    /// The shapes of the module page and some near them, and whether the first relation is closed by walks.
    fn shapes() -> Vec<(&'static str, bool, Program)> {
        let exit = || rule(0, &[X, Y], vec![vec![atom(EXIT, &[X, Y])]]);
        let left = || {
            let body = vec![atom(P, &[X, Y]), atom(EDGES, &[Y, Z])];
            rule(0, &[X, Z], vec![body])
        };
        let right = || {
            let body = vec![atom(P, &[Y, Z]), atom(EDGES, &[X, Y])];
            rule(0, &[X, Z], vec![body])
        };
        let backwards = || {
            let body = vec![atom(P, &[X, Y]), atom(EDGES, &[Z, Y])];
            rule(0, &[X, Z], vec![body])
        };
        let both_ways = |one: Atom, other: Atom| {
            let second = vec![other.clone(), one.clone()];
            rule(0, &[X, Z], vec![vec![one, other], second])
        };
        let twice = || both_ways(atom(P, &[X, Y]), atom(P, &[Y, Z]));
        let meet = both_ways(atom(P, &[X, Y]), atom(P, &[Z, Y]));
        let part = both_ways(atom(P, &[Y, X]), atom(P, &[Y, Z]));
        let reach = |first: Vec<Atom>| {
            let step = vec![atom(P, &[Y]), atom(EDGES, &[Y, Z])];
            vec![rule(0, &[Y], vec![first]), rule(0, &[Z], vec![step])]
        };
        let swapped = rule(
            0,
            &[Z, X],
            vec![vec![atom(P, &[X, Y]), atom(EDGES, &[Y, Z])]],
        );
        let both = rule(
            0,
            &[X, Z],
            vec![vec![
                atom(P, &[X, Y]),
                atom(EDGES, &[Y, Z]),
                atom(EDGES, &[Z, X]),
            ]],
        );
        let ask = rule(
            1,
            &[X, Z],
            vec![vec![atom(P, &[X, Y]), atom(EXIT, &[Y, Z])]],
        );
        let answer = rule(0, &[X, Z], vec![vec![atom(Q, &[X, Z])]]);
        vec![
            ("left", true, program(&[2], vec![exit(), left()])),
            ("right", true, program(&[2], vec![exit(), right()])),
            ("backwards", true, program(&[2], vec![exit(), backwards()])),
            (
                "two ways",
                true,
                program(&[2], vec![exit(), left(), backwards()]),
            ),
            ("twice", true, program(&[2], vec![exit(), twice()])),
            (
                "twice or left",
                true,
                program(&[2], vec![exit(), twice(), left()]),
            ),
            (
                "twice or right",
                true,
                program(&[2], vec![exit(), twice(), right()]),
            ),
            (
                "one column",
                true,
                program(&[1], reach(vec![atom(EXIT, &[X, Y])])),
            ),
            (
                "read by another",
                true,
                program(&[2, 2], vec![exit(), left(), ask]),
            ),
            (
                "left and right",
                false,
                program(&[2], vec![exit(), left(), right()]),
            ),
            ("swapped", false, program(&[2], vec![exit(), swapped])),
            ("they meet", false, program(&[2], vec![exit(), meet])),
            ("they part", false, program(&[2], vec![exit(), part])),
            ("two steps", false, program(&[2], vec![exit(), both])),
            ("fed by another", false, {
                let ask = rule(
                    1,
                    &[X, Z],
                    vec![vec![atom(P, &[X, Y]), atom(EXIT, &[Y, Z])]],
                );
                program(&[2, 2], vec![exit(), left(), ask, answer])
            }),
        ]
    }

    async fn rows(program: &Program, pairs: &Pairs, walks: bool) -> Vec<BTreeSet<Vec<i64>>> {
        let optimizations = Optimizations {
            walks,
            ..Optimizations::default()
        };
        let mut engine = Engine::new(program, Pairs(pairs.0.clone()), &optimizations);
        engine.run().await.unwrap();
        let longs = engine.interner.longs().unwrap();
        let term = |number: &u32| longs[*number as usize];
        let mut all = Vec::new();
        for rows in &engine.derived {
            let terms = rows.rows().map(|row| row.iter().map(term).collect());
            let set: BTreeSet<Vec<i64>> = terms.collect();
            assert_eq!(set.len(), rows.len(), "rows are distinct");
            all.push(set);
        }
        all
    }

    #[test]
    fn relations_that_grow_along_edges_are_recognised() {
        for (name, walks, program) in shapes() {
            assert_eq!(Frontier::of(&program)[0].is_some(), walks, "{name}");
        }
    }

    #[tokio::test]
    async fn walks_find_what_rounds_find() {
        let mut state = 7_u64;
        let mut below = |end: i64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            i64::try_from(state >> 33).unwrap() % end
        };
        for seed in 0..200 {
            let nodes = 1 + below(9);
            let mut pairs = |most: i64| {
                let count = below(most);
                (0..count).map(|_| (below(nodes), below(nodes))).collect()
            };
            let pairs = Pairs([pairs(6), pairs(14)]);
            for (name, _, program) in shapes() {
                let walked = rows(&program, &pairs, true).await;
                let rounds = rows(&program, &pairs, false).await;
                assert_eq!(walked, rounds, "{name}, graph {seed}: {:?}", pairs.0);
            }
        }
    }
}
