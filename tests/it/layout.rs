//! The layout of `src/`: which module, and which file, may name which.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The groups of modules in `lib.rs`, from the top.
fn groups() -> Vec<Vec<&'static str>> {
    let (_, modules) = include_str!("../../src/lib.rs").split_once("\n\n//").expect("the groups begin");
    let module = |line: &'static str| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';');
    modules.split("\n\n").map(|group| group.lines().filter_map(module).collect()).collect()
}

#[test]
fn a_module_depends_on_its_own_group_and_those_below_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let groups = groups();
    let level = |module: &str| groups.iter().position(|group| group.contains(&module));
    let mut seen = 0;
    for module in groups.iter().flatten() {
        let paths = [source.join(format!("{module}.rs")), source.join(module)];
        let files = paths.iter().filter(|path| path.exists()).flat_map(|path| files_of(path));
        let names: BTreeSet<_> = files.flat_map(|file| names_after(&code_of(&file), "crate::")).collect();
        for name in names.iter().filter(|name| name != module) {
            let (here, there) = (level(module), level(name).unwrap_or_else(|| panic!("{name} is in no group")));
            assert!(here <= Some(there), "{module} depends on {name}, which stands above it in lib.rs");
            seen += 1;
        }
    }
    assert!(seen > 100, "only {seen} were seen");
}

/// The Rust files below `path`, or `path` itself, without tests.
fn files_of(path: &Path) -> Vec<PathBuf> {
    if path.to_string_lossy().contains("tests") {
        return Vec::new();
    }
    match std::fs::read_dir(path) {
        Ok(entries) => entries.flat_map(|entry| files_of(&entry.unwrap().path())).collect(),
        Err(_) => vec![path.to_owned()],
    }
}

/// The code of a file, without comments and tests.
fn code_of(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = code.lines().map(|line| line.split("//").next().unwrap());
    lines.collect::<Vec<_>>().join(" ")
}

/// The names that follow `prefix` in `code`, one level deep in braces.
fn names_after(code: &str, prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    let first = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    for (at, _) in code.match_indices(prefix) {
        if code[..at].ends_with(|before: char| before.is_alphanumeric() || before == ':' || before == '_') {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        let Some(list) = rest.strip_prefix('{') else {
            names.push(first(rest));
            continue;
        };
        let (mut depth, mut is_start) = (0, true);
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => is_start = true,
                _ if is_start && !c.is_whitespace() => {
                    names.push(first(&list[at..]));
                    is_start = false;
                }
                _ => {}
            }
        }
    }
    names
}

/// For each module of `folder`, the others in it that its code names.
fn references_in(source: &Path, folder: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let name = |path: &Path| path.file_stem().unwrap().to_string_lossy().into_owned();
    let is_module = |path: &&PathBuf| path.is_dir() || path.extension().is_some_and(|extension| extension == "rs");
    let modules = entries.iter().filter(is_module).filter(|path| !["mod", "lib", "main"].contains(&&*name(path)));
    let mut references: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let inside = folder.strip_prefix(source).unwrap().components().map(|part| part.as_os_str().to_string_lossy());
    let absolute = ["crate".into()].into_iter().chain(inside).chain(["".into()]).collect::<Vec<_>>().join("::");
    for module in modules {
        let named = references.entry(name(module)).or_default();
        for file in files_of(module) {
            let below = file.strip_prefix(folder).unwrap().components().count();
            let up = if file.ends_with("mod.rs") { below - 1 } else { below };
            let code = code_of(&file);
            named.extend(names_after(&code, &absolute));
            named.extend(names_after(&code, &"super::".repeat(up)));
        }
    }
    let known: BTreeSet<_> = references.keys().cloned().collect();
    for (module, named) in &mut references {
        named.retain(|name| known.contains(name) && name != module);
    }
    references
}

#[test]
fn no_files_of_a_folder_depend_on_each_other_in_a_circle() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut seen) = (vec![source.clone()], 0);
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        folders.extend(entries.filter(|path| path.is_dir() && !path.to_string_lossy().contains("tests")));
        let mut references = references_in(&source, &folder);
        seen += references.values().map(BTreeSet::len).sum::<usize>();
        // Whatever names no other file is taken away, until nothing is left but circles.
        loop {
            let done: Vec<_> =
                references.iter().filter(|(_, named)| named.is_empty()).map(|(module, _)| module.clone()).collect();
            if done.is_empty() {
                break;
            }
            for module in done {
                references.remove(&module);
                for named in references.values_mut() {
                    named.remove(&module);
                }
            }
        }
        assert!(references.is_empty(), "{}: {references:?}", folder.display());
    }
    assert!(seen > 150, "only {seen} were seen");
}

/// The types that have an `impl` block in a file, also one for a trait.
fn implemented_in(file: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let name = |line: &str| {
        let rest = line.strip_prefix("impl")?;
        let head = if rest.starts_with('<') { rest.split_once("> ")?.1 } else { rest.trim() };
        let of = head.split_once(" for ").map_or(head, |(_, of)| of);
        Some(of.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
    };
    code.lines().filter_map(name).filter(|name: &String| !name.is_empty()).collect()
}

#[test]
fn no_type_has_its_methods_in_more_than_two_files() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![source];
    let (mut scattered, mut seen) = (Vec::new(), 0);
    while let Some(folder) = folders.pop() {
        let mut files: BTreeMap<String, BTreeSet<PathBuf>> = BTreeMap::new();
        for entry in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() && !entry.to_string_lossy().contains("tests") {
                folders.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") && !files_of(&entry).is_empty() {
                for name in implemented_in(&entry) {
                    files.entry(name).or_default().insert(entry.clone());
                }
            }
        }
        seen += files.len();
        scattered.extend(files.into_iter().filter(|(_, files)| files.len() > 2));
    }
    assert!(seen > 150, "only {seen} were seen");
    assert!(scattered.is_empty(), "{scattered:#?}");
}
