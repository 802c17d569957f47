//! Queries that are planned once and asked often.

use std::sync::Arc;

use datomfusion_datalog::Answer;
use datomfusion_datalog::ast::Query;

use super::planned::Planned;
use super::{ALONE, Inputs, run_query, within};
use crate::catalog::session::DatalogSession;
use crate::db::Db;
use crate::error::Result;
use crate::federation::Federation;

/// A query that is planned, to be asked any number of times, also at the same time. Clones share the plan.
///
/// It holds on to the values that it was prepared for, and so answers the same however often it is asked, unless it
/// calls what answers differently each time.
///
/// # Examples
///
/// ```
/// # use datomfusion::{Connection, Inputs, Store, Term, TxData};
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let conn = Connection::create(&Store::memory()).await?;
/// conn.transact(&TxData::parse(
///     "[{:db/ident :p/age :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]",
/// )?).await?;
/// conn.transact(&TxData::parse("[{:p/age 17} {:p/age 36}]")?).await?;
///
/// let query = "[:find (count ?p) . :in $ ?least :where [?p :p/age ?a] [(<= ?least ?a)]]";
/// let adults = conn.db().prepare_q(query, &Inputs::new().argument(18)).await?;
/// assert_eq!(adults.q().await?.to_term(), Term::Long(1));
///
/// conn.transact(&TxData::parse("[{:p/age 54}]")?).await?;
/// let now = Inputs::new().source("$", &conn.db());
/// assert_eq!(adults.q_with(&now).await?.to_term(), Term::Long(2));
/// assert_eq!(adults.q_with(&now.argument(50)).await?.to_term(), Term::Long(1));
/// assert_eq!(adults.q().await?.to_term(), Term::Long(1));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Prepared {
    query: Arc<Query>,
    inputs: Inputs,
    session: Arc<DatalogSession>,
    /// None where a plan may hold what would have to be decided anew.
    planned: Option<Arc<Planned>>,
}

impl Prepared {
    pub(super) async fn of(
        session: &Arc<DatalogSession>,
        query: Arc<Query>,
        inputs: Inputs,
    ) -> Result<Self> {
        let planned = within(query.timeout, Planned::of(session, &query, &inputs, 0)).await?;
        Ok(Self {
            planned: planned.is_deterministic().then(|| Arc::new(planned)),
            session: Arc::clone(session),
            query,
            inputs,
        })
    }

    /// Asks the values and with the arguments that the query was prepared for.
    ///
    /// Costs a copy of the plan's operators, some microseconds, and the run: nothing is parsed, looked up or planned. Of
    /// a query that calls what answers differently each time (random numbers, functions that were registered as
    /// such) or that holds a query, only the parsed text is kept, and the rest is done each time. A `:timeout` holds for
    /// each run. Answers are not kept: see [`Db::q`].
    ///
    /// # Errors
    ///
    /// What goes wrong while the query runs.
    pub async fn q(&self) -> Result<Answer> {
        let Self { query, inputs, .. } = self;
        match &self.planned {
            Some(planned) => within(query.timeout, planned.answer()).await,
            None => within(query.timeout, run_query(&self.session, query, inputs, 0)).await,
        }
    }

    /// Asks other values, such as a newer one of the same database, or with other arguments: once. As
    /// [`Prepared::with`], then [`Prepared::q`].
    ///
    /// # Errors
    ///
    /// As [`Db::q`].
    pub async fn q_with(&self, inputs: &Inputs) -> Result<Answer> {
        let inputs = self.inputs.with(inputs);
        within(
            self.query.timeout,
            run_query(&self.session, &self.query, &inputs, 0),
        )
        .await
    }

    /// The same query for other values or with other arguments. What `inputs` does not give stays as it was: each
    /// source, the rules, the arguments altogether, the functions.
    ///
    /// Costs what asking costs the first time, but for parsing: what names mean and how many facts there are may be
    /// otherwise, so it is looked up, counted and planned again.
    ///
    /// # Errors
    ///
    /// As [`Db::q`].
    pub async fn with(&self, inputs: &Inputs) -> Result<Self> {
        let inputs = self.inputs.with(inputs);
        Self::of(&self.session, Arc::clone(&self.query), inputs).await
    }
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared")
            .field("query", &self.query.text)
            .field("inputs", &self.inputs)
            .field("is_planned", &self.planned.is_some())
            .finish_non_exhaustive()
    }
}

impl Federation {
    /// Prepares a query to be asked often; sources are bound as by [`Federation::q`], now.
    ///
    /// # Errors
    ///
    /// As [`Federation::q`].
    pub async fn prepare_q(&self, query: &str, inputs: &Inputs) -> Result<Prepared> {
        let query = Arc::new(Query::parse(query)?);
        Prepared::of(self.datalog_session(), query, self.bound(inputs)).await
    }
}

impl Db {
    /// Prepares a query of this value, which is the source `$`, to be asked often.
    ///
    /// # Errors
    ///
    /// As [`Federation::q`].
    pub async fn prepare_q(&self, query: &str, inputs: &Inputs) -> Result<Prepared> {
        let query = Arc::new(Query::parse(query)?);
        let inputs = inputs.clone().source("$", self);
        Prepared::of(ALONE.datalog_session(), query, inputs).await
    }
}
