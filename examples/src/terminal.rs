//! Text from strangers, made safe to print.
//!
//! A terminal obeys what is printed on it: escape sequences move the cursor, rewrite what was there,
//! change the title or the clipboard. Other characters turn the direction of writing around, so that
//! a line reads as what it is not. None of them gets through here.

use serde::Serialize;

/// `text` on one line, without any character that a terminal obeys. Line breaks and tabs become
/// spaces.
#[must_use]
pub fn plain(text: &str) -> String {
    text.chars()
        .filter_map(|char| match char {
            '\n' | '\t' | '\u{2028}' | '\u{2029}' => Some(' '),
            _ => (!is_unsafe(char)).then_some(char),
        })
        .collect()
}

/// `value` as JSON on one line. Nothing is left out: what a terminal would obey is escaped, as JSON
/// provides.
///
/// # Errors
/// `value` has a form that JSON has not.
pub fn json(value: &impl Serialize) -> serde_json::Result<String> {
    let json = serde_json::to_string(value)?;
    // All of them are in the basic plane, and can only stand inside of a JSON string.
    Ok(json
        .chars()
        .fold(String::with_capacity(json.len()), |mut safe, char| {
            if is_unsafe(char) {
                safe.push_str(&format!("\\u{:04x}", u32::from(char)));
            } else {
                safe.push(char);
            }
            safe
        }))
}

/// Control characters (C0, DEL, C1), line separators, and those that steer the direction of writing.
fn is_unsafe(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_lose_their_escape() {
        assert_eq!(plain("\x1b[2J\x1b]0;owned\x07ok"), "[2J]0;ownedok");
        assert_eq!(plain("\u{9b}31mred\u{7f}\x08"), "31mred");
    }

    #[test]
    fn a_message_is_one_line() {
        assert_eq!(plain("a\nb\r\nc\td\u{2028}e"), "a b c d e");
    }

    #[test]
    fn nothing_turns_the_line_around() {
        assert_eq!(plain("a\u{202e}b\u{2066}c\u{200f}d"), "abcd");
    }

    #[test]
    fn other_text_stays_as_it_is() {
        let text = "Grüße, 世界 — عربي 👩‍🚀";
        assert_eq!(plain(text), text);
        assert_eq!(json(&text).unwrap(), format!("\"{text}\""));
    }

    #[test]
    fn json_keeps_everything_and_prints_nothing_unsafe() {
        let text: String = (0..=0x2100).filter_map(char::from_u32).collect();
        let safe = json(&text).unwrap();
        assert!(!safe.chars().any(is_unsafe));
        assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), text);
    }
}
