//! What the two ends of every road have in common: the command line, when to begin, what is sent, how it is
//! counted, what is reported. `roads/end.h` is the same for C. It knows no library that is measured.
//!
//! `PEER far WHAT ROAD SIZE` listens, prints where, and answers until its input ends; `PEER near WHAT ROAD
//! SIZE ADDRESS` prints `ready`, is told for how many milliseconds, and reports. In `send` the near end
//! sends numbered messages, the last one with a number of its own, and the far end reports what came.

use std::io::{BufRead, Read, Write};
use std::time::{Duration, Instant};

/// Whatever went wrong; the program ends with it.
pub type Failed = Box<dyn std::error::Error + Send + Sync>;

/// The number of the message after all others.
const LAST: u64 = u64::MAX;
/// Round trips before they count.
const WARM: usize = 1000;
/// Above this a look at the clock for each message is nothing.
const LARGE: usize = 16_384;

/// The command line.
#[derive(Clone, Debug)]
pub struct Args {
    pub is_far: bool,
    /// `send`, `rtt` or `requests`.
    pub what: String,
    pub road: String,
    pub size: usize,
    /// Of the far end; empty there.
    pub address: String,
}

impl Args {
    /// # Errors
    /// If it is another one.
    pub fn read() -> Result<Self, Failed> {
        let words: Vec<String> = std::env::args().skip(1).collect();
        let [end, what, road, size, address @ ..] = words.as_slice() else {
            return Err("far|near WHAT ROAD SIZE [ADDRESS]".into());
        };
        Ok(Self {
            is_far: end == "far",
            what: what.clone(),
            road: road.clone(),
            size: size.parse::<usize>()?.max(8),
            address: address.first().cloned().unwrap_or_default(),
        })
    }
}

/// Prints a line at once.
pub fn say(line: &str) {
    println!("{line}");
    let _ = std::io::stdout().flush();
}

/// The far end is ready, there; it ends when its input does.
pub fn listening(address: &str) {
    say(address);
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0; 1]);
        std::process::exit(0);
    });
}

/// The near end is ready: for how long to go on.
///
/// # Errors
/// If it is not told.
pub fn begin() -> Result<Duration, Failed> {
    say("ready");
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(Duration::from_millis(line.trim().parse()?))
}

/// What is sent one way.
#[derive(Debug)]
pub struct Flood {
    body: Vec<u8>,
    number: u64,
    since: Instant,
    duration: Duration,
    is_over: bool,
}

impl Flood {
    #[must_use]
    pub fn new(size: usize, duration: Duration) -> Self {
        Self { body: vec![0x5a; size], number: 0, since: Instant::now(), duration, is_over: false }
    }

    /// The number to send next: once the time is up the last one, then none.
    pub fn next_number(&mut self) -> Option<u64> {
        if self.is_over {
            return None;
        }
        let looks = self.body.len() > LARGE || self.number.is_multiple_of(64);
        if looks && self.since.elapsed() >= self.duration {
            self.is_over = true;
            return Some(LAST);
        }
        self.number += 1;
        Some(self.number - 1)
    }

    /// The next body, the last one included.
    pub fn next_body(&mut self) -> Option<&[u8]> {
        let number = self.next_number()?;
        write_number(&mut self.body, number);
        Some(&self.body)
    }

    /// How many were sent, without the last.
    pub fn report(&self) {
        say(&format!("{{\"sent\":{}}}", self.number));
    }
}

/// Puts the number at the front.
pub fn write_number(body: &mut [u8], number: u64) {
    if let Some(head) = body.first_chunk_mut() {
        *head = number.to_le_bytes();
    }
}

/// What came.
#[derive(Debug)]
pub struct Count {
    messages: u64,
    disorder: u64,
    touched: u64,
    since: Instant,
    last: Instant,
}

impl Default for Count {
    fn default() -> Self {
        let now = Instant::now();
        Self { messages: 0, disorder: 0, touched: 0, since: now, last: now }
    }
}

impl Count {
    /// Reads every cache line of a message. Says whether it was the last, after reporting.
    pub fn see(&mut self, body: &[u8]) -> bool {
        let number = body.first_chunk().map_or(0, |head| u64::from_le_bytes(*head));
        self.see_value(number, || body.iter().step_by(64).map(|byte| u64::from(*byte)).sum())
    }

    /// The same of a value that is no bytes, read by `touch`.
    pub fn see_value(&mut self, number: u64, touch: impl FnOnce() -> u64) -> bool {
        if number == LAST {
            self.last = Instant::now();
            self.report();
            *self = Self::default();
            return true;
        }
        if self.messages == 0 {
            self.since = Instant::now();
        }
        self.disorder += u64::from(number != self.messages);
        self.messages += 1;
        self.touched += touch();
        false
    }

    fn report(&self) {
        say(&format!(
            "{{\"messages\":{},\"nanos\":{},\"disorder\":{},\"touched\":{}}}",
            self.messages,
            (self.last - self.since).as_nanos(),
            self.disorder,
            self.touched
        ));
    }
}

/// Round trips, one after the other.
#[derive(Debug)]
pub struct Times {
    nanos: Vec<u64>,
    warm: usize,
    since: Instant,
    asked: Instant,
    duration: Duration,
}

impl Times {
    #[must_use]
    pub fn new(duration: Duration) -> Self {
        let now = Instant::now();
        Self { nanos: Vec::with_capacity(1 << 22), warm: WARM, since: now, asked: now, duration }
    }

    /// Whether there shall be another one, which begins now.
    pub fn ask(&mut self) -> bool {
        self.asked = Instant::now();
        self.asked - self.since < self.duration
    }

    /// The answer has come.
    pub fn answered(&mut self) {
        let nanos = self.asked.elapsed().as_nanos() as u64;
        if self.warm > 0 {
            self.warm -= 1;
        } else {
            self.nanos.push(nanos);
        }
    }

    pub fn report(mut self) {
        self.nanos.sort_unstable();
        let of = |share: f64| {
            let at = (self.nanos.len().saturating_sub(1) as f64 * share).round() as usize;
            self.nanos.get(at).copied().unwrap_or(0)
        };
        let (p50, p99, p999) = (of(0.5), of(0.99), of(0.999));
        let count = self.nanos.len();
        say(&format!("{{\"count\":{count},\"p50\":{p50},\"p99\":{p99},\"p999\":{p999}}}"));
    }
}
