//! Random container names in Docker's manner: a quality and somebody who moved the field.

use crate::id::Name;

const QUALITIES: &[&str] = &[
    "amber", "brave", "brisk", "calm", "clever", "crisp", "curious", "daring", "deft", "eager", "early",
    "exact", "fair", "fleet", "frank", "gentle", "glad", "happy", "keen", "kind", "light", "lively", "lucid",
    "merry", "mild", "neat", "nimble", "patient", "plain", "proud", "quick", "quiet", "ready", "serene",
    "sharp", "silent", "simple", "sober", "solid", "steady", "still", "strong", "subtle", "sunny", "swift",
    "tidy", "vivid", "warm", "wise", "witty",
];
const PEOPLE: &[&str] = &[
    "babbage",
    "backus",
    "bartik",
    "bell",
    "booth",
    "cerf",
    "church",
    "codd",
    "cray",
    "dijkstra",
    "easley",
    "eckert",
    "engelbart",
    "floyd",
    "goldberg",
    "gray",
    "hamilton",
    "hamming",
    "hoare",
    "holberton",
    "hopper",
    "huffman",
    "jones",
    "kay",
    "keller",
    "kernighan",
    "kleene",
    "knuth",
    "lamarr",
    "lamport",
    "liskov",
    "lovelace",
    "mauchly",
    "mccarthy",
    "mcilroy",
    "milner",
    "minsky",
    "naur",
    "perlman",
    "postel",
    "ritchie",
    "shannon",
    "stearns",
    "tarjan",
    "thompson",
    "turing",
    "wilkes",
    "wilkinson",
    "wirth",
    "zuse",
];

/// Returns a random name; after a few tries that were taken, one with a number as well.
pub(crate) fn random_name(tries: u32) -> Name {
    let mut bytes = [0_u8; 6];
    getrandom::fill(&mut bytes).expect("the kernel has random bytes");
    let pick =
        |list: &[&'static str], a: u8, b: u8| list[usize::from(u16::from_le_bytes([a, b])) % list.len()];
    let mut text = format!("{}_{}", pick(QUALITIES, bytes[0], bytes[1]), pick(PEOPLE, bytes[2], bytes[3]));
    if tries > 2 {
        text.push_str(&u16::from_le_bytes([bytes[4], bytes[5]]).to_string());
    }
    text.parse().expect("the words make a name")
}

#[cfg(test)]
mod tests {
    #[test]
    fn random_names_are_names() {
        assert!(super::random_name(0).as_str().contains('_'));
        assert!(super::random_name(9).as_str().ends_with(|c: char| c.is_ascii_digit()));
    }
}
