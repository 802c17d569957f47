//! Clauses that hold clauses, and calls of rules.

use super::Clause;
use super::clauses::{Builder, Variable, Variables};
use super::rules::Template;
use super::world::Kind;

impl Builder<'_> {
    /// A `not` or a `not-join`, of values other than those of the witness.
    pub(super) fn not(&mut self, scope: &mut Variables, depth: usize) -> Option<Clause> {
        let entity = self.known(scope, &[Kind::Entity])?.clone();
        let source = if self.has_second && self.random.chance(20) {
            "$2 "
        } else {
            ""
        };
        let is_join = self.random.chance(50);
        let mut seen = vec![entity.clone()];
        for variable in scope.iter() {
            if variable.name != entity.name && (!is_join || self.random.chance(25)) {
                seen.push(variable.clone());
            }
        }
        let shown: Vec<String> = seen.iter().map(|variable| variable.name.clone()).collect();
        for variable in &mut seen {
            if self.random.chance(70) {
                variable.witness = None;
            }
        }
        let count = 1 + self.random.below(2);
        let mut inside = seen.clone();
        let first = entity.entity().filter(|_| self.random.chance(30));
        let first = first.unwrap_or_else(|| *self.random.pick(&self.world.entities));
        let mut clauses = vec![self.pattern_of(&entity.name, first, &mut inside)];
        for _ in 1..count {
            clauses.extend(self.clause(&mut inside, depth + 1));
        }
        if !is_join {
            return Some(Clause::Not(format!("{source}not"), clauses));
        }
        let clauses = self.with_outer_names(clauses, &inside, &shown, scope);
        Some(Clause::Not(
            format!("{source}not-join [{}]", shown.join(" ")),
            clauses,
        ))
    }

    /// At times gives an inner variable the name of an outer one of which it knows nothing.
    fn with_outer_names(
        &mut self,
        clauses: Vec<Clause>,
        inside: &[Variable],
        shown: &[String],
        scope: &[Variable],
    ) -> Vec<Clause> {
        let inner = inside
            .iter()
            .find(|variable| !shown.contains(&variable.name));
        let outer = scope
            .iter()
            .find(|variable| !shown.contains(&variable.name));
        match (inner, outer) {
            (Some(inner), Some(outer)) if self.random.chance(50) => clauses
                .iter()
                .map(|clause| clause.renamed(&inner.name, &outer.name))
                .collect(),
            _ => clauses,
        }
    }

    /// An `or` or an `or-join`.
    pub(super) fn or(&mut self, scope: &mut Variables, depth: usize) -> Option<Clause> {
        let entity = self.known(scope, &[Kind::Entity])?.clone();
        let source = if self.has_second && self.random.chance(20) {
            "$2 "
        } else {
            ""
        };
        let e = &entity.name;
        let plain = |text: String| vec![Clause::Plain(text)];
        match self.random.below(7) {
            0 => {
                let number = self.constant(Kind::Long);
                let text = self.constant(Kind::String);
                let mut branches = vec![
                    plain(format!("[{e} :x/n {number}]")),
                    plain(format!("[{e} :x/s {text}]")),
                ];
                let is_of_pairs = |t: &&&Template| t.kinds == [Kind::Entity, Kind::Entity];
                if let Some(template) = self.templates.iter().find(is_of_pairs) {
                    branches.push(plain(format!("({} {e} _)", template.name)));
                }
                Some(Clause::Or(format!("{source}or"), branches))
            }
            1 => {
                let name = self.fresh(Kind::Long);
                scope.push(Variable::new(&name, Kind::Long, None));
                let bound = self.constant(Kind::Long);
                Some(Clause::Or(
                    format!("{source}or"),
                    vec![
                        plain(format!("[{e} :x/n {name}]")),
                        vec![
                            Clause::Plain(format!("[{e} :x/id {name}]")),
                            Clause::Plain(format!("[(< {name} {bound})]")),
                        ],
                    ],
                ))
            }
            2 => {
                let name = self.fresh(Kind::Entity);
                scope.push(Variable::new(&name, Kind::Entity, None));
                Some(Clause::Or(
                    format!("{source}or"),
                    vec![
                        plain(format!("[{e} :x/next {name}]")),
                        plain(format!("[{name} :x/links {e}]")),
                    ],
                ))
            }
            3 => {
                let number = self.known(scope, &[Kind::Long])?.name.clone();
                let name = self.fresh(Kind::Long);
                scope.push(Variable::new(&name, Kind::Long, None));
                Some(Clause::Or(
                    format!("or-join [[{number}] {name}]"),
                    vec![
                        plain(format!("[(+ {number} 1) {name}]")),
                        vec![
                            Clause::Plain(format!("[(< {number} 3)]")),
                            Clause::Plain(format!("[(* {number} 2) {name}]")),
                        ],
                    ],
                ))
            }
            4 => {
                let name = self.fresh(Kind::Any);
                scope.push(Variable::new(&name, Kind::Any, None));
                Some(Clause::Or(
                    format!("{source}or"),
                    vec![
                        plain(format!("[{e} :x/s {name}]")),
                        vec![
                            Clause::Plain(format!("[{e} :x/n {name}]")),
                            Clause::Not("not".to_owned(), plain(format!("[{e} :x/s]"))),
                        ],
                    ],
                ))
            }
            _ => Some(self.or_join(&entity, source, scope, depth)),
        }
    }

    /// An `or-join` of which each branch is about the same entities.
    fn or_join(
        &mut self,
        entity: &Variable,
        source: &str,
        scope: &[Variable],
        depth: usize,
    ) -> Clause {
        let mut seen = vec![entity.clone()];
        if let Some(other) = self.known(scope, &[Kind::Entity])
            && other.name != entity.name
        {
            seen.push(other.clone());
        }
        let shown: Vec<String> = seen.iter().map(|v| v.name.clone()).collect();
        let branches = (0..2)
            .map(|_| {
                let mut inside = seen.clone();
                let mut clauses: Vec<Clause> = seen
                    .iter()
                    .map(|variable| {
                        let of = variable.entity();
                        let of = of.unwrap_or_else(|| *self.random.pick(&self.world.entities));
                        self.pattern_of(&variable.name, of, &mut inside)
                    })
                    .collect();
                if self.random.chance(60) {
                    clauses.extend(self.clause(&mut inside, depth + 1));
                }
                self.with_outer_names(clauses, &inside, &shown, scope)
            })
            .collect();
        Clause::Or(format!("{source}or-join [{}]", shown.join(" ")), branches)
    }

    /// A call of a rule.
    pub(super) fn rule(&mut self, scope: &mut Variables) -> Clause {
        let template = *self.random.pick(&self.templates);
        let mut arguments = Vec::new();
        for (place, &kind) in template.kinds.iter().enumerate() {
            let is_required = place < template.required;
            let known = self.known(scope, &[kind]).cloned();
            arguments.push(match (self.random.below(100), known) {
                (0..60, Some(variable)) => variable.name,
                (60..70, _) if !is_required => "_".to_owned(),
                (70..80, _) if kind == Kind::Entity => {
                    let entity = *self.random.pick(&self.world.entities);
                    self.entity_text(entity)
                }
                (70..80, _) if kind != Kind::Attribute => self.constant(kind).to_string(),
                (_, Some(variable)) if is_required => variable.name,
                _ if is_required => self.constant(kind).to_string(),
                _ => {
                    let name = self.fresh(kind);
                    scope.push(Variable::new(&name, kind, None));
                    name
                }
            });
        }
        let source = if self.has_second && !template.names_source() && self.random.chance(25) {
            "$2 "
        } else {
            ""
        };
        Clause::Plain(format!(
            "({source}{} {})",
            template.name,
            arguments.join(" ")
        ))
    }
}

impl Clause {
    /// With another name for a variable.
    fn renamed(&self, from: &str, to: &str) -> Self {
        // Names end before a blank or a bracket, and `?n1` is the beginning of `?n12`.
        let rename = |text: &str| {
            let mut text = text.to_owned();
            for end in [" ", "]", ")"] {
                text = text.replace(&format!("{from}{end}"), &format!("{to}{end}"));
            }
            text
        };
        let all = |clauses: &[Self]| clauses.iter().map(|c| c.renamed(from, to)).collect();
        match self {
            Self::Plain(text) => Self::Plain(rename(text)),
            Self::Not(head, clauses) => Self::Not(rename(head), all(clauses)),
            Self::Or(head, branches) => Self::Or(
                rename(head),
                branches.iter().map(|branch| all(branch)).collect(),
            ),
        }
    }
}
