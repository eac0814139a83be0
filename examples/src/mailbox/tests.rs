//! Two mailboxes, and somebody between them.

use super::*;

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

fn mailbox(seed: u8) -> Mailbox {
    let secret = SecretKey::from_seed([seed; 32]);
    let host = pinch_proto::Host::parse("relay.example.com").unwrap();
    let address = Address::from_public_key(&secret.public_key(), &host);
    Mailbox::new(secret, address)
}

fn fresh(number: u8, now: UnixMillis) -> Fresh {
    Fresh {
        random: [number; RANDOM_LEN],
        id: [number; 16],
        now,
    }
}

fn read(mailbox: &mut Mailbox, envelope: &Envelope) -> Result<Received, ReadError> {
    mailbox.read(&envelope.to_bytes(), NOW)
}

/// The text of an envelope that must hold one, and its confirmation.
fn text(mailbox: &mut Mailbox, envelope: &Envelope) -> (String, Envelope) {
    match read(mailbox, envelope) {
        Ok(Received::Text {
            content, confirm, ..
        }) => (content.text, *confirm.unwrap()),
        other => panic!("{other:?}"),
    }
}

fn message_fault(mailbox: &mut Mailbox, envelope: &Envelope) -> MessageFault {
    match read(mailbox, envelope) {
        Err(ReadError::Message { fault, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

fn confirm_fault(mailbox: &mut Mailbox, envelope: &Envelope) -> ConfirmFault {
    match read(mailbox, envelope) {
        Err(ReadError::Confirm { fault, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

fn sealed(from: &Mailbox, to: &Mailbox, plaintext: &[u8]) -> Envelope {
    let key = to.secret.public_key();
    let payload = sealing::seal(&from.secret, &key, [0; RANDOM_LEN], plaintext).unwrap();
    from.envelope(
        &to.address,
        Bytes::from_static(b"id"),
        Payload::Encrypted(payload),
        NOW,
    )
}

#[test]
fn a_message_and_its_confirmation() {
    let (mut alice, mut bob) = (mailbox(1), mailbox(2));
    let sent = alice
        .write(&bob.address, "Hello", fresh(0x0f, NOW))
        .unwrap();
    assert_eq!(sent.message_id, "0f".repeat(16));
    assert_eq!(sent.from_address, alice.address.as_str());
    assert_eq!(sent.to_address, bob.address.as_str());

    let Received::Text {
        from,
        message_id,
        written,
        content,
        confirm,
    } = read(&mut bob, &sent).unwrap()
    else {
        panic!("no text");
    };
    assert_eq!(
        (&from, &message_id, written),
        (&alice.address, &sent.message_id, NOW)
    );
    assert_eq!(
        content,
        Content {
            text: "Hello".into(),
            ..Content::default()
        }
    );

    let expected = Received::Confirmed {
        by: bob.address.clone(),
        message_id: sent.message_id.clone(),
        state: State::Delivered,
    };
    let confirm = confirm.unwrap();
    assert_eq!(confirm.to_address, alice.address.as_str());
    assert_eq!(read(&mut alice, &confirm).unwrap(), expected);
}

#[test]
fn a_confirmation_signs_the_id_and_the_time() {
    let (mut alice, mut bob) = (mailbox(1), mailbox(2));
    let sent = alice.write(&bob.address, "Hello", fresh(1, NOW)).unwrap();
    let (_, confirm) = text(&mut bob, &sent);
    let Some(Payload::DeliveryConfirm(payload)) = &confirm.payload else {
        panic!("no confirmation")
    };
    let mut signed = sent.message_id.to_vec();
    signed.extend([0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x00]);
    let signature = Signature::try_from(&payload.signature[..]).unwrap();
    assert!(bob.secret.public_key().verify_strict(&signed, &signature));
}

#[test]
fn no_message_is_read_twice() {
    let (mut alice, mut bob) = (mailbox(1), mailbox(2));
    let first = alice.write(&bob.address, "1", fresh(1, NOW)).unwrap();
    let second = alice.write(&bob.address, "2", fresh(2, NOW)).unwrap();
    let third = alice.write(&bob.address, "3", fresh(3, NOW)).unwrap();
    assert_eq!(text(&mut bob, &first).0, "1");
    assert!(matches!(
        message_fault(&mut bob, &first),
        MessageFault::Replayed { .. }
    ));
    assert_eq!(text(&mut bob, &third).0, "3");
    for old in [&first, &second, &third] {
        assert!(matches!(
            message_fault(&mut bob, old),
            MessageFault::Replayed { .. }
        ));
    }
}

#[test]
fn each_sender_has_its_own_sequence() {
    let (mut alice, mut bob, mut carol) = (mailbox(1), mailbox(2), mailbox(3));
    let late = alice
        .write(&bob.address, "late", fresh(1, UnixMillis(NOW.0 + 1000)))
        .unwrap();
    let early = carol.write(&bob.address, "early", fresh(1, NOW)).unwrap();
    assert_eq!(text(&mut bob, &late).0, "late");
    assert_eq!(text(&mut bob, &early).0, "early");
}

#[test]
fn sequences_grow_across_restarts() {
    let mut bob = mailbox(2);
    let mut before = mailbox(1);
    for number in 0..100 {
        let sent = before
            .write(&bob.address, "before", fresh(number, NOW))
            .unwrap();
        text(&mut bob, &sent);
    }
    let later = UnixMillis(NOW.0 + 1);
    let sent = mailbox(1)
        .write(&bob.address, "after", fresh(200, later))
        .unwrap();
    assert_eq!(text(&mut bob, &sent).0, "after");
}

#[test]
fn a_clock_that_is_set_back_does_not_matter_within_one_run() {
    let (mut alice, mut bob) = (mailbox(1), mailbox(2));
    for (number, now) in [NOW, UnixMillis(5), UnixMillis(-5)].into_iter().enumerate() {
        let number = u8::try_from(number).unwrap();
        let sent = alice.write(&bob.address, "Hi", fresh(number, now)).unwrap();
        text(&mut bob, &sent);
    }
}

#[test]
fn a_forged_sender_is_noticed() {
    let (alice, mut bob, mut mallory) = (mailbox(1), mailbox(2), mailbox(3));
    let mut forged = mallory
        .write(&bob.address, "It is me, Alice", fresh(1, NOW))
        .unwrap();
    forged.from_address = alice.address.as_str().into();
    assert!(matches!(
        message_fault(&mut bob, &forged),
        MessageFault::Open(sealing::OpenError::WrongSender)
    ));

    if let Some(Payload::Encrypted(payload)) = &mut forged.payload {
        payload.sender_public_key = Bytes::copy_from_slice(alice.secret.public_key().as_bytes());
    }
    let fault = message_fault(&mut bob, &forged);
    assert!(matches!(
        fault,
        MessageFault::Open(sealing::OpenError::WrongKeysOrAltered)
    ));
}

#[test]
fn a_message_for_somebody_else_does_not_open() {
    let (mut alice, bob, mut carol) = (mailbox(1), mailbox(2), mailbox(3));
    let sent = alice.write(&bob.address, "Hello", fresh(1, NOW)).unwrap();
    let fault = message_fault(&mut carol, &sent);
    assert!(matches!(
        fault,
        MessageFault::Open(sealing::OpenError::WrongKeysOrAltered)
    ));
}

#[test]
fn a_refused_message_does_not_use_up_its_sequence() {
    let (mut alice, mut bob) = (mailbox(1), mailbox(2));
    let sent = alice.write(&bob.address, "Hello", fresh(1, NOW)).unwrap();
    let mut altered = sent.clone();
    if let Some(Payload::Encrypted(payload)) = &mut altered.payload {
        payload.nonce = vec![0; sealing::NONCE_LEN].into();
    }
    message_fault(&mut bob, &altered);
    assert_eq!(text(&mut bob, &sent).0, "Hello");
}

#[test]
fn what_is_in_the_box_is_checked() {
    let (alice, mut bob) = (mailbox(1), mailbox(2));
    let no_message = sealed(&alice, &bob, b"Hello");
    assert!(matches!(
        message_fault(&mut bob, &no_message),
        MessageFault::Decode(_)
    ));
    let later = PlaintextPayload {
        version: 2,
        ..PlaintextPayload::text("Hi", 1, 1)
    };
    let later = sealed(&alice, &bob, &later.encode_to_vec());
    assert!(matches!(
        message_fault(&mut bob, &later),
        MessageFault::UnknownVersion(2)
    ));
    let image = PlaintextPayload {
        content_type: "image/png".into(),
        ..PlaintextPayload::text("Hi", 1, 1)
    };
    let image = sealed(&alice, &bob, &image.encode_to_vec());
    assert!(matches!(
        message_fault(&mut bob, &image),
        MessageFault::Content(_)
    ));
    assert!(matches!(
        message_fault(&mut bob, &image),
        MessageFault::Replayed {
            sequence: 1,
            last: 1
        }
    ));
}

#[test]
fn a_confirmation_is_checked() {
    let (mut alice, mut bob, mut carol) = (mailbox(1), mailbox(2), mailbox(3));
    let sent = alice.write(&bob.address, "Hello", fresh(1, NOW)).unwrap();
    let (_, genuine) = text(&mut bob, &sent);

    let alter = |change: &dyn Fn(&mut DeliveryConfirm)| {
        let mut altered = genuine.clone();
        let Some(Payload::DeliveryConfirm(confirm)) = &mut altered.payload else {
            panic!("no confirmation")
        };
        change(confirm);
        altered
    };
    let other_time = alter(&|confirm| confirm.timestamp += 1);
    assert_eq!(
        confirm_fault(&mut alice, &other_time),
        ConfirmFault::WrongSignature
    );
    let no_signature = alter(&|confirm| confirm.signature.clear());
    assert_eq!(
        confirm_fault(&mut alice, &no_signature),
        ConfirmFault::WrongSignature
    );
    let other_id = alter(&|confirm| confirm.message_id = Bytes::from_static(b"other"));
    assert_eq!(
        confirm_fault(&mut alice, &other_id),
        ConfirmFault::UnknownMessage
    );

    // Signed, but not by whom the message was sent to.
    let by_carol = carol
        .confirm(&alice.address, &sent.message_id, NOW)
        .unwrap();
    assert_eq!(
        confirm_fault(&mut alice, &by_carol),
        ConfirmFault::UnknownMessage
    );
    // Genuine, but of another process.
    assert_eq!(
        confirm_fault(&mut carol, &genuine),
        ConfirmFault::UnknownMessage
    );
    assert!(read(&mut alice, &genuine).is_ok());
}

#[test]
fn only_addresses_with_a_key_can_be_written_to() {
    let mut alice = mailbox(1);
    let name = Address::parse("pinch:bob@relay.example.com").unwrap();
    assert!(matches!(
        alice.write(&name, "Hi", fresh(1, NOW)),
        Err(WriteError::NoKey { .. })
    ));
    let host = pinch_proto::Host::parse("relay.example.com").unwrap();
    let no_point = Address::from_public_key(&PublicKey::from_bytes([2; 32]), &host);
    assert!(matches!(
        alice.write(&no_point, "Hi", fresh(1, NOW)),
        Err(WriteError::UnusableKey { .. })
    ));

    let mut sent = alice
        .write(&mailbox(2).address, "Hi", fresh(1, NOW))
        .unwrap();
    sent.from_address = name.as_str().into();
    assert!(matches!(
        read(&mut mailbox(2), &sent),
        Err(ReadError::NoKey { .. })
    ));
}

#[test]
fn what_the_relay_says_is_understood() {
    let id = Bytes::from_static(b"id");
    let relay = |payload| Envelope {
        message_id: id.clone(),
        ..Envelope::from_relay(payload, NOW)
    };
    let mut alice = mailbox(1);

    let refusal = Refusal {
        message_id: id.clone(),
        is_confirmation: true,
        to: None,
        reason: "why".into(),
        retry_after_ms: None,
    };

    let full = wire::QueueFull {
        recipient_address: "bob".into(),
        reason: "why".into(),
    };
    let expected = Received::Refused(Refusal {
        to: Some("bob".into()),
        ..refusal.clone()
    });
    assert_eq!(
        read(&mut alice, &relay(Payload::QueueFull(full))).unwrap(),
        expected
    );

    let limited = wire::RateLimited {
        retry_after_ms: 7,
        reason: "why".into(),
    };
    let expected = Received::Refused(Refusal {
        retry_after_ms: Some(7),
        ..refusal
    });
    assert_eq!(
        read(&mut alice, &relay(Payload::RateLimited(limited))).unwrap(),
        expected
    );

    let status = Payload::QueueStatus(wire::QueueStatus { pending_count: 3 });
    assert_eq!(
        read(&mut alice, &relay(status)).unwrap(),
        Received::Waiting { count: 3 }
    );
}

#[test]
fn a_refused_message_is_told_from_a_refused_confirmation() {
    let (mut alice, mut bob) = (mailbox(1), mailbox(2));
    let sent = alice.write(&bob.address, "Hello", fresh(1, NOW)).unwrap();
    let (_, confirm) = text(&mut bob, &sent);
    for (mailbox, refused, expected) in [(&mut alice, sent, false), (&mut bob, confirm, true)] {
        let full = Payload::QueueFull(wire::QueueFull::default());
        let message_id = refused.message_id;
        let refusal = Envelope {
            message_id,
            ..Envelope::from_relay(full, NOW)
        };
        match read(mailbox, &refusal) {
            Ok(Received::Refused(refusal)) => assert_eq!(refusal.is_confirmation, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn other_envelopes_are_named() {
    let mut alice = mailbox(1);
    let unknown = Envelope {
        r#type: 99,
        from_address: "bob".into(),
        ..Envelope::default()
    };
    let expected = Received::Other {
        from: "bob".into(),
        message_type: 99,
    };
    assert_eq!(read(&mut alice, &unknown).unwrap(), expected);

    let empty = Envelope {
        r#type: MessageType::Message.into(),
        ..Envelope::default()
    };
    assert!(matches!(
        read(&mut alice, &empty),
        Err(ReadError::WrongPayload { .. })
    ));
    assert!(matches!(
        alice.read(b"\xff", NOW),
        Err(ReadError::Envelope(_))
    ));
}

#[test]
fn what_is_remembered_is_bounded() {
    let (mut alice, bob) = (mailbox(1), mailbox(2));
    let to = bob.secret.public_key();
    for number in 0..=MAX_SENT {
        alice.remember(number.to_string().into(), to);
    }
    assert_eq!(
        (alice.sent.len(), alice.sent_order.len()),
        (MAX_SENT, MAX_SENT)
    );
    assert!(
        !alice.sent.contains_key(&b"0"[..]),
        "the oldest is forgotten first"
    );
}

#[test]
fn what_was_sealed_here_is_refused_before_it_counts() {
    let (mut alice, mut bob) = (mailbox(1), mailbox(2));
    let sent = alice.write(&bob.address, "Hello", fresh(1, NOW)).unwrap();
    let mut reflected = sent.clone();
    core::mem::swap(&mut reflected.from_address, &mut reflected.to_address);
    if let Some(Payload::Encrypted(payload)) = &mut reflected.payload {
        payload.sender_public_key = Bytes::copy_from_slice(bob.secret.public_key().as_bytes());
    }
    for alice in [&mut alice, &mut mailbox(1)] {
        assert!(matches!(
            message_fault(alice, &reflected),
            MessageFault::Open(sealing::OpenError::Reflected)
        ));
        let genuine = bob.write(&alice.address, "Hi", fresh(2, NOW)).unwrap();
        assert_eq!(text(alice, &genuine).0, "Hi");
    }
}

#[test]
fn a_later_mailbox_knows_what_an_earlier_one_has_read() {
    let (mut alice, mut bob) = (mailbox(1), mailbox(2));
    let sent = alice.write(&bob.address, "Hello", fresh(1, NOW)).unwrap();
    text(&mut bob, &sent);
    let mut later = mailbox(2);
    *later.seen() = bob.seen().clone();
    assert!(matches!(
        message_fault(&mut later, &sent),
        MessageFault::Replayed { .. }
    ));
    // A sender that has lost count is heard again once that is asked for.
    assert!(later.seen().forget(&alice.secret.public_key()).is_some());
    assert_eq!(text(&mut later, &sent).0, "Hello");
}

#[test]
fn those_who_were_written_to_are_no_strangers() {
    let (mut alice, bob) = (mailbox(1), mailbox(2));
    assert!(!alice.seen().knows(&bob.secret.public_key()));
    alice.write(&bob.address, "Hi", fresh(1, NOW)).unwrap();
    assert!(alice.seen().knows(&bob.secret.public_key()));
}

#[test]
fn only_ids_that_are_ids_are_signed() {
    let (mut alice, mut bob) = (mailbox(1), mailbox(2));
    let mut confirm = |id: &[u8]| {
        let mut sent = alice.write(&bob.address, "Hello", fresh(1, NOW)).unwrap();
        sent.message_id = Bytes::copy_from_slice(id);
        match read(&mut bob, &sent) {
            Ok(Received::Text { confirm, .. }) => confirm.map(drop),
            other => panic!("{other:?}"),
        }
    };
    for id in [
        &[b'x'; 1][..],
        &[0; 64],
        b"pinch-auth-v1",
        b"0pinch-auth-v1\0",
    ] {
        assert_eq!(confirm(id), Ok(()), "{id:?}");
    }
    for len in [0, 65, 32_000] {
        let refused = Unconfirmable::Length { len };
        assert_eq!(confirm(&vec![b'x'; len]), Err(refused));
    }
    let proof = pinch_proto::handshake::signed_bytes("localhost", &[7; 32]);
    assert_eq!(
        confirm(&proof[..proof.len() - 8]),
        Err(Unconfirmable::Proof)
    );
    assert_eq!(confirm(b"pinch-auth-v1\0"), Err(Unconfirmable::Proof));
}

#[test]
fn only_known_words_are_a_state() {
    let (mut alice, mut bob) = (mailbox(1), mailbox(2));
    let sent = alice.write(&bob.address, "Hello", fresh(1, NOW)).unwrap();
    let (_, mut confirm) = text(&mut bob, &sent);
    let Some(Payload::DeliveryConfirm(payload)) = &mut confirm.payload else {
        panic!("no confirmation")
    };
    payload.state = "Delivered".into();
    let Ok(Received::Confirmed { state, .. }) = read(&mut alice, &confirm) else {
        panic!("not confirmed")
    };
    assert_eq!(state, State::Other("Delivered".into()));
}
