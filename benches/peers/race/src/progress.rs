//! How far a run is and how long it will take, told on the error output. It measures only itself.

use std::time::{Duration, Instant};

pub struct Progress {
    since: Instant,
    done: usize,
    all: usize,
}

impl Progress {
    /// So many measurements lie ahead, of about so long each.
    pub fn begin(all: usize, each: Duration) -> Self {
        let ahead = each * u32::try_from(all).unwrap_or(u32::MAX);
        eprintln!("{all} measurements, about {}", spoken(ahead));
        Self { since: Instant::now(), done: 0, all }
    }

    pub fn done(&mut self, more: usize) {
        self.done += more;
    }

    /// Says what is behind, and from its pace what is ahead.
    pub fn tell(&self, what: &str) {
        let pace = self.since.elapsed().as_secs_f64() / self.done.max(1) as f64;
        let ahead = Duration::from_secs_f64(pace * self.all.saturating_sub(self.done) as f64);
        eprintln!("{what}: {} of {}, about {} left", self.done, self.all, spoken(ahead));
    }
}

fn spoken(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..=99 => format!("{seconds} s"),
        seconds => format!("{} min", (seconds + 30) / 60),
    }
}
