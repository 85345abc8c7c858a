//! Libraries that each break one rule, and the texts of the violations.

use crate::{comments, functions, rules, source::Source};

const LIBRARY: &str = "//! A library.

// Top: what is seen.
pub mod shop;

// Middle: what is written.
pub mod config;
pub(crate) mod plan;

// Core.
pub mod pool;
mod tls;

// Ground.
pub mod clock;
";

/// Returns the violations in a library that has these files besides `src/lib.rs`.
fn violations(files: &[(&str, &str)]) -> Vec<String> {
    let files = [("src/lib.rs", LIBRARY)].into_iter().chain(files.iter().copied());
    let sources: Vec<_> = files.map(|(path, text)| Source::read(path, text)).collect();
    rules::violations(&sources).iter().map(ToString::to_string).collect()
}

/// Returns the violations in this code of a module `pool`, which has a file for each other module beside it.
fn violations_in_pool(code: &str) -> Vec<String> {
    let others = ["config", "plan", "shop", "tls", "clock"];
    let others = others.map(|module| (format!("src/{module}.rs"), "//! A module.\n"));
    let code = format!("//! The pool.\n{code}");
    let mut files: Vec<_> = others.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    files.push(("src/pool/mod.rs", &code));
    violations(&files)
}

const UP: &str = "`pool` imports `shop`, of a layer above it (Top); move what it needs down, or let the layer above hand it in";
const SIDEWAYS: &str = "`pool` imports `tls`, of its own layer (Core); move what both need to a layer below, or one of the two to a layer of its own";

#[test]
fn imports_from_layers_below_are_allowed() {
    let none: [String; 0] = [];
    assert_eq!(violations_in_pool("use crate::clock::{Clock, now};"), none);
    assert_eq!(violations_in_pool("use std::fmt; fn shop() { shop::open() }"), none);
}

#[test]
fn an_import_from_a_layer_above_is_refused_with_its_line() {
    let expected = [format!("src/pool/mod.rs:4: {UP}")];
    assert_eq!(
        violations_in_pool("use crate::{\n    clock::Clock,\n    shop::Till,\n};"),
        expected
    );
    assert_eq!(violations_in_pool("\n\nuse super::shop as market;"), expected);
}

#[test]
fn an_import_from_the_own_layer_is_refused() {
    let expected = [format!("src/pool/mod.rs:2: {SIDEWAYS}")];
    assert_eq!(violations_in_pool("pub use crate::tls::Key;"), expected);
    assert_eq!(violations_in_pool("use crate::tls::*;"), expected);
}

#[test]
fn a_path_counts_wherever_it_is_written() {
    let places = [
        "fn f() { crate::shop::open(); }",
        "fn f(_: &[super::shop::Till]) {}",
        "impl Into<crate::shop::Till> for u8 {}",
        "fn f() { println!(\"{}\", [crate::shop::OPEN]); }",
        "macro_rules! m { () => { $crate::shop::open() } }",
        "#[derive(crate::shop::Priced)] struct S;",
        "mod inner { fn f() { super::super::shop::open() } }",
    ];
    for place in places {
        assert_eq!(violations_in_pool(place), [format!("src/pool/mod.rs:2: {UP}")], "{place}");
    }
}

#[test]
fn tests_may_import_everything() {
    let tests = "#[cfg(test)]\nmod tests { use crate::{shop, tls}; }";
    assert_eq!(violations_in_pool(tests), Vec::<String>::new());
}

#[test]
fn an_import_is_followed_through_each_use_that_renames_or_reexports_it() {
    let files = [
        ("src/shop.rs", "//! The shop."),
        ("src/pool/mod.rs", "//! The pool.\nmod idle;\nuse crate::shop::Till;\n"),
        ("src/pool/idle.rs", "//! Idle.\nuse super::Till;\n"),
    ];
    let [pool, idle] = [("mod", 3), ("idle", 2)].map(|(f, l)| format!("src/pool/{f}.rs:{l}: {UP}"));
    assert_eq!(violations(&files), [pool, idle]);
}

#[test]
fn an_exported_macro_belongs_to_the_module_that_defines_it() {
    let files = [
        ("src/shop.rs", "//! The shop.\n#[macro_export]\nmacro_rules! label { () => {} }\n"),
        ("src/pool.rs", "//! The pool.\ncrate::label!();\n"),
    ];
    assert_eq!(violations(&files), [format!("src/pool.rs:2: {UP}")]);
}

#[test]
fn a_cycle_between_neighbours_is_refused_with_each_of_its_imports() {
    let files = [
        ("src/pool/mod.rs", "//! The pool.\nmod a;\nmod b;\nmod c;\npub use c::C;\n"),
        ("src/pool/a.rs", "//! A.\nuse super::b::B;\n"),
        ("src/pool/b/mod.rs", "//! B.\nmod inner;\n"),
        ("src/pool/b/inner.rs", "//! Inside B.\n\nuse crate::pool::C;\n"),
        ("src/pool/c.rs", "//! C.\nfn f() { super::a::f() }\n"),
    ];
    let expected = "src/pool/a.rs:2: a cycle: src/pool/a.rs:2 imports `pool::b`, src/pool/b/inner.rs:3 imports `pool::c`, \
        src/pool/c.rs:2 imports `pool::a`; move what the first and the last share to a module that both import";
    assert_eq!(violations(&files), [expected]);
}

#[test]
fn a_module_and_its_submodules_may_import_each_other() {
    let files = [
        ("src/pool/mod.rs", "//! The pool.\nmod idle;\nuse idle::Idle;\nstruct Pool(Idle);\n"),
        ("src/pool/idle.rs", "//! Idle.\nuse super::Pool;\n"),
    ];
    assert_eq!(violations(&files), Vec::<String>::new());
}

#[test]
fn a_file_that_does_not_say_what_it_is_for_is_refused() {
    for text in ["", "// A module.\n", "use std::fmt;\n", "/// A type.\nstruct S;\n"] {
        let expected = "src/pool.rs:1: the file does not say what it is for; begin it with a `//!` comment that does";
        assert_eq!(violations(&[("src/pool.rs", text)]), [expected]);
    }
}

#[test]
fn a_module_without_a_layer_is_refused() {
    let files =
        [("src/cellar.rs", "//! A module.\nuse crate::clock;\n"), ("src/clock.rs", "//! Time.\n")];
    let expected =
        "src/cellar.rs:2: `cellar` is in no layer; name it in a group of `mod` lines in src/lib.rs";
    assert_eq!(violations(&files), [expected]);
}

#[test]
fn a_crate_that_is_forbidden_in_a_module_is_refused() {
    let end = "take a plain type, which a layer above makes";
    let expected = |name| [format!("src/pool/mod.rs:2: `pool` knows the crate `{name}`; {end}")];
    assert_eq!(violations_in_pool("use hyper::Request;"), expected("hyper"));
    assert_eq!(violations_in_pool("#[derive(serde::Serialize)] struct S;"), expected("serde"));
    let config = ("src/config.rs", "//! Settings.\nuse serde_json::Value;\nuse hyper::Uri;\n");
    assert_eq!(violations(&[config]), Vec::<String>::new());
}

#[test]
fn functions_are_measured_from_the_first_line_to_the_closing_brace_and_tests_are_not() {
    let text = "//! A module.\nfn one() {}\ntrait T {\n    fn none();\n    fn two() {\n    }\n}\n\
        mod tests {\n    fn long() {\n\n\n\n\n    }\n}\nimpl S {\n    pub async fn three(\n    ) {}\n}\n";
    let lengths = functions::lengths(&[Source::read("src/pool.rs", text)]);
    let lines: Vec<_> = lengths.iter().map(ToString::to_string).collect();
    let expected = ["2: one: 1 lines", "5: two: 2 lines", "17: three: 2 lines"];
    assert_eq!(lines, expected.map(|length| format!("src/pool.rs:{length}")));
    assert_eq!([33, 34, 100].map(|share| functions::percentile(&lengths, share)), [1, 2, 2]);
}

#[test]
fn a_function_of_six_lines_without_a_doc_comment_is_refused_but_for_tests_and_trait_implementations()
 {
    let long = |before: &str, name: &str| format!("{before}fn {name}() {{\n\n\n\n\n}}\n");
    let bare = |name| long("", name);
    let code = [
        "//! A module.\n".to_owned(),
        bare("free"),
        long("/// Does it.\n#[cold]\n", "documented"),
        long("#[cold]\n// A plain comment.\n", "with_a_plain_comment"),
        "fn short() {\n\n\n\n}\n".to_owned(),
        format!("trait T {{\n{}fn none(&self);\n}}\n", bare("provided")),
        format!("impl T for S {{\n{}}}\n", bare("implemented")),
        format!("impl S {{\n{}}}\n", bare("method")),
        format!("fn outer() {{\n{}}}\n", bare("inner")),
        long("#[test]\n", "a_test"),
        long("#[tokio::test]\n", "an_async_test"),
        format!("#[cfg(test)]\nmod trials {{\n{}}}\n", bare("helper")),
        format!("mod part {{\n{}}}\n", bare("in_part")),
        "#[cfg(test)]\nmod scenes;\n".to_owned(),
    ];
    let file = Source::read("src/pool/mod.rs", &code.concat());
    let of_tests = Source::read("src/pool/scenes/first.rs", &bare("scene"));
    let found = comments::undocumented(&[file, of_tests]);
    let names: Vec<_> = found.iter().filter_map(|found| found.rsplit_once(": ")).collect();
    let names: Vec<_> = names.iter().map(|(_, name)| *name).collect();
    let expected =
        ["free", "with_a_plain_comment", "provided", "method", "outer", "inner", "in_part"];
    assert_eq!(names, expected);
    assert_eq!(found[0], "src/pool/mod.rs:2: free");
}
