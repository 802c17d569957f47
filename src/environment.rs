//! What a database needs from the machine it runs on besides storage: the time and randomness.
//!
//! Both are passed in, so that tests can run on a clock and a seed of their own.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A clock and a source of random numbers.
pub trait Environment: fmt::Debug + Send + Sync {
    /// Milliseconds since the epoch.
    fn now(&self) -> i64;

    /// 16 random bytes; they name packs and salt commits, so two processes must never get the same.
    fn random(&self) -> [u8; 16];
}

/// The clock and the randomness of the operating system.
#[cfg(not(target_family = "wasm"))]
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

#[cfg(not(target_family = "wasm"))]
impl Environment for System {
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that reads the wall clock"
    )]
    fn now(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that asks for randomness"
    )]
    fn random(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the operating system has randomness");
        bytes
    }
}

/// A clock that ticks by a millisecond a call, and numbers that follow from a seed: for tests.
#[derive(Debug)]
pub struct Seeded {
    seed: u64,
    ticks: AtomicU64,
    draws: AtomicU64,
}

impl Seeded {
    /// The same seed gives the same instants and numbers.
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            seed,
            ticks: 0.into(),
            draws: 0.into(),
        })
    }
}

impl Environment for Seeded {
    fn now(&self) -> i64 {
        // 2020-01-01, and on.
        1_577_836_800_000_i64.saturating_add_unsigned(self.ticks.fetch_add(1, Ordering::Relaxed))
    }

    fn random(&self) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.seed.to_le_bytes());
        hasher.update(&self.draws.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        bytes
    }
}
