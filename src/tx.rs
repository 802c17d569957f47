//! Transactions: a database value and data give the value after, or a reason why not.
//!
//! ```text
//! EDN → functions: calls replaced → data: operations on single facts → resolve: entity ids
//!     → check: datoms → compose: composite tuples → schema: what it demands → ensure: what must hold then
//! ```
//!
//! Above [`db`](crate::db), below [`conn`](crate::conn). Nothing here writes: a [`TxReport`] holds
//! db-after as a value with a longer tail, and it is the connection that makes it the branch's newest.
//!
//! **Invariant.** Everything is decided on db-before; the order of the forms does not matter.
//!
//! **Invariant.** A transaction says nothing twice: a head that did could not be opened.

mod check;
mod compose;
mod data;
mod ensure;
mod facts;
mod functions;
mod import;
mod resolve;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

pub use data::{TempId, TxData};
pub(crate) use facts::{Fact, Facts};
pub use functions::TransactionFunctions;
pub use import::Import;
pub(crate) use resolve::holder;

use self::check::{Checked, Checker};
use self::data::refused;
use crate::datom::{Datom, Entid, TxId};
use crate::db::commit::{OtherParent, Pending};
use crate::db::stats::table_of;
use crate::db::tail::Tail;
use crate::db::{Db, Inner, lies_in_avet};
use crate::error::{Error, Result};
use crate::index::{Components, Index, Range, TreeName};
use crate::schema::{Schema, attrs, change, describes};
use crate::value::{Value, ValueType};

/// What a transaction did.
#[derive(Clone, Debug)]
pub struct TxReport {
    /// The value that the transaction saw.
    pub db_before: Db,
    /// The value that it made.
    pub db_after: Db,
    /// What it said, in LOG order.
    pub tx_data: Vec<Datom>,
    /// The entities that temporary ids stood for.
    pub tempids: HashMap<TempId, Entid>,
    /// The `t` that it made.
    pub t: u64,
    /// Its instant, in milliseconds since the epoch.
    pub instant: i64,
    /// Whether the commit must build trees: an index changed.
    pub(crate) must_checkpoint: bool,
}

impl Db {
    /// The value that this transaction would make, and how. Nothing is written.
    ///
    /// Without an explicit `:db/txInstant` the transaction happens a millisecond after this value's
    /// newest. Source: Datomic, `with`.
    ///
    /// # Errors
    ///
    /// [`Error::Transaction`], naming the form and the reason; [`Error::Invalid`] on a view of history or
    /// `since`, which is no basis for a transaction.
    pub async fn with(&self, data: &TxData) -> Result<TxReport> {
        self.with_using(data, &TransactionFunctions::new()).await
    }

    /// [`Db::with`], with functions and predicates that the transaction may need.
    ///
    /// # Errors
    ///
    /// As [`Db::with`], and what a function or a predicate fails with.
    pub async fn with_using(
        &self,
        data: &TxData,
        functions: &TransactionFunctions,
    ) -> Result<TxReport> {
        self.with_at(data, functions, i64::MIN).await
    }

    /// The value that [`Db::with`] makes.
    ///
    /// # Errors
    ///
    /// As [`Db::with`].
    pub async fn db_with(&self, data: &TxData) -> Result<Self> {
        Ok(self.with(data).await?.db_after)
    }

    /// [`Db::with_using`] at a given time.
    pub(crate) async fn with_at(
        &self,
        data: &TxData,
        functions: &TransactionFunctions,
        now: i64,
    ) -> Result<TxReport> {
        if self.0.history || self.0.since.is_some() {
            return Err(Error::invalid(
                "a view of history or since is no basis for a transaction",
            ));
        }
        let tx = TxId::from_t(self.0.t + 1);
        let expanded = functions::expand(self, data, functions).await?;
        let operations = data::operations(data, &expanded, self.schema())?;
        let resolution = resolve::resolve(self, data, operations, tx).await?;
        self.decide(data, functions, resolution, now, Vec::new())
            .await
    }

    /// The value after resolved operations, which forms of `data` asked for.
    async fn decide(
        &self,
        data: &TxData,
        functions: &TransactionFunctions,
        mut resolution: resolve::Resolution,
        now: i64,
        other_parents: Vec<OtherParent>,
    ) -> Result<TxReport> {
        let tx = TxId::from_t(self.0.t + 1);
        let next_entid = resolution.next_entid;
        let tempids = std::mem::take(&mut resolution.tempids);
        let checker = Checker::new(self, data, functions, tx, next_entid);
        let mut checked = checker.check(resolution, now).await?;
        widen_scales(self.schema(), &mut checked.datoms, tx);
        let schema = changed_schema(self.schema(), &checked.datoms);
        let mut demands = change::Demands::default();
        let mut filled = BTreeSet::new();
        if let Some(schema) = &schema {
            demands = self.demands(schema, &checked, data).await?;
            filled = self.backfill(schema, &mut checked, data, functions).await?;
            sort_log(&mut checked.datoms);
        }
        let ensures = std::mem::take(&mut checked.ensures);
        let mut report = self.report(
            checked,
            schema.map(Arc::new),
            next_entid,
            tempids,
            other_parents,
        )?;
        report.must_checkpoint = demands.checkpoint;
        report.recount(filled).await?;
        ensure::ensure(self, &report.db_after, &ensures, data, functions).await?;
        Ok(report)
    }

    fn report(
        &self,
        checked: Checked,
        schema: Option<Arc<Schema>>,
        next_entid: Entid,
        tempids: HashMap<TempId, Entid>,
        other_parents: Vec<OtherParent>,
    ) -> Result<TxReport> {
        said_once(&checked.datoms)?;
        let tables = checked
            .table_changes
            .into_iter()
            .map(|(table, change)| {
                let before = self.0.tables.get(&table).copied().unwrap_or(0);
                (table, before.saturating_add_signed(change))
            })
            .collect();
        let (t, instant) = (self.0.t + 1, checked.instant);
        let pending = Pending {
            t,
            instant,
            nonce: [0; 16],
            other_parents,
            tables,
        };
        let schema = schema.unwrap_or_else(|| Arc::clone(self.schema()));
        Ok(TxReport {
            db_before: self.clone(),
            db_after: self.extended(&checked.datoms, pending, schema, next_entid),
            tx_data: checked.datoms,
            tempids,
            t,
            instant,
            must_checkpoint: false,
        })
    }

    /// This value with one more transaction in its tail.
    fn extended(
        &self,
        datoms: &[Datom],
        pending: Pending,
        schema: Arc<Schema>,
        next_entid: Entid,
    ) -> Self {
        let inner = &self.0;
        let in_avet = |a| lies_in_avet(a, &schema, &inner.checkpoint_schema);
        let tail = if Arc::ptr_eq(&schema, &inner.schema) {
            inner.tail.extended(datoms, &pending, in_avet)
        } else {
            let log = [inner.tail.log(), datoms].concat();
            let commits = [inner.tail.pending(), std::slice::from_ref(&pending)].concat();
            Tail::new(log, commits, in_avet)
        };
        let mut tables = inner.tables.clone();
        tables.extend(pending.tables);
        Self(Arc::new(Inner {
            tail: Arc::new(tail),
            schema,
            tables,
            t: pending.t,
            instant: pending.instant,
            next_entid,
            speculative_after: inner.speculative_after.or(Some(inner.t)),
            ..Inner::clone(inner)
        }))
    }

    /// Checks every change of the schema, and the data where a change depends on it.
    async fn demands(
        &self,
        after: &Schema,
        checked: &Checked,
        data: &TxData,
    ) -> Result<change::Demands> {
        let mut all = change::Demands::default();
        let mut touched: Vec<Entid> = checked
            .datoms
            .iter()
            .filter(|d| describes(d.a))
            .map(|d| d.e)
            .collect();
        touched.dedup();
        let form_of = |e: Entid| {
            let form = checked.forms.iter().find(|((entity, _), _)| *entity == e);
            form.map_or(0, |(_, form)| *form)
        };
        if let Some(first) = touched.first() {
            let refuse = |reason: String| refused(data, form_of(*first), reason);
            after.check_composites().map_err(refuse)?;
        }
        for &e in &touched {
            let refuse = |reason: String| refused(data, form_of(e), reason);
            let (old, new) = (self.schema().attribute(e), after.attribute(e));
            whole_description(after, e).map_err(refuse)?;
            let new = new
                .zip(after.facts_of(e))
                .map(|(new, facts)| (&**new, facts));
            let demands = change::demands(old.map(|a| &**a), new).map_err(refuse)?;
            if demands.unused {
                let range = Range::prefix(Components::all().a(e));
                let said = checked.datoms.iter().any(|d| d.a == e && d.added);
                if said || self.first(Index::Aevt, &range).await?.is_some() {
                    return Err(refuse("an attribute in use cannot be retracted".into()));
                }
            }
            if demands.values_single || demands.values_unique {
                let reason = self.contradicted(e, demands, &checked.datoms).await?;
                if let Some(reason) = reason {
                    return Err(refuse(reason));
                }
            }
            all.checkpoint |= demands.checkpoint;
        }
        for old in self.schema().composites() {
            let new = after.composite(old.attribute.id);
            if new.is_some_and(|new| new.parts != old.parts) {
                let ident = &old.attribute.ident;
                let form = old.parts.iter().find(|part| touched.contains(part));
                return Err(refused(
                    data,
                    form.map_or(0, |part| form_of(*part)),
                    format!(
                        "{ident} is composed of other attributes then; a part of a composite keeps its name"
                    ),
                ));
            }
        }
        Ok(all)
    }

    /// Whether the facts of an attribute contradict a change of it, and how: those that are stored and those
    /// that the transaction says.
    async fn contradicted(
        &self,
        a: Entid,
        demands: change::Demands,
        said: &[Datom],
    ) -> Result<Option<String>> {
        let said = || said.iter().filter(|datom| datom.a == a);
        let gone: BTreeSet<(Entid, &Value)> = said()
            .filter(|datom| !datom.added)
            .map(|datom| (datom.e, &datom.v))
            .collect();
        let range = Range::prefix(Components::all().a(a));
        let mut facts = self.collect(Index::Aevt, &range).await?;
        facts.retain(|fact| !gone.contains(&(fact.e, &fact.v)));
        facts.extend(said().filter(|datom| datom.added).cloned());
        facts.sort_unstable_by(|left, right| (left.e, &left.v).cmp(&(right.e, &right.v)));
        if demands.values_single
            && let Some(pair) = facts.windows(2).find(|pair| pair[0].e == pair[1].e)
        {
            return Ok(Some(format!("entity {} has several values", pair[0].e)));
        }
        if demands.values_unique {
            let mut holders: HashMap<&Value, Entid> = HashMap::new();
            for datom in &facts {
                if let Some(other) = holders.insert(&datom.v, datom.e) {
                    return Ok(Some(format!(
                        "entities {other} and {} share the value {}",
                        datom.e, datom.v
                    )));
                }
            }
        }
        Ok(None)
    }
}

impl TxReport {
    /// The report of a transaction that was committed before.
    pub(crate) fn read(db_before: Db, db_after: Db, tx_data: Vec<Datom>) -> Self {
        Self {
            t: db_after.basis_t(),
            instant: db_after.basis_instant(),
            db_before,
            db_after,
            tx_data,
            tempids: HashMap::new(),
            must_checkpoint: false,
        }
    }

    /// Counts these tables anew, and those that gained or lost an attribute by its name.
    async fn recount(&mut self, tables: BTreeSet<Arc<str>>) -> Result<()> {
        let (before, after) = (self.db_before.schema(), Arc::clone(self.db_after.schema()));
        if Arc::ptr_eq(before, &after) {
            return Ok(());
        }
        let moved: BTreeSet<Arc<str>> = before
            .attributes()
            .filter_map(|old| Some((old, after.attribute(old.id)?)))
            .filter(|(old, new)| table_of(&old.ident) != table_of(&new.ident))
            .flat_map(|(old, new)| [table_of(&old.ident), table_of(&new.ident)])
            .flatten()
            .map(Arc::from)
            .chain(tables)
            .collect();
        let Some(mut pending) = self.db_after.0.tail.pending().last().cloned() else {
            return Ok(());
        };
        if moved.is_empty() {
            return Ok(());
        }
        for table in moved {
            let entities = self.db_after.recount(&table).await?;
            pending.tables.retain(|(name, _)| *name != table);
            pending.tables.push((table, entities));
        }
        let next_entid = self.db_after.0.next_entid;
        self.db_after = self
            .db_before
            .extended(&self.tx_data, pending, after, next_entid);
        Ok(())
    }
}

/// The schema after these datoms, if they change it.
fn changed_schema(schema: &Schema, datoms: &[Datom]) -> Option<Schema> {
    datoms.iter().any(|datom| describes(datom.a)).then(|| {
        let mut after = schema.clone();
        after.fold(datoms);
        after
    })
}

/// An entity is described as an attribute whole or not at all, and its name is free to be one.
fn whole_description(schema: &Schema, e: Entid) -> std::result::Result<(), String> {
    let Some(facts) = schema.facts_of(e) else {
        return Ok(());
    };
    let ident = facts.get(attrs::IDENT).and_then(Value::as_keyword);
    if schema.attribute(e).is_some() {
        if ident.is_some_and(|ident| table_of(ident).is_none()) {
            return Err("the namespaces db and db.* are reserved for the bootstrap".into());
        }
        return Ok(());
    }
    let missing: Vec<&str> = [
        (attrs::IDENT, ":db/ident"),
        (attrs::VALUE_TYPE, ":db/valueType"),
        (attrs::CARDINALITY, ":db/cardinality"),
    ]
    .into_iter()
    .filter_map(|(a, name)| facts.get(a).is_none().then_some(name))
    .collect();
    let only_named = facts.len() == 1 && ident.is_some();
    if only_named {
        return Ok(());
    }
    let name = ident.map_or_else(|| format!("entity {e}"), ToString::to_string);
    if missing.is_empty() {
        return Err(format!(
            "{name} has a :db/valueType or :db/cardinality that is none"
        ));
    }
    Err(format!(
        "{name} is described as an attribute but lacks {}",
        missing.join(" and ")
    ))
}

/// Raises `:db/scale` where a value needs more digits behind the point than its attribute had before.
fn widen_scales(schema: &Schema, datoms: &mut Vec<Datom>, tx: TxId) {
    const SCALE_MAX: i64 = 38;
    let mut needed: BTreeMap<Entid, i64> = BTreeMap::new();
    for datom in datoms.iter().filter(|datom| datom.added) {
        if let Value::BigDec(number) = &datom.v {
            let scale = number.as_bigint_and_exponent().1.clamp(0, SCALE_MAX);
            let entry = needed.entry(datom.a).or_default();
            *entry = scale.max(*entry);
        }
    }
    let before = datoms.len();
    for (a, scale) in needed {
        let Some(attribute) = schema.attribute(a) else {
            continue;
        };
        debug_assert_eq!(attribute.value_type, ValueType::BigDec);
        if scale <= attribute.scale.unwrap_or(0) {
            continue;
        }
        let explicit = datoms[..before]
            .iter()
            .position(|d| d.e == a && d.a == attrs::SCALE && d.added);
        match explicit {
            Some(at) if datoms[at].v.as_long() >= Some(scale) => {}
            Some(at) => datoms[at].v = Value::Long(scale),
            None => {
                if let Some(old) = attribute.scale {
                    datoms.push(Datom::retract(a, attrs::SCALE, Value::Long(old), tx));
                }
                datoms.push(Datom::add(a, attrs::SCALE, Value::Long(scale), tx));
            }
        }
    }
    sort_log(datoms);
}

/// Refuses a transaction that says a datom twice, or not in LOG order, before anything is written.
fn said_once(datoms: &[Datom]) -> Result<()> {
    let order = TreeName::Log.order();
    let twice = datoms
        .windows(2)
        .find(|pair| !order.compare(&pair[0], &pair[1]).is_lt());
    twice.map_or(Ok(()), |pair| {
        Err(Error::corrupt(
            format!("transaction t={}", pair[1].tx.t()),
            format!("it would say {} twice, or in no order", pair[1]),
        ))
    })
}

fn sort_log(datoms: &mut [Datom]) {
    let order = TreeName::Log.order();
    datoms.sort_unstable_by(|left, right| order.compare(left, right));
}
