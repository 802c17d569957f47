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
                Frame::Request { id, request } => match request {
                    Request::Put { len, .. } => (put, left) = (id, len),
                    _ => {
                        let answer = frame::Answer::Absent;
                        say(&mut raw, &Frame::Answer { id, answer }).await;
                    }
                },
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
