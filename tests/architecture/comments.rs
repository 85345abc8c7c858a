//! The functions that lack a doc comment.

use proc_macro2::Span;
use syn::{
    Attribute, Block, ImplItemFn, ItemFn, ItemImpl, ItemMod, Meta, Signature, TraitItemFn,
    visit::{self, Visit},
};

use crate::source::{Names, Source};

/// The least length in lines of a function that needs a doc comment.
const LINES: usize = 6;

/// Returns the functions of six lines or more, from `fn` to the closing brace, that lack a doc comment, in the form
/// `src/pool.rs:3: take`. Trait implementations and tests are exempt: the trait, or the test's name, says it.
pub fn undocumented(sources: &[Source]) -> Vec<String> {
    let tests: Vec<_> = sources.iter().flat_map(test_modules).collect();
    let is_of_tests =
        |source: &&Source| tests.iter().any(|module| source.module.starts_with(module));
    let functions = |source| {
        let mut visitor = CommentVisitor { source, found: Vec::new() };
        visitor.visit_file(&source.code);
        visitor.found
    };
    sources.iter().filter(|source| !is_of_tests(source)).flat_map(functions).collect()
}

/// Returns the modules that a file declares for tests alone, and that have files of their own.
fn test_modules(source: &Source) -> Vec<Names> {
    let modules = source.code.items.iter().filter_map(|item| match item {
        syn::Item::Mod(module) if is_for_tests(&module.attrs) => Some(module.ident.to_string()),
        _ => None,
    });
    modules.map(|name| source.module.iter().cloned().chain([name]).collect()).collect()
}

/// True if an item is a test (`#[test]`, `#[tokio::test]`), or compiled for tests alone (`#[cfg(test)]`).
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        meta => meta.path().segments.last().is_some_and(|last| last.ident == "test"),
    })
}

/// A walk through a file's code, which collects the functions without a doc comment.
struct CommentVisitor<'a> {
    source: &'a Source,
    found: Vec<String>,
}

impl CommentVisitor<'_> {
    /// Notes a function if it is long enough and has no doc comment.
    fn judge(&mut self, attributes: &[Attribute], signature: &Signature, block: &Block) {
        let line = |span: Span| span.start().line;
        let first = line(signature.fn_token.span);
        let lines = line(block.brace_token.span.close()) + 1 - first;
        let has_comment = attributes.iter().any(|attribute| attribute.path().is_ident("doc"));
        if lines >= LINES && !has_comment && !is_for_tests(attributes) {
            self.found.push(format!("{}:{first}: {}", self.source.path, signature.ident));
        }
    }
}

impl<'ast> Visit<'ast> for CommentVisitor<'_> {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        if item.trait_.is_none() && !is_for_tests(&item.attrs) {
            visit::visit_item_impl(self, item);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        self.judge(&function.attrs, &function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        self.judge(&function.attrs, &function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast TraitItemFn) {
        if let Some(block) = &function.default {
            self.judge(&function.attrs, &function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}
