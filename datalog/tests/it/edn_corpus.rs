//! Replays the corpus of the fuzz target `edn`, so that what fuzzing found stays found.

use std::fs;
use std::path::Path;

use crate::edn_round_trip::read_anything;

#[test]
fn the_corpus_reads_without_panic() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus/edn");
    let mut seeds = 0;
    for entry in fs::read_dir(&corpus).expect("the corpus is part of the repository") {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        read_anything(&String::from_utf8_lossy(&bytes));
        seeds += 1;
    }
    assert!(seeds >= 15, "{seeds} seeds");
}
