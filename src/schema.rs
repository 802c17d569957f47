//! The schema of a database value: its attributes and its idents, both found by name and by entity id.
//!
//! Schema is data. This module folds the datoms that describe attributes and idents into one immutable
//! [`Schema`]; which changes are allowed is the business of [`change`].
//!
//! **Invariant.** A `Schema` is a function of the transactions it was folded from, however they were
//! grouped and whatever the order within each, and [`Schema::facts`] rebuild an equal one.

mod attribute;
mod bootstrap;
pub(crate) mod change;
mod facts;
pub(crate) mod tuple;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use datomfusion_datalog::edn::Keyword;

pub use attribute::{Attribute, Cardinality, Unique};
pub(crate) use bootstrap::{attrs, bootstrap_datoms};
pub(crate) use facts::Facts;
pub(crate) use tuple::Composite;

use crate::datom::{Datom, Entid};
use crate::error::{Error, Result};
use crate::value::{Value, ValueType};

/// Attributes and idents of one basis.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schema {
    facts: BTreeMap<Entid, Facts>,
    attributes: BTreeMap<Entid, Arc<Attribute>>,
    entids: HashMap<Keyword, Entid>,
    /// The attributes with `:db/tupleAttrs`, by entity id.
    composites: Vec<Composite>,
}

/// Any way to name an entity.
#[derive(Clone, Debug, PartialEq)]
pub enum EntityRef {
    /// By its id.
    Entid(Entid),
    /// By its `:db/ident`.
    Ident(Keyword),
    /// By a unique attribute and its value.
    Lookup(LookupRef),
}

/// A unique attribute and a value: `[:person/email "ada@example.com"]`.
#[derive(Clone, Debug, PartialEq)]
pub struct LookupRef {
    /// The unique attribute.
    pub attribute: Keyword,
    /// Its value.
    pub value: Value,
}

impl From<Entid> for EntityRef {
    fn from(entid: Entid) -> Self {
        Self::Entid(entid)
    }
}

impl From<Keyword> for EntityRef {
    fn from(ident: Keyword) -> Self {
        Self::Ident(ident)
    }
}

impl From<LookupRef> for EntityRef {
    fn from(lookup: LookupRef) -> Self {
        Self::Lookup(lookup)
    }
}

impl Schema {
    /// The schema of a new database: the attributes that describe attributes.
    pub fn bootstrap() -> Self {
        let mut schema = Self::default();
        schema.fold(&bootstrap_datoms());
        schema
    }

    /// Applies the datoms of one transaction, or of several one after the other; others are ignored.
    ///
    /// Returns the entities whose description changed, in order.
    pub fn fold(&mut self, datoms: &[Datom]) -> Vec<Entid> {
        let mut touched: Vec<Entid> = Vec::new();
        for said in datoms.chunk_by(|left, right| left.tx == right.tx) {
            // A retraction of an old value must not undo the assertion of the new one, whatever their
            // order within a transaction.
            for added in [false, true] {
                for datom in said
                    .iter()
                    .filter(|datom| datom.added == added && describes(datom.a))
                {
                    let facts = self.facts.entry(datom.e).or_default();
                    if added {
                        facts.insert(datom.a, datom.v.clone());
                    } else {
                        facts.remove(datom.a, &datom.v);
                    }
                    touched.push(datom.e);
                }
            }
        }
        touched.sort_unstable();
        touched.dedup();
        for &e in &touched {
            self.refresh(e);
        }
        if !touched.is_empty() {
            self.compose();
        }
        touched
    }

    /// Derives the maps of one entity from its facts.
    fn refresh(&mut self, e: Entid) {
        self.entids.retain(|_, entid| *entid != e);
        self.attributes.remove(&e);
        let Some(facts) = self.facts.get(&e) else {
            return;
        };
        if let Some(ident) = facts.get(attrs::IDENT).and_then(Value::as_keyword) {
            self.entids.insert(ident.clone(), e);
        }
        if let Some(attribute) = Attribute::from_facts(e, facts) {
            self.attributes.insert(e, Arc::new(attribute));
        }
        if facts.len() == 0 {
            self.facts.remove(&e);
        }
    }

    /// The described entities beyond the bootstrap, as (entity, attribute, value) in EAVT order.
    pub fn facts(&self) -> impl Iterator<Item = (Entid, Entid, &Value)> {
        self.facts
            .range(Entid::FIRST_USER..)
            .flat_map(|(&e, facts)| facts.iter().map(move |(a, v)| (e, a, v)))
    }

    /// Rebuilds a schema from what [`Schema::facts`] listed.
    pub(crate) fn from_facts(facts: impl IntoIterator<Item = (Entid, Entid, Value)>) -> Self {
        let mut schema = Self::bootstrap();
        let mut touched = Vec::new();
        for (e, a, v) in facts {
            schema.facts.entry(e).or_default().insert(a, v);
            if touched.last() != Some(&e) {
                touched.push(e);
            }
        }
        for e in touched {
            schema.attach(e);
        }
        schema.compose();
        schema
    }

    /// [`Schema::refresh`] for an entity that is known to be new, without a search for its old ident.
    fn attach(&mut self, e: Entid) {
        let Some(facts) = self.facts.get(&e) else {
            return;
        };
        if let Some(ident) = facts.get(attrs::IDENT).and_then(Value::as_keyword) {
            self.entids.insert(ident.clone(), e);
        }
        if let Some(attribute) = Attribute::from_facts(e, facts) {
            self.attributes.insert(e, Arc::new(attribute));
        }
    }

    /// The facts that describe one entity.
    pub(crate) fn facts_of(&self, e: Entid) -> Option<&Facts> {
        self.facts.get(&e)
    }

    /// The attribute with this entity id.
    pub fn attribute(&self, id: Entid) -> Option<&Arc<Attribute>> {
        self.attributes.get(&id)
    }

    /// The attribute with this ident.
    pub fn attribute_by_ident(&self, ident: &Keyword) -> Option<&Arc<Attribute>> {
        self.attributes.get(self.entids.get(ident)?)
    }

    /// The attribute with this ident.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] that names similar attributes.
    pub fn require(&self, ident: &Keyword) -> Result<&Arc<Attribute>> {
        self.attribute_by_ident(ident)
            .ok_or_else(|| Error::Invalid(self.unknown(ident)))
    }

    /// The message for an ident that is no attribute.
    pub(crate) fn unknown(&self, ident: &Keyword) -> String {
        let known = self.attributes.values().map(|known| known.ident.as_str());
        let near = near(ident.as_str(), known);
        if near.is_empty() {
            return format!("there is no attribute {ident}");
        }
        let near: Vec<_> = near.iter().map(|name| format!(":{name}")).collect();
        format!(
            "there is no attribute {ident}; did you mean {}?",
            near.join(" or ")
        )
    }

    /// All attributes, by entity id.
    pub fn attributes(&self) -> impl Iterator<Item = &Arc<Attribute>> {
        self.attributes.values()
    }

    /// The entity with this ident.
    pub fn entid(&self, ident: &Keyword) -> Option<Entid> {
        self.entids.get(ident).copied()
    }

    /// The ident of an entity.
    pub fn ident(&self, e: Entid) -> Option<&Keyword> {
        self.facts.get(&e)?.get(attrs::IDENT)?.as_keyword()
    }

    /// All idents, attributes' and enums' alike, by entity id.
    pub fn idents(&self) -> impl Iterator<Item = (Entid, &Keyword)> {
        self.facts
            .iter()
            .filter_map(|(&e, facts)| Some((e, facts.get(attrs::IDENT)?.as_keyword()?)))
    }
}

/// Whether datoms of this attribute describe attributes or idents.
///
/// Documentation stays in the trees: it can be long, and nothing is decided by it.
pub(crate) fn describes(a: Entid) -> bool {
    (attrs::IDENT..=attrs::LAST_DESCRIBING).contains(&a) && a != attrs::DOC
}

/// Up to three known names that lie nearest to one that is not known; none if all are far.
pub(crate) fn near<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut near: Vec<_> = known
        .map(|known| (distance(known, name), known))
        .filter(|(distance, _)| *distance <= 1 + name.len() / 5)
        .collect();
    near.sort_unstable();
    let nearest = near.first().map(|(distance, _)| *distance);
    near.into_iter()
        .take_while(|(distance, _)| Some(*distance) == nearest)
        .map(|(_, known)| known)
        .take(3)
        .collect()
}

/// Edit distance, for suggestions; bounded because idents are.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (
        left.chars().take(64).collect(),
        right.chars().take(64).collect(),
    );
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let cost = (diagonal + usize::from(a != b))
                .min(row[j] + 1)
                .min(row[j + 1] + 1);
            diagonal = row[j + 1];
            row[j + 1] = cost;
        }
    }
    row[right.len()]
}

/// The value type that an entity such as `:db.type/long` stands for.
pub(crate) fn value_type_of(e: Entid) -> Option<ValueType> {
    let code = e.0.checked_sub(attrs::TYPE_BASE)?;
    ValueType::from_code(u8::try_from(code).ok()?)
}

#[cfg(test)]
mod tests {
    use datomfusion_datalog::edn::Symbol;

    use super::*;
    use crate::datom::TxId;

    fn describe(e: i64, ident: &str) -> Vec<Datom> {
        let tx = TxId::from_t(1);
        vec![
            Datom::add(
                Entid(e),
                attrs::IDENT,
                Value::Keyword(Keyword::new(ident)),
                tx,
            ),
            Datom::add(
                Entid(e),
                attrs::VALUE_TYPE,
                Value::Ref(attrs::type_id(ValueType::Long)),
                tx,
            ),
            Datom::add(
                Entid(e),
                attrs::CARDINALITY,
                Value::Ref(attrs::CARDINALITY_ONE),
                tx,
            ),
        ]
    }

    #[test]
    fn bootstrap_describes_itself() {
        let schema = Schema::bootstrap();
        let ident = schema.attribute(attrs::IDENT).unwrap();
        assert_eq!(ident.unique, Some(Unique::Identity));
        assert_eq!(
            schema.entid(&Keyword::new("db.type/tuple")),
            Some(attrs::type_id(ValueType::Tuple))
        );
        assert_eq!(
            value_type_of(attrs::type_id(ValueType::Uri)),
            Some(ValueType::Uri)
        );
    }

    #[test]
    fn facts_rebuild_the_schema() {
        let mut schema = Schema::bootstrap();
        schema.fold(&describe(2000, "person/age"));
        let facts = schema.facts().map(|(e, a, v)| (e, a, v.clone()));
        assert_eq!(Schema::from_facts(facts), schema);
    }

    #[test]
    fn a_renamed_attribute_is_found_by_its_new_name_only() {
        let mut schema = Schema::bootstrap();
        schema.fold(&describe(2000, "person/age"));
        let tx = TxId::from_t(2);
        let (old, new) = (Keyword::new("person/age"), Keyword::new("person/years"));
        let touched = schema.fold(&[
            Datom::add(Entid(2000), attrs::IDENT, Value::Keyword(new.clone()), tx),
            Datom::retract(Entid(2000), attrs::IDENT, Value::Keyword(old.clone()), tx),
        ]);
        assert_eq!(touched, [Entid(2000)]);
        assert!(schema.attribute_by_ident(&new).is_some() && schema.entid(&old).is_none());
    }

    /// A tail of several transactions is folded at once when a head is opened: what the first said and
    /// the second took back was there again.
    #[test]
    fn transactions_folded_at_once_are_as_if_folded_one_by_one() {
        let component = |t, added| Datom {
            added,
            ..Datom::add(
                Entid(2000),
                attrs::IS_COMPONENT,
                Value::Boolean(true),
                TxId::from_t(t),
            )
        };
        let said = [
            describe(2000, "person/age"),
            vec![component(2, true)],
            vec![component(3, false)],
        ];
        let (mut at_once, mut one_by_one) = (Schema::bootstrap(), Schema::bootstrap());
        at_once.fold(&said.concat());
        for transaction in &said {
            one_by_one.fold(transaction);
        }
        assert!(!one_by_one.attribute(Entid(2000)).unwrap().component);
        assert_eq!(at_once, one_by_one);
    }

    #[test]
    fn predicates_of_an_attribute_are_a_set() {
        let mut schema = Schema::bootstrap();
        schema.fold(&describe(2000, "person/age"));
        let said = |t, name: &str, added| Datom {
            added,
            ..Datom::add(
                Entid(2000),
                attrs::ATTR_PREDS,
                Value::Symbol(Symbol::new(name)),
                TxId::from_t(t),
            )
        };
        schema.fold(&[said(2, "my/b", true), said(2, "my/a", true)]);
        let names = |schema: &Schema| {
            let preds = schema.attribute(Entid(2000)).unwrap().preds.to_vec();
            preds.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(names(&schema), ["my/a", "my/b"]);
        let facts = schema.facts().map(|(e, a, v)| (e, a, v.clone()));
        assert_eq!(Schema::from_facts(facts), schema);
        schema.fold(&[said(3, "my/a", false)]);
        assert_eq!(names(&schema), ["my/b"]);
    }

    #[test]
    fn an_unknown_attribute_suggests_near_names() {
        let mut schema = Schema::bootstrap();
        schema.fold(&describe(2000, "person/age"));
        let error = schema.require(&Keyword::new("person/aeg")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no attribute :person/aeg; did you mean :person/age?"
        );
    }
}
