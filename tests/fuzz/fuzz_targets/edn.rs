//! Read → print → read: nothing panics, and what could be read once reads back the same.
#![no_main]

use datomfusion_datalog::edn::{Reader, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for form in Reader::new(text) {
        match form {
            Ok(form) => {
                let printed = form.to_string();
                let again = read(&printed).expect("printed EDN reads back");
                assert_eq!(again, form);
                assert_eq!(again.to_string(), printed);
            }
            Err(error) => assert!(error.to_string().lines().count() <= 3),
        }
    }
});
