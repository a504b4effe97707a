//! What the application asks of its membership, and how it waits.

use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::Duration;

use tidings_core::Stage;
use tidings_core::group::{Input, Refused};

use super::event::RawGroupEvent;
use super::membership::{BURST_GAP, EVENTS_BYTES_MAX, EVENTS_MAX, End, Membership, register};
use super::request::Call;
use crate::error::GroupError;
use crate::status::GroupStatus;

/// Events that the application's handle takes at once.
const EVENTS_TAKEN: usize = 256;

impl Membership {
    /// Multicasts; the message's number, or `None` if it has to wait.
    pub fn cast(&self, body: &[u8]) -> Result<Option<u64>, GroupError> {
        self.accept(Input::Cast { payload: body }, body.len())
    }

    /// The same for a request, which waits for answers from now on.
    fn ask(&self, body: &[u8]) -> Result<Option<u64>, GroupError> {
        self.accept(Input::Ask { payload: body }, body.len())
    }

    fn accept(&self, input: Input<'_>, len: usize) -> Result<Option<u64>, GroupError> {
        let now = self.hub.clock.now();
        let mut inner = self.lock();
        let is_request = matches!(input, Input::Ask { .. });
        if is_request {
            Self::may_ask(&inner)?;
        }
        match self.turn(&mut inner, now, input) {
            Ok(()) => {}
            Err(Refused::Blocked | Refused::WindowFull) => return Ok(None),
            Err(Refused::TooLarge) => return Err(GroupError::TooLarge { len }),
            Err(_) => return Err(inner.ended()),
        }
        let number = inner.group.sent();
        if is_request {
            inner.calls.insert(number, Call::default());
        }
        if now.since(inner.transmitted_at) >= BURST_GAP {
            self.transmit(&mut inner, now);
        } else if !inner.is_transmit_planned {
            inner.is_transmit_planned = true;
            self.bell.rearm.notify_one();
        }
        Ok(Some(number))
    }

    /// As `cast`, and whoever has to wait is woken when it may be worth another try.
    pub fn poll_cast(&self, body: &[u8], cx: &Context<'_>) -> Result<Option<u64>, GroupError> {
        self.poll_accept(|| self.cast(body), cx)
    }

    /// The same for a request.
    pub(super) fn poll_ask(
        &self,
        body: &[u8],
        cx: &Context<'_>,
    ) -> Result<Option<u64>, GroupError> {
        self.poll_accept(|| self.ask(body), cx)
    }

    fn poll_accept(
        &self,
        offer: impl Fn() -> Result<Option<u64>, GroupError>,
        cx: &Context<'_>,
    ) -> Result<Option<u64>, GroupError> {
        if let Some(number) = offer()? {
            return Ok(Some(number));
        }
        register(&mut self.lock().waiters.room, cx.waker());
        self.bell.rearm.notify_one(); // what was gathered must go out, or there is never room
        offer()
    }

    /// The stage of an own message, once it is the one that is waited for.
    pub fn poll_stage(
        &self,
        number: u64,
        until: Stage,
        cx: &Context<'_>,
    ) -> Result<Option<Stage>, GroupError> {
        let mut inner = self.lock();
        register(&mut inner.waiters.news, cx.waker());
        let is_reached = match until {
            Stage::Delivered => inner.delivered >= number,
            Stage::Uniform => inner.uniform >= number,
            _ => true,
        };
        if is_reached {
            return Ok(Some(until));
        }
        match &inner.end {
            Some(End::Excluded) if inner.unconfirmed.contains(&number) => {
                let detail = "the group went on without this member".to_owned();
                Err(GroupError::Unknown { number, detail })
            }
            Some(End::Left) if until == Stage::Uniform && inner.delivered >= number => {
                Ok(Some(Stage::Uniform)) // all of it was in the cut of the view that was left
            }
            Some(_) => Err(inner.ended()),
            None => Ok(None),
        }
    }

    /// The next events; false: none yet. An error: there will be none.
    pub fn take_events(&self, into: &mut VecDeque<RawGroupEvent>) -> Result<bool, GroupError> {
        let mut inner = self.lock();
        if inner.events.is_empty() {
            return match &inner.end {
                Some(End::Failed(_)) => Err(inner.ended()),
                Some(_) => Err(GroupError::Ended),
                None => Ok(false),
            };
        }
        let count = inner.events.len().min(EVENTS_TAKEN);
        let mut weight = 0;
        into.extend(inner.events.drain(..count).inspect(|event| weight += event.weight()));
        inner.events_bytes -= weight;
        let is_free =
            inner.events.len() <= EVENTS_MAX / 2 && inner.events_bytes <= EVENTS_BYTES_MAX / 2;
        if inner.is_held && is_free {
            inner.is_held = false;
            let now = self.hub.clock.now();
            let _ = self.turn(&mut inner, now, Input::Hold(false));
            self.bell.rearm.notify_one();
        }
        Ok(true)
    }

    /// The same, and whoever has to wait is woken when there are some.
    pub fn poll_events(
        &self,
        into: &mut VecDeque<RawGroupEvent>,
        cx: &Context<'_>,
    ) -> Result<bool, GroupError> {
        if self.take_events(into)? {
            return Ok(true);
        }
        register(&mut self.lock().waiters.events, cx.waker());
        self.take_events(into)
    }

    pub fn give_state(&self, view: u64, state: &[u8]) -> Result<(), GroupError> {
        let now = self.hub.clock.now();
        let mut inner = self.lock();
        let result = self.turn(&mut inner, now, Input::Snapshot { view, bytes: state });
        self.bell.rearm.notify_one();
        match result {
            Ok(()) | Err(Refused::Stale) => Ok(()), // another view has begun: nobody wants it
            Err(Refused::TooLarge) => Err(GroupError::TooLarge { len: state.len() }),
            Err(_) => Err(inner.ended()),
        }
    }

    pub fn force_view(&self) -> Result<(), GroupError> {
        self.tell(Input::ForceView)
    }

    fn tell(&self, input: Input<'_>) -> Result<(), GroupError> {
        let now = self.hub.clock.now();
        let mut inner = self.lock();
        let result = self.turn(&mut inner, now, input);
        self.bell.rearm.notify_one();
        match result {
            Ok(()) => Ok(()),
            Err(Refused::Ended) => Err(inner.ended()),
            Err(refused) => Err(GroupError::Config { what: format!("not now: {refused:?}") }),
        }
    }

    /// The names of the members that lack an own message.
    pub fn missing(&self, number: u64) -> Vec<String> {
        let inner = self.lock();
        let missing = inner.group.missing(number);
        let members = inner.installed.members.iter();
        members.filter(|member| missing.contains(&member.id)).map(|m| m.name.clone()).collect()
    }

    /// Why a multicast is not accepted, for people.
    pub fn why_not_accepted(&self) -> String {
        let inner = self.lock();
        let is_primary = inner.view.as_ref().is_some_and(|view| view.is_primary);
        if inner.group.is_wedged() {
            return "the members are agreeing on a new view".to_owned();
        }
        if !is_primary {
            return "no quorum of the view is heard".to_owned();
        }
        let last = inner.group.sent();
        drop(inner);
        format!("the window is full; message {last} is lacked by {}", self.missing(last).join(", "))
    }

    /// Until the first view, or the group's refusal.
    pub async fn entered(&self) -> Result<(), GroupError> {
        std::future::poll_fn(|cx| {
            let mut inner = self.lock();
            register(&mut inner.waiters.news, cx.waker());
            match (&inner.view, &inner.end) {
                (Some(_), _) => Poll::Ready(Ok(())),
                (None, Some(_)) => Poll::Ready(Err(inner.ended())),
                (None, None) => Poll::Pending,
            }
        })
        .await
    }

    /// What it says of itself.
    pub fn status(&self) -> GroupStatus {
        let inner = self.lock();
        let view = inner.view.clone();
        let member = inner.group.me().name.clone();
        let (sent, delivered, uniform) = (inner.group.sent(), inner.delivered, inner.uniform);
        let suspected = inner.suspected.clone();
        let is_over = inner.end.is_some();
        drop(inner);
        let is_primary = view.as_ref().is_some_and(|view| view.is_primary) && !is_over;
        GroupStatus {
            group: self.name.clone(),
            member,
            epoch: view.as_ref().map_or(0, |view| view.epoch),
            view: view.as_ref().map_or(0, |view| view.id),
            members: view.map(|view| view.members).unwrap_or_default(),
            suspected,
            is_primary,
            sent,
            delivered,
            uniform,
            waits_for: match (is_primary, is_over) {
                (_, true) => "nothing: the membership is over".to_owned(),
                (true, _) if delivered >= sent => String::new(),
                _ => self.why_not_accepted(),
            },
        }
    }

    /// Whether it is at its end: excluded, left or refused.
    pub fn is_over(&self) -> bool {
        self.lock().end.is_some()
    }

    /// Why there is no view with this member yet, for people.
    pub fn why_not_in(&self) -> String {
        let now = self.hub.clock.now();
        self.lock().group.waiting_for(now).unwrap_or_else(|| "its state is not whole".to_owned())
    }

    /// Where the members of the last view are reached.
    pub fn addresses(&self) -> Vec<String> {
        self.lock().installed.members.iter().map(|member| member.address.clone()).collect()
    }

    /// Asks the others to go on without this member.
    pub fn begin_leave(&self) {
        let _ = self.tell(Input::Leave);
    }

    pub async fn leave(&self, timeout: Duration) -> Result<(), GroupError> {
        self.tell(Input::Leave)?;
        let left = std::future::poll_fn(|cx| {
            let mut inner = self.lock();
            register(&mut inner.waiters.news, cx.waker());
            if inner.end.is_some() { Poll::Ready(()) } else { Poll::Pending }
        });
        tokio::select! {
            () = left => Ok(()),
            () = self.hub.nap(timeout) => {
                self.lock().abandoned_at = Some(self.hub.clock.now());
                self.bell.rearm.notify_one();
                let detail = "the others did not agree in time; they will find it gone".to_owned();
                Err(GroupError::Timeout { detail })
            }
        }
    }

    /// The handle is gone: leaves if the others agree soon, and ends.
    pub fn abandon(&self) {
        let now = self.hub.clock.now();
        let mut inner = self.lock();
        if inner.end.is_none() {
            let _ = self.turn(&mut inner, now, Input::Leave);
        }
        inner.abandoned_at = Some(now.after(Duration::from_secs(2)));
        self.bell.rearm.notify_one();
    }
}
