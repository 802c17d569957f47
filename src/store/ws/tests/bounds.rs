//! Peers that are slow, want more than their share, or have gone.

use std::future::pending;

use futures::FutureExt;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite;

use super::*;
use crate::store::{HeadStore, HeadVersion};

/// Lets time pass: what is tested is patience.
async fn pause(millis: u64) {
    let _ = timeout(Duration::from_millis(millis), pending::<()>()).await;
}

/// Packs of 64 MiB never arrived over a line that took longer for one than the patience: the time in which
/// the body travelled counted as silence of the server, and its end was the end of every other request.
#[tokio::test]
async fn a_body_that_travels_longer_than_the_patience_is_no_silence() {
    let address = peer(|mut raw| async move {
        let hello = Frame::Hello {
            version: VERSION,
            credit: 1,
            writes: true,
        };
        say(&mut raw, &hello).await;
        let (mut put, mut left) = (0, 0);
        while let Some(frame) = next(&mut raw).await {
            pause(100).await;
            match frame {
                Frame::Request {
                    id,
                    request: Request::Put { len, .. },
                } => (put, left) = (id, len),
                Frame::Request { id, .. } => {
                    let answer = frame::Answer::Absent;
                    say(&mut raw, &Frame::Answer { id, answer }).await;
                }
                Frame::Data { bytes, .. } => {
                    left -= bytes.len() as u64;
                    if left == 0 {
                        let (id, answer) = (put, frame::Answer::Done);
                        say(&mut raw, &Frame::Answer { id, answer }).await;
                    }
                }
                _ => continue,
            }
            say(&mut raw, &Frame::Credit(1)).await;
        }
    })
    .await;
    let store = hasty(address);
    let branch = main();
    let put = store.put_pack(PackId([1; 16]), Bytes::from(vec![7; 2 << 20]));
    let (put, head) = tokio::join!(put, store.head(&branch));
    put.unwrap();
    assert_eq!(head.unwrap(), None);
}

/// Heads that are never read.
#[derive(Debug)]
struct Stuck;

#[async_trait::async_trait]
impl HeadStore for Stuck {
    async fn get(&self, _: &BranchName) -> Result<Option<(Bytes, HeadVersion)>> {
        pending().await
    }

    async fn get_if_changed(
        &self,
        _: &BranchName,
        _: &HeadVersion,
    ) -> Result<Option<(Bytes, HeadVersion)>> {
        pending().await
    }

    async fn cas(&self, _: &BranchName, _: Option<&HeadVersion>, _: Bytes) -> CasOutcome {
        pending().await
    }

    async fn list(&self) -> Result<Vec<BranchName>> {
        pending().await
    }
}

fn stuck() -> SyncServer {
    let objects = std::sync::Arc::new(object_store::memory::InMemory::new());
    let store = Store::new(objects, std::sync::Arc::new(Stuck), "stuck");
    SyncServer::try_new([("db".to_owned(), store)], None).unwrap()
}

fn head(id: u32, seen: Option<&str>) -> Frame {
    let request = Request::Head {
        branch: main(),
        seen: seen.map(HeadVersion::new),
        wait: true,
    };
    Frame::Request { id, request }
}

/// How many such requests are granted anew before they are done.
async fn granted(address: SocketAddr, seen: Option<&str>) -> u32 {
    let mut raw = greeted(address).await;
    let (mut asked, mut credit) = (0, CREDIT);
    loop {
        for _ in 0..std::mem::take(&mut credit) {
            asked += 1;
            say(&mut raw, &head(asked, seen)).await;
        }
        match timeout(Duration::from_millis(500), next(&mut raw)).await {
            Ok(Some(Frame::Credit(more))) => credit = more,
            Ok(other) => panic!("{other:?}"),
            Err(_) => break,
        }
    }
    // One more is more than was granted.
    say(&mut raw, &head(asked + 1, seen)).await;
    assert!(next(&mut raw).await.is_none());
    asked - CREDIT
}

/// Whoever waited for heads was given back what that cost, and a head that had not been seen was asked of the
/// storage at once: a client could have as many requests under way as it liked.
#[tokio::test]
async fn only_so_many_waits_are_free_and_none_that_waits_for_the_storage() {
    let served = Served::begin(stuck()).await;
    assert_eq!(granted(served.address, Some("a")).await, 256);
    assert_eq!(granted(served.address, None).await, 0);
}

/// A client of which an answer was ready that it never let the server send kept its place for ever.
#[tokio::test]
async fn a_client_that_says_nothing_loses_its_place_whatever_it_waits_for() {
    let mut server = stuck();
    server.idle = Duration::from_millis(300);
    let served = Served::begin(server).await;
    let mut raw = connected(served.address).await;
    let hello = Frame::Hello {
        version: VERSION,
        credit: 0,
        writes: false,
    };
    say(&mut raw, &hello).await;
    say(&mut raw, &head(1, None)).await;
    let ended = async { while next(&mut raw).await.is_some() {} };
    timeout(Duration::from_secs(20), ended).await.unwrap();
}

/// What answers pings was kept for whoever did not read the answers, without a bound.
#[tokio::test]
async fn answers_to_pings_are_not_kept_without_bound() {
    let ping = [&[0x89, 0xfd, 0, 0, 0, 0][..], &[7; 125]].concat();
    let pings = ping.repeat(20_000);
    let (unread, _other) = tokio::io::duplex(1);
    let socket = tokio::io::join(&pings[..], unread);
    let role = tungstenite::protocol::Role::Server;
    let mut socket = WebSocketStream::from_raw_socket(socket, role, Some(config())).await;
    for _ in 0..20_000 {
        assert!(matches!(socket.next().await, Some(Ok(Message::Ping(_)))));
    }
    let frame = Message::Binary(vec![3; frame::FRAME_BYTES_MAX].into());
    let sent = socket.feed(frame).now_or_never();
    assert!(
        matches!(sent, Some(Err(tungstenite::Error::WriteBufferFull(_)))),
        "{sent:?}"
    );
}

/// The task of a connection ends with its runtime. The connection looked open, and whoever asked next waited
/// until it lost patience; a swap, which is not asked again, had an unknown outcome.
#[test]
fn a_connection_ends_with_the_runtime_that_carries_it() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let (serving, first, second) = (runtime(), runtime(), runtime());
    let (_served, store) = serving.block_on(remote(&Store::memory()));
    assert!(first.block_on(store.head(&main())).unwrap().is_none());
    drop(first);
    let branch = main();
    let swap = async {
        let swap = store.cas_head(&branch, None, Bytes::from_static(b"head"));
        timeout(Duration::from_secs(20), swap).await.unwrap()
    };
    let swapped = second.block_on(swap);
    assert!(matches!(swapped, CasOutcome::Swapped(_)), "{swapped:?}");
}

/// The time in which a server has to answer ran while nobody asked: the next to ask was told that it had not.
#[tokio::test]
async fn connecting_that_was_given_up_goes_on() {
    let (served, _) = remote(&Store::memory()).await;
    let store = hasty(served.address);
    let branch = main();
    let mut given_up = Box::pin(store.head(&branch));
    assert!(futures::poll!(&mut given_up).is_pending());
    drop(given_up);
    pause(400).await;
    assert!(store.head(&branch).await.unwrap().is_none());
}

/// Only what was still on its way was counted: of what had come and was being written, any number of bytes was
/// held. And whoever sent too much lost the connection, with all that others had under way on it.
#[tokio::test]
async fn a_body_without_room_is_passed_over_and_holds_its_room_until_it_is_written() {
    const ROOM: u64 = 1 << 30;

    let body = |id: u32| Frame::Data {
        id,
        bytes: Bytes::from_static(b"body"),
    };
    let put = |id: u8, len: u64| Frame::Request {
        id: id.into(),
        request: Request::Put {
            object: Object {
                kind: Kind::Pack,
                id: PackId([id; 16]),
            },
            len,
        },
    };
    let swap = |id: u32, len: u64| Frame::Request {
        id,
        request: Request::Swap {
            branch: main(),
            expected: None,
            len,
        },
    };
    let failed = |frame: &Frame| match frame {
        Frame::Failed { why, .. } => Some(*why),
        _ => None,
    };
    let served = Served::begin(stuck().with_writes(true)).await;
    let mut raw = greeted(served.address).await;
    // Longer than any head.
    say(&mut raw, &swap(1, (1 << 20) + 4)).await;
    let bytes = Bytes::from(vec![7; frame::DATA_BYTES_MAX]);
    for _ in 0..4 {
        let bytes = bytes.clone();
        say(&mut raw, &Frame::Data { id: 1, bytes }).await;
    }
    say(&mut raw, &body(1)).await;
    assert_eq!(failed(&heard(&mut raw, 1).await), Some(Why::Unsupported));
    // This one is never written.
    say(&mut raw, &swap(2, 4)).await;
    say(&mut raw, &body(2)).await;
    // What is answered now was asked after that one had begun.
    let request = Request::List(Kind::Pack);
    say(&mut raw, &Frame::Request { id: 6, request }).await;
    assert_eq!(failed(&heard(&mut raw, 6).await), None);
    say(&mut raw, &put(3, ROOM - 4)).await;
    say(&mut raw, &put(4, 4)).await;
    say(&mut raw, &body(4)).await;
    assert_eq!(failed(&heard(&mut raw, 4).await), Some(Why::Storage));
    say(&mut raw, &Frame::Cancel { id: 3 }).await;
    say(&mut raw, &put(5, 4)).await;
    say(&mut raw, &body(5)).await;
    assert_eq!(failed(&heard(&mut raw, 5).await), None);
}
