//! The schema of a database value: its attributes and its idents, both found by name and by entity id.
//!
//! Schema is data. This module folds the datoms that describe attributes and idents into one immutable
//! [`Schema`]; which changes are allowed is the business of [`change`].
//!
//! **Invariant.** A `Schema` is a function of the datoms it was folded from, whatever their order, and
//! the datoms of [`Schema::facts`] fold into an equal one.

mod attribute;
mod bootstrap;
pub(crate) mod change;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use datomfusion_datalog::edn::Keyword;

pub use attribute::{Attribute, Cardinality, Unique};
pub(crate) use bootstrap::{attrs, bootstrap_datoms};

use crate::datom::{Datom, Entid};
use crate::error::{Error, Result};
use crate::value::{Value, ValueType};

/// Attributes and idents of one basis.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schema {
    facts: BTreeMap<Entid, Facts>,
    attributes: BTreeMap<Entid, Arc<Attribute>>,
    entids: HashMap<Keyword, Entid>,
}

/// What has been said about one entity with an ident, by describing attribute.
type Facts = BTreeMap<Entid, Value>;

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

    /// Applies the datoms of one transaction, or of several in order; others are ignored.
    ///
    /// Returns the entities whose description changed, in order.
    pub fn fold(&mut self, datoms: &[Datom]) -> Vec<Entid> {
        let mut touched: Vec<Entid> = Vec::new();
        // A retraction of an old value must not undo the assertion of the new one, whatever their order.
        for added in [false, true] {
            for datom in datoms
                .iter()
                .filter(|datom| datom.added == added && describes(datom.a))
            {
                let facts = self.facts.entry(datom.e).or_default();
                if added {
                    facts.insert(datom.a, datom.v.clone());
                } else if facts.get(&datom.a) == Some(&datom.v) {
                    facts.remove(&datom.a);
                }
                touched.push(datom.e);
            }
        }
        touched.sort_unstable();
        touched.dedup();
        for &e in &touched {
            self.refresh(e);
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
        if let Some(ident) = facts.get(&attrs::IDENT).and_then(Value::as_keyword) {
            self.entids.insert(ident.clone(), e);
        }
        if let Some(attribute) = Attribute::from_facts(e, facts) {
            self.attributes.insert(e, Arc::new(attribute));
        }
        if facts.is_empty() {
            self.facts.remove(&e);
        }
    }

    /// The described entities beyond the bootstrap, as (entity, attribute, value) in EAVT order.
    pub fn facts(&self) -> impl Iterator<Item = (Entid, Entid, &Value)> {
        self.facts
            .range(Entid::FIRST_USER..)
            .flat_map(|(&e, facts)| facts.iter().map(move |(&a, v)| (e, a, v)))
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
        schema
    }

    /// [`Schema::refresh`] for an entity that is known to be new, without a search for its old ident.
    fn attach(&mut self, e: Entid) {
        let Some(facts) = self.facts.get(&e) else {
            return;
        };
        if let Some(ident) = facts.get(&attrs::IDENT).and_then(Value::as_keyword) {
            self.entids.insert(ident.clone(), e);
        }
        if let Some(attribute) = Attribute::from_facts(e, facts) {
            self.attributes.insert(e, Arc::new(attribute));
        }
    }

    /// The facts that describe one entity.
    pub(crate) fn facts_of(&self, e: Entid) -> Option<&BTreeMap<Entid, Value>> {
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
        let mut near: Vec<_> = self
            .attributes
            .values()
            .map(|attribute| {
                (
                    distance(attribute.ident.as_str(), ident.as_str()),
                    &attribute.ident,
                )
            })
            .filter(|(distance, _)| *distance <= 1 + ident.as_str().len() / 5)
            .collect();
        near.sort();
        let Some(nearest) = near.first().map(|(distance, _)| *distance) else {
            return format!("there is no attribute {ident}");
        };
        near.retain(|(distance, _)| *distance == nearest);
        let near: Vec<_> = near
            .iter()
            .take(3)
            .map(|(_, ident)| ident.to_string())
            .collect();
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
        self.facts.get(&e)?.get(&attrs::IDENT)?.as_keyword()
    }

    /// All idents, attributes' and enums' alike, by entity id.
    pub fn idents(&self) -> impl Iterator<Item = (Entid, &Keyword)> {
        self.facts
            .iter()
            .filter_map(|(&e, facts)| Some((e, facts.get(&attrs::IDENT)?.as_keyword()?)))
    }
}

/// Whether datoms of this attribute describe attributes or idents.
///
/// Documentation stays in the trees: it can be long, and nothing is decided by it.
pub(crate) fn describes(a: Entid) -> bool {
    (attrs::IDENT..=attrs::LAST_DESCRIBING).contains(&a) && a != attrs::DOC
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
