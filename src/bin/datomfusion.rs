//! The command line of DatomFusion.

use std::process::ExitCode;

fn main() -> ExitCode {
    datomfusion::cli::main()
}
