//! Floor 1. What can go wrong in a session, in words for people.
//!
//! In go rustls's errors; out comes a [`TlsError`] whose line names the reason: for certificates
//! what is wrong with it and which name was asked for, else what the peer did or refused.

use std::borrow::Cow;
use std::net::IpAddr;
use std::{error, fmt};

use rustls::pki_types::{ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, Error, ExtendedKeyPurpose, InvalidMessage,
    PeerIncompatible, PeerMisbehaved,
};

use super::pinned::Unpinned;

/// A session that failed, or that could not begin.
#[derive(Clone, Debug)]
pub(crate) struct TlsError {
    kind: Kind,
    message: Cow<'static, str>,
    source: Option<Box<Error>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Certificate,
    Protocol,
}

impl TlsError {
    /// The server's certificate was refused by us. Trying again does not help.
    pub(crate) fn is_certificate(&self) -> bool {
        self.kind == Kind::Certificate
    }

    /// The server went away in the middle of the handshake, and said so.
    pub(crate) fn is_closure(&self) -> bool {
        use AlertDescription::{CloseNotify, UserCanceled};
        matches!(self.source.as_deref(), Some(Error::AlertReceived(CloseNotify | UserCanceled)))
    }

    /// What a peer or a caller did that no error of rustls describes.
    pub(crate) fn protocol(message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: Kind::Protocol, message: message.into(), source: None }
    }

    /// The same, struck after a cipher suite was agreed on: then it is not for want of one that
    /// the server fails the handshake. In TLS 1.2 many say so that they want a certificate.
    pub(crate) fn after_agreement(mut self) -> Self {
        let failure = Error::AlertReceived(AlertDescription::HandshakeFailure);
        if self.source.as_deref() == Some(&failure) {
            self.message = "the server refused: it failed the handshake after agreeing on a \
                            cipher suite; it may demand a client certificate \
                            (alert HandshakeFailure)"
                .into();
        }
        self
    }
}

impl From<Error> for TlsError {
    fn from(e: Error) -> Self {
        let (kind, message) = match &e {
            Error::InvalidCertificate(why) => (Kind::Certificate, explain_certificate(why)),
            Error::NoCertificatesPresented => {
                (Kind::Certificate, "the server sent no certificate".into())
            }
            other => (Kind::Protocol, explain_protocol(other)),
        };
        Self { kind, message, source: Some(Box::new(e)) }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl error::Error for TlsError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}

fn explain_certificate(e: &CertificateError) -> Cow<'static, str> {
    use CertificateError as E;
    match e {
        E::Expired => "the certificate has expired".into(),
        E::ExpiredContext { time, not_after } => {
            format!("the certificate expired {} ago", span(*not_after, *time)).into()
        }
        E::NotValidYet => "the certificate is not yet valid".into(),
        E::NotValidYetContext { time, not_before } => {
            let wait = span(*time, *not_before);
            format!("the certificate is not yet valid: it will be in {wait}").into()
        }
        E::UnknownIssuer => "the certificate is self-signed or of an issuer that is not trusted, \
                             or an intermediate is missing from its chain"
            .into(),
        E::NotValidForName => "the certificate is for another name".into(),
        E::NotValidForNameContext { expected, presented } => wrong_name(expected, presented).into(),
        E::Revoked => "the certificate was revoked".into(),
        // A certificate's signature and that of the handshake fail alike, and a short RSA key
        // makes no good one.
        E::BadSignature => "a signature is wrong or its key too weak: the certificate is not \
                            signed by the issuer that it names, or the server does not hold its key"
            .into(),
        E::BadEncoding => "the certificate is malformed".into(),
        E::InvalidPurpose => "the certificate is not meant for servers".into(),
        E::InvalidPurposeContext { presented, .. } => wrong_purpose(presented).into(),
        E::UnsupportedSignatureAlgorithmContext { .. }
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "the certificate has a signature or a key of a kind that is not supported".into()
        }
        E::Other(detail) => match detail.0.downcast_ref::<Unpinned>() {
            Some(unpinned) => unpinned.to_string().into(),
            None => explain_verifier(&detail.to_string()),
        },
        other => words(&other.to_string()).into(),
    }
}

/// What only the verifier beneath rustls knows; it gives the names of its errors.
fn explain_verifier(detail: &str) -> Cow<'static, str> {
    match detail {
        "CaUsedAsEndEntity" => "the certificate is that of an authority, not of a server",
        "EndEntityUsedAsCa" => "the certificate's issuer is not an authority itself",
        "NameConstraintViolation" => "the certificate has a name that its issuer may not vouch for",
        "PathLenConstraintViolated" => {
            "the certificate's chain is longer than one of its authorities allows"
        }
        "UnsupportedCriticalExtension" => {
            "the certificate has a critical extension that is not supported"
        }
        "UnsupportedCertVersion" => "the certificate is not of version 3 of X.509",
        other => return words(other).into(),
    }
    .into()
}

/// rustls presents names as `DnsName("a.example")`; people read `a.example`. What is neither a
/// DNS name nor an address is not a host's.
fn wrong_name(expected: &ServerName<'_>, presented: &[String]) -> String {
    let expected = expected.to_str();
    let mut hosts = presented.iter().filter_map(|name| match name.split_once('(') {
        Some(("DnsName", name)) => {
            let name = name.trim_matches(['"', ')']);
            // An address written as a name is the name of nobody.
            let is_odd = name.parse::<IpAddr>().is_ok();
            Some(if is_odd { format!("the DNS name {name}") } else { shown(name) })
        }
        Some(("IpAddress", address)) => Some(shown(address.trim_matches(')'))),
        _ => None,
    });
    let Some(mut names) = hosts.next() else {
        return format!("the certificate names no host; {expected} was expected");
    };
    for name in hosts.by_ref().take(NAMES_SHOWN_MAX - 1) {
        names = names + ", " + &name;
    }
    let more = if hosts.next().is_some() { ", ..." } else { "" };
    format!("the certificate is for {names}{more}; {expected} was expected")
}

fn wrong_purpose(presented: &[ExtendedKeyPurpose]) -> String {
    let mut purposes = String::new();
    for purpose in presented.iter().take(NAMES_SHOWN_MAX) {
        purposes += if purposes.is_empty() { ", but for " } else { ", " };
        match purpose {
            ExtendedKeyPurpose::Other(oid) => {
                let oid: Vec<_> = oid.iter().map(usize::to_string).collect();
                purposes += &shown(&oid.join("."));
            }
            known => purposes += &known.to_string(),
        }
    }
    format!("the certificate is not meant for servers{purposes}")
}

fn explain_protocol(e: &Error) -> Cow<'static, str> {
    use PeerIncompatible as I;
    use PeerMisbehaved as M;
    match e {
        Error::AlertReceived(alert) => explain_alert(*alert),
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => "the server sent something that is not TLS".into(),
        Error::InvalidMessage(why) => {
            format!("the server sent a malformed message: {}", words(&format!("{why:?}"))).into()
        }
        Error::PeerSentOversizedRecord => "the server sent a record that is too long".into(),
        Error::DecryptError => "a record could not be decrypted: it was changed or damaged".into(),
        Error::PeerIncompatible(
            I::ServerDoesNotSupportTls12Or13 | I::ServerTlsVersionIsDisabledByOurConfig,
        ) => "no TLS version in common: the server chose one that is not allowed here".into(),
        Error::PeerIncompatible(why) => {
            let why = words(&format!("{why:?}"));
            format!("the server and this client have too little in common: {why}").into()
        }
        // RFC 8446 §4.1.3: the server's random bytes say that it would have spoken TLS 1.3.
        Error::PeerMisbehaved(M::AttemptedDowngradeToTls12WhenTls13IsSupported) => {
            "a downgrade to TLS 1.2 although both sides speak TLS 1.3: \
             the handshake was changed on its way"
                .into()
        }
        Error::PeerMisbehaved(M::SelectedUnofferedApplicationProtocol) => {
            "the server chose an application protocol that was not offered".into()
        }
        Error::PeerMisbehaved(why) => {
            format!("the server broke the TLS protocol: {}", words(&format!("{why:?}"))).into()
        }
        other => words(&other.to_string()).into(),
    }
}

fn explain_alert(alert: AlertDescription) -> Cow<'static, str> {
    use AlertDescription as A;
    let why = match alert {
        A::CloseNotify | A::UserCanceled => {
            return "the server closed the connection during the TLS handshake".into();
        }
        A::HandshakeFailure | A::InsufficientSecurity => "no cipher suite or group in common",
        A::ProtocolVersion => "no TLS version in common",
        A::UnrecognisedName => "it does not serve this name",
        A::CertificateRequired => "it demands a client certificate",
        A::NoApplicationProtocol => "it does not speak HTTP/1.1",
        A::UnknownCA => "it does not trust the issuer of the client certificate",
        A::CertificateExpired => "it takes the client certificate for expired",
        A::BadCertificate
        | A::UnsupportedCertificate
        | A::CertificateRevoked
        | A::CertificateUnknown
        | A::AccessDenied => "it does not accept the client certificate, or wants one",
        _ => {
            let name = format!("{alert:?}");
            return match name.contains('(') {
                true => format!("the server broke off (alert {})", u8::from(alert)),
                false => format!("the server broke off: {} (alert {name})", words(&name)),
            }
            .into();
        }
    };
    format!("the server refused: {why} (alert {alert:?})").into()
}

/// The names of the library's errors as words: `NoKxGroupsInCommon`, "no kx groups in common".
fn words(names: &str) -> String {
    let mut words = String::with_capacity(names.len() + 16);
    let mut before = ' ';
    for (at, letter) in names.char_indices() {
        let is_name = names[at..].chars().nth(1).is_some_and(char::is_lowercase);
        if letter.is_uppercase() && (before.is_lowercase() || before.is_ascii_digit()) {
            words.push(' ');
        }
        if letter.is_uppercase() && (is_name || before.is_lowercase()) {
            words.extend(letter.to_lowercase());
        } else {
            words.push(letter);
        }
        before = letter;
    }
    shown(&words)
}

/// Text that a stranger may have written, as a part of one line that is not long.
fn shown(text: &str) -> String {
    let mut line: String = text
        .chars()
        .take(TEXT_CHARS_MAX)
        .map(|letter| if matches!(letter, ' '..='~') { letter } else { '?' })
        .collect();
    if text.chars().nth(TEXT_CHARS_MAX).is_some() {
        line.push_str("...");
    }
    line
}

/// The time between two moments, in its largest unit.
fn span(from: UnixTime, to: UnixTime) -> String {
    let seconds = to.as_secs().saturating_sub(from.as_secs());
    let (count, unit) = match seconds {
        0..=119 => (seconds, "seconds"),
        120..=7_199 => (seconds / 60, "minutes"),
        7_200..=172_799 => (seconds / 3_600, "hours"),
        _ => (seconds / 86_400, "days"),
    };
    format!("{count} {unit}")
}

/// A certificate may list thousands of names; an error's line shows so many.
const NAMES_SHOWN_MAX: usize = 4;

/// Of a name or a message that a server chose, an error's line shows so many characters.
const TEXT_CHARS_MAX: usize = 160;
