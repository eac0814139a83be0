//! Foreign clients, which nobody here wrote, at the real relay: Node's `ws` and Python's
//! `websockets`, in both modes.
//!
//! Each is a small program beside this file (`client.mjs`, `client.py`) with protobuf by hand, in a
//! process of its own; the tests tell it what to do, and it tells what happens to it. The packages
//! install themselves into the target folder; where that can't be, the tests say that they are
//! skipped, or fail if the environment variable `CI` is set.
#![cfg(unix)]

mod peer;
mod relay;
mod row;
mod scenarios;
mod sessions;
mod setup;
mod tools;

use core::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;

use self::peer::Party;
use self::relay::Relay;
use self::row::{ALICE, BOB, Mode};
use self::scenarios::exchange;
use self::setup::Language;

/// The host of the addresses in protocol section 1.
const HOST: &str = "test.relay.example.com";

/// What takes longer than this has gone wrong.
const LIMIT: Duration = Duration::from_secs(30);

/// Waits for `future`, but not for ever.
async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    let waited = tokio::time::timeout(LIMIT, future).await;
    waited.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

fn send_signal(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
    kill_process(pid.expect("a living process"), signal).expect("it is ours");
}

/// Two foreign clients that know nothing of each other either.
async fn node_and_python(mode: Mode, test: &str) {
    let node = Language::Node.program(test);
    let python = Language::Python.program(test);
    let (Some(node), Some(python)) = (node, python) else {
        return;
    };
    let relay = Relay::start(mode, &[]).await;
    let mut alice = Party::foreign(&node, &relay, ALICE, mode).await;
    let mut bob = Party::foreign(&python, &relay, BOB, mode).await;
    exchange(mode, &mut alice, &mut bob).await;
}

#[tokio::test]
async fn node_and_python_exchange_envelopes_with_proven_addresses() {
    node_and_python(
        Mode::Challenge,
        "node_and_python_exchange_envelopes_with_proven_addresses",
    )
    .await;
}

#[tokio::test]
async fn node_and_python_exchange_envelopes_with_names() {
    node_and_python(Mode::Open, "node_and_python_exchange_envelopes_with_names").await;
}

/// Makes a test of every scenario of a module in every row: `node_open::leaves_in_order` and so on.
macro_rules! table {
    ($module:ident: $scenarios:tt $($row:ident: $language:ident, $mode:ident;)*) => {
        $(table!(@row $module, $row, $language, $mode, $scenarios);)*
    };
    (@row $module:ident, $row:ident, $language:ident, $mode:ident, [$($scenario:ident,)*]) => {
        mod $row {
            use crate::$module;
            use crate::row::{Mode, Row};
            use crate::setup::Language;

            $(#[tokio::test]
            async fn $scenario() {
                let test = concat!(stringify!($row), "::", stringify!($scenario));
                if let Some(program) = Language::$language.program(test) {
                    $module::$scenario(Row { program, mode: Mode::$mode }).await;
                }
            })*
        }
    };
}

table! {
    scenarios: [
        exchanges_envelopes_with_its_like,
        exchanges_envelopes_with_our_client,
        answers_pings_by_itself,
        is_cut_when_it_freezes,
        leaves_in_order,
        hears_that_the_relay_shuts_down,
        hears_which_rule_it_broke,
        is_refused_where_its_address_is_connected,
        is_replaced_where_that_is_the_rule,
        is_turned_away_without_a_proof_or_a_name,
        is_answered_in_http_before_the_upgrade,
        reads_why_an_envelope_will_not_arrive,
        gets_what_came_while_it_was_away,
    ]
    node_challenge: Node, Challenge;
    node_open: Node, Open;
    python_challenge: Python, Challenge;
    python_open: Python, Open;
}

table! {
    sessions: [
        over_three_sessions,
        confirm_a_queue_beyond_the_rate_limit,
        that_only_send_live_beside_the_one_that_listens,
        that_only_send_leave_the_queue_alone,
    ]
    node_challenge_sessions: Node, Challenge;
    node_open_sessions: Node, Open;
    python_challenge_sessions: Python, Challenge;
    python_open_sessions: Python, Open;
}
