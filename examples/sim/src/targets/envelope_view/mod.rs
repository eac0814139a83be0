//! Envelopes: the view that routes them sees what prost decodes.
//!
//! An input is a message: any bytes, or fields one by one, written well and badly, known and
//! unknown, and damaged here and there. The judge is prost. The view differs from it in one thing,
//! on purpose: it does not look into payloads, so that a broken payload is no reason to refuse an
//! envelope.

mod fields;
mod truth;

use arbitrary::Unstructured;
use pinch_proto::EnvelopeView;
use pinch_proto::wire::{Envelope, MessageType};
use prost::Message as _;
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};

use self::fields::Field;
use super::damage::Damage;
use super::lines;

/// Lets the view and prost read a message.
///
/// # Panics
///
/// If they read something else.
pub fn run(data: &[u8]) {
    let Script { fields, damage } = Script::read(data);
    let bytes = fields::encode(&fields);
    check(&bytes);
    let damaged = damage
        .iter()
        .fold(bytes.clone(), |bytes, it| it.applied(bytes));
    check(&damaged);
    // What is said twice counts as it was said last.
    check(&[bytes, damaged].concat());
}

/// What an input means, line by line.
#[must_use]
pub fn story(data: &[u8]) -> String {
    let Script { fields, damage } = Script::read(data);
    let bytes = fields::encode(&fields);
    let mut story = lines(&fields) + &lines([format!("which is {bytes:02x?}")]);
    if !damage.is_empty() {
        let damaged = damage.iter().fold(bytes, |bytes, it| it.applied(bytes));
        story += &lines(&damage);
        story += &lines([format!("which makes it {damaged:02x?}")]);
    }
    story
}

struct Script {
    fields: Vec<Field>,
    damage: Vec<Damage>,
}

impl Script {
    fn read(data: &[u8]) -> Self {
        // An even byte in front: what follows is a message as it is.
        if let Some((first, rest)) = data.split_first()
            && first % 2 == 0
        {
            return Self {
                fields: vec![Field::Any(rest.to_vec())],
                damage: vec![],
            };
        }
        let mut input = Unstructured::new(data.get(1..).unwrap_or_default());
        let damage = Damage::several(&mut input);
        let mut fields = vec![];
        while !input.is_empty() && fields.len() < 40 {
            fields.extend(Field::read(&mut input, 0));
        }
        Self { fields, damage }
    }
}

fn check(bytes: &[u8]) {
    match (EnvelopeView::parse(bytes), Envelope::decode(bytes)) {
        (Ok(view), Ok(envelope)) => {
            check_view(&view, &envelope, bytes);
            let again = envelope.to_bytes();
            let view = EnvelopeView::parse(&again);
            let view = view.unwrap_or_else(|error| panic!("{error}, but prost wrote {again:02x?}"));
            check_view(&view, &envelope, &again);
        }
        (Ok(view), Err(error)) => {
            // It must be a payload, then.
            let rest = without_payloads(bytes);
            match Envelope::decode(rest.as_slice()) {
                Ok(envelope) => check_view(&view, &envelope, bytes),
                Err(_) => panic!("{error}, but {view:?}: {bytes:02x?}"),
            }
        }
        (Err(error), Ok(envelope)) => panic!("{error}, but {envelope:?}: {bytes:02x?}"),
        (Err(error), Err(_)) => assert!(
            truth::is_true(&error, bytes),
            "{error}, but that is not so: {bytes:02x?}"
        ),
    }
}

fn check_view(view: &EnvelopeView<'_>, envelope: &Envelope, bytes: &[u8]) {
    let seen = (
        view.from_address(),
        view.to_address(),
        view.type_number(),
        view.message_id(),
    );
    let decoded = (
        envelope.from_address.as_str(),
        envelope.to_address.as_str(),
        envelope.r#type,
        &envelope.message_id[..],
    );
    assert_eq!(seen, decoded, "{bytes:02x?}");
    assert_eq!(
        view.message_type(),
        MessageType::try_from(envelope.r#type).ok()
    );
    for part in [
        view.from_address().as_bytes(),
        view.to_address().as_bytes(),
        view.message_id(),
    ] {
        let is_borrowed = part.is_empty() || bytes.as_ptr_range().contains(&part.as_ptr());
        assert!(is_borrowed, "{part:02x?} is no part of {bytes:02x?}");
    }
}

/// A message without its payloads.
fn without_payloads(bytes: &[u8]) -> Vec<u8> {
    let mut rest = bytes;
    let mut kept = vec![];
    while !rest.is_empty() {
        let start = rest;
        let (number, wire_type) = decode_key(&mut rest).expect("the view has read this key");
        skip_field(wire_type, number, &mut rest, DecodeContext::default())
            .expect("the view has read this value");
        if wire_type != WireType::LengthDelimited || !(10..=24).contains(&number) {
            kept.extend(&start[..start.len() - rest.len()]);
        }
    }
    kept
}
