use std::collections::BTreeMap;
use std::net::IpAddr;

use proptest::prelude::*;

use super::answer::{Transport, Verdict, Zones, answer};
use super::config::Config;
use super::message::{self, A, AAAA, Answer, MAX_NAME, Malformed, PTR, Question, rcode};
use super::zone;
use crate::network::names::{ResolverAlias, ResolverConfig, ResolverZone, Zone};

const MX: u16 = 15;

/// A question for `name`, with room for so long an answer.
fn query(name: &str, kind: u16, edns: Option<u16>) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&[0, 1]);
    if let Some(size) = edns {
        bytes.extend_from_slice(&[0, 0, 41]);
        bytes.extend_from_slice(&size.to_be_bytes());
        bytes.extend_from_slice(&[0; 6]);
    }
    bytes
}

/// Zone files in memory.
#[derive(Default)]
struct Files(BTreeMap<String, String>);

/// The values of `key` in a file with `text`, and how many bytes were read for them.
fn found(text: &str, key: &str) -> (Vec<String>, usize) {
    let (mut values, mut bytes) = (Vec::new(), 0);
    let mut read_at = |at: u64, to: &mut [u8]| {
        let rest = text.as_bytes().get(usize::try_from(at).unwrap()..).unwrap_or(&[]);
        let count = rest.len().min(to.len());
        to[..count].copy_from_slice(&rest[..count]);
        bytes += count;
        count
    };
    zone::find(&mut read_at, text.len() as u64, key.as_bytes(), &mut |value| {
        values.push(String::from_utf8_lossy(value).into_owned());
    });
    (values, bytes)
}

impl Zones for Files {
    fn find(&mut self, path: &[u8], key: &[u8], each: &mut dyn FnMut(&[u8])) {
        if let Some(text) = self.0.get(std::str::from_utf8(path).unwrap()) {
            let (values, _) = found(text, std::str::from_utf8(key).unwrap());
            values.iter().for_each(|value| each(value.as_bytes()));
        }
    }
}

/// A resolver in memory.
struct Resolver {
    files: Files,
    config: ResolverConfig,
}

/// What an answer says: its code, whether it is cut, and its records.
#[derive(Debug, Eq, PartialEq)]
struct Said {
    code: u8,
    cut: bool,
    records: Vec<String>,
}

fn said(query: &[u8], answer: &[u8]) -> Said {
    assert!(message::is_answer(answer, query));
    let number = |at: usize| usize::from(u16::from_be_bytes([answer[at], answer[at + 1]]));
    let mut at = Question::parse(query).map(|question| question.head_length()).unwrap();
    let mut records = Vec::new();
    for _ in 0..number(6) {
        assert_eq!(answer[at..at + 2], [0xc0, 12], "the question's name");
        let (kind, ttl, length) = (number(at + 2), number(at + 8), number(at + 10));
        assert_eq!(ttl, 600);
        let data = &answer[at + 12..at + 12 + length];
        records.push(match kind {
            1 => IpAddr::from(<[u8; 4]>::try_from(data).unwrap()).to_string(),
            28 => IpAddr::from(<[u8; 16]>::try_from(data).unwrap()).to_string(),
            12 => {
                let mut labels = Vec::new();
                let mut rest = data;
                while rest[0] > 0 {
                    let (label, tail) = rest[1..].split_at(rest[0].into());
                    labels.push(String::from_utf8(label.to_vec()).unwrap());
                    rest = tail;
                }
                labels.join(".")
            }
            other => panic!("a record of kind {other}"),
        });
        at += 12 + length;
    }
    if number(10) == 1 {
        assert_eq!(answer[at..at + 3], [0, 0, 41]);
        at += 11;
    }
    assert_eq!(at, answer.len(), "nothing is left");
    Said { code: message::code(answer), cut: answer[2] & 2 != 0, records }
}

impl Resolver {
    fn new(zones: &[(&str, &Zone)]) -> Self {
        let path = |name: &str| format!("/zones/{name}");
        let mut config = ResolverConfig { forward: true, ..ResolverConfig::default() };
        config.upstreams = vec!["192.0.2.1:53".parse().unwrap()];
        config.zones = zones
            .iter()
            .map(|(name, _)| ResolverZone { network: name.parse().unwrap(), path: path(name).into() })
            .collect();
        let files = Files(zones.iter().map(|(name, zone)| (path(name), zone.to_string())).collect());
        Self { files, config }
    }

    fn decide(&mut self, query: &[u8], transport: Transport, random: u32) -> (Verdict, Vec<u8>) {
        let config = self.config.encode().unwrap();
        let mut out = vec![0; 65_536];
        let verdict = answer(query, transport, Config(config.as_bytes()), &mut self.files, random, &mut out);
        (verdict, out)
    }

    /// The answer; `None` if others are asked.
    fn ask(&mut self, query: &[u8], transport: Transport, random: u32) -> Option<Said> {
        match self.decide(query, transport, random) {
            (Verdict::Forward, _) => None,
            (Verdict::Answer(length), out) => Some(said(query, &out[..length])),
            (Verdict::Ignore, _) => panic!("ignored"),
        }
    }

    fn records(&mut self, name: &str, kind: u16) -> Vec<String> {
        let said = self.ask(&query(name, kind, None), Transport::Udp, 0).expect("an answer of our own");
        assert_eq!((said.code, said.cut), (rcode::NO_ERROR, false));
        said.records
    }
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn net() -> Zone {
    let mut zone = Zone::new();
    zone.add_host("Web", ips(&["172.18.0.2", "fd00::2"]));
    zone.add_alias("0123456789ab", ips(&["172.18.0.2", "fd00::2"]));
    zone.add_host("db.one", ips(&["172.18.0.3"]));
    for last in 3..7 {
        zone.add_alias("db", ips(&[&format!("172.18.0.{last}")]));
    }
    zone
}

#[test]
fn names_and_addresses_are_found() {
    let mut resolver = Resolver::new(&[("net", &net())]);
    for name in ["web", "WEB", "web.", "0123456789ab", "web.net", "Web.NET"] {
        assert_eq!(resolver.records(name, A), ["172.18.0.2"], "{name}");
        assert_eq!(resolver.records(name, AAAA), ["fd00::2"], "{name}");
    }
    for name in ["db.one", "db.one.net"] {
        assert_eq!(resolver.records(name, A), ["172.18.0.3"], "{name}");
    }
    assert_eq!(resolver.records("2.0.18.172.in-addr.arpa", PTR), ["Web.net"]);
    assert_eq!(resolver.records("3.0.18.172.in-addr.arpa", PTR), ["db.one.net"]);
    let reverse = format!("2.{}0.0.d.f.ip6.arpa", "0.".repeat(27));
    assert_eq!(resolver.records(&reverse, PTR), ["Web.net"]);
    // There is such a name, and nothing of that kind: nobody else is asked for one.
    for (name, kind) in [("db.one", AAAA), ("web", MX), ("web", 65), ("2.0.18.172.in-addr.arpa", A)] {
        assert_eq!(resolver.records(name, kind), Vec::<String>::new(), "{name} {kind}");
    }
}

#[test]
fn zones_are_searched_in_their_order() {
    let (mut front, mut back) = (Zone::new(), Zone::new());
    front.add_host("web", ips(&["10.0.0.1"]));
    back.add_host("web", ips(&["10.0.1.1", "fd00::1"]));
    back.add_host("db", ips(&["10.0.1.2"]));
    let mut resolver = Resolver::new(&[("front", &front), ("gone", &Zone::new()), ("back.office", &back)]);
    resolver.files.0.remove("/zones/gone");
    assert_eq!(resolver.records("web", A), ["10.0.0.1"]);
    assert_eq!(resolver.records("web", AAAA), ["fd00::1"]);
    assert_eq!(resolver.records("web.back.office", A), ["10.0.1.1"]);
    assert_eq!(resolver.records("db", A), ["10.0.1.2"]);
    assert_eq!(resolver.records("2.1.0.10.in-addr.arpa", PTR), ["db.back.office"]);
    resolver.config.zones.remove(0);
    assert_eq!(resolver.records("web", A), ["10.0.1.1"]);
}

#[test]
fn aliases_stand_for_names_of_their_network() {
    let (mut front, mut back) = (Zone::new(), Zone::new());
    front.add_host("web", ips(&["10.0.0.1"]));
    back.add_host("db", ips(&["10.0.1.2", "fd00::2"]));
    back.add_host("other", ips(&["10.0.1.3"]));
    let mut resolver = Resolver::new(&[("front", &front), ("back", &back)]);
    let alias = |network: &str, alias: &str, target: &str| {
        ResolverAlias::new(network.parse().unwrap(), alias, target)
    };
    resolver.config.aliases = vec![
        alias("back", "Data", "DB"),
        alias("back", "data", "other"),
        alias("front", "elsewhere", "db"),
        alias("back", "other", "db"),
        alias("back", "gone", "nobody"),
    ];
    // The first that leads to something, as in Docker one link has a name.
    assert_eq!(resolver.records("data", A), ["10.0.1.2"]);
    assert_eq!(resolver.records("DATA", AAAA), ["fd00::2"]);
    // Before a container of this name, on that network alone, and never by address.
    assert_eq!(resolver.records("other", A), ["10.0.1.2"]);
    assert_eq!(resolver.records("other.back", A), ["10.0.1.3"]);
    assert_eq!(resolver.records("2.1.0.10.in-addr.arpa", PTR), ["db.back"]);
    for name in ["elsewhere", "gone", "dat", "datas"] {
        let said = resolver.ask(&query(name, A, None), Transport::Udp, 0).unwrap();
        assert_eq!(said.code, rcode::NO_SUCH_NAME, "{name}");
    }
}

#[test]
fn several_addresses_take_turns() {
    let mut resolver = Resolver::new(&[("net", &net())]);
    let mut firsts: Vec<String> = (0..8)
        .map(|random| {
            let said = resolver.ask(&query("db", A, None), Transport::Udp, random).unwrap();
            let mut sorted = said.records.clone();
            sorted.sort();
            assert_eq!(sorted, ["172.18.0.3", "172.18.0.4", "172.18.0.5", "172.18.0.6"]);
            said.records[0].clone()
        })
        .collect();
    firsts.sort();
    firsts.dedup();
    assert_eq!(firsts.len(), 4);
}

#[test]
fn e11_only_what_may_be_is_asked_elsewhere() {
    let mut resolver = Resolver::new(&[("net", &net())]);
    let mut code = |name: &str, kind, change: fn(&mut ResolverConfig)| {
        let before = resolver.config.clone();
        change(&mut resolver.config);
        let said = resolver.ask(&query(name, kind, None), Transport::Udp, 0);
        resolver.config = before;
        said.map(|said| said.code)
    };
    let plain = |_: &mut ResolverConfig| ();
    for (name, kind) in [
        ("example.com", A),
        ("x.net", A),
        ("9.0.18.172.in-addr.arpa", PTR),
        ("com", message::NS),
        ("", message::NS),
    ] {
        assert_eq!(code(name, kind, plain), None, "{name}");
        assert_eq!(code(name, kind, |config| config.forward = false), Some(rcode::SERVER_FAILURE));
        assert_eq!(code(name, kind, |config| config.upstreams.clear()), Some(rcode::SERVER_FAILURE));
    }
    for kind in [A, AAAA, MX, 65] {
        assert_eq!(code("gone", kind, plain), Some(rcode::NO_SUCH_NAME));
        assert_eq!(code("gone", kind, |config| config.forward = false), Some(rcode::NO_SUCH_NAME));
        assert_eq!(code("gone", kind, |config| config.forward_single_labels = true), None);
    }
    assert_eq!(code("example.com", message::AXFR, plain), Some(rcode::REFUSED));
}

#[test]
fn long_answers_are_cut_where_they_must_be() {
    let mut zone = Zone::new();
    for number in 0..1000_u16 {
        zone.add_alias("all", ips(&[&format!("10.0.{}.{}", number / 250, number % 250)]));
    }
    let mut resolver = Resolver::new(&[("net", &zone)]);
    let mut count = |edns, transport| {
        let query = query("all", A, edns);
        let (verdict, out) = resolver.decide(&query, transport, 7);
        let Verdict::Answer(length) = verdict else { panic!("{verdict:?}") };
        let said = said(&query, &out[..length]);
        (said.records.len(), said.cut, length)
    };
    assert_eq!(count(None, Transport::Tcp), (1000, false, 12 + 9 + 16 * 1000));
    // 512 bytes less header and question are room for 30 records of 16 bytes.
    assert_eq!(count(None, Transport::Udp), (30, true, 501));
    assert_eq!(count(Some(100), Transport::Udp), (30, true, 512));
    assert_eq!(count(Some(1232), Transport::Udp), (75, true, 1232));
    assert_eq!(count(Some(65_535), Transport::Udp), (254, true, 4096));
}

#[test]
fn what_is_no_question_is_refused() {
    let good = query("web", A, Some(1232));
    let parsed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        Question::parse(&bytes).map(|_| ())
    };
    let format = Err(Malformed::Refused(rcode::FORMAT_ERROR));
    assert_eq!(parsed(&|_| ()), Ok(()));
    assert_eq!(parsed(&|bytes| bytes.truncate(11)), Err(Malformed::Ignored));
    assert_eq!(parsed(&|bytes| bytes[2] |= 0x80), Err(Malformed::Ignored));
    assert_eq!(parsed(&|bytes| bytes[2] |= 0x28), Err(Malformed::Refused(rcode::NOT_IMPLEMENTED)));
    assert_eq!(parsed(&|bytes| bytes[5] = 2), format);
    assert_eq!(parsed(&|bytes| bytes[5] = 0), format);
    assert_eq!(parsed(&|bytes| bytes[12] = 64), format);
    // A name that points to itself, or to a zero.
    assert_eq!(parsed(&|bytes| bytes[12..14].copy_from_slice(&[0xc0, 12])), format);
    assert_eq!(parsed(&|bytes| bytes[12..14].copy_from_slice(&[0xc0, 0])), format);
    for length in 12..good.len() {
        assert_eq!(parsed(&|bytes| bytes.truncate(length)), format, "{length} bytes");
    }
    let mut out = [0; 64];
    let length = message::refuse(&good, rcode::FORMAT_ERROR, &mut out);
    assert_eq!(out[..length], [0x12, 0x34, 0x81, 0x81, 0, 0, 0, 0, 0, 0, 0, 0]);
    // A dot within a label is none between two.
    let mut dotted = query("webxnet", A, None);
    dotted[16] = b'.';
    assert_eq!(Question::parse(&dotted).unwrap().name(&mut [0; MAX_NAME + 2]), None);
}

#[test]
fn answers_of_others_are_told_apart() {
    let asked = query("web", A, None);
    let mut good = asked.clone();
    good[2] |= 0x80;
    assert!(message::is_answer(&good, &asked));
    for at in [0, 1, 2, 13, 17, 18, 20] {
        let mut bad = good.clone();
        bad[at] ^= if at == 2 { 0x80 } else { 1 };
        assert!(!message::is_answer(&bad, &asked), "byte {at}");
    }
    good[13] = b'W';
    assert!(message::is_answer(&good, &asked), "case is no matter");
    assert!(!message::is_answer(&good[..good.len() - 1], &asked));
}

#[test]
fn long_zones_are_read_in_part() {
    let mut zone = Zone::new();
    for number in 0..5000_u32 {
        let address = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
        zone.add_host(&format!("{}-{number}", "x".repeat(number as usize % 200 + 1)), [address]);
    }
    let text = zone.to_string();
    for line in text.lines().step_by(7) {
        let (key, value) = line.split_once(' ').unwrap();
        let (values, bytes) = found(&text, key);
        assert_eq!(values, [value]);
        assert!(bytes < 20_000, "{bytes} of {} bytes for {key}", text.len());
    }
    for key in ["", "a", "x-", "zz", "255.255.255.255.in-addr.arpa"] {
        assert_eq!(found(&text, key).0, Vec::<String>::new());
    }
}

proptest! {
    #[test]
    fn any_bytes_are_answered_or_ignored(bytes in prop::collection::vec(any::<u8>(), 0..600), random: u32) {
        let mut resolver = Resolver::new(&[("net", &net())]);
        for transport in [Transport::Udp, Transport::Tcp] {
            let (verdict, out) = resolver.decide(&bytes, transport, random);
            if let Verdict::Answer(length) = verdict {
                prop_assert!(length >= message::HEADER);
                prop_assert_eq!(&out[..2], &bytes[..2]);
                prop_assert!(out[2] & 0x80 != 0);
            }
        }
        message::is_answer(&bytes, &bytes);
    }

    #[test]
    fn damaged_questions_are_answered_or_ignored(
        name in "[a-z0-9.]{0,40}", kind in 0..70_u16, at in 0..60_usize, byte: u8, random: u32,
    ) {
        let mut resolver = Resolver::new(&[("net", &net())]);
        let mut bytes = query(&name, kind, Some(512));
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        let (verdict, out) = resolver.decide(&bytes, Transport::Udp, random);
        if let (Verdict::Answer(length), Ok(_)) = (verdict, Question::parse(&bytes)) {
            said(&bytes, &out[..length]);
        }
    }

    #[test]
    fn any_file_is_searched_to_an_end(text in "[a-c \n]{0,5000}", key in "[a-c]{0,3}") {
        let (_, bytes) = found(&text, &key);
        prop_assert!(bytes <= 2 * text.len() + 40_000);
    }

    #[test]
    fn every_line_is_found(names in prop::collection::btree_set("[a-f]{1,6}", 0..400)) {
        let mut zone = Zone::new();
        for name in &names {
            zone.add_alias(name, ips(&["10.0.0.1", "fd00::1"]));
        }
        let text = zone.to_string();
        for name in &names {
            prop_assert_eq!(found(&text, name).0, ["10.0.0.1", "fd00::1"]);
        }
        prop_assert_eq!(found(&text, "g").0, Vec::<String>::new());
    }

    #[test]
    fn records_never_leave_the_room_that_there_is(room in 0..200_usize, data in prop::collection::vec(any::<u8>(), 0..80)) {
        let asked = query("web", A, Some(512));
        let question = Question::parse(&asked).unwrap();
        let mut out = vec![0; room];
        if let Some(mut answer) = Answer::new(&question, 0, &mut out) {
            answer.push(A, &data);
            answer.push(A, &data);
            answer.push_name(PTR, [&data, b"net"]);
            answer.turn(3);
            prop_assert!(answer.finish(512, true) <= room);
        }
    }
}
