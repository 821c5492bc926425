//! The examples of `docs/codes` do what their pages say.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the test's answer")]

use std::fs;
use std::path::Path;

use portolan_config::translate::{TranslateOptions, translate};
use portolan_config::{ResourceSet, Sources, render_text};

/// Codes whose examples need more than the files: a certificate that ends soon ends some day, and what counts at the start is
/// written later.
const NEEDS_MORE: &[&str] = &["P0235", "P0352"];

#[test]
fn every_example_causes_its_code() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/codes");
    let mut wrong = Vec::new();
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let code = path.file_stem().unwrap().to_string_lossy().into_owned();
        let page = fs::read_to_string(&path).unwrap();
        // Codes from P0500 on need more than the files to show.
        let Some((_, example)) =
            page.split_once("```yaml\n").filter(|_| *code < *"P0500" && !NEEDS_MORE.contains(&&*code))
        else {
            continue;
        };
        let example = example.split("```").next().unwrap();
        let sources = Sources::from_texts([("example.yaml", example)]);
        let mut resources = ResourceSet::default();
        let mut found = resources.update(&sources);
        found.extend(translate(&resources, &TranslateOptions::default()).diagnostics);
        count += 1;
        if !found.iter().any(|finding| finding.code == code) {
            wrong.push(format!("{code}:\n{}", render_text(&found, &sources, false)));
        }
    }
    assert!(count > 60, "{count} examples");
    assert!(wrong.is_empty(), "these examples do not cause their code:\n{}", wrong.join("\n"));
}
