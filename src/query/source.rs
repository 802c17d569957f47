//! A database value as a source of Datalog.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datomfusion_datalog::edn::Keyword;
use datomfusion_datalog::{
    AttributeFacts, FactPattern, Facts, Source, SourceError, Term, TermType,
};
use futures::stream::{self, StreamExt, TryStreamExt};

use crate::datom::{Entid, TxId};
use crate::db::Db;
use crate::error::Error;
use crate::index::{Components, Index, Range};
use crate::provider::{DatomTable, star_table};
use crate::schema::{Attribute, tuple};
use crate::value::{Value, ValueType, term_of, value_equal_to};

/// Look-ups of one pull or one recursion that are under way at once.
const LOOKUPS: usize = 16;

/// Facts of a view whose trees cannot count, as the planner is told.
const UNCOUNTED: u64 = 10_000;

/// A database that Datalog asks.
#[derive(Clone, Debug)]
pub(crate) struct DbSource {
    db: Db,
}

impl DbSource {
    pub(crate) fn new(db: Db) -> Self {
        Self { db }
    }

    fn attribute_facts(&self, attribute: &Attribute) -> AttributeFacts {
        AttributeFacts {
            id: attribute.id.0,
            ident: attribute.ident.clone(),
            value_type: term_type(attribute.value_type),
            is_many: attribute.is_many(),
            is_unique: attribute.unique.is_some(),
            is_component: attribute.component,
            is_indexed: self.db.in_avet(attribute.id),
        }
    }

    /// The components that a pattern fixes. A value that the attribute cannot have is left out: it
    /// matches nothing, which the planner finds out.
    fn components(&self, pattern: &FactPattern) -> Components {
        let attribute = pattern.a.and_then(|a| self.db.schema().attribute(Entid(a)));
        Components {
            e: pattern.e.map(Entid),
            a: pattern.a.map(Entid),
            v: pattern
                .v
                .as_ref()
                .and_then(|term| value_equal_to(term, attribute?.value_type)),
            tx: pattern.tx.map(|tx| TxId(Entid(tx))),
        }
    }
}

#[async_trait]
impl Facts for DbSource {
    fn attribute(&self, ident: &Keyword) -> Option<AttributeFacts> {
        let attribute = self.db.schema().attribute_by_ident(ident)?;
        Some(self.attribute_facts(attribute))
    }

    fn attribute_by_id(&self, id: i64) -> Option<AttributeFacts> {
        let attribute = self.db.schema().attribute(Entid(id))?;
        Some(self.attribute_facts(attribute))
    }

    fn entid(&self, ident: &Keyword) -> Option<i64> {
        self.db.schema().entid(ident).map(|entid| entid.0)
    }

    fn ident(&self, entity: i64) -> Option<Keyword> {
        self.db.ident(Entid(entity)).cloned()
    }

    fn references(&self) -> Vec<i64> {
        let attributes = self.db.schema().attributes();
        let references = attributes.filter(|known| known.value_type == ValueType::Ref);
        references.map(|known| known.id.0).collect()
    }

    async fn lookup(&self, attribute: i64, value: &Term) -> Result<Option<i64>, SourceError> {
        let id = Entid(attribute);
        let known = self.db.schema().attribute(id);
        let value = known.and_then(|known| match known.value_type {
            ValueType::Tuple => tuple::from_edn(known, &value.to_edn()),
            value_type => value_equal_to(value, value_type),
        });
        let Some(value) = value else {
            return Ok(None);
        };
        Ok(self.db.lookup(id, &value).await?.map(|entid| entid.0))
    }

    async fn facts_of(
        &self,
        entities: &[i64],
        attribute: Option<i64>,
    ) -> Result<Vec<(i64, i64, Term)>, SourceError> {
        let prefixes: Vec<Components> = entities
            .iter()
            .map(|&e| Components {
                e: Some(Entid(e)),
                a: attribute.map(Entid),
                ..Components::all()
            })
            .collect();
        let found: Vec<_> = stream::iter(prefixes)
            .map(|prefix| async move { self.db.collect(Index::Eavt, &Range::prefix(prefix)).await })
            .buffered(LOOKUPS)
            .try_collect()
            .await?;
        let mut facts = Vec::new();
        for datom in found.into_iter().flatten() {
            let term = term_of(&datom.v)
                .ok_or_else(|| Error::corrupt(datom.e, "a long value has not been read"))?;
            facts.push((datom.e.0, datom.a.0, term));
        }
        Ok(facts)
    }

    async fn referrers_of(
        &self,
        entities: &[i64],
        attribute: i64,
    ) -> Result<Vec<(i64, i64)>, SourceError> {
        let found: Vec<Vec<(i64, i64)>> = stream::iter(entities.to_vec())
            .map(|v| async move {
                let prefix = Components::all()
                    .a(Entid(attribute))
                    .v(Value::Ref(Entid(v)));
                let datoms = self.db.collect(Index::Avet, &Range::prefix(prefix)).await?;
                Ok::<_, Error>(datoms.into_iter().map(|datom| (v, datom.e.0)).collect())
            })
            .buffered(LOOKUPS)
            .try_collect()
            .await?;
        Ok(found.into_iter().flatten().collect())
    }
}

#[async_trait]
impl Source for DbSource {
    async fn count(&self, pattern: &FactPattern) -> Result<u64, SourceError> {
        if self.db.is_history() || self.db.since_t().is_some() {
            return Ok(UNCOUNTED);
        }
        let components = self.components(pattern);
        let indexed = components.a.is_some_and(|a| self.db.in_avet(a));
        let (index, components) = match (components.e, components.a, &components.v) {
            (Some(_), Some(_), _) => (Index::Eavt, components),
            (Some(_), None, _) => (
                Index::Eavt,
                Components {
                    v: None,
                    ..components
                },
            ),
            (None, Some(_), Some(_)) if indexed => (Index::Avet, components),
            (None, Some(_), _) => (
                Index::Aevt,
                Components {
                    v: None,
                    ..components
                },
            ),
            (None, None, _) => (Index::Aevt, Components::all()),
        };
        Ok(self.db.count(index, &Range::prefix(components)).await?)
    }

    async fn values(&self, attribute: i64) -> Result<Option<u64>, SourceError> {
        let sample = self.db.sample(Entid(attribute)).await?;
        Ok(sample.map(|sample| sample.values()))
    }

    async fn sample(&self, attribute: i64) -> Result<Vec<Term>, SourceError> {
        let Some(sample) = self.db.sample(Entid(attribute)).await? else {
            return Ok(Vec::new());
        };
        let leaf = sample.leaf();
        let values = (0..leaf.len()).map(|row| leaf.values().value(row));
        Ok(values.filter_map(|value| term_of(&value)).collect())
    }

    fn is_history(&self) -> bool {
        self.db.is_history()
    }

    fn log(&self) -> Arc<dyn Source> {
        Arc::new(Self::new(self.db.history()))
    }

    fn star(&self, attributes: &[i64]) -> Result<Arc<dyn TableProvider>, SourceError> {
        let attributes = attributes.iter().map(|id| {
            let attribute = self.db.schema().attribute(Entid(*id));
            attribute
                .cloned()
                .ok_or_else(|| Error::invalid(format!("there is no attribute with the id {id}")))
        });
        let attributes = attributes.collect::<Result<Vec<_>, _>>()?;
        Ok(star_table(self.db.clone(), attributes))
    }

    fn facts(&self, pattern: &FactPattern) -> Result<Arc<dyn TableProvider>, SourceError> {
        let attribute = pattern.a.and_then(|a| self.db.schema().attribute(Entid(a)));
        let native = attribute
            .map(|attribute| attribute.value_type)
            .filter(|value_type| is_native(*value_type));
        let components = self.components(pattern);
        Ok(Arc::new(DatomTable::terms(
            self.db.clone(),
            &components,
            native,
        )))
    }
}

fn term_type(value_type: ValueType) -> TermType {
    match value_type {
        ValueType::Boolean => TermType::Boolean,
        ValueType::Long => TermType::Long,
        ValueType::Double => TermType::Double,
        // Its column is single precision, its terms are doubles: it travels encoded.
        ValueType::Float => TermType::Float,
        ValueType::BigInt => TermType::BigInt,
        ValueType::BigDec => TermType::BigDec,
        ValueType::String => TermType::String,
        ValueType::Keyword => TermType::Keyword,
        ValueType::Symbol => TermType::Symbol,
        ValueType::Uuid => TermType::Uuid,
        ValueType::Instant => TermType::Instant,
        ValueType::Ref => TermType::Ref,
        ValueType::Bytes => TermType::Bytes,
        ValueType::Uri => TermType::Uri,
        ValueType::Tuple => TermType::Tuple,
    }
}

/// Whether a column of the type's own holds its terms.
fn is_native(value_type: ValueType) -> bool {
    matches!(
        value_type,
        ValueType::Boolean
            | ValueType::Long
            | ValueType::Double
            | ValueType::String
            | ValueType::Keyword
            | ValueType::Instant
            | ValueType::Ref
    )
}
