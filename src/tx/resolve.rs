//! From places to entity ids: lookup refs, upserts and new entities.
//!
//! A temporary id stands for an existing entity if one of its facts has a unique identity that the
//! database knows; two temporary ids with the same identity stand for one entity. A reference can be an
//! identity too, so this goes on in rounds until nothing changes. A composite names an entity that nothing
//! else names, if all its parts are said.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::data::{Action, Operations, Place, TempId, TxData, Word, refused};
use crate::datom::{Entid, TxId};
use crate::db::Db;
use crate::error::Result;
use crate::schema::{Attribute, Composite, Unique};
use crate::value::Value;

/// An operation on entities that are known.
#[derive(Clone, Debug)]
pub(super) enum Resolved {
    Add(Entid, Arc<Attribute>, Value),
    Retract(Entid, Arc<Attribute>, Option<Value>),
    RetractEntity(Entid),
    Cas(Entid, Arc<Attribute>, Option<Value>, Option<Value>),
}

/// What resolution found out.
#[derive(Debug)]
pub(super) struct Resolution {
    /// Operations with the top-level forms that asked for them.
    pub(super) operations: Vec<(Resolved, usize)>,
    pub(super) tempids: HashMap<TempId, Entid>,
    pub(super) next_entid: Entid,
    /// Holders of unique values in db-before, as far as they have been looked up.
    pub(super) holders: HashMap<(Entid, Value), Option<Entid>>,
}

/// Resolves every place.
pub(super) async fn resolve(
    db: &Db,
    data: &TxData,
    operations: Operations,
    tx: TxId,
) -> Result<Resolution> {
    let mut resolver = Resolver {
        db,
        data,
        temps: Temps::new(operations.tempids.len()),
        holders: HashMap::new(),
        tx,
    };
    resolver.unify(&operations).await?;
    let mut next_entid = resolver.allocate(&operations)?;
    let mut resolved = Vec::with_capacity(operations.list.len());
    for operation in operations.list {
        let form = operation.form;
        let action = resolver.action(operation.action, form).await?;
        if let Resolved::Add(e, ..) = &action
            && !e.is_tx()
            && *e >= next_entid
        {
            // An explicit id is taken, so that it is never handed out.
            next_entid = Entid(e.0 + 1);
        }
        resolved.push((action, form));
    }
    let tempids = operations
        .tempids
        .into_iter()
        .enumerate()
        .filter(|(_, id)| !matches!(id, TempId::Fresh(_)))
        .filter_map(|(at, id)| Some((id, resolver.temps.entid(at)?)))
        .collect();
    Ok(Resolution {
        operations: resolved,
        tempids,
        next_entid,
        holders: resolver.holders,
    })
}

struct Resolver<'a> {
    db: &'a Db,
    data: &'a TxData,
    temps: Temps,
    holders: HashMap<(Entid, Value), Option<Entid>>,
    tx: TxId,
}

impl<'a> Resolver<'a> {
    fn refuse<T>(&self, form: usize, reason: impl Into<String>) -> Result<T> {
        Err(refused(self.data, form, reason))
    }

    /// Finds out which temporary ids are one entity, and which entities exist.
    async fn unify(&mut self, operations: &Operations) -> Result<()> {
        let identities: Vec<_> = operations
            .list
            .iter()
            .filter_map(|operation| match &operation.action {
                Action::Add(Place::Temp(temp), a, word) if a.unique == Some(Unique::Identity) => {
                    Some((*temp, a, word, operation.form))
                }
                _ => None,
            })
            .collect();
        let parts = self.parts(operations);
        loop {
            let mut changed = false;
            let mut first: HashMap<(Entid, Identity), usize> = HashMap::new();
            for &(temp, attribute, word, form) in &identities {
                if let Some(identity) = self.identity(word).await? {
                    changed |= self
                        .identify(temp, attribute, identity, form, &mut first)
                        .await?;
                }
            }
            // What has no name of its own may be named by a composite of what is said about it.
            if !changed {
                for (temp, composed) in self.composed(&parts) {
                    let Composed {
                        attribute,
                        words,
                        form,
                    } = composed;
                    if let Some(identity) = self.identity(&Word::Tuple(words)).await? {
                        changed |= self
                            .identify(temp, attribute, identity, form, &mut first)
                            .await?;
                    }
                }
            }
            if !changed {
                return Ok(());
            }
        }
    }

    /// Takes it in that a temporary id has this value of a unique identity; whether that is news.
    async fn identify(
        &mut self,
        temp: usize,
        attribute: &Attribute,
        identity: Identity,
        form: usize,
        first: &mut HashMap<(Entid, Identity), usize>,
    ) -> Result<bool> {
        let mut changed = false;
        if let Identity::Value(value) = &identity
            && let Some(e) = self.holder(attribute.id, value).await?
        {
            match self.temps.assign(temp, e) {
                Ok(news) => changed |= news,
                Err(other) => {
                    return self.refuse(
                        form,
                        format!(
                            "a temporary id would be both entity {other} and entity {e}, \
                             which has {} {value}",
                            attribute.ident
                        ),
                    );
                }
            }
        }
        let other = *first.entry((attribute.id, identity)).or_insert(temp);
        match self.temps.unite(temp, other) {
            Ok(news) => Ok(changed | news),
            Err((left, right)) => self.refuse(
                form,
                format!(
                    "two temporary ids share {} but are entities {left} and {right}",
                    attribute.ident
                ),
            ),
        }
    }

    /// What a word identifies, as far as it is known by now.
    async fn identity(&mut self, word: &Word) -> Result<Option<Identity>> {
        Ok(match word {
            Word::Value(value) => Some(Identity::Value(value.clone())),
            Word::Ref(place) => match (self.known(place).await?, place) {
                (Some(e), _) => Some(Identity::Value(Value::Ref(e))),
                (None, Place::Temp(other)) => Some(Identity::Temp(self.temps.root(*other))),
                (None, _) => None,
            },
            Word::Tuple(words) => {
                let mut elements = Vec::with_capacity(words.len());
                for word in words {
                    elements.push(match word {
                        None => None,
                        Some(word) => match Box::pin(self.identity(word)).await? {
                            None => return Ok(None),
                            known => known,
                        },
                    });
                }
                let values = elements.iter().map(|element| match element {
                    None => Some(None),
                    Some(Identity::Value(value)) => Some(Some(value.clone())),
                    Some(_) => None,
                });
                match values.collect::<Option<Vec<_>>>() {
                    Some(values) => Some(Identity::Value(Value::Tuple(values.into()))),
                    None => Some(Identity::Tuple(elements)),
                }
            }
        })
    }

    /// What is said of the parts of unique identities.
    fn parts<'o>(&self, operations: &'o Operations) -> Vec<Part<'a, 'o>> {
        let db: &'a Db = self.db;
        let composites = db.schema().composites().iter();
        let identities: Vec<_> = composites
            .filter(|composite| composite.attribute.unique == Some(Unique::Identity))
            .collect();
        let mut parts = Vec::new();
        for operation in &operations.list {
            let Action::Add(Place::Temp(temp), a, word) = &operation.action else {
                continue;
            };
            for composite in &identities {
                if let Some(at) = composite.parts.iter().position(|part| *part == a.id) {
                    parts.push(Part {
                        temp: *temp,
                        composite,
                        at,
                        word,
                        form: operation.form,
                    });
                }
            }
        }
        parts
    }

    /// The composites that are said whole about entities that nothing else has named, by temporary id.
    fn composed(&mut self, parts: &[Part<'a, '_>]) -> Vec<(usize, Composed<'a>)> {
        let mut found: BTreeMap<(usize, Entid), Composed<'a>> = BTreeMap::new();
        for part in parts {
            let (root, composite) = (self.temps.root(part.temp), part.composite);
            if self.temps.entids[root].is_none() {
                let entry = found.entry((root, composite.attribute.id));
                let composed = entry.or_insert_with(|| Composed {
                    attribute: &composite.attribute,
                    words: vec![None; composite.parts.len()],
                    form: part.form,
                });
                composed.words[part.at] = Some(part.word.clone());
            }
        }
        found
            .into_iter()
            .filter(|(_, composed)| composed.words.iter().all(Option::is_some))
            .map(|((temp, _), composed)| (temp, composed))
            .collect()
    }

    /// Gives new entities their ids, in the order in which they first appear.
    fn allocate(&mut self, operations: &Operations) -> Result<Entid> {
        let mut next = self.db.0.next_entid;
        for operation in &operations.list {
            let (Action::Add(place, ..)
            | Action::Retract(place, ..)
            | Action::RetractEntity(place)
            | Action::Cas(place, ..)) = &operation.action;
            if let Place::Temp(temp) = place
                && self.temps.entid(*temp).is_none()
            {
                if next >= Entid::TX0 {
                    return self.refuse(operation.form, "all entity ids are used up");
                }
                let root = self.temps.root(*temp);
                self.temps.entids[root] = Some(next);
                next = Entid(next.0 + 1);
            }
        }
        Ok(next)
    }

    async fn action(&mut self, action: Action, form: usize) -> Result<Resolved> {
        Ok(match action {
            Action::Add(e, a, v) => {
                let e = self.subject(&e, form).await?;
                Resolved::Add(e, a, self.value(v, form).await?)
            }
            Action::Retract(e, a, v) => {
                let e = self.subject(&e, form).await?;
                let v = match v {
                    Some(v) => Some(self.value(v, form).await?),
                    None => None,
                };
                Resolved::Retract(e, a, v)
            }
            Action::RetractEntity(e) => Resolved::RetractEntity(self.subject(&e, form).await?),
            Action::Cas(e, a, old, new) => {
                let e = self.subject(&e, form).await?;
                let mut words = [None, None];
                for (slot, word) in words.iter_mut().zip([old, new]) {
                    if let Some(word) = word {
                        *slot = Some(self.value(word, form).await?);
                    }
                }
                let [old, new] = words;
                Resolved::Cas(e, a, old, new)
            }
        })
    }

    /// The entity that an operation is about: one that may be changed.
    async fn subject(&mut self, place: &Place, form: usize) -> Result<Entid> {
        let e = self.entity(place, form).await?;
        if e < Entid::FIRST_USER {
            return self.refuse(
                form,
                format!(
                    "entity {e} belongs to the bootstrap and cannot be changed; \
                         ids below {} are reserved, use a temporary id for a new entity",
                    Entid::FIRST_USER
                ),
            );
        }
        if e > self.tx.0 {
            return self.refuse(
                form,
                format!("entity {e} would be a transaction that is yet to come"),
            );
        }
        Ok(e)
    }

    async fn value(&mut self, word: Word, form: usize) -> Result<Value> {
        match word {
            Word::Value(value) => Ok(value),
            Word::Ref(place) => Ok(Value::Ref(self.entity(&place, form).await?)),
            Word::Tuple(words) => {
                let mut elements = Vec::with_capacity(words.len());
                for word in words {
                    elements.push(match word {
                        None => None,
                        Some(word) => Some(Box::pin(self.value(word, form)).await?),
                    });
                }
                Ok(Value::Tuple(elements.into()))
            }
        }
    }

    async fn entity(&mut self, place: &Place, form: usize) -> Result<Entid> {
        if let Some(e) = self.known(place).await? {
            return Ok(e);
        }
        match place {
            Place::Lookup(attribute, value) => self.refuse(
                form,
                format!("there is no entity with {} {value} before this transaction", attribute.ident),
            ),
            _ => self.refuse(
                form,
                "a temporary id is used as a value, but nothing is said about it in this transaction",
            ),
        }
    }

    /// The entity id of a place, as far as it is known by now.
    async fn known(&mut self, place: &Place) -> Result<Option<Entid>> {
        match place {
            Place::Entid(entid) => Ok(Some(*entid)),
            Place::Tx => Ok(Some(self.tx.0)),
            Place::Temp(temp) => Ok(self.temps.entid(*temp)),
            Place::Lookup(attribute, value) => self.holder(attribute.id, value).await,
        }
    }

    async fn holder(&mut self, a: Entid, value: &Value) -> Result<Option<Entid>> {
        holder(self.db, &mut self.holders, a, value).await
    }
}

/// The entity that has a unique value in db-before; asks the database once for each.
pub(crate) async fn holder(
    db: &Db,
    holders: &mut HashMap<(Entid, Value), Option<Entid>>,
    a: Entid,
    value: &Value,
) -> Result<Option<Entid>> {
    let key = (a, value.clone());
    if let Some(found) = holders.get(&key) {
        return Ok(*found);
    }
    let found = db.lookup(a, value).await?;
    holders.insert(key, found);
    Ok(found)
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Identity {
    Value(Value),
    Temp(usize),
    /// A tuple with elements that are not known yet.
    Tuple(Vec<Option<Identity>>),
}

/// What is said of a part of a composite.
struct Part<'a, 'o> {
    temp: usize,
    composite: &'a Composite,
    /// Which element it is.
    at: usize,
    word: &'o Word,
    form: usize,
}

/// A composite as its parts say it.
struct Composed<'a> {
    attribute: &'a Attribute,
    words: Vec<Option<Word>>,
    form: usize,
}

/// Temporary ids in classes, each class with its entity once that is known.
#[derive(Debug)]
struct Temps {
    parents: Vec<usize>,
    entids: Vec<Option<Entid>>,
}

impl Temps {
    fn new(count: usize) -> Self {
        Self {
            parents: (0..count).collect(),
            entids: vec![None; count],
        }
    }

    fn root(&mut self, mut temp: usize) -> usize {
        while self.parents[temp] != temp {
            self.parents[temp] = self.parents[self.parents[temp]];
            temp = self.parents[temp];
        }
        temp
    }

    fn entid(&mut self, temp: usize) -> Option<Entid> {
        let root = self.root(temp);
        self.entids[root]
    }

    /// Says which entity a class is; the error is the entity that it is already.
    fn assign(&mut self, temp: usize, e: Entid) -> Result<bool, Entid> {
        let root = self.root(temp);
        match self.entids[root] {
            Some(other) if other == e => Ok(false),
            Some(other) => Err(other),
            None => {
                self.entids[root] = Some(e);
                Ok(true)
            }
        }
    }

    /// Makes one class of two; the error is the two entities that they are already.
    fn unite(&mut self, left: usize, right: usize) -> Result<bool, (Entid, Entid)> {
        let (left, right) = (self.root(left), self.root(right));
        if left == right {
            return Ok(false);
        }
        let e = match (self.entids[left], self.entids[right]) {
            (Some(left), Some(right)) if left != right => return Err((left, right)),
            (left, right) => left.or(right),
        };
        // The class that appeared first keeps its place, so that ids follow the order of appearance.
        let (first, second) = (left.min(right), left.max(right));
        self.parents[second] = first;
        self.entids[first] = e;
        Ok(true)
    }
}
