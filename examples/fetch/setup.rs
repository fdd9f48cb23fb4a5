//! From the command line to what the run is made of: the reactor's settings, the jobs' defaults,
//! where jobs come from, what is printed.
//!
//! Everything that can be found wrong before the first fetch is found here, and said in one line.

use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use whippet::{Circuit, Limit, Netrc, Proxies, Roots, Settings, TlsSettings};

use super::cli::Args;
use super::cookies::Cookies;
use super::demo::Demo;
use super::files::Files;
use super::jobs::{Auth, Defaults};
use super::sending::{Stdin, contents_of};
use super::sockets::{demanding, sockets_of};
use super::source::Format;
use super::summary::Wanted;
use super::values::{Cookie, ProxyChoice, Seconds, Secret};

/// What a run is made of.
pub(crate) struct Plan {
    pub(crate) settings: Settings,
    /// The options that gave certificates and keys, for messages about them; empty for none.
    pub(crate) tls_files: String,
    pub(crate) defaults: Defaults,
    pub(crate) cookies: Cookies,
    pub(crate) way: Way,
    pub(crate) print: Print,
    pub(crate) files: Option<Files>,
    pub(crate) report: Option<PathBuf>,
    pub(crate) ordered: bool,
    pub(crate) wanted: Wanted,
    pub(crate) silent: bool,
    pub(crate) verbose: bool,
}

/// Where jobs come from.
pub(crate) enum Way {
    Urls(Vec<String>),
    Lines(PathBuf, Format),
    Demo(Demo),
}

impl Way {
    /// Whether there is one job, whatever it holds.
    pub(crate) fn is_one(&self) -> bool {
        matches!(self, Self::Urls(urls) if urls.len() == 1)
    }
}

/// What standard output is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Print {
    /// A JSON object for each job, its body in it or not.
    Json {
        bodies: bool,
    },
    /// A line for each job.
    Lines,
    /// The body of the one URL.
    Body,
    /// The head of the one URL.
    Head,
    Nothing,
}

/// The plan of this command line, or what is wrong with it.
pub(crate) fn prepare(mut args: Args) -> Result<Plan, String> {
    let is_single = args.urls.len() == 1;
    // Where the body of one URL goes by itself.
    args.output.take_if(|path| is_single && path.as_os_str() == "-");
    let print = print_of(&args, is_single);
    let files = files_of(&args, is_single)?;
    let mut settings = settings_of(&args)?;
    let tls_files = tls_files(&args);
    let cookies = cookies_of(&mut args);
    let defaults = defaults_of(&mut args, is_single, print == Print::Json { bodies: true })?;
    if let Some(files) = &files {
        // That of a file and, where it may be gone on with, that of its note.
        leave_descriptors(&mut settings, 1 + usize::from(files.continues), descriptors_max());
    }
    let way = match (args.input, args.jobs, args.demo) {
        (Some(path), _, _) => Way::Lines(path, Format::Urls),
        (_, Some(path), _) => Way::Lines(path, Format::Jobs),
        (_, _, Some(fetches)) => Way::Demo(Demo::start(fetches.get(), &defaults, &mut settings)?),
        _ if args.urls.is_empty() => {
            return Err("nothing to fetch: give a URL, --input, --jobs or --demo".to_owned());
        }
        _ => Way::Urls(args.urls),
    };
    let wanted = match (&args.upgrade, args.fail || args.resume) {
        (Some(_), _) => Wanted::Switch,
        (None, true) => Wanted::Success,
        (None, false) => Wanted::Anything,
    };
    let ordered = args.ordered;
    let (silent, verbose, report) = (args.silent, args.verbose, args.report);
    Ok(Plan {
        settings,
        tls_files,
        defaults,
        cookies,
        way,
        print,
        files,
        report,
        ordered,
        wanted,
        silent,
        verbose,
    })
}

fn files_of(args: &Args, is_single: bool) -> Result<Option<Files>, String> {
    let Some(path) = args.output.as_deref() else { return Ok(None) };
    if args.checksum.is_some() && !is_single {
        return Err("--checksum is of one file; give one URL".to_owned());
    }
    let mut files = Files::new(path, is_single)?;
    files.continues = args.resume;
    files.checksum = args.checksum;
    Ok(Some(files))
}

fn print_of(args: &Args, is_single: bool) -> Print {
    if args.json {
        return Print::Json { bodies: !args.no_body && args.output.is_none() };
    }
    if args.demo.is_some() {
        return Print::Nothing;
    }
    match (is_single, args.output.is_some(), args.no_body, args.head) {
        (true, true, _, _) => Print::Nothing,
        (true, false, false, true) => Print::Head,
        (true, false, false, false) => Print::Body,
        _ => Print::Lines,
    }
}

fn settings_of(args: &Args) -> Result<Settings, String> {
    let mut settings = Settings::default();
    settings.concurrency = args.concurrency();
    // As many as are in flight can end at once, faster than the jobs behind them are read.
    settings.idle_connections_max = settings.idle_connections_max.max(settings.concurrency);
    settings.per_origin = args.per_host.map(std::num::NonZeroUsize::get);
    settings.hedge = args.hedge;
    settings.pace.rate = args.rate;
    settings.pace.heeds_limits = args.polite;
    settings.pace.circuit = args.circuit.map(|failures| {
        let circuit = Circuit::after(failures.get());
        args.circuit_time.map_or(circuit, |time| circuit.tried_again_after(time))
    });
    if let Some(Seconds(total)) = args.max_time {
        settings.timeouts.set(Limit::Total, (total != Duration::MAX).then_some(total));
    }
    if let Some(Seconds(connect)) = args.connect_timeout {
        settings.timeouts.set(Limit::Connect, (connect != Duration::MAX).then_some(connect));
    }
    if let Some(Seconds(patience)) = args.expect100_timeout {
        if !args.expect_continue && args.jobs.is_none() {
            return Err(
                "--expect100-timeout: nothing is waited for without --expect-continue".into()
            );
        }
        settings.timeouts.set(Limit::Continue, (patience != Duration::MAX).then_some(patience));
    }
    settings.retries = args.retries.unwrap_or(if args.jobs.is_some() { 0 } else { 2 });
    settings.follow = !args.no_follow;
    settings.decode = !args.no_decode;
    settings.deny_private = args.deny_private;
    settings.cookies = !args.no_cookies;
    if let Some(hops) = args.max_redirects {
        settings.redirects_max = hops;
    }
    if let Some(bytes) = args.max_body {
        settings.body_bytes_max = bytes;
    }
    if let Some(bytes) = args.max_head {
        settings.head_bytes_max = bytes.get();
    }
    settings.proxies = proxies_of(args)?;
    // The program has a bound of its own.
    settings.waiting_requests_max = usize::MAX;
    settings.resolve = args.resolve.clone();
    settings.connect_to = args.connect_to.clone();
    settings.sockets = Arc::new(sockets_of(args));
    if let Some(servers) = &args.dns_servers {
        settings.dns_servers = servers.0.clone();
    }
    settings.tls = Arc::new(tls_of(args)?);
    settings.netrc = netrc_of(args)?.map(Arc::new);
    Ok(settings)
}

/// What the command line says, or else the environment. The demo's origin is at hand.
fn proxies_of(args: &Args) -> Result<Proxies, String> {
    let proxies = match &args.proxy {
        Some(ProxyChoice(proxy)) => proxy.clone().map_or_else(Proxies::default, Proxies::all),
        None if args.demo.is_some() => Proxies::default(),
        None => Proxies::from_environment().map_err(|error| error.to_string())?,
    };
    Ok(if args.proxy_digest { proxies.digest() } else { proxies })
}

/// Every body in a file takes `each` descriptors beside its connection's; the reactor knows only of
/// its own. Where the process may not have that many, fewer connections are kept than could be, and
/// then fewer fetches run at once.
fn leave_descriptors(settings: &mut Settings, each: usize, descriptors_max: usize) {
    let available = descriptors_max.saturating_sub(DESCRIPTORS_RESERVED);
    let of_fetches = settings.concurrency.saturating_mul(1 + each);
    if of_fetches.saturating_add(Settings::default().idle_connections_max) > available {
        settings.concurrency = settings.concurrency.min(available / (2 + each)).max(1);
    }
    let left = available.saturating_sub(settings.concurrency.saturating_mul(1 + each));
    settings.idle_connections_max = settings.idle_connections_max.min(left.max(1));
}

/// The soft limit on open files, where the system tells it in a file; else what all have.
fn descriptors_max() -> usize {
    // The kernel gives all of it at once; it does not say beforehand how long it is.
    let mut text = [0; LIMITS_BYTES_MAX];
    let read = File::open("/proc/self/limits").and_then(|mut file| file.read(&mut text));
    let limits = str::from_utf8(&text[..read.unwrap_or(0)]).unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    soft.and_then(|soft| soft.parse().ok()).unwrap_or(DESCRIPTORS_USUAL)
}

/// The logins of hosts, where they were asked for.
fn netrc_of(args: &Args) -> Result<Option<Netrc>, String> {
    let (option, path) = match (&args.netrc_file, args.netrc) {
        (Some(path), _) => ("--netrc-file", path.clone()),
        (None, true) => ("--netrc", netrc_path().ok_or("--netrc: there is no HOME")?),
        (None, false) => return Ok(None),
    };
    let explain = |error: &dyn fmt::Display| format!("{option} {}: {error}", path.display());
    let text = fs::read_to_string(&path).map_err(|error| explain(&error))?;
    Netrc::parse(&text).map(Some).map_err(|error| explain(&error))
}

fn netrc_path() -> Option<PathBuf> {
    let named = std::env::var_os("NETRC").filter(|path| !path.is_empty()).map(PathBuf::from);
    named.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".netrc")))
}

fn tls_of(args: &Args) -> Result<TlsSettings, String> {
    let mut tls = TlsSettings::new();
    if let Some(path) = &args.cacert {
        let pem = read_pem("--cacert", path, CERTIFICATE)?;
        tls = tls.with_roots(Roots::OnlyAdded).add_ca_pem(pem);
    }
    if args.native_roots {
        if !cfg!(feature = "native-roots") {
            return Err("--native-roots: the feature native-roots is not built in".to_owned());
        }
        tls = tls.with_roots(Roots::Native);
    }
    if let Some(path) = &args.cert {
        let chain = read_pem("--cert", path, CERTIFICATE)?;
        let key = match &args.key {
            Some(path) => read_pem("--key", path, PRIVATE_KEY)?,
            None => read_pem("--cert", path, PRIVATE_KEY)?,
        };
        tls = tls.with_client_certificate(chain, key);
    }
    if args.insecure {
        tls = tls.danger_accept_invalid_certificates(true);
    }
    demanding(args, tls)
}

fn tls_files(args: &Args) -> String {
    let given = [("--cacert", &args.cacert), ("--cert", &args.cert), ("--key", &args.key)];
    let named = given.iter().filter_map(|(option, path)| {
        path.as_ref().map(|path| format!("{option} {}", path.display()))
    });
    named.collect::<Vec<_>>().join(", ")
}

/// Reads a PEM file, which has such a section.
fn read_pem(option: &str, path: &Path, section: &str) -> Result<Vec<u8>, String> {
    let pem = fs::read(path).map_err(|error| format!("{option} {}: {error}", path.display()))?;
    if !String::from_utf8_lossy(&pem).contains(&format!("{section}-----")) {
        return Err(format!("{option} {}: no {section} in PEM", path.display()));
    }
    Ok(pem)
}

/// The files; what is given as text becomes a header beside those of `-H`.
fn cookies_of(args: &mut Args) -> Cookies {
    let mut cookies = Cookies { from: Vec::new(), to: args.cookie_jar.take() };
    for cookie in std::mem::take(&mut args.cookies) {
        match cookie {
            Cookie::File(path) => cookies.from.push(path),
            Cookie::Given(Secret(value)) => args.headers.push(("Cookie".to_owned(), value)),
        }
    }
    cookies
}

fn defaults_of(args: &mut Args, is_single: bool, collect: bool) -> Result<Defaults, String> {
    let mut headers = std::mem::take(&mut args.headers);
    if let Some((name, value)) = args.user_agent.take()
        && !headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(&name))
    {
        headers.push((name, value));
    }
    let contents = contents_of(args, is_single, &mut stdin_of(args)?)?;
    let of_user = if args.digest { Auth::Digest } else { Auth::Basic };
    let auth = args.user.take().map(of_user).or(args.bearer.take().map(Auth::Bearer));
    let (digest, proxy_digest) = (args.digest, args.proxy_digest);
    let method = if args.head { Some("HEAD".to_owned()) } else { args.method.take() };
    Ok(Defaults {
        method,
        headers,
        contents,
        expect_continue: args.expect_continue,
        auth,
        digest,
        proxy_digest,
        body_bytes_max: args.max_body,
        collect,
    })
}

/// Standard input, which may be the jobs'.
fn stdin_of(args: &Args) -> Result<Stdin, String> {
    let mut stdin = Stdin::default();
    for (option, path) in [("--input -", &args.input), ("--jobs -", &args.jobs)] {
        if path.as_deref() == Some(Path::new("-")) {
            stdin.take(option)?;
        }
    }
    Ok(stdin)
}

/// Standard streams, polls, signals, name servers and input.
const DESCRIPTORS_RESERVED: usize = 24;
const DESCRIPTORS_USUAL: usize = 256;
/// More than twice what Linux writes there.
const LIMITS_BYTES_MAX: usize = 4 << 10;
const CERTIFICATE: &str = "CERTIFICATE";
const PRIVATE_KEY: &str = "PRIVATE KEY";

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(words: &str) -> Result<Plan, String> {
        prepare(Args::of(words).unwrap())
    }

    #[test]
    fn what_is_printed_follows_from_what_is_asked() {
        for (words, print) in [
            ("u", Print::Body),
            ("-I u", Print::Head),
            ("-o f u", Print::Nothing),
            ("-o - u", Print::Body),
            ("--no-body u", Print::Lines),
            ("u v", Print::Lines),
            ("-I u v", Print::Lines),
            ("-o d/ u v", Print::Lines),
            ("-i list", Print::Lines),
            ("--json u", Print::Json { bodies: true }),
            ("--json --no-body u", Print::Json { bodies: false }),
            ("--json -o d/ u", Print::Json { bodies: false }),
        ] {
            assert_eq!(plan(words).unwrap().print, print, "{words}");
        }
    }

    #[test]
    fn jobs_are_not_retried_unless_asked() {
        assert_eq!(plan("u").unwrap().settings.retries, 2);
        assert_eq!(plan("--jobs -").unwrap().settings.retries, 0);
        assert_eq!(plan("--jobs - --retry 1").unwrap().settings.retries, 1);
    }

    #[test]
    fn hosts_are_spared_as_told_and_not_otherwise() {
        assert_eq!(plan("u").unwrap().settings.pace, whippet::Pace::default());
        let pace = plan("--rate 2.5 --polite --circuit 4 u").unwrap().settings.pace;
        assert_eq!(pace.rate.map(|rate| rate.interval()), Some(Duration::from_millis(400)));
        assert!(pace.heeds_limits);
        assert_eq!(pace.circuit, Some(Circuit::after(4)));
        let pace = plan("--circuit 4 --circuit-time 1.5 u").unwrap().settings.pace;
        let circuit = Circuit::after(4).tried_again_after(Duration::from_millis(1_500));
        assert_eq!(pace.circuit, Some(circuit));
    }

    #[test]
    fn no_limit_is_none() {
        let settings = plan("-m 0 --connect-timeout 0.5 u").unwrap().settings;
        assert_eq!(settings.timeouts.get(Limit::Total), None);
        assert_eq!(settings.timeouts.get(Limit::Connect), Some(Duration::from_millis(500)));
    }

    #[test]
    fn the_servers_word_is_waited_for_as_long_as_said() {
        let patience = |words| plan(words).unwrap().settings.timeouts.get(Limit::Continue);
        assert_eq!(patience("--expect-continue -d x u"), Some(Duration::from_secs(1)));
        let long = Some(Duration::from_millis(2_500));
        assert_eq!(patience("--expect-continue --expect100-timeout 2.5 -d x u"), long);
        assert_eq!(patience("--expect100-timeout 2.5 --jobs -"), long);
        assert_eq!(patience("--expect-continue --expect100-timeout 0 -d x u"), None);
    }

    #[test]
    fn no_connection_is_closed_because_many_end_at_once() {
        let kept = |words| plan(words).unwrap().settings.idle_connections_max;
        assert_eq!(kept("-c 10000 u"), 10_000);
        assert_eq!(kept("-c 1 u"), Settings::default().idle_connections_max);
    }

    #[test]
    fn files_leave_descriptors_for_connections() {
        for each in [1, 2] {
            let mut settings = Settings::default();
            leave_descriptors(&mut settings, each, 1 << 20);
            assert_eq!(settings.concurrency, Settings::default().concurrency);
            leave_descriptors(&mut settings, each, 64);
            assert!(settings.concurrency * (1 + each) + settings.idle_connections_max <= 64);
            leave_descriptors(&mut settings, each, 3);
            assert_eq!(settings.concurrency, 1);
        }
        // Idle connections give way first.
        let mut settings = plan("-c 9000 u").unwrap().settings;
        leave_descriptors(&mut settings, 1, 20_000);
        assert_eq!(settings.concurrency, 9_000);
        assert!(2 * 9_000 + settings.idle_connections_max <= 20_000);
        assert!(descriptors_max() > DESCRIPTORS_RESERVED);
    }

    #[test]
    fn what_cannot_be_used_names_the_option_and_the_file() {
        for (words, named) in [
            ("", "nothing to fetch"),
            ("-o one u v", "-o one"),
            ("-o - u v", "-o -"),
            ("-o one -i list", "-o one"),
            ("-o {x} u", "{x}"),
            ("--cacert /nowhere u", "--cacert /nowhere"),
            ("--cacert /dev/null u", "no CERTIFICATE"),
            ("--cert /nowhere u", "--cert /nowhere"),
            ("-d @/nowhere u", "--data @/nowhere"),
            ("--netrc-file /nowhere u", "--netrc-file /nowhere"),
            ("-d @- -i -", "--data @-"),
            ("-d @- --data-urlencode a@- u", "--data-urlencode a@-: standard input"),
            ("--data-urlencode a@/nowhere u", "--data-urlencode a@/nowhere"),
            ("-F a=@/nowhere u", "--form a=@/nowhere"),
            ("-F a=</ u", "--form a=</"),
            ("-F a=<- --jobs -", "--form a=<-: standard input"),
            ("-T /nowhere u", "--upload-file /nowhere"),
            ("-T / u", "--upload-file /: is a directory"),
            ("-T - u v", "--upload-file -: standard input can be sent once"),
            ("-T . -i list", "--upload-file .: standard input can be sent once"),
            ("-T - --jobs -", "--upload-file -"),
            ("--upgrade a u v", "--upgrade a: standard input can be sent once"),
            ("--upgrade a -i -", "--upgrade a: standard input"),
            ("-T /dev/zero u v", "--upload-file /dev/zero: a pipe"),
            ("--expect100-timeout 2 u", "--expect-continue"),
            ("--pinnedpubkey /nowhere u", "--pinnedpubkey /nowhere"),
            ("--pinnedpubkey /dev/null u", "no PUBLIC KEY"),
            ("--pinnedpubkey sha256//x u", "--pinnedpubkey: a pin is"),
        ] {
            let line = plan(words).err().unwrap();
            assert!(line.contains(named) && !line.contains('\n'), "{words}: {line}");
        }
    }

    #[test]
    fn a_body_is_sent_as_a_form_unless_said_otherwise() {
        use super::super::jobs::Job;
        let type_of = |words: &str| {
            let request = Job::from_url("http://a/", &plan(words).unwrap().defaults).request;
            let request = request.unwrap();
            assert_eq!(request.method(), "POST");
            String::from_utf8(request.header_value("content-type").unwrap().to_vec()).unwrap()
        };
        assert_eq!(type_of("-d x u"), "application/x-www-form-urlencoded");
        assert_eq!(type_of("-d x -H content-type:a/b u"), "a/b");
    }
}
