//! Plain data. Content codings (RFC 9110 §8.4.1): which there are, which are built in, and what a
//! response says of its own.

use std::fmt;

/// A way in which a body may be compressed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Coding {
    /// `gzip` (RFC 1952), of any number of members.
    Gzip,
    /// `deflate`: zlib (RFC 1950), or raw (RFC 1951) as some servers send it.
    Deflate,
    /// `br`: Brotli (RFC 7932).
    Brotli,
    /// `zstd`: Zstandard (RFC 8878), with a window of at most 8 MiB (RFC 9659).
    Zstd,
}

impl Coding {
    /// Its name in Content-Encoding and Accept-Encoding.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }

    /// Whether it can be decoded: its feature is built in.
    pub fn is_built_in(self) -> bool {
        match self {
            Self::Gzip | Self::Deflate => cfg!(feature = "gzip"),
            Self::Brotli => cfg!(feature = "brotli"),
            Self::Zstd => cfg!(feature = "zstd"),
        }
    }

    /// One that is built in, by its name without case; `x-gzip` is gzip (RFC 9110 §8.4.1.3).
    fn named(name: &[u8]) -> Option<Self> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let known = [Self::Gzip, Self::Deflate, Self::Brotli, Self::Zstd];
        let named = known.into_iter().find(|coding| is(coding.as_str()));
        named.or_else(|| is("x-gzip").then_some(Self::Gzip)).filter(|coding| coding.is_built_in())
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the Content-Encoding fields of a response come to, one element after another.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum ContentCoding {
    #[default]
    Identity,
    One(Coding),
    /// In the order in which they were applied.
    Two(Coding, Coding),
    /// One of them is not built in: the body can only be handed on as it came.
    Unknown,
    /// More than [`CODINGS_MAX`].
    TooMany,
}

impl ContentCoding {
    /// Notes one more element of the list.
    pub(crate) fn note(&mut self, name: &[u8]) {
        if name.eq_ignore_ascii_case(b"identity") {
            return;
        }
        let named = Coding::named(name);
        *self = match (*self, named) {
            (Self::Unknown, _) | (_, None) => Self::Unknown,
            (Self::Identity, Some(coding)) => Self::One(coding),
            (Self::One(first), Some(coding)) => Self::Two(first, coding),
            (Self::Two(..) | Self::TooMany, Some(_)) => Self::TooMany,
        };
    }

    /// Those that can be removed, in the order in which they were applied.
    pub(crate) fn codings(self) -> impl Iterator<Item = Coding> + Clone + fmt::Debug + use<> {
        let (first, second) = match self {
            Self::One(coding) => (Some(coding), None),
            Self::Two(first, second) => (Some(first), Some(second)),
            Self::Identity | Self::Unknown | Self::TooMany => (None, None),
        };
        first.into_iter().chain(second)
    }
}

/// The value of Accept-Encoding: what is built in. Empty: nothing is.
pub(crate) const ACCEPTED: &str =
    match (cfg!(feature = "gzip"), cfg!(feature = "brotli"), cfg!(feature = "zstd")) {
        (true, true, true) => "gzip, deflate, br, zstd",
        (true, true, false) => "gzip, deflate, br",
        (true, false, true) => "gzip, deflate, zstd",
        (true, false, false) => "gzip, deflate",
        (false, true, true) => "br, zstd",
        (false, true, false) => "br",
        (false, false, true) => "zstd",
        (false, false, false) => "",
    };

/// Codings of one body. A third would only serve to hide how large it is.
pub(crate) const CODINGS_MAX: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(all(feature = "gzip", feature = "brotli", feature = "zstd"))]
    #[test]
    fn a_list_comes_to_what_can_be_removed() {
        use ContentCoding::{Identity, One, TooMany, Two, Unknown};
        let noted = |names: &[&str]| {
            let mut said = ContentCoding::default();
            names.iter().for_each(|name| said.note(name.as_bytes()));
            said
        };
        for (names, said) in [
            (&[][..], Identity),
            (&["identity", "Identity"], Identity),
            (&["gzip"], One(Coding::Gzip)),
            (&["X-GZip"], One(Coding::Gzip)),
            (&["deflate", "identity"], One(Coding::Deflate)),
            (&["zstd", "BR"], Two(Coding::Zstd, Coding::Brotli)),
            (&["gzip", "gzip", "gzip"], TooMany),
            (&["gzip", "gzip", "gzip", "gzip"], TooMany),
            (&["compress"], Unknown),
            (&["gzip", "compress"], Unknown),
            (&["compress", "gzip"], Unknown),
            (&["gzip", "gzip", "gzip", "x"], Unknown),
            (&["gzip;q=1"], Unknown),
        ] {
            assert_eq!(noted(names), said, "{names:?}");
        }
        let two = Two(Coding::Zstd, Coding::Brotli);
        assert!(two.codings().eq([Coding::Zstd, Coding::Brotli]));
        assert_eq!(Unknown.codings().count() + TooMany.codings().count(), 0);
    }

    #[test]
    fn what_is_accepted_is_what_is_built_in() {
        let all = [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd];
        let built_in = all.into_iter().filter(|coding| coding.is_built_in());
        let names: Vec<_> = built_in.map(Coding::as_str).collect();
        assert_eq!(names.join(", "), ACCEPTED);
    }
}
