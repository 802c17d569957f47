//! What a user can do, as claims. One binary: each link of it is large.

mod concurrency;
mod crash;
mod formats;

mod support;
mod tidy;
mod time_travel;
mod transact;
