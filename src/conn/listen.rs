//! Listeners: every transaction of the branch as a [`TxReport`], in the order of commits.
//!
//! What this connection commits is handed on as it is. What others committed is only seen when the head is
//! read, by [`Connection::sync`] or by a commit that lost a race; each listener then reads it in the log.
//!
//! **Invariant.** A listener hears of every `t` after the one it began at, once and in order, or is told
//! which it missed.

use std::collections::VecDeque;
use std::sync::PoisonError;

use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Receiver, Sender};

use super::Connection;
use crate::db::Db;
use crate::db::basis::TimePoint;
use crate::error::{Error, Result};
use crate::tx::TxReport;

/// Most pieces of news that are kept for a slow listener; a group of transactions is as many.
const BUFFER_MAX: usize = 1024;

/// Where news goes.
pub(super) struct Listeners(Sender<News>);

/// Transactions that are new.
#[derive(Clone)]
enum News {
    /// Committed through this connection.
    Own(Box<TxReport>),
    /// Those after `after` up to this value's, committed by others.
    Seen { after: u64, db: Db },
}

impl Default for Listeners {
    fn default() -> Self {
        Self(Sender::new(BUFFER_MAX))
    }
}

impl Listeners {
    /// Whether nobody listens.
    pub(super) fn is_empty(&self) -> bool {
        self.0.receiver_count() == 0
    }

    /// Tells what is new between a known `t` and a newer value. Reports of other transactions, and of
    /// those that are known, are passed over.
    pub(super) fn tell(&self, known: u64, newest: &Db, reports: Vec<TxReport>) {
        if self.is_empty() {
            return;
        }
        let mut known = known;
        // Without a listener there is nobody to tell, which is no failure.
        let tell = |news| drop(self.0.send(news));
        for report in reports {
            if report.t == known + 1 {
                known = report.t;
                tell(News::Own(Box::new(report)));
            }
        }
        if newest.basis_t() > known {
            tell(News::Seen {
                after: known,
                db: newest.clone(),
            });
        }
    }
}

impl Connection {
    /// What is transacted on this branch from now on, one report a transaction, in the order of commits.
    ///
    /// A transaction that is refused is not reported. What other connections and processes commit is
    /// reported once this connection sees it, in [`Connection::sync`] or when it commits itself; such a
    /// report is read from the log: it has no temporary ids, and reading it costs what
    /// [`Db::as_of`] and [`Db::tx_range`] cost. A listener that falls more than 1024 transactions behind
    /// is told which it missed. The stream ends when the last clone of this connection is gone.
    ///
    /// # Errors
    ///
    /// The stream goes on after an error: [`Error::ReportsMissed`] stands for the transactions that it
    /// names, one of reading for the transaction that could not be read.
    pub fn tx_reports(&self) -> BoxStream<'static, Result<TxReport>> {
        // Under the lock, so that no transaction falls between what is known and what is heard.
        let known = self.0.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let listener = Listener {
            news: self.0.listeners.0.subscribe(),
            heard: known.db.basis_t(),
            open: VecDeque::new(),
        };
        drop(known);
        stream::unfold(listener, |mut listener| async move {
            Some((listener.next().await?, listener))
        })
        .boxed()
    }
}

struct Listener {
    news: Receiver<News>,
    /// The last transaction that this listener was told of.
    heard: u64,
    /// What it has still to be told.
    open: VecDeque<Word>,
}

/// One thing to tell a listener.
enum Word {
    Report(Box<TxReport>),
    Missed(u64, u64),
    /// A transaction to be read in the log of a value.
    Read(u64, Db),
}

impl Listener {
    async fn next(&mut self) -> Option<Result<TxReport>> {
        loop {
            match self.open.pop_front() {
                Some(Word::Report(report)) => return Some(Ok(*report)),
                Some(Word::Missed(from, to)) => {
                    return Some(Err(Error::ReportsMissed { from, to }));
                }
                Some(Word::Read(t, db)) => {
                    // The next is read when it is asked for.
                    if t < db.basis_t() {
                        self.open.push_front(Word::Read(t + 1, db.clone()));
                    }
                    return Some(read_report(&db, t).await);
                }
                None => {}
            }
            match self.news.recv().await {
                Ok(news) => self.hear(news),
                // What was dropped shows in the `t` of the next.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn hear(&mut self, news: News) {
        let (first, last) = match &news {
            News::Own(report) => (report.t, report.t),
            News::Seen { after, db } => (after + 1, db.basis_t()),
        };
        if first > self.heard + 1 {
            self.open.push_back(Word::Missed(self.heard + 1, first - 1));
        }
        self.heard = last;
        self.open.push_back(match news {
            News::Own(report) => Word::Report(report),
            News::Seen { db, .. } => Word::Read(first, db),
        });
    }
}

/// The report of a transaction of a value's past.
async fn read_report(db: &Db, t: u64) -> Result<TxReport> {
    let db_after = db.as_of(TimePoint::T(t)).await?;
    let db_before = db.as_of(TimePoint::T(t - 1)).await?;
    let tx_data = db.tx_range(t, Some(t + 1)).try_collect().await?;
    Ok(TxReport::read(db_before, db_after, tx_data))
}

#[cfg(test)]
mod tests;
