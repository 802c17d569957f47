//! What can go wrong with a statement, told apart by whether it may have happened.
//!
//! **Invariant.** What a server says while a connection is made is not passed on: it names the user.

use sqlx::error::DatabaseError;

/// Why a statement was not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// There is no table of this name, or no file to hold one.
    #[error("there is no table of this name")]
    Absent,
    /// The caller's fault: whoever opens this store runs on Tokio.
    #[error("a SQL store is used within a Tokio runtime")]
    NoRuntime,
    /// There is no connection.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The table has other columns, types or keys.
    #[error("the table of this name is no store: name another one, as ?table=NAME")]
    Shape(#[source] sqlx::Error),
    /// The database answered that it did not do it.
    #[error(transparent)]
    Refused(sqlx::Error),
    /// The same, because of what others did at that moment.
    #[error(transparent)]
    Overtaken(sqlx::Error),
    /// The answer did not arrive, or was no answer.
    #[error(transparent)]
    Broken(sqlx::Error),
    /// There was no answer in this many seconds.
    #[error("no answer within {0} seconds")]
    Late(u64),
}

impl Failure {
    /// Whether the statement may have been carried out.
    pub(super) fn may_have_happened(&self) -> bool {
        matches!(self, Self::Broken(_) | Self::Late(_))
    }

    /// The same, as `object_store` says it.
    pub(super) fn of(self, key: impl std::fmt::Display) -> object_store::Error {
        match self {
            Self::Absent => object_store::Error::NotFound {
                path: key.to_string(),
                source: self.into(),
            },
            _ => object_store::Error::Generic {
                store: "sql",
                source: self.into(),
            },
        }
    }

    /// Why PostgreSQL could not be connected to.
    pub(super) fn connecting_to_postgres(error: &sqlx::Error) -> Self {
        let reason = match error {
            sqlx::Error::Database(error) => {
                let code = error.code().unwrap_or_default();
                let reason = match &*code {
                    "28P01" | "28000" => "the server refuses this user or password",
                    "3D000" => "the server has no database of this name",
                    "53300" => "the server has too many connections",
                    "57P03" => "the server is starting up or shutting down",
                    _ => "the server refuses",
                };
                format!("{reason} (SQLSTATE {code})")
            }
            sqlx::Error::Io(error) => error.to_string(),
            sqlx::Error::Tls(error) => format!("no TLS: {error}"),
            _ => "the server does not speak as PostgreSQL does, or an option of the connection \
                  is wrong"
                .to_owned(),
        };
        Self::Connect(reason)
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;

        let kind = match &error {
            E::Database(answer)
                if answer
                    .try_downcast_ref::<sqlx::sqlite::SqliteError>()
                    .is_some() =>
            {
                of_sqlite(&**answer)
            }
            E::Database(answer) => of_postgres(&answer.code().unwrap_or_default()),
            E::ColumnDecode { .. } | E::Decode(_) | E::ColumnIndexOutOfBounds { .. } => Self::Shape,
            E::Encode(_) | E::InvalidArgument(_) => Self::Refused,
            _ => Self::Broken,
        };
        if is_absent(&error) {
            return Self::Absent;
        }
        kind(error)
    }
}

fn is_absent(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(answer) = error else {
        return false;
    };
    match answer.try_downcast_ref::<sqlx::sqlite::SqliteError>() {
        Some(answer) => answer.message().starts_with("no such table: "),
        None => answer.code().is_some_and(|code| code == "42P01"),
    }
}

/// By the codes of PostgreSQL, appendix A.
fn of_postgres(code: &str) -> fn(sqlx::Error) -> Failure {
    match code {
        // A column, an operator, a type or the key is another; a column of theirs wants a value; a view.
        "42703" | "42883" | "42804" | "42P10" | "23502" | "42809" | "55000" => Failure::Shape,
        "40001" | "40P01" => Failure::Overtaken,
        "57014" => Failure::Refused,
        _ if ["08", "57", "58", "XX"].contains(&code.get(..2).unwrap_or_default()) => {
            Failure::Broken
        }
        "40003" => Failure::Broken,
        _ => Failure::Refused,
    }
}

fn of_sqlite(answer: &dyn DatabaseError) -> fn(sqlx::Error) -> Failure {
    const PLAIN: i32 = 1;
    const IO: i32 = 10;

    let code = answer.code().and_then(|code| code.parse::<i32>().ok());
    match code.map(|code| code & 0xff) {
        Some(PLAIN)
            if [
                "no such column",
                "has no column named",
                "ON CONFLICT clause",
                "cannot modify",
            ]
            .iter()
            .any(|text| answer.message().contains(text)) =>
        {
            Failure::Shape
        }
        Some(IO) | None => Failure::Broken,
        Some(_) => Failure::Refused,
    }
}
