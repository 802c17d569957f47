//! Datalog over attached databases, and over a single one.
//!
//! ```text
//! text ─► parse ─► analyze ─► resolve ─► count ─► lower ─► DataFusion ─► rows ─► pull ─► Answer
//! ```
//!
//! Above [`federation`](crate::federation)'s session, below the doors. What is asked of a database goes
//! through [`source`], the only part that knows of [`Db`].

mod cached;
mod nested;
mod planned;
mod prepared;
mod source;
mod stages;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::displayable;
use datomfusion_datalog::analyze::bound::BoundQuery;
use datomfusion_datalog::analyze::{LOG, log_of};
use datomfusion_datalog::ast::{Binding, InputKind, PullPattern, Query, RuleSet, SourceName};
use datomfusion_datalog::edn::{Keyword, Symbol};
use datomfusion_datalog::lower::{Context, Lowered, lower};
use datomfusion_datalog::{
    Answer, Facts, Functions, Given, PullError, QuerySource, SourceFacts, Term, Xform, analyze,
    count, pull, resolve,
};

pub(crate) use self::cached::Answers;
use self::cached::{Question, is_deterministic};
use self::planned::Planned;
pub(crate) use self::planned::Plans;
pub use self::prepared::Prepared;
pub(crate) use self::source::DbSource;
pub use self::stages::Stages;
use crate::catalog::session::DatalogSession;
use crate::db::Db;
use crate::error::{Error, Result};
use crate::federation::Federation;
use crate::provider::error::from_datafusion;
use crate::schema::EntityRef;

/// Where a database is asked by itself: nothing is attached, its session serves all.
static ALONE: LazyLock<Federation> = LazyLock::new(Federation::new);

/// What a query is given beside its text.
///
/// # Examples
///
/// ```
/// use datomfusion::{Inputs, Term};
///
/// let inputs = Inputs::new()
///     .rules("[[(adult ?p) [?p :person/age ?a] [(<= 18 ?a)]]]")
///     .argument(Term::String("Ada".into()));
/// # let _ = inputs;
/// ```
#[derive(Clone, Default)]
pub struct Inputs {
    sources: BTreeMap<SourceName, InputSource>,
    rules: Option<Arc<str>>,
    arguments: Vec<Term>,
    functions: Functions,
}

/// What a source is bound to.
#[derive(Clone)]
enum InputSource {
    Database(Db),
    Other(QuerySource),
}

impl InputSource {
    fn to_source(&self) -> QuerySource {
        match self {
            Self::Database(db) => QuerySource::Database(Arc::new(DbSource::new(db.clone()))),
            Self::Other(source) => source.clone(),
        }
    }
}

impl Inputs {
    /// Nothing but the functions of the language.
    pub fn new() -> Self {
        Self::default()
    }

    /// Binds a source, `$` or `$name`, to a database.
    #[must_use]
    pub fn source(mut self, name: &str, db: &Db) -> Self {
        let source = InputSource::Database(db.clone());
        self.sources.insert(SourceName::new(name), source);
        self
    }

    /// Binds a source, `$` or `$name`, to a collection of tuples.
    #[must_use]
    pub fn collection(mut self, name: &str, tuples: impl IntoIterator<Item = Term>) -> Self {
        let tuples = QuerySource::Collection(Arc::new(tuples.into_iter().collect()));
        let source = InputSource::Other(tuples);
        self.sources.insert(SourceName::new(name), source);
        self
    }

    /// The text of the rules: what `%` is bound to.
    #[must_use]
    pub fn rules(mut self, text: impl Into<Arc<str>>) -> Self {
        self.rules = Some(text.into());
        self
    }

    /// Adds the value of the next input that is neither a bound source nor rules.
    #[must_use]
    pub fn argument(mut self, term: impl Into<Term>) -> Self {
        self.arguments.push(term.into());
        self
    }

    /// The functions and aggregates that the query may call.
    #[must_use]
    pub fn functions(mut self, functions: Functions) -> Self {
        self.functions = functions;
        self
    }

    /// These inputs, with what others give in its place.
    fn with(&self, others: &Self) -> Self {
        let mut inputs = self.clone();
        let sources = others.sources.iter();
        inputs
            .sources
            .extend(sources.map(|(name, source)| (name.clone(), source.clone())));
        if let Some(rules) = &others.rules {
            inputs.rules = Some(Arc::clone(rules));
        }
        if !others.arguments.is_empty() {
            inputs.arguments.clone_from(&others.arguments);
        }
        if !others.functions.is_standard() {
            inputs.functions = others.functions.clone();
        }
        inputs
    }
}

impl std::fmt::Debug for Inputs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inputs")
            .field("sources", &self.sources.keys())
            .field("rules", &self.rules)
            .field("arguments", &self.arguments)
            .finish_non_exhaustive()
    }
}

impl Federation {
    /// Asks in Datalog. A source `$name` that `inputs` does not bind is the attached database `name`; `$`
    /// is the only attached database.
    ///
    /// # Errors
    ///
    /// [`Error::Edn`] quotes the clause at fault; what goes wrong while the query runs comes as it is.
    pub async fn q(&self, query: &str, inputs: &Inputs) -> Result<Answer> {
        run(self.datalog_session(), query, &self.bound(inputs)).await
    }

    /// The inputs, with what is attached.
    fn bound(&self, inputs: &Inputs) -> Inputs {
        let mut inputs = inputs.clone();
        let mut only = self.databases();
        if let (Some((_, db)), None) = (only.next(), only.next()) {
            let name = SourceName::default();
            if !inputs.sources.contains_key(&name) {
                inputs = inputs.source("$", db);
            }
        }
        for (name, db) in self.databases() {
            let name = format!("${name}");
            if !inputs.sources.contains_key(&SourceName::new(&*name)) {
                inputs = inputs.source(&name, db);
            }
        }
        inputs
    }

    /// How [`Federation::q`] would run a query: stars and their order, then the plans of DataFusion.
    ///
    /// # Errors
    ///
    /// As [`Federation::q`].
    pub async fn explain_q(&self, query: &str, inputs: &Inputs) -> Result<String> {
        explain(self.datalog_session(), query, &self.bound(inputs)).await
    }

    /// Runs a query, and shows its physical plan with what each operator did: rows, those expected of scans, time, nodes
    /// and bytes read, nodes found in the cache; of recursive rules, rounds and look-ups.
    ///
    /// # Errors
    ///
    /// As [`Federation::q`].
    pub async fn analyze_q(&self, query: &str, inputs: &Inputs) -> Result<String> {
        let query = Arc::new(Query::parse(query)?);
        let inputs = self.bound(inputs);
        within(query.timeout, async {
            let stages = Stages::of(self.datalog_session(), &query, &inputs, 0).await?;
            let plan = stages.physical().await?;
            let batches = stages.execute(Arc::clone(&plan)).await?;
            stages.answer(&batches).await?;
            let plan = DisplayableExecutionPlan::with_metrics(&*plan);
            Ok(plan.indent(false).to_string())
        })
        .await
    }
}

impl Db {
    /// Asks this value in Datalog; it is the source `$`.
    ///
    /// What has been asked before costs less, if every run would answer the same and only committed values of
    /// databases are asked: small answers are known, at most 32 MiB of them, and of larger ones the plan, at most 64 of
    /// them, which hold on to the values that they read. [`Db::prepare_q`] keeps a plan for sure.
    ///
    /// # Errors
    ///
    /// As [`Federation::q`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use datomfusion::{Connection, Inputs, Store, Term, TxData};
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let conn = Connection::create(&Store::memory()).await?;
    /// conn.transact(&TxData::parse(
    ///     "[{:db/ident :person/name :db/valueType :db.type/string :db/cardinality :db.cardinality/one}]",
    /// )?).await?;
    /// conn.transact(&TxData::parse(r#"[{:person/name "Ada"}]"#)?).await?;
    ///
    /// let answer = conn.db().q("[:find ?n . :where [?e :person/name ?n]]", &Inputs::new()).await?;
    /// assert_eq!(answer.to_term(), Term::String("Ada".into()));
    /// # Ok(()) }
    /// ```
    pub async fn q(&self, query: &str, inputs: &Inputs) -> Result<Answer> {
        let inputs = inputs.clone().source("$", self);
        run(ALONE.datalog_session(), query, &inputs).await
    }

    /// What a pull pattern finds of an entity: a map, or nil.
    ///
    /// # Errors
    ///
    /// [`Error::Edn`] if the pattern cannot be pulled; as [`Db::entid`].
    pub async fn pull(&self, pattern: &str, entity: impl Into<EntityRef>) -> Result<Term> {
        let found = self.pull_many(pattern, [entity.into()]).await?;
        Ok(found.into_iter().next().unwrap_or(Term::Nil))
    }

    /// [`Db::pull`] for several entities, in their order, at the cost of a level for all of them.
    ///
    /// # Errors
    ///
    /// As [`Db::pull`].
    pub async fn pull_many(
        &self,
        pattern: &str,
        entities: impl IntoIterator<Item = EntityRef>,
    ) -> Result<Vec<Term>> {
        refuse_history(self.is_history())?;
        let parsed = PullPattern::parse(pattern)?;
        let mut ids = Vec::new();
        for entity in entities {
            ids.push(self.entid(&entity).await?.map(|entid| entid.0));
        }
        let known: Vec<i64> = ids.iter().flatten().copied().collect();
        let functions = Functions::standard();
        let source = DbSource::new(self.clone());
        let pulled = pulled(&source, &parsed, &known, &functions, pattern).await?;
        let mut pulled = pulled.into_iter();
        Ok(ids
            .into_iter()
            .map(|id| id.and_then(|_| pulled.next()).unwrap_or(Term::Nil))
            .collect())
    }
}

/// A map shows one value of an attribute, or the members that it has at one time.
fn refuse_history(is_history: bool) -> Result<()> {
    if is_history {
        return Err(Error::invalid(
            "pull shows entities as they are at one time, and this is a history: pull from another basis",
        ));
    }
    Ok(())
}

async fn pulled(
    facts: &dyn Facts,
    pattern: &PullPattern,
    entities: &[i64],
    functions: &Functions,
    text: &str,
) -> Result<Vec<Term>> {
    let xform = |name: &Symbol| -> Option<Xform> {
        let function = functions.get(name.as_str())?.clone();
        Some(Arc::new(move |term: &Term| {
            function.call(std::slice::from_ref(term))
        }))
    };
    pull(facts, pattern, entities, &xform)
        .await
        .map_err(|error| match error {
            PullError::Source(source) => from_source(source),
            other => {
                let span = other.span().unwrap_or_default();
                datomfusion_datalog::Error::new(other.to_string(), span, text).into()
            }
        })
}

/// An error of a source, which is ours.
fn from_source(error: datomfusion_datalog::SourceError) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => *error,
        Err(error) => Error::invalid(error.to_string()),
    }
}

/// An error of a plan: of the language, ours, or DataFusion's.
fn from_plan(error: DataFusionError) -> Error {
    match from_datafusion(error) {
        Ok(error) => error,
        Err(error) => match language_error(error) {
            Ok(error) => error.into(),
            Err(error) => Error::invalid(error.strip_backtrace()),
        },
    }
}

fn language_error(error: DataFusionError) -> Result<datomfusion_datalog::Error, DataFusionError> {
    match error {
        DataFusionError::External(source) => source
            .downcast::<datomfusion_datalog::Error>()
            .map(|error| *error)
            .map_err(DataFusionError::External),
        DataFusionError::Context(context, source) => {
            language_error(*source).map_err(|source| source.context(context))
        }
        DataFusionError::ArrowError(source, backtrace) => match *source {
            ArrowError::ExternalError(source) => language_error(DataFusionError::External(source)),
            source => Err(DataFusionError::ArrowError(Box::new(source), backtrace)),
        },
        DataFusionError::Shared(source) => match &*source {
            DataFusionError::External(inner) => inner
                .downcast_ref::<datomfusion_datalog::Error>()
                .cloned()
                .ok_or_else(|| DataFusionError::Shared(Arc::clone(&source))),
            _ => Err(DataFusionError::Shared(source)),
        },
        other => Err(other),
    }
}

/// What the inputs of a query are bound to.
struct Met {
    sources: Vec<(SourceName, QuerySource)>,
    /// Of the inputs that are neither sources nor rules, and what is left over.
    arguments: Vec<Term>,
    rules: RuleSet,
}

impl Met {
    /// Gives each input of `:in` its value.
    fn new(query: &Query, inputs: &Inputs) -> Result<Self> {
        let mut sources = Vec::new();
        let mut arguments = Vec::new();
        let mut given = inputs.arguments.iter();
        let mut rules: Arc<str> = inputs.rules.clone().unwrap_or_else(|| "[]".into());
        let mut wants_rules = false;
        let asks_log = |text: &str| text.contains("tx-ids") || text.contains("tx-data");
        for input in &query.inputs {
            let missing = |what: &str| {
                datomfusion_datalog::Error::new(
                    format!("no argument was given for {what}"),
                    input.span,
                    &query.text,
                )
            };
            match &input.kind {
                InputKind::Source(name) => {
                    let source = if let Some(source) = inputs.sources.get(name) {
                        source.to_source()
                    } else if query.text.get(input.span.start..input.span.end)
                        != Some(name.as_str())
                    {
                        // Nobody wrote :in, so $ is wanted only if a clause asks it, which is told then.
                        continue;
                    } else {
                        let term = given.next().ok_or_else(|| missing(name.as_str()))?;
                        let tuples = term.elements().ok_or_else(|| {
                            datomfusion_datalog::Error::new(
                                format!(
                                    "{name} is to be a database or a collection, not {}",
                                    term.describe()
                                ),
                                input.span,
                                &query.text,
                            )
                        })?;
                        QuerySource::Collection(Arc::new(tuples.to_vec()))
                    };
                    sources.push((name.clone(), source));
                }
                InputKind::Rules => {
                    wants_rules = true;
                    if inputs.rules.is_none() {
                        let term = given.next().ok_or_else(|| missing("%"))?;
                        rules = term.to_string().into();
                    }
                }
                // The log of a database is asked through the database.
                InputKind::Binding(Binding::Scalar(variable, _))
                    if variable.as_str() == LOG && asks_log(&query.text) =>
                {
                    let name = SourceName::default();
                    if let Some(source) = inputs.sources.get(&name)
                        && !sources.iter().any(|(known, _)| *known == name)
                    {
                        sources.push((name, source.to_source()));
                    }
                    arguments.push(Term::Keyword(Keyword::new("db/log")));
                }
                InputKind::Binding(_) | InputKind::Plain(_) => {
                    arguments.push(given.next().ok_or_else(|| missing("this input"))?.clone());
                }
            }
        }
        if asks_log(&query.text) || asks_log(&rules) {
            let logs: Vec<_> = sources
                .iter()
                .filter_map(|(name, source)| match source {
                    QuerySource::Database(database) => {
                        Some((log_of(name), QuerySource::Database(database.log())))
                    }
                    QuerySource::Collection(_) => None,
                })
                .collect();
            sources.extend(logs);
        }
        let surplus: Vec<Term> = given.cloned().collect();
        arguments.extend(surplus);
        if !wants_rules && inputs.rules.is_some() {
            // Rules that nobody names in :in can be called all the same.
            wants_rules = true;
        }
        let rule_set = if wants_rules {
            RuleSet::parse(&rules)?
        } else {
            RuleSet::default()
        };
        Ok(Self {
            sources,
            arguments,
            rules: rule_set,
        })
    }
}

/// A query that has met its inputs.
#[derive(Clone)]
struct Bound {
    query: Arc<Query>,
    rules: Arc<str>,
    sources: Vec<QuerySource>,
    bound: BoundQuery,
    functions: Functions,
    is_deterministic: bool,
}

impl Bound {
    /// Analyses and resolves; runs queries within the query.
    async fn of(
        session: &Arc<DatalogSession>,
        query: Arc<Query>,
        inputs: &Inputs,
        depth: usize,
    ) -> Result<Self> {
        let Met {
            sources: names,
            arguments,
            rules: rule_set,
        } = Met::new(&query, inputs)?;
        let facts: Vec<(SourceName, SourceFacts<'_>)> = names
            .iter()
            .map(|(name, source)| {
                let facts = match source {
                    QuerySource::Database(database) => {
                        let facts: &dyn Facts = &**database;
                        SourceFacts::Database(facts)
                    }
                    QuerySource::Collection(_) => SourceFacts::Collection,
                };
                (name.clone(), facts)
            })
            .collect();
        let mut bound = analyze(
            &query,
            &Given {
                sources: &facts,
                rules: &rule_set,
                arguments: &arguments,
                functions: &inputs.functions,
            },
        )?;
        let databases: Vec<Option<&dyn Facts>> = facts
            .iter()
            .map(|(_, facts)| match facts {
                SourceFacts::Database(facts) => Some(*facts),
                SourceFacts::Collection => None,
            })
            .collect();
        resolve(&mut bound, &databases).await.map_err(from_source)?;
        let sources: Vec<QuerySource> = names.iter().map(|(_, source)| source.clone()).collect();
        let asked = Self {
            is_deterministic: is_deterministic(&bound, &inputs.functions),
            rules: Arc::clone(&rule_set.text),
            query,
            sources,
            bound,
            functions: inputs.functions.clone(),
        };
        nested::answered(asked, session, inputs, depth).await
    }

    /// The plan, and how many facts it may read.
    async fn lower(&self, session: &DatalogSession) -> Result<(Lowered, u64)> {
        let optimizations = &session.optimizations;
        let counts = count(&self.bound, &self.sources, optimizations)
            .await
            .map_err(from_source)?;
        let facts = counts
            .facts
            .iter()
            .filter(|((_, _, value), _)| value.is_none());
        let facts = facts.fold(0, |sum: u64, (_, count)| sum.saturating_add(*count));
        let lowered = lower(
            &self.bound,
            &Context {
                sources: &self.sources,
                counts: &counts,
                functions: &self.functions,
                sum: Arc::clone(&session.sum),
                optimizations,
                text: &self.query.text,
                rules: &self.rules,
            },
        );
        Ok((lowered.map_err(from_plan)?, facts))
    }
}

async fn run(session: &Arc<DatalogSession>, query: &str, inputs: &Inputs) -> Result<Answer> {
    let keeps = session.optimizations.known_answers;
    let question = keeps.then(|| Question::of(query, inputs)).flatten();
    if let Some(question) = &question {
        if let Some(answer) = session.answers.get(question) {
            return Ok(answer);
        }
        if let Some(planned) = session.plans.get(question) {
            let timeout = planned.stages.bound.query.timeout;
            return within(timeout, planned.answer()).await;
        }
    }
    let query = Arc::new(Query::parse(query)?);
    within(query.timeout, async {
        let planned = Planned::of(session, &query, inputs, 0).await?;
        let answer = planned.answer().await?;
        if let Some(question) = question.filter(|_| planned.is_deterministic())
            && let Some(question) = session.answers.keep(question, &answer)
        {
            session.plans.keep(question, planned);
        }
        Ok(answer)
    })
    .await
}

/// Holds a query to its `:timeout`, in milliseconds.
async fn within<T>(timeout: Option<u64>, answer: impl Future<Output = Result<T>>) -> Result<T> {
    let Some(milliseconds) = timeout else {
        return answer.await;
    };
    let answer = tokio::time::timeout(Duration::from_millis(milliseconds), answer).await;
    answer.unwrap_or_else(|_| {
        Err(Error::invalid(format!(
            "the query did not end within its :timeout of {milliseconds} ms"
        )))
    })
}

/// Plans, runs, and forgets both.
async fn run_query(
    session: &Arc<DatalogSession>,
    query: &Arc<Query>,
    inputs: &Inputs,
    depth: usize,
) -> Result<Answer> {
    let stages = Stages::of(session, query, inputs, depth).await?;
    let plan = stages.physical().await?;
    let batches = stages.execute(plan).await?;
    stages.answer(&batches).await
}

async fn explain(session: &Arc<DatalogSession>, query: &str, inputs: &Inputs) -> Result<String> {
    let query = Arc::new(Query::parse(query)?);
    let stages = Stages::of(session, &query, inputs, 0).await?;
    let state = &stages.planning.state;
    let Stages { bound, lowered, .. } = &stages;
    let optimized: LogicalPlan = state.optimize(&lowered.plan).map_err(from_plan)?;
    let physical = state
        .query_planner()
        .create_physical_plan(&optimized, state)
        .await
        .map_err(from_plan)?;
    let physical = stages.to_run(physical)?;
    let notes: Vec<String> = bound
        .bound
        .notes
        .iter()
        .chain(&lowered.notes)
        .map(|note| format!("note: {note}\n"))
        .collect();
    let notes = notes.concat();
    Ok(format!(
        "{notes}order\n{}\nlogical plan\n{}\n\nphysical plan\n{}",
        lowered.order,
        optimized.display_indent(),
        displayable(&*physical).indent(false)
    ))
}
