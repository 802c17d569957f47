//! Rules that are data: predicates of attributes, and specs that an entity asks to be held to.
//!
//! `:db/ensure` names a spec: an entity with `:db.entity/attrs`, the attributes that must be there, and
//! `:db.entity/preds`, the predicates that must hold. It is checked on db-after and never stored.

use std::collections::HashMap;

use super::check::Checker;
use super::data::{TxData, refused};
use super::functions::TransactionFunctions;
use crate::datom::{Datom, Entid};
use crate::db::Db;
use crate::error::Result;
use crate::index::{Components, Index, Range};
use crate::schema::attrs;
use crate::value::Value;

/// An entity, the spec that it must satisfy, and the form that says so.
pub(super) type Ensure = (Entid, Entid, usize);

impl Checker<'_> {
    /// Every new value satisfies the predicates of its attribute.
    pub(super) fn predicates(
        &self,
        datoms: &[Datom],
        forms: &HashMap<(Entid, Entid), usize>,
    ) -> Result<()> {
        for datom in datoms.iter().filter(|datom| datom.added) {
            let attribute = &self.attributes[&datom.a];
            for name in attribute.preds.iter() {
                if let Err(reason) = self.functions.judge_value(name, &datom.v) {
                    let form = forms.get(&(datom.e, datom.a)).copied().unwrap_or(0);
                    let ident = &attribute.ident;
                    return self.refuse(form, format!("{ident} of entity {}: {reason}", datom.e));
                }
            }
        }
        Ok(())
    }
}

/// Every entity that asks for it satisfies its spec.
pub(super) async fn ensure(
    before: &Db,
    after: &Db,
    ensures: &[Ensure],
    data: &TxData,
    functions: &TransactionFunctions,
) -> Result<()> {
    for &(e, spec, form) in ensures {
        let name = before.ident(spec);
        let name = name.map_or_else(|| spec.to_string(), ToString::to_string);
        let refuse = |reason: String| {
            refused(
                data,
                form,
                format!("entity {e} does not satisfy {name}: {reason}"),
            )
        };
        let required = values(before, spec, attrs::ENTITY_ATTRS).await?;
        let predicates = values(before, spec, attrs::ENTITY_PREDS).await?;
        if required.is_empty() && predicates.is_empty() {
            return Err(refuse(
                "it has neither :db.entity/attrs nor :db.entity/preds; transact the spec before"
                    .into(),
            ));
        }
        let mut missing = Vec::new();
        for ident in required.iter().filter_map(Value::as_keyword) {
            let Some(attribute) = after.schema().attribute_by_ident(ident) else {
                return Err(refuse(after.schema().unknown(ident)));
            };
            let range = Range::prefix(Components::all().e(e).a(attribute.id));
            if after.first(Index::Eavt, &range).await?.is_none() {
                missing.push(ident.to_string());
            }
        }
        if !missing.is_empty() {
            return Err(refuse(format!("it lacks {}", missing.join(" and "))));
        }
        for predicate in &predicates {
            let Value::Symbol(predicate) = predicate else {
                continue;
            };
            let verdict = functions.judge_entity(predicate, after, e).await?;
            verdict.map_err(refuse)?;
        }
    }
    Ok(())
}

async fn values(db: &Db, e: Entid, a: Entid) -> Result<Vec<Value>> {
    let range = Range::prefix(Components::all().e(e).a(a));
    let datoms = db.collect(Index::Eavt, &range).await?;
    Ok(datoms.into_iter().map(|datom| datom.v).collect())
}
