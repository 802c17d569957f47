//! Packs: a footer is refused or is consistent, nothing panics.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    datomfusion::fuzz::decode_pack_untrusted(bytes);
});
