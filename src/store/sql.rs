//! A table of PostgreSQL or SQLite as a store.
//!
//! [`SqlStore`] keeps packs, notes and heads, under the keys of [`layout`](super::layout), in one table;
//! a database holds as many stores as it has tables. Addresses are read in `address`, connections and
//! what can go wrong with them are in `engine` and `failure`.
//!
//! ```text
//! key            piece  size    version           modified       body
//! packs/ab/ab…   0      150000                    1769126400000  the first 64 KiB
//! packs/ab/ab…   1      150000                    1769126400000  the next
//! packs/ab/ab…   2      150000                    1769126400000  the rest
//! heads/main     0      3021    hash of the body  1769126400000  all of the head
//! ```
//!
//! Objects lie in pieces, so that a range is read without the rest of a pack, which SQLite would read up
//! to it. Keys are compared byte by byte and looked up by bounds, never by patterns. The first write
//! makes the table; reading a store that is not there finds nothing and makes nothing.
//!
//! **Invariant.** The pieces of an object are written and deleted in one transaction.
//!
//! **Invariant.** A head is one row, and one statement swaps it if its version is still the expected one.
//! Its durability is that of a transaction: SQLite runs with `synchronous=FULL`, PostgreSQL as it is
//! configured (`synchronous_commit`).
//!
//! Deleted packs leave room in the database that later ones take; the file of SQLite never shrinks.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::DateTime;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{
    CopyOptions, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};

use self::engine::{Arg, Database, Statement};
use self::failure::Failure;
use super::failure::unsupported;
use super::head::{self, CasOutcome, HEAD_BYTES_MAX, HeadStore, HeadVersion};
use super::layout;
use crate::error::{Error, Result};
use crate::id::BranchName;

mod address;
mod engine;
mod failure;
#[cfg(test)]
mod tests;

pub(super) use self::address::{open_postgres, open_sqlite};

/// Length of every piece of an object but the last, in bytes. Stored ones have it for ever.
const PIECE_BYTES: u64 = 64 << 10;
/// Pieces that one statement inserts: a megabyte, and few parameters.
const PIECES_MAX: usize = 16;
/// After every key.
const LAST: &str = "\u{10ffff}";

/// The objects and the heads of one table.
#[derive(Clone)]
pub(super) struct SqlStore(Arc<Database>);

/// Size, time of writing, number of a piece and its bytes.
type PieceRow = (i64, i64, Option<i64>, Option<Vec<u8>>);

impl SqlStore {
    fn sql(&self, template: &str) -> String {
        template.replace("TABLE", &self.0.table)
    }

    /// Writes what may find no table, and makes it then.
    async fn write(&self, statements: Vec<Statement>, repeatable: bool) -> Result<u64, Failure> {
        let statements: Arc<[Statement]> = statements.into();
        match self.0.write(Arc::clone(&statements), repeatable).await {
            Err(Failure::Absent) => {
                self.0.create().await?;
                self.0.write(statements, repeatable).await
            }
            done => done,
        }
    }

    fn insert(&self, key: &str, size: u64, version: &str, pieces: &[(i64, Bytes)]) -> Statement {
        let now = self.0.now();
        let mut args = vec![
            Arg::Text(key.to_owned()),
            Arg::Int(signed(size)),
            Arg::Text(version.to_owned()),
        ];
        let mut rows = Vec::with_capacity(pieces.len());
        for (piece, body) in pieces {
            let next = args.len() + 1;
            rows.push(format!("($1, ${next}, $2, $3, {now}, ${})", next + 1));
            args.push(Arg::Int(*piece));
            args.push(Arg::Bytes(body.clone()));
        }
        let sql = format!(
            "INSERT INTO TABLE (key, piece, size, version, modified, body) VALUES {} \
             ON CONFLICT (key, piece) DO NOTHING",
            rows.join(", ")
        );
        Statement::new(self.sql(&sql), args)
    }

    fn failure(&self, failure: Failure) -> Error {
        super::failure(&self.0.location, failure)
    }

    async fn listed(&self, prefix: Option<&Key>) -> object_store::Result<Vec<ObjectMeta>> {
        let below = prefix.filter(|prefix| !prefix.as_ref().is_empty());
        // `0` comes after `/`, and nothing between them.
        let (from, to) = match below {
            Some(prefix) => (format!("{prefix}/"), format!("{prefix}0")),
            None => (String::new(), LAST.to_owned()),
        };
        let sql = "SELECT key, size, modified FROM TABLE \
                   WHERE key >= $1 AND key < $2 AND piece = 0 ORDER BY key";
        let statement = Statement::new(self.sql(sql), vec![Arg::Text(from), Arg::Text(to)]);
        match self.0.read::<(String, i64, i64)>(statement).await {
            Ok(rows) => rows
                .into_iter()
                .map(|(key, size, modified)| Ok(object_meta(Key::parse(key)?, size, modified)))
                .collect(),
            Err(Failure::Absent) => Ok(Vec::new()),
            Err(failure) => Err(failure.of("the listing")),
        }
    }
}

impl fmt::Display for SqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.location)
    }
}

impl fmt::Debug for SqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The options of a connection are left out: they print the password.
        f.debug_struct("SqlStore")
            .field("location", &self.0.location)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl ObjectStore for SqlStore {
    async fn put_opts(
        &self,
        key: &Key,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        if options.mode != PutMode::Create || !options.attributes.is_empty() {
            return unsupported("SqlStore", "put other than `PutMode::Create`");
        }
        let body = Bytes::from(payload);
        let pieces = pieces(&body);
        // The first piece alone decides whether the key is free.
        let (first, rest) = pieces.split_at(1);
        let statements = std::iter::once(first)
            .chain(rest.chunks(PIECES_MAX))
            .map(|pieces| self.insert(key.as_ref(), body.len() as u64, "", pieces))
            .collect();
        match self.write(statements, true).await {
            Ok(0) => Err(object_store::Error::AlreadyExists {
                path: key.to_string(),
                source: "the table has this key".into(),
            }),
            Ok(_) => Ok(PutResult {
                e_tag: None,
                version: None,
            }),
            Err(failure) => Err(failure.of(key)),
        }
    }

    async fn get_opts(&self, key: &Key, options: GetOptions) -> object_store::Result<GetResult> {
        let (which, mut args) = match &options.range {
            _ if options.head => ("p.piece < 0", vec![]),
            None => ("p.piece >= 0", vec![]),
            Some(GetRange::Bounded(range)) => {
                let first = range.start / PIECE_BYTES;
                let last = range.end.saturating_sub(1) / PIECE_BYTES;
                let args = vec![Arg::Int(signed(first)), Arg::Int(signed(last))];
                ("p.piece BETWEEN $2 AND $3", args)
            }
            Some(GetRange::Offset(start)) => {
                let args = vec![Arg::Int(signed(start / PIECE_BYTES))];
                ("p.piece >= $2", args)
            }
            Some(GetRange::Suffix(len)) => {
                let args = vec![Arg::Int(signed(*len)), Arg::Int(signed(PIECE_BYTES))];
                ("p.piece >= (m.size - $2) / $3", args)
            }
        };
        args.insert(0, Arg::Text(key.to_string()));
        let sql = format!(
            "SELECT m.size, m.modified, p.piece, p.body FROM TABLE m \
             LEFT JOIN TABLE p ON p.key = m.key AND {which} \
             WHERE m.key = $1 AND m.piece = 0 ORDER BY p.piece"
        );
        let statement = Statement::new(self.sql(&sql), args);
        let rows: Vec<PieceRow> = match self.0.read(statement).await {
            Err(Failure::Absent) => Vec::new(),
            rows => rows.map_err(|failure| failure.of(key))?,
        };
        let Some((size, modified, ..)) = rows.first() else {
            return Err(object_store::Error::NotFound {
                path: key.to_string(),
                source: Failure::Absent.into(),
            });
        };
        let meta = object_meta(key.clone(), *size, *modified);
        options.check_preconditions(&meta)?;
        let range = match &options.range {
            _ if options.head => 0..0,
            None => 0..meta.size,
            Some(range) => {
                range
                    .as_range(meta.size)
                    .map_err(|error| object_store::Error::Generic {
                        store: "sql",
                        source: error.into(),
                    })?
            }
        };
        let chunks: Vec<_> = rows
            .into_iter()
            .filter_map(|(_, _, piece, body)| within(&range, piece?, body?.into()))
            .map(Ok)
            .collect();
        Ok(GetResult {
            payload: GetResultPayload::Stream(stream::iter(chunks).boxed()),
            meta,
            range,
            attributes: object_store::Attributes::new(),
        })
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let (this, prefix) = (self.clone(), prefix.cloned());
        let listing = async move {
            let found = this.listed(prefix.as_ref()).await?;
            Ok::<_, object_store::Error>(stream::iter(found.into_iter().map(Ok)))
        };
        stream::once(listing).try_flatten().boxed()
    }

    fn delete_stream(
        &self,
        keys: BoxStream<'static, object_store::Result<Key>>,
    ) -> BoxStream<'static, object_store::Result<Key>> {
        let this = self.clone();
        keys.and_then(move |key| {
            let this = this.clone();
            async move {
                let sql = this.sql("DELETE FROM TABLE WHERE key = $1");
                let statement = Statement::new(sql, vec![Arg::Text(key.to_string())]);
                match this.0.write([statement].into(), true).await {
                    Ok(0) | Err(Failure::Absent) => Err(object_store::Error::NotFound {
                        path: key.to_string(),
                        source: "the table has no such key".into(),
                    }),
                    Ok(_) => Ok(key),
                    Err(failure) => Err(failure.of(key)),
                }
            }
        })
        .boxed()
    }

    async fn put_multipart_opts(
        &self,
        _: &Key,
        _: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        unsupported("SqlStore", "multipart upload")
    }

    async fn list_with_delimiter(&self, _: Option<&Key>) -> object_store::Result<ListResult> {
        unsupported("SqlStore", "list with delimiter")
    }

    async fn copy_opts(&self, _: &Key, _: &Key, _: CopyOptions) -> object_store::Result<()> {
        unsupported("SqlStore", "copy")
    }
}

/// The pieces of a body and their numbers; at least one.
fn pieces(body: &Bytes) -> Vec<(i64, Bytes)> {
    let len = usize::try_from(PIECE_BYTES).expect("a piece fits into memory");
    let count = body.len().div_ceil(len).max(1);
    (0..count)
        .map(|piece| body.slice(piece * len..body.len().min((piece + 1) * len)))
        .zip(0..)
        .map(|(piece, number)| (number, piece))
        .collect()
}

/// What of a piece lies within a range of its object, if anything does.
fn within(range: &Range<u64>, piece: i64, body: Bytes) -> Option<Bytes> {
    let start = u64::try_from(piece).ok()?.checked_mul(PIECE_BYTES)?;
    let cut = |at: u64| (at.saturating_sub(start)).min(body.len() as u64);
    let (from, to) = (cut(range.start), cut(range.end));
    let (from, to) = (usize::try_from(from).ok()?, usize::try_from(to).ok()?);
    (from < to).then(|| body.slice(from..to))
}

/// Lengths and places beyond what SQL can count are beyond the end of every object.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn object_meta(location: Key, size: i64, modified: i64) -> ObjectMeta {
    ObjectMeta {
        location,
        last_modified: DateTime::from_timestamp_millis(modified).unwrap_or_default(),
        size: u64::try_from(size).unwrap_or_default(),
        e_tag: None,
        version: None,
    }
}

fn head_key(branch: &BranchName) -> String {
    layout::head_key(&Key::ROOT, branch).into()
}

#[async_trait]
impl HeadStore for SqlStore {
    async fn get(&self, branch: &BranchName) -> Result<Option<(Bytes, HeadVersion)>> {
        // No version is empty, so that every head has changed since.
        let unseen = HeadVersion::new("");
        match self.get_if_changed(branch, &unseen).await {
            Err(Error::NoDatabase { .. }) => Ok(None),
            found => found,
        }
    }

    async fn get_if_changed(
        &self,
        branch: &BranchName,
        seen: &HeadVersion,
    ) -> Result<Option<(Bytes, HeadVersion)>> {
        let sql = "SELECT version, CASE WHEN version <> $2 AND octet_length(body) <= $3 THEN body END \
                   FROM TABLE WHERE key = $1 AND piece = 0";
        let args = vec![
            Arg::Text(head_key(branch)),
            Arg::Text(seen.tag().to_owned()),
            Arg::Int(signed(HEAD_BYTES_MAX as u64)),
        ];
        let statement = Statement::new(self.sql(sql), args);
        let rows: Vec<(String, Option<Vec<u8>>)> = match self.0.read(statement).await {
            Err(Failure::Absent) => Vec::new(),
            rows => rows.map_err(|failure| self.failure(failure))?,
        };
        match rows.into_iter().next() {
            None => Err(head::absent(&self.0.location, branch)),
            Some((version, _)) if version == seen.tag() => Ok(None),
            Some((version, Some(body))) => Ok(Some((body.into(), HeadVersion::new(version)))),
            Some((_, None)) => Err(head::too_long(&head_key(branch))),
        }
    }

    async fn cas(
        &self,
        branch: &BranchName,
        expected: Option<&HeadVersion>,
        body: Bytes,
    ) -> CasOutcome {
        let (key, next) = (head_key(branch), HeadVersion::of_body(&body));
        let size = body.len() as u64;
        let done = match expected {
            None => {
                let insert = self.insert(&key, size, next.tag(), &[(0, body)]);
                self.write(vec![insert], false).await
            }
            Some(expected) => {
                let sql = format!(
                    "UPDATE TABLE SET size = $2, version = $3, modified = {}, body = $4 \
                     WHERE key = $1 AND piece = 0 AND version = $5",
                    self.0.now()
                );
                let args = vec![
                    Arg::Text(key),
                    Arg::Int(signed(size)),
                    Arg::Text(next.tag().to_owned()),
                    Arg::Bytes(body),
                    Arg::Text(expected.tag().to_owned()),
                ];
                let update = Statement::new(self.sql(&sql), args);
                // Where there is no table, there is no head that could be swapped.
                match self.0.write([update].into(), false).await {
                    Err(Failure::Absent) => Ok(0),
                    done => done,
                }
            }
        };
        match done {
            Ok(0) => CasOutcome::Conflict,
            Ok(_) => CasOutcome::Swapped(next),
            Err(failure) if failure.may_have_happened() => {
                CasOutcome::Unknown(self.failure(failure))
            }
            Err(failure) => CasOutcome::Failed(self.failure(failure)),
        }
    }

    async fn list(&self) -> Result<Vec<BranchName>> {
        let below = Key::from(layout::HEADS);
        let found = self
            .listed(Some(&below))
            .await
            .map_err(|error| super::failure(&self.0.location, super::failure::requested(error)))?;
        Ok(found
            .iter()
            .filter_map(|meta| layout::branch_at(&Key::ROOT, &meta.location))
            .collect())
    }
}
