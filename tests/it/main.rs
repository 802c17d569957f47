//! What a user can do, as claims. One binary: each link of it is large.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(feature = "cli")]
mod branching;
#[cfg(feature = "cli")]
mod cli;
#[cfg(feature = "cli")]
mod collecting;
mod concurrency;
#[cfg(feature = "cli")]
mod conformance;
#[cfg(feature = "cli")]
mod copying;
mod crash;
#[cfg(feature = "cli")]
mod datalog;
#[cfg(feature = "query")]
mod differential;
#[cfg(feature = "query")]
mod federation;
mod formats;
#[cfg(feature = "query")]
mod optimizations;
#[cfg(all(feature = "cli", feature = "aws"))]
mod servers;
#[cfg(feature = "query")]
mod shapes;
mod support;
mod tidy;
mod time_travel;
mod transact;
#[cfg(feature = "query")]
mod versions;
