//! Everybody at once, on storages that fail as a seed says: writers, readers, collectors and copiers.
//!
//! A run is one seed. It prints the seed if it fails; `DATOMFUSION_FAULT_SEED` names the first seed and
//! `DATOMFUSION_FAULT_SEEDS` how many there are. What holds, whatever happens:
//!
//! - A commit that was confirmed is in the log once, at the `t` that was told; one that was refused is not
//!   in it; one of which nobody knows is in it at most once. Commits that follow each other in time follow
//!   each other in `t`, which ascends by one.
//! - Whoever reads gets an error or what the log says, and within the grace never that it is gone.
//! - In the end every branch of both storages is whole, before and after a collection, and can be copied.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::*;
use crate::conn::MergeStrategy;
use crate::index::TreeName;
use crate::store::simulated::{Actor, Dice, Weather, interleave, patient, wait};

const MINUTE: i64 = 60 * 1000;
const GRACE: i64 = 60 * MINUTE;

const MARKS: &str = r"[{:db/ident :n/mark :db/valueType :db.type/long :db/cardinality :db.cardinality/one}
   {:db/ident :n/count :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]";

/// What a caller knows of its transaction.
#[derive(Debug)]
enum Told {
    Nothing,
    Refused(String),
    Kept(u64, Vec<Datom>),
}

/// A transaction.
#[derive(Debug)]
struct Said {
    branch: BranchName,
    mark: i64,
    begun: u64,
    ended: u64,
    told: Told,
}

/// What a reader found.
#[derive(Debug)]
struct Seen {
    branch: BranchName,
    /// Whether it asked the storage that is written to.
    newest: bool,
    begun: u64,
    t: u64,
    log: Vec<Datom>,
    /// The facts as of some `t`.
    facts: Vec<(u64, Vec<Datom>)>,
}

/// How often what happened.
type Tally = BTreeMap<String, u64>;

struct Stage {
    from: Arc<Simulation>,
    to: Arc<Simulation>,
    faults: u64,
    damages: bool,
    ticks: Cell<u64>,
    handles: Cell<u64>,
    counter: Cell<i64>,
    said: RefCell<Vec<Said>>,
    seen: RefCell<Vec<Seen>>,
    tally: RefCell<Tally>,
}

impl Stage {
    /// A database of a few commits, in good weather.
    async fn begin(seed: u64, dice: &mut Dice) -> Self {
        let (from, to) = (Simulation::new(), Simulation::new());
        let connection = Connection::create_in(&from.store(), main(), from.world(seed))
            .await
            .unwrap();
        said(&connection, SCHEMA).await;
        said(&connection, MARKS).await;
        said(&connection, "[{:n/id 0 :n/count 0}]").await;
        for n in 1..6 {
            said(&connection, &scripted(n)).await;
            if dice.one_in(2) {
                connection.checkpoint().await.unwrap();
            }
        }
        Self {
            from,
            to,
            faults: [0, 20, 60, 150][usize::try_from(dice.below(4)).unwrap()],
            damages: dice.one_in(2),
            ticks: Cell::new(0),
            handles: Cell::new((seed + 1) << 20),
            counter: Cell::new(0),
            said: RefCell::default(),
            seen: RefCell::default(),
            tally: RefCell::default(),
        }
    }

    /// Every request to both storages.
    fn journal(&self) -> Vec<String> {
        let journals = [&self.from, &self.to].map(|at| at.journal().lines());
        journals.concat()
    }

    fn tick(&self) -> u64 {
        self.ticks.set(self.ticks.get() + 1);
        self.ticks.get()
    }

    fn count(&self, what: &str) {
        *self.tally.borrow_mut().entry(what.to_owned()).or_default() += 1;
    }

    fn pass(&self, millis: i64) {
        self.from.pass(millis);
        self.to.pass(millis);
    }

    /// A handle in bad weather; one in four belongs to a machine that stops.
    fn handle(&self, at: &Arc<Simulation>, who: &str, dice: &mut Dice) -> Store {
        let stop = if self.faults > 0 && dice.one_in(4) {
            1 + dice.below(60)
        } else {
            0
        };
        let weather = Weather::new(who, self.faults, self.damages, dice.split());
        at.store_in(weather, stop, dice.one_in(2))
    }

    /// Another seed for whoever needs random names.
    fn fresh(&self) -> u64 {
        self.handles.set(self.handles.get() + 1);
        self.handles.get()
    }

    async fn open(&self, branch: &BranchName, who: &str, dice: &mut Dice) -> Result<Connection> {
        let store = self.handle(&self.from, who, dice);
        Connection::open_in(&store, branch.clone(), self.from.world(self.fresh())).await
    }

    /// What an error may be. `opened` is when the value was asked for that somebody reads.
    fn judge(&self, doing: &str, error: &Error, opened: Option<i64>) {
        let kind = match error {
            Error::SnapshotExpired(_) => "expired",
            Error::Corrupt { .. } => "corrupt",
            Error::CommitUnknown { .. } => "unknown",
            Error::Store { .. } => "failed",
            Error::Fenced { .. } => "fenced",
            _ => "refused",
        };
        self.count(&format!("{doing}: {kind}"));
        assert!(self.damages || kind != "corrupt", "{doing}: {error}");
        assert!(self.faults > 0 || kind != "failed", "{doing}: {error}");
        if let Some(opened) = opened {
            let late = self.from.now() > opened + GRACE;
            assert!(
                late || kind != "expired",
                "{doing} within the grace: {error}"
            );
        }
    }

    async fn write(&self, who: &str, branch: &BranchName, writers: i64, dice: &mut Dice) {
        let mut connection = None;
        for round in 0..3 {
            wait(dice.below(30)).await;
            let open = match connection.take() {
                Some(open) => open,
                None => match self.open(branch, who, dice).await {
                    Ok(open) => open,
                    Err(error) => {
                        self.judge("open", &error, None);
                        continue;
                    }
                },
            };
            let callers = (0..writers).map(|writer| {
                let mark = i64::try_from(self.fresh() << 4).unwrap() + writer;
                let (open, mut dice) = (open.clone(), dice.split());
                async move { self.say(&open, mark, &mut dice).await }
            });
            futures::future::join_all(callers).await;
            match dice.below(6) {
                0 | 1 => {
                    if let Err(error) = open.checkpoint().await {
                        self.judge("checkpoint", &error, None);
                    }
                }
                2 if round < 2 => continue,
                3 => {
                    if let Err(error) = open.sync().await {
                        self.judge("sync", &error, None);
                    }
                }
                _ => {}
            }
            connection = Some(open);
        }
    }

    async fn say(&self, connection: &Connection, mark: i64, dice: &mut Dice) {
        wait(dice.below(4)).await;
        let text = match dice.below(5) {
            0 => format!("{mark:0>1500}"),
            1 => format!("{mark:0>300}"),
            _ => format!("text {mark}"),
        };
        let mut data = format!("[{{:n/mark {mark} :n/text \"{text}\"}}");
        let old = self.counter.get();
        let counts = dice.one_in(2) && *connection.branch() == main();
        if counts {
            let _ = write!(data, "[:db/cas [:n/id 0] :n/count {old} {}]", old + 1);
        }
        data.push(']');
        let data = TxData::parse(&data).unwrap();
        let at = self.said.borrow().len();
        self.said.borrow_mut().push(Said {
            branch: connection.branch().clone(),
            mark,
            begun: self.tick(),
            ended: u64::MAX,
            told: Told::Nothing,
        });
        let turns = if dice.one_in(6) {
            dice.below(30)
        } else {
            u64::MAX
        };
        let told = match patient(turns, connection.transact(&data)).await {
            None => {
                self.count("transact: abandoned");
                Told::Nothing
            }
            Some(Ok(report)) => {
                self.count("transact: kept");
                let known = connection.db().basis_t();
                assert!(known >= report.t, "t={known} after t={}", report.t);
                if counts {
                    self.counter.set(self.counter.get().max(old + 1));
                }
                Told::Kept(report.t, report.tx_data)
            }
            Some(Err(error)) => {
                self.judge("transact", &error, None);
                match error {
                    Error::CommitUnknown { .. } => Told::Nothing,
                    // Somebody else counted on, and was perhaps not told.
                    Error::Transaction { .. } => {
                        let guess = i64::from(dice.one_in(2));
                        self.counter.set(self.counter.get() + guess);
                        Told::Refused(error.to_string())
                    }
                    error => Told::Refused(error.to_string()),
                }
            }
        };
        let mut said = self.said.borrow_mut();
        said[at].told = told;
        said[at].ended = self.tick();
    }

    async fn read(&self, at: &Arc<Simulation>, branch: &BranchName, who: &str, dice: &mut Dice) {
        for _ in 0..2 {
            wait(dice.below(120)).await;
            let (opened, begun) = (self.from.now(), self.tick());
            let store = self.handle(at, who, dice);
            let db = match Db::open(&store, branch).await {
                Ok(db) => db,
                Err(error) => {
                    self.judge("open", &error, Some(opened));
                    continue;
                }
            };
            // Mostly within the grace.
            wait(dice.below(300)).await;
            for _ in 0..2 {
                match Self::seen(&db, dice).await {
                    Ok((log, facts)) => {
                        self.count("read: right");
                        self.seen.borrow_mut().push(Seen {
                            branch: branch.clone(),
                            newest: Arc::ptr_eq(at, &self.from),
                            begun,
                            t: db.basis_t(),
                            log,
                            facts,
                        });
                    }
                    Err(error) => self.judge("read", &error, Some(opened)),
                }
                wait(dice.below(60)).await;
            }
        }
    }

    async fn seen(db: &Db, dice: &mut Dice) -> Result<(Vec<Datom>, Vec<(u64, Vec<Datom>)>)> {
        let log = db.collect(Index::Log, &Range::all()).await?;
        let newest = db.basis_t();
        let mut found = Vec::new();
        for t in [newest, dice.below(newest + 1)] {
            let past = db.as_of(crate::TimePoint::T(t)).await?;
            found.push((t, past.collect(Index::Eavt, &Range::all()).await?));
        }
        Ok((log, found))
    }

    async fn collect(&self, at: &Arc<Simulation>, who: &str, dice: &mut Dice) {
        for _ in 0..3 {
            wait(dice.below(100)).await;
            self.pass(i64::try_from(dice.below(70)).unwrap() * MINUTE);
            let options = GcOptions {
                retention: if dice.one_in(2) {
                    Retention::newest_only()
                } else {
                    Retention::default()
                },
                repack: dice.one_in(2),
                ..GcOptions::default()
            };
            let store = self.handle(at, who, dice);
            match gc_in(&store, &options, at.world(self.fresh())).await {
                Ok(report) => {
                    self.count("collect: done");
                    if report.deleted.count > 0 {
                        self.count("collect: deleted");
                    }
                }
                Err(error) => self.judge("collect", &error, None),
            }
        }
    }

    async fn copy(&self, who: &str, dice: &mut Dice) {
        for _ in 0..3 {
            wait(dice.below(100)).await;
            let from = self.handle(&self.from, who, dice);
            let to = self.handle(&self.to, who, dice);
            let options = SyncOptions {
                pack_bytes: 2 << 10,
                ..SyncOptions::default()
            };
            match sync_in(&from, &to, &options, self.to.world(self.fresh())).await {
                Ok(_) => self.count("copy: done"),
                Err(error) => self.judge("copy", &error, None),
            }
        }
    }

    /// Makes a branch, writes on it, and merges it.
    async fn branch_off(&self, who: &str, dice: &mut Dice) {
        let side = name("side");
        for _ in 0..3 {
            wait(dice.below(60)).await;
            let made = async {
                let connection = self.open(&main(), who, dice).await?;
                let db = connection.db();
                connection.branches().create(&side, &db).await
            };
            match made.await {
                Ok(_) => {
                    self.count("branch: made");
                    break;
                }
                Err(error) => self.judge("branch", &error, None),
            }
        }
        self.write(who, &side, 1, dice).await;
        let merged = async {
            let theirs = self.open(&side, who, dice).await?.db();
            let connection = self.open(&main(), who, dice).await?;
            let theirs = Db::open(connection.store(), theirs.branch()).await?;
            connection.merge(&theirs, &MergeStrategy::Ours).await
        };
        match merged.await {
            Ok(_) => self.count("merge: done"),
            Err(error) => self.judge("merge", &error, None),
        }
    }

    /// Compares all that was told with the log, which is right by definition if it is whole.
    fn check(&self, branch: &BranchName, log: &[Datom]) {
        let mut ts: Vec<u64> = log.iter().map(|datom| datom.tx.t()).collect();
        ts.dedup();
        assert!(ts.iter().copied().eq(0..ts.len() as u64), "{ts:?}");
        let mut marks: BTreeMap<i64, Vec<u64>> = BTreeMap::new();
        for (text, datom) in log.iter().filter_map(|d| Some((d.v.as_long()?, d))) {
            marks.entry(text).or_default().push(datom.tx.t());
        }
        let said = self.said.borrow();
        let said: Vec<&Said> = said.iter().filter(|said| said.branch == *branch).collect();
        for one in &said {
            let found = marks.get(&one.mark).map_or(&[][..], Vec::as_slice);
            match &one.told {
                Told::Nothing => assert!(found.len() < 2, "{one:?} is there at {found:?}"),
                Told::Refused(why) => assert!(found.is_empty(), "{one:?} is there: {why}"),
                Told::Kept(t, data) => {
                    assert_eq!(found, [*t], "{one:?}");
                    let there = log.iter().filter(|datom| datom.tx.t() == *t);
                    assert!(
                        there.clone().count() == data.len()
                            && there.into_iter().all(|datom| data.contains(datom)),
                        "{one:?}"
                    );
                }
            }
        }
        let kept = |one: &Said| match one.told {
            Told::Kept(t, _) => Some(t),
            _ => None,
        };
        for (first, t) in said.iter().filter_map(|one| Some((one, kept(one)?))) {
            for (later, after) in said.iter().filter_map(|one| Some((one, kept(one)?))) {
                assert!(
                    first.ended > later.begun || t < after,
                    "{first:?} {later:?}"
                );
            }
        }
        for seen in self.seen.borrow().iter().filter(|s| s.branch == *branch) {
            let upto = |t: u64| log.iter().filter(move |datom| datom.tx.t() <= t);
            assert!(seen.log.iter().eq(upto(seen.t)), "t={}", seen.t);
            for (t, facts) in &seen.facts {
                assert_eq!(*facts, current(upto(*t)), "as of {t} of {}", seen.t);
            }
            let known = said.iter().filter(|one| one.ended < seen.begun);
            let known = known.filter_map(|one| kept(one)).max().unwrap_or(0);
            assert!(
                !seen.newest || known <= seen.t,
                "{known} was kept: {}",
                seen.t
            );
        }
    }

    /// What is there in the end, in good weather.
    async fn end(&self) {
        self.from.deliver_all().await;
        self.to.deliver_all().await;
        let (from, to) = (self.from.store(), self.to.store());
        let mut logs = BTreeMap::new();
        for round in 0..3 {
            for branch in from.list_branches().await.unwrap() {
                let db = match Db::open(&from, &branch).await {
                    Ok(db) => db,
                    Err(Error::BranchDeleted { .. }) => continue,
                    Err(error) => panic!("branch {branch}: {error}"),
                };
                db.verify().await.unwrap();
                let log = facts(&db, Index::Log).await;
                self.check(&branch, &log);
                let before = logs.insert(branch.clone(), log.clone());
                assert!(before.is_none_or(|before| before == log), "branch {branch}");
            }
            // What was copied is a part of it. A first copy that could not see that it was whole has left a tombstone.
            if let Some((body, _)) = to.head(&main()).await.unwrap() {
                let head = Head::decode(&body, "the copy").unwrap();
                if head.deleted.is_some() {
                    let done = self.tally.borrow().contains_key("copy: done");
                    assert!(!done && round < 2, "a copy was done and is deleted");
                } else {
                    Self::check_copy(&to, &head, &logs[&main()]).await;
                }
            }
            match round {
                0 => self.collect_calmly().await,
                1 => {
                    fetched(&from, &to, self.fresh()).await;
                    alike(
                        &Db::open(&from, &main()).await.unwrap(),
                        &Db::open(&to, &main()).await.unwrap(),
                        29,
                    )
                    .await;
                    self.collect_calmly().await;
                }
                _ => {}
            }
        }
    }

    async fn check_copy(to: &Store, head: &Head, whole: &[Datom]) {
        let db = Db::open(to, &main()).await.unwrap();
        assert_eq!(db.head_commit(), head.commit);
        db.verify().await.unwrap();
        let log = facts(&db, Index::Log).await;
        let part = whole.iter().filter(|datom| datom.tx.t() <= db.basis_t());
        assert!(log.iter().eq(part), "the copy says something else");
    }

    async fn collect_calmly(&self) {
        for _ in 0..2 {
            self.pass(GRACE + MINUTE);
            for at in [&self.from, &self.to] {
                let options = GcOptions {
                    retention: Retention::newest_only(),
                    ..GcOptions::default()
                };
                gc_in(&at.store(), &options, at.world(self.fresh()))
                    .await
                    .unwrap();
            }
        }
    }
}

/// A seed that fails shows every request.
impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.journal().join("\n"));
        }
    }
}

/// The facts that a log leads to, the slow and obvious way.
fn current<'a>(log: impl Iterator<Item = &'a Datom>) -> Vec<Datom> {
    let mut facts: Vec<Datom> = Vec::new();
    for datom in log {
        if datom.added {
            facts.push(datom.clone());
        } else {
            facts.retain(|f| f.e != datom.e || f.a != datom.a || f.v != datom.v);
        }
    }
    let order = TreeName::Eavt.order();
    facts.sort_by(|left, right| order.compare(left, right));
    facts
}

/// One seed, from beginning to end: how often what happened, and every request.
fn run(seed: u64) -> (Tally, Vec<String>) {
    let mut dice = Dice(seed);
    dice.below(1);
    let stage = block_on(Stage::begin(seed, &mut dice));
    let (side, stage_ref) = (name("side"), &stage);
    let mut actors: Vec<Actor<'_>> = Vec::new();
    for (who, callers) in [("w1", 1), ("w2", 1), ("w3", 3)] {
        let mut dice = dice.split();
        actors.push(Box::pin(async move {
            stage_ref.write(who, &main(), callers, &mut dice).await;
        }));
    }
    for (who, at, branch) in [
        ("r1", &stage.from, main()),
        ("r2", &stage.from, side),
        ("r3", &stage.to, main()),
    ] {
        let mut dice = dice.split();
        actors.push(Box::pin(async move {
            stage_ref.read(at, &branch, who, &mut dice).await;
        }));
    }
    for (who, at) in [("g1", &stage.from), ("g2", &stage.to)] {
        let mut dice = dice.split();
        actors.push(Box::pin(async move {
            stage_ref.collect(at, who, &mut dice).await;
        }));
    }
    let (mut copier, mut brancher) = (dice.split(), dice.split());
    actors.push(Box::pin(stage.copy("c1", &mut copier)));
    actors.push(Box::pin(stage.branch_off("b1", &mut brancher)));
    interleave(actors, &mut dice, |dice| {
        stage.tick();
        let long = dice.one_in(300);
        let most = if long { 40 * MINUTE } else { 400 };
        stage.pass(i64::try_from(dice.below(most.unsigned_abs())).unwrap());
    });
    block_on(stage.end());
    let mut tally = stage.tally.take();
    for simulation in [&stage.from, &stage.to] {
        for (fate, times) in simulation.journal().fates() {
            *tally.entry(format!("request: {fate}")).or_default() += times;
        }
    }
    (tally, stage.journal())
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

#[test]
fn whatever_fails_commits_are_kept_once_and_readers_are_told_the_truth() {
    let seeds = number("DATOMFUSION_FAULT_SEEDS", 1000);
    let first = number("DATOMFUSION_FAULT_SEED", 0);
    let mut tally = Tally::new();
    for seed in first..first + seeds {
        match catch_unwind(AssertUnwindSafe(|| run(seed))) {
            Ok((counts, journal)) => {
                for (what, times) in counts {
                    *tally.entry(what).or_default() += times;
                }
                if seeds == 1 {
                    println!("{}", journal.join("\n"));
                }
            }
            Err(panic) => {
                println!("seed {seed}: DATOMFUSION_FAULT_SEED={seed} DATOMFUSION_FAULT_SEEDS=1");
                resume_unwind(panic);
            }
        }
    }
    let requests = tally
        .iter()
        .filter(|(what, _)| what.starts_with("request: "));
    let (well, not): (Vec<_>, Vec<_>) = requests.partition(|(what, _)| *what == "request: well");
    let [well, not] = [well, not].map(|some| some.iter().map(|(_, times)| **times).sum::<u64>());
    println!("{seeds} seeds: {tally:#?}\nrequests: {well} well, {not} not");
    if seeds < 100 {
        return;
    }
    for what in [
        "transact: kept",
        "transact: abandoned",
        "transact: unknown",
        "transact: failed",
        "read: right",
        "read: corrupt",
        "read: expired",
        "collect: deleted",
        "copy: done",
        "branch: made",
        "merge: done",
        "request: refused",
        "request: dropped",
        "request: lost",
        "request: late",
        "request: twice",
        "request: contended",
        "request: short",
        "request: flipped",
    ] {
        assert!(tally.contains_key(what), "{what} never happened");
    }
}

#[test]
fn a_seed_replays_to_the_last_request() {
    for seed in 0..4 {
        let [first, second] = [(); 2].map(|()| run(seed));
        assert!(first.1.len() > 100, "{}", first.1.len());
        assert_eq!(first, second, "seed {seed}");
    }
}

/// All names of functions below a folder.
fn functions(folder: &std::path::Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let names = text.split("fn ").skip(1).filter_map(|rest| {
                let (name, _) = rest.split_once('(')?;
                let word = name.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric());
                word.then(|| name.to_owned())
            });
            found.extend(names);
        }
    }
}

#[test]
fn every_test_that_the_table_of_promises_names_exists() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut there = BTreeSet::new();
    for folder in ["src", "tests", "datalog/src", "datalog/tests"] {
        functions(&root.join(folder), &mut there);
    }
    let table = include_str!("../../store/FAULTS.md");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| "));
    let mut promises = 0;
    for row in rows.filter(|row| row.starts_with(|first: char| first.is_ascii_digit())) {
        promises += 1;
        let cells: Vec<&str> = row.split(" | ").collect();
        assert_eq!(cells.len(), 4, "{row}");
        assert_eq!(cells[0], promises.to_string(), "{row}");
        let tests: Vec<&str> = cells[2].split('`').skip(1).step_by(2).collect();
        let none = cells[2].starts_with("none");
        assert!(none || !tests.is_empty(), "{row}");
        for test in tests.iter().filter(|_| !none) {
            assert!(there.contains(*test), "there is no test {test}");
        }
    }
    assert_eq!(promises, 20);
}
