//! A responder that runs by itself: several requests at a time, each in a task of its own.

use std::future::Future;
use std::sync::Arc;

use crate::hub::Hub;
use crate::request::{RawRequest, Responder};

pub(super) async fn serve<F, T, E>(hub: Arc<Hub>, mut responder: Responder, handle: Arc<F>)
where
    F: Fn(Vec<u8>) -> T + Send + Sync + 'static,
    T: Future<Output = Result<Vec<u8>, E>> + Send + 'static,
    E: std::fmt::Display + 'static,
{
    while let Ok(request) = responder.next().await {
        let handle = handle.clone();
        hub.runtime.spawn(async move {
            answer(request, &*handle).await;
        });
    }
}

async fn answer<F, T, E>(request: RawRequest, handle: &F)
where
    F: Fn(Vec<u8>) -> T,
    T: Future<Output = Result<Vec<u8>, E>>,
    E: std::fmt::Display,
{
    // Too many answers under way to this peer: it will ask again or run into its deadline.
    let _ = match handle(request.to_vec()).await {
        Ok(body) => request.reply(&body),
        Err(error) => request.fail(&error.to_string()),
    };
}

/// A responder that runs; dropping it stops it.
#[derive(Debug)]
pub struct Service {
    task: tokio::task::AbortHandle,
}

impl Service {
    pub(super) fn new(task: tokio::task::AbortHandle) -> Self {
        Self { task }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}
