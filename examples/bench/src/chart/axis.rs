//! An axis from zero to a round number.

/// The end of an axis, and the steps to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Axis {
    pub(super) step: f64,
    pub(super) steps: u8,
}

/// The most steps that an axis has.
const MOST: f64 = 5.0;

impl Axis {
    /// The shortest axis with two to five round steps that holds all values up to `largest`.
    pub(super) fn holding(largest: f64) -> Self {
        if !(largest > 0.0 && largest.is_finite()) {
            return Self {
                step: 1.0,
                steps: 2,
            };
        }
        let magnitude = 10_f64.powf((largest / MOST).log10().floor());
        let mut steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|factor| factor * magnitude);
        // A value at the very end of the axis is held, whatever rounding makes of it.
        let holds = |step: &&mut f64| **step * MOST >= largest * (1.0 - 1e-9);
        let step = steps.iter_mut().find(holds).map_or(largest, |step| *step);
        let needed = (1..=5).find(|steps| step * f64::from(*steps) >= largest * (1.0 - 1e-9));
        Self {
            step,
            steps: needed.unwrap_or(5).max(2),
        }
    }

    pub(super) fn end(self) -> f64 {
        self.step * f64::from(self.steps)
    }

    /// All that is marked on it, zero first.
    pub(super) fn marks(self) -> impl Iterator<Item = f64> {
        (0..=self.steps).map(move |number| self.step * f64::from(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_begins_at_zero_and_ends_at_a_round_number() {
        for (largest, end) in [
            (3.69, 4.0),
            (4.0, 4.0),
            (4.1, 5.0),
            (5.06, 6.0),
            (0.24, 0.25),
            (143_056.0, 150_000.0),
            (201.0, 250.0),
            (0.0, 2.0),
            (f64::NAN, 2.0),
        ] {
            let axis = Axis::holding(largest);
            assert!((axis.end() / end - 1.0).abs() < 1e-9, "{largest}: {axis:?}");
            let marks: Vec<f64> = axis.marks().collect();
            assert_eq!(marks.len(), usize::from(axis.steps) + 1);
            assert!(marks[0] == 0.0 && (3..=6).contains(&marks.len()));
        }
    }
}
