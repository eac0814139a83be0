//! Numbers as people read them.

/// A whole number, with commas between thousands.
#[must_use]
pub fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::with_capacity(digits.len() * 2);
    if value <= -0.5 {
        text.push('-');
    }
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with three digits that count, or all that it has before the point.
#[must_use]
pub fn decimal(value: f64) -> String {
    match value.abs() {
        0.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => grouped(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let texts = [0.4, 12.0, 999.0, 1000.0, 1_234_567.8, -1234.0].map(grouped);
        assert_eq!(texts, ["0", "12", "999", "1,000", "1,234,568", "-1,234"]);
    }

    #[test]
    fn three_digits_count() {
        let texts = [0.0, 0.244, 4.95, 63.72, 117.4, 26_591.2].map(decimal);
        assert_eq!(texts, ["0.00", "0.24", "4.95", "63.7", "117", "26,591"]);
    }
}
