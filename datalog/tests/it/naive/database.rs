//! What stands behind a source, and which rows a data pattern finds there.

use std::collections::BTreeMap;

use datomfusion_datalog::ast::{Component, Pattern};
use datomfusion_datalog::edn::Keyword;
use datomfusion_datalog::{AttributeFacts, Term, TermType};

use super::{NaiveDb, NaiveSource, Row, constant, unify};

/// A source, ready to be asked.
pub(super) enum Source {
    Database(Box<Database>),
    Collection(Vec<Vec<Term>>),
}

/// A database, with lists of places to look at first. Every datom found so is still compared as a whole.
pub(super) struct Database {
    db: NaiveDb,
    by_entity: BTreeMap<Term, Vec<usize>>,
    by_attribute: BTreeMap<i64, Vec<usize>>,
    by_value: BTreeMap<Term, Vec<usize>>,
}

/// What a component of a pattern asks of a datom.
enum Want<'a> {
    Anything,
    Variable(&'a datomfusion_datalog::ast::Variable),
    /// This term, or this entity where the datom holds a reference.
    Constant(Term, Option<i64>),
}

impl Source {
    pub(super) fn new(source: NaiveSource) -> Self {
        match source {
            NaiveSource::Db(db) => Self::Database(Box::new(Database::new(db))),
            NaiveSource::Collection(tuples) => Self::Collection(tuples),
        }
    }

    pub(super) fn database(&self) -> Option<&Database> {
        match self {
            Self::Database(database) => Some(database),
            Self::Collection(_) => None,
        }
    }

    /// The rows that extend `row` so that the pattern holds.
    pub(super) fn matches(&self, pattern: &Pattern, row: &Row) -> Result<Vec<Row>, String> {
        match self {
            Self::Database(database) => database.matches(&pattern.components, row),
            Self::Collection(tuples) => {
                let mut rows = Vec::new();
                for tuple in tuples {
                    let mut row = row.clone();
                    if matches_tuple(&pattern.components, tuple, &mut row)? {
                        rows.push(row);
                    }
                }
                Ok(rows)
            }
        }
    }
}

fn matches_tuple(components: &[Component], tuple: &[Term], row: &mut Row) -> Result<bool, String> {
    if tuple.len() < components.len() {
        return Ok(false);
    }
    for (component, value) in components.iter().zip(tuple) {
        let holds = match component {
            Component::Blank(_) => true,
            Component::Variable(variable, _) => unify(row, variable, value),
            Component::Constant(form) => constant(form)? == *value,
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Database {
    fn new(db: NaiveDb) -> Self {
        let mut by_entity: BTreeMap<Term, Vec<usize>> = BTreeMap::new();
        let mut by_attribute: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        let mut by_value: BTreeMap<Term, Vec<usize>> = BTreeMap::new();
        for (at, (e, a, v, _, _)) in db.datoms.iter().enumerate() {
            by_entity.entry(Term::Long(*e)).or_default().push(at);
            by_attribute.entry(*a).or_default().push(at);
            by_value.entry(v.clone()).or_default().push(at);
        }
        Self {
            db,
            by_entity,
            by_attribute,
            by_value,
        }
    }

    fn attribute(&self, id: i64) -> Option<&AttributeFacts> {
        self.db
            .attributes
            .iter()
            .find(|attribute| attribute.id == id)
    }

    /// Whether a constant names an attribute whose values are entities.
    pub(super) fn is_ref(&self, attribute: &Term) -> bool {
        self.attribute_id(attribute)
            .and_then(|id| self.attribute(id))
            .is_some_and(|attribute| attribute.value_type == TermType::Ref)
    }

    /// The attribute that a term names: an ident of the schema, or an entity id.
    pub(super) fn attribute_id(&self, term: &Term) -> Option<i64> {
        match term {
            Term::Long(id) => Some(*id),
            Term::Keyword(ident) => self
                .db
                .attributes
                .iter()
                .find(|attribute| attribute.ident == *ident)
                .map(|attribute| attribute.id),
            _ => None,
        }
    }

    /// The entity that a term names: an entity id, an ident, or a lookup ref.
    pub(super) fn entity(&self, term: &Term) -> Option<i64> {
        match term {
            Term::Long(id) => Some(*id),
            Term::Keyword(ident) => self.attribute_id(term).or_else(|| {
                self.db
                    .idents
                    .iter()
                    .find(|(_, known)| known == ident)
                    .map(|(id, _)| *id)
            }),
            Term::Vector(parts) => {
                let [attribute @ Term::Keyword(_), value] = &**parts else {
                    return None;
                };
                let id = self.attribute_id(attribute)?;
                let facts = self.attribute(id).filter(|facts| facts.is_unique)?;
                let value = match facts.value_type {
                    TermType::Ref => Term::Long(self.entity(value)?),
                    _ => value.clone(),
                };
                let found = self.by_value.get(&value)?.iter();
                found
                    .map(|&at| &self.db.datoms[at])
                    .find(|(_, a, _, _, added)| *a == id && *added)
                    .map(|(e, ..)| *e)
            }
            _ => None,
        }
    }

    /// The ident of an entity.
    pub(super) fn ident(&self, id: i64) -> Option<&Keyword> {
        let attribute = self.attribute(id).map(|attribute| &attribute.ident);
        attribute.or_else(|| {
            self.db
                .idents
                .iter()
                .find(|(known, _)| *known == id)
                .map(|(_, ident)| ident)
        })
    }

    /// The least value of an attribute of an entity.
    pub(super) fn value(&self, entity: &Term, attribute: &Term) -> Option<&Term> {
        let entity = self.entity(entity)?;
        let attribute = self.attribute_id(attribute)?;
        self.by_entity
            .get(&Term::Long(entity))?
            .iter()
            .map(|&at| &self.db.datoms[at])
            .filter(|(_, a, _, _, added)| *a == attribute && *added)
            .map(|(_, _, v, _, _)| v)
            .min()
    }

    fn matches(&self, components: &[Component], row: &Row) -> Result<Vec<Row>, String> {
        if components.len() > 5 {
            return Err("a pattern on a database has at most five components".to_owned());
        }
        let mut wants = Vec::new();
        for (place, component) in components.iter().enumerate() {
            wants.push(match component {
                Component::Blank(_) => Want::Anything,
                Component::Variable(variable, _) => Want::Variable(variable),
                Component::Constant(form) => {
                    let term = constant(form)?;
                    let id = match place {
                        1 => self.attribute_id(&term),
                        _ => self.entity(&term),
                    };
                    Want::Constant(term, id)
                }
            });
        }
        let mut rows = Vec::new();
        for at in self.candidates(&wants, row) {
            let (e, a, v, tx, added) = &self.db.datoms[at];
            let values = [
                Term::Long(*e),
                Term::Long(*a),
                v.clone(),
                Term::Long(*tx),
                Term::Boolean(*added),
            ];
            let is_ref = [
                true,
                true,
                self.attribute(*a)
                    .is_some_and(|attribute| attribute.value_type == TermType::Ref),
                true,
                false,
            ];
            let mut row = row.clone();
            let holds = wants.iter().enumerate().all(|(place, want)| match want {
                Want::Anything => true,
                Want::Variable(variable) => unify(&mut row, variable, &values[place]),
                Want::Constant(_, id) if is_ref[place] => {
                    id.map(Term::Long) == Some(values[place].clone())
                }
                Want::Constant(term, _) => *term == values[place],
            });
            if holds {
                rows.push(row);
            }
        }
        Ok(rows)
    }

    /// Places of datoms among which all those are that can match.
    fn candidates(&self, wants: &[Want<'_>], row: &Row) -> Vec<usize> {
        let known = |place: usize| match wants.get(place) {
            Some(Want::Variable(variable)) => row.get(variable).cloned(),
            Some(Want::Constant(_, Some(id))) if place < 2 => Some(Term::Long(*id)),
            // In the place of the value it depends on the attribute what an ident stands for.
            Some(Want::Constant(term, _))
                if place == 2 && !matches!(term, Term::Keyword(_) | Term::Vector(_)) =>
            {
                Some(term.clone())
            }
            _ => None,
        };
        if let Some(entity) = known(0) {
            self.by_entity.get(&entity).cloned().unwrap_or_default()
        } else if let Some(value) = known(2) {
            self.by_value.get(&value).cloned().unwrap_or_default()
        } else if let Some(Term::Long(attribute)) = known(1) {
            self.by_attribute
                .get(&attribute)
                .cloned()
                .unwrap_or_default()
        } else {
            (0..self.db.datoms.len()).collect()
        }
    }
}
