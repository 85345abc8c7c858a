//! The rules of the layers, checked in the code: imports point down, no cycles, and each file begins with a `//!`
//! comment. Functions are short, and all but the shortest have a doc comment.

#![allow(unreachable_pub, reason = "one crate without users: visibility inside it says enough")]
#![allow(clippy::unwrap_used, reason = "in a test, a panic is how it fails")]

mod comments;
mod functions;
mod imports;
mod layers;
mod rules;
mod source;
mod violations;

use std::{fs, path::Path};

use source::Source;

/// The length in lines that nine of ten functions must not exceed.
const LINES: usize = 20;

#[test]
fn imports_point_down_without_a_cycle_and_every_file_says_what_it_is_for() {
    let violations = rules::violations(&sources());
    let lines: Vec<_> = violations.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
}

#[test]
fn nine_of_ten_functions_have_at_most_20_lines() {
    let functions = functions::lengths(&sources());
    let ninth = functions::percentile(&functions, 90);
    let half = functions::percentile(&functions, 50);
    println!("{} functions: half have at most {half} lines, nine of ten {ninth}", functions.len());
    for longest in functions.iter().rev().take(20) {
        println!("{longest}");
    }
    assert!(ninth <= LINES, "{ninth} lines: split the longest (--nocapture names them)");
}

#[test]
fn each_function_of_six_lines_or_more_has_a_doc_comment() {
    let undocumented = comments::undocumented(&sources());
    let end = "write what it returns or changes, when it fails, and what None means";
    assert!(undocumented.is_empty(), "{end}:\n{}\n", undocumented.join("\n"));
}

/// Reads the library.
fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    find(Path::new(env!("CARGO_MANIFEST_DIR")), "src", &mut found);
    assert!(found.len() > 100, "{}", found.len());
    found
}

/// Reads all of a folder's sources.
fn find(project: &Path, folder: &str, found: &mut Vec<Source>) {
    for entry in fs::read_dir(project.join(folder)).unwrap() {
        let path = format!("{folder}/{}", entry.unwrap().file_name().to_str().unwrap());
        if project.join(&path).is_dir() {
            find(project, &path, found);
        } else if Path::new(&path).extension().is_some_and(|end| end == "rs") {
            found.push(Source::read(&path, &fs::read_to_string(project.join(&path)).unwrap()));
        }
    }
}
