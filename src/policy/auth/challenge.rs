//! Floor 1. What a WWW-Authenticate field says (RFC 9110 §11.3, §11.6.1).
//!
//! In goes a field's value; out come challenges with their parameters, quotes taken away. A value
//! that breaks the grammar gives what stands before the break.

use crate::field::is_token;

/// A scheme, and what it is asked with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Challenge<'a> {
    pub(super) scheme: &'a [u8],
    pub(super) parameters: Vec<(&'a [u8], Vec<u8>)>,
}

impl Challenge<'_> {
    /// The first parameter of a name, which is compared without case.
    pub(super) fn get(&self, name: &str) -> Option<&[u8]> {
        let is_it = |given: &[u8]| given.eq_ignore_ascii_case(name.as_bytes());
        let found = self.parameters.iter().find(|(given, _)| is_it(given));
        found.map(|(_, value)| &**value)
    }
}

/// The challenges of a field, in its order.
pub(super) fn challenges(field: &[u8]) -> Vec<Challenge<'_>> {
    let mut rest = Rest(field);
    let mut challenges: Vec<Challenge<'_>> = Vec::new();
    loop {
        rest.skip(|byte| byte == b',' || is_space(byte));
        let word = rest.take(is_token);
        if word.is_empty() {
            return challenges;
        }
        match (rest.parameter(), challenges.last_mut()) {
            (Parameter::Value(value), Some(challenge)) => challenge.parameters.push((word, value)),
            (Parameter::None, _) => {
                challenges.push(Challenge { scheme: word, parameters: Vec::new() });
                rest.skip_token68();
            }
            // Without a scheme before it, or without an end.
            _ => return challenges,
        }
    }
}

/// One of the `name=value` pairs that Authentication-Info has between commas (RFC 7615 §3).
pub(super) fn parameter(field: &[u8], name: &str) -> Option<Vec<u8>> {
    let mut rest = Rest(field);
    loop {
        rest.skip(|byte| byte == b',' || is_space(byte));
        let word = rest.take(is_token);
        let Parameter::Value(value) = rest.parameter() else { return None };
        if word.eq_ignore_ascii_case(name.as_bytes()) {
            return Some(value);
        }
    }
}

enum Parameter {
    Value(Vec<u8>),
    /// No `=` follows.
    None,
    /// It follows, and no value behind it.
    Broken,
}

/// What is left of a field.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, belongs: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.0.iter().position(|&byte| !belongs(byte)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }

    fn skip(&mut self, belongs: impl Fn(u8) -> bool) {
        self.take(belongs);
    }

    /// Takes `= value`, where that is what comes.
    fn parameter(&mut self) -> Parameter {
        let before = self.0;
        self.skip(is_space);
        let Some(rest) = self.0.strip_prefix(b"=") else {
            self.0 = before;
            return Parameter::None;
        };
        self.0 = rest;
        self.skip(is_space);
        let value = match self.0.strip_prefix(b"\"") {
            Some(rest) => {
                self.0 = rest;
                self.quoted()
            }
            None => Some(self.take(is_token).to_vec()).filter(|value| !value.is_empty()),
        };
        value.map_or(Parameter::Broken, Parameter::Value)
    }

    /// Up to the closing quote; a backslash stands for what follows it.
    fn quoted(&mut self) -> Option<Vec<u8>> {
        let mut value = Vec::new();
        loop {
            value.extend_from_slice(self.take(|byte| byte != b'"' && byte != b'\\'));
            let (end, rest) = self.0.split_first()?;
            self.0 = rest;
            if *end == b'"' {
                return Some(value);
            }
            let (escaped, rest) = rest.split_first()?;
            self.0 = rest;
            value.push(*escaped);
        }
    }

    /// Passes over the one value that some schemes have in place of parameters.
    fn skip_token68(&mut self) {
        let before = self.0;
        self.skip(is_space);
        let word = self.take(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte));
        self.skip(|byte| byte == b'=');
        self.skip(is_space);
        let is_all = self.0.is_empty() || self.0.starts_with(b",");
        if word.is_empty() || !is_all {
            self.0 = before;
        }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(field: &str) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let shown = challenges(field.as_bytes()).into_iter().map(|challenge| {
            let parameters = challenge.parameters.iter();
            let each = parameters.map(|(name, value)| format!(" {}={}", text(name), text(value)));
            format!("{}{}", text(challenge.scheme), each.collect::<String>())
        });
        shown.collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn challenges_and_their_parameters_are_told_apart() {
        for (field, read_as) in [
            ("", ""),
            (" , ,", ""),
            ("Negotiate", "Negotiate"),
            ("Negotiate, Basic realm=\"a\"", "Negotiate | Basic realm=a"),
            ("Negotiate YWJj==, Basic realm=a", "Negotiate | Basic realm=a"),
            ("Negotiate YWJj", "Negotiate"),
            ("Basic realm = \"a, b\" , charset=UTF-8", "Basic realm=a, b charset=UTF-8"),
            (
                "Newauth realm=\"apps\", type=1, title=\"say \\\"hi\\\\\\\"\", Basic realm=\"x\"",
                "Newauth realm=apps type=1 title=say \"hi\\\" | Basic realm=x",
            ),
            (
                "Digest realm=\"\",nonce=\"n\",qop=\"auth,auth-int\"",
                "Digest realm= nonce=n qop=auth,auth-int",
            ),
            ("Digest realm=\"\u{e9}\"", "Digest realm=\u{e9}"),
            ("Digest,realm=a", "Digest realm=a"),
            ("a=b, Basic", ""),
            ("Basic realm=\"a", "Basic"),
            ("Basic realm=\"a\\", "Basic"),
            ("Basic realm=\"a\", x=, y=1", "Basic realm=a"),
            // What has nothing behind its `=` is a value of that kind, too.
            ("Basic realm=, x=1", "Basic x=1"),
            ("Basic realm=a; x=1", "Basic realm=a"),
            ("Basic realm=a \"b\" c", "Basic realm=a"),
        ] {
            assert_eq!(read(field), read_as, "{field}");
        }
    }

    #[test]
    fn parameters_stand_alone_in_other_fields() {
        let get = |field: &str, name| parameter(field.as_bytes(), name).map(String::from_utf8);
        let field = "rspauth=\"abc\", NextNonce=\"n,\\\"1\\\"\", nc=00000001";
        assert_eq!(get(field, "nextnonce"), Some(Ok("n,\"1\"".to_owned())));
        assert_eq!(get(field, "nc"), Some(Ok("00000001".to_owned())));
        assert_eq!(get(field, "qop"), None);
        assert_eq!(get("nextnonce", "nextnonce"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_end(field in proptest::collection::vec(0_u8..=255, 0..80)) {
            challenges(&field);
            parameter(&field, "x");
        }

        #[test]
        fn what_is_quoted_comes_out_as_it_was(value in "[ -~]{0,30}", name in "[a-z]{1,8}") {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
            let field = format!("Digest {name}=\"{quoted}\", last=1");
            let read = challenges(field.as_bytes());
            proptest::prop_assert_eq!(read.len(), 1);
            proptest::prop_assert_eq!(read[0].get(&name.to_uppercase()), Some(value.as_bytes()));
        }
    }
}
