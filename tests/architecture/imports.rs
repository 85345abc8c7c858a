//! The imports between files: each path in the code, followed to the module that it leads to.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{Mention, Names, Source, is_of_tests};

/// The most names that stand for each other on the way to one thing.
const MOST_ALIASES: usize = 20;

/// An import: a file whose code names something of another module.
pub struct Import<'a> {
    /// The file that imports.
    pub source: &'a Source,
    /// The line of the path.
    pub line: usize,
    /// The imported module.
    pub to: Names,
}

/// Returns the imports of all code but tests: tests may import everything.
pub fn imports<'a>(sources: &'a [Source]) -> Vec<Import<'a>> {
    let map = Map::new(sources);
    let mentions = sources.iter().flat_map(|source| {
        let mentions = source.mentions.iter().filter(|mention| !is_of_tests(&mention.within));
        mentions.map(move |mention| (source, mention))
    });
    let import = |(source, mention): (&'a Source, &Mention)| {
        let to = map.follow(mention)?;
        (to != source.module).then_some(Import { source, line: mention.line, to })
    };
    mentions.filter_map(import).collect()
}

/// The modules of the crate, and the names by which things of theirs are known elsewhere.
struct Map<'a> {
    modules: BTreeSet<&'a [String]>,
    aliases: BTreeMap<&'a [String], &'a Mention>,
}

impl<'a> Map<'a> {
    fn new(sources: &'a [Source]) -> Self {
        let aliases = sources.iter().flat_map(|source| &source.aliases);
        Self {
            modules: sources.iter().map(|source| source.module.as_slice()).collect(),
            aliases: aliases.map(|(name, mention)| (name.as_slice(), mention)).collect(),
        }
    }

    /// Returns the module that a path leads to, through every `use` that hands its thing on; `None` if the path leads to
    /// another crate or names something of its own file.
    fn follow(&self, mention: &Mention) -> Option<Names> {
        let mut path = self.absolute(&mention.within, &mention.written)?;
        for _ in 0..MOST_ALIASES {
            let (module, rest) = self.split(&path);
            let Some(alias) = rest.first().and_then(|_| self.aliases.get(&path[..=module.len()]))
            else {
                return Some(module.to_vec());
            };
            let further = [&alias.written, &rest[1..]].concat();
            path = self.absolute(&alias.within, &further)?;
        }
        None
    }

    /// Returns a path as it is from the crate's root on; `None` if that is not known.
    fn absolute(&self, within: &[String], written: &[String]) -> Option<Names> {
        let ups = written.iter().take_while(|name| *name == "super").count();
        let (from, rest) = match written.first()?.as_str() {
            "crate" => (&[][..], &written[1..]),
            "self" => (within, &written[1..]),
            "super" => (&within[..within.len().checked_sub(ups)?], &written[ups..]),
            name => {
                let child = [within, &[name.to_owned()]].concat();
                self.modules.contains(child.as_slice()).then_some((within, written))?
            }
        };
        Some([from, rest].concat())
    }

    /// Splits a path into the module that it leads to, and the names behind the module.
    fn split<'p>(&self, path: &'p [String]) -> (&'p [String], &'p [String]) {
        let depth = (0..=path.len()).rev().find(|depth| self.modules.contains(&path[..*depth]));
        path.split_at(depth.unwrap_or(0))
    }
}
