//! The evaluation itself: bindings flow through the steps of a rule, a batch at a time.

use std::collections::HashSet;

use datafusion::common::{DataFusionError, Result, exec_err, resources_err};

use super::frontier::{Frontier, Graph, Walker};
use super::program::{Atom, Call, Cell, Literal, Program, RelationId, Rule, Variant};
use super::relation::{Interner, Rows};
use crate::Optimizations;
use crate::bound::Target;
use crate::term::Term;

/// No value yet.
pub(super) const UNBOUND: u32 = u32::MAX;

/// Bindings that pass through the steps of a rule together.
const BATCH: usize = 4096;

/// Rounds at most: a recursion that counts upward for ever is told apart from a long chain by this.
const ROUNDS_MAX: u64 = 1 << 24;

/// Rows that rules derive at most, all relations together.
const ROWS_MAX: usize = 1 << 27;

/// Cells that walks find, or edges that they look at, before memory is counted and the query may end.
const WALKED: usize = 1 << 16;

/// A look-up in a database takes about as long as reading so many of its facts in order. Look-ups end when they have
/// taken as long as reading all would have.
const PROBE_FACTS: u64 = 64;
/// Reading any number of facts takes as long as so many look-ups.
const PROBES_MIN: u64 = 16;

/// Where the rows of inputs come from.
#[async_trait::async_trait]
pub(super) trait Inputs: Send {
    /// All rows of an input.
    async fn load(&mut self, input: usize, interner: &mut Interner, rows: &mut Rows) -> Result<()>;
    /// Tells how much memory is used; an error ends the evaluation.
    fn account(&mut self, bytes: usize) -> Result<()>;
}

/// The state of an evaluation.
pub(super) struct Engine<'p, I> {
    program: &'p Program,
    inputs: I,
    pub(super) interner: Interner,
    pub(super) derived: Vec<Rows>,
    given: Vec<Given>,
    /// How relations grow that are still to be closed.
    pub(super) frontiers: Vec<Option<Frontier>>,
    /// Relations to which nothing is added any more.
    closed: Vec<bool>,
    look_ups: bool,
}

/// An input as far as it is known.
struct Given {
    rows: Rows,
    whole: bool,
    /// Keys that have been looked up, by column.
    probed: [HashSet<u32>; 2],
}

/// Bindings: rows of registers.
#[derive(Default)]
struct Bindings {
    width: usize,
    cells: Vec<u32>,
}

impl Bindings {
    fn new(width: usize) -> Self {
        Self {
            width,
            cells: Vec::new(),
        }
    }

    /// One row in which nothing is bound.
    fn unit(width: usize) -> Self {
        Self {
            width,
            cells: vec![UNBOUND; width],
        }
    }

    fn len(&self) -> usize {
        self.cells.len().checked_div(self.width).unwrap_or(0)
    }

    fn rows(&self) -> impl Iterator<Item = &[u32]> {
        self.cells.chunks_exact(self.width)
    }
}

impl<'p, I: Inputs> Engine<'p, I> {
    pub(super) fn new(program: &'p Program, inputs: I, optimizations: &Optimizations) -> Self {
        let given = program.inputs.iter().map(|input| Given {
            rows: Rows::new(input.columns.len()),
            whole: false,
            probed: Default::default(),
        });
        let derived = program.derived.iter();
        Self {
            inputs,
            interner: Interner::default(),
            derived: derived.map(|derived| Rows::new(derived.arity)).collect(),
            given: given.collect(),
            frontiers: if optimizations.walks {
                Frontier::of(program)
            } else {
                program.derived.iter().map(|_| None).collect()
            },
            closed: vec![false; program.derived.len()],
            look_ups: optimizations.look_ups,
            program,
        }
    }

    /// Runs the rules until they say nothing new; answers after how many rounds.
    pub(super) async fn run(&mut self) -> Result<u64> {
        let program = self.program;
        for rule in &program.rules {
            for variant in rule
                .variants
                .iter()
                .filter(|variant| variant.delta.is_none())
            {
                let bindings = Bindings::unit(rule.registers.max(1));
                self.derive(rule, variant, bindings).await?;
            }
        }
        let mut old = vec![0; self.derived.len()];
        for round in 0.. {
            if round >= ROUNDS_MAX {
                return exec_err!("a recursive rule has not ended after {ROUNDS_MAX} rounds");
            }
            for (relation, &expanded) in old.iter().enumerate() {
                self.close(relation, expanded).await?;
            }
            let new: Vec<usize> = self.derived.iter().map(Rows::len).collect();
            if old == new {
                return Ok(round);
            }
            for rule in &program.rules {
                if self.closed[rule.head] {
                    continue;
                }
                for variant in &rule.variants {
                    if let Some(delta) = &variant.delta {
                        let RelationId::Derived(at) = delta.relation else {
                            continue;
                        };
                        let mut from = old[at];
                        while from < new[at] {
                            let to = new[at].min(from + BATCH);
                            let bindings = self.matching(delta, from..to, rule.registers);
                            self.derive(rule, variant, bindings).await?;
                            from = to;
                        }
                    }
                }
            }
            old = new;
        }
        Ok(ROUNDS_MAX)
    }

    /// What has been read of the inputs: look-ups, and facts.
    pub(super) fn read(&self) -> (usize, usize) {
        let look_ups = self.given.iter().flat_map(|given| &given.probed);
        let facts = self.given.iter().map(|given| given.rows.len());
        (look_ups.map(HashSet::len).sum(), facts.sum())
    }

    /// Adds to a relation all rows that it will ever have, if it grows along edges that are all known. Its
    /// first `expanded` rows have led to others already.
    async fn close(&mut self, relation: usize, expanded: usize) -> Result<()> {
        let whole = |id: RelationId| match id {
            RelationId::Derived(_) => true,
            RelationId::Input(input) => self.given[input].whole,
        };
        let known =
            |frontier: &mut Frontier| frontier.edges.iter().all(|edge| whole(edge.relation));
        if self.derived[relation].len() == expanded {
            return Ok(());
        }
        let Some(frontier) = self.frontiers[relation].take_if(known) else {
            return Ok(());
        };
        let nodes = self.interner.len();
        let mut pairs = Vec::new();
        for edge in &frontier.edges {
            edge.add(self.rows_of(edge.relation), &mut pairs);
        }
        let edges = Graph::new(nodes, &pairs);
        // Rows that are edges may lead on from any other.
        let expanded = if frontier.follows_itself() {
            0
        } else {
            expanded
        };
        pairs.clear();
        pairs.extend(self.derived[relation].rows().map(|row| {
            let carried = frontier.carried.map_or(0, |at| row[at]);
            (carried, row[frontier.stepped])
        }));
        let groups = if frontier.carried.is_some() { nodes } else { 1 };
        let known = Graph::new(groups, &pairs[..expanded]);
        let fresh = Graph::new(groups, &pairs[expanded..]);
        drop(pairs);
        let mut walker = Walker::new(nodes);
        let scratch = edges.bytes() + known.bytes() + fresh.bytes();
        self.account_with(scratch + walker.bytes())?;
        let (mut cells, mut looked_at) = (Vec::new(), 0);
        for group in (0..groups).filter_map(|group| u32::try_from(group).ok()) {
            if fresh.of(group).is_empty() {
                continue;
            }
            looked_at += walker.walk(
                &edges,
                known.of(group),
                fresh.of(group),
                |node| match frontier.carried {
                    None => cells.push(node),
                    Some(0) => cells.extend([group, node]),
                    Some(_) => cells.extend([node, group]),
                },
            );
            if cells.len().max(looked_at) >= WALKED {
                self.derived[relation].append(&cells);
                cells.clear();
                looked_at = 0;
                self.account_with(scratch + walker.bytes() + cells.capacity() * 4)?;
                tokio::task::consume_budget().await;
            }
        }
        self.derived[relation].append(&cells);
        self.closed[relation] = true;
        self.account()
    }

    fn rows_of(&self, relation: RelationId) -> &Rows {
        match relation {
            RelationId::Derived(at) => &self.derived[at],
            RelationId::Input(at) => &self.given[at].rows,
        }
    }

    /// Rows of a derived relation as bindings.
    fn matching(
        &mut self,
        atom: &Atom,
        rows: std::ops::Range<usize>,
        registers: usize,
    ) -> Bindings {
        let mut bindings = Bindings::new(registers.max(1));
        let cells = self.cells(atom);
        let RelationId::Derived(at) = atom.relation else {
            return bindings;
        };
        let mut row = vec![UNBOUND; bindings.width];
        for number in rows {
            let found: &[u32] = if self.derived[at].arity() == 0 {
                &[]
            } else {
                self.derived[at].row(number)
            };
            row.fill(UNBOUND);
            if bind(&cells, found, &mut row) {
                bindings.cells.extend_from_slice(&row);
            }
        }
        bindings
    }

    /// Sends bindings through the steps of a rule and adds what comes out to its head. A batch goes all the
    /// way before the next, so that few bindings exist at once.
    async fn derive(&mut self, rule: &Rule, variant: &Variant, bindings: Bindings) -> Result<()> {
        let mut batches = vec![(0, bindings)];
        while let Some((at, mut bindings)) = batches.pop() {
            if bindings.len() == 0 {
                continue;
            }
            let Some(step) = variant.steps.get(at) else {
                self.add(rule, &bindings)?;
                continue;
            };
            if bindings.len() > BATCH {
                let rest = bindings.cells.split_off(BATCH * bindings.width);
                let width = bindings.width;
                batches.push((at, Bindings { width, cells: rest }));
            }
            let next = self.steps(std::slice::from_ref(step), bindings).await?;
            batches.push((at + 1, next));
            // A query that was given up ends here.
            tokio::task::consume_budget().await;
        }
        Ok(())
    }

    /// Adds rows to the head of a rule.
    fn add(&mut self, rule: &Rule, bindings: &Bindings) -> Result<()> {
        let cells: Vec<Known> = rule.arguments.iter().map(|cell| self.known(cell)).collect();
        let head = &mut self.derived[rule.head];
        let mut row = vec![0; cells.len()];
        for binding in bindings.rows() {
            for (to, cell) in row.iter_mut().zip(&cells) {
                *to = match cell {
                    Known::Register(register) => binding[*register],
                    Known::Term(number) => *number,
                    Known::Blank => UNBOUND,
                };
            }
            if row.contains(&UNBOUND) {
                return exec_err!("an argument of a rule's head is not bound");
            }
            head.insert(&row);
        }
        self.account()
    }

    fn account(&mut self) -> Result<()> {
        self.account_with(0)
    }

    /// Accounts for what there is and for some bytes more.
    fn account_with(&mut self, scratch: usize) -> Result<()> {
        if self.interner.is_full() {
            return resources_err!("a recursive rule makes more than four billion terms");
        }
        if self.derived.iter().map(Rows::len).sum::<usize>() > ROWS_MAX {
            return resources_err!("a recursive rule makes more than {ROWS_MAX} rows");
        }
        let given = self.given.iter().map(|given| given.rows.bytes());
        let derived = self.derived.iter().map(Rows::bytes);
        let bytes = given.chain(derived).sum::<usize>() + self.interner.bytes() + scratch;
        self.inputs.account(bytes)
    }

    async fn steps(&mut self, steps: &[Literal], mut bindings: Bindings) -> Result<Bindings> {
        for step in steps {
            if bindings.len() == 0 {
                break;
            }
            bindings = match step {
                Literal::Atom(atom) => self.join(atom, bindings).await?,
                Literal::Call(call) => self.call(call, &bindings)?,
                Literal::Same(left, right) => self.same(left, right, bindings),
                Literal::Not(inside) => {
                    let numbered = numbered(&bindings);
                    let found = Box::pin(self.steps(inside, numbered)).await?;
                    let numbers: HashSet<u32> =
                        found.rows().map(|row| row[row.len() - 1]).collect();
                    let mut left = Bindings::new(bindings.width);
                    for (number, row) in bindings.rows().enumerate() {
                        if !numbers.contains(&u32::try_from(number).unwrap_or(UNBOUND)) {
                            left.cells.extend_from_slice(row);
                        }
                    }
                    left
                }
                Literal::Or(branches) => {
                    let mut all = Bindings::new(bindings.width);
                    for branch in branches {
                        let own = Bindings {
                            width: bindings.width,
                            cells: bindings.cells.clone(),
                        };
                        let found = Box::pin(self.steps(branch, own)).await?;
                        all.cells.extend_from_slice(&found.cells);
                    }
                    all
                }
            };
        }
        Ok(bindings)
    }

    fn known(&mut self, cell: &Cell) -> Known {
        match cell {
            Cell::Register(register) => Known::Register(*register),
            Cell::Constant(term) => Known::Term(self.interner.intern(term)),
            Cell::Blank => Known::Blank,
        }
    }

    fn cells(&mut self, atom: &Atom) -> Vec<Known> {
        atom.cells.iter().map(|cell| self.known(cell)).collect()
    }

    /// Joins bindings with the rows of a relation.
    async fn join(&mut self, atom: &Atom, bindings: Bindings) -> Result<Bindings> {
        let cells = self.cells(atom);
        // Every row of a batch has the same registers bound.
        let Some(first) = bindings.rows().next() else {
            return Ok(bindings);
        };
        let fixed: Vec<usize> = (0..cells.len())
            .filter(|at| match cells[*at] {
                Known::Register(register) => first[register] != UNBOUND,
                Known::Term(_) => true,
                Known::Blank => false,
            })
            .collect();
        if let RelationId::Input(input) = atom.relation {
            self.fetch(input, &cells, &fixed, &bindings).await?;
        }
        let rows = match atom.relation {
            RelationId::Derived(at) => &mut self.derived[at],
            RelationId::Input(at) => &mut self.given[at].rows,
        };
        let mut joined = Bindings::new(bindings.width);
        joined.cells.reserve(bindings.cells.len());
        if rows.arity() == 0 {
            return Ok(if rows.len() > 0 { bindings } else { joined });
        }
        if fixed.is_empty() {
            let mut scratch = vec![UNBOUND; bindings.width];
            for binding in bindings.rows() {
                for number in 0..rows.len() {
                    scratch.copy_from_slice(binding);
                    if bind(&cells, rows.row(number), &mut scratch) {
                        joined.cells.extend_from_slice(&scratch);
                    }
                }
            }
            return Ok(joined);
        }
        let index = rows.index(&fixed);
        let mut key = vec![0; fixed.len()];
        let whole = fixed.len() == cells.len();
        // What a found row adds: the cells that the key does not fix.
        let adds: Vec<(usize, usize)> = cells
            .iter()
            .enumerate()
            .filter(|(at, _)| !fixed.contains(at))
            .filter_map(|(at, cell)| match cell {
                Known::Register(register) => Some((at, *register)),
                _ => None,
            })
            .collect();
        let repeated = adds
            .iter()
            .enumerate()
            .any(|(place, (_, register))| adds[..place].iter().any(|(_, other)| other == register));
        for binding in bindings.rows() {
            for (to, &at) in key.iter_mut().zip(&fixed) {
                *to = match cells[at] {
                    Known::Register(register) => binding[register],
                    Known::Term(number) => number,
                    Known::Blank => UNBOUND,
                };
            }
            if whole || adds.is_empty() {
                if rows.has(index, &key) {
                    joined.cells.extend_from_slice(binding);
                }
                continue;
            }
            rows.find(index, &key, |row| {
                let start = joined.cells.len();
                joined.cells.extend_from_slice(binding);
                let target = &mut joined.cells[start..];
                let mut fits = true;
                for (at, register) in &adds {
                    if repeated && target[*register] != UNBOUND && target[*register] != row[*at] {
                        fits = false;
                    }
                    target[*register] = row[*at];
                }
                if !fits {
                    joined.cells.truncate(start);
                }
            });
        }
        Ok(joined)
    }

    /// Makes sure that the rows that bindings ask for are there.
    async fn fetch(
        &mut self,
        input: usize,
        cells: &[Known],
        fixed: &[usize],
        bindings: &Bindings,
    ) -> Result<()> {
        let given = &mut self.given[input];
        if given.whole {
            return Ok(());
        }
        let probe = self.program.inputs[input].probe.as_ref();
        let column = match probe {
            _ if !self.look_ups => None,
            Some(_) if fixed.contains(&0) => Some(0),
            Some(probe) if probe.by_value && fixed.contains(&1) => Some(1),
            _ => None,
        };
        if let (Some(probe), Some(column)) = (probe, column) {
            let mut wanted: Vec<u32> = bindings
                .rows()
                .map(|binding| match cells[column] {
                    Known::Register(register) => binding[register],
                    Known::Term(number) => number,
                    Known::Blank => UNBOUND,
                })
                .filter(|key| !given.probed[column].contains(key))
                .collect();
            wanted.sort_unstable();
            wanted.dedup();
            let spent = (given.probed[0].len() + given.probed[1].len() + wanted.len()) as u64;
            if spent <= PROBES_MIN + probe.rows / PROBE_FACTS {
                let mut ids: Vec<i64> = wanted
                    .iter()
                    .filter_map(|key| crate::column::integer(self.interner.term(*key)))
                    .collect();
                ids.sort_unstable();
                let source = &probe.source;
                let pairs: Vec<(Term, Term)> = if column == 0 {
                    let facts = source.facts_of(&ids, Some(probe.attribute)).await;
                    let facts = facts.map_err(DataFusionError::External)?;
                    let pairs = facts.into_iter().map(|(e, _, v)| (Term::Long(e), v));
                    pairs.collect()
                } else {
                    let facts = source.referrers_of(&ids, probe.attribute).await;
                    let facts = facts.map_err(DataFusionError::External)?;
                    let pairs = facts
                        .into_iter()
                        .map(|(v, e)| (Term::Long(e), Term::Long(v)));
                    pairs.collect()
                };
                for (e, v) in pairs {
                    let row = [self.interner.intern(&e), self.interner.intern(&v)];
                    given.rows.insert(&row);
                }
                given.probed[column].extend(wanted);
                return Ok(());
            }
        }
        self.inputs
            .load(input, &mut self.interner, &mut given.rows)
            .await?;
        given.whole = true;
        self.account()
    }

    fn same(&mut self, left: &Cell, right: &Cell, mut bindings: Bindings) -> Bindings {
        let (left, right) = (self.known(left), self.known(right));
        let width = bindings.width;
        let mut kept = Bindings::new(width);
        for row in bindings.cells.chunks_exact_mut(width) {
            let value = |cell: &Known| match cell {
                Known::Register(register) => row[*register],
                Known::Term(number) => *number,
                Known::Blank => UNBOUND,
            };
            match (value(&left), value(&right)) {
                (own, other) if own == other => {}
                (UNBOUND, other) => {
                    if let Known::Register(register) = left {
                        row[register] = other;
                    }
                }
                (own, UNBOUND) => {
                    if let Known::Register(register) = right {
                        row[register] = own;
                    }
                }
                _ => continue,
            }
            kept.cells.extend_from_slice(row);
        }
        kept
    }

    fn call(&mut self, call: &Call, bindings: &Bindings) -> Result<Bindings> {
        let cells: Vec<Known> = call
            .arguments
            .iter()
            .map(|(cell, _)| self.known(cell))
            .collect();
        let mut kept = Bindings::new(bindings.width);
        let mut terms = vec![Term::Nil; cells.len()];
        for binding in bindings.rows() {
            for ((term, cell), (_, attributes)) in terms.iter_mut().zip(&cells).zip(&call.arguments)
            {
                *term = match cell {
                    Known::Register(register) => {
                        let own = self.interner.term(binding[*register]).clone();
                        attributes.show(own)
                    }
                    Known::Term(number) => self.interner.term(*number).clone(),
                    Known::Blank => Term::Nil,
                };
            }
            let answer = call
                .function
                .call(&terms)
                .map_err(|reason| call.quote.error(&reason))?;
            match &call.binding {
                None => {
                    if answer.is_truthy() {
                        kept.cells.extend_from_slice(binding);
                    }
                }
                Some(target) => self.bind_answer(target, &answer, binding, &mut kept),
            }
        }
        Ok(kept)
    }

    /// Binds an answer to registers, which stand for variables in the target.
    fn bind_answer(
        &mut self,
        target: &Target,
        answer: &Term,
        binding: &[u32],
        kept: &mut Bindings,
    ) {
        if let Target::Var(register) = target {
            if *answer != Term::Nil {
                let number = self.interner.intern(answer);
                let register = register.0 as usize;
                if binding[register] == UNBOUND || binding[register] == number {
                    let start = kept.cells.len();
                    kept.cells.extend_from_slice(binding);
                    kept.cells[start + register] = number;
                }
            }
            return;
        }
        let (registers, rows) = target.take_apart(answer);
        for terms in rows {
            let start = kept.cells.len();
            kept.cells.extend_from_slice(binding);
            for (register, term) in registers.iter().zip(&terms) {
                let number = self.interner.intern(term);
                let cell = &mut kept.cells[start + register.0 as usize];
                if *cell != UNBOUND && *cell != number {
                    kept.cells.truncate(start);
                    break;
                }
                *cell = number;
            }
        }
    }
}

/// A cell whose constant has a number.
#[derive(Clone, Copy)]
enum Known {
    Register(usize),
    Term(u32),
    Blank,
}

/// Binds the cells of an atom to a row; answers whether they fit.
fn bind(cells: &[Known], found: &[u32], row: &mut [u32]) -> bool {
    cells.iter().zip(found).all(|(cell, &value)| match cell {
        Known::Register(register) => {
            let fits = row[*register] == UNBOUND || row[*register] == value;
            row[*register] = value;
            fits
        }
        Known::Term(number) => *number == value,
        Known::Blank => true,
    })
}

/// The same bindings with their numbers in one more register.
fn numbered(bindings: &Bindings) -> Bindings {
    let mut all = Bindings::new(bindings.width + 1);
    for (number, row) in bindings.rows().enumerate() {
        all.cells.extend_from_slice(row);
        all.cells.push(u32::try_from(number).unwrap_or(UNBOUND));
    }
    all
}
