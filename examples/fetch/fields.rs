//! What `-d`, `--data-urlencode` and `-F` say, in curl's grammar: text in, what is to be sent out,
//! or one line that says what is wrong, without what was to be sent. Nothing is opened here.

use std::path::{Path, PathBuf};

use whippet::Part;

/// Where bytes are.
#[derive(Clone, PartialEq)]
pub(crate) enum Given {
    Here(String),
    In(PathBuf),
}

/// What is between two & of a body.
#[derive(Clone, PartialEq)]
pub(crate) enum Datum {
    /// As it is.
    Plain(Given),
    /// Percent-encoded, behind its name where it has one.
    Encoded { name: String, content: Given },
}

/// A field of a form of several parts.
#[derive(Clone, PartialEq, Default)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) content: Content,
    /// The file's name that is told; else an upload has its own.
    pub(crate) file_name: Option<String>,
    pub(crate) content_type: Option<String>,
}

#[derive(Clone, PartialEq)]
pub(crate) enum Content {
    Text(String),
    /// What is in a file is the field's text.
    Value(PathBuf),
    /// The file itself.
    Upload(PathBuf),
}

impl Default for Content {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

/// `TEXT`, `@FILE`.
pub(crate) fn datum(text: &str) -> Result<Datum, String> {
    Ok(Datum::Plain(match text.strip_prefix('@') {
        Some(path) => Given::In(path.into()),
        None => Given::Here(text.to_owned()),
    }))
}

/// `TEXT`, `=TEXT`, `NAME=TEXT`, `@FILE`, `NAME@FILE`. The name is encoded already.
pub(crate) fn encoded_datum(text: &str) -> Result<Datum, String> {
    let (name, content) = match (text.split_once('='), text.split_once('@')) {
        (Some((name, text)), _) => (name, Given::Here(text.to_owned())),
        (None, Some((name, path))) => (name, Given::In(path.into())),
        (None, None) => ("", Given::Here(text.to_owned())),
    };
    Ok(Datum::Encoded { name: name.to_owned(), content })
}

/// `NAME=TEXT`, as it is.
pub(crate) fn literal_field(text: &str) -> Result<Field, String> {
    let (name, text) = named(text)?;
    Ok(Field { name, content: Content::Text(text.to_owned()), ..Field::default() })
}

/// `NAME=TEXT`, `NAME=@FILE` or `NAME=<FILE`, and behind it `;type=` and `;filename=`. Text, file
/// and file name may stand in quotation marks, in which `\"` and `\\` are `"` and `\`.
pub(crate) fn field(text: &str) -> Result<Field, String> {
    let (name, rest) = named(text)?;
    if rest.starts_with('(') {
        return Err(NESTED.to_owned());
    }
    let (rest, ends, content_of): (&str, &[char], fn(String) -> Content) =
        if let Some(path) = rest.strip_prefix('@') {
            (path, &[';', ','], |path| Content::Upload(path.into()))
        } else if let Some(path) = rest.strip_prefix('<') {
            (path, &[';'], |path| Content::Value(path.into()))
        } else {
            (rest, &[';'], Content::Text)
        };
    let (word, rest) = word(rest, ends)?;
    let mut field = Field { name, content: content_of(word), ..Field::default() };
    field.read_options(rest, ends)?;
    Ok(field)
}

impl Field {
    /// What the Content-Type is, where a name says it or the field does: curl's list. A file
    /// without a name is text as it is.
    pub(crate) fn content_type(&self, file_name: Option<&str>, is_file: bool) -> Option<&str> {
        if self.content_type.is_some() {
            return self.content_type.as_deref();
        }
        let path = match &self.content {
            Content::Value(path) | Content::Upload(path) if is_file => Some(path.as_path()),
            _ => None,
        };
        let by_name = file_name.and_then(|name| type_of(name.as_ref()));
        let guessed = by_name.or_else(|| path.and_then(type_of));
        match (guessed, file_name) {
            (Some("text/plain"), None) => None,
            (None, Some(_)) if is_file => Some("application/octet-stream"),
            (guessed, _) => guessed,
        }
    }

    /// What is behind the content.
    fn read_options(&mut self, mut rest: &str, ends: &[char]) -> Result<(), String> {
        // Whether what is not known is a parameter of the type.
        let mut is_in_type = false;
        while let Some(option) = rest.strip_prefix(';') {
            let option = option.trim_ascii_start();
            if let (false, Some(value)) = (is_in_type, value_of(option, "type=")) {
                let (value, behind) = value.split_at(end_of(value, ends));
                self.content_type = Some(value.trim_ascii_end().to_owned());
                is_in_type = true;
                rest = behind;
            } else if let Some(value) = value_of(option, "filename=") {
                let (value, behind) = word(value, ends)?;
                self.file_name = Some(value);
                is_in_type = false;
                rest = behind;
            } else if let (true, Some(content_type)) = (is_in_type, &mut self.content_type) {
                let end = 1 + end_of(&rest[1..], ends);
                content_type.push_str(rest[..end].trim_ascii_end());
                rest = &rest[end..];
            } else {
                return Err(UNKNOWN.to_owned());
            }
        }
        if !rest.is_empty() {
            return Err(SEVERAL.to_owned());
        }
        if self.file_name.is_some() && matches!(self.content, Content::Value(_)) {
            return Err(NAMELESS.to_owned());
        }
        self.content_type.as_deref().map_or(Ok(()), check_type)
    }
}

/// What is in front of the first = and what is behind it.
fn named(text: &str) -> Result<(String, &str), String> {
    match text.split_once('=') {
        Some(("", _)) => Err("no name in front of the =".to_owned()),
        Some((name, rest)) => Ok((name.to_owned(), rest)),
        None => Err("no = behind the name".to_owned()),
    }
}

/// The word at the beginning, and what is behind it: nothing, or one of `ends` is first.
fn word<'a>(text: &'a str, ends: &[char]) -> Result<(String, &'a str), String> {
    let text = text.trim_ascii_start();
    let Some((word, rest)) = quoted(text) else {
        let (word, rest) = text.split_at(end_of(text, ends));
        return Ok((word.trim_ascii_end().to_owned(), rest));
    };
    let rest = rest.trim_ascii_start();
    if rest.is_empty() || rest.starts_with(ends) {
        return Ok((word, rest));
    }
    Err("something stands behind a closing quotation mark".to_owned())
}

/// What is between quotation marks, and what is behind. `None`: they are none, or end nowhere.
fn quoted(text: &str) -> Option<(String, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut word = String::new();
    let mut chars = inner.char_indices().peekable();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((word, &inner[at + 1..])),
            '\\' => match chars.next_if(|(_, next)| matches!(next, '"' | '\\')) {
                Some((_, escaped)) => word.push(escaped),
                None => word.push('\\'),
            },
            other => word.push(other),
        }
    }
    None
}

fn end_of(text: &str, ends: &[char]) -> usize {
    text.find(ends).unwrap_or(text.len())
}

/// What is behind the name of an option, which is in any case.
fn value_of<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (found, value) = text.split_at_checked(name.len())?;
    found.eq_ignore_ascii_case(name).then(|| value.trim_ascii_start())
}

/// `major/minor`, and what can stand in a header.
fn check_type(content_type: &str) -> Result<(), String> {
    let has_both = content_type.split_once('/').is_some_and(|(major, minor)| {
        let is_none = |c: char| matches!(c, ';' | ',' | ' ' | '\n');
        !major.is_empty()
            && !major.contains(' ')
            && !minor.is_empty()
            && !minor.starts_with(is_none)
    });
    if !has_both {
        return Err("the type is not MAJOR/MINOR".to_owned());
    }
    Part::bytes("").content_type(content_type).map(drop).map_err(|error| error.to_string())
}

fn type_of(name: &Path) -> Option<&'static str> {
    let name = name.to_string_lossy().to_ascii_lowercase();
    TYPES.iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, content_type)| *content_type)
}

/// As libcurl has it.
const TYPES: [(&str, &str); 10] = [
    (".gif", "image/gif"),
    (".jpg", "image/jpeg"),
    (".jpeg", "image/jpeg"),
    (".png", "image/png"),
    (".svg", "image/svg+xml"),
    (".txt", "text/plain"),
    (".htm", "text/html"),
    (".html", "text/html"),
    (".pdf", "application/pdf"),
    (".xml", "application/xml"),
];
const NESTED: &str = "what begins with ( would be a form inside of a form, which is not supported; \
                      --form-string takes it as text";
const SEVERAL: &str = "only one file stands in each: give another for the next; a name with a comma stands in \
                       quotation marks";
const UNKNOWN: &str = "behind a ; only type= and filename= are known; what holds a ; stands in \
                       quotation marks, or is given with --form-string";
const NAMELESS: &str = "with < a file is a text, and has no filename=";

#[cfg(test)]
mod tests {
    use super::*;

    fn upload(path: &str) -> Field {
        Field { name: "a".into(), content: Content::Upload(path.into()), ..Field::default() }
    }

    fn text(text: &str) -> Field {
        Field { name: "a".into(), content: Content::Text(text.into()), ..Field::default() }
    }

    #[test]
    fn a_field_is_a_text_a_file_or_a_text_in_a_file() {
        let value = Field { content: Content::Value("f".into()), ..text("") };
        let some = |text: &str| Some(text.to_owned());
        for (said, expected) in [
            ("a=", text("")),
            ("a=b=c", text("b=c")),
            ("a= b c \n", text("b c")),
            ("a=\" b;\\\"c\\\\\\d\" ", text(" b;\"c\\\\d")),
            ("a=\"open", text("\"open")),
            ("a=\"@b\"", text("@b")),
            ("a=@b", upload("b")),
            ("a=@\"b;c,\\\"d\"", upload("b;c,\"d")),
            ("a=<f", value.clone()),
            ("a=<f;type=x/y", Field { content_type: some("x/y"), ..value }),
            (
                "a=b;type=x/y; charset=z ",
                Field { content_type: some("x/y; charset=z"), ..text("b") },
            ),
            ("a=b;filename=c", Field { file_name: some("c"), ..text("b") }),
            (
                "a=@b; TYPE=x/y;q=1;filename=\"c;d\"",
                Field { content_type: some("x/y;q=1"), file_name: some("c;d"), ..upload("b") },
            ),
        ] {
            let found = field(said);
            assert!(found == Ok(expected), "{said}: {:?}", found.err());
        }
        assert!(literal_field("a=@b;type=\"c") == Ok(text("@b;type=\"c")));
    }

    #[test]
    fn what_is_not_supported_is_said_and_the_content_is_not() {
        for (said, named) in [
            ("canary", "no ="),
            ("=canary", "no name"),
            ("a=(canary", "--form-string"),
            ("a=@canary,other", "one file"),
            ("a=@canary;type=x/y,other", "one file"),
            ("a=canary;x", "--form-string"),
            ("a=@canary;headers=@h", "type= and filename="),
            ("a=@canary;filename=x;encoder=base64", "type= and filename="),
            ("a=<canary;filename=x", "filename="),
            ("a=\"canary\"x", "quotation mark"),
            ("a=canary;type=x", "MAJOR/MINOR"),
            ("a=canary;", "--form-string"),
            ("a=canary;type=x/y\u{7}", "Content-Type"),
        ] {
            let error = field(said).err().unwrap();
            assert!(error.contains(named) && !error.contains("canary"), "{said}: {error}");
        }
    }

    #[test]
    fn a_type_follows_from_a_name_as_with_curl() {
        let of =
            |said: &str, name| field(said).unwrap().content_type(name, true).map(str::to_owned);
        assert_eq!(of("a=@b", Some("b")).unwrap(), "application/octet-stream");
        assert_eq!(of("a=@b.PNG", Some("b.PNG")).unwrap(), "image/png");
        assert_eq!(of("a=@b.png", Some("c.html")).unwrap(), "text/html");
        assert_eq!(of("a=@b.png", Some("c")).unwrap(), "image/png");
        assert_eq!(of("a=@b.png;type=x/y", Some("b.png")).unwrap(), "x/y");
        assert_eq!(of("a=<b.png", None).unwrap(), "image/png");
        assert_eq!(of("a=<b.txt", None), None);
        assert_eq!(of("a=<b", None), None);
        let of_text =
            |said: &str, name| field(said).unwrap().content_type(name, false).map(str::to_owned);
        assert_eq!(of_text("a=b.png", None), None);
        assert_eq!(of_text("a=b", Some("c.pdf")).unwrap(), "application/pdf");
        assert_eq!(of_text("a=@-", Some("-")), None);
    }

    #[test]
    fn what_is_encoded_is_behind_the_first_equals_sign_or_else_in_a_file() {
        let here = |name: &str, text: &str| Datum::Encoded {
            name: name.into(),
            content: Given::Here(text.into()),
        };
        let file = |name: &str, path: &str| Datum::Encoded {
            name: name.into(),
            content: Given::In(path.into()),
        };
        for (said, expected) in [
            ("", here("", "")),
            ("b c", here("", "b c")),
            ("=b=c", here("", "b=c")),
            ("a=b@c", here("a", "b@c")),
            ("a@b=c", here("a@b", "c")),
            ("@b", file("", "b")),
            ("a@b@c", file("a", "b@c")),
        ] {
            assert!(encoded_datum(said) == Ok(expected), "{said}");
        }
        assert!(datum("@b") == Ok(Datum::Plain(Given::In("b".into()))));
        assert!(datum("a@b") == Ok(Datum::Plain(Given::Here("a@b".into()))));
    }
}
