//! The head of a branch: the one object that changes, and all that opening a database reads.
//!
//! The format is described in `db/FORMAT.md`. The last 32 bytes are a BLAKE3 checksum of the rest,
//! because a head has no identity that could be verified otherwise.

use bytes::Bytes;

use super::commit::{Checkpoint, Pending, decode_tree, encode_tree};
use crate::datom::{Datom, Entid};
use crate::error::{Error, Result};
use crate::id::{BranchName, CommitHash, CommitId, DatabaseId, NodeId};
use crate::index::TreeName;
use crate::node::{Era, Leaf, Loader, Node, encode};
use crate::schema::Schema;
use crate::tree::Tree;
use crate::value::{Large, Value};
use crate::wire::{Malformed, Reader, Writer};

const MAGIC: &[u8; 8] = b"DFUSHEAD";
/// The format version that this release writes, and the newest that it reads.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// Most bytes of a head.
pub(crate) const HEAD_BYTES_MAX: usize = 64 << 10;
/// Most bytes of an encoded tail with the values that do not fit in nodes.
pub(crate) const TAIL_BYTES_MAX: usize = 32 << 10;
/// Most transactions of a tail.
pub(crate) const TAIL_TRANSACTIONS_MAX: usize = 192;
/// Most bytes of an inline schema and statistics.
pub(crate) const SCHEMA_BYTES_MAX: usize = 16 << 10;
/// Datoms beyond which a tail is not even tried: they would not fit.
const TAIL_DATOMS_MAX: usize = 16 << 10;

/// A decoded head.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) database: DatabaseId,
    pub(crate) branch: BranchName,
    /// Counts the swaps of this head.
    pub(crate) generation: u64,
    /// Counts the garbage collections that this head has seen.
    pub(crate) gc_epoch: u64,
    /// Counts the purges that its past has seen.
    pub(crate) purges: u64,
    /// When the branch was deleted, if it was: then this head is its tombstone, which keeps what it held.
    pub(crate) deleted: Option<i64>,
    /// The newest commit.
    pub(crate) commit: CommitId,
    /// The trees.
    pub(crate) checkpoint: Checkpoint,
    /// The commit that the checkpoint belongs to; zeros before the first.
    pub(crate) checkpoint_commit: CommitHash,
    /// The instant of that commit.
    pub(crate) checkpoint_instant: i64,
    /// The tree of commits, which holds those of the transactions in the trees.
    pub(crate) commits: Tree,
    /// The schema of the checkpoint, if it is small enough to lie here.
    pub(crate) schema: Option<Schema>,
    /// The next entity id.
    pub(crate) next_entid: Entid,
    /// The commits since the checkpoint.
    pub(crate) pending: Vec<Pending>,
    /// Their datoms, in LOG order.
    pub(crate) log: Vec<Datom>,
}

impl Head {
    /// This head without what waits in it, which is not copied either.
    pub(crate) fn without_tail(&self) -> Self {
        Self {
            database: self.database,
            branch: self.branch.clone(),
            generation: self.generation,
            gc_epoch: self.gc_epoch,
            purges: self.purges,
            deleted: self.deleted,
            commit: self.commit,
            checkpoint: self.checkpoint.clone(),
            checkpoint_commit: self.checkpoint_commit,
            checkpoint_instant: self.checkpoint_instant,
            commits: self.commits,
            schema: self.schema.clone(),
            next_entid: self.next_entid,
            pending: Vec::new(),
            log: Vec::new(),
        }
    }

    /// Encodes the head; `None` if it would exceed a bound, so that a checkpoint is due.
    pub(crate) fn encode(&self) -> Option<Bytes> {
        if self.log.len() > TAIL_DATOMS_MAX || self.pending.len() > TAIL_TRANSACTIONS_MAX {
            return None;
        }
        let mut out = Writer::new();
        out.raw(MAGIC);
        out.u32(FORMAT_VERSION);
        out.raw(&self.database.0);
        out.bytes(self.branch.as_str().as_bytes());
        out.varint(self.generation);
        out.varint(self.gc_epoch);
        out.u8(u8::from(self.deleted.is_some()));
        if let Some(deleted) = self.deleted {
            out.zigzag(deleted);
        }
        out.varint(self.commit.t);
        out.raw(&self.commit.hash.0);
        self.checkpoint.encode(&mut out);
        out.raw(&self.checkpoint_commit.0);
        out.zigzag(self.checkpoint_instant);
        encode_tree(&self.commits, &mut out);
        out.varint(self.purges);
        match self
            .schema
            .as_ref()
            .map(schema_frame)
            .filter(|frame| frame.len() <= SCHEMA_BYTES_MAX)
        {
            Some(frame) => out.bytes(&frame),
            None => out.count(0),
        }
        out.zigzag(self.next_entid.0);
        out.count(self.pending.len());
        for pending in &self.pending {
            pending.encode(&mut out);
        }
        // Room for tail segments by hash.
        out.u8(0);
        let before = out.len();
        encode_log(&self.log, &mut out);
        if out.len() - before > TAIL_BYTES_MAX && !self.log.is_empty() {
            return None;
        }
        let checksum = blake3::hash(out.as_slice());
        out.raw(checksum.as_bytes());
        (out.len() <= HEAD_BYTES_MAX || self.log.is_empty()).then(|| out.into_bytes().into())
    }

    /// Decodes a head that was read from `object`.
    pub(crate) fn decode(bytes: &[u8], object: &str) -> Result<Self> {
        let corrupt = |malformed: Malformed| Error::corrupt(object, malformed.0);
        let (body, checksum) = bytes
            .split_last_chunk::<32>()
            .ok_or_else(|| corrupt(Malformed("it is cut short")))?;
        let mut input = Reader::new(body);
        if input.array::<8>().map_err(corrupt)? != *MAGIC {
            return Err(corrupt(Malformed(
                "it is no head of a DatomFusion database",
            )));
        }
        let version = input.u32().map_err(corrupt)?;
        // Before the checksum: a newer release may place it elsewhere.
        if version > FORMAT_VERSION {
            let object = object.to_owned();
            return Err(Error::NewerFormat {
                object,
                version,
                supported: FORMAT_VERSION,
            });
        }
        if blake3::hash(body).as_bytes() != checksum {
            return Err(corrupt(Malformed("its checksum does not match")));
        }
        Self::decode_body(&mut input, object)
    }

    fn decode_body(input: &mut Reader<'_>, object: &str) -> Result<Self> {
        let corrupt = |malformed: Malformed| Error::corrupt(object, malformed.0);
        let mut fixed = || -> Result<_, Malformed> {
            let database = DatabaseId(input.array()?);
            let branch = BranchName::try_new(input.text()?)
                .map_err(|_| Malformed("its branch has no valid name"))?;
            let (generation, gc_epoch) = (input.varint()?, input.varint()?);
            let deleted = match input.u8()? {
                0 => None,
                1 => Some(input.zigzag()?),
                _ => return Err(Malformed("it is neither a branch nor a tombstone")),
            };
            let commit = CommitId {
                t: input.varint()?,
                hash: CommitHash(input.array()?),
            };
            let checkpoint = Checkpoint::decode(input)?;
            let checkpoint_commit = CommitHash(input.array()?);
            let checkpoint_instant = input.zigzag()?;
            let commits = decode_tree(TreeName::Commits, input)?;
            let purges = input.varint()?;
            let schema = input.bytes()?;
            let next_entid = Entid(input.zigzag()?);
            let count = input.count(20)?;
            let pending = (0..count)
                .map(|_| Pending::decode(input))
                .collect::<Result<Vec<_>, _>>()?;
            if input.u8()? != 0 {
                return Err(Malformed(
                    "it names tail segments, which this version has not",
                ));
            }
            let head = Self {
                database,
                branch,
                generation,
                gc_epoch,
                purges,
                deleted,
                commit,
                checkpoint,
                checkpoint_commit,
                checkpoint_instant,
                commits,
                schema: None,
                next_entid,
                pending,
                log: Vec::new(),
            };
            Ok((head, schema))
        };
        let (mut head, schema) = fixed().map_err(corrupt)?;
        if !schema.is_empty() {
            head.schema = Some(schema_from_frame(schema, object)?);
        }
        head.log = decode_log(input, object)?;
        input.finish().map_err(corrupt)?;
        head.check().map_err(corrupt)?;
        Ok(head)
    }

    /// What must hold between the parts of a head.
    fn check(&self) -> Result<(), Malformed> {
        let consecutive = self
            .pending
            .iter()
            .zip(self.checkpoint.covered..)
            .all(|(p, t)| p.t == t);
        let pending = self.pending.len() as u64;
        if !consecutive || self.checkpoint.covered + pending != self.commit.t.saturating_add(1) {
            return Err(Malformed("its commits are not consecutive"));
        }
        let order = TreeName::Log.order();
        if !self
            .log
            .is_sorted_by(|left, right| order.compare(left, right).is_lt())
        {
            return Err(Malformed("its tail is not sorted"));
        }
        let ts = self.checkpoint.covered..=self.commit.t;
        if !self
            .log
            .iter()
            .all(|datom| datom.tx.0.is_tx() && ts.contains(&datom.tx.t()))
        {
            return Err(Malformed("its tail has datoms of other transactions"));
        }
        if self.next_entid < Entid::FIRST_USER || self.next_entid > Entid::TX0 {
            return Err(Malformed("the next entity id is out of range"));
        }
        Ok(())
    }
}

impl Head {
    /// The tombstone that is left when nothing is kept for it any more: it names its commit and no tree.
    pub(crate) fn emptied(self) -> Self {
        let newest = self.pending.last();
        Self {
            checkpoint: Checkpoint {
                covered: self.commit.t.saturating_add(1),
                ..Checkpoint::default()
            },
            checkpoint_commit: self.commit.hash,
            checkpoint_instant: newest.map_or(self.checkpoint_instant, |newest| newest.instant),
            commits: Tree::empty(TreeName::Commits),
            schema: None,
            pending: Vec::new(),
            log: Vec::new(),
            ..self
        }
    }

    /// Reads the root of each tree, and the schema, from where they are said to lie: past every cache, one request or
    /// a few.
    pub(crate) async fn lies_there(&self, loader: &Loader) -> Result<()> {
        let trees = self.checkpoint.trees.iter().chain([&self.commits]);
        let roots = trees.filter_map(|tree| tree.root.map(|root| (root.id, root.location)));
        let roots: Vec<_> = roots.chain(self.checkpoint.schema).collect();
        loader.load_here(&roots).await.map(drop)
    }

    /// Where nodes lie, and which, is the same in all values of one era: neither a garbage collection nor
    /// a purge lies between them.
    pub(crate) fn era(&self) -> Era {
        Era {
            gc_epoch: self.gc_epoch,
            purges: self.purges,
        }
    }

    /// Whether [`Head::emptied`] made it.
    pub(crate) fn is_emptied(&self) -> bool {
        self.checkpoint.covered > 0 && self.commits.root.is_none()
    }
}

/// The facts of a schema as the frame of a leaf.
pub(crate) fn schema_frame(schema: &Schema) -> Vec<u8> {
    encode(&schema_node(schema)).frame
}

/// The facts of a schema as a leaf, in EAVT order; the transactions that said them do not matter.
pub(crate) fn schema_node(schema: &Schema) -> Node {
    let tx = crate::datom::TxId::from_t(0);
    let datoms: Vec<_> = schema
        .facts()
        .map(|(e, a, v)| Datom::add(e, a, v.clone(), tx))
        .collect();
    Node::from(Leaf::from_datoms(&datoms))
}

/// The schema that a leaf of facts describes.
pub(crate) fn schema_from_leaf(leaf: &Leaf) -> Schema {
    Schema::from_facts((0..leaf.len()).map(|row| {
        let datom = leaf.datom(row);
        (datom.e, datom.a, datom.v)
    }))
}

fn schema_from_frame(frame: &[u8], object: &str) -> Result<Schema> {
    match decode_unidentified(frame, object)? {
        Node::Leaf(leaf) => Ok(schema_from_leaf(&leaf)),
        Node::Inner(_) => Err(Error::corrupt(object, "its schema is not a leaf")),
    }
}

/// Writes a leaf of log datoms, then the bodies of its large values in order.
fn encode_log(log: &[Datom], out: &mut Writer) {
    if log.is_empty() {
        out.count(0);
        return;
    }
    // Bodies lie here, so where else they lie does not matter: garbage collection may move them.
    let unplaced = |datom: &Datom| match &datom.v {
        Value::Large(_) => Datom {
            v: datom.v.unplaced(),
            ..datom.clone()
        },
        _ => datom.clone(),
    };
    let leaf: Vec<Datom> = log.iter().map(unplaced).collect();
    out.bytes(&encode(&Node::from(Leaf::from_datoms(&leaf))).frame);
    for large in log.iter().filter_map(large) {
        // A tail is made of values that were transacted or read whole.
        out.bytes(large.body.get().map_or(&[], |body| body));
    }
}

fn decode_log(input: &mut Reader<'_>, object: &str) -> Result<Vec<Datom>> {
    let corrupt = |malformed: Malformed| Error::corrupt(object, malformed.0);
    let frame = input.bytes().map_err(corrupt)?;
    if frame.is_empty() {
        return Ok(Vec::new());
    }
    let Node::Leaf(leaf) = decode_unidentified(frame, object)? else {
        return Err(Error::corrupt(object, "its tail is not a leaf"));
    };
    let log: Vec<_> = (0..leaf.len()).map(|row| leaf.datom(row)).collect();
    for large in log.iter().filter_map(large) {
        let body = input.bytes().map_err(corrupt)?;
        if NodeId::of(body) != large.hash || body.len() as u64 != large.len {
            return Err(Error::corrupt(
                object,
                "a value of its tail has another hash",
            ));
        }
        if large.value_type != crate::value::ValueType::Bytes && std::str::from_utf8(body).is_err()
        {
            return Err(Error::corrupt(object, "a text of its tail is not UTF-8"));
        }
        // A second datom with the same value finds the body in place.
        let _ = large.body.set(body.into());
    }
    Ok(log)
}

fn large(datom: &Datom) -> Option<&Large> {
    if let Value::Large(large) = &datom.v {
        Some(large)
    } else {
        None
    }
}

/// Decodes a node inside the head, which the head's own checksum vouches for.
fn decode_unidentified(frame: &[u8], object: &str) -> Result<Node> {
    crate::node::decode_trusted(frame)
        .map_err(|malformed| Error::corrupt(object, malformed.to_string()))
}

impl Head {
    /// The datoms of one transaction since the checkpoint.
    pub(crate) fn log_of(&self, t: u64) -> &[Datom] {
        let tx = crate::datom::TxId::from_t(t);
        let start = self.log.partition_point(|datom| datom.tx < tx);
        let end = self.log.partition_point(|datom| datom.tx <= tx);
        &self.log[start..end]
    }
}
