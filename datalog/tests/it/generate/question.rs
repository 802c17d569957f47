//! The frame of a question: its sources, inputs, rules and find spec.

use std::collections::BTreeSet;

use super::clauses::{Builder, Variable};
use super::random::Random;
use super::rules::{TEMPLATES, Template, template};
use super::world::{Kind, Value, World};
use super::{Clause, Question, Rule, Shape, SourceSpec};

impl Question {
    /// A question about a world.
    pub fn new(world: &World, seed: u64) -> Self {
        let mut random = Random::new(seed, 2);
        let mut sources = vec![("$".to_owned(), SourceSpec::Now)];
        if random.chance(8) {
            sources[0].1 = SourceSpec::History;
        }
        if random.chance(25) {
            let second = match random.below(4) {
                0 => SourceSpec::Now,
                _ => SourceSpec::After(random.below(world.transactions.len() + 1)),
            };
            sources.push(("$2".to_owned(), second));
        }
        if random.chance(12) {
            sources.push((
                "$c".to_owned(),
                SourceSpec::Collection(tuples(world, &mut random)),
            ));
        }
        let is_history = sources[0].1 == SourceSpec::History;
        let mut templates = templates(&mut random);
        // Functions of the database are not asked of a history.
        templates.retain(|template| !is_history || !template.names_source());
        let mut builder = Builder {
            world,
            random,
            has_second: sources.iter().any(|(name, _)| name == "$2"),
            has_collection: sources.iter().any(|(name, _)| name == "$c"),
            has_history: is_history,
            templates: templates.clone(),
            names: 0,
        };
        let mut scope = Vec::new();
        let (inputs, mut clauses) = inputs(&mut builder, &mut scope);
        let count = 1 + builder.random.below(6);
        while clauses.len() < count {
            let clause = builder.clause(&mut scope, 0);
            clauses.extend(clause);
        }
        if !templates.is_empty() && !clauses.iter().any(|clause| calls(clause, &templates)) {
            clauses.push(builder.rule(&mut scope));
        }
        if scope.is_empty() {
            clauses.push(builder.new_entity(&mut scope));
        }
        if builder.random.chance(50) {
            builder.random.shuffle(&mut clauses);
        }
        let edge = *builder.random.pick(&[":x/next", ":x/links"]);
        let mut question = Self {
            sources,
            inputs,
            clauses,
            rules: templates
                .iter()
                .flat_map(|template| branches(template, edge))
                .collect(),
            ..Self::default()
        };
        find(&mut question, &mut builder, &scope);
        question
    }
}

/// Tuples of a long and a string, some of which are there, some wider, some narrower.
fn tuples(world: &World, random: &mut Random) -> String {
    let mut tuples = Vec::new();
    for _ in 0..2 + random.below(5) {
        let mut tuple = Vec::new();
        for kind in [Kind::Long, Kind::String, Kind::Keyword] {
            tuple.push(super::world::value(random, kind, &world.entities).to_string());
        }
        tuple.truncate(*random.pick(&[1, 2, 2, 2, 3]));
        tuples.push(format!("[{}]", tuple.join(" ")));
    }
    format!("[{}]", tuples.join(" "))
}

/// No rules in half of the questions; otherwise some, and those that they call.
fn templates(random: &mut Random) -> Vec<&'static Template> {
    let mut chosen: Vec<&'static Template> = Vec::new();
    if random.chance(50) {
        return chosen;
    }
    let mut names: Vec<&str> = (0..=random.below(2))
        .map(|_| random.pick(TEMPLATES).name)
        .collect();
    let mut seen = BTreeSet::new();
    while let Some(name) = names.pop() {
        if seen.insert(name)
            && let Some(template) = template(name)
        {
            chosen.push(template);
            names.extend(template.needs);
        }
    }
    chosen
}

fn calls(clause: &Clause, templates: &[&Template]) -> bool {
    let text = clause.to_string();
    templates.iter().any(|template| {
        [
            format!("({} ", template.name),
            format!(" {} ", template.name),
        ]
        .iter()
        .any(|call| text.contains(call))
    })
}

fn branches(template: &Template, edge: &str) -> Vec<Rule> {
    let branch = |(head, body): &(&str, &[&str])| Rule {
        head: (*head).to_owned(),
        body: body
            .iter()
            .map(|clause| Clause::Plain(clause.replace("EDGE", edge)))
            .collect(),
    };
    template.branches.iter().map(branch).collect()
}

/// Inputs of all forms; an input that stands for an entity or an attribute is used at once as such.
fn inputs(
    builder: &mut Builder<'_>,
    scope: &mut Vec<Variable>,
) -> (Vec<(String, String)>, Vec<Clause>) {
    let mut inputs = Vec::new();
    let mut clauses = Vec::new();
    if !builder.random.chance(40) {
        return (inputs, clauses);
    }
    for _ in 0..=builder.random.below(2) {
        let number = builder.constant(Kind::Long);
        let other = builder.constant(Kind::Long);
        let text = builder.constant(Kind::String);
        let form = builder.random.weighted(&[4, 2, 2, 2, 1, 1, 3, 2, 2]);
        let mut variable = |kind: Kind, value: &Value| {
            let name = builder.fresh(kind);
            scope.push(Variable::new(&name, kind, Some(value.clone())));
            name
        };
        match form {
            0 => inputs.push((variable(Kind::Long, &number), number.to_string())),
            1 => {
                let name = variable(Kind::Long, &number);
                inputs.push((format!("[{name} ...]"), format!("[{other} {number} 17]")));
            }
            2 => {
                let names = [variable(Kind::Long, &number), variable(Kind::String, &text)];
                inputs.push((
                    format!("[{}]", names.join(" ")),
                    format!("[{number} {text}]"),
                ));
            }
            3 => {
                let names = [variable(Kind::Long, &number), variable(Kind::String, &text)];
                let value = format!("[[{number} {text}] [{other} \"a\"] [{number} \"b\"]]");
                inputs.push((format!("[[{}]]", names.join(" ")), value));
            }
            4 => {
                let name = variable(Kind::Long, &number);
                inputs.push((format!("[_ {name}]"), format!("[{text} {number}]")));
            }
            5 => {
                let names = [variable(Kind::String, &text), variable(Kind::Long, &number)];
                let value = format!("[[{text} [{number} {other}]] [\"b\" [{other}]] [\"c\" []]]");
                inputs.push((format!("[[{} [{} ...]]]", names[0], names[1]), value));
            }
            6 => {
                let entity = *builder.random.pick(&builder.world.entities);
                let name = builder.fresh(Kind::Entity);
                scope.push(Variable::new(
                    &name,
                    Kind::Entity,
                    Some(Value::Entity(entity)),
                ));
                inputs.push((name.clone(), builder.entity_text(entity)));
                clauses.push(builder.pattern_of(&name, entity, scope));
            }
            7 => {
                let entities: Vec<i64> = (0..3)
                    .map(|_| *builder.random.pick(&builder.world.entities))
                    .collect();
                let texts: Vec<String> = entities
                    .iter()
                    .map(|entity| builder.entity_text(*entity))
                    .collect();
                let name = builder.fresh(Kind::Entity);
                scope.push(Variable::new(
                    &name,
                    Kind::Entity,
                    Some(Value::Entity(entities[0])),
                ));
                inputs.push((format!("[{name} ...]"), format!("[{}]", texts.join(" "))));
                clauses.push(builder.pattern_of(&name, entities[0], scope));
            }
            _ => {
                let name = builder.fresh(Kind::Attribute);
                let (entity, place, value) = builder.random.pick(&builder.world.facts).clone();
                let ident = builder.world.attributes[place].ident;
                inputs.push((name.clone(), ident.to_owned()));
                let of = builder.fresh(Kind::Entity);
                let holds = builder.fresh(Kind::Any);
                clauses.push(Clause::Plain(format!("[{of} {name} {holds}]")));
                scope.push(Variable::new(&name, Kind::Attribute, None));
                scope.push(Variable::new(
                    &of,
                    Kind::Entity,
                    Some(Value::Entity(entity)),
                ));
                scope.push(Variable::new(&holds, Kind::Any, Some(value)));
            }
        }
    }
    (inputs, clauses)
}

/// Chooses the find elements: some variables, or aggregates over one.
fn find(question: &mut Question, builder: &mut Builder<'_>, scope: &[Variable]) {
    let mut found: Vec<&Variable> = scope.iter().collect();
    builder.random.shuffle(&mut found);
    found.dedup_by(|a, b| a.name == b.name);
    let is_aggregate = builder.random.chance(22);
    if !is_aggregate {
        found.truncate(1 + builder.random.below(3));
        question.find = found.iter().map(|variable| variable.name.clone()).collect();
        question.shape = match builder.random.below(20) {
            0 | 1 => Shape::Collection,
            2 => Shape::Scalar,
            3 => Shape::Tuple,
            _ => Shape::Relation,
        };
        if matches!(question.shape, Shape::Collection | Shape::Scalar) {
            question.find.truncate(1);
        }
        return;
    }
    let over = *builder
        .random
        .pick(&found.iter().copied().take(3).collect::<Vec<_>>());
    let functions: &[&str] = match over.kind {
        Kind::Long => &["sum", "avg", "min", "max", "count", "count-distinct"],
        Kind::Number | Kind::Double | Kind::String => &["min", "max", "count", "count-distinct"],
        _ => &["count", "count-distinct"],
    };
    let rest: Vec<&Variable> = found.into_iter().filter(|v| v.name != over.name).collect();
    let groups = builder.random.below(3).min(rest.len());
    question.find = rest[..groups].iter().map(|v| v.name.clone()).collect();
    for _ in 0..=builder.random.below(2) {
        let function = builder.random.pick(functions);
        question.find.push(format!("({function} {})", over.name));
    }
    if builder.random.chance(50) {
        let with = rest[groups..].iter().take(1 + builder.random.below(2));
        question.with = with.map(|variable| variable.name.clone()).collect();
    }
}
