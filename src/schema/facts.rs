//! What has been said about one entity with an ident.

use crate::datom::Entid;
use crate::schema::attrs;
use crate::value::Value;

/// The describing facts of one entity, sorted by attribute, then value.
///
/// Every describing attribute has one value, but for `:db.attr/preds`, which has a set.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Facts(Vec<(Entid, Value)>);

impl Facts {
    /// The value of an attribute; the first if there are several.
    pub(crate) fn get(&self, a: Entid) -> Option<&Value> {
        self.all(a).next()
    }

    /// Every value of an attribute, in order.
    pub(crate) fn all(&self, a: Entid) -> impl Iterator<Item = &Value> {
        let start = self.0.partition_point(|(other, _)| *other < a);
        let run = self.0[start..].iter();
        run.take_while(move |(other, _)| *other == a)
            .map(|(_, v)| v)
    }

    /// Every fact, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Entid, &Value)> {
        self.0.iter().map(|(a, v)| (*a, v))
    }

    /// How many facts there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes a fact in; a new value of an attribute that has one replaces the old.
    pub(super) fn insert(&mut self, a: Entid, v: Value) {
        if a != attrs::ATTR_PREDS {
            self.0.retain(|(other, _)| *other != a);
        }
        if let Err(at) = self.0.binary_search_by(|(b, w)| (b, w).cmp(&(&a, &v))) {
            self.0.insert(at, (a, v));
        }
    }

    /// Takes a fact out, if it is there.
    pub(super) fn remove(&mut self, a: Entid, v: &Value) {
        self.0.retain(|(b, w)| (b, w) != (&a, v));
    }
}
