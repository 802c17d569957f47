//! Counting what is asked of a storage: performance facts are tested by counting, not by timing.

use std::ops::Sub;
use std::sync::atomic::{AtomicU64, Ordering};

/// How much has been asked of a storage. What one operation asked is a difference of two of these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Requests {
    /// Reads of an object, of a part of one or of its length, heads included.
    pub gets: u64,
    /// Writes of an object, heads included, whatever came of them.
    pub puts: u64,
    /// Listings.
    pub lists: u64,
    /// Removals of an object.
    pub deletes: u64,
    /// Bytes that were read.
    pub bytes_read: u64,
    /// Bytes that were sent to be written.
    pub bytes_written: u64,
}

impl Sub for Requests {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            gets: self.gets.saturating_sub(earlier.gets),
            puts: self.puts.saturating_sub(earlier.puts),
            lists: self.lists.saturating_sub(earlier.lists),
            deletes: self.deletes.saturating_sub(earlier.deletes),
            bytes_read: self.bytes_read.saturating_sub(earlier.bytes_read),
            bytes_written: self.bytes_written.saturating_sub(earlier.bytes_written),
        }
    }
}

/// The counters behind [`Requests`], shared by the clones of a store.
#[derive(Default)]
pub(super) struct Counters {
    gets: AtomicU64,
    puts: AtomicU64,
    lists: AtomicU64,
    deletes: AtomicU64,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
}

impl Counters {
    pub(super) fn got(&self, bytes: usize) {
        self.gets.fetch_add(1, Ordering::Relaxed);
        self.bytes_read.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn put(&self, bytes: usize) {
        self.puts.fetch_add(1, Ordering::Relaxed);
        self.bytes_written
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn listed(&self) {
        self.lists.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn deleted(&self) {
        self.deletes.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self) -> Requests {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Requests {
            gets: load(&self.gets),
            puts: load(&self.puts),
            lists: load(&self.lists),
            deletes: load(&self.deletes),
            bytes_read: load(&self.bytes_read),
            bytes_written: load(&self.bytes_written),
        }
    }
}
