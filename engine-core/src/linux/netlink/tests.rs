//! Conversations with the kernel in network namespaces that the tests make, and with a kernel that the tests play.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};

use engine_testkit::require;
use netlink_packet_core::{
    Emitable as _, NLM_F_ACK_TLVS, NLM_F_DUMP_INTR, NLM_F_MULTIPART, NLMSG_DONE, NLMSG_ERROR, NetlinkHeader,
};
use nix::sched::{CloneFlags, unshare};
use rustix::net::{AddressFamily as Family, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::packet::address::{AddressAttribute, AddressMessage};
use super::packet::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage};
use super::packet::{AddressFamily, RouteNetlinkMessage};
use super::{BatchFailure, Route, Socket, flag, in_namespace, link_name};
use crate::error::ErrorKind;

pub(in crate::linux) const NEW: u16 = flag::CREATE | flag::EXCL;

/// Runs `work` in a network namespace of its own.
pub(in crate::linux) fn alone<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|threads| {
        let thread = threads.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("make a network namespace");
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn named(name: &str) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    link
}

pub(in crate::linux) fn veth(name: &str, peer: &str) -> RouteNetlinkMessage {
    let mut link = named(name);
    let data = LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(named(peer))));
    link.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth), data]));
    RouteNetlinkMessage::NewLink(link)
}

fn address(index: u32, address: [u8; 4], prefix: u8) -> RouteNetlinkMessage {
    let mut message = AddressMessage::default();
    (message.header.index, message.header.prefix_len) = (index, prefix);
    message.header.family = AddressFamily::Inet;
    message.attributes =
        vec![AddressAttribute::Local(address.into()), AddressAttribute::Address(address.into())];
    RouteNetlinkMessage::NewAddress(message)
}

pub(in crate::linux) fn names(route: &mut Route) -> Vec<String> {
    let links = route.links().unwrap();
    let mut names: Vec<String> = links.iter().map(|link| link_name(link).unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn what_is_made_is_found_and_what_is_removed_is_not() {
    require!(root, network_namespaces);
    alone(|| {
        let mut route = Route::open().unwrap();
        route.request(&veth("one", "two"), NEW).unwrap();
        let (one, two) = (route.link("one").unwrap(), route.link("two").unwrap());
        assert_ne!(one.header.index, two.header.index);
        assert_eq!(names(&mut route), ["lo", "one", "two"]);
        let mut gone = LinkMessage::default();
        gone.header.index = one.header.index;
        route.request(&RouteNetlinkMessage::DelLink(gone), flag::NONE).unwrap();
        assert_eq!(names(&mut route), ["lo"], "one end of a pair takes the other with it");
    });
}

#[test]
fn what_the_kernel_refuses_has_its_kind_its_subject_and_its_words() {
    require!(root, network_namespaces);
    alone(|| {
        let mut route = Route::open().unwrap();
        let error = route.link("none").unwrap_err();
        assert_eq!((error.kind(), error.subject()), (ErrorKind::NotFound, Some(("interface", "none"))));
        assert_eq!(
            error.report(),
            "find interface \"none\": there is no such interface: No such device (os error 19)"
        );
        route.request(&veth("one", "two"), NEW).unwrap();
        assert_eq!(route.request(&veth("one", "x"), NEW).unwrap_err().kind(), ErrorKind::AlreadyExists);
        let mut strange = named("x");
        let kind = LinkInfo::Kind(InfoKind::Other("no-such-kind".to_owned()));
        strange.attributes.push(LinkAttribute::LinkInfo(vec![kind]));
        let error = route.request(&RouteNetlinkMessage::NewLink(strange), NEW).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("the kernel refuses: Unknown device type"), "{error:?}");
        let error = route.request(&address(4711, [10, 0, 0, 1], 24), NEW).unwrap_err();
        assert_eq!((error.kind(), error.subject()), (ErrorKind::NotFound, Some(("address", "10.0.0.1/24"))));
        // The conversation goes on after each of them.
        assert_eq!(names(&mut route), ["lo", "one", "two"]);
    });
}

#[test]
fn a_batch_tells_the_first_that_failed_and_goes_on() {
    require!(root, network_namespaces);
    alone(|| {
        let mut route = Route::open().unwrap();
        let wrong = (address(4711, [10, 0, 0, 1], 24), NEW);
        let batch = [(veth("a", "b"), NEW), wrong.clone(), (veth("c", "d"), NEW), wrong];
        let BatchFailure { index, done, error } = route.batch(&batch).unwrap_err();
        assert_eq!((index, done, error.kind()), (1, 2, ErrorKind::NotFound), "{error:?}");
        assert_eq!(names(&mut route), ["a", "b", "c", "d", "lo"]);
        route.batch(&[(veth("e", "f"), NEW), (veth("g", "h"), NEW)]).unwrap();
        route.batch(&[]).unwrap();
        assert_eq!(names(&mut route).len(), 9);
        let many = vec![(veth("i", "j"), NEW); 257];
        assert_eq!(route.batch(&many).unwrap_err().error.kind(), ErrorKind::InvalidArgument);
        assert_eq!(names(&mut route).len(), 9);
    });
}

#[test]
fn a_list_of_many_parts_is_whole() {
    require!(root, network_namespaces);
    alone(|| {
        let mut route = Route::open().unwrap();
        let pairs: Vec<_> =
            (0..100).map(|number| (veth(&format!("a{number}"), &format!("b{number}")), NEW)).collect();
        route.batch(&pairs).unwrap();
        let names = names(&mut route);
        assert_eq!(names.len(), 201, "{names:?}");
    });
}

#[test]
fn a_list_is_filtered_and_an_unknown_filter_is_refused() {
    require!(root, network_namespaces);
    alone(|| {
        let mut route = Route::open().unwrap();
        route.request(&veth("one", "two"), NEW).unwrap();
        let (one, two) = (route.link("one").unwrap().header.index, route.link("two").unwrap().header.index);
        route
            .batch(&[(address(one, [10, 0, 0, 1], 24), NEW), (address(two, [10, 0, 1, 1], 24), NEW)])
            .unwrap();
        let found = route.addresses(two).unwrap();
        assert!(found.iter().all(|address| address.header.index == two), "{found:?}");
        let there = |octets: [u8; 4]| {
            let wanted = AddressAttribute::Local(octets.into());
            found.iter().any(|address| address.attributes.contains(&wanted))
        };
        assert!(there([10, 0, 1, 1]) && !there([10, 0, 0, 1]), "{found:?}");
        assert_eq!(route.addresses(4711).unwrap_err().kind(), ErrorKind::NotFound);
        let mut strange = AddressMessage::default();
        strange.header.prefix_len = 24;
        let error = route.dump(&RouteNetlinkMessage::GetAddress(strange)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:?}");
        assert_eq!(names(&mut route), ["lo", "one", "two"]);
    });
}

#[test]
fn another_namespace_is_spoken_with_from_outside() {
    require!(root, network_namespaces);
    let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    let namespace = alone(|| {
        Route::open().unwrap().request(&veth("onlyinside", "other"), NEW).unwrap();
        File::open("/proc/thread-self/ns/net").unwrap()
    });
    let mut inside = Route::open_in(namespace.as_fd()).unwrap();
    inside.link("onlyinside").unwrap();
    assert_eq!(Route::open().unwrap().link("onlyinside").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(std::fs::read_link("/proc/thread-self/ns/net").unwrap(), own);
    let no_namespace = File::open("/dev/null").unwrap();
    let error = Route::open_in(no_namespace.as_fd()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:?}");
    // What the work answers comes back, and a panic does too.
    assert_eq!(in_namespace(namespace.as_fd(), || Ok(7)).unwrap(), 7);
    let panicked = std::panic::catch_unwind(|| in_namespace::<()>(namespace.as_fd(), || panic!("inside")));
    assert!(panicked.is_err());
}

/// A conversation whose other end is the test.
fn staged() -> (Route, OwnedFd) {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) = rustix::net::socketpair(Family::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    (Route::over(Socket::over(ours)), theirs)
}

/// Waits for a request and returns its number.
fn number(kernel: &OwnedFd) -> u32 {
    let mut bytes = [0; 4096];
    let (_, length) = rustix::net::recv(kernel, &mut bytes[..], RecvFlags::empty()).unwrap();
    assert!(length >= 16);
    u32::from_ne_bytes(bytes[8..12].try_into().unwrap())
}

fn part(number: u32, kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    (header.sequence_number, header.message_type, header.flags) = (number, kind, flags);
    header.length = u32::try_from(16 + payload.len()).unwrap();
    let mut bytes = vec![0; 16];
    header.emit(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn link(number: u32, flags: u16, name: &str) -> Vec<u8> {
    let message = RouteNetlinkMessage::NewLink(named(name));
    let mut payload = vec![0; message.buffer_len()];
    message.emit(&mut payload);
    part(
        number,
        netlink_packet_core::NetlinkSerializable::message_type(&message),
        flags | NLM_F_MULTIPART,
        &payload,
    )
}

fn say(kernel: &OwnedFd, parts: &[Vec<u8>]) {
    rustix::net::send(kernel, &parts.concat(), SendFlags::empty()).unwrap();
}

#[test]
fn a_list_that_changes_while_it_is_read_is_read_again() {
    let (mut route, kernel) = staged();
    let kernel = std::thread::spawn(move || {
        let first = number(&kernel);
        say(&kernel, &[link(first, 0, "old"), link(first, NLM_F_DUMP_INTR, "torn")]);
        say(&kernel, &[part(first, NLMSG_DONE, NLM_F_MULTIPART, &0_i32.to_ne_bytes())]);
        let second = number(&kernel);
        // Another number, as what is left of a call before.
        say(&kernel, &[link(first, 0, "late"), link(second, 0, "new")]);
        say(&kernel, &[part(second, NLMSG_DONE, NLM_F_MULTIPART, &[])]);
        // From now on it never stays the same.
        for _ in 0..super::route::DUMP_TRIES {
            let next = number(&kernel);
            say(&kernel, &[part(next, NLMSG_DONE, NLM_F_DUMP_INTR, &0_i32.to_ne_bytes())]);
        }
        kernel
    });
    assert_eq!(names(&mut route), ["new"]);
    assert_eq!(route.links().unwrap_err().kind(), ErrorKind::Unavailable);
    drop(kernel.join().unwrap());
}

#[test]
fn a_list_that_ends_with_a_refusal_is_none() {
    let (mut route, kernel) = staged();
    let kernel = std::thread::spawn(move || {
        let number = number(&kernel);
        let text = b"because\0";
        let mut end = (-95_i32).to_ne_bytes().to_vec();
        end.extend_from_slice(&12_u16.to_ne_bytes());
        end.extend_from_slice(&1_u16.to_ne_bytes());
        end.extend_from_slice(text);
        let flags = NLM_F_MULTIPART | NLM_F_ACK_TLVS;
        say(&kernel, &[link(number, 0, "one"), part(number, NLMSG_DONE, flags, &end)]);
        kernel
    });
    let error = route.links().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().ends_with("the kernel refuses: because"), "{error}");
    drop(kernel.join().unwrap());
}

#[test]
fn answers_that_are_cut_short_or_empty_are_errors() {
    for (answer, kind) in [
        // A header that tells of more than there is; an acknowledgement without a number; nothing but a yes.
        (link(1, 0, "one")[..20].to_vec(), ErrorKind::Corrupt),
        (part(1, NLMSG_ERROR, 0, &[]), ErrorKind::Other),
        (part(1, NLMSG_ERROR, 0, &[0; 20]), ErrorKind::Corrupt),
    ] {
        let (mut route, kernel) = staged();
        let kernel = std::thread::spawn(move || {
            assert_eq!(number(&kernel), 1);
            say(&kernel, &[answer]);
            kernel
        });
        assert_eq!(route.link("one").unwrap_err().kind(), kind);
        drop(kernel.join().unwrap());
    }
}
