//! Stores in the clouds: Amazon S3 and its likes, Google Cloud Storage, Azure Blob Storage.

use std::sync::Arc;

use object_store::{ClientConfigKey, ObjectStore};
use url::Url;

use super::{Address, has_credentials, retries};
use crate::error::{Error, Result};
use crate::store::{Store, failure};

#[cfg(feature = "aws")]
pub(super) fn open_s3(address: &str) -> Result<Store> {
    use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as Key};

    let address = Address::parse(address)?;
    let builder = AmazonS3Builder::from_env().with_retry(retries());
    let builder = with_options(builder, &address, AmazonS3Builder::with_config)?
        .with_bucket_name(address.host()?);
    let config = |key: Key| builder.get_config_value(&key);
    let allows_http = config(Key::Client(ClientConfigKey::AllowHttp));
    for key in [Key::Endpoint, Key::S3Endpoint] {
        check_endpoint(config(key), allows_http.as_deref())?;
    }
    for key in [
        Key::MetadataEndpoint,
        Key::StsEndpoint,
        Key::ContainerCredentialsFullUri,
    ] {
        check_endpoint(config(key), None)?;
    }
    for (key, what) in [
        (Key::AccessKeyId, "access key id"),
        (Key::Token, "session token"),
        (Key::Region, "region"),
    ] {
        check_header(config(key), what)?;
    }
    let builder = builder.build();
    from_cloud(&address, builder)
}

#[cfg(feature = "gcp")]
pub(super) fn open_gcs(address: &str) -> Result<Store> {
    use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey as Key};

    let address = Address::parse(address)?;
    let builder = GoogleCloudStorageBuilder::from_env().with_retry(retries());
    let builder = with_options(builder, &address, GoogleCloudStorageBuilder::with_config)?
        .with_bucket_name(address.host()?);
    let allows_http = builder.get_config_value(&Key::Client(ClientConfigKey::AllowHttp));
    let endpoint = builder.get_config_value(&Key::BaseUrl);
    check_endpoint(endpoint, allows_http.as_deref())?;
    let builder = builder.build();
    from_cloud(&address, builder)
}

#[cfg(feature = "azure")]
pub(super) fn open_azure(address: &str) -> Result<Store> {
    use object_store::azure::{AzureConfigKey as Key, MicrosoftAzureBuilder};

    let address = Address::parse(address)?;
    let builder = MicrosoftAzureBuilder::from_env().with_retry(retries());
    let builder = with_options(builder, &address, MicrosoftAzureBuilder::with_config)?
        .with_container_name(address.host()?);
    let allows_http = builder.get_config_value(&Key::Client(ClientConfigKey::AllowHttp));
    let endpoint = builder.get_config_value(&Key::Endpoint);
    check_endpoint(endpoint, allows_http.as_deref())?;
    let builder = builder.build();
    from_cloud(&address, builder)
}

fn from_cloud<T: ObjectStore>(
    address: &Address,
    built: Result<T, object_store::Error>,
) -> Result<Store> {
    let location = address.location();
    let prefix = object_store::path::Path::from_url_path(address.0.path())
        .map_err(|error| Error::invalid(format!("the path of {location}: {error}")))?;
    let objects = built.map_err(|error| failure(&location, failure::built(error)))?;
    let store = Store::from_object_store(Arc::new(objects), prefix, location);
    Ok(store.with_identity(address.identity()))
}

/// Applies `?name=value&…`. A value is never printed: it may be a key.
fn with_options<B, K: std::str::FromStr>(
    builder: B,
    address: &Address,
    with_config: impl Fn(B, K, String) -> B,
) -> Result<B> {
    address
        .0
        .query_pairs()
        .try_fold(builder, |builder, (name, value)| {
            // Without a value, what looks like a name may be a pasted key.
            let shown = if value.is_empty() {
                "without a value"
            } else {
                &name
            };
            let refused =
                |reason| Error::invalid(format!("option {shown} of the address {reason}"));
            let key = name.to_ascii_lowercase().parse();
            let key = key.map_err(|_| refused("is not one of this kind of store"))?;
            // Object stores print their endpoint when a request fails.
            if Url::parse(&value).is_ok_and(|url| has_credentials(&url)) {
                return Err(refused("holds a user or a password"));
            }
            Ok(with_config(builder, key, value.into_owned()))
        })
}

/// Refuses an endpoint, of the address or of the environment, that no request can be sent to.
///
/// `object_store` panics on one that is no URL, and prints it whenever a request fails.
fn check_endpoint(endpoint: Option<String>, allows_http: Option<&str>) -> Result<()> {
    let Some(endpoint) = endpoint else {
        return Ok(());
    };
    let url = Url::parse(&endpoint).ok();
    let Some(url) = url.filter(|url| ["https", "http"].contains(&url.scheme())) else {
        return Err(Error::invalid(
            "an endpoint begins with https:// or http://, then the name of a host",
        ));
    };
    if has_credentials(&url) || url.query().is_some() {
        return Err(Error::invalid(
            "an endpoint holds no user, no password and no ?: credentials have variables of their own",
        ));
    }
    let refuses = |word: &str| ["0", "false", "off", "no", "n"].contains(&&*word.to_lowercase());
    if url.scheme() == "http" && allows_http.is_some_and(refuses) {
        return Err(Error::invalid(
            "the endpoint is plain http, which anybody on the way can read; if that is meant, say \
             allow_http=true",
        ));
    }
    Ok(())
}

/// Refuses a value, of the address or of the environment, that is sent as it is: `object_store` panics on one that
/// cannot be.
#[cfg(feature = "aws")]
fn check_header(value: Option<String>, what: &str) -> Result<()> {
    let is_sent = |value: String| value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if value.is_none_or(is_sent) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "the {what} holds a line end or another character that no request can carry"
    )))
}
