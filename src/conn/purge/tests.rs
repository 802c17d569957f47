//! What a purge owes to others while it runs: the turn to write, and its report.

use std::sync::Mutex;

use super::*;
use crate::conn::fixture::{PEOPLE, branch_off, create, name, open, transact};
use crate::store::simulated::{Does, Fate, Simulation, Weather};
use crate::tx::TxData;
use datomfusion_datalog::edn::Keyword;

/// A purge of all notes, of which main and dev hold one.
async fn notes(simulation: &Arc<Simulation>) -> Purge {
    let main = create(&simulation.store(), 60).await;
    transact(&main, PEOPLE).await;
    transact(&main, "[{:p/name \"Ada\" :p/note \"secret\"}]").await;
    branch_off(&main, "dev").await;
    let note = main.db().schema().entid(&Keyword::new("p/note"));
    Purge::Attribute(note.unwrap())
}

/// It held the turn to write until it had read the logs of all other branches.
#[tokio::test]
async fn transactions_do_not_wait_for_a_purge_that_reads_other_branches() {
    let simulation = Simulation::new();
    let what = notes(&simulation).await;
    let (store, rounds) = simulation.store_in_rounds();
    let (main, ..) = rounds.of(Box::pin(open(&store, "main", 61))).await;
    let done = Mutex::new(Vec::new());
    let purge = async {
        let report = main.purge(&what).await.unwrap();
        assert_eq!(report.elsewhere, [name("dev")]);
        done.lock().unwrap().push("purged");
    };
    let transact = async {
        while main.db().0.head.purges == 0 {
            tokio::task::yield_now().await;
        }
        let data = TxData::parse("[{:p/name \"Bob\"}]").unwrap();
        main.transact(&data).await.unwrap();
        done.lock().unwrap().push("transacted");
    };
    let both = Box::pin(futures::future::join(purge, transact));
    let _ = rounds.of(both).await;
    assert_eq!(*done.lock().unwrap(), ["transacted", "purged"]);
}

/// The report was lost with an answer about another branch, although the purge had happened.
#[tokio::test]
async fn a_branch_whose_head_cannot_be_read_is_named() {
    let mut last = 0;
    for stops in [false, true] {
        let simulation = Simulation::new();
        let what = notes(&simulation).await;
        // What is read last is the head of dev, whose log lies in it.
        let (store, fuse) = simulation.store_until(if stops { last } else { 0 }, false);
        let main = open(&store, "main", 62).await;
        let report = main.purge(&what).await.unwrap();
        assert_eq!((report.datoms, report.elsewhere), (1, vec![name("dev")]));
        last = fuse.operations();
    }
}

/// The answer was lost, the head was read back before the purge arrived, and then nothing was left to go: the
/// caller was told that nothing had gone.
#[tokio::test]
async fn a_purge_that_arrives_late_is_reported() {
    for after in 0..6 {
        let simulation = Simulation::new();
        let what = notes(&simulation).await;
        let weather = Weather::scripted([(Does::Swap, Fate::Late(after))]);
        let main = open(&simulation.store_in(weather, 0, false), "main", 63).await;
        let report = main.purge(&what).await.unwrap();
        assert_eq!(
            (report.datoms, report.transactions),
            (1, 1),
            "after {after}"
        );
        simulation.deliver_all().await;
        let db = main.sync().await.unwrap();
        assert_eq!(db.0.head.purges, 1, "after {after}");
        db.verify().await.unwrap();
    }
}
