//! The documents agree with the program: what they quote from the program is what the program prints.

#![allow(clippy::unwrap_used)] // a test fails by a panic

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

use proc_macro2::{TokenStream, TokenTree};
use warmline::pool::{EndReason, Reuse};

/// The variable that, if set, has the example written into the page instead of compared with the page's copy.
const WRITE: &str = "WARMLINE_WRITE";

/// Folders with documents; all that end in `.md` there are checked.
const FOLDERS: &[&str] =
    &["", "bench", "charts/warmline", "charts/warmline-egress", "deploy", "docs", "fuzz"];

/// Returns the path of each document, from the project's folder on.
fn documents() -> Vec<String> {
    let names = |folder: &&str| {
        let files = fs::read_dir(here(folder)).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let folder = Path::new(folder).to_owned();
        let documents =
            names.filter(|name| Path::new(name).extension().is_some_and(|end| end == "md"));
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
    let (path, example) = ("docs/configuration.md", warmline::config::example());
    let page = text(path);
    let block = between(&page, "<!-- example:begin -->\n```yaml\n", "```\n<!-- example:end -->");
    if env::var_os(WRITE).is_some() {
        fs::write(here(path), page.replace(block, example)).unwrap();
    } else {
        assert_eq!(
            block, example,
            "{WRITE}=1 cargo test --test readme configuration writes {path}"
        );
    }
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
fn the_functions_that_the_architecture_says_decide_exist() {
    let architecture = text("ARCHITECTURE.md");
    let mut found = 0;
    for row in between(&architecture, "\n## Where is", "\n## ").lines() {
        let Some((_, row)) = row.split_once("| `src/") else { continue };
        let mut words = row.split('`').step_by(2);
        let file = words.next().unwrap();
        let source = text(&format!("src/{file}"));
        for function in words {
            let there = [format!("fn {function}("), format!("fn {function}<")];
            assert!(there.iter().any(|start| source.contains(start)), "{file}: {function}");
            found += 1;
        }
    }
    assert!(found > 30, "{found}");
}

#[test]
fn the_architecture_names_every_module() {
    let architecture = text("ARCHITECTURE.md");
    let library = text("src/lib.rs");
    let modules = library
        .lines()
        .filter_map(|line| line.split_once("mod ")?.1.strip_suffix(';'))
        .filter(|module| !architecture.contains(&format!("| `{module}` |")));
    assert_eq!(modules.collect::<Vec<_>>(), Vec::<&str>::new());
}

/// Returns the text without its blocks of code, in which nothing is a link or a heading.
fn prose(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// Returns the anchors of a document: those of its headings, as repository hosts make them, and those written out.
fn anchors(text: &str) -> BTreeSet<String> {
    let prose = prose(text);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    let written = prose.split("<a id=\"").skip(1).filter_map(|rest| rest.split('"').next());
    headings.map(anchor).chain(written.map(str::to_owned)).collect()
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

/// Paths in the documents count from the project's folder or from `src/`.
#[test]
fn files_and_folders_of_the_sources_that_the_documents_name_exist() {
    let mut named = 0;
    for document in documents() {
        let prose = prose(&text(&document));
        for path in prose.split('`').skip(1).step_by(2) {
            let ours = path.starts_with("src/") || path.starts_with("tests/");
            let file = path.contains('/') && Path::new(path).extension().is_some_and(|e| e == "rs");
            if (ours || file) && !path.contains(char::is_whitespace) {
                assert!(
                    here(path).exists() || here("src").join(path).exists(),
                    "{document}: {path}"
                );
                named += 1;
            }
        }
    }
    assert!(named > 100, "{named}");
}

/// Adds every Rust file below a folder.
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

/// Returns what is in quotes at the end of a text, or else at the beginning of the next one: a cited heading.
fn quoted<'a>(before: &'a str, after: &'a str) -> Option<&'a str> {
    let ahead = before.trim_end_matches('`').strip_suffix(" in ");
    let ahead = ahead.and_then(|text| text.strip_suffix('"')?.rsplit('"').next());
    let behind = after.trim_start_matches('`').strip_prefix(", \"");
    ahead.or_else(|| behind?.split('"').next())
}

#[test]
fn documents_and_headings_that_comments_cite_exist() {
    let mut files = Vec::new();
    for folder in ["src", "tests"] {
        sources(&here(folder), &mut files);
    }
    files.retain(|file| !file.ends_with("tests/readme.rs"));
    let headings: Vec<_> = text("docs/design.md")
        .lines()
        .filter_map(|line| line.strip_prefix("## ").map(str::to_owned))
        .collect();
    let mut cited = 0;
    for file in files {
        let source = fs::read_to_string(&file).unwrap();
        let lines =
            source.lines().map(|line| line.trim_start().trim_start_matches(['/', '!']).trim());
        let source = lines.collect::<Vec<_>>().join(" ");
        let pieces: Vec<_> = source.split("docs/").collect();
        for pair in pieces.windows(2) {
            let Some((name, after)) = pair[1].split_once(".md") else { continue };
            if !name.chars().all(|c| c.is_ascii_lowercase() || c == '-') {
                continue;
            }
            let document = here("docs").join(name).with_extension("md");
            assert!(document.exists(), "{}: {name}", file.display());
            if name == "design" {
                let heading = quoted(pair[0], after);
                let known =
                    heading.is_some_and(|cited| headings.iter().any(|known| known == cited));
                assert!(
                    known,
                    "{}: {heading:?} is not a heading of docs/design.md",
                    file.display()
                );
                cited += 1;
            }
        }
    }
    assert!(cited > 10, "{cited}");
}

#[test]
fn every_kind_of_answer_stands_on_the_troubleshooting_page() {
    let page = text("docs/troubleshoot.md");
    let table = text("src/proxy/failure/table.rs");
    let kinds: BTreeSet<_> = table
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
fn the_page_of_metrics_explains_every_reason() {
    let page = text("docs/metrics.md");
    let (_, reasons) = page.split_once("\n## Reasons\n").unwrap();
    let ends = EndReason::ALL.iter().map(|reason| reason.as_str());
    let new =
        Reuse::ALL.iter().filter(|reuse| **reuse != Reuse::Reused).map(|reuse| reuse.as_str());
    let missing: Vec<_> =
        ends.chain(new).filter(|reason| !reasons.contains(&format!("`{reason}`"))).collect();
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

/// Returns the text of every `warn!` and `error!` in these tokens, also of those in the braces of other macros.
fn warnings(tokens: TokenStream, found: &mut BTreeSet<String>) {
    let tokens: Vec<_> = tokens.into_iter().collect();
    for (at, token) in tokens.iter().enumerate() {
        let TokenTree::Group(group) = token else { continue };
        let is_warning = match &tokens[..at] {
            [.., TokenTree::Ident(name), TokenTree::Punct(mark)] => {
                mark.as_char() == '!' && (name == "warn" || name == "error")
            }
            _ => false,
        };
        if is_warning {
            found.extend(message(group.stream()));
        } else {
            warnings(group.stream(), found);
        }
    }
}

/// Returns the message of a line of the log: the first text in the macro's tokens that is not a field's value.
fn message(tokens: TokenStream) -> Option<String> {
    let tokens: Vec<_> = tokens.into_iter().collect();
    let is_value = |at: usize| {
        at > 0 && matches!(&tokens[at - 1], TokenTree::Punct(mark) if mark.as_char() == '=')
    };
    let mut texts = tokens.iter().enumerate().filter(|(at, _)| !is_value(*at));
    texts.find_map(|(_, token)| {
        let TokenTree::Literal(literal) = token else { return None };
        syn::parse_str::<syn::LitStr>(&literal.to_string()).ok().map(|text| text.value())
    })
}

#[test]
fn every_warning_and_error_of_the_log_stands_in_the_list_of_its_messages() {
    let page = text("docs/log.md");
    let mut files = Vec::new();
    sources(&here("src"), &mut files);
    files.retain(|file| !file.ends_with("tests.rs"));
    let mut found = BTreeSet::new();
    for file in files {
        let code: TokenStream = fs::read_to_string(&file).unwrap().parse().unwrap();
        warnings(code, &mut found);
    }
    assert!(found.len() > 35, "{found:?}");
    let resources = text("src/resources/mod.rs");
    let shortages =
        between(&resources, "fn consequence", "#[cfg(test)]").split('"').skip(1).step_by(2);
    found.extend(shortages.map(|text| text.split(':').next().unwrap().to_owned()));
    // A part in braces is filled in while the program runs.
    let fixed = |message: &str| {
        let parts =
            message.split('{').map(|part| part.rsplit('}').next().unwrap().trim().to_owned());
        parts.max_by_key(String::len).unwrap()
    };
    let missing: Vec<_> = found.iter().filter(|text| !page.contains(&fixed(text))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
