//! Floor 1. Who answers which challenge: Digest sessions (RFC 7616), each with one origin for one
//! login.
//!
//! In go WWW-Authenticate and Authentication-Info fields with the origin they came from; out come
//! Authorization fields for that origin and for no other, and whether a 401 is answered.
//!
//! A nonce may be used again, with a count of its own for each request. But requests that go at
//! once arrive in any order, and a server may take a count that comes late for stale; or it has
//! forgotten the nonce, and does not say so. So a request that was asked answers what it was asked,
//! whatever others have begun, and only where that is refused, and not as stale, is the login
//! wrong.

mod challenge;
mod digest;
mod hash;

use std::sync::Arc;

use self::challenge::{challenges, parameter};
use self::digest::{Answering, Asked, CNONCE_BYTES};
use crate::origin::Origin;
use crate::userinfo::Userinfo;

/// The challenges that are being answered by whoever has the login.
#[derive(Default)]
pub(crate) struct Sessions {
    /// Those answered last stand last.
    list: Vec<Session>,
    /// Of sessions that have begun.
    begun: u64,
}

struct Session {
    number: u64,
    origin: Origin,
    login: Arc<Userinfo>,
    answering: Answering,
}

/// What one request and the server that asks who sends it have said to each other so far. One that
/// was never asked owns nothing.
#[derive(Debug, Default)]
pub(crate) struct Dialogue(Option<Box<Said>>);

#[derive(Debug, Default)]
struct Said {
    /// Its answers to what it was asked that were refused.
    refused: u32,
    /// What was sent last.
    shown: Shown,
    /// What it was asked last, until it is sent again.
    asked: Option<Answering>,
}

/// What a request, or one for a tunnel, has answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Shown {
    #[default]
    Nothing,
    /// What another was asked: the challenge of the session with this number.
    Others(u64),
    /// What it was asked itself; with that, the session with this number began.
    Own(Option<u64>),
}

impl Shown {
    fn session(self) -> Option<u64> {
        match self {
            Self::Nothing => None,
            Self::Others(number) => Some(number),
            Self::Own(number) => number,
        }
    }
}

impl Dialogue {
    /// Whether what was sent last answered a challenge.
    pub(crate) fn shows_login(&self) -> bool {
        self.shown() != Shown::Nothing
    }

    /// For the same request sent once more beside this one.
    pub(crate) fn second(&self) -> Self {
        let said = |said: &Said| Box::new(Said { refused: said.refused, ..Said::default() });
        Self(self.0.as_deref().map(said))
    }

    pub(crate) fn shown(&self) -> Shown {
        self.0.as_ref().map_or(Shown::Nothing, |said| said.shown)
    }

    /// Notes what was sent last, by whomever.
    pub(crate) fn show(&mut self, shown: Shown) {
        if self.shown() != shown {
            self.0.get_or_insert_default().shown = shown;
        }
    }
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
    /// Judges a 401 with the values of its WWW-Authenticate fields.
    ///
    /// It is answered, unless the request has answered what it was asked itself: then the login is
    /// wrong. Or only the nonce was stale, which a server may say [`REFUSALS_MAX`] times.
    pub(crate) fn judge<'a>(
        &mut self,
        fields: impl Iterator<Item = &'a [u8]>,
        dialogue: &mut Dialogue,
        random: impl FnOnce(&mut [u8]) -> bool,
    ) -> Verdict {
        let shown = dialogue.shown();
        if let Some(number) = shown.session() {
            // What did not help will not help the next request.
            self.list.retain(|session| session.number != number);
        }
        let challenges = fields.flat_map(challenges);
        let Some(asked) = challenges.into_iter().find_map(|challenge| Asked::of(&challenge)) else {
            return Verdict::Answer;
        };
        let is_own = matches!(shown, Shown::Own(_));
        let refused = dialogue.0.as_ref().map_or(0, |said| said.refused);
        let may_go_on = !is_own || asked.is_stale && refused < REFUSALS_MAX;
        let mut cnonce = [0; CNONCE_BYTES];
        if !may_go_on || !random(&mut cnonce) {
            return Verdict::Answer;
        }
        let said = dialogue.0.get_or_insert_default();
        said.refused += u32::from(is_own);
        said.asked = Some(Answering::new(asked, cnonce));
        Verdict::Again
    }

    /// The Authorization field of a request. `None`: nothing was asked there yet.
    pub(crate) fn authorization(
        &mut self,
        origin: &Origin,
        login: &Arc<Userinfo>,
        dialogue: &mut Dialogue,
        method: &str,
        target: &str,
    ) -> Option<Vec<u8>> {
        let (asked, refused) =
            dialogue.0.as_mut().map_or((None, 0), |said| (said.asked.take(), said.refused));
        let answer = match asked {
            Some(mut own) => own.answer(login, method, target).map(|value| {
                // Once refused, it has a nonce that no other request takes a part in.
                let begins = refused == 0 && self.find(origin, login).is_none();
                (value, Shown::Own(begins.then(|| self.begin(origin, login, own))))
            }),
            None => self.answer(origin, login, method, target),
        };
        let (value, shown) = answer.unzip();
        dialogue.show(shown.unwrap_or_default());
        value
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

    /// The number of a session that begins.
    fn begin(&mut self, origin: &Origin, login: &Arc<Userinfo>, answering: Answering) -> u64 {
        if self.list.len() >= SESSIONS_MAX {
            self.list.remove(0);
        }
        self.begun += 1;
        let (origin, login) = (origin.clone(), Arc::clone(login));
        self.list.push(Session { number: self.begun, origin, login, answering });
        self.begun
    }

    /// An answer of the session with this origin, which ends where it can give none.
    fn answer(
        &mut self,
        origin: &Origin,
        login: &Arc<Userinfo>,
        method: &str,
        target: &str,
    ) -> Option<(Vec<u8>, Shown)> {
        let mut session = self.list.remove(self.find(origin, login)?);
        let value = session.answering.answer(login, method, target)?;
        let shown = Shown::Others(session.number);
        self.list.push(session);
        Some((value, shown))
    }

    fn find(&self, origin: &Origin, login: &Arc<Userinfo>) -> Option<usize> {
        self.list.iter().position(|session| session.origin == *origin && session.login == *login)
    }
}

/// Origins and logins that are remembered.
const SESSIONS_MAX: usize = 256;
/// Refusals, as stale, of what one request has answered, after which it goes on.
const REFUSALS_MAX: u32 = 3;

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

    fn judge(sessions: &mut Sessions, field: &[u8], dialogue: &mut Dialogue) -> Verdict {
        let random = |into: &mut [u8]| {
            into.fill(7);
            true
        };
        let fields = [&b"Basic realm=\"x\""[..], field];
        sessions.judge(fields.into_iter(), dialogue, random)
    }

    fn answer(
        sessions: &mut Sessions,
        at: &str,
        user: &str,
        dialogue: &mut Dialogue,
    ) -> Option<String> {
        let value = sessions.authorization(&origin(at), &login(user), dialogue, "GET", "/")?;
        Some(String::from_utf8(value).unwrap())
    }

    /// What a request that was not asked yet sends.
    fn sent(sessions: &mut Sessions, at: &str, user: &str) -> Option<String> {
        answer(sessions, at, user, &mut Dialogue::default())
    }

    /// A request is challenged, and answers.
    fn begin(sessions: &mut Sessions, at: &str) {
        let mut dialogue = Dialogue::default();
        assert_eq!(judge(sessions, CHALLENGE, &mut dialogue), Verdict::Again);
        assert!(answer(sessions, at, "me", &mut dialogue).unwrap().contains("nc=00000001"));
    }

    #[test]
    fn an_answer_is_for_its_origin_and_login_alone() {
        let mut sessions = Sessions::default();
        assert_eq!(sent(&mut sessions, "http://a.example/", "me"), None);
        begin(&mut sessions, "http://a.example/");
        let second = sent(&mut sessions, "http://a.example/x", "me").unwrap();
        assert!(second.contains("nc=00000002") && second.contains("username=\"me\""), "{second}");
        assert!(sent(&mut sessions, "http://A.example:80/", "me").unwrap().contains("nc=00000003"));
        for (url, user) in [
            ("http://a.example/", "you"),
            ("https://a.example/", "me"),
            ("http://a.example:81/", "me"),
            ("http://b.a.example/", "me"),
        ] {
            assert_eq!(sent(&mut sessions, url, user), None, "{url} {user}");
        }
    }

    const AT: &str = "http://a.example/";

    /// What is sent while each answer meets this field; the last is none.
    fn talk(sessions: &mut Sessions, field: &[u8]) -> Vec<Option<String>> {
        let mut dialogue = Dialogue::default();
        let mut sent = Vec::new();
        loop {
            let value = answer(sessions, AT, "me", &mut dialogue);
            assert_eq!(value.is_some(), dialogue.shows_login());
            sent.push(value);
            if judge(sessions, field, &mut dialogue) == Verdict::Answer {
                return sent;
            }
        }
    }

    #[test]
    fn a_challenge_is_answered_once_and_again_where_it_is_stale() {
        let mut sessions = Sessions::default();
        for (field, exchanges) in [(CHALLENGE, 2), (STALE, 5), (b"Digest realm=\"r\"", 1)] {
            // What was refused is not remembered: the second time is like the first.
            for _ in 0..2 {
                let sent = talk(&mut sessions, field);
                assert_eq!((sent.len(), &sent[0]), (exchanges, &None));
            }
        }
        let fields = [CHALLENGE].into_iter();
        let mut dialogue = Dialogue::default();
        let verdict = sessions.judge(fields, &mut dialogue, |_| false);
        assert_eq!(verdict, Verdict::Answer, "nobody could guess a nonce that nobody drew");
    }

    #[test]
    fn a_request_that_was_asked_answers_that_whatever_has_begun_meanwhile() {
        let mut sessions = Sessions::default();
        let mut dialogue = Dialogue::default();
        assert_eq!(answer(&mut sessions, AT, "me", &mut dialogue), None);
        assert_eq!(judge(&mut sessions, STALE, &mut dialogue), Verdict::Again);
        begin(&mut sessions, AT);
        let value = answer(&mut sessions, AT, "me", &mut dialogue).unwrap();
        assert!(value.contains("nonce=\"m\"") && value.contains("nc=00000001"), "{value}");
        // Those after it take part in what has begun.
        let value = sent(&mut sessions, AT, "me").unwrap();
        assert!(value.contains("nonce=\"n\"") && value.contains("nc=00000002"), "{value}");
    }

    #[test]
    fn a_nonce_that_the_server_has_forgotten_does_not_make_the_login_wrong() {
        let mut sessions = Sessions::default();
        begin(&mut sessions, AT);
        let mut dialogue = Dialogue::default();
        assert!(answer(&mut sessions, AT, "me", &mut dialogue).unwrap().contains("nc=00000002"));
        let anew = b"Digest realm=\"r\", nonce=\"o\", qop=\"auth\"";
        assert_eq!(judge(&mut sessions, anew, &mut dialogue), Verdict::Again);
        let value = answer(&mut sessions, AT, "me", &mut dialogue).unwrap();
        assert!(value.contains("nonce=\"o\"") && value.contains("nc=00000001"), "{value}");
        assert_eq!(judge(&mut sessions, CHALLENGE, &mut dialogue), Verdict::Answer);
    }

    #[test]
    fn one_that_was_refused_often_is_challenged_like_any_other_where_it_went_without() {
        let mut sessions = Sessions::default();
        let mut dialogue = Dialogue::default();
        while judge(&mut sessions, STALE, &mut dialogue) == Verdict::Again {
            answer(&mut sessions, AT, "me", &mut dialogue).unwrap();
        }
        let mut second = dialogue.second();
        assert_eq!(answer(&mut sessions, AT, "me", &mut second), None);
        assert_eq!(judge(&mut sessions, CHALLENGE, &mut second), Verdict::Again);
        assert!(answer(&mut sessions, AT, "me", &mut second).is_some());
        assert_eq!(judge(&mut sessions, STALE, &mut second), Verdict::Answer);
    }

    #[test]
    fn a_session_that_has_ended_meanwhile_leaves_a_request_what_it_was_asked() {
        let mut sessions = Sessions::default();
        let mut another = Dialogue::default();
        for _ in 0..10 {
            let mut dialogue = Dialogue::default();
            begin(&mut sessions, AT);
            assert_eq!(judge(&mut sessions, STALE, &mut dialogue), Verdict::Again);
            answer(&mut sessions, AT, "me", &mut another).unwrap();
            judge(&mut sessions, b"", &mut another);
            assert_eq!(sent(&mut sessions, AT, "me"), None);
            let value = answer(&mut sessions, AT, "me", &mut dialogue).unwrap();
            assert!(value.contains("nonce=\"m\"") && value.contains("nc=00000001"), "{value}");
            sessions = Sessions::default();
        }
    }

    #[test]
    fn one_that_is_refused_gives_its_own_answer_and_leaves_the_others_theirs() {
        let mut sessions = Sessions::default();
        begin(&mut sessions, AT);
        let (mut late, mut later) = (Dialogue::default(), Dialogue::default());
        for dialogue in [&mut late, &mut later] {
            assert!(answer(&mut sessions, AT, "me", dialogue).unwrap().contains("nonce=\"n\""));
        }
        // The first to be refused begins what others share from then on.
        assert_eq!(judge(&mut sessions, STALE, &mut late), Verdict::Again);
        let value = answer(&mut sessions, AT, "me", &mut late).unwrap();
        assert!(value.contains("nonce=\"m\"") && value.contains("nc=00000001"), "{value}");
        let third = b"Digest realm=\"r\", nonce=\"o\", qop=\"auth\", stale=true";
        assert_eq!(judge(&mut sessions, third, &mut later), Verdict::Again);
        let value = answer(&mut sessions, AT, "me", &mut later).unwrap();
        assert!(value.contains("nonce=\"o\"") && value.contains("nc=00000001"), "{value}");
        for (dialogue, count) in [(&mut late, "nc=00000002"), (&mut later.second(), "nc=00000003")]
        {
            let value = answer(&mut sessions, AT, "me", dialogue).unwrap();
            assert!(value.contains("nonce=\"m\"") && value.contains(count), "{value}");
        }
    }

    #[test]
    fn the_next_nonce_is_taken_from_where_it_is_told() {
        let mut sessions = Sessions::default();
        begin(&mut sessions, AT);
        sent(&mut sessions, AT, "me");
        sessions.note_info(&origin(AT), &login("me"), b"rspauth=\"x\", nextnonce=\"next\"");
        let value = sent(&mut sessions, AT, "me").unwrap();
        assert!(value.contains("nonce=\"next\"") && value.contains("nc=00000001"), "{value}");
        sessions.note_info(&origin(AT), &login("me"), b"nextnonce=\"next\"");
        assert!(sent(&mut sessions, AT, "me").unwrap().contains("nc=00000002"));
        sessions.note_info(&origin(AT), &login("you"), b"nextnonce=\"no\"");
    }

    #[test]
    fn so_many_are_remembered_and_those_in_use_stay() {
        let mut sessions = Sessions::default();
        begin(&mut sessions, "http://used.example/");
        for n in 0..1_000 {
            begin(&mut sessions, &format!("http://h{n}.example/"));
            assert!(sent(&mut sessions, "http://used.example/", "me").is_some());
            assert!(sessions.list.len() <= SESSIONS_MAX);
        }
        assert_eq!(sent(&mut sessions, "http://h1.example/", "me"), None);
        assert!(sent(&mut sessions, "http://h999.example/", "me").is_some());
    }
}
