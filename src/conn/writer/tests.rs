//! Answers that get lost on the way, one at a time.

use futures::executor::block_on;

use super::*;
use crate::conn::branch::Branches;
use crate::index::{Index, Range};
use crate::store::simulated::Does::{Read, Swap};
use crate::store::simulated::{Does, Fate, Simulation, Weather, patient, wait};

const MARK: &str =
    "[{:db/ident :n/mark :db/valueType :db.type/long :db/cardinality :db.cardinality/one}]";

/// A branch, and a connection to it whose requests fare as they are told.
async fn scripted(script: &[(Does, Fate)]) -> (Arc<Simulation>, Connection) {
    let simulation = Simulation::new();
    let store = simulation.store();
    let first = Connection::create_in(&store, BranchName::default(), simulation.world(1));
    let data = TxData::parse(MARK).unwrap();
    first.await.unwrap().transact(&data).await.unwrap();
    let store = simulation.store_in(Weather::scripted(script.iter().copied()), 0, false);
    let opened = Connection::open_in(&store, BranchName::default(), simulation.world(2));
    (Arc::clone(&simulation), opened.await.unwrap())
}

fn mark(n: i64) -> TxData {
    TxData::parse(&format!("[{{:n/mark {n}}}]")).unwrap()
}

/// How often a mark is in the log.
async fn times(simulation: &Arc<Simulation>, n: i64) -> usize {
    simulation.deliver_all().await;
    let db = Db::open(&simulation.store(), &BranchName::default())
        .await
        .unwrap();
    db.verify().await.unwrap();
    let log = db.collect(Index::Log, &Range::all()).await.unwrap();
    let marked = log.iter().filter(|datom| datom.v.as_long() == Some(n));
    marked.count()
}

/// The answer to a swap was lost, and the head was read back before the request arrived. The transaction was
/// decided anew; then the first request took effect, the second was in conflict with it, its commit was not
/// found, and the transaction was committed twice.
#[test]
fn a_swap_that_arrives_late_is_not_made_twice() {
    for after in 0..6 {
        let (simulation, connection) = block_on(scripted(&[(Swap, Fate::Late(after))]));
        block_on(connection.transact(&mark(1000))).unwrap();
        assert_eq!(block_on(times(&simulation, 1000)), 1, "after {after}");
        assert_eq!(connection.db().basis_t(), 2);
    }
}

/// Of two deliveries of a swap the second was refused, and the head could not be read: the caller was told
/// that the store had failed, although the commit was there.
#[test]
fn a_conflict_that_cannot_be_looked_into_is_an_unknown_outcome() {
    let script = [
        (Read, Fate::Well),
        (Swap, Fate::Twice),
        (Read, Fate::Dropped),
    ];
    let (simulation, connection) = block_on(scripted(&script));
    let error = block_on(connection.transact(&mark(1000))).unwrap_err();
    assert!(matches!(error, Error::CommitUnknown { .. }), "{error}");
    assert_eq!(block_on(times(&simulation, 1000)), 1);
}

/// Of a group whose outcome is unknown, the first caller was told so; the others were told that their
/// requests could not be right.
#[test]
fn each_caller_of_a_group_is_told_that_its_outcome_is_unknown() {
    let script = [
        (Read, Fate::Well),
        (Swap, Fate::Well),
        (Swap, Fate::Lost),
        (Read, Fate::Dropped),
    ];
    let (simulation, connection) = block_on(scripted(&script));
    let data = [mark(1000), mark(1001), mark(1002)];
    let told = data.iter().map(|data| connection.transact(data));
    let mut told = block_on(futures::future::join_all(told)).into_iter();
    // The others wait behind the first, and go together.
    told.next().unwrap().unwrap();
    for told in told {
        let error = told.unwrap_err();
        assert!(matches!(error, Error::CommitUnknown { .. }), "{error}");
    }
    assert_eq!(block_on(times(&simulation, 1001)), 1);
    assert_eq!(block_on(times(&simulation, 1002)), 1);
}

/// A caller went away while a swap was under way, and whoever came next could not read the head. He was told
/// that he had failed, and the next one committed his transaction all the same; what had been under way was
/// forgotten, and those who waited for it committed it again.
#[test]
fn whoever_goes_away_leaves_nothing_that_is_committed_twice_or_after_all() {
    let mut refused = 0;
    for turns in 0..60 {
        let script = [
            (Read, Fate::Well),
            (Swap, Fate::Lost),
            (Read, Fate::Dropped),
        ];
        let (simulation, connection) = block_on(scripted(&script));
        block_on(patient(turns, connection.transact(&mark(1000))));
        let (second, third) = (mark(1001), mark(1002));
        let both = futures::future::join(connection.transact(&second), connection.transact(&third));
        let (second, third) = block_on(both);
        block_on(connection.transact(&mark(1003))).unwrap();
        for (n, told) in [(1001, second), (1002, third)] {
            let found = block_on(times(&simulation, n));
            match told {
                Ok(_) => assert_eq!(found, 1, "{n} after {turns}"),
                Err(Error::CommitUnknown { .. }) => assert!(found < 2, "{n} after {turns}"),
                Err(error) => {
                    refused += 1;
                    assert_eq!(found, 0, "{n} after {turns}: {error}");
                }
            }
        }
        assert!(block_on(times(&simulation, 1000)) < 2, "after {turns}");
        assert_eq!(block_on(times(&simulation, 1003)), 1);
    }
    assert!(refused > 0, "nobody was refused");
}

/// A swap was asked for that arrived late, and whoever took it up was refused by the store: a caller who was part
/// of it was told that the store had failed, and his transaction was committed all the same.
#[test]
fn a_refusal_says_nothing_of_a_swap_that_was_sent_before() {
    let mut unknown = 0;
    for turns in 0..60 {
        let script = [
            (Read, Fate::Well),
            (Swap, Fate::Well),
            (Swap, Fate::Late(1000)),
            (Swap, Fate::Refused),
        ];
        let (simulation, connection) = block_on(scripted(&script));
        let data = [mark(1000), mark(1001), mark(1002)];
        let [first, second, third] = &data;
        // The others wait behind the first, and go together.
        let (_, _, told) = block_on(futures::future::join3(
            connection.transact(first),
            patient(turns, connection.transact(second)),
            connection.transact(third),
        ));
        let found = block_on(times(&simulation, 1002));
        match told {
            Ok(_) => assert_eq!(found, 1, "after {turns}"),
            Err(Error::CommitUnknown { .. }) => unknown += found,
            Err(error) => assert_eq!(found, 0, "after {turns}: {error}"),
        }
    }
    assert!(unknown > 0, "no swap was taken up");
}

/// A caller went away before his turn came, and the next one carried his transaction along.
#[test]
fn whoever_goes_away_before_his_turn_commits_nothing() {
    let (simulation, connection) = block_on(scripted(&[]));
    let turn = block_on(connection.0.writer.turn.lock());
    let gone = block_on(patient(0, connection.transact(&mark(1000))));
    assert!(gone.is_none());
    drop(turn);
    block_on(connection.transact(&mark(1001))).unwrap();
    assert_eq!(block_on(times(&simulation, 1000)), 0);
    assert_eq!(block_on(times(&simulation, 1001)), 1);
}

/// A caller went away during a swap that another writer overtook, and his transaction was decided anew.
#[test]
fn what_was_given_up_is_not_decided_anew() {
    let mut overtaken = 0;
    for turns in 0..60 {
        let script = [(Read, Fate::Well), (Swap, Fate::Dropped)];
        let (simulation, connection) = block_on(scripted(&script));
        let gone = block_on(patient(turns, connection.transact(&mark(1000)))).is_none();
        let journal = simulation.journal().lines();
        let swaps = journal.iter().filter(|line| line.contains("Swap")).count();
        // One of which it is known that nothing came of it.
        if !gone || swaps != 1 {
            continue;
        }
        overtaken += 1;
        let (store, world) = (simulation.store(), simulation.world(3));
        let other = Connection::open_in(&store, BranchName::default(), world);
        let other = block_on(other).unwrap();
        block_on(other.transact(&mark(1001))).unwrap();
        block_on(connection.transact(&mark(1002))).unwrap();
        assert_eq!(block_on(times(&simulation, 1000)), 0, "after {turns}");
        assert_eq!(block_on(times(&simulation, 1002)), 1);
    }
    assert!(overtaken > 0, "nobody went away during the swap");
}

/// Of a group that took two swaps, those of the second were told that the outcome of the first was theirs.
#[test]
fn whoever_was_not_part_of_a_swap_is_told_that_he_was_refused() {
    let script = [
        (Read, Fate::Well),
        (Swap, Fate::Well),
        (Swap, Fate::Lost),
        (Read, Fate::Dropped),
    ];
    let (simulation, connection) = block_on(scripted(&script));
    // What moves an index ends a group.
    let indexed = "[[:db/add :n/mark :db/index true] {:n/mark 1001}]";
    let data = [mark(1000), TxData::parse(indexed).unwrap(), mark(1002)];
    let told = data.iter().map(|data| connection.transact(data));
    let told = block_on(futures::future::join_all(told));
    let [
        Ok(_),
        Err(Error::CommitUnknown { .. }),
        Err(Error::Store { .. }),
    ] = &told[..]
    else {
        let told: Vec<_> = told
            .iter()
            .map(|told| told.as_ref().map(|report| report.t))
            .collect();
        panic!("{told:?}")
    };
    assert_eq!(block_on(times(&simulation, 1001)), 1);
    assert_eq!(block_on(times(&simulation, 1002)), 0);
}

/// The branch was deleted under a group: the first caller was told so, the others that their requests could not be
/// right.
#[test]
fn each_caller_of_a_group_is_told_that_the_branch_is_gone() {
    let (simulation, connection) = block_on(scripted(&[]));
    let branches = Branches::new_in(&simulation.store(), simulation.world(3));
    let side = BranchName::try_new("side").unwrap();
    block_on(branches.create(&side, &connection.db())).unwrap();
    block_on(branches.delete(connection.branch())).unwrap();
    let turn = block_on(connection.0.writer.turn.lock());
    let data = [mark(1000), mark(1001)];
    let told = futures::future::join_all(data.iter().map(|data| connection.transact(data)));
    let freed = async {
        wait(3).await;
        drop(turn);
    };
    let (told, ()) = block_on(futures::future::join(told, freed));
    for told in told {
        let error = told.unwrap_err();
        assert!(matches!(error, Error::BranchDeleted { .. }), "{error}");
    }
    let error = Error::NoDatabase {
        location: "memory:x".to_owned(),
        branch: side,
    };
    assert!(matches!(super::told(&error), Error::NoDatabase { .. }));
}
