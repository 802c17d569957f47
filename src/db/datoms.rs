//! Reading datoms one by one: for people, for transactions and for tests. Tables scan by leaf instead.

use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

use super::Db;
use super::merge::{gathered, resolved};
use crate::datom::Datom;
use crate::error::{Error, Result};
use crate::index::{Components, Index, Range, TreeName};
use crate::tree;

impl Db {
    /// The datoms that begin with these components, in index order.
    ///
    /// AVET holds attributes that are indexed, unique or references; asking it for another is an error
    /// rather than an empty answer. Cost: the height of the tree, then the leaves of the range.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the components do not lead in the index.
    pub fn datoms(
        &self,
        index: Index,
        components: Components,
    ) -> Result<BoxStream<'static, Result<Datom>>> {
        if !components.lead(index) {
            return Err(Error::invalid(
                "components must lead in the index: e a v for eavt, a e v for aevt, a v e for avet, \
                 tx for the log",
            ));
        }
        if let (Index::Avet, Some(a)) = (index, components.a)
            && !self.in_avet(a)
        {
            let name = self
                .ident(a)
                .map_or_else(|| a.to_string(), ToString::to_string);
            return Err(Error::invalid(format!(
                "{name} does not lie in avet; give it :db/index true, or ask aevt"
            )));
        }
        Ok(self.stream(index, Range::prefix(components)))
    }

    /// The datoms of a range in index order, large values with their bodies.
    pub(crate) fn stream(&self, index: Index, range: Range) -> BoxStream<'static, Result<Datom>> {
        resolved(self.loader(), self.scan(index, range))
            .map_ok(|slice| {
                let datoms: Vec<_> = slice.rows.map(|row| Ok(slice.leaf.datom(row))).collect();
                stream::iter(datoms)
            })
            .try_flatten()
            .boxed()
    }

    /// [`Db::stream`] to its end.
    pub(crate) async fn collect(&self, index: Index, range: &Range) -> Result<Vec<Datom>> {
        gathered(self.loader(), self.scan(index, range.clone())).await
    }

    /// The first datom of a range. A large value may lack its body.
    pub(crate) async fn first(&self, index: Index, range: &Range) -> Result<Option<Datom>> {
        let slice = self.scan(index, range.clone()).try_next().await?;
        Ok(slice.map(|slice| slice.leaf.datom(slice.rows.start)))
    }

    /// How many current facts lie in a range, exactly, without reading leaves that lie whole inside.
    ///
    /// Views of history and `since` have no counts in their trees and are scanned.
    pub(crate) async fn count(&self, index: Index, range: &Range) -> Result<u64> {
        let scanned = self.0.since.is_some() || self.0.history || index == Index::Log;
        if scanned || (index == Index::Avet && !self.has_avet(range)) {
            let rows = self
                .scan(index, range.clone())
                .map_ok(|slice| slice.rows.len() as u64);
            return rows
                .try_fold(0, |sum, rows| std::future::ready(Ok(sum + rows)))
                .await;
        }
        let tree = self.0.checkpoint.tree(TreeName::current(index));
        let stored = tree::count(self.loader(), tree, range).await?;
        stored
            .checked_add_signed(self.0.tail.count(index, range))
            .ok_or_else(|| {
                Error::corrupt(
                    format!("{} tree", tree.name),
                    "the tail deletes more than it holds",
                )
            })
    }
}
