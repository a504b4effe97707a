//! Groups of values: the raw ones with a codec in front.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::ops::Deref;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidings_core::group::{GroupOrder, GroupTimers};

use super::Codec;
use crate::error::GroupError;
use crate::group::{
    GroupBuilder, GroupMessage, GroupView, Multicast, RawGroup, RawGroupEvent, Reliability,
};
use crate::node::{Node, Opening};

/// A membership for values, to be configured. See [`Node::group`].
#[derive(Debug)]
#[must_use = "nothing is joined before `join()`"]
pub struct TypedGroup<T> {
    raw: GroupBuilder,
    codec: Codec,
    values: PhantomData<fn(T) -> T>,
}

impl Node {
    /// A membership in the group of that name. See [`Node::raw_group`].
    pub fn group<T>(&self, name: &str) -> TypedGroup<T> {
        TypedGroup { raw: self.raw_group(name), codec: Codec::default(), values: PhantomData }
    }
}

impl<T> TypedGroup<T> {
    /// How values become bytes; the same at all members.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// See [`GroupBuilder::order`].
    pub fn order(self, order: GroupOrder) -> Self {
        Self { raw: self.raw.order(order), ..self }
    }

    /// See [`GroupBuilder::reliability`].
    pub fn reliability(self, reliability: Reliability) -> Self {
        Self { raw: self.raw.reliability(reliability), ..self }
    }

    /// See [`GroupBuilder::contact`]; several at once.
    pub fn contacts(self, addresses: &[&str]) -> Self {
        let raw = addresses.iter().fold(self.raw, |raw, address| raw.contact(address));
        Self { raw, ..self }
    }

    /// See [`GroupBuilder::member`].
    pub fn member(self, name: &str) -> Self {
        Self { raw: self.raw.member(name), ..self }
    }

    /// See [`GroupBuilder::with_state`].
    pub fn with_state(self) -> Self {
        Self { raw: self.raw.with_state(), ..self }
    }

    /// See [`GroupBuilder::durable`].
    pub fn durable(self, folder: impl Into<std::path::PathBuf>) -> Self {
        Self { raw: self.raw.durable(folder), ..self }
    }

    /// See [`GroupBuilder::timers`].
    pub fn timers(self, timers: GroupTimers) -> Self {
        Self { raw: self.raw.timers(timers), ..self }
    }

    /// See [`GroupBuilder::timeout`].
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { raw: self.raw.timeout(timeout), ..self }
    }

    /// The rest of the configuration.
    pub fn raw(self) -> GroupBuilder {
        self.raw
    }
}

impl<T: Serialize + DeserializeOwned + 'static> TypedGroup<T> {
    /// See [`GroupBuilder::join`].
    pub fn join(self) -> Opening<Result<Group<T>, GroupError>> {
        let codec = self.codec;
        Opening::new(async move {
            let raw = self.raw.join().await?;
            Ok(Group { raw, codec, values: PhantomData })
        })
    }
}

/// One membership in a group of values. See [`RawGroup`].
#[derive(Debug)]
pub struct Group<T> {
    raw: RawGroup,
    codec: Codec,
    values: PhantomData<fn(T) -> T>,
}

impl<T: Serialize + DeserializeOwned> Group<T> {
    /// Multicasts a value. See [`RawGroup::multicast`].
    ///
    /// # Errors
    /// [`GroupError::Config`] where the value cannot be encoded; not sent.
    pub fn multicast(&self, value: &T) -> Result<Multicast<'_>, GroupError> {
        let body = self.codec.encode(value);
        let body = body.map_err(|error| GroupError::Config { what: error.to_string() })?;
        Ok(self.raw.multicast_of(Cow::Owned(body)))
    }

    /// The next event, or `None` when the membership is over.
    ///
    /// # Cancel safety
    /// As [`RawGroup::event`].
    pub async fn next(&mut self) -> Option<GroupEvent<T>> {
        let event = self.raw.event().await.ok()?;
        Some(self.decode(event))
    }

    /// Blocks this thread until the next event, at most so long.
    ///
    /// # Errors
    /// As [`RawGroup::event`].
    pub fn next_wait(&mut self, timeout: Duration) -> Result<GroupEvent<T>, GroupError> {
        let event = self.raw.event().timeout(timeout).wait()?;
        Ok(self.decode(event))
    }

    fn decode(&self, event: RawGroupEvent) -> GroupEvent<T> {
        match event {
            RawGroupEvent::View(view) => GroupEvent::View(view),
            RawGroupEvent::Message(raw) => match self.codec.decode(&raw.body) {
                Ok(value) => GroupEvent::Message(GroupValue { raw, value }),
                Err(why) => GroupEvent::Undecodable { raw, why },
            },
            other => GroupEvent::Other(other),
        }
    }

    /// See [`RawGroup::view`].
    #[must_use]
    pub fn view(&self) -> Option<GroupView> {
        self.raw.view()
    }

    /// See [`RawGroup::leave`].
    pub fn leave(&self) -> Opening<Result<(), GroupError>> {
        self.raw.leave()
    }

    /// Everything else that a member can do.
    #[must_use]
    pub fn raw(&self) -> &RawGroup {
        &self.raw
    }
}

/// A value, as it was delivered. Dereferences to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupValue<T> {
    raw: GroupMessage,
    value: T,
}

impl<T> GroupValue<T> {
    /// The name of the member that sent it.
    #[must_use]
    pub fn from(&self) -> &str {
        &self.raw.from
    }

    /// Its message, body included.
    #[must_use]
    pub fn raw(&self) -> &GroupMessage {
        &self.raw
    }

    /// The value.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T> Deref for GroupValue<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// One thing that happened to a member of a group of values.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupEvent<T> {
    /// A new view begins.
    View(GroupView),
    /// A value.
    Message(GroupValue<T>),
    /// A message that is no such value. Every member sees the same.
    Undecodable {
        /// The message.
        raw: GroupMessage,
        /// Why not.
        why: String,
    },
    /// Blocked, excluded, a state, and the like.
    Other(RawGroupEvent),
}
