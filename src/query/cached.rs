//! Answers that are known: the same question of the same values has the same answer, for ever.
//!
//! A question is its text, its rules, its arguments and the values that it is asked of; a value is the head that
//! it was reached from, in this process, and which part of it is seen. So nothing ever has to be invalidated: a
//! commit or a purge makes another head.
//!
//! Only small answers are kept, of questions that call nothing but deterministic functions of the language, ask
//! no query within a query, and are asked of databases alone, at committed times. What is kept is bounded in bytes.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, Weak};

use datomfusion_datalog::analyze::bound::{BoundElement, BoundQuery, Goal};
use datomfusion_datalog::ast::{Nested, PullPattern, SourceName};
use datomfusion_datalog::{Answer, Functions};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::{InputSource, Inputs};
use crate::db::Db;
use crate::db::head::Head;

/// Bytes of all answers that are kept; of one, and of its arguments, at most: the cache is divided, and each part is to
/// hold several.
const BYTES_MAX: u64 = 32 << 20;
const ANSWER_MAX: usize = 1 << 17;

/// Answers expected, for the size of the table.
const ANSWERS: usize = 1024;

/// What one answer takes beside its terms and the texts of its question.
const ENTRY_BYTES: usize = 512;

/// Answers that are known.
#[derive(Debug)]
pub(crate) struct Answers(Cache<Question, Known, Bytes>);

impl Default for Answers {
    fn default() -> Self {
        Self(Cache::with_weighter(ANSWERS, BYTES_MAX, Bytes))
    }
}

#[derive(Clone, Debug)]
struct Known {
    answer: Arc<Answer>,
    bytes: usize,
}

#[derive(Clone, Debug)]
struct Bytes;

impl Weighter<Question, Known> for Bytes {
    fn weight(&self, question: &Question, known: &Known) -> u64 {
        (ENTRY_BYTES + question.bytes() + known.bytes) as u64
    }
}

/// What decides an answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Question {
    query: Arc<str>,
    rules: Option<Arc<str>>,
    /// As bytes, which keep apart what is written differently.
    arguments: Vec<Vec<u8>>,
    values: Vec<(SourceName, Seen)>,
}

/// A part of a value.
#[derive(Clone, Debug)]
struct Seen {
    /// As long as it is kept here, no other head lies where this one did.
    head: Weak<Head>,
    t: u64,
    since: Option<u64>,
    history: bool,
}

impl PartialEq for Seen {
    fn eq(&self, other: &Self) -> bool {
        self.head.ptr_eq(&other.head)
            && (self.t, self.since, self.history) == (other.t, other.since, other.history)
    }
}

impl Eq for Seen {}

impl Hash for Seen {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.head.as_ptr().hash(state);
        (self.t, self.since, self.history).hash(state);
    }
}

impl Seen {
    /// `None` for what was never committed.
    fn of(db: &Db) -> Option<Self> {
        let inner = &db.0;
        inner.speculative_after.is_none().then(|| Self {
            head: Arc::downgrade(&inner.head),
            t: inner.t,
            since: inner.since,
            history: inner.history,
        })
    }
}

impl Question {
    /// What is asked, if its answer may be known.
    pub(super) fn of(query: &str, inputs: &Inputs) -> Option<Self> {
        if !inputs.functions.is_standard() || inputs.sources.is_empty() {
            return None;
        }
        let mut room = ANSWER_MAX;
        let mut arguments = Vec::with_capacity(inputs.arguments.len());
        for argument in &inputs.arguments {
            room = room.checked_sub(argument.bytes_within(room)?)?;
            let mut bytes = Vec::new();
            argument.encode(&mut bytes);
            arguments.push(bytes);
        }
        let values = inputs.sources.iter().map(|(name, source)| match source {
            InputSource::Database(db) => Some((name.clone(), Seen::of(db)?)),
            InputSource::Other(_) => None,
        });
        Some(Self {
            query: query.into(),
            rules: inputs.rules.clone(),
            arguments,
            values: values.collect::<Option<_>>()?,
        })
    }

    /// What its texts and arguments take.
    pub(super) fn bytes(&self) -> usize {
        let texts = self.query.len() + self.rules.as_ref().map_or(0, |rules| rules.len());
        let arguments: usize = self.arguments.iter().map(Vec::len).sum();
        texts + arguments
    }
}

impl Answers {
    pub(super) fn get(&self, question: &Question) -> Option<Answer> {
        let known = self.0.get(question)?;
        Some((*known.answer).clone())
    }

    /// Keeps an answer; if it is too large, the question comes back.
    pub(super) fn keep(&self, question: Question, answer: &Answer) -> Option<Question> {
        let Some(bytes) = answer.bytes_within(ANSWER_MAX) else {
            return Some(question);
        };
        let answer = Arc::new(answer.clone());
        self.0.insert(question, Known { answer, bytes });
        None
    }
}

/// Whether a query answers the same for the same values, at all times.
pub(super) fn is_deterministic(query: &BoundQuery, functions: &Functions) -> bool {
    let branches = query
        .programs
        .iter()
        .flat_map(|program| &program.predicates);
    let branches = branches.flat_map(|predicate| &predicate.branches);
    let elements = query.elements.iter().all(|element| match element {
        BoundElement::Var(_) => true,
        BoundElement::Aggregate { name, .. } => functions
            .aggregate(name)
            .is_some_and(|aggregate| aggregate.is_deterministic),
        BoundElement::Pull { pattern, .. } => changes_nothing(pattern),
    });
    elements
        && all_are(&query.goals)
        && branches
            .map(|branch| &branch.goals)
            .all(|goals| all_are(goals))
}

/// Whether a pattern shows values as they are.
fn changes_nothing(pattern: &PullPattern) -> bool {
    pattern.attributes.iter().all(|attribute| {
        let nested = match &attribute.nested {
            Some(Nested::Pattern(pattern)) => changes_nothing(pattern),
            _ => true,
        };
        attribute.xform.is_none() && nested
    })
}

fn all_are(goals: &[Goal]) -> bool {
    goals.iter().all(|goal| match goal {
        Goal::Call(call) => call.function.is_deterministic,
        Goal::Not { goals, .. } => all_are(goals),
        Goal::Or { branches, .. } => branches.iter().all(|goals| all_are(goals)),
        Goal::Nested(_) => false,
        _ => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Connection, Federation, Optimizations, Store, Term, TxData};

    async fn people() -> Connection {
        let connection = Connection::create(&Store::memory()).await.unwrap();
        for text in [
            "[{:db/ident :p/age :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]",
            "[{:p/age 3} {:p/age 5}]",
        ] {
            transact(&connection, text).await;
        }
        connection
    }

    async fn transact(connection: &Connection, text: &str) {
        let data = TxData::parse(text).unwrap();
        connection.transact(&data).await.unwrap();
    }

    /// The answer of a federation, and how many it knows then.
    async fn asked(federation: &Federation, query: &str, inputs: &Inputs) -> (Term, usize) {
        let answer = federation.q(query, inputs).await.unwrap();
        let known = &federation.datalog_session().answers.0;
        (answer.to_term(), known.len())
    }

    const SUM: &str = "[:find (sum ?a) . :with ?e :where [?e :p/age ?a]]";

    #[tokio::test]
    async fn the_same_question_of_the_same_value_is_asked_once() {
        let connection = people().await;
        let federation = Federation::new();
        let now = || Inputs::new().source("$", &connection.db());
        for _ in 0..2 {
            assert_eq!(asked(&federation, SUM, &now()).await, (Term::Long(8), 1));
        }
        let then = connection.db();
        transact(&connection, "[{:p/age 10}]").await;
        assert_eq!(asked(&federation, SUM, &now()).await, (Term::Long(18), 2));
        let then = Inputs::new().source("$", &then);
        assert_eq!(asked(&federation, SUM, &then).await, (Term::Long(8), 2));
        // Parts of a value are other values; arguments are apart if they are written differently.
        let since = Inputs::new().source(
            "$",
            &connection.db().since(crate::TimePoint::T(2)).await.unwrap(),
        );
        assert_eq!(asked(&federation, SUM, &since).await, (Term::Long(10), 3));
        let echo = "[:find ?x . :in $ ?x :where [_ :p/age _]]";
        for argument in [Term::Long(1), Term::Double(1.0)] {
            let found = asked(&federation, echo, &now().argument(argument.clone()))
                .await
                .0;
            assert_eq!(found.to_string(), argument.to_string());
        }
    }

    #[tokio::test]
    async fn answers_are_not_kept_where_that_is_not_wanted() {
        let mut none = Optimizations::default();
        none.known_answers = false;
        let federation = Federation::new().with_optimizations(none);
        let inputs = Inputs::new().source("$", &people().await.db());
        for _ in 0..2 {
            assert_eq!(asked(&federation, SUM, &inputs).await, (Term::Long(8), 0));
        }
    }

    #[tokio::test]
    async fn what_may_change_is_not_kept() {
        let connection = people().await;
        let federation = Federation::new();
        let db = connection.db();
        let now = || Inputs::new().source("$", &db);
        for query in [
            "[:find (rand ?a) . :where [?e :p/age ?a]]",
            "[:find (sample 1 ?a) . :where [?e :p/age ?a]]",
            "[:find (pull ?e [(:p/age :xform str)]) :where [?e :p/age 3]]",
            "[:find ?s . :where [?e :p/age 3] [(q [:find (sum ?a) . :where [_ :p/age ?a]] $) ?s]]",
        ] {
            assert_eq!(asked(&federation, query, &now()).await.1, 0, "{query}");
        }
        let mut functions = Functions::standard();
        functions.register("twice", 1, |arguments| match arguments {
            [Term::Long(n)] => Ok(Term::Long(n * 2)),
            _ => Err("twice takes a number".into()),
        });
        let inputs = now().functions(functions);
        assert_eq!(
            asked(&federation, SUM, &inputs).await.1,
            0,
            "registered functions"
        );
        let inputs = now().collection("$c", [Term::vector([Term::Long(1)])]);
        let query = "[:find ?x . :in $ $c :where [$c ?x] [_ :p/age 3]]";
        assert_eq!(
            asked(&federation, query, &inputs).await.1,
            0,
            "a collection"
        );
        let would_be = db
            .db_with(&TxData::parse("[{:p/age 7}]").unwrap())
            .await
            .unwrap();
        let inputs = Inputs::new().source("$", &would_be);
        assert_eq!(asked(&federation, SUM, &inputs).await, (Term::Long(15), 0));
    }
}
