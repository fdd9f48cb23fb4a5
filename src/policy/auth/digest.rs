//! Floor 1. Digest Access Authentication (RFC 7616): a challenge as it is kept, and what answers
//! it.
//!
//! In go a challenge, a login and a request's method and target; out comes the value of an
//! Authorization field. The password is in it only as part of a hash.

use super::challenge::Challenge;
use super::hash::{Algorithm, digits};
use crate::field::is_token;
use crate::userinfo::Userinfo;

/// A challenge that can be answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Asked {
    realm: Vec<u8>,
    nonce: Vec<u8>,
    opaque: Option<Vec<u8>>,
    algorithm: Algorithm,
    /// As the server wrote it; it is sent back so. None: it wrote none, and means MD5.
    algorithm_name: Option<Vec<u8>>,
    /// The password's hash is mixed with the first nonce.
    is_sess: bool,
    /// `auth`; without it, as RFC 2069 had it before there was a count.
    has_qop: bool,
    hides_user: bool,
    is_utf8: bool,
    /// The nonce before was too old; the login was right.
    pub(super) is_stale: bool,
}

impl Asked {
    /// `None`: of another scheme, with an algorithm or a protection that is not known here, or
    /// without what it must have.
    pub(super) fn of(challenge: &Challenge<'_>) -> Option<Self> {
        if !challenge.scheme.eq_ignore_ascii_case(b"digest") {
            return None;
        }
        let is = |name: &str, word: &str| {
            challenge.get(name).is_some_and(|value| value.eq_ignore_ascii_case(word.as_bytes()))
        };
        let owned = |name: &str| challenge.get(name).map(<[u8]>::to_vec);
        let qop = challenge.get("qop").map(|list| {
            list.split(|&byte| byte == b',')
                .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"auth"))
        });
        let algorithm_name = owned("algorithm");
        let name = algorithm_name.as_deref().unwrap_or(b"MD5");
        // It goes back without quotes.
        if !name.iter().all(|&byte| is_token(byte)) {
            return None;
        }
        let (name, is_sess) = match name.split_last_chunk::<5>() {
            Some((name, last)) if last.eq_ignore_ascii_case(b"-sess") => (name, true),
            _ => (name, false),
        };
        Some(Self {
            realm: owned("realm")?,
            nonce: owned("nonce")?,
            opaque: owned("opaque"),
            algorithm: Algorithm::named(name)?,
            algorithm_name,
            is_sess,
            has_qop: qop.is_none_or(|has_auth| has_auth).then_some(qop.is_some())?,
            hides_user: is("userhash", "true"),
            is_utf8: is("charset", "utf-8"),
            is_stale: is("stale", "true"),
        })
    }
}

/// A challenge that is being answered, again and again.
#[derive(Debug)]
pub(super) struct Answering {
    asked: Asked,
    /// The challenge's, or a later one that the server gave for what comes next.
    nonce: Vec<u8>,
    cnonce: String,
    /// How many answers this nonce has had.
    count: u32,
}

impl Answering {
    /// `random` becomes the client's own nonce: nobody must be able to guess it.
    pub(super) fn new(asked: Asked, random: [u8; CNONCE_BYTES]) -> Self {
        let cnonce = random.iter().flat_map(|byte| digits(*byte)).collect();
        Self { nonce: asked.nonce.clone(), asked, cnonce, count: 0 }
    }

    /// The next answers are to this nonce.
    pub(super) fn go_on_with(&mut self, nonce: Vec<u8>) {
        if nonce != self.nonce {
            self.nonce = nonce;
            self.count = 0;
        }
    }

    /// The value of an Authorization field. `None`: the nonce has had all answers that it can.
    pub(super) fn answer(
        &mut self,
        login: &Userinfo,
        method: &str,
        target: &str,
    ) -> Option<Vec<u8>> {
        self.count = self.count.checked_add(1)?;
        let count = format!("{:08x}", self.count);
        let Self { asked, nonce, cnonce, .. } = self;
        let response = response(asked, nonce, cnonce, &count, login, [method, target]);
        let mut value = b"Digest ".to_vec();
        push_user(&mut value, asked, login);
        push_quoted(&mut value, "realm", &asked.realm);
        push_quoted(&mut value, "nonce", nonce);
        push_quoted(&mut value, "uri", target.as_bytes());
        push_quoted(&mut value, "response", response.as_bytes());
        if let Some(name) = &asked.algorithm_name {
            push(&mut value, "algorithm", name);
        }
        if let Some(opaque) = &asked.opaque {
            push_quoted(&mut value, "opaque", opaque);
        }
        if asked.has_qop {
            push(&mut value, "qop", b"auth");
            push(&mut value, "nc", count.as_bytes());
        }
        if asked.has_qop || asked.is_sess {
            push_quoted(&mut value, "cnonce", cnonce.as_bytes());
        }
        Some(value)
    }
}

/// RFC 7616 §3.4.1 to §3.4.3.
fn response(
    asked: &Asked,
    nonce: &[u8],
    cnonce: &str,
    count: &str,
    login: &Userinfo,
    [method, target]: [&str; 2],
) -> String {
    let hash = |parts: &[&[u8]]| asked.algorithm.of(parts);
    let cnonce = cnonce.as_bytes();
    let mut secret = hash(&[&login.user, &asked.realm, &login.password]);
    if asked.is_sess {
        secret = hash(&[secret.as_bytes(), &asked.nonce, cnonce]);
    }
    let request = hash(&[method.as_bytes(), target.as_bytes()]);
    let (secret, request) = (secret.as_bytes(), request.as_bytes());
    if asked.has_qop {
        hash(&[secret, nonce, count.as_bytes(), cnonce, b"auth", request])
    } else {
        hash(&[secret, nonce, request])
    }
}

/// RFC 7616 §3.4.4: the name's hash, or what a quoted string cannot hold in another form, where
/// the server has said that it reads that.
fn push_user(value: &mut Vec<u8>, asked: &Asked, login: &Userinfo) {
    let user = &*login.user;
    if asked.hides_user {
        let hidden = asked.algorithm.of(&[user, &asked.realm]);
        push_quoted(value, "username", hidden.as_bytes());
        push(value, "userhash", b"true");
    } else if asked.is_utf8 && !login.user.is_ascii() {
        let mut encoded = String::from("UTF-8''");
        for byte in user {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
                encoded.push(char::from(*byte));
            } else {
                encoded.push('%');
                encoded.extend(digits(*byte).map(|digit| digit.to_ascii_uppercase()));
            }
        }
        push(value, "username*", encoded.as_bytes());
    } else {
        push_quoted(value, "username", user);
    }
}

fn push(value: &mut Vec<u8>, name: &str, word: &[u8]) {
    if !value.ends_with(b" ") {
        value.extend_from_slice(b", ");
    }
    value.extend_from_slice(name.as_bytes());
    value.push(b'=');
    value.extend_from_slice(word);
}

fn push_quoted(value: &mut Vec<u8>, name: &str, text: &[u8]) {
    let mut quoted = Vec::with_capacity(text.len() + 2);
    quoted.push(b'"');
    for byte in text {
        if matches!(byte, b'"' | b'\\') {
            quoted.push(b'\\');
        }
        quoted.push(*byte);
    }
    quoted.push(b'"');
    push(value, name, &quoted);
}

/// As many as no two clients draw alike.
pub(super) const CNONCE_BYTES: usize = 16;

#[cfg(feature = "digest")]
#[cfg(test)]
mod tests {
    use super::super::challenge::{challenges, parameter};
    use super::*;

    fn asked(field: &str) -> Option<Asked> {
        challenges(field.as_bytes()).iter().find_map(Asked::of)
    }

    fn answering(field: &str, cnonce: &str) -> Answering {
        let asked = asked(field).unwrap();
        Answering { nonce: asked.nonce.clone(), asked, cnonce: cnonce.to_owned(), count: 0 }
    }

    fn login(user: &str, password: &str) -> Userinfo {
        Userinfo { user: user.as_bytes().into(), password: password.as_bytes().into() }
    }

    fn part(value: &[u8], name: &str) -> Option<String> {
        let list = value.strip_prefix(b"Digest ")?;
        parameter(list, name).map(|value| String::from_utf8(value).unwrap())
    }

    /// RFC 7616 §3.9.1.
    #[test]
    fn the_examples_of_the_standard_are_answered_as_it_says() {
        for (algorithm, response) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let field = format!(
                "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", \
                 algorithm={algorithm}, nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", \
                 opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
            );
            let mut answering = answering(&field, "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ");
            let mufasa = login("Mufasa", "Circle of Life");
            let value = answering.answer(&mufasa, "GET", "/dir/index.html").unwrap();
            let expected = format!(
                "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", \
                 nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", uri=\"/dir/index.html\", \
                 response=\"{response}\", algorithm={algorithm}, \
                 opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\", qop=auth, nc=00000001, \
                 cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\""
            );
            assert_eq!(String::from_utf8(value).unwrap(), expected);
        }
    }

    /// RFC 7616 §3.9.2, whose own hashes are not of the algorithm that it names (erratum 4897):
    /// these are.
    #[test]
    fn a_user_may_be_named_by_a_hash() {
        let field = "Digest realm=\"api@example.org\", qop=\"auth\", algorithm=SHA-512-256, \
                     nonce=\"5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK\", \
                     opaque=\"HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS\", charset=UTF-8, \
                     userhash=true";
        let mut answering = answering(field, "NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v");
        let doe = login("J\u{e4}s\u{f8}n Doe", "Secret, or not?");
        let value = answering.answer(&doe, "GET", "/doe.json").unwrap();
        let user = "793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b";
        assert_eq!(part(&value, "username").as_deref(), Some(user));
        assert_eq!(part(&value, "userhash").as_deref(), Some("true"));
        let response = "3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5";
        assert_eq!(part(&value, "response").as_deref(), Some(response));
    }

    /// RFC 2617 §3.5 and RFC 2069 §2.4 (erratum 749): what is older is understood.
    #[test]
    fn older_servers_are_answered_in_their_way() {
        let nonce = "nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\"";
        let mufasa = login("Mufasa", "Circle Of Life");
        let field = format!("Digest realm=\"testrealm@host.com\", qop=\"auth,auth-int\", {nonce}");
        let value = answering(&field, "0a4f113b").answer(&mufasa, "GET", "/dir/index.html");
        let value = value.unwrap();
        let response = part(&value, "response").unwrap();
        assert_eq!(response, "6629fae49393a05397450978507c4ef1");
        assert_eq!(part(&value, "algorithm"), None);
        let field = format!("Digest realm=\"testrealm@host.com\", {nonce}");
        let old = login("Mufasa", "CircleOfLife");
        let value = answering(&field, "x").answer(&old, "GET", "/dir/index.html").unwrap();
        assert_eq!(part(&value, "response").unwrap(), "1949323746fe6a43ef61f9606e7febea");
        for name in ["qop", "nc", "cnonce", "opaque"] {
            assert_eq!(part(&value, name), None, "{name}");
        }
    }

    #[test]
    fn a_session_is_bound_to_its_first_nonce() {
        let field = "Digest realm=\"r\", nonce=\"one\", qop=auth, algorithm=md5-SESS";
        let mut answering = answering(field, "c");
        let login = login("u", "p");
        let hash = |parts: &[&str]| {
            let parts: Vec<_> = parts.iter().map(|part| part.as_bytes()).collect();
            Algorithm::Md5.of(&parts)
        };
        let secret = hash(&[&hash(&["u", "r", "p"]), "one", "c"]);
        for (nonce, count) in [("one", 1), ("one", 2), ("two", 1), ("two", 2)] {
            answering.go_on_with(nonce.as_bytes().to_vec());
            let value = answering.answer(&login, "PUT", "/x?y").unwrap();
            let count = format!("{count:08x}");
            let expected = hash(&[&secret, nonce, &count, "c", "auth", &hash(&["PUT", "/x?y"])]);
            assert_eq!(part(&value, "response").unwrap(), expected, "{nonce} {count}");
            assert_eq!(part(&value, "nc").unwrap(), count);
            assert_eq!(part(&value, "nonce").unwrap(), nonce);
            assert_eq!(part(&value, "algorithm").unwrap(), "md5-SESS");
        }
        answering.count = u32::MAX;
        assert_eq!(answering.answer(&login, "GET", "/"), None);
    }

    #[test]
    fn what_cannot_be_answered_is_not() {
        for field in [
            "Basic realm=\"r\"",
            "Digest realm=\"r\"",
            "Digest nonce=\"n\"",
            "Digest realm=\"r\", nonce=\"n\", algorithm=SHA-1",
            "Digest realm=\"r\", nonce=\"n\", algorithm=-sess",
            "Digest realm=\"r\", nonce=\"n\", algorithm=\"MD5, x\"",
            "Digest realm=\"r\", nonce=\"n\", qop=\"auth-int\"",
            "Digest realm=\"r\", nonce=\"n\", qop=\"\"",
        ] {
            assert_eq!(asked(field), None, "{field}");
        }
        // The first one that can be.
        let field = "Digest realm=\"a\", nonce=\"n\", algorithm=SHA-1, Basic realm=\"b\", \
                     Digest realm=\"c\", nonce=\"n\", algorithm=SHA-256, Digest realm=\"d\", \
                     nonce=\"n\", STALE=TRUE";
        let first = asked(field).unwrap();
        assert_eq!((&first.realm[..], first.is_stale), (&b"c"[..], false));
    }

    #[test]
    fn names_and_realms_are_quoted_or_encoded() {
        let field = "Digest realm=\"a \\\"b\\\\\", nonce=\"n\"";
        let mut plain = answering(field, "c");
        let value = plain.answer(&login("me \"\\ \u{e9}", "p"), "GET", "/").unwrap();
        assert_eq!(part(&value, "realm").unwrap(), "a \"b\\");
        assert_eq!(part(&value, "username").unwrap(), "me \"\\ \u{e9}");
        let mut utf8 = answering(&format!("{field}, charset=\"utf-8\""), "c");
        let value = utf8.answer(&login("me \u{e9}", "p"), "GET", "/").unwrap();
        assert!(value.starts_with(b"Digest username*=UTF-8''me%20%C3%A9, realm="));
        let value = utf8.answer(&login("me", "p"), "GET", "/").unwrap();
        assert_eq!(part(&value, "username").unwrap(), "me");
    }
}
