//! A store on S3: the contract on a real server, and what goes wrong.

use std::process::Command;

use bytes::Bytes;

use super::chain;
use super::server::{Bucket, Web, address, answer};
use crate::error::Error;
use crate::id::{BranchName, PackId};
use crate::store::{CasOutcome, Requests, Store, conformance};

/// What a request that cannot succeed says, each way of asking on its own.
async fn refusals(store: &Store) -> Vec<String> {
    let branch = BranchName::default();
    let mut said = Vec::new();
    said.push(chain(&store.head(&branch).await.unwrap_err()));
    said.push(chain(&store.list_branches().await.unwrap_err()));
    said.push(chain(&store.list_packs().await.unwrap_err()));
    let pack = store.put_pack(PackId([1; 16]), Bytes::from_static(b"pack"));
    said.push(chain(&pack.await.unwrap_err()));
    match store.cas_head(&branch, None, Bytes::from_static(b"")).await {
        CasOutcome::Failed(error) | CasOutcome::Unknown(error) => said.push(chain(&error)),
        outcome => panic!("{outcome:?}"),
    }
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an S3 server: see CONTRIBUTING.md"]
async fn s3_conforms() {
    let bucket = Bucket::create();
    let made = std::cell::Cell::new(0);
    let empty = || {
        made.set(made.get() + 1);
        Store::open_url(&bucket.url(&format!("deep/pre%23fix/{}", made.get()))).unwrap()
    };
    conformance::all(empty).await;
    // And in a bucket that holds nothing else.
    let alone = Bucket::create();
    conformance::packs_are_listed(&Store::open_url(&alone.url("")).unwrap()).await;
}

#[tokio::test]
#[ignore = "needs an S3 server: see CONTRIBUTING.md"]
async fn a_missing_bucket_is_said_to_be_missing() {
    let mut bucket = Bucket::create();
    bucket.name.push_str("-not");
    let store = Store::open_url(&bucket.url("prefix")).unwrap();
    for said in refusals(&store).await {
        assert!(
            said.contains("bucket does not exist"),
            "it is not said that there is no bucket: {said}"
        );
        assert!(said.contains(store.location()), "{said}");
    }
    let version = crate::store::HeadVersion::new("\"1\"");
    let branch = BranchName::default();
    let swap = store.cas_head(&branch, Some(&version), Bytes::new());
    let CasOutcome::Failed(error) = swap.await else {
        panic!("a head was swapped in no bucket")
    };
    assert!(chain(&error).contains("bucket does not exist"));
}

#[tokio::test]
#[ignore = "needs an S3 server: see CONTRIBUTING.md"]
async fn a_key_that_the_server_does_not_know_is_refused_at_once() {
    let server = std::env::var("DATOMFUSION_TEST_S3_STRICT").expect(
        "DATOMFUSION_TEST_S3_STRICT is the address of an S3 server that checks keys: see CONTRIBUTING.md",
    );
    let store = Store::open_url(&address(&server, "bucket", "prefix")).unwrap();
    for said in refusals(&store).await {
        assert!(
            said.contains("403 Forbidden: InvalidAccessKeyId: "),
            "{said}"
        );
        assert!(!said.contains('<'), "the body of the answer: {said}");
    }
}

/// A server of S3 quotes what it refuses, the session token for one.
#[tokio::test]
async fn a_token_that_a_server_sends_back_is_not_shown() {
    let web = Web::serve(|asked| {
        let token = asked.header("x-amz-security-token");
        let body = format!(
            "<?xml version=\"1.0\"?><Error><Code>InvalidToken</Code><Message>The provided token is \
             malformed or otherwise invalid.</Message><Token-0>{token}</Token-0></Error>"
        );
        answer("400 Bad Request", &[], body.as_bytes())
    });
    let url = format!(
        "{}&token=canary0123",
        address(&web.url(), "bucket", "prefix")
    );
    let store = Store::open_url(&url).unwrap();
    for said in refusals(&store).await {
        assert!(!said.contains("canary0123"), "{said}");
        assert!(
            said.contains("InvalidToken: The provided token is malformed"),
            "{said}"
        );
    }
    let asked = web.asked();
    assert_eq!(asked.len(), 5, "none was repeated");
    assert_eq!(asked[0].header("x-amz-security-token"), "canary0123");
}

#[tokio::test]
async fn an_endpoint_that_is_none_is_refused_before_any_request() {
    for (endpoint, refusal) in [
        ("localhost:9000", "begins with https:// or http://"),
        ("minio", "begins with https:// or http://"),
        ("http://u:canary0123@localhost:1", "a user or a password"),
        ("https://localhost/?canary0123", "no ?"),
        ("http://localhost:1&allow_http=false", "allow_http=true"),
    ] {
        let url = format!("s3://bucket/prefix?endpoint={endpoint}");
        let error = Store::open_url(&url).expect_err(endpoint);
        let said = chain(&error);
        assert!(said.contains(refusal), "{endpoint}: {said}");
        assert!(!said.contains("canary0123"), "{said}");
    }
}

/// Nothing listens there, so every attempt fails at once: what takes time is the pauses between them.
#[tokio::test]
async fn a_server_that_cannot_be_reached_fails_in_time_and_says_why() {
    let url = address("http://127.0.0.1:9", "bucket", "prefix");
    let store = Store::open_url(&url).unwrap();
    let (branch, bound) = (BranchName::default(), std::time::Duration::from_mins(1));
    let found = tokio::time::timeout(bound, store.head(&branch)).await;
    let error = found.expect("it hangs").unwrap_err();
    let said = chain(&error);
    assert!(matches!(error, Error::Store { .. }), "{error:?}");
    for words in ["s3://bucket/prefix", "127.0.0.1:9", "Connection refused"] {
        assert!(said.contains(words), "{words} is not in {said}");
    }
    assert_eq!(
        store.requests(),
        Requests {
            gets: 1,
            ..Requests::default()
        }
    );
}

/// This test, too, runs itself anew: whoever runs it may have credentials in the environment.
#[tokio::test]
async fn a_lack_of_credentials_is_said_to_be_one() {
    const KEYLESS: &str = "DATOMFUSION_TEST_KEYLESS";
    if std::env::var(KEYLESS).is_ok() {
        let url = "s3://bucket/prefix?region=us-east-1&metadata_endpoint=http://127.0.0.1:9";
        let store = Store::open_url(url).unwrap();
        let error = store.head(&BranchName::default()).await.unwrap_err();
        println!("{}", chain(&error));
        return;
    }
    let name = "store::tests::s3::a_lack_of_credentials_is_said_to_be_one";
    let aws = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", name, "--nocapture"])
        .env(KEYLESS, "");
    for name in aws.filter(|name| name.starts_with("AWS_")) {
        command.env_remove(name);
    }
    let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert!(
        said.contains("no credentials are in the environment"),
        "{said}"
    );
}

#[test]
fn a_branch_name_is_refused_or_stays_below_the_heads() {
    assert!(BranchName::try_new(&"x".repeat(1 << 20)).is_err());
    for (name, key) in [
        ("../x", "p/heads/_2e_2e_2fx"),
        ("CON", "p/heads/_43_4f_4e"),
        ("con", "p/heads/_63on"),
    ] {
        let branch = BranchName::try_new(name).unwrap();
        let prefix = object_store::path::Path::from("p");
        assert_eq!(
            crate::store::layout::head_key(&prefix, &branch).as_ref(),
            key
        );
    }
}

const CANARY: &str = "canary0123456789";
const TEST: &str = "store::tests::s3::secrets_of_the_environment_are_not_shown";

/// This test runs itself anew with secrets in the environment, for nobody may set that of a running process.
#[tokio::test]
async fn secrets_of_the_environment_are_not_shown() {
    if std::env::var("AWS_SECRET_ACCESS_KEY").is_ok_and(|secret| secret == CANARY) {
        return fail_in_every_way().await;
    }
    let endpoint = format!("http://user:{CANARY}@127.0.0.1:9");
    let secrets = [
        ("AWS_SECRET_ACCESS_KEY", CANARY),
        ("AWS_SESSION_TOKEN", CANARY),
        ("AWS_ACCESS_KEY_ID", "id"),
    ];
    for more in [
        ("RUST_BACKTRACE", "1"),
        ("AWS_ENDPOINT", &*endpoint),
        ("AWS_ENDPOINT_URL_S3", &endpoint),
        ("AWS_ENDPOINT_URL_STS", &endpoint),
        ("AWS_ENDPOINT", CANARY),
        ("AWS_ALLOW_HTTP", CANARY),
        ("AWS_SKIP_SIGNATURE", CANARY),
        ("AWS_CONDITIONAL_PUT", CANARY),
        ("AWS_PROXY_URL", &endpoint),
    ] {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", TEST, "--nocapture"])
            .envs(secrets.into_iter().chain([more]))
            .output()
            .unwrap();
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.push_str(&String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{more:?}: {said}");
        assert!(said.contains("tried"), "it was not run: {said}");
        assert!(!said.contains(CANARY), "{said}");
    }
}

/// Prints whatever a store can be made to say.
async fn fail_in_every_way() {
    let web = Web::serve(|asked| {
        // All that was sent, as servers do when a signature is wrong.
        let quoted = format!(
            "<Code>SignatureDoesNotMatch</Code><CanonicalRequest>{:?}</CanonicalRequest>",
            asked.headers
        );
        answer("403 Forbidden", &[], quoted.as_bytes())
    });
    for options in [
        "?region=eu-west-1&no_such_option=1".to_owned(),
        "?s3_express=maybe".to_owned(),
        format!("?endpoint={}&allow_http=true", web.url()),
        format!("?endpoint={}", web.url()),
        String::new(),
    ] {
        match Store::open_url(&format!("s3://bucket/prefix{options}")) {
            Err(error) => println!("tried {error:?}\n{}", chain(&error)),
            // Without an endpoint of ours, requests would go to Amazon.
            Ok(store) if options.contains("endpoint") => {
                let heads = format!("{:?}", store.0.heads);
                println!("tried {store:?} {heads} {}", store.location());
                // A proxy that is not there is waited for.
                if std::env::var("AWS_PROXY_URL").is_err() {
                    println!("{:?}", refusals(&store).await);
                }
                let error = store.head(&BranchName::default()).await.unwrap_err();
                println!("{error:?}\n{}", chain(&error));
            }
            Ok(store) => println!("tried {store:?}"),
        }
    }
}
