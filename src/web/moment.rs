//! Times and durations as pages show them: UTC without scripts, the reader's own zone with them.

use std::fmt::Write as _;
use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::web::html::Html;

/// Date and time.
pub(crate) fn stamp(at: Timestamp) -> Html {
    element(at, "")
}

/// How long ago or in how long; scripts let it tick.
pub(crate) fn ago(at: Timestamp) -> Html {
    element(at, " class=\"ago\"")
}

/// In how long something comes: scripts let it tick, down to "now".
pub(crate) fn coming(at: Timestamp) -> Html {
    element(at, " class=\"ago coming\"")
}

/// In how long something comes that is never late: scripts let it tick, down to "in a moment".
pub(crate) fn soon(at: Timestamp) -> Html {
    element(at, " class=\"ago soon\"")
}

/// How long it has lasted; scripts let it tick.
pub(crate) fn since(at: Timestamp) -> Html {
    element(at, " class=\"since\"")
}

/// The time of day alone, with milliseconds: for lines of a log.
pub(crate) fn clock(at: Timestamp) -> Html {
    let mut markup = String::with_capacity(80);
    let _ = write!(
        markup,
        "<time class=\"clock\" datetime=\"{at}\" title=\"{}\">{}</time>",
        utc(at),
        at.to_jiff().strftime("%H:%M:%S%.3f")
    );
    Html::rendered(markup)
}

/// Date and time in UTC, as text.
pub(crate) fn utc(at: Timestamp) -> String {
    at.to_jiff().strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn element(at: Timestamp, class: &str) -> Html {
    Html::rendered(format!("<time{class} datetime=\"{at}\">{}</time>", utc(at)))
}

/// A length of time in at most two units, rounded: `120 ms`, `1.2 s`, `3 min 4 s`, `2 h 5 min`, `3 d 4 h`.
pub(crate) fn length(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 if duration.as_millis() > 0 || duration.is_zero() => format!("{} ms", duration.as_millis()),
        0 => "< 1 ms".to_owned(),
        1..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3_600 => two(seconds, 60, "min", 1, "s"),
        3_600..86_400 => two(seconds, 3_600, "h", 60, "min"),
        _ => two(seconds, 86_400, "d", 3_600, "h"),
    }
}

fn two(seconds: u64, great: u64, great_unit: &str, small: u64, small_unit: &str) -> String {
    match seconds % great / small {
        0 => format!("{} {great_unit}", seconds / great),
        rest => format!("{} {great_unit} {rest} {small_unit}", seconds / great),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_short_and_carry_their_unit() {
        for (millis, text) in [
            (0, "0 ms"),
            (120, "120 ms"),
            (1_240, "1.2 s"),
            (34_000, "34 s"),
            (60_000, "1 min"),
            (184_000, "3 min 4 s"),
            (7_500_000, "2 h 5 min"),
            (273_600_000, "3 d 4 h"),
        ] {
            assert_eq!(length(Duration::from_millis(millis)), text);
        }
        assert_eq!(length(Duration::from_micros(20)), "< 1 ms");
    }

    #[test]
    fn a_time_is_readable_without_scripts_and_exact_with_them() {
        let at = Timestamp::from_micros(1_795_223_419_123_456);
        assert_eq!(
            ago(at).as_str(),
            "<time class=\"ago\" datetime=\"2026-11-21T01:10:19.123Z\">2026-11-21 01:10:19 UTC</time>"
        );
    }
}
