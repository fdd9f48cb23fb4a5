//! From what the command line gives to send to what requests carry. Files are opened here; they are
//! read as they are sent, except where they are put together with something else.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use whippet::{Body, Multipart, Part};

use super::cli::Args;
use super::contents::Contents;
use super::fields::{Content, Datum, Field, Given};
use super::source::STDIN_NAME;

/// Standard input, which can be read once, and which option has it read.
#[derive(Default)]
pub(crate) struct Stdin(Option<String>);

impl Stdin {
    pub(crate) fn take(&mut self, option: &str) -> Result<(), String> {
        match &self.0 {
            Some(first) => Err(format!("{option}: standard input is read by {first} already")),
            None => {
                self.0 = Some(option.to_owned());
                Ok(())
            }
        }
    }
}

/// What jobs carry that carry nothing of their own, or what is wrong with it. `is_single`: there
/// is one job.
pub(crate) fn contents_of(
    args: &Args,
    is_single: bool,
    stdin: &mut Stdin,
) -> Result<Option<Contents>, String> {
    if let Some(protocol) = &args.upgrade {
        let option = format!("--upgrade {protocol}");
        return the_one(&option, STDIN_NAME, is_single)
            .and_then(|()| stdin.take(&option))
            .map(|()| Some(Contents::Upgrade { protocol: protocol.clone() }));
    }
    if let Some(path) = &args.upload_file {
        return upload_of(path, is_single, stdin).map(Some);
    }
    if !args.form.is_empty() {
        return form_of(&args.form, stdin).map(Some);
    }
    if !args.data.is_empty() {
        return data_of(&args.data, stdin).map(|body| Some(Contents::Data(body)));
    }
    Ok(None)
}

/// A file, or what can be read once: a pipe, a terminal, standard input whatever it is.
fn upload_of(path: &Path, is_single: bool, stdin: &mut Stdin) -> Result<Contents, String> {
    let option = format!("--upload-file {}", path.display());
    // curl's . is standard input that does not block; here it never does.
    let is_stdin = is_stdin(path) || path == Path::new(".");
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if !is_stdin {
        let explain = |error: io::Error| format!("{option}: {error}");
        let metadata = fs::metadata(path).map_err(explain)?;
        if metadata.is_dir() {
            return Err(explain(io::ErrorKind::IsADirectory.into()));
        }
        if metadata.is_file() {
            return Ok(Contents::File { body: Body::file(path).map_err(explain)?, name });
        }
    }
    the_one(&option, if is_stdin { STDIN_NAME } else { "a pipe" }, is_single)?;
    if is_stdin {
        stdin.take(&option)?;
        return Ok(Contents::Pipe { path: "-".into(), name: None });
    }
    Ok(Contents::Pipe { path: path.to_owned(), name: Some(name) })
}

/// Refuses more than one job for what can be read once.
fn the_one(option: &str, what: &str, is_single: bool) -> Result<(), String> {
    let refused = || format!("{option}: {what} can be sent once; give one URL");
    is_single.then_some(()).ok_or_else(refused)
}

/// One file alone is read as it is sent.
fn data_of(data: &[Datum], stdin: &mut Stdin) -> Result<Body, String> {
    if let [Datum::Plain(Given::In(path))] = data
        && is_regular(path)
    {
        return Body::file(path).map_err(|error| format!("--data @{}: {error}", path.display()));
    }
    let texts = data.iter().map(|datum| bytes_of(datum, stdin));
    Ok(texts.collect::<Result<Vec<_>, _>>()?.join(&b'&').into())
}

fn bytes_of(datum: &Datum, stdin: &mut Stdin) -> Result<Vec<u8>, String> {
    let mut read = |given: &Given, option: &str| match given {
        Given::Here(text) => Ok(text.clone().into_bytes()),
        Given::In(path) => read_whole(path, &format!("{option}@{}", path.display()), stdin),
    };
    match datum {
        Datum::Plain(given) => read(given, "--data "),
        Datum::Encoded { name, content } => {
            let bytes = read(content, &format!("--data-urlencode {}", name.escape_debug()))?;
            let equals = if name.is_empty() { "" } else { "=" };
            Ok(format!("{name}{equals}{}", encoded(&bytes)).into_bytes())
        }
    }
}

fn form_of(fields: &[Field], stdin: &mut Stdin) -> Result<Contents, String> {
    let mut form = Multipart::new();
    for field in fields {
        form = form.part(&field.name, part_of(field, stdin)?);
    }
    let content_type = form.content_type();
    let boundary = content_type.split_once("boundary=").map_or("", |(_, boundary)| boundary);
    Ok(Contents::Form { boundary: boundary.to_owned(), body: form.into_body() })
}

fn part_of(field: &Field, stdin: &mut Stdin) -> Result<Part, String> {
    let (path, sign, own_name) = match &field.content {
        Content::Text(text) => return described(field, Part::bytes(text), None, false),
        Content::Value(path) => (path, '<', None),
        Content::Upload(path) => (path, '@', path.file_name()),
    };
    let option = format!("--form {}={sign}{}", field.name.escape_debug(), path.display());
    let part = if is_regular(path) {
        Part::content_of(path).map_err(|error| format!("{option}: {error}"))?
    } else {
        // The form's length is to be known, and it may be sent again.
        Part::bytes(read_whole(path, &option, stdin)?)
    };
    let own_name = own_name.map(|name| name.to_string_lossy());
    described(field, part, own_name.as_deref(), !is_stdin(path))
}

/// With the name and the type that it is to have.
fn described(
    field: &Field,
    mut part: Part,
    own_name: Option<&str>,
    is_file: bool,
) -> Result<Part, String> {
    let file_name = field.file_name.as_deref().or(own_name);
    if let Some(file_name) = file_name {
        part = part.file_name(file_name);
    }
    match field.content_type(file_name, is_file) {
        Some(content_type) => part.content_type(content_type).map_err(|error| error.to_string()),
        None => Ok(part),
    }
}

/// Standard input, or what is no regular file, to its end: it may be needed more than once.
fn read_whole(path: &Path, option: &str, stdin: &mut Stdin) -> Result<Vec<u8>, String> {
    let read = if is_stdin(path) {
        stdin.take(option)?;
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        fs::read(path)
    };
    read.map_err(|error| format!("{option}: {error}"))
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

fn is_regular(path: &Path) -> bool {
    !is_stdin(path) && fs::metadata(path).is_ok_and(|metadata| metadata.is_file())
}

/// As curl has it: what RFC 3986 §2.3 reserves for nothing stays, a space is a +.
fn encoded(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b' ' => text.push('+'),
            b'-' | b'.' | b'_' | b'~' => text.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => text.push(char::from(*byte)),
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_all_kinds_are_encoded() {
        assert_eq!(
            encoded("aZ09-._~ *+&=%\r\né".as_bytes()),
            "aZ09-._~+%2A%2B%26%3D%25%0D%0A%C3%A9"
        );
        assert_eq!(encoded(&[0, 255]), "%00%FF");
    }

    #[test]
    fn standard_input_is_for_one() {
        let mut stdin = Stdin::default();
        assert_eq!(stdin.take("--data @-"), Ok(()));
        let error = stdin.take("--form a=@-").unwrap_err();
        assert_eq!(error, "--form a=@-: standard input is read by --data @- already");
    }
}
