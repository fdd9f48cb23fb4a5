//! Floor 1. Who answers which challenge: Digest sessions (RFC 7616), each with one origin for one
//! login.
//!
//! In go WWW-Authenticate and Authentication-Info fields with the origin they came from; out come
//! Authorization fields for that origin and for no other, and whether a 401 is answered.

mod challenge;
mod digest;
mod hash;

use std::sync::Arc;

use self::challenge::{challenges, parameter};
use self::digest::{Answering, Asked, CNONCE_BYTES};
use crate::origin::Origin;
use crate::userinfo::Userinfo;

/// The challenges that are being answered.
#[derive(Default)]
pub(crate) struct Sessions {
    /// Those answered last stand last.
    list: Vec<Session>,
}

struct Session {
    origin: Origin,
    login: Arc<Userinfo>,
    answering: Answering,
}

/// What to do with a 401.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// It is the answer: hand it over.
    Answer,
    /// Send the request again, with what [`Sessions::authorization`] gives.
    Again,
}

impl Sessions {
    /// Judges a 401 with the values of its WWW-Authenticate fields. `answered`: how many
    /// challenges the same request has answered before, and whether it answered one this time.
    ///
    /// The first one is answered, whatever was sent on account of an older nonce. After that the
    /// login is wrong, unless the server says that only the nonce was stale, or the request went
    /// without: another one's 401 may have ended the session meanwhile.
    pub(crate) fn judge<'a>(
        &mut self,
        origin: &Origin,
        login: &Arc<Userinfo>,
        fields: impl Iterator<Item = &'a [u8]>,
        (answered, was_shown): (u32, bool),
        random: impl FnOnce(&mut [u8]) -> bool,
    ) -> Verdict {
        // What did not help will not help the next request.
        self.take(origin, login);
        let challenges = fields.flat_map(challenges);
        let Some(asked) = challenges.into_iter().find_map(|challenge| Asked::of(&challenge)) else {
            return Verdict::Answer;
        };
        let may_help = asked.is_stale || !was_shown;
        let is_fresh = answered == 0 || (may_help && answered < ANSWERS_MAX);
        let mut cnonce = [0; CNONCE_BYTES];
        if !is_fresh || !random(&mut cnonce) {
            return Verdict::Answer;
        }
        if self.list.len() >= SESSIONS_MAX {
            self.list.remove(0);
        }
        let answering = Answering::new(asked, cnonce);
        let (origin, login) = (origin.clone(), Arc::clone(login));
        self.list.push(Session { origin, login, answering });
        Verdict::Again
    }

    /// The Authorization field of a request. `None`: nothing was asked there yet.
    pub(crate) fn authorization(
        &mut self,
        origin: &Origin,
        login: &Arc<Userinfo>,
        method: &str,
        target: &str,
    ) -> Option<Vec<u8>> {
        let mut session = self.take(origin, login)?;
        let value = session.answering.answer(login, method, target)?;
        self.list.push(session);
        Some(value)
    }

    /// Takes note of an Authentication-Info field: the nonce of the next request may be in it.
    pub(crate) fn note_info(&mut self, origin: &Origin, login: &Arc<Userinfo>, field: &[u8]) {
        if let Some(nonce) = parameter(field, "nextnonce")
            && let Some(at) = self.find(origin, login)
            && let Some(session) = self.list.get_mut(at)
        {
            session.answering.go_on_with(nonce);
        }
    }

    fn take(&mut self, origin: &Origin, login: &Arc<Userinfo>) -> Option<Session> {
        let at = self.find(origin, login)?;
        Some(self.list.remove(at))
    }

    fn find(&self, origin: &Origin, login: &Arc<Userinfo>) -> Option<usize> {
        self.list.iter().position(|session| session.origin == *origin && session.login == *login)
    }
}

/// Origins and logins that are remembered.
const SESSIONS_MAX: usize = 256;
/// Challenges that one request answers: the first, and those after it that say "stale".
const ANSWERS_MAX: u32 = 8;

#[cfg(feature = "digest")]
#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    const CHALLENGE: &[u8] = b"Digest realm=\"r\", nonce=\"n\", qop=\"auth\"";
    const STALE: &[u8] = b"Digest realm=\"r\", nonce=\"m\", qop=\"auth\", stale=true";

    fn origin(url: &str) -> Origin {
        Origin::of(&Url::parse(url).unwrap()).unwrap()
    }

    fn login(user: &str) -> Arc<Userinfo> {
        Arc::new(Userinfo { user: user.as_bytes().into(), password: b"p"[..].into() })
    }

    fn judge(
        sessions: &mut Sessions,
        at: &str,
        user: &str,
        field: &[u8],
        answered: (u32, bool),
    ) -> Verdict {
        let random = |into: &mut [u8]| {
            into.fill(7);
            true
        };
        let fields = [&b"Basic realm=\"x\""[..], field];
        sessions.judge(&origin(at), &login(user), fields.into_iter(), answered, random)
    }

    fn sent(sessions: &mut Sessions, at: &str, user: &str) -> Option<String> {
        let value = sessions.authorization(&origin(at), &login(user), "GET", "/")?;
        Some(String::from_utf8(value).unwrap())
    }

    #[test]
    fn an_answer_is_for_its_origin_and_login_alone() {
        let mut sessions = Sessions::default();
        assert_eq!(sent(&mut sessions, "http://a.example/", "me"), None);
        let verdict = judge(&mut sessions, "http://a.example/", "me", CHALLENGE, (0, false));
        assert_eq!(verdict, Verdict::Again);
        let first = sent(&mut sessions, "http://a.example/x", "me").unwrap();
        assert!(first.contains("nc=00000001") && first.contains("username=\"me\""), "{first}");
        assert!(sent(&mut sessions, "http://A.example:80/", "me").unwrap().contains("nc=00000002"));
        for (url, user) in [
            ("http://a.example/", "you"),
            ("https://a.example/", "me"),
            ("http://a.example:81/", "me"),
            ("http://b.a.example/", "me"),
        ] {
            assert_eq!(sent(&mut sessions, url, user), None, "{url} {user}");
        }
    }

    #[test]
    fn a_challenge_is_answered_once_and_again_where_it_is_stale() {
        let mut sessions = Sessions::default();
        let at = "http://a.example/";
        for (field, answered, verdict) in [
            (CHALLENGE, (0, false), Verdict::Again),
            (CHALLENGE, (1, true), Verdict::Answer),
            (CHALLENGE, (1, false), Verdict::Again),
            (CHALLENGE, (8, false), Verdict::Answer),
            (STALE, (1, true), Verdict::Again),
            (STALE, (7, true), Verdict::Again),
            (STALE, (8, true), Verdict::Answer),
            (b"Digest realm=\"r\"", (0, false), Verdict::Answer),
            (b"", (0, false), Verdict::Answer),
        ] {
            assert_eq!(judge(&mut sessions, at, "me", field, answered), verdict, "{answered:?}");
            assert_eq!(sent(&mut sessions, at, "me").is_some(), verdict == Verdict::Again);
        }
        let fields = [CHALLENGE].into_iter();
        let verdict = sessions.judge(&origin(at), &login("me"), fields, (0, false), |_| false);
        assert_eq!(verdict, Verdict::Answer, "nobody could guess a nonce that nobody drew");
    }

    #[test]
    fn the_next_nonce_is_taken_from_where_it_is_told() {
        let mut sessions = Sessions::default();
        let at = "http://a.example/";
        judge(&mut sessions, at, "me", CHALLENGE, (0, false));
        sent(&mut sessions, at, "me");
        sessions.note_info(&origin(at), &login("me"), b"rspauth=\"x\", nextnonce=\"next\"");
        let value = sent(&mut sessions, at, "me").unwrap();
        assert!(value.contains("nonce=\"next\"") && value.contains("nc=00000001"), "{value}");
        sessions.note_info(&origin(at), &login("me"), b"nextnonce=\"next\"");
        assert!(sent(&mut sessions, at, "me").unwrap().contains("nc=00000002"));
        sessions.note_info(&origin(at), &login("you"), b"nextnonce=\"no\"");
    }

    #[test]
    fn so_many_are_remembered_and_those_in_use_stay() {
        let mut sessions = Sessions::default();
        judge(&mut sessions, "http://used.example/", "me", CHALLENGE, (0, false));
        for n in 0..1_000 {
            judge(&mut sessions, &format!("http://h{n}.example/"), "me", CHALLENGE, (0, false));
            assert!(sent(&mut sessions, "http://used.example/", "me").is_some());
            assert!(sessions.list.len() <= SESSIONS_MAX);
        }
        assert_eq!(sent(&mut sessions, "http://h1.example/", "me"), None);
        assert!(sent(&mut sessions, "http://h999.example/", "me").is_some());
    }
}
