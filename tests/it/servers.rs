//! Stores on servers, through the command line.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output, Stdio};

use crate::support::shell::chinook;

/// A bucket of its own, and an environment that leads to it.
struct S3 {
    server: String,
    bucket: String,
}

impl S3 {
    fn create(bucket: &str) -> Self {
        let server = std::env::var("DATOMFUSION_TEST_S3")
            .expect("DATOMFUSION_TEST_S3 is the address of an S3 server: see CONTRIBUTING.md");
        let host = server.trim_start_matches("http://");
        let bucket = format!("{bucket}-{}", std::process::id());
        let mut stream = TcpStream::connect(host).unwrap();
        let request = format!(
            "PUT /{bucket} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(" 200 "), "{answer}");
        Self { server, bucket }
    }

    /// Runs the binary with the server and a secret in the environment, and prints neither.
    fn run(&self, arguments: &[&str]) -> Output {
        let output = Command::new(env!("CARGO_BIN_EXE_datomfusion"))
            .args(arguments)
            .env("AWS_ENDPOINT_URL", &self.server)
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
            .env("AWS_SESSION_TOKEN", SECRET)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        for said in [&output.stdout, &output.stderr] {
            assert!(!String::from_utf8_lossy(said).contains(SECRET));
        }
        output
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn fails(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

const SECRET: &str = "canary0123456789";

#[test]
#[ignore = "needs an S3 server: see CONTRIBUTING.md"]
fn a_catalogue_on_s3_and_sales_in_files_are_asked_together() {
    let (catalog, sales) = chinook();
    let s3 = S3::create("catalogue");
    let url = format!("s3://{}/team-a/catalog", s3.bucket);
    s3.ok(&["push", catalog, &url]);
    let [a, b] = [format!("catalog={url}"), format!("sales={sales}")];
    let sql =
        "SELECT count(*) AS n FROM sales.invoice_line l JOIN catalog.track t ON t.id = l.track_id";
    let found = s3.ok(&["sql", "--db", &a, "--db", &b, "--format", "json", sql]);
    assert!(found.contains("2240"), "{found}");

    let [a, b] = [format!("$={url}"), format!("$sales={sales}")];
    let query = "[:find (count ?l) . :in $ $sales
                  :where [?t :track/id ?id] [$sales ?l :invoice-line/track-id ?id]]";
    let found = s3.ok(&["q", "--db", &a, "--db", &b, "--format", "json", query]);
    assert_eq!(found.trim(), "2240");

    s3.ok(&["verify", &url, "--deep"]);
    s3.ok(&["fetch", &url, &format!("{url}-2")]);
    let again = s3.fails(&["create", &url]);
    assert!(again.contains("already exists"), "{again}");
    let nowhere = s3.fails(&["create", "s3://no-such-bucket-at-all/x"]);
    assert!(nowhere.contains("bucket does not exist"), "{nowhere}");
}
