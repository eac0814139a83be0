//! What the example programs share.
//!
//! The relays (`relay-tokio` and its sisters) differ in their runtime alone: what they do is in
//! [`relay`], their settings are in [`options`], their logs in [`logging`], what they say of a
//! queue in [`inspection`], the sockets they listen on in [`listening`], and how many files they may
//! open in [`descriptors`]. The terminal's `agent` is made of [`key_file`], [`sealing`],
//! [`plaintext`] and [`mailbox`], which hold all of its cryptography and do no network I/O, of
//! [`sent_log`] and [`seen_file`], which remember what it has sent and received in a [`state_file`],
//! and of [`terminal`], which makes a stranger's text safe to print.

pub mod descriptors;
pub mod inspection;
pub mod key_file;
pub mod listening;
pub mod logging;
pub mod mailbox;
pub mod options;
pub mod plaintext;
pub mod relay;
pub mod sealing;
pub mod seen_file;
pub mod sent_log;
pub mod signals;
pub mod state_file;
pub mod terminal;

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
