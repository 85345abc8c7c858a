//! The documents agree with the program: what they quote from the program is what the program prints.

#![allow(clippy::unwrap_used)] // a test fails by a panic

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Folders with documents; all that end in `.md` there are checked.
const FOLDERS: &[&str] =
    &["", "bench", "charts/warmline", "charts/warmline-egress", "deploy", "docs", "fuzz"];

/// Returns the path of each document, from the project's folder on.
fn documents() -> Vec<String> {
    let names = |folder: &&str| {
        let files = fs::read_dir(here(folder)).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let folder = Path::new(folder).to_owned();
        let documents = names.filter(|name| name.ends_with(".md"));
        documents
            .map(move |name| folder.join(name).to_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    FOLDERS.iter().flat_map(names).collect()
}

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
fn the_configuration_page_embeds_the_example_that_check_prints() {
    let page = text("docs/configuration.md");
    let block = between(&page, "<!-- example:begin -->\n```yaml\n", "```\n<!-- example:end -->");
    assert_eq!(block, warmline::config::example());
}

#[test]
fn the_page_of_metrics_lists_every_one_and_none_that_does_not_exist() {
    let listed = names(&text("docs/metrics.md"), "| `");
    assert!(listed.len() > 10, "{listed:?}");
    assert_eq!(listed, exported());
}

#[test]
fn the_pages_name_only_metrics_that_exist() {
    let mut exported = exported();
    exported.extend(names(&text("src/injector/readiness.rs"), "\""));
    for document in documents() {
        let unknown: Vec<_> = names(&text(&document), "`")
            .into_iter()
            .chain(names(&text(&document), "("))
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

/// Returns the text without its blocks of code, in which nothing is a link or a heading.
fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// Returns the anchors of a document's headings, as repository hosts make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let prose = prose(text);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn links_between_the_documents_lead_to_files_and_headings_that_exist() {
    let mut followed = 0;
    for document in documents() {
        let source = here(&document);
        for piece in prose(&text(&document)).split("](").skip(1) {
            let target = piece.split(')').next().unwrap();
            if target.starts_with("http") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = match file {
                "" => source.clone(),
                file => source.parent().unwrap().join(file),
            };
            assert!(file.exists(), "{document}: {target}");
            if !anchor.is_empty() {
                let there = anchors(&fs::read_to_string(&file).unwrap());
                assert!(there.contains(anchor), "{document}: {target}, of {there:?}");
            }
            followed += 1;
        }
    }
    assert!(followed > 100, "{followed}");
}

/// Comments name a document with its folder, and a heading of the design in quotes beside it.
#[test]
fn documents_that_the_sources_cite_exist() {
    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for file in fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut files = Vec::new();
    ["src", "tests"].iter().for_each(|folder| sources(&here(folder), &mut files));
    let mut cited = 0;
    for file in files {
        for piece in fs::read_to_string(&file).unwrap().split("docs/").skip(1) {
            let name = piece.split(|c: char| !(c.is_ascii_lowercase() || "-.".contains(c)));
            let name = name.take(1).collect::<String>();
            if let Some((name, _)) = name.split_once(".md") {
                assert!(here("docs").join(name).with_extension("md").exists(), "{file:?}: {name}");
                cited += 1;
            }
        }
    }
    assert!(cited > 20, "{cited}");
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
