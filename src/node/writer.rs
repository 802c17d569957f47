//! Writes nodes into packs, and the bodies of their large values before them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::Node;
use super::encode::{check_limits, encode, encode_body};
use super::large::{forgotten, unread};
use super::leaf::Leaf;
use super::loader::Loader;
use crate::error::{Error, Result};
use crate::id::{Location, NodeId, PackId};
use crate::store::{FrameKind, PackWriter};
use crate::value::Large;

/// Collects nodes into packs and puts each pack when it is full.
///
/// What was written is durable, and can be loaded, once [`NodeWriter::finish`] returns; most of it is in the cache
/// then. If that never happens, packs remain that nothing points to.
///
/// **Invariant.** A node in the cache leads to packs that are in the store. Whoever writes the same node a second time
/// puts it elsewhere; so a node that was cached before its pack was put, and whose writer gave up, would send all who
/// look it up by its hash to a pack that never came to be.
pub struct NodeWriter {
    loader: Arc<Loader>,
    new_pack: Box<dyn FnMut() -> PackId + Send>,
    pack_bytes: u64,
    open: Option<PackWriter>,
    /// The bodies that this writer has written.
    bodies: HashMap<NodeId, Location>,
    /// Nodes for the cache, once all that they lead to has been put.
    unput: VecDeque<(NodeId, Arc<Node>)>,
    unput_bytes: usize,
    written: Written,
}

/// Nodes that wait for their pack to be put, in bytes of memory. Beyond it the oldest are not cached: they are leaves,
/// mostly, of an import.
const UNPUT_BYTES: usize = 32 << 20;

/// What a [`NodeWriter`] has written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The packs, in the order in which they were put.
    pub packs: Vec<PackId>,
    /// How many nodes.
    pub nodes: u64,
    /// How many bodies of large values.
    pub bodies: u64,
    /// Bytes of the packs.
    pub bytes: u64,
}

impl NodeWriter {
    /// A pack is put once it is this long, in bytes.
    pub const PACK_BYTES: u64 = 64 << 20;

    /// A writer to the store of `loader`. `new_pack` makes identities, 128 random bits each.
    pub fn new(loader: Arc<Loader>, new_pack: Box<dyn FnMut() -> PackId + Send>) -> Self {
        Self {
            loader,
            new_pack,
            pack_bytes: Self::PACK_BYTES,
            open: None,
            bodies: HashMap::new(),
            unput: VecDeque::new(),
            unput_bytes: 0,
            written: Written::default(),
        }
    }

    /// Writes a node and says what it is called and where it will lie.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the node breaks a limit or a large value has neither a body nor a place;
    /// [`Error::Store`].
    pub async fn write(&mut self, node: Node) -> Result<(NodeId, Location)> {
        check_limits(&node)?;
        let node = match node {
            Node::Leaf(leaf) if leaf.has_large() => Node::from(self.write_bodies(&leaf).await?),
            node => node,
        };
        let encoded = encode(&node);
        let level = node.level();
        self.keep(encoded.id, node);
        let location = self
            .append(encoded.kind, level, encoded.id, &encoded.frame)
            .await?;
        self.written.nodes += 1;
        Ok((encoded.id, location))
    }

    /// Keeps a node for the cache.
    fn keep(&mut self, id: NodeId, node: Node) {
        self.unput_bytes += node.memory_bytes();
        self.unput.push_back((id, Arc::new(node)));
        while self.unput_bytes > UNPUT_BYTES
            && let Some((_, oldest)) = self.unput.pop_front()
        {
            self.unput_bytes -= oldest.memory_bytes();
        }
    }

    /// This writer, putting a pack once it is so long, in bytes.
    #[must_use]
    pub fn with_pack_bytes(self, pack_bytes: u64) -> Self {
        Self { pack_bytes, ..self }
    }

    /// Bytes that were written and not put.
    pub fn pending_bytes(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.len() as u64)
    }

    /// What has been written so far.
    pub fn written(&self) -> &Written {
        &self.written
    }

    /// Writes a leaf once more. Its bodies lie where `place` says; those that it does not know are read
    /// through `from`, which the leaf was read through, and written, too.
    ///
    /// # Errors
    ///
    /// As [`NodeWriter::write`], and those of reading the bodies.
    pub async fn copy(
        &mut self,
        leaf: &Leaf,
        from: &Loader,
        place: impl Fn(&Large) -> Option<Location>,
    ) -> Result<(NodeId, Location)> {
        let mut larges = leaf.larges();
        larges.retain(|large| place(large).is_none() && !self.bodies.contains_key(&large.hash));
        from.resolve_larges(larges).await?;
        let leaf = leaf.map_large(|large| match place(large) {
            Some(place) => unread(large, Some(place)),
            None => forgotten(large),
        });
        self.write(Node::from(leaf)).await
    }

    /// Puts what has not been put yet.
    ///
    /// # Errors
    ///
    /// [`Error::Store`].
    pub async fn finish(mut self) -> Result<Written> {
        self.put().await?;
        Ok(self.written)
    }

    /// Writes the bodies that have no place yet; the leaf that comes back knows the places of all and
    /// holds none, so that it weighs in the cache what the cache believes.
    async fn write_bodies(&mut self, leaf: &Leaf) -> Result<Leaf> {
        for large in leaf.larges() {
            if large.location.is_some() || self.bodies.contains_key(&large.hash) {
                continue;
            }
            let body = large.body.get().ok_or_else(|| {
                Error::invalid(format!(
                    "value {} has neither a body nor a place",
                    large.hash
                ))
            })?;
            let frame = encode_body(body);
            let location = self.append(FrameKind::Blob, 0, large.hash, &frame).await?;
            self.bodies.insert(large.hash, location);
            self.written.bodies += 1;
        }
        Ok(leaf.map_large(|large| {
            unread(
                large,
                large
                    .location
                    .or_else(|| self.bodies.get(&large.hash).copied()),
            )
        }))
    }

    async fn append(
        &mut self,
        kind: FrameKind,
        level: u8,
        hash: NodeId,
        frame: &[u8],
    ) -> Result<Location> {
        let new_pack = &mut self.new_pack;
        let open = self.open.get_or_insert_with(|| PackWriter::new(new_pack()));
        let location = open.append(kind, level, hash, frame);
        if open.len() as u64 >= self.pack_bytes {
            self.put().await?;
        }
        Ok(location)
    }

    async fn put(&mut self) -> Result<()> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let (id, body) = (open.id(), open.finish());
        self.written.bytes += body.len() as u64;
        self.written.packs.push(id);
        self.loader.store().put_pack(id, body).await?;
        // What they lead to lies in this pack or in one that was put before.
        for (id, node) in self.unput.drain(..) {
            self.loader.insert(id, node);
        }
        self.unput_bytes = 0;
        Ok(())
    }
}

impl std::fmt::Debug for NodeWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeWriter")
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datom::{Datom, Entid, TxId};
    use crate::index::TreeName;
    use crate::node::Child;
    use crate::store::Store;
    use crate::value::Value;

    fn new_writer(loader: &Arc<Loader>) -> NodeWriter {
        let mut next = u8::try_from(loader.loads().nodes).unwrap();
        let new_pack = move || {
            next += 1;
            PackId([next; 16])
        };
        NodeWriter::new(Arc::clone(loader), Box::new(new_pack))
    }

    fn leaf(values: impl IntoIterator<Item = Value>) -> Leaf {
        let datoms: Vec<Datom> = (1..)
            .zip(values)
            .map(|(e, v)| Datom::add(Entid(e), Entid(7), v, TxId::from_t(1)))
            .collect();
        Leaf::from_datoms(&datoms)
    }

    fn loaded(node: &Node) -> &Leaf {
        match node {
            Node::Leaf(leaf) => leaf,
            Node::Inner(_) => panic!("a leaf was written"),
        }
    }

    #[tokio::test]
    async fn what_is_put_is_loaded_from_the_cache_and_from_the_store() {
        let store = Store::memory();
        let loader = Arc::new(Loader::new(store.clone()));
        let mut writer = new_writer(&loader);
        let rows = leaf([Value::Long(1), Value::string("two")]);
        let (id, location) = writer.write(Node::from(rows.clone())).await.unwrap();
        let child = Child {
            last: rows.datom(1),
            id,
            count: 2,
            location,
        };
        let inner =
            Node::Inner(crate::node::Inner::try_new(TreeName::Eavt.order(), 1, [child]).unwrap());
        let (root, root_location) = writer.write(inner.clone()).await.unwrap();
        let written = writer.finish().await.unwrap();
        assert_eq!((written.nodes, written.packs.len()), (2, 1));
        assert_eq!(store.requests().puts, 1);
        assert_eq!(loaded(&loader.load(id, location).await.unwrap()), &rows);
        assert_eq!(store.requests().gets, 0);

        let cold = Loader::new(store.clone());
        let nodes = cold
            .load_many(&[(root, root_location), (id, location)])
            .await
            .unwrap();
        assert_eq!(*nodes[0], inner);
        assert_eq!(loaded(&nodes[1]), &rows);
        assert_eq!(store.requests().gets, 1, "neighbours come in one request");
        cold.load(id, location).await.unwrap();
        assert_eq!(store.requests().gets, 1);
        assert_eq!((cold.loads().nodes, cold.loads().hits), (2, 1));
    }

    #[tokio::test]
    async fn a_writer_that_gives_up_leaves_nothing_in_the_cache() {
        let store = Store::memory();
        let loader = Arc::new(Loader::new(store.clone()));
        let body = Value::string("long ".repeat(1000));
        let rows = Node::from(leaf([body]));
        let mut given_up = new_writer(&loader);
        given_up.write(rows.clone()).await.unwrap();
        drop(given_up);

        // Somebody else writes the same, and it is read through the loader of the first.
        let other = Arc::new(Loader::new(store.clone()));
        let mut writer = NodeWriter::new(Arc::clone(&other), Box::new(|| PackId([99; 16])));
        let (id, location) = writer.write(rows).await.unwrap();
        writer.finish().await.unwrap();
        let node = loader.load(id, location).await.unwrap();
        let places = loaded(&node)
            .larges()
            .into_iter()
            .map(|l| l.location.unwrap().pack);
        assert_eq!(places.collect::<Vec<_>>(), [PackId([99; 16])]);
        loader.resolve(loaded(&node), 0..1).await.unwrap();
    }

    #[tokio::test]
    async fn a_body_is_written_once_and_read_only_when_it_is_asked_for() {
        let store = Store::memory();
        let loader = Arc::new(Loader::new(store.clone()));
        let mut writer = new_writer(&loader);
        let long = "long ".repeat(1000);
        let nested = Value::Tuple([None, Some(Value::string(long.clone()))].into());
        let rows = leaf([
            Value::Long(1),
            Value::string(long.clone()),
            nested,
            Value::bytes([9; 3000]),
        ]);
        let (id, location) = writer.write(Node::from(rows.clone())).await.unwrap();
        assert_eq!(writer.finish().await.unwrap().bodies, 2);

        let cold = Loader::new(store.clone());
        let node = cold.load(id, location).await.unwrap();
        cold.resolve(loaded(&node), 0..1).await.unwrap();
        assert_eq!(cold.loads().bodies, 0);
        cold.resolve(loaded(&node), 0..4).await.unwrap();
        assert_eq!((cold.loads().bodies, store.requests().gets), (2, 2));
        assert_eq!(loaded(&node).values().value(1).as_str(), Some(&*long));
        assert!(
            loaded(&node)
                .larges()
                .iter()
                .all(|large| large.body.get().is_some())
        );

        // The cache keeps bodies beside the node: loaded again, the values are unread but cost nothing.
        let again = cold.load(id, location).await.unwrap();
        assert!(
            loaded(&again)
                .larges()
                .iter()
                .all(|large| large.body.get().is_none())
        );
        cold.resolve(loaded(&again), 0..4).await.unwrap();
        assert_eq!((cold.loads().bodies, store.requests().gets), (2, 2));

        // Written again, by whoever read it, the bodies stay where they are.
        let mut writer = new_writer(&Arc::new(cold));
        let (same, _) = writer
            .write(Node::from(loaded(&again).clone()))
            .await
            .unwrap();
        assert_eq!(same, id);
        assert_eq!(writer.finish().await.unwrap().bodies, 0);
    }

    #[tokio::test]
    async fn a_wrong_place_is_found_out_by_its_hash() {
        let store = Store::memory();
        let loader = Arc::new(Loader::new(store.clone()));
        let mut writer = new_writer(&loader);
        let [one, two] = [1, 2].map(|long| Node::from(leaf([Value::Long(long)])));
        let (one, _) = writer.write(one).await.unwrap();
        let (_, elsewhere) = writer.write(two).await.unwrap();
        writer.finish().await.unwrap();
        let error = Loader::new(store).load(one, elsewhere).await.unwrap_err();
        let expected = format!(
            "node {one} in pack {} at {}",
            elsewhere.pack, elsewhere.offset
        );
        assert!(
            matches!(&error, Error::Corrupt { object, .. } if *object == expected),
            "{error}"
        );
    }

    #[tokio::test]
    async fn equal_requests_under_way_become_one() {
        let store = Store::memory();
        let loader = Arc::new(Loader::new(store.clone()));
        let mut writer = new_writer(&loader);
        let (id, location) = writer
            .write(Node::from(leaf([Value::Long(1)])))
            .await
            .unwrap();
        writer.finish().await.unwrap();
        let cold = Loader::new(store.clone());
        let loads = futures::future::join_all((0..10).map(|_| cold.load(id, location))).await;
        assert!(loads.iter().all(Result::is_ok));
        assert_eq!(store.requests().gets, 1);
    }

    #[tokio::test]
    async fn a_node_beyond_the_limits_is_refused_before_anything_is_written() {
        let loader = Arc::new(Loader::new(Store::memory()));
        let mut writer = new_writer(&loader);
        let keyword = datomfusion_datalog::edn::Keyword::new("x".repeat(9 << 20));
        let refused = writer
            .write(Node::from(leaf([Value::Keyword(keyword)])))
            .await;
        assert!(matches!(refused, Err(Error::Invalid(_))));
        assert_eq!(writer.finish().await.unwrap(), Written::default());
    }
}
