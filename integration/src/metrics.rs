//! Reads a `/metrics` page in Prometheus's text format, as far as the tests need it.

/// The sum of all series of a metric whose labels contain `labels`; `None` if there is no such series.
#[must_use]
pub fn sum(page: &str, metric: &str, labels: &str) -> Option<f64> {
    let mut total = None;
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else {
            continue;
        };
        let (name, have) = series.split_once('{').unwrap_or((series, ""));
        if name == metric && have.contains(labels) {
            *total.get_or_insert(0.0) += value.parse::<f64>().unwrap_or(0.0);
        }
    }
    total
}

/// How many observations of a histogram were above a bound that is one of its buckets' limits.
#[must_use]
pub fn above(page: &str, histogram: &str, bound: &str) -> Option<f64> {
    let all = sum(page, &format!("{histogram}_count"), "")?;
    let within = sum(page, &format!("{histogram}_bucket"), &format!("le=\"{bound}\""))?;
    Some(all - within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_and_histograms_read() {
        let page = "# HELP x y\na_total{op=\"put\"} 2\na_total{op=\"get\"} 3\n\
                    h_bucket{le=\"10\"} 4\nh_bucket{le=\"+Inf\"} 5\nh_count 5\nh_sum 60\n";
        assert_eq!(sum(page, "a_total", ""), Some(5.0));
        assert_eq!(sum(page, "a_total", "op=\"get\""), Some(3.0));
        assert_eq!(sum(page, "b_total", ""), None);
        assert_eq!(above(page, "h", "10"), Some(1.0));
    }
}
