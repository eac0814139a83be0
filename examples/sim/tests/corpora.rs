//! What the fuzzer has found so far, on a stable compiler: each file of a corpus, and each one that
//! once broke a promise.
//!
//! The folders are `fuzz/corpus/<target>` and `fuzz/regressions/<target>`.

use std::collections::BTreeSet;
use std::fs;
use std::panic;
use std::path::{Path, PathBuf};

use pinch_sim::targets::{self, TARGETS};

/// One test for each target, so that the name of the test says what is broken.
macro_rules! replayed {
    ($($target:ident),* $(,)?) => {
        const REPLAYED: &[&str] = &[$(stringify!($target)),*];

        $(
            #[test]
            fn $target() {
                replay(stringify!($target));
            }
        )*
    };
}

replayed!(
    address,
    client,
    driver_bytes,
    envelope_view,
    handshake_agent,
    handshake_relay,
    http,
    hub_lifecycle,
    hub_shards,
    store,
    url,
);

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// The paths in a folder, in the order of their names; none, if there is no such folder.
fn paths_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    paths
}

fn replay(name: &str) {
    let target = targets::named(name).expect("a target");
    let corpus = paths_in(&fuzz().join("corpus").join(name));
    assert!(!corpus.is_empty(), "fuzz/corpus/{name} is missing or empty");
    let regressions = paths_in(&fuzz().join("regressions").join(name));
    for path in corpus.iter().chain(&regressions) {
        let input = fs::read(path).expect("a file");
        let outcome = panic::catch_unwind(|| {
            assert!(!(target.story)(&input).is_empty(), "a file without a story");
            (target.run)(&input);
        });
        assert!(
            outcome.is_ok(),
            "{path} breaks a promise; to see how: cargo run -p pinch-sim --bin replay -- {path}",
            path = path.display(),
        );
    }
}

#[test]
fn every_target_is_replayed_and_every_folder_has_a_target() {
    let targets: BTreeSet<_> = TARGETS.iter().map(|it| it.name.to_owned()).collect();
    let replayed: BTreeSet<_> = REPLAYED.iter().map(|&it| it.to_owned()).collect();
    assert_eq!(targets, replayed);
    for kind in ["corpus", "regressions"] {
        for folder in paths_in(&fuzz().join(kind)) {
            let name = folder.file_name().unwrap().to_string_lossy().into_owned();
            assert!(
                targets.contains(&name),
                "{} has no target",
                folder.display()
            );
        }
    }
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for name in targets {
        assert!(
            manifest.contains(&format!("\nname = \"{name}\"\n")),
            "{name} has no program in fuzz/Cargo.toml"
        );
    }
}
