//! Canonical bytes of inner nodes: what decodes encodes again, nothing panics.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    datomfusion::fuzz::decode_node_untrusted(bytes);
    // Behind the bytes that every such node begins with.
    datomfusion::fuzz::decode_node_untrusted(&[&[2, 1], bytes].concat());
});
