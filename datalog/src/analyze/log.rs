//! `tx-ids` and `tx-data`, in terms of patterns.
//!
//! ```text
//! [(tx-ids $ 3 10) [?tx ...]]            transactions t=3 up to, not including, t=10
//! [(tx-data $ ?tx) [[?e ?a ?v _ ?added]]]   what a transaction said
//! ```
//!
//! A transaction is named by its `t` or its id. The log is the history of the database that is asked, so
//! attributes with `:db/noHistory` promise nothing here, and a `since` view shows what came since. Queries written for Datomic name it `?log`, an
//! input of its own; here that is `$`. Source: Datomic, *log API in query*.

use super::Analysis;
use super::bound::{AttributeSlot, FactGoal, Goal, Slot, SourceId, Target};
use super::scope::Scope;
use crate::ast::{Argument, Call, SourceName};
use crate::edn::Keyword;
use crate::error::Error;
use crate::source::{FIRST_TX, Facts};
use crate::span::Span;
use crate::term::Term;

/// The input that stands for the log in queries written for Datomic.
pub const LOG: &str = "?log";

/// The name of the source that holds the history of another.
pub fn log_of(source: &SourceName) -> SourceName {
    // No query can write a name with a space.
    SourceName::new(format!("{} log", source.as_str()))
}

/// The id of a transaction that is named by it or by its `t`.
fn transaction(term: &Term) -> Option<Term> {
    match term {
        Term::Long(tx) if *tx >= FIRST_TX => Some(Term::Long(*tx)),
        Term::Long(t) if *t >= 0 => Some(Term::Long(FIRST_TX + t)),
        _ => None,
    }
}

impl Analysis<'_> {
    pub(super) fn log_call(
        &mut self,
        name: &str,
        call: &Call,
        binding: Option<Target>,
        scope: &mut Scope,
        source: &SourceName,
        span: Span,
    ) -> Result<Vec<Goal>, Error> {
        let (said, rest) = match call.arguments.split_first() {
            Some((Argument::Source(said, _), rest)) => (said, rest),
            Some((Argument::Variable(variable, _), rest)) if variable.as_str() == LOG => {
                (source, rest)
            }
            _ => (source, &call.arguments[..]),
        };
        let (id, facts) = self.database(name, said, span)?;
        match (name, rest) {
            ("tx-ids", [from, to]) => {
                let Some(Target::Each(target)) = binding else {
                    return Err(self.error("tx-ids answers a collection: bind [?tx ...]", span));
                };
                let Target::Var(tx) = *target else {
                    return Err(self.error("tx-ids answers a collection: bind [?tx ...]", span));
                };
                self.tx_ids(id, facts, [from, to], Slot::Var(tx), scope, span)
            }
            ("tx-data", [tx]) => {
                let (history, _) = self.database(name, &log_of(said), span)?;
                let tx = match (self.known(tx, scope)?, tx) {
                    (Some(term), _) => match transaction(&term) {
                        Some(tx) => Slot::Constant(tx),
                        None => {
                            return Err(self.error(
                                format!("a transaction is a t or its id, not {term}"),
                                tx.span(),
                            ));
                        }
                    },
                    (None, Argument::Variable(variable, _)) => {
                        Slot::Var(self.declare(scope, variable))
                    }
                    (None, _) => return Err(self.error("expected a transaction", tx.span())),
                };
                self.tx_data(history, tx, binding, span)
            }
            ("tx-ids", _) => Err(self.error(
                "tx-ids takes $, the first point and the point after the last; nil for no bound",
                span,
            )),
            _ => Err(self.error("tx-data takes $ and a transaction", span)),
        }
    }

    /// Transactions between two points: numbers are a `t` or an entity id, instants are compared.
    fn tx_ids(
        &mut self,
        source: SourceId,
        facts: &dyn Facts,
        bounds: [&Argument; 2],
        tx: Slot,
        scope: &Scope,
        span: Span,
    ) -> Result<Vec<Goal>, Error> {
        let instant = Slot::Var(self.fresh("instant"));
        let attribute = facts.attribute(&Keyword::new("db/txInstant"));
        let mut goals = vec![Goal::Fact(FactGoal {
            source,
            e: tx.clone(),
            a: attribute.map_or(AttributeSlot::Unknown, AttributeSlot::Known),
            v: instant.clone(),
            v_entity: None,
            tx: Slot::Blank,
            added: Slot::Blank,
            span,
        })];
        for (bound, comparison) in bounds.into_iter().zip(["<=", "<"]) {
            let term = self.known(bound, scope)?;
            let (bound, compared) = match term {
                Some(Term::Nil) => continue,
                Some(at @ Term::Instant(_)) => (at, &instant),
                other => match other.as_ref().and_then(transaction) {
                    Some(bound) => (bound, &tx),
                    None => {
                        return Err(self.error(
                            "a point of tx-ids is an input or a constant: a t, a transaction, \
                             an instant or nil",
                            bound.span(),
                        ));
                    }
                },
            };
            let sides = match comparison {
                "<=" => vec![Slot::Constant(bound), compared.clone()],
                _ => vec![compared.clone(), Slot::Constant(bound)],
            };
            let Goal::Call(mut call) = self.apply(comparison, sides, Target::Ignore, span)? else {
                continue;
            };
            call.binding = None;
            goals.push(Goal::Call(call));
        }
        Ok(goals)
    }

    /// The datoms of a transaction, which is bound elsewhere or is any.
    fn tx_data(
        &mut self,
        history: SourceId,
        tx: Slot,
        binding: Option<Target>,
        span: Span,
    ) -> Result<Vec<Goal>, Error> {
        let wrong = || self.error("tx-data answers datoms: bind [[?e ?a ?v ?tx ?added]]", span);
        let parts = match binding {
            Some(Target::Each(datom)) => match *datom {
                Target::Tuple(parts) if parts.len() <= 5 => parts,
                Target::Ignore => Vec::new(),
                _ => return Err(wrong()),
            },
            None | Some(Target::Ignore) => Vec::new(),
            Some(_) => return Err(wrong()),
        };
        let slots: Option<Vec<Slot>> = parts
            .iter()
            .map(|part| match part {
                Target::Var(var) => Some(Slot::Var(*var)),
                Target::Ignore => Some(Slot::Blank),
                Target::Tuple(_) | Target::Each(_) => None,
            })
            .collect();
        let slots = slots.ok_or_else(wrong)?;
        let slot = |at: usize| slots.get(at).cloned().unwrap_or(Slot::Blank);
        let a = match slot(1) {
            Slot::Var(var) => {
                self.info(var).note_attribute_of(history);
                AttributeSlot::Var(var)
            }
            _ => AttributeSlot::Blank,
        };
        for var in [slot(0), tx.clone()].iter().filter_map(Slot::var) {
            self.info(var).note_entity_of(history);
        }
        let same = (slot(3) != Slot::Blank).then(|| Goal::Same(tx.clone(), slot(3)));
        let fact = Goal::Fact(FactGoal {
            source: history,
            e: slot(0),
            a,
            v: slot(2),
            v_entity: None,
            tx,
            added: slot(4),
            span,
        });
        Ok([fact].into_iter().chain(same).collect())
    }
}
