//! `transactions`, `attributes` and `idents`: what a database says about itself.
//!
//! | table | columns |
//! |---|---|
//! | `transactions` | `t`, `tx`, `tx_instant`, and a column `ns_name` for each attribute that a transaction has |
//! | `attributes` | `id`, `ident`, `value_type`, `cardinality`, `unique`, `indexed`, `component`, `no_history`, `scale`, `doc`, `sql_table`, `sql_column` |
//! | `idents` | `id`, `ident`: every named entity, enums too |

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow_array::builder::{BooleanBuilder, Int64Builder, StringViewBuilder};
use arrow_array::{ArrayRef, Int64Array, ListArray, RecordBatch, TimestampMillisecondArray};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, Field, Schema as ArrowSchema, SchemaRef, TimeUnit};
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::datasource::MemTable;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::arrow::{self, Picks};
use super::error::into_datafusion;
use crate::catalog::metaschema;
use crate::datom::{Datom, Entid, TxId};
use crate::db::{Db, Inner};
use crate::index::{Components, Edge, Index, Range};
use crate::node::Leaf;
use crate::schema::{Attribute, Unique, attrs};
use crate::value::Value;

/// Attributes that are looked for on transactions at the same time.
const LOOKUPS_AT_ONCE: usize = 16;

/// Every ident of a value with its entity.
pub(crate) fn idents(db: &Db) -> Result<Arc<dyn TableProvider>> {
    let mut ids = Int64Builder::new();
    let mut idents = StringViewBuilder::new();
    for (id, ident) in db.schema().idents() {
        ids.append_value(id.0);
        idents.append_value(format!(":{}", ident.as_str()));
    }
    table_of(vec![
        ("id", false, Arc::new(ids.finish()) as ArrayRef),
        ("ident", false, Arc::new(idents.finish())),
    ])
}

/// The attributes of a value, and where SQL finds them.
pub(crate) async fn attributes(db: &Db) -> Result<Arc<dyn TableProvider>> {
    let tables = metaschema::tables(db.schema());
    let attributes: Vec<&Arc<Attribute>> = db.schema().attributes().collect();
    let (mut ids, mut scales) = (Int64Builder::new(), Int64Builder::new());
    let mut texts: [StringViewBuilder; 7] = Default::default();
    let mut flags: [BooleanBuilder; 3] = Default::default();
    let docs = documentation(db).await.map_err(into_datafusion)?;
    for attribute in attributes {
        let place = metaschema::place_of(&tables, attribute.id);
        let unique = attribute.unique.map(|unique| match unique {
            Unique::Identity => "identity",
            Unique::Value => "value",
        });
        let ident = format!(":{}", attribute.ident.as_str());
        let cardinality = if attribute.is_many() { "many" } else { "one" };
        let doc = docs.binary_search_by_key(&attribute.id, |(e, _)| *e).ok();
        let said = [
            Some(ident.as_str()),
            Some(attribute.value_type.name()),
            Some(cardinality),
            unique,
            doc.and_then(|at| docs[at].1.as_str()),
            place.map(|(table, _)| table),
            place.map(|(_, column)| column),
        ];
        texts
            .iter_mut()
            .zip(said)
            .for_each(|(column, text)| column.append_option(text));
        let said = [attribute.indexed, attribute.component, attribute.no_history];
        flags
            .iter_mut()
            .zip(said)
            .for_each(|(column, flag)| column.append_value(flag));
        ids.append_value(attribute.id.0);
        scales.append_option(attribute.scale);
    }
    let [
        ident,
        value_type,
        cardinality,
        unique,
        doc,
        sql_table,
        sql_column,
    ] = texts.map(|mut column| Arc::new(column.finish()) as ArrayRef);
    let [indexed, component, no_history] =
        flags.map(|mut column| Arc::new(column.finish()) as ArrayRef);
    table_of(vec![
        ("id", false, Arc::new(ids.finish())),
        ("ident", false, ident),
        ("value_type", false, value_type),
        ("cardinality", false, cardinality),
        ("unique", true, unique),
        ("indexed", false, indexed),
        ("component", false, component),
        ("no_history", false, no_history),
        ("scale", true, Arc::new(scales.finish())),
        ("doc", true, doc),
        ("sql_table", true, sql_table),
        ("sql_column", true, sql_column),
    ])
}

/// Every `:db/doc`, by entity. It is not part of the schema: documentation can be long.
async fn documentation(db: &Db) -> crate::Result<Vec<(Entid, Value)>> {
    let run = Range::prefix(Components::all().a(attrs::DOC));
    let said = without_history(db).collect(Index::Aevt, &run).await?;
    Ok(said.into_iter().map(|datom| (datom.e, datom.v)).collect())
}

fn table_of(columns: Vec<(&str, bool, ArrayRef)>) -> Result<Arc<dyn TableProvider>> {
    let field = |(name, nullable, array): &(&str, bool, ArrayRef)| {
        Field::new(*name, array.data_type().clone(), *nullable)
    };
    let schema = Arc::new(ArrowSchema::new(
        columns.iter().map(field).collect::<Vec<_>>(),
    ));
    let arrays = columns.into_iter().map(|(_, _, array)| array).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays)?;
    Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
}

/// The transactions of a value. Looks, for each attribute, whether a transaction has it; reads the rest
/// when the table is scanned.
pub(crate) async fn transactions(db: &Db) -> Result<Arc<dyn TableProvider>> {
    let db = without_history(db);
    let carried = carried_by_transactions(&db)
        .await
        .map_err(into_datafusion)?;
    let mut fields = vec![
        Field::new("t", DataType::Int64, false),
        Field::new("tx", DataType::Int64, false),
        Field::new("tx_instant", timestamp(), false),
    ];
    let mut taken: HashSet<String> = fields.iter().map(|field| field.name().clone()).collect();
    for attribute in &carried {
        let name = metaschema::claim(&mut taken, metaschema::sql_name(attribute.ident.as_str()));
        fields.push(arrow::column_field(&name, attribute));
    }
    let schema: SchemaRef = Arc::new(ArrowSchema::new(fields));
    let rows = Arc::new(Transactions {
        db,
        carried,
        schema: Arc::clone(&schema),
    });
    Ok(Arc::new(StreamingTable::try_new(
        schema,
        vec![Arc::new(Partition(rows))],
    )?))
}

fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

/// A transaction has its attributes' values, whatever view of them is asked for.
fn without_history(db: &Db) -> Db {
    if !db.is_history() {
        return db.clone();
    }
    Db(Arc::new(Inner {
        history: false,
        ..Inner::clone(&db.0)
    }))
}

/// What an attribute says about transactions.
fn of_transactions(a: Entid) -> Range {
    let run = Components::all().a(a);
    Range {
        from: Some(Edge {
            at: run.clone().e(Entid::TX0),
            inclusive: true,
        }),
        to: Some(Edge {
            at: run,
            inclusive: true,
        }),
    }
}

/// The attributes that some transaction has, beside its instant.
async fn carried_by_transactions(db: &Db) -> crate::Result<Vec<Arc<Attribute>>> {
    let candidates: Vec<Arc<Attribute>> = db
        .schema()
        .attributes()
        .filter(|attribute| attribute.id != attrs::TX_INSTANT)
        .map(Arc::clone)
        .collect();
    stream::iter(candidates)
        .map(|attribute| async move {
            let first = db
                .first(Index::Aevt, &of_transactions(attribute.id))
                .await?;
            crate::Result::Ok(first.map(|_| attribute))
        })
        .buffered(LOOKUPS_AT_ONCE)
        .try_filter_map(|found| std::future::ready(Ok(found)))
        .try_collect()
        .await
}

/// The rows of `transactions`.
struct Transactions {
    db: Db,
    carried: Vec<Arc<Attribute>>,
    schema: SchemaRef,
}

impl Transactions {
    async fn batch(&self) -> Result<RecordBatch> {
        let run = of_transactions(attrs::TX_INSTANT);
        let said = self
            .db
            .collect(Index::Aevt, &run)
            .await
            .map_err(into_datafusion)?;
        let instants = said.iter().map(|datom| match datom.v {
            Value::Instant(ms) => ms,
            _ => 0,
        });
        let instants = TimestampMillisecondArray::from_iter_values(instants).with_timezone("UTC");
        let transactions: Vec<i64> = said.iter().map(|datom| datom.e.0).collect();
        let ts = transactions
            .iter()
            .map(|tx| TxId(Entid(*tx)).t().cast_signed());
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(ts)),
            Arc::new(Int64Array::from(transactions.clone())),
            Arc::new(instants),
        ];
        for attribute in &self.carried {
            let run = of_transactions(attribute.id);
            let said = self.db.collect(Index::Aevt, &run).await;
            let mut said = said.map_err(into_datafusion)?;
            // A `since` view may know what was said later about a transaction that it does not show.
            said.retain(|datom| transactions.binary_search(&datom.e.0).is_ok());
            arrays.push(aligned(attribute, &said, &transactions)?);
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), arrays)?)
    }
}

/// The values of an attribute beside the transactions that have them; both ascend, and no other
/// entity is among `said`.
fn aligned(attribute: &Attribute, said: &[Datom], transactions: &[i64]) -> Result<ArrayRef> {
    let leaf = Leaf::from_datoms(said);
    let (mut places, mut lengths) = (Vec::new(), Vec::new());
    let mut at = 0;
    for tx in transactions {
        let start = at + said[at..].partition_point(|datom| datom.e.0 < *tx);
        at = start + said[start..].partition_point(|datom| datom.e.0 == *tx);
        places.push((start < at).then(|| u32::try_from(start).unwrap_or(u32::MAX)));
        lengths.push(at - start);
    }
    let array = |picks: Picks| arrow::array(attribute, &leaf, &picks).map_err(into_datafusion);
    if !attribute.is_many() {
        return array(Picks::Rows(places.into()));
    }
    let values = array(Picks::Run(0..said.len()))?;
    let nulls: NullBuffer = lengths.iter().map(|length| *length > 0).collect();
    let offsets = OffsetBuffer::from_lengths(lengths);
    let item = Arc::new(arrow::item_field(attribute));
    Ok(Arc::new(ListArray::try_new(
        item,
        offsets,
        values,
        Some(nulls),
    )?))
}

impl fmt::Debug for Transactions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Transactions").field(&self.db).finish()
    }
}

/// The one partition of `transactions`.
#[derive(Debug)]
struct Partition(Arc<Transactions>);

impl PartitionStream for Partition {
    fn schema(&self) -> &SchemaRef {
        &self.0.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = Arc::clone(&self.0);
        let batch = stream::once(async move { rows.batch().await });
        Box::pin(RecordBatchStreamAdapter::new(
            Arc::clone(&self.0.schema),
            batch,
        ))
    }
}
