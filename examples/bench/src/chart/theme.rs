//! The colours of a chart, for readers with light and with dark screens.

/// What a chart is read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    /// Black on white.
    Light,
    /// White on black.
    Dark,
}

/// Its colours. Text has a contrast of 4.5 to 1 at least.
pub(super) struct Palette {
    pub(super) background: &'static str,
    pub(super) text: &'static str,
    pub(super) quiet_text: &'static str,
    pub(super) grid: &'static str,
    pub(super) ours: &'static str,
    pub(super) peer: &'static str,
}

impl Theme {
    pub(super) const fn palette(self) -> Palette {
        match self {
            Self::Light => Palette {
                background: "#ffffff",
                text: "#1f2328",
                quiet_text: "#59636e",
                grid: "#dfe4e9",
                ours: "#0969da",
                peer: "#afb8c1",
            },
            Self::Dark => Palette {
                background: "#0d1117",
                text: "#f0f6fc",
                quiet_text: "#9198a1",
                grid: "#262c36",
                ours: "#4493f8",
                peer: "#59626d",
            },
        }
    }
}
