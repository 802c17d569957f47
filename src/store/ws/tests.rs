//! Servers and clients on this machine, and peers that are neither.

use std::fmt::Write as _;
use std::net::SocketAddr;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};
use url::Url;

use super::frame::{CREDIT, Frame, Kind, Object, Part, Request, VERSION, Why};
use super::*;
use crate::error::{Error, Result};
use crate::id::{BranchName, PackId};
use crate::store::tests::chain;
use crate::store::{CasOutcome, Store, conformance};

mod bounds;

const CANARY: &str = "canary-canary-canary";

/// A server that ends with this value.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Served {
    /// Serves stores on a free port of this machine; looks at what others write seldom.
    pub(crate) async fn begin(server: SyncServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        let server = server.with_looks_every(Duration::from_mins(1));
        tasks.spawn(async move { panic!("{:?}", serve_sync(listener, server).await) });
        Self {
            address,
            _tasks: tasks,
        }
    }

    pub(crate) fn url(&self, name: &str) -> String {
        format!("ws://{}/{name}", self.address)
    }
}

/// A server of one store that takes writes, and a client of it.
pub(crate) async fn remote(store: &Store) -> (Served, Store) {
    let server = SyncServer::try_new([("db".to_owned(), store.clone())], None).unwrap();
    let served = Served::begin(server.with_writes(true)).await;
    let remote = client(served.address, "db", None);
    (served, remote)
}

fn client(address: SocketAddr, name: &str, token: Option<&str>) -> Store {
    let url = Url::parse(&format!("ws://{address}/{name}")).unwrap();
    let token = token.map(|token| SyncToken::try_new(token).unwrap());
    client::open_with(&url, url.to_string(), token, |_| ())
}

/// A client that soon loses patience.
fn hasty(address: SocketAddr) -> Store {
    let url = Url::parse(&format!("ws://{address}/db")).unwrap();
    client::open_with(&url, url.to_string(), None, |target| {
        target.handshake = Duration::from_millis(300);
        target.patience = Duration::from_millis(300);
    })
}

fn main() -> BranchName {
    BranchName::default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_conforms() {
    let stores = (0..11).map(|n| (format!("db-{n}"), Store::memory()));
    let server = SyncServer::try_new(stores, None).unwrap();
    let served = Served::begin(server.with_writes(true)).await;
    let made = std::cell::Cell::new(0);
    conformance::all(|| {
        made.set(made.get() + 1);
        client(served.address, &format!("db-{}", made.get() - 1), None)
    })
    .await;
    assert_eq!(made.get(), 11);
}

#[cfg(feature = "fs")]
#[tokio::test]
async fn a_directory_is_served_and_an_address_is_enough() {
    let root = tempfile::tempdir().unwrap();
    let (served, _) = remote(&Store::file(root.path()).unwrap()).await;
    let store = Store::open_url(&served.url("db")).unwrap();
    assert!(store.is_same(&Store::open_url(&served.url("db")).unwrap()));
    conformance::frames_are_read_by_their_place(&store).await;
    conformance::no_increment_is_lost(&store).await;
    // Where the directory lies is not told.
    let mut raw = greeted(served.address).await;
    let object = Object {
        kind: Kind::Pack,
        id: PackId([9; 16]),
    };
    let part = Part::All;
    let request = Request::Get { object, part };
    say(&mut raw, &Frame::Request { id: 1, request }).await;
    let answer = heard(&mut raw, 1).await;
    let place = root.path().to_str().unwrap();
    assert!(
        matches!(&answer, Frame::Failed { why: Why::Missing, said, .. } if !said.contains(place)),
        "{answer:?}"
    );
    assert!(Store::open_url(&format!("{}?a=b", served.url("db"))).is_err());
    let error = Store::open_url("wss://host/db").unwrap_err();
    assert!(error.to_string().contains("proxy"), "{error}");
}

/// As much as several grants, both ways at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_packs_pass_each_other() {
    let (_served, store) = remote(&Store::memory()).await;
    let body = |n: u8| Bytes::from(vec![n; (20 << 20) + usize::from(n)]);
    let id = |n: u8| PackId([n; 16]);
    for round in 0..2 {
        let put = |n: u8| {
            let store = store.clone();
            async move { store.put_pack(id(n), body(n)).await.unwrap() }
        };
        let read = |n: u8| {
            let store = store.clone();
            async move { assert!(store.read_pack(id(n)).await.unwrap() == body(n)) }
        };
        let reads = (1..=2).filter(|_| round > 0).map(read);
        let puts = (1..=2).map(|n| put(n + 2 * round));
        tokio::join!(
            futures::future::join_all(puts),
            futures::future::join_all(reads)
        );
    }
}

/// More lazy reads than may be under way: they hold nobody up.
#[tokio::test]
async fn reads_that_nobody_goes_on_with_hold_nobody_up() {
    let (_served, store) = remote(&Store::memory()).await;
    let pack = PackId([1; 16]);
    let body = Bytes::from(vec![7; 1000]);
    store.put_pack(pack, body.clone()).await.unwrap();
    let mut begun: Vec<_> = (0..3 * CREDIT)
        .map(|_| Box::pin(store.read_pack(pack)))
        .collect();
    for begun in &mut begun {
        assert!(futures::poll!(begun).is_pending());
    }
    assert_eq!(store.read_pack(pack).await.unwrap(), body);
    // Nor do those whom nobody waits for any more.
    drop(begun);
    for _ in 0..3 * CREDIT {
        assert_eq!(store.read_pack(pack).await.unwrap(), body);
    }
}

#[tokio::test]
async fn a_server_that_was_not_told_to_write_takes_nothing() {
    let store = Store::memory();
    let server = SyncServer::try_new([("db".to_owned(), store.clone())], None).unwrap();
    let served = Served::begin(server).await;
    let remote = client(served.address, "db", None);
    let (pack, body) = (PackId([1; 16]), Bytes::from_static(b"body"));
    let refused = remote.put_pack(pack, body.clone()).await.unwrap_err();
    assert!(chain(&refused).contains("can only be read"), "{refused:?}");
    assert!(matches!(refused, Error::Invalid(_)), "{refused:?}");
    let CasOutcome::Failed(refused) = remote.cas_head(&main(), None, body).await else {
        panic!()
    };
    assert!(refused.to_string().contains("can only be read"));

    // A client that asks all the same is refused by the server.
    let mut raw = greeted(served.address).await;
    let object = Object {
        kind: Kind::Pack,
        id: pack,
    };
    let branch = main();
    for (id, request) in [
        (1, Request::Put { object, len: 4 }),
        (2, Request::Delete(object)),
        (
            3,
            Request::Swap {
                branch,
                expected: None,
                len: 4,
            },
        ),
    ] {
        say(&mut raw, &Frame::Request { id, request }).await;
        if id != 2 {
            let bytes = Bytes::from_static(b"body");
            say(&mut raw, &Frame::Data { id, bytes }).await;
        }
        let answer = heard(&mut raw, id).await;
        assert!(
            matches!(&answer, Frame::Failed { why: Why::Denied, said, .. } if said.contains("only be read")),
            "{answer:?}"
        );
    }
    assert_eq!(store.list_packs().await.unwrap(), []);
    assert!(store.head(&main()).await.unwrap().is_none());
}

#[tokio::test]
async fn who_does_not_show_the_token_is_not_let_in_and_it_is_never_printed() {
    let token = SyncToken::try_new(CANARY).unwrap();
    let server =
        SyncServer::try_new([("db".to_owned(), Store::memory())], Some(token.clone())).unwrap();
    let mut printed = format!("{token:?} {server:?}");
    let served = Served::begin(server.with_writes(true)).await;
    let store = client(served.address, "db", Some(CANARY));
    assert!(store.head(&main()).await.unwrap().is_none());
    let other = format!("{CANARY}-and-more");
    for (token, name, says) in [
        (None, "db", "set DATOMFUSION_SYNC_TOKEN"),
        (Some(&*other), "db", "refuses the token"),
        // Nor does it learn what is served.
        (Some(&other), "no", "refuses the token"),
        (Some(CANARY), "no", "nothing of this name"),
    ] {
        let store = client(served.address, name, token);
        let error = chain(&store.head(&main()).await.unwrap_err());
        assert!(error.contains(says), "{error}");
        let _ = write!(printed, "{error} {store:?}");
    }
    let short = SyncToken::try_new("canary").unwrap_err();
    let spaced = SyncToken::try_new("canary canary canary").unwrap_err();
    let _ = write!(printed, "{short} {spaced}");
    assert!(!printed.contains("canary"), "{printed}");

    // A page in a browser of this machine is no client.
    let mut request = served.url("db").into_client_request().unwrap();
    let origin = HeaderValue::from_static("https://example.org");
    request.headers_mut().insert("origin", origin);
    let socket = TcpStream::connect(served.address).await.unwrap();
    let refused = client_async(request, socket).await.unwrap_err();
    assert!(refused.to_string().contains("403"), "{refused}");
}

#[tokio::test]
async fn without_a_token_only_this_machine_is_served() {
    let server = |token| SyncServer::try_new([("db".to_owned(), Store::memory())], token).unwrap();
    let everywhere = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let refused = serve_sync(everywhere, server(None)).await;
    assert!(
        matches!(&refused, Err(Error::Invalid(why)) if why.contains("DATOMFUSION_SYNC_TOKEN")),
        "{refused:?}"
    );
    let everywhere = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let token = SyncToken::try_new(CANARY).unwrap();
    let serving = serve_sync(everywhere, server(Some(token)));
    assert!(futures::poll!(Box::pin(serving)).is_pending());
    for names in [&["a/b"][..], &["."], &[".."], &["a", "b", "a"]] {
        let stores = names
            .iter()
            .map(|name| ((*name).to_owned(), Store::memory()));
        assert!(SyncServer::try_new(stores, None).is_err(), "{names:?}");
    }
}

type Raw = WebSocketStream<TcpStream>;

async fn say(raw: &mut Raw, frame: &Frame) {
    raw.send(Message::Binary(frame.encode())).await.unwrap();
}

async fn next(raw: &mut Raw) -> Option<Frame> {
    match raw.next().await {
        Some(Ok(Message::Binary(bytes))) => Some(Frame::decode(&bytes).unwrap()),
        _ => None,
    }
}

/// The answer to a request.
async fn heard(raw: &mut Raw, id: u32) -> Frame {
    loop {
        match next(raw).await.expect("the server answers") {
            Frame::Credit(_) => {}
            frame @ (Frame::Failed { id: of, .. } | Frame::Answer { id: of, .. }) if of == id => {
                return frame;
            }
            frame => panic!("{frame:?}"),
        }
    }
}

fn hello(version: u32) -> Frame {
    Frame::Hello {
        version,
        credit: CREDIT,
        writes: true,
    }
}

async fn connected(address: SocketAddr) -> Raw {
    let socket = TcpStream::connect(address).await.unwrap();
    let request = format!("ws://{address}/db").into_client_request().unwrap();
    client_async(request, socket).await.unwrap().0
}

async fn greeted(address: SocketAddr) -> Raw {
    let mut raw = connected(address).await;
    say(&mut raw, &hello(VERSION)).await;
    assert!(matches!(
        next(&mut raw).await,
        Some(Frame::Hello {
            version: VERSION,
            ..
        })
    ));
    raw
}

#[tokio::test]
async fn garbage_ends_the_connection_it_came_on_and_no_other() {
    let store = Store::memory();
    let (served, remote) = remote(&store).await;
    let object = Object {
        kind: Kind::Pack,
        id: PackId([1; 16]),
    };
    let bytes = Bytes::from_static(b"body");
    let put = |id, len| Frame::Request {
        id,
        request: Request::Put { object, len },
    };
    let data = |id| Frame::Data {
        id,
        bytes: bytes.clone(),
    };
    let raw = |bytes: &'static [u8]| Message::Binary(Bytes::from_static(bytes));
    let said = |frames: &[Frame]| -> Vec<Message> {
        frames
            .iter()
            .map(|frame| Message::Binary(frame.encode()))
            .collect()
    };
    for messages in [
        vec![raw(b"")],
        vec![raw(b"\x63garbage")],
        vec![raw(b"\x02\0\0\0\0\x09")],
        vec![Message::text("hello")],
        vec![Message::Binary(vec![3; frame::FRAME_BYTES_MAX + 1].into())],
        said(&[data(9)]),
        said(&[put(1, 2), data(1)]),
        said(&[put(1, 9), data(1)]),
        said(&[put(1, u64::MAX)]),
        said(&[put(1, 9), put(1, 9)]),
        said(&[Frame::Credit(u32::MAX)]),
        said(&[hello(VERSION)]),
        said(&(0..=CREDIT).map(|id| put(id, 9)).collect::<Vec<_>>()),
    ] {
        let mut client = greeted(served.address).await;
        for message in messages.clone() {
            // The server may have gone meanwhile.
            let _ = client.send(message).await;
        }
        while next(&mut client).await.is_some() {}
        assert!(
            remote.head(&main()).await.unwrap().is_none(),
            "{messages:?}"
        );
    }
    // Before anything was said: no HTTP, and no greeting.
    let mut socket = TcpStream::connect(served.address).await.unwrap();
    socket.write_all(b"\0\xffgarbage\r\n\r\n").await.unwrap();
    let _ = socket.read_to_end(&mut Vec::new()).await;
    let mut client = connected(served.address).await;
    say(&mut client, &data(1)).await;
    while next(&mut client).await.is_some() {}
    assert!(remote.head(&main()).await.unwrap().is_none());
    assert_eq!(store.list_packs().await.unwrap(), []);
}

#[tokio::test]
async fn a_frame_that_claims_four_gibibytes_is_refused_at_its_header() {
    let (served, _) = remote(&Store::memory()).await;
    let mut client = greeted(served.address).await;
    let header = [&[0x82, 0xff][..], &(1u64 << 32).to_be_bytes(), &[0; 4]].concat();
    client.get_mut().write_all(&header).await.unwrap();
    while next(&mut client).await.is_some() {}

    let address = peer(|mut raw| async move {
        assert!(next(&mut raw).await.is_some());
        let header = [&[0x82, 0x7f][..], &(1u64 << 32).to_be_bytes()].concat();
        raw.get_mut().write_all(&header).await.unwrap();
        while next(&mut raw).await.is_some() {}
    })
    .await;
    let error = chain(&hasty(address).head(&main()).await.unwrap_err());
    assert!(
        error.contains("too long") || error.contains("4294967296"),
        "{error}"
    );
}

/// A server of the tests, which does as it likes with every connection.
async fn peer<F>(serve: impl Fn(Raw) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut clients = JoinSet::new();
        while let Ok((socket, _)) = listener.accept().await {
            let raw = accept_async(socket).await.unwrap();
            clients.spawn(serve(raw));
        }
    });
    // It ends with the runtime of the test.
    tasks.detach_all();
    address
}

#[tokio::test]
async fn another_version_is_refused_and_both_are_named() {
    let (served, _) = remote(&Store::memory()).await;
    let mut raw = connected(served.address).await;
    say(&mut raw, &hello(7)).await;
    assert!(matches!(
        next(&mut raw).await,
        Some(Frame::Hello {
            version: VERSION,
            ..
        })
    ));
    say(&mut raw, &Frame::Cancel { id: 1 }).await;
    assert!(next(&mut raw).await.is_none());

    let address = peer(|mut raw| async move {
        say(&mut raw, &hello(7)).await;
        while next(&mut raw).await.is_some() {}
    })
    .await;
    let error = chain(&hasty(address).head(&main()).await.unwrap_err());
    assert!(
        error.contains("version 7") && error.contains("version 1:"),
        "{error}"
    );
}

/// What comes of every kind of request; the outcome of a swap is not known.
async fn outcomes(store: &Store) -> Vec<Result<()>> {
    let swap = store
        .cas_head(&main(), None, Bytes::from_static(b"head"))
        .await;
    let CasOutcome::Unknown(swap) = swap else {
        panic!("{swap:?}")
    };
    vec![
        Err(swap),
        store.head(&main()).await.map(|_| ()),
        store.list_branches().await.map(|_| ()),
        store.list_packs().await.map(|_| ()),
        store.read_pack(PackId([1; 16])).await.map(|_| ()),
    ]
}

#[tokio::test]
async fn a_server_that_is_none_or_falls_silent_is_an_error_in_time() {
    let put = |store: Store| async move {
        store
            .put_pack(PackId([1; 16]), Bytes::from(vec![7; 1 << 20]))
            .await
    };
    // It greets and is silent, with and without a word on what may be sent.
    for credit in [CREDIT, 0] {
        let address = peer(move |mut raw| async move {
            let hello = Frame::Hello {
                version: VERSION,
                credit,
                writes: true,
            };
            say(&mut raw, &hello).await;
            while next(&mut raw).await.is_some() {}
        })
        .await;
        let store = hasty(address);
        let mut found = outcomes(&store).await;
        found.push(put(store).await);
        for outcome in found {
            let error = chain(&outcome.unwrap_err());
            assert!(error.contains("did not answer within 300ms"), "{error}");
        }
    }
    // It answers with what nobody asked for, with half, or not at all.
    for answer in [
        Frame::Data {
            id: 1,
            bytes: Bytes::from_static(b"data"),
        },
        Frame::Answer {
            id: 1,
            answer: frame::Answer::Listing { len: u64::MAX },
        },
        Frame::Answer {
            id: 1,
            answer: frame::Answer::Done,
        },
        Frame::Credit(u32::MAX),
        hello(VERSION),
    ] {
        let address = peer(move |mut raw| {
            let answer = answer.clone();
            async move {
                say(&mut raw, &hello(VERSION)).await;
                while !matches!(next(&mut raw).await, None | Some(Frame::Request { .. })) {}
                let _ = raw.send(Message::Binary(answer.encode())).await;
            }
        })
        .await;
        for outcome in outcomes(&hasty(address)).await {
            assert!(matches!(outcome, Err(Error::Store { .. })), "{outcome:?}");
        }
    }
    // It never introduces itself, or is not there.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let store = hasty(listener.local_addr().unwrap());
    let error = chain(&store.head(&main()).await.unwrap_err());
    assert!(error.contains("did not introduce itself"), "{error}");
    drop(listener);
    let error = chain(&store.head(&main()).await.unwrap_err());
    assert!(error.contains("no connection"), "{error}");
    let swap = store.cas_head(&main(), None, Bytes::new()).await;
    assert!(matches!(swap, CasOutcome::Failed(_)), "{swap:?}");
}

/// The first connection breaks in the middle of an answer; the next is asked again.
#[tokio::test]
async fn a_connection_that_breaks_is_replaced() {
    let store = Store::memory();
    let (pack, body) = (PackId([1; 16]), Bytes::from(vec![7; 1 << 20]));
    store.put_pack(pack, body.clone()).await.unwrap();
    let (served, _) = remote(&store).await;
    let (through, left) = (served.address, std::sync::atomic::AtomicUsize::new(700_000));
    let left = std::sync::Arc::new(left);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut clients = JoinSet::new();
        while let Ok((near, _)) = listener.accept().await {
            let left = left.swap(usize::MAX, std::sync::atomic::Ordering::AcqRel);
            clients.spawn(async move {
                let far = TcpStream::connect(through).await.unwrap();
                let ((mut near_in, mut near_out), (far_in, mut far_out)) =
                    (near.into_split(), far.into_split());
                let mut far_in = far_in.take(left as u64);
                let there = Box::pin(tokio::io::copy(&mut near_in, &mut far_out));
                let back = Box::pin(tokio::io::copy(&mut far_in, &mut near_out));
                futures::future::select(there, back).await;
            });
        }
    });
    let store = hasty(address);
    assert_eq!(store.read_pack(pack).await.unwrap(), body);
    assert_eq!(store.head(&main()).await.unwrap(), None);
}

#[tokio::test]
async fn a_client_asks_for_what_a_store_holds_and_for_nothing_else() {
    let (served, _) = remote(&Store::memory()).await;
    let mut raw = greeted(served.address).await;
    let object = Object {
        kind: Kind::Note,
        id: PackId([1; 16]),
    };
    for (id, part) in [
        Part::All,
        Part::Nothing,
        Part::Range {
            start: 0,
            end: u64::MAX,
        },
    ]
    .into_iter()
    .enumerate()
    {
        let id = u32::try_from(id).unwrap();
        let request = Request::Get { object, part };
        say(&mut raw, &Frame::Request { id, request }).await;
        let answer = heard(&mut raw, id).await;
        assert!(
            matches!(
                answer,
                Frame::Failed {
                    why: Why::Missing,
                    ..
                }
            ),
            "{answer:?}"
        );
    }
}
