//! The three-way handshake that makes a session: hello, welcome, ready. It keeps no link; the node
//! finds or makes the one that the hello names.

use std::time::Duration;

use tidings_wire::{Close, Handshake as Body, Hello, Kind, Packet, Ready, Welcome, session_id};

use crate::{Refused, Time};

/// Codes of a close packet.
pub mod close_code {
    /// The peer goes away in an orderly way.
    pub const GOODBYE: u16 = 0;
    /// The two sides share no version.
    pub const VERSION: u16 = 1;
    /// What was sent cannot be.
    pub const MALFORMED: u16 = 2;
    /// Too many connections.
    pub const BUSY: u16 = 3;
    /// The packet's session is not known here.
    pub const NO_SESSION: u16 = 4;
    /// Another connection has taken over.
    pub const REPLACED: u16 = 5;
    /// The handshake took too long.
    pub const TIMEOUT: u16 = 6;
}

/// Who this node is, as it tells its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The node.
    pub node: u128,
    /// Which life of it.
    pub incarnation: u64,
    /// For people.
    pub name: String,
}

/// A session that both sides have agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Established {
    /// Its number, in every packet.
    pub session: u32,
    /// The peer.
    pub peer: Identity,
    /// The initiator's number for the link.
    pub link: u64,
    /// Which life of the peer's end of the link this is.
    pub peer_state: u64,
    /// The longest packet that both sides can take.
    pub packet_max: usize,
    /// Bytes that may be in flight towards the peer (datagrams).
    pub window: usize,
}

/// What handling a packet led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Wait on.
    Pending,
    /// A peer greets (acceptor): find the end of its link and call [`Handshake::welcome`].
    Greeted {
        /// The peer.
        peer: Identity,
        /// Its number for the link.
        link: u64,
    },
    /// Done.
    Established(Box<Established>),
    /// The peer does not want to.
    Closed(Close),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Initiator: hello goes out until a welcome comes.
    Greeting,
    /// Acceptor: waits for a hello.
    Listening,
    /// Acceptor: the node is looking for the link.
    Deciding,
    /// Acceptor: welcome goes out until a ready comes.
    Welcoming,
    /// Agreed. An initiator still answers a repeated welcome.
    Done,
}

/// One connection's handshake.
#[derive(Debug)]
pub struct Handshake {
    phase: Phase,
    me: Hello,
    state: u64,
    theirs: Option<Hello>,
    is_due: bool,
    is_datagram: bool,
    retry_at: Time,
    give_up_at: Time,
}

const RETRY_AFTER: Duration = Duration::from_millis(100);
/// From the first packet to the last one of a handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);

impl Handshake {
    /// The side that connected. `nonce` is fresh and random; `link` and `state` name this end of
    /// the link and stay the same for as long as it remembers what it received.
    #[must_use]
    pub fn initiator(
        now: Time,
        me: &Identity,
        limits: Limits,
        nonce: u64,
        link: u64,
        state: u64,
    ) -> Self {
        Self::new(now, me, limits, nonce, link, state, Phase::Greeting)
    }

    /// The side that was connected to.
    #[must_use]
    pub fn acceptor(now: Time, me: &Identity, limits: Limits, nonce: u64) -> Self {
        Self::new(now, me, limits, nonce, 0, 0, Phase::Listening)
    }

    fn new(
        now: Time,
        me: &Identity,
        limits: Limits,
        nonce: u64,
        link: u64,
        state: u64,
        phase: Phase,
    ) -> Self {
        let hello = Hello {
            nonce,
            link,
            node: me.node,
            incarnation: me.incarnation,
            packet_max: limits.packet_max as u32,
            window: limits.window as u32,
            name: me.name.clone(),
        };
        Self {
            phase,
            me: hello,
            state,
            theirs: None,
            is_due: phase == Phase::Greeting,
            is_datagram: limits.is_datagram,
            retry_at: now,
            give_up_at: now.after(HANDSHAKE_TIMEOUT),
        }
    }

    /// A checked packet that is not a batch. Anything out of place changes nothing.
    ///
    /// # Errors
    /// [`Refused::StaleSession`] for an answer to another greeting, [`Refused::Malformed`] for what
    /// may not stand here.
    pub fn handle(&mut self, packet: &Packet<'_>) -> Result<Step, Refused> {
        let body = packet.handshake().ok_or(Refused::Malformed)?;
        match body {
            Body::Hello(hello) => self.greeted(hello),
            Body::Welcome(welcome) => self.welcomed(packet.header.session, welcome),
            Body::Ready(ready) => self.readied(packet.header.session, ready),
            Body::Close(close) => Ok(Step::Closed(close)),
        }
    }

    fn greeted(&mut self, hello: Hello) -> Result<Step, Refused> {
        if self.phase == Phase::Welcoming
            && self.theirs.as_ref().is_some_and(|theirs| theirs.nonce == hello.nonce)
        {
            self.is_due = true; // our welcome was lost
            return Ok(Step::Pending);
        }
        if self.phase != Phase::Listening {
            return Err(Refused::StaleSession);
        }
        let peer = identity_of(&hello);
        let link = hello.link;
        self.me.link = link;
        self.theirs = Some(hello);
        self.phase = Phase::Deciding;
        Ok(Step::Greeted { peer, link })
    }

    /// The acceptor's end of the link is found or made; `state` is its life.
    pub fn welcome(&mut self, state: u64) {
        if self.phase == Phase::Deciding {
            self.state = state;
            self.phase = Phase::Welcoming;
            self.is_due = true;
        }
    }

    fn welcomed(&mut self, session: u32, welcome: Welcome) -> Result<Step, Refused> {
        let is_mine = welcome.nonce_peer == self.me.nonce;
        if !is_mine || session != session_id(self.me.nonce, welcome.hello.nonce) {
            return Err(Refused::StaleSession);
        }
        match self.phase {
            Phase::Greeting => {
                self.phase = Phase::Done;
                self.is_due = true;
                let established = self.established(session, &welcome.hello, welcome.state);
                self.theirs = Some(welcome.hello);
                Ok(Step::Established(Box::new(established)))
            }
            Phase::Done => {
                self.is_due = true; // our ready was lost
                Ok(Step::Pending)
            }
            Phase::Listening | Phase::Deciding | Phase::Welcoming => Err(Refused::Malformed),
        }
    }

    fn readied(&mut self, session: u32, ready: Ready) -> Result<Step, Refused> {
        let Some(theirs) = self.theirs.clone() else { return Err(Refused::StaleSession) };
        let is_mine =
            ready.nonce_peer == self.me.nonce && session == session_id(theirs.nonce, self.me.nonce);
        if !is_mine {
            return Err(Refused::StaleSession);
        }
        match self.phase {
            Phase::Welcoming => {
                self.phase = Phase::Done;
                self.is_due = false;
                let established = self.established(session, &theirs, ready.state);
                Ok(Step::Established(Box::new(established)))
            }
            Phase::Done => Ok(Step::Pending),
            Phase::Greeting | Phase::Listening | Phase::Deciding => Err(Refused::Malformed),
        }
    }

    fn established(&self, session: u32, theirs: &Hello, peer_state: u64) -> Established {
        Established {
            session,
            peer: identity_of(theirs),
            link: self.me.link,
            peer_state,
            packet_max: self.me.packet_max.min(theirs.packet_max) as usize,
            window: theirs.window as usize,
        }
    }

    /// Appends the packet that is due, if one is.
    pub fn transmit(&mut self, now: Time, out: &mut Vec<u8>) {
        let is_repeat = self.is_datagram
            && matches!(self.phase, Phase::Greeting | Phase::Welcoming)
            && now >= self.retry_at;
        if !self.is_due && !is_repeat {
            return;
        }
        self.is_due = false;
        self.retry_at = now.after(RETRY_AFTER);
        let session = |theirs: &Hello| match self.phase {
            Phase::Welcoming => session_id(theirs.nonce, self.me.nonce),
            _ => session_id(self.me.nonce, theirs.nonce),
        };
        match (self.phase, &self.theirs) {
            (Phase::Greeting, _) => Body::Hello(self.me.clone()).encode(0, out),
            (Phase::Welcoming, Some(theirs)) => {
                let nonce_peer = theirs.nonce;
                let welcome = Welcome { nonce_peer, state: self.state, hello: self.me.clone() };
                Body::Welcome(welcome).encode(session(theirs), out);
            }
            (Phase::Done, Some(theirs)) => {
                let ready = Ready { nonce_peer: theirs.nonce, state: self.state };
                Body::Ready(ready).encode(session(theirs), out);
            }
            _ => {}
        }
    }

    /// When to call `transmit` again, or to give up.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        match self.phase {
            Phase::Done => None,
            Phase::Greeting | Phase::Welcoming if self.is_datagram => {
                Some(self.retry_at.min(self.give_up_at))
            }
            _ => Some(self.give_up_at),
        }
    }

    /// Whether the packet greets anew on a connection that has a session: the peer lives another life.
    #[must_use]
    pub fn is_new_greeting(&self, packet: &Packet<'_>) -> bool {
        let Some(Body::Hello(hello)) = packet.handshake() else { return false };
        self.phase == Phase::Done
            && self.theirs.as_ref().is_some_and(|theirs| theirs.nonce != hello.nonce)
    }

    /// Whether the handshake has taken too long.
    #[must_use]
    pub fn is_overdue(&self, now: Time) -> bool {
        self.phase != Phase::Done && now >= self.give_up_at
    }
}

/// What this end of a connection can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest packet.
    pub packet_max: usize,
    /// Bytes in flight towards it before the kernel may drop.
    pub window: usize,
    /// Whether packets may be lost on the way.
    pub is_datagram: bool,
}

fn identity_of(hello: &Hello) -> Identity {
    Identity { node: hello.node, incarnation: hello.incarnation, name: hello.name.clone() }
}

/// A close packet, for a session or (0) for none.
#[must_use]
pub fn close_packet(session: u32, code: u16, text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    Body::Close(Close::new(code, text)).encode(session, &mut out);
    out
}

/// Whether a packet kind belongs to a handshake.
#[must_use]
pub fn is_handshake(kind: Kind) -> bool {
    kind != Kind::Batch
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { packet_max: 1200, window: 4096, is_datagram: true };

    fn me(node: u128) -> Identity {
        Identity { node, incarnation: 7, name: "n".to_owned() }
    }

    fn pair() -> (Handshake, Handshake) {
        let larger = Limits { packet_max: 9000, window: 5000, ..LIMITS };
        (
            Handshake::initiator(Time(0), &me(1), LIMITS, 11, 5, 100),
            Handshake::acceptor(Time(0), &me(2), larger, 22),
        )
    }

    fn written(handshake: &mut Handshake, now: Time) -> Vec<u8> {
        let mut bytes = Vec::new();
        handshake.transmit(now, &mut bytes);
        bytes
    }

    fn give(to: &mut Handshake, bytes: &[u8]) -> Result<Step, Refused> {
        to.handle(&Packet::parse(bytes).unwrap())
    }

    fn greeted() -> (Handshake, Handshake, Vec<u8>) {
        let (mut first, mut second) = pair();
        let hello = written(&mut first, Time(0));
        let step = give(&mut second, &hello);
        assert_eq!(step, Ok(Step::Greeted { peer: me(1), link: 5 }));
        second.welcome(200);
        (first, second, hello)
    }

    #[test]
    fn both_sides_agree_on_everything() {
        let (mut first, mut second, _) = greeted();
        let at_first = give(&mut first, &written(&mut second, Time(0))).unwrap();
        let at_second = give(&mut second, &written(&mut first, Time(0))).unwrap();
        let (a, b) = (Established::of(at_first).unwrap(), Established::of(at_second).unwrap());
        assert_eq!((a.session, a.link, a.packet_max), (b.session, b.link, b.packet_max));
        assert_eq!((a.peer_state, b.peer_state), (200, 100));
        assert_eq!((a.window, b.window, a.packet_max), (5000, 4096, 1200));
        assert_eq!((first.deadline(), second.deadline()), (None, None));
    }

    #[test]
    fn every_packet_may_be_lost_once() {
        let (mut first, mut second, hello) = greeted();
        drop(written(&mut second, Time(0)));
        assert_eq!(give(&mut second, &hello), Ok(Step::Pending)); // the welcome was lost
        let welcome = written(&mut second, Time(0));
        assert!(!welcome.is_empty());
        assert!(matches!(give(&mut first, &welcome), Ok(Step::Established(_))));
        drop(written(&mut first, Time(0)));
        let later = Time(0).after(RETRY_AFTER);
        let again = written(&mut second, later); // the ready was lost
        assert_eq!(give(&mut first, &again), Ok(Step::Pending));
        let ready = written(&mut first, later);
        assert!(matches!(give(&mut second, &ready), Ok(Step::Established(_))));
        assert_eq!(give(&mut second, &ready), Ok(Step::Pending));
    }

    #[test]
    fn answers_to_other_greetings_are_refused() {
        let (mut first, _, _) = greeted();
        let mut stranger = Handshake::initiator(Time(0), &me(1), LIMITS, 12, 5, 100);
        let (_, mut second) = pair();
        let hello = written(&mut stranger, Time(0));
        give(&mut second, &hello).unwrap();
        second.welcome(200);
        let welcome = written(&mut second, Time(0));
        assert_eq!(give(&mut first, &welcome), Err(Refused::StaleSession));
    }

    #[test]
    fn it_gives_up_in_time() {
        let (first, _) = pair();
        let end = Time(0).after(HANDSHAKE_TIMEOUT);
        assert!(!first.is_overdue(Time(end.0 - 1)) && first.is_overdue(end));
        assert!(first.deadline().is_some_and(|at| at <= end));
    }
}
