//! The command line: what it can say.
//!
//! In go the process's words; out come [`Args`], or the status to exit with. [`options`] has each
//! option with what it does to [`Args`]; [`line`] reads a line by them, [`help`] prints them. Names
//! and short forms follow curl's where curl has them; where two names are usual, both are taken. A
//! line that cannot be used becomes one line on standard error.

mod help;
mod line;
mod option;
mod options;

use std::io::{ErrorKind, Write};
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use whippet::{ConnectTo, Hedge, Rate, Resolve};

use self::line::Line;
use self::option::Asked;
use super::USAGE_EXIT;
use super::fields::{Datum, Field};
use super::values::{Checksum, Cookie, Header, ProxyChoice, Seconds, Servers, Userinfo};

/// What a command line says; the options' own texts are in [`options`].
#[derive(Default)]
pub(crate) struct Args {
    pub(crate) urls: Vec<String>,
    pub(crate) input: Option<PathBuf>,
    pub(crate) jobs: Option<PathBuf>,
    pub(crate) demo: Option<NonZeroU64>,

    pub(crate) concurrency: Option<NonZeroUsize>,
    pub(crate) per_host: Option<NonZeroUsize>,
    pub(crate) rate: Option<Rate>,
    pub(crate) polite: bool,
    pub(crate) hedge: Option<Hedge>,
    pub(crate) circuit: Option<NonZeroU32>,
    pub(crate) circuit_time: Option<Duration>,
    pub(crate) max_time: Option<Seconds>,
    pub(crate) connect_timeout: Option<Seconds>,
    pub(crate) retries: Option<u32>,
    pub(crate) max_redirects: Option<usize>,
    pub(crate) no_follow: bool,

    pub(crate) method: Option<String>,
    pub(crate) headers: Vec<Header>,
    pub(crate) user_agent: Option<Header>,
    pub(crate) head: bool,
    /// In the order of the line, whichever options gave them; so are the form's fields.
    pub(crate) data: Vec<Datum>,
    pub(crate) form: Vec<Field>,
    pub(crate) upload_file: Option<PathBuf>,
    pub(crate) upgrade: Option<String>,
    pub(crate) expect_continue: bool,
    pub(crate) expect100_timeout: Option<Seconds>,

    pub(crate) user: Option<Userinfo>,
    pub(crate) digest: bool,
    pub(crate) bearer: Option<String>,
    pub(crate) netrc: bool,
    pub(crate) netrc_file: Option<PathBuf>,
    pub(crate) cookies: Vec<Cookie>,
    pub(crate) cookie_jar: Option<PathBuf>,
    pub(crate) no_cookies: bool,

    pub(crate) proxy: Option<ProxyChoice>,
    pub(crate) proxy_digest: bool,
    pub(crate) resolve: Vec<Resolve>,
    pub(crate) connect_to: Vec<ConnectTo>,
    pub(crate) unix_socket: Option<PathBuf>,
    pub(crate) interface: Vec<String>,
    pub(crate) keepalive_time: Option<Seconds>,
    pub(crate) tcp_user_timeout: Option<Seconds>,
    pub(crate) no_tcp_nodelay: bool,
    pub(crate) dns_servers: Option<Servers>,
    pub(crate) deny_private: bool,

    pub(crate) cacert: Option<PathBuf>,
    pub(crate) native_roots: bool,
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) insecure: bool,
    pub(crate) pinned_keys: Option<String>,
    pub(crate) tls_name: Option<String>,
    pub(crate) tls12: bool,
    pub(crate) tls13: bool,

    pub(crate) no_decode: bool,
    pub(crate) max_body: Option<u64>,
    pub(crate) max_head: Option<NonZeroUsize>,
    pub(crate) output: Option<PathBuf>,
    pub(crate) resume: bool,
    pub(crate) checksum: Option<Checksum>,
    pub(crate) no_body: bool,
    pub(crate) fail: bool,

    pub(crate) json: bool,
    pub(crate) ordered: bool,
    pub(crate) report: Option<PathBuf>,
    pub(crate) silent: bool,
    pub(crate) verbose: bool,
}

impl Args {
    /// The process's own command line, or the status to exit with: its help or version, or what
    /// is wrong with it, was printed.
    pub(crate) fn from_command_line() -> Result<Self, ExitCode> {
        let text = match line::read(std::env::args_os().skip(1)) {
            Ok(Line::Run(args)) => return Ok(*args),
            Ok(Line::Ends(Asked::Help)) => help::help(),
            Ok(Line::Ends(Asked::Version)) => format!("fetch {}\n", env!("CARGO_PKG_VERSION")),
            Err(why) => {
                eprintln!("fetch: {why} (see fetch --help)");
                return Err(ExitCode::from(USAGE_EXIT));
            }
        };
        match std::io::stdout().write_all(text.as_bytes()) {
            // Into a closed pipe it is no failure.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                eprintln!("fetch: standard output: {error}");
                Err(ExitCode::FAILURE)
            }
            _ => Err(ExitCode::SUCCESS),
        }
    }

    /// The value, which has a default.
    pub(crate) fn concurrency(&self) -> usize {
        self.concurrency.map_or(64, NonZeroUsize::get)
    }

    /// What a line of these words says, for tests.
    #[cfg(test)]
    pub(crate) fn of(words: &str) -> Result<Self, String> {
        match line::read(words.split_whitespace().map(Into::into))? {
            Line::Run(args) => Ok(*args),
            Line::Ends(asked) => Err(format!("{asked:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fields::{Content, Given};
    use super::*;

    #[test]
    fn both_names_of_an_option_are_taken() {
        for words in ["-m 1.5 u", "--max-time 1.5 u", "--timeout 1.5 u"] {
            assert_eq!(Args::of(words).unwrap().max_time.unwrap().0.as_millis(), 1_500, "{words}");
        }
        for words in ["--retry 3 u", "--retries 3 u"] {
            assert_eq!(Args::of(words).unwrap().retries, Some(3), "{words}");
        }
        for words in ["--max-redirs 3 u", "--max-redirects 3 u"] {
            assert_eq!(Args::of(words).unwrap().max_redirects, Some(3), "{words}");
        }
    }

    #[test]
    fn the_demo_may_have_a_number_of_its_own() {
        for (words, count) in
            [("--demo", 500), ("--demo 20", 20), ("--demo=20", 20), ("--demo --json", 500)]
        {
            assert_eq!(Args::of(words).unwrap().demo.unwrap().get(), count, "{words}");
        }
        assert!(Args::of("--demo 0").is_err() && Args::of("--demo http://a/").is_err());
    }

    #[test]
    fn an_option_and_its_value_are_written_as_in_getopt() {
        for words in ["-sfm 5 u", "-s -f -m5 u", "-sfm=5 -- u", "u --max-time=5 -fs", "-sssfm 5 u"]
        {
            let args = Args::of(words).unwrap();
            assert!(args.silent && args.fail && args.urls == ["u"], "{words}");
            assert_eq!(args.max_time, Some(Seconds(Duration::from_secs(5))), "{words}");
        }
        assert_eq!(Args::of("-i -").unwrap().input.unwrap().as_os_str(), "-");
        assert_eq!(Args::of("-- -c").unwrap().urls, ["-c"]);
        assert_eq!(Args::of("-h").err().unwrap(), "Help");
        assert_eq!(Args::of("-sV --nope").err().unwrap(), "Version");
    }

    #[test]
    fn an_option_that_there_is_not_may_be_another() {
        for (words, said) in [
            ("--heder a:b u", "there is no option --heder, but there is --header"),
            (
                "--max-redirect 3 u",
                "there is no option --max-redirect, but there is --max-redirects",
            ),
            ("--zzz u", "there is no option --zzz"),
            ("-Z u", "there is no option -Z"),
            ("--n 1 u", "there is no option --n"),
        ] {
            assert_eq!(Args::of(words).err().unwrap(), said);
        }
    }

    #[test]
    fn what_cannot_be_used_is_one_line_that_names_it() {
        for (words, named) in [
            ("--nope u", "--nope"),
            ("--proxy x://y u", "--proxy"),
            ("--unix-socket", "--unix-socket"),
            ("--unix-socket x --deny-private u", "--unix-socket"),
            ("--unix-socket x --demo", "--unix-socket"),
            ("--connect-to a:80 u", "--connect-to"),
            ("-m x u", "--max-time"),
            ("-m -1 u", "-1"),
            ("-c 0 u", "--concurrency"),
            ("-o f -I u", "--head"),
            ("-o= u", "--output"),
            ("--upgrade a/ u", "--upgrade"),
            ("-c u", "--concurrency"),
            ("-c 1 -c 2 u", "--concurrency"),
            ("--json=1 u", "--json"),
            ("-o f --no-body u", "--no-body"),
            ("--continue u", "--output"),
            ("-X G<T u", "--request"),
            ("-H nocolon u", "--header"),
            ("-H Host:x u", "--header"),
            ("-u nocolon u", "--user"),
            ("--resolve a:b:c u", "--resolve"),
            ("--dns-servers x u", "--dns-servers"),
            ("--key k u", "--cert"),
            ("-i a --jobs b", "--jobs"),
            ("-i a u", "--input"),
            ("--max-body 1k u", "--max-body"),
            ("--circuit-time 5 u", "--circuit"),
            ("--circuit 3 --circuit-time 0 u", "--circuit-time"),
            ("--demo --deny-private", "--deny-private"),
            ("--demo -d x", "--data and --demo"),
            ("--demo -u a:b", "--user and --demo"),
            ("--demo -k", "--insecure and --demo"),
            ("--demo -m 1", "--max-time and --demo"),
            ("--demo --retry 1", "--retry and --demo"),
            ("--digest --bearer t u", "--bearer"),
            ("-n --netrc-file f u", "--netrc"),
            ("-b a=\u{7} u", "--cookie"),
            ("-F nothing u", "--form"),
            ("--form-string nothing u", "--form-string"),
            ("-F a=b;c u", "--form"),
            ("-F a=b -d c u", "--data"),
            ("-F a=b --data-urlencode c u", "--data-urlencode"),
            ("-F a=b -I u", "--head"),
            ("--form-string a=b -I u", "--head"),
            ("--data-urlencode c -I u", "--head"),
            ("-T f -I u", "--head"),
            ("--upgrade a\u{7} u", "--upgrade"),
            ("--upgrade a --json u", "--json"),
            ("-T f -d c u", "--data"),
            ("-T f -F a=b u", "--form"),
            ("--expect100-timeout soon u", "--expect100-timeout"),
        ] {
            let line = Args::of(words).err().unwrap();
            assert!(line.contains(named) && !line.contains('\n'), "{words}: {line}");
        }
    }

    #[test]
    fn a_secret_that_cannot_be_used_is_not_repeated() {
        for words in [
            "-u canary u",
            "--user=canary u",
            "-H canary u",
            "-H Bearer:canary\u{1} u",
            "-HAuthorization:Bearer\u{1}canary u",
            "--bearer canary\u{7} u",
            "-x http://user:canary@h:x u",
            "-b a=canary\u{7} u",
            "-F canary u",
            "-F a=canary;type=canary u",
            "--form-string canary u",
            "--resolve http://me:canary@h u",
        ] {
            let line = Args::of(words).err().unwrap();
            assert!(line.contains("--") && !line.contains("canary"), "{words}: {line}");
        }
    }

    #[test]
    fn what_is_sent_is_in_the_order_of_the_line() {
        let data = Args::of("-d 1 --data-urlencode 2 --data 3 --data-urlencode=4 u").unwrap().data;
        let text = |datum: &Datum| match datum {
            Datum::Plain(Given::Here(text)) => format!("plain {text}"),
            Datum::Encoded { content: Given::Here(text), .. } => format!("encoded {text}"),
            _ => String::new(),
        };
        let texts: Vec<_> = data.iter().map(text).collect();
        assert_eq!(texts, ["plain 1", "encoded 2", "plain 3", "encoded 4"]);
        let form = Args::of("--form-string a=<1 -F a=2 u -F b=<3 --form-string=b=4").unwrap().form;
        let said = form.iter().map(|field| match &field.content {
            Content::Text(text) => (&*field.name, text.clone()),
            Content::Value(path) | Content::Upload(path) => {
                (&*field.name, path.display().to_string())
            }
        });
        let said: Vec<_> = said.collect();
        let expected = [("a", "<1"), ("a", "2"), ("b", "3"), ("b", "4")];
        assert_eq!(said, expected.map(|(name, text)| (name, text.into())));
    }
}
