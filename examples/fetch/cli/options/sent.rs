//! Options: what requests carry, and who asks.

use super::super::super::fields;
use super::super::super::values;
use super::super::option::{Group, flag, more, one, path, value};

pub(super) const SENT: Group = Group {
    heading: "What is sent",
    apart: &["demo"],
    options: &[
        value(
            &["X", "request"],
            "METHOD",
            "The method [default: GET, or POST where there is a body, PUT for a file]",
            |args, given| one(&mut args.method, given, values::method),
        )
        .apart(&["head"]),
        value(
            &["H", "header"],
            "'NAME: VALUE'",
            "A header to send; may be given again",
            |args, given| more(&mut args.headers, given, values::header),
        )
        .repeats()
        .secret(),
        value(&["A", "user-agent"], "TEXT", "The User-Agent header", |args, given| {
            one(&mut args.user_agent, given, values::user_agent)
        }),
        flag(&["I", "head"], "Ask for the head only (method HEAD)", |args| args.head = true),
        value(
            &["d", "data"],
            "TEXT|@FILE",
            "The body: text, or a file's bytes as they are; @- is standard input. Given again, an \
             & stands in between",
            |args, given| more(&mut args.data, given, fields::datum),
        )
        .repeats()
        .secret()
        .apart(&["head"]),
        value(
            &["data-urlencode"],
            "TEXT|NAME=TEXT|NAME@FILE",
            "The same, percent-encoded behind the first = or @; the name is sent as it is",
            |args, given| more(&mut args.data, given, fields::encoded_datum),
        )
        .repeats()
        .secret()
        .apart(&["head"]),
        value(
            &["F", "form"],
            "NAME=TEXT|NAME=@FILE|NAME=<FILE",
            "A field of a form of several parts (multipart/form-data): a text, a file to upload, \
             or a text from a file; and behind it ;type=… and ;filename=…; may be given again",
            |args, given| more(&mut args.form, given, fields::field),
        )
        .repeats()
        .secret()
        .apart(&["data", "data-urlencode", "head"]),
        value(
            &["form-string"],
            "NAME=TEXT",
            "The same with a text as it is, whatever is in it",
            |args, given| more(&mut args.form, given, fields::literal_field),
        )
        .repeats()
        .secret()
        .apart(&["data", "data-urlencode", "head"]),
        value(
            &["T", "upload-file"],
            "FILE|-",
            "Send a file, with PUT where no method is given; to a URL that ends in / under its \
             own name. - is standard input, sent as it comes and chunked, to one URL",
            |args, given| path(&mut args.upload_file, given),
        )
        .apart(&["data", "data-urlencode", "form", "form-string", "head"]),
        value(
            &["upgrade"],
            "PROTOCOL",
            "Ask one URL for another protocol; after a 101, standard input goes to the server and what \
             the server says to standard output, until it ends the connection; any other status is a \
             failure. -m counts on",
            |args, given| one(&mut args.upgrade, given, values::protocol),
        )
        .apart(&["data", "data-urlencode", "form", "form-string", "upload-file", "head", "json"]),
        flag(
            &["expect-continue"],
            "Ask the server before a body is sent (Expect: 100-continue), and send it after 1 s \
             without an answer",
            |args| args.expect_continue = true,
        ),
        value(
            &["expect100-timeout"],
            "SECONDS",
            "Seconds to wait for that answer; 0: no limit [default: 1]",
            |args, given| one(&mut args.expect100_timeout, given, values::seconds),
        ),
    ],
};

pub(super) const LOGINS: Group = Group {
    heading: "Logins and cookies",
    apart: &["demo"],
    options: &[
        value(
            &["u", "user"],
            "USER:PASS",
            "Basic authentication, or Digest with --digest",
            |args, given| one(&mut args.user, given, values::userinfo),
        )
        .secret()
        .apart(&["bearer"]),
        flag(
            &["digest"],
            "Give the login of -u, or that in a URL, in answer to a Digest challenge, and never \
             as it is",
            |args| args.digest = true,
        )
        .apart(&["bearer"]),
        value(&["bearer"], "TOKEN", "Bearer authentication", |args, given| {
            one(&mut args.bearer, given, values::bearer)
        })
        .secret(),
        flag(
            &["n", "netrc"],
            "Take the logins of hosts from the file that NETRC names, or ~/.netrc",
            |args| args.netrc = true,
        ),
        value(&["netrc-file"], "FILE", "Take the logins of hosts from FILE", |args, given| {
            path(&mut args.netrc_file, given)
        })
        .apart(&["netrc"]),
        value(
            &["b", "cookie"],
            "NAME=VALUE|FILE",
            "Cookies for every URL, as NAME=VALUE; or where there is no =, a file to take kept \
             ones from; may be given again",
            |args, given| more(&mut args.cookies, given, values::cookie),
        )
        .repeats()
        .secret(),
        value(
            &["cookie-jar"],
            "FILE",
            "Write the cookies that are kept at the end to FILE",
            |args, given| path(&mut args.cookie_jar, given),
        ),
        flag(
            &["no-cookies"],
            "Neither keep cookies nor send kept ones, unless a job says so",
            |args| args.no_cookies = true,
        ),
    ],
};
