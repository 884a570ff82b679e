//! The readers of bytes from outside, with all that is kept of what fuzzing found or was begun with.

use std::path::Path;

/// Files that are changed in every way, in octets.
const SMALL: usize = 1_024;

/// Every file; of a small one each of its beginnings, and each of its octets changed in a few ways.
#[test]
fn what_is_kept_for_the_fuzzer_breaks_no_promise() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, target) in fuzz::TARGETS {
        let files: Vec<_> = std::fs::read_dir(corpus.join(name))
            .unwrap_or_else(|error| panic!("{name} has no corpus: {error}"))
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(!files.is_empty(), "{name} has no corpus");
        for file in files {
            let bytes = std::fs::read(&file).unwrap();
            target(&bytes);
            if bytes.len() > SMALL {
                continue;
            }
            for end in 0..bytes.len() {
                target(&bytes[..end]);
            }
            for place in 0..bytes.len() {
                for change in [0x00, 0x0a, 0x0d, 0x2e, 0x3a, 0xff] {
                    let mut changed = bytes.clone();
                    changed[place] = change;
                    target(&changed);
                }
            }
        }
    }
}
