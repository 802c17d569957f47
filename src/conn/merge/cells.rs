//! Three ways to look at a fact: at the base, on ours and on theirs.
//!
//! The log of theirs says which *cells* — an attribute of an entity — it has touched since the base; each
//! is read in the three values and decided by itself. Schema comes first, because it says how the rest is
//! compared. Then come entities that one side retracted as a whole, and uniqueness last. Composite tuples are
//! passed over: they follow from what becomes of their parts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use futures::stream::TryStreamExt;

use super::ids::Ids;
use super::{Conflict, ConflictKind, MergeStrategy, Resolution};
use crate::conn::log::{Base, Kinship};
use crate::datom::{Datom, Entid, TxId};
use crate::db::Db;
use crate::error::{Error, Result};
use crate::index::{Components, Index, Range};
use crate::schema::{Attribute, Schema, Unique, attrs, describes};
use crate::tx::{Fact, holder};
use crate::value::{Value, ValueType};

/// Values of one cell, in ids of ours.
type Values = BTreeSet<Value>;

/// The last word of theirs on each value of a cell, in its own ids. It is empty for a cell that may differ in
/// any value.
type Said = BTreeMap<Value, bool>;

/// A merge while it is decided.
pub(super) struct Merger<'a> {
    ours: &'a Db,
    theirs: &'a Db,
    base: Db,
    /// Whether the base is a value of ours, and speaks of entities as ours does.
    base_is_ours: bool,
    strategy: &'a MergeStrategy,
    pub(super) ids: Ids,
    /// The schema after the merge, once schema has been merged.
    schema: Schema,
    touched: BTreeMap<Entid, BTreeMap<Entid, Said>>,
    /// What the merge will say, by (e, a, v).
    changes: BTreeMap<(Entid, Entid, Value), bool>,
    pub(super) conflicts: Vec<(Conflict, Resolution)>,
    /// Where ours stays although theirs differs.
    pub(super) kept: BTreeSet<(Entid, Entid)>,
    /// Whether an entity was at the base and is no longer on ours.
    gone: BTreeMap<Entid, bool>,
}

impl<'a> Merger<'a> {
    pub(super) async fn new(
        ours: &'a Db,
        theirs: &'a Db,
        base: Db,
        kinship: &Kinship,
        strategy: &'a MergeStrategy,
    ) -> Result<Self> {
        let (since, base_is_ours) = match kinship.base() {
            Base::Ours(t) => (kinship.contained(t), true),
            Base::Theirs(t) => (t, false),
        };
        let mut touched: BTreeMap<Entid, BTreeMap<Entid, Said>> = BTreeMap::new();
        let mut log = theirs.tx_range(since + 1, Some(theirs.basis_t() + 1));
        while let Some(datom) = log.try_next().await? {
            if !datom.e.is_tx() {
                let cells = touched.entry(datom.e).or_default();
                cells
                    .entry(datom.a)
                    .or_default()
                    .insert(datom.v, datom.added);
            }
        }
        let ids = Ids::new(ours, theirs, kinship).await?;
        // Theirs may differ from the base without a word since: it took the base, and kept some of its own.
        // Of an entity that ours does not know, the log has told everything.
        let later = kinship.into_theirs.iter().filter(|joint| joint.at > since);
        for (e, a) in later.flat_map(|joint| &joint.kept) {
            if base_is_ours && ids.ours(*e).is_some() {
                touched.entry(*e).or_default().insert(*a, Said::new());
            }
        }
        Ok(Self {
            ids,
            ours,
            theirs,
            base,
            base_is_ours,
            strategy,
            schema: Schema::clone(ours.schema()),
            touched,
            changes: BTreeMap::new(),
            conflicts: Vec::new(),
            kept: BTreeSet::new(),
            gone: BTreeMap::new(),
        })
    }

    /// What the merge says, with every conflict decided.
    pub(super) async fn facts(&mut self) -> Result<Vec<Fact>> {
        self.meet().await?;
        let touched = std::mem::take(&mut self.touched);
        for (e, cells) in &touched {
            for (a, said) in cells.iter().filter(|(a, _)| describes(**a)) {
                self.cell(*e, *a, said).await?;
            }
        }
        self.merge_schema();
        // How the rest compares is not known while the schema is in doubt.
        let in_doubt = |(_, resolution): &(Conflict, Resolution)| *resolution == Resolution::Refuse;
        if self.conflicts.iter().any(in_doubt) {
            return Ok(Vec::new());
        }
        for (e, cells) in &touched {
            for (a, said) in cells.iter().filter(|(a, _)| !describes(**a)) {
                self.cell(*e, *a, said).await?;
            }
        }
        for (e, cells) in &touched {
            self.retracted_by_theirs(*e, cells).await?;
        }
        self.unique().await?;
        self.list()
    }

    /// Finds out which entities that are new on theirs ours has too, and gives the others their ids.
    async fn meet(&mut self) -> Result<()> {
        let ids = &self.ids;
        // What came and went on theirs is no business of ours.
        self.touched.retain(|e, cells| {
            ids.ours(*e).is_some()
                || cells
                    .values()
                    .flat_map(BTreeMap::values)
                    .any(|added| *added)
        });
        let mut names: Vec<(Entid, Entid, Value)> = Vec::new();
        for (e, cells) in &self.touched {
            if self.ids.ours(*e).is_some() {
                continue;
            }
            for (a, said) in cells {
                let attribute = self.theirs.schema().attribute(*a);
                if attribute.is_some_and(|a| a.unique == Some(Unique::Identity)) {
                    let held = said.iter().filter(|(_, added)| **added);
                    names.extend(held.map(|(v, _)| (*e, *a, v.clone())));
                }
            }
        }
        // A name may be a reference or of a new attribute, so that one meeting makes another possible.
        loop {
            let mut met = false;
            for (e, a, v) in &names {
                if self.ids.ours(*e).is_some() {
                    continue;
                }
                let (Some(a), Some(v)) = (self.ids.ours(*a), self.ids.known_value(v)) else {
                    continue;
                };
                let identity = self.ours.schema().attribute(a).filter(|attribute| {
                    attribute.unique == Some(Unique::Identity)
                        && attribute.value_type == v.value_type()
                });
                if identity.is_none() {
                    continue;
                }
                // An entity that both knew before is not what was made anew on theirs.
                let holder = self.ours.lookup(a, &v).await?;
                if let Some(holder) = holder.filter(|holder| self.ids.theirs(*holder).is_none()) {
                    self.ids.unify(*e, holder);
                    met = true;
                }
            }
            if !met {
                break;
            }
        }
        for e in self.touched.keys() {
            self.ids.take(*e)?;
        }
        Ok(())
    }

    /// Folds the changes of schema into the schema of ours.
    fn merge_schema(&mut self) {
        let tx = TxId::from_t(self.ours.basis_t() + 1);
        let datoms: Vec<Datom> = self
            .changes
            .iter()
            .filter(|((_, a, _), _)| describes(*a))
            .map(|((e, a, v), added)| Datom {
                e: *e,
                a: *a,
                v: v.clone(),
                tx,
                added: *added,
            })
            .collect();
        self.schema.fold(&datoms);
    }

    /// The attribute after the merge; as ours has it, if the merge retracts it.
    fn attribute(&self, a: Entid) -> Option<&Arc<Attribute>> {
        let after = self.schema.attribute(a);
        after.or_else(|| self.ours.schema().attribute(a))
    }

    /// Decides one cell that theirs has touched.
    async fn cell(&mut self, e: Entid, a: Entid, said: &Said) -> Result<()> {
        let (my_e, my_a) = (self.ids.take(e)?, self.ids.take(a)?);
        if is_composite(self.theirs.schema().attribute(a)) || is_composite(self.attribute(my_a)) {
            return Ok(());
        }
        let Some(attribute) = self.attribute(my_a).cloned() else {
            if said.values().any(|added| *added) {
                let name = self.theirs.ident(a);
                let name = name.map_or_else(|| format!("attribute {a}"), ToString::to_string);
                return Err(Error::invalid(format!(
                    "theirs uses {name}, which ours has retracted; assert it on ours again"
                )));
            }
            return Ok(());
        };
        if attribute.is_many() {
            for (value, mine, added) in self.members(e, a, said).await? {
                self.member(e, a, &attribute, value, mine, added).await?;
            }
            return Ok(());
        }
        let theirs = if self.ids.is_new(e) {
            let held = said.iter().filter(|(_, added)| **added);
            held.map(|(value, _)| value.clone()).collect()
        } else {
            values(self.theirs, e, a).await?
        };
        let blocked = self.blocked(e, &theirs).await?;
        let theirs = self.taken(theirs)?;
        let base = self.base_values(e, a).await?;
        let ours = values(self.ours, my_e, my_a).await?;
        if theirs == base || theirs == ours {
            return Ok(());
        }
        check_type(&attribute, &theirs)?;
        if theirs.len() > 1 {
            return Err(Error::invalid(format!(
                "theirs has several values of {}, which has one after the merge; retract the others",
                attribute.ident
            )));
        }
        // Raised by writing; what needs fewer digits fits as well.
        let take = if my_a == attrs::SCALE && !theirs.is_empty() && !ours.is_empty() {
            if theirs < ours {
                self.kept.insert((my_e, my_a));
            }
            theirs > ours
        } else if ours == base && !blocked {
            true
        } else {
            let kind = if theirs.is_empty() || ours.is_empty() {
                ConflictKind::Retracted
            } else {
                ConflictKind::Changed
            };
            self.conflict(
                kind,
                (my_e, my_a),
                [&base, &ours, &theirs].map(Values::first),
            )
        };
        if take {
            self.replace(my_e, my_a, &ours, &theirs);
        }
        Ok(())
    }

    /// The values of a cell of cardinality many that may differ: as theirs knows each, as ours does, and
    /// whether theirs has it.
    async fn members(
        &mut self,
        e: Entid,
        a: Entid,
        said: &Said,
    ) -> Result<Vec<(Option<Value>, Value, bool)>> {
        let mut members = Vec::new();
        for (value, added) in said {
            members.push((Some(value.clone()), self.ids.take_value(value)?, *added));
        }
        if !said.is_empty() {
            return Ok(members);
        }
        let theirs = values(self.theirs, e, a).await?;
        for value in &theirs {
            members.push((Some(value.clone()), self.ids.take_value(value)?, true));
        }
        for mine in self.base_values(e, a).await? {
            let value = self.ids.known_there(&mine);
            if value.as_ref().is_none_or(|value| !theirs.contains(value)) {
                members.push((value, mine, false));
            }
        }
        Ok(members)
    }

    /// Decides one value of a cell of cardinality many.
    async fn member(
        &mut self,
        e: Entid,
        a: Entid,
        attribute: &Attribute,
        value: Option<Value>,
        mine: Value,
        added: bool,
    ) -> Result<()> {
        let (my_e, my_a) = (self.ids.take(e)?, attribute.id);
        let base = match &value {
            _ if self.ids.is_new(e) => false,
            _ if self.base_is_ours => holds(&self.base, my_e, my_a, &mine).await?,
            Some(value) => holds(&self.base, e, a, value).await?,
            None => false,
        };
        let ours = holds(self.ours, my_e, my_a, &mine).await?;
        if added == base || added == ours {
            return Ok(());
        }
        if added {
            check_type(attribute, &Values::from([mine.clone()]))?;
            let blocked = self.blocked(e, &value.into_iter().collect()).await?;
            let of = [None, None, Some(&mine)];
            if blocked && !self.conflict(ConflictKind::Retracted, (my_e, my_a), of) {
                return Ok(());
            }
        }
        self.changes.insert((my_e, my_a, mine), added);
        Ok(())
    }

    /// If theirs has retracted a whole entity, what ours has said about it since.
    async fn retracted_by_theirs(&mut self, e: Entid, cells: &BTreeMap<Entid, Said>) -> Result<()> {
        let retracts = cells
            .values()
            .any(|said| said.is_empty() || said.values().any(|added| !added));
        if !retracts || self.ids.is_new(e) || lives(self.theirs, e).await? {
            return Ok(());
        }
        let my_e = self.ids.take(e)?;
        let base_e = if self.base_is_ours { my_e } else { e };
        if !lives(&self.base, base_e).await? {
            return Ok(());
        }
        let known: BTreeSet<(Entid, Value)> = {
            let facts = facts_of(&self.base, base_e).await?;
            let mut known = BTreeSet::new();
            for datom in facts {
                known.insert(self.base_fact(datom.a, &datom.v)?);
            }
            known
        };
        for datom in facts_of(self.ours, my_e).await? {
            if is_composite(self.attribute(datom.a)) {
                continue;
            }
            let decided = |(conflict, _): &(Conflict, Resolution)| {
                (conflict.e, conflict.a) == (my_e, datom.a)
                    && conflict.ours.as_ref() == Some(&datom.v)
            };
            let key = (datom.a, datom.v.clone());
            if known.contains(&key) || self.conflicts.iter().any(decided) {
                continue;
            }
            let cell = (my_e, datom.a);
            if self.conflict(ConflictKind::Retracted, cell, [None, Some(&datom.v), None]) {
                self.changes.insert((my_e, datom.a, datom.v), false);
            }
        }
        let references: Vec<Entid> = self
            .ours
            .schema()
            .attributes()
            .filter(|attribute| attribute.value_type == ValueType::Ref)
            .map(|attribute| attribute.id)
            .collect();
        for a in references {
            for referrer in self.ours.referrers(a, my_e).await? {
                self.reference(referrer, a, my_e, base_e).await?;
            }
        }
        Ok(())
    }

    /// A reference of ours to an entity that theirs has retracted.
    async fn reference(&mut self, e: Entid, a: Entid, to: Entid, base_to: Entid) -> Result<()> {
        let value = Value::Ref(to);
        let decided = |(conflict, _): &(Conflict, Resolution)| {
            (conflict.e, conflict.a) == (e, a) && conflict.ours.as_ref() == Some(&value)
        };
        if self.changes.contains_key(&(e, a, value.clone())) || self.conflicts.iter().any(decided) {
            return Ok(());
        }
        let (base_e, base_a) = if self.base_is_ours {
            (Some(e), Some(a))
        } else {
            (self.ids.theirs(e), self.ids.theirs(a))
        };
        if let (Some(base_e), Some(base_a)) = (base_e, base_a)
            && holds(&self.base, base_e, base_a, &Value::Ref(base_to)).await?
        {
            return Ok(());
        }
        // Of cardinality one, theirs may have what ours has replaced by the reference.
        let mut theirs = Values::new();
        if self
            .attribute(a)
            .is_some_and(|attribute| !attribute.is_many())
            && let (Some(their_e), Some(their_a)) = (self.ids.theirs(e), self.ids.theirs(a))
        {
            theirs = values(self.theirs, their_e, their_a).await?;
            theirs = self.taken(theirs)?;
        }
        if theirs.contains(&value) {
            return Ok(());
        }
        // Theirs has not touched the cell, so that is what the base has too.
        let of = [theirs.first(), Some(&value), theirs.first()];
        if self.conflict(ConflictKind::Retracted, (e, a), of) {
            self.replace(e, a, &Values::from([value]), &theirs);
        }
        Ok(())
    }

    /// No value of a unique attribute may belong to two entities.
    async fn unique(&mut self) -> Result<()> {
        let mut holders = HashMap::new();
        loop {
            let mut clash = None;
            for ((e, a, v), _) in self.changes.iter().filter(|(_, added)| **added) {
                let unique = self
                    .schema
                    .attribute(*a)
                    .is_some_and(|a| a.unique.is_some());
                if !unique || self.ours.schema().attribute(*a).is_none() {
                    continue;
                }
                let Some(holder) = holder(self.ours, &mut holders, *a, v).await? else {
                    continue;
                };
                let freed = self.changes.get(&(holder, *a, v.clone())) == Some(&false);
                if holder != *e && !freed {
                    clash = Some((*e, *a, v.clone(), holder));
                    break;
                }
            }
            let Some((e, a, v, holder)) = clash else {
                return Ok(());
            };
            let ours = values(self.ours, e, a).await?;
            let base = match self.ids.theirs(e) {
                Some(theirs) => match self.ids.theirs(a) {
                    Some(a) => self.base_values(theirs, a).await?,
                    None => Values::new(),
                },
                None => Values::new(),
            };
            let of = [base.first(), ours.first(), Some(&v)];
            if self.conflict(ConflictKind::Unique { holder }, (e, a), of) {
                self.changes.insert((holder, a, v), false);
                continue;
            }
            // Ours stays: also what the value would have replaced.
            self.changes.remove(&(e, a, v));
            if self
                .attribute(a)
                .is_some_and(|attribute| !attribute.is_many())
            {
                for old in ours {
                    self.changes.remove(&(e, a, old));
                }
            }
        }
    }

    /// Everything that the merge says.
    fn list(&mut self) -> Result<Vec<Fact>> {
        let changes = std::mem::take(&mut self.changes);
        changes
            .into_iter()
            .map(|((e, a, v), added)| {
                let attribute = self.attribute(a).cloned();
                let attribute = attribute
                    .ok_or_else(|| Error::invalid(format!("entity {a} is not an attribute")))?;
                Ok(Fact {
                    e,
                    attribute,
                    v,
                    added,
                })
            })
            .collect()
    }

    /// Records a conflict; whether theirs is taken over.
    fn conflict(
        &mut self,
        kind: ConflictKind,
        (e, a): (Entid, Entid),
        [base, ours, theirs]: [Option<&Value>; 3],
    ) -> bool {
        let conflict = Conflict {
            kind,
            e,
            a,
            base: base.cloned(),
            ours: ours.cloned(),
            theirs: theirs.cloned(),
        };
        let resolution = self.strategy.resolve(&conflict);
        self.conflicts.push((conflict, resolution));
        let take = resolution == Resolution::Theirs;
        if !take {
            self.kept.insert((e, a));
        }
        take
    }

    fn replace(&mut self, e: Entid, a: Entid, ours: &Values, theirs: &Values) {
        for value in ours.difference(theirs) {
            self.changes.insert((e, a, value.clone()), false);
        }
        for value in theirs.difference(ours) {
            self.changes.insert((e, a, value.clone()), true);
        }
    }

    /// Whether ours has retracted the entity since the base, or one that these values of theirs name.
    async fn blocked(&mut self, e: Entid, values: &Values) -> Result<bool> {
        if values.is_empty() {
            return Ok(false);
        }
        let mut blocked = self.is_gone(e).await?;
        for value in values {
            if let Value::Ref(to) = value {
                blocked |= self.is_gone(*to).await?;
            }
        }
        Ok(blocked)
    }

    async fn is_gone(&mut self, e: Entid) -> Result<bool> {
        if let Some(gone) = self.gone.get(&e) {
            return Ok(*gone);
        }
        let my_e = self.ids.ours(e);
        let gone = match my_e {
            Some(my_e) if !self.ids.is_new(e) && !e.is_tx() => {
                let base_e = if self.base_is_ours { my_e } else { e };
                !lives(self.ours, my_e).await? && lives(&self.base, base_e).await?
            }
            _ => false,
        };
        self.gone.insert(e, gone);
        Ok(gone)
    }

    fn taken(&mut self, theirs: Values) -> Result<Values> {
        theirs
            .iter()
            .map(|value| self.ids.take_value(value))
            .collect()
    }

    /// Values at the base of a cell that theirs calls so.
    async fn base_values(&mut self, e: Entid, a: Entid) -> Result<Values> {
        if self.ids.is_new(e) {
            return Ok(Values::new());
        }
        if self.base_is_ours {
            let (e, a) = (self.ids.take(e)?, self.ids.take(a)?);
            return values(&self.base, e, a).await;
        }
        let values = values(&self.base, e, a).await?;
        self.taken(values)
    }

    /// A fact of the base, in ids of ours.
    fn base_fact(&mut self, a: Entid, v: &Value) -> Result<(Entid, Value)> {
        if self.base_is_ours {
            return Ok((a, v.clone()));
        }
        Ok((self.ids.take(a)?, self.ids.take_value(v)?))
    }
}

fn is_composite(attribute: Option<&Arc<Attribute>>) -> bool {
    attribute.is_some_and(|attribute| attribute.tuple_attrs.is_some())
}

fn check_type(attribute: &Attribute, values: &Values) -> Result<()> {
    let expected = attribute.value_type;
    match values.iter().find(|value| value.value_type() != expected) {
        None => Ok(()),
        Some(value) => Err(Error::invalid(format!(
            "{} has values of {expected} on ours, theirs has {value}; rename one of the attributes",
            attribute.ident
        ))),
    }
}

async fn values(db: &Db, e: Entid, a: Entid) -> Result<Values> {
    let range = Range::prefix(Components::all().e(e).a(a));
    let datoms = db.collect(Index::Eavt, &range).await?;
    Ok(datoms.into_iter().map(|datom| datom.v).collect())
}

async fn holds(db: &Db, e: Entid, a: Entid, v: &Value) -> Result<bool> {
    let range = Range::prefix(Components::all().e(e).a(a).v(v.clone()));
    Ok(db.first(Index::Eavt, &range).await?.is_some())
}

async fn lives(db: &Db, e: Entid) -> Result<bool> {
    let range = Range::prefix(Components::all().e(e));
    Ok(db.first(Index::Eavt, &range).await?.is_some())
}

async fn facts_of(db: &Db, e: Entid) -> Result<Vec<Datom>> {
    db.collect(Index::Eavt, &Range::prefix(Components::all().e(e)))
        .await
}
