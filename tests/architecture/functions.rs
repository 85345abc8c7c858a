//! The lengths of functions.

use std::fmt;

use proc_macro2::Span;
use syn::{
    Block, ImplItemFn, ItemFn, Signature, TraitItemFn,
    visit::{self, Visit},
};

use crate::source::{Source, is_of_tests};

/// A function's length, from the line of its `fn` to that of its closing brace.
pub struct Length {
    lines: usize,
    path: String,
    line: usize,
    name: String,
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {} lines", self.path, self.line, self.name, self.lines)
    }
}

/// Measures all functions but those of tests; the shortest comes first.
pub fn lengths(sources: &[Source]) -> Vec<Length> {
    let of_source = |source| {
        let mut visitor = LengthVisitor { source, found: Vec::new() };
        visitor.visit_file(&source.code);
        visitor.found
    };
    let mut all: Vec<_> =
        sources.iter().filter(|source| !is_of_tests(&source.module)).flat_map(of_source).collect();
    all.sort_by_key(|length| length.lines);
    all
}

/// Returns the length that this share of the functions, in percent, does not exceed.
pub fn percentile(sorted: &[Length], of_hundred: usize) -> usize {
    let count = (sorted.len() * of_hundred).div_ceil(100);
    sorted.get(count.saturating_sub(1)).map_or(0, |length| length.lines)
}

/// A walk through a file's code, which measures the functions.
struct LengthVisitor<'a> {
    source: &'a Source,
    found: Vec<Length>,
}

impl LengthVisitor<'_> {
    fn measure(&mut self, signature: &Signature, block: &Block) {
        let line = |span: Span| span.start().line;
        let first = line(signature.fn_token.span);
        self.found.push(Length {
            lines: line(block.brace_token.span.close()) + 1 - first,
            path: self.source.path.clone(),
            line: first,
            name: signature.ident.to_string(),
        });
    }
}

impl<'ast> Visit<'ast> for LengthVisitor<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.ident != "tests" {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        self.measure(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        self.measure(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast TraitItemFn) {
        if let Some(block) = &function.default {
            self.measure(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}
