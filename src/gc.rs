//! Garbage collection: which packs nothing needs any more, and their end.
//!
//! Beside [`conn`](crate::conn), above the value. What stays is what the heads reach: their trees, the tree
//! of commits, and the checkpoints that [`Retention`] keeps. To pin a commit is to have a branch at it.
//!
//! ```text
//! run 1   note ─ swap every head ─ mark ─ repack ─ verdict: these packs are dead
//!         now    epoch + 1                             │
//!                                                      │  at least the grace
//! run 2   note ─ swap every head ─ mark ───────────────┴─ delete what is still dead ─ verdict …
//! ```
//!
//! - The **swap** bumps the epoch of every head, so that whatever a writer built on an older one loses its
//!   own swap. A pack that is older than the swap and that no head reaches can never be reached again.
//! - The **verdict** names such packs in a note of the store. Whoever opened a branch after it cannot need
//!   them; whoever opened it before has the grace to finish. So a pack is deleted by a later run, when the
//!   verdict is older than the grace: a reader within the grace always finishes, also one that stands on a
//!   dropped checkpoint or an older tree of commits. Later it gets [`Error::SnapshotExpired`]. A verdict
//!   counts for nothing that a later run finds alive, be it to copy it elsewhere: that is condemned anew.
//! - A **tombstone** counts as a branch until it is older than the grace; then a run takes its trees out of
//!   its head, and it can no longer be restored.
//!
//! **Clocks.** *Now* is when the store says that the run's first note was written. What decides about a
//! deletion of bytes is the store's clock alone: ages of packs and of verdicts are its times, compared with
//! its now. Two comparisons mix clocks, and neither can take anything from a reader: retention holds the
//! instants of commits, which their writers' clocks gave, against the store's now, and a tombstone the
//! instant that the clock of whoever deleted the branch gave. A wrong clock thins checkpoints, or ends the
//! chance to restore a branch, too early or too late. A dry run writes nothing, so no store tells it the
//! time: its now is this machine's clock, and what it predicts is off by as much as that differs.
//!
//! **Invariant.** Deleting packs is the last step but for the notes, and nothing else is ever deleted. Whatever
//! step a run dies at, the store is whole, and the next run takes up what is left.
//!
//! **Invariant.** Two runs at once harm nothing: one of them fails with [`Error::Fenced`]. So does a run
//! that finds a branch made meanwhile of a head that it has swapped already; the next run does its work.
//!
//! **Cost.** Reads every head, all leaves of the trees of commits, all inner nodes of all that stays (each
//! place once), the footers of their packs, and of the leaves only those that name bodies of large values.
//! Repacking reads the inner nodes once more, and what it moves.

mod mark;
mod repack;
mod retention;
mod verdict;

pub use self::retention::Retention;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use self::mark::{Reachable, mark};
use self::retention::{Thinned, thin};
use self::verdict::Verdict;
use crate::conn::node_writer;
use crate::db::commit::Checkpoint;
use crate::db::head::Head;
use crate::db::{Db, head_object};
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::id::{BranchName, Location, PackId};
use crate::node::{Leaf, Loader, Node};
use crate::store::{CasOutcome, HeadVersion, PackInfo, Store};
use crate::sync::note::{Note, packs_of};
use crate::tree::{self, Root};

/// How often a swap is tried anew before the run gives up; each time, a writer got ahead.
const ROUNDS_MAX: usize = 1000;

/// How to collect garbage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GcOptions {
    /// Which checkpoints stay.
    pub retention: Retention,
    /// How long whoever has opened a branch may go on reading what he found: an hour unless it is said.
    /// A copy that is under way and fits in one pack must have its head in place within it, too; longer ones
    /// are left alone for a week. Zero deletes at once what is
    /// dead, which is right only where meanwhile nobody reads, branches off or copies anything in.
    pub grace: Duration,
    /// Changes nothing and says what would happen, by the clock of this machine. Old nodes of the tree of
    /// commits, which a run would write anew, count as alive.
    pub dry_run: bool,
    /// Copies what lives out of packs of which more than half is dead. So it is unless it is said.
    pub repack: bool,
}

impl Default for GcOptions {
    fn default() -> Self {
        Self {
            retention: Retention::default(),
            grace: Duration::from_hours(1),
            dry_run: false,
            repack: true,
        }
    }
}

/// Some packs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packs {
    /// How many.
    pub count: u64,
    /// Their length together, in bytes.
    pub bytes: u64,
}

impl Packs {
    fn add(&mut self, pack: &PackInfo) {
        self.count += 1;
        self.bytes += pack.len;
    }
}

/// What a run found and did, or would do if it is a dry one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Branches whose heads were looked at, tombstones included.
    pub branches: u64,
    /// Checkpoints that stay, in all branches together; one that two branches share counts twice.
    pub kept_checkpoints: u64,
    /// Checkpoints that retention drops.
    pub dropped_checkpoints: u64,
    /// Nodes and bodies that are reached.
    pub live_frames: u64,
    /// Their bytes.
    pub live_bytes: u64,
    /// All packs, as the run found them.
    pub packs: Packs,
    /// Those that nothing reaches.
    pub dead: Packs,
    /// Those of which something is reached, but less than half of their bytes.
    pub half_dead: Packs,
    /// Half-dead packs whose living parts were copied.
    pub repacked: Packs,
    /// Packs that a new verdict names: found dead for the first time, or again after an older verdict was
    /// over, or repacked. A run after the grace deletes them.
    pub condemned: Packs,
    /// Packs that were deleted.
    pub deleted: Packs,
}

/// Collects the garbage of a store.
///
/// # Errors
///
/// [`Error::Fenced`] if another run was faster, or a branch was made meanwhile; [`Error::Corrupt`], [`Error::NewerFormat`] and
/// [`Error::Store`] as they say. Nothing is deleted then that is in use, and a later run does the rest.
#[cfg(not(target_family = "wasm"))]
pub async fn gc(store: &Store, options: &GcOptions) -> Result<GcReport> {
    gc_in(store, options, Arc::new(crate::environment::System)).await
}

/// [`gc`] with randomness, and for dry runs a clock, of the caller's.
///
/// # Errors
///
/// As [`gc`].
pub async fn gc_in(
    store: &Store,
    options: &GcOptions,
    environment: Arc<dyn Environment>,
) -> Result<GcReport> {
    if store.read_only() && !options.dry_run {
        return Err(Error::invalid(format!(
            "{} can only be read; ask for a dry run",
            store.location()
        )));
    }
    // On the heap: the states of a run are large.
    Box::pin(async {
        let mut run = Run::begin(store, options, environment).await?;
        run.swap_heads().await?;
        run.collect().await
    })
    .await
}

/// A branch as a run has left it.
struct Line {
    head: Head,
    version: HeadVersion,
    /// The checkpoints of its past that stay.
    kept: Vec<Checkpoint>,
}

/// One run.
struct Run<'a> {
    store: &'a Store,
    options: &'a GcOptions,
    environment: Arc<dyn Environment>,
    loader: Arc<Loader>,
    /// The store's time when the run began.
    now: i64,
    /// The note that said so; none in a dry run.
    mark: Option<PackId>,
    /// The epoch that the run gives to every head.
    epoch: u64,
    verdicts: Vec<Verdict>,
    /// Packs of copies under way.
    copied: HashSet<PackId>,
    packs: Vec<PackInfo>,
    lines: BTreeMap<BranchName, Line>,
    report: GcReport,
}

impl<'a> Run<'a> {
    async fn begin(
        store: &'a Store,
        options: &'a GcOptions,
        environment: Arc<dyn Environment>,
    ) -> Result<Self> {
        let mut epoch = 0;
        for branch in store.list_branches().await? {
            if let Some((head, _)) = read_head(store, &branch).await? {
                epoch = epoch.max(head.gc_epoch);
            }
        }
        let mark = (!options.dry_run).then(|| PackId(environment.random()));
        if let Some(mark) = mark {
            store.put_note(mark, Verdict::default().encode()).await?;
        }
        let notes = store.list_notes().await?;
        let now = match mark {
            None => environment.now(),
            Some(mark) => match notes.iter().find(|note| note.id == mark) {
                Some(note) => note.modified,
                None => {
                    return Err(Error::invalid(format!(
                        "{} does not list what was just written; try again",
                        store.location()
                    )));
                }
            },
        };
        let (mut verdicts, mut copies) = (Vec::new(), Vec::new());
        for note in notes.iter().filter(|note| Some(note.id) != mark) {
            let Some(body) = store.read_note(note.id).await? else {
                continue;
            };
            let kept = i64::try_from(Note::KEPT.as_millis()).unwrap_or(i64::MAX);
            if Note::decode(&body).is_some() && note.modified.saturating_add(kept) > now {
                copies.push(note.id);
            } else {
                verdicts.push(Verdict::decode(note, &body));
            }
        }
        // After the notes: what a copy puts that begins now is younger than this run.
        let packs = store.list_packs().await?;
        let there: HashSet<PackId> = packs.iter().map(|pack| pack.id).collect();
        let copied = copies.into_iter().flat_map(|note| {
            let there = &there;
            packs_of(note).take_while(move |pack| there.contains(pack))
        });
        let copied = copied.collect();
        Ok(Self {
            store,
            options,
            loader: Arc::new(Loader::new(store.clone())),
            now,
            mark,
            epoch: epoch + 1,
            verdicts,
            copied,
            packs,
            lines: BTreeMap::new(),
            report: GcReport::default(),
            environment,
        })
    }

    /// Swaps the head of every branch, also of those that come into being meanwhile.
    async fn swap_heads(&mut self) -> Result<()> {
        loop {
            let branches = self.store.list_branches().await?;
            let mut fresh = false;
            for branch in branches {
                if self.lines.contains_key(&branch) {
                    continue;
                }
                if let Some(line) = self.swap(&branch).await? {
                    self.lines.insert(branch, line);
                    fresh = true;
                }
            }
            // A branch that was made of an old head before that was swapped is in the next listing.
            if !fresh {
                self.report.branches = self.lines.len() as u64;
                return Ok(());
            }
        }
    }

    /// Gives the head of a branch this run's epoch and takes dropped checkpoints out of its commits.
    async fn swap(&mut self, branch: &BranchName) -> Result<Option<Line>> {
        for _ in 0..ROUNDS_MAX {
            let Some((head, version)) = read_head(self.store, branch).await? else {
                return Ok(None);
            };
            if head.gc_epoch >= self.epoch {
                return Err(self.fenced(branch, &head));
            }
            if let Some(deleted) = head.deleted
                && deleted.saturating_add(self.grace()) <= self.now
            {
                let mut line = Line {
                    head: head.emptied(),
                    version,
                    kept: Vec::new(),
                };
                line.head.gc_epoch = self.epoch;
                if self.options.dry_run || self.put(branch, &mut line).await? {
                    return Ok(Some(line));
                }
                continue;
            }
            let deleted = head.deleted;
            let head = Head {
                deleted: None,
                ..head
            };
            let db = Db::from_head(Arc::clone(&self.loader), head).await?;
            let thinned = thin(&db, &self.options.retention, self.now).await?;
            let Thinned {
                kept,
                changes,
                dropped,
            } = thinned;
            let mut line = Line {
                head: Head {
                    deleted,
                    ..Head::clone(&db.0.head)
                },
                version,
                kept,
            };
            if !self.options.dry_run {
                let mut writer = node_writer(db.loader(), &self.environment);
                let edited =
                    tree::edit(db.loader(), &mut writer, &line.head.commits, &changes).await?;
                writer.finish().await?;
                line.head.commits = edited.tree;
                line.head.gc_epoch = self.epoch;
                if !self.put(branch, &mut line).await? {
                    continue;
                }
            }
            self.report.kept_checkpoints += line.kept.len() as u64;
            self.report.dropped_checkpoints += dropped;
            return Ok(Some(line));
        }
        Err(busy(branch))
    }

    /// Swaps the head of a line; `false` if somebody else may have done so.
    async fn put(&self, branch: &BranchName, line: &mut Line) -> Result<bool> {
        line.head.generation += 1;
        let body = line.head.encode().ok_or_else(|| {
            Error::invalid(format!(
                "the head of branch {branch} is full; checkpoint it and collect again"
            ))
        })?;
        match self.store.cas_head(branch, Some(&line.version), body).await {
            CasOutcome::Swapped(version) => {
                line.version = version;
                Ok(true)
            }
            CasOutcome::Failed(error) => Err(error),
            CasOutcome::Conflict | CasOutcome::Unknown(_) => Ok(false),
        }
    }

    /// Marks, copies, passes a verdict, and deletes.
    async fn collect(mut self) -> Result<GcReport> {
        let lines = self.lines.values();
        let roots: Vec<Root> = lines
            .flat_map(|line| {
                let checkpoints = line.kept.iter().chain([&line.head.checkpoint]);
                checkpoints.flat_map(roots_of).chain(line.head.commits.root)
            })
            .collect();
        let reachable = mark(&self.loader, roots, self.tail_bodies()).await?;
        self.report.live_frames = reachable.frames();
        self.report.live_bytes = reachable.bytes();
        let (dead, mut half) = self.sort(&reachable);
        self.end_verdicts(&dead).await?;
        if !self.options.repack || self.options.dry_run {
            half.clear();
        }
        if !half.is_empty() {
            let going: HashSet<PackId> = half.iter().map(|pack| pack.id).collect();
            let named = repack::repack(&self, &reachable, &going).await?;
            half.retain(|pack| !named.contains(&pack.id));
            for pack in &half {
                self.report.repacked.add(pack);
            }
        }
        self.sweep(&dead, &half).await?;
        Ok(self.report)
    }

    fn tail_bodies(&self) -> Vec<Location> {
        let lines = self.lines.values();
        lines.flat_map(|line| tail_bodies(&line.head)).collect()
    }

    /// The packs that are dead, and those that are half-dead. What is as young as the run is neither:
    /// somebody may be about to write a head that names it. So is a copy under way.
    fn sort(&mut self, reachable: &Reachable) -> (Vec<PackInfo>, Vec<PackInfo>) {
        let pinned: HashSet<PackId> = self.tail_bodies().iter().map(|place| place.pack).collect();
        let (mut dead, mut half) = (Vec::new(), Vec::new());
        for pack in &self.packs {
            self.report.packs.add(pack);
            if pack.modified >= self.now || self.copied.contains(&pack.id) {
                continue;
            }
            let live = reachable.bytes_in(pack.id);
            if live == 0 {
                self.report.dead.add(pack);
                dead.push(*pack);
            } else if live < pack.len / 2 {
                self.report.half_dead.add(pack);
                if !pinned.contains(&pack.id) {
                    half.push(*pack);
                }
            }
        }
        (dead, half)
    }

    /// Ends the verdicts that name what is alive in this run: whoever opened a branch before may need it. What
    /// else they name is noted anew.
    ///
    /// Before that is copied elsewhere: of a run that died behind it, the next one would find dead what was
    /// alive, and the verdict ripe.
    async fn end_verdicts(&mut self, dead: &[PackInfo]) -> Result<()> {
        let (there, found) = (ids(&self.packs), ids(dead));
        let is_alive = |pack: &PackId| there.contains(pack) && !found.contains(pack);
        let verdicts = std::mem::take(&mut self.verdicts).into_iter();
        let (over, standing): (Vec<_>, Vec<_>) =
            verdicts.partition(|verdict| verdict.packs.iter().any(is_alive));
        self.verdicts = standing;
        if !self.options.dry_run {
            for verdict in over {
                self.store.delete_note(verdict.note).await?;
            }
        }
        Ok(())
    }

    /// Deletes dead packs that were found dead before the grace, and notes the others, with those that have
    /// just been repacked.
    async fn sweep(&mut self, dead: &[PackInfo], repacked: &[PackInfo]) -> Result<()> {
        let at_once = self.grace() == 0;
        let found = ids(dead);
        let (mut ripe, mut waiting) = (HashSet::<PackId>::new(), HashSet::<PackId>::new());
        let mut over = Vec::new();
        for verdict in &self.verdicts {
            let due = verdict.at.saturating_add(self.grace()) <= self.now;
            if due {
                ripe.extend(&verdict.packs);
            }
            // Those that name nothing are left over from a run that died.
            if at_once || due || verdict.packs.is_empty() {
                over.push(verdict.note);
            } else {
                waiting.extend(&verdict.packs);
            }
        }
        // A run that died may have left a verdict that is over beside the one that took its place.
        ripe.retain(|pack| found.contains(pack) && !waiting.contains(pack));
        let (go, mut fresh): (Vec<&PackInfo>, Vec<&PackInfo>) = dead
            .iter()
            .chain(repacked)
            .partition(|pack| at_once || ripe.contains(&pack.id));
        fresh.retain(|pack| !waiting.contains(&pack.id));
        for pack in &fresh {
            self.report.condemned.add(pack);
        }
        for pack in &go {
            self.report.deleted.add(pack);
        }
        if self.options.dry_run {
            return Ok(());
        }
        if !fresh.is_empty() {
            let verdict = Verdict::of(fresh.iter().map(|pack| pack.id));
            let id = PackId(self.environment.random());
            self.store.put_note(id, verdict.encode()).await?;
        }
        for pack in go {
            self.store.delete_pack(pack.id).await?;
        }
        // Notes go last: until then a run that died can be taken up.
        for note in over {
            self.store.delete_note(note).await?;
        }
        if let Some(mark) = self.mark {
            self.store.delete_note(mark).await?;
        }
        Ok(())
    }

    /// In milliseconds.
    fn grace(&self) -> i64 {
        i64::try_from(self.options.grace.as_millis()).unwrap_or(i64::MAX)
    }

    fn fenced(&self, branch: &BranchName, head: &Head) -> Error {
        Error::Fenced {
            branch: branch.clone(),
            expected: self.epoch,
            actual: head.gc_epoch,
        }
    }
}

fn ids(packs: &[PackInfo]) -> HashSet<PackId> {
    packs.iter().map(|pack| pack.id).collect()
}

/// The trees of a checkpoint, and its leaf of schema facts.
fn roots_of(checkpoint: &Checkpoint) -> impl Iterator<Item = Root> + '_ {
    let schema = checkpoint.schema.map(|(id, location)| Root {
        id,
        location,
        level: 0,
        // Nobody counts the facts of a schema.
        count: 0,
    });
    checkpoint
        .trees
        .iter()
        .filter_map(|tree| tree.root)
        .chain(schema)
}

/// Where bodies lie that the tail of a head names: those within tuples, for it holds the others.
fn tail_bodies(head: &Head) -> Vec<Location> {
    let leaf = Leaf::from_datoms(&head.log);
    let larges = leaf.larges().into_iter();
    larges.filter_map(|large| large.location).collect()
}

async fn read_head(store: &Store, branch: &BranchName) -> Result<Option<(Head, HeadVersion)>> {
    let Some((bytes, version)) = store.head(branch).await? else {
        return Ok(None);
    };
    let head = Head::decode(&bytes, &head_object(store.location(), branch))?;
    Ok(Some((head, version)))
}

fn busy(branch: &BranchName) -> Error {
    Error::invalid(format!(
        "writers of branch {branch} were faster every time; collect again"
    ))
}

/// A node that must be a leaf.
pub(crate) fn leaf_of(node: Node, root: &Root) -> Result<Arc<Leaf>> {
    match node {
        Node::Leaf(leaf) => Ok(leaf),
        Node::Inner(_) => Err(Error::corrupt(
            root.id,
            "an inner node lies where a leaf should",
        )),
    }
}

#[cfg(test)]
mod tests;
