//! Which addresses a page is fetched from: public ones, unless a user allows more.
//!
//! A report may name any address, and a server may send on to any: neither may lead into the network of whoever reads
//! it. An address is checked where it is connected to: literal ones in the URL and in every redirect, those that a name
//! leads to in the resolver whose answer the connection uses, so that a name can't lead elsewhere a moment later.
//!
//! A proxy looks names up itself; what it may reach is its operator's to say. Literal addresses and `localhost` are
//! refused before it is asked.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::Url;
use reqwest::dns::{Name, Resolve, Resolving};

/// Where a client connects to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reach {
    /// Anywhere.
    #[default]
    Anywhere,
    /// To public addresses, see [`is_public`], and to the proxy of the environment.
    Public,
}

/// Whether an address is one of the public internet: not of this machine, of a private or shared network, of one link, for
/// documentation or benchmarks, multicast or reserved (the registries of RFC 6890), and not one of those in IPv6 clothes
/// (mapped, translated, 6to4).
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let refused: [(u32, u32); 16] = [
        (0x0000_0000, 8),  // this network
        (0x0a00_0000, 8),  // private
        (0x6440_0000, 10), // shared (CGNAT)
        (0x7f00_0000, 8),  // loopback
        (0xa9fe_0000, 16), // link-local
        (0xac10_0000, 12), // private
        (0xc000_0000, 24), // protocol assignments
        (0xc000_0200, 24), // documentation
        (0xc01f_c400, 24), // AS112
        (0xc034_c100, 24), // AMT
        (0xc058_6300, 24), // 6to4 relays
        (0xc0a8_0000, 16), // private
        (0xc612_0000, 15), // benchmarks
        (0xc633_6400, 24), // documentation
        (0xcb00_7100, 24), // documentation
        (0xe000_0000, 3),  // multicast and reserved
    ];
    let bits = address.to_bits();
    !refused.iter().any(|(network, length)| (bits ^ network) >> (32 - length) == 0)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let part = address.segments();
    let v4 = |high: u16, low: u16| is_public_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match part {
        // Mapped, and translated with the well-known prefix.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        // Protocol assignments (Teredo among them), documentation.
        [0x2001, second, ..] if second < 0x200 || second == 0xdb8 => false,
        [0x3fff, second, ..] if second < 0x1000 => false,
        // All that is given out as global unicast.
        [first, ..] => first >> 13 == 1,
    }
}

/// Why an address is not connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    host: String,
    address: Option<IpAddr>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) if address.to_string() != self.host.trim_matches(['[', ']']) => {
                write!(f, "{} is at {address}, which is no public address", self.host)
            }
            _ => write!(f, "{} is no public address", self.host),
        }
    }
}

impl std::error::Error for Refused {}

/// A name that leads nowhere.
#[derive(Debug)]
pub(super) struct Unresolved {
    host: String,
    source: std::io::Error,
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no address is found for the name `{}` ({})", self.host, self.source)
    }
}

impl std::error::Error for Unresolved {}

/// Keeps a client to public addresses.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    /// Host names of the environment's proxies, which may be anywhere.
    proxies: Arc<[String]>,
}

impl Guard {
    pub(super) fn new() -> Guard {
        let names = ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];
        Guard { proxies: names.iter().filter_map(|n| std::env::var(n).ok()).filter_map(|v| host_of_proxy(&v)).collect() }
    }

    /// Whether an address may be asked for, as far as it tells without being looked up.
    pub(super) fn check(&self, url: &Url) -> Result<(), Refused> {
        let host = url.host_str().unwrap_or_default();
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        let local = name == "localhost" || name.ends_with(".localhost") || self.proxies.contains(&name);
        if local || literal.is_some_and(|address| !is_public(address)) {
            return Err(Refused { host: host.to_owned(), address: literal });
        }
        Ok(())
    }
}

fn host_of_proxy(value: &str) -> Option<String> {
    let url = Url::parse(value).ok().filter(Url::has_host).or_else(|| Url::parse(&format!("http://{value}")).ok())?;
    Some(url.host_str()?.trim_end_matches('.').to_ascii_lowercase())
}

/// Looks names up, and leaves of their addresses those that may be connected to.
pub(super) struct Resolver(pub(super) Option<Guard>);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        let bare = host.trim_end_matches('.').to_ascii_lowercase();
        let guarded = self.0.as_ref().is_some_and(|guard| !guard.proxies.contains(&bare));
        Box::pin(async move {
            let found = tokio::net::lookup_host((host.as_str(), 0)).await.map(Iterator::collect::<Vec<SocketAddr>>);
            let found = match found {
                Ok(found) => found,
                Err(source) => return Err(Unresolved { host, source }.into()),
            };
            let kept: Vec<SocketAddr> = found.iter().copied().filter(|a| !guarded || is_public(a.ip())).collect();
            match (kept.is_empty(), found.first()) {
                (true, Some(first)) => Err(Refused { host, address: Some(first.ip()) }.into()),
                (true, None) => Err(Unresolved { host, source: std::io::ErrorKind::NotFound.into() }.into()),
                (false, _) => Ok(Box::new(kept.into_iter()) as reqwest::dns::Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_inside_are_not_public_in_whatever_form() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:0:127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "2002:c0a8:101::",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "fc00::1",
            "fdff::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
            "5f00::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1",
            "2001:4860:4860::8888",
            "2a00::1",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2002:101:101::1",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn what_a_name_leads_to_is_checked_where_it_is_looked_up() {
        let guard = |proxies: &[&str]| Some(Guard { proxies: proxies.iter().map(|p| (*p).to_owned()).collect() });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let look_up = |guard: Option<Guard>| runtime.block_on(Resolver(guard).resolve("localhost".parse().unwrap())).map(Iterator::count);
        let refused = look_up(guard(&[])).unwrap_err();
        assert!(refused.is::<Refused>() && refused.to_string().starts_with("localhost is at "), "{refused}");
        assert!(look_up(guard(&["localhost"])).unwrap() > 0, "a proxy may be anywhere");
        assert!(look_up(None).unwrap() > 0);
    }

    #[test]
    fn an_address_is_read_as_the_client_reads_it() {
        let guard = Guard { proxies: [host_of_proxy("http://user:x@Proxy.example.com:3128").unwrap()].into() };
        for url in [
            "http://localhost/",
            "http://LOCALHOST./",
            "http://a.localhost/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.0.0.1/",
            "http://0177.0.0.1/",
            "http://127.0.0.1./",
            "http://[::1]/",
            "http://[::ffff:7f00:1]/",
            "http://①②⑦.0.0.1/",
            "http://proxy.example.com/",
        ] {
            assert!(guard.check(&url.parse().unwrap()).is_err(), "{url}");
        }
        for url in ["http://example.com/", "https://1.1.1.1/", "http://[2606:4700::1]/"] {
            assert_eq!(guard.check(&url.parse().unwrap()), Ok(()), "{url}");
        }
        assert_eq!(host_of_proxy("proxy.internal:8080").as_deref(), Some("proxy.internal"));
        assert_eq!(host_of_proxy("socks5://10.0.0.1:1080").as_deref(), Some("10.0.0.1"));
    }
}
