//! The options as text for people.

use super::option::{Group, Opt, Takes};
use super::options::GROUPS;

/// What `--help` prints.
pub(super) fn help() -> String {
    let mut text = HEAD.to_owned();
    wrap(&mut text, "", ABOUT);
    for Group { heading, options, .. } in GROUPS {
        text.push_str(&format!("\n{heading}:\n"));
        for option in *options {
            text.push_str(&format!("  {}\n", names(option)));
            wrap(&mut text, "          ", option.help);
        }
    }
    text
}

/// `-m, --max-time, --timeout SECONDS`; names below names, whether there is a letter or not.
fn names(option: &Opt) -> String {
    let dashed =
        |name: &&str| if name.len() > 1 { format!("--{name}") } else { format!("-{name}") };
    let names: Vec<String> = option.names.iter().map(dashed).collect();
    let indent = if option.names.iter().any(|name| name.len() == 1) { "" } else { "    " };
    let value = match option.takes {
        Takes::Value { shown, .. } => format!(" {shown}"),
        Takes::Perhaps { shown, .. } => format!(" [{shown}]"),
        Takes::Nothing(_) | Takes::Ends(_) => String::new(),
    };
    format!("{indent}{}{value}", names.join(", "))
}

/// `words` in lines that a terminal can show.
fn wrap(text: &mut String, indent: &str, words: &str) {
    let mut line = String::new();
    for word in words.split(' ') {
        if indent.len() + line.chars().count() + 1 + word.chars().count() > COLUMNS_MAX {
            text.push_str(&format!("{indent}{line}\n"));
            line.clear();
        }
        let space = if line.is_empty() { "" } else { " " };
        line.push_str(space);
        line.push_str(word);
    }
    text.push_str(&format!("{indent}{line}\n"));
}

const HEAD: &str = "Fetches URLs, many at once, on one thread.

Usage: fetch [OPTIONS] URL…
       fetch [OPTIONS] --input FILE
       fetch [OPTIONS] --jobs FILE
       fetch [OPTIONS] --demo [N]

";
const ABOUT: &str = "One URL prints its body; several print a line each. Exit status: 0 when every job \
                     succeeded, 1 when some failed, 2 for a usage error, 130 after an interrupt. Where \
                     whoever reads standard output has read enough, the run ends quietly, and counts \
                     what had ended.";
const COLUMNS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_too_long_and_no_option_is_left_out() {
        let help = help();
        assert!(help.lines().all(|line| line.chars().count() <= COLUMNS_MAX), "{help}");
        for option in GROUPS.iter().flat_map(|group| group.options) {
            assert!(help.contains(&names(option)) && option.help.len() > 3, "{}", option.name());
        }
        assert!(help.contains("\n  -m, --max-time, --timeout SECONDS\n          Seconds for"));
        assert!(help.contains("\n      --demo [N]\n"));
    }
}
