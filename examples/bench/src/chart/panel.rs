//! One figure of all relays: an axis, and a bar with its value in each row.

use super::axis::Axis;
use super::svg::Svg;
use super::theme::Palette;
use super::{BAR, ROW, ROWS, draw_bar};
use crate::compare::{BURST, Kind, Measured};
use crate::figures::decimal;

/// What the value behind the longest bar needs.
const VALUE: f64 = 44.0;

/// One figure.
pub(super) struct Panel {
    pub(super) title: &'static str,
    pub(super) unit: &'static str,
    value: fn(&Measured) -> Option<f64>,
}

impl Panel {
    pub(super) fn all() -> [Self; 3] {
        [
            Self {
                title: "Messages per second",
                unit: "millions; more is better",
                value: |relay| {
                    relay.throughput(BURST, |report| Some(report.messages_per_second / 1e6))
                },
            },
            Self {
                title: "CPU time per message",
                unit: "microseconds; less is better",
                // Seconds for a million are microseconds for one.
                value: |relay| {
                    relay.throughput(BURST, |report| report.server_cpu_seconds_per_million)
                },
            },
            Self {
                title: "Memory per idle connection",
                unit: "KiB, after 64 KiB came; less is better",
                value: |relay| {
                    relay.idle(|report| Some(report.anonymous_bytes_after_envelope? / 1024.0))
                },
            },
        ]
    }

    /// The value of `relay` as it is written.
    pub(super) fn value_text(&self, relay: &Measured) -> String {
        (self.value)(relay).map_or_else(|| "unknown".to_owned(), decimal)
    }

    pub(super) fn draw(
        &self,
        svg: &mut Svg,
        relays: &[&Measured],
        left: f64,
        width: f64,
        palette: &Palette,
    ) {
        let values = relays.iter().filter_map(|relay| (self.value)(relay));
        let axis = Axis::holding(values.fold(0.0, f64::max));
        let scale = (width - VALUE) / axis.end();
        self.draw_head(svg, left, palette);
        draw_grid(svg, axis, (left, scale), relays.len(), palette);
        for (number, relay) in relays.iter().enumerate() {
            let middle = ROWS + ROW * number as f64 + ROW / 2.0;
            self.draw_row(svg, relay, (left, middle), scale, palette);
        }
    }

    fn draw_head(&self, svg: &mut Svg, left: f64, palette: &Palette) {
        svg.text(
            "text",
            &[
                ("x", &left),
                ("y", &98),
                ("font-size", &14),
                ("font-weight", &600),
                ("fill", &palette.text),
            ],
            self.title,
        );
        svg.text(
            "text",
            &[
                ("x", &left),
                ("y", &116),
                ("font-size", &12),
                ("fill", &palette.quiet_text),
            ],
            self.unit,
        );
    }

    fn draw_row(
        &self,
        svg: &mut Svg,
        relay: &Measured,
        (left, middle): (f64, f64),
        scale: f64,
        palette: &Palette,
    ) {
        let text = self.value_text(relay);
        let length = (self.value)(relay).unwrap_or_default().max(0.0) * scale;
        svg.begin("g", &[]);
        svg.text("title", &[], &format!("{}: {text}", relay.name));
        if length > 0.0 {
            let size = (length.max(1.5), BAR);
            draw_bar(svg, relay.kind, (left, middle - BAR / 2.0), size, palette);
        }
        let weight = if relay.kind == Kind::Ours { 600 } else { 400 };
        svg.text(
            "text",
            &[
                ("x", &format!("{:.1}", left + length + 6.0)),
                ("y", &(middle + 4.5)),
                ("font-size", &12),
                ("font-weight", &weight),
                ("fill", &palette.text),
                // Lines of the grid end before it.
                ("stroke", &palette.background),
                ("stroke-width", &4),
                ("paint-order", &"stroke"),
            ],
            &text,
        );
        svg.end();
    }
}

/// The marks of an axis that begins at `left`, and a line through all rows at each.
fn draw_grid(svg: &mut Svg, axis: Axis, (left, scale): (f64, f64), rows: usize, palette: &Palette) {
    let bottom = ROWS + ROW * rows as f64;
    for mark in axis.marks() {
        let x = format!("{:.1}", left + mark * scale);
        svg.empty(
            "line",
            &[
                ("x1", &x),
                ("x2", &x),
                ("y1", &ROWS),
                ("y2", &bottom),
                ("stroke", &palette.grid),
            ],
        );
        svg.text(
            "text",
            &[
                ("x", &x),
                ("y", &(bottom + 16.0)),
                ("font-size", &11),
                ("text-anchor", &"middle"),
                ("fill", &palette.quiet_text),
            ],
            // As many digits as it has, and no trace of how computers add.
            &((mark * 1e6).round() / 1e6).to_string(),
        );
    }
}
