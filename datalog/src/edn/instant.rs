//! Instants as text, as Clojure's `#inst` has them: RFC 3339, shortened from the right as one likes.
//!
//! Calendar arithmetic is done here, in the proleptic Gregorian calendar, because every `i64` of
//! milliseconds must print and read back, and calendar libraries end some quarter of a million years
//! from now. Years outside 0000–9999 are written with a sign, as ISO 8601 allows.

use std::fmt;

use crate::error::Error;

const DAY_MS: i64 = 86_400_000;

/// Reads an instant: milliseconds since the epoch.
///
/// Accepts every prefix of `2011-01-31T10:20:30.456789` from the year on, each with or without an
/// offset `Z`, `+02:00` or `-00:00`; no offset means UTC. Digits after the millisecond are cut off.
/// Source: Clojure, `clojure.instant/parse-timestamp`.
///
/// # Errors
///
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if the text has another shape, or a field lies
/// outside its range.
///
/// ```
/// use datomfusion_datalog::edn::{format_instant, parse_instant};
///
/// let ms = parse_instant("2011-01-01T01:00+01:00")?;
/// assert_eq!(format_instant(ms).to_string(), "2011-01-01T00:00:00.000-00:00");
/// # Ok::<(), datomfusion_datalog::Error>(())
/// ```
pub fn parse_instant(text: &str) -> Result<i64, Error> {
    milliseconds(text).map_err(|reason| Error::new(reason, 0..text.len(), text))
}

/// Writes an instant, given in milliseconds since the epoch, as Clojure prints it.
pub fn format_instant(ms: i64) -> impl fmt::Display {
    Timestamp(ms)
}

struct Timestamp(i64);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date_of_day(self.0.div_euclid(DAY_MS));
        match year {
            0..=9999 => write!(f, "{year:04}")?,
            _ => write!(f, "{year:+05}")?,
        }
        let ms = self.0.rem_euclid(DAY_MS);
        let (seconds, ms) = (ms / 1000, ms % 1000);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(
            f,
            "-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}-00:00"
        )
    }
}

pub(super) fn milliseconds(text: &str) -> Result<i64, &'static str> {
    let mut rest = Cursor(text.as_bytes());
    let year = rest.year()?;
    let (mut month, mut day) = (1, 1);
    let (mut hour, mut minute, mut second, mut ms) = (0, 0, 0, 0);
    if rest.eat_date_dash() {
        month = rest.two_digits()?;
        if rest.eat_date_dash() {
            day = rest.two_digits()?;
            if rest.eat(b'T') {
                hour = rest.two_digits()?;
                if rest.eat(b':') {
                    minute = rest.two_digits()?;
                    if rest.eat(b':') {
                        second = rest.two_digits()?;
                        if rest.eat(b'.') {
                            ms = rest.fraction()?;
                        }
                    }
                }
            }
        }
    }
    let offset_minutes = rest.offset()?;
    if !rest.0.is_empty() {
        return Err(SHAPE);
    }

    if !(1..=12).contains(&month) {
        return Err("the month of an instant is 01 to 12");
    }
    if !(1..=days_in_month(year, month)).contains(&day) {
        return Err("the month of this instant has no such day");
    }
    if hour > 23 {
        return Err("the hour of an instant is 00 to 23");
    }
    if minute > 59 {
        return Err("the minute of an instant is 00 to 59");
    }
    // As in Clojure, a leap second may end any hour; it falls together with the second after it.
    if second > if minute == 59 { 60 } else { 59 } {
        return Err("the second of an instant is 00 to 59");
    }
    let seconds = day_of_date(year, month, day) * 86_400
        + (hour * 60 + minute - offset_minutes) * 60
        + second;
    // In 128 bits: the first second of all begins before the range and ends inside it.
    i64::try_from(i128::from(seconds) * 1000 + i128::from(ms))
        .map_err(|_| "the instant does not fit 64 bits of milliseconds")
}

const SHAPE: &str = "an instant has the form 2011-01-31T10:20:30.456Z, shortened from the right";

/// What is left of the text.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn eat(&mut self, byte: u8) -> bool {
        let found = self.0.first() == Some(&byte);
        if found {
            self.0 = &self.0[1..];
        }
        found
    }

    /// Eats the dash before a month or a day, but not the sign of an offset, as in `2011-01:00`.
    fn eat_date_dash(&mut self) -> bool {
        self.0.get(3) != Some(&b':') && self.eat(b'-')
    }

    /// Takes one digit or more, and says how many there were.
    fn digits(&mut self, most: usize) -> Result<(i64, usize), &'static str> {
        let count = self
            .0
            .iter()
            .take(most)
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let (digits, rest) = self.0.split_at(count);
        self.0 = rest;
        let value = digits
            .iter()
            .fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
        if count == 0 {
            Err(SHAPE)
        } else {
            Ok((value, count))
        }
    }

    fn two_digits(&mut self) -> Result<i64, &'static str> {
        match self.digits(2)? {
            (value, 2) => Ok(value),
            _ => Err(SHAPE),
        }
    }

    fn year(&mut self) -> Result<i64, &'static str> {
        let negative = self.eat(b'-');
        let signed = negative || self.eat(b'+');
        match self.digits(if signed { 9 } else { 4 })? {
            (year, 4..) => Ok(if negative { -year } else { year }),
            _ => Err(SHAPE),
        }
    }

    fn fraction(&mut self) -> Result<i64, &'static str> {
        let (value, count) = self.digits(3)?;
        let cut_off = self
            .0
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        self.0 = &self.0[cut_off..];
        Ok(match count {
            1 => value * 100,
            2 => value * 10,
            _ => value,
        })
    }

    /// Minutes east of UTC.
    fn offset(&mut self) -> Result<i64, &'static str> {
        if self.0.is_empty() || self.eat(b'Z') {
            return Ok(0);
        }
        let negative = self.eat(b'-');
        if !negative && !self.eat(b'+') {
            return Err(SHAPE);
        }
        let hours = self.two_digits()?;
        if !self.eat(b':') {
            return Err(SHAPE);
        }
        let minutes = self.two_digits()?;
        if hours > 23 || minutes > 59 {
            return Err("the offset of an instant is at most 23:59");
        }
        let offset = hours * 60 + minutes;
        Ok(if negative { -offset } else { offset })
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01. Years begin in March here, so that the leap day is the last.
fn day_of_date(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day; the inverse of [`day_of_date`].
fn date_of_day(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let day_of_era = day.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, NaiveDate};
    use proptest::prelude::*;

    use super::*;

    fn ms(text: &str) -> i64 {
        milliseconds(text).unwrap_or_else(|reason| panic!("{text}: {reason}"))
    }

    #[test]
    fn every_prefix_is_an_instant() {
        let year = 1_293_840_000_000;
        assert_eq!(ms("2011"), year);
        assert_eq!(ms("2011-01"), year);
        assert_eq!(ms("2011-01-01"), year);
        assert_eq!(ms("2011-01-01T10"), year + 36_000_000);
        assert_eq!(ms("2011-01-01T10:10"), year + 36_600_000);
        assert_eq!(ms("2011-01-01T10:10:01"), year + 36_601_000);
        assert_eq!(ms("2011-01-01T10:10:01.5"), year + 36_601_500);
        assert_eq!(ms("2011-01-01T10:10:01.123456789012"), year + 36_601_123);
        assert_eq!(ms("1954-08-16"), -485_308_800_000);
    }

    #[test]
    fn offsets_are_subtracted_from_any_prefix() {
        let year = ms("2011");
        for (text, hours) in [
            ("2011Z", 0),
            ("2011-00:00", 0),
            ("2011-01:00", 1),
            ("2011-01+02:00", -2),
            ("2011-01-01-02:00", 2),
            ("2011-01-01T00:00:00.000+02:00", -2),
        ] {
            assert_eq!(ms(text), year + hours * 3_600_000, "{text}");
        }
    }

    #[test]
    fn fields_out_of_range_are_refused() {
        for text in [
            "2011-13",
            "2011-00",
            "2011-02-29",
            "1900-02-29",
            "2011-04-31",
            "2011-01-00",
            "2011-01-01T24",
            "2011-01-01T00:60",
            "2011-01-01T00:00:60",
            "2011-01-01T00:59:61",
            "2011+24:00",
            "2011+00:60",
            "+292278994-08-18",
            "-292275055-05-15",
            "+999999999",
        ] {
            assert!(milliseconds(text).is_err(), "{text}");
        }
        assert_eq!(ms("2012-02-29") - ms("2012-02-28"), DAY_MS);
        assert_eq!(ms("2011-12-31T23:59:60Z"), ms("2012"));
    }

    #[test]
    fn other_shapes_are_refused() {
        let texts = "201 20111 2011-1 2011- 2011-01- 2011-01-01T 2011-01-01T1 2011-01-01T10: 2011-01-01Z0 \
                     2011-01-01T10:10:01. 2011-01-01T10:10+0200 2011-01-01t10:10z 20ä1 +201 --2011";
        for text in texts.split(' ').chain(["", "2011-01-01 10:00"]) {
            assert_eq!(milliseconds(text), Err(SHAPE), "{text}");
        }
    }

    #[test]
    fn the_ends_of_time_print_and_read_back() {
        for (ms, text) in [
            (i64::MAX, "+292278994-08-17T07:12:55.807-00:00"),
            (i64::MIN, "-292275055-05-16T16:47:04.192-00:00"),
            (-62_167_219_200_001, "-0001-12-31T23:59:59.999-00:00"),
            (253_402_300_800_000, "+10000-01-01T00:00:00.000-00:00"),
        ] {
            assert_eq!(format_instant(ms).to_string(), text);
            assert_eq!(milliseconds(text), Ok(ms));
        }
    }

    proptest! {
        #[test]
        fn printing_and_reading_are_inverse(ms in any::<i64>()) {
            prop_assert_eq!(milliseconds(&format_instant(ms).to_string()), Ok(ms));
        }

        #[test]
        fn the_calendar_agrees_with_chrono(ms in -8_000_000_000_000_000_i64..8_000_000_000_000_000) {
            let chrono = DateTime::from_timestamp_millis(ms).unwrap();
            let (year, month, day) = date_of_day(ms.div_euclid(DAY_MS));
            let date = NaiveDate::from_ymd_opt(
                year.try_into().unwrap(),
                month.try_into().unwrap(),
                day.try_into().unwrap(),
            );
            prop_assert_eq!(date, Some(chrono.date_naive()));
            prop_assert_eq!(day_of_date(year, month, day), ms.div_euclid(DAY_MS));
        }
    }
}
