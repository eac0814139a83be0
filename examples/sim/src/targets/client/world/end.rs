//! What can be said when all is over.

use core::mem;

use pinch_proto::client::Input;

use super::{Act, Outcome, World};

impl World {
    /// Does it all once more, but takes the outputs at the end, all at once: they are the same.
    pub(in crate::targets::client) fn repeat(&mut self) -> Outcome {
        let mut again = Self::client(&self.settings);
        for (now, act) in mem::take(&mut self.log) {
            let _ = match act {
                Act::Input(input) => again.handle_input(input, now).finish(),
                Act::Timeout => again.handle_timeout(now).finish(),
                Act::Submit(envelope) => match again.submit(envelope, now) {
                    Ok(turn) => turn.finish(),
                    Err(_) => continue,
                },
            };
        }
        let mut turn = again.handle_input(Input::Close, self.now);
        for (at, output) in mem::take(&mut self.outputs).iter().enumerate() {
            let repeated = turn.poll_output();
            if repeated.as_ref() != Some(output) {
                return Err(format!("output {at} was {output:?}, then {repeated:?}"));
            }
        }
        let rest = turn.poll_output();
        rest.map_or(Ok(()), |output| {
            Err(format!("{output:?} was not there before"))
        })
    }

    /// Forgets what was said, and looks whether the client holds anything of it.
    pub(in crate::targets::client) fn expect_emptiness(&mut self) -> Outcome {
        self.forget_link();
        let held = self.model.accepted.iter().position(|it| !it.is_unique());
        held.map_or(Ok(()), |at| {
            Err(format!("envelope {at} is still held by {:?}", self.client))
        })
    }

    pub(in crate::targets::client) fn expect_end(&self) -> Outcome {
        (self.model.is_ended() && self.wakeup.is_none())
            .then_some(())
            .ok_or_else(|| format!("it goes on: {:?} {:?}", self.wakeup, self.client))
    }
}
