//! The documents agree with the program: what they quote from the program is what the program prints.

#![allow(clippy::unwrap_used)] // a test fails by a panic

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// All documents; links between them are relative to the file.
const DOCUMENTS: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "bench/README.md",
    "charts/warmline/README.md",
    "charts/warmline-egress/README.md",
    "deploy/README.md",
    "docs/configure.md",
    "docs/from-haproxy.md",
    "docs/https.md",
    "docs/inject.md",
    "docs/install.md",
    "docs/monitor.md",
    "docs/monitor.md",
    "docs/operate.md",
    "docs/platforms.md",
    "docs/reliability.md",
    "docs/rotate.md",
    "docs/troubleshoot.md",
    "docs/limits.md",
    "docs/upgrade.md",
];

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    fs::read_to_string(here(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the text between two markers.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let (_, rest) = text.split_once(from).unwrap_or_else(|| panic!("{from} is missing"));
    let (inside, _) = rest.split_once(to).unwrap_or_else(|| panic!("{to} is missing"));
    inside
}

/// Returns every `warmline_…` name that follows this sign.
fn names(text: &str, sign: &str) -> BTreeSet<String> {
    let start = format!("{sign}warmline_");
    let rest = |piece: &str| {
        let end = piece.find(|c: char| !(c.is_ascii_lowercase() || c == '_'));
        format!("warmline_{}", &piece[..end.unwrap_or(piece.len())])
    };
    text.split(&start).skip(1).map(rest).collect()
}

/// Returns the names in the sources that render `/metrics`.
fn exported() -> BTreeSet<String> {
    let files = fs::read_dir(here("src/admin/metrics")).unwrap();
    let sources = files.map(|file| file.unwrap().path()).filter(|path| !path.ends_with("tests.rs"));
    sources.flat_map(|path| names(&fs::read_to_string(path).unwrap(), "\"")).collect()
}

#[test]
fn the_readme_embeds_the_example_that_check_prints() {
    let readme = text("README.md");
    let block = between(&readme, "<!-- example:begin -->\n```yaml\n", "```\n<!-- example:end -->");
    assert_eq!(block, warmline::config::example());
}

#[test]
fn the_readme_lists_every_metric_and_none_that_does_not_exist() {
    let readme = text("README.md");
    let listed = names(between(&readme, "\n## Metrics\n", "\n## Log\n"), "| `");
    assert!(listed.len() > 10, "{listed:?}");
    assert_eq!(listed, exported());
}

#[test]
fn the_pages_name_only_metrics_that_exist() {
    let mut exported = exported();
    exported.extend(names(&text("src/injector/readiness.rs"), "\""));
    for document in DOCUMENTS {
        let unknown: Vec<_> = names(&text(document), "`")
            .into_iter()
            .chain(names(&text(document), "("))
            .filter(|name| !exported.contains(name))
            .collect();
        assert!(unknown.is_empty(), "{document}: {unknown:?}");
    }
}

#[test]
fn the_architecture_names_every_module() {
    let architecture = text("ARCHITECTURE.md");
    let library = text("src/lib.rs");
    let modules = library
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .filter(|module| !architecture.contains(&format!("| `{module}` |")));
    assert_eq!(modules.collect::<Vec<_>>(), Vec::<&str>::new());
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    for document in DOCUMENTS {
        let folder = here(document).parent().unwrap().to_owned();
        for piece in text(document).split("](").skip(1) {
            let target = piece.split([')', '#']).next().unwrap();
            if !target.starts_with("http") {
                assert!(folder.join(target).exists(), "{document}: {target}");
            }
        }
    }
}

#[test]
fn every_kind_of_answer_stands_on_the_troubleshooting_page() {
    let page = text("docs/troubleshoot.md");
    let failure = text("src/proxy/failure.rs");
    let mapping = failure.split_once("fn error_type").unwrap().1;
    let kinds: BTreeSet<_> = mapping
        .split('"')
        .skip(1)
        .step_by(2)
        .filter(|word| {
            word.contains('_') && word.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        })
        .collect();
    assert!(kinds.len() > 10, "{kinds:?}");
    let missing: Vec<_> =
        kinds.iter().filter(|kind| !page.contains(&format!("`{kind}`"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_fixed_bounds_on_their_page_are_those_of_the_source() {
    let rows: Vec<_> = text("docs/limits.md")
        .lines()
        .filter_map(|line| {
            let (_, place) = line.split_once("| `src/")?;
            let (file, constant) = place.trim_end_matches(" |").split_once("`: `")?;
            Some((format!("src/{file}"), format!("const {};", constant.trim_end_matches('`'))))
        })
        .collect();
    assert!(rows.len() > 20, "{rows:?}");
    for (file, constant) in rows {
        assert!(text(&file).contains(&constant), "{file} has no `{constant}`");
    }
}
