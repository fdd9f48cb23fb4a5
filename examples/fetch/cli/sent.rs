//! The options that say what requests carry.
//!
//! In go words of the command line; out come what there is to send, in the order in which it was
//! given, whichever options gave it. Nothing is opened here.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};

use super::super::fields::{self, Datum, Field};
use super::super::values::{self, Seconds};

#[derive(clap::Args, Default)]
pub(crate) struct Sent {
    #[command(flatten)]
    pub(crate) fields: Fields,
    /// Send a file, with PUT where no method is given; to a URL that ends in / under its own name. -
    /// is standard input, sent as it comes and chunked, to one URL
    #[arg(short = 'T', long, value_name = "FILE|-",
          conflicts_with_all = ["data", "data_urlencode", "form", "form_string", "head"])]
    pub(crate) upload_file: Option<PathBuf>,
    /// Ask the server before a body is sent (Expect: 100-continue), and send it after 1 s without an
    /// answer
    #[arg(long)]
    pub(crate) expect_continue: bool,
    /// Seconds to wait for that answer; 0: no limit [default: 1]
    #[arg(long, value_name = "SECONDS", value_parser = values::seconds)]
    pub(crate) expect100_timeout: Option<Seconds>,
}

/// What is put together from options that may be given again.
#[derive(Default)]
pub(crate) struct Fields {
    pub(crate) data: Vec<Datum>,
    pub(crate) form: Vec<Field>,
}

/// By hand: what is derived keeps an order for each option, and none between them.
impl FromArgMatches for Fields {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self {
            data: in_order(matches, ["data", "data_urlencode"]),
            form: in_order(matches, ["form", "form_string"]),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for Fields {
    fn augment_args(command: Command) -> Command {
        let form_conflicts = ["data", "data_urlencode", "head"];
        command.args([
            option("data", "TEXT|@FILE")
                .short('d')
                .value_parser(fields::datum)
                .conflicts_with("head")
                .help(DATA),
            option("data_urlencode", "TEXT|NAME=TEXT|NAME@FILE")
                .long("data-urlencode")
                .value_parser(fields::encoded_datum)
                .conflicts_with("head")
                .help(DATA_URLENCODE),
            option("form", "NAME=TEXT|NAME=@FILE|NAME=<FILE")
                .short('F')
                .value_parser(fields::field)
                .conflicts_with_all(form_conflicts)
                .help(FORM),
            option("form_string", "NAME=TEXT")
                .long("form-string")
                .value_parser(fields::literal_field)
                .conflicts_with_all(form_conflicts)
                .help(FORM_STRING),
        ])
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn option(name: &'static str, value: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).action(ArgAction::Append)
}

/// The values of two options as they stood among one another.
fn in_order<T>(matches: &ArgMatches, names: [&str; 2]) -> Vec<T>
where
    T: Clone + Send + Sync + 'static,
{
    let placed = |name| {
        let places = matches.indices_of(name).into_iter().flatten();
        places.zip(matches.get_many::<T>(name).into_iter().flatten())
    };
    let mut values: Vec<(usize, &T)> = names.into_iter().flat_map(placed).collect();
    values.sort_by_key(|(place, _)| *place);
    values.into_iter().map(|(_, value)| value.clone()).collect()
}

const DATA: &str = "The body: text, or a file's bytes as they are; @- is standard input. Given again, \
                    an & stands in between";
const DATA_URLENCODE: &str = "The same, percent-encoded behind the first = or @; the name is sent as it \
                              is";
const FORM: &str = "A field of a form of several parts (multipart/form-data): a text, a file to upload, \
                    or a text from a file; and behind it ;type=… and ;filename=…; may be given again";
const FORM_STRING: &str = "The same with a text as it is, whatever is in it";

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::super::fields::{Content, Datum, Given};
    use super::super::Args;

    #[test]
    fn what_is_sent_is_in_the_order_of_the_line() {
        let sent = |words: &str| {
            let words = std::iter::once("fetch").chain(words.split_whitespace());
            Args::try_parse_from(words).unwrap().sent.fields
        };
        let data = sent("-d 1 --data-urlencode 2 --data 3 --data-urlencode=4 u").data;
        let text = |datum: &Datum| match datum {
            Datum::Plain(Given::Here(text)) => format!("plain {text}"),
            Datum::Encoded { content: Given::Here(text), .. } => format!("encoded {text}"),
            _ => String::new(),
        };
        let texts: Vec<_> = data.iter().map(text).collect();
        assert_eq!(texts, ["plain 1", "encoded 2", "plain 3", "encoded 4"]);
        let form = sent("--form-string a=<1 -F a=2 u -F b=<3 --form-string=b=4").form;
        let said = form.iter().map(|field| match &field.content {
            Content::Text(text) => (&*field.name, text.clone()),
            Content::Value(path) | Content::Upload(path) => {
                (&*field.name, path.display().to_string())
            }
        });
        let said: Vec<_> = said.collect();
        assert_eq!(
            said,
            [("a", "<1"), ("a", "2"), ("b", "3"), ("b", "4")].map(|(n, t)| (n, t.into()))
        );
    }
}
