//! A store behind a server: the objects and the heads of a `ws:` address.
//!
//! Connects when it is first asked, and anew after a connection has ended. What can be asked twice is then
//! asked a second time, once; a swap of a head never is.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::DateTime;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{
    Attributes, CopyOptions, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    PutResult,
};
use tokio::task::JoinSet;
use url::Url;

use super::connection::{Connection, Failure, Target};
use super::frame::{Answer, Kind, Object, Part, Request, Why};
use super::token::SyncToken;
use crate::error::{Error, Result};
use crate::id::{BranchName, PackId};
use crate::store::failure::unsupported;
use crate::store::head::{self, CasOutcome, HEAD_BYTES_MAX, HeadStore, HeadVersion};
use crate::store::{Store, layout};
use crate::wire::Reader;

/// What refuses operations that the protocol does not have.
const SERVER: &str = "a sync server";

/// Longest object, in bytes: a frame of a pack is at most as long.
pub(super) const OBJECT_BYTES_MAX: u64 = 1 << 32;
/// Longest listing, in bytes.
pub(super) const LISTING_BYTES_MAX: u64 = 1 << 30;

/// Opens the store at an address, without asking it anything yet.
pub(in crate::store) fn open(url: &Url, location: String) -> Result<Store> {
    let token = SyncToken::from_environment()?;
    Ok(open_with(url, location, token, |_| ()))
}

/// [`open`] with a token, and a target that may be changed.
pub(super) fn open_with(
    url: &Url,
    location: String,
    token: Option<SyncToken>,
    change: impl FnOnce(&mut Target),
) -> Store {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(80);
    let mut target = Target {
        url: url.as_str().to_owned(),
        host: format!("{host}:{port}"),
        token,
        handshake: super::HANDSHAKE,
        patience: super::PATIENCE,
    };
    change(&mut target);
    let remote = Remote(Arc::new(Inner {
        target: Arc::new(target),
        location: location.clone(),
        connection: Mutex::default(),
    }));
    let heads = Arc::new(remote.clone());
    Store::new(Arc::new(remote), heads, location)
}

/// What a server serves under one name.
#[derive(Clone)]
struct Remote(Arc<Inner>);

struct Inner {
    target: Arc<Target>,
    location: String,
    connection: Mutex<Option<Connecting>>,
}

/// Many may wait for it, and it goes on when none does.
type Connecting = Shared<BoxFuture<'static, Result<Arc<Connection>, Failure>>>;

/// Connects in a task of its own: whoever gives up waiting holds nobody else up.
fn connect(target: &Arc<Target>) -> Connecting {
    let mut tasks = JoinSet::new();
    if tokio::runtime::Handle::try_current().is_ok() {
        tasks.spawn(Connection::open(Arc::clone(target)));
    }
    let connecting = async move {
        match tasks.join_next().await {
            Some(Ok(opened)) => opened,
            None => Err(Failure::Unsent("sync needs a runtime of tokio".into())),
            Some(Err(_)) => Err(Failure::Unsent("connecting was ended".into())),
        }
    };
    connecting.boxed().shared()
}

impl Remote {
    async fn connection(&self) -> Result<Arc<Connection>, Failure> {
        let connecting = {
            let mut known = self.0.connection.lock();
            let known = known.as_mut().unwrap_or_else(|poisoned| {
                // Nothing panics while the lock is held, so what it guards is whole.
                PoisonError::get_mut(poisoned)
            });
            let of_use = |connecting: &&Connecting| match (*connecting).clone().now_or_never() {
                None => true,
                Some(Ok(open)) => !open.is_closed(),
                Some(Err(_)) => false,
            };
            match known.as_ref().filter(of_use) {
                Some(connecting) => connecting.clone(),
                None => known.insert(connect(&self.0.target)).clone(),
            }
        };
        connecting.await
    }

    /// Asks once.
    async fn ask_once(
        &self,
        request: Request,
        upload: Bytes,
        len_max: u64,
    ) -> Result<(Answer, Bytes), Failure> {
        let connection = self.connection().await?;
        if request.writes() && !connection.writes() {
            let said = format!(
                "{} can only be read: its server was not started to write",
                self.0.location
            );
            return Err(Failure::Said(Why::Denied, said));
        }
        connection.ask(request, upload, len_max).await
    }

    /// Asks what can be asked twice.
    async fn ask(
        &self,
        request: Request,
        upload: Bytes,
        len_max: u64,
    ) -> Result<(Answer, Bytes), Failure> {
        match self
            .ask_once(request.clone(), upload.clone(), len_max)
            .await
        {
            Err(Failure::Broken(_)) => self.ask_once(request, upload, len_max).await,
            answer => answer,
        }
    }

    async fn head(
        &self,
        branch: &BranchName,
        seen: Option<&HeadVersion>,
        wait: bool,
    ) -> Result<Option<(Bytes, HeadVersion)>> {
        let request = Request::Head {
            branch: branch.clone(),
            seen: seen.cloned(),
            wait,
        };
        match self.ask(request, Bytes::new(), HEAD_BYTES_MAX as u64).await {
            Ok((Answer::Head { version, .. }, body)) => Ok(Some((body, version))),
            Ok((Answer::Same, _)) if seen.is_some() => Ok(None),
            Ok((Answer::Absent, _)) if seen.is_none() => Ok(None),
            Ok((Answer::Absent, _)) => Err(head::absent(&self.0.location, branch)),
            Ok(_) => Err(self.error(unasked(), branch.as_str())),
            Err(failure) => Err(self.error(failure, branch.as_str())),
        }
    }

    fn error(&self, failure: Failure, of: &str) -> Error {
        match failure {
            Failure::Said(Why::Denied, said) => Error::Invalid(said),
            Failure::Said(Why::Corrupt, said) => Error::corrupt(of, said),
            failure => crate::store::failure(&self.0.location, failure),
        }
    }

    async fn listed(&self, prefix: Option<Key>) -> object_store::Result<Vec<ObjectMeta>> {
        let kind = match prefix.as_ref().map(AsRef::as_ref) {
            Some(layout::PACKS) => Kind::Pack,
            Some(layout::NOTES) => Kind::Note,
            _ => return unsupported(SERVER, "list of other than packs and notes"),
        };
        let request = Request::List(kind);
        let (answer, body) = self
            .ask(request, Bytes::new(), LISTING_BYTES_MAX)
            .await
            .map_err(|failure| object_error(failure, "the listing"))?;
        let (Answer::Listing { .. }, true) = (answer, body.len().is_multiple_of(LISTED_BYTES))
        else {
            return Err(object_error(unasked(), "the listing"));
        };
        let mut from = Reader::new(&body);
        let mut found = Vec::new();
        while let (Ok(id), Ok(size), Ok(modified)) = (from.array(), from.u64(), from.u64()) {
            let id = PackId(id);
            let key = Object { kind, id }.key(&Key::ROOT);
            found.push(object_meta(key, size, modified.cast_signed()));
        }
        Ok(found)
    }
}

/// Bytes of an object in a listing: its identity, length and time.
pub(super) const LISTED_BYTES: usize = 32;

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.location)
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote")
            .field("location", &self.0.location)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl ObjectStore for Remote {
    async fn put_opts(
        &self,
        key: &Key,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        if options.mode != PutMode::Create || !options.attributes.is_empty() {
            return unsupported(SERVER, "put other than `PutMode::Create`");
        }
        let (object, body) = (object_at(key)?, Bytes::from(payload));
        let len = body.len() as u64;
        match self.ask(Request::Put { object, len }, body, 0).await {
            Ok((Answer::Done, _)) => Ok(PutResult {
                e_tag: None,
                version: None,
            }),
            Ok(_) => Err(object_error(unasked(), key)),
            Err(failure) => Err(object_error(failure, key)),
        }
    }

    async fn get_opts(&self, key: &Key, options: GetOptions) -> object_store::Result<GetResult> {
        let (part, len_max) = match &options.range {
            _ if options.head => (Part::Nothing, 0),
            None => (Part::All, OBJECT_BYTES_MAX),
            Some(GetRange::Bounded(range)) => {
                let (start, end) = (range.start, range.end);
                (Part::Range { start, end }, end.saturating_sub(start))
            }
            Some(GetRange::Offset(start)) => (Part::From(*start), OBJECT_BYTES_MAX),
            Some(GetRange::Suffix(len)) => (Part::Last(*len), *len),
        };
        let object = object_at(key)?;
        let request = Request::Get { object, part };
        let asked = self.ask(request, Bytes::new(), len_max).await;
        let (answer, body) = asked.map_err(|failure| object_error(failure, key))?;
        let Answer::Object {
            size,
            modified,
            start,
            len,
        } = answer
        else {
            return Err(object_error(unasked(), key));
        };
        // Bytes from elsewhere would be found out by their hash, but named after the wrong place.
        let wanted = match part {
            Part::Nothing => start..start,
            Part::All => 0..size,
            Part::Range { start, end } => start..end.min(size),
            Part::From(start) => start..size,
            Part::Last(len) => size.saturating_sub(len)..size,
        };
        if wanted.start != start || wanted.end.checked_sub(start) != Some(len) {
            return Err(object_error(unasked(), key));
        }
        let meta = object_meta(key.clone(), size, modified);
        options.check_preconditions(&meta)?;
        Ok(GetResult {
            payload: GetResultPayload::Stream(stream::iter([Ok(body)]).boxed()),
            meta,
            range: wanted,
            attributes: Attributes::new(),
        })
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let (this, prefix) = (self.clone(), prefix.cloned());
        let listing = async move {
            let found = this.listed(prefix).await?;
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
                let request = Request::Delete(object_at(&key)?);
                match this.ask(request, Bytes::new(), 0).await {
                    Ok((Answer::Done, _)) => Ok(key),
                    Ok(_) => Err(object_error(unasked(), &key)),
                    Err(failure) => Err(object_error(failure, &key)),
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
        unsupported(SERVER, "multipart upload")
    }

    async fn list_with_delimiter(&self, _: Option<&Key>) -> object_store::Result<ListResult> {
        unsupported(SERVER, "list with delimiter")
    }

    async fn copy_opts(&self, _: &Key, _: &Key, _: CopyOptions) -> object_store::Result<()> {
        unsupported(SERVER, "copy")
    }
}

#[async_trait]
impl HeadStore for Remote {
    async fn get(&self, branch: &BranchName) -> Result<Option<(Bytes, HeadVersion)>> {
        self.head(branch, None, false).await
    }

    async fn get_if_changed(
        &self,
        branch: &BranchName,
        seen: &HeadVersion,
    ) -> Result<Option<(Bytes, HeadVersion)>> {
        self.head(branch, Some(seen), false).await
    }

    async fn get_when_changed(
        &self,
        branch: &BranchName,
        seen: &HeadVersion,
    ) -> Result<Option<(Bytes, HeadVersion)>> {
        self.head(branch, Some(seen), true).await
    }

    fn is_live(&self) -> bool {
        true
    }

    async fn cas(
        &self,
        branch: &BranchName,
        expected: Option<&HeadVersion>,
        body: Bytes,
    ) -> CasOutcome {
        let request = Request::Swap {
            branch: branch.clone(),
            expected: expected.cloned(),
            len: body.len() as u64,
        };
        let error = |failure| self.error(failure, branch.as_str());
        match self.ask_once(request, body, 0).await {
            Ok((Answer::Swapped(version), _)) => CasOutcome::Swapped(version),
            Ok((Answer::Conflict, _)) => CasOutcome::Conflict,
            Ok(_) => CasOutcome::Unknown(error(unasked())),
            Err(failure @ (Failure::Broken(_) | Failure::Said(Why::Unknown, _))) => {
                CasOutcome::Unknown(error(failure))
            }
            Err(failure) => CasOutcome::Failed(error(failure)),
        }
    }

    async fn list(&self) -> Result<Vec<BranchName>> {
        let asked = self
            .ask(Request::Branches, Bytes::new(), LISTING_BYTES_MAX)
            .await;
        let error = |failure| self.error(failure, "the listing of branches");
        let (Answer::Listing { .. }, body) = asked.map_err(error)? else {
            return Err(error(unasked()));
        };
        let mut from = Reader::new(&body);
        let mut found = Vec::new();
        while from.remaining() > 0 {
            let name = from.text().map_err(|_| error(unasked()))?;
            found.push(BranchName::try_new(name)?);
        }
        Ok(found)
    }
}

/// The server is none, or not of this version.
fn unasked() -> Failure {
    Failure::Broken("the server answered something else than was asked".into())
}

fn object_error(failure: Failure, of: impl ToString) -> object_store::Error {
    use object_store::Error as E;

    let (path, why) = (
        of.to_string(),
        match &failure {
            Failure::Said(why, _) => Some(*why),
            _ => None,
        },
    );
    let source = failure.into();
    match why {
        Some(Why::Missing) => E::NotFound { path, source },
        Some(Why::Exists) => E::AlreadyExists { path, source },
        Some(Why::Denied) => E::PermissionDenied { path, source },
        Some(Why::Unsupported) => E::NotSupported { source },
        _ => E::Generic {
            store: "sync",
            source,
        },
    }
}

/// What a server said that does not let this client do something.
pub(in crate::store) fn denied(error: &object_store::Error) -> Option<String> {
    let object_store::Error::PermissionDenied { source, .. } = error else {
        return None;
    };
    match source.downcast_ref()? {
        Failure::Said(Why::Denied, said) => Some(said.clone()),
        _ => None,
    }
}

fn object_at(key: &Key) -> object_store::Result<Object> {
    let pack = layout::pack_at(&Key::ROOT, key).map(|id| (Kind::Pack, id));
    let found = pack.or_else(|| Some((Kind::Note, layout::note_at(&Key::ROOT, key)?)));
    match found {
        Some((kind, id)) => Ok(Object { kind, id }),
        None => unsupported(SERVER, "anything but packs and notes"),
    }
}

fn object_meta(location: Key, size: u64, modified: i64) -> ObjectMeta {
    ObjectMeta {
        location,
        last_modified: DateTime::from_timestamp_millis(modified).unwrap_or_default(),
        size,
        e_tag: None,
        version: None,
    }
}
