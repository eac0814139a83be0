//! The results as a picture: one row for each relay, one column of bars for each figure.
//!
//! Every axis begins at zero, every bar says its value, and what the picture shows is also said in
//! words, for those who cannot see it.

mod axis;
mod panel;
mod svg;
mod theme;

use core::fmt::Write as _;

use self::panel::Panel;
use self::svg::Svg;
use self::theme::Palette;
pub use self::theme::Theme;
use crate::compare::{BURST, Comparison, Kind, Measured};
use crate::figures::grouped;

const WIDTH: f64 = 960.0;
const MARGIN: f64 = 24.0;

/// Where the names of the relays end, and the bars begin.
const NAMES_END: f64 = 220.0;
const PANEL_GAP: f64 = 28.0;

/// Where the rows begin, and how high each is.
const ROWS: f64 = 132.0;
const ROW: f64 = 28.0;
const BAR: f64 = 16.0;

/// What is under the rows: the axes, and two lines about how it was measured.
const FOOT: f64 = 84.0;

const FONT: &str =
    "-apple-system, BlinkMacSystemFont, 'Segoe UI', 'Noto Sans', Helvetica, Arial, sans-serif";

const TITLE: &str = "Relays under the same load";

/// Draws the chart.
#[must_use]
pub fn draw(comparison: &Comparison, theme: Theme) -> String {
    let palette = theme.palette();
    let relays = rows(comparison);
    let panels = Panel::all();
    let height = ROWS + ROW * relays.len() as f64 + FOOT;
    let mut svg = Svg::default();
    svg.begin(
        "svg",
        &[
            ("xmlns", &"http://www.w3.org/2000/svg"),
            ("viewBox", &format!("0 0 {WIDTH} {height}")),
            ("width", &WIDTH),
            ("height", &height),
            ("font-family", &FONT),
            ("role", &"img"),
            ("aria-labelledby", &"title desc"),
        ],
    );
    svg.text("title", &[("id", &"title")], TITLE);
    svg.text("desc", &[("id", &"desc")], &description(&relays, &panels));
    svg.empty(
        "rect",
        &[
            ("width", &WIDTH),
            ("height", &height),
            ("rx", &6),
            ("fill", &palette.background),
        ],
    );
    draw_head(&mut svg, &palette);
    draw_names(&mut svg, &relays, &palette);
    let width =
        (WIDTH - MARGIN - NAMES_END - PANEL_GAP * (panels.len() - 1) as f64) / panels.len() as f64;
    let mut left = NAMES_END;
    for panel in &panels {
        panel.draw(&mut svg, &relays, left, width, &palette);
        left += width + PANEL_GAP;
    }
    draw_foot(&mut svg, comparison, height, &palette);
    svg.finish()
}

/// The floor, then the others: those first that relay the most.
fn rows(comparison: &Comparison) -> Vec<&Measured> {
    let mut relays: Vec<&Measured> = comparison.relays.iter().collect();
    let rate =
        |relay: &Measured| relay.throughput(BURST, |report| Some(report.messages_per_second));
    relays.sort_by(|one, other| {
        let floors = (other.kind == Kind::Floor).cmp(&(one.kind == Kind::Floor));
        let [one, other] = [one, other].map(|relay| rate(relay).unwrap_or_default());
        floors.then(other.total_cmp(&one))
    });
    relays
}

/// What is to be seen, in words.
fn description(relays: &[&Measured], panels: &[Panel]) -> String {
    let mut text = String::new();
    for panel in panels {
        let _ = write!(text, "{}, {}:", panel.title, panel.unit);
        for (number, relay) in relays.iter().enumerate() {
            let separator = if number == 0 { " " } else { "; " };
            let _ = write!(
                text,
                "{separator}{} {}",
                relay.name,
                panel.value_text(relay)
            );
        }
        text += ". ";
    }
    text.trim_end().to_owned()
}

fn draw_head(svg: &mut Svg, palette: &Palette) {
    svg.text(
        "text",
        &[
            ("x", &MARGIN),
            ("y", &36),
            ("font-size", &18),
            ("font-weight", &600),
            ("fill", &palette.text),
        ],
        TITLE,
    );
    let what = format!("{}; all on one machine, each on its own", BURST.what);
    draw_line(svg, MARGIN, 58.0, &what, palette);
    let mut right = WIDTH - MARGIN;
    for (kind, text, width) in [
        (Kind::Floor, "floor: the least a relay can do", 170.0),
        (Kind::Peer, "other relays", 86.0),
        (Kind::Ours, "Pinch", 46.0),
    ] {
        right -= width;
        draw_bar(svg, kind, (right, 26.0), (10.0, 10.0), palette);
        draw_line(svg, right + 16.0, 35.5, text, palette);
        right -= 26.0;
    }
}

fn draw_line(svg: &mut Svg, x: f64, y: f64, text: &str, palette: &Palette) {
    svg.text(
        "text",
        &[
            ("x", &x),
            ("y", &y),
            ("font-size", &12),
            ("fill", &palette.quiet_text),
        ],
        text,
    );
}

fn draw_names(svg: &mut Svg, relays: &[&Measured], palette: &Palette) {
    for (number, relay) in relays.iter().enumerate() {
        let weight = if relay.kind == Kind::Ours { 600 } else { 400 };
        svg.text(
            "text",
            &[
                ("x", &(NAMES_END - 10.0)),
                ("y", &(ROWS + ROW * number as f64 + ROW / 2.0 + 4.5)),
                ("font-size", &13),
                ("font-weight", &weight),
                ("text-anchor", &"end"),
                ("fill", &palette.text),
            ],
            &relay.name,
        );
    }
}

/// A bar in the colour of its kind.
fn draw_bar(
    svg: &mut Svg,
    kind: Kind,
    (x, y): (f64, f64),
    (width, height): (f64, f64),
    palette: &Palette,
) {
    let (fill, stroke) = match kind {
        Kind::Floor => ("none", palette.quiet_text),
        Kind::Ours => (palette.ours, palette.ours),
        Kind::Peer => (palette.peer, palette.peer),
    };
    svg.empty(
        "rect",
        &[
            ("x", &format!("{:.1}", x + 0.5)),
            ("y", &format!("{:.1}", y + 0.5)),
            ("width", &format!("{:.1}", (width - 1.0).max(0.5))),
            ("height", &format!("{:.1}", height - 1.0)),
            ("rx", &1.5),
            ("fill", &fill),
            ("stroke", &stroke),
        ],
    );
}

fn draw_foot(svg: &mut Svg, comparison: &Comparison, height: f64, palette: &Palette) {
    let how = format!(
        "{} · {} · {} · {} idle connections",
        comparison.date,
        comparison.machine,
        comparison.extent(),
        grouped(comparison.connections as f64),
    );
    draw_line(svg, MARGIN, height - 34.0, &how, palette);
    draw_line(svg, MARGIN, height - 16.0, &comparison.command, palette);
}

#[cfg(test)]
mod tests;
