//! A source file, and the paths that its code names.

use std::collections::BTreeMap;

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use syn::{
    AttrStyle, Attribute, File, ItemMacro, ItemMod, ItemUse, Macro, MetaList, Path, UseTree,
    VisRestricted,
    visit::{self, Visit},
};

/// The names that lead to a module or an item, from the crate's root on.
pub type Names = Vec<String>;

/// A source file.
pub struct Source {
    /// The path from the project's folder on, such as `src/pool/idle.rs`.
    pub path: String,
    /// The text.
    pub text: String,
    /// The parsed text.
    pub code: File,
    /// The module that the file holds; the root has no names.
    pub module: Names,
    /// The paths that the code names, in the order of the code.
    pub mentions: Vec<Mention>,
    /// The paths that are known in the file by another name, from a `use` or an exported macro.
    pub aliases: BTreeMap<Names, Mention>,
}

/// A path in code.
#[derive(Clone)]
pub struct Mention {
    /// The line of the path; of a path that ends in braces, the line of the name in them.
    pub line: usize,
    /// The module in whose code the path is.
    pub within: Names,
    /// The path's names as the code has them, such as `super`, `tokens`, `Lease`.
    pub written: Names,
}

impl Source {
    /// Reads a file's text.
    pub fn read(path: &str, text: &str) -> Self {
        let code = syn::parse_file(text).unwrap_or_else(|error| panic!("{path}: {error}"));
        let module = module(path);
        let mut visitor = PathVisitor { within: module.clone(), ..PathVisitor::default() };
        visitor.visit_file(&code);
        let PathVisitor { mentions, aliases, .. } = visitor;
        Self { path: path.into(), text: text.into(), code, module, mentions, aliases }
    }

    /// True if the file opens with a comment (`//!`).
    pub fn says_what_it_is_for(&self) -> bool {
        let opens = |attribute: &Attribute| {
            matches!(attribute.style, AttrStyle::Inner(_)) && attribute.path().is_ident("doc")
        };
        self.code.attrs.first().is_some_and(opens)
    }

    /// Returns the module of the crate's root that the file belongs to; `None` for the root itself.
    pub fn top_module(&self) -> Option<&str> {
        self.module.first().map(String::as_str)
    }
}

/// Returns the module that a file holds.
fn module(path: &str) -> Names {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs");
    let names = path.split('/').filter(|name| !matches!(*name, "lib" | "main" | "mod"));
    names.map(str::to_owned).collect()
}

/// True if the module has tests and nothing else.
pub fn is_of_tests(module: &[String]) -> bool {
    module.iter().any(|name| name == "tests")
}

/// A walk through a file's code, which collects the paths.
#[derive(Default)]
struct PathVisitor {
    within: Names,
    mentions: Vec<Mention>,
    aliases: BTreeMap<Names, Mention>,
}

impl PathVisitor {
    fn mention(&mut self, at: Span, written: Names) -> Mention {
        let mention = Mention { line: at.start().line, within: self.within.clone(), written };
        self.mentions.push(mention.clone());
        mention
    }

    /// Notes the paths of a `use`; `leading` are the names before this part of its tree.
    fn take(&mut self, leading: &[String], tree: &UseTree) {
        let all = |name: &Ident| [leading, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.take(&all(&path.ident), &path.tree),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.take(leading, tree)),
            UseTree::Glob(glob) => {
                self.mention(glob.star_token.spans[0], leading.to_vec());
            }
            UseTree::Name(name) if name.ident == "self" => {
                self.name(name.ident.span(), leading.to_vec(), leading.last().cloned());
            }
            UseTree::Name(name) => {
                self.name(name.ident.span(), all(&name.ident), Some(name.ident.to_string()));
            }
            UseTree::Rename(name) => {
                self.name(name.ident.span(), all(&name.ident), Some(name.rename.to_string()));
            }
        }
    }

    fn name(&mut self, at: Span, written: Names, alias: Option<String>) {
        let mention = self.mention(at, written);
        let alias = self.within.iter().cloned().chain(alias).collect();
        self.aliases.insert(alias, mention);
    }

    /// Notes the paths among tokens whose grammar only a macro knows.
    fn scan(&mut self, tokens: TokenStream) {
        let mut path: Vec<Ident> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Punct(sign) if sign.as_char() == ':' => colons += 1,
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.finish(&mut path);
                    }
                    path.push(name);
                    colons = 0;
                }
                token => {
                    self.finish(&mut path);
                    colons = 0;
                    if let TokenTree::Group(group) = token {
                        self.scan(group.stream());
                    }
                }
            }
        }
        self.finish(&mut path);
    }

    fn finish(&mut self, path: &mut Vec<Ident>) {
        if let Some(first) = path.first() {
            let at = first.span();
            self.mention(at, path.drain(..).map(|name| name.to_string()).collect());
        }
    }
}

impl<'ast> Visit<'ast> for PathVisitor {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.within.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.within.pop();
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.take(&[], &item.tree);
    }

    /// Leaves out `pub(super)` and its like, which import nothing.
    fn visit_vis_restricted(&mut self, _: &'ast VisRestricted) {}

    fn visit_path(&mut self, path: &'ast Path) {
        if let Some(first) = path.segments.first() {
            let names = path.segments.iter().map(|segment| segment.ident.to_string());
            self.mention(first.ident.span(), names.collect());
        }
        visit::visit_path(self, path);
    }

    /// Notes that an exported macro is known at the crate's root.
    fn visit_item_macro(&mut self, item: &'ast ItemMacro) {
        if item.attrs.iter().any(|attribute| attribute.path().is_ident("macro_export")) {
            let name = item.ident.iter().map(ToString::to_string);
            let written = ["crate".to_owned()].into_iter().chain(self.within.clone()).collect();
            let mention = Mention { line: 0, within: Names::new(), written };
            self.aliases.insert(name.collect(), mention);
        }
        visit::visit_item_macro(self, item);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        visit::visit_macro(self, call);
        self.scan(call.tokens.clone());
    }

    fn visit_meta_list(&mut self, list: &'ast MetaList) {
        visit::visit_meta_list(self, list);
        self.scan(list.tokens.clone());
    }
}
