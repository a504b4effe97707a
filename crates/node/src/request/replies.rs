//! The requests that a link has carried and that are not answered: who waits for which answer, and
//! until when. Part of a peer's state, under its lock. A place is used again for the next request, so
//! that to ask allocates nothing; each request wakes its own task and no other's.

use std::collections::BTreeSet;
use std::task::{Poll, Waker};

use bytes::Bytes;
use tidings_core::{Outcome, Time, earliest};
use tidings_wire::Records;

use crate::sender::RawSender;

/// Places that are kept when nobody waits.
const IDLE_MAX: usize = 1024;

/// See the file's first line.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    streams: BTreeSet<u32>,
    asked: Vec<Asked>,
    free: Vec<u32>,
    last_life: u32,
    /// No request is late before.
    deadline: Option<Time>,
    ended: Vec<(u32, u64, Outcome)>,
    /// What we answer the peer's requests with.
    pub outlet: Option<RawSender>,
    /// Answers that came when nobody waited for them any more.
    pub late: u64,
}

/// The place of one request.
#[derive(Debug, Default)]
struct Asked {
    life: u32, // 0: nobody's
    stream: u32,
    ticket: u64, // 0 before the link has it
    deadline: Option<Time>,
    news: Option<News>,
    waker: Option<Waker>,
}

/// What became of a request.
#[derive(Debug)]
pub(crate) enum News {
    /// It is answered: status and body.
    Answered(u32, Bytes),
    /// The link has given it up.
    Ended(Outcome),
    /// Its time is over.
    Late,
}

impl Asked {
    fn tell(&mut self, news: News) {
        self.news = Some(news);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Replies {
    /// A stream of answers.
    pub fn expect(&mut self, stream: u32) {
        self.streams.insert(stream);
    }

    pub fn is_stream(&self, stream: u32) -> bool {
        self.streams.contains(&stream)
    }

    /// Requests that somebody waits for.
    pub fn in_flight(&self) -> usize {
        self.asked.len() - self.free.len()
    }

    /// A request on a stream, and who is woken with news of it: its number on the wire.
    pub fn ask(&mut self, stream: u32, deadline: Option<Time>, waker: &Waker) -> u64 {
        self.last_life = self.last_life.wrapping_add(1).max(1);
        let at = self.free.pop().unwrap_or(self.asked.len() as u32);
        let asked = Asked {
            life: self.last_life,
            stream,
            ticket: 0,
            deadline,
            news: None,
            waker: Some(waker.clone()),
        };
        match self.asked.get_mut(at as usize) {
            Some(place) => *place = asked,
            None => self.asked.push(asked),
        }
        self.deadline = earliest(self.deadline, deadline);
        u64::from(self.last_life) << 32 | u64::from(at)
    }

    /// The link has taken the request.
    pub fn sent(&mut self, id: u64, ticket: u64) {
        if let Some(asked) = self.find(id) {
            asked.ticket = ticket;
        }
    }

    fn find(&mut self, id: u64) -> Option<&mut Asked> {
        let (life, at) = ((id >> 32) as u32, id as u32);
        self.asked.get_mut(at as usize).filter(|asked| asked.life == life && life != 0)
    }

    /// What became of a request. With its news it is forgotten.
    pub fn poll(&mut self, id: u64, waker: &Waker) -> Poll<News> {
        let Some(asked) = self.find(id) else { return Poll::Pending };
        if let Some(news) = asked.news.take() {
            self.forget(id);
            return Poll::Ready(news);
        }
        if !asked.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            asked.waker = Some(waker.clone());
        }
        Poll::Pending
    }

    /// Nobody waits for this one any more.
    pub fn forget(&mut self, id: u64) {
        let Some(asked) = self.find(id) else { return };
        (asked.life, asked.news, asked.waker) = (0, None, None);
        self.free.push(id as u32);
        if self.free.len() == self.asked.len() && self.asked.len() > IDLE_MAX {
            (self.asked, self.free) = (Vec::new(), Vec::new());
        }
    }

    /// Answers that have arrived.
    pub fn answer(&mut self, bytes: &Bytes) {
        for record in Records::new(bytes) {
            let Some(reply) = record.meta.reply else { continue };
            let body = bytes.slice(record.body_at..record.body_at + record.body.len());
            match self.find(reply.seq) {
                Some(asked) => asked.tell(News::Answered(reply.status, body)),
                None => self.late += 1,
            }
        }
    }

    /// The link has given up a message of this stream; `tell_ended` has to follow.
    pub fn end(&mut self, stream: u32, ticket: u64, outcome: Outcome) {
        self.ended.push((stream, ticket, outcome));
    }

    /// Tells those whose requests the link has given up. O(in flight) for all of them together: it is
    /// rare, and no request has to be found by its ticket otherwise.
    pub fn tell_ended(&mut self) {
        if self.ended.is_empty() {
            return;
        }
        let mut ended = std::mem::take(&mut self.ended);
        ended.sort_unstable_by_key(|(stream, ticket, _)| (*stream, *ticket));
        for asked in self.asked.iter_mut().filter(|asked| asked.life != 0 && asked.news.is_none()) {
            let key = (asked.stream, asked.ticket);
            if let Ok(at) =
                ended.binary_search_by_key(&key, |(stream, ticket, _)| (*stream, *ticket))
            {
                asked.tell(News::Ended(ended[at].2));
            }
        }
    }

    /// When to call `expire` next.
    pub fn deadline(&self) -> Option<Time> {
        self.deadline
    }

    /// Tells those whose time is over. O(in flight), at most once a deadline.
    pub fn expire(&mut self, now: Time) {
        if self.deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        self.deadline = None;
        for asked in self.asked.iter_mut().filter(|asked| asked.life != 0 && asked.news.is_none()) {
            match asked.deadline {
                Some(deadline) if deadline <= now => asked.tell(News::Late),
                deadline => self.deadline = earliest(self.deadline, deadline),
            }
        }
    }

    /// The node is closing: all shall look.
    pub fn wake_all(&mut self) {
        for waker in self.asked.iter_mut().filter_map(|asked| asked.waker.take()) {
            waker.wake();
        }
    }

    /// The peer lives a new life: it will not answer what its earlier life was asked.
    pub fn fail_all(&mut self) {
        self.streams.clear();
    }
}

#[cfg(test)]
mod tests;
