//! Typed channels: the raw ones with a codec in front. A body that is not what the channel carries
//! is rejected, and its sender told; it never ends the loop.

use std::fmt::Display;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidings_core::{Delivery, Order, Overflow, RetryConfig, Verdict};

use crate::error::{OpenError, RecvError, RequestError, SendError};
use crate::message::{Ack, Message};
use crate::node::{Node, Opening, ReceiverBuilder, SenderBuilder, Service};
use crate::receiver::RawReceiver;
use crate::request::Request;
use crate::sender::{Drained, RawSender};

mod group;
mod value;

pub use group::{Group, GroupEvent, GroupValue, TypedGroup};
pub use value::SendValue;

/// How values become bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Codec {
    /// Compact, for Rust at both ends. Types that describe themselves (`#[serde(tag = ..)]`)
    /// need [`Codec::Json`].
    #[default]
    Postcard,
    /// For everyone else.
    Json,
}

impl Codec {
    fn name(self) -> &'static str {
        match self {
            Self::Postcard => "postcard",
            Self::Json => "json",
        }
    }

    fn encode<T: Serialize + ?Sized>(self, value: &T) -> Result<Vec<u8>, SendError> {
        let mut bytes = value::spare();
        match self {
            Self::Postcard => {
                postcard::to_extend(value, bytes).map_err(|e| SendError::Encode(e.to_string()))
            }
            Self::Json => match serde_json::to_writer(&mut bytes, value) {
                Ok(()) => Ok(bytes),
                Err(error) => Err(SendError::Encode(error.to_string())),
            },
        }
    }

    fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T, String> {
        match self {
            Self::Postcard => postcard::from_bytes(bytes).map_err(|error| error.to_string()),
            Self::Json => serde_json::from_slice(bytes).map_err(|error| error.to_string()),
        }
    }

    fn content<T>(self) -> String {
        let name = std::any::type_name::<T>();
        let short: String =
            name.split('<').next().unwrap_or(name).rsplit("::").next().unwrap_or(name).into();
        format!("{}/{short}", self.name())
    }
}

impl Node {
    /// A channel for values to the receivers of `address`.
    pub fn sender<T: Serialize>(&self, address: &str) -> TypedSender<T> {
        let codec = Codec::default();
        TypedSender { raw: self.raw_sender(address), codec, values: PhantomData }
    }

    /// A receiver of values on the channel of that name.
    pub fn receiver<T: DeserializeOwned>(&self, channel: &str) -> TypedReceiver<T> {
        let codec = Codec::default();
        TypedReceiver { raw: self.raw_receiver(channel), codec, values: PhantomData }
    }

    /// Asks for a value with a value: `let reply: String = node.request("greet", "Ada").await?`.
    /// See [`Node::raw_request`] for the target.
    pub fn request<R: DeserializeOwned>(
        &self,
        target: &str,
        query: &(impl Serialize + ?Sized),
    ) -> TypedRequest<R> {
        let codec = Codec::default();
        let encoded = codec.encode(query);
        let (body, error) = match encoded {
            Ok(body) => (body, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        TypedRequest { raw: self.request_owned(target, body), codec, error, values: PhantomData }
    }

    /// Answers every request on the channel with what `handle` makes of it, until the [`Service`]
    /// is dropped.
    pub fn serve<Q, R, F, T, E>(
        &self,
        channel: &str,
        handle: F,
    ) -> Opening<Result<Service, OpenError>>
    where
        Q: DeserializeOwned + Send + 'static,
        R: Serialize,
        F: Fn(Q) -> T + Send + Sync + 'static,
        T: Future<Output = Result<R, E>> + Send + 'static,
        E: Display + 'static,
    {
        let handle = std::sync::Arc::new(handle);
        self.raw_serve(channel, move |body: Vec<u8>| {
            let handle = handle.clone();
            async move {
                let codec = Codec::default();
                let query = codec.decode::<Q>(&body)?;
                let reply = handle(query).await.map_err(|error| error.to_string())?;
                codec.encode(&reply).map_err(|error| error.to_string())
            }
        })
    }
}

/// A typed sending channel to be configured.
#[derive(Clone, Debug)]
#[must_use = "nothing is opened before `open()`"]
pub struct TypedSender<T> {
    raw: SenderBuilder,
    codec: Codec,
    values: PhantomData<fn(T)>,
}

impl<T: Serialize> TypedSender<T> {
    /// How values become bytes.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// See [`SenderBuilder::delivery`].
    pub fn delivery(mut self, delivery: Delivery) -> Self {
        self.raw = self.raw.delivery(delivery);
        self
    }

    /// See [`SenderBuilder::order`].
    pub fn order(mut self, order: Order) -> Self {
        self.raw = self.raw.order(order);
        self
    }

    /// See [`SenderBuilder::overflow`].
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.raw = self.raw.overflow(overflow);
        self
    }

    /// See [`SenderBuilder::capacity`].
    pub fn capacity(mut self, capacity: u32) -> Self {
        self.raw = self.raw.capacity(capacity);
        self
    }

    /// See [`SenderBuilder::capacity_bytes`].
    pub fn capacity_bytes(mut self, capacity_bytes: u64) -> Self {
        self.raw = self.raw.capacity_bytes(capacity_bytes);
        self
    }

    /// See [`SenderBuilder::rendezvous`].
    pub fn rendezvous(mut self) -> Self {
        self.raw = self.raw.rendezvous();
        self
    }

    /// See [`SenderBuilder::timeout`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.raw = self.raw.timeout(timeout);
        self
    }

    /// See [`SenderBuilder::across_restarts`].
    pub fn across_restarts(mut self) -> Self {
        self.raw = self.raw.across_restarts();
        self
    }

    /// Opens the channel.
    pub fn open(mut self) -> Opening<Result<Sender<T>, OpenError>> {
        let codec = self.codec;
        self.raw.content = codec.content::<T>();
        let raw = self.raw;
        Opening::new(async move { Ok(Sender { raw: raw.open_now()?, codec, values: PhantomData }) })
    }
}

/// Sends values. See [`RawSender`].
#[derive(Clone, Debug)]
pub struct Sender<T> {
    raw: RawSender,
    codec: Codec,
    values: PhantomData<fn(T)>,
}

impl<T: Serialize> Sender<T> {
    /// Sends one value. See [`RawSender::send`].
    pub fn send(&self, value: &T) -> SendValue<'_> {
        let (body, error) = match self.codec.encode(value) {
            Ok(body) => (body, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        SendValue {
            tx: &self.raw,
            body,
            error,
            key: Vec::new(),
            until: None,
            timeout: None,
            priority: 0,
            headers: Vec::new(),
        }
    }

    /// See [`RawSender::drained`].
    pub fn drained(&self) -> Drained<'_> {
        self.raw.drained()
    }

    /// See [`RawSender::close`].
    pub fn close(&self) -> Drained<'_> {
        self.raw.close()
    }

    /// The channel without its codec.
    #[must_use]
    pub fn raw(&self) -> &RawSender {
        &self.raw
    }
}

/// A typed receiving channel to be configured.
#[derive(Clone, Debug)]
#[must_use = "nothing is opened before `open()`"]
pub struct TypedReceiver<T> {
    raw: ReceiverBuilder,
    codec: Codec,
    values: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> TypedReceiver<T> {
    /// How bytes become values.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// See [`ReceiverBuilder::ack`].
    pub fn ack(mut self, ack: Ack) -> Self {
        self.raw = self.raw.ack(ack);
        self
    }

    /// See [`ReceiverBuilder::rendezvous`].
    pub fn rendezvous(mut self) -> Self {
        self.raw = self.raw.rendezvous();
        self
    }

    /// See [`ReceiverBuilder::durable`].
    pub fn durable(mut self, folder: impl AsRef<std::path::Path>) -> Self {
        self.raw = self.raw.durable(folder);
        self
    }

    /// See [`ReceiverBuilder::capacity`].
    pub fn capacity(mut self, capacity: u32) -> Self {
        self.raw = self.raw.capacity(capacity);
        self
    }

    /// See [`ReceiverBuilder::attempts`].
    pub fn attempts(mut self, attempts_max: u32) -> Self {
        self.raw = self.raw.attempts(attempts_max);
        self
    }

    /// See [`ReceiverBuilder::from`].
    pub fn from(mut self, address: &str) -> Self {
        self.raw = self.raw.from(address);
        self
    }

    /// Opens the channel.
    pub fn open(mut self) -> Opening<Result<Receiver<T>, OpenError>> {
        let codec = self.codec;
        self.raw.content = codec.content::<T>();
        let raw = self.raw;
        Opening::new(async move {
            let raw = raw.open_for(crate::hub::Purpose::Send)?;
            Ok(Receiver { raw, codec, values: PhantomData })
        })
    }
}

/// Receives values. See [`RawReceiver`].
#[derive(Debug)]
pub struct Receiver<T> {
    raw: RawReceiver,
    codec: Codec,
    values: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Receiver<T> {
    /// Receives the next value. Cancel safe.
    pub fn recv(&mut self) -> RecvValue<'_, T> {
        RecvValue { raw: self.raw.recv(), codec: self.codec, values: PhantomData }
    }

    /// The next value, or `None` when the receiver is closed. Bodies that cannot be decoded are
    /// rejected and passed over.
    pub async fn next(&mut self) -> Option<Message<T>> {
        loop {
            match self.recv().await {
                Ok(message) => return Some(message),
                Err(RecvError::Decode { .. }) => {}
                Err(_) => return None,
            }
        }
    }

    /// The next value if one is there.
    ///
    /// # Errors
    /// [`RecvError::Decode`], [`RecvError::Closed`].
    pub fn try_recv(&mut self) -> Result<Option<Message<T>>, RecvError> {
        self.raw.try_recv()?.map(|message| decode(message, self.codec)).transpose()
    }

    /// See [`RawReceiver::for_each`]: `Ok` acknowledges, an error has it delivered again.
    ///
    /// # Errors
    /// As [`RawReceiver::for_each`].
    pub async fn for_each<F, R, E>(mut self, mut handle: F) -> Result<(), RecvError>
    where
        F: FnMut(T) -> R,
        R: Future<Output = Result<(), E>>,
    {
        self.raw = self.raw.explicit();
        loop {
            match self.recv().await {
                Ok(message) => {
                    let (value, raw) = message.split();
                    match handle(value).await {
                        Ok(()) => raw.ack(),
                        Err(_) => raw.nack_with_backoff(),
                    }
                }
                Err(RecvError::Decode { .. }) => {}
                Err(RecvError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// The channel without its codec.
    pub fn raw(&mut self) -> &mut RawReceiver {
        &mut self.raw
    }
}

fn decode<T: DeserializeOwned>(
    mut raw: crate::message::RawMessage,
    codec: Codec,
) -> Result<Message<T>, RecvError> {
    match codec.decode(&raw) {
        Ok(value) => Ok(Message::new(value, raw)),
        Err(text) => {
            raw.judge(Verdict::Undecodable, &text);
            let (seq, from) = (raw.seq(), raw.from());
            Err(RecvError::Decode { seq, from, want: std::any::type_name::<T>(), text })
        }
    }
}

/// One receive of a value, to be configured, then awaited or waited for.
#[derive(Debug)]
#[must_use = "a receive does nothing before it is awaited or waited for"]
pub struct RecvValue<'a, T> {
    raw: crate::receiver::Recv<'a>,
    codec: Codec,
    values: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> RecvValue<'_, T> {
    /// See [`crate::Recv::timeout`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.raw = self.raw.timeout(timeout);
        self
    }

    /// See [`crate::Recv::from`].
    pub fn from(mut self, node: &str) -> Self {
        self.raw = self.raw.from(node);
        self
    }

    /// Blocks this thread until a value is there.
    ///
    /// # Errors
    /// As for [`crate::Recv::wait`], and [`RecvError::Decode`].
    pub fn wait(self) -> Result<Message<T>, RecvError> {
        decode(self.raw.wait()?, self.codec)
    }
}

impl<T: DeserializeOwned> Future for RecvValue<'_, T> {
    type Output = Result<Message<T>, RecvError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let codec = self.codec;
        Pin::new(&mut self.raw).poll(cx).map(|message| decode(message?, codec))
    }
}

/// One request for a value, to be configured, then awaited or waited for.
#[derive(Debug)]
#[must_use = "a request does nothing before it is awaited or waited for"]
pub struct TypedRequest<R> {
    raw: Request<'static>,
    codec: Codec,
    error: Option<SendError>,
    values: PhantomData<fn() -> R>,
}

impl<R: DeserializeOwned> TypedRequest<R> {
    /// See [`Request::timeout`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.raw = self.raw.timeout(timeout);
        self
    }

    /// See [`Request::retry`].
    pub fn retry(mut self, retry: RetryConfig) -> Self {
        self.raw = self.raw.retry(retry);
        self
    }

    /// Blocks this thread until the answer is there.
    ///
    /// # Errors
    /// As for [`Request::wait`], and [`RequestError::Decode`].
    pub fn wait(mut self) -> Result<R, RequestError> {
        if let Some(error) = self.error.take() {
            return Err(error.into());
        }
        let reply = self.raw.wait()?;
        self.codec.decode(&reply).map_err(RequestError::Decode)
    }
}

impl<R: DeserializeOwned> Future for TypedRequest<R> {
    type Output = Result<R, RequestError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(error) = self.error.take() {
            return Poll::Ready(Err(error.into()));
        }
        let codec = self.codec;
        Pin::new(&mut self.raw).poll(cx).map(|reply| {
            let reply = reply?;
            codec.decode(&reply).map_err(RequestError::Decode)
        })
    }
}
