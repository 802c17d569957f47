//! The answering side: stores of this process, for whoever asks over WebSocket.
//!
//! Each request runs as a task of its own and reads no faster than its answer is taken in. How many a client
//! has under way is bounded by what it was granted, which comes back when one is done, and by the heads that
//! it waits for at no cost; what it sends by a number of bytes, which are its to use anew when they are written.
//!
//! **Invariant.** Without a token, only this machine is served, and no web page on it.
//!
//! **Invariant.** Nothing is written unless the server was told to take writes, and nothing that a client
//! sent is kept before all of it is there.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::{Either, select};
use futures::stream::{StreamExt, TryStreamExt};
use object_store::{GetOptions, GetRange, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::accept_hdr_async_with_config;
use tokio_tungstenite::tungstenite::handshake::server::{
    ErrorResponse, Request as HttpRequest, Response as HttpResponse,
};
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::http::header::{AUTHORIZATION, ORIGIN};

use super::client::{LISTING_BYTES_MAX, OBJECT_BYTES_MAX};
use super::frame::{Answer, DATA_BYTES_MAX, Frame, Kind, Object, Part, Request, VERSION, Why};
use super::link::{Broken, Link, parts, read};
use super::token::SyncToken;
use crate::error::{Error, Result};
use crate::id::BranchName;
use crate::store::head::HEAD_BYTES_MAX;
use crate::store::{CasOutcome, HeadVersion, Store, failure};
use crate::wire::{Malformed, Writer};

/// Clients that are served at once; others wait to be.
const CLIENTS_MAX: usize = 256;
/// Frames that a client's answers may have ready at once.
const READY_MAX: usize = 16;
/// Heads that a client waits for at no cost.
const WAITS_MAX: usize = 256;
/// Bytes of bodies that are held for a client at once.
const UPLOAD_BYTES_MAX: u32 = 1 << 30;
/// How long a client may have nothing to say, whatever it waits for.
const IDLE: Duration = Duration::from_mins(5);
/// How long nobody new is served after the system could open no connection.
const PAUSE: Duration = Duration::from_millis(100);

/// What a server serves, and to whom.
#[derive(Clone, Debug)]
pub struct SyncServer {
    stores: BTreeMap<String, Store>,
    token: Option<SyncToken>,
    writes: bool,
    every: Duration,
    pub(super) idle: Duration,
}

impl SyncServer {
    /// A server of stores by their names: `ws://host:port/NAME` is the address of each.
    ///
    /// Whoever shows the token is served; without one, whoever is on this machine.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if two have one name, or if a name has other characters than letters, digits, `-`,
    /// `_` and `.`, or is `.` or `..`, which no address holds.
    pub fn try_new(
        stores: impl IntoIterator<Item = (String, Store)>,
        token: Option<SyncToken>,
    ) -> Result<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let mut named = BTreeMap::new();
        for (name, store) in stores {
            if !name.chars().all(plain) || [".", ".."].contains(&&*name) {
                return Err(Error::invalid(format!(
                    "{name:?} can not be served: a name consists of letters, digits, - _ and ., and is \
                     neither . nor .."
                )));
            }
            if named.contains_key(&name) {
                return Err(Error::invalid(format!(
                    "two stores can not be served under one name, {name:?}"
                )));
            }
            named.insert(name, store);
        }
        Ok(Self {
            stores: named,
            token,
            writes: false,
            every: Duration::from_secs(1),
            idle: IDLE,
        })
    }

    /// Refuses an address that other machines reach, if there is no token that they could show.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] says what to do.
    pub fn check(&self, address: &SocketAddr) -> Result<()> {
        if self.token.is_none() && !address.ip().is_loopback() {
            return Err(Error::invalid(format!(
                "{address} can be reached from other machines: set DATOMFUSION_SYNC_TOKEN, or listen on \
                 127.0.0.1"
            )));
        }
        Ok(())
    }

    /// This server, taking writes too.
    #[must_use]
    pub fn with_writes(mut self, writes: bool) -> Self {
        self.writes = writes;
        self
    }

    /// This server, looking so often whether others changed a head that a client waits for: every second
    /// unless it is said. What is written through this server is told at once.
    #[must_use]
    pub fn with_looks_every(mut self, every: Duration) -> Self {
        self.every = every;
        self
    }
}

/// Serves stores to whoever connects; ends only with an error, or when the future is dropped.
///
/// # Errors
///
/// [`Error::Invalid`] at once if there is no token and the listener can be reached from other machines.
pub async fn serve_sync(listener: TcpListener, server: SyncServer) -> Result<()> {
    let address = listener
        .local_addr()
        .map_err(|error| failure("the listener of sync", error))?;
    server.check(&address)?;
    let served = server.stores.iter().map(|(name, store)| {
        let served = Served {
            store: store.clone(),
            writes: server.writes,
            every: server.every,
            swaps: Arc::new(watch::Sender::new(())),
        };
        (name.clone(), served)
    });
    let doors = Arc::new(Doors {
        served: served.collect(),
        token: server.token,
        idle: server.idle,
    });
    let places = Arc::new(Semaphore::new(CLIENTS_MAX));
    let mut clients = JoinSet::new();
    loop {
        let place = Arc::clone(&places).acquire_owned().await;
        match listener.accept().await {
            Ok((socket, _)) => {
                let doors = Arc::clone(&doors);
                clients.spawn(async move {
                    // Nobody is there to be told why a client went away.
                    let _ = doors.serve(socket).await;
                    drop(place);
                });
            }
            Err(_) => drop(timeout(PAUSE, std::future::pending::<()>()).await),
        }
        while clients.try_join_next().is_some() {}
    }
}

/// What is served to all clients, and who is let in.
struct Doors {
    served: BTreeMap<String, Served>,
    token: Option<SyncToken>,
    idle: Duration,
}

/// One store.
#[derive(Clone)]
struct Served {
    store: Store,
    writes: bool,
    every: Duration,
    /// Tells that a head was swapped through this server.
    swaps: Arc<watch::Sender<()>>,
}

impl Doors {
    /// What is behind an address, for those who may know.
    fn knock(&self, request: &HttpRequest) -> std::result::Result<Served, StatusCode> {
        // Browsers say which page asks, and no page of any kind is a client.
        if request.headers().contains_key(ORIGIN) {
            return Err(StatusCode::FORBIDDEN);
        }
        if let Some(token) = &self.token
            && !token.is_in(request.headers().get(AUTHORIZATION))
        {
            return Err(StatusCode::UNAUTHORIZED);
        }
        let name = request.uri().path().trim_matches('/');
        let served = self.served.get(name).cloned();
        served.ok_or(StatusCode::NOT_FOUND)
    }

    async fn serve(&self, socket: TcpStream) -> std::result::Result<(), Broken> {
        let late = |_| Broken("it did not introduce itself".into());
        // Frames are small and somebody waits for each.
        let _ = socket.set_nodelay(true);
        let mut served = None;
        #[allow(clippy::result_large_err, reason = "the signature is the library's")]
        let knock = |request: &HttpRequest,
                     response: HttpResponse|
         -> std::result::Result<HttpResponse, ErrorResponse> {
            match self.knock(request) {
                Ok(found) => {
                    served = Some(found);
                    Ok(response)
                }
                Err(status) => {
                    let mut refused = ErrorResponse::new(None);
                    *refused.status_mut() = status;
                    Err(refused)
                }
            }
        };
        let socket = accept_hdr_async_with_config(socket, knock, Some(super::config()));
        let socket = timeout(super::HANDSHAKE, socket).await.map_err(late)??;
        let served = served.ok_or(Malformed("nothing was asked for"))?;
        let (sink, mut stream) = socket.split();
        let (link, outgoing) = Link::new();
        let link = Arc::new(link);
        let writing = Box::pin(link.write(outgoing, sink, super::PATIENCE));
        let serving = Box::pin(async {
            let hello = timeout(super::HANDSHAKE, read(&mut stream)).await;
            // Also to those who speak another version: they learn which one it is.
            link.greet(served.writes);
            match hello.map_err(late)?? {
                Frame::Hello {
                    version: VERSION,
                    credit,
                    ..
                } => link.grant(credit)?,
                Frame::Hello { .. } => {
                    // Once they have read it, they go away.
                    let _ = timeout(super::HANDSHAKE, read(&mut stream)).await;
                    return Err(Malformed("it speaks another version").into());
                }
                _ => return Err(Malformed("a client introduces itself first").into()),
            }
            let mut session = Session::new(served, Arc::clone(&link));
            loop {
                // Also from one that waits for an answer: it grants what it takes in, or asks again.
                let Ok(frame) = timeout(self.idle, read(&mut stream)).await else {
                    return Ok(());
                };
                session.take_in(frame?)?;
            }
        });
        match select(writing, serving).await {
            Either::Left((why, _)) => Err(why),
            Either::Right((done, _)) => done,
        }
    }
}

/// What a client has under way.
struct Session {
    served: Served,
    link: Arc<Link>,
    ready: Arc<Semaphore>,
    waits: Arc<Semaphore>,
    /// A permit is a byte.
    room: Arc<Semaphore>,
    tasks: JoinSet<u32>,
    running: HashMap<u32, AbortHandle>,
    uploads: HashMap<u32, Upload>,
}

/// A request whose body is still on its way.
struct Upload {
    request: Request,
    body: Vec<Bytes>,
    left: u64,
    /// Held with the body. Without it, what comes is not kept.
    room: std::result::Result<Option<OwnedSemaphorePermit>, Refused>,
    paid: Paid,
}

/// A request's share of the grant, which comes back when it is done.
struct Paid(Arc<Link>);

impl Drop for Paid {
    fn drop(&mut self) {
        self.0.took();
    }
}

impl Session {
    fn new(served: Served, link: Arc<Link>) -> Self {
        Self {
            served,
            link,
            ready: Arc::new(Semaphore::new(READY_MAX)),
            waits: Arc::new(Semaphore::new(WAITS_MAX)),
            room: Arc::new(Semaphore::new(
                (UPLOAD_BYTES_MAX as usize).min(Semaphore::MAX_PERMITS),
            )),
            tasks: JoinSet::new(),
            running: HashMap::new(),
            uploads: HashMap::new(),
        }
    }

    fn reap(&mut self) {
        while let Some(done) = self.tasks.try_join_next() {
            if let Ok(id) = done {
                self.running.remove(&id);
            }
        }
    }

    fn take_in(&mut self, frame: Frame) -> std::result::Result<(), Malformed> {
        self.reap();
        if frame.costs() {
            self.link.came()?;
        }
        match frame {
            Frame::Credit(frames) => self.link.grant(frames),
            Frame::Request { id, request } => {
                let paid = Paid(Arc::clone(&self.link));
                if self.running.contains_key(&id) || self.uploads.contains_key(&id) {
                    return Err(Malformed("two requests have one number"));
                }
                let (left, room) = match &request {
                    Request::Put { len, .. } => (*len, self.room(*len, UPLOAD_BYTES_MAX.into())),
                    Request::Swap { len, .. } => (*len, self.room(*len, HEAD_BYTES_MAX as u64)),
                    _ => (0, Ok(None)),
                };
                if left > OBJECT_BYTES_MAX {
                    return Err(Malformed("more is sent than any object has"));
                }
                let upload = Upload {
                    request,
                    body: Vec::new(),
                    left,
                    room,
                    paid,
                };
                if left == 0 {
                    self.start(id, upload);
                } else {
                    self.uploads.insert(id, upload);
                }
                Ok(())
            }
            Frame::Data { id, bytes } => {
                let upload = self.uploads.get_mut(&id);
                let upload = upload.ok_or(Malformed("data belong to no request"))?;
                let len = bytes.len() as u64;
                // Many small parts take more room than their bytes.
                if len != upload.left.min(DATA_BYTES_MAX as u64) {
                    return Err(Malformed("a part of a body is not as long as it has to be"));
                }
                upload.left -= len;
                if let Ok(Some(_)) = upload.room {
                    upload.body.push(bytes);
                }
                self.link.took();
                if upload.left == 0
                    && let Some(upload) = self.uploads.remove(&id)
                {
                    self.start(id, upload);
                }
                Ok(())
            }
            Frame::Cancel { id } => {
                self.uploads.remove(&id);
                if let Some(task) = self.running.remove(&id) {
                    task.abort();
                }
                self.link.took();
                Ok(())
            }
            Frame::Hello { .. } | Frame::Answer { .. } | Frame::Failed { .. } => {
                Err(Malformed("a frame is not for a server"))
            }
        }
    }

    /// Room for a body, where it will be kept.
    fn room(
        &self,
        len: u64,
        len_max: u64,
    ) -> std::result::Result<Option<OwnedSemaphorePermit>, Refused> {
        if !self.served.writes {
            return Ok(None);
        }
        let bytes = u32::try_from(len).ok().filter(|_| len <= len_max);
        let bytes =
            bytes.ok_or_else(|| Refused(Why::Unsupported, "it is too long to travel".into()))?;
        let room = Arc::clone(&self.room).try_acquire_many_owned(bytes);
        room.map(Some).map_err(|_| {
            let said = "this client sends more at once than is taken in";
            Refused(Why::Storage, said.into())
        })
    }

    fn start(&mut self, id: u32, upload: Upload) {
        let Upload {
            request,
            body,
            room,
            paid,
            ..
        } = upload;
        let out = Out {
            id,
            link: Arc::clone(&self.link),
            ready: Arc::clone(&self.ready),
        };
        let served = self.served.clone();
        let writes = request.writes();
        // Waiting is not to keep others from asking, so up to a bound it costs nothing.
        let waits = matches!(
            request,
            Request::Head {
                seen: Some(_),
                wait: true,
                ..
            }
        );
        let place = || Arc::clone(&self.waits).try_acquire_owned().ok();
        let waiting = waits.then(place).flatten();
        let paid = waiting.is_none().then_some(paid);
        let task = self.tasks.spawn(async move {
            let done = match room {
                Err(refused) => Err(refused),
                Ok(_room) if writes => served.write(request, body, &out).await,
                Ok(_) => served.read(request, &out).await,
            };
            if let Err(refused) = done {
                out.fail(refused).await;
            }
            drop((paid, waiting));
            id
        });
        // What writes has begun, and whoever asked for it may have gone.
        if !writes {
            self.running.insert(id, task);
        }
    }
}

/// Where an answer goes.
struct Out {
    id: u32,
    link: Arc<Link>,
    ready: Arc<Semaphore>,
}

impl Out {
    async fn send(&self, frame: Frame) {
        if let Ok(permit) = Arc::clone(&self.ready).acquire_owned().await {
            self.link.send_with(frame, permit);
        }
    }

    async fn answer(&self, answer: Answer, body: &Bytes) {
        let id = self.id;
        self.send(Frame::Answer { id, answer }).await;
        self.data(body).await;
    }

    async fn data(&self, body: &Bytes) {
        for bytes in parts(body) {
            self.send(Frame::Data { id: self.id, bytes }).await;
        }
    }

    async fn fail(&self, Refused(why, said): Refused) {
        // A frame has room for this, whatever its letters.
        let said = said.chars().take(1000).collect();
        let id = self.id;
        self.send(Frame::Failed { id, why, said }).await;
    }
}

/// Why a request is not fulfilled.
struct Refused(Why, String);

impl From<object_store::Error> for Refused {
    fn from(error: object_store::Error) -> Self {
        use object_store::Error as E;

        let why = match &error {
            // Here the storage would say where it lies on this machine.
            E::NotFound { .. } => return Self(Why::Missing, "it is not there".into()),
            E::AlreadyExists { .. } => return Self(Why::Exists, "it is there already".into()),
            E::NotSupported { .. } => Why::Unsupported,
            _ => Why::Storage,
        };
        Self(why, failure::requested(error).to_string())
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        match error {
            Error::Store { source, .. } => Self(Why::Storage, source.to_string()),
            Error::Corrupt { reason, .. } => Self(Why::Corrupt, reason),
            error @ Error::Invalid(_) => Self(Why::Denied, error.to_string()),
            error => Self(Why::Storage, error.to_string()),
        }
    }
}

impl Served {
    async fn read(&self, request: Request, out: &Out) -> std::result::Result<(), Refused> {
        match request {
            Request::Get { object, part } => self.get(object, part, out).await,
            Request::List(kind) => {
                let store = &self.store;
                let found = match kind {
                    Kind::Pack => store.list_packs().await?,
                    Kind::Note => store.list_notes().await?,
                };
                let mut body = Writer::new();
                for object in found {
                    body.raw(&object.id.0);
                    body.u64(object.len);
                    body.u64(object.modified.cast_unsigned());
                }
                listing(body, out).await
            }
            Request::Branches => {
                let mut body = Writer::new();
                for branch in self.store.list_branches().await? {
                    body.bytes(branch.as_str().as_bytes());
                }
                listing(body, out).await
            }
            Request::Head { branch, seen, wait } => {
                let found = match (seen, wait) {
                    (None, _) => self.store.head(&branch).await?,
                    (Some(seen), false) => match self.changed(&branch, &seen).await? {
                        Known::Changed(found) => found,
                        Known::Same => return same(out).await,
                    },
                    (Some(seen), true) => match self.when_changed(&branch, &seen).await? {
                        Known::Changed(found) => found,
                        Known::Same => return same(out).await,
                    },
                };
                match found {
                    Some((body, version)) => {
                        let len = body.len() as u64;
                        out.answer(Answer::Head { version, len }, &body).await;
                    }
                    None => out.answer(Answer::Absent, &Bytes::new()).await,
                }
                Ok(())
            }
            Request::Put { .. } | Request::Delete(_) | Request::Swap { .. } => {
                Err(Refused(Why::Unsupported, "this is no reading".into()))
            }
        }
    }

    async fn get(&self, object: Object, part: Part, out: &Out) -> std::result::Result<(), Refused> {
        let inner = &self.store.0;
        let range = match part {
            Part::All | Part::Nothing => None,
            Part::Range { start, end } => Some(GetRange::Bounded(start..end)),
            Part::From(start) => Some(GetRange::Offset(start)),
            Part::Last(len) => Some(GetRange::Suffix(len)),
        };
        let options = GetOptions::new()
            .with_range(range)
            .with_head(part == Part::Nothing);
        let key = object.key(&inner.prefix);
        let found = inner.objects.get_opts(&key, options).await;
        inner.counters.got(0);
        let found = found?;
        let range = match part {
            Part::Nothing => 0..0,
            _ => found.range.clone(),
        };
        let mut left = range.end.saturating_sub(range.start);
        if left > OBJECT_BYTES_MAX {
            return Err(Refused(Why::Unsupported, "it is too long to travel".into()));
        }
        let answer = Answer::Object {
            size: found.meta.size,
            modified: found.meta.last_modified.timestamp_millis(),
            start: range.start,
            len: left,
        };
        out.answer(answer, &Bytes::new()).await;
        if part == Part::Nothing {
            return Ok(());
        }
        let mut chunks = found.into_stream();
        let mut rest = BytesMut::new();
        while let Some(chunk) = chunks.try_next().await? {
            left = left.checked_sub(chunk.len() as u64).ok_or_else(|| {
                Refused(
                    Why::Storage,
                    "the storage answered more than it said".into(),
                )
            })?;
            if rest.is_empty() && chunk.len() >= DATA_BYTES_MAX / 4 {
                out.data(&chunk).await;
                continue;
            }
            rest.extend_from_slice(&chunk);
            if rest.len() >= DATA_BYTES_MAX {
                out.data(&rest.split().freeze()).await;
            }
        }
        out.data(&rest.freeze()).await;
        if left > 0 {
            let said = "the storage answered less than it said";
            return Err(Refused(Why::Storage, said.into()));
        }
        Ok(())
    }

    async fn changed(&self, branch: &BranchName, seen: &HeadVersion) -> Result<Known> {
        match self.store.head_if_changed(branch, seen).await {
            Ok(None) => Ok(Known::Same),
            Ok(found) => Ok(Known::Changed(found)),
            Err(Error::NoDatabase { .. }) => Ok(Known::Changed(None)),
            Err(error) => Err(error),
        }
    }

    /// Waits until the head is another, but not for ever.
    async fn when_changed(&self, branch: &BranchName, seen: &HeadVersion) -> Result<Known> {
        let until = Instant::now() + super::HOLD;
        let mut swaps = self.swaps.subscribe();
        loop {
            swaps.mark_unchanged();
            let known = self.changed(branch, seen).await?;
            let left = until.saturating_duration_since(Instant::now());
            if matches!(known, Known::Changed(_)) || left.is_zero() {
                return Ok(known);
            }
            let _ = timeout(self.every.min(left), swaps.changed()).await;
        }
    }

    async fn write(
        &self,
        request: Request,
        body: Vec<Bytes>,
        out: &Out,
    ) -> std::result::Result<(), Refused> {
        if !self.writes || self.store.read_only() {
            let said = "what is served here can only be read";
            return Err(Refused(Why::Denied, said.into()));
        }
        let inner = &self.store.0;
        let answer = match request {
            Request::Put { object, len } => {
                inner
                    .counters
                    .put(usize::try_from(len).unwrap_or(usize::MAX));
                let key = object.key(&inner.prefix);
                let body: PutPayload = body.into_iter().collect();
                let options = PutOptions::from(PutMode::Create);
                inner.objects.put_opts(&key, body, options).await?;
                Answer::Done
            }
            Request::Delete(object) => {
                inner.counters.deleted();
                inner.objects.delete(&object.key(&inner.prefix)).await?;
                Answer::Done
            }
            Request::Swap {
                branch, expected, ..
            } => {
                let body = body.concat().into();
                match self.store.cas_head(&branch, expected.as_ref(), body).await {
                    CasOutcome::Swapped(version) => {
                        self.swaps.send_replace(());
                        Answer::Swapped(version)
                    }
                    CasOutcome::Conflict => Answer::Conflict,
                    CasOutcome::Failed(error) => return Err(error.into()),
                    CasOutcome::Unknown(error) => {
                        self.swaps.send_replace(());
                        return Err(Refused(Why::Unknown, Refused::from(error).1));
                    }
                }
            }
            _ => return Err(Refused(Why::Unsupported, "this is no writing".into())),
        };
        out.answer(answer, &Bytes::new()).await;
        Ok(())
    }
}

/// What is known of a head that was seen.
enum Known {
    Same,
    Changed(Option<(Bytes, HeadVersion)>),
}

async fn same(out: &Out) -> std::result::Result<(), Refused> {
    out.answer(Answer::Same, &Bytes::new()).await;
    Ok(())
}

async fn listing(body: Writer, out: &Out) -> std::result::Result<(), Refused> {
    let body = Bytes::from(body.into_bytes());
    let len = body.len() as u64;
    if len > LISTING_BYTES_MAX {
        return Err(Refused(Why::Unsupported, "it is too long to travel".into()));
    }
    out.answer(Answer::Listing { len }, &body).await;
    Ok(())
}
