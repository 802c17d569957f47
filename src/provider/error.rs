//! Errors on their way through DataFusion and back, as the values they were.

use datafusion::error::DataFusionError;

use crate::error::Error;

/// Carries an error of ours through DataFusion. An error that came from there is handed back.
pub(crate) fn into_datafusion(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// Takes an error of ours out of what DataFusion wrapped around it; another one stays what it is.
///
/// Context that DataFusion added is dropped: it names its own operators, not what the caller can change.
pub(crate) fn from_datafusion(error: DataFusionError) -> Result<Error, DataFusionError> {
    match error {
        DataFusionError::External(source) => match source.downcast::<Error>() {
            Ok(error) => Ok(*error),
            Err(source) => match source.downcast::<DataFusionError>() {
                Ok(inner) => from_datafusion(*inner),
                Err(source) => Err(DataFusionError::External(source)),
            },
        },
        DataFusionError::Context(context, source) => from_datafusion(*source)
            .map_err(|source| DataFusionError::Context(context, Box::new(source))),
        DataFusionError::Diagnostic(diagnostic, source) => from_datafusion(*source)
            .map_err(|source| DataFusionError::Diagnostic(diagnostic, Box::new(source))),
        DataFusionError::ArrowError(source, backtrace) => match *source {
            arrow_schema::ArrowError::ExternalError(source) => {
                from_datafusion(DataFusionError::External(source))
            }
            source => Err(DataFusionError::ArrowError(Box::new(source), backtrace)),
        },
        // A failure that several readers of one computation share cannot be moved out of it.
        DataFusionError::Shared(source) => match std::sync::Arc::try_unwrap(source) {
            Ok(source) => from_datafusion(source),
            Err(source) => Err(DataFusionError::Shared(source)),
        },
        other => Err(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved() -> Error {
        Error::corrupt("node x", "cut short")
    }

    #[test]
    fn an_error_survives_what_is_wrapped_around_it() {
        let wrapped = into_datafusion(moved()).context("while scanning");
        let back = from_datafusion(wrapped).expect("it is ours");
        assert_eq!(back.to_string(), moved().to_string());
        let arrow = arrow_schema::ArrowError::ExternalError(Box::new(moved()));
        let back = from_datafusion(arrow.into()).expect("it is ours");
        assert!(matches!(back, Error::Corrupt { .. }));
    }

    #[test]
    fn an_error_of_datafusion_stays_one() {
        let other = DataFusionError::Plan("no".into()).context("why");
        let back = from_datafusion(other).expect_err("it is not ours");
        assert_eq!(
            back.strip_backtrace(),
            "why\ncaused by\nError during planning: no"
        );
    }
}
