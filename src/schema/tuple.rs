//! What tuples are made of: declared types, or other attributes.
//!
//! A *composite* (`:db/tupleAttrs`) has the values of other attributes of its entity as elements, nil where
//! there is none. Transactions keep it so; nobody asserts it.
//!
//! **Invariant.** In the schema of a committed transaction the parts of every composite are attributes of
//! cardinality one that are no tuples.

use std::collections::BTreeSet;
use std::sync::Arc;

#[cfg(any(test, feature = "query"))]
use datomfusion_datalog::edn::Edn;
use datomfusion_datalog::edn::Keyword;

use super::{Attribute, Facts, Schema, attrs};
use crate::datom::Entid;
use crate::value::{Value, ValueType};

/// Fewest and most elements of a tuple.
const ELEMENTS: std::ops::RangeInclusive<usize> = 2..=8;
/// Most bytes of a tuple: it lies in line in every index that holds it.
const BYTES_MAX: usize = 1024;

/// An attribute with `:db/tupleAttrs`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Composite {
    /// The attribute itself.
    pub(crate) attribute: Arc<Attribute>,
    /// The attributes whose values are its elements.
    pub(crate) parts: Arc<[Entid]>,
}

impl Composite {
    /// The tuple of these elements; `None` if all are nil.
    ///
    /// # Errors
    ///
    /// Why there can be no such tuple.
    pub(crate) fn tuple(&self, elements: Vec<Option<Value>>) -> Result<Option<Value>, String> {
        if elements.iter().all(Option::is_none) {
            return Ok(None);
        }
        tuple(&self.attribute.ident, elements).map(Some)
    }
}

/// A tuple of these elements, unless it is too large.
pub(crate) fn tuple(ident: &Keyword, elements: Vec<Option<Value>>) -> Result<Value, String> {
    let tuple = Value::Tuple(elements.into());
    let bytes = tuple.logical_bytes();
    if bytes > BYTES_MAX {
        return Err(format!(
            "{ident}: a tuple has at most {BYTES_MAX} bytes, this one {bytes}"
        ));
    }
    Ok(tuple)
}

/// The types of the elements of a tuple of `len` elements.
///
/// # Errors
///
/// What was expected instead of so many.
pub(crate) fn element_types(attribute: &Attribute, len: usize) -> Result<Vec<ValueType>, String> {
    let ident = &attribute.ident;
    // The tuples that describe tuples are made of keywords, as many as it takes: `check` judges them.
    let Some(names) = &attribute.tuple_types else {
        return Ok(vec![ValueType::Keyword; len]);
    };
    let types = names
        .iter()
        .map(|name| type_named(name).ok_or_else(|| format!("{ident}: {name} is no type")))
        .collect::<Result<Vec<_>, _>>()?;
    match types[..] {
        [one] if ELEMENTS.contains(&len) => Ok(vec![one; len]),
        [_] => Err(format!("{ident}: a tuple of 2 to 8 elements, got {len}")),
        _ if types.len() == len => Ok(types),
        _ => Err(format!(
            "{ident}: a tuple of {} elements, got {len}",
            types.len()
        )),
    }
}

/// Whether a value is a tuple of this attribute, for values that no text was read for.
///
/// # Errors
///
/// What was expected.
pub(crate) fn check_value(attribute: &Attribute, value: &Value) -> Result<(), String> {
    let Value::Tuple(elements) = value else {
        return Ok(());
    };
    let types = element_types(attribute, elements.len())?;
    for (at, (element, expected)) in elements.iter().zip(types).enumerate() {
        if let Some(value) = element.as_ref().filter(|v| v.value_type() != expected) {
            let ident = &attribute.ident;
            return Err(format!(
                "{ident}, element {at}: expected a {expected}, got {value}"
            ));
        }
    }
    tuple(&attribute.ident, elements.to_vec()).map(drop)
}

/// The tuple of this attribute that a query writes as a vector, references by id; `None` if there is none.
#[cfg(any(test, feature = "query"))]
pub(crate) fn from_edn(attribute: &Attribute, edn: &Edn) -> Option<Value> {
    let items = edn.as_sequence()?;
    let types = element_types(attribute, items.len()).ok()?;
    let elements = items.iter().zip(types).map(|(item, value_type)| {
        if item.edn == Edn::Nil {
            return Some(None);
        }
        Value::from_edn(&item.edn, value_type).ok().map(Some)
    });
    tuple(&attribute.ident, elements.collect::<Option<_>>()?).ok()
}

fn type_named(name: &Keyword) -> Option<ValueType> {
    ValueType::ALL
        .into_iter()
        .find(|known| Keyword::qualified("db.type", known.name()) == *name)
}

/// Whether the facts of an attribute describe a tuple rightly, or none.
///
/// # Errors
///
/// What is wrong.
pub(super) fn check_facts(attribute: &Attribute, facts: &Facts) -> Result<(), String> {
    const SOURCES: [(Entid, &str); 3] = [
        (attrs::TUPLE_ATTRS, ":db/tupleAttrs"),
        (attrs::TUPLE_TYPES, ":db/tupleTypes"),
        (attrs::TUPLE_TYPE, ":db/tupleType"),
    ];
    let ident = &attribute.ident;
    let mut given = SOURCES
        .into_iter()
        .filter_map(|(a, name)| Some((a, name, facts.get(a)?)));
    let (source, others) = (given.next(), given.next());
    let is_tuple = attribute.value_type == ValueType::Tuple;
    let Some((a, name, value)) = source.filter(|_| is_tuple && others.is_none()) else {
        return match (is_tuple, source) {
            (false, None) => Ok(()),
            (false, Some((_, name, _))) => {
                Err(format!("{ident} has {name} but is no :db.type/tuple"))
            }
            (true, _) => Err(format!(
                "{ident} is a :db.type/tuple and must have exactly one of :db/tupleAttrs, :db/tupleTypes \
                 and :db/tupleType"
            )),
        };
    };
    if let Value::Tuple(elements) = value
        && (!ELEMENTS.contains(&elements.len()) || elements.iter().any(Option::is_none))
    {
        return Err(format!(
            "{name} of {ident} takes 2 to 8 keywords, got {value}"
        ));
    }
    if a == attrs::TUPLE_ATTRS {
        return Ok(());
    }
    for name in attribute.tuple_types.iter().flat_map(|names| names.iter()) {
        if type_named(name).is_none_or(|value_type| value_type == ValueType::Tuple) {
            return Err(format!(
                "{ident}: {name} is no type of a tuple's element; say :db.type/long or another"
            ));
        }
    }
    Ok(())
}

impl Schema {
    /// The attributes that transactions compose of others.
    pub(crate) fn composites(&self) -> &[Composite] {
        &self.composites
    }

    /// The composite that an attribute is.
    pub(crate) fn composite(&self, a: Entid) -> Option<&Composite> {
        let found = self
            .composites
            .binary_search_by_key(&a, |composite| composite.attribute.id);
        found.ok().map(|at| &self.composites[at])
    }

    /// Derives what composites are made of from the names of their parts.
    ///
    /// Where a part is missing the attribute is no composite; [`Schema::check_composites`] refuses that.
    pub(super) fn compose(&mut self) {
        let composed: Vec<(Attribute, Arc<[Entid]>)> = self
            .attributes
            .values()
            .filter_map(|attribute| {
                let names = attribute.tuple_attrs.as_deref()?;
                let parts = names.iter().map(|name| self.attribute_by_ident(name));
                let parts: Vec<_> = parts.collect::<Option<_>>()?;
                let types = parts
                    .iter()
                    .map(|part| Keyword::qualified("db.type", part.value_type.name()));
                let attribute = Attribute {
                    tuple_types: Some(types.collect()),
                    ..Attribute::clone(attribute)
                };
                Some((attribute, parts.iter().map(|part| part.id).collect()))
            })
            .collect();
        self.composites.clear();
        for (attribute, parts) in composed {
            let attribute = Arc::new(attribute);
            self.attributes.insert(attribute.id, Arc::clone(&attribute));
            self.composites.push(Composite { attribute, parts });
        }
    }

    /// Whether every composite can be composed.
    ///
    /// # Errors
    ///
    /// Which cannot, and why.
    pub(crate) fn check_composites(&self) -> Result<(), String> {
        for attribute in self.attributes.values() {
            let Some(names) = &attribute.tuple_attrs else {
                continue;
            };
            let ident = &attribute.ident;
            if attribute.is_many() {
                return Err(format!(
                    "{ident} is a composite and has :db.cardinality/one"
                ));
            }
            for name in names.iter() {
                let part = self.attribute_by_ident(name).ok_or_else(|| {
                    format!(
                        "{ident} is composed of {name}, which is no attribute; a part of a composite \
                         keeps its name"
                    )
                })?;
                if part.is_many() || part.value_type == ValueType::Tuple {
                    return Err(format!(
                        "{ident} is composed of {name}, which must have cardinality one and be no tuple"
                    ));
                }
                if part.id < Entid::FIRST_USER {
                    return Err(format!(
                        "{ident} is composed of {name}, which belongs to the bootstrap"
                    ));
                }
            }
            if names.iter().collect::<BTreeSet<_>>().len() < names.len() {
                return Err(format!("{ident} is composed of one attribute twice"));
            }
        }
        Ok(())
    }
}
