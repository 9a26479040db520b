//! Tests of the shim's gzip encoder, against another's decoder.

use std::io::Read as _;

use super::gzip::{Encoder, extra, origin};

fn encoded(input: &[u8]) -> Vec<u8> {
    let mut encoder = Box::new(Encoder::new());
    let mut out = Vec::new();
    let whole = encoder.encode(input, &extra(7), &mut |bytes| {
        out.extend_from_slice(bytes);
        true
    });
    assert!(whole);
    out
}

/// Encodes and decodes; returns the encoded size.
fn round_trip(input: &[u8]) -> usize {
    let bytes = encoded(input);
    let mut decoder = flate2::read::GzDecoder::new(&*bytes);
    let mut output = Vec::new();
    decoder.read_to_end(&mut output).unwrap();
    assert!(output == input, "{} bytes came back as {}", input.len(), output.len());
    assert_eq!(decoder.header().and_then(|header| header.extra()).and_then(origin), Some(7));
    bytes.len()
}

/// Bytes that nothing can make shorter.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(count)
    .collect()
}

#[test]
fn short_and_empty_inputs_come_back() {
    assert!(round_trip(b"") < 40);
    for count in 1..300 {
        round_trip(&noise(count));
        round_trip(&vec![b'a'; count]);
    }
}

#[test]
fn repetition_is_made_short() {
    let input = vec![b'x'; 10 << 20];
    assert!(round_trip(&input) < input.len() / 200);
    // Further back than a match reaches, and just not.
    for gap in [32 * 1024 - 1, 32 * 1024, 32 * 1024 + 1] {
        let piece = noise(gap);
        let size = round_trip(&[&piece[..], &piece].concat());
        assert_eq!(size < gap + gap / 8, gap <= 32 * 1024, "{gap}: {size}");
    }
}

#[test]
fn noise_grows_by_little() {
    for count in [1000, 32 * 1024, 32 * 1024 + 1, 1 << 20] {
        let size = round_trip(&noise(count));
        assert!(size < count + count / 64 + 200, "{count}: {size}");
    }
}

#[test]
fn log_lines_shrink_as_others_shrink_them() {
    let mut lines = String::new();
    for line in 0..60_000 {
        lines.push_str(&format!(
            "{{\"log\":\"GET /item/{} {}\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-25T22:13:{:02}.{:09}Z\"}}\n",
            line * 7919 % 1000,
            200 + line % 3,
            line / 1000,
            line as u64 * 16_661_111 % 1_000_000_000
        ));
    }
    let ours = round_trip(lines.as_bytes());
    let mut other = flate2::read::GzEncoder::new(lines.as_bytes(), flate2::Compression::fast());
    let theirs = other.read_to_end(&mut Vec::new()).unwrap();
    assert!(ours < theirs + theirs / 10, "{ours} bytes, where zlib at its quickest makes {theirs}");
}

#[test]
fn every_depth_of_a_code_is_within_its_limit() {
    // Counts like Fibonacci's make the deepest of codes.
    let (mut a, mut b, mut input) = (1_usize, 1, Vec::new());
    for symbol in 0..21_u8 {
        input.extend(std::iter::repeat_n(symbol, a));
        (a, b) = (b, a + b);
    }
    // In an order without repetitions.
    let order = noise(input.len());
    let mut mixed: Vec<(u8, u8)> = order.into_iter().zip(input).collect();
    mixed.sort_unstable();
    let mixed: Vec<u8> = mixed.into_iter().map(|(_, symbol)| symbol).collect();
    round_trip(&mixed);
    let deep: Vec<u8> = mixed.iter().enumerate().map(|(at, byte)| byte.wrapping_mul(at as u8 | 1)).collect();
    round_trip(&deep);
}

#[test]
fn an_encoder_ends_where_its_output_does() {
    let mut encoder = Box::new(Encoder::new());
    let mut left = 3;
    assert!(!encoder.encode(&noise(1 << 20), &extra(0), &mut |_| {
        left -= 1;
        left > 0
    }));
    assert_eq!(left, 0);
}

proptest::proptest! {
    #[test]
    fn anything_comes_back(
        pieces in proptest::collection::vec(
            (proptest::collection::vec(proptest::num::u8::ANY, 0..40), 1..200_usize), 0..20
        )
    ) {
        let input: Vec<u8> = pieces.iter().flat_map(|(piece, times)| piece.repeat(*times)).collect();
        round_trip(&input);
    }
}

#[test]
fn only_our_mark_tells_an_origin() {
    assert_eq!(origin(&extra(u64::MAX)), Some(u64::MAX));
    for wrong in [&b""[..], b"eO", b"eO\x08\x00short", b"xx\x08\x0012345678"] {
        assert_eq!(origin(wrong), None);
    }
}
