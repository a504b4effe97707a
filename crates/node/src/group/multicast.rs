//! One multicast as a future.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tidings_core::Stage;

use super::membership::Membership;
use crate::error::GroupError;
use crate::sender::TIMEOUT_DEFAULT;
use crate::timer::Alarm;
use crate::wait;

/// How far a multicast got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupReceipt {
    /// This member's number for it, from 1.
    pub number: u64,
    /// The stage that it is known to have reached.
    pub stage: Stage,
}

/// One multicast, to be configured, then awaited or waited for.
#[derive(Debug)]
#[must_use = "a multicast does nothing before it is awaited or waited for"]
pub struct Multicast<'a> {
    member: &'a Arc<Membership>,
    body: Cow<'a, [u8]>,
    until: Stage,
    timeout: Duration,
    number: Option<u64>,
    alarm: Alarm,
}

impl<'a> Multicast<'a> {
    pub(super) fn new(member: &'a Arc<Membership>, body: Cow<'a, [u8]>) -> Self {
        let (until, timeout) = (Stage::Queued, TIMEOUT_DEFAULT);
        Self { member, body, until, timeout, number: None, alarm: Alarm::default() }
    }

    /// The stage to wait for: `Queued`, `Delivered` (here, in its place) or `Uniform`.
    pub fn until(mut self, stage: Stage) -> Self {
        self.until = stage;
        self
    }

    /// How long to wait, for room first and then for the stage; 5 s if not said.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Blocks this thread until the message has reached its stage.
    ///
    /// # Errors
    /// As awaiting it, and [`GroupError::InsideRuntime`].
    pub fn wait(mut self) -> Result<GroupReceipt, GroupError> {
        if self.until == Stage::Queued
            && let Some(number) = self.member.cast(&self.body)?
        {
            return Ok(GroupReceipt { number, stage: Stage::Queued });
        }
        let deadline = self.member.hub.instant_after(self.timeout);
        match wait::block_on(&mut self, || None, deadline) {
            Ok(Some(result)) => result,
            Ok(None) => Err(self.late()),
            Err(wait::InsideRuntime) => Err(GroupError::InsideRuntime),
        }
    }

    fn late(&self) -> GroupError {
        match self.number {
            None => GroupError::Timeout { detail: self.member.why_not_accepted() },
            Some(number) => {
                let missing = self.member.missing(number);
                let missing = if missing.is_empty() {
                    "nobody lacks it".to_owned()
                } else {
                    format!("{} lack it", missing.join(", "))
                };
                let detail = format!("message {number} is accepted and on its way; {missing}");
                GroupError::Unknown { number, detail }
            }
        }
    }
}

impl Future for Multicast<'_> {
    /// [`GroupError::Timeout`]: not sent. [`GroupError::Unknown`]: sent, and on its way.
    type Output = Result<GroupReceipt, GroupError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if !matches!(this.until, Stage::Queued | Stage::Delivered | Stage::Uniform) {
            let what = format!("a multicast has no stage `{}`", this.until.as_str());
            return Poll::Ready(Err(GroupError::Config { what }));
        }
        if this.number.is_none() {
            this.number = this.member.poll_cast(&this.body, cx)?;
        }
        if let Some(number) = this.number
            && let Some(stage) = this.member.poll_stage(number, this.until, cx)?
        {
            return Poll::Ready(Ok(GroupReceipt { number, stage }));
        }
        let hub = this.member.hub.clone();
        if this.alarm.is_over_after(&hub, this.timeout, cx) {
            return Poll::Ready(Err(this.late()));
        }
        Poll::Pending
    }
}
