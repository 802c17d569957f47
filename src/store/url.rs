//! Addresses: `memory:`, paths, `file:`, `s3:`, `gs:`, `az:`, `postgres:`, `sqlite:`, `http:`, `https:` and `ws:`.
//!
//! The branch and the basis that may follow an address (`…#dev@t=3`) have been cut off by the caller.
//! Credentials come from the environment, in the variables that `object_store` documents; an address may
//! carry options (`s3://bucket/sales?region=eu-west-1&endpoint=…`) but no user and no password. Only that
//! of PostgreSQL may, as is its custom.
//!
//! What `s3:` addresses do is tested on a server that speaks S3 (moto), and what `http:` addresses do on a
//! web server of the tests. `gs:` and `az:` run the same code over the same trait of `object_store`; they
//! compile, their addresses are parsed in tests, and nobody has run them against a server.
//!
//! **Invariant.** Nothing that precedes an `@`, and no value of an option, is ever printed. (The name of a
//! SQL table is, when it has been checked to be one.)

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use object_store::ObjectStore;
use object_store::memory::InMemory;
use url::Url;

use super::{HeadStore, Identity, MemoryHeads, Store};
use crate::error::{Error, Result};

#[cfg(any(feature = "aws", feature = "gcp", feature = "azure"))]
mod cloud;

/// What can be opened, for messages.
const KNOWN: &str = "a path, memory:, file:///path, s3://bucket/prefix, gs://bucket/prefix, \
                     az://container/prefix, postgres://user@host/database, sqlite:path, http://… or \
                     https://… (read-only), ws://host:port/name";

/// The feature that each scheme needs; what has none is a path.
const NEEDS: [(&[&str], &str); 7] = [
    (&["", "file"], "fs"),
    (&["s3", "s3a"], "aws"),
    (&["gs"], "gcp"),
    (&["az"], "azure"),
    (&["postgres", "postgresql", "sqlite"], "sql-store"),
    (&["http", "https"], "http"),
    (&["ws"], "ws"),
];

/// Stores on this machine, where a copy on disk gains nothing.
#[cfg(feature = "fs")]
const HERE: [&str; 4] = ["", "file", "memory", "sqlite"];

impl Store {
    /// Opens the store at an address, without asking it anything yet.
    ///
    /// What is not on this machine has a disk tier of its cache if the environment names a directory for it: see
    /// `DiskCache::from_environment`.
    ///
    /// | address | store |
    /// |---|---|
    /// | `memory:` | a fresh one in memory |
    /// | `memory:NAME` | the one of this name in this process |
    /// | `path`, `./path`, `/path` | a directory; `%40`, `%23` and `%25` stand for `@`, `#` and `%` |
    /// | `file:///path` | a directory |
    /// | `s3://bucket/prefix?option=value` | Amazon S3 and its likes; options as `region`, `endpoint` |
    /// | `gs://bucket/prefix`, `az://container/prefix` | Google Cloud Storage, Azure Blob Storage |
    /// | `postgres://user:password@host/database?table=NAME` | a table of PostgreSQL |
    /// | `sqlite:path?table=NAME`, `sqlite:///path` | a table of a SQLite file; escapes as in paths |
    /// | `http://host/path`, `https://host/path` | a web server, read-only |
    /// | `ws://host:port/NAME` | what a sync server serves under this name |
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the address is malformed, of an unknown kind, or of a kind that this build
    /// leaves out; if the directory that the environment names cannot be made.
    pub fn open_url(address: &str) -> Result<Self> {
        let (scheme, rest) = split_scheme(address).unwrap_or_default();
        let store = Self::open_scheme(&scheme, rest, address)?;
        #[cfg(feature = "fs")]
        if !HERE.contains(&scheme.as_str())
            && let Some(cache) = super::DiskCache::from_environment()?
        {
            return Ok(store.with_disk_cache(&cache));
        }
        Ok(store)
    }

    fn open_scheme(scheme: &str, rest: &str, address: &str) -> Result<Self> {
        match scheme {
            "memory" => Ok(open_memory(&unescape(rest))),
            #[cfg(feature = "fs")]
            "" => open_path(address),
            #[cfg(feature = "fs")]
            "file" => open_file_url(address),
            #[cfg(feature = "aws")]
            "s3" | "s3a" => cloud::open_s3(address),
            #[cfg(feature = "gcp")]
            "gs" => cloud::open_gcs(address),
            #[cfg(feature = "azure")]
            "az" => cloud::open_azure(address),
            #[cfg(feature = "sql-store")]
            "postgres" | "postgresql" => super::sql::open_postgres(address),
            #[cfg(feature = "sql-store")]
            "sqlite" => super::sql::open_sqlite(rest),
            #[cfg(feature = "http")]
            "http" | "https" => open_http(address),
            #[cfg(feature = "ws")]
            "ws" => open_ws(address),
            "wss" => Err(Error::invalid(
                "sync speaks no TLS itself: let a proxy or a tunnel of this machine do so, and use ws:",
            )),
            _ => Err(unopened(scheme)),
        }
    }
}

/// Why there is no store at addresses of this scheme.
fn unopened(scheme: &str) -> Error {
    let needs = NEEDS.iter().find(|(schemes, _)| schemes.contains(&scheme));
    Error::invalid(match (needs, scheme) {
        (Some((_, feature)), "") => {
            format!("this build leaves out paths: it needs the feature `{feature}`")
        }
        (Some((_, feature)), _) => {
            format!("this build leaves out {scheme}: addresses: it needs the feature `{feature}`")
        }
        (None, _) => format!(
            "no store has addresses that begin with {scheme}: — there are {KNOWN}; \
             a path with a colon begins with ./"
        ),
    })
}

/// The scheme in lower case and the rest. One letter is no scheme but a drive of Windows.
fn split_scheme(address: &str) -> Option<(String, &str)> {
    let (scheme, rest) = address.split_once(':')?;
    let is_scheme = scheme.len() > 1
        && scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    is_scheme.then(|| (scheme.to_ascii_lowercase(), rest))
}

/// A path is no URL, so only what the grammar of addresses takes away can be escaped in it.
pub(super) fn unescape(text: &str) -> String {
    text.replace("%40", "@")
        .replace("%23", "#")
        .replace("%25", "%")
}

type Memory = (Arc<dyn ObjectStore>, Arc<dyn HeadStore>);

/// Named stores in memory live as long as the process, as their names promise.
static NAMED: LazyLock<Mutex<BTreeMap<String, Memory>>> = LazyLock::new(Mutex::default);

fn open_memory(name: &str) -> Store {
    if name.is_empty() {
        return Store::memory();
    }
    let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
    let (objects, heads) = named
        .entry(name.to_owned())
        .or_insert_with(|| (Arc::new(InMemory::new()), Arc::<MemoryHeads>::default()));
    let location = format!("memory:{name}");
    let identity = Identity::address("memory", name.as_bytes());
    Store::new(Arc::clone(objects), Arc::clone(heads), location).with_identity(identity)
}

#[cfg(feature = "fs")]
fn open_path(path: &str) -> Result<Store> {
    if path.is_empty() {
        return Err(Error::invalid(format!(
            "an address is missing; it is {KNOWN}"
        )));
    }
    Store::file(std::path::Path::new(&unescape(path)))
}

#[cfg(feature = "fs")]
fn open_file_url(address: &str) -> Result<Store> {
    let url = Url::parse(address).map_err(malformed)?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Error::invalid(
            "a file URL has no ? and no #; write %3F and %23",
        ));
    }
    let slashes = address.get(..7);
    match url.to_file_path() {
        Ok(path) if slashes.is_some_and(|start| start.eq_ignore_ascii_case("file://")) => {
            Store::file(&path)
        }
        _ => Err(Error::invalid(
            "a file URL is file:///path, with three slashes",
        )),
    }
}

#[cfg(feature = "http")]
fn open_http(address: &str) -> Result<Store> {
    use object_store::ClientOptions;
    use object_store::http::HttpBuilder;
    use object_store::path::Path;

    use super::{Access, ObjectHeads, failure};

    let address = Address::parse(address)?.without_options()?;
    // `HttpStore` appends to the path, and would double a slash at its end.
    let base = address.0.as_str().trim_end_matches('/').to_owned();
    let http = HttpBuilder::new()
        .with_url(base)
        .with_retry(retries())
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .build();
    let location = address.location();
    let objects: Arc<dyn ObjectStore> =
        Arc::new(http.map_err(|error| failure(&location, failure::built(error)))?);
    let heads = ObjectHeads::new(Arc::clone(&objects), Path::ROOT, location.clone());
    let store = Store::assemble(
        objects,
        Path::ROOT,
        Arc::new(heads),
        location,
        Access::ReadByName,
    );
    Ok(store.with_identity(address.identity()))
}

#[cfg(feature = "ws")]
fn open_ws(address: &str) -> Result<Store> {
    let address = Address::parse(address)?.without_options()?;
    let store = super::ws::open(&address.0, address.location())?;
    Ok(store.with_identity(address.identity()))
}

/// An address that is a URL, without a user and a password.
struct Address(Url);

#[allow(dead_code, reason = "features say which kinds of store use it")]
impl Address {
    fn parse(address: &str) -> Result<Self> {
        let url = Url::parse(address).map_err(malformed)?;
        if has_credentials(&url) {
            return Err(Error::invalid(
                "an address holds no user and no password: credentials come from the environment",
            ));
        }
        if url.fragment().is_some() {
            return Err(Error::invalid("the path of a URL has no #; write %23"));
        }
        Ok(Self(url))
    }

    /// For what has a host and is told nothing else.
    fn without_options(self) -> Result<Self> {
        self.host()?;
        if self.0.query().is_some() {
            let scheme = self.0.scheme();
            return Err(Error::invalid(format!(
                "the {scheme}: address of a store has no options: leave out the ?"
            )));
        }
        Ok(self)
    }

    /// What follows the two slashes: a host, a bucket, a container.
    fn host(&self) -> Result<&str> {
        let host = self.0.host_str().filter(|host| !host.is_empty());
        let scheme = self.0.scheme();
        host.ok_or_else(|| {
            Error::invalid(format!(
                "{scheme}:// is followed by a name; there is {KNOWN}"
            ))
        })
    }

    /// The address without what may be secret.
    fn location(&self) -> String {
        let url = &self.0;
        let host = url.host_str().unwrap_or_default();
        let port = url
            .port()
            .map(|port| format!(":{port}"))
            .unwrap_or_default();
        format!(
            "{}://{host}{port}{}",
            url.scheme(),
            url.path().trim_end_matches('/')
        )
    }

    /// What tells the address from others: all of it.
    fn identity(&self) -> Identity {
        let options = self.0.query().unwrap_or_default();
        let address = format!("{}?{options}", self.location());
        Identity::address("url", address.as_bytes())
    }
}

fn has_credentials(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

pub(super) fn malformed(error: url::ParseError) -> Error {
    Error::invalid(format!("the address is not a URL: {error}"))
}

/// Ten attempts in three minutes, the default, is longer than anybody waits at a terminal.
#[cfg(any(feature = "aws", feature = "gcp", feature = "azure", feature = "http"))]
fn retries() -> object_store::RetryConfig {
    object_store::RetryConfig {
        max_retries: 7,
        retry_timeout: std::time::Duration::from_mins(1),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::id::{BranchName, PackId};
    use crate::store::tests::chain;

    fn refusal(address: &str) -> String {
        chain(&Store::open_url(address).expect_err(address))
    }

    #[tokio::test]
    async fn a_named_store_in_memory_is_shared_and_a_nameless_one_is_not() {
        let id = PackId([1; 16]);
        let pack = Bytes::from_static(b"pack");
        let one = Store::open_url("memory:shared%40home").unwrap();
        one.put_pack(id, pack.clone()).await.unwrap();
        let other = Store::open_url("memory:shared%40home").unwrap();
        assert_eq!(other.read_pack(id).await.unwrap(), pack);
        assert_eq!(other.requests().puts, 0, "each handle counts for itself");
        assert_eq!(other.location(), "memory:shared@home");
        let different = Store::open_url("memory:other").unwrap();
        assert!(different.read_pack(id).await.is_err());
        Store::open_url("memory:")
            .unwrap()
            .put_pack(id, pack)
            .await
            .unwrap();
        assert!(
            Store::open_url("memory:")
                .unwrap()
                .read_pack(id)
                .await
                .is_err()
        );
    }

    #[cfg(feature = "fs")]
    #[tokio::test]
    async fn one_directory_has_many_spellings() {
        let parent = tempfile::tempdir().unwrap();
        let root = parent.path().join("a@b #c%d");
        let root = root.to_str().unwrap();
        let id = PackId([1; 16]);
        Store::open_url(root)
            .unwrap()
            .put_pack(id, Bytes::from_static(b"pack"))
            .await
            .unwrap();
        let escaped = root
            .replace('%', "%25")
            .replace('@', "%40")
            .replace('#', "%23");
        let url = escaped.replace(' ', "%20");
        for address in [
            escaped,
            format!("file://{url}"),
            format!("FILE://localhost{url}"),
        ] {
            let store = Store::open_url(&address).unwrap();
            assert_eq!(store.read_pack(id).await.unwrap(), "pack", "{address}");
            assert_eq!(store.location(), root);
        }
        let relative = Store::open_url("some/where").unwrap();
        let here = std::env::current_dir().unwrap().join("some/where");
        assert_eq!(relative.location(), here.to_str().unwrap());
    }

    #[test]
    fn an_address_of_an_unknown_kind_is_told_the_known_ones() {
        for address in ["ftp://host/path", "mysql://user:pw@host/db", "file.db:main"] {
            let refusal = refusal(address);
            assert!(
                refusal.contains("s3://") && refusal.contains("memory:"),
                "{refusal}"
            );
        }
        for address in [
            "",
            "file:",
            "file:/x",
            "file:aé",
            "file:relative",
            "file://host/path",
            "file:///p?x=1",
            "file:///p#dev",
        ] {
            refusal(address);
        }
        assert!(
            split_scheme("C:\\data").is_none(),
            "a drive is not a scheme"
        );
        assert!(split_scheme("./odd:name").is_none());
        assert!(split_scheme("2024:sales").is_none());
    }

    #[test]
    fn a_kind_that_the_build_leaves_out_is_named_with_its_feature() {
        for (address, feature, built) in [
            ("s3://bucket/prefix", "aws", cfg!(feature = "aws")),
            ("gs://bucket/prefix", "gcp", cfg!(feature = "gcp")),
            ("az://container/prefix", "azure", cfg!(feature = "azure")),
            ("https://host/path", "http", cfg!(feature = "http")),
            (
                "postgres://host/database",
                "sql-store",
                cfg!(feature = "sql-store"),
            ),
            ("sqlite:path", "sql-store", cfg!(feature = "sql-store")),
        ] {
            if !built {
                assert!(
                    refusal(address).contains(&format!("`{feature}`")),
                    "{address}"
                );
            }
        }
    }

    /// Whatever happens to an address, what is secret in it does not come out again.
    #[tokio::test]
    async fn secrets_are_never_printed() {
        let canary = "canary0123";
        let mut printed = Vec::new();
        for address in [
            format!("s3://{canary}:{canary}@bucket/prefix"),
            format!("s3://bucket/prefix?secret_access_key={canary}&access_key_id={canary}"),
            format!("s3://bucket/prefix?endpoint=http://u:{canary}@127.0.0.1:9"),
            format!("s3://bucket/prefix?{canary}"),
            format!("s3://bucket/prefix?no_such_option={canary}"),
            format!("s3://bucket//prefix?token={canary}"),
            format!("s3://?token={canary}"),
            format!("gs://user:{canary}@bucket/prefix"),
            format!("gs://bucket/prefix?service_account_key={canary}"),
            format!("az://{canary}@container/prefix"),
            format!("az://container/prefix?account_name=a&access_key={canary}"),
            format!("az://container/prefix?account_name=a&sas_token=sig%3D{canary}"),
            format!("http://user:{canary}@127.0.0.1:9/path"),
            format!("http://127.0.0.1:9/path?sig={canary}"),
            format!("https://[{canary}/path"),
            format!("mysql://user:{canary}@host/db"),
            format!("postgres://{canary}:{canary}@host/db"),
            format!("postgresql://user:{canary}@host/db?table={canary}!"),
            format!("postgres://user:7/{canary}@host"),
            format!("postgres://user:7/{canary}@host/db"),
            format!("postgres://user:{canary}#@host/db"),
            format!("postgres://user:7?{canary}=1@host/db"),
            format!("postgres://host/db?{canary}"),
            format!("postgres://host/db?password={canary}"),
            format!("postgres://user:{canary}@host/db?sslmode={canary}"),
            format!("postgres://user:{canary}%FF@host/db"),
            format!("sqlite:file?{canary}"),
            format!("sqlite:file?table={canary}%20"),
            format!("file:///path?{canary}"),
        ] {
            match Store::open_url(&address) {
                Err(error) => printed.push(format!("{error:?} {}", chain(&error))),
                Ok(store) => printed.push(format!("{store:?} {}", store.location())),
            }
        }
        // A store that cannot be reached: nothing listens on the discard port.
        #[cfg(feature = "aws")]
        {
            let store = Store::open_url(&format!(
                "s3://bucket/prefix?endpoint=http://127.0.0.1:9&allow_http=true&region=r\
                 &access_key_id=id&secret_access_key={canary}&token={canary}"
            ))
            .unwrap();
            assert_eq!(store.location(), "s3://bucket/prefix");
            let Store(inner) = &store;
            let heads = format!("{:?}", inner.heads);
            printed.push(heads);
            let error = store.list_packs().await.unwrap_err();
            printed.push(format!("{error:?} {}", chain(&error)));
            let outcome = store
                .cas_head(&BranchName::default(), None, Bytes::new())
                .await;
            printed.push(format!("{outcome:?}"));
        }
        for text in printed {
            assert!(!text.contains(canary), "{text}");
        }
        // Without a cloud in the build, the name is not looked at.
        let _ = BranchName::default();
    }

    /// A token that was read from a file with the line end after it was a panic at the first request.
    #[cfg(feature = "aws")]
    #[test]
    fn what_no_request_can_carry_is_refused() {
        for name in ["access_key_id", "token", "region"] {
            for wrong in ["%0A", "%0D%0A", "%09", "%7F", "é"] {
                let options = format!("region=r&{name}=canary{wrong}");
                let said = refusal(&format!("s3://bucket/prefix?{options}"));
                assert!(said.contains("holds a line end"), "{name} {wrong}: {said}");
                assert!(!said.contains("canary"), "{said}");
            }
            let options = format!("region=r&access_key_id=i&secret_access_key=s&{name}=%20a~");
            Store::open_url(&format!("s3://bucket/prefix?{options}")).unwrap();
        }
    }

    /// Two stores of one bucket's name on different endpoints were taken for one: a copy from the one to the other
    /// was refused, and a value of the other was merged as if it lay here.
    #[cfg(feature = "aws")]
    #[test]
    fn an_option_of_the_address_makes_another_store() {
        let open = |options: &str| {
            let address = format!("s3://bucket/prefix?region=r{options}");
            Store::open_url(&address).unwrap()
        };
        let one = open("&endpoint=http://127.0.0.1:9&allow_http=true");
        let two = open("&endpoint=http://127.0.0.1:10&allow_http=true");
        assert!(!one.is_same(&two) && !one.is_same(&open("")));
        assert_eq!(one.location(), two.location());
        assert!(one.is_same(&open("&endpoint=http://127.0.0.1:9&allow_http=true")));
        let slash = "s3://bucket/prefix/?region=r";
        assert!(Store::open_url(slash).unwrap().is_same(&open("")));
    }

    #[cfg(feature = "http")]
    #[tokio::test]
    async fn a_web_server_is_read_only() {
        use crate::store::CasOutcome;

        let store = Store::open_url("http://127.0.0.1:9/data%40home/").unwrap();
        assert!(store.read_only());
        assert_eq!(store.location(), "http://127.0.0.1:9/data%40home");
        let outcome = store
            .cas_head(&BranchName::default(), None, Bytes::new())
            .await;
        let CasOutcome::Failed(error) = outcome else {
            panic!("{outcome:?}")
        };
        assert!(error.to_string().contains("can only be read"), "{error}");
        let refused = store.put_pack(PackId([1; 16]), Bytes::new()).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
        assert_eq!(store.requests().puts, 0);
    }
}
