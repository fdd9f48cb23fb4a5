//! What an option is: its names, what it takes, what it does to [`Args`], what it says of itself.

use std::ffi::{OsStr, OsString};
use std::str::FromStr;

use super::Args;

/// Some options under one heading.
pub(super) struct Group {
    pub(super) heading: &'static str,
    /// What none of them can stand beside.
    pub(super) apart: &'static [&'static str],
    pub(super) options: &'static [Opt],
}

/// One option, made by [`flag`], [`value`], [`perhaps`] or [`ends`].
pub(super) struct Opt {
    /// A single letter stands behind one dash. The first of the others is its name in messages.
    pub(super) names: &'static [&'static str],
    pub(super) takes: Takes,
    pub(super) help: &'static str,
    pub(super) repeats: bool,
    /// Its value is not repeated in a message.
    pub(super) is_secret: bool,
    /// Those that cannot stand beside it.
    pub(super) apart: &'static [&'static str],
    /// The one that it means nothing without.
    pub(super) needs: Option<&'static str>,
}

pub(super) enum Takes {
    Nothing(fn(&mut Args)),
    Value {
        shown: &'static str,
        keep: Keep,
    },
    /// A value may stand behind it; `otherwise` where none does.
    Perhaps {
        shown: &'static str,
        otherwise: &'static str,
        keep: Keep,
    },
    /// It is answered in place of a run.
    Ends(Asked),
}

/// Reads a value into its place, or says what is wrong with it.
pub(super) type Keep = fn(&mut Args, &OsStr) -> Result<(), String>;

/// What a command line can want that is no run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    Help,
    Version,
}

pub(super) const fn flag(
    names: &'static [&'static str],
    help: &'static str,
    keep: fn(&mut Args),
) -> Opt {
    made(names, help, Takes::Nothing(keep))
}

pub(super) const fn value(
    names: &'static [&'static str],
    shown: &'static str,
    help: &'static str,
    keep: Keep,
) -> Opt {
    made(names, help, Takes::Value { shown, keep })
}

pub(super) const fn perhaps(
    names: &'static [&'static str],
    shown: &'static str,
    otherwise: &'static str,
    help: &'static str,
    keep: Keep,
) -> Opt {
    made(names, help, Takes::Perhaps { shown, otherwise, keep })
}

pub(super) const fn ends(names: &'static [&'static str], help: &'static str, asked: Asked) -> Opt {
    made(names, help, Takes::Ends(asked))
}

const fn made(names: &'static [&'static str], help: &'static str, takes: Takes) -> Opt {
    let repeats = matches!(takes, Takes::Nothing(_));
    Opt { names, takes, help, repeats, is_secret: false, apart: &[], needs: None }
}

impl Opt {
    /// It may be given again.
    pub(super) const fn repeats(self) -> Self {
        Self { repeats: true, ..self }
    }

    pub(super) const fn secret(self) -> Self {
        Self { is_secret: true, ..self }
    }

    pub(super) const fn apart(self, others: &'static [&'static str]) -> Self {
        Self { apart: others, ..self }
    }

    pub(super) const fn needs(self, other: &'static str) -> Self {
        Self { needs: Some(other), ..self }
    }

    /// As messages call it, without its dashes.
    pub(super) fn name(&self) -> &'static str {
        let long = self.names.iter().find(|name| name.len() > 1);
        long.or(self.names.first()).copied().unwrap_or_default()
    }
}

/// Keeps a value that is given once.
pub(super) fn one<T>(place: &mut Option<T>, given: &OsStr, read: Read<T>) -> Result<(), String> {
    *place = Some(read(text(given)?)?);
    Ok(())
}

/// Keeps one of several values.
pub(super) fn more<T>(place: &mut Vec<T>, given: &OsStr, read: Read<T>) -> Result<(), String> {
    place.push(read(text(given)?)?);
    Ok(())
}

/// Keeps what need not be text, as the name of a file.
pub(super) fn path<T: From<OsString>>(place: &mut Option<T>, given: &OsStr) -> Result<(), String> {
    if given.is_empty() {
        return Err("no file has that name".to_owned());
    }
    *place = Some(given.to_owned().into());
    Ok(())
}

type Read<T> = fn(&str) -> Result<T, String>;

pub(super) fn text(given: &OsStr) -> Result<&str, String> {
    given.to_str().ok_or_else(|| "not UTF-8".to_owned())
}

/// Text that may be anything.
pub(super) fn any(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

pub(super) fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "not a whole number, or one that cannot be here".to_owned())
}
