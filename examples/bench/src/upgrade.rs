//! The HTTP request by which an agent joins in open mode, `GET /ws?address=…`, as relays see it.

use percent_encoding::percent_decode_str;

/// The address that the query of a request names.
#[must_use]
pub fn address(query: &str) -> Option<String> {
    let pairs = query.split('&');
    let encoded = pairs
        .filter_map(|pair| pair.strip_prefix("address="))
        .next()?;
    let address = percent_decode_str(encoded).decode_utf8().ok()?;
    (!address.is_empty()).then(|| address.into_owned())
}

/// The first line that a relay prints, from which `pinch-bench` learns where it listens.
#[must_use]
pub fn announcement(listen: core::net::SocketAddr) -> String {
    format!("listening on ws://{listen}/ws")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_decoded() {
        let found = address("a=b&address=pinch%3Aalice%40localhost");
        assert_eq!(found.as_deref(), Some("pinch:alice@localhost"));
        for query in ["", "address=", "addresses=x", "address=%ff"] {
            assert_eq!(address(query), None, "{query}");
        }
    }
}
