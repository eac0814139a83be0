//! An answer to the upgrade that is no WebSocket.

use core::time::Duration;

use http::header::{DATE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderName, Response};
use pinch_proto::UnixMillis;
use pinch_proto::client::{Input, UpgradeRejection};

/// Maximum number of characters of an answer that errors show.
const SHOWN_CHARS: usize = 200;

/// What `response`, which came at `now`, is to the machine.
pub(super) fn input(response: &Response<Vec<u8>>, now: UnixMillis) -> Input {
    Input::UpgradeRejected {
        rejection: UpgradeRejection {
            status: response.status().as_u16(),
            reason: reason(response).into(),
        },
        retry_after: retry_after(response.headers(), now),
    }
}

/// Where a redirection leads, or the first line of a text, or the name of the status. Pages are for
/// browsers.
fn reason(response: &Response<Vec<u8>>) -> String {
    let status = response.status();
    let body = String::from_utf8_lossy(response.body());
    let line = body.trim().lines().next().unwrap_or_default();
    let location = header(response.headers(), &LOCATION);
    match location.filter(|_| status.is_redirection()) {
        Some(location) => shown(&format!("see {location}")),
        None if line.is_empty() || line.starts_with('<') => {
            status.canonical_reason().unwrap_or_default().into()
        }
        None => shown(line),
    }
}

fn shown(text: &str) -> String {
    let harmless = text.chars().filter(|char| !char.is_control());
    harmless.take(SHOWN_CHARS).collect()
}

/// How long the answer asks to wait (RFC 9110, section 10.2.3): seconds, or a date by the clock that
/// wrote the header `Date`, else by that of this machine.
fn retry_after(headers: &HeaderMap, now: UnixMillis) -> Option<Duration> {
    let asked = header(headers, &RETRY_AFTER)?;
    if asked.bytes().all(|byte| byte.is_ascii_digit()) {
        // What does not fit is as good as for ever.
        return Some(Duration::from_secs(asked.parse().unwrap_or(u64::MAX)));
    }
    let until = httpdate::parse_http_date(asked).ok()?;
    let date = header(headers, &DATE).and_then(|date| httpdate::parse_http_date(date).ok());
    let now = date.unwrap_or_else(|| {
        let millis = u64::try_from(now.0).unwrap_or(0);
        std::time::UNIX_EPOCH + Duration::from_millis(millis)
    });
    // A date of the past asks for nothing.
    Some(until.duration_since(now).unwrap_or_default())
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let value = headers.get(name)?.to_str().ok()?.trim();
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(784_111_777_000);

    fn rejected(status: u16, headers: &[(&str, &str)], body: &str) -> (String, Option<u64>) {
        let mut response = Response::builder().status(status);
        for &(name, value) in headers {
            response = response.header(name, value);
        }
        let response = response.body(body.into()).unwrap();
        let Input::UpgradeRejected {
            rejection,
            retry_after,
        } = input(&response, NOW)
        else {
            panic!("it is a rejection")
        };
        assert_eq!(rejection.status, status);
        let reason = rejection.reason.into_owned();
        (reason, retry_after.map(|wait| wait.as_secs()))
    }

    #[test]
    fn the_reason_is_one_short_line() {
        let long = "x".repeat(1000);
        for (status, location, body, expected) in [
            (404, "", "", "Not Found"),
            (404, "", "no such path\n", "no such path"),
            (
                403,
                "/elsewhere",
                "origin not allowed",
                "origin not allowed",
            ),
            (502, "", "<html><h1>Bad Gateway</h1>", "Bad Gateway"),
            (
                301,
                "wss://relay.example.com/ws",
                "moved",
                "see wss://relay.example.com/ws",
            ),
            (302, "", "moved", "moved"),
            (400, "", "a\x1b[2Jb\nc", "a[2Jb"),
            (500, "", &long, &long[..SHOWN_CHARS]),
            (599, "", "", ""),
        ] {
            let (reason, _) = rejected(status, &[("location", location)], body);
            assert_eq!(reason, expected);
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let later = "Sun, 06 Nov 1994 08:51:37 GMT";
        for (asked, sent, expected) in [
            ("120", "", Some(120)),
            ("0", "", Some(0)),
            (" 7 ", "", Some(7)),
            ("99999999999999999999999999", "", Some(u64::MAX)),
            (later, "", Some(120)),
            // The clocks differ by a minute.
            (later, "Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            (later, "yesterday", Some(120)),
            (date, later, Some(0)),
            ("-1", "", None),
            ("1.5", "", None),
            ("soon", "", None),
            ("", "", None),
        ] {
            let headers = [("retry-after", asked), ("date", sent)];
            assert_eq!(
                rejected(503, &headers, "").1,
                expected,
                "{asked:?} {sent:?}"
            );
        }
        assert_eq!(rejected(503, &[], "").1, None);
    }
}
