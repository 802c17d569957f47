//! What is known of each commit, and how a commit is named.
//!
//! Every transaction has one [`CommitRecord`] in the tree of commits, keyed by `t`; those since the last
//! checkpoint wait in the head as [`Pending`]. A commit's hash covers its parents, its `t` and instant and
//! a digest of its data, so it names the whole history. The digest is a list of salted hashes, one a
//! datom: a purge can drop a datom and leave its hash, which tells nothing about it.

use std::sync::Arc;

use crate::datom::{Datom, Entid};
use crate::error::{Error, Result};
use crate::id::{CommitHash, CommitId, Location, NodeId, PackId};
use crate::index::TreeName;
use crate::tree::{Root, Tree};
use crate::value::Value;
use crate::wire::{Malformed, Reader, Writer};

/// A commit since the last checkpoint: what its datoms do not say.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pending {
    /// The transaction.
    pub(crate) t: u64,
    /// Its instant, which is a datom too.
    pub(crate) instant: i64,
    /// Makes the commit unique and salts the hashes of its datoms.
    pub(crate) nonce: [u8; 16],
    /// Parents besides the commit before it: what a merge brought in.
    pub(crate) other_parents: Vec<OtherParent>,
    /// The tables whose number of entities it changed, with the new number.
    pub(crate) tables: Vec<(Arc<str>, u64)>,
}

/// A commit of another line of commits, and what its entities are called on this one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OtherParent {
    /// The commit.
    pub(crate) commit: CommitId,
    /// The entities of that line whose ids are known by this merge, in the order of their ids there.
    pub(crate) renumbered: Vec<Renumbered>,
    /// The attributes of entities on which this line stayed as it was although the other one differs.
    pub(crate) kept: Vec<(Entid, Entid)>,
}

/// Entities with successive ids on both lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Renumbered {
    /// The first id on the line that was merged.
    pub(crate) from: Entid,
    /// The first id on the line that took the merge.
    pub(crate) to: Entid,
    /// How many.
    pub(crate) count: u64,
}

impl OtherParent {
    fn encode(&self, out: &mut Writer) {
        out.varint(self.commit.t);
        out.raw(&self.commit.hash.0);
        out.count(self.renumbered.len());
        for run in &self.renumbered {
            out.zigzag(run.from.0);
            out.zigzag(run.to.0);
            out.varint(run.count);
        }
        out.count(self.kept.len());
        for (e, a) in &self.kept {
            out.zigzag(e.0);
            out.zigzag(a.0);
        }
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        let commit = CommitId {
            t: input.varint()?,
            hash: CommitHash(input.array()?),
        };
        let runs = input.count(3)?;
        let renumbered = (0..runs)
            .map(|_| {
                let run = Renumbered {
                    from: Entid(input.zigzag()?),
                    to: Entid(input.zigzag()?),
                    count: input.varint()?,
                };
                run.is_valid().then_some(run).ok_or(Malformed(
                    "a merge renumbers what is no entity of a transaction",
                ))
            })
            .collect::<Result<_, _>>()?;
        let cells = input.count(2)?;
        let kept = (0..cells)
            .map(|_| Ok((Entid(input.zigzag()?), Entid(input.zigzag()?))))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            commit,
            renumbered,
            kept,
        })
    }
}

impl Renumbered {
    /// Whether all its ids are such as transactions hand out.
    fn is_valid(&self) -> bool {
        let fits = |first: Entid| {
            let end = first.0.checked_add_unsigned(self.count);
            first >= Entid::FIRST_USER && end.is_some_and(|end| end <= Entid::TX0.0)
        };
        self.count > 0 && fits(self.from) && fits(self.to)
    }
}

impl Pending {
    pub(crate) fn encode(&self, out: &mut Writer) {
        out.varint(self.t);
        out.zigzag(self.instant);
        out.raw(&self.nonce);
        out.count(self.other_parents.len());
        for parent in &self.other_parents {
            parent.encode(out);
        }
        encode_tables(&self.tables, out);
    }

    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            t: input.varint()?,
            instant: input.zigzag()?,
            nonce: input.array()?,
            other_parents: {
                let count = input.count(1 + CommitHash::LEN + 2)?;
                (0..count)
                    .map(|_| OtherParent::decode(input))
                    .collect::<Result<_, _>>()?
            },
            tables: decode_tables(input)?,
        })
    }

    /// The hash over parents, `t`, instant, data and nonce.
    pub(crate) fn hash(&self, parent: CommitHash, digest: &[u8; 32]) -> CommitHash {
        let mut hasher = blake3::Hasher::new_derive_key("datomfusion 1 commit");
        let parents = 1 + u32::try_from(self.other_parents.len()).unwrap_or(u32::MAX - 1);
        hasher.update(&parents.to_le_bytes());
        hasher.update(&parent.0);
        for other in &self.other_parents {
            hasher.update(&other.commit.hash.0);
            hasher.update(&other.commit.t.to_le_bytes());
            hasher.update(&(other.renumbered.len() as u64).to_le_bytes());
            for run in &other.renumbered {
                hasher.update(&run.from.0.to_le_bytes());
                hasher.update(&run.to.0.to_le_bytes());
                hasher.update(&run.count.to_le_bytes());
            }
            hasher.update(&(other.kept.len() as u64).to_le_bytes());
            for (e, a) in &other.kept {
                hasher.update(&e.0.to_le_bytes());
                hasher.update(&a.0.to_le_bytes());
            }
        }
        hasher.update(&self.t.to_le_bytes());
        hasher.update(&self.instant.to_le_bytes());
        hasher.update(digest);
        hasher.update(&self.nonce);
        CommitHash(*hasher.finalize().as_bytes())
    }

    /// The digest of this commit's datoms, which are in LOG order.
    pub(crate) fn digest(&self, datoms: &[Datom]) -> [u8; 32] {
        digest(datoms.iter().map(|datom| self.datom_hash(datom)))
    }

    /// The salted hash of one of this commit's datoms.
    fn datom_hash(&self, datom: &Datom) -> [u8; 32] {
        let mut salt = [0; 32];
        salt[..16].copy_from_slice(&self.nonce);
        let mut one = blake3::Hasher::new_keyed(&salt);
        one.update(&datom.e.0.to_le_bytes());
        one.update(&datom.a.0.to_le_bytes());
        one.update(&datom.tx.0.0.to_le_bytes());
        one.update(&[u8::from(datom.added), datom.v.value_type() as u8]);
        hash_value(&datom.v, &mut one);
        *one.finalize().as_bytes()
    }
}

/// The digest of a list of hashes of datoms.
fn digest(hashes: impl IntoIterator<Item = [u8; 32]>) -> [u8; 32] {
    let mut list = blake3::Hasher::new_derive_key("datomfusion 1 transaction data");
    for hash in hashes {
        list.update(&hash);
    }
    *list.finalize().as_bytes()
}

/// Feeds a value to a hash: fixed widths as they are, everything else behind its length.
fn hash_value(value: &Value, hasher: &mut blake3::Hasher) {
    fn sized(bytes: &[u8], hasher: &mut blake3::Hasher) {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    }
    match value {
        Value::Boolean(value) => sized(&[u8::from(*value)], hasher),
        Value::Long(value) | Value::Instant(value) => sized(&value.to_le_bytes(), hasher),
        Value::Ref(value) => sized(&value.0.to_le_bytes(), hasher),
        Value::Double(value) => sized(&value.to_le_bytes(), hasher),
        Value::Float(value) => sized(&value.to_le_bytes(), hasher),
        Value::BigInt(value) => sized(&value.to_signed_bytes_le(), hasher),
        Value::BigDec(value) => {
            let (digits, scale) = value.as_bigint_and_exponent();
            sized(&digits.to_signed_bytes_le(), hasher);
            sized(&scale.to_le_bytes(), hasher);
        }
        Value::String(text) | Value::Uri(text) => sized(text.as_bytes(), hasher),
        Value::Keyword(keyword) => sized(keyword.as_str().as_bytes(), hasher),
        Value::Symbol(symbol) => sized(symbol.as_str().as_bytes(), hasher),
        Value::Uuid(value) => sized(&value.to_be_bytes(), hasher),
        Value::Bytes(bytes) => sized(bytes, hasher),
        Value::Large(large) => sized(&large.hash.0, hasher),
        Value::Tuple(elements) => {
            sized(&(elements.len() as u64).to_le_bytes(), hasher);
            for element in elements.iter() {
                match element {
                    None => _ = hasher.update(&[0]),
                    Some(element) => {
                        hasher.update(&[element.value_type() as u8]);
                        hash_value(element, hasher);
                    }
                }
            }
        }
    }
}

/// An entry of the tree of commits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CommitRecord {
    /// The commit.
    pub(crate) pending: Pending,
    /// Its hash.
    pub(crate) hash: CommitHash,
    /// The digest of its data.
    pub(crate) digest: [u8; 32],
    /// Transactions `0..covered` lie in the trees of the last checkpoint at or before this commit.
    pub(crate) covered: u64,
    /// That checkpoint itself, if this commit made it.
    pub(crate) checkpoint: Option<Checkpoint>,
    /// What purges have left of its datoms: the place of each among all of them, ascending, and its hash.
    pub(crate) purged: Vec<(u64, [u8; 32])>,
}

/// The trees as of one commit, with what belongs to them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Checkpoint {
    /// Transactions `0..covered` lie in the trees.
    pub(crate) covered: u64,
    /// The seven trees of data, in the order of [`TreeName::DATA`].
    pub(crate) trees: [Tree; 7],
    /// Where the leaf of schema facts lies; `None` while there are none beyond the bootstrap.
    pub(crate) schema: Option<(NodeId, Location)>,
    /// How many entities each table has.
    pub(crate) tables: Vec<(Arc<str>, u64)>,
    /// The first entity id above all that these transactions have named, which is no larger on a branch from
    /// the past than where it began. What purges have taken counts.
    pub(crate) next_entid: Entid,
}

impl Default for Checkpoint {
    /// No transactions, no trees.
    fn default() -> Self {
        Self {
            covered: 0,
            trees: TreeName::DATA.map(Tree::empty),
            schema: None,
            tables: Vec::new(),
            next_entid: Entid::FIRST_USER,
        }
    }
}

impl Checkpoint {
    /// One of the seven trees.
    pub(crate) fn tree(&self, name: TreeName) -> &Tree {
        &self.trees[name as usize]
    }

    pub(crate) fn encode(&self, out: &mut Writer) {
        out.varint(self.covered);
        for tree in &self.trees {
            encode_tree(tree, out);
        }
        match &self.schema {
            None => out.u8(0),
            Some((id, location)) => {
                out.u8(1);
                out.raw(&id.0);
                encode_location(*location, out);
            }
        }
        encode_tables(&self.tables, out);
        out.zigzag(self.next_entid.0);
    }

    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        let covered = input.varint()?;
        let mut trees = TreeName::DATA.map(Tree::empty);
        for tree in &mut trees {
            *tree = decode_tree(tree.name, input)?;
        }
        let schema = match input.u8()? {
            0 => None,
            1 => Some((NodeId(input.array()?), decode_location(input)?)),
            _ => return Err(Malformed("a schema is neither absent nor present")),
        };
        let tables = decode_tables(input)?;
        let next_entid = Entid(input.zigzag()?);
        if next_entid < Entid::FIRST_USER || next_entid > Entid::TX0 {
            return Err(Malformed("the next entity id is out of range"));
        }
        Ok(Self {
            covered,
            trees,
            schema,
            tables,
            next_entid,
        })
    }
}

impl CommitRecord {
    /// The digest of the datoms that are there and of what purges have left of the others.
    pub(crate) fn digest_with(&self, datoms: &[Datom]) -> [u8; 32] {
        let slots = self.slots(datoms);
        digest(slots.into_iter().map(|slot| match slot {
            Slot::Left(hash) => hash,
            Slot::There(datom) => self.pending.datom_hash(datom),
        }))
    }

    /// This record after more of its datoms are gone; `datoms` are those that were there before.
    pub(crate) fn without(self, datoms: &[Datom], goes: impl Fn(&Datom) -> bool) -> Self {
        let purged = (0..)
            .zip(self.slots(datoms))
            .filter_map(|(place, slot)| match slot {
                Slot::Left(hash) => Some((place, hash)),
                Slot::There(datom) if goes(datom) => Some((place, self.pending.datom_hash(datom))),
                Slot::There(_) => None,
            })
            .collect();
        Self { purged, ..self }
    }

    fn slots<'d>(&self, datoms: &'d [Datom]) -> Vec<Slot<'d>> {
        let mut slots = Vec::with_capacity(datoms.len() + self.purged.len());
        let mut there = datoms.iter();
        for (place, hash) in &self.purged {
            // A place beyond the end makes a list that is too short: another digest.
            let gap = place.saturating_sub(slots.len() as u64);
            let gap = usize::try_from(gap).unwrap_or(usize::MAX);
            slots.extend(there.by_ref().take(gap).map(Slot::There));
            slots.push(Slot::Left(*hash));
        }
        slots.extend(there.map(Slot::There));
        slots
    }

    /// This record as an entry of the tree of commits.
    pub(crate) fn to_datom(&self) -> Datom {
        let mut out = Writer::new();
        self.pending.encode(&mut out);
        out.raw(&self.hash.0);
        out.raw(&self.digest);
        out.varint(self.covered);
        out.u8(u8::from(self.checkpoint.is_some()));
        if let Some(checkpoint) = &self.checkpoint {
            checkpoint.encode(&mut out);
        }
        out.count(self.purged.len());
        for (place, hash) in &self.purged {
            out.varint(*place);
            out.raw(hash);
        }
        let tx = crate::datom::TxId::from_t(self.pending.t);
        let t = i64::try_from(self.pending.t).unwrap_or(i64::MAX);
        Datom::add(Entid(t), Entid(0), Value::bytes(out.into_bytes()), tx)
    }

    /// Reads an entry of the tree of commits, whose body is at hand.
    pub(crate) fn from_datom(datom: &Datom) -> Result<Self> {
        let body = match &datom.v {
            Value::Bytes(bytes) => Some(bytes),
            Value::Large(large) => large.body.get(),
            _ => None,
        };
        let corrupt = |reason: &str| Error::corrupt(format!("commit {}", datom.e), reason);
        let body = body.ok_or_else(|| corrupt("its record is not bytes"))?;
        let mut input = Reader::new(body);
        let record = Self::decode(&mut input).map_err(|malformed| corrupt(malformed.0))?;
        if i64::try_from(record.pending.t) != Ok(datom.e.0) {
            return Err(corrupt("its record has another t"));
        }
        Ok(record)
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        let pending = Pending::decode(input)?;
        let hash = CommitHash(input.array()?);
        let digest = input.array()?;
        let covered = input.varint()?;
        let checkpoint = match input.u8()? {
            0 => None,
            1 => Some(Checkpoint::decode(input)?),
            _ => return Err(Malformed("a checkpoint is neither absent nor present")),
        };
        let count = input.count(33)?;
        let purged = (0..count)
            .map(|_| Ok((input.varint()?, input.array()?)))
            .collect::<Result<Vec<_>, _>>()?;
        if !purged.is_sorted_by(|left, right| left.0 < right.0) {
            return Err(Malformed("what a purge left is not in order"));
        }
        input.finish()?;
        if covered > pending.t.saturating_add(1) {
            return Err(Malformed("its checkpoint is younger than itself"));
        }
        Ok(Self {
            pending,
            hash,
            digest,
            covered,
            checkpoint,
            purged,
        })
    }
}

/// A datom of a transaction, or what a purge has left of it.
enum Slot<'d> {
    There(&'d Datom),
    Left([u8; 32]),
}

pub(crate) fn encode_tree(tree: &Tree, out: &mut Writer) {
    out.u8(u8::from(tree.root.is_some()));
    if let Some(root) = &tree.root {
        root.encode(out);
    }
}

pub(crate) fn decode_tree(name: TreeName, input: &mut Reader<'_>) -> Result<Tree, Malformed> {
    let root = match input.u8()? {
        0 => None,
        1 => Some(Root::decode(input)?),
        _ => return Err(Malformed("a tree is neither empty nor not")),
    };
    Ok(Tree { name, root })
}

pub(crate) fn encode_location(location: Location, out: &mut Writer) {
    out.raw(&location.pack.0);
    out.varint(location.offset);
    out.varint(u64::from(location.len));
}

pub(crate) fn decode_location(input: &mut Reader<'_>) -> Result<Location, Malformed> {
    Ok(Location {
        pack: PackId(input.array()?),
        offset: input.varint()?,
        len: u32::try_from(input.varint()?).map_err(|_| Malformed("a frame is too long"))?,
    })
}

fn encode_tables(tables: &[(Arc<str>, u64)], out: &mut Writer) {
    out.count(tables.len());
    for (namespace, entities) in tables {
        out.bytes(namespace.as_bytes());
        out.varint(*entities);
    }
}

fn decode_tables(input: &mut Reader<'_>) -> Result<Vec<(Arc<str>, u64)>, Malformed> {
    let count = input.count(2)?;
    (0..count)
        .map(|_| Ok((input.text()?.into(), input.varint()?)))
        .collect()
}
