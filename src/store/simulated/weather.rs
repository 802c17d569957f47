//! What befalls the requests of a handle, and who goes next: both follow from a seed.
//!
//! ```text
//! asked ── wait ──┬─ well ─────── takes effect ── wait ── answer
//!                 ├─ refused ──────────────────────────── error            nothing was done
//!                 ├─ lost ─────── takes effect ────────── error
//!                 ├─ late ─────────────────────────────── error … takes effect
//!                 ├─ twice ────── takes effect, again ─── answer to the second
//!                 └─ damaged ──── is read, bits are lost ─ answer
//! ```
//!
//! To wait is to let others go first: [`interleave`] polls one actor at a time, whichever the dice say. No
//! time passes but that which the test turns the clock by.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

/// Random numbers that follow from a seed (`SplitMix64`).
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// A number below `sides`.
    pub(crate) fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    /// True once in `n`.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Other dice, which follow from these.
    pub(crate) fn split(&mut self) -> Self {
        Self(self.below(u64::MAX))
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    /// What should.
    Well,
    /// It is refused and has no effect; the answer says so.
    Refused,
    /// It has no effect, and no answer comes.
    Dropped,
    /// It takes effect, and no answer comes.
    Lost,
    /// No answer comes, and it takes effect after so many other requests.
    Late(u64),
    /// It is delivered twice, and the second is answered.
    Twice,
    /// Nothing is done because another request is said to be under way.
    Contended,
    /// The answer ends early: so many 256ths of it arrive.
    Short(u64),
    /// One bit of the answer is wrong, at so many 256ths of it.
    Flipped(u64),
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Well => "well",
            Self::Refused => "refused",
            Self::Dropped => "dropped",
            Self::Lost => "lost",
            Self::Late(_) => "late",
            Self::Twice => "twice",
            Self::Contended => "contended",
            Self::Short(_) => "short",
            Self::Flipped(_) => "flipped",
        };
        f.write_str(name)
    }
}

impl Fate {
    /// What arrives of a body.
    pub(super) fn damage(self, body: Bytes) -> Bytes {
        let at = |part: u64| body.len() * usize::try_from(part).unwrap() / 256;
        match self {
            Self::Short(part) => body.slice(..at(part)),
            Self::Flipped(part) if !body.is_empty() => {
                let mut damaged = body.to_vec();
                damaged[at(part)] ^= 1 << (part % 8);
                damaged.into()
            }
            _ => body,
        }
    }
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    Read,
    List,
    Delete,
    Write,
    Swap,
}

/// How requests of a handle fare.
#[derive(Debug)]
pub(crate) struct Weather {
    /// Who asks, for the log.
    name: String,
    /// Of a thousand requests, so many do not fare well, and of those that follow one that did not, one in two.
    faults: u64,
    /// Whether the last request did not fare well: faults come in bursts.
    down: AtomicBool,
    /// Whether what is read may be damaged.
    damages: bool,
    dice: Mutex<Dice>,
    /// What befalls the next requests of a kind, in order, before the dice are asked.
    script: Mutex<VecDeque<(Does, Fate)>>,
}

impl Weather {
    /// Weather in which so many of a thousand requests do not fare well, and half of those that follow such a one.
    pub(crate) fn new(name: impl Into<String>, faults: u64, damages: bool, dice: Dice) -> Self {
        Self {
            name: name.into(),
            faults,
            down: AtomicBool::new(false),
            damages,
            dice: Mutex::new(dice),
            script: Mutex::default(),
        }
    }

    /// Good weather, but for what befalls these requests, each when the one before it is over.
    pub(crate) fn scripted(script: impl IntoIterator<Item = (Does, Fate)>) -> Self {
        Self {
            script: Mutex::new(script.into_iter().collect()),
            ..Self::new("scripted", 0, false, Dice(0))
        }
    }

    fn dice(&self) -> MutexGuard<'_, Dice> {
        self.dice.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets others go first: a few times mostly, sometimes for long.
    pub(super) async fn travel(&self) {
        let turns = {
            let mut dice = self.dice();
            let most = if dice.one_in(24) { 40 } else { 3 };
            dice.below(most)
        };
        wait(turns).await;
    }

    pub(super) fn fate(&self, does: Does) -> Fate {
        let mut script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, fate)) = script.pop_front_if(|(next, _)| *next == does) {
            return fate;
        }
        let mut dice = self.dice();
        let down = self.down.swap(false, Ordering::Relaxed) && dice.one_in(2);
        if !down && dice.below(1000) >= self.faults {
            return Fate::Well;
        }
        self.down.store(true, Ordering::Relaxed);
        let part = dice.below(256);
        match (does, dice.below(12)) {
            (Does::Read, 0..6) if self.damages && part.is_multiple_of(2) => Fate::Short(part),
            (Does::Read, 0..6) if self.damages => Fate::Flipped(part),
            (Does::Read | Does::List, _) => Fate::Dropped,
            (Does::Delete, 0..6) => Fate::Lost,
            (Does::Delete, _) => Fate::Dropped,
            (_, 0) => Fate::Refused,
            (_, 1) => Fate::Dropped,
            (_, 2..6) => Fate::Lost,
            (_, 6..8) => Fate::Late(part % 64),
            (Does::Swap, 8) => Fate::Contended,
            (_, _) => Fate::Twice,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// What was asked of a storage, in order, and how it fared.
#[derive(Debug, Default)]
pub(crate) struct Journal(Mutex<(Vec<String>, BTreeMap<String, u64>)>);

impl Journal {
    pub(super) fn note(&self, weather: &Weather, does: Does, what: &str, fate: Fate) {
        let mut journal = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        journal
            .0
            .push(format!("{}: {does:?} {what} {fate}", weather.name()));
        *journal.1.entry(fate.to_string()).or_default() += 1;
    }

    /// Requests so far.
    pub(super) fn len(&self) -> u64 {
        let journal = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        journal.0.len() as u64
    }

    /// Every request.
    pub(crate) fn lines(&self) -> Vec<String> {
        let journal = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        journal.0.clone()
    }

    /// How many requests fared how.
    pub(crate) fn fates(&self) -> BTreeMap<String, u64> {
        let journal = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        journal.1.clone()
    }
}

/// Lets others go first, so many times.
pub(crate) async fn wait(turns: u64) {
    for _ in 0..turns {
        let mut waited = false;
        std::future::poll_fn(|context| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

/// Goes away after `turns` turns; `None` if the work was not done by then.
pub(crate) async fn patient<T>(turns: u64, work: impl Future<Output = T>) -> Option<T> {
    let mut work = Box::pin(work);
    let mut left = turns;
    std::future::poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

/// Somebody who asks things of storages.
pub(crate) type Actor<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Has actors act, one step of one of them at a time, until all are done; `passes` is called before each step.
pub(crate) fn interleave(
    mut actors: Vec<Actor<'_>>,
    dice: &mut Dice,
    mut passes: impl FnMut(&mut Dice),
) {
    let mut context = Context::from_waker(Waker::noop());
    let mut steps = 0;
    while !actors.is_empty() {
        steps += 1;
        assert!(steps < 1_000_000, "somebody waits for ever");
        passes(dice);
        let next = usize::try_from(dice.below(actors.len() as u64)).unwrap();
        if actors[next].as_mut().poll(&mut context).is_ready() {
            drop(actors.swap_remove(next));
        }
    }
}
