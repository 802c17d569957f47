//! Makes a case that fails smaller, piece by piece.

use super::{Case, Clause, Question, Shape};

impl Case {
    /// The smallest case found that still fails: no single piece of it can be left out.
    ///
    /// A case that is no valid question must count as one that does not fail.
    pub fn shrink(mut self, mut fails: impl FnMut(&Self) -> bool) -> Self {
        loop {
            let smaller = candidates(&self.question).into_iter().find_map(|question| {
                let case = Self {
                    world: self.world.clone(),
                    question,
                };
                fails(&case).then_some(case)
            });
            match smaller.or_else(|| self.with_fewer_facts(&mut fails)) {
                Some(case) => self = case,
                None => return self,
            }
        }
    }

    /// Leaves out operations, first many at once.
    fn with_fewer_facts(&self, fails: &mut impl FnMut(&Self) -> bool) -> Option<Self> {
        let places: Vec<(usize, usize)> = self
            .world
            .transactions
            .iter()
            .enumerate()
            .flat_map(|(at, operations)| {
                (0..operations.len()).map(move |operation| (at, operation))
            })
            .collect();
        let mut size = places.len();
        while size > 0 {
            for chunk in places.chunks(size) {
                let mut case = self.clone();
                for (at, operation) in chunk.iter().rev() {
                    case.world.transactions[*at].remove(*operation);
                }
                if fails(&case) {
                    return Some(case);
                }
            }
            size /= 2;
        }
        None
    }
}

/// Questions with one piece less.
fn candidates(question: &Question) -> Vec<Question> {
    let mut candidates = Vec::new();
    let mut propose = |change: &dyn Fn(&mut Question)| {
        let mut smaller = question.clone();
        change(&mut smaller);
        candidates.push(smaller);
    };
    for clauses in without_one(&question.clauses) {
        propose(&|smaller| smaller.clauses.clone_from(&clauses));
    }
    for at in 0..question.rules.len() {
        propose(&|smaller| {
            smaller.rules.remove(at);
        });
        for body in without_one(&question.rules[at].body) {
            propose(&|smaller| smaller.rules[at].body.clone_from(&body));
        }
    }
    if question.find.len() > 1 {
        for at in 0..question.find.len() {
            propose(&|smaller| {
                smaller.find.remove(at);
            });
        }
    }
    for at in 0..question.with.len() {
        propose(&|smaller| {
            smaller.with.remove(at);
        });
    }
    for at in 0..question.inputs.len() {
        propose(&|smaller| {
            smaller.inputs.remove(at);
        });
    }
    for at in 1..question.sources.len() {
        propose(&|smaller| {
            smaller.sources.remove(at);
        });
    }
    if question.shape != Shape::Relation {
        propose(&|smaller| smaller.shape = Shape::Relation);
    }
    candidates
}

/// Conjunctions with one clause less, or with one that is simpler.
fn without_one(clauses: &[Clause]) -> Vec<Vec<Clause>> {
    let mut found = Vec::new();
    for at in 0..clauses.len() {
        let mut fewer = clauses.to_vec();
        fewer.remove(at);
        found.push(fewer);
        for simpler in simpler(&clauses[at]) {
            let mut changed = clauses.to_vec();
            changed.splice(at..=at, simpler);
            found.push(changed);
        }
    }
    found
}

/// What may stand for a clause: its content, or itself with something left out.
fn simpler(clause: &Clause) -> Vec<Vec<Clause>> {
    match clause {
        Clause::Plain(_) => Vec::new(),
        Clause::Not(head, clauses) => {
            let mut found = vec![clauses.clone()];
            let fewer = without_one(clauses)
                .into_iter()
                .filter(|fewer| !fewer.is_empty());
            found.extend(fewer.map(|fewer| vec![Clause::Not(head.clone(), fewer)]));
            found
        }
        Clause::Or(head, branches) => {
            let mut found = branches.clone();
            for at in 0..branches.len() {
                let with = |branch: Option<Vec<Clause>>| {
                    let mut branches = branches.clone();
                    branches.splice(at..=at, branch);
                    vec![Clause::Or(head.clone(), branches)]
                };
                if branches.len() > 1 {
                    found.push(with(None));
                }
                let fewer = without_one(&branches[at]).into_iter();
                found.extend(
                    fewer
                        .filter(|fewer| !fewer.is_empty())
                        .map(|fewer| with(Some(fewer))),
                );
            }
            found
        }
    }
}
