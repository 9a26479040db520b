//! [`Subnet`]: a range of addresses in CIDR notation (RFC 4632, RFC 4291).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

/// A subnet, IPv4 or IPv6. Invariant: no bit is set beneath the prefix.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    base: IpAddr,
    prefix: u8,
}

impl Subnet {
    /// Creates the subnet with `prefix` bits in common that holds `address`. `None` if the prefix is too long.
    #[must_use]
    pub fn around(address: IpAddr, prefix: u8) -> Option<Self> {
        (prefix <= bits(address)).then(|| {
            let mask = mask(address, prefix);
            Self { base: from_number(number(address) & mask, address.is_ipv6()), prefix }
        })
    }

    /// Returns the first address, which names the subnet.
    #[must_use]
    pub fn base(&self) -> IpAddr {
        self.base
    }

    /// Returns the length of the prefix in bits.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether it is one of IPv6.
    #[must_use]
    pub fn is_ipv6(&self) -> bool {
        self.base.is_ipv6()
    }

    /// Whether `address` is of this subnet.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        Self::around(address, self.prefix) == Some(*self)
    }

    /// Whether all of `other` is of this subnet.
    #[must_use]
    pub fn holds(&self, other: &Self) -> bool {
        other.prefix >= self.prefix && self.contains(other.base)
    }

    /// Whether the two have an address in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.holds(other) || other.holds(self)
    }

    /// Returns how many addresses it has; the largest number for `::/0`, which has one more.
    #[must_use]
    pub fn size(&self) -> u128 {
        1_u128.checked_shl(u32::from(bits(self.base) - self.prefix)).unwrap_or(u128::MAX)
    }

    /// Returns the address at `index`, `None` beyond the end.
    #[must_use]
    pub fn nth(&self, index: u128) -> Option<IpAddr> {
        (index < self.size()).then(|| from_number(number(self.base) | index, self.is_ipv6()))
    }

    /// Returns the addresses that a host can have: without the first, which names the subnet, and without IPv4's last,
    /// its broadcast address; both are hosts' where the subnet has but two or one (RFC 3021).
    pub fn hosts(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let (subnet, size) = (*self, self.size());
        let (first, end) = match (size, self.is_ipv6()) {
            (1 | 2, _) => (0, size),
            (_, false) => (1, size - 1),
            (_, true) => (1, size),
        };
        (first..end).filter_map(move |index| subnet.nth(index))
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv6() { 128 } else { 32 }
}

fn mask(address: IpAddr, prefix: u8) -> u128 {
    u128::MAX.checked_shl(u32::from(bits(address) - prefix)).unwrap_or(0)
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn from_number(number: u128, v6: bool) -> IpAddr {
    if v6 {
        return Ipv6Addr::from_bits(number).into();
    }
    // The upper bits are those of the mask.
    Ipv4Addr::from_bits((number & u128::from(u32::MAX)) as u32).into()
}

impl FromStr for Subnet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |why: String| {
            Error::new(ErrorKind::InvalidArgument, "parse subnet")
                .with("subnet", text)
                .with_message(why)
                .with_hint("for example 172.28.0.0/16 or fd00:1::/64")
        };
        let (address, prefix) =
            text.split_once('/').ok_or_else(|| wrong("it has no prefix length".into()))?;
        let address: IpAddr = address.parse().map_err(|_| wrong(format!("{address:?} is no IP address")))?;
        let length = prefix.bytes().all(|byte| byte.is_ascii_digit()).then(|| prefix.parse().ok()).flatten();
        let subnet = length
            .and_then(|length| Self::around(address, length))
            .ok_or_else(|| wrong(format!("{prefix:?} is no prefix length from 0 to {}", bits(address))))?;
        if subnet.base != address {
            return Err(wrong(format!("{address} is an address in {subnet}, not the subnet")));
        }
        Ok(subnet)
    }
}

impl TryFrom<String> for Subnet {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        subnet.to_string()
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn subnets_overlap_when_one_holds_the_other() {
        assert!(subnet("10.0.0.0/8").overlaps(&subnet("10.1.0.0/16")));
        assert!(subnet("0.0.0.0/0").overlaps(&subnet("10.1.0.0/16")));
        assert!(!subnet("10.0.0.0/16").overlaps(&subnet("10.1.0.0/16")));
        assert!(!subnet("::/0").overlaps(&subnet("0.0.0.0/0")));
        assert!(subnet("10.0.0.0/8").holds(&subnet("10.1.0.0/16")));
        assert!(!subnet("10.1.0.0/16").holds(&subnet("10.0.0.0/8")));
    }

    #[test]
    fn addresses_are_counted() {
        assert_eq!(subnet("fd00::/64").nth(5).unwrap().to_string(), "fd00::5");
        assert_eq!(subnet("10.0.0.0/30").nth(4), None);
        let hosts = |text| subnet(text).hosts().map(|host| host.to_string()).collect::<Vec<_>>();
        assert_eq!(hosts("10.0.0.0/30"), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(hosts("10.0.0.0/31"), ["10.0.0.0", "10.0.0.1"]);
        assert_eq!(hosts("10.0.0.9/32"), ["10.0.0.9"]);
        assert_eq!(hosts("fd00::4/126"), ["fd00::5", "fd00::6", "fd00::7"]);
        assert_eq!(subnet("0.0.0.0/0").size(), 1 << 32);
    }

    #[test]
    fn what_is_no_subnet_is_refused() {
        for text in
            ["", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/x", "300.0.0.0/8", "10.0.0.1/8", "::/129", "::1/+8"]
        {
            let error = text.parse::<Subnet>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{text}");
        }
    }
}
