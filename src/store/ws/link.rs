//! What both ends of a connection do alike: frames go out as the other side grants it.
//!
//! ```text
//!   frames that cost ──► queue ──► one for each that was granted ─┐
//!   grants, greetings ───────────────────────────────────────────┴─► socket
//! ```
//!
//! **Invariant.** Grants are never behind frames that cost: else both sides could wait for each other.
//!
//! **Invariant.** A permit to send is held by the task that writes, which is always polled, and never by
//! whoever asks: futures that nobody goes on with hold nobody up.

use std::pin::pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};
use futures::{Sink, SinkExt, Stream, StreamExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{self, Message};

use super::frame::{CREDIT, Frame, VERSION};
use crate::wire::Malformed;

/// Most frames that a peer may grant in all: no more are held for one that does not read.
const GRANTED_MAX: u32 = 256;

/// The outgoing half of a connection, and the accounts of both.
pub(super) struct Link {
    /// What goes ahead.
    first: UnboundedSender<Frame>,
    queue: UnboundedSender<(Frame, Option<OwnedSemaphorePermit>)>,
    /// What the other side lets us send.
    granted: Semaphore,
    /// What the other side may still send.
    allowed: AtomicU32,
    /// What was taken in and has not been granted anew.
    taken: AtomicU32,
    /// Frames that were queued so far, and how many of them the socket took.
    queued: AtomicU64,
    sent: watch::Sender<u64>,
}

/// What a [`Link`] sends, for [`write`].
pub(super) struct Outgoing {
    first: UnboundedReceiver<Frame>,
    queue: UnboundedReceiver<(Frame, Option<OwnedSemaphorePermit>)>,
}

/// Why a connection is of no use any more, for people.
#[derive(Clone, Debug)]
pub(super) struct Broken(pub(super) String);

impl From<Malformed> for Broken {
    fn from(reason: Malformed) -> Self {
        Self(format!("what came is not the protocol of sync: {reason}"))
    }
}

impl From<tungstenite::Error> for Broken {
    fn from(error: tungstenite::Error) -> Self {
        Self(error.to_string())
    }
}

impl Link {
    pub(super) fn new() -> (Self, Outgoing) {
        let (first, first_out) = unbounded_channel();
        let (queue, queue_out) = unbounded_channel();
        let link = Self {
            first,
            queue,
            granted: Semaphore::new(0),
            allowed: AtomicU32::new(CREDIT),
            taken: AtomicU32::new(0),
            queued: AtomicU64::new(0),
            sent: watch::Sender::new(0),
        };
        let outgoing = Outgoing {
            first: first_out,
            queue: queue_out,
        };
        (link, outgoing)
    }

    /// Introduces this side.
    pub(super) fn greet(&self, writes: bool) {
        let hello = Frame::Hello {
            version: VERSION,
            credit: CREDIT,
            writes,
        };
        let _ = self.first.send(hello);
    }

    /// Sends a frame in its turn. Where nobody writes any more, whoever waits for an answer is told.
    pub(super) fn send(&self, frame: Frame) {
        self.enqueue(frame, None);
    }

    /// Sends a frame in its turn, and gives the permit back when it is sent.
    pub(super) fn send_with(&self, frame: Frame, permit: OwnedSemaphorePermit) {
        self.enqueue(frame, Some(permit));
    }

    fn enqueue(&self, frame: Frame, permit: Option<OwnedSemaphorePermit>) {
        // Counted first, so that what is ahead of a frame is counted when that was queued.
        self.queued.fetch_add(1, Ordering::AcqRel);
        let _ = self.queue.send((frame, permit));
    }

    /// How many frames were queued so far: once as many are sent, all of those are.
    pub(super) fn queued(&self) -> u64 {
        self.queued.load(Ordering::Acquire)
    }

    /// How many of the frames that were queued the socket took.
    pub(super) fn sent(&self) -> watch::Receiver<u64> {
        self.sent.subscribe()
    }

    /// The other side lets us send more.
    pub(super) fn grant(&self, frames: u32) -> Result<(), Malformed> {
        let granted = u32::try_from(self.granted.available_permits()).unwrap_or(u32::MAX);
        if frames > GRANTED_MAX.saturating_sub(granted) {
            return Err(Malformed("more is granted than can be"));
        }
        self.granted
            .add_permits(usize::try_from(frames).unwrap_or(usize::MAX));
        Ok(())
    }

    /// The other side sent a frame that costs.
    pub(super) fn came(&self) -> Result<(), Malformed> {
        let spend = |allowed: u32| allowed.checked_sub(1);
        self.allowed
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, spend)
            .map(|_| ())
            .map_err(|_| Malformed("more was sent than was granted"))
    }

    /// A frame that came was taken in.
    pub(super) fn took(&self) {
        // Until the first of several is granted anew, the others only add to it.
        if self.taken.fetch_add(1, Ordering::AcqRel) == 0 {
            let _ = self.first.send(Frame::Credit(0));
        }
    }

    /// The frame to send, its number of grants filled in.
    fn ready(&self, frame: Frame) -> Message {
        let frame = match frame {
            Frame::Credit(_) => {
                let taken = self.taken.swap(0, Ordering::AcqRel);
                self.allowed.fetch_add(taken, Ordering::AcqRel);
                Frame::Credit(taken)
            }
            frame => frame,
        };
        Message::Binary(frame.encode())
    }

    async fn next(&self, outgoing: &mut Outgoing) -> Option<(Frame, Option<OwnedSemaphorePermit>)> {
        let Outgoing { first, queue } = outgoing;
        let first = pin!(first.recv());
        let queued = pin!(async {
            let granted = self.granted.acquire().await.ok()?;
            let frame = queue.recv().await?;
            granted.forget();
            Some(frame)
        });
        match select(first, queued).await {
            Either::Left((frame, _)) => Some((frame?, None)),
            Either::Right((frame, _)) => frame,
        }
    }

    /// Writes what is to be sent for as long as the other side takes it in.
    pub(super) async fn write(
        &self,
        mut outgoing: Outgoing,
        mut sink: impl Sink<Message, Error = tungstenite::Error> + Unpin,
        patience: Duration,
    ) -> Broken {
        let slow = |_| Broken("the other side takes nothing in".into());
        loop {
            let Some((frame, permit)) = self.next(&mut outgoing).await else {
                return Broken("it was closed".into());
            };
            let costs = frame.costs();
            let sent = timeout(patience, sink.send(self.ready(frame))).await;
            drop(permit);
            match sent.map_err(slow) {
                Ok(Ok(())) if costs => self.sent.send_modify(|sent| *sent += 1),
                Ok(Ok(())) => {}
                Ok(Err(error)) => return error.into(),
                Err(slow) => return slow,
            }
        }
    }
}

/// The next frame; what else a WebSocket carries is passed over.
pub(super) async fn read(
    stream: &mut (impl Stream<Item = Result<Message, tungstenite::Error>> + Unpin),
) -> Result<Frame, Broken> {
    loop {
        match stream.next().await.transpose()? {
            Some(Message::Binary(bytes)) => return Ok(Frame::decode(&bytes)?),
            Some(Message::Ping(_) | Message::Pong(_)) => {}
            Some(Message::Text(_) | Message::Frame(_)) => {
                return Err(Malformed("it is text").into());
            }
            Some(Message::Close(_)) | None => {
                return Err(Broken("the other side closed the connection".into()));
            }
        }
    }
}

/// The parts of a body as they travel.
pub(super) fn parts(body: &Bytes) -> impl Iterator<Item = Bytes> {
    let max = super::frame::DATA_BYTES_MAX;
    (0..body.len().div_ceil(max))
        .map(move |part| body.slice(part * max..body.len().min((part + 1) * max)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_sends_more_than_was_granted_nor_grants_without_bound() {
        let (link, _outgoing) = Link::new();
        assert!((0..CREDIT).all(|_| link.came().is_ok()));
        assert!(link.came().is_err());
        link.took();
        link.took();
        let Message::Binary(bytes) = link.ready(Frame::Credit(0)) else {
            panic!()
        };
        assert_eq!(Frame::decode(&bytes), Ok(Frame::Credit(2)));
        assert!(link.came().is_ok() && link.came().is_ok() && link.came().is_err());
        assert!(link.grant(GRANTED_MAX).is_ok());
        assert!(link.grant(1).is_err() && link.grant(u32::MAX).is_err());
    }

    #[test]
    fn the_parts_of_a_body_are_the_body() {
        let max = super::super::frame::DATA_BYTES_MAX;
        for len in [0, 1, max, max + 1, 3 * max] {
            let body = Bytes::from(vec![7; len]);
            let found: Vec<_> = parts(&body).collect();
            assert_eq!(found.concat(), body);
            assert!(
                found
                    .iter()
                    .all(|part| !part.is_empty() && part.len() <= max)
            );
        }
    }
}
