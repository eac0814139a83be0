//! Writes SVG: elements with attributes, and text that is safe in them.

use core::fmt::{Display, Write as _};

/// A picture that is being written.
#[derive(Debug, Default)]
pub(super) struct Svg {
    text: String,
    open: Vec<&'static str>,
}

/// The attributes of an element.
pub(super) type Attributes<'a> = &'a [(&'a str, &'a dyn Display)];

impl Svg {
    /// Opens an element, until [`end`](Self::end).
    pub(super) fn begin(&mut self, name: &'static str, attributes: Attributes<'_>) {
        self.tag(name, attributes);
        self.text += ">\n";
        self.open.push(name);
    }

    /// Closes the element that was opened last.
    pub(super) fn end(&mut self) {
        let name = self.open.pop().expect("an element is open");
        self.indent();
        self.text += "</";
        self.text += name;
        self.text += ">\n";
    }

    /// An element without content.
    pub(super) fn empty(&mut self, name: &str, attributes: Attributes<'_>) {
        self.tag(name, attributes);
        self.text += "/>\n";
    }

    /// An element that holds text.
    pub(super) fn text(&mut self, name: &str, attributes: Attributes<'_>, content: &str) {
        self.tag(name, attributes);
        self.text.push('>');
        self.text += &escaped(content);
        self.text += "</";
        self.text += name;
        self.text += ">\n";
    }

    /// The picture, which is complete.
    pub(super) fn finish(mut self) -> String {
        while !self.open.is_empty() {
            self.end();
        }
        self.text
    }

    fn indent(&mut self) {
        self.text += &"  ".repeat(self.open.len());
    }

    fn tag(&mut self, name: &str, attributes: Attributes<'_>) {
        self.indent();
        self.text.push('<');
        self.text += name;
        for (attribute, value) in attributes {
            let value = escaped(&value.to_string());
            write!(self.text, " {attribute}=\"{value}\"").expect("a string takes everything");
        }
    }
}

/// `text` as it is written in XML.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            // XML has no way to write most of them.
            control if control.is_control() => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}
