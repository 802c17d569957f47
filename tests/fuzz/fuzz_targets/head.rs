//! Heads behind their checksum: refused or decoded, nothing panics.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    datomfusion::fuzz::decode_head_untrusted(bytes);
});
