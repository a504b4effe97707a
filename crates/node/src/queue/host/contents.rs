//! Answers that have bodies: what was handed out, and dead letters.

use bytes::Bytes;
use tidings_store::queue::{Failure, Letter, Verdict};

use super::{Answer, Handed, Host, Reply, Told};

/// Bodies in one answer, beyond the first.
const ANSWER_BYTES_MAX: usize = 8 << 20;

impl Host {
    /// Letters with their bodies. One whose record is damaged is told of without it.
    pub(super) fn tell(&self, letters: Vec<Letter>) -> Reply {
        let (mut told, mut bodies, mut bytes) = (Vec::new(), Vec::new(), 0);
        for letter in letters {
            let contents = self.broker.contents(letter.lsn);
            let damage = contents.as_ref().err().map(|error| format!(" [{error}]"));
            let contents = contents.ok();
            let body = contents.as_ref().map(|contents| contents.body.clone()).unwrap_or_default();
            bytes += body.len();
            if bytes > ANSWER_BYTES_MAX && !told.is_empty() {
                break;
            }
            let of = |bytes: Option<&Bytes>| bytes.map_or_else(Vec::new, |bytes| bytes.to_vec());
            told.push(Told {
                id: letter.id,
                origin: letter.origin,
                reason: letter.reason,
                detail: letter.detail + damage.as_deref().unwrap_or_default(),
                attempts: letter.attempts,
                pushed_ms: letter.pushed_ms,
                failures: letter.failures,
                deaths: letter.deaths,
                key: of(contents.as_ref().map(|contents| &contents.key)),
                order_key: of(contents.as_ref().map(|contents| &contents.order_key)),
                headers: of(contents.as_ref().map(|contents| &contents.headers)),
                len: body.len() as u32,
            });
            bodies.push(body);
        }
        Reply { bodies, ..Reply::now(Answer::Letters(told)) }
    }

    /// Reads what was handed out. What is damaged becomes a dead letter, and what is too much for one
    /// answer is handed out again.
    pub(super) fn hand_out(&self, reply: Reply) -> (Answer, Vec<Bytes>) {
        let (Some(queue), Answer::Pulled(_)) = (reply.queue, &reply.answer) else {
            return (reply.answer, reply.bodies);
        };
        let now_ms = self.clock.now_ms();
        let (mut handed, mut bodies, mut bytes) = (Vec::new(), Vec::new(), 0);
        for delivered in reply.delivered {
            let delivery = (delivered.seq, delivered.token);
            let contents = match self.broker.contents(delivered.lsn) {
                Ok(contents) => contents,
                Err(error) => {
                    let detail = error.to_string();
                    // If even that cannot be written, its lease ends and it is tried again.
                    let verdict = Verdict::Undecodable(&detail);
                    let _ = self.broker.settle(now_ms, queue, delivery, verdict);
                    continue;
                }
            };
            bytes += contents.body.len();
            if bytes > ANSWER_BYTES_MAX && !handed.is_empty() {
                let failure =
                    Failure { error: "not handed out", delay_ms: Some(0), ..Failure::default() };
                let _ = self.broker.settle(now_ms, queue, delivery, Verdict::Nack(failure));
                continue;
            }
            handed.push(Handed {
                seq: delivered.seq,
                token: delivered.token,
                attempt: delivered.attempt,
                lease_ms: delivered.until_ms.saturating_sub(reply.at_ms),
                priority: contents.priority,
                key: contents.key.to_vec(),
                order_key: contents.order_key.to_vec(),
                headers: contents.headers.to_vec(),
                len: contents.body.len() as u32,
            });
            bodies.push(contents.body);
        }
        (Answer::Pulled(handed), bodies)
    }
}
