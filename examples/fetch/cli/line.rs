//! A command line, word by word: which option each is, and whether they can stand together.
//!
//! In go the words behind the program's name; out come [`Args`], or a wish for help, or one line
//! that says what is wrong and repeats no secret.

use std::ffi::{OsStr, OsString};

use lexopt::{Arg, Parser};

use super::super::values;
use super::Args;
use super::option::{Asked, Group, Opt, Takes, text};
use super::options::{GROUPS, URL};

/// What a line comes to.
pub(super) enum Line {
    Run(Box<Args>),
    Ends(Asked),
}

pub(super) fn read(words: impl IntoIterator<Item = OsString>) -> Result<Line, String> {
    let mut words = Parser::from_args(words);
    let mut args = Args::default();
    let mut given: Vec<(&Group, &Opt)> = Vec::new();
    while let Some(word) = words.next().map_err(|error| error.to_string())? {
        let (group, option) = match word {
            Arg::Value(url) => {
                let refused = |why| format!("{}: {why}", quoted(&url));
                args.urls.push(text(&url).map_err(refused)?.to_owned());
                continue;
            }
            Arg::Short(letter) => find(letter.encode_utf8(&mut [0; 4]), "-")?,
            Arg::Long(name) => find(name, "--")?,
        };
        if !option.repeats && given.iter().any(|(_, other)| other.name() == option.name()) {
            return Err(format!("{} is given twice", shown(option.name())));
        }
        given.push((group, option));
        if let Some(asked) = take(option, &mut words, &mut args)? {
            return Ok(Line::Ends(asked));
        }
    }
    check_together(&given, !args.urls.is_empty())?;
    Ok(Line::Run(Box::new(args)))
}

/// Does what an option is for, with its value.
fn take(option: &Opt, words: &mut Parser, args: &mut Args) -> Result<Option<Asked>, String> {
    let (value, keep) = match option.takes {
        Takes::Ends(asked) => return Ok(Some(asked)),
        Takes::Nothing(keep) => {
            keep(args);
            return Ok(None);
        }
        Takes::Value { shown: what, keep } => {
            let missing = |_| format!("{} lacks its value: {what}", shown(option.name()));
            (words.value().map_err(missing)?, keep)
        }
        Takes::Perhaps { otherwise, keep, .. } => {
            (value_behind(words).unwrap_or_else(|| otherwise.into()), keep)
        }
    };
    keep(args, &value).map_err(|why| refused(option, &value, &why))?;
    Ok(None)
}

/// The one of this name, with its group, or what is said where there is none.
fn find(name: &str, dashes: &str) -> Result<(&'static Group, &'static Opt), String> {
    let is_long = dashes.len() > 1;
    let fits = |known: &&str| *known == name && (known.len() > 1) == is_long;
    let mut all = GROUPS.iter().flat_map(|group| group.options.iter().map(move |it| (group, it)));
    all.find(|(_, option)| option.names.iter().any(fits)).ok_or_else(|| {
        let alike = if is_long { most_like(name) } else { None };
        let tip = alike.map(|known| format!(", but there is --{known}")).unwrap_or_default();
        format!("there is no option {dashes}{}{tip}", name.escape_debug())
    })
}

/// The option that somebody meant who wrote `name`.
fn most_like(name: &str) -> Option<&'static str> {
    let all = GROUPS.iter().flat_map(|group| group.options).flat_map(|option| option.names);
    let long = all.filter(|known| known.len() > 1);
    let rated = long.map(|known| (strsim::jaro_winkler(name, known), *known));
    let best = rated.max_by(|one, other| one.0.total_cmp(&other.0))?;
    (best.0 >= ALIKE_MIN).then_some(best.1)
}

/// A value that may stand behind an option: with `=`, or as the next word where that is no option.
fn value_behind(words: &mut Parser) -> Option<OsString> {
    words.optional_value().or_else(|| {
        let is_value = |word: &OsStr| !word.as_encoded_bytes().starts_with(b"-");
        words.try_raw_args()?.next_if(is_value)
    })
}

fn check_together(given: &[(&Group, &Opt)], has_urls: bool) -> Result<(), String> {
    let is_there = |name: &str| match name {
        URL => has_urls,
        _ => given.iter().any(|(_, option)| option.name() == name),
    };
    for (group, option) in given {
        let mut apart = option.apart.iter().chain(group.apart);
        if let Some(other) = apart.find(|other| is_there(other)) {
            return Err(format!(
                "{} and {} exclude each other",
                shown(option.name()),
                shown(other)
            ));
        }
        if let Some(other) = option.needs.filter(|other| !is_there(other)) {
            return Err(format!("{} needs {}", shown(option.name()), shown(other)));
        }
    }
    Ok(())
}

fn refused(option: &Opt, value: &OsStr, why: &str) -> String {
    let name = shown(option.name());
    if option.is_secret {
        format!("{name}: {why}")
    } else {
        format!("{name} {}: {why}", quoted(value))
    }
}

/// Without the login that a URL has, and no other byte but what can be shown.
fn quoted(value: &OsStr) -> String {
    format!("{:?}", values::shown(&value.to_string_lossy()))
}

fn shown(name: &str) -> String {
    if name == URL { "a URL".to_owned() } else { format!("--{name}") }
}

/// Where one word is taken for another with some letters wrong, from 0 (nothing in common) to 1.
const ALIKE_MIN: f64 = 0.8;
