//! The attributes that describe attributes: what transaction 0 says in every database.
//!
//! The ids are part of the storage format. They are never reused, and new ones are only appended.

use datomfusion_datalog::edn::Keyword;

use crate::datom::{Datom, Entid, TxId};
use crate::value::{Value, ValueType};

/// Ids of the bootstrap entities.
pub(crate) mod attrs {
    use crate::datom::Entid;
    use crate::value::ValueType;

    pub(crate) const IDENT: Entid = Entid(1);
    pub(crate) const VALUE_TYPE: Entid = Entid(2);
    pub(crate) const CARDINALITY: Entid = Entid(3);
    pub(crate) const UNIQUE: Entid = Entid(4);
    pub(crate) const INDEX: Entid = Entid(5);
    pub(crate) const IS_COMPONENT: Entid = Entid(6);
    pub(crate) const NO_HISTORY: Entid = Entid(7);
    pub(crate) const DOC: Entid = Entid(8);
    pub(crate) const SCALE: Entid = Entid(9);
    pub(crate) const FULLTEXT: Entid = Entid(10);
    pub(crate) const TUPLE_ATTRS: Entid = Entid(11);
    pub(crate) const TUPLE_TYPE: Entid = Entid(12);
    pub(crate) const TUPLE_TYPES: Entid = Entid(13);
    pub(crate) const ATTR_PREDS: Entid = Entid(14);
    /// The attributes from `IDENT` to here describe idents and attributes; 15 to 19 are kept for more.
    pub(crate) const LAST_DESCRIBING: Entid = Entid(19);
    pub(crate) const TX_INSTANT: Entid = Entid(20);
    pub(crate) const ENTITY_ATTRS: Entid = Entid(21);
    pub(crate) const ENTITY_PREDS: Entid = Entid(22);
    /// Never stored: it asks for a check.
    pub(crate) const ENSURE: Entid = Entid(23);
    /// The attributes with several values.
    pub(crate) const MANY: [Entid; 4] = [ATTR_PREDS, ENTITY_ATTRS, ENTITY_PREDS, ENSURE];

    /// The entity of a value type is this plus the type's code.
    pub(crate) const TYPE_BASE: i64 = 40;
    pub(crate) const CARDINALITY_ONE: Entid = Entid(80);
    pub(crate) const CARDINALITY_MANY: Entid = Entid(81);
    pub(crate) const UNIQUE_IDENTITY: Entid = Entid(82);
    pub(crate) const UNIQUE_VALUE: Entid = Entid(83);
    pub(crate) const PART_DB: Entid = Entid(90);
    pub(crate) const PART_TX: Entid = Entid(91);
    pub(crate) const PART_USER: Entid = Entid(92);

    /// The entity of a value type.
    pub(crate) fn type_id(value_type: ValueType) -> Entid {
        Entid(TYPE_BASE + i64::from(value_type as u8))
    }
}

/// Id, name, type, documentation.
const ATTRIBUTES: [(Entid, &str, ValueType, &str); 18] = [
    (
        attrs::IDENT,
        "db/ident",
        ValueType::Keyword,
        "A name for this entity, unique in the database.",
    ),
    (
        attrs::VALUE_TYPE,
        "db/valueType",
        ValueType::Ref,
        "The type of an attribute's values.",
    ),
    (
        attrs::CARDINALITY,
        "db/cardinality",
        ValueType::Ref,
        "How many values an entity can have.",
    ),
    (
        attrs::UNIQUE,
        "db/unique",
        ValueType::Ref,
        "Whether values are unique, and how.",
    ),
    (
        attrs::INDEX,
        "db/index",
        ValueType::Boolean,
        "Whether values can be looked up.",
    ),
    (
        attrs::IS_COMPONENT,
        "db/isComponent",
        ValueType::Boolean,
        "Whether referenced entities are parts.",
    ),
    (
        attrs::NO_HISTORY,
        "db/noHistory",
        ValueType::Boolean,
        "Whether superseded values are forgotten.",
    ),
    (attrs::DOC, "db/doc", ValueType::String, "Documentation."),
    (
        attrs::SCALE,
        "db/scale",
        ValueType::Long,
        "Digits after the point of a bigdec column.",
    ),
    (
        attrs::FULLTEXT,
        "db/fulltext",
        ValueType::Boolean,
        "Accepted and inert.",
    ),
    (
        attrs::TUPLE_ATTRS,
        "db/tupleAttrs",
        ValueType::Tuple,
        "The attributes of a composite tuple.",
    ),
    (
        attrs::TUPLE_TYPE,
        "db/tupleType",
        ValueType::Keyword,
        "The type of all elements of a tuple.",
    ),
    (
        attrs::TUPLE_TYPES,
        "db/tupleTypes",
        ValueType::Tuple,
        "The type of each element of a tuple.",
    ),
    (
        attrs::ATTR_PREDS,
        "db.attr/preds",
        ValueType::Symbol,
        "Registered predicates that new values must satisfy.",
    ),
    (
        attrs::TX_INSTANT,
        "db/txInstant",
        ValueType::Instant,
        "When a transaction was made.",
    ),
    (
        attrs::ENTITY_ATTRS,
        "db.entity/attrs",
        ValueType::Keyword,
        "Attributes that an entity of this spec must have.",
    ),
    (
        attrs::ENTITY_PREDS,
        "db.entity/preds",
        ValueType::Symbol,
        "Registered predicates that an entity of this spec must satisfy.",
    ),
    (
        attrs::ENSURE,
        "db/ensure",
        ValueType::Ref,
        "A spec that the entity must satisfy after this transaction; never stored.",
    ),
];

const IDENTS: [(Entid, &str); 7] = [
    (attrs::CARDINALITY_ONE, "db.cardinality/one"),
    (attrs::CARDINALITY_MANY, "db.cardinality/many"),
    (attrs::UNIQUE_IDENTITY, "db.unique/identity"),
    (attrs::UNIQUE_VALUE, "db.unique/value"),
    (attrs::PART_DB, "db.part/db"),
    (attrs::PART_TX, "db.part/tx"),
    (attrs::PART_USER, "db.part/user"),
];

/// The datoms of transaction 0, in EAVT order. Its instant is 1970-01-01.
pub(crate) fn bootstrap_datoms() -> Vec<Datom> {
    let tx = TxId::from_t(0);
    let mut datoms = Vec::new();
    let mut say = |e, a, v| datoms.push(Datom::add(e, a, v, tx));
    for (e, ident, value_type, doc) in ATTRIBUTES {
        say(e, attrs::IDENT, Value::Keyword(Keyword::new(ident)));
        say(e, attrs::VALUE_TYPE, Value::Ref(attrs::type_id(value_type)));
        let cardinality = if attrs::MANY.contains(&e) {
            attrs::CARDINALITY_MANY
        } else {
            attrs::CARDINALITY_ONE
        };
        say(e, attrs::CARDINALITY, Value::Ref(cardinality));
        if e == attrs::IDENT {
            say(e, attrs::UNIQUE, Value::Ref(attrs::UNIQUE_IDENTITY));
        }
        if e == attrs::TX_INSTANT {
            say(e, attrs::INDEX, Value::Boolean(true));
        }
        say(e, attrs::DOC, Value::string(doc));
    }
    for value_type in ValueType::ALL {
        let ident = Keyword::qualified("db.type", value_type.name());
        say(
            attrs::type_id(value_type),
            attrs::IDENT,
            Value::Keyword(ident),
        );
    }
    for (e, ident) in IDENTS {
        say(e, attrs::IDENT, Value::Keyword(Keyword::new(ident)));
    }
    say(tx.0, attrs::TX_INSTANT, Value::Instant(0));
    datoms
}
