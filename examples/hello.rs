//! A request and its answer: one node serves, another one asks.

use std::convert::Infallible;

use tidings::prelude::*;

const GREETER: &str = "inproc://greeter"; // tcp://127.0.0.1:7400 would do as well

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let server = Node::bind(GREETER).await?;
    // Answers until the service is dropped. An error would reach the one who asks, as its text.
    let _service = server.serve("greet", greet).await?;

    let client = Node::connect(GREETER).await?;
    let reply: String = client.request("greet", "Ada").await?; // within 5 s, if nothing is said
    println!("{reply}");

    // Nobody answers there: that is said at once, not after the 5 s.
    match client.request::<String>("sing", "Ada").await {
        Err(error @ RequestError::NoResponder { .. }) => println!("{}: {error}", error.code()),
        other => println!("unexpected: {other:?}"),
    }

    client.close().await;
    server.close().await;
    Ok(())
}

async fn greet(name: String) -> Result<String, Infallible> {
    Ok(format!("Hello, {name}!"))
}
