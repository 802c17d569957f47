# The recipes that people and CI use. `just check` must pass before a change lands.

default: check

# Everything that CI calls, in its order.
check: fmt clippy test docs examples

fmt:
    cargo fmt --all --check

clippy:
    cargo clippy --workspace --all-targets --features conformance -- -D warnings

test:
    cargo nextest run --workspace --features conformance
    cargo test --workspace --features conformance --doc

docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --features conformance --document-private-items

examples:
    for example in $(ls examples/*.rs | xargs -n 1 basename -s .rs); do cargo run --quiet --example $example; done

# The tests that need PostgreSQL, beside a server of their own.
postgres:
    bash tests/servers/postgres.sh \
        cargo test -p datomfusion --no-default-features --features fs,sql-store,conformance --lib -- --ignored postgres

# The tests that need an S3 server, beside servers of their own.
s3:
    bash tests/servers/s3.sh cargo test --workspace --features conformance --lib --test it -- --ignored s3

# Floors 1 to 7 without DataFusion, and each feature alone.
matrix:
    cargo check --no-default-features
    cargo check --no-default-features --features fs
    for feature in aws gcp azure http ws sql-store query conformance; do cargo check --no-default-features --features $feature; done

# The core for the browser; needs `rustup target add wasm32-unknown-unknown`.
wasm:
    cargo check --no-default-features --target wasm32-unknown-unknown

# The planner of Datalog against the reference evaluator, on a million generated questions (or CASES).
differential cases="1000000" seed="0":
    DATOMFUSION_DIFFERENTIAL_CASES={{cases}} DATOMFUSION_DIFFERENTIAL_SEED={{seed}} \
        cargo test --release --workspace --features conformance --test it -- differential --nocapture

# Everybody at once on storages that fail, with a million seeds (or so many, from a first one on).
faults seeds="1000000" first="0":
    DATOMFUSION_FAULT_SEEDS={{seeds}} DATOMFUSION_FAULT_SEED={{first}} \
        cargo test --release -p datomfusion --no-default-features --features fs,conformance --lib -- \
        whatever_fails --nocapture

# Plants bugs in a copy, one at a time; the same test must find each.
planted seeds="1000":
    bash tests/planted/run.sh {{seeds}}

# A minute of fuzzing for each target; needs nightly and cargo-fuzz.
fuzz:
    for target in $(ls tests/fuzz/fuzz_targets | sed 's/\.rs$//'); do cargo +nightly fuzz run --fuzz-dir tests/fuzz $target -- -max_total_time=60; done

# The licences and advisories of all dependencies; needs cargo-deny.
deny:
    cargo deny check

# The parts, timed.
bench:
    cargo bench

# The counts and figures of benches/README.md.
figures:
    cargo bench --bench figures -- 10000000

# The counts of versions in benches/README.md.
versions:
    cargo bench --no-default-features --features fs --bench versions -- 100000 1000000 10000000
