//! One attribute.

use std::sync::Arc;

use datomfusion_datalog::edn::{Keyword, Symbol};

use super::{Facts, attrs, value_type_of};
use crate::datom::Entid;
use crate::value::{Value, ValueType};

/// How many values an entity can have for an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cardinality {
    /// At most one; a new value replaces the old.
    One,
    /// A set.
    Many,
}

/// What uniqueness of an attribute's values means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unique {
    /// A value names its entity: asserting it again upserts.
    Identity,
    /// No two entities share a value: asserting it again is refused.
    Value,
}

/// An attribute and its schema.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    /// The attribute's entity id.
    pub id: Entid,
    /// Its name.
    pub ident: Keyword,
    /// The type of its values.
    pub value_type: ValueType,
    /// How many values an entity can have.
    pub cardinality: Cardinality,
    /// Whether values are unique, and how.
    pub unique: Option<Unique>,
    /// `:db/index`. See [`Attribute::in_avet`] for what lies in AVET.
    pub indexed: bool,
    /// Whether referenced entities are parts of the referring one, retracted with it.
    pub component: bool,
    /// Whether superseded facts are forgotten. Such an attribute promises nothing under `as_of` and
    /// `history`.
    pub no_history: bool,
    /// Digits after the point that a bigdec column shows; absent until a value needs any.
    pub scale: Option<i64>,
    /// `:db/tupleAttrs`: the attributes that a composite tuple is made of.
    pub tuple_attrs: Option<Arc<[Keyword]>>,
    /// `:db/tupleTypes`, or `:db/tupleType` as a single element: the types of a tuple's elements. Those of
    /// a composite are the types of the attributes that it is made of.
    pub tuple_types: Option<Arc<[Keyword]>>,
    /// `:db.attr/preds`: the registered predicates that every new value must satisfy.
    pub preds: Arc<[Symbol]>,
}

impl Attribute {
    /// The attribute that facts about entity `id` describe, if they describe one whole.
    pub(super) fn from_facts(id: Entid, facts: &Facts) -> Option<Self> {
        let flag = |a| matches!(facts.get(a), Some(Value::Boolean(true)));
        let keywords = |a| match facts.get(a) {
            Some(Value::Tuple(elements)) => Some(
                elements
                    .iter()
                    .flatten()
                    .filter_map(Value::as_keyword)
                    .cloned()
                    .collect(),
            ),
            Some(Value::Keyword(keyword)) => Some([keyword.clone()].into()),
            _ => None,
        };
        Some(Self {
            id,
            ident: facts.get(attrs::IDENT)?.as_keyword()?.clone(),
            value_type: value_type_of(facts.get(attrs::VALUE_TYPE)?.as_ref()?)?,
            cardinality: match facts.get(attrs::CARDINALITY)?.as_ref()? {
                attrs::CARDINALITY_ONE => Cardinality::One,
                attrs::CARDINALITY_MANY => Cardinality::Many,
                _ => return None,
            },
            unique: match facts.get(attrs::UNIQUE).and_then(Value::as_ref) {
                Some(attrs::UNIQUE_IDENTITY) => Some(Unique::Identity),
                Some(attrs::UNIQUE_VALUE) => Some(Unique::Value),
                _ => None,
            },
            indexed: flag(attrs::INDEX),
            component: flag(attrs::IS_COMPONENT),
            no_history: flag(attrs::NO_HISTORY),
            scale: facts.get(attrs::SCALE).and_then(Value::as_long),
            tuple_attrs: keywords(attrs::TUPLE_ATTRS),
            tuple_types: keywords(attrs::TUPLE_TYPES).or_else(|| keywords(attrs::TUPLE_TYPE)),
            preds: facts
                .all(attrs::ATTR_PREDS)
                .filter_map(|value| match value {
                    Value::Symbol(symbol) => Some(symbol.clone()),
                    _ => None,
                })
                .collect(),
        })
    }

    /// Whether this attribute's facts lie in AVET: indexed, unique or a reference.
    pub fn in_avet(&self) -> bool {
        self.indexed || self.unique.is_some() || self.value_type == ValueType::Ref
    }

    /// Whether an entity can have several values.
    pub fn is_many(&self) -> bool {
        self.cardinality == Cardinality::Many
    }
}
