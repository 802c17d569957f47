//! What two trees of one name do not have in common.
//!
//! Both are walked at once in key order. Where the next part of either is the same node, it is skipped
//! unread; so the cost follows the changes, also where heights or boundaries differ.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use futures::{Stream, stream};

use super::{InnerNode, Root, Tree, load_leaf};
use crate::datom::Datom;
use crate::error::{Error, Result};
use crate::index::TreeOrder;
use crate::node::{Leaf, Loader};

/// Children that one request may ask for.
const AHEAD_MAX: usize = 16;

/// A datom that one tree has and the other has not.
///
/// A fact of a current tree that both have, but said by different transactions, is two differences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Only the left tree has it.
    Left(Datom),
    /// Only the right tree has it.
    Right(Datom),
}

impl Difference {
    /// The datom.
    pub fn datom(&self) -> &Datom {
        match self {
            Self::Left(datom) | Self::Right(datom) => datom,
        }
    }
}

/// Streams the differences of two trees in key order, left before right where keys are equal.
///
/// Reads at most a few paths for each run of differences. The trees may lie in different stores.
///
/// # Errors
///
/// [`Error::Invalid`] if the trees differ in order; [`Error::Corrupt`], [`Error::Store`].
pub fn diff<'l>(
    loaders: (&'l Loader, &'l Loader),
    left: &Tree,
    right: &Tree,
) -> impl Stream<Item = Result<Difference>> + Send + 'l {
    stream::try_unfold(Diff::new(left, right), move |mut diff| async move {
        let next = diff.next(loaders).await?;
        Ok(next.map(|difference| (difference, diff)))
    })
}

/// A comparison in progress; what [`diff`] does, for callers that keep their own loaders.
pub struct Diff {
    order: TreeOrder,
    comparable: bool,
    left: Side,
    right: Side,
    ready: VecDeque<Difference>,
}

impl Diff {
    /// A comparison that has read nothing yet.
    pub fn new(left: &Tree, right: &Tree) -> Self {
        Self {
            order: left.name.order(),
            comparable: left.name.order() == right.name.order(),
            left: Side::new(left),
            right: Side::new(right),
            ready: VecDeque::new(),
        }
    }

    /// The next difference in key order. The loaders are those of the left and of the right tree.
    ///
    /// # Errors
    ///
    /// As [`diff`].
    pub async fn next(&mut self, loaders: (&Loader, &Loader)) -> Result<Option<Difference>> {
        while self.ready.is_empty() {
            if !self.advance(loaders).await? {
                return Ok(None);
            }
        }
        Ok(self.ready.pop_front())
    }

    /// Takes one step; `false` at the end of both trees.
    async fn advance(&mut self, (ours, theirs): (&Loader, &Loader)) -> Result<bool> {
        if !self.comparable {
            return Err(Error::invalid(
                "trees of different order have no difference",
            ));
        }
        match (self.left.head(), self.right.head()) {
            (Head::End, Head::End) => return Ok(false),
            (Head::Rows, Head::Rows) => self.compare_rows(),
            (Head::Rows, Head::End) => self.left.take_rows(Difference::Left, &mut self.ready),
            (Head::End, Head::Rows) => self.right.take_rows(Difference::Right, &mut self.ready),
            (Head::Node(left), Head::Node(right)) => {
                if left.id == right.id {
                    self.left.skip();
                    self.right.skip();
                } else if left.level == right.level {
                    let (left, right) =
                        futures::join!(self.left.open(ours, left), self.right.open(theirs, right));
                    left.and(right)?;
                    self.read_ahead((ours, theirs)).await?;
                } else if left.level > right.level {
                    self.left.open(ours, left).await?;
                } else {
                    self.right.open(theirs, right).await?;
                }
            }
            // Where a node begins is known only once its first leaf is open.
            (Head::Node(left), _) => self.left.open(ours, left).await?,
            (_, Head::Node(right)) => self.right.open(theirs, right).await?,
        }
        Ok(true)
    }

    /// Compares rows until one of the two leaves is used up.
    fn compare_rows(&mut self) {
        let Self {
            order,
            left,
            right,
            ready,
            ..
        } = self;
        let (Some(Frame::Leaf(a, i)), Some(Frame::Leaf(b, j))) =
            (left.path.last_mut(), right.path.last_mut())
        else {
            return;
        };
        while *i < a.len() && *j < b.len() {
            let compared = a.compare_with(*i, *order, b, *j);
            let same =
                compared.is_eq() && a.tx()[*i] == b.tx()[*j] && a.is_added(*i) == b.is_added(*j);
            if !same && compared.is_le() {
                ready.push_back(Difference::Left(a.datom(*i)));
            }
            if !same && compared.is_ge() {
                ready.push_back(Difference::Right(b.datom(*j)));
            }
            *i += usize::from(compared.is_le());
            *j += usize::from(compared.is_ge());
        }
    }

    /// After two inner nodes were opened together, reads those children that only one of them has.
    async fn read_ahead(&mut self, loaders: (&Loader, &Loader)) -> Result<()> {
        let (Some(Frame::Inner(left, _)), Some(Frame::Inner(right, _))) =
            (self.left.path.last(), self.right.path.last())
        else {
            return Ok(());
        };
        let wanted = |node: &InnerNode, other: &InnerNode| {
            let shared: HashSet<_> = other.ids().iter().collect();
            let own = node.ids().iter().zip(node.locations());
            own.filter(|(id, _)| !shared.contains(id))
                .map(|(id, location)| (*id, *location))
                .take(AHEAD_MAX)
                .collect::<Vec<_>>()
        };
        let (ours, theirs) = (wanted(left, right), wanted(right, left));
        let (ours, theirs) =
            futures::join!(loaders.0.load_many(&ours), loaders.1.load_many(&theirs));
        // What was read is in the cache; the walk asks for it in its own time.
        ours.and(theirs).map(|_| ())
    }
}

/// What comes next in a tree.
enum Head {
    /// A node that has not been read.
    Node(Root),
    /// Rows of an open leaf.
    Rows,
    /// Nothing.
    End,
}

/// A place in one of the trees.
struct Side {
    /// The root, before it is opened or skipped.
    root: Option<Root>,
    path: Vec<Frame>,
}

/// An open node and its first child or row that has not been dealt with.
enum Frame {
    Inner(InnerNode, usize),
    Leaf(Arc<Leaf>, usize),
}

impl Side {
    fn new(tree: &Tree) -> Self {
        Self {
            root: tree.root,
            path: Vec::new(),
        }
    }

    fn head(&mut self) -> Head {
        if let Some(root) = self.root {
            return Head::Node(root);
        }
        loop {
            match self.path.last() {
                None => return Head::End,
                Some(Frame::Inner(node, at)) if *at < node.len() => {
                    return Head::Node(node.place(*at));
                }
                Some(Frame::Leaf(leaf, at)) if *at < leaf.len() => return Head::Rows,
                Some(_) => {
                    self.path.pop();
                }
            }
        }
    }

    /// Passes over the node at the head.
    fn skip(&mut self) {
        if self.root.take().is_none()
            && let Some(Frame::Inner(_, at)) = self.path.last_mut()
        {
            *at += 1;
        }
    }

    /// Opens the node at the head.
    async fn open(&mut self, loader: &Loader, place: Root) -> Result<()> {
        let frame = if place.level == 0 {
            Frame::Leaf(load_leaf(loader, &place).await?, 0)
        } else {
            Frame::Inner(InnerNode::load(loader, &place).await?, 0)
        };
        self.skip();
        self.path.push(frame);
        Ok(())
    }

    /// Takes the rest of the open leaf.
    fn take_rows(&mut self, side: fn(Datom) -> Difference, out: &mut VecDeque<Difference>) {
        if let Some(Frame::Leaf(leaf, at)) = self.path.last_mut() {
            out.extend((*at..leaf.len()).map(|i| side(leaf.datom(i))));
            *at = leaf.len();
        }
    }
}
