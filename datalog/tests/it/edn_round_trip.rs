//! Reading and printing are inverse, and reading is total.

use datomfusion_datalog::edn::{Form, Reader, read, read_all};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::forms::form;

/// Reads what may be nonsense. Whatever can be read must survive printing; whatever cannot must be
/// reported in a few lines, at a place inside the text.
pub(crate) fn read_anything(text: &str) {
    for result in Reader::new(text) {
        match result {
            Ok(form) => {
                assert!(form.span.start < form.span.end && form.span.end <= text.len());
                let printed = form.to_string();
                match read(&printed) {
                    Ok(again) => {
                        assert_eq!(again, form, "{printed}");
                        assert_eq!(again.to_string(), printed);
                    }
                    Err(error) => panic!("{printed:?} does not read back: {error}"),
                }
            }
            Err(error) => {
                assert!(error.span().start <= error.span().end && error.span().end <= text.len());
                let report = error.to_string();
                assert!(
                    report.lines().count() <= 3 && report.len() < 2000,
                    "{report}"
                );
            }
        }
    }
}

/// Pieces from which nonsense is made that gets deep into the reader; blanks are added to them.
const PIECES: &str = "( ) [ ] { } #{ #_ # ## #: ^ ' \" \\ : / ; , + - . e E M N r 0x 1 9 00 nil true :a a/b \
                      #inst #uuid \"2011-01\" ##Inf \\u00e9 \\ud83d \\o7 ä 😀 #a \\newline -07:00 T 36rZ";

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(PIECES.split(' ').collect::<Vec<_>>()).prop_map(str::to_owned),
        2 => prop::sample::select(&[" ", "\n", "\u{a0}", "\u{feff}", "\0", "\u{85}"][..])
            .prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ]
}

fn mutate(text: &str, at: usize, removed: usize, inserted: &str) -> String {
    let start = text.floor_char_boundary(at % (text.len() + 1));
    let end = text.ceil_char_boundary(start + removed);
    [&text[..start], inserted, &text[end..]].concat()
}

proptest! {
    #[test]
    fn what_is_printed_reads_back(form in form()) {
        let printed = form.to_string();
        prop_assert!(!printed.contains('\n'));
        let again = read(&printed).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(&again, &form);
        // Also what equality does not see: the scale of a big decimal.
        prop_assert_eq!(again.to_string(), printed);
    }

    #[test]
    fn forms_one_after_another_are_read_apart(forms in vec(form(), 0..6)) {
        let text: Vec<String> = forms.iter().map(Form::to_string).collect();
        prop_assert_eq!(read_all(&text.join("\n")).unwrap(), forms);
    }

    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..200)) {
        read_anything(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn no_text_panics(text in any::<String>()) {
        read_anything(&text);
    }

    #[test]
    fn no_heap_of_pieces_panics(pieces in vec(piece(), 0..40)) {
        read_anything(&pieces.concat());
    }

    #[test]
    fn no_damaged_edn_panics(
        form in form(),
        edits in vec((any::<usize>(), 0_usize..4, piece()), 1..4),
    ) {
        let damage = |text: String, (at, removed, piece): &(usize, usize, String)| {
            mutate(&text, *at, *removed, piece)
        };
        read_anything(&edits.iter().fold(form.to_string(), damage));
    }
}
