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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use datafusion::common::runtime::SpawnedTask;
    use datafusion::physical_plan::displayable;

    use super::super::Stages;
    use super::*;
    use crate::{Connection, Functions, Store, Term, TxData};

    async fn graph(edges: &[(u32, u32)]) -> Connection {
        let connection = Connection::create(&Store::memory()).await.unwrap();
        let schema = "[
            {:db/ident :n/id :db/valueType :db.type/long :db/cardinality :db.cardinality/one
             :db/unique :db.unique/identity}
            {:db/ident :n/to :db/valueType :db.type/ref :db/cardinality :db.cardinality/many}]";
        transact(&connection, schema).await;
        link(&connection, edges).await;
        connection
    }

    async fn link(connection: &Connection, edges: &[(u32, u32)]) {
        let node = |id: u32, rest: &str| format!("{{:db/id \"{id}\" :n/id {id}{rest}}}");
        let edges = edges
            .iter()
            .flat_map(|(from, to)| [node(*from, &format!(" :n/to \"{to}\"")), node(*to, "")]);
        transact(connection, &format!("[{}]", edges.collect::<String>())).await;
    }

    async fn transact(connection: &Connection, text: &str) {
        let data = TxData::parse(text).unwrap();
        connection.transact(&data).await.unwrap();
    }

    const EDGES: [(u32, u32); 6] = [(1, 2), (2, 3), (3, 4), (4, 2), (5, 6), (6, 1)];

    const RULES: &str = "[[(leads ?x ?y) [?x :n/to ?y]]
                          [(leads ?x ?y) [?x :n/to ?z] (leads ?z ?y)]]";

    /// A scan, a hash join, a recursion, an aggregate without groups, a union over what is computed once, an anti join.
    const QUERIES: [&str; 6] = [
        "[:find ?i :where [?n :n/id ?i] [(< 2 ?i)]]",
        "[:find ?i ?j :where [?n :n/id ?i] [?n :n/to ?m] [?m :n/id ?j]]",
        "[:find ?i ?j :in $ % :where (leads ?n ?m) [?n :n/id ?i] [?m :n/id ?j]]",
        "[:find (min ?i) (max ?i) :where [?n :n/id ?i]]",
        "[:find ?i ?x :where [?n :n/id ?i] [(+ ?i 1) ?s] (or-join [[?s] ?x] [(inc ?s) ?x] [(dec ?s) ?x])]",
        "[:find ?i :where [?n :n/id ?i] (not [?m :n/to ?n] [?m :n/id ?j] [(< ?j ?i)])]",
    ];

    fn rows(answer: Answer) -> Vec<Vec<Term>> {
        let mut rows = answer.into_rows();
        rows.sort();
        rows
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_prepared_query_answers_as_a_new_one_again_and_at_once() {
        let db = graph(&EDGES).await.db();
        let inputs = Inputs::new().rules(RULES);
        let mut shown = String::new();
        for query in QUERIES {
            let expected = rows(db.q(query, &inputs).await.unwrap());
            assert!(!expected.is_empty(), "{query}");
            let prepared = db.prepare_q(query, &inputs).await.unwrap();
            let planned = prepared.planned.clone().expect(query);
            let stages = Stages::new(&db, query, &inputs).await.unwrap();
            let plan = stages.physical().await.unwrap();
            shown += &displayable(&*plan).indent(false).to_string();
            for _ in 0..2 {
                assert_eq!(rows(prepared.q().await.unwrap()), expected, "{query}");
            }
            let asked = (0..8).map(|_| {
                let prepared = prepared.clone();
                SpawnedTask::spawn(async move { prepared.q().await.unwrap() })
            });
            for answer in futures::future::join_all(asked).await {
                assert_eq!(rows(answer.unwrap()), expected, "{query}");
            }
            let again = prepared.planned.clone().expect(query);
            assert!(Arc::ptr_eq(&planned, &again), "{query}");
        }
        for operator in [
            "HashJoinExec",
            "FixpointExec",
            "SharedExec",
            "UnionExec",
            "StarScanExec",
        ] {
            assert!(shown.contains(operator), "{operator}\n{shown}");
        }
    }

    #[tokio::test]
    async fn what_is_shared_within_a_plan_is_computed_once_a_run() {
        let db = graph(&EDGES).await.db();
        let calls = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&calls);
        let mut functions = Functions::standard();
        functions.register_deterministic("seen", 1, move |arguments| {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(arguments[0].clone())
        });
        let query = "[:find ?s ?x :where [_ :n/id ?i] [(seen ?i) ?s]
                      (or-join [[?s] ?x] [(inc ?s) ?x] [(dec ?s) ?x])]";
        let inputs = Inputs::new().functions(functions);
        let prepared = db.prepare_q(query, &inputs).await.unwrap();
        assert!(prepared.planned.is_some());
        for run in 1..4 {
            let before = calls.load(Ordering::Relaxed);
            assert_eq!(prepared.q().await.unwrap().rows().len(), 12, "run {run}");
            let own = calls.load(Ordering::Relaxed) - before;
            assert_eq!(own, 6, "run {run}: one call an entity");
        }
    }

    #[tokio::test]
    async fn what_differs_each_time_is_decided_each_time() {
        let db = graph(&EDGES).await.db();
        let drawn = AtomicU64::new(0);
        let mut functions = Functions::standard()
            .with_random_source(move || drawn.fetch_add(1, Ordering::Relaxed) << 40);
        let told = AtomicU64::new(0);
        functions.register("told", 0, move |_| {
            Ok(Term::from(
                told.fetch_add(1, Ordering::Relaxed).cast_signed(),
            ))
        });
        let inputs = Inputs::new().functions(functions);
        for query in [
            "[:find ?r . :where [(rand) ?r]]",
            "[:find ?r . :where [?n :n/id 1] [(rand) ?r]]",
            "[:find ?r . :where [?n :n/id 1] [(told) ?r]]",
            "[:find ?s . :where [?n :n/id 1] [(q [:find ?r . :where [(told) ?r]]) ?s]]",
        ] {
            let prepared = db.prepare_q(query, &inputs).await.unwrap();
            assert!(prepared.planned.is_none(), "{query}");
            let first = prepared.q().await.unwrap().to_term();
            let second = prepared.q().await.unwrap().to_term();
            assert_ne!(first, second, "{query}");
        }
    }

    #[tokio::test]
    async fn other_values_and_arguments_are_looked_up_again() {
        let connection = graph(&EDGES).await;
        let query = "[:find [?j ...] :in $ % ?i :where [?n :n/id ?i] (leads ?n ?m) [?m :n/id ?j]]";
        let inputs = Inputs::new().rules(RULES).argument(5);
        let prepared = connection.db().prepare_q(query, &inputs).await.unwrap();
        let found = |answer: Answer| rows(answer).len();
        assert_eq!(found(prepared.q().await.unwrap()), 5);
        // The new node refers to one that is named by a lookup ref, and is found as an argument.
        link(&connection, &[(4, 7), (8, 5)]).await;
        let now = Inputs::new().source("$", &connection.db());
        assert_eq!(found(prepared.q_with(&now).await.unwrap()), 6);
        let of_the_newest = Inputs::new().argument(8);
        let then = prepared.q_with(&of_the_newest).await.unwrap();
        assert_eq!(found(then), 0, "it is not there yet");
        let now = now.argument(8);
        assert_eq!(found(prepared.q_with(&now).await.unwrap()), 7);
        let newer = prepared.with(&now).await.unwrap();
        assert_eq!(found(newer.q().await.unwrap()), 7);
        assert_eq!(found(prepared.q().await.unwrap()), 5);
        // Another database has other ids for the same names.
        let other = Connection::create(&Store::memory()).await.unwrap();
        let schema = "[
            {:db/ident :n/to :db/valueType :db.type/ref :db/cardinality :db.cardinality/one}
            {:db/ident :n/other :db/valueType :db.type/ref :db/cardinality :db.cardinality/one}
            {:db/ident :n/id :db/valueType :db.type/long :db/cardinality :db.cardinality/one
             :db/unique :db.unique/identity}]";
        transact(&other, schema).await;
        link(&other, &[(5, 9)]).await;
        let there = Inputs::new().source("$", &other.db());
        let answer = prepared.q_with(&there).await.unwrap();
        assert_eq!(rows(answer), [[Term::Long(9)]]);
    }

    #[tokio::test]
    async fn a_federation_prepares_what_is_attached() {
        let connection = graph(&EDGES).await;
        let mut federation = Federation::new();
        federation.attach("graph", connection.db()).unwrap();
        let query = "[:find (count ?n) . :in $ $graph :where [?n :n/id _] [$graph ?n :n/to _]]";
        let prepared = federation.prepare_q(query, &Inputs::new()).await.unwrap();
        assert_eq!(prepared.q().await.unwrap().to_term(), Term::Long(6));
        let unbound = "[:find ?x :where [?y :n/id _]]";
        let refused = federation.prepare_q(unbound, &Inputs::new()).await;
        assert!(refused.is_err());
    }
}
