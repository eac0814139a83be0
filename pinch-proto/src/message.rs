//! What an agent says to a relay: one binary message, of which only the outside is read.

use bytes::Bytes;

use crate::envelope::Outline;
use crate::{EnvelopeError, EnvelopeView};

/// A binary message of an agent, and what [`EnvelopeView`] makes of it.
///
/// It is made from [`Bytes`], and reads them at once. A relay makes it while it holds no lock, and
/// its hub, which many wait for, finds read what it has to know.
///
/// ```
/// use pinch_proto::Message;
/// use pinch_proto::wire::Envelope;
///
/// let to_address = String::from("pinch:bob@relay.example.com");
/// let message = Message::from(Envelope { to_address, ..Envelope::default() }.to_bytes());
/// assert_eq!(message.view()?.to_address(), "pinch:bob@relay.example.com");
/// assert!(Message::from("neither").view().is_err());
/// # Ok::<(), pinch_proto::EnvelopeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    bytes: Bytes,
    outline: Result<Outline, EnvelopeError>,
}

impl Message {
    /// What its outside says.
    ///
    /// # Errors
    ///
    /// It is no envelope; [`EnvelopeError`] says why.
    pub fn view(&self) -> Result<EnvelopeView<'_>, EnvelopeError> {
        self.outline.map(|outline| outline.view(&self.bytes))
    }

    /// All of it, verbatim.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The envelope that it is.
    pub(crate) fn into_envelope(self) -> Result<SealedEnvelope, EnvelopeError> {
        let Self { bytes, outline } = self;
        outline.map(|outline| SealedEnvelope { bytes, outline })
    }
}

impl<B: Into<Bytes>> From<B> for Message {
    fn from(bytes: B) -> Self {
        let bytes = bytes.into();
        let outline = Outline::parse(&bytes);
        Self { bytes, outline }
    }
}

/// An envelope, verbatim, whose outside has been read.
#[derive(Debug)]
pub(crate) struct SealedEnvelope {
    pub(crate) bytes: Bytes,
    outline: Outline,
}

impl SealedEnvelope {
    pub(crate) fn view(&self) -> EnvelopeView<'_> {
        self.outline.view(&self.bytes)
    }

    pub(crate) fn to_message(&self) -> Message {
        Message {
            bytes: self.bytes.clone(),
            outline: Ok(self.outline),
        }
    }
}
