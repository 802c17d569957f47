//! Entity tables, one row an entity of a namespace, and member tables, one row a member of a
//! cardinality-many attribute.
//!
//! A table is made for one database value. Planning a scan asks the trees for exact counts, which reads
//! inner nodes and few leaves, and decides what tells which entities are rows:
//!
//! 1. few entities that the query names by `db_id`, or that an index answers: looked up one by one in EAVT;
//! 2. entities that an index answers, if they are a small part;
//! 3. the entities of an attribute that a filter demands, because it rejects NULL;
//! 4. the entities of a *spine*, an attribute that every entity of the table has;
//! 5. the entities of all attributes of the namespace together.
//!
//! **Invariant.** Whatever is decided, the rows are the same: an entity is a row if it has an attribute of
//! the namespace.

mod expected;
mod filters;
mod route;

pub(crate) use self::expected::by_column;
pub(super) use self::route::avet_ranges;

use std::sync::{Arc, Mutex};

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch, new_null_array};
use arrow_schema::{DataType, Field, Schema as ArrowSchema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Constraint, Constraints, DFSchema, Statistics};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_plan::ExecutionPlan;
use datomfusion_datalog::Optimizations;
use futures::future::try_join_all;

use self::expected::Learnt;
use self::filters::{Filter, Planned};
use self::route::{Found, Route, one_value, weight};
use super::arrow::{column_field, value_field};
use super::error::into_datafusion;
use super::pushdown::{self, classify};
use super::star::run::Span;
use super::star::{Driver, Predicate, StarScanExec, StarSpec};
use crate::catalog::metaschema::{ColumnDef, DB_ID, TableDef, TableKind};
use crate::datom::Entid;
use crate::db::Db;
use crate::index::{Index, TreeName};
use crate::schema::Attribute;
use crate::tree;
use crate::value::ValueType;

/// Entities that are looked up one by one rather than scanned for, at most.
const ONE_BY_ONE_MAX: u64 = 256;

/// One look-up in EAVT costs about as much as scanning so many rows.
const LOOKUP_ROWS: u64 = 2048;

/// The same for keys that become known while a plan runs, which are often of a few leaves. Measured: 2.6 µs for an
/// entity of three columns in memory, which 400 rows of a scan cost; in leaves, as many as 1400 rows.
const PROBE_ROWS: u64 = 1024;

/// An index is asked if it answers at most one in so many rows; else a scan is cheaper.
const INDEX_SHARE: u64 = 16;

/// Rows of a partition at least.
const PARTITION_ROWS: u64 = 25_000;

/// What the rows of a table are.
#[derive(Clone, Debug)]
enum Rows {
    /// Entities that have an attribute of the namespace.
    Namespace(Arc<str>),
    /// Entities that have an attribute of any namespace; every query demands all columns.
    Star,
    /// Members of a cardinality-many attribute.
    Members,
}

/// A table of entities or of members.
#[derive(Debug)]
pub(crate) struct EntityTable {
    db: Db,
    name: String,
    /// The attributes of the columns behind `db_id`.
    columns: Vec<Arc<Attribute>>,
    rows_are: Rows,
    schema: SchemaRef,
    constraints: Constraints,
    /// What has been asked of the trees.
    learnt: Mutex<Learnt>,
    /// Rows of a partition at least.
    partition_rows: u64,
    /// One look-up costs about as much as scanning so many rows.
    lookup_rows: u64,
}

impl EntityTable {
    /// The table that a definition describes, of this value.
    pub(super) fn new(db: Db, def: &TableDef) -> Self {
        let entity = Field::new(DB_ID, DataType::Int64, false);
        let (fields, columns, rows_are, constraints) = match &def.kind {
            TableKind::Entities { namespace, columns } => {
                let field = |column: &ColumnDef| column_field(&column.name, &column.attribute);
                let unique = columns.iter().enumerate().filter(|(_, column)| {
                    column.attribute.unique.is_some() && !column.attribute.is_many()
                });
                let constraints = [Constraint::PrimaryKey(vec![0])]
                    .into_iter()
                    .chain(unique.map(|(at, _)| Constraint::Unique(vec![at + 1])))
                    .collect();
                let attributes = columns.iter().map(|column| Arc::clone(&column.attribute));
                let fields = columns.iter().map(field).collect::<Vec<_>>();
                (
                    fields,
                    attributes.collect(),
                    Rows::Namespace(Arc::clone(namespace)),
                    constraints,
                )
            }
            TableKind::Members { column } => (
                vec![value_field(&column.name, &column.attribute)],
                vec![Arc::clone(&column.attribute)],
                Rows::Members,
                vec![Constraint::PrimaryKey(vec![0, 1])],
            ),
        };
        let fields: Vec<Field> = std::iter::once(entity).chain(fields).collect();
        Self {
            db,
            name: def.name.clone(),
            columns,
            rows_are,
            schema: Arc::new(ArrowSchema::new(fields)),
            constraints: Constraints::new_unverified(constraints),
            learnt: Mutex::default(),
            partition_rows: PARTITION_ROWS,
            lookup_rows: PROBE_ROWS,
        }
    }

    /// The table of entities that have all of some cardinality-one attributes, whose columns are `a0`,
    /// `a1` and so on. Every scan must demand each column that it does not fetch.
    pub(super) fn star(db: Db, attributes: Vec<Arc<Attribute>>) -> Self {
        let columns = attributes.iter().enumerate();
        let columns = columns.map(|(at, attribute)| ColumnDef {
            name: format!("a{at}"),
            attribute: Arc::clone(attribute),
        });
        let def = TableDef {
            name: "star".to_owned(),
            kind: TableKind::Entities {
                namespace: "".into(),
                columns: columns.collect(),
            },
        };
        Self {
            rows_are: Rows::Star,
            ..Self::new(db, &def)
        }
    }

    /// The same table in partitions of other sizes.
    #[cfg(test)]
    pub(super) fn with_partition_rows(self, partition_rows: u64) -> Self {
        Self {
            partition_rows,
            ..self
        }
    }

    /// The same table, whose run-time filters reckon with other costs.
    #[cfg(test)]
    pub(super) fn with_lookup_rows(self, lookup_rows: u64) -> Self {
        Self {
            lookup_rows,
            ..self
        }
    }

    /// The value type of a column whose values can be compared with literals.
    fn type_of(&self, name: &str) -> Option<ValueType> {
        match self.schema.index_of(name).ok()? {
            0 => Some(ValueType::Long),
            at => {
                let attribute = &self.columns[at - 1];
                let scalar = self.rows_are_members() || !attribute.is_many();
                scalar.then_some(attribute.value_type)
            }
        }
    }

    fn rows_are_members(&self) -> bool {
        matches!(self.rows_are, Rows::Members)
    }

    async fn plan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<StarScanExec> {
        let projection = projection
            .cloned()
            .unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        if matches!(self.rows_are, Rows::Star) {
            let all: Vec<usize> = (1..=self.columns.len()).collect();
            self.counts_of(&all).await?;
        }
        let mut planned = self.filters(state, filters)?;
        let counted = projection.is_empty() && !planned.any && self.rows().is_some();
        let route = if counted {
            Route::Counted
        } else {
            self.route(&mut planned, &projection).await?
        };
        planned.drop_implied(match route {
            Route::Column(column) | Route::Index { column, .. } => Some(column),
            _ => None,
        });

        // Runs: what is read, the driver's own included.
        let mut wanted: Vec<usize> = planned
            .filters
            .iter()
            .flat_map(|f| f.columns.clone())
            .collect();
        wanted.extend(&projection);
        wanted.extend(match route {
            Route::Column(at) => vec![at],
            Route::Union => (1..=self.columns.len()).collect(),
            Route::Facts(_) => vec![1],
            Route::Counted | Route::Ids { .. } | Route::Index { .. } => Vec::new(),
        });
        wanted.retain(|at| *at > 0);
        wanted.sort_unstable();
        wanted.dedup();
        let slot = |column: usize| match column {
            0 => 0,
            at => wanted
                .iter()
                .position(|wanted| *wanted == at)
                .map_or(0, |run| run + 1),
        };

        let spans = self.spans(state, &route, &wanted, planned.span).await?;
        let rows = self.row_statistics(&route, &planned, filters).await?;
        let counted = match &route {
            Route::Column(at) => self.counted(&self.columns[at - 1]),
            _ => None,
        };
        let driven = counted.or(self.rows());
        let driver = self.driver(route, slot);
        let all_slots = || std::iter::once(0).chain(wanted.iter().copied());
        let mut members: Vec<i64> = self
            .columns
            .iter()
            .map(|attribute| attribute.id.0)
            .collect();
        members.sort_unstable();
        let by_entity = match &driver {
            Driver::Facts(Some(ranges)) => one_value(ranges),
            _ => true,
        };
        Ok(StarScanExec::new(StarSpec {
            db: self.db.clone(),
            table: self.name.clone(),
            runs: wanted
                .iter()
                .map(|at| Arc::clone(&self.columns[at - 1]))
                .collect(),
            types: all_slots()
                .map(|at| self.schema.field(at).data_type().clone())
                .collect(),
            members: members.into(),
            predicates: self.predicates(&planned, slot)?,
            run_time: Vec::new(),
            driven,
            lookup_rows: self.lookup_rows,
            schema: Arc::new(self.schema.project(&projection)?),
            projection: projection.iter().map(|at| slot(*at)).collect(),
            ordered: by_entity,
            fetch: limit,
            columns: all_slots()
                .map(|at| self.column_statistics(at, &planned, rows))
                .collect(),
            spans,
            rows,
            driver,
        }))
    }

    async fn spans(
        &self,
        state: &dyn Session,
        route: &Route,
        wanted: &[usize],
        span: Span,
    ) -> Result<Vec<Span>> {
        match route {
            Route::Column(at) => self.partitions(state, *at, span).await,
            Route::Union => {
                let longest = self.longest(wanted).await?;
                self.partitions(state, longest, span).await
            }
            Route::Facts(None) => self.partitions(state, 1, span).await,
            _ => Ok(vec![span]),
        }
    }

    fn driver(&self, route: Route, slot: impl Fn(usize) -> usize) -> Driver {
        match route {
            Route::Column(at) => Driver::Run(slot(at) - 1),
            Route::Union => Driver::Union,
            Route::Facts(ranges) => Driver::Facts(ranges.map(Into::into)),
            Route::Counted => Driver::Ids {
                ids: Arc::default(),
                one_by_one: true,
            },
            Route::Ids(ids) => Driver::Ids {
                ids: ids.into(),
                one_by_one: true,
            },
            Route::Index {
                column,
                ranges,
                one_by_one,
                ..
            } => Driver::Index {
                attribute: Arc::clone(&self.columns[column - 1]),
                ranges: ranges.into(),
                one_by_one,
            },
        }
    }

    /// Plans filters, and finds what they say about columns.
    fn filters(&self, state: &dyn Session, filters: &[Expr]) -> Result<Planned> {
        let df_schema = DFSchema::try_from(self.schema.as_ref().clone())?;
        let index_access = Optimizations::of(state.config_options()).index_access;
        let mut planned = Planned {
            filters: Vec::new(),
            span: Span::ALL,
            ids: None,
            any: false,
        };
        for filter in filters {
            planned.any = true;
            let narrowing = index_access
                .then(|| pushdown::constraint(filter, &|name| self.type_of(name)))
                .flatten();
            let expr = state.create_physical_expr(filter.clone(), &df_schema)?;
            let mut columns = Vec::new();
            for column in collect_columns(&expr) {
                columns.push(self.schema.index_of(column.name())?);
            }
            columns.sort_unstable();
            if let Some(narrowing) = &narrowing
                && narrowing.column == DB_ID
            {
                let ids = narrowing.ranges.longs();
                let span = match (ids.first(), ids.last()) {
                    (Some(&(first, _)), Some(&(_, last))) => Span { first, last },
                    _ => Span::NONE,
                };
                planned.span = planned.span.intersect(span);
                planned.ids = Some(match planned.ids.take() {
                    Some(known) => known.intersect(&narrowing.ranges),
                    None => narrowing.ranges.clone(),
                });
                if narrowing.exact && ids.len() <= 1 {
                    // The span says it all.
                    continue;
                }
            }
            let rejects_null = match columns[..] {
                [only] if only > 0 => self.rejects_null(&expr, only),
                _ => false,
            };
            let is_not_null =
                matches!(filter, Expr::IsNotNull(of) if matches!(**of, Expr::Column(_)));
            planned.filters.push(Filter {
                is_not_null: is_not_null && rejects_null,
                expr,
                columns,
                narrowing,
                rejects_null,
            });
        }
        Ok(planned)
    }

    /// Whether a filter over one column is not true where the column is NULL.
    fn rejects_null(&self, expr: &Arc<dyn PhysicalExpr>, column: usize) -> bool {
        let schema = Arc::new(ArrowSchema::new(vec![
            self.schema.field(column).clone().with_nullable(true),
        ]));
        let null = new_null_array(self.schema.field(column).data_type(), 1);
        let evaluated = RecordBatch::try_new(Arc::clone(&schema), vec![null])
            .map_err(Into::into)
            .and_then(|batch| {
                let expr = reassign_expr_columns(Arc::clone(expr), &schema)?;
                expr.evaluate(&batch)?.into_array(1)
            });
        evaluated.is_ok_and(|value| {
            value
                .as_boolean_opt()
                .is_some_and(|value| value.is_null(0) || !value.value(0))
        })
    }

    /// Decides how rows are found. Filters that the route answers by itself are dropped.
    async fn route(&self, planned: &mut Planned, projection: &[usize]) -> Result<Route> {
        if self.rows_are_members() {
            return self.route_of_facts(planned).await;
        }
        let ids = planned.named();
        if let Some(ids) = ids {
            planned.filters.retain(|filter| !filter.is_exact_on(DB_ID));
            return Ok(Route::Ids(ids));
        }
        let rows = self.rows();
        if let Some(found) = self.cheapest_index(planned, rows).await? {
            let name = self.schema.field(found.column).name();
            planned.filters.retain(|filter| !filter.is_exact_on(name));
            let lookups = rows.unwrap_or(0) / LOOKUP_ROWS;
            let one_by_one = found.rows <= ONE_BY_ONE_MAX.max(lookups);
            return Ok(Route::Index {
                column: found.column,
                ranges: found.ranges,
                rows: found.rows,
                one_by_one,
            });
        }
        let demanded: Vec<usize> = {
            let demanded = planned.filters.iter().filter(|filter| filter.rejects_null);
            let mut columns: Vec<usize> = demanded.map(|filter| filter.columns[0]).collect();
            columns.sort_unstable();
            columns.dedup();
            columns
        };
        match demanded[..] {
            [] => {}
            [only] => return Ok(Route::Column(only)),
            _ => {
                let counts = self.counts_of(&demanded).await?;
                let least = demanded.iter().zip(counts).min_by_key(|(_, count)| *count);
                return Ok(least.map_or(Route::Union, |(column, _)| Route::Column(*column)));
            }
        }
        let Some(rows) = rows else {
            return Ok(Route::Union);
        };
        Ok(self
            .spine(planned, projection, rows)
            .await?
            .map_or(Route::Union, Route::Column))
    }

    /// An attribute that every row has; one that is read anyway, if there is such a one.
    async fn spine(
        &self,
        planned: &Planned,
        projection: &[usize],
        rows: u64,
    ) -> Result<Option<usize>> {
        let single = |at: &usize| *at > 0 && !self.columns[at - 1].is_many();
        let mut read: Vec<usize> = planned
            .filters
            .iter()
            .flat_map(|f| f.columns.clone())
            .collect();
        read.extend(projection);
        read.retain(single);
        read.sort_unstable();
        read.dedup();
        let others = (1..=self.columns.len())
            .filter(|at| single(at) && !read.contains(at))
            .collect();
        for mut candidates in [read, others] {
            candidates.sort_by_key(|at| weight(&self.columns[at - 1]));
            let counts = self.counts_of(&candidates).await?;
            let whole = candidates
                .iter()
                .zip(counts)
                .find(|(_, count)| *count == rows);
            if let Some((column, _)) = whole {
                return Ok(Some(*column));
            }
        }
        Ok(None)
    }

    async fn counts_of(&self, columns: &[usize]) -> Result<Vec<u64>> {
        try_join_all(columns.iter().map(|at| self.count(&self.columns[at - 1]))).await
    }

    /// The column with the most values, of those that are read.
    async fn longest(&self, columns: &[usize]) -> Result<usize> {
        if self
            .rows()
            .is_none_or(|rows| rows < 2 * self.partition_rows)
        {
            return Ok(columns.first().copied().unwrap_or(1));
        }
        let counts = self.counts_of(columns).await?;
        let most = columns.iter().zip(counts).max_by_key(|(_, count)| *count);
        Ok(most.map_or(1, |(column, _)| *column))
    }

    /// The index that answers the fewest entities, if one answers few enough.
    async fn cheapest_index(&self, planned: &Planned, rows: Option<u64>) -> Result<Option<Found>> {
        // A value without counts would have to read the ranges to know how long they are.
        let Some(rows) = rows else { return Ok(None) };
        let mut least: Option<Found> = None;
        for column in 1..=self.columns.len() {
            let Some(found) = self.ask(planned, column).await? else {
                continue;
            };
            if least.as_ref().is_none_or(|least| found.rows < least.rows) {
                least = Some(found);
            }
        }
        Ok(least.filter(|least| least.rows <= (rows / INDEX_SHARE).max(1)))
    }

    /// What AVET answers to the filters on a column, counted.
    async fn ask(&self, planned: &Planned, column: usize) -> Result<Option<Found>> {
        let attribute = &self.columns[column - 1];
        let name = self.schema.field(column).name();
        let ranges = planned.filters.iter().filter(|filter| filter.is_on(name));
        let ranges = ranges.filter_map(|filter| Some(filter.narrowing.as_ref()?.ranges.clone()));
        let Some(ranges) = ranges.reduce(|left, right| left.intersect(&right)) else {
            return Ok(None);
        };
        if !self.db.in_avet(attribute.id) {
            return Ok(None);
        }
        let ranges = avet_ranges(attribute, &ranges);
        let counts = ranges.iter().map(|range| self.db.count(Index::Avet, range));
        let rows = try_join_all(counts)
            .await
            .map_err(into_datafusion)?
            .iter()
            .sum();
        Ok(Some(Found {
            column,
            ranges,
            rows,
        }))
    }

    /// How the facts of a member table are found.
    async fn route_of_facts(&self, planned: &mut Planned) -> Result<Route> {
        if planned.span != Span::ALL || self.db.since_t().is_some() {
            return Ok(Route::Facts(None));
        }
        let all = self.count(&self.columns[0]).await?;
        let Some(found) = self.cheapest_index(planned, Some(all)).await? else {
            return Ok(Route::Facts(None));
        };
        let name = self.schema.field(1).name();
        planned.filters.retain(|filter| !filter.is_exact_on(name));
        Ok(Route::Facts(Some(found.ranges)))
    }

    /// Disjoint ranges of entities with about equally many values of a column.
    async fn partitions(
        &self,
        state: &dyn Session,
        column: usize,
        span: Span,
    ) -> Result<Vec<Span>> {
        let wanted = state.config().target_partitions();
        if wanted <= 1 || span.first >= span.last {
            return Ok(vec![span]);
        }
        let attribute = &self.columns[column - 1];
        let range = span.of(attribute);
        let tree = self.db.0.checkpoint.tree(TreeName::Aevt);
        let loader = self.db.loader();
        let stored = tree::count(loader, tree, &range)
            .await
            .map_err(into_datafusion)?;
        let parts = usize::try_from(stored / self.partition_rows)
            .unwrap_or(wanted)
            .min(wanted);
        if parts <= 1 {
            return Ok(vec![span]);
        }
        let ranges = tree::split(loader, tree, &range, parts)
            .await
            .map_err(into_datafusion)?;
        let ends = ranges[..ranges.len() - 1]
            .iter()
            .filter_map(|range| range.to.as_ref()?.at.e);
        let mut spans = Vec::with_capacity(ranges.len());
        let mut rest = span;
        for Entid(last) in ends.filter(|e| span.first <= e.0 && e.0 < span.last) {
            spans.push(Span {
                first: rest.first,
                last,
            });
            rest.first = last + 1;
        }
        spans.push(rest);
        Ok(spans)
    }

    async fn row_statistics(
        &self,
        route: &Route,
        planned: &Planned,
        filters: &[Expr],
    ) -> Result<Precision<usize>> {
        let number = |rows: u64| usize::try_from(rows).unwrap_or(usize::MAX);
        self.count_members().await?;
        let all = self.rows();
        Ok(match route {
            Route::Ids(ids) => Precision::Inexact(ids.len()),
            Route::Index { rows, .. } => Precision::Inexact(number(*rows)),
            _ if matches!(self.rows_are, Rows::Star) => {
                all.map_or(Precision::Absent, |rows| Precision::Inexact(number(rows)))
            }
            _ if !planned.any => {
                all.map_or(Precision::Absent, |rows| Precision::Exact(number(rows)))
            }
            _ => all.map_or(Precision::Absent, |rows| {
                Precision::Inexact(number(self.rows_under(filters, rows)))
            }),
        })
    }

    /// What is known of a column without reading more for it.
    fn column_statistics(
        &self,
        column: usize,
        planned: &Planned,
        rows: Precision<usize>,
    ) -> ColumnStatistics {
        let mut statistics = ColumnStatistics::new_unknown();
        let (Precision::Exact(rows), false) = (rows, planned.any) else {
            return statistics;
        };
        if self.rows_are_members() {
            statistics.null_count = Precision::Exact(0);
            return statistics;
        }
        if column == 0 {
            statistics.null_count = Precision::Exact(0);
            statistics.distinct_count = Precision::Exact(rows);
            return statistics;
        }
        let attribute = &self.columns[column - 1];
        let count = self.counted(attribute);
        let count = count.and_then(|count| usize::try_from(count).ok());
        if let (Some(count), false) = (count, attribute.is_many()) {
            if let Some(nulls) = rows.checked_sub(count) {
                statistics.null_count = Precision::Exact(nulls);
            }
            if attribute.unique.is_some() {
                statistics.distinct_count = Precision::Exact(count);
            }
        }
        statistics
    }

    /// Filters over slots, those that cost least first.
    fn predicates(
        &self,
        planned: &Planned,
        slot: impl Fn(usize) -> usize,
    ) -> Result<Vec<Predicate>> {
        let mut filters: Vec<&Filter> = planned.filters.iter().collect();
        filters.sort_by_key(|filter| {
            let weights = filter.columns.iter().filter(|at| **at > 0);
            weights
                .map(|at| weight(&self.columns[at - 1]))
                .sum::<usize>()
        });
        filters
            .into_iter()
            .map(|filter| {
                let schema = Arc::new(self.schema.project(&filter.columns)?);
                Ok(Predicate {
                    expr: reassign_expr_columns(Arc::clone(&filter.expr), &schema)?,
                    slots: filter.columns.iter().map(|at| slot(*at)).collect(),
                    schema,
                })
            })
            .collect()
    }
}

#[async_trait]
impl TableProvider for EntityTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn constraints(&self) -> Option<&Constraints> {
        Some(&self.constraints)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// The number of all rows, for the order of joins; a scan knows more.
    fn statistics(&self) -> Option<Statistics> {
        let rows = usize::try_from(self.rows()?).ok()?;
        let rows = match self.rows_are {
            Rows::Star => Precision::Inexact(rows),
            _ => Precision::Exact(rows),
        };
        Some(Statistics::new_unknown(&self.schema).with_num_rows(rows))
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(filters.iter().map(|filter| classify(filter)).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(
            self.plan(state, projection, filters, limit).await?,
        ))
    }
}
