//! A query between planning and its answer, stage by stage.

use std::sync::Arc;

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datomfusion_datalog::analyze::bound::BoundElement;
use datomfusion_datalog::ast::Query;
use datomfusion_datalog::lower::Lowered;
use datomfusion_datalog::{Answer, Facts, QuerySource, Rows, Term, rows};

use super::{ALONE, Bound, Inputs, from_plan, pulled, refuse_history};
use crate::catalog::session::{DatalogSession, Planning};
use crate::db::Db;
use crate::error::Result;

/// A query that has become a logical plan, and what is left to do.
pub struct Stages {
    pub(super) bound: Bound,
    pub(super) lowered: Lowered,
    /// Where this query is planned and run. Not the session, which keeps plans.
    pub(super) planning: Arc<Planning>,
}

impl Stages {
    /// Parses, analyses and lowers a query of a database.
    ///
    /// # Errors
    ///
    /// As [`Db::q`].
    pub async fn new(db: &Db, query: &str, inputs: &Inputs) -> Result<Self> {
        let inputs = inputs.clone().source("$", db);
        let query = Arc::new(Query::parse(query)?);
        Self::of(ALONE.datalog_session(), &query, &inputs, 0).await
    }

    /// Goes as far as the names of a query: parses, analyses and resolves it, and forgets it.
    ///
    /// # Errors
    ///
    /// As [`Db::q`].
    pub async fn bind(db: &Db, query: &str, inputs: &Inputs) -> Result<()> {
        let inputs = inputs.clone().source("$", db);
        let query = Arc::new(Query::parse(query)?);
        Bound::of(ALONE.datalog_session(), query, &inputs, 0).await?;
        Ok(())
    }

    pub(super) async fn of(
        session: &Arc<DatalogSession>,
        query: &Arc<Query>,
        inputs: &Inputs,
        depth: usize,
    ) -> Result<Self> {
        let bound = Bound::of(session, Arc::clone(query), inputs, depth).await?;
        Self::of_bound(session, bound).await
    }

    /// Lowers a query that has met its inputs.
    pub(super) async fn of_bound(session: &Arc<DatalogSession>, bound: Bound) -> Result<Self> {
        let (lowered, facts) = bound.lower(session).await?;
        Ok(Self {
            bound,
            lowered,
            planning: Arc::clone(session.planning(facts)),
        })
    }

    /// The session that this query is planned in, and its plan as lowering left it.
    pub fn logical(&self) -> (&SessionState, &LogicalPlan) {
        (&self.planning.state, &self.lowered.plan)
    }

    /// The physical plan for one run: DataFusion's part of planning.
    ///
    /// # Errors
    ///
    /// DataFusion's.
    pub async fn physical(&self) -> Result<Arc<dyn ExecutionPlan>> {
        self.to_run(self.plan().await?)
    }

    /// A plan with what its operators tell each other while they run.
    pub(super) fn to_run(&self, plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        self.planning.to_run(plan).map_err(from_plan)
    }

    /// The physical plan to make copies of.
    pub(super) async fn plan(&self) -> Result<Arc<dyn ExecutionPlan>> {
        #[cfg(test)]
        self.planning
            .planned
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.planning
            .state
            .create_physical_plan(&self.lowered.plan)
            .await
            .map_err(from_plan)
    }

    /// Runs a plan of [`Stages::physical`].
    ///
    /// # Errors
    ///
    /// What goes wrong while the query runs.
    pub async fn execute(&self, plan: Arc<dyn ExecutionPlan>) -> Result<Vec<RecordBatch>> {
        collect(plan, Arc::clone(&self.planning.task))
            .await
            .map_err(from_plan)
    }

    /// Makes terms of the batches.
    pub(super) fn rows(&self, batches: &[RecordBatch]) -> Result<Rows> {
        rows(batches, &self.lowered.columns, &self.bound.sources).map_err(from_plan)
    }

    /// Makes terms of the batches, and pulls.
    ///
    /// # Errors
    ///
    /// What goes wrong while entities are pulled.
    pub async fn answer(&self, batches: &[RecordBatch]) -> Result<Answer> {
        let bound = &self.bound;
        let mut rows = self.rows(batches)?;
        for (at, element) in bound.bound.elements.iter().enumerate() {
            let BoundElement::Pull {
                source, pattern, ..
            } = element
            else {
                continue;
            };
            let QuerySource::Database(database) = &bound.sources[source.0 as usize] else {
                continue;
            };
            refuse_history(database.is_history())?;
            // Attributes are entities that are shown as their idents.
            let entity = |term: &Term| match term {
                Term::Long(id) => Some(*id),
                Term::Keyword(ident) => database.entid(ident),
                _ => None,
            };
            let entities: Vec<i64> = rows.iter().filter_map(|row| entity(&row[at])).collect();
            let mut distinct = entities;
            distinct.sort_unstable();
            distinct.dedup();
            let facts: &dyn Facts = &**database;
            let found = pulled(
                facts,
                pattern,
                &distinct,
                &bound.functions,
                &bound.query.text,
            )
            .await?;
            for row in &mut rows {
                let place = entity(&row[at]).and_then(|id| distinct.binary_search(&id).ok());
                row[at] = place.map_or(Term::Nil, |place| found[place].clone());
            }
        }
        Ok(Answer::new(&bound.query, rows))
    }
}
