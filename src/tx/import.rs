//! Imports: many new entities at once, without EDN and without a look at each.
//!
//! An import is one transaction that only says new facts about new entities, so nothing can be superseded
//! and no temporary id must be resolved. What must be checked is checked in bulk: types while the rows are
//! added, uniqueness by sorting.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use datomfusion_datalog::edn::Keyword;

use super::check::Checked;
use super::{TransactionFunctions, TxReport, widen_scales};
use crate::datom::{Datom, Entid, TxId};
use crate::db::Db;
use crate::db::stats::table_of;
use crate::error::{Error, Result};
use crate::index::{Components, Index, Range};
use crate::schema::{Attribute, Schema, attrs, describes, tuple};
use crate::value::Value;

/// Facts about new entities, ready to be committed by
/// [`Connection::import`](crate::Connection::import).
#[derive(Clone, Debug)]
pub struct Import {
    schema: Arc<Schema>,
    /// Facts of each entity, behind one another; where each entity's end.
    facts: Vec<(Entid, Value)>,
    ends: Vec<usize>,
}

impl Import {
    /// An empty import into a database with this schema.
    pub fn new(schema: &Arc<Schema>) -> Self {
        Self {
            schema: Arc::clone(schema),
            facts: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// The attribute's id, by which [`Import::entity`] names it.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if there is no such attribute.
    pub fn attribute(&self, ident: &str) -> Result<Entid> {
        Ok(self.schema.require(&Keyword::new(ident))?.id)
    }

    /// Adds one new entity with these facts, and with the composite tuples that follow from them.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if a value has not its attribute's type, an attribute of cardinality one is
    /// given twice, or a composite is given. Nothing of the entity is added then.
    pub fn entity(&mut self, facts: impl IntoIterator<Item = (Entid, Value)>) -> Result<()> {
        let start = self.facts.len();
        // Values may have been read from another store.
        self.facts
            .extend(facts.into_iter().map(|(a, v)| (a, v.unplaced())));
        let checked = self.check(start).and_then(|()| self.compose(start));
        match checked {
            Ok(()) => self.ends.push(self.facts.len()),
            Err(_) => self.facts.truncate(start),
        }
        checked
    }

    /// How many entities have been added.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether no entity has been added.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn check(&mut self, start: usize) -> Result<()> {
        let row = &mut self.facts[start..];
        row.sort_unstable_by(|left, right| left.0.cmp(&right.0).then_with(|| left.1.cmp(&right.1)));
        for (at, (a, value)) in row.iter().enumerate() {
            let attribute = self
                .schema
                .attribute(*a)
                .ok_or_else(|| Error::invalid(format!("entity {a} is not an attribute")))?;
            if value.value_type() != attribute.value_type {
                let (ident, expected) = (&attribute.ident, attribute.value_type);
                return Err(Error::invalid(format!(
                    "{ident}: expected a {expected}, got {value}"
                )));
            }
            tuple::check_value(attribute, value).map_err(Error::Invalid)?;
            if attribute.tuple_attrs.is_some() || *a == attrs::ENSURE {
                return Err(Error::invalid(format!(
                    "{} is not imported: leave it out",
                    attribute.ident
                )));
            }
            // What describes attributes is checked against the facts that are there; names are unique.
            if describes(*a) && *a != attrs::IDENT {
                return Err(Error::invalid(format!(
                    "{} describes attributes: transact it instead of importing it",
                    attribute.ident
                )));
            }
            if at > 0 && row[at - 1].0 == *a && (!attribute.is_many() || row[at - 1].1 == *value) {
                return Err(Error::invalid(format!(
                    "{} is given twice",
                    attribute.ident
                )));
            }
        }
        Ok(())
    }

    /// Adds the composites of the last entity; its facts stay sorted by attribute.
    fn compose(&mut self, start: usize) -> Result<()> {
        let row = &self.facts[start..];
        let value = |a: &Entid| row.iter().find(|(b, _)| a == b).map(|(_, v)| v.clone());
        let mut composed = Vec::new();
        for composite in self.schema.composites() {
            let elements = composite.parts.iter().map(value).collect();
            let tuple = composite.tuple(elements).map_err(Error::Invalid)?;
            composed.extend(tuple.map(|tuple| (composite.attribute.id, tuple)));
        }
        if !composed.is_empty() {
            self.facts.extend(composed);
            self.facts[start..].sort_unstable();
        }
        Ok(())
    }

    /// Every value satisfies the predicates of its attribute.
    fn judge(&self, functions: &TransactionFunctions) -> Result<()> {
        let judged = self.schema.attributes().filter(|a| !a.preds.is_empty());
        for attribute in judged {
            for (_, value) in self.facts.iter().filter(|(a, _)| *a == attribute.id) {
                for name in attribute.preds.iter() {
                    let verdict = functions.judge_value(name, value);
                    verdict.map_err(|reason| {
                        Error::invalid(format!("{}: {reason}", attribute.ident))
                    })?;
                }
            }
        }
        Ok(())
    }
}

impl Db {
    /// The value after an import.
    pub(crate) async fn with_import(
        &self,
        import: &Import,
        functions: &TransactionFunctions,
        now: i64,
    ) -> Result<TxReport> {
        if !import.schema.facts().eq(self.schema().facts()) {
            return Err(Error::invalid(
                "the schema has changed since the import began; begin anew",
            ));
        }
        import.judge(functions)?;
        let tx = TxId::from_t(self.0.t + 1);
        let entities = i64::try_from(import.len()).unwrap_or(i64::MAX);
        let first = self.0.next_entid;
        let next_entid = Entid(first.0.saturating_add(entities));
        if next_entid > Entid::TX0 {
            return Err(Error::invalid("all entity ids are used up"));
        }
        let mut datoms = Vec::with_capacity(import.facts.len() + 1);
        let mut tables: BTreeMap<Arc<str>, i64> = BTreeMap::new();
        let mut start = 0;
        for (e, end) in (first.0..).zip(&import.ends) {
            let mut last = None;
            for (a, value) in &import.facts[start..*end] {
                let exists =
                    |to: &Entid| to.0 > 0 && (*to < next_entid || (to.is_tx() && *to <= tx.0));
                if let Some(to) = value.referred().find(|to| !exists(to)) {
                    return Err(Error::invalid(format!(
                        "there is no entity {to} to refer to"
                    )));
                }
                let table = self.schema().attribute(*a).and_then(|a| table_of(&a.ident));
                // Facts lie by attribute, so those of a table mostly follow one another.
                if table.is_some() && table != last {
                    let seen = import.facts[start..*end]
                        .iter()
                        .take_while(|(other, _)| other < a)
                        .any(|(other, _)| {
                            self.schema()
                                .attribute(*other)
                                .and_then(|a| table_of(&a.ident))
                                == table
                        });
                    if let (false, Some(table)) = (seen, table) {
                        match tables.get_mut(table) {
                            Some(count) => *count += 1,
                            None => _ = tables.insert(table.into(), 1),
                        }
                    }
                    last = table;
                }
                datoms.push(Datom::add(Entid(e), *a, value.clone(), tx));
            }
            start = *end;
        }
        self.unique_in_bulk(&datoms).await?;
        let instant = now.max(self.basis_instant().saturating_add(1));
        datoms.push(Datom::add(
            tx.0,
            attrs::TX_INSTANT,
            Value::Instant(instant),
            tx,
        ));
        widen_scales(self.schema(), &mut datoms, tx);
        let schema = super::changed_schema(self.schema(), &datoms).map(Arc::new);
        let checked = Checked {
            datoms,
            forms: HashMap::new(),
            table_changes: tables,
            instant,
            ensures: Vec::new(),
        };
        self.report(checked, schema, next_entid, HashMap::new(), Vec::new())
    }

    /// No new value of a unique attribute occurs twice, or is there already.
    async fn unique_in_bulk(&self, datoms: &[Datom]) -> Result<()> {
        let unique: Vec<Arc<Attribute>> = self
            .schema()
            .attributes()
            .filter(|a| a.unique.is_some())
            .cloned()
            .collect();
        for attribute in unique {
            let mut values: Vec<&Value> = datoms
                .iter()
                .filter(|d| d.a == attribute.id)
                .map(|d| &d.v)
                .collect();
            values.sort_unstable();
            let taken = |value: &Value| {
                Error::invalid(format!(
                    "{} is unique, and {value} occurs twice",
                    attribute.ident
                ))
            };
            if let Some(pair) = values.windows(2).find(|pair| pair[0] == pair[1]) {
                return Err(taken(pair[0]));
            }
            let run = Range::prefix(Components::all().a(attribute.id));
            if values.is_empty() || self.count(Index::Aevt, &run).await? == 0 {
                continue;
            }
            for value in values {
                if self.lookup(attribute.id, value).await?.is_some() {
                    return Err(taken(value));
                }
            }
        }
        Ok(())
    }
}
