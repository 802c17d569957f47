//! Servers for tests: a web server that answers as a test says, and the one of S3 beside the tests.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// What a server was asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// With the query, as it was sent.
    pub(crate) path: String,
    /// By their names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    /// Reads a request; `None` if there is none.
    fn read(stream: &TcpStream) -> Option<Self> {
        let mut reader = BufReader::new(stream);
        let mut line = || {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            Some(line.trim_end().to_owned())
        };
        let first = line()?;
        let mut words = first.split(' ');
        let mut asked = Self {
            method: words.next()?.to_owned(),
            path: words.next()?.to_owned(),
            ..Self::default()
        };
        while let Some((name, value)) = line()?.split_once(':') {
            let name = name.to_ascii_lowercase();
            asked.headers.insert(name, value.trim().to_owned());
        }
        let length = asked.header("content-length").parse().unwrap_or(0);
        asked.body.resize(length, 0);
        reader.read_exact(&mut asked.body).ok()?;
        Some(asked)
    }

    /// A header, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// An answer in bytes, after which the connection is closed.
pub(crate) fn answer(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    for (name, value) in headers {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    let _ = write!(text, "Content-Length: {}\r\n\r\n", body.len());
    [text.as_bytes(), body].concat()
}

/// A web server that answers every request with what a function says, and remembers what it was asked.
pub(crate) struct Web {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Web {
    pub(crate) fn serve(say: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let stopped = Arc::<AtomicBool>::default();
        let (say, log, stop) = (Arc::new(say), Arc::clone(&asked), Arc::clone(&stopped));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(mut stream) = stream else { continue };
                let (say, log) = (Arc::clone(&say), Arc::clone(&log));
                std::thread::spawn(move || {
                    if let Some(asked) = Asked::read(&stream) {
                        log.lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(asked.clone());
                        let _ = stream.write_all(&say(&asked));
                    }
                });
            }
        });
        Self {
            address,
            asked,
            stopped,
            thread: Some(thread),
        }
    }

    /// A server of the files below a directory, as any web server serves them: with entity tags and ranges.
    pub(crate) fn of_files(root: PathBuf) -> Self {
        Self::serve(move |asked| file(&root, asked))
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it was asked since it was last asked for this.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // It is waiting for a connection.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn file(root: &std::path::Path, asked: &Asked) -> Vec<u8> {
    if !["GET", "HEAD"].contains(&&*asked.method) {
        return answer("405 Method Not Allowed", &[], b"<html>no</html>");
    }
    let path = root.join(asked.path.trim_start_matches('/'));
    let Ok(bytes) = std::fs::read(path) else {
        return answer("404 Not Found", &[], b"<html>nothing here</html>");
    };
    let tag = format!("\"{}\"", blake3::hash(&bytes).to_hex());
    let headers = [("ETag", &*tag), ("Accept-Ranges", "bytes")];
    if asked.header("if-none-match") == tag {
        return answer("304 Not Modified", &headers, b"");
    }
    if asked.method == "HEAD" {
        let whole = answer("200 OK", &headers, &bytes);
        return whole[..whole.len() - bytes.len()].to_vec();
    }
    let Some((start, end)) = range(asked.header("range"), bytes.len()) else {
        return answer("200 OK", &headers, &bytes);
    };
    if start >= end {
        return answer("416 Range Not Satisfiable", &headers, b"");
    }
    let place = format!("bytes {start}-{}/{}", end - 1, bytes.len());
    let headers = [headers[0], headers[1], ("Content-Range", &*place)];
    answer("206 Partial Content", &headers, &bytes[start..end])
}

/// `bytes=1-2`, `bytes=1-` and `bytes=-2`, as the first and the last byte but one.
fn range(header: &str, len: usize) -> Option<(usize, usize)> {
    let (start, end) = header.strip_prefix("bytes=")?.split_once('-')?;
    if start.is_empty() {
        return Some((len.saturating_sub(end.parse().ok()?), len));
    }
    let last = end.parse::<usize>().unwrap_or(usize::MAX);
    Some((start.parse().ok()?, len.min(last.saturating_add(1))))
}

/// A bucket of its own on the S3 server of the tests.
#[cfg(feature = "aws")]
pub(crate) struct Bucket {
    /// `host:port`.
    server: String,
    pub(crate) name: String,
}

#[cfg(feature = "aws")]
impl Bucket {
    /// Makes a bucket.
    pub(crate) fn create() -> Self {
        let server = std::env::var("DATOMFUSION_TEST_S3")
            .expect("DATOMFUSION_TEST_S3 is the address of an S3 server: see CONTRIBUTING.md");
        let server = server.trim_start_matches("http://").trim_end_matches('/');
        let name = crate::id::PackId(crate::Environment::random(&crate::System));
        let bucket = Self {
            server: server.to_owned(),
            name: format!("t{name}"),
        };
        let (status, body) = bucket.request("PUT", "", b"");
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        bucket
    }

    /// The address of a store in it, below a prefix.
    pub(crate) fn url(&self, prefix: &str) -> String {
        address(&format!("http://{}", self.server), &self.name, prefix)
    }

    /// A server in front of it that passes everything on.
    pub(crate) fn watched(&self) -> Web {
        let server = self.server.clone();
        Web::serve(move |asked| {
            let headers: Vec<_> = asked.headers.iter().collect();
            exchange(&server, &asked.method, &asked.path, &headers, &asked.body)
        })
    }

    /// Asks for something below the bucket, as one who is believed.
    pub(crate) fn request(&self, method: &str, key: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let path = format!("/{}/{key}", self.name);
        let path = path.trim_end_matches('/');
        let signed = "AWS4-HMAC-SHA256 Credential=test/20200101/us-east-1/s3/aws4_request, \
                      SignedHeaders=host, Signature=0";
        let signed = (&"authorization".to_owned(), &signed.to_owned());
        let answer = exchange(&self.server, method, path, &[signed], body);
        let text = String::from_utf8_lossy(&answer);
        let status = text.split(' ').nth(1).and_then(|code| code.parse().ok());
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        (status.unwrap(), answer[end.unwrap() + 4..].to_vec())
    }
}

/// The address of a store in a bucket of a server that believes everybody.
#[cfg(feature = "aws")]
pub(crate) fn address(endpoint: &str, bucket: &str, prefix: &str) -> String {
    format!(
        "s3://{bucket}/{prefix}?endpoint={endpoint}&allow_http=true&region=us-east-1\
         &access_key_id=test&secret_access_key=test"
    )
}

/// One request and its answer, in bytes.
#[cfg(feature = "aws")]
fn exchange(
    server: &str,
    method: &str,
    path: &str,
    headers: &[(&String, &String)],
    body: &[u8],
) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    for (name, value) in headers {
        if !["connection", "content-length", "host"].contains(&name.as_str()) {
            let _ = write!(text, "{name}: {value}\r\n");
        }
    }
    let _ = write!(
        text,
        "Host: {server}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(server).unwrap();
    stream.write_all(&[text.as_bytes(), body].concat()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}
