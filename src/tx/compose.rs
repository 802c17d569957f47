//! Composite tuples: kept equal to the values that they are composed of.
//!
//! A transaction that changes a part says the new composite too. A composite that is declared over facts
//! that exist is said of all of them at once, in the transaction that declares it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::check::{Checked, Checker};
use super::data::{TxData, refused};
use super::functions::TransactionFunctions;
use crate::datom::{Datom, Entid, TxId};
use crate::db::Db;
use crate::db::stats::table_of;
use crate::error::Result;
use crate::index::{Components, Index, Range};
use crate::schema::{Composite, Schema};
use crate::value::Value;

/// What a transaction says last of each part of each entity; `None` if it takes the value back.
type Said<'a> = HashMap<(Entid, Entid), Option<&'a Value>>;

fn said_of(datoms: &[Datom], is_part: impl Fn(Entid) -> bool) -> Said<'_> {
    let mut said = Said::new();
    for datom in datoms.iter().filter(|datom| is_part(datom.a)) {
        let last = said.entry((datom.e, datom.a)).or_default();
        if datom.added {
            *last = Some(&datom.v);
        }
    }
    said
}

impl Checker<'_> {
    /// What follows for composites from what is said of their parts, and whether claims about them hold.
    pub(super) async fn compose(
        &mut self,
        datoms: &mut Vec<Datom>,
        forms: &mut HashMap<(Entid, Entid), usize>,
    ) -> Result<()> {
        let composites = self.db.schema().composites();
        let mut parts: HashMap<Entid, Vec<&Composite>> = HashMap::new();
        for composite in composites {
            for part in composite.parts.iter() {
                parts.entry(*part).or_default().push(composite);
            }
        }
        let said = said_of(datoms, |a| parts.contains_key(&a));
        // In order, so that equal transactions say equal things.
        let mut touched: BTreeMap<(Entid, Entid), &Composite> = BTreeMap::new();
        for (e, part) in said.keys() {
            for composite in &parts[part] {
                touched.insert((*e, composite.attribute.id), composite);
            }
        }
        for (e, a) in self.claims.keys() {
            touched.extend(
                self.db
                    .schema()
                    .composite(*a)
                    .map(|composite| ((*e, *a), composite)),
            );
        }
        let mut composed = Vec::new();
        for ((e, a), composite) in touched {
            let ident = &composite.attribute.ident;
            let mut form = self.claims.get(&(e, a)).map(|(_, form)| *form);
            let mut elements = Vec::with_capacity(composite.parts.len());
            for part in composite.parts.iter() {
                form = form.or_else(|| forms.get(&(e, *part)).copied());
                elements.push(match said.get(&(e, *part)) {
                    Some(value) => value.cloned(),
                    None => self.values(e, *part).await?.pop(),
                });
            }
            let form = form.unwrap_or(0);
            let now = composite
                .tuple(elements)
                .map_err(|reason| refused(self.data, form, reason))?;
            if let Some((claimed, _)) = self.claims.get(&(e, a))
                && now.as_ref() != Some(claimed)
            {
                let now = now.map_or("nothing".into(), |now| now.to_string());
                return self.refuse(
                    form,
                    format!(
                        "{ident} of entity {e} is composed, and its parts make {now}, not {claimed}; \
                         change the parts"
                    ),
                );
            }
            let before = self.values(e, a).await?.pop();
            if before == now {
                continue;
            }
            composed.extend(before.map(|tuple| Datom::retract(e, a, tuple, self.tx)));
            composed.extend(now.map(|tuple| Datom::add(e, a, tuple, self.tx)));
            forms.insert((e, a), form);
            self.know(&composite.attribute);
        }
        datoms.extend(composed);
        Ok(())
    }
}

impl Db {
    /// Says the composites that this transaction declares of every entity that has parts of them.
    ///
    /// Reads the parts' facts whole. Returns the tables that may have new entities.
    pub(super) async fn backfill(
        &self,
        after: &Schema,
        checked: &mut Checked,
        data: &TxData,
        functions: &TransactionFunctions,
    ) -> Result<BTreeSet<Arc<str>>> {
        let tx = TxId::from_t(self.basis_t() + 1);
        let mut tables = BTreeSet::new();
        for composite in after.composites() {
            let attribute = &composite.attribute;
            if self.schema().attribute(attribute.id).is_some() {
                continue;
            }
            let form = checked
                .forms
                .iter()
                .find_map(|((e, _), form)| (*e == attribute.id).then_some(*form));
            let refuse = |reason: String| refused(data, form.unwrap_or(0), reason);
            let mut elements: BTreeMap<Entid, Vec<Option<Value>>> = BTreeMap::new();
            let said = said_of(&checked.datoms, |a| composite.parts.contains(&a));
            for (at, part) in composite.parts.iter().enumerate() {
                let range = Range::prefix(Components::all().a(*part));
                for datom in self.collect(Index::Aevt, &range).await? {
                    let of = elements
                        .entry(datom.e)
                        .or_insert_with(|| vec![None; composite.parts.len()]);
                    of[at] = Some(datom.v);
                }
                for ((e, _), value) in said.iter().filter(|((_, a), _)| a == part) {
                    let of = elements
                        .entry(*e)
                        .or_insert_with(|| vec![None; composite.parts.len()]);
                    of[at] = value.cloned();
                }
            }
            let mut holders: HashMap<Value, Entid> = HashMap::new();
            for (e, elements) in elements {
                let Some(tuple) = composite.tuple(elements).map_err(refuse)? else {
                    continue;
                };
                for name in attribute.preds.iter() {
                    functions.judge_value(name, &tuple).map_err(refuse)?;
                }
                if attribute.unique.is_some()
                    && let Some(other) = holders.insert(tuple.clone(), e)
                {
                    return Err(refuse(format!(
                        "{} is unique, but entities {other} and {e} share {tuple}",
                        attribute.ident
                    )));
                }
                checked.datoms.push(Datom::add(e, attribute.id, tuple, tx));
            }
            tables.extend(table_of(&attribute.ident).map(Arc::from));
        }
        Ok(tables)
    }
}
