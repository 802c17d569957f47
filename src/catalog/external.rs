//! Foreign tables: files that a federation joins with databases.

use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{
    ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl,
};
use datafusion::execution::SessionState;
use url::Url;

use crate::error::{Error, Result};

/// A file as a table; its columns are found by reading the beginning of it.
///
/// # Errors
///
/// [`Error::Invalid`] that names the file.
pub(crate) async fn file_table(
    state: &SessionState,
    path: &Path,
) -> Result<Arc<dyn TableProvider>> {
    let named = |reason: &dyn std::fmt::Display| {
        Error::invalid(format!(
            "{} cannot be read as a table: {reason}",
            path.display()
        ))
    };
    let absolute = path.canonicalize().map_err(|error| named(&error))?;
    if !absolute.is_file() {
        return Err(named(&"it is not a file"));
    }
    // Not parsed from text: `*` and `?` in a file's name are not meant as patterns.
    let url = Url::from_file_path(&absolute).map_err(|()| named(&"its name has no URL"))?;
    let format = format_of(path).map_err(|reason| named(&reason))?;
    let read = async {
        let url = ListingTableUrl::try_new(url, None)?;
        let options = ListingOptions::new(format).with_file_extension("");
        let schema = options.infer_schema(state, &url).await?;
        let config = ListingTableConfig::new(url)
            .with_listing_options(options)
            .with_schema(schema);
        ListingTable::try_new(config)
    };
    let table = read
        .await
        .map_err(|error| named(&error.strip_backtrace()))?;
    Ok(Arc::new(table))
}

fn format_of(path: &Path) -> Result<Arc<dyn FileFormat>, String> {
    let ending = path
        .extension()
        .map(|ending| ending.to_string_lossy().to_lowercase());
    Ok(match ending.as_deref() {
        Some("parquet") => Arc::new(ParquetFormat::default()),
        Some("csv") => Arc::new(CsvFormat::default().with_has_header(true)),
        Some("tsv") => Arc::new(
            CsvFormat::default()
                .with_has_header(true)
                .with_delimiter(b'\t'),
        ),
        Some("json") => {
            let array = begins_with_bracket(path).map_err(|error| error.to_string())?;
            Arc::new(JsonFormat::default().with_newline_delimited(!array))
        }
        Some("ndjson" | "jsonl") => Arc::new(JsonFormat::default()),
        _ => {
            return Err(
                "its name must end in .parquet, .csv, .tsv, .json, .ndjson or .jsonl".into(),
            );
        }
    })
}

fn begins_with_bracket(path: &Path) -> std::io::Result<bool> {
    let file = BufReader::new(std::fs::File::open(path)?);
    for byte in file.bytes() {
        let byte = byte?;
        if !byte.is_ascii_whitespace() {
            return Ok(byte == b'[');
        }
    }
    Ok(false)
}
