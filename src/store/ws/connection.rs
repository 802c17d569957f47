//! The asking side of a connection: many requests at once, told apart by their numbers.
//!
//! A task of its own reads what comes and collects each answer, so that it takes in all that it is sent,
//! whatever the callers do. The connection ends with the last handle.
//!
//! **Invariant.** An answer is as long as it announced, and it announces no more than was asked for.

use std::collections::HashMap;
use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::{Either, select};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::http::header::AUTHORIZATION;

use super::frame::{Answer, Frame, Request, VERSION, Why};
use super::link::{Broken, Link, parts, read};
use super::token::SyncToken;
use crate::store::failure::{REASON_CHARS_MAX, for_people};
use crate::wire::Malformed;

/// Where a server is, and what it is shown.
pub(super) struct Target {
    pub(super) url: String,
    /// The host and the port.
    pub(super) host: String,
    pub(super) token: Option<SyncToken>,
    /// How long a connection may take, and how long an answer may show no sign of coming.
    pub(super) handshake: Duration,
    pub(super) patience: Duration,
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// The request was not sent.
    Unsent(String),
    /// The connection ended before the answer.
    Broken(String),
    /// The server answered so.
    Said(Why, String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsent(why) => f.write_str(why),
            Self::Broken(why) => write!(f, "the connection broke off: {why}"),
            Self::Said(_, said) => f.write_str(said),
        }
    }
}

impl std::error::Error for Failure {}

/// An open connection to a server.
pub(super) struct Connection {
    link: Arc<Link>,
    calls: Arc<Calls>,
    patience: Duration,
    writes: bool,
    /// Ends with the connection.
    _tasks: JoinSet<()>,
}

/// Who waits for which answer.
#[derive(Default)]
struct Calls(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    last: u32,
    calls: HashMap<u32, Call>,
    broken: Option<Broken>,
}

struct Call {
    /// Most bytes that the answer may have.
    len_max: u64,
    answer: Option<Answer>,
    body: Vec<Bytes>,
    /// Bytes of the body that came.
    came: Arc<AtomicU64>,
    tell: oneshot::Sender<Result<(Answer, Bytes), Failure>>,
}

impl Connection {
    pub(super) async fn open(target: Arc<Target>) -> Result<Arc<Self>, Failure> {
        match timeout(target.handshake, Self::greet(&target)).await {
            Ok(opened) => opened.map(Arc::new),
            Err(_) => Err(Failure::Unsent(format!(
                "the server did not introduce itself within {:?}",
                target.handshake
            ))),
        }
    }

    async fn greet(target: &Target) -> Result<Self, Failure> {
        let unsent = |why: String| Failure::Unsent(why);
        let socket = TcpStream::connect(&*target.host).await;
        let socket = socket.map_err(|error| unsent(format!("no connection: {error}")))?;
        // Frames are small and somebody waits for each.
        let _ = socket.set_nodelay(true);
        let mut request = target
            .url
            .as_str()
            .into_client_request()
            .map_err(|error| unsent(error.to_string()))?;
        if let Some(header) = target.token.as_ref().and_then(SyncToken::header) {
            request.headers_mut().insert(AUTHORIZATION, header);
        }
        let opened = client_async_with_config(request, socket, Some(super::config())).await;
        let (socket, _) = opened.map_err(|error| unsent(refusal(error, target)))?;
        let (sink, mut stream) = socket.split();
        let (link, outgoing) = Link::new();
        let (link, calls) = (Arc::new(link), Arc::new(Calls::default()));
        link.greet(false);
        let (writing, patience) = (Arc::clone(&link), target.patience);
        let waiting = Ends(Arc::clone(&calls));
        let mut tasks = JoinSet::new();
        let (greeted, greeting) = oneshot::channel();
        tasks.spawn(async move {
            let written = Box::pin(writing.write(outgoing, sink, patience));
            let came = Box::pin(async {
                match hello(&mut stream, &writing).await {
                    Ok(writes) => drop(greeted.send(Ok(writes))),
                    Err(why) => {
                        drop(greeted.send(Err(why.clone())));
                        return why;
                    }
                }
                take_in(&mut stream, &writing, &waiting.0).await
            });
            let why = match select(written, came).await {
                Either::Left((why, _)) | Either::Right((why, _)) => why,
            };
            waiting.0.close(why);
        });
        let writes = match greeting.await {
            Ok(Ok(writes)) => writes,
            Ok(Err(Broken(why))) => return Err(unsent(clean(&why))),
            Err(_) => return Err(unsent("the connection ended at once".into())),
        };
        Ok(Self {
            link,
            calls,
            patience,
            writes,
            _tasks: tasks,
        })
    }

    /// Whether the server takes writes.
    pub(super) fn writes(&self) -> bool {
        self.writes
    }

    /// Whether nothing can be asked any more.
    pub(super) fn is_closed(&self) -> bool {
        self.calls.waiting().broken.is_some()
    }

    /// Asks, and waits for the whole answer; `upload` is the body that the request announces.
    pub(super) async fn ask(
        &self,
        request: Request,
        upload: Bytes,
        len_max: u64,
    ) -> Result<(Answer, Bytes), Failure> {
        let (tell, mut told) = oneshot::channel();
        let came = Arc::new(AtomicU64::new(0));
        let call = Call {
            len_max,
            answer: None,
            body: Vec::new(),
            came: Arc::clone(&came),
            tell,
        };
        let id = self.calls.begin(call)?;
        let _asked = Asked { of: self, id };
        self.link.send(Frame::Request { id, request });
        for bytes in parts(&upload) {
            self.link.send(Frame::Data { id, bytes });
        }
        let (mine, mut sent) = (self.link.queued(), self.link.sent());
        let mut known = 0;
        loop {
            // A server can not answer what has not reached it, and a long body may take its time.
            let sending = *sent.borrow_and_update() < mine;
            let sign = pin!(async {
                if !sending || sent.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            });
            match timeout(self.patience, select(&mut told, sign)).await {
                Ok(Either::Left((Ok(answer), _))) => return answer,
                Ok(Either::Left((Err(_), _))) => {
                    return Err(Failure::Broken("it was closed".into()));
                }
                Ok(Either::Right(_)) => {}
                Err(_) => {
                    let now = came.load(Ordering::Acquire);
                    if now == known {
                        let why = format!("the server did not answer within {:?}", self.patience);
                        // Others are better off with a new connection, too.
                        self.calls.close(Broken(why.clone()));
                        return Err(Failure::Broken(why));
                    }
                    known = now;
                }
            }
        }
    }
}

/// A request under way: the server hears of it if nobody waits any more.
struct Asked<'a> {
    of: &'a Connection,
    id: u32,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let id = self.id;
        if self.of.calls.waiting().calls.remove(&id).is_some() {
            self.of.link.send(Frame::Cancel { id });
        }
    }
}

/// Held by the task of a connection, which may also be dropped, with its runtime.
struct Ends(Arc<Calls>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.close(Broken("its task ended".into()));
    }
}

impl Calls {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while the lock is held, so what a poisoned lock guards is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, call: Call) -> Result<u32, Failure> {
        let mut waiting = self.waiting();
        if let Some(Broken(why)) = &waiting.broken {
            return Err(Failure::Unsent(why.clone()));
        }
        let next = |id: &u32| Some(id.wrapping_add(1));
        let mut ids = std::iter::successors(next(&waiting.last), next);
        let free = ids.find(|id| !waiting.calls.contains_key(id));
        let id = free.ok_or_else(|| Failure::Unsent("all numbers are taken".into()))?;
        waiting.last = id;
        waiting.calls.insert(id, call);
        Ok(id)
    }

    /// Tells all who wait that there will be no answer. The first reason is the one that counts.
    fn close(&self, why: Broken) {
        let mut waiting = self.waiting();
        let calls = std::mem::take(&mut waiting.calls);
        let Broken(why) = waiting
            .broken
            .get_or_insert_with(|| Broken(clean(&why.0)))
            .clone();
        drop(waiting);
        for call in calls.into_values() {
            let _ = call.tell.send(Err(Failure::Broken(why.clone())));
        }
    }

    /// What came for a call; an answer that nobody waits for any more is passed over.
    fn came(&self, frame: Frame) -> Result<(), Malformed> {
        let mut waiting = self.waiting();
        let id = match &frame {
            Frame::Answer { id, .. } | Frame::Data { id, .. } | Frame::Failed { id, .. } => *id,
            _ => return Err(Malformed("a frame is not for a client")),
        };
        let Some(call) = waiting.calls.get_mut(&id) else {
            return Ok(());
        };
        let mut done = match frame {
            Frame::Failed { why, said, .. } => Some(Err(Failure::Said(why, clean(&said)))),
            Frame::Answer { answer, .. } => {
                if answer.body_len() > call.len_max || call.answer.is_some() {
                    return Err(Malformed("an answer is longer than what was asked for"));
                }
                call.answer = Some(answer);
                None
            }
            Frame::Data { bytes, .. } => {
                call.came.fetch_add(bytes.len() as u64, Ordering::AcqRel);
                call.body.push(bytes);
                None
            }
            _ => None,
        };
        if done.is_none() {
            let came = call.came.load(Ordering::Acquire);
            let answer = call.answer.as_ref();
            let answer = answer.ok_or(Malformed("data came before its answer"))?;
            if came > answer.body_len() {
                return Err(Malformed("more data came than was announced"));
            }
            if came == answer.body_len() {
                done = Some(Ok((answer.clone(), Bytes::new())));
            }
        }
        if let Some(mut done) = done
            && let Some(mut call) = waiting.calls.remove(&id)
        {
            drop(waiting);
            if let Ok((_, body)) = &mut done {
                *body = match call.body.len() {
                    1 => call.body.remove(0),
                    _ => call.body.concat().into(),
                };
            }
            let _ = call.tell.send(done);
        }
        Ok(())
    }
}

type Incoming = futures::stream::SplitStream<tokio_tungstenite::WebSocketStream<TcpStream>>;

/// The greeting of the server: whether it takes writes.
async fn hello(stream: &mut Incoming, link: &Link) -> Result<bool, Broken> {
    match read(stream).await? {
        Frame::Hello {
            version: VERSION,
            credit,
            writes,
        } => {
            link.grant(credit)?;
            Ok(writes)
        }
        Frame::Hello { version, .. } => Err(Broken(format!(
            "the server speaks version {version} of the protocol of sync, this release version \
             {VERSION}: upgrade the older"
        ))),
        _ => Err(Malformed("a server introduces itself first").into()),
    }
}

/// Takes in what comes for as long as it makes sense.
async fn take_in(stream: &mut Incoming, link: &Link, calls: &Calls) -> Broken {
    loop {
        let taken = match read(stream).await {
            Ok(Frame::Credit(frames)) => link.grant(frames),
            Ok(frame) => link
                .came()
                .and_then(|()| calls.came(frame))
                .map(|()| link.took()),
            Err(why) => return why,
        };
        if let Err(why) = taken {
            return why.into();
        }
    }
}

/// What a server says to people, without what is for terminals.
fn clean(said: &str) -> String {
    for_people(said, REASON_CHARS_MAX)
}

/// Why the server let no connection be opened. What else it says is not shown.
fn refusal(error: tungstenite::Error, target: &Target) -> String {
    match error {
        tungstenite::Error::Http(answer) => match (answer.status(), &target.token) {
            (StatusCode::UNAUTHORIZED, Some(_)) => {
                "the server refuses the token in DATOMFUSION_SYNC_TOKEN".into()
            }
            (StatusCode::UNAUTHORIZED, None) => {
                "the server asks for a token: set DATOMFUSION_SYNC_TOKEN".into()
            }
            (StatusCode::NOT_FOUND, _) => "the server serves nothing of this name".into(),
            (status, _) => format!(
                "the server answered {}: it is none of sync, or refuses",
                status.as_u16()
            ),
        },
        error => clean(&format!("the server did not open a WebSocket: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A call whose caller is gone.
    fn call(len_max: u64) -> Call {
        let (tell, _) = oneshot::channel();
        let came = Arc::default();
        Call {
            len_max,
            answer: None,
            body: Vec::new(),
            came,
            tell,
        }
    }

    #[test]
    fn an_answer_that_is_not_what_was_asked_for_is_refused() {
        let data = |len: usize| Frame::Data {
            id: 1,
            bytes: vec![7; len].into(),
        };
        let answer = |len| Frame::Answer {
            id: 1,
            answer: Answer::Listing { len },
        };
        for (frames, fits) in [
            (vec![answer(9)], false),
            (vec![data(1)], false),
            (vec![answer(4), answer(4)], false),
            (vec![answer(4), data(5)], false),
            (vec![Frame::Cancel { id: 1 }], false),
            (vec![answer(4), data(3)], true),
            (vec![answer(4), data(3), data(1), data(1)], true),
            (vec![answer(0)], true),
        ] {
            let calls = Calls::default();
            assert_eq!(calls.begin(call(8)).unwrap(), 1);
            let came: Result<Vec<()>, _> = frames.into_iter().map(|f| calls.came(f)).collect();
            assert_eq!(came.is_ok(), fits);
        }
    }

    #[test]
    fn what_a_server_says_can_not_move_the_cursor() {
        let said = clean(&format!("\u{1b}[2J\r\n{}", "é".repeat(1000)));
        assert!(said.chars().all(|c| !c.is_control()));
        assert_eq!(said.chars().count(), REASON_CHARS_MAX);
    }
}
