//! What becomes of a question: an answer from the zones, a refusal, or a question to somebody else.
//!
//! Pure: zones are looked up by a function. engine-core compiles this file too (by `#[path]`), for its tests.
//! Invariant: a name that a zone has is never asked for elsewhere, and neither is any where nothing is to be forwarded
//! (SECURITY E11).

use core::net::IpAddr;

use super::config::Config;
use super::message::{self, A, AAAA, Answer, MAX_NAME, Malformed, PTR, Question, rcode};

/// Where zone files are.
pub trait Zones {
    /// Calls `each` with the values of `key` in the zone file at `path`.
    fn find(&mut self, path: &[u8], key: &[u8], each: &mut dyn FnMut(&[u8]));
}

/// What is to be done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Nothing.
    Ignore,
    /// The answer has so many bytes.
    Answer(usize),
    /// Others are to be asked.
    Forward,
}

/// How a question came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// Decides on `query`; an answer goes to `out`, which has room for any that is not cut.
pub fn answer(
    query: &[u8],
    transport: Transport,
    config: Config<'_>,
    zones: &mut dyn Zones,
    random: u32,
    out: &mut [u8],
) -> Verdict {
    let question = match Question::parse(query) {
        Ok(question) => question,
        Err(Malformed::Ignored) => return Verdict::Ignore,
        Err(Malformed::Refused(code)) => return Verdict::Answer(message::refuse(query, code, out)),
    };
    let limit = match transport {
        Transport::Udp => question.udp_limit(),
        Transport::Tcp => usize::from(u16::MAX),
    };
    let cut = transport == Transport::Udp;
    let Some(mut answer) = Answer::new(&question, rcode::NO_ERROR, out) else { return Verdict::Ignore };
    let mut text = [0; MAX_NAME + 2];
    let name = if question.class == message::IN { question.name(&mut text) } else { None };
    if name.is_some_and(|name| from_zones(&question, name, config, zones, &mut answer)) {
        answer.turn(random);
        return Verdict::Answer(answer.finish(limit, cut));
    }
    match elsewhere(&question, config) {
        None => Verdict::Forward,
        Some(code) => Verdict::Answer(fail(query, code, out)),
    }
}

/// Writes an answer that says why there is none.
pub fn fail(query: &[u8], code: u8, out: &mut [u8]) -> usize {
    match Question::parse(query) {
        Ok(question) => {
            Answer::new(&question, code, out).map_or(0, |answer| answer.finish(message::PLAIN_LIMIT, false))
        }
        Err(_) => message::refuse(query, code, out),
    }
}

/// Why nobody else is asked, if so.
fn elsewhere(question: &Question<'_>, config: Config<'_>) -> Option<u8> {
    if matches!(question.kind, message::AXFR | message::IXFR) {
        // More than one message would answer that.
        return Some(rcode::REFUSED);
    }
    // What has one label is most likely a container that is not there (any more). What is asked of a top-level domain
    // itself has one label, too.
    let of_domain = matches!(question.kind, message::NS | message::SOA | message::DS | message::DNSKEY);
    if question.labels == 1 && !of_domain && !config.forwards_single_labels() {
        return Some(rcode::NO_SUCH_NAME);
    }
    // As Docker: it is not known whether there is such a name.
    (!config.forwards() || config.upstreams().next().is_none()).then_some(rcode::SERVER_FAILURE)
}

/// Adds what the zones have. Returns whether one of them has the name.
fn from_zones(
    question: &Question<'_>,
    name: &[u8],
    config: Config<'_>,
    zones: &mut dyn Zones,
    answer: &mut Answer<'_>,
) -> bool {
    let mut known = false;
    for (network, path) in config.zones() {
        // What this container alone knows comes first, as in Docker; addresses have no such names.
        let aliases = config.targets(network, name).filter(|_| question.kind != PTR);
        for key in aliases.chain([Some(name), within(name, network)].into_iter().flatten()) {
            zones.find(path, key, &mut |value| known |= add(question.kind, value, network, answer));
            if answer.count() > 0 {
                return true;
            }
        }
    }
    known
}

/// The part of `NAME.NETWORK` before the network.
fn within<'a>(name: &'a [u8], network: &[u8]) -> Option<&'a [u8]> {
    let (host, tail) = name.split_at_checked(name.len().checked_sub(network.len() + 1)?)?;
    let (dot, tail) = tail.split_first()?;
    (*dot == b'.' && !host.is_empty() && tail.eq_ignore_ascii_case(network)).then_some(host)
}

/// Adds a value of a line, if it is what is asked for. Returns whether it is one at all.
fn add(kind: u16, value: &[u8], network: &[u8], answer: &mut Answer<'_>) -> bool {
    let address = core::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    match (kind, address) {
        (A | message::ANY, Some(IpAddr::V4(address))) => answer.push(A, &address.octets()),
        (AAAA, Some(IpAddr::V6(address))) => answer.push(AAAA, &address.octets()),
        // Names have lengths of their own, and an address has one.
        (PTR, None) if answer.count() == 0 => answer.push_name(PTR, [value, network]),
        _ => {}
    }
    !value.is_empty()
}
