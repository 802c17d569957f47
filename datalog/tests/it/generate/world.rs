//! A random schema, and transactions that assert, change and retract facts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::random::Random;

/// The entity ids begin here, far above those that a database allocates itself.
pub(super) const ENTITY_MIN: i64 = 100_000;

/// The entities that have an ident.
const IDENTS: [(i64, &str); 2] = [
    (ENTITY_MIN + 1, ":enum/red"),
    (ENTITY_MIN + 2, ":enum/blue"),
];

/// What a variable, or the value of an attribute, is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Entity,
    /// Small integers, to calculate with.
    Long,
    /// Integers and doubles up to the limits of exactness, to compare.
    Number,
    Double,
    String,
    Keyword,
    Boolean,
    Attribute,
    Transaction,
    /// Values of every kind.
    Any,
}

/// A value that is there.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Long(i64),
    Double(f64),
    String(String),
    Keyword(&'static str),
    Boolean(bool),
    Entity(i64),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Long(number) | Self::Entity(number) => write!(f, "{number}"),
            Self::Double(number) => write!(f, "{number:?}"),
            Self::String(text) => write!(f, "{text:?}"),
            Self::Keyword(keyword) => f.write_str(keyword),
            Self::Boolean(boolean) => write!(f, "{boolean}"),
        }
    }
}

/// An attribute of the schema.
#[derive(Clone, Debug)]
pub(super) struct Attribute {
    pub(super) ident: &'static str,
    pub(super) kind: Kind,
    pub(super) is_many: bool,
    is_unique: bool,
    is_indexed: bool,
}

/// A schema, and the transactions that follow it.
#[derive(Clone, Debug)]
pub struct World {
    pub(super) attributes: Vec<Attribute>,
    /// The operations of each transaction, as text.
    pub transactions: Vec<Vec<String>>,
    /// What holds after all of them.
    pub(super) facts: Vec<(i64, usize, Value)>,
    pub(super) entities: Vec<i64>,
}

impl World {
    /// A world.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed, 1);
        let attributes = attributes(&mut random);
        let count = 6 + i64::try_from(random.below(10)).unwrap_or(0);
        let entities: Vec<i64> = (1..=count).map(|at| ENTITY_MIN + at).collect();
        let mut state: BTreeMap<(i64, usize), Vec<Value>> = BTreeMap::new();
        let mut transactions = vec![first(&mut random, &attributes, &entities, &mut state)];
        for _ in 0..=random.below(4) {
            transactions.push(change(&mut random, &attributes, &entities, &mut state));
        }
        let facts = state
            .into_iter()
            .flat_map(|((e, a), values)| values.into_iter().map(move |value| (e, a, value)))
            .collect();
        Self {
            attributes,
            transactions,
            facts,
            entities,
        }
    }

    /// The transaction that installs the schema.
    pub fn schema_text(&self) -> String {
        let attributes: Vec<String> = self.attributes.iter().map(ToString::to_string).collect();
        format!("[{}]", attributes.join("\n "))
    }

    /// The transactions after it.
    pub fn transaction_texts(&self) -> Vec<String> {
        let text = |operations: &Vec<String>| format!("[{}]", operations.join("\n "));
        self.transactions.iter().map(text).collect()
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value_type = match self.kind {
            Kind::Entity => "ref",
            Kind::Double => "double",
            Kind::String => "string",
            Kind::Keyword => "keyword",
            Kind::Boolean => "boolean",
            _ => "long",
        };
        let cardinality = if self.is_many { "many" } else { "one" };
        let ident = self.ident;
        write!(
            f,
            "{{:db/ident {ident} :db/valueType :db.type/{value_type} \
             :db/cardinality :db.cardinality/{cardinality}"
        )?;
        if self.is_unique {
            f.write_str(" :db/unique :db.unique/identity")?;
        } else if self.is_indexed {
            f.write_str(" :db/index true")?;
        }
        f.write_str("}")
    }
}

/// Five attributes that every world has, and up to three more.
fn attributes(random: &mut Random) -> Vec<Attribute> {
    let mut more = [
        (":x/m", Kind::Number, false),
        (":x/d", Kind::Double, false),
        (":x/k", Kind::Keyword, false),
        (":x/tags", Kind::String, true),
        (":y/n", Kind::Long, false),
        (":x/nums", Kind::Long, true),
        (":x/ok", Kind::Boolean, false),
    ];
    random.shuffle(&mut more);
    let always = [
        (":x/id", Kind::Long, false),
        (":x/n", Kind::Long, false),
        (":x/s", Kind::String, false),
        (":x/next", Kind::Entity, false),
        (":x/links", Kind::Entity, true),
    ];
    let more = &more[..random.below(4)];
    always
        .iter()
        .chain(more)
        .map(|&(ident, kind, is_many)| Attribute {
            ident,
            kind,
            is_many,
            is_unique: ident == ":x/id",
            is_indexed: random.chance(35),
        })
        .collect()
}

/// A value of a kind, from so few that they collide.
pub(super) fn value(random: &mut Random, kind: Kind, entities: &[i64]) -> Value {
    let keywords = [":red", ":blue", ":x/n", ":enum/red"];
    match kind {
        Kind::Entity => Value::Entity(*random.pick(entities)),
        Kind::Number if random.chance(30) => {
            Value::Long(*random.pick(&[9_007_199_254_740_992, 9_007_199_254_740_993]))
        }
        Kind::Double if random.chance(10) => Value::Double(9_007_199_254_740_992.0),
        Kind::Double => Value::Double(*random.pick(&[0.0, 1.0, 2.0, 2.5, -1.5])),
        Kind::String => Value::String((*random.pick(&["", "a", "b", "ab", "ä", "2"])).to_owned()),
        Kind::Keyword => Value::Keyword(keywords[random.below(keywords.len())]),
        Kind::Boolean => Value::Boolean(random.chance(50)),
        _ => Value::Long(*random.pick(&[-1, 0, 1, 1, 2, 2, 3, 4])),
    }
}

/// Maps of entities; only here do entities get their `:x/id`, and some an ident.
fn first(
    random: &mut Random,
    attributes: &[Attribute],
    entities: &[i64],
    state: &mut BTreeMap<(i64, usize), Vec<Value>>,
) -> Vec<String> {
    let mut operations = Vec::new();
    for &entity in entities {
        let mut map = format!("{{:db/id {entity}");
        if let Some((_, ident)) = IDENTS.iter().find(|(id, _)| *id == entity) {
            map = format!("{map} :db/ident {ident}");
        }
        for (place, attribute) in attributes.iter().enumerate() {
            let values = if attribute.is_unique {
                vec![Value::Long(entity - ENTITY_MIN)]
            } else {
                let count = if attribute.is_many {
                    random.below(4)
                } else {
                    usize::from(random.chance(75))
                };
                let mut values = Vec::new();
                for _ in 0..count {
                    let value = value(random, attribute.kind, entities);
                    if !values.contains(&value) {
                        values.push(value);
                    }
                }
                values
            };
            let texts: Vec<String> = values.iter().map(ToString::to_string).collect();
            match &*texts {
                [] => continue,
                [text] => map = format!("{map} {} {text}", attribute.ident),
                texts => map = format!("{map} {} [{}]", attribute.ident, texts.join(" ")),
            }
            state.insert((entity, place), values);
        }
        operations.push(map + "}");
    }
    operations
}

/// Additions, changes and retractions, no two of the same entity and attribute.
fn change(
    random: &mut Random,
    attributes: &[Attribute],
    entities: &[i64],
    state: &mut BTreeMap<(i64, usize), Vec<Value>>,
) -> Vec<String> {
    let mut operations = Vec::new();
    let mut touched = BTreeSet::new();
    for _ in 0..3 + random.below(8) {
        let entity = *random.pick(entities);
        let place = 1 + random.below(attributes.len() - 1);
        let attribute = &attributes[place];
        if !touched.insert((entity, place)) {
            continue;
        }
        let values = state.entry((entity, place)).or_default();
        if !values.is_empty() && random.chance(40) {
            let value = values.swap_remove(random.below(values.len()));
            operations.push(format!(
                "[:db/retract {entity} {} {value}]",
                attribute.ident
            ));
            continue;
        }
        let value = value(random, attribute.kind, entities);
        if values.contains(&value) {
            continue;
        }
        operations.push(format!("[:db/add {entity} {} {value}]", attribute.ident));
        if !attribute.is_many {
            values.clear();
        }
        values.push(value);
    }
    operations
}

/// The ident of an entity, if it has one.
pub(super) fn ident(entity: i64) -> Option<&'static str> {
    let found = IDENTS.iter().find(|(id, _)| *id == entity);
    found.map(|(_, ident)| *ident)
}
