//! Plain data. Forms of several parts as bodies: `multipart/form-data` (RFC 7578).
//!
//! In go names, texts, bytes and files; out come pieces of a known length, in which files are read
//! as they are sent.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::Path;

use super::source::Piece;
use super::{Body, Payload};
use crate::error::{Error, Kind, Phase};
use crate::field;

/// A form of several parts: texts, bytes and files, in their order.
///
/// Its length is known and announced, and it can be sent again. Files are read as they are sent.
/// Names of fields and files are escaped as browsers do (WHATWG HTML §4.10.21.8): a quotation mark
/// is `%22`, CR and LF are `%0D` and `%0A`, and everything else is UTF-8 as it is. Values are sent
/// as they are.
///
/// ```
/// use whippet::{Multipart, Part, Request};
///
/// # let path = std::env::temp_dir().join("whippet-multipart-doc");
/// # std::fs::write(&path, "lines").unwrap();
/// let form = Multipart::new()
///     .text("title", "Holidays")
///     .part("photo", Part::file(&path)?.file_name("beach.jpg").content_type("image/jpeg")?)
///     .part("raw", Part::bytes([0, 1, 2]));
/// let request = Request::post("http://127.0.0.1:8080/upload")?.multipart(form);
/// # std::fs::remove_file(path).unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Multipart {
    boundary: String,
    /// What is before the next piece.
    pending: Vec<u8>,
    pieces: Vec<Piece>,
}

/// One part of a [`Multipart`] form, without the name of its field.
#[derive(Debug)]
pub struct Part {
    content: Content,
    file_name: Option<String>,
    content_type: Option<Vec<u8>>,
}

enum Content {
    Bytes(Vec<u8>),
    File(Piece),
}

impl Multipart {
    /// A form without parts. Its boundary is drawn at random: 128 bits.
    pub fn new() -> Self {
        let half = || RandomState::new().build_hasher().finish();
        let boundary = format!("----whippet{:016x}{:016x}", half(), half());
        Self { boundary, pending: Vec::new(), pieces: Vec::new() }
    }

    /// Adds a field with a text.
    #[must_use]
    pub fn text(self, name: &str, value: &str) -> Self {
        self.part(name, Part::bytes(value))
    }

    /// Adds a field with a file, under the name that it has: [`Part::file`].
    ///
    /// # Errors
    /// As [`Part::file`].
    pub fn file(self, name: &str, path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(self.part(name, Part::file(path)?))
    }

    /// Adds a field with any part.
    #[must_use]
    pub fn part(mut self, name: &str, part: Part) -> Self {
        let disposition = b"\r\nContent-Disposition: form-data; name=\"";
        let head = [b"--", self.boundary.as_bytes(), disposition].concat();
        self.pending.extend_from_slice(&head);
        escape(&lines_ended(name), &mut self.pending);
        if let Some(file_name) = &part.file_name {
            self.pending.extend_from_slice(b"\"; filename=\"");
            escape(file_name, &mut self.pending);
        }
        self.pending.extend_from_slice(b"\"\r\n");
        if let Some(content_type) = &part.content_type {
            for bytes in [b"Content-Type: ", content_type.as_slice(), b"\r\n"] {
                self.pending.extend_from_slice(bytes);
            }
        }
        self.pending.extend_from_slice(b"\r\n");
        match part.content {
            Content::Bytes(bytes) => self.pending.extend_from_slice(&bytes),
            Content::File(file) => {
                let before = std::mem::take(&mut self.pending);
                self.pieces.extend([Piece::Bytes(before.into()), file]);
            }
        }
        self.pending.extend_from_slice(b"\r\n");
        self
    }

    /// The value of the Content-Type that goes with it.
    pub fn content_type(&self) -> String {
        format!("multipart/form-data; boundary={}", self.boundary)
    }

    /// The form as a body.
    pub fn into_body(mut self) -> Body {
        let end = format!("--{}--\r\n", self.boundary);
        self.pending.extend_from_slice(end.as_bytes());
        if self.pieces.is_empty() {
            return Body(Payload::Bytes(self.pending.into()));
        }
        self.pieces.push(Piece::Bytes(self.pending.into()));
        Body::of_pieces(self.pieces)
    }
}

impl Default for Multipart {
    fn default() -> Self {
        Self::new()
    }
}

impl Part {
    /// Bytes, or a text.
    pub fn bytes(bytes: impl AsRef<[u8]>) -> Self {
        let content = Content::Bytes(bytes.as_ref().to_vec());
        Self { content, file_name: None, content_type: None }
    }

    /// A file of the length that it has now, read as it is sent; with the last part of its path as
    /// its name, and `application/octet-stream` as its type.
    ///
    /// # Errors
    /// Those of opening it; `InvalidInput` for what is no regular file, whose length is not known.
    pub fn file(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut part = Self::content_of(path)?.file_name(&name);
        part.content_type = Some(b"application/octet-stream".to_vec());
        Ok(part)
    }

    /// What is in a file, read as it is sent; without a name and a type, as a text has none.
    ///
    /// # Errors
    /// As [`Self::file`].
    pub fn content_of(path: impl AsRef<Path>) -> io::Result<Self> {
        let content = Content::File(Piece::open(path.as_ref())?);
        Ok(Self { content, file_name: None, content_type: None })
    }

    /// The name of a file, under which it is sent.
    #[must_use]
    pub fn file_name(mut self, name: &str) -> Self {
        self.file_name = Some(name.to_owned());
        self
    }

    /// Its Content-Type.
    ///
    /// # Errors
    /// [`Kind::InvalidRequest`] for a control character.
    pub fn content_type(mut self, content_type: &str) -> Result<Self, Error> {
        let value = field::check_header(b"Content-Type", content_type.as_bytes());
        let value = value.map_err(|refused| {
            Error::new(Kind::InvalidRequest, Phase::Request, refused.to_string())
        })?;
        self.content_type = Some(value.to_vec());
        Ok(self)
    }
}

/// What would end the name, or its line (RFC 7578 §2, WHATWG HTML §4.10.21.8).
fn escape(name: &str, into: &mut Vec<u8>) {
    for byte in name.bytes() {
        match byte {
            b'"' => into.extend_from_slice(b"%22"),
            b'\r' => into.extend_from_slice(b"%0D"),
            b'\n' => into.extend_from_slice(b"%0A"),
            other => into.push(other),
        }
    }
}

/// With each line end as CR LF, which browsers do to names of fields before they escape them.
fn lines_ended(name: &str) -> String {
    name.replace("\r\n", "\n").replace('\r', "\n").replace('\n', "\r\n")
}

/// How much there is, not what: it may be anybody's secret.
impl fmt::Debug for Multipart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Multipart").field("pieces", &self.pieces.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes(_) => "Bytes",
            Self::File(_) => "File",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(form: Multipart) -> String {
        let boundary = form.boundary.clone();
        let body = form.into_body();
        String::from_utf8(body.0.bytes().to_vec()).unwrap().replace(&boundary, "B")
    }

    #[test]
    fn parts_stand_between_boundaries_in_their_order() {
        let part = Part::bytes([b'x']).file_name("a.txt").content_type(" text/plain ").unwrap();
        let form = Multipart::new().text("one", "1\n2").part("two", part);
        assert_eq!(
            text_of(form),
            "--B\r\nContent-Disposition: form-data; name=\"one\"\r\n\r\n1\n2\r\n\
             --B\r\nContent-Disposition: form-data; name=\"two\"; filename=\"a.txt\"\r\n\
             Content-Type: text/plain\r\n\r\nx\r\n--B--\r\n"
        );
        assert_eq!(text_of(Multipart::new()), "--B--\r\n");
    }

    #[test]
    fn names_are_escaped_as_browsers_do_and_cannot_end_their_line() {
        let said = |name: &str, file_name: &str| {
            let form = Multipart::new().part(name, Part::bytes("").file_name(file_name));
            let text = text_of(form);
            text.lines().nth(1).unwrap().to_owned()
        };
        assert_eq!(
            said("a\"b\nc\rd\r\ne%é\\", "f\"g\nh\ri"),
            "Content-Disposition: form-data; name=\"a%22b%0D%0Ac%0D%0Ad%0D%0Ae%é\\\"; \
             filename=\"f%22g%0Ah%0Di\""
        );
        assert!(Part::bytes("").content_type("a/b\r\nX: y").is_err());
    }

    #[test]
    fn boundaries_differ_and_fit_their_grammar() {
        let (one, two) = (Multipart::new(), Multipart::new());
        assert_ne!(one.boundary, two.boundary);
        assert!(one.boundary.len() <= 70 && one.boundary.bytes().all(field::is_token));
    }
}
