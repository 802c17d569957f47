//! Rules: which recurse, and what a call of one becomes.
//!
//! A rule that does not depend on itself is replaced by its branches. Rules that depend on each other
//! form a [`Program`]; a rule is one predicate for each default source under which it is called.
//! Negation within such a group would have no meaning and is refused.

use std::collections::{BTreeMap, HashMap};

use super::Analysis;
use super::bound::{Branch, Goal, Predicate, Program, Slot, VarId};
use super::scope::Scope;
use crate::ast::{
    Clause, ClauseKind, HeadArgument, RuleBranch, RuleCall, RuleSet, SourceName, Variable,
};
use crate::edn::Symbol;
use crate::error::Error;
use crate::span::Span;

/// The rules by name, and how they depend on each other.
pub(super) struct RuleBook<'a> {
    /// Branches of each rule; a rule's place is its number.
    rules: Vec<(&'a Symbol, Vec<&'a RuleBranch>)>,
    numbers: BTreeMap<&'a str, usize>,
    /// The group of rules that depend on each other, by rule; `None` if it does not recurse.
    groups: Vec<Option<usize>>,
}

/// A program in the making.
pub(super) struct Building {
    group: usize,
    members: HashMap<(usize, SourceName), usize>,
    predicates: Vec<Predicate>,
}

impl<'a> RuleBook<'a> {
    pub(super) fn new(set: &'a RuleSet) -> Result<Self, Error> {
        let mut book = Self {
            rules: Vec::new(),
            numbers: BTreeMap::new(),
            groups: Vec::new(),
        };
        for branch in &set.branches {
            let next = book.rules.len();
            let number = *book.numbers.entry(branch.name.as_str()).or_insert(next);
            if number == next {
                book.rules.push((&branch.name, Vec::new()));
            }
            book.rules[number].1.push(branch);
        }
        let mut edges: Vec<Vec<(usize, Option<Span>)>> = vec![Vec::new(); book.rules.len()];
        for (number, (_, branches)) in book.rules.iter().enumerate() {
            for branch in branches {
                book.calls(&branch.body, None, &mut edges[number])
                    .map_err(|(message, span)| Error::new(message, span, &set.text))?;
            }
        }
        book.groups = groups(&edges);
        for (number, edges) in edges.iter().enumerate() {
            let group = book.groups[number];
            let inside = edges.iter().find(|(to, negated)| {
                negated.is_some() && group.is_some() && book.groups[*to] == group
            });
            if let Some(&(to, Some(span))) = inside {
                return Err(Error::new(
                    format!(
                        "{} depends on the negation of {}, which depends on it: such rules have no \
                         meaning",
                        book.rules[number].0, book.rules[to].0
                    ),
                    span,
                    &set.text,
                ));
            }
        }
        Ok(book)
    }

    /// The rules that clauses call, with the place of the negation around the call.
    fn calls(
        &self,
        clauses: &[Clause],
        negated: Option<Span>,
        edges: &mut Vec<(usize, Option<Span>)>,
    ) -> Result<(), (String, Span)> {
        for clause in clauses {
            match &clause.kind {
                ClauseKind::Rule(call) => {
                    edges.push((self.number(call)?, negated));
                }
                ClauseKind::Not { clauses, .. } => {
                    self.calls(clauses, Some(clause.span), edges)?;
                }
                ClauseKind::Or { branches, .. } => {
                    for branch in branches {
                        self.calls(branch, negated, edges)?;
                    }
                }
                ClauseKind::Pattern(_) | ClauseKind::Call(_) => {}
            }
        }
        Ok(())
    }

    /// The rule that is called, if it is called rightly.
    fn number(&self, call: &RuleCall) -> Result<usize, (String, Span)> {
        let name = &call.name;
        let Some(&number) = self.numbers.get(name.as_str()) else {
            let near = crate::functions::near(name.as_str(), self.numbers.keys().copied());
            let hint = match (near.is_empty(), self.rules.is_empty()) {
                (false, _) => format!("; did you mean {}?", near.join(" or ")),
                (true, true) => "; no rules were given".to_owned(),
                (true, false) => String::new(),
            };
            return Err((format!("there is no rule {name}{hint}"), call.name_span));
        };
        let arity = self.rules[number].1[0].arity();
        if arity != call.arguments.len() {
            let got = call.arguments.len();
            let message = format!("{name} takes {arity} arguments, not {got}");
            return Err((message, call.name_span));
        }
        Ok(number)
    }
}

/// The strongly connected components of a graph that contain a cycle, by node (Tarjan, without recursion).
fn groups(edges: &[Vec<(usize, Option<Span>)>]) -> Vec<Option<usize>> {
    const UNSEEN: usize = usize::MAX;
    let mut order = vec![UNSEEN; edges.len()];
    let mut low = vec![0; edges.len()];
    let mut on_stack = vec![false; edges.len()];
    let mut stack = Vec::new();
    let mut groups = vec![None; edges.len()];
    let (mut next, mut group) = (0, 0);
    for root in 0..edges.len() {
        if order[root] != UNSEEN {
            continue;
        }
        let mut work = vec![(root, 0)];
        while let Some((node, at)) = work.pop() {
            if at == 0 {
                order[node] = next;
                low[node] = next;
                next += 1;
                stack.push(node);
                on_stack[node] = true;
            }
            if let Some(&(to, _)) = edges[node].get(at) {
                work.push((node, at + 1));
                if order[to] == UNSEEN {
                    work.push((to, 0));
                } else if on_stack[to] {
                    low[node] = low[node].min(order[to]);
                }
                continue;
            }
            if let Some(&(parent, _)) = work.last() {
                low[parent] = low[parent].min(low[node]);
            }
            if low[node] != order[node] {
                continue;
            }
            let start = stack.iter().rposition(|member| *member == node);
            let members = stack.split_off(start.unwrap_or(0));
            let cyclic = members.len() > 1 || edges[node].iter().any(|(to, _)| *to == node);
            for member in members {
                on_stack[member] = false;
                if cyclic {
                    groups[member] = Some(group);
                }
            }
            group += 1;
        }
    }
    groups
}

impl Analysis<'_> {
    /// A call of a rule.
    pub(super) fn rule(
        &mut self,
        call: &RuleCall,
        scope: &mut Scope,
        source: &SourceName,
        span: Span,
        goals: &mut Vec<Goal>,
    ) -> Result<(), Error> {
        let source = call.source.as_ref().unwrap_or(source);
        let book = self.book;
        let number = book.number(call);
        let number = number.map_err(|(message, span)| self.error(message, span))?;
        let mut arguments = Vec::with_capacity(call.arguments.len());
        for argument in &call.arguments {
            arguments.push(self.component(argument, scope)?);
        }
        match book.groups[number] {
            Some(group) => {
                let (program, predicate) = self.predicate(number, group, source)?;
                goals.push(Goal::Rule {
                    program,
                    predicate,
                    arguments,
                    span,
                });
            }
            None => self.inline(number, &arguments, source, span, goals)?,
        }
        Ok(())
    }

    /// Replaces a call by the branches of its rule.
    fn inline(
        &mut self,
        number: usize,
        arguments: &[Slot],
        source: &SourceName,
        span: Span,
        goals: &mut Vec<Goal>,
    ) -> Result<(), Error> {
        let book = self.book;
        let branches = &book.rules[number].1;
        let required = branches[0].required.len();
        // A blank is a variable that nobody else sees.
        let arguments: Vec<VarId> = arguments
            .iter()
            .map(|slot| match slot {
                Slot::Var(var) => *var,
                Slot::Blank => self.fresh("_"),
                Slot::Constant(term) => {
                    let var = self.fresh("constant");
                    self.info(var).constant = Some(term.clone());
                    var
                }
            })
            .collect();
        let mut bound = Vec::with_capacity(branches.len());
        for branch in branches {
            bound.push(self.branch(branch, &arguments, source)?);
        }
        let several = bound.len() > 1 || required > 0;
        match bound.pop() {
            Some(only) if !several => goals.extend(only),
            Some(last) => {
                bound.push(last);
                let of = |vars: &[VarId]| {
                    let mut vars = vars.to_vec();
                    vars.sort_unstable();
                    vars.dedup();
                    vars
                };
                let required_vars = of(&arguments[..required]);
                let mut free = of(&arguments[required..]);
                free.retain(|var| !required_vars.contains(var));
                goals.push(Goal::Or {
                    required: required_vars,
                    free,
                    branches: bound,
                    span,
                });
            }
            None => {}
        }
        Ok(())
    }

    /// The body of a branch, its parameters being these variables.
    fn branch(
        &mut self,
        branch: &RuleBranch,
        arguments: &[VarId],
        source: &SourceName,
    ) -> Result<Vec<Goal>, Error> {
        let mut scope = Scope::default();
        let mut goals = Vec::new();
        self.in_rules += 1;
        let required = branch.required.iter();
        let heads = required
            .map(|variable| HeadArgument::Variable(variable.clone(), branch.span))
            .chain(branch.free.iter().cloned());
        for (head, &argument) in heads.zip(arguments) {
            match head {
                HeadArgument::Variable(variable, _) => match scope.get(&variable) {
                    Some(before) if before != argument => {
                        goals.push(Goal::Same(Slot::Var(before), Slot::Var(argument)));
                    }
                    Some(_) => {}
                    None => scope.insert(variable, argument),
                },
                HeadArgument::Constant(form) => {
                    let term = self.constant(&form)?;
                    goals.push(Goal::Same(Slot::Var(argument), Slot::Constant(term)));
                }
            }
        }
        goals.extend(self.conjunction(&branch.body, &mut scope, source)?);
        self.in_rules -= 1;
        Ok(goals)
    }

    /// The predicate of a recursive rule over a default source, made if it is not there.
    fn predicate(
        &mut self,
        number: usize,
        group: usize,
        source: &SourceName,
    ) -> Result<(usize, usize), Error> {
        let key = (number, source.clone());
        if let Some(&known) = self.program_of.get(&key) {
            return Ok(known);
        }
        let outermost = self.building.last().is_none_or(|last| last.group != group);
        if outermost {
            self.building.push(Building {
                group,
                members: HashMap::new(),
                predicates: Vec::new(),
            });
        }
        // Programs are numbered as they are finished; until then, the group's own is this one.
        let depth = self.building.len() - 1;
        if let Some(&predicate) = self.building[depth].members.get(&key) {
            return Ok((usize::MAX - depth, predicate));
        }
        let book = self.book;
        let (name, branches) = &book.rules[number];
        let predicate = self.building[depth].predicates.len();
        self.building[depth].members.insert(key, predicate);
        self.building[depth].predicates.push(Predicate {
            name: name.as_str().into(),
            required: (0..branches[0].arity())
                .map(|at| at < branches[0].required.len())
                .collect(),
            arity: branches[0].arity(),
            branches: Vec::new(),
        });
        let mut bound = Vec::with_capacity(branches.len());
        for branch in branches {
            let parameters =
                branch
                    .required
                    .iter()
                    .map(Variable::as_str)
                    .chain(branch.free.iter().map(|head| match head {
                        HeadArgument::Variable(variable, _) => variable.as_str(),
                        HeadArgument::Constant(_) => "constant",
                    }));
            let parameters: Vec<VarId> = parameters.map(|name| self.fresh(name)).collect();
            let goals = self.branch(branch, &parameters, source)?;
            bound.push(Branch {
                head: parameters.into_iter().map(Slot::Var).collect(),
                goals,
            });
        }
        self.building[depth].predicates[predicate].branches = bound;
        if !outermost {
            return Ok((usize::MAX - depth, predicate));
        }
        let Some(mut building) = self.building.pop() else {
            return Ok((usize::MAX - depth, predicate));
        };
        let program = self.programs.len();
        for branch in building
            .predicates
            .iter_mut()
            .flat_map(|predicate| &mut predicate.branches)
        {
            number_programs(&mut branch.goals, usize::MAX - depth, program);
        }
        for (key, predicate) in building.members {
            self.program_of.insert(key, (program, predicate));
        }
        self.programs.push(Program {
            predicates: building.predicates,
        });
        Ok((program, predicate))
    }
}

/// Gives calls of an unfinished program the number that it has in the end.
fn number_programs(goals: &mut [Goal], unfinished: usize, finished: usize) {
    for goal in goals {
        match goal {
            Goal::Rule { program, .. } if *program == unfinished => *program = finished,
            Goal::Not { goals, .. } => number_programs(goals, unfinished, finished),
            Goal::Or { branches, .. } => {
                for branch in branches {
                    number_programs(branch, unfinished, finished);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_reach_themselves_form_groups() {
        let edge = |to| (to, None);
        let graph = vec![
            vec![edge(1)],
            vec![edge(2)],
            vec![edge(1), edge(3)],
            vec![edge(3)],
            vec![],
        ];
        let groups = groups(&graph);
        assert_eq!(groups[0], None);
        assert!(groups[1].is_some() && groups[1] == groups[2]);
        assert!(groups[3].is_some() && groups[3] != groups[1]);
        assert_eq!(groups[4], None);
    }
}
