//! Durations, sizes and rates as people write them, and as people read them. Knows no commands.

use std::time::Duration;

/// `250ms`, `5s`, `2m`; a number and a unit.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_number(text);
    let seconds_per_unit = match unit {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        "" => return Err(format!("`{text}` needs a unit, as in 250ms, 5s or 2m")),
        _ => return Err(format!("`{text}` is not a duration such as 250ms, 5s or 2m")),
    };
    let number: f64 = number
        .parse()
        .map_err(|_| format!("`{text}` is not a duration such as 250ms, 5s or 2m"))?;
    // A century: beyond, arithmetic with deadlines could overflow.
    const SECONDS_MAX: f64 = 100.0 * 365.0 * 86_400.0;
    let seconds = number * seconds_per_unit;
    if seconds > SECONDS_MAX {
        return Err(format!("`{text}` is longer than a hundred years"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// `64`, `1k` (1000), `1KiB` (1024), `16MiB`.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split_number(text);
    let bytes_per_unit: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "ki" | "kib" => 1 << 10,
        "mi" | "mib" => 1 << 20,
        "gi" | "gib" => 1 << 30,
        _ => return Err(format!("`{text}` is not a size such as 64, 1KiB or 16MiB")),
    };
    let wrong = || format!("`{text}` is not a size such as 64, 1KiB or 16MiB");
    let bytes = match number.parse::<u64>() {
        Ok(number) => number.checked_mul(bytes_per_unit).ok_or_else(wrong)?,
        Err(_) => {
            let number: f64 = number.parse().map_err(|_| wrong())?;
            (number * bytes_per_unit as f64).round() as u64
        }
    };
    if bytes > 1 << 50 {
        return Err(format!("`{text}` is more than a pebibyte"));
    }
    Ok(bytes)
}

/// `500/s`, `10k/s`, `500`; a positive number of messages a second.
pub(crate) fn parse_rate(text: &str) -> Result<f64, String> {
    let wrong = || format!("`{text}` is not a rate such as 500/s or 10k/s");
    let (number, unit) = split_number(text.strip_suffix("/s").unwrap_or(text));
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let rate = match unit {
        "" => number,
        "k" => number * 1e3,
        "M" => number * 1e6,
        _ => return Err(wrong()),
    };
    if rate > 0.0 { Ok(rate) } else { Err(wrong()) }
}

fn split_number(text: &str) -> (&str, &str) {
    let end =
        text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// `412 µs`, `1.8 ms`, `2.5 s`, `3 m 20 s`.
pub(crate) fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1e-6 {
        format!("{} ns", duration.as_nanos())
    } else if seconds < 1e-3 {
        format!("{} µs", three_digits(seconds * 1e6))
    } else if seconds < 1.0 {
        format!("{} ms", three_digits(seconds * 1e3))
    } else if seconds < 120.0 {
        format!("{} s", three_digits(seconds))
    } else {
        let whole = duration.as_secs();
        format!("{} m {} s", whole / 60, whole % 60)
    }
}

/// `64 B`, `12.7 MB`.
pub(crate) fn show_bytes(bytes: u64) -> String {
    scaled(bytes as f64, &["B", "kB", "MB", "GB", "TB"])
}

/// `87.0 /s`, `4.10 k/s`.
pub(crate) fn show_rate(per_second: f64) -> String {
    scaled(per_second, &["/s", "k/s", "M/s", "G/s"])
}

fn scaled(mut number: f64, units: &[&str]) -> String {
    let mut index = 0;
    while number >= 999.5 && index + 1 < units.len() {
        number /= 1000.0;
        index += 1;
    }
    format!("{} {}", three_digits(number), units[index])
}

fn three_digits(number: f64) -> String {
    if number >= 99.95 || number.fract() == 0.0 {
        format!("{number:.0}")
    } else if number >= 9.995 {
        format!("{number:.1}")
    } else {
        format!("{number:.2}")
    }
}

/// One name in two numbers: `1 message`, `3 messages`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, ms) in [("250ms", 250), ("5s", 5000), ("2m", 120_000), ("1.5s", 1500), ("0s", 0)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "5", "s", "-1s", "1..5s", "5 parsecs", "inf s", "9999999d", "1e9s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_read() {
        let table = [
            ("0", 0),
            ("64", 64),
            ("1k", 1000),
            ("1KiB", 1024),
            ("16MiB", 16 << 20),
            ("1.5KiB", 1536),
            ("2GB", 2_000_000_000),
        ];
        for (text, bytes) in table {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "k", "-1", "1XB", "99999999999999999999", "99999999GiB", "1.2.3k"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_are_read() {
        assert_eq!(parse_rate("500/s"), Ok(500.0));
        assert_eq!(parse_rate("10k/s"), Ok(10_000.0));
        assert_eq!(parse_rate("0.5/s"), Ok(0.5));
        for text in ["", "0/s", "-5/s", "/s", "5/m"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_are_shown_with_three_digits_and_a_unit() {
        assert_eq!(show_duration(Duration::from_micros(412)), "412 µs");
        assert_eq!(show_duration(Duration::from_micros(1834)), "1.83 ms");
        assert_eq!(show_duration(Duration::from_secs(200)), "3 m 20 s");
        assert_eq!(show_bytes(64), "64 B");
        assert_eq!(show_bytes(12_700_000), "12.7 MB");
        assert_eq!(show_rate(4100.0), "4.10 k/s");
        assert_eq!(
            (count(1, "message"), count(2, "message")),
            ("1 message".into(), "2 messages".into())
        );
    }
}
