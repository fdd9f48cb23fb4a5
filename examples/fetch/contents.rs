//! What requests carry that carry nothing of their own: the body that the command line gives, and
//! what goes with it.
//!
//! In go a URL and headers as they were given; out come the method, the URL that is asked for, and
//! the Content-Type.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use whippet::url::Url;
use whippet::{Body, Error, Request};

/// A body for every job without one.
#[derive(Clone)]
pub(crate) enum Contents {
    /// `-d`: a form in one line, unless a header says what it is.
    Data(Body),
    /// `-F`: a form of several parts, and what stands between them.
    Form { body: Body, boundary: String },
    /// `-T`: a file, which is sent under this name where the URL ends in none.
    File { body: Body, name: String },
    /// `-T` of what has no length and can be read once: it is sent as it comes. Standard input
    /// has no name.
    Pipe { path: PathBuf, name: Option<String> },
    /// `--upgrade`: no body, but what is said in another protocol, which standard input gives.
    Upgrade { protocol: String },
}

impl Contents {
    /// The request that carries it.
    pub(crate) fn put_in(&self, request: Request) -> Result<Request, Error> {
        match self {
            Self::Data(body) | Self::Form { body, .. } | Self::File { body, .. } => {
                Ok(request.body(body.clone()))
            }
            Self::Pipe { .. } => Ok(request.body(Body::pushed())),
            Self::Upgrade { protocol } => request.upgrade(protocol),
        }
    }

    /// What the method is where nothing says so.
    pub(crate) fn method(&self) -> &'static str {
        match self {
            Self::Data(_) | Self::Form { .. } => "POST",
            Self::File { .. } | Self::Pipe { .. } => "PUT",
            Self::Upgrade { .. } => "GET",
        }
    }

    /// The URL that is asked for: with the file's name, where the URL's path ends in none and no
    /// query follows, as with curl.
    pub(crate) fn complete<'a>(&self, url: &'a str) -> Cow<'a, str> {
        let (Self::File { name, .. } | Self::Pipe { name: Some(name), .. }) = self else {
            return Cow::Borrowed(url);
        };
        match Url::parse(url) {
            Ok(mut parsed) if parsed.path().ends_with('/') && parsed.query().is_none() => {
                if let Ok(mut segments) = parsed.path_segments_mut() {
                    segments.pop_if_empty().push(name);
                }
                Cow::Owned(parsed.into())
            }
            _ => Cow::Borrowed(url),
        }
    }

    /// The value with which a header is sent: a form's type names its boundary, whatever the type.
    pub(crate) fn value<'a>(&self, name: &str, value: &'a str) -> Cow<'a, str> {
        match self {
            Self::Form { boundary, .. } if name.eq_ignore_ascii_case("content-type") => {
                let media_type = value.split(';').next().unwrap_or_default().trim_ascii_end();
                Cow::Owned(format!("{media_type}; boundary={boundary}"))
            }
            _ => Cow::Borrowed(value),
        }
    }

    /// The Content-Type where nothing says so.
    pub(crate) fn content_type(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Data(_) => Some(Cow::Borrowed("application/x-www-form-urlencoded")),
            Self::Form { .. } => Some(self.value("content-type", "multipart/form-data")),
            Self::File { .. } | Self::Pipe { .. } | Self::Upgrade { .. } => None,
        }
    }

    /// Where what is sent is read from meanwhile, if the program does so itself.
    pub(crate) fn pipe(&self) -> Option<&Path> {
        match self {
            Self::Pipe { path, .. } => Some(path),
            Self::Upgrade { .. } => Some(Path::new("-")),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_gives_its_name_to_a_url_that_ends_in_none() {
        let file = Contents::File { body: Body::from(""), name: "a b?#/é".to_owned() };
        for (url, expected) in [
            ("http://u:p@a.example", "http://u:p@a.example/a%20b%3F%23%2F%C3%A9"),
            ("http://a/x/", "http://a/x/a%20b%3F%23%2F%C3%A9"),
            ("http://a/x/#f", "http://a/x/a%20b%3F%23%2F%C3%A9#f"),
            ("http://a/x", "http://a/x"),
            ("http://a/x/?q", "http://a/x/?q"),
            ("http://a/?", "http://a/?"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(file.complete(url), expected);
        }
        let unnamed = Contents::Pipe { path: "-".into(), name: None };
        assert_eq!(unnamed.complete("http://a/"), "http://a/");
        assert_eq!(Contents::Data(Body::from("")).complete("http://a/"), "http://a/");
    }

    #[test]
    fn a_forms_type_has_its_boundary_and_no_other() {
        let form = Contents::Form { body: Body::from(""), boundary: "B".to_owned() };
        assert_eq!(form.content_type().unwrap(), "multipart/form-data; boundary=B");
        for (value, expected) in [
            ("multipart/related", "multipart/related; boundary=B"),
            ("multipart/form-data ; boundary=other", "multipart/form-data; boundary=B"),
        ] {
            assert_eq!(form.value("Content-type", value), expected);
        }
        assert_eq!(form.value("X-A", "a;b"), "a;b");
        assert_eq!(Contents::Data(Body::from("")).value("Content-Type", "a;b"), "a;b");
    }
}
