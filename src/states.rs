//! Tests only. Holds docs/STATES.md, the tree of docs/ARCHITECTURE.md and the names in
//! docs/SECURITY.md against the sources.
//!
//! In go the two pages and the text of every file in src; out come the differences, in both
//! directions. Sources are read as text, so that a machine cannot be forgotten here.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A state machine, as the code or the page has it.
#[derive(Clone, Debug, Default)]
struct Drawn {
    name: String,
    /// The file it is in, as a path from the top.
    file: String,
    states: BTreeSet<String>,
    arrows: BTreeSet<(String, String)>,
}

#[test]
fn diagrams_and_code_have_the_same_machines_states_and_arrows() {
    let (code, page) = (machines_in_code(), machines_on_page(&read("docs/STATES.md")));
    assert!(code.len() >= 9, "only {} machines were found", code.len());
    let differences = differences(&code, &page);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// The comparison itself: with any arrow taken away on either side it finds a difference.
#[test]
fn an_arrow_missing_on_either_side_is_found() {
    let (code, text) = (machines_in_code(), read("docs/STATES.md"));
    let page = machines_on_page(&text);
    for (nth, machine) in code.iter().enumerate() {
        for arrow in &machine.arrows {
            let mut poorer = code.clone();
            poorer[nth].arrows.remove(arrow);
            assert!(!differences(&poorer, &page).is_empty(), "{} {arrow:?}", machine.name);
        }
        let mut fewer = code.clone();
        fewer.remove(nth);
        assert!(!differences(&fewer, &page).is_empty(), "{}", machine.name);
    }
    let lines: Vec<&str> = text.lines().collect();
    let is_arrow = |line: &str| line.starts_with("    ") && !line.contains(ENDS);
    for (nth, line) in lines.iter().enumerate().filter(|(_, line)| is_arrow(line)) {
        let poorer: Vec<&str> = [&lines[..nth], &lines[nth + 1..]].concat();
        let page = machines_on_page(&poorer.join("\n"));
        assert!(!differences(&code, &page).is_empty(), "without line {}: {line}", nth + 1);
    }
}

/// Each limit is where the page says, and each file that holds a promise is there.
#[test]
fn the_limits_and_tests_of_the_security_page_exist() {
    let page = read("docs/SECURITY.md");
    let mut constants = 0;
    for row in page.lines().filter(|line| line.starts_with("| ")) {
        let place = row.rsplit('|').nth(1).unwrap_or_default();
        for part in place.split(';') {
            let quoted: Vec<&str> = part.split('`').skip(1).step_by(2).collect();
            let Some((file, names)) = quoted.split_last() else { continue };
            if file.ends_with(".rs") {
                let text = read(file);
                assert!(names.iter().all(|name| text.contains(&format!("const {name}:"))), "{row}");
                constants += names.len();
            } else {
                let fields = quoted.iter().filter_map(|name| name.strip_prefix("Settings::"));
                let settings = read("src/settings.rs");
                fields
                    .for_each(|name| assert!(settings.contains(&format!("pub {name}:")), "{row}"));
            }
        }
    }
    assert!(constants > 15, "only {constants} were found");
    let named = page.split('`').skip(1).step_by(2);
    let files = named.filter(|name| ["src/", "tests/"].iter().any(|top| name.starts_with(top)));
    // A package has no tests beside it.
    let is_here = |file: &&str| file.starts_with("src/") || top().join("tests").exists();
    for file in files.filter(is_here) {
        assert!(top().join(file).exists(), "{file}");
    }
}

#[test]
fn the_tree_names_every_source_and_nothing_else() {
    let page = read("docs/ARCHITECTURE.md");
    let tree = page.split("\n## The tree\n").nth(1).unwrap().split("```").nth(1).unwrap();
    let named: BTreeSet<String> = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|word| word.starts_with("src/"))
        .map(str::to_owned)
        .collect();
    let there: BTreeSet<String> = sources().iter().map(|path| from_top(path)).collect();
    let is_covered = |file: &String| {
        named.contains(file) || named.iter().any(|n| n.ends_with('/') && file.starts_with(n))
    };
    let unnamed: Vec<_> = there.iter().filter(|file| !is_covered(file)).collect();
    let gone: Vec<_> = named.iter().filter(|name| !top().join(name).exists()).collect();
    assert!(unnamed.is_empty() && gone.is_empty(), "not named: {unnamed:?}, gone: {gone:?}");
}

/// What the one has and the other has not, in words.
fn differences(code: &[Drawn], page: &[Drawn]) -> Vec<String> {
    let names = |list: &[Drawn]| list.iter().map(|machine| machine.name.clone()).collect();
    let (in_code, on_page): (Vec<String>, Vec<String>) = (names(code), names(page));
    let mut found = Vec::new();
    for name in in_code.iter().filter(|name| in_code.iter().filter(|n| n == name).count() > 1) {
        found.push(format!("two machines have the name {name}"));
    }
    found.extend(only_in(&in_code, &on_page).map(|name| format!("{name} has no diagram")));
    found.extend(only_in(&on_page, &in_code).map(|name| format!("{name} is no machine")));
    for (one, other) in code.iter().flat_map(|one| page.iter().map(move |other| (one, other))) {
        if one.name != other.name {
            continue;
        }
        let name = &one.name;
        if one.file != other.file {
            found.push(format!("{name} is in {}, not in {}", one.file, other.file));
        }
        for (from, to) in one.arrows.symmetric_difference(&other.arrows) {
            let drawn = other.arrows.contains(&(from.clone(), to.clone()));
            let where_ = if drawn { "drawn, not in ARROWS" } else { "in ARROWS, not drawn" };
            found.push(format!("{name}: {from} --> {to} is {where_}"));
        }
        for state in one.states.symmetric_difference(&other.states) {
            let told = other.states.contains(state);
            let where_ = if told { "told of, not in the code" } else { "in the code, not told of" };
            found.push(format!("{name}: the state {state} is {where_}"));
        }
    }
    found
}

fn only_in<'a>(these: &'a [String], those: &'a [String]) -> impl Iterator<Item = &'a String> {
    these.iter().filter(|name| !those.contains(name))
}

/// Every `impl Machine for` in src: its name, the pairs of its ARROWS, the names `state` gives.
fn machines_in_code() -> Vec<Drawn> {
    let mut machines = Vec::new();
    for path in sources() {
        // One may be generic over what it carries.
        let text = fs::read_to_string(&path).unwrap().replace("\nimpl<C> ", "\nimpl ");
        for rest in text.split("\nimpl Machine for ").skip(1) {
            let block = rest.split("\n}\n").next().unwrap();
            let (before, after) = block.split_once("const ARROWS").unwrap();
            let (table, after) = after.split_once("];").unwrap();
            let arrows = quoted(table);
            assert!(arrows.len().is_multiple_of(2), "{}: {table}", path.display());
            machines.push(Drawn {
                name: quoted(before).remove(0),
                file: from_top(&path),
                states: quoted(after).into_iter().collect(),
                arrows: arrows
                    .chunks(2)
                    .map(|arrow| (arrow[0].clone(), arrow[1].clone()))
                    .collect(),
            });
        }
    }
    machines
}

/// Every section of the page. Its states are those that have a sentence; each must be entered
/// and left in the diagram, be it from the beginning or to the end.
fn machines_on_page(text: &str) -> Vec<Drawn> {
    text.split("\n## ").skip(1).map(machine_on_page).collect()
}

fn machine_on_page(section: &str) -> Drawn {
    let (name, rest) = section.split_once('\n').unwrap_or((section, ""));
    let file = rest.trim_start().split('`').nth(1).unwrap_or_default();
    let diagram = rest.split("```mermaid\nstateDiagram-v2\n").nth(1).unwrap_or_default();
    let diagram = diagram.split("```").next().unwrap_or_default();
    let lines: Vec<(String, String)> = diagram
        .lines()
        .map(|line| line.trim().split_once(" --> ").unwrap_or((line, "")))
        .map(|(from, to)| (from.to_owned(), to.to_owned()))
        .collect();
    let entered: BTreeSet<String> = lines.iter().map(|(_, to)| to.clone()).collect();
    let left: BTreeSet<String> = lines.iter().map(|(from, _)| from.clone()).collect();
    let told = rest.lines().filter_map(|line| line.strip_prefix("- `")?.split_once("`: "));
    let is_drawn = |state: &String| entered.contains(state) && left.contains(state);
    Drawn {
        name: name.to_owned(),
        file: file.to_owned(),
        states: told
            .map(|(state, _)| state.to_owned())
            .filter(|state| !state.contains(' '))
            .filter(is_drawn)
            .collect(),
        arrows: lines.into_iter().filter(|(from, to)| from != ENDS && to != ENDS).collect(),
    }
}

/// What stands between double quotes.
fn quoted(text: &str) -> Vec<String> {
    text.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(top().join(path)).unwrap()
}

/// Every Rust file below src.
fn sources() -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![top().join("src")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn from_top(path: &Path) -> String {
    path.strip_prefix(top()).unwrap().to_str().unwrap().to_owned()
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The diagrams' beginning and end.
const ENDS: &str = "[*]";
