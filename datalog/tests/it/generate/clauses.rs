//! The clauses of a question.

use std::cmp::Ordering;

use super::Clause;
use super::random::Random;
use super::rules::Template;
use super::world::{self, Kind, Value, World};

/// Deepest nesting of `not` and `or`.
const DEPTH_MAX: usize = 2;

/// A variable that is bound, and what it stands for in the witness.
#[derive(Clone, Debug)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) witness: Option<Value>,
}

impl Variable {
    pub(super) fn new(name: &str, kind: Kind, witness: Option<Value>) -> Self {
        let name = name.to_owned();
        Self {
            name,
            kind,
            witness,
        }
    }

    pub(super) fn entity(&self) -> Option<i64> {
        match self.witness {
            Some(Value::Entity(entity)) => Some(entity),
            _ => None,
        }
    }
}

/// Makes clauses.
pub(super) struct Builder<'w> {
    pub(super) world: &'w World,
    pub(super) random: Random,
    pub(super) has_second: bool,
    pub(super) has_collection: bool,
    pub(super) has_history: bool,
    pub(super) templates: Vec<&'static Template>,
    pub(super) names: usize,
}

pub(super) type Variables = Vec<Variable>;

const NUMBERS: &[Kind] = &[Kind::Long, Kind::Number, Kind::Double];

fn is_number(kind: Kind) -> bool {
    NUMBERS.contains(&kind)
}

/// Whether a variable may stand for a long or a double, as the order of clauses has it: the two are equal,
/// but functions may tell them apart, so it is only compared.
fn is_loose(kind: Kind) -> bool {
    matches!(kind, Kind::Number | Kind::Double)
}

impl Builder<'_> {
    /// A new name, which tells the kind.
    pub(super) fn fresh(&mut self, kind: Kind) -> String {
        let letter = match kind {
            Kind::Entity => "e",
            Kind::Long => "n",
            Kind::Number => "m",
            Kind::Double => "d",
            Kind::String => "s",
            Kind::Keyword => "k",
            Kind::Boolean => "b",
            Kind::Attribute => "a",
            Kind::Transaction => "t",
            Kind::Any => "v",
        };
        self.names += 1;
        format!("?{letter}{}", self.names)
    }

    /// A value that is there, if there is one of this kind.
    pub(super) fn constant(&mut self, kind: Kind) -> Value {
        let world = self.world;
        let there: Vec<&Value> = world
            .facts
            .iter()
            .filter(|(_, place, _)| world.attributes[*place].kind == kind)
            .map(|(_, _, value)| value)
            .collect();
        if there.is_empty() || self.random.chance(10) {
            return world::value(&mut self.random, kind, &world.entities);
        }
        (*self.random.pick(&there)).clone()
    }

    /// A way to write an entity: its id, a lookup ref, or its ident.
    pub(super) fn entity_text(&mut self, entity: i64) -> String {
        match (self.random.below(3), world::ident(entity)) {
            (0, _) => entity.to_string(),
            (1, Some(ident)) => ident.to_owned(),
            _ => format!("[:x/id {}]", entity - world::ENTITY_MIN),
        }
    }

    /// One of the variables of some kinds.
    pub(super) fn known<'s>(
        &mut self,
        scope: &'s [Variable],
        kinds: &[Kind],
    ) -> Option<&'s Variable> {
        let found: Vec<&Variable> = scope.iter().filter(|v| kinds.contains(&v.kind)).collect();
        (!found.is_empty()).then(|| *self.random.pick(&found))
    }

    /// A clause of any kind, and at times another that it needs.
    pub(super) fn clause(&mut self, scope: &mut Variables, depth: usize) -> Vec<Clause> {
        if scope.is_empty() {
            return vec![self.pattern(scope)];
        }
        let nested = if depth < DEPTH_MAX { 10 } else { 0 };
        let rules = if self.templates.is_empty() { 0 } else { 30 };
        match self
            .random
            .weighted(&[40, 14, 10, 9, 4, nested, nested, rules, 4])
        {
            0 => vec![self.pattern(scope)],
            1 => self.comparison(scope).into_iter().collect(),
            2 => self.function(scope).into_iter().collect(),
            3 => self.lookup(scope).into_iter().collect(),
            4 => vec![self.ground(scope)],
            5 => self.not(scope, depth).into_iter().collect(),
            6 => self.or(scope, depth).into_iter().collect(),
            7 => vec![self.rule(scope)],
            _ if self.has_collection => vec![self.tuple(scope)],
            _ => vec![self.pattern(scope)],
        }
    }

    fn pattern(&mut self, scope: &mut Variables) -> Clause {
        if let Some(variable) = self.known(scope, &[Kind::Entity]).cloned()
            && self.random.chance(75)
        {
            let entity = variable
                .entity()
                .unwrap_or_else(|| *self.random.pick(&self.world.entities));
            return self.pattern_of(&variable.name, entity, scope);
        }
        let entity = *self.random.pick(&self.world.entities);
        if self.random.chance(12) {
            let text = self.entity_text(entity);
            return self.pattern_of(&text, entity, scope);
        }
        self.new_entity(scope)
    }

    /// A pattern about an entity under a new name.
    pub(super) fn new_entity(&mut self, scope: &mut Variables) -> Clause {
        let entity = *self.random.pick(&self.world.entities);
        let name = self.fresh(Kind::Entity);
        scope.push(Variable::new(
            &name,
            Kind::Entity,
            Some(Value::Entity(entity)),
        ));
        self.pattern_of(&name, entity, scope)
    }

    /// A pattern about an entity, which `subject` names.
    pub(super) fn pattern_of(
        &mut self,
        subject: &str,
        entity: i64,
        scope: &mut Variables,
    ) -> Clause {
        let world = self.world;
        let facts: Vec<_> = world.facts.iter().filter(|(e, ..)| *e == entity).collect();
        let (place, value) = if facts.is_empty() || self.random.chance(5) {
            (self.random.below(world.attributes.len()), None)
        } else {
            let (_, place, value) = self.random.pick(&facts);
            (*place, Some(value.clone()))
        };
        let attribute = &world.attributes[place];
        let mut kind = attribute.kind;
        let source = if self.has_second && self.random.chance(35) {
            "$2 "
        } else {
            ""
        };
        let attribute = match self.random.below(100) {
            0 => ":x/undeclared".to_owned(),
            1..8 => {
                kind = Kind::Any;
                match self.known(scope, &[Kind::Attribute]) {
                    Some(variable) if self.random.chance(50) => variable.name.clone(),
                    _ => {
                        let name = self.fresh(Kind::Attribute);
                        scope.push(Variable::new(&name, Kind::Attribute, None));
                        name
                    }
                }
            }
            _ => attribute.ident.to_owned(),
        };
        let Some(object) = self.object(kind, value, scope) else {
            return Clause::Plain(format!("[{source}{subject} {attribute}]"));
        };
        let mut text = format!("[{source}{subject} {attribute} {object}");
        if self.random.chance(if self.has_history { 40 } else { 7 }) {
            let tx = match self.known(scope, &[Kind::Transaction]) {
                Some(variable) if self.random.chance(30) => variable.name.clone(),
                _ => {
                    let name = self.fresh(Kind::Transaction);
                    scope.push(Variable::new(&name, Kind::Transaction, None));
                    name
                }
            };
            text = format!("{text} {tx}");
            if self.random.chance(60) {
                let added = *self.random.pick(&["true", "_", "?b", "?b"]);
                if added == "?b" {
                    let name = self.fresh(Kind::Boolean);
                    text = format!("{text} {name}");
                    scope.push(Variable::new(&name, Kind::Boolean, None));
                } else {
                    text = format!("{text} {added}");
                }
            }
        }
        Clause::Plain(text + "]")
    }

    /// What stands in the place of the value.
    fn object(
        &mut self,
        kind: Kind,
        value: Option<Value>,
        scope: &mut Variables,
    ) -> Option<String> {
        match self.random.weighted(&[42, 18, 15, 10, 10, 5]) {
            1 => {
                let is_same = |v: &&Variable| match (&v.witness, &value) {
                    (Some(known), Some(value)) if is_loose(v.kind) && is_number(kind) => {
                        compare(known, value) == Some(Ordering::Equal)
                    }
                    (known, value) => known.is_some() && known == value,
                };
                let same: Vec<&Variable> = scope.iter().filter(is_same).collect();
                if !same.is_empty() {
                    return Some(self.random.pick(&same).name.clone());
                }
            }
            2 => {
                let value = value.clone().unwrap_or_else(|| self.constant(kind));
                return Some(match value {
                    // Only in the place of a reference is an ident or a lookup ref an entity.
                    Value::Entity(entity) if kind == Kind::Entity => self.entity_text(entity),
                    value => value.to_string(),
                });
            }
            3 => return Some("_".to_owned()),
            4 => return None,
            5 => {
                let kinds = [kind, Kind::Number, Kind::Double];
                let kinds = if is_number(kind) {
                    &kinds[..]
                } else {
                    &kinds[..1]
                };
                if let Some(variable) = self.known(scope, kinds) {
                    // Lest a variable to calculate with stand for a double.
                    if kind != Kind::Double && kind != Kind::Number || is_loose(variable.kind) {
                        return Some(variable.name.clone());
                    }
                }
            }
            _ => {}
        }
        let name = self.fresh(kind);
        scope.push(Variable::new(&name, kind, value));
        Some(name)
    }

    /// A tuple of the collection.
    fn tuple(&mut self, scope: &mut Variables) -> Clause {
        let parts = [Kind::Long, Kind::String].map(|kind| {
            if let Some(variable) = self.known(scope, &[kind])
                && self.random.chance(60)
            {
                return variable.name.clone();
            }
            if self.random.chance(25) {
                return "_".to_owned();
            }
            let name = self.fresh(kind);
            scope.push(Variable::new(&name, kind, None));
            name
        });
        Clause::Plain(format!("[$c {}]", parts.join(" ")))
    }

    /// A comparison, which mostly holds in the witness.
    fn comparison(&mut self, scope: &[Variable]) -> Option<Clause> {
        if self.random.chance(15)
            && let Some(variable) = self.known(scope, &[Kind::Attribute])
        {
            let function = *self.random.pick(&["=", "not=", "!="]);
            let ident = self.random.pick(&self.world.attributes).ident;
            return Some(Clause::Plain(format!(
                "[({function} {} {ident})]",
                variable.name
            )));
        }
        if self.random.chance(8)
            && let Some(variable) = self.known(scope, &[Kind::Long])
        {
            let function = *self
                .random
                .pick(&["even?", "odd?", "pos?", "neg?", "zero?"]);
            return Some(Clause::Plain(format!("[({function} {})]", variable.name)));
        }
        let ordered: &[Kind] = &[Kind::Long, Kind::Number, Kind::Double, Kind::String];
        let kinds = if self.random.chance(20) {
            &[Kind::Entity, Kind::Any]
        } else {
            ordered
        };
        let left = self.known(scope, kinds)?;
        let is_ordered = ordered.contains(&left.kind);
        let same = if is_number(left.kind) {
            NUMBERS
        } else {
            std::slice::from_ref(&left.kind)
        };
        let (right, witness) = match self.known(scope, same) {
            Some(right) if right.name != left.name && self.random.chance(50) => {
                (right.name.clone(), right.witness.clone())
            }
            _ if left.kind == Kind::Any || self.random.chance(7) => {
                let kind = *self.random.pick(&[Kind::Long, Kind::String, Kind::Double]);
                (self.constant(kind).to_string(), None)
            }
            _ => {
                let value = self.constant(left.kind);
                (value.to_string(), Some(value))
            }
        };
        let order = left.witness.as_ref().zip(witness.as_ref());
        let holding: &[&str] = match order.and_then(|(left, right)| compare(left, right)) {
            Some(Ordering::Less) if is_ordered => &["<", "<=", "not=", "!="],
            Some(Ordering::Greater) if is_ordered => &[">", ">=", "not=", "!="],
            Some(Ordering::Equal) if is_ordered => &["=", "<=", ">=", "="],
            Some(Ordering::Equal) => &["="],
            _ if is_ordered => &["<", ">", "<=", ">=", "=", "not="],
            _ => &["not=", "!="],
        };
        let function = if self.random.chance(88) {
            *self.random.pick(holding)
        } else {
            *self.random.pick(&["=", "not="])
        };
        let parts = if self.random.chance(85) {
            format!("({function} {} {right})", left.name)
        } else {
            let turned = match function {
                "<" => ">",
                "<=" => ">=",
                ">" => "<",
                ">=" => "<=",
                same => same,
            };
            format!("({turned} {right} {})", left.name)
        };
        Some(Clause::Plain(format!("[{parts}]")))
    }

    /// A function of bound variables, bound to a new variable or compared with a known one.
    fn function(&mut self, scope: &mut Variables) -> Option<Clause> {
        if self.random.chance(35)
            && let Some(text) = self.known(scope, &[Kind::String]).cloned()
        {
            let known = match &text.witness {
                Some(Value::String(known)) => Some(known.clone()),
                _ => None,
            };
            let name = &text.name;
            if self.random.chance(50) {
                let count = known
                    .map(|known| Value::Long(i64::try_from(known.chars().count()).unwrap_or(0)));
                let result = self.result(Kind::Long, count, scope);
                return Some(Clause::Plain(format!("[(count {name}) {result}]")));
            }
            let joined = known.map(|known| Value::String(known + "-"));
            let result = self.result(Kind::String, joined, scope);
            return Some(Clause::Plain(format!("[(str {name} \"-\") {result}]")));
        }
        let number = self.known(scope, &[Kind::Long])?.clone();
        let name = &number.name;
        let other = self.known(scope, &[Kind::Long])?.clone();
        let known = number.long();
        if other.name != number.name && self.random.chance(25) {
            let pair = [self.fresh(Kind::Long), self.fresh(Kind::Long)];
            scope.push(Variable::new(&pair[0], Kind::Long, number.witness.clone()));
            scope.push(Variable::new(&pair[1], Kind::Long, other.witness.clone()));
            let tuple = self.fresh(Kind::Any);
            // One clause, so that the tuple is never without its parts.
            return Some(Clause::Or(
                format!("or-join [[{name} {}] {}]", other.name, pair.join(" ")),
                vec![vec![
                    Clause::Plain(format!("[(tuple {name} {}) {tuple}]", other.name)),
                    Clause::Plain(format!("[(untuple {tuple}) [{}]]", pair.join(" "))),
                ]],
            ));
        }
        let (call, value) = match self.random.below(6) {
            0 => (format!("(+ {name} 1)"), known.map(|n| n + 1)),
            1 => (format!("(- {name} 1)"), known.map(|n| n - 1)),
            2 => (format!("(* 2 {name})"), known.map(|n| n * 2)),
            3 => (format!("(quot {name} 2)"), known.map(|n| n / 2)),
            4 => (format!("(inc {name})"), known.map(|n| n + 1)),
            _ => {
                let value = known.zip(other.long()).map(|(a, b)| a + b);
                (format!("(+ {name} {})", other.name), value)
            }
        };
        let result = self.result(Kind::Long, value.map(Value::Long), scope);
        Some(Clause::Plain(format!("[{call} {result}]")))
    }

    /// A new variable, or a known one that holds the same in the witness.
    fn result(&mut self, kind: Kind, witness: Option<Value>, scope: &mut Variables) -> String {
        let same = scope
            .iter()
            .find(|v| v.kind == kind && witness.is_some() && v.witness == witness);
        match same {
            Some(variable) if self.random.chance(50) => variable.name.clone(),
            _ => {
                let name = self.fresh(kind);
                scope.push(Variable::new(&name, kind, witness));
                name
            }
        }
    }

    /// A function of the database.
    fn lookup(&mut self, scope: &mut Variables) -> Option<Clause> {
        if self.has_history {
            return None;
        }
        let entity = self.known(scope, &[Kind::Entity])?.name.clone();
        let source = if self.has_second && self.random.chance(25) {
            "$2"
        } else {
            "$"
        };
        let world = self.world;
        let single: Vec<_> = world.attributes.iter().filter(|a| !a.is_many).collect();
        let attribute = *self.random.pick(&single);
        let ident = attribute.ident;
        Some(Clause::Plain(match self.random.below(10) {
            0..5 => {
                let otherwise = self.constant(attribute.kind);
                let name = self.fresh(attribute.kind);
                scope.push(Variable::new(&name, attribute.kind, None));
                format!("[(get-else {source} {entity} {ident} {otherwise}) {name}]")
            }
            5..8 => {
                let ident = self.random.pick(&world.attributes).ident;
                format!("[(missing? {source} {entity} {ident})]")
            }
            _ => {
                let second = self.random.pick(&single).ident;
                let value = self.fresh(Kind::Any);
                scope.push(Variable::new(&value, Kind::Any, None));
                format!("[(get-some {source} {entity} {second} {ident}) [_ {value}]]")
            }
        }))
    }

    fn ground(&mut self, scope: &mut Variables) -> Clause {
        let kind = *self.random.pick(&[Kind::Long, Kind::String]);
        let known = self.known(scope, &[kind]).cloned();
        let value = match &known {
            Some(Variable {
                witness: Some(value),
                ..
            }) => value.clone(),
            _ => self.constant(kind),
        };
        let name = match known {
            Some(variable) if self.random.chance(70) => variable.name,
            _ => {
                let name = self.fresh(kind);
                scope.push(Variable::new(&name, kind, Some(value.clone())));
                name
            }
        };
        let other = self.constant(kind);
        Clause::Plain(match self.random.below(4) {
            0 => format!("[(ground {value}) {name}]"),
            1 => format!("[(ground [{other} {value}]) [_ {name}]]"),
            2 => format!("[(ground [[1 {value}] [2 {other}]]) [[_ {name}]]]"),
            _ => format!("[(ground [{other} {value}]) [{name} ...]]"),
        })
    }
}

impl Variable {
    fn long(&self) -> Option<i64> {
        match self.witness {
            Some(Value::Long(long)) => Some(long),
            _ => None,
        }
    }
}

/// The order of two values of the witness, if they are near in kind.
fn compare(left: &Value, right: &Value) -> Option<Ordering> {
    #[allow(clippy::cast_precision_loss, reason = "a guess is enough")]
    let number = |value: &Value| match value {
        Value::Long(long) => Some(*long as f64),
        Value::Double(double) => Some(*double),
        _ => None,
    };
    match (left, right) {
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Value::Entity(left), Value::Entity(right)) => Some(left.cmp(right)),
        _ => number(left)?.partial_cmp(&number(right)?),
    }
}
