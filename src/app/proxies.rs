//! What a proxy says of a request that came through it: believed only from the networks that `Web.TrustedProxies` lists.

use std::net::{IpAddr, SocketAddr};

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

/// So many hops are looked at; who is further away is taken for the last of them.
const MOST_HOPS: usize = 32;

/// What is believed of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Who asks.
    pub client: IpAddr,
    /// Whether it was asked for over https; none if nobody said.
    pub https: Option<bool>,
    /// The host that was asked for; none if nobody said.
    pub host: Option<HeaderValue>,
}

/// What to believe of a request that `peer` handed over.
#[must_use]
pub fn believe(headers: &HeaderMap, peer: IpAddr, trusted: &[IpNet]) -> Told {
    let peer = peer.to_canonical();
    let mut told = Told { client: peer, https: None, host: None };
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    if !is_trusted(&peer) {
        return told;
    }
    let (hops, scheme, host) = x_forwarded(headers).or_else(|| forwarded(headers)).unwrap_or_default();
    // each proxy adds at the end who asked it: go back until somebody is not ours, or can't be read
    for hop in hops.iter().rev().take(MOST_HOPS) {
        let Some(address) = address(hop) else { break };
        told.client = address;
        if !is_trusted(&address) {
            break;
        }
    }
    told.https = match scheme.as_deref().map(str::to_ascii_lowercase).as_deref() {
        Some("https" | "wss") => Some(true),
        Some("http" | "ws") => Some(false),
        _ => None,
    };
    told.host = host
        .filter(|host| host.parse::<Authority>().is_ok_and(|host| !host.as_str().contains('@')))
        .and_then(|host| HeaderValue::try_from(host).ok());
    told
}

/// Every value of a list that may be spread over several headers, in order.
fn values<'a>(headers: &'a HeaderMap, name: &'static str) -> Vec<&'a str> {
    headers
        .get_all(HeaderName::from_static(name))
        .iter()
        .map(|value| value.to_str().unwrap_or("?"))
        .flat_map(|text| text.split(','))
        .map(str::trim)
        .collect()
}

/// What the nearest proxy said, which is the only one that surely is ours.
fn last<'a>(headers: &'a HeaderMap, name: &'static str) -> Option<&'a str> {
    values(headers, name).pop().filter(|value| !value.is_empty())
}

/// Who asked at each hop, and the last hop's scheme and host.
type Way = (Vec<String>, Option<String>, Option<String>);

/// The headers of most proxies, if there is any of them. They go before that of RFC 7239: a proxy that sets these passes a
/// client's own `Forwarded` on, while one that sets `Forwarded` is rare, and told to take these away.
fn x_forwarded(headers: &HeaderMap) -> Option<Way> {
    const NAMES: [&str; 3] = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"];
    NAMES.iter().any(|name| headers.contains_key(*name)).then(|| {
        let [hops, scheme, host] = NAMES;
        (
            values(headers, hops).into_iter().map(str::to_owned).collect(),
            last(headers, scheme).map(str::to_owned),
            last(headers, host).map(str::to_owned),
        )
    })
}

/// The header of RFC 7239, if there is one.
fn forwarded(headers: &HeaderMap) -> Option<Way> {
    let elements = values(headers, "forwarded");
    let last = elements.last()?;
    let field = |element: &str, name: &str| {
        element.split(';').find_map(|pair| {
            let (known, value) = pair.split_once('=')?;
            known.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"').to_owned())
        })
    };
    // one without an address is a hop that nobody can be told by
    let hops = elements.iter().map(|element| field(element, "for").unwrap_or_default()).collect();
    Some((hops, field(last, "proto"), field(last, "host")))
}

/// An address as proxies write it: alone, with a port, in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let alone = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    alone
        .parse::<IpAddr>()
        .or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()))
        .ok()
        .map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(peer: &str, pairs: &[(&'static str, &str)]) -> (String, Option<bool>, Option<String>) {
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap());
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let told = believe(&headers, peer.parse().unwrap(), &trusted);
        (told.client.to_string(), told.https, told.host.map(|host| host.to_str().unwrap().to_owned()))
    }

    #[test]
    fn a_stranger_is_not_believed() {
        let lies = [
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil.example"),
            ("forwarded", "for=192.0.2.1;proto=https;host=evil.example"),
        ];
        assert_eq!(judge("198.51.100.7", &lies), ("198.51.100.7".into(), None, None));
    }

    #[test]
    fn the_right_most_address_that_is_not_ours_is_the_client() {
        let client = |list: &str| judge("10.0.0.1", &[("x-forwarded-for", list)]).0;
        assert_eq!(client("192.0.2.1"), "192.0.2.1");
        assert_eq!(client("203.0.113.9, 192.0.2.1, 10.0.0.2"), "192.0.2.1", "what a client made up stands at the left");
        assert_eq!(client("10.0.0.3, 10.0.0.2"), "10.0.0.3", "all are ours: the first");
        assert_eq!(client("[2001:db8::1]:443"), "2001:db8::1");
        assert_eq!(client("[2001:db8::1]"), "2001:db8::1");
        assert_eq!(client("2001:db8::1"), "2001:db8::1");
        assert_eq!(client("192.0.2.1:1234"), "192.0.2.1");
        assert_eq!(client("::ffff:192.0.2.1"), "192.0.2.1");
        let twice = [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-for", "192.0.2.1")];
        assert_eq!(judge("fd00::1", &twice).0, "192.0.2.1", "two headers are one list");
        assert_eq!(judge("::ffff:10.0.0.1", &[("x-forwarded-for", "192.0.2.1")]).0, "192.0.2.1");
    }

    #[test]
    fn what_can_not_be_read_does_no_harm() {
        let client = |list: &str| judge("10.0.0.1", &[("x-forwarded-for", list)]).0;
        for garbage in ["", ",,,", "unknown", "<script>", "1.2.3.4.5", "[::1", "192.0.2.1, garbage", "\u{fc}"] {
            assert_eq!(client(garbage), "10.0.0.1", "{garbage}");
        }
        assert_eq!(client("garbage, 10.0.0.2"), "10.0.0.2");
        assert_eq!(client(&vec!["10.0.0.2"; 100].join(",")), "10.0.0.2");
        for host in ["", "a b", "user@host", "host/path", "h\u{fc}"] {
            assert_eq!(judge("10.0.0.1", &[("x-forwarded-host", host), ("x-forwarded-proto", "gopher")]).1, None);
            assert_eq!(judge("10.0.0.1", &[("x-forwarded-host", host)]).2, None, "{host}");
        }
    }

    #[test]
    fn scheme_and_host_are_the_nearest_proxys_word() {
        let pairs = [("x-forwarded-proto", "http, HTTPS"), ("x-forwarded-host", "lies.example, sb.example:8443")];
        assert_eq!(judge("10.0.0.1", &pairs), ("10.0.0.1".into(), Some(true), Some("sb.example:8443".into())));
        assert_eq!(judge("10.0.0.1", &[("x-forwarded-proto", "http")]).1, Some(false));
        let standard = [("forwarded", "for=203.0.113.9, for=\"[2001:db8::1]:4711\";Proto=https;host=\"sb.example\"")];
        assert_eq!(judge("10.0.0.1", &standard), ("2001:db8::1".into(), Some(true), Some("sb.example".into())));
        let both = [("forwarded", "for=203.0.113.9;proto=https;host=lies.example"), ("x-forwarded-for", "192.0.2.1")];
        assert_eq!(
            judge("10.0.0.1", &both),
            ("192.0.2.1".into(), None, None),
            "a client's own passes through most proxies"
        );
        let hidden = [("forwarded", "for=192.0.2.1, for=_hidden")];
        assert_eq!(judge("10.0.0.1", &hidden).0, "10.0.0.1");
    }
}
