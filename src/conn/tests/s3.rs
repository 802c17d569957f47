//! Databases on S3: writers that meet, requests that are counted on the wire, and what is none of ours.

use std::collections::BTreeMap;
use std::time::Duration;

use datomfusion_datalog::edn::Keyword;
use futures::TryStreamExt;

use crate::conn::fixture::{PEOPLE, all, create, name, open, transact};
use crate::gc::{GcOptions, Retention, gc_in};
use crate::store::tests::chain;
use crate::store::tests::server::{Asked, Bucket, Web, address};
use crate::{
    BranchName, Components, Connection, Db, EntityRef, Error, Import, Index, LookupRef, Seeded,
    Store, TimePoint, Value,
};

fn store(bucket: &Bucket) -> Store {
    Store::open_url(&bucket.url("team/a")).unwrap()
}

/// Requests as `METHOD key`, and `If-Match` or `If-None-Match` where they were conditional.
fn lines(bucket: &Bucket, asked: &[Asked]) -> Vec<String> {
    let within = format!("/{}/team/a/", bucket.name);
    let line = |asked: &Asked| {
        let key = asked.path.strip_prefix(&within).unwrap_or(&asked.path);
        let condition = ["if-match", "if-none-match"]
            .into_iter()
            .find(|name| asked.headers.contains_key(*name))
            .unwrap_or_default();
        format!("{} {key} {condition}", asked.method)
    };
    asked.iter().map(line).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an S3 server: see CONTRIBUTING.md"]
async fn two_writers_on_one_branch_land_in_one_chain() {
    const EACH: u64 = 15;
    let bucket = Bucket::create();
    let first = create(&store(&bucket), 1).await;
    transact(&first, PEOPLE).await;
    let second = open(&store(&bucket), "main", 2).await;
    let write = async |connection: &Connection, writer: &str| {
        for n in 0..EACH {
            let text = format!("[{{:p/name \"{writer} {n}\" :p/age {n}}}]");
            transact(connection, &text).await;
        }
    };
    futures::join!(write(&first, "first"), write(&second, "second"));

    let db = first.sync().await.unwrap();
    assert_eq!(second.sync().await.unwrap().head_commit(), db.head_commit());
    assert_eq!(db.basis_t(), 1 + 2 * EACH);
    let commits: Vec<_> = db.log(..).try_collect().await.unwrap();
    let mut at: Vec<_> = commits.iter().map(|commit| commit.id.t).collect();
    at.sort_unstable();
    assert!(at.into_iter().eq(0..=db.basis_t()), "one commit a t");
    for writer in ["first", "second"] {
        for n in 0..EACH {
            let by_name = lookup("p/name", Value::string(format!("{writer} {n}")));
            assert!(db.entid(&by_name).await.unwrap().is_some(), "{writer} {n}");
        }
    }
    db.verify().await.unwrap();
}

fn lookup(attribute: &str, value: Value) -> EntityRef {
    EntityRef::Lookup(LookupRef {
        attribute: Keyword::new(attribute),
        value,
    })
}

async fn height(db: &Db, tree: &str) -> usize {
    let sizes = db.tree_sizes().await.unwrap();
    let size = sizes.iter().find(|size| size.name.to_string() == tree);
    size.unwrap().height.try_into().unwrap()
}

#[tokio::test]
#[ignore = "needs an S3 server: see CONTRIBUTING.md"]
async fn the_requests_that_arrive_are_few() {
    const HEAD: &str = "GET heads/main ";
    let bucket = Bucket::create();
    let web = bucket.watched();
    let watched = || Store::open_url(&address(&web.url(), &bucket.name, "team/a")).unwrap();
    let requests = |web: &Web| lines(&bucket, &web.asked());

    let connection = create(&watched(), 1).await;
    assert_eq!(requests(&web), ["PUT heads/main if-none-match"], "creating");
    transact(&connection, PEOPLE).await;
    assert_eq!(
        requests(&web),
        ["PUT heads/main if-match"],
        "a small commit"
    );
    let mut import = Import::new(connection.db().schema());
    let [id, age] = ["p/code", "p/age"].map(|ident| import.attribute(ident).unwrap());
    for n in 0..20_000i64 {
        let facts = [(id, Value::Long(n)), (age, Value::Long(n % 90))];
        import.entity(facts).unwrap();
    }
    connection.import(import).await.unwrap();
    let imported = requests(&web);
    assert!(imported.len() <= 3, "a pack and a head: {imported:?}");
    transact(&connection, "[[:db/add [:p/code 7] :p/age 91]]").await;
    let spent = requests(&web);
    assert_eq!(spent.last().unwrap(), "PUT heads/main if-match");
    assert!(
        spent.iter().all(|line| !line.starts_with("PUT packs")),
        "{spent:?}"
    );
    connection.sync().await.unwrap();
    assert_eq!(requests(&web), ["GET heads/main if-none-match"], "no news");

    let by_id = lookup("p/code", Value::Long(12_345));
    let e = connection.db().entid(&by_id).await.unwrap().unwrap();
    let [eavt, avet] = [
        height(&connection.db(), "eavt").await,
        height(&connection.db(), "avet").await,
    ];
    assert!(eavt > 1 && avet > 1, "{eavt} {avet}");
    requests(&web);
    let cold = Db::open(&watched(), &BranchName::default()).await.unwrap();
    assert_eq!(requests(&web), [HEAD], "opening");
    let facts = cold.datoms(Index::Eavt, Components::all().e(e)).unwrap();
    let facts: Vec<_> = facts.try_collect().await.unwrap();
    assert_eq!(facts.len(), 2);
    let spent = requests(&web);
    assert!(spent.len() <= 1 + eavt, "{spent:?}");
    let cold = Db::open(&watched(), &BranchName::default()).await.unwrap();
    assert_eq!(cold.entid(&by_id).await.unwrap(), Some(e));
    let spent = requests(&web);
    assert!(spent.len() <= 1 + avet, "{spent:?}");
    // Nothing more on the wire than is counted here.
    assert_eq!(spent.len() as u64, cold.store().requests().gets);
}

#[tokio::test]
#[ignore = "needs an S3 server: see CONTRIBUTING.md"]
async fn collection_and_verification_leave_alone_what_is_not_ours() {
    let bucket = Bucket::create();
    let hex = "00112233445566778899aabbccddeeff";
    let foreign: BTreeMap<_, _> = [
        "readme.txt".to_owned(),
        "team/a.txt".to_owned(),
        format!("team/ab/packs/00/{hex}"),
        format!("packs/00/{hex}"),
        "team/a/notes.txt".to_owned(),
        "team/a/heads/Main".to_owned(),
        "team/a/heads/main.lock".to_owned(),
        "team/a/heads/deep/er".to_owned(),
        "team/a/packs/readme".to_owned(),
        format!("team/a/packs/01/{hex}"),
        format!("team/a/packs/00/{hex}.tmp"),
        "team/a/gc/readme".to_owned(),
    ]
    .into_iter()
    .map(|key| (key.clone(), key.into_bytes()))
    .collect();
    for (key, body) in &foreign {
        assert_eq!(bucket.request("PUT", key, body).0, 200);
    }
    let store = store(&bucket);
    let connection = create(&store, 1).await;
    transact(&connection, PEOPLE).await;
    for round in 0..3 {
        for n in 0..20 {
            transact(
                &connection,
                &format!("[{{:p/name \"{n}\" :p/age {round}}}]"),
            )
            .await;
        }
        connection.checkpoint().await.unwrap();
    }
    let before = all(&connection.db(), Index::Eavt).await;
    let packs = store.list_packs().await.unwrap().len();
    let options = GcOptions {
        retention: Retention::newest_only(),
        grace: Duration::ZERO,
        ..GcOptions::default()
    };
    // S3 tells seconds: what was written in the one that it is may stay until the next.
    let (mut deleted, mut left) = (0, packs);
    for seed in 10..200 {
        let report = gc_in(&store, &options, Seeded::new(seed)).await.unwrap();
        deleted += report.deleted.count;
        left = store.list_packs().await.unwrap().len();
        if left < packs {
            break;
        }
    }
    assert!(
        deleted > 0 && left < packs,
        "{deleted} of {packs}, {left} left"
    );
    let db = Db::open(&store, &BranchName::default()).await.unwrap();
    assert_eq!(all(&db, Index::Eavt).await, before);
    db.verify().await.unwrap();
    db.verify_packs().await.unwrap();
    let branches = store.list_branches().await.unwrap();
    assert_eq!(branches, [BranchName::default()]);
    for (key, body) in &foreign {
        let (status, found) = bucket.request("GET", key, b"");
        assert_eq!((status, &found), (200, body), "{key}");
    }
}

#[tokio::test]
#[ignore = "needs an S3 server: see CONTRIBUTING.md"]
async fn a_past_value_and_a_branch_are_what_they_are_anywhere() {
    let bucket = Bucket::create();
    let connection = create(&store(&bucket), 1).await;
    transact(&connection, PEOPLE).await;
    for age in 2..6 {
        let text = format!("[{{:p/name \"Ada\" :p/age {age}}}]");
        transact(&connection, &text).await;
        connection.checkpoint().await.unwrap();
    }
    let cold = Db::open(&store(&bucket), &BranchName::default())
        .await
        .unwrap();
    let ada = cold
        .entid(&lookup("p/name", Value::string("Ada")))
        .await
        .unwrap();
    for t in 2..6 {
        let past = cold.as_of(TimePoint::T(t)).await.unwrap();
        let facts = past.datoms(Index::Eavt, Components::all().e(ada.unwrap()));
        let facts: Vec<_> = facts.unwrap().try_collect().await.unwrap();
        let age = Value::Long(i64::try_from(t).unwrap());
        assert!(facts.iter().any(|datom| datom.v == age), "t={t}: {facts:?}");
    }
    let long = "я".repeat(90);
    for branch in ["..x", "CON-1", "a/b", &long] {
        connection
            .branches()
            .create(&name(branch), &cold)
            .await
            .unwrap();
        let connection = open(&store(&bucket), branch, 3).await;
        transact(&connection, "[{:p/name \"Bob\"}]").await;
        assert_eq!(connection.db().basis_t(), 6);
    }
    assert_eq!(connection.sync().await.unwrap().basis_t(), 5);
    assert_eq!(
        store(&bucket).list_branches().await.unwrap().len(),
        5,
        "each has a head of its own"
    );
}

/// Somebody removes a store and puts another database in its place while a connection is open.
#[tokio::test]
#[ignore = "needs an S3 server: see CONTRIBUTING.md"]
async fn another_database_in_the_same_place_is_refused_on_s3() {
    let bucket = Bucket::create();
    let ours = create(&store(&bucket), 1).await;
    transact(&ours, PEOPLE).await;
    assert_eq!(bucket.request("DELETE", "team/a/heads/main", b"").0, 204);
    let theirs = create(&store(&bucket), 2).await;
    for _ in 0..4 {
        transact(&theirs, "[]").await;
    }
    let data = crate::TxData::parse("[{:p/name \"Ada\"}]").unwrap();
    for error in [
        ours.transact(&data).await.unwrap_err(),
        ours.sync().await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::Invalid(_)), "{error:?}");
        assert!(chain(&error).contains("another database"), "{error}");
    }
    assert_eq!(theirs.sync().await.unwrap().basis_t(), 4);
}
