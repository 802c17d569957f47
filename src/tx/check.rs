//! From operations to datoms: what db-before already says, what must go, and what must not be.
//!
//! All operations see db-before, so their order in the transaction does not matter; two that contradict
//! each other are refused. Uniqueness is checked on the result.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use futures::stream::TryStreamExt;

use super::data::{TxData, refused};
use super::ensure::Ensure;
use super::functions::TransactionFunctions;
use super::resolve::{Resolution, Resolved, holder};
use crate::datom::{Datom, Entid, TxId};
use crate::db::Db;
use crate::db::stats::table_of;
use crate::error::{Error, Result};
use crate::index::{Components, Index, Range};
use crate::schema::{Attribute, attrs};
use crate::value::{Value, ValueType};

/// What happens to the values of one attribute of one entity.
#[derive(Debug, Default)]
struct Cell {
    /// Values to assert, with the form that asks for each.
    adds: BTreeMap<Value, usize>,
    /// Values to retract.
    retracts: BTreeMap<Value, usize>,
    /// Retract whatever there is.
    clear: Option<usize>,
}

/// The datoms of a transaction, not yet checked for schema changes.
#[derive(Debug)]
pub(super) struct Checked {
    /// In LOG order.
    pub(super) datoms: Vec<Datom>,
    /// A form that changes each (e, a), for messages about the result.
    pub(super) forms: HashMap<(Entid, Entid), usize>,
    /// Tables whose number of entities changes, with the difference.
    pub(super) table_changes: BTreeMap<Arc<str>, i64>,
    pub(super) instant: i64,
    /// What must hold of the result besides.
    pub(super) ensures: Vec<Ensure>,
}

pub(super) struct Checker<'a> {
    pub(super) db: &'a Db,
    pub(super) data: &'a TxData,
    pub(super) functions: &'a TransactionFunctions,
    pub(super) tx: TxId,
    pub(super) next_entid: Entid,
    /// The attributes that something is said of.
    pub(super) attributes: HashMap<Entid, Arc<Attribute>>,
    /// What is said of composites, which must agree with their parts; with the form.
    pub(super) claims: BTreeMap<(Entid, Entid), (Value, usize)>,
    cells: BTreeMap<(Entid, Entid), Cell>,
    ensures: Vec<Ensure>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(
        db: &'a Db,
        data: &'a TxData,
        functions: &'a TransactionFunctions,
        tx: TxId,
        next_entid: Entid,
    ) -> Self {
        Self {
            db,
            data,
            functions,
            tx,
            next_entid,
            attributes: HashMap::new(),
            claims: BTreeMap::new(),
            cells: BTreeMap::new(),
            ensures: Vec::new(),
        }
    }

    pub(super) fn refuse<T>(&self, form: usize, reason: impl Into<String>) -> Result<T> {
        Err(refused(self.data, form, reason))
    }

    /// Notes that something is said of an attribute.
    pub(super) fn know(&mut self, attribute: &Arc<Attribute>) {
        self.attributes
            .entry(attribute.id)
            .or_insert_with(|| Arc::clone(attribute));
    }

    fn cell(&mut self, e: Entid, attribute: &Arc<Attribute>) -> &mut Cell {
        self.know(attribute);
        self.cells.entry((e, attribute.id)).or_default()
    }

    /// Turns operations into datoms.
    pub(super) async fn check(mut self, resolution: Resolution, now: i64) -> Result<Checked> {
        let mut holders = resolution.holders;
        for (operation, form) in resolution.operations {
            self.enter(operation, form).await?;
        }
        let instant = self.instant(now)?;
        self.references()?;
        let mut datoms = Vec::new();
        let mut forms = HashMap::new();
        let mut known_before: HashSet<(Entid, Arc<str>)> = HashSet::new();
        for ((e, a), cell) in std::mem::take(&mut self.cells) {
            let attribute = Arc::clone(&self.attributes[&a]);
            let before = self.values_before(e, &attribute, &cell).await?;
            if let (false, Some(table)) = (before.is_empty(), table_of(&attribute.ident)) {
                known_before.insert((e, table.into()));
            }
            let mut asked = cell.adds.values().chain(cell.retracts.values());
            if let Some(form) = asked.next().copied().or(cell.clear) {
                forms.insert((e, a), form);
            }
            self.settle(e, &attribute, &cell, &before, &mut datoms)?;
        }
        self.compose(&mut datoms, &mut forms).await?;
        self.predicates(&datoms, &forms)?;
        self.unique(&datoms, &forms, &mut holders).await?;
        let order = crate::index::TreeName::Log.order();
        datoms.sort_unstable_by(|left, right| order.compare(left, right));
        let table_changes = self.table_changes(&datoms, &known_before).await?;
        Ok(Checked {
            datoms,
            forms,
            table_changes,
            instant,
            ensures: self.ensures,
        })
    }

    async fn enter(&mut self, operation: Resolved, form: usize) -> Result<()> {
        match operation {
            Resolved::Add(e, attribute, value) => {
                if attribute.id == attrs::TX_INSTANT && e != self.tx.0 {
                    return self
                        .refuse(form, ":db/txInstant is set on the transaction itself only");
                }
                if attribute.id == attrs::ENSURE {
                    self.ensures
                        .extend(value.as_ref().map(|spec| (e, spec, form)));
                    return Ok(());
                }
                if attribute.tuple_attrs.is_some() {
                    let claim = self.claims.entry((e, attribute.id));
                    let (claimed, _) = claim.or_insert_with(|| (value.clone(), form));
                    if *claimed != value {
                        return self.two_values(e, &attribute, form);
                    }
                    return Ok(());
                }
                let one = !attribute.is_many();
                let cell = self.cell(e, &attribute);
                if one && cell.adds.keys().any(|other| *other != value) {
                    return self.two_values(e, &attribute, form);
                }
                cell.adds.insert(value, form);
            }
            Resolved::Retract(e, attribute, value) => {
                if attribute.id == attrs::TX_INSTANT {
                    return self.refuse(form, ":db/txInstant cannot be retracted");
                }
                // A composite follows its parts.
                if attribute.tuple_attrs.is_some() {
                    return Ok(());
                }
                let cell = self.cell(e, &attribute);
                match value {
                    Some(value) => _ = cell.retracts.insert(value, form),
                    None => cell.clear = Some(form),
                }
            }
            Resolved::RetractEntity(e) => self.retract_entity(e, form).await?,
            Resolved::Cas(e, attribute, old, new) => {
                self.compare_and_swap(e, &attribute, old, new, form).await?;
            }
        }
        Ok(())
    }

    fn two_values<T>(&self, e: Entid, attribute: &Attribute, form: usize) -> Result<T> {
        let ident = &attribute.ident;
        self.refuse(
            form,
            format!("{ident} of entity {e} gets two values in one transaction"),
        )
    }

    /// Everything said of an entity, every reference to it, and its components likewise.
    async fn retract_entity(&mut self, e: Entid, form: usize) -> Result<()> {
        if e.is_tx() {
            return self.refuse(form, "a transaction cannot be retracted");
        }
        let mut open = vec![e];
        let mut seen = HashSet::from([e]);
        let references: Vec<_> = self
            .db
            .schema()
            .attributes()
            .filter(|attribute| attribute.value_type == ValueType::Ref)
            .cloned()
            .collect();
        while let Some(e) = open.pop() {
            let range = Range::prefix(Components::all().e(e));
            for datom in self.db.collect(Index::Eavt, &range).await? {
                let Some(attribute) = self.db.schema().attribute(datom.a).cloned() else {
                    continue;
                };
                if let (true, Value::Ref(part)) = (attribute.component, &datom.v)
                    && seen.insert(*part)
                {
                    open.push(*part);
                }
                // A composite follows its parts.
                if attribute.tuple_attrs.is_none() {
                    self.cell(e, &attribute).retracts.insert(datom.v, form);
                }
            }
            for attribute in &references {
                for referrer in self.db.referrers(attribute.id, e).await? {
                    self.cell(referrer, attribute)
                        .retracts
                        .insert(Value::Ref(e), form);
                }
            }
        }
        Ok(())
    }

    async fn compare_and_swap(
        &mut self,
        e: Entid,
        attribute: &Arc<Attribute>,
        old: Option<Value>,
        new: Option<Value>,
        form: usize,
    ) -> Result<()> {
        let now = self.values(e, attribute.id).await?;
        let holds = match &old {
            Some(old) => now.contains(old),
            None => now.is_empty(),
        };
        if !holds {
            let show = |value: Option<&Value>| value.map_or("nil".into(), ToString::to_string);
            return self.refuse(
                form,
                format!(
                    "compare-and-swap failed: {} of entity {e} is {}, expected {}",
                    attribute.ident,
                    show(now.first()),
                    show(old.as_ref())
                ),
            );
        }
        let cell = self.cell(e, attribute);
        if new == old {
            return Ok(());
        }
        if let Some(old) = old {
            cell.retracts.insert(old, form);
        }
        if let Some(new) = new {
            if !attribute.is_many() && cell.adds.keys().any(|other| *other != new) {
                return self.two_values(e, attribute, form);
            }
            self.cell(e, attribute).adds.insert(new, form);
        }
        Ok(())
    }

    /// The instant of the transaction: explicit, or later than the one before.
    fn instant(&mut self, now: i64) -> Result<i64> {
        let previous = self.db.basis_instant();
        let attribute = self
            .db
            .schema()
            .attribute(attrs::TX_INSTANT)
            .cloned()
            .ok_or_else(|| Error::corrupt("schema", ":db/txInstant is missing"))?;
        let cell = self.cell(self.tx.0, &attribute);
        if let Some((value, form)) = cell.adds.first_key_value() {
            let (Value::Instant(instant), form) = (value.clone(), *form) else {
                return Err(Error::corrupt("schema", ":db/txInstant is no instant"));
            };
            if instant < previous {
                return self.refuse(
                    form,
                    format!(
                        ":db/txInstant {} lies before the previous transaction's {}",
                        Value::Instant(instant),
                        Value::Instant(previous)
                    ),
                );
            }
            return Ok(instant);
        }
        let instant = now.max(previous.saturating_add(1));
        cell.adds.insert(Value::Instant(instant), 0);
        Ok(instant)
    }

    /// A reference must lead to an id that has been handed out.
    fn references(&self) -> Result<()> {
        for cell in self.cells.values() {
            for (value, form) in &cell.adds {
                for to in value.referred() {
                    let exists =
                        to.0 > 0 && (to < self.next_entid || (to.is_tx() && to <= self.tx.0));
                    if !exists {
                        return self.refuse(*form, format!("there is no entity {to} to refer to"));
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether db-before can say nothing of an entity.
    fn is_new(&self, e: Entid) -> bool {
        e >= self.db.0.next_entid && !(e.is_tx() && e < self.tx.0)
    }

    /// The values that db-before has in a cell, as far as they matter.
    async fn values_before(
        &self,
        e: Entid,
        attribute: &Attribute,
        cell: &Cell,
    ) -> Result<Vec<Value>> {
        if !attribute.is_many() || cell.clear.is_some() {
            return self.values(e, attribute.id).await;
        }
        let mut values = Vec::new();
        if self.is_new(e) {
            return Ok(values);
        }
        for value in cell.adds.keys().chain(cell.retracts.keys()) {
            let components = Components::all().e(e).a(attribute.id).v(value.clone());
            if self
                .db
                .first(Index::Eavt, &Range::prefix(components))
                .await?
                .is_some()
            {
                values.push(value.clone());
            }
        }
        Ok(values)
    }

    pub(super) async fn values(&self, e: Entid, a: Entid) -> Result<Vec<Value>> {
        if self.is_new(e) {
            return Ok(Vec::new());
        }
        let range = Range::prefix(Components::all().e(e).a(a));
        Ok(self
            .db
            .collect(Index::Eavt, &range)
            .await?
            .into_iter()
            .map(|datom| datom.v)
            .collect())
    }

    /// The datoms of one cell.
    fn settle(
        &self,
        e: Entid,
        attribute: &Attribute,
        cell: &Cell,
        before: &[Value],
        datoms: &mut Vec<Datom>,
    ) -> Result<()> {
        let retracted = |value: &Value| cell.retracts.contains_key(value) || cell.clear.is_some();
        for value in before {
            if let (true, Some(form)) = (retracted(value), cell.adds.get(value)) {
                return self.refuse(
                    *form,
                    format!(
                        "{} {value} of entity {e} is both asserted and retracted",
                        attribute.ident
                    ),
                );
            }
        }
        // A value that db-before lacks may not be in both lists either.
        if let Some((value, form)) = cell
            .adds
            .iter()
            .find(|(value, _)| cell.retracts.contains_key(value))
        {
            return self.refuse(
                *form,
                format!(
                    "{} {value} of entity {e} is both asserted and retracted",
                    attribute.ident
                ),
            );
        }
        let replaced = |value: &Value| {
            !attribute.is_many() && !cell.adds.is_empty() && !cell.adds.contains_key(value)
        };
        let mut gone = BTreeSet::new();
        for value in before
            .iter()
            .filter(|value| retracted(value) || replaced(value))
        {
            if gone.insert(value) {
                datoms.push(Datom::retract(e, attribute.id, value.clone(), self.tx));
            }
        }
        for value in cell.adds.keys().filter(|value| !before.contains(value)) {
            datoms.push(Datom::add(e, attribute.id, value.clone(), self.tx));
        }
        Ok(())
    }

    /// No two entities share a unique value in the result.
    async fn unique(
        &self,
        datoms: &[Datom],
        forms: &HashMap<(Entid, Entid), usize>,
        holders: &mut HashMap<(Entid, Value), Option<Entid>>,
    ) -> Result<()> {
        let is_unique = |datom: &&Datom| self.attributes[&datom.a].unique.is_some();
        let mut taken: HashMap<(Entid, &Value), Entid> = HashMap::new();
        let freed: HashSet<(Entid, Entid, &Value)> = datoms
            .iter()
            .filter(|datom| !datom.added)
            .filter(is_unique)
            .map(|datom| (datom.e, datom.a, &datom.v))
            .collect();
        for datom in datoms.iter().filter(|datom| datom.added).filter(is_unique) {
            let stored = holder(self.db, holders, datom.a, &datom.v).await?;
            let stored = stored.filter(|e| !freed.contains(&(*e, datom.a, &datom.v)));
            let other = stored.or_else(|| taken.insert((datom.a, &datom.v), datom.e));
            if let Some(other) = other.filter(|other| *other != datom.e) {
                let form = forms.get(&(datom.e, datom.a)).copied().unwrap_or(0);
                return self.refuse(
                    form,
                    format!(
                        "{} is unique, and entity {other} already has {}",
                        self.attributes[&datom.a].ident, datom.v
                    ),
                );
            }
        }
        Ok(())
    }

    /// By how much the number of entities of each table changes.
    async fn table_changes(
        &self,
        datoms: &[Datom],
        known_before: &HashSet<(Entid, Arc<str>)>,
    ) -> Result<BTreeMap<Arc<str>, i64>> {
        let mut changes: BTreeMap<Arc<str>, i64> = BTreeMap::new();
        for of_entity in datoms.chunk_by(|left, right| left.e == right.e) {
            let e = of_entity[0].e;
            let tables: BTreeSet<&str> = of_entity
                .iter()
                .filter_map(|datom| table_of(&self.attributes[&datom.a].ident))
                .collect();
            if tables.is_empty() {
                continue;
            }
            let is_new = self.is_new(e);
            // Facts about the entity before, by attribute; asked for only if a table is in doubt.
            let mut before: Option<BTreeMap<Entid, i64>> = is_new.then(BTreeMap::new);
            for table in tables {
                let key = (e, Arc::from(table));
                // A merge brings attributes that db-before has not.
                let in_table = |a: Entid| {
                    let said = self.attributes.get(&a);
                    let attribute = said.or_else(|| self.db.schema().attribute(a));
                    attribute.and_then(|a| table_of(&a.ident)) == Some(table)
                };
                let added = of_entity
                    .iter()
                    .any(|datom| datom.added && in_table(datom.a));
                if added && known_before.contains(&key) {
                    continue;
                }
                if before.is_none() {
                    before = Some(self.facts_by_attribute(e).await?);
                }
                let facts: i64 = before
                    .iter()
                    .flatten()
                    .filter(|(a, _)| in_table(**a))
                    .map(|(_, count)| count)
                    .sum();
                let change: i64 = of_entity
                    .iter()
                    .filter(|datom| in_table(datom.a))
                    .map(|datom| if datom.added { 1 } else { -1 })
                    .sum();
                let difference = i64::from(facts + change > 0) - i64::from(facts > 0);
                if difference != 0 {
                    *changes.entry(key.1).or_default() += difference;
                }
            }
        }
        changes.retain(|_, change| *change != 0);
        Ok(changes)
    }

    /// How many facts db-before has about an entity, by attribute; reads columns only.
    async fn facts_by_attribute(&self, e: Entid) -> Result<BTreeMap<Entid, i64>> {
        let mut slices = self
            .db
            .scan(Index::Eavt, Range::prefix(Components::all().e(e)));
        let mut facts = BTreeMap::new();
        while let Some(slice) = slices.try_next().await? {
            for a in &slice.leaf.a()[slice.rows.clone()] {
                *facts.entry(Entid(*a)).or_default() += 1;
            }
        }
        Ok(facts)
    }
}
