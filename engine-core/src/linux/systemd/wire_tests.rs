//! What goes out, byte by byte, and what may come in.

use proptest::prelude::*;

use super::*;

/// A message of systemd 252's, as it came over its private socket: the answer to `StartTransientUnit`.
fn reply(serial: u32, texts: &[&str]) -> Vec<u8> {
    let mut body = Writer::default();
    for text in texts {
        body.text(text);
    }
    message(METHOD_RETURN, &[(5, serial)], &[(8, "g", &"s".repeat(texts.len()))], &body)
}

/// A message as a server would send it: fields with numbers, and with texts.
pub(in crate::linux::systemd) fn message(
    kind: u8,
    numbers: &[(u8, u32)],
    texts: &[(u8, &str, &str)],
    body: &Writer,
) -> Vec<u8> {
    let mut made = Writer::default();
    made.byte(b'l').byte(kind).byte(0).byte(1).number(body.bytes.len() as u32).number(7);
    made.array(8, |array| {
        for (code, number) in numbers {
            array.align(8);
            array.byte(*code).signature("u").number(*number);
        }
        for (code, kind, text) in texts {
            array.align(8);
            array.byte(*code).signature(kind);
            if *kind == "g" {
                array.signature(text)
            } else {
                array.text(text)
            };
        }
    });
    made.align(8);
    made.bytes.extend_from_slice(&body.bytes);
    made.bytes
}

#[test]
fn a_call_is_written_as_the_specification_has_it() {
    let mut body = Writer::default();
    body.text("a").boolean(true);
    let call = Call { destination: "d", path: "/p", interface: "i", member: "m", signature: "sb", body };
    let expected: &[u8] = b"l\x01\x00\x01\x0c\x00\x00\x00\x05\x00\x00\x00\x48\x00\x00\x00\
        \x01\x01o\x00\x02\x00\x00\x00/p\x00\x00\x00\x00\x00\x00\
        \x02\x01s\x00\x01\x00\x00\x00i\x00\x00\x00\x00\x00\x00\x00\
        \x03\x01s\x00\x01\x00\x00\x00m\x00\x00\x00\x00\x00\x00\x00\
        \x06\x01s\x00\x01\x00\x00\x00d\x00\x00\x00\x00\x00\x00\x00\
        \x08\x01g\x00\x02sb\x00\
        \x01\x00\x00\x00a\x00\x00\x00\x01\x00\x00\x00";
    let bytes = call.encode(5);
    assert_eq!(Message::length(bytes.first_chunk().unwrap()), Ok(bytes.len()));
    assert_eq!(bytes, expected, "{}", String::from_utf8_lossy(&bytes));
}

#[test]
fn properties_are_aligned_wherever_they_begin() {
    let properties = [
        ("Delegate", Value::Bool(true)),
        ("MemoryMax", Value::Number(1 << 40)),
        ("AllowedCPUs", Value::Bytes(vec![3])),
        ("PIDs", Value::Pids(vec![77])),
        ("Slice", Value::Text("a.slice".to_owned())),
    ];
    let mut writer = Writer::default();
    writer.text("x").properties(&properties);
    let mut reader = Reader { bytes: &writer.bytes, at: 0, big: false };
    assert_eq!(reader.text(), Ok("x"));
    let length = reader.number().unwrap() as usize;
    reader.align(8).unwrap();
    let end = reader.at + length;
    for (name, value) in &properties {
        reader.align(8).unwrap();
        assert_eq!(reader.text(), Ok(*name));
        let mut again = reader;
        assert_eq!(again.signature(), Ok(value.signature()));
        match value {
            Value::Number(number) => {
                again.align(8).unwrap();
                assert_eq!(again.take(8).unwrap(), number.to_le_bytes());
            }
            Value::Pids(pids) => assert_eq!((again.number(), again.number()), (Ok(4), Ok(pids[0]))),
            Value::Bytes(bytes) => {
                assert_eq!((again.number(), again.take(1).unwrap()), (Ok(1), &bytes[..]));
            }
            Value::Bool(_) => assert_eq!(again.number(), Ok(1)),
            Value::Text(text) => assert_eq!(again.text(), Ok(text.as_str())),
        }
        assert_eq!(reader.skip(b"v", 0), Ok(&[][..]));
        assert_eq!(reader.at, again.at, "{name}");
    }
    assert_eq!((reader.at, end), (writer.bytes.len(), writer.bytes.len()));
}

#[test]
fn answers_are_read() {
    let read = Message::parse(reply(9, &["/org/freedesktop/systemd1/job/1"])).unwrap();
    assert_eq!((read.kind, read.reply_to), (METHOD_RETURN, Some(9)));
    assert_eq!(read.texts(), Ok(["/org/freedesktop/systemd1/job/1"]));
    assert_eq!(read.texts::<2>(), Err(Malformed));
    // JobRemoved: the job's number, its path, the unit, how it ended.
    let mut body = Writer::default();
    body.number(4).text("/job/4").text("x.scope").text("done");
    let signal = message(SIGNAL, &[], &[(1, "o", "/x"), (3, "s", "JobRemoved"), (8, "g", "uoss")], &body);
    let signal = Message::parse(signal).unwrap();
    assert_eq!((signal.kind, signal.member.as_str()), (SIGNAL, "JobRemoved"));
    assert_eq!(signal.texts(), Ok(["/job/4", "x.scope", "done"]));
    // A property is a variant.
    let mut body = Writer::default();
    body.variant(&Value::Text("/user.slice".to_owned()));
    let property = Message::parse(message(METHOD_RETURN, &[(5, 1)], &[(8, "g", "v")], &body)).unwrap();
    assert_eq!(property.texts(), Ok(["/user.slice"]));
    let mut body = Writer::default();
    body.variant(&Value::Number(1));
    let number = Message::parse(message(METHOD_RETURN, &[(5, 1)], &[(8, "g", "v")], &body)).unwrap();
    assert_eq!(number.texts::<1>(), Err(Malformed));
}

#[test]
fn the_other_byte_order_is_read_too() {
    // Version 1, a body of 6 bytes ("ok"), serial 2, 15 bytes of fields: a reply to 3 with a string.
    let bytes = b"B\x02\x00\x01\x00\x00\x00\x07\x00\x00\x00\x02\x00\x00\x00\x0f\
        \x05\x01u\x00\x00\x00\x00\x03\x08\x01g\x00\x01s\x00\x00\x00\x00\x00\x02ok\x00";
    let read = Message::parse(bytes.to_vec()).unwrap();
    assert_eq!((read.reply_to, read.texts()), (Some(3), Ok(["ok"])));
}

#[test]
fn fields_nobody_knows_are_passed_over() {
    let mut made = Writer::default();
    made.byte(b'l').byte(SIGNAL).byte(0).byte(1).number(0).number(1);
    made.array(8, |array| {
        array.byte(200).signature("a(sv)").properties(&[("a", Value::Number(1))]);
        array.align(8);
        array.byte(201).signature("(yv)");
        array.align(8);
        array.byte(1).signature("au").array(4, |inner| {
            inner.number(5);
        });
        array.align(8);
        array.byte(3).signature("s").text("M");
    });
    made.align(8);
    assert_eq!(Message::parse(made.bytes).unwrap().member, "M");
}

#[test]
fn what_is_no_message_is_refused() {
    let good = reply(9, &["x"]);
    let broken = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        Message::parse(bytes)
    };
    assert!(Message::parse(good.clone()).is_ok());
    assert_eq!(broken(0, b'x'), Err(Malformed), "a byte order there is not");
    assert_eq!(broken(3, 2), Err(Malformed), "another version");
    assert_eq!(broken(4, 200), Err(Malformed), "a body that is longer than what came");
    assert_eq!(broken(12, 1), Err(Malformed), "fields that end in the middle of one");
    for length in 0..good.len() {
        assert_eq!(Message::parse(good[..length].to_vec()), Err(Malformed), "{length} bytes");
    }
    let huge = b"l\x02\x00\x01\xff\xff\xff\xff\x01\x00\x00\x00\xff\xff\xff\xff";
    assert_eq!(Message::length(huge), Err(Malformed));
    // Variants in variants without an end: each a signature `v`.
    let mut bytes = b"l\x04\x00\x01\x00\x00\x00\x00\x01\x00\x00\x00\x00\x03\x00\x00".to_vec();
    bytes.extend_from_slice(b"\xc8\x01v\x00");
    while bytes.len() < 16 + 0x300 {
        bytes.extend_from_slice(b"\x01v\x00");
    }
    bytes.truncate(16 + 0x300);
    assert_eq!(Message::parse(bytes), Err(Malformed));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Some(fixed) = bytes.first_chunk() {
            let _ = Message::length(fixed);
        }
        if let Ok(read) = Message::parse(bytes) {
            let _ = read.texts::<3>();
        }
    }

    /// Damage to a real answer reaches what random bytes do not.
    #[test]
    fn damaged_answers_are_read_or_refused(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        signature in "[ybnqiuxtdsogvah(){}]{0,12}",
        cut in any::<prop::sample::Index>(),
    ) {
        let mut body = Writer::default();
        body.number(4).text("/job/4").text("x.scope").text("done");
        let texts = [(3, "s", "JobRemoved"), (4, "s", "an.Error"), (8, "g", signature.as_str())];
        let mut bytes = message(SIGNAL, &[(5, 1)], &texts, &body);
        let check = |bytes: &[u8]| {
            if let Ok(read) = Message::parse(bytes.to_vec()) {
                let _ = (read.texts::<1>(), read.texts::<3>());
            }
        };
        check(&bytes);
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            check(&bytes);
        }
        check(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn texts_come_back(texts in proptest::collection::vec("[^\0]{0,40}", 1..4), serial in any::<u32>()) {
        let borrowed: Vec<&str> = texts.iter().map(String::as_str).collect();
        let read = Message::parse(reply(serial, &borrowed)).unwrap();
        prop_assert_eq!(read.reply_to, Some(serial));
        prop_assert_eq!(read.texts::<1>().unwrap()[0], borrowed[0]);
    }
}
