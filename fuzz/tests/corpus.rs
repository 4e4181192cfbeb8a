//! Every input of the corpora passes: what fuzzing once found, and what it starts from.

use alluvium_fuzz::{TARGETS, target};
use std::path::Path;

fn corpora() -> Vec<(String, Vec<std::path::PathBuf>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let entries = |path: &Path| {
        let listed = std::fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        listed.map(|entry| entry.expect("an entry").path()).collect::<Vec<_>>()
    };
    let name = |path: &Path| {
        path.file_name().expect("a listed path has a name").to_string_lossy().into_owned()
    };
    entries(&root).into_iter().map(|folder| (name(&folder), entries(&folder))).collect()
}

#[test]
fn every_input_of_the_corpora_passes() {
    for (name, inputs) in corpora() {
        let target = target(&name).unwrap_or_else(|| panic!("no target for corpus/{name}"));
        for input in inputs {
            println!("{}", input.display());
            (target.run)(&std::fs::read(input).unwrap());
        }
    }
}

#[test]
fn every_target_has_a_corpus() {
    let corpora = corpora();
    for target in TARGETS {
        let found = corpora.iter().find(|(name, _)| name == target.name);
        assert!(found.is_some_and(|(_, inputs)| !inputs.is_empty()), "{}", target.name);
    }
}

#[test]
fn every_target_takes_nothing_and_noise() {
    let noise: Vec<u8> =
        (0..2000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for target in TARGETS {
        for length in [0, 1, 2, 7, 160, 2000] {
            (target.run)(&noise[..length]);
        }
    }
}
