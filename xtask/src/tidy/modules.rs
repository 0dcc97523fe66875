//! The modules of a crate, and which of them uses which.
//!
//! *Owns*: the map from files to modules, and the resolution of paths to modules.
//! *Does not own*: judging the graph (`cycles.rs`).
//!
//! Invariants
//! 1. A name that a module only hands on (`pub use`) leads to where it is defined, not to the facade.
//! 2. What is compiled for tests only makes no edge.
//!
//! *IO: none*

use std::collections::BTreeMap;

use super::files::{File, Tree};
use super::paths::{Reference, Seen, references};
use super::scan::{Block, Source, words};

/// The modules of one crate, by path from its root.
pub(crate) struct Modules<'a> {
    pub(crate) all: BTreeMap<Vec<String>, Module<'a>>,
}

/// One file's module.
pub(crate) struct Module<'a> {
    pub(crate) file: &'a File,
    source: &'a Source,
    references: Vec<Reference>,
    inline: Vec<Block>,
    /// Names that `use` brings in: where each leads, `None` when out of the crate.
    imports: BTreeMap<String, Option<Vec<String>>>,
}

/// A use of one module by another.
pub(crate) struct Edge {
    pub(crate) from: Vec<String>,
    pub(crate) to: Vec<String>,
    pub(crate) line: usize,
}

/// The folders that hold a crate, by their Cargo.toml.
pub(crate) fn crate_folders(tree: &Tree) -> Vec<&str> {
    tree.files
        .iter()
        .filter(|file| file.text.contains("[package]"))
        .filter_map(|file| file.path.strip_suffix("/Cargo.toml"))
        .collect()
}

impl<'a> Modules<'a> {
    /// The modules below `folder/src/`.
    pub(crate) fn of(tree: &'a Tree, folder: &str) -> Self {
        let prefix = format!("{folder}/src/");
        let has_library = tree.text(&format!("{prefix}lib.rs")).is_some();
        let mut all: BTreeMap<Vec<String>, Module<'a>> = BTreeMap::new();
        for (file, source) in tree
            .rust()
            .filter(|(file, _)| file.path.starts_with(&prefix) && !file.is_test())
        {
            let path = module_path(&file.path[prefix.len()..], has_library);
            let inline = source.inline_modules();
            all.insert(
                path,
                Module {
                    file,
                    source,
                    references: references(source),
                    inline,
                    imports: BTreeMap::new(),
                },
            );
        }
        let mut modules = Self { all };
        let imports: Vec<_> = modules
            .all
            .keys()
            .map(|path| (path.clone(), modules.imports_of(path)))
            .collect();
        for (path, imports) in imports {
            if let Some(module) = modules.all.get_mut(&path) {
                module.imports = imports;
            }
        }
        modules
    }

    /// Every use of a module by another one.
    pub(crate) fn edges(&self) -> Vec<Edge> {
        let mut edges = Vec::new();
        for (from, module) in &self.all {
            for reference in &module.references {
                if module.source.is_test(reference.at) || module.only_hands_on(reference) {
                    continue;
                }
                let Some(to) = self
                    .absolute(from, module, reference)
                    .and_then(|path| self.home(&path, 0))
                else {
                    continue;
                };
                if to != *from {
                    edges.push(Edge {
                        from: from.clone(),
                        to,
                        line: module.source.line(reference.at),
                    });
                }
            }
        }
        edges
    }

    fn imports_of(&self, path: &[String]) -> BTreeMap<String, Option<Vec<String>>> {
        let module = &self.all[path];
        let named = module
            .references
            .iter()
            .filter(|reference| !module.source.is_test(reference.at));
        named
            .filter_map(|reference| {
                reference
                    .import
                    .as_ref()
                    .map(|import| (import.name.clone(), self.absolute(path, module, reference)))
            })
            .collect()
    }

    /// The path from the crate's root; `None` when it leads out of the crate.
    fn absolute(
        &self,
        from: &[String],
        module: &Module<'_>,
        reference: &Reference,
    ) -> Option<Vec<String>> {
        let mut base = from.to_vec();
        base.extend(
            module
                .inline
                .iter()
                .filter(|block| block.span.contains(&reference.at))
                .map(|block| block.name.clone()),
        );
        let mut rest = reference.segments.as_slice();
        match rest.first()?.as_str() {
            "crate" => {
                base.clear();
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|segment| segment == "super") {
                    base.pop();
                    rest = &rest[1..];
                }
            }
            name => {
                let child: Vec<String> = from.iter().cloned().chain([name.to_owned()]).collect();
                if !self.all.contains_key(&child) {
                    return None;
                }
                base = from.to_vec();
            }
        }
        Some(base.into_iter().chain(rest.iter().cloned()).collect())
    }

    /// The module that defines what `path` names.
    fn home(&self, path: &[String], hops: usize) -> Option<Vec<String>> {
        let depth = (0..=path.len())
            .rev()
            .find(|&depth| self.all.contains_key(&path[..depth]))?;
        let (module, rest) = path.split_at(depth);
        match rest
            .first()
            .and_then(|name| self.all[module].imports.get(name))
        {
            Some(None) => None,
            Some(Some(target)) if hops < 8 => {
                let onward: Vec<String> = target
                    .iter()
                    .cloned()
                    .chain(rest[1..].iter().cloned())
                    .collect();
                self.home(&onward, hops + 1)
            }
            _ => Some(module.to_vec()),
        }
    }
}

impl Module<'_> {
    /// A `pub use` whose name the module itself does not touch.
    fn only_hands_on(&self, reference: &Reference) -> bool {
        reference.import.as_ref().is_some_and(|import| {
            import.seen != Seen::Here
                && words(&self.source.masked, &import.name).take(2).count() < 2
        })
    }
}

/// `tier/mod.rs` and `tier.rs` are `[tier]`, `lib.rs` is `[]`; beside a library, `main.rs` is a crate of its own.
fn module_path(inner: &str, has_library: bool) -> Vec<String> {
    let stem = inner.strip_suffix(".rs").unwrap_or(inner);
    let stem = stem.strip_suffix("/mod").unwrap_or(stem);
    if stem == "lib" || stem == "mod" || (stem == "main" && !has_library) {
        return Vec::new();
    }
    stem.split('/').map(str::to_owned).collect()
}
