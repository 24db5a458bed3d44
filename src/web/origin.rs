//! Proof that a request comes from our own pages: `Sec-Fetch-Site` and `Origin`.

use axum::http::{HeaderMap, HeaderName, header};

/// Whether a state change or socket with a cookie may go on: `Some(true)` it is ours, `Some(false)` it is foreign (refuse),
/// `None` the browser sent neither header (a form then needs its session-bound token, a socket is refused).
///
/// `https` is whether the request surely came over it: then a page over plain http, which anybody on the way can write, is foreign.
/// Both headers are set by the browser and out of reach of a foreign page; if both are there, both must agree.
pub fn is_ours(headers: &HeaderMap, https: bool) -> Option<bool> {
    let site = HeaderName::from_static("sec-fetch-site");
    let site = headers.contains_key(&site).then(|| text(headers, &site) == Some("same-origin"));
    let host = text(headers, &header::HOST);
    let origin = headers
        .contains_key(header::ORIGIN)
        .then(|| text(headers, &header::ORIGIN).is_some_and(|origin| names_host(origin, host, https)));
    match (site, origin) {
        (None, None) => None,
        (site, origin) => Some(site.unwrap_or(true) && origin.unwrap_or(true)),
    }
}

/// The header's text; none if it is missing, sent twice or can't be read.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    if values.next().is_some() { None } else { first.to_str().ok() }
}

/// Whether an origin (`https://host:port`) is the host that was asked.
fn names_host(origin: &str, host: Option<&str>, https: bool) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let port = match scheme {
        "http" if !https => ":80",
        "https" => ":443",
        _ => return false,
    };
    let bare = |authority: &str| authority.strip_suffix(port).unwrap_or(authority).to_ascii_lowercase();
    host.is_some_and(|host| !authority.is_empty() && bare(authority) == bare(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(pairs: &[(&'static str, &'static str)]) -> Option<bool> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        is_ours(&headers, false)
    }

    #[test]
    fn our_own_pages_pass() {
        let host = ("host", "box.example:8080");
        assert_eq!(judge(&[host, ("sec-fetch-site", "same-origin")]), Some(true));
        assert_eq!(judge(&[host, ("origin", "http://box.example:8080")]), Some(true));
        assert_eq!(judge(&[("host", "box.example"), ("origin", "https://BOX.example:443")]), Some(true));
        assert_eq!(
            judge(&[host, ("origin", "http://box.example:8080"), ("sec-fetch-site", "same-origin")]),
            Some(true)
        );
    }

    #[test]
    fn foreign_pages_are_refused_whichever_header_tells() {
        let host = ("host", "box.example:8080");
        for foreign in [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-site", "none"),
            ("origin", "null"),
            ("origin", ""),
            ("origin", "http://"),
            ("origin", "http://box.example"),
            ("origin", "http://evil.example:8080"),
            ("origin", "ftp://box.example:8080"),
            ("origin", "http://box.example:8080.evil.example"),
        ] {
            assert_eq!(judge(&[host, foreign]), Some(false), "{foreign:?}");
        }
        let lies = [host, ("origin", "http://evil.example"), ("sec-fetch-site", "same-origin")];
        assert_eq!(judge(&lies), Some(false));
        let twice = [host, ("origin", "http://box.example:8080"), ("origin", "http://evil.example")];
        assert_eq!(judge(&twice), Some(false));
        assert_eq!(judge(&[("origin", "http://box.example:8080")]), Some(false));
    }

    #[test]
    fn over_https_a_page_over_plain_http_is_foreign() {
        let judge = |origin: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "box.example".parse().unwrap());
            headers.insert(header::ORIGIN, origin.parse().unwrap());
            is_ours(&headers, true)
        };
        assert_eq!(judge("https://box.example"), Some(true));
        assert_eq!(judge("http://box.example"), Some(false));
    }

    #[test]
    fn a_browser_that_sends_neither_is_told_apart() {
        assert_eq!(judge(&[("host", "box.example")]), None);
    }
}
