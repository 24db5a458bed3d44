//! Keeps the house in shape: floors, no rings, short files, a line of introduction in each, a map that is true.
//!
//! Reads the sources as text and needs nothing but the standard library, so it is the first test to run and the fastest to fail.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Every room of the house, its floor, and the neighbours on its own floor it may use; lowest floor first.
///
/// A room may use any room on a lower floor, and no other, unless [`FORBIDDEN`] says so.
const ROOMS: &[(&str, u8, &[&str])] = &[
    ("base", 0, &[]),
    ("config", 1, &[]),
    ("model", 1, &[]),
    ("protocol", 1, &["model"]),
    ("messenger", 2, &[]),
    ("store", 2, &[]),
    ("auth", 3, &[]),
    ("live", 3, &[]),
    ("control", 3, &["auth"]),
    ("service", 3, &[]),
    ("api", 4, &[]),
    ("web", 4, &[]),
    ("app", 5, &[]),
];

/// Stairs that exist but must not be taken: what is seen must come through the messenger.
const FORBIDDEN: &[(&str, &str)] =
    &[("web", "service"), ("api", "service"), ("messenger", "protocol"), ("messenger", "model")];

/// Longest file, not counting its test module.
const MAX_LINES: usize = 400;

/// What begins the test module at the end of a file; where its made-up values serve other files' tests, the second.
const TESTS: [&str; 2] = ["\n#[cfg(test)]\nmod tests {", "\n#[cfg(test)]\npub(crate) mod tests {"];

/// Marks of work that was put off.
const UNFINISHED: &[&str] = &["TODO", "FIXME", "unimplemented!(", "todo!("];

/// One Rust file under `src`.
struct Source {
    path: PathBuf,
    /// Its place as a module: `["messenger", "secure", "keys"]`; a `mod.rs` has its folder's.
    module: Vec<String>,
    /// Whether it is an index (`mod.rs`, `lib.rs`, `main.rs`).
    index: bool,
    /// Everything.
    text: String,
    /// Without its test module.
    code: String,
}

impl Source {
    fn room(&self) -> &str {
        &self.module[0]
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file under `folder` with this extension, in order.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("a folder can be listed").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn sources() -> Vec<Source> {
    let root = root().join("src");
    let found: Vec<_> = files(&root, "rs")
        .into_iter()
        .map(|path| {
            let text = read(&path);
            let code = without_tests(&text).to_owned();
            let inside = path.strip_prefix(&root).expect("it was found below").with_extension("");
            let mut module: Vec<String> =
                inside.iter().map(|part| part.to_str().expect("names are UTF-8").to_owned()).collect();
            let last = module.last().cloned().unwrap_or_default();
            if last == "mod" {
                module.pop();
            }
            let index = ["mod", "lib", "main"].contains(&last.as_str());
            Source { path, module, index, text, code }
        })
        .collect();
    assert!(found.len() > 30, "only {} sources were found: this test looks in the wrong place", found.len());
    found
}

fn without_tests(text: &str) -> &str {
    TESTS.iter().find_map(|begin| text.split_once(begin)).map_or(text, |(code, _)| code)
}

/// Code without comments. A `//` in a string cuts that line short, which loses nothing here.
fn without_comments(code: &str) -> String {
    code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Paths after `prefix` in code, each as its segments; a group `{a, b::{c, d}}` gives every leaf.
fn paths_after(code: &str, prefix: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        // `my_crate::` is not `crate::`
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        leaves(&mut code[at + prefix.len()..].chars().peekable(), &mut Vec::new(), &mut found);
    }
    found
}

/// Reads one path, or a group of them, and adds every leaf.
fn leaves(text: &mut std::iter::Peekable<std::str::Chars<'_>>, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    let depth = path.len();
    loop {
        let mut word = String::new();
        while let Some(c) = text.next_if(|c| c.is_alphanumeric() || *c == '_' || *c == '*') {
            word.push(c);
        }
        if !word.is_empty() {
            path.push(word);
        }
        if text.peek() == Some(&'{') && path.len() >= depth {
            text.next();
            loop {
                while text.next_if(|c| c.is_whitespace() || *c == ',').is_some() {}
                match text.peek() {
                    None | Some('}') => break,
                    Some(c) if c.is_alphanumeric() || *c == '_' || *c == '*' => leaves(text, path, found),
                    // not a group of names after all (a block after a path)
                    Some(_) => break,
                }
            }
            text.next();
            path.truncate(depth);
            return;
        }
        // two colons go on; one, or anything else, ends the path
        if text.peek() == Some(&':') {
            text.next();
            if text.next_if_eq(&':').is_some() {
                continue;
            }
        }
        found.push(path.clone());
        path.truncate(depth);
        return;
    }
}

fn used_rooms(code: &str) -> BTreeSet<String> {
    let code = without_comments(code);
    ["crate::", "switchboard::"]
        .iter()
        .flat_map(|prefix| paths_after(&code, prefix))
        .filter_map(|path| path.into_iter().next())
        .collect()
}

fn room(name: &str) -> Option<&'static (&'static str, u8, &'static [&'static str])> {
    ROOMS.iter().find(|(room, ..)| *room == name)
}

fn nothing(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn rooms_use_only_lower_floors() {
    let mut wrong = Vec::new();
    let mut stairs = 0;
    for source in sources() {
        let Some((name, floor, neighbours)) = room(source.room()) else { continue };
        for other in used_rooms(&source.code) {
            let Some((_, below, _)) = room(&other) else { continue };
            stairs += 1;
            let allowed = other == *name || below < floor || neighbours.contains(&other.as_str());
            if !allowed || FORBIDDEN.contains(&(*name, other.as_str())) {
                wrong.push(format!("{}: {name} may not use {other}", source.path.display()));
            }
        }
    }
    nothing(&wrong);
    assert!(stairs > 50, "only {stairs} uses were found: this test reads nothing");
}

#[test]
fn rooms_and_folders_are_the_same() {
    let known: BTreeSet<&str> = ROOMS.iter().map(|(name, ..)| *name).chain(["lib", "main"]).collect();
    let sources = sources();
    let there: BTreeSet<&str> = sources.iter().map(Source::room).collect();
    assert_eq!(there, known, "folders and files of src (left) and what the table knows (right)");
}

#[test]
fn the_map_names_every_room_in_floor_order() {
    let map = read(&root().join("src/lib.rs"));
    let declared: Vec<&str> = map.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let floors: Vec<u8> =
        declared.iter().map(|name| room(name).unwrap_or_else(|| panic!("`pub mod {name}` is no room")).1).collect();
    assert!(
        floors.is_sorted(),
        "`pub mod` lines of src/lib.rs are not in floor order: {declared:?} on floors {floors:?}"
    );
    assert_eq!(declared.len(), ROOMS.len(), "src/lib.rs declares {declared:?}");
    let header: String = map.lines().take_while(|line| line.starts_with("//!")).collect::<Vec<_>>().join("\n");
    let words: BTreeSet<&str> = header.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
    let missing: Vec<_> = ROOMS.iter().filter(|(name, ..)| !words.contains(name)).map(|(name, ..)| *name).collect();
    assert!(missing.is_empty(), "the map on top of src/lib.rs does not name {missing:?}");
}

#[test]
fn files_are_short_and_introduce_themselves() {
    let mut wrong = Vec::new();
    for source in sources() {
        let path = source.path.display();
        let lines = source.code.lines().count();
        if lines > MAX_LINES {
            wrong.push(format!("{path}: {lines} lines, more than {MAX_LINES}"));
        }
        if !source.code.starts_with("//! ") {
            wrong.push(format!("{path}: no //! line at the top"));
        }
        // both would let a path climb the stairs unseen
        let code = without_comments(&source.code);
        if code.contains("super::super") || (source.module == ["lib"] && code.contains("pub use")) {
            wrong.push(format!("{path}: hides a path from this test"));
        }
        // a second one, or one written otherwise, would count as production code or hide it
        if source.text.matches("#[cfg(test)]\nmod ").count() > 1 {
            wrong.push(format!("{path}: more than one test module"));
        }
    }
    nothing(&wrong);
}

#[test]
fn nothing_is_unfinished() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (number, line) in source.text.lines().enumerate() {
            for mark in UNFINISHED.iter().filter(|mark| line.contains(**mark)) {
                wrong.push(format!("{}:{}: {mark}", source.path.display(), number + 1));
            }
        }
    }
    nothing(&wrong);
}

/// An error's text says what failed, its source why; `base::chain` writes both, each once.
#[test]
fn no_error_says_its_source_itself() {
    let mut wrong = Vec::new();
    for source in sources() {
        if source.code.contains(":#}") {
            wrong.push(format!("{}: `:#` repeats causes; base::chain::chain does not", source.path.display()));
        }
        for declared in source.code.split("#[error(").skip(1) {
            let (text, item) = declared.split_once(")]").unwrap_or((declared, ""));
            let item = item.split("\n    ///").next().unwrap_or_default();
            let keeps_source = ["#[from]", "#[source]", "source:"].iter().any(|mark| item.contains(mark));
            if keeps_source && (text.contains("{0") || text.contains("{source")) {
                wrong.push(format!("{}: {text} says its source itself", source.path.display()));
            }
        }
    }
    nothing(&wrong);
}

#[test]
fn every_page_template_has_its_twin() {
    let pages = root().join("src/web/pages");
    let templates = root().join("templates/pages");
    let mut wrong = Vec::new();
    for template in files(&templates, "html") {
        let twin = pages.join(template.strip_prefix(&templates).unwrap().with_extension(""));
        if !twin.with_extension("rs").exists() && !twin.join("mod.rs").exists() {
            wrong.push(format!("{} has no {}.rs", template.display(), twin.display()));
        }
    }
    nothing(&wrong);
}

#[test]
fn every_test_file_is_registered() {
    // a file of a test's folder that main.rs does not name is never compiled
    let mut wrong = Vec::new();
    for folder in ["tests/integration", "tests/e2e"] {
        let folder = root().join(folder);
        if !folder.exists() {
            continue;
        }
        for file in files(&folder, "rs") {
            let name = file.file_stem().unwrap().to_str().unwrap();
            let mut parent = file.parent().unwrap().to_owned();
            if name == "mod" {
                parent.pop();
            }
            let name = if name == "mod" { file.parent().unwrap().file_name().unwrap().to_str().unwrap() } else { name };
            let index = match parent.join("mod.rs") {
                _ if parent == folder => parent.join("main.rs"),
                inside if inside.exists() => inside,
                _ => parent.with_extension("rs"),
            };
            if file != index
                && !read(&index).lines().any(|line| {
                    line.trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ") == format!("mod {name};")
                })
            {
                wrong.push(format!("{}: not named in {}", file.display(), index.display()));
            }
        }
    }
    nothing(&wrong);
}

#[test]
fn links_of_the_documents_lead_somewhere() {
    let mut documents: Vec<_> = files(&root().join("docs"), "md");
    documents.extend(["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root().join(name)));
    let mut wrong = Vec::new();
    for document in documents {
        let text = read(&document);
        for (at, _) in text.match_indices("](") {
            let link = text[at + 2..].split([')', ' ', '\n']).next().unwrap();
            let file = link.split('#').next().unwrap();
            let elsewhere = link.contains("://") || link.starts_with("mailto:") || file.is_empty();
            if !elsewhere && !document.parent().unwrap().join(file).exists() {
                wrong.push(format!("{}: {link} leads nowhere", document.display()));
            }
        }
    }
    nothing(&wrong);
}

#[test]
fn files_of_a_room_form_no_ring() {
    // An index (mod.rs) is what its room has in common: its files may use it, and it declares them.
    let sources = sources();
    let modules: BTreeSet<&[String]> =
        sources.iter().filter(|source| !source.index).map(|source| source.module.as_slice()).collect();
    let mut edges: BTreeMap<&[String], BTreeSet<&[String]>> = BTreeMap::new();
    for source in sources.iter().filter(|source| !source.index) {
        let code = without_comments(&source.code);
        let absolute = paths_after(&code, "crate::");
        let parent = &source.module[..source.module.len() - 1];
        let relative = paths_after(&code, "super::").into_iter().map(|path| [parent, &path].concat());
        let inside = paths_after(&code, "self::").into_iter().map(|path| [&source.module[..], &path].concat());
        for path in absolute.into_iter().chain(relative).chain(inside) {
            // the longest part of the path that is a file
            let file = (1..=path.len()).rev().find_map(|end| modules.get(&path[..end]));
            if let Some(file) = file.filter(|file| file[0] == source.module[0] && **file != source.module) {
                edges.entry(&source.module).or_default().insert(file);
            }
        }
    }
    assert!(edges.len() > 5, "only {} files use a neighbour: this test reads nothing", edges.len());
    let mut done = BTreeSet::new();
    for start in edges.keys() {
        if let Some(ring) = ring_from(start, &edges, &mut Vec::new(), &mut done) {
            panic!("a ring: {ring}");
        }
    }
}

/// Walks the edges; a file met again on the way to it closes a ring.
fn ring_from<'a>(
    at: &'a [String],
    edges: &BTreeMap<&'a [String], BTreeSet<&'a [String]>>,
    way: &mut Vec<&'a [String]>,
    done: &mut BTreeSet<&'a [String]>,
) -> Option<String> {
    if let Some(first) = way.iter().position(|file| *file == at) {
        let ring: Vec<_> = way[first..].iter().chain([&at]).map(|file| file.join("::")).collect();
        return Some(ring.join(" -> "));
    }
    if !done.insert(at) {
        return None;
    }
    way.push(at);
    let found = edges.get(at).into_iter().flatten().find_map(|next| ring_from(next, edges, way, done));
    way.pop();
    found
}

#[test]
fn this_test_reads_code_as_it_should() {
    let code = "use crate::{model, store::{error::Error, Store}};\nlet x: crate::base::clock::Timestamp = y; // crate::web::nothing\n\
                fn f() -> my_crate::app::X { crate::live::hub::new() }";
    let rooms: Vec<_> = used_rooms(code).into_iter().collect();
    assert_eq!(rooms, ["base", "live", "model", "store"]);
    let paths = paths_after("use super::{frame::{self, Frame}, link};", "super::");
    assert_eq!(paths, [vec!["frame", "self"], vec!["frame", "Frame"], vec!["link"]]);
    assert_eq!(without_tests("a\n#[cfg(test)]\nmod tests {\n}\n"), "a");
    assert_eq!(without_tests("a\n#[cfg(test)]\nfn only_in_tests() {}\n"), "a\n#[cfg(test)]\nfn only_in_tests() {}\n");
    let name = |text: &str| vec!["room".to_owned(), text.to_owned()];
    let (a, b, c) = (name("a"), name("b"), name("c"));
    let edges = BTreeMap::from([
        (&a[..], BTreeSet::from([&b[..]])),
        (&b[..], BTreeSet::from([&c[..]])),
        (&c[..], BTreeSet::from([&b[..]])),
    ]);
    let found = ring_from(&a, &edges, &mut Vec::new(), &mut BTreeSet::new());
    assert_eq!(found.as_deref(), Some("room::b -> room::c -> room::b"));
}
