//! How a partition that is being read goes on when run-time filters say more; what they say is found in
//! [`run_time`](super::super::run_time).
//!
//! **Invariant.** What was a row so far stays one, and no entity is a row twice: only what lies behind the last
//! row is narrowed.

use std::sync::Arc;

use datafusion::error::Result;

use super::super::Driver;
use super::super::run::{Run, Span};
use super::super::run_time::Access;
use super::{GATHER_AHEAD, Reader, Rows};

impl Reader {
    /// Heeds what run-time filters say by now about the entities behind.
    pub(super) async fn narrow(&mut self) -> Result<()> {
        let begun = self.last.is_some();
        // A row of these is not one entity, or they are few and found already.
        if begun && matches!(self.rows, Rows::Facts | Rows::Ids { .. }) {
            return Ok(());
        }
        let spec = Arc::clone(&self.spec);
        let Some(said) = self.run_time.news(&spec)? else {
            return Ok(());
        };
        let mut left = vec![self.span];
        left.extend(&self.behind);
        if let Some(last) = self.last {
            let rest = last.saturating_add(1).max(self.span.first);
            left[0].first = rest;
        }
        left.retain(|span| span.first <= span.last);
        match (&self.rows, &spec.driver) {
            (Rows::Facts, Driver::Facts(Some(_))) => return Ok(()),
            (Rows::Ids { .. }, _) => {
                if let Some(within) = self.run_time.entities(&spec, &said, &left).await? {
                    self.retain(&within).await?;
                }
                return Ok(());
            }
            _ => {}
        }
        match self.run_time.access(&spec, &said, &left).await? {
            None => {}
            Some(Access::Spans(mut spans)) => {
                let first = spans.pop_front().unwrap_or(Span::NONE);
                self.behind = spans;
                self.enter(first);
            }
            Some(Access::Entities(entities)) => self.look_up(entities),
        }
        Ok(())
    }

    /// Goes on with another span.
    pub(super) fn enter(&mut self, span: Span) {
        self.span = span;
        self.started = false;
        let scan = |run: &Run| Run::scan(&self.spec.db, run.attribute(), span);
        self.runs = self.runs.iter().map(scan).collect();
    }

    /// Goes on with these entities alone, each looked up.
    fn look_up(&mut self, entities: Vec<i64>) {
        self.run_time.look_up(entities.len());
        self.behind.clear();
        let db = &self.spec.db;
        if let Rows::Facts = self.rows {
            self.runs = vec![Run::points(
                db,
                self.runs[0].attribute(),
                entities,
                GATHER_AHEAD,
            )];
            return;
        }
        if let Rows::Run(run) = self.rows {
            self.members = Arc::new([self.runs[run].attribute().id.0]);
        }
        let empty = |run: &Run| Run::empty(db, run.attribute());
        self.runs = self.runs.iter().map(empty).collect();
        self.rows = Rows::Ids {
            ids: Some(entities.into()),
            at: 0,
            one_by_one: true,
        };
    }

    /// Keeps those of the entities that an index answered that lie in some spans.
    async fn retain(&mut self, within: &[Span]) -> Result<()> {
        let found = self.ids().await?;
        let lies = |e: &i64| {
            let at = within.partition_point(|span| span.last < *e);
            within.get(at).is_some_and(|span| span.first <= *e)
        };
        let kept: Vec<i64> = found.iter().copied().filter(lies).collect();
        if kept.len() == found.len() {
            return Ok(());
        }
        if kept.len() <= self.run_time.affordable(&self.spec) {
            self.look_up(kept);
            return Ok(());
        }
        if let (Some(&first), Some(&last)) = (kept.first(), kept.last()) {
            self.enter(Span { first, last });
        }
        self.rows = Rows::Ids {
            ids: Some(kept.into()),
            at: 0,
            one_by_one: false,
        };
        Ok(())
    }
}
