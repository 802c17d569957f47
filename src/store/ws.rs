//! Stores over WebSocket: `ws:` addresses, and the server that they speak with.
//!
//! What travels are the operations of a store, so that all that works on a store works on `ws:` addresses:
//! queries, transactions, fetch, push and follow know nothing of it. [`frame`] holds the words of the
//! protocol, [`link`] the flow of frames, [`connection`] and [`client`] the asking side, [`server`] the
//! answering one; `PROTOCOL.md` beside them says which bytes these are.
//!
//! **Invariant.** A client names packs, notes and branches, never keys: nothing else that lies in the
//! storage of a server can be asked for.
//!
//! **Invariant.** No frame is longer than 264 KiB, and one that claims to be is refused before it is read.
//! A peer has at most 64 frames under way; whoever takes them in says when it may send more.
//!
//! **Invariant.** Whoever asks waits a bounded time for the next sign of an answer.

use std::time::Duration;

use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

mod client;
mod connection;
mod frame;
mod link;
mod server;
#[cfg(test)]
pub(crate) mod tests;
mod token;

pub(super) use self::client::{denied, open};
pub use self::server::{SyncServer, serve_sync};
pub use self::token::SyncToken;

/// How long a peer may take to connect, to introduce itself, and to take in what is sent.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long an answer may show no sign of coming. A server may have to ask a cloud, which may take a minute.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long a server keeps a client waiting for a head to change.
const HOLD: Duration = Duration::from_secs(20);

/// The bounds of a connection.
fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(frame::FRAME_BYTES_MAX))
        .max_frame_size(Some(frame::FRAME_BYTES_MAX))
        // Pings are answered, also to one that does not read the answers: what is sent to it then fails.
        .max_write_buffer_size(4 * frame::FRAME_BYTES_MAX)
}
