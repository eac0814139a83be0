//! On whatever prost decodes the view reads the same values, and what prost refuses it refuses.

use crate::encoding::*;
use pinch_proto::EnvelopeView;
use pinch_proto::wire::Envelope;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn any_order_of_fields(
        (envelope, bytes) in envelope().prop_flat_map(|envelope| {
            let pieces = Just(pieces(&envelope)).prop_shuffle();
            (Just(envelope), pieces.prop_map(|pieces| pieces.concat()))
        }),
    ) {
        prop_assert_eq!(Envelope::decode(&bytes[..]), Ok(envelope.clone()));
        prop_assert!(agrees(&EnvelopeView::parse(&bytes).unwrap(), &envelope));
    }

    #[test]
    fn of_two_envelopes_the_last_one_wins(
        bytes in (envelope(), envelope())
            .prop_flat_map(|(one, other)| Just([pieces(&one), pieces(&other)].concat()).prop_shuffle())
            .prop_map(|pieces| pieces.concat()),
    ) {
        let envelope = Envelope::decode(&bytes[..]).unwrap();
        prop_assert!(agrees(&EnvelopeView::parse(&bytes).unwrap(), &envelope));
    }

    #[test]
    fn every_way_to_write_it(fields in vec(prop_oneof![3 => known(), 1 => unknown()], 0..16)) {
        let bytes = encode(&fields);
        let envelope = Envelope::decode(&bytes[..]).unwrap();
        prop_assert!(agrees(&EnvelopeView::parse(&bytes).unwrap(), &envelope));
    }

    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..64)) {
        check(&bytes);
    }

    #[test]
    fn any_fields(fields in vec(field_of(0..=30_u32), 0..8)) {
        check(&encode(&fields));
    }

    #[test]
    fn damaged_envelopes(envelope in envelope(), hits in hits()) {
        check(&damage(envelope.encode_to_vec(), &hits));
    }

    #[test]
    fn damaged_encodings(fields in vec(prop_oneof![known(), unknown()], 0..8), hits in hits()) {
        check(&damage(encode(&fields), &hits));
    }

    #[test]
    fn every_beginning_of_an_envelope(envelope in envelope()) {
        let bytes = envelope.encode_to_vec();
        for len in 0..bytes.len() {
            check(&bytes[..len]);
        }
    }
}

#[test]
fn all_short_inputs() {
    check(&[]);
    for first in 0..=255 {
        check(&[first]);
        for second in 0..=255 {
            check(&[first, second]);
            for third in [0x00, 0x01, 0x02, 0x0c, 0x12, 0x7f, 0x80, 0xff] {
                check(&[first, second, third]);
            }
        }
    }
}
