//! Whether something grows.

/// How much the second numbers grow while the first grow by one: the slope of the line that is the
/// nearest to all points, by the least squares.
pub(crate) fn slope(points: Vec<(f64, u64)>) -> f64 {
    let points: Vec<(f64, f64)> = points
        .into_iter()
        .map(|(x, y)| (x, f64::from(u32::try_from(y).unwrap_or(u32::MAX))))
        .collect();
    let mean = |of: fn(&(f64, f64)) -> f64| {
        points.iter().map(of).sum::<f64>() / f64::from(u32::try_from(points.len()).unwrap_or(1))
    };
    let (x_mean, y_mean) = (mean(|point| point.0), mean(|point| point.1));
    let (mut covariance, mut variance) = (0.0, 0.0);
    for (x, y) in &points {
        covariance += (x - x_mean) * (y - y_mean);
        variance += (x - x_mean).powi(2);
    }
    if variance == 0.0 {
        return 0.0;
    }
    covariance / variance
}

#[cfg(test)]
mod tests {
    use super::slope;

    #[test]
    fn a_slope_is_that_of_the_line_which_is_nearest() {
        let near = |points: &[(f64, u64)], expected: f64| {
            let found = slope(points.to_vec());
            assert!((found - expected).abs() < 1e-9, "{found} of {points:?}");
        };
        near(&[(0.0, 5), (1.0, 8), (2.0, 11)], 3.0);
        near(&[(0.0, 11), (1.0, 8), (2.0, 5)], -3.0);
        near(&[(0.0, 7), (1.0, 9), (2.0, 7)], 0.0);
        near(&[(2.0, 7)], 0.0);
        near(&[], 0.0);
    }
}
