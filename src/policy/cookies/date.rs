//! Floor 1. Dates as servers write them into cookies (RFC 6265 §5.1.1): hardly any of them keep to
//! one format, so the parts are looked for wherever they stand.
//!
//! In goes the value of Expires; out come seconds since 1970, negative before that, or nothing.

/// Seconds since 1970-01-01T00:00:00Z; `None`: it is no date.
pub(super) fn parse(text: &[u8]) -> Option<i64> {
    let mut found = Found::default();
    for token in text.split(|&byte| is_delimiter(byte)).filter(|token| !token.is_empty()) {
        found.note(token);
    }
    found.seconds()
}

/// The parts found so far. The first token that can be a part is that part.
#[derive(Default)]
struct Found {
    time: Option<(u32, u32, u32)>,
    day: Option<u32>,
    month: Option<u32>,
    year: Option<u32>,
}

impl Found {
    fn note(&mut self, token: &[u8]) {
        if self.time.is_none() && note(&mut self.time, time(token)) {
            return;
        }
        if self.day.is_none() && note(&mut self.day, number(token, 1, 2)) {
            return;
        }
        if self.month.is_none() && note(&mut self.month, month(token)) {
            return;
        }
        if self.year.is_none() {
            self.year = number(token, 2, 4);
        }
    }

    fn seconds(&self) -> Option<i64> {
        let (hour, minute, second) = self.time?;
        let (day, month) = (self.day?, self.month?);
        let year = match self.year? {
            short @ 70..=99 => short + 1_900,
            short @ 0..=69 => short + 2_000,
            year => year,
        };
        let is_time = hour <= 23 && minute <= 59 && second <= 59;
        let is_date = year >= 1_601 && day >= 1 && day <= days_of(month, year);
        if !is_time || !is_date {
            return None;
        }
        let days = days_before(year, month) + i64::from(day) - 1;
        Some(days * 86_400 + i64::from(hour * 3_600 + minute * 60 + second))
    }
}

fn note<T>(place: &mut Option<T>, part: Option<T>) -> bool {
    *place = part;
    place.is_some()
}

/// `delimiter` of RFC 6265 §5.1.1: what is neither a letter, a digit, a colon nor a control byte.
fn is_delimiter(byte: u8) -> bool {
    matches!(byte, b'\t' | 0x20..=0x2f | 0x3b..=0x40 | 0x5b..=0x60 | 0x7b..=0x7e)
}

/// `1*2DIGIT ":" 1*2DIGIT ":" 1*2DIGIT [ non-digit *OCTET ]`
fn time(token: &[u8]) -> Option<(u32, u32, u32)> {
    let mut fields = token.splitn(3, |&byte| byte == b':');
    let mut whole = || {
        let field = fields.next()?;
        let is_digits = field.iter().all(u8::is_ascii_digit);
        number(field, 1, 2).filter(|_| is_digits)
    };
    let (hour, minute) = (whole()?, whole()?);
    Some((hour, minute, number(fields.next()?, 1, 2)?))
}

/// So many digits, at the end or before something that is none.
fn number(token: &[u8], least: usize, most: usize) -> Option<u32> {
    let length = token.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let digits = token.get(..length).filter(|_| (least..=most).contains(&length))?;
    Some(digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0')))
}

/// The first three letters count, from 1.
fn month(token: &[u8]) -> Option<u32> {
    let start = token.get(..3)?;
    let at = MONTHS.iter().position(|name| start.eq_ignore_ascii_case(name.as_bytes()))?;
    u32::try_from(at + 1).ok()
}

fn days_of(month: u32, year: u32) -> u32 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn is_leap(year: u32) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// Days from 1970-01-01 to the first of a month; `year` is at least 1.
fn days_before(year: u32, month: u32) -> i64 {
    let before = year - 1;
    let leaps = before / 4 - before / 100 + before / 400;
    let to_year = i64::from(before * 365 + leaps) - DAYS_BEFORE_1970;
    let in_year: u32 = (1..month).map(|month| days_of(month, year)).sum();
    to_year + i64::from(in_year)
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
/// From 0001-01-01 on, in the calendar of today.
const DAYS_BEFORE_1970: i64 = 719_162;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_found_in_whatever_shape() {
        let noon = Some(784_111_777);
        for (text, seconds) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", noon),
            ("Sunday, 06-Nov-94 08:49:37 GMT", noon),
            ("Sun Nov  6 08:49:37 1994", noon),
            ("6 nov 1994 8:49:37", noon),
            ("1994 06 November 08:49:37 +0100", noon),
            ("06 1994 November 08:49:37 +0100", noon),
            ("08:49:37 06 NOVxyz 94", noon),
            ("06xyz/Nov/1994abc;08:49:37.5Z", noon),
            ("Thu, 01-Jan-1970 00:00:00 GMT", Some(0)),
            ("Wed, 31 Dec 1969 23:59:59 GMT", Some(-1)),
            ("01 Jan 70 00:00:10", Some(10)),
            ("01 Jan 69 00:00:00", Some(3_124_224_000)),
            ("29 Feb 2000 00:00:00", Some(951_782_400)),
            ("01 Jan 1601 00:00:00", Some(-11_644_473_600)),
            ("31 Dec 9999 23:59:59", Some(253_402_300_799)),
        ] {
            assert_eq!(parse(text.as_bytes()), seconds, "{text}");
        }
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "0",
            "-1",
            "1700000000",
            "Nov 1994 08:49:37",
            "06 1994 08:49:37",
            "06 Nov 08:49:37",
            "06 Nov 1994",
            "06 Nov 1994 08:49",
            "06 Nov 1994 24:00:00",
            "06 Nov 1994 08:60:00",
            "06 Nov 1994 08:49:60",
            "06 Nov 1994 008:49:37",
            "00 Nov 1994 08:49:37",
            "32 Oct 1994 08:49:37",
            "31 Nov 1994 08:49:37",
            "29 Feb 1900 00:00:00",
            "31 Dec 1600 23:59:59",
            "06 Nov 19940 08:49:37",
            "06 Nop 1994 08:49:37",
            "2099-01-01T00:00:00Z",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    proptest::proptest! {
        /// Day follows day, as a calendar that is counted through has it.
        #[test]
        fn each_day_is_a_day_after_the_one_before(year in 1_601_u32..9_999, month in 1_u32..13) {
            let name = MONTHS[month as usize - 1];
            let last = days_of(month, year);
            let at = |day: u32| parse(format!("{name} {day:02} {year} 01:02:03").as_bytes());
            for day in 1..last {
                proptest::prop_assert_eq!(at(day + 1), at(day).map(|at| at + 86_400));
            }
            proptest::prop_assert_eq!(at(last + 1), None);
            let (next, after) = if month == 12 { (1, year + 1) } else { (month + 1, year) };
            let next = format!("01 {} {after} 01:02:03", MONTHS[next as usize - 1]);
            proptest::prop_assert_eq!(parse(next.as_bytes()), at(last).map(|at| at + 86_400));
        }

        #[test]
        fn nothing_makes_it_panic(text in proptest::collection::vec(0_u8..=255, 0..60)) {
            parse(&text);
        }
    }
}
