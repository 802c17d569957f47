//! The entity ids of theirs, translated to those of ours.
//!
//! Two branches hand out the same ids for different entities. What was born before they parted has one
//! id; what earlier merges brought, in either direction, is written in their records; the rest is new.
//!
//! **Invariant.** The translation is one to one, and what it has said once it says in every later merge.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::conn::log::Kinship;
use crate::datom::{Entid, TxId};
use crate::db::Db;
use crate::db::commit::Renumbered;
use crate::error::{Error, Result};
use crate::value::{Large, Value};

/// A translation that grows while a merge is decided.
#[derive(Debug)]
pub(super) struct Ids {
    /// Entities below have the same id on both sides.
    shared: Entid,
    /// Pairs of earlier merges, by the first id of theirs and of ours.
    known: BTreeMap<Entid, (Entid, u64)>,
    known_ours: BTreeMap<Entid, (Entid, u64)>,
    /// Pairs of this merge.
    new: BTreeMap<Entid, Entid>,
    new_ours: BTreeMap<Entid, Entid>,
    /// The next id of ours.
    next: Entid,
    /// The newest transaction that both have.
    fork: u64,
    /// Up to where earlier merges took theirs, and as which transactions.
    merges: Vec<(u64, u64)>,
    /// The transaction of this merge.
    tx: TxId,
}

impl Ids {
    pub(super) async fn new(ours: &Db, theirs: &Db, kinship: &Kinship) -> Result<Self> {
        let mut ids = Self {
            shared: first_unborn(ours, theirs, kinship.fork).await?,
            known: BTreeMap::new(),
            known_ours: BTreeMap::new(),
            new: BTreeMap::new(),
            new_ours: BTreeMap::new(),
            next: ours.0.next_entid,
            fork: kinship.fork,
            merges: kinship.into_ours.iter().map(|j| (j.of, j.at)).collect(),
            tx: TxId::from_t(ours.basis_t() + 1),
        };
        for run in kinship.into_ours.iter().flat_map(|joint| &joint.renumbered) {
            ids.know(run.from, run.to, run.count);
        }
        for run in kinship
            .into_theirs
            .iter()
            .flat_map(|joint| &joint.renumbered)
        {
            ids.know(run.to, run.from, run.count);
        }
        Ok(ids)
    }

    fn know(&mut self, theirs: Entid, ours: Entid, count: u64) {
        self.known.insert(theirs, (ours, count));
        self.known_ours.insert(ours, (theirs, count));
    }

    /// What ours calls an entity of theirs, if ours has it.
    pub(super) fn ours(&self, theirs: Entid) -> Option<Entid> {
        if theirs.is_tx() {
            return Some(self.tx_of(TxId(theirs)).0);
        }
        let new = self.new.get(&theirs).copied();
        let known = new.or_else(|| within(&self.known, theirs));
        known.or_else(|| (theirs < self.shared).then_some(theirs))
    }

    /// What theirs calls an entity of ours, if theirs has it.
    pub(super) fn theirs(&self, ours: Entid) -> Option<Entid> {
        let new = self.new_ours.get(&ours).copied();
        let known = new.or_else(|| within(&self.known_ours, ours));
        let same = ours < self.shared || (ours.is_tx() && TxId(ours).t() <= self.fork);
        known.or_else(|| same.then_some(ours))
    }

    /// Whether this merge brings an entity of theirs, be it that ours knew it by another name.
    pub(super) fn is_new(&self, theirs: Entid) -> bool {
        self.new.contains_key(&theirs)
    }

    /// Says that an entity of theirs is one that ours has already.
    pub(super) fn unify(&mut self, theirs: Entid, ours: Entid) {
        self.new.insert(theirs, ours);
        self.new_ours.insert(ours, theirs);
    }

    /// What ours calls an entity of theirs; a new id if ours does not have it.
    pub(super) fn take(&mut self, theirs: Entid) -> Result<Entid> {
        if let Some(ours) = self.ours(theirs) {
            return Ok(ours);
        }
        if self.next >= Entid::TX0 {
            return Err(Error::invalid("all entity ids are used up"));
        }
        let ours = self.next;
        self.next = Entid(ours.0 + 1);
        self.unify(theirs, ours);
        Ok(ours)
    }

    /// A value of theirs in ids of ours, if they are all known.
    pub(super) fn known_value(&self, value: &Value) -> Option<Value> {
        translated(value, &|e| self.ours(e))
    }

    /// A value of ours in ids of theirs, if they are all known.
    pub(super) fn known_there(&self, value: &Value) -> Option<Value> {
        translated(value, &|e| self.theirs(e))
    }

    /// A value of theirs in ids of ours.
    pub(super) fn take_value(&mut self, value: &Value) -> Result<Value> {
        for to in value.referred() {
            self.take(to)?;
        }
        let known = self.known_value(value);
        known.ok_or_else(|| Error::invalid(format!("{value} names an entity without an id")))
    }

    /// What this merge brings: ids of theirs, and of ours.
    pub(super) fn brought(&self) -> &BTreeMap<Entid, Entid> {
        &self.new
    }

    pub(super) fn next_entid(&self) -> Entid {
        self.next
    }

    /// What this merge brings, as its record says it.
    pub(super) fn runs(&self) -> Vec<Renumbered> {
        let mut runs: Vec<Renumbered> = Vec::new();
        for (&from, &to) in &self.new {
            let continued = runs.last_mut().filter(|run| {
                let next = |first: Entid| first.0.checked_add_unsigned(run.count);
                next(run.from) == Some(from.0) && next(run.to) == Some(to.0)
            });
            match continued {
                Some(run) => run.count += 1,
                None => runs.push(Renumbered { from, to, count: 1 }),
            }
        }
        runs
    }

    /// The transaction of ours by which a transaction of theirs came, or comes.
    fn tx_of(&self, theirs: TxId) -> TxId {
        if theirs.t() <= self.fork {
            return theirs;
        }
        let merge = self.merges.iter().find(|(of, _)| *of >= theirs.t());
        merge.map_or(self.tx, |(_, at)| TxId::from_t(*at))
    }
}

/// A value with other ids, if there is one for each.
fn translated(value: &Value, translate: &dyn Fn(Entid) -> Option<Entid>) -> Option<Value> {
    Some(match value {
        Value::Ref(to) => Value::Ref(translate(*to)?),
        Value::Tuple(elements) => {
            let mut known = Vec::with_capacity(elements.len());
            for element in elements.iter() {
                known.push(match element {
                    Some(element) => Some(translated(element, translate)?),
                    None => None,
                });
            }
            Value::Tuple(known.into())
        }
        // Written anew, whatever becomes of the pack that it lies in.
        Value::Large(large) => Value::Large(Arc::new(Large {
            value_type: large.value_type,
            prefix: large.prefix.clone(),
            hash: large.hash,
            len: large.len,
            body: large.body.clone(),
            location: None,
        })),
        value => value.clone(),
    })
}

/// The partner of an id in runs of pairs.
fn within(runs: &BTreeMap<Entid, (Entid, u64)>, e: Entid) -> Option<Entid> {
    let (first, (partner, count)) = runs.range(..=e).next_back()?;
    let offset = e.0 - first.0;
    (offset.unsigned_abs() < *count).then(|| Entid(partner.0 + offset))
}

/// The first id that was not handed out when the two parted.
///
/// Each has a bound for it, which is too low where the past was purged of all that was said of an entity.
/// Before checkpoints counted what was said up to them alone, one on a branch that began with a past value
/// told what its origin had handed out since: among unpurged branches the lower bound is right.
async fn first_unborn(ours: &Db, theirs: &Db, fork: u64) -> Result<Entid> {
    let (mine, their) = (
        first_unsaid(ours, fork).await?,
        first_unsaid(theirs, fork).await?,
    );
    let is_purged = |db: &Db| db.0.head.purges > 0;
    Ok(match (is_purged(ours), is_purged(theirs)) {
        (false, false) => mine.min(their),
        (false, true) => mine,
        (true, false) => their,
        (true, true) => mine.max(their),
    })
}

/// The first id that no transaction up to `t` names, be it as an entity or as a reference.
async fn first_unsaid(db: &Db, t: u64) -> Result<Entid> {
    let past = db.as_of(crate::db::basis::TimePoint::T(t)).await?;
    Ok(past.first_unsaid())
}
