//! RFC 9110, 9112 and 6455, read a second time and slowly: heads are lists of lines, fields lists of
//! items.

/// A head: its first line, and its fields with names in lower case.
struct Head<'a> {
    first: Vec<&'a str>,
    fields: Vec<(String, &'a str)>,
}

impl<'a> Head<'a> {
    fn parse(text: &'a str) -> Self {
        let mut lines = text.split('\n').map(|line| line.trim_end_matches('\r'));
        let first = lines.next().unwrap_or_default().split(' ').collect();
        let fields = lines.take_while(|line| !line.is_empty());
        let fields = fields.filter_map(|line| line.split_once(':'));
        let fields = fields
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim_matches([' ', '\t'])));
        Self {
            first,
            fields: fields.collect(),
        }
    }

    fn lines(&self, name: &str) -> Vec<&'a str> {
        let lines = self.fields.iter().filter(|field| field.0 == name);
        lines.map(|field| field.1).collect()
    }

    fn items(&self, name: &str) -> Vec<String> {
        let lines = self.lines(name);
        let items = lines.iter().flat_map(|line| line.split(','));
        let items = items.map(|item| item.trim_matches([' ', '\t']).to_ascii_lowercase());
        items.filter(|item| !item.is_empty()).collect()
    }

    fn has(&self, name: &str, item: &str) -> bool {
        self.items(name).iter().any(|found| found == item)
    }
}

/// What a relay knows besides a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings<'a> {
    pub(super) is_open: bool,
    pub(super) public: &'a str,
    /// The origins that are listed, normalised; `None` for all.
    pub(super) origins: Option<&'a [&'a str]>,
}

/// The status that answers a request.
pub(super) fn request(text: &str, settings: Settings<'_>) -> u16 {
    let head = Head::parse(text.trim_start_matches(['\r', '\n']));
    let [method, target, version] = head.first[..] else {
        return 400;
    };
    let hosts = head.lines("host");
    let wanted = usize::from(version == "HTTP/1.1")..=1;
    if !wanted.contains(&hosts.len()) || hosts.iter().any(|it| !it.is_empty() && !is_authority(it))
    {
        return 400;
    }
    let (authority, rest) = match target.split_once("://") {
        Some((_, rest)) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        None => (hosts.first().copied().unwrap_or_default(), target),
    };
    if !authority.is_empty() && !is_authority(authority) {
        return 400;
    }
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    match (path, method) {
        ("/health", "GET" | "HEAD") => 200,
        ("/ws", "GET") => upgrade(&head, version, authority, query, settings),
        ("/ws", "HEAD") => 426,
        ("/ws" | "/health", _) => 405,
        _ => 404,
    }
}

fn upgrade(
    head: &Head<'_>,
    version: &str,
    authority: &str,
    query: &str,
    settings: Settings<'_>,
) -> u16 {
    let asks = head.has("connection", "upgrade") && head.has("upgrade", "websocket");
    if version != "HTTP/1.1" || !asks {
        return 426;
    }
    let versions = head.lines("sec-websocket-version");
    if versions.len() < 2 && versions != ["13"] {
        return 426;
    }
    let lengths = head.lines("content-length");
    let has_body = !(lengths.is_empty() || lengths == ["0"]);
    let keys = head.lines("sec-websocket-key");
    let is_key = |key: &str| key.len() == 24 && key.ends_with("==") && !key.contains(' ');
    let origins = head.lines("origin");
    if versions.len() > 1
        || has_body
        || !head.lines("transfer-encoding").is_empty()
        || !matches!(keys[..], [key] if is_key(key))
        || origins.len() > 1
    {
        return 400;
    }
    if let [origin] = origins[..]
        && !is_allowed(origin, authority, settings)
    {
        return 403;
    }
    let is_named = query.split('&').any(|it| it == "address=pinch:a@b.example");
    if settings.is_open && !is_named {
        400
    } else {
        101
    }
}

/// Whether an origin may connect to a relay that was asked for as `authority`.
fn is_allowed(origin: &str, authority: &str, settings: Settings<'_>) -> bool {
    let Some(listed) = settings.origins else {
        return true;
    };
    let origin = origin.to_ascii_lowercase();
    let Some((scheme, rest)) = origin.split_once("://") else {
        return false;
    };
    if !is_authority(rest) {
        return false;
    }
    let with_port = |authority: &str| {
        let default = match scheme {
            "http" => "80",
            "https" => "443",
            _ => "",
        };
        let (host, port) = host_and_port(authority);
        format!("{host}:{}", if port.is_empty() { default } else { port })
    };
    let authority = authority.to_ascii_lowercase();
    let host = |origin: &str| {
        let authority = origin.split_once("://").map_or("", |split| split.1);
        host_and_port(authority).0.to_owned()
    };
    let is_named = host(&origin) == settings.public
        || listed.iter().any(|listed| host(listed) == host(&origin));
    let whole = format!("{scheme}://{}", with_port(rest));
    listed.contains(&whole.as_str()) || (is_named && with_port(&authority) == with_port(rest))
}

/// What stands before the last colon, and behind it. The hosts here have no colons of their own.
fn host_and_port(authority: &str) -> (&str, &str) {
    authority.rsplit_once(':').unwrap_or((authority, ""))
}

fn is_authority(text: &str) -> bool {
    let (host, port) = host_and_port(text);
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&byte);
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit())
        && (port.is_empty() || port.parse::<u32>().is_ok_and(|port| port < 65_536));
    !host.is_empty() && host.bytes().all(is_host) && is_port
}

/// The status of the response that is final, and whether it is a WebSocket for the client whose key is
/// answered by `accept`.
pub(super) fn response(text: &str, accept: &str) -> Option<(u16, bool)> {
    // A line may end with a line feed alone (RFC 9112 section 2.2).
    let text = text.replace("\r\n", "\n");
    let mut rest = text.trim_start_matches('\n');
    loop {
        let (head, behind) = rest.split_once("\n\n")?;
        let parsed = Head::parse(head);
        let [version, status, ..] = parsed.first[..] else {
            return None;
        };
        let status = status.parse().ok()?;
        if status == 101 || !(100..200).contains(&status) {
            let protocols = parsed.items("upgrade");
            let is_websocket = status == 101
                && version == "HTTP/1.1"
                && parsed.has("connection", "upgrade")
                && !protocols.is_empty()
                && protocols.iter().all(|protocol| protocol == "websocket")
                && parsed.lines("sec-websocket-accept").concat() == accept
                && parsed.items("sec-websocket-extensions").is_empty()
                && parsed.items("sec-websocket-protocol").is_empty();
            return Some((status, is_websocket));
        }
        rest = behind.trim_start_matches('\n');
    }
}
