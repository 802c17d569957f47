//! A transaction of facts whose entities are known: what a merge commits.
//!
//! There is no EDN and nothing to resolve, and attributes may be new in the very transaction; what a
//! transaction must not do is checked as ever.

use std::collections::HashMap;
use std::sync::Arc;

use super::resolve::{Resolution, Resolved};
use super::{TransactionFunctions, TxData, TxReport};
use crate::datom::Entid;
use crate::db::Db;
use crate::db::commit::OtherParent;
use crate::error::Result;
use crate::schema::Attribute;
use crate::value::Value;

/// A fact to assert or to retract.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    pub(crate) e: Entid,
    /// The attribute as it is after the transaction.
    pub(crate) attribute: Arc<Attribute>,
    pub(crate) v: Value,
    pub(crate) added: bool,
}

/// The facts of one transaction.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) list: Vec<Fact>,
    pub(crate) next_entid: Entid,
    pub(crate) other_parents: Vec<OtherParent>,
}

impl Db {
    /// The value after these facts; a refusal quotes `origin`, which is one form.
    pub(crate) async fn with_facts(
        &self,
        facts: Facts,
        origin: &TxData,
        functions: &TransactionFunctions,
        now: i64,
    ) -> Result<TxReport> {
        let operation = |fact: Fact| {
            let Fact {
                e,
                attribute,
                v,
                added,
            } = fact;
            let resolved = if added {
                Resolved::Add(e, attribute, v)
            } else {
                Resolved::Retract(e, attribute, Some(v))
            };
            (resolved, 0)
        };
        let resolution = Resolution {
            operations: facts.list.into_iter().map(operation).collect(),
            tempids: HashMap::new(),
            next_entid: facts.next_entid,
            holders: HashMap::new(),
        };
        self.decide(origin, functions, resolution, now, facts.other_parents)
            .await
    }
}
