//! Messages of bytes: no codec, and no copy on the way to the receiver's hands.

use tidings::prelude::*;

const LEN: usize = 8 * 1024 * 1024;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let screen = Node::builder().name("screen").start().await?;
    let address = screen.listen("tcp://127.0.0.1:0").await?;
    let mut rx = screen.raw_receiver("frames").open().await?;
    let shown = tokio::spawn(async move {
        let frame = rx.recv().await?;
        // The body lies where it was received. A slice of it can outlive the message.
        let top_row = frame.to_bytes().slice(..3840 * 4);
        println!("{} bytes from {}", frame.len(), frame.from());
        frame.ack();
        Ok::<_, RecvError>(top_row)
    });

    let camera = Node::builder().name("camera").start().await?;
    let tx = camera.raw_sender(&format!("{address}/frames")).open().await?;
    let frame: Vec<u8> = (0..LEN).map(|at| (at % 251) as u8).collect();
    let receipt = tx.send(&frame).until(Stage::Processed).await?;
    println!("frame {}: {}", receipt.seq(), receipt.stage().as_str());

    let top_row = shown.await??;
    println!("the top row is the same: {}", top_row == frame[..top_row.len()]);
    camera.close().await;
    screen.close().await;
    Ok(())
}
